//! What the driver and all handles have in common.

use super::events::Subscriber;
use super::locks::Hold;
use super::messages::Inbox;
use super::slot::{OpKey, Reader, Writer, lock};
use crate::error::{Closed, DriverError};
use crate::io::SteadyClock;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use event_listener::Event;
use quorate_core::{
    DeliveryError, Duration, Instant, KeyId, KeyRing, LockCursor, LockError, LockFilter, LockId, LockKey,
    LockPage, LockRequest, Member, NodeId, ReplyError, ReplyTo, SendError, Stats, Status, Target,
};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

/// How many commands may wait for the driver.
pub(crate) const COMMAND_QUEUE: usize = 256;

/// What became of a message or request, for one target or as a whole.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// For one target (`None`: there never was one). For a message the bytes are empty.
    Target(Option<NodeId>, Result<Bytes, DeliveryError>),
    /// It was refused at once.
    Refused(SendError),
}

/// What handles ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Without a slot nobody wants to know what became of it.
    Send(Target, Bytes, Option<Writer<Outcome>>),
    Request(Target, Bytes, Duration, Writer<Outcome>),
    Reply(ReplyTo, Bytes, Option<Writer<Result<(), ReplyError>>>),
    Status(Writer<Status>),
    Stats(Writer<Stats>),
    Refresh,
    SetKeys(KeyRing, Writer<()>),
    Lock(LockRequest, Writer<Result<Hold, LockError>>),
    SetLockTtl(LockId, Duration, Writer<Result<(), LockError>>),
    ListLocks(
        LockFilter,
        Option<LockCursor>,
        Writer<Result<LockPage, LockError>>,
    ),
    RevokeLock {
        token: u64,
        at_once: bool,
        slot: Writer<Result<bool, LockError>>,
    },
    WatchLock(LockKey, Writer<Result<(), LockError>>),
}

/// What can be read at any time without asking the driver.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) has_quorum: bool,
    pub(crate) quorum_size: usize,
    pub(crate) ready: bool,
    /// The node plays its part in decisions.
    pub(crate) settled: bool,
    /// A seed that uses an unknown key.
    pub(crate) unknown_key: Option<(SocketAddr, KeyId)>,
    /// Set once the driver has stopped.
    pub(crate) stopped: Option<Result<(), DriverError>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) doorbell: Doorbell,
    pub(crate) inbox: Inbox,
    view: RwLock<View>,
    /// Notified with each change of the view that somebody may wait for.
    changed: Event,
    /// Notified when a list or a forced release ends: the node has room for another one.
    pub(crate) room: Event,
    /// Somebody has read the members since they were last copied from the node.
    view_read: AtomicBool,
    leave: AtomicBool,
    /// The driver's clock.
    clock: Arc<dyn SteadyClock>,
    /// What dropped futures and locks left behind. Each was a command once, so commands bound it.
    abandoned: Mutex<Vec<OpKey>>,
    /// Requests that were dropped without a reply. Each is open in the node, so the node bounds them.
    ignored: Mutex<Vec<ReplyTo>>,
    subscribers: Mutex<Vec<Weak<Subscriber>>>,
}

impl Shared {
    pub(crate) fn new(view: View, max_inbox_bytes: usize, clock: Arc<dyn SteadyClock>) -> Self {
        Self {
            doorbell: Doorbell::default(),
            inbox: Inbox::new(max_inbox_bytes),
            view: RwLock::new(view),
            changed: Event::new(),
            room: Event::new(),
            view_read: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            clock,
            abandoned: Mutex::default(),
            ignored: Mutex::default(),
            subscribers: Mutex::default(),
        }
    }

