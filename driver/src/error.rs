//! How calls fail.

use alloc::sync::Arc;
use core::net::SocketAddr;
use quorate_core::{ConfigError, DeliveryError, KeyId, LockError, LostReason, ReplyError, SendError};
use std::io;

/// This node has left the cluster, is leaving it, or its driver has stopped. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node has left the cluster")]
pub struct Closed;

/// A node could not be started. Nothing was sent, and nothing keeps running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings are wrong; all faults at once.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address in the field `bind` cannot be bound: taken, not of this machine, or not allowed.
    #[error("bind = {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused something else that a node needs.
    #[error("{what}: {source}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// The future was polled outside the runtime that it needs.
    #[error("no {0} runtime: call this from within one")]
    NoRuntime(&'static str),
}

/// The cluster is not ready, and waiting longer would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadyError {
    /// The node left first.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// No member was found, and a seed uses a key that this node does not have: one of the two missed a rotation. Known
    /// only where the seed has this node for a seed too, as with one DNS name for all: a node is told nothing in answer to
    /// what cannot be opened, but sees who else dials it. The node goes on trying; `set_keys` with the right ring mends it.
    #[error("no member found, and {addr} uses the unknown key {key}")]
    UnknownKey {
        /// The seed's address.
        addr: SocketAddr,
        /// The name of its key.
        key: KeyId,
    },
}

/// A message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailed {
    /// It was refused at once. Nothing was sent.
    #[error(transparent)]
    Refused(SendError),
    /// It was not acknowledged. The variant says whether it may have arrived all the same.
    #[error(transparent)]
    Undelivered(DeliveryError),
    /// The node is leaving or has left. A message on its way may have arrived all the same.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// A request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It was refused at once. Nothing was sent.
    #[error(transparent)]
    Refused(SendError),
    /// No answer came. The variant says whether the peer may have run the request all the same.
    #[error(transparent)]
    Failed(DeliveryError),
    /// The node is leaving or has left. The peer may have run the request all the same.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// A reply was not accepted by this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyFailed {
    /// The message is no request; nobody waits for an answer.
    #[error("the message is not a request")]
    NotARequest,
    /// It was refused at once. The request is closed, unanswered: its caller runs into its timeout.
    #[error(transparent)]
    Refused(#[from] ReplyError),
    /// The queue to the driver is full ([`Incoming::reply_now`](crate::Incoming::reply_now) only). The request is closed,
    /// unanswered: its caller runs into its timeout.
    #[error("too many commands wait for the driver")]
    Busy,
    /// The node is leaving or has left.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// A lock was not acquired. None is held, and nothing waits for one any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The request was not granted; [`LockError::Taken`] and [`LockError::Timeout`] are the usual reasons.
    #[error(transparent)]
    Refused(LockError),
    /// The node is leaving or has left.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Locks could not be looked at, or taken from their holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockQueryError {
    /// There is no answer. After [`LockError::Timeout`] a lock may have been taken from its holder all the same;
    /// otherwise nothing has happened.
    #[error(transparent)]
    Failed(LockError),
    /// The node is leaving or has left. A lock may have been taken from its holder all the same.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// A lock is not held any more, and will not be again: what comes next is a lock with another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// It was given back: its guard was released or dropped.
    #[error("the lock was given back")]
    Released,
    /// It was lost. Somebody else may hold it.
    #[error("the lock was lost: {}", why(.0))]
    Lost(LostReason),
}

/// Work under a lock was not done, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WithLockError {
    /// The lock was not acquired. The work was not begun.
    #[error(transparent)]
    NotAcquired(#[from] AcquireError),
    /// The lock was lost, or could not be renewed until shortly before its end. The work was dropped where it stood, or
    /// came to its end too late.
    #[error("the work was stopped: the lock was lost: {}", why(.0))]
    Lost(LostReason),
}

const fn why(reason: &LostReason) -> &'static str {
    match reason {
        LostReason::Expired => "its lease was over before it was renewed",
        LostReason::Revoked => "somebody took it by force",
        LostReason::Abandoned => "the group that had granted it has ended",
        LostReason::Conflict => "the group that had granted it has yielded to another one",
        LostReason::Leaving => "this node is leaving the cluster or has stopped",
        _ => "for another reason",
    }
}

/// The driver stopped without having been asked to.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The socket went on failing for ten seconds.
    #[error("the socket failed for good: {0}")]
    Socket(Arc<io::Error>),
    /// The driver's task was dropped: its runtime was shut down, or it panicked.
    #[error("the driver's task is gone: its runtime was shut down, or it panicked")]
    Aborted,
}

macro_rules! from_core {
    ($($error:ident { $refused:ident, $failed:ident })*) => {$(
        // A refusal because the node is leaving and an outcome that says so are one case for the caller.
        impl From<SendError> for $error {
            fn from(error: SendError) -> Self {
                match error {
                    SendError::Leaving => Self::Closed(Closed),
                    error => Self::$refused(error),
                }
            }
        }

        impl From<DeliveryError> for $error {
            fn from(error: DeliveryError) -> Self {
                match error {
                    DeliveryError::Leaving => Self::Closed(Closed),
                    error => Self::$failed(error),
                }
            }
        }
    )*};
}

from_core! {
    SendFailed { Refused, Undelivered }
    RequestError { Refused, Failed }
}

macro_rules! from_lock {
    ($($error:ident :: $refused:ident)*) => {$(
        impl From<LockError> for $error {
            fn from(error: LockError) -> Self {
                match error {
                    LockError::Leaving => Self::Closed(Closed),
                    error => Self::$refused(error),
                }
            }
        }
    )*};
}

from_lock! {
    AcquireError::Refused
    LockQueryError::Failed
}
