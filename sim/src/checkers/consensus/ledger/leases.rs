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
    /// The entry that granted it, and its term.
    pub(in crate::checkers) index: Index,
    pub(in crate::checkers) term: Term,
    /// When it was first seen to be granted.
    pub(in crate::checkers) since: Instant,
    pub(in crate::checkers) end: Option<End>,
}

/// The end of a lease, as far as the group is concerned.
#[derive(Clone, Copy, Debug)]
pub(in crate::checkers) struct End {
    /// When it was appended.
    pub(in crate::checkers) at: Instant,
    /// When it was first seen to be decided.
    pub(in crate::checkers) decided: Instant,
    /// The leader that took the lease for over, if nobody said so.
    pub(in crate::checkers) expired_by: Option<Life>,
    /// Whether somebody took the lock without waiting for its holder to stop.
    pub(in crate::checkers) forced: bool,
}

impl Ledger {
    pub(in crate::checkers) fn lease(&self, token: u64) -> Option<&Lease> {
        self.leases.get(&token)
    }

    /// Returns what was granted by higher tokens than this one.
    pub(in crate::checkers) fn leases_above(&self, token: u64) -> impl Iterator<Item = (u64, &Lease)> {
        let leases = self.leases.range(token.saturating_add(1)..);
        leases.map(|(&token, lease)| (token, lease))
    }

    /// The newest term in which anybody led.
    pub(in crate::checkers) fn newest_term(&self) -> Term {
        self.leaders.last_key_value().map_or(0, |(&term, _)| term)
    }

    /// Applies a decided change, and takes note of what it grants and ends. `end` says by whom and when it was appended.
    pub(super) fn take_change(
        &mut self,
        (index, term): (Index, Term),
        change: &Change,
        end: End,
        (open, counter): (bool, &mut u64),
        shown: &mut Shown,
    ) -> Result<(), String> {
        let now = end.decided;
        for effect in self.table.apply(change, open, counter) {
            self.queues.follow(change, &effect)?;
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
                        term,
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
        Ok(())
    }
}
