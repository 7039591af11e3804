//! What `bench locks` found, case by case.

use crate::args::LockCase;
use crate::bench::histogram::Spread;
use crate::bench::protocol::Slice;
use crate::output::round;
use core::time::Duration;
use serde::{Serialize, Serializer};

/// One finding. The field names are part of the command's interface: `docs/benchmarks.md` explains each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    #[serde(serialize_with = "name")]
    pub(super) case: LockCase,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

// By reference: this is the signature that serde calls.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn name<S: Serializer>(case: &LockCase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(case.name())
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Figures {
    Rate(Rate),
    Recovery(Recovery),
    Held(Held),
}

/// Clients that take locks and give them back, beside bare sockets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rate {
    clients: usize,
    /// From asking for a lock to having given it back.
    median_us: f64,
    median_us_min: f64,
    median_us_max: f64,
    p99_us: f64,
    /// Pairs of taking and giving back; where all want one lock: hand-overs.
    per_second: f64,
    per_second_min: f64,
    per_second_max: f64,
    errors: u64,
    /// Where all want one lock: what the busiest client got, of what would have been its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_share: Option<f64>,
    #[serde(flatten)]
    cost: Cost,
    floor_median_us: f64,
    floor_p99_us: f64,
    floor_per_second: f64,
    /// `median_us / floor_median_us`.
    ratio: f64,
    /// `floor_per_second / per_second`.
    rate_ratio: f64,
}

/// What a pair costs all nodes together, clients included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) datagrams_per_pair: Option<f64>,
    /// Processor time; not known where the nodes share a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_us_per_pair: Option<f64>,
}

impl Rate {
    /// Sums up slices that were taken in turns. `shares`: what each client got, where they competed. `None` if there
    /// are no slices.
    pub(super) fn new(
        clients: usize,
        slices: &[Slice],
        floor: &[Slice],
        shares: Option<&[u64]>,
        cost: Cost,
    ) -> Option<Self> {
        let spread =
            |slices: &[Slice], of: fn(&Slice) -> f64, digits| Spread::of(slices.iter().map(of), digits);
        let median = spread(slices, |slice| slice.median_us, 1)?;
        let rate = spread(slices, |slice| slice.per_second, 0)?;
        let floor_median = spread(floor, |slice| slice.median_us, 1)?.median;
        let floor_rate = spread(floor, |slice| slice.per_second, 0)?.median;
        Some(Self {
            clients,
            median_us: median.median,
            median_us_min: median.min,
            median_us_max: median.max,
            p99_us: spread(slices, |slice| slice.p99_us, 1)?.median,
            per_second: rate.median,
            per_second_min: rate.min,
            per_second_max: rate.max,
            errors: slices.iter().map(|slice| slice.errors).sum(),
            max_share: shares.and_then(max_share),
            cost,
            floor_median_us: floor_median,
            floor_p99_us: spread(floor, |slice| slice.p99_us, 1)?.median,
            floor_per_second: floor_rate,
            ratio: round(median.median / floor_median, 2),
            rate_ratio: round(floor_rate / rate.median, 2),
        })
    }
}

/// What the busiest got, in even shares: 1 is perfectly even. `None` if nobody got anything.
fn max_share(finished: &[u64]) -> Option<f64> {
    let (sum, max) = (finished.iter().sum::<u64>(), *finished.iter().max()?);
    (sum > 0).then(|| round((max * finished.len() as u64) as f64 / sum as f64, 2))
}

/// How long it took until a lock was granted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Recovery {
    repeats: usize,
    median_us: f64,
    p99_us: f64,
    /// The same and the extremes, in milliseconds.
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    /// The lease of the holder.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    /// `max_ms - ttl_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_over_ttl_ms: Option<f64>,
}

impl Recovery {
    /// `None` without times.
    pub(super) fn new(times: &[Duration], ttl: Option<Duration>) -> Option<Self> {
        let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        sorted.sort_by(f64::total_cmp);
        // Nearest rank.
        let p99_us = *sorted.get((sorted.len() * 99).div_ceil(100).checked_sub(1)?)?;
        let spread = Spread::of(sorted, 0)?;
        let millis = |micros: f64| round(micros / 1000.0, 2);
        let ttl_ms = ttl.map(|ttl| ttl.as_millis() as u64);
        Some(Self {
            repeats: times.len(),
            median_us: spread.median,
            p99_us: round(p99_us, 0),
            median_ms: millis(spread.median),
            min_ms: millis(spread.min),
            max_ms: millis(spread.max),
            ttl_ms,
            max_over_ttl_ms: ttl_ms.map(|ttl| millis(spread.max - ttl as f64 * 1000.0)),
        })
    }
}

/// A node that holds many locks. What is counted is what they add to the same nodes without locks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Held {
    pub(super) locks: usize,
    pub(super) seconds: f64,
    /// While they were taken, by 64 clients of the node.
    pub(super) acquired_per_second: f64,
    /// Sent by the node that holds the locks.
    pub(super) renewal_datagrams_per_second: f64,
    pub(super) leader_datagrams_per_second: f64,
    /// Processor time in all, in percent of one core: of the node that holds the locks, and of the one that leads.
    pub(super) cpu_percent: f64,
    pub(super) leader_cpu_percent: f64,
    /// Memory by lock: of a node in the mean, and of the one that takes most.
    pub(super) bytes_per_lock: f64,
    pub(super) bytes_per_lock_max: f64,
}

