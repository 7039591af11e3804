//! Deadlines in the order in which they come.

use crate::time::Instant;
use alloc::collections::BTreeSet;

/// Pairs of an instant and what it is for. The earliest instant is asked for after every datagram, and is kept apart
/// so that nobody has to walk down the tree for it.
#[derive(Debug)]
pub(crate) struct Deadlines<T> {
    order: BTreeSet<(Instant, T)>,
    earliest: Option<Instant>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            earliest: None,
        }
    }
}

impl<T: Copy + Ord> Deadlines<T> {
    pub(crate) fn insert(&mut self, at: Instant, what: T) {
        self.order.insert((at, what));
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
    }

    /// Removes a pair, if it is there.
    pub(crate) fn remove(&mut self, at: Instant, what: T) {
        if self.order.remove(&(at, what)) && self.earliest == Some(at) {
            self.look();
        }
    }

    fn look(&mut self) {
        self.earliest = self.order.first().map(|&(at, _)| at);
    }

    /// Returns the earliest instant.
    pub(crate) const fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Takes what comes first, if it is due. Of several at the same instant it is the smallest.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        self.earliest.filter(|&at| at <= now)?;
        let (_, what) = self.order.pop_first()?;
        self.look();
        Some(what)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use quickcheck::quickcheck;

    quickcheck! {
        fn the_earliest_is_always_known(steps: Vec<(u8, u8, u8)>) -> bool {
            let (mut deadlines, mut model) = (Deadlines::default(), BTreeSet::new());
            steps.into_iter().all(|(step, at, what)| {
                let (at, what) = (Instant::from_millis(u64::from(at % 8)), what % 4);
                match step % 3 {
                    0 => {
                        deadlines.insert(at, what);
                        model.insert((at, what));
                    }
                    1 => {
                        deadlines.remove(at, what);
                        model.remove(&(at, what));
                    }
                    _ => {
                        let due = model.first().copied().filter(|&(first, _)| first <= at);
                        model.retain(|&pair| Some(pair) != due);
                        if deadlines.pop_due(at) != due.map(|(_, what)| what) {
                            return false;
                        }
                    }
                }
                deadlines.len() == model.len()
                    && deadlines.earliest() == model.first().map(|&(first, _)| first)
            })
        }
    }
}
