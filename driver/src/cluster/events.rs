//! What happens in the cluster, for those who listen.

use super::shared::Handle;
use super::slot::lock;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use futures_core::Stream;
use quorate_core::{
    AbandonReason, Duration, Event, FoundingRefusal, Group, KeyId, LeaveReason, LockKey, LostReason, Member,
    NodeId, QuarantineReason, RejectReason,
};
use std::sync::Mutex;

/// How many events may wait for one subscriber.
const EVENT_QUEUE: usize = 1024;

/// Something happened in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterEvent {
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
        key: KeyId,
    },
    /// A process refused this node.
    Rejected {
        /// The address.
        addr: SocketAddr,
        /// Why.
        reason: RejectReason,
    },
    /// Another member leads the group that takes decisions, or none that is known.
    LeaderChanged {
        /// The leader; this node, if it leads.
        leader: Option<NodeId>,
        /// The term.
        term: u64,
    },
    /// This node left its group and forgot what the group agreed on. It joins or founds another one.
    GroupAbandoned {
        /// The group.
        group: Group,
        /// Why.
        reason: AbandonReason,
    },
    /// Two groups of this cluster meet that both have a quorum: more than `cluster_size` (+ `surge`) voters were alive
    /// at some time. Without `cluster_size`, two groups meet that were founded side by side. One of the two yields.
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
    /// No renewal of a lock of this node was answered for two thirds of its lease.
    LockAtRisk {
        /// The lock.
        key: LockKey,
        /// Its token.
        token: u64,
        /// When it is lost, unless a renewal is answered after all.
        left: Duration,
    },
    /// This node holds a lock no longer, and did not give it back.
    LockLost {
        /// The lock.
        key: LockKey,
        /// Its token.
        token: u64,
        /// Why.
        reason: LostReason,
    },
    /// This many events before the next one were lost, because this subscriber read too slowly. What is true now is
    /// told by [`Cluster::members`](crate::Cluster::members).
    Lagged(u64),
}

impl ClusterEvent {
    /// Picks the events that subscribers see; outcomes of commands go to their callers.
    pub(crate) fn from_core(event: Event) -> Option<Self> {
        Some(match event {
            Event::MemberJoined(member) => Self::MemberJoined(member),
            Event::MemberUpdated(member) => Self::MemberUpdated(member),
            Event::MemberLeft { member, reason } => Self::MemberLeft { member, reason },
            Event::QuorumChanged { has_quorum, present } => Self::QuorumChanged { has_quorum, present },
            Event::Ready => Self::Ready,
            Event::ResolveFailed { host } => Self::ResolveFailed { host },
            Event::Quarantined { id, addr, reasons } => Self::Quarantined { id, addr, reasons },
            Event::QuarantineEnded { id } => Self::QuarantineEnded { id },
            Event::UnknownKey { addr, key } => Self::UnknownKey { addr, key },
            Event::Rejected { addr, reason } => Self::Rejected { addr, reason },
            Event::LeaderChanged { leader, term } => Self::LeaderChanged { leader, term },
            Event::GroupAbandoned { group, reason } => Self::GroupAbandoned { group, reason },
            Event::ConflictDetected { ours, theirs } => Self::ConflictDetected { ours, theirs },
            Event::FoundingRefused { reason } => Self::FoundingRefused { reason },
            Event::ClockSkewed { id, by } => Self::ClockSkewed { id, by },
            _ => return None,
        })
    }
}

/// The queue of one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Subscriber(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<ClusterEvent>,
    lost: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Subscriber {
    pub(crate) fn push(&self, event: ClusterEvent) {
        let mut queue = lock(&self.0);
        if queue.events.len() == EVENT_QUEUE {
            queue.events.pop_front();
            queue.lost += 1;
        }
        queue.events.push_back(event);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn close(&self) {
        let mut queue = lock(&self.0);
        queue.closed = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<ClusterEvent>> {
        let mut queue = lock(&self.0);
        if queue.lost > 0 {
            return Poll::Ready(Some(ClusterEvent::Lagged(core::mem::take(&mut queue.lost))));
        }
        if let Some(event) = queue.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Membership, quorum and warnings, from the moment of [`Cluster::events`](crate::Cluster::events) on.
///
/// Holds up to 1,024 events; a subscriber that lags further loses the oldest and reads
/// [`ClusterEvent::Lagged`] in their place. Ends when the node has left the cluster. Is a handle: the node does not
/// leave while it exists.
#[derive(Debug)]
pub struct Events {
    subscriber: Arc<Subscriber>,
    _handle: Arc<Handle>,
}

impl Events {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        let subscriber = Arc::new(Subscriber::default());
        handle.shared.subscribe(&subscriber);
        Self {
            subscriber,
            _handle: handle,
        }
    }

    /// Waits for the next event; `None` once the node has left and everything was read.
    ///
    /// Cancel safe: a dropped future has taken nothing.
    pub async fn next(&mut self) -> Option<ClusterEvent> {
        poll_fn(|cx| self.subscriber.poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = ClusterEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClusterEvent>> {
        self.subscriber.poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_that_lags_loses_the_oldest_and_is_told_how_many() {
        let subscriber = Subscriber::default();
        let id = |i: u128| NodeId::from_bytes(i.to_be_bytes());
        for i in 0..EVENT_QUEUE as u128 + 3 {
            subscriber.push(ClusterEvent::QuarantineEnded { id: id(i) });
        }
        subscriber.close();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(
            subscriber.poll_next(&mut cx),
            Poll::Ready(Some(ClusterEvent::Lagged(3)))
        );
        for i in 3..EVENT_QUEUE as u128 + 3 {
            let event = ClusterEvent::QuarantineEnded { id: id(i) };
            assert_eq!(subscriber.poll_next(&mut cx), Poll::Ready(Some(event)));
        }
        assert_eq!(subscriber.poll_next(&mut cx), Poll::Ready(None));
    }
}
