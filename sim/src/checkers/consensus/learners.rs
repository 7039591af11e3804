//! Nobody gets a seat before a quorum has answered a round that began after the learner was known to have caught up.

use crate::checkers::ensure;
use quorate_core::Life;
use quorate_core::consensus::{Leadership, Seats};
use std::collections::BTreeMap;

/// What one leader waits for, as it was before its present input.
#[derive(Debug, Default)]
pub(super) struct Learners {
    /// The first round that began after each one had caught up.
    caught_up: BTreeMap<Life, u64>,
    /// The newest round that a quorum has answered.
    completed: u64,
}

impl Learners {
    /// Looks at a leader after an input.
    pub(super) fn look(&mut self, leadership: &Leadership, seats: &Seats, completed: impl FnOnce() -> u64) {
        let is_learner = |life: Life| !seats.contains(life);
        if leadership.peers().all(|(life, _)| !is_learner(life)) {
            if !self.caught_up.is_empty() {
                self.caught_up.clear();
            }
            return;
        }
        self.completed = completed();
        let next = leadership.round() + 1;
        for (life, progress) in leadership.peers().filter(|&(life, _)| is_learner(life)) {
            if progress.is_caught_up() {
                self.caught_up.entry(life).or_insert(next);
            }
        }
        self.caught_up.retain(|&life, _| leadership.peer(life).is_some());
    }

    /// Objects to a seat that is given to somebody too early.
    pub(super) fn check_filled(&self, life: Life) -> Result<(), String> {
        let since = self.caught_up.get(&life).copied();
        ensure(since.is_some_and(|since| self.completed >= since), || {
            format!(
                "{life} gets a seat after round {} was answered by a quorum; {}",
                self.completed,
                match since {
                    Some(since) => format!("it had caught up before round {since}"),
                    None => "it was never seen to have caught up".to_owned(),
                }
            )
        })
    }

    #[cfg(test)]
    pub(super) fn of(life: Life, caught_up: u64, completed: u64) -> Self {
        Self {
            caught_up: BTreeMap::from([(life, caught_up)]),
            completed,
        }
    }
}
