//! Locks at a node: its client, and whom that asks.

use super::Consensus;
use crate::consensus::replica::Output;
use crate::event::{AbandonReason, Event, LeaveReason};
use crate::id::NodeId;
use crate::locks::{
    ClientOutput, Key, LockCursor, LockError, LockEvent, LockFilter, LockId, LockRequest, LostReason,
};
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use alloc::vec::Vec;

/// Somebody who is gone, and whom the table of locks knows still, or is about to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    /// When a leader sees to it next; before there is one, when it is to.
    at: Instant,
    /// Until when what it asked for before it said goodbye may still be decided; `None` if it has said none.
    left: Option<Instant>,
}

impl Gone {
    /// Whether there may be something to see to: not if another leader has.
    fn counts(self, now: Instant, known: bool) -> bool {
        known || self.left.is_some_and(|until| now < until)
    }
}

impl Consensus {
    /// Asks the group for a lock. The outcome is an event.
    pub(crate) fn lock(&mut self, cx: &mut Context<'_>, request: LockRequest) -> Result<LockId, LockError> {
        self.may_ask()?;
        let (wish, deadline) = request.check(cx.now, cx.config, self.client.max_ttl())?;
        let id = self.client.acquire(cx.now, wish, deadline)?;
        // What several commands ask for goes out together.
        self.rearm(cx.now, cx.config);
        Ok(id)
    }

    fn may_ask(&self) -> Result<(), LockError> {
        if !self.may_draw(self.replica.life().node) {
            return Err(LockError::Observer);
        }
        if self.leaving.is_some() {
            return Err(LockError::Leaving);
        }
        Ok(())
    }

    /// Asks who holds and waits.
    pub(crate) fn list_locks(
        &mut self,
        cx: &mut Context<'_>,
        filter: LockFilter,
        after: Option<LockCursor>,
    ) -> Result<LockId, LockError> {
        self.may_ask()?;
        if let Some(wrong) = filter.wrong {
            return Err(wrong);
        }
        let deadline = cx.now + cx.config.message_timeout;
        let id = self.client.list(cx.now, filter, after, deadline)?;
        // What several commands ask for goes out together.
        self.rearm(cx.now, cx.config);
        Ok(id)
    }

    /// Wants to hear when a lock changes.
    pub(crate) fn watch_lock(&mut self, cx: &mut Context<'_>, key: &str) -> Result<LockId, LockError> {
        self.may_ask()?;
        let key = Key::new(key).ok_or(LockError::Key { len: key.len() })?;
        let id = self.client.watch(cx.now, key)?;
        // What several commands ask for goes out together.
        self.rearm(cx.now, cx.config);
        Ok(id)
    }

    /// Takes a lock from its holder.
    pub(crate) fn revoke_lock(
        &mut self,
        cx: &mut Context<'_>,
        token: u64,
        at_once: bool,
    ) -> Result<LockId, LockError> {
        self.may_ask()?;
        let deadline = cx.now + cx.config.message_timeout;
        let id = self.client.revoke(cx.now, token, at_once, deadline)?;
        // What several commands ask for goes out together.
        self.rearm(cx.now, cx.config);
        Ok(id)
    }

    /// Gives a lock back, or gives up waiting for it.
    pub(crate) fn unlock(&mut self, cx: &mut Context<'_>, id: LockId) -> Result<(), LockError> {
        let mut out = ClientOutput::default();
        self.client.release(cx.now, id, &mut out)?;
        self.carry_out_client(cx, out);
        // What several commands ask for goes out together.
        self.rearm(cx.now, cx.config);
        Ok(())
    }

    /// Wants leases of another length for a lock that is held, in milliseconds. Returns until when it is believed in now.
    pub(crate) fn set_lock_ttl(
        &mut self,
        cx: &mut Context<'_>,
        id: LockId,
        ttl: u32,
    ) -> Result<Instant, LockError> {
        let until = self.client.set_ttl(cx.now, id, ttl)?;
        // What several commands ask for goes out together.
        self.rearm(cx.now, cx.config);
        Ok(until)
    }

    /// Does what is due for the client of this node.
    pub(super) fn client_due(&mut self, cx: &mut Context<'_>) {
        let leader = self.leader_to_ask(cx.now, cx.config);
        self.client.set_leader(cx.now, leader);
        if self.client.poll_timeout().is_some_and(|at| at <= cx.now) {
            let mut out = ClientOutput::default();
            self.client.handle_timeout(cx.now, &mut out);
            self.carry_out_client(cx, out);
        }
    }

    /// Does what is due for a leader of locks.
    pub(super) fn leases_due(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        self.note_absent_owners(now);
        let mut out = Output::default();
        if self.leases_timeout().is_some_and(|at| at <= now) {
            self.replica.locks_due(now, &mut out);
        }
        if self.owners_due().is_some_and(|at| at <= now) {
            self.forget_settled(now);
            let later = now + self.replica.rules().grace;
            for (&node, gone) in self.gone.iter_mut().filter(|(_, gone)| gone.at <= now) {
                gone.at = later;
                let machine = self.replica.machine();
                if !machine.is_some_and(|machine| machine.table.knows(node)) {
                    // What it asked for may be decided any moment.
                    gone.at = now + cx.config.consensus_heartbeat;
                } else if gone.left.is_some() {
                    self.replica.owner_left(now, node, &mut out);
                } else if !self.peers.get(&node).is_some_and(|peer| peer.open) {
                    // With a session it was only cut off, and is back; or its session outlasts it.
                    self.replica.owner_failed(now, node, &mut out);
                }
            }
        }
        self.carry_out(cx, out);
    }