    /// The view, for reading. Held for a moment only.
    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The view, for a reader of the members: it asks the driver to copy them again before long, since their states
    /// change without an event.
    pub(crate) fn members(&self) -> RwLockReadGuard<'_, View> {
        self.view_read.store(true, Ordering::Relaxed);
        self.view()
    }

    /// Returns whether the members were read since the last call.
    pub(crate) fn take_view_read(&self) -> bool {
        self.view_read.load(Ordering::Relaxed) && self.view_read.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify(usize::MAX);
    }

    /// Waits until `check` finds in the view what it looks for.
    pub(crate) async fn wait<T>(&self, check: impl Fn(&View) -> Option<T>) -> T {
        loop {
            if let Some(found) = check(&self.view()) {
                return found;
            }
            let listener = self.changed.listen();
            // It may have changed before the listener was there.
            if let Some(found) = check(&self.view()) {
                return found;
            }
            listener.await;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.view().stopped.is_some()
    }

    /// Asks the driver to say goodbye and stop.
    pub(crate) fn leave(&self) {
        self.leave.store(true, Ordering::Release);
        self.doorbell.ring();
    }

    pub(crate) fn wants_leave(&self) -> bool {
        self.leave.load(Ordering::Acquire)
    }

    pub(crate) fn abandon<T>(&self, reader: &mut Reader<T>) {
        if let Some(key) = reader.abandon() {
            self.give_up(key);
        }
    }

    /// Leaves something to the driver to be given up. Needs no room in any queue, no runtime, and blocks nobody.
    pub(crate) fn give_up(&self, key: OpKey) {
        lock(&self.abandoned).push(key);
        self.doorbell.ring();
    }

    /// Reads the driver's clock.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn take_abandoned(&self) -> Vec<OpKey> {
        mem::take(&mut *lock(&self.abandoned))
    }

    pub(crate) fn ignore(&self, to: ReplyTo) {
        let mut ignored = lock(&self.ignored);
        ignored.push(to);
        drop(ignored);
        self.doorbell.ring();
    }

    pub(crate) fn take_ignored(&self) -> Vec<ReplyTo> {
        mem::take(&mut *lock(&self.ignored))
    }

    pub(crate) fn subscribe(&self, subscriber: &Arc<Subscriber>) {
        let mut list = lock(&self.subscribers);
        list.retain(|weak| weak.strong_count() > 0);
        list.push(Arc::downgrade(subscriber));
        drop(list);
        if self.is_stopped() {
            subscriber.close();
        }
    }

    /// Calls `f` for everybody who listens.
    pub(crate) fn for_subscribers(&self, f: impl Fn(&Subscriber)) {
        // Woken tasks may subscribe: they must not find the lock taken.
        let mut list = lock(&self.subscribers);
        if list.is_empty() {
            return;
        }
        list.retain(|weak| weak.strong_count() > 0);
        let live: Vec<_> = list.iter().filter_map(Weak::upgrade).collect();
        drop(list);
        live.iter().for_each(|subscriber| f(subscriber));
    }

    /// The driver is gone: everybody who waits learns it.
    pub(crate) fn stop(&self, result: Result<(), DriverError>) {
        self.update(|view| {
            view.stopped.get_or_insert(result);
            view.has_quorum = false;
        });
        self.room.notify(usize::MAX);
        self.inbox.close();
        self.for_subscribers(Subscriber::close);
    }
}

/// The driver's own waker, rung after something was put where the driver looks.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Doorbell {
    /// Wakes the driver, unless it is awake or on its way.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let waker = lock(&self.waker).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Called by the driver before it looks: whoever puts something there from now on rings again.
    pub(crate) fn answer(&self, waker: &Waker) {
        let mut held = lock(&self.waker);
        match &mut *held {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        drop(held);
        // A swap, not a store: it sees what was put there before the ring that it takes back.
        self.rung.swap(false, Ordering::AcqRel);
    }
}

/// The handles together: when the last one is dropped, the node leaves.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    commands: async_channel::Sender<Command>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, commands: async_channel::Sender<Command>) -> Self {
        Self { shared, commands }
    }

    /// Gives a command to the driver, waiting while its queue is full. Dropped before it is done: nothing was given.
    pub(crate) async fn submit(&self, command: Command) -> Result<(), Closed> {
        match self.commands.try_send(command) {
            Ok(()) => {}
            Err(async_channel::TrySendError::Full(command)) => {
                self.commands.send(command).await.map_err(|_| Closed)?;
            }
            Err(async_channel::TrySendError::Closed(_)) => return Err(Closed),
        }
        self.shared.doorbell.ring();
        Ok(())
    }

    /// Gives a command to the driver at once. `Ok(false)`: its queue is full.
    pub(crate) fn try_submit(&self, command: Command) -> Result<bool, Closed> {
        match self.commands.try_send(command) {
            Ok(()) => {
                self.shared.doorbell.ring();
                Ok(true)
            }
            Err(async_channel::TrySendError::Full(_)) => Ok(false),
            Err(async_channel::TrySendError::Closed(_)) => Err(Closed),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.leave();
    }
}
