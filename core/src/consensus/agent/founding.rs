//! When to found a group.

use super::Consensus;
use crate::config::Config;
use crate::consensus::life::Life;
use crate::consensus::message::Envelope;
use crate::consensus::replica::{FoundError, Output};
use crate::event::{Event, FoundingRefusal};
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A founding that this life stands for.
#[derive(Debug)]
pub(super) struct Standing {
    since: Instant,
    /// When it gives up for lack of votes.
    until: Instant,
    /// When voters are reminded.
    beat_at: Instant,
    /// Since when there are votes enough.
    enough_since: Option<Instant>,
    /// When each voter was last heard of.
    voters: BTreeMap<Life, Instant>,
}

impl Consensus {
    /// Whether this node takes part in foundings: it has looked for a group, and knows of none.
    pub(super) fn is_fresh(&self, now: Instant, config: &Config) -> bool {
        let led =
            self.sightings.live(now, config).next().is_some() && !planted(PlantedBug::ConfirmedLeaderIgnored);
        self.replica.is_eligible()
            && self.replica.group().is_none()
            && self.leaving.is_none()
            && self.around.ready
            && now - self.started >= config.found_delay
            && !led
            && !self.awaits_heir(now, config)
            && self.refusal().is_none()
    }

    /// Why no group may be founded.
    pub(super) fn refusal(&self) -> Option<FoundingRefusal> {
        let rules = self.replica.rules();
        let (seen, allowed) = if rules.is_best_effort() {
            (0, 0)
        } else {
            (self.around.voters, rules.seats() + usize::from(rules.surge))
        };
        if let Some(id) = self.around.quarantined
            && !planted(PlantedBug::OtherSettingsIgnored)
        {
            return Some(FoundingRefusal::OtherSettings { id });
        }
        (seen > allowed && !planted(PlantedBug::SurplusVotersIgnored))
            .then_some(FoundingRefusal::TooManyVoters { seen, allowed })
    }

    /// Whether the founder that this life has voted for is still there.
    fn is_bound(&self, now: Instant, config: &Config) -> Option<Life> {
        let (founder, heard) = self.bound?;
        (now - heard < config.election_timeout).then_some(founder)
    }

    /// Whether this life would vote for a founder now.
    pub(super) fn would_vote_for(&self, cx: &Context<'_>, founder: Life) -> bool {
        if !self.is_fresh(cx.now, cx.config) {
            return false;
        }
        match (&self.standing, self.is_bound(cx.now, cx.config)) {
            // Of two founders without votes enough, the one with the higher id gives way; and the other one, if nobody
            // has voted for it in time: then the first has votes enough.
            (Some(standing), _) => {
                let due = cx.now - standing.since >= cx.config.consensus_heartbeat * 2;
                let outvoted = due && standing.voters.is_empty();
                standing.enough_since.is_none() && (founder < self.replica.life() || outvoted)
            }
            (None, Some(bound)) => founder == bound,
            (None, None) => true,
        }
    }

    /// A vote has arrived.
    pub(super) fn voted(&mut self, now: Instant, envelope: &Envelope) {
        let counted = |(_, mut voters): (u64, _)| Iterator::any(&mut voters, |voter| voter == envelope.from);
        if let Some(standing) = &mut self.standing
            && self.replica.founding().standing().is_some_and(counted)
        {
            standing.voters.insert(envelope.from, now);
            self.soon = true;
        }
    }

    fn fresh_peers(&self, now: Instant, config: &Config) -> Vec<Life> {
        let said = self.voters_said(now, config);
        said.filter(|(peer, said)| peer.open && said.fresh)
            .map(|(_, said)| said.life)
            .collect()
    }

    /// How many nodes are ready to found a group, this one included.
    pub(super) fn fresh_count(&self, now: Instant, config: &Config) -> usize {
        self.fresh_peers(now, config).len() + usize::from(self.is_fresh(now, config))
    }

    /// Does what is due for a node without a group.
    pub(super) fn found(&mut self, cx: &mut Context<'_>) {
        self.report_refusal(cx);
        if !self.is_fresh(cx.now, cx.config) {
            self.standing = None;
            self.replica.withdraw();
            return;
        }
        if !self.known.fresh {
            // From when it is told of on, its time to stand counts.
            return;
        }
        let fresh = self.fresh_peers(cx.now, cx.config);
        if self.standing.is_some() {
            return self.stand_on(cx, &fresh);
        }
        let enough = fresh.len() + 1 >= self.replica.rules().founding_quorum();
        if !enough || self.is_bound(cx.now, cx.config).is_some() {
            return;
        }
        // Where all are there, the one with the lowest id begins. Before that everybody would take another one for it:
        // then, or should it not come about, whoever has waited its time.
        let lowest = fresh.iter().all(|&peer| self.replica.life() < peer);
        let waited = self.election_at <= cx.now;
        let stands = if self.replica.rules().is_best_effort() {
            // How many will come nobody knows: those who start together have had the time to hear of each other.
            lowest && waited
        } else {
            let all = fresh.len() + 1 >= self.replica.rules().seats();
            (all && !self.stood && lowest) || waited
        };
        if stands && self.replica.stand() {
            self.standing = Some(Standing {
                since: cx.now,
                until: cx.now + self.election_timeout(cx.config) * 2,
                beat_at: cx.now,
                enough_since: None,
                voters: BTreeMap::new(),
            });
            self.stand_on(cx, &fresh);
        }
    }

