//! Without a quorum: who takes over when a leader goes, and which of two groups stays when they meet.
//!
//! Groups are in an order that all agree on, and whoever hears of a younger one goes there. So after a partition, a
//! pause, or two foundings at once there is one group again, as soon as all hear of each other.

use super::Consensus;
use super::announce::Sighting;
use crate::config::Config;
use crate::consensus::life::{Group, Life};
use crate::consensus::message::{Envelope, Message};
use crate::consensus::replica::{FLOOR_AHEAD, Output};
use crate::event::{AbandonReason, FoundingRefusal};
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use core::cmp::Reverse;

/// How young a group is: of a later generation; among those of one, the one that was founded first counts as younger,
/// so that who comes late and alone disturbs nobody.
type Youth = (u64, Reverse<u64>, Life);

const fn youth(group: Group, token_base: u64) -> Youth {
    (group.founding, Reverse(token_base), group.founder)
}

impl Sighting {
    const fn youth(&self) -> Youth {
        youth(self.group, self.token_base)
    }
}

impl Consensus {
    /// Returns the leader that counts of those that were heard of: the one heard of last, or that of the youngest group
    /// without a quorum.
    pub(super) fn foremost<'a>(&self, seen: impl Iterator<Item = &'a Sighting>) -> Option<&'a Sighting> {
        if self.replica.rules().is_best_effort() {
            seen.max_by_key(|sighting| sighting.youth())
        } else {
            seen.max_by_key(|sighting| sighting.confirmed)
        }
    }

    /// Returns the leader whose end this node has to notice, as it may have to take over.
    pub(crate) fn depends_on(&self) -> Option<NodeId> {
        let follows = self.replica.rules().is_best_effort() && self.replica.leadership().is_none();
        let leader = self.replica.leader().filter(|_| follows)?;
        Some(leader.node)
    }

    /// Whether the leader that this life follows has said goodbye, was replaced, counts as failed, or has gone to another
    /// group: one that may be gone since, and that nobody else has heard of.
    fn leader_is_gone(&self, now: Instant, config: &Config) -> bool {
        let Some(leader) = self.depends_on() else {
            return false;
        };
        let said = self.peers.get(&leader).and_then(|peer| peer.said.as_ref());
        let group = |said: &super::Announcement| said.belongs.as_ref().map(|belongs| belongs.group);
        let elsewhere = said.is_some_and(|(_, said)| group(said) != self.replica.group());
        let failed = !self.around.leader_present || elsewhere;
        self.dead.contains(&leader) || (failed && self.is_leaderless(now, config))
    }

    /// Whether somebody knows the locks of a group, and will take over if need be: nobody else founds one meanwhile.
    pub(super) fn awaits_heir(&self, now: Instant, config: &Config) -> bool {
        let knows = |(_, said): (&super::Peer, &super::Announcement)| said.belongs.is_some() && !said.leaving;
        self.replica.rules().is_best_effort() && self.voters_said(now, config).any(knows)
    }

    /// Whether a message would make a life that has no group follow one, though it knows of a younger one.
    pub(super) fn is_outranked(&self, now: Instant, config: &Config, envelope: &Envelope) -> bool {
        let invites = matches!(
            envelope.message,
            Message::Append { .. } | Message::Snapshot { .. }
        );
        let free = self.replica.rules().is_best_effort() && self.replica.group().is_none();
        let outranks = |youngest: &Sighting| youngest.group != envelope.group;
        free && invites
            && self
                .foremost(self.sightings.live(now, config))
                .is_some_and(outranks)
    }

    /// Goes to a younger group, if one is heard of. A leader of which an older one hears takes care that its tokens are
    /// above those of that one: its holders and resources come here.
    pub(super) fn meet_others(&mut self, cx: &mut Context<'_>) {
        let (now, config) = (cx.now, cx.config);
        let Some((ours, own, counter)) = self.replica.machine().map(|machine| {
            let found = &machine.found;
            (found.group, youth(found.group, found.token_base), machine.counter)
        }) else {
            return;
        };
        let live = self.sightings.live(now, config);
        let others = live.filter(|sighting| sighting.group != ours);
        let Some(other) = self.foremost(others).copied() else {
            self.met = super::conflict::Met::default();
            return;
        };
        let leader = self.replica.leader();
        // Who takes over from a leader that is gone is no stranger.
        let over = self.is_leaderless(now, config) || self.leader_is_gone(now, config);
        if !over && leader != Some(other.leader) {
            self.meet(cx, ours, other.group);
        }
        if other.youth() > own {
            if planted(PlantedBug::OlderGroupStays) {
                return;
            }
            let conflict = !over && leader != Some(other.leader);
            return self.abandon(
                cx,
                if conflict {
                    AbandonReason::Conflict
                } else {
                    AbandonReason::Superseded
                },
            );
        }
        // What was asked of this group is decided and told in it first.
        let done = self.replica.leadership().is_some() && !self.replica.has_unsent();
        if done && counter < other.token_base.saturating_add(FLOOR_AHEAD) {
            self.succeed(cx);
        }
    }

    /// A follower whose leader is gone takes over, if it has the lowest id of all, or after an election timeout of those
    /// who say that they know its locks: who came a moment ago may not have said so yet.
    pub(super) fn take_over(&mut self, cx: &mut Context<'_>) {
        let (now, config) = (cx.now, cx.config);
        if self.leaving.is_some() || !self.leader_is_gone(now, config) {
            return;
        }
        let (me, group, leader) = (self.replica.life(), self.replica.group(), self.replica.leader());
        let first = self
            .voters_said(now, config)
            .filter(|(peer, said)| peer.open && !said.leaving && Some(said.life) != leader)
            .filter(|(_, said)| said.belongs.as_ref().map(|belongs| belongs.group) == group)
            .all(|(_, said)| me < said.life);
        let mut voters = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.open && peer.voter)
            .map(|(&node, _)| node);
        let lowest = voters.all(|node| me.node < node || self.dead.contains(&node));
        if first && (lowest || self.election_at <= now) {
            self.succeed(cx);
        }
    }

    fn succeed(&mut self, cx: &mut Context<'_>) {
        let wall = self.wall.after(cx.now - self.started);
        let mut out = Output::default();
        match self.replica.succeed(cx.now, wall, &mut out) {
            Ok(_) => cx.stats.groups_founded += 1,
            Err(_) => self.refuse(cx, Some(FoundingRefusal::TokensExhausted)),
        }
        self.carry_out(cx, out);
        self.after(cx);
    }
}
