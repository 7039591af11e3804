//! What a client and the leader say to each other.

use super::key::Key;
use super::list::{LockCursor, LockFilter, LockPage};
use crate::id::NodeId;
use alloc::vec::Vec;
use bytes::Bytes;

/// What an acquire wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// The lock.
    pub key: Key,
    /// How much of it: at least 1, at most `capacity`.
    pub units: u32,
    /// How much there is of it, at least 1. A lock has 1; one that can be shared has `u32::MAX`, of which a reader
    /// takes 1 and a writer all.
    pub capacity: u32,
    /// Who waits with a higher priority goes first.
    pub priority: u8,
    /// Whether to wait for it.
    pub wait: bool,
    /// How long the lease is, in milliseconds.
    pub ttl: u32,
    /// What others are to see of the holder: pairs of texts, as they travel.
    pub metadata: Bytes,
}

/// What a client asks the leader. Stamps are instants on the client's own clock: when it sent this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Wants a lock. Sent again, it is a sign that the client still waits, or a renewal.
    Acquire {
        /// When it was sent.
        stamp: u64,
        /// The client's number for it.
        request: u64,
        /// All the client's requests below are over, or wait as it was told.
        floor: u64,
        /// What it wants.
        wish: Wish,
    },
    /// Still waits for these, as the leader knows already.
    Wait {
        /// When it was sent.
        stamp: u64,
        /// The requests.
        requests: Vec<u64>,
    },
    /// Wants to go on holding these.
    Renew {
        /// When it was sent.
        stamp: u64,
        /// The tokens.
        tokens: Vec<u64>,
    },
    /// Wants a longer lease from here on. A shorter one is the client's own affair.
    Raise {
        /// When it was sent.
        stamp: u64,
        /// The token.
        token: u64,
        /// The new ttl in milliseconds.
        ttl: u32,
    },
    /// Holds these no longer, or never wanted to.
    Release {
        /// The tokens.
        tokens: Vec<u64>,
    },
    /// Waits for this no longer.
    Cancel {
        /// The request.
        request: u64,
        /// All the client's requests below are over, or wait as it was told.
        floor: u64,
    },
    /// Takes a lock from whoever holds it.
    Revoke {
        /// The client's number for it.
        request: u64,
        /// The token.
        token: u64,
        /// Whether to free it before its holder is known to have stopped.
        at_once: bool,
    },
    /// Wants to see who holds and waits.
    List {
        /// The client's number for it.
        request: u64,
        /// Which.
        filter: LockFilter,
        /// Behind what the page begins.
        after: Option<LockCursor>,
    },
    /// Wants to hear when a lock is not as it was any more.
    Watch {
        /// The client's number for it.
        request: u64,
        /// Which.
        key: Key,
    },
}

/// Why the leader refuses an acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Denial {
    /// Somebody holds it, or waits for it, and the client does not want to wait.
    Taken {
        /// The token of who has held it longest, 0 if it is only waited for.
        token: u64,
        /// Who that is, or who waits first.
        owner: NodeId,
        /// How long its lease lasts at most, in milliseconds.
        left: u32,
        /// How many wait.
        waiting: u32,
    },
    /// The lock has another capacity.
    OtherCapacity(u32),
    /// As many wait as may.
    TooManyWaiters(u32),
    /// The table is as large as it may be.
    TableFull,
    /// The client has as many requests open as it may.
    TooManyRequests,
    /// The wish makes no sense: no units, too many, or too large metadata.
    Invalid,
    /// The ttl is out of range: the longest that the group allows, in milliseconds.
    Ttl(u32),
    /// The group grants nothing at present.
    NotOpen,
}

/// What the leader answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The lock is the client's.
    Granted {
        /// The request.
        request: u64,
        /// The token.
        token: u64,
        /// The stamp from whose receipt the leader's deadline counts.
        stamp: u64,
        /// And for how many milliseconds.
        lease: u32,
    },
    /// Waits in the queue.
    Queued {
        /// The request.
        request: u64,
    },
    /// Is not granted.
    Denied {
        /// The request.
        request: u64,
        /// Why.
        why: Denial,
    },
    /// The leader does not know these requests: they have to be asked again as a whole.
    Unknown {
        /// The requests.
        requests: Vec<u64>,
    },
    /// The leases go on.
    Renewed {
        /// The stamp from whose receipt the leader's deadlines count.
        stamp: u64,
        /// The tokens, and for how many milliseconds.
        leases: Vec<(u64, u32)>,
    },
    /// The client does not hold these (any more), or is to stop holding them.
    Gone {
        /// The tokens.
        tokens: Vec<u64>,
        /// Whether somebody took them, and waits for the client to say that it stopped.
        revoked: bool,
    },
    /// These are released.
    Released {
        /// The tokens.
        tokens: Vec<u64>,
    },
    /// That request is over.
    Cancelled {
        /// The request.
        request: u64,
    },
    /// The lock was taken from its holder, or the token is not held.
    Revoked {
        /// The request.
        request: u64,
        /// Whether it was taken.
        held: bool,
    },
    /// Who holds and waits.
    Page {
        /// The request.
        request: u64,
        /// As many as have room.
        page: LockPage,
    },
    /// A lock that is watched stands so now.
    Watched {
        /// The request.
        request: u64,
        /// Changes with what is held and waited for.
        version: u64,
    },
    /// Somebody else leads.
    Elsewhere,
}
