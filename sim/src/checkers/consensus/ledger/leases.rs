//! Which locks a group has granted, and how each lease ended.

use super::{Index, Ledger, Shown, Term};
use quorate_core::locks::{Change, Effect, Key};
use quorate_core::{Instant, Life};

/// A lock that was granted.
#[derive(Clone, Debug)]
pub(in crate::checkers) struct Lease {
    pub(in crate::checkers) owner: Life,
    pub(in crate::checkers) key: Key,
    pub(in crate::checkers) units: u32,
    pub(in crate::checkers) capacity: u32,
    /// Whether it was waited for.
    pub(in crate::checkers) queued: bool,
    /// The entry that granted it.
    pub(in crate::checkers) index: Index,
    /// When it was first seen to be granted.
    pub(in crate::checkers) since: Instant,
    pub(in crate::checkers) end: Option<End>,
}

/// The end of a lease, as far as the group is concerned.
#[derive(Clone, Copy, Debug)]
pub(in crate::checkers) struct End {
    /// When it was appended.
    pub(in crate::checkers) at: Instant,
    /// The leader that took the lease for over, if nobody said so.
    pub(in crate::checkers) expired_by: Option<Life>,
}

impl Ledger {
    pub(in crate::checkers) fn lease(&self, token: u64) -> Option<&Lease> {
        self.leases.get(&token)
    }

    /// The newest term in which anybody led.
    pub(in crate::checkers) fn newest_term(&self) -> Term {
        self.leaders.last_key_value().map_or(0, |(&term, _)| term)
    }

    /// Applies a decided change, and takes note of what it grants and ends. `end` says by whom and when it was appended.
    pub(super) fn take_change(
        &mut self,
        now: Instant,
        index: Index,
        change: &Change,
        end: End,
        (open, counter): (bool, &mut u64),
        shown: &mut Shown,
    ) {
        for effect in self.table.apply(change, open, counter) {
            match effect {
                Effect::Granted {
                    owner,
                    token,
                    key,
                    queued,
                    ..
                } => {
                    let lock = self.table.lock(&key);
                    let holder = self.table.holder(token).map(|(_, holder)| holder);
                    let lease = Lease {
                        owner,
                        units: holder.map_or(0, |holder| holder.units),
                        capacity: lock.map_or(0, |lock| lock.capacity()),
                        key,
                        queued,
                        index,
                        since: now,
                        end: None,
                    };
                    self.leases.insert(token, lease);
                    self.tokens = Some((self.tokens.map_or(token, |(first, _)| first), token));
                    self.granted = now;
                    shown.leased = true;
                }
                Effect::Freed { token, .. } => {
                    if let Some(lease) = self.leases.get_mut(&token) {
                        lease.end = Some(end);
                    }
                    if end.expired_by.is_some() {
                        shown.rare.push(super::Rare::LeaseExpired);
                    }
                }
                Effect::Ended { .. } if matches!(change, Change::DropWaiter { .. }) => {
                    shown.rare.push(super::Rare::WaiterDropped);
                }
                _ => {}
            }
        }
    }
}
