//! What passes a node's face, for simulators: commands, and what is handed out, in order.

use crate::error::{DrawError, ReplyError, SendError};
use crate::event::{DrawId, Event, Message, ReplyTo, RequestId, SendId, Target};
use crate::locks::{LockError, LockId, LockRequest};
use crate::time::{Duration, Instant};
use alloc::vec::Vec;
use bytes::Bytes;

/// What a process was told to do by its application, and what it said to that at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// See [`Node::send`](crate::Node::send).
    Send {
        /// To whom.
        to: Target,
        /// What.
        payload: Bytes,
        /// When to give up, on the host's clock; `None` stands for `message_timeout`.
        deadline: Option<Instant>,
        /// How it went.
        result: Result<SendId, SendError>,
    },
    /// See [`Node::request`](crate::Node::request).
    Request {
        /// To whom.
        to: Target,
        /// What.
        payload: Bytes,
        /// When to give up, on the host's clock; `None` stands for `message_timeout`.
        deadline: Option<Instant>,
        /// How it went.
        result: Result<RequestId, SendError>,
    },
    /// See [`Node::reply`](crate::Node::reply).
    Reply {
        /// To what.
        to: ReplyTo,
        /// What.
        payload: Bytes,
        /// How it went.
        result: Result<(), ReplyError>,
    },
    /// See [`Node::ignore`](crate::Node::ignore).
    Ignore(ReplyTo),
    /// See [`Node::draw_token`](crate::Node::draw_token).
    DrawToken {
        /// How it went.
        result: Result<DrawId, DrawError>,
    },
    /// See [`Node::lock`](crate::Node::lock).
    Lock {
        /// What is asked for.
        request: LockRequest,
        /// How it went.
        result: Result<LockId, LockError>,
    },
    /// See [`Node::unlock`](crate::Node::unlock).
    Unlock {
        /// Which lock, or request for one.
        id: LockId,
        /// How it went.
        result: Result<(), LockError>,
    },
    /// See [`Node::set_lock_ttl`](crate::Node::set_lock_ttl).
    SetLockTtl {
        /// Which lock.
        id: LockId,
        /// How long its leases are to be.
        ttl: Duration,
        /// How it went.
        result: Result<(), LockError>,
    },
    /// See [`Node::list_locks`](crate::Node::list_locks).
    ListLocks {
        /// How it went.
        result: Result<LockId, LockError>,
    },
    /// See [`Node::revoke_lock`](crate::Node::revoke_lock).
    RevokeLock {
        /// The token by which it is held.
        token: u64,
        /// Whether it is free before its holder has stopped.
        at_once: bool,
        /// How it went.
        result: Result<LockId, LockError>,
    },
    /// See [`Node::watch_lock`](crate::Node::watch_lock).
    WatchLock {
        /// How it went.
        result: Result<LockId, LockError>,
    },
    /// See [`Node::cancel_send`](crate::Node::cancel_send).
    CancelSend(SendId),
    /// See [`Node::cancel_request`](crate::Node::cancel_request).
    CancelRequest(RequestId),
    /// See [`Node::leave`](crate::Node::leave).
    Leave,
}

/// Something that passed the face of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A command was given.
    Command(Command),
    /// A timer was due, by so much too late.
    Woke(Duration),
    /// An event was handed out.
    Event(Event),
    /// A message was handed out.
    Message(Message),
}

/// What a node writes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Keep {
    /// Nothing.
    #[default]
    Nothing,
    /// Commands, for whoever hands out everything else himself.
    Commands,
    /// Everything.
    All,
}

/// What was written down and not taken yet. Without the feature `simulation` it is empty, and costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    #[cfg(feature = "simulation")]
    keep: Keep,
    #[cfg(feature = "simulation")]
    entries: Vec<Entry>,
}

#[cfg(feature = "simulation")]
impl Journal {
    pub(crate) const fn keep(&mut self, what: Keep) {
        self.keep = what;
    }

    pub(crate) fn keeps_all(&self) -> bool {
        self.keep == Keep::All
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Moves what was written down to the end of `into`.
    pub(crate) fn take(&mut self, into: &mut Vec<Entry>) {
        into.append(&mut self.entries);
    }

    /// Returns something to write down, if commands are.
    #[inline]
    pub(crate) fn copy<T: Clone>(&self, of: &T) -> Option<T> {
        (self.keep != Keep::Nothing).then(|| of.clone())
    }

    #[inline]
    pub(crate) fn command(&mut self, command: impl FnOnce() -> Command) {
        if self.keep != Keep::Nothing {
            self.entries.push(Entry::Command(command()));
        }
    }

    /// Writes down what is no command.
    #[inline]
    pub(crate) fn other(&mut self, entry: impl FnOnce() -> Entry) {
        if self.keep == Keep::All {
            self.entries.push(entry());
        }
    }
}

#[cfg(not(feature = "simulation"))]
#[allow(
    clippy::unused_self,
    clippy::needless_pass_by_ref_mut,
    reason = "as with the feature"
)]
impl Journal {
    #[inline]
    pub(crate) const fn copy<T>(&self, _: &T) -> Option<T> {
        None
    }

    #[inline]
    pub(crate) fn command(&mut self, _: impl FnOnce() -> Command) {}

    #[inline]
    pub(crate) fn other(&mut self, _: impl FnOnce() -> Entry) {}
}
