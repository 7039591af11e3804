//! What an endpoint that is asked for its health wants to know.

use super::{Cluster, View};
use crate::error::{Closed, ReadyError};
use core::net::SocketAddr;
use quorate_core::{ConsensusProblem, NodeId, Role, Status};

/// What a node knows of its own use, at one instant: [`Cluster::health`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether [`Cluster::ready`] would return at once, without an error.
    pub ready: bool,
    /// Whether the node is leaving the cluster.
    pub leaving: bool,
    /// Whether a quorum of live voters is seen; always true where `cluster_size` is unset.
    pub has_quorum: bool,
    /// Who leads the group that takes decisions, as far as this node knows. An observer belongs to no group, and names
    /// nobody.
    pub leader: Option<NodeId>,
    /// Where the leader is reached, if it is a member; or this node, which knows its own address from `advertise` or once
    /// it has met others.
    pub leader_addr: Option<SocketAddr>,
    /// Why nothing can be decided now; `None` if it can, as far as this node knows.
    pub problem: Option<ConsensusProblem>,
    /// Whether locks are best effort, as `cluster_size` is unset: two may hold one at a time when members fail or are cut
    /// off. `docs/locks.md` in the repository says more.
    pub best_effort: bool,
    /// Whether the settings let this node take locks: it is a voter, or `allow_observers` is on.
    pub may_lock: bool,
    /// Locks that this node believes to hold.
    pub own_held: usize,
    /// Requests for locks that this node has open.
    pub own_waiting: usize,
}

impl Health {
    /// Returns whether the node plays its part and sees a quorum: the answer for a readiness probe.
    pub const fn is_serving(&self) -> bool {
        self.ready && self.has_quorum && !self.leaving
    }

    /// Returns whether locks can be expected to be granted to this node, as far as it knows. It notices late that a
    /// quorum was lost (with the default timing after 3 s), and later that what it sends is lost while it hears the
    /// others. So a lock that is wanted is asked for all the same.
    pub const fn can_lock(&self) -> bool {
        self.may_lock && self.problem.is_none() && !self.leaving
    }

    fn new(cluster: &Cluster, status: &Status, ready: bool) -> Self {
        let group = &status.consensus;
        let addr = |id| match id == status.id {
            true => status.addr,
            false => cluster.member(id).map(|member| member.addr),
        };
        Self {
            ready,
            leaving: status.leaving,
            has_quorum: status.has_quorum,
            leader: group.leader,
            leader_addr: group.leader.and_then(addr),
            // Who hears the leader still, and is heard by nobody, sees it here first.
            problem: group
                .problem
                .or((!status.has_quorum).then_some(ConsensusProblem::NoQuorum {
                    answering: status.voters_present,
                    needed: status.quorum_size,
                })),
            best_effort: group.best_effort,
            may_lock: status.role == Role::Voter || status.settings.allow_observers,
            own_held: group.locks.own_held,
            own_waiting: group.locks.own_waiting,
        }
    }
}

impl Cluster {
    /// Returns what a readiness probe asks for, as this node knows it: nothing is sent, and no quorum is needed for the
    /// answer. [`Cluster::status`] is the full view, [`Cluster::stats`] has the counters (what others call metrics).
    /// Cancel safe.
    ///
    /// As a readiness probe answer [`Health::is_serving`]. As a liveness probe answer whether this returns at all: a
    /// process without a quorum is not mended by a restart, which takes a seat more from its group.
    ///
    /// # Errors
    /// [`Closed`].
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let health = cluster.health().await?;
    /// let status = if health.is_serving() { 200 } else { 503 };
    /// println!("{status}: led from {:?}, {} locks held", health.leader_addr, health.own_held);
    /// if let Some(problem) = health.problem.filter(|_| !health.can_lock()) {
    ///     println!("no locks at present: {problem:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn health(&self) -> Result<Health, Closed> {
        let status = self.status().await?;
        let ready = matches!(self.handle.shared.view().readiness(), Some(Ok(())));
        Ok(Health::new(self, &status, ready))
    }
}

impl View {
    /// Returns how waiting for readiness ends, if it does now.
    pub(super) fn readiness(&self) -> Option<Result<(), ReadyError>> {
        if self.stopped.is_some() {
            return Some(Err(ReadyError::Closed(Closed)));
        }
        if !self.ready {
            return None;
        }
        match self.unknown_key {
            Some((addr, key)) if self.members.is_empty() => Some(Err(ReadyError::UnknownKey { addr, key })),
            _ => self.settled.then_some(Ok(())),
        }
    }
}
