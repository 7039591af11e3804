//! When a group is given up.

use super::Consensus;
use super::announce::{Belonging, window};
use crate::config::Config;
use crate::consensus::life::Life;
use crate::event::AbandonReason;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use alloc::vec::Vec;

impl Consensus {
    /// How many seats of the group are there, as far as this node knows, itself included.
    pub(super) fn seats_answering(&self, now: Instant, config: &Config) -> usize {
        let (Some(seats), group) = (self.replica.seats(), self.replica.group()) else {
            return 0;
        };
        let said = self.voters_said(now, config).map(|(_, said)| said);
        let ours = said.filter(|said| said.belongs.as_ref().map(|belongs| belongs.group) == group);
        ours.filter(|said| seats.contains(said.life)).count() + usize::from(self.replica.is_seated())
    }

    /// Whether no leader of the group has had a quorum, as far as this node can tell, for longer than any lease.
    pub(super) fn is_orphan(&self, now: Instant, config: &Config) -> bool {
        let best_effort = self.replica.rules().is_best_effort();
        if best_effort || self.replica.group().is_none() || planted(PlantedBug::OrphansStayForEver) {
            return false;
        }
        self.can_never_answer(now, config)
            || now - self.led >= config.max_ttl
            || (!self.replica.is_seated() && self.seats_are_orphans(now, config))
    }

    /// Whether the seats that are left have no group any more. A life that began to follow it when it was over knows
    /// nothing of those who are gone.
    fn seats_are_orphans(&self, now: Instant, config: &Config) -> bool {
        let Some(seats) = self.replica.seats() else {
            return false;
        };
        let mut said = self
            .voters_said(now, config)
            .map(|(_, said)| said)
            .filter(|said| seats.contains(said.life))
            .peekable();
        said.peek().is_some() && said.all(|said| said.orphan)
    }

    /// Whether fewer than Q of the seats are left: the others have said goodbye, or go on as another life.
    fn can_never_answer(&self, now: Instant, config: &Config) -> bool {
        let Some(seats) = self.replica.seats() else {
            return false;
        };
        let ended = |seat: Life| {
            let succeeded = self
                .said(now, config, seat.node)
                .is_some_and(|said| said.life > seat);
            self.dead.contains(&seat.node) || succeeded
        };
        seats.iter().filter(|&seat| !ended(seat)).count() < self.replica.rules().quorum()
    }

    /// Whether nobody leads this group with a quorum behind it, as far as this node knows.
    pub(super) fn is_leaderless(&self, now: Instant, config: &Config) -> bool {
        now - self.led >= window(config)
    }

    /// Gives the group up, where it is over and enough others are ready for a new one; or where there is one already.
    pub(super) fn consider_abandoning(&mut self, cx: &mut Context<'_>) {
        let (now, config) = (cx.now, cx.config);
        let Some(group) = self.replica.group() else { return };
        if planted(PlantedBug::OrphansStayForEver) {
            return;
        }
        let superseded = self
            .sightings
            .live(now, config)
            .any(|sighting| sighting.group != group);
        if superseded && self.is_leaderless(now, config) {
            return self.abandon(cx, AbandonReason::Superseded);
        }
        if !self.is_orphan(now, config) || !self.others_are_ready(now, config) {
            self.doomed_since = None;
            return;
        }
        let since = *self.doomed_since.get_or_insert(now);
        if now - since >= config.heartbeat_timeout * 2 {
            self.abandon(cx, AbandonReason::QuorumLost);
        }
    }

    /// Whether Q + s voters, this one included, are fresh or orphaned, and none of this group could be elected among
    /// them: a candidate has a seat, and the votes of Q seats, by its own log, of lives whose logs are not newer.
    fn others_are_ready(&self, now: Instant, config: &Config) -> bool {
        let Some(group) = self.replica.group() else {
            return false;
        };
        let mine = Belonging {
            group,
            last: self.replica.last(),
            seats: self.replica.seats().cloned().unwrap_or_default(),
        };
        let mut ready = 1;
        let mut ours = Vec::from([(self.replica.life(), &mine)]);
        let said = self.voters_said(now, config).map(|(_, said)| said);
        for said in said.filter(|said| said.fresh || said.orphan) {
            ready += 1;
            let belongs = said.belongs.as_ref().filter(|belongs| belongs.group == group);
            ours.extend(belongs.map(|belongs| (said.life, belongs)));
        }
        let rules = self.replica.rules();
        let electable = |&(candidate, log): &(Life, &Belonging)| {
            let votes = ours
                .iter()
                .filter(|(voter, theirs)| log.seats.contains(*voter) && theirs.last <= log.last);
            log.seats.contains(candidate) && votes.count() >= rules.quorum()
        };
        ready >= rules.founding_quorum() && !ours.iter().any(electable)
    }
}
