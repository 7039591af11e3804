//! Who waits for which lock, and in what order they are served.
//!
//! It goes by what the entries of the log bring about, and keeps the order itself: neither the table's own queue nor what
//! a leader thinks of it counts. Who is dropped or gives up is no longer in anybody's way.

use crate::checkers::ensure;
use quorate_core::Life;
use quorate_core::locks::{Change, Effect, Key, Table};
use std::collections::BTreeMap;

/// Who waits, and how much it wants to get ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiter {
    owner: Life,
    request: u64,
    priority: u8,
}

/// Who waits for each lock, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queues {
    waiting: BTreeMap<Key, Vec<Waiter>>,
}

impl Queues {
    /// Takes what an entry brought about.
    ///
    /// # Errors
    /// **Queue order** Somebody was served before another one who waits with a higher priority, or waits for longer with
    /// the same.
    pub(super) fn follow(&mut self, change: &Change, effect: &Effect) -> Result<(), String> {
        match *effect {
            Effect::Queued {
                owner,
                request,
                ref key,
            } => {
                if let Change::Acquire { wish, .. } = change {
                    let priority = wish.priority;
                    self.waiting.entry(key.clone()).or_default().push(Waiter {
                        owner,
                        request,
                        priority,
                    });
                }
                Ok(())
            }
            Effect::Granted {
                owner,
                request,
                ref key,
                token,
                ..
            } => {
                let next = self.next(key);
                self.remove(key, owner, request);
                let wrong = next.filter(|next| (next.owner, next.request) != (owner, request));
                ensure(wrong.is_none(), || {
                    format!(
                        "{key} is granted to {owner} for its request {request} by token {token}, and {wrong:?} comes first"
                    )
                })
            }
            Effect::Ended {
                owner,
                request,
                key: Some(ref key),
            } => {
                self.remove(key, owner, request);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Begins with those who waited in the group before, in their order.
    pub(super) fn inherit(&mut self, table: &Table) {
        for (key, lock) in table.locks() {
            let waiting: Vec<_> = lock
                .queue()
                .map(|waiter| Waiter {
                    owner: waiter.owner,
                    request: waiter.request,
                    priority: waiter.wish.priority,
                })
                .collect();
            if !waiting.is_empty() {
                self.waiting.insert(key.clone(), waiting);
            }
        }
    }

    /// Returns whose turn it is.
    fn next(&self, key: &Key) -> Option<Waiter> {
        let waiting = self.waiting.get(key)?;
        let highest = waiting.iter().map(|waiter| waiter.priority).max()?;
        waiting.iter().find(|waiter| waiter.priority == highest).copied()
    }

    fn remove(&mut self, key: &Key, owner: Life, request: u64) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.retain(|waiter| (waiter.owner, waiter.request) != (owner, request));
            if waiting.is_empty() {
                self.waiting.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::NodeId;
    use quorate_core::locks::Wish;
    use std::sync::Arc;

    fn owner(n: u8) -> Life {
        Life::first(NodeId::from_bytes([n; 16]))
    }

    fn key() -> Key {
        Key::new("a").expect("it is short")
    }

    fn asks(queues: &mut Queues, n: u8, priority: u8) {
        let (owner, request, key) = (owner(n), 1, key());
        let wish = Wish {
            key: key.clone(),
            units: 1,
            capacity: 1,
            priority,
            wait: true,
            ttl: 1_000,
            metadata: Default::default(),
        };
        let change = Change::Acquire {
            owner,
            request,
            floor: 0,
            wish: Arc::new(wish),
        };
        let effect = Effect::Queued { owner, request, key };
        assert_eq!(queues.follow(&change, &effect), Ok(()));
    }

    fn granted(queues: &mut Queues, n: u8, queued: bool) -> Result<(), String> {
        let (owner, request, key, token) = (owner(n), 1, key(), 7);
        let change = Change::Expire { token };
        let effect = Effect::Granted {
            owner,
            request,
            key,
            token,
            queued,
        };
        queues.follow(&change, &effect)
    }

    #[test]
    fn the_first_of_the_highest_priority_comes_first() {
        let mut queues = Queues::default();
        assert_eq!(granted(&mut queues, 9, false), Ok(()));
        for (n, priority) in [(1, 0), (2, 3), (3, 0), (4, 3)] {
            asks(&mut queues, n, priority);
        }
        for n in [2, 4, 1, 3] {
            assert_eq!(granted(&mut queues, n, true), Ok(()), "{n}");
        }
        assert!(queues.waiting.is_empty());
    }

    #[test]
    fn who_comes_later_or_wants_it_less_is_not_served_before() {
        for (first, second) in [(0, 0), (1, 0)] {
            let mut queues = Queues::default();
            asks(&mut queues, 1, first);
            asks(&mut queues, 2, second);
            let told = granted(&mut queues, 2, true).unwrap_err();
            assert!(told.contains("comes first"), "{told}");
        }
        // Nor who never waited.
        let mut queues = Queues::default();
        asks(&mut queues, 1, 0);
        let told = granted(&mut queues, 2, false).unwrap_err();
        assert!(told.contains("comes first"), "{told}");
    }

    #[test]
    fn who_waits_no_longer_is_in_nobodys_way() {
        let mut queues = Queues::default();
        asks(&mut queues, 1, 0);
        asks(&mut queues, 2, 0);
        let (owner, request) = (owner(1), 1);
        let change = Change::DropWaiter { owner, request };
        let effect = Effect::Ended {
            owner,
            request,
            key: Some(key()),
        };
        assert_eq!(queues.follow(&change, &effect), Ok(()));
        assert_eq!(granted(&mut queues, 2, true), Ok(()));
    }
}
