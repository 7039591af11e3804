//! What the node tells the application.

use crate::consensus::Group;
use crate::error::{DeliveryError, DrawError};
use crate::id::NodeId;
use crate::locks::LockEvent;
use crate::status::{Member, QuarantineReason};
use crate::time::{Duration, Instant};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;

/// Names a message given to [`Node::send`](crate::Node::send), unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub(crate) u64);

/// Names a request given to [`Node::request`](crate::Node::request), unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// Names a request for a token, unique in this process.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrawId(pub(crate) u64);

/// Names a name resolution asked for by [`Node::poll_resolve`](crate::Node::poll_resolve).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolveId(pub(crate) u64);

/// A host name that the adapter should resolve.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResolveRequest {
    /// To be given back to [`Node::handle_resolved`](crate::Node::handle_resolved).
    pub id: ResolveId,
    /// The host name, without port.
    pub host: String,
    /// The port to combine with each address.
    pub port: u16,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One member. Does not wait for a quorum.
    Node(NodeId),
    /// Every other member, fixed at the call; with `cluster_size` set, fixed when the quorum gate is open.
    All,
}

/// Why a member is one no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// It said goodbye.
    Left,
    /// It stopped answering.
    Failed,
    /// Another process answers at its address.
    Replaced,
    /// It was a member by the word of others, and turned out to have other settings or no version in common:
    /// [`Event::Quarantined`] says which. It may come back if it agrees.
    Quarantined,
}

impl LeaveReason {
    /// Returns whether the process is certainly gone for good. Otherwise it may only be out of reach.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Left | Self::Replaced)
    }
}

/// Where a reply goes: belongs to one received request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo {
    pub(crate) peer: NodeId,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

/// A message or request from a member, in the order in which that member sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The payload.
    pub payload: Bytes,
    /// Where the reply goes, if this is a request.
    pub reply_to: Option<ReplyTo>,
    /// When the sender stops waiting for the reply, if this is a request.
    pub deadline: Option<Instant>,
}

/// Something happened. Drained with [`Node::poll_event`](crate::Node::poll_event).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A process became a member. Alternates strictly with `MemberLeft` for each id.
    MemberJoined(Member),
    /// Name, metadata or address of a member changed.
    MemberUpdated(Member),
    /// A member is one no longer.
    MemberLeft {
        /// The member as last known.
        member: Member,
        /// Why.
        reason: LeaveReason,
    },
    /// The number of live voters crossed the quorum.
    QuorumChanged {
        /// Whether a quorum is present now.
        has_quorum: bool,
        /// How many live voters are known, this node included if it is one.
        present: usize,
    },
    /// All seeds were tried and those that answered were asked for their members. Once per node.
    Ready,
    /// What became of a message for one of its targets. Exactly one for each.
    SendDone {
        /// The message.
        id: SendId,
        /// The target; `None` if the message never got as far as having targets.
        to: Option<NodeId>,
        /// Delivered into the peer's queue, or why not.
        result: Result<(), DeliveryError>,
    },
    /// One target answered a request.
    Reply {
        /// The request.
        id: RequestId,
        /// Who answered.
        from: NodeId,
        /// The answer.
        payload: Bytes,
    },
    /// One target of a request will not answer.
    RequestFailed {
        /// The request.
        id: RequestId,
        /// The target; `None` if the request never got as far as having targets.
        to: Option<NodeId>,
        /// Why.
        error: DeliveryError,
    },
    /// Every target of a message has its `SendDone`.
    SendFinished(SendId),
    /// Every target of a request has answered or failed.
    RequestDone(RequestId),
    /// A seed name could not be resolved, or resolved to nothing. It is tried again.
    ResolveFailed {
        /// The name, without port.
        host: String,
    },
    /// A process of this cluster cannot be talked to: its settings or version differ. It is no member.
    Quarantined {
        /// The process.
        id: NodeId,
        /// Its address.
        addr: SocketAddr,
        /// What differs.
        reasons: Vec<QuarantineReason>,
    },
    /// A quarantined process is gone, or agrees now.
    QuarantineEnded {
        /// The process.
        id: NodeId,
    },
    /// Somebody at this address seals with a key that this node does not have: one of the two missed a rotation.
    UnknownKey {
        /// The address.
        addr: SocketAddr,
        /// The name of the key.
        key: crate::KeyId,
    },
    /// A process refused this node.
    Rejected {
        /// The address.
        addr: SocketAddr,
        /// Why.
        reason: RejectReason,
    },
    /// Another member leads the group that this node belongs to, or none that is known.
    LeaderChanged {
        /// The leader; this node, if it leads.
        leader: Option<NodeId>,
        /// The term.
        term: u64,
    },
    /// This node left its group and forgot what the group agreed on: nothing that the group granted it holds any more.
    /// It goes on as a new life, and joins or founds another group.
    GroupAbandoned {
        /// The group.
        group: Group,
        /// Why.
        reason: AbandonReason,
    },
    /// Two groups of this cluster meet that both have a quorum: more than `cluster_size` (+ `surge`) voters were alive
    /// at some time. Without `cluster_size`, two groups meet that were founded side by side. One of the two yields; meanwhile nothing is granted.
    ConflictDetected {
        /// The group of this node.
        ours: Group,
        /// The other one.
        theirs: Group,
    },
    /// This node would found a group, but must not. Reported once for each reason, until it is over.
    FoundingRefused {
        /// Why.
        reason: FoundingRefusal,
    },
    /// The wall clock of a peer is more than an hour away from this node's. Nothing but tokens depends on it: they may go
    /// back if all voters stop and the first to start again has the clock that is behind.
    ClockSkewed {
        /// The peer.
        id: NodeId,
        /// By how much.
        by: Duration,
    },
    /// Something happened to a lock of this node, or to a request for one.
    Lock(LockEvent),
    /// A token was drawn.
    #[doc(hidden)]
    TokenDrawn {
        /// The request.
        id: DrawId,
        /// The token.
        token: u64,
        /// Who granted it.
        group: Group,
        /// Until when it may be believed in.
        until: Instant,
    },
    /// No token was drawn.
    #[doc(hidden)]
    TokenFailed {
        /// The request.
        id: DrawId,
        /// Why.
        error: DrawError,
    },
    /// [`Node::leave`](crate::Node::leave) is complete; the node does nothing more.
    LeaveDone,
}

/// Why a node abandoned its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AbandonReason {
    /// The founding was not completed in time.
    NotFounded,
    /// The group has lost its quorum for good, and enough others are ready to found a new one.
    QuorumLost,
    /// Another group has a quorum, and this one has none.
    Superseded,
    /// Two groups with a quorum met, and this one yields.
    Conflict,
}

/// Why a node does not found a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FoundingRefusal {
    /// More voters are alive than `cluster_size` and `surge` allow: two groups could be founded side by side.
    TooManyVoters {
        /// How many there are, this node included.
        seen: usize,
        /// How many there may be.
        allowed: usize,
    },
    /// A process of this cluster has other settings, or no version in common.
    OtherSettings {
        /// The process.
        id: NodeId,
    },
    /// The wall clock, or a token of an earlier group, is so far in the future that tokens would run out.
    TokensExhausted,
}

/// Why a process refused a handshake that was otherwise valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// It belongs to a cluster of another name.
    OtherCluster,
    /// It tracks as many members as it can.
    Full,
    /// It is leaving.
    Leaving,
}