    /// When a lease, or the time of who waits, may end next. Who hands over takes no signs of life, and ends nothing: the
    /// next leader promises everybody the whole time anew.
    pub(super) fn leases_timeout(&self) -> Option<Instant> {
        self.replica.locks_timeout().filter(|_| !self.hands_over())
    }

    /// A process has gone. Who has said goodbye believes in nothing any more; whoever else is gone may only be cut off.
    pub(super) fn owner_gone(&mut self, now: Instant, node: NodeId, reason: LeaveReason) {
        self.forget_settled(now);
        let table = self.replica.machine().map(|machine| &machine.table);
        let known = table.is_some_and(|table| table.knows(node));
        let grace = self.replica.rules().grace;
        // What was granted to somebody may be applied only after that one has said goodbye.
        let left = reason == LeaveReason::Left || planted(PlantedBug::FailedOwnersFreed);
        if known || (left && table.is_some()) {
            let wait = if left { Duration::ZERO } else { grace * 2 };
            self.soon |= left;
            let gone = Gone {
                at: now + wait,
                left: left.then_some(now + grace),
            };
            self.gone.insert(node, gone);
        }
    }

    fn forget_settled(&mut self, now: Instant) {
        let table = self.replica.machine().map(|machine| &machine.table);
        let knows = |node| table.is_some_and(|table| table.knows(node));
        self.gone.retain(|&node, gone| gone.counts(now, knows(node)));
    }

    /// The last session with somebody is gone, who may be gone for good: what it has asked for may be under way for as
    /// long as ever.
    pub(super) fn owner_out_of_reach(&mut self, now: Instant, node: NodeId) {
        let at = now + self.replica.rules().grace * 2;
        if let Some(gone) = self.gone.get_mut(&node).filter(|gone| gone.left.is_none()) {
            gone.at = at;
        }
    }

    /// A leader that begins to serve may have become a member after others had gone: it has not seen them go. It has
    /// applied by then what earlier leaders have granted.
    fn note_absent_owners(&mut self, now: Instant) {
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.serves) else {
            return;
        };
        reign.serves = self.replica.serves_locks();
        if !reign.serves {
            return;
        }
        let Some(machine) = self.replica.machine() else {
            return;
        };
        let own = self.replica.life().node;
        let at = now + self.replica.rules().grace * 2;
        for node in machine.table.owners() {
            if node != own && !self.peers.contains_key(&node) {
                self.gone.entry(node).or_insert(Gone { at, left: None });
            }
        }
    }

    /// When somebody who is gone is to be forgotten by a leader: not before it can.
    pub(super) fn owners_due(&self) -> Option<Instant> {
        let due = self.gone.values().map(|gone| gone.at).min();
        due.filter(|_| self.replica.serves_locks())
    }

    /// Sends what the client asks, and tells what happened.
    pub(super) fn carry_out_client(&mut self, cx: &mut Context<'_>, out: ClientOutput) {
        tell(cx, out.events);
        let Some((group, leader)) = self.leader_to_ask(cx.now, cx.config) else {
            return;
        };
        let mut sent = Output::default();
        for ask in out.asks {
            self.replica.ask_locks(cx.now, group, leader, ask, &mut sent);
        }
        self.carry_out(cx, sent);
    }

    /// The life ends: nothing that its group granted counts any more.
    pub(super) fn end_beliefs(&mut self, cx: &mut Context<'_>, reason: AbandonReason) {
        let reason = match reason {
            AbandonReason::Conflict => LostReason::Conflict,
            _ => LostReason::Abandoned,
        };
        let mut out = ClientOutput::default();
        self.client.end_life(cx.now, reason, &mut out);
        self.carry_out_client(cx, out);
    }

    /// The node leaves: its beliefs end before it says goodbye.
    pub(super) fn end_all_beliefs(&mut self, cx: &mut Context<'_>) {
        let mut out = ClientOutput::default();
        self.client.leave(cx.now, &mut out);
        self.carry_out_client(cx, out);
        self.client_due(cx);
    }
}

/// Tells what became of locks, and counts it.
pub(super) fn tell(cx: &mut Context<'_>, events: Vec<LockEvent>) {
    for event in events {
        let count = match event {
            LockEvent::Granted { .. } => Some(&mut cx.stats.locks_granted),
            LockEvent::Renewed { .. } => Some(&mut cx.stats.locks_renewed),
            LockEvent::Failed { .. } => Some(&mut cx.stats.lock_requests_failed),
            LockEvent::AtRisk { .. } => Some(&mut cx.stats.locks_at_risk),
            LockEvent::Lost { .. } => Some(&mut cx.stats.locks_lost),
            LockEvent::Released { .. } => Some(&mut cx.stats.locks_released),
            _ => None,
        };
        if let Some(count) = count {
            *count += 1;
        }
        cx.events.push_back(Event::Lock(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_matters_until_nothing_of_it_can_be_decided() {
        let at = Instant::from_millis;
        let left = Some(at(10));
        let gone = Gone { at: at(0), left };
        assert!(gone.counts(at(9), false) && gone.counts(at(10), true));
        assert!(!gone.counts(at(10), false));
        let failed = Gone { left: None, ..gone };
        assert!(failed.counts(at(0), true) && !failed.counts(at(0), false));
    }
}
