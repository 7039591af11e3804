//! Where all tasks of a run meet the simulator: who is to be polled next, and what was said and asked for.

use super::env::Request;
use crate::world::NodeIndex;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::thread::{self, ThreadId};

/// The number of the task that is a process's driver.
pub(crate) const DRIVER: u64 = 0;

/// A task that is to be polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// `None`: it belongs to no process.
    pub(crate) owner: Option<NodeIndex>,
    pub(crate) task: u64,
}

/// What tasks said.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) failure: Option<String>,
    pub(crate) covered: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub(crate) struct Hub {
    /// The thread on which everything happens.
    home: ThreadId,
    /// Somebody woke a task from another one.
    foreign: AtomicBool,
    turns: Mutex<VecDeque<Turn>>,
    words: Mutex<Words>,
    requests: Mutex<VecDeque<Request>>,
}

/// Nobody panics while one of these is locked; were it poisoned, its data would still be whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            home: thread::current().id(),
            foreign: AtomicBool::new(false),
            turns: Mutex::default(),
            words: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    /// Lets a task wait for its turn.
    pub(crate) fn push(&self, turn: Turn) {
        lock(&self.turns).push_back(turn);
    }

    /// Returns whose turn it is.
    pub(crate) fn pop(&self) -> Option<Turn> {
        lock(&self.turns).pop_front()
    }

    /// Returns whether a task was woken from another thread since the last call.
    pub(crate) fn was_woken_from_elsewhere(&self) -> bool {
        self.foreign.load(Ordering::Relaxed) && self.foreign.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn say(&self, what: impl FnOnce(&mut Words)) {
        what(&mut lock(&self.words));
    }

    pub(crate) fn take_words(&self) -> Words {
        mem::take(&mut *lock(&self.words))
    }

    pub(crate) fn ask(&self, request: Request) {
        lock(&self.requests).push_back(request);
    }

    pub(crate) fn take_request(&self) -> Option<Request> {
        lock(&self.requests).pop_front()
    }
}

/// What wakes a task.
#[derive(Debug)]
pub(crate) struct Wakeup {
    turn: Turn,
    /// It waits for its turn already.
    queued: AtomicBool,
    hub: Arc<Hub>,
}

impl Wakeup {
    /// The waker of a task that waits for its first turn from now on.
    pub(crate) fn queued(turn: Turn, hub: &Arc<Hub>) -> Arc<Self> {
        hub.push(turn);
        Arc::new(Self {
            turn,
            queued: AtomicBool::new(true),
            hub: Arc::clone(hub),
        })
    }

    /// Its turn has come: from now on it can be woken for the next one.
    pub(crate) fn begin_turn(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if thread::current().id() != self.hub.home {
            self.hub.foreign.store(true, Ordering::Relaxed);
        }
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.hub.push(self.turn);
        }
    }
}
