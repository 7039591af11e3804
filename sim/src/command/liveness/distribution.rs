//! Quantiles of what was measured.

/// All values, since there are few.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    values: Vec<f64>,
    sorted: bool,
}

impl Distribution {
    pub(super) fn add(&mut self, value: f64) {
        self.values.push(value);
        self.sorted = false;
    }

    /// Returns the smallest value that at least this share of all values does not exceed; `None` if there are none.
    pub(super) fn quantile(&mut self, share: f64) -> Option<f64> {
        if !self.sorted {
            self.values.sort_by(f64::total_cmp);
            self.sorted = true;
        }
        // The error of the product must not reach the next rank.
        let rank = (share * self.values.len() as f64 - 1e-9).ceil().max(1.0) as usize;
        self.values.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut all = Distribution::default();
        assert_eq!(all.quantile(0.5), None);
        (1..=1_000).rev().for_each(|value| all.add(f64::from(value)));
        assert_eq!(all.quantile(0.5), Some(500.0));
        assert_eq!(all.quantile(0.99), Some(990.0));
        assert_eq!(all.quantile(0.999), Some(999.0));
        assert_eq!(all.quantile(1.0), Some(1_000.0));
        all.add(2_000.0);
        assert_eq!(all.quantile(1.0), Some(2_000.0));
        let mut one = Distribution::default();
        one.add(7.0);
        assert_eq!((one.quantile(0.0), one.quantile(0.999)), (Some(7.0), Some(7.0)));
    }
}
