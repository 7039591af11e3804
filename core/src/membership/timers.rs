//! The deadlines of all members in one order: the earliest is at hand, and each change costs O(log n).

use crate::deadlines::Deadlines;
use crate::id::NodeId;
use crate::time::Instant;
use alloc::collections::BTreeMap;

/// What a deadline is for. Of deadlines at the same instant the earlier variant runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Send heartbeats to all direct partners.
    Heartbeat,
    /// Probe the next members that are not direct partners.
    Period,
    /// Pass news on.
    Gossip,
    /// Dial one lost member.
    Heal,
    /// Compare with one member what is known.
    Compare,
    /// Forget the oldest tombstones.
    Tombstones,
    /// Say LEAVE again, or stop waiting for its acknowledgements.
    Leave,
    /// Ask for names and metadata.
    Details,
    /// Say JOIN to this peer again.
    Join(NodeId),
    /// This direct partner has been silent for too long.
    Partner(NodeId),
    /// This member did not answer its probe.
    Probe(NodeId),
    /// This suspicion was not refuted.
    Suspicion(NodeId),
    /// This member did not answer a probe on behalf of somebody else.
    Relay(NodeId),
    /// Ask this peer for its records again.
    Pull(NodeId),
    /// Send this peer the pages again that it did not acknowledge.
    Push(NodeId),
}

/// The armed deadlines, at most one for each purpose.
#[derive(Debug, Default)]
pub(super) struct Timers {
    order: Deadlines<Timer>,
    at: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Arms a deadline, or moves it.
    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        if let Some(old) = self.at.insert(timer, at) {
            if old == at {
                return;
            }
            self.order.remove(old, timer);
        }
        self.order.insert(at, timer);
    }

    /// Arms a deadline unless it is armed already.
    pub(super) fn arm_if_idle(&mut self, timer: Timer, at: Instant) {
        if !self.is_armed(timer) {
            self.arm(timer, at);
        }
    }

    pub(super) fn is_armed(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    /// Returns when a deadline is armed for.
    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.at.get(&timer).copied()
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        if let Some(old) = self.at.remove(&timer) {
            self.order.remove(old, timer);
        }
    }

    /// Moves every deadline before `until` to it.
    pub(super) fn postpone(&mut self, until: Instant) {
        while self.next().is_some_and(|at| at < until)
            && let Some(timer) = self.pop_due(until)
        {
            self.arm(timer, until);
        }
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.at.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.earliest()
    }

    /// Takes the earliest deadline if it is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let timer = self.order.pop_due(now)?;
        self.at.remove(&timer);
        Some(timer)
    }
}