    /// Reminds the voters, counts them, and founds the group.
    fn stand_on(&mut self, cx: &mut Context<'_>, fresh: &[Life]) {
        let (now, rules) = (cx.now, *self.replica.rules());
        let Some(standing) = &mut self.standing else {
            return;
        };
        let stale = now - cx.config.election_timeout;
        standing.voters.retain(|&voter, &mut heard| {
            let alive = heard > stale;
            if !alive {
                self.replica.retract(voter);
            }
            alive
        });
        let votes = standing.voters.len() + 1;
        if votes < rules.founding_quorum() {
            standing.enough_since = None;
            if standing.until <= now {
                (self.standing, self.stood) = (None, true);
                self.replica.withdraw();
                self.election_at = now + self.election_timeout(cx.config);
                return;
            }
        } else {
            let since = *standing.enough_since.get_or_insert(now);
            let patient = |standing: &Standing| now - since < self.found_wait(standing, cx.config);
            if votes >= rules.seats() || !self.standing.as_ref().is_some_and(patient) {
                return self.create(cx);
            }
        }
        if let Some(standing) = self.standing.as_mut().filter(|standing| standing.beat_at <= now) {
            standing.beat_at = now + cx.config.consensus_heartbeat;
            let mut out = Output::default();
            for &peer in fresh {
                self.replica.request_founding(peer, &mut out);
            }
            self.carry_out(cx, out);
        }
    }

    /// How long to wait for the remaining voters. Those who are known to be there are worth more time than those of whom
    /// nothing is known, also to give up a group that has ended: with all votes the new one opens without a grace.
    fn found_wait(&self, standing: &Standing, config: &Config) -> Duration {
        let rules = self.replica.rules();
        let more = self.around.voters > standing.voters.len() + 1;
        if more && rules.surge == 0 && !rules.allow_observers {
            config.found_wait + config.heartbeat_timeout * 2
        } else {
            config.found_wait
        }
    }

    fn create(&mut self, cx: &mut Context<'_>) {
        let wall = self.wall.after(cx.now - self.started);
        let mut out = Output::default();
        match self.replica.found(cx.now, wall, &mut out) {
            Ok(_) => {
                cx.stats.groups_founded += 1;
                self.wait_began = true;
            }
            Err(FoundError::TooFewVotes) => self.replica.withdraw(),
            Err(FoundError::TokensExhausted) => {
                self.replica.withdraw();
                self.refuse(cx, Some(FoundingRefusal::TokensExhausted));
            }
        }
        self.standing = None;
        self.election_at = cx.now + self.election_timeout(cx.config);
        self.carry_out(cx, out);
    }

    /// Says once why there will be no group, where there could be one otherwise.
    fn report_refusal(&mut self, cx: &mut Context<'_>) {
        let waits = self.replica.is_eligible() && self.leaving.is_none() && self.around.ready;
        let led = self.sightings.live(cx.now, cx.config).next().is_some();
        let refusal = self.refusal().filter(|_| waits && !led);
        if refusal.is_some() || self.refused != Some(FoundingRefusal::TokensExhausted) {
            self.refuse(cx, refusal);
        }
    }

    pub(super) fn refuse(&mut self, cx: &mut Context<'_>, refusal: Option<FoundingRefusal>) {
        if self.refused != refusal {
            self.refused = refusal;
            cx.events
                .extend(refusal.map(|reason| Event::FoundingRefused { reason }));
        }
    }

    /// When a node without a group has something to do.
    pub(super) fn founding_due(&self, now: Instant, config: &Config) -> Option<Instant> {
        if let Some(standing) = &self.standing {
            let wait = self.found_wait(standing, config);
            let enough = standing.enough_since.map(|since| since + wait);
            return Some(standing.beat_at.min(enough.unwrap_or(standing.until)));
        }
        let delayed = self.started + config.found_delay;
        if delayed > now {
            return Some(delayed);
        }
        let bound = self.bound.map(|(_, heard)| heard + config.election_timeout);
        match bound.filter(|&until| until > now) {
            Some(until) => Some(until),
            None => (self.is_fresh(now, config) && self.election_at > now).then_some(self.election_at),
        }
    }

    pub(super) const fn is_founder(&self) -> bool {
        self.standing.is_some()
    }

    pub(super) const fn standing_refusal(&self) -> Option<FoundingRefusal> {
        self.refused
    }
}
