//! What becomes of a request for a lock, and of a lock.

use super::client::MAX_WANTS;
use super::key::Key;
use super::list::LockPage;
use crate::id::NodeId;
use crate::time::{Duration, Instant};

/// Names a request for a lock, and the lock once it is held. Unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(pub(crate) u64);

/// Why a lock was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// `key` is empty or too long.
    #[error("key has {len} bytes; a key has 1 to 255")]
    Key {
        /// Its length.
        len: usize,
    },
    /// `ttl` is out of range.
    #[error("ttl is {ttl_ms} ms; it must be 1000 ms to max_ttl ({max_ms} ms)")]
    Ttl {
        /// In milliseconds.
        ttl_ms: u128,
        /// The limit.
        max_ms: u32,
    },
    /// `metadata` is too large.
    #[error(
        "metadata has {len} bytes in {pairs} pairs; at most 511 bytes in 16 pairs, three of them for each pair, and each name 1 to 255 bytes"
    )]
    Metadata {
        /// Bytes of all names and values, and three for each pair.
        len: usize,
        /// Pairs.
        pairs: usize,
    },
    /// `units` is 0, or more than the lock has.
    #[error("units is {units}; it must be 1 to the capacity ({capacity}), which is at least 1")]
    Units {
        /// What was asked for.
        units: u32,
        /// What there is.
        capacity: u32,
    },
    /// Only semaphores have units to choose.
    #[error("units of a lock to read and write cannot be chosen: a reader has one, a writer all")]
    NotDivisible,
    /// A pattern of a [filter](crate::LockFilter) has a length that it may not have.
    #[error("{field} of the filter has {len} bytes; it must have {least} to 255")]
    Pattern {
        /// Which one.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The shortest that is allowed.
        least: usize,
    },
    /// Somebody holds it or waits for it.
    #[error("taken by {owner}, {waiting} wait for it")]
    Taken {
        /// The token of who has held it longest, 0 if it is only waited for.
        token: u64,
        /// Who that is, or who waits first.
        owner: NodeId,
        /// How long its lease lasts, unless it is renewed: by the leader's clock, so up to `drift_permille` longer than
        /// the holder believes in it.
        left: Duration,
        /// How many wait.
        waiting: u32,
    },
    /// Everybody who uses the lock has to agree on its capacity.
    #[error("this lock has a capacity of {}{}", .0, kind(*.0))]
    OtherCapacity(u32),
    /// Too many wait for it.
    #[error("{0} wait for this lock already (max_waiters)")]
    TooManyWaiters(u32),
    /// The table is full.
    #[error("the table of locks is full (max_locks, max_lock_bytes)")]
    TableFull,
    /// This node has too many of these open.
    #[error(
        "this node has {MAX_WANTS} of these open already: requests for locks, watches, or other questions"
    )]
    TooManyRequests,
    /// The group grants nothing yet.
    #[error("the group does not grant locks yet: leases of an earlier one may still count")]
    NotOpen,
    /// It was not granted, or answered, in time.
    #[error("not granted in time")]
    Timeout,
    /// It was given up.
    #[error("given up before it was granted or answered")]
    Cancelled,
    /// The node leaves.
    #[error("this node is leaving the cluster")]
    Leaving,
    /// No request and no lock has this id.
    #[error("no lock of this node has this id")]
    UnknownId,
    /// `allow_observers` is off.
    #[error("this node is an observer, and the cluster does not let observers take locks (allow_observers)")]
    Observer,
}

impl LockError {
    /// Names the ttl that was asked for, also where it is far beyond what can be expressed on the wire.
    pub(crate) const fn of_ttl(self, ttl: Duration) -> Self {
        match self {
            Self::Ttl { max_ms, .. } => Self::Ttl {
                ttl_ms: ttl.as_millis(),
                max_ms,
            },
            other => other,
        }
    }

    /// Returns when it makes sense to ask again, at the earliest: `None` where the same request fails again. Add jitter
    /// of as much again where many processes ask.
    ///
    /// What is taken by somebody who goes on renewing it stays taken: ask with [`LockRequest::wait`] instead.
    ///
    /// [`LockRequest::wait`]: crate::LockRequest::wait
    pub fn retry_after(&self) -> Option<Duration> {
        Some(match *self {
            // The longer the queue the later, but not after the lease that is in the way.
            Self::Taken { left, waiting, .. } => {
                let turns = Duration::from_millis(50) * (waiting.min(98) + 1);
                turns.min(left.max(Duration::from_millis(50)))
            }
            Self::TooManyWaiters(_) | Self::NotOpen => Duration::from_secs(1),
            Self::TableFull => Duration::from_secs(5),
            Self::TooManyRequests => Duration::from_millis(50),
            Self::Timeout => Duration::ZERO,
            _ => return None,
        })
    }
}

