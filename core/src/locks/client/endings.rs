//! What is over for the client, and what the leader has to hear of.

use super::{ASK_AGAIN, ASK_AGAIN_AT_MOST, Key, MAX_LIST};
use crate::time::{Duration, Instant};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The most that are kept: all the locks that a cluster may be set to hold. Further ones are left to the end of their
/// leases.
pub(super) const MAX_ENDINGS: usize = 1 << 16;
/// So many are told of before any of them is answered. A leader takes a thousand changes before it has decided any, and
/// does not answer beyond that.
pub(super) const TOLD_AT_ONCE: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ending {
    /// The lock concerned, if this client still knows.
    key: Option<Key>,
    /// When it is told again; `None` if it never was.
    send_at: Option<Instant>,
    again: Duration,
}

impl Ending {
    /// Its place among those that are told again; `None` if it waits for its turn to be told.
    fn due(&self, number: u64) -> Option<(Instant, u64)> {
        self.send_at.map(|at| (at, number))
    }
}

/// Releases by token, or cancels by request. Each is told until it is answered, however late that is: who leads by then
/// has promised the whole lease anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Endings {
    all: BTreeMap<u64, Ending>,
    /// Those that were never told, and since when there may be some to tell.
    untold: BTreeSet<u64>,
    since: Option<Instant>,
    /// Which one is told again when.
    due: BTreeSet<(Instant, u64)>,
    of_key: BTreeSet<(Key, u64)>,
}

impl Endings {
    /// Something is over, and others have to hear of it.
    pub(super) fn insert(&mut self, now: Instant, number: u64, key: Option<Key>) {
        self.remove(now, number);
        if self.all.len() >= MAX_ENDINGS {
            return;
        }
        if let Some(key) = &key {
            self.of_key.insert((key.clone(), number));
        }
        let ending = Ending {
            key,
            send_at: None,
            again: ASK_AGAIN,
        };
        self.untold.insert(number);
        self.all.insert(number, ending);
        self.since = Some(now);
    }

    /// Forgets it. Returns whether there was any.
    pub(super) fn remove(&mut self, now: Instant, number: u64) -> bool {
        let Some(ending) = self.all.remove(&number) else {
            return false;
        };
        self.untold.remove(&number);
        if let Some(due) = ending.due(number) {
            self.due.remove(&due);
        }
        if let Some(key) = ending.key {
            self.of_key.remove(&(key, number));
        }
        self.since = Some(now);
        true
    }

    /// Returns the lock concerned.
    pub(super) fn key(&self, number: u64) -> Option<&Key> {
        self.all.get(&number)?.key.as_ref()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.all.contains_key(&number)
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.all.keys().next().copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Somebody else has to hear of all of them.
    pub(super) fn tell_anew(&mut self, now: Instant) {
        self.since = Some(now);
        for (&number, ending) in &mut self.all {
            if let Some(due) = ending.due(number) {
                self.due.remove(&due);
            }
            (ending.send_at, ending.again) = (None, ASK_AGAIN);
            self.untold.insert(number);
        }
    }

    /// Those of this lock are told with what is told next, however lately they were told: as many as fit into one list.
    pub(super) fn tell_of(&mut self, now: Instant, key: &Key) {
        let of_key = (key.clone(), 0)..=(key.clone(), u64::MAX);
        for &(_, number) in self.of_key.range(of_key).take(MAX_LIST) {
            if let Some(ending) = self.all.get_mut(&number) {
                self.untold.remove(&number);
                if let Some(due) = ending.due(number) {
                    self.due.remove(&due);
                }
                (ending.send_at, ending.again) = (Some(now), ASK_AGAIN);
                self.due.extend(ending.due(number));
            }
        }
    }

    /// Returns what is to be told now, in the order of the numbers.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<u64> {
        let due = self.due.iter().take_while(|&&(at, _)| at <= now);
        let mut tell: BTreeSet<u64> = due.map(|&(_, number)| number).collect();
        while self.may_tell_more()
            && let Some(number) = self.untold.pop_first()
        {
            tell.insert(number);
        }
        for &number in &tell {
            if let Some(ending) = self.all.get_mut(&number) {
                if let Some(due) = ending.due(number) {
                    self.due.remove(&due);
                }
                ending.send_at = Some(now + ending.again);
                ending.again = (ending.again * 2).min(ASK_AGAIN_AT_MOST);
                self.due.extend(ending.due(number));
            }
        }
        tell.into_iter().collect()
    }

    fn may_tell_more(&self) -> bool {
        self.all.len() - self.untold.len() < TOLD_AT_ONCE
    }

