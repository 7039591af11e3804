//! What can be seen of the node.

use super::{Node, State};
use crate::config::Config;
use crate::id::NodeId;
#[cfg(feature = "simulation")]
use crate::journal::{Entry, Keep};
use crate::stats::Stats;
use crate::status::{Member, MemberState, Status};
use crate::time::Instant;
#[cfg(feature = "simulation")]
use crate::usage::Usage;
#[cfg(feature = "simulation")]
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

impl Node {
    /// Returns this process's id.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the settings that the node was built with, without the keys: `security` is always `Unset`.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the other members, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.membership.members().cloned()
    }

    /// Returns a member.
    pub fn member(&self, id: NodeId) -> Option<Member> {
        self.membership.get(id).cloned()
    }

    /// Returns the member that is reached at an address.
    pub fn member_at(&self, addr: SocketAddr) -> Option<Member> {
        self.member(self.membership.member_at(addr)?)
    }

    /// Returns how many voters make a quorum, 0 if the gate is disabled. An observer knows it once it has met a
    /// voter.
    pub fn quorum_size(&self) -> usize {
        match self.sessions.settings().cluster_size {
            0 => 0,
            n => usize::from(n) / 2 + 1,
        }
    }

    /// Returns whether the quorum gate is open: enough live voters are known, this node included if it is one.
    pub const fn has_quorum(&self) -> bool {
        self.has_quorum
    }

    /// Returns the counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns what the node holds beside what it may hold. Walks over all peers and what is queued for them: for every
    /// few hundred inputs, not for each.
    ///
    /// Events are not among it: they wait without bound until they are polled.
    #[cfg(feature = "simulation")]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.sessions.usage(&self.config, &mut usage);
        self.discovery.usage(&self.config, &mut usage);
        self.membership.usage(&self.config, &mut usage);
        self.messaging.usage(&mut usage);
        self.consensus.usage(&self.config, &mut usage);
        self.gate.usage(&self.config, &mut usage);
        self.outbox.usage(&self.config, &mut usage);
        usage
    }

    /// Begins to write down what passes the face of this node, or ends it.
    #[cfg(feature = "simulation")]
    pub const fn keep_journal(&mut self, what: Keep) {
        self.journal.keep(what);
    }

    /// Returns whether anything was written down that was not taken yet.
    #[cfg(feature = "simulation")]
    pub const fn has_journal(&self) -> bool {
        !self.journal.is_empty()
    }

    /// Moves what was written down to the end of `into`, oldest first.
    #[cfg(feature = "simulation")]
    pub fn take_journal(&mut self, into: &mut Vec<Entry>) {
        self.journal.take(into);
    }

    /// Returns whether this node plays its part in decisions: a voter that has a seat, or is ready to take one while all
    /// are held. Always true for observers and without `cluster_size`.
    pub fn is_settled(&self) -> bool {
        self.consensus.is_settled()
    }

    /// Returns the replica, for simulators to look at.
    #[cfg(feature = "simulation")]
    pub const fn replica(&self) -> &crate::consensus::Replica {
        self.consensus.replica()
    }

    /// Returns the state of the node.
    pub fn status(&self, now: Instant) -> Status {
        let alive = self
            .membership
            .members()
            .filter(|member| member.state == MemberState::Alive)
            .count();
        Status {
            id: self.id,
            cluster_name: self.config.cluster_name.clone(),
            secured: self.sessions.secured(),
            role: self.config.role,
            addr: self.membership.own_addr(),
            settings: self.sessions.settings(),
            ready: self.discovery.is_ready(),
            leaving: self.state != State::Running,
            members_alive: alive,
            members_suspect: self.membership.member_count() - alive,
            voters_present: self.membership.voters_present(),
            quorum_size: self.quorum_size(),
            has_quorum: self.has_quorum,
            sessions: self.sessions.open_count(),
            quarantined: self.sessions.quarantined(),
            key_usage: self.sessions.key_usage(),
            unknown_keys: self.sessions.unknown_keys(now),
            health: self.membership.health(),
            incarnation: self.membership.own_incarnation(),
            consensus: self.consensus.status(now, &self.config),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("members", &self.membership.member_count())
            .finish_non_exhaustive()
    }
}
