//! What entries of the log do to the table, and what that brings about.

use super::ask::{Denial, Wish};
use super::key::Key;
use crate::consensus::Life;
use crate::id::NodeId;
use alloc::sync::Arc;

/// What an entry of the log does to the table. Each is safe to be applied twice: the second time does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Grants the wish if nobody is in its way, else queues or refuses it.
    Acquire {
        /// Who asks.
        owner: Life,
        /// Its number for the request.
        request: u64,
        /// Its requests below are over, or wait.
        floor: u64,
        /// What it wants. Shared: the entry is copied for each follower.
        wish: Arc<Wish>,
    },
    /// Grants to who waits first, if it is this one and its units fit.
    Grant {
        /// The lock.
        key: Key,
        /// Who waits.
        owner: Life,
        /// Its request.
        request: u64,
    },
    /// **SAFETY (release names its token)** Ends a lease: its owner released it.
    Release {
        /// The owner: nobody else can.
        owner: Life,
        /// The token.
        token: u64,
    },
    /// Makes the lease of a token longer from here on.
    Raise {
        /// The owner.
        owner: Life,
        /// The token.
        token: u64,
        /// In milliseconds.
        ttl: u32,
    },
    /// Ends a request: its owner does not want it any more, whatever became of it.
    Cancel {
        /// The owner.
        owner: Life,
        /// The request.
        request: u64,
        /// Its requests below are over, or wait.
        floor: u64,
    },
    /// Ends a lease: its deadline has passed.
    Expire {
        /// The token.
        token: u64,
    },
    /// Takes a lock from its holder.
    Revoke {
        /// Who does.
        by: NodeId,
        /// The token.
        token: u64,
        /// Whether the lock is free at once, and not when its holder has stopped.
        at_once: bool,
    },
    /// Ends a request: its owner was silent for too long.
    DropWaiter {
        /// The owner.
        owner: Life,
        /// The request.
        request: u64,
    },
    /// Ends all leases and requests of a process that has left.
    DropOwner {
        /// The process.
        node: NodeId,
    },
    /// Forgets which requests of a process are over, if it holds nothing and waits for nothing.
    ForgetOwner {
        /// The process.
        node: NodeId,
    },
}

/// What a change brought about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Somebody holds a lock from here on.
    Granted {
        /// Who.
        owner: Life,
        /// For which request.
        request: u64,
        /// Of which lock.
        key: Key,
        /// By this token.
        token: u64,
        /// Whether it had to wait.
        queued: bool,
    },
    /// Somebody waits.
    Queued {
        /// Who.
        owner: Life,
        /// Its request.
        request: u64,
        /// For which lock.
        key: Key,
    },
    /// A wish was refused.
    Denied {
        /// Who asked.
        owner: Life,
        /// Its request.
        request: u64,
        /// Why.
        why: Denial,
    },
    /// A `Grant` found another one first, or no room.
    NotGranted {
        /// Who would have got it.
        owner: Life,
        /// Its request.
        request: u64,
        /// The lock.
        key: Key,
    },
    /// A lease is over.
    Freed {
        /// Who held it.
        owner: Life,
        /// The lock.
        key: Key,
        /// The token.
        token: u64,
    },
    /// The lease of a token is longer from here on, or was already.
    Raised {
        /// Who holds it.
        owner: Life,
        /// The token.
        token: u64,
    },
    /// Somebody waits no longer, or its request never will be granted.
    Ended {
        /// Who.
        owner: Life,
        /// Its request.
        request: u64,
        /// The lock, if it waited for one.
        key: Option<Key>,
    },
    /// A lock was taken from its holder, who may not have stopped yet.
    Revoked {
        /// Who held it.
        owner: Life,
        /// The token.
        token: u64,
    },
}