/// The cases that share a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    Rate,
    Recovery,
    Held,
}

impl Family {
    pub(crate) const fn header(self) -> &'static [&'static str] {
        match self {
            Self::Rate => &[
                "locks",
                "clients",
                "median µs",
                "p99 µs",
                "per second",
                "max share",
                "datagrams",
                "CPU µs",
                "errors",
                "floor µs",
                "floor per second",
                "times floor",
                "floor rate / rate",
            ],
            Self::Recovery => &["next grant", "repeats", "median ms", "min ms", "max ms", "ttl ms"],
            Self::Held => &[
                "locks held",
                "taken/s",
                "datagrams/s",
                "by leader",
                "CPU %",
                "of leader",
                "bytes a lock",
                "most",
            ],
        }
    }

    pub(crate) fn row(self, finding: &Finding) -> Option<Vec<String>> {
        let name = finding.case.name().to_owned();
        let or_dash = |value: Option<f64>| value.map_or("-".into(), |value| value.to_string());
        Some(match (self, &finding.figures) {
            (Self::Rate, Figures::Rate(r)) => vec![
                name,
                r.clients.to_string(),
                r.median_us.to_string(),
                r.p99_us.to_string(),
                r.per_second.to_string(),
                or_dash(r.max_share),
                or_dash(r.cost.datagrams_per_pair),
                or_dash(r.cost.cpu_us_per_pair),
                r.errors.to_string(),
                r.floor_median_us.to_string(),
                r.floor_per_second.to_string(),
                r.ratio.to_string(),
                r.rate_ratio.to_string(),
            ],
            (Self::Recovery, Figures::Recovery(r)) => vec![
                name,
                r.repeats.to_string(),
                r.median_ms.to_string(),
                r.min_ms.to_string(),
                r.max_ms.to_string(),
                r.ttl_ms.map_or("-".into(), |ttl| ttl.to_string()),
            ],
            (Self::Held, Figures::Held(h)) => vec![
                h.locks.to_string(),
                h.acquired_per_second.to_string(),
                h.renewal_datagrams_per_second.to_string(),
                h.leader_datagrams_per_second.to_string(),
                h.cpu_percent.to_string(),
                h.leader_cpu_percent.to_string(),
                h.bytes_per_lock.to_string(),
                h.bytes_per_lock_max.to_string(),
            ],
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rate_has_the_ratios_of_what_it_shows() {
        let slice = |median_us: f64, per_second: f64| Slice {
            per_second,
            median_us,
            p99_us: 2.0 * median_us,
            errors: 1,
        };
        let slices = [
            slice(60.0, 15_000.0),
            slice(50.0, 20_000.0),
            slice(70.0, 10_000.0),
        ];
        let floor = [slice(20.0, 45_000.0)];
        let cost = Cost {
            datagrams_per_pair: Some(4.5),
            cpu_us_per_pair: None,
        };
        let rate = Rate::new(2, &slices, &floor, Some(&[30, 10]), cost).expect("there are slices");
        let case = LockCase::Contended8Spread;
        let figures = Figures::Rate(rate);
        assert_eq!(
            serde_json::to_value(Finding { case, figures }).expect("JSON"),
            json!({
                "case": "contended_8_spread", "clients": 2,
                "median_us": 60.0, "median_us_min": 50.0, "median_us_max": 70.0, "p99_us": 120.0,
                "per_second": 15_000.0, "per_second_min": 10_000.0, "per_second_max": 20_000.0,
                "errors": 3, "max_share": 1.5, "datagrams_per_pair": 4.5,
                "floor_median_us": 20.0, "floor_p99_us": 40.0, "floor_per_second": 45_000.0,
                "ratio": 3.0, "rate_ratio": 3.0,
            })
        );
        assert_eq!(Rate::new(2, &[], &floor, None, cost), None);
    }

    #[test]
    fn shares_are_relative_to_an_even_one() {
        assert_eq!(max_share(&[5, 5, 5, 5]), Some(1.0));
        assert_eq!(max_share(&[0, 0, 0, 5]), Some(4.0));
        assert_eq!(max_share(&[0, 0]), None);
        assert_eq!(max_share(&[]), None);
    }

    #[test]
    fn a_recovery_is_told_in_both_units_and_against_the_lease() {
        let times: Vec<_> = [900, 1500, 1200].map(Duration::from_millis).into();
        let recovery = Recovery::new(&times, Some(Duration::from_secs(1))).expect("there are times");
        assert_eq!((recovery.median_us, recovery.p99_us), (1_200_000.0, 1_500_000.0));
        assert_eq!(
            (recovery.median_ms, recovery.min_ms, recovery.max_ms),
            (1200.0, 900.0, 1500.0)
        );
        assert_eq!(
            (recovery.ttl_ms, recovery.max_over_ttl_ms),
            (Some(1000), Some(500.0))
        );
        assert_eq!(Recovery::new(&[], None), None);
        let value = serde_json::to_value(Recovery::new(&times, None)).expect("JSON");
        assert!(value.get("ttl_ms").is_none() && value["repeats"] == 3, "{value}");
    }
}
