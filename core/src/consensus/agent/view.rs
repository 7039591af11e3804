//! What can be seen of it.

use super::Consensus;
use crate::config::Config;
use crate::consensus::life::Life;
use crate::consensus::replica::Role;
use crate::status::{ConsensusProblem, ConsensusRole, ConsensusStatus, LockCounts, Replication};
use crate::time::Instant;
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use alloc::vec::Vec;

impl Consensus {
    /// Returns how the group stands.
    pub(crate) fn status(&self, now: Instant, config: &Config) -> ConsensusStatus {
        let replica = &self.replica;
        let seats: Vec<_> = replica
            .seats()
            .into_iter()
            .flat_map(|seats| seats.iter())
            .collect();
        let peers = replica
            .leadership()
            .into_iter()
            .flat_map(|leadership| leadership.peers());
        let peers = peers.map(|(life, progress)| Replication {
            life,
            seated: seats.contains(&life),
            matched: progress.matched(),
            silent_for: self
                .reign
                .as_ref()
                .map_or_else(Default::default, |reign| now - reign.silent_since(life)),
        });
        let machine = replica.machine();
        ConsensusStatus {
            best_effort: replica.rules().is_best_effort(),
            life: replica.life(),
            role: self.role(),
            group: replica.group(),
            term: replica.term(),
            leader: replica.leader().map(|leader| leader.node),
            last: replica.last().index,
            commit: replica.commit(),
            applied: replica.applied(),
            open: machine.is_some_and(|machine| machine.open),
            grace_left: replica.opens_at().map(|at| at - now),
            peers: peers.collect(),
            orphaned: self.is_orphan(now, config),
            locks: self.lock_counts(),
            problem: self.problem(now, config),
            seats,
        }
    }

    fn lock_counts(&self) -> LockCounts {
        let own = LockCounts {
            own_held: self.client.held().count(),
            own_waiting: self.client.wanted(),
            ..LockCounts::default()
        };
        self.replica.machine().map_or(own, |machine| LockCounts {
            locks: machine.table.locks().len(),
            held: machine.table.tokens().count(),
            waiting: machine.table.waiters().count(),
            bytes: machine.table.bytes(),
            ..own
        })
    }

    fn role(&self) -> ConsensusRole {
        let seated = self.replica.is_seated();
        match self.replica.role() {
            None if self.is_founder() => ConsensusRole::Founder,
            None => ConsensusRole::None,
            Some(Role::Leader(_)) => ConsensusRole::Leader,
            Some(Role::PreCandidate { .. } | Role::Candidate { .. }) => ConsensusRole::Candidate,
            Some(Role::Follower { .. }) if seated => ConsensusRole::Follower,
            Some(Role::Follower { .. }) => ConsensusRole::Learner,
        }
    }

    /// Why nothing can be decided now.
    fn problem(&self, now: Instant, config: &Config) -> Option<ConsensusProblem> {
        let (replica, rules) = (&self.replica, self.replica.rules());
        if replica.group().is_none() {
            if self.sightings.live(now, config).next().is_some() {
                return None;
            }
            let refusal = self.standing_refusal().or_else(|| self.refusal());
            if let Some(refusal) = refusal {
                return Some(ConsensusProblem::Refused(refusal));
            }
            let (ready, needed) = (self.fresh_count(now, config), rules.founding_quorum());
            return Some(if ready < needed {
                ConsensusProblem::TooFewVoters { ready, needed }
            } else {
                ConsensusProblem::InProgress
            });
        }
        if self.is_leaderless(now, config) && rules.is_best_effort() {
            return Some(ConsensusProblem::InProgress);
        }
        if self.is_leaderless(now, config) {
            let answering = self.seats_answering(now, config);
            let needed = rules.quorum();
            return Some(if answering < needed {
                ConsensusProblem::NoQuorum { answering, needed }
            } else {
                ConsensusProblem::InProgress
            });
        }
        if replica.leader().is_none() || replica.commit() == 0 {
            return Some(ConsensusProblem::InProgress);
        }
        let open = replica.machine().is_some_and(|machine| machine.open);
        (!open).then_some(ConsensusProblem::Grace)
    }

    /// Whether a voter is of use to the group: seated, or ready to take a seat while live members hold all.
    pub(crate) fn is_settled(&self) -> bool {
        let replica = &self.replica;
        if replica.rules().is_best_effort() || !replica.is_eligible() {
            return true;
        }
        let holds = |seat: Life| {
            let said = self.peers.get(&seat.node).and_then(|peer| peer.said.as_ref());
            said.is_some_and(|(_, said)| said.life == seat && !said.leaving)
        };
        let held = replica
            .seats()
            .map(|seats| seats.iter().filter(|&seat| holds(seat)).count());
        let full = held.is_some_and(|held| held >= replica.rules().seats());
        replica.commit() > 0 && replica.leader().is_some() && (replica.is_seated() || full)
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn usage(&self, config: &Config, usage: &mut Usage) {
        use super::announce::most_sightings;
        use super::leading::most_learners;
        use super::tokens::most_draws;
        use crate::config::MAX_CLUSTER_SIZE;
        let sessions = config.max_sessions + config.max_members;
        usage.row("consensus peers", self.peers.len(), sessions);
        usage.row("sightings", self.sightings.len(), most_sightings());
        usage.row("open draws", self.draws.len(), most_draws());
        self.routes.usage(usage);
        usage.row("ended processes", self.dead.len(), MAX_CLUSTER_SIZE.into());
        let followed = self.reign.as_ref().map_or(0, |reign| reign.followed());
        usage.row(
            "followers",
            followed,
            usize::from(MAX_CLUSTER_SIZE) * 2 + most_learners(),
        );
        let entries = self.replica.log().map_or(0, |log| log.len());
        // What is not applied yet cannot be compacted: as much again may wait for a quorum, and the end of each lease and
        // of each that waits, which is not put off.
        let limit = self.replica.rules().log_limit;
        let counts = self.lock_counts();
        // One word may end many leases.
        let ends = counts.held + counts.waiting + crate::locks::codec::MAX_LIST;
        usage.row("log entries", entries, limit.max(counts.locks) + limit + ends);
    }
}
