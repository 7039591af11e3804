//! Locks between the node and the handles: whom each outcome is for, and what each holder goes by.

use crate::cluster::{ClusterEvent, Hold, Lease, OpKey, Shared, SlotWriter};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use quorate_core::{
    Duration, Instant, LockCursor, LockError, LockEvent, LockFilter, LockId, LockKey, LockPage, LockRequest,
    LostReason, Node,
};

/// Who waits for what the node says about one id.
enum Entry {
    Wanted(SlotWriter<Result<Hold, LockError>>),
    Held {
        lease: Lease,
        /// When work under it has to stop.
        stop_at: Instant,
    },
    Page(SlotWriter<Result<LockPage, LockError>>),
    Revoked(SlotWriter<Result<bool, LockError>>),
    Watch(SlotWriter<Result<(), LockError>>),
}

/// The locks of all handles. When it is dropped, nothing is held any more.
pub(super) struct Locks {
    shared: Arc<Shared>,
    /// What the node does on behalf of handles. Its own bounds on requests and locks bound it.
    entries: BTreeMap<LockId, Entry>,
    /// When whoever works under which lock has to be woken.
    alarms: BTreeSet<(Instant, LockId)>,
}

impl Locks {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            entries: BTreeMap::new(),
            alarms: BTreeSet::new(),
        }
    }

    pub(super) fn ask(
        &mut self,
        node: &mut Node,
        now: Instant,
        request: LockRequest,
        slot: SlotWriter<Result<Hold, LockError>>,
    ) {
        if slot.is_abandoned() {
            return;
        }
        match node.lock(now, request) {
            Ok(id) if slot.started(OpKey::Lock(id)) => {
                self.entries.insert(id, Entry::Wanted(slot));
            }
            Ok(id) => give_up(node, now, id),
            Err(error) => slot.finish(Some(Err(error))),
        }
    }

    /// Everything that the node had to tell has been handed out before: a longer lease from before must not count after
    /// a shorter one.
    pub(super) fn set_ttl(
        &mut self,
        node: &mut Node,
        now: Instant,
        id: LockId,
        ttl: Duration,
    ) -> Result<(), LockError> {
        node.set_lock_ttl(now, id, ttl)?;
        if let Some(Entry::Held { lease, stop_at }) = self.entries.get_mut(&id) {
            // The node takes off what its clock may be wrong by, which is a tenth at most. One of the next renewals
            // says it exactly.
            if let Some(stop) = lease.shorten(now, now + ttl / 10 * 9) {
                Self::move_alarm(&mut self.alarms, id, stop_at, stop);
            }
        }
        Ok(())
    }

    pub(super) fn list(
        &mut self,
        node: &mut Node,
        now: Instant,
        filter: LockFilter,
        after: Option<LockCursor>,
        slot: SlotWriter<Result<LockPage, LockError>>,
    ) {
        if slot.is_abandoned() {
            return;
        }
        match node.list_locks(now, filter, after) {
            Ok(id) if slot.started(OpKey::Lock(id)) => {
                self.entries.insert(id, Entry::Page(slot));
            }
            Ok(id) => give_up(node, now, id),
            Err(error) => slot.finish(Some(Err(error))),
        }
    }

    pub(super) fn revoke(
        &mut self,
        node: &mut Node,
        now: Instant,
        token: u64,
        at_once: bool,
        slot: SlotWriter<Result<bool, LockError>>,
    ) {
        if slot.is_abandoned() {
            return;
        }
        match node.revoke_lock(now, token, at_once) {
            Ok(id) if slot.started(OpKey::Lock(id)) => {
                self.entries.insert(id, Entry::Revoked(slot));
            }
            Ok(id) => give_up(node, now, id),
            Err(error) => slot.finish(Some(Err(error))),
        }
    }

    pub(super) fn watch(
        &mut self,
        node: &mut Node,
        now: Instant,
        key: &LockKey,
        slot: SlotWriter<Result<(), LockError>>,
    ) {
        match node.watch_lock(now, key) {
            Ok(id) if slot.started(OpKey::Lock(id)) => {
                slot.push(Ok(()));
                self.entries.insert(id, Entry::Watch(slot));
            }
            Ok(id) => give_up(node, now, id),
            Err(error) => slot.finish(Some(Err(error))),
        }
    }

    /// Nothing more is told of this.
    fn end(&mut self, id: LockId) -> Option<Entry> {
        let entry = self.entries.remove(&id);
        if let Some(Entry::Page(_) | Entry::Revoked(_)) = entry {
            self.shared.room.notify(usize::MAX);
        }
        entry
    }

    /// Nobody wants this any more: neither the lock nor to wait for it, nor an answer.
    pub(super) fn give_up(&mut self, node: &mut Node, now: Instant, id: LockId) {
        if let Some(entry) = self.end(id) {
            give_up(node, now, id);
            if let Entry::Held { lease, stop_at } = entry {
                self.settle(&lease, stop_at, LostReason::Expired);
            }
        }
    }

    /// The node believes in a lock no longer. Whoever holds it learns it first, then whoever listens.
    fn settle(&mut self, lease: &Lease, stop_at: Instant, reason: LostReason) {
        self.alarms.remove(&(stop_at, lease.id()));
        if let Some(reason) = lease.settle(reason) {
            let (key, token) = (lease.lock_key().clone(), lease.token());
            self.tell(ClusterEvent::LockLost { key, token, reason });
        }
    }

    fn tell(&self, event: ClusterEvent) {
        self.shared
            .for_subscribers(|subscriber| subscriber.push(event.clone()));
    }

    fn move_alarm(alarms: &mut BTreeSet<(Instant, LockId)>, id: LockId, stop_at: &mut Instant, to: Instant) {
        alarms.remove(&(*stop_at, id));
        alarms.insert((to, id));
        *stop_at = to;
    }

    pub(super) fn handle(&mut self, node: &mut Node, now: Instant, event: LockEvent) {
        match event {
            LockEvent::Granted {
                id,
                key,
                token,
                until,
            } => match self.entries.remove(&id) {
                Some(Entry::Wanted(slot)) => {
                    let lease = Lease::new(id, key, token, Arc::clone(&self.shared));
                    let stop_at = lease.extend(now, until);
                    self.alarms.insert((stop_at, id));
                    let hold = Hold::new(lease.clone());
                    self.entries.insert(id, Entry::Held { lease, stop_at });
                    // If nobody reads it any more, it gives itself back.
                    slot.finish(Some(Ok(hold)));
                }
                _ => give_up(node, now, id),
            },
            LockEvent::Renewed { id, until } => {
                if let Some(Entry::Held { lease, stop_at }) = self.entries.get_mut(&id) {
                    let stop = lease.extend(now, until);
                    Self::move_alarm(&mut self.alarms, id, stop_at, stop);
                }
            }
            LockEvent::AtRisk { id, until } => {
                if let Some(Entry::Held { lease, .. }) = self.entries.get(&id) {
                    lease.set_at_risk();
                    let (key, token) = (lease.lock_key().clone(), lease.token());
                    let left = until.saturating_since(now);
                    self.tell(ClusterEvent::LockAtRisk { key, token, left });
                }
            }
            LockEvent::Lost { id, reason, .. } => {
                if let Some(Entry::Held { lease, stop_at }) = self.entries.remove(&id) {
                    self.settle(&lease, stop_at, reason);
                }
            }
            LockEvent::Failed { id, error } => match self.end(id) {
                Some(Entry::Wanted(slot)) => slot.finish(Some(Err(error))),
                Some(Entry::Page(slot)) => slot.finish(Some(Err(error))),
                Some(Entry::Revoked(slot)) => slot.finish(Some(Err(error))),
                Some(Entry::Held { .. } | Entry::Watch(_)) | None => {}
            },
            LockEvent::Listed { id, page } => {
                if let Some(Entry::Page(slot)) = self.end(id) {
                    slot.finish(Some(Ok(page)));
                }
            }
            LockEvent::Changed { id } => {
                if let Some(Entry::Watch(slot)) = self.entries.get(&id) {
                    slot.signal(Ok(()));
                }
            }
            LockEvent::Taken { id, taken } => {
                if let Some(Entry::Revoked(slot)) = self.end(id) {
                    slot.finish(Some(Ok(taken)));
                }
            }
            // Every release was asked for here, and its entry is gone since.
            _ => {}
        }
    }

    /// Does what is due: wakes whoever has to stop.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, id)) = self.alarms.first().copied().filter(|&(at, _)| at <= now) {
            self.alarms.pop_first();
            if let Some(Entry::Held { lease, .. }) = self.entries.get(&id) {
                lease.wake();
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.alarms.first().map(|&(at, _)| at)
    }

    /// How much is kept for handles.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.alarms.len()
    }

    /// What the node was asked for last.
    #[cfg(test)]
    pub(super) fn newest(&self) -> Option<LockId> {
        self.entries.keys().next_back().copied()
    }

    #[cfg(test)]
    pub(super) fn first_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|&(at, _)| at)
    }
}

/// The node holds it, waits for it, or has forgotten it already.
fn give_up(node: &mut Node, now: Instant, id: LockId) {
    let _ = node.unlock(now, id);
}

impl Drop for Locks {
    fn drop(&mut self) {
        for entry in self.entries.values() {
            if let Entry::Held { lease, .. } = entry {
                // Nobody renews it any more. Who listens learns that the node is gone.
                lease.settle(LostReason::Leaving);
            }
        }
    }
}