    /// Returns when [`take_due`](Self::take_due) has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let untold = !self.untold.is_empty() && self.may_tell_more();
        let since = self.since.filter(|_| untold);
        let due = self.due.first().map(|&(at, _)| at);
        since.into_iter().chain(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn endings(count: u64) -> Endings {
        let mut endings = Endings::default();
        for number in 0..count {
            endings.insert(at(0), number, None);
        }
        endings
    }

    #[test]
    fn each_is_told_until_it_is_answered() {
        let mut endings = endings(3);
        assert_eq!(endings.next(), Some(at(0)));
        assert_eq!(endings.take_due(at(0)), [0, 1, 2]);
        assert_eq!(endings.next(), Some(at(200)));
        assert!(endings.remove(at(100), 1) && !endings.remove(at(100), 1));
        assert_eq!(endings.take_due(at(199)), []);
        assert_eq!(endings.take_due(at(200)), [0, 2]);
        assert_eq!(endings.next(), Some(at(600)));
        assert_eq!(endings.take_due(at(600)), [0, 2]);
        // Twice as long each time, up to a second, and for ever.
        assert_eq!(endings.next(), Some(at(1_400)));
        assert_eq!(endings.take_due(at(9_500)), [0, 2]);
        assert_eq!(endings.next(), Some(at(10_500)));
        assert_eq!(endings.take_due(at(1_000_000)), [0, 2]);
        assert_eq!(endings.next(), Some(at(1_001_000)));
        assert!(endings.remove(at(1_000_100), 0) && endings.remove(at(1_000_100), 2));
        assert_eq!((endings.next(), endings.len()), (None, 0));
    }

    #[test]
    fn of_many_some_are_told_and_the_next_when_those_are_answered() {
        let many = TOLD_AT_ONCE as u64 + 100;
        let mut endings = endings(many);
        let told = endings.take_due(at(0));
        assert!(told.iter().copied().eq(0..TOLD_AT_ONCE as u64));
        // All that were told are, before anybody answers, the only ones that are told again.
        assert_eq!(endings.next(), Some(at(200)));
        assert_eq!(endings.take_due(at(200)), told);
        for number in 0..30 {
            assert!(endings.remove(at(250), number));
        }
        assert_eq!(endings.next(), Some(at(250)));
        let next = endings.take_due(at(250));
        assert!(next.into_iter().eq(TOLD_AT_ONCE as u64..TOLD_AT_ONCE as u64 + 30));
        assert_eq!(endings.next(), Some(at(450)));
    }

    #[test]
    fn another_leader_hears_of_all() {
        let mut endings = endings(2);
        assert_eq!(endings.take_due(at(0)), [0, 1]);
        endings.tell_anew(at(50));
        assert_eq!(endings.next(), Some(at(50)));
        assert_eq!(endings.take_due(at(50)), [0, 1]);
        assert_eq!((endings.first(), endings.contains(1)), (Some(0), true));
        endings.clear();
        assert_eq!((endings.next(), endings.len()), (None, 0));
    }

    #[test]
    fn the_same_again_counts_anew() {
        let mut endings = endings(1);
        endings.take_due(at(0));
        endings.insert(at(20), 0, None);
        assert_eq!(endings.take_due(at(20)), [0]);
        assert_eq!((endings.next(), endings.len()), (Some(at(220)), 1));
    }

    #[test]
    fn those_of_one_lock_are_told_at_once() {
        let mut endings = endings(TOLD_AT_ONCE as u64);
        let (ours, others) = (Key::new("ours"), Key::new("others"));
        for (number, key) in [(1000, &ours), (1001, &others), (1002, &ours), (1003, &ours)] {
            endings.insert(at(0), number, key.clone());
        }
        assert!(endings.remove(at(0), 1003));
        assert_eq!(endings.take_due(at(0)).len(), TOLD_AT_ONCE);
        for millis in [10, 150] {
            endings.tell_of(at(millis), ours.as_ref().unwrap());
            assert_eq!(endings.next(), Some(at(millis)));
            assert_eq!(endings.take_due(at(millis)), [1000, 1002]);
        }
        assert_eq!(endings.take_due(at(200)).len(), TOLD_AT_ONCE);
        assert_eq!(endings.take_due(at(350)), [1000, 1002]);
    }

    #[test]
    fn what_is_answered_is_forgotten_with_its_lock() {
        let mut endings = Endings::default();
        for number in 0..200 {
            endings.insert(at(0), number, Key::new("k"));
            assert!(endings.remove(at(0), number));
        }
        endings.insert(at(0), 200, Key::new("k"));
        assert_eq!(endings.take_due(at(0)), [200]);
        endings.tell_of(at(10), Key::new("k").as_ref().unwrap());
        assert_eq!(endings.take_due(at(10)), [200]);
        assert!(endings.remove(at(20), 200));
        let since = endings.since;
        let none = Endings {
            since,
            ..Endings::default()
        };
        assert_eq!(endings, none);
    }
}