/// What a capacity says of a lock.
const fn kind(capacity: u32) -> &'static str {
    match capacity {
        1 => ": one at a time holds it",
        u32::MAX => ": it is one to read and to write",
        _ => "",
    }
}

/// Why a lock is held no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease was over before it was renewed.
    Expired,
    /// Somebody took it.
    Revoked,
    /// The group was given up: it had lost its quorum. Or the cluster was started anew, and takes nothing from this
    /// observer any more.
    Abandoned,
    /// The group met another one, and yielded; or, without `cluster_size`, another group took its place that does not
    /// know of the lock, or has granted it to somebody else.
    Conflict,
    /// This node leaves, or has stopped otherwise.
    Leaving,
}

/// Something happened to a lock of this node, or to a request for one. Each request is granted or fails, exactly once;
/// each lock that was granted is released or lost, exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockEvent {
    /// The lock is held.
    Granted {
        /// The request.
        id: LockId,
        /// The lock.
        key: Key,
        /// The token.
        token: u64,
        /// Until when, unless it is renewed.
        until: Instant,
    },
    /// It is held for longer; for no longer than was told, if a shorter lease was set before this was told.
    Renewed {
        /// The lock.
        id: LockId,
        /// Until when.
        until: Instant,
    },
    /// The request failed.
    Failed {
        /// The request.
        id: LockId,
        /// Why.
        error: LockError,
    },
    /// No renewal was answered for two thirds of the lease.
    AtRisk {
        /// The lock.
        id: LockId,
        /// When it is lost.
        until: Instant,
    },
    /// The lock is held no longer.
    Lost {
        /// The lock.
        id: LockId,
        /// Its token.
        token: u64,
        /// Why.
        reason: LostReason,
    },
    /// The lock was given back.
    Released {
        /// The lock.
        id: LockId,
    },
    /// A page of locks, as [`Node::list_locks`](crate::Node::list_locks) asked for.
    Listed {
        /// The request.
        id: LockId,
        /// Who holds and waits.
        page: LockPage,
    },
    /// A lock that is watched has changed, or may have: who holds it or waits for it. Changes that follow each other
    /// quickly may be told as one. Ask [`Node::list_locks`](crate::Node::list_locks) how it stands.
    Changed {
        /// The watch, as [`Node::watch_lock`](crate::Node::watch_lock) returned it.
        id: LockId,
    },
    /// A lock was taken from its holder, as [`Node::revoke_lock`](crate::Node::revoke_lock) asked for. Without
    /// `at_once` its holder may believe in it until its lease is over; nobody else has it before.
    Taken {
        /// The request.
        id: LockId,
        /// Whether it was; `false` if nobody held that token.
        taken: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_queue_and_a_long_lease_are_waited_for_longer() {
        let taken = |waiting, left| {
            let error = LockError::Taken {
                token: 1,
                owner: NodeId::from_bytes([1; 16]),
                left: Duration::from_millis(left),
                waiting,
            };
            error.retry_after().map(|after| after.as_millis())
        };
        assert_eq!(taken(0, 60_000), Some(50));
        assert_eq!(taken(9, 60_000), Some(500));
        assert_eq!(taken(u32::MAX, 60_000), Some(4_950));
        // Not after the lease that is in the way, but not at once either.
        assert_eq!(taken(9, 300), Some(300));
        assert_eq!(taken(0, 0), Some(50));
    }

    #[test]
    fn what_fails_again_has_no_time_to_ask_again() {
        for error in [
            LockError::OtherCapacity(2),
            LockError::Observer,
            LockError::Leaving,
            LockError::UnknownId,
            LockError::Cancelled,
        ] {
            assert_eq!(error.retry_after(), None, "{error}");
        }
        for error in [
            LockError::Timeout,
            LockError::TooManyRequests,
            LockError::TooManyWaiters(8),
            LockError::NotOpen,
            LockError::TableFull,
        ] {
            assert!(error.retry_after().is_some(), "{error}");
        }
    }
}
