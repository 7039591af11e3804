//! What commands refuse at once. None of these changes any state.

use crate::id::NodeId;

/// A message or request was refused at once; nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is larger than `max_message_size`.
    #[error("message of {size} bytes is over max_message_size ({max})")]
    TooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// No member has this id.
    #[error("node {0} is not a member")]
    UnknownPeer(NodeId),
    /// Too many messages to this peer (or behind the quorum gate) wait for their turn: `send_queue_size`, or eight times
    /// `window_bytes` in all; or that many requests have no answer yet.
    #[error(
        "too many messages wait already (send_queue_size is {limit}; their bytes are bounded by window_bytes)"
    )]
    QueueFull {
        /// `send_queue_size`.
        limit: usize,
    },
    /// The node is leaving the cluster.
    #[error("this node is leaving the cluster")]
    Leaving,
}

/// A reply was refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The reply is larger than `max_message_size`. For [`Node::reply`](crate::Node::reply) the request is still open: a
    /// smaller reply is welcome. Where a handle was used up by answering, it is closed.
    #[error("reply of {size} bytes is over max_message_size ({max})")]
    TooLarge {
        /// The size of the reply in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The message was no request, was answered before, its time is over, or its sender is gone.
    #[error("the request is not open: answered, out of time, or its sender is gone")]
    NotOpen,
    /// Too many replies to this peer are under way. The request is answered with `ReplyLost`.
    #[error("too many replies to this peer are under way; the caller is told that this one is lost")]
    Full,
}

/// How the delivery of a message, or a request, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The deadline passed first. The peer may or may not have received it.
    #[error("not acknowledged before the deadline")]
    Timeout,
    /// The peer left or failed. It may or may not have received it.
    #[error("the peer disconnected before responding")]
    PeerDisconnected,
    /// The peer lost its memory of this conversation: it may or may not have run the request before; it will not
    /// run it now.
    #[error("the peer no longer knows whether it has processed this")]
    OutcomeUnknown,
    /// The peer ran the request, but its reply did not fit into what it may keep.
    #[error("the request was processed, but its reply was lost")]
    ReplyLost,
    /// Too many messages to this peer were waiting already. Nothing was sent to it.
    #[error("too many messages to this peer are already waiting")]
    QueueFull,
    /// The message is larger than the peer's `max_message_size`. It was not delivered.
    #[error("the message is larger than the peer takes (its max_message_size)")]
    TooLarge,
    /// The quorum gate stayed closed until the deadline. Nothing was sent.
    #[error("quorum was not reached before the deadline")]
    NoQuorum,
    /// This node left the cluster first.
    #[error("this node left the cluster first")]
    Leaving,
}

/// No token was drawn.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DrawError {
    /// Too many requests are open.
    // 0 is taken: traces of simulations contain the numbers, and are compared with those of earlier versions.
    #[error("too many requests for tokens are open")]
    QueueFull = 1,
    /// Observers may not ask (`allow_observers`).
    #[error("observers may not ask for tokens (allow_observers)")]
    Observer,
    /// The group grants nothing yet, or not any more.
    #[error("the group is not open")]
    Closed,
    /// No leader answered in time.
    #[error("no leader answered in time")]
    Timeout,
    /// This node abandoned its group meanwhile.
    #[error("this node abandoned its group")]
    Abandoned,
    /// This node leaves.
    #[error("this node is leaving the cluster")]
    Leaving,
}
