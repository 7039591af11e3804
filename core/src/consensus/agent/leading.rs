//! What a leader does beside replicating: it beats, checks that a quorum follows, and sees to the seats.

use super::Consensus;
use crate::config::Config;
use crate::consensus::life::Life;
use crate::consensus::replica::{Leadership, Output};
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Learners that the log is sent to: as many as there can be seats.
const MAX_LEARNERS: usize = 16;
/// Rounds whose beginning is remembered.
const MAX_ROUNDS: usize = 256;

#[cfg(feature = "simulation")]
pub(super) const fn most_learners() -> usize {
    MAX_LEARNERS
}

/// A leader's time.
#[derive(Debug)]
pub(super) struct Reign {
    pub(super) beat_at: Instant,
    since: Instant,
    /// The rounds that are not complete, with their beginnings.
    rounds: VecDeque<(u64, Instant)>,
    /// When the newest round began that a quorum has answered.
    pub(super) confirmed: Option<Instant>,
    /// When each follower and learner last answered.
    answered: BTreeMap<Life, Instant>,
    /// Since when there are learners.
    learning: BTreeMap<Life, Instant>,
    /// Whether it has begun to answer for locks.
    pub(super) serves: bool,
}

impl Reign {
    fn new(now: Instant, beat_at: Instant, round: u64) -> Self {
        Self {
            beat_at,
            since: now,
            rounds: VecDeque::from([(round, now)]),
            confirmed: None,
            answered: BTreeMap::new(),
            learning: BTreeMap::new(),
            serves: false,
        }
    }

    fn begin_round(&mut self, now: Instant, round: u64) {
        // The oldest are kept: of rounds that begin faster than they are answered some complete all the same.
        if self.rounds.len() < MAX_ROUNDS {
            self.rounds.push_back((round, now));
        }
    }

    /// Returns when the newest of the rounds up to this one began, if that is news.
    fn complete_rounds(&mut self, completed: u64) -> Option<Instant> {
        let mut newest = None;
        while let Some(&(round, began)) = self.rounds.front()
            && round <= completed
        {
            newest = Some(began);
            self.rounds.pop_front();
        }
        self.confirmed = newest.or(self.confirmed);
        newest
    }

    pub(super) fn silent_since(&self, peer: Life) -> Instant {
        let since = self.learning.get(&peer).copied().unwrap_or(self.since);
        self.answered.get(&peer).copied().unwrap_or(since)
    }

    #[cfg(feature = "simulation")]
    pub(super) fn followed(&self) -> usize {
        self.answered.len().max(self.learning.len())
    }

    pub(super) fn forget_others(&mut self, leadership: &Leadership) {
        self.answered.retain(|&peer, _| leadership.peer(peer).is_some());
        self.learning.retain(|&peer, _| leadership.peer(peer).is_some());
    }
}

impl Consensus {
    pub(super) fn begin_reign(&mut self, now: Instant, config: &Config) {
        let round = self
            .replica
            .leadership()
            .map_or(0, |leadership| leadership.round());
        self.reign = Some(Reign::new(now, now + config.consensus_heartbeat, round));
        self.soon = true;
    }

    /// A follower or learner has answered.
    pub(super) fn answered(&mut self, now: Instant, from: Life) {
        let completed = self.replica.completed_round();
        let Some(reign) = &mut self.reign else { return };
        reign.answered.insert(from, now);
        if let Some(began) = reign.complete_rounds(completed) {
            self.led = self.led.max(began);
        }
    }

    /// Whether a follower or learner has answered lately.
    pub(super) fn answers(&self, now: Instant, config: &Config, peer: Life) -> bool {
        let reign = self.reign.as_ref();
        reign.is_some_and(|reign| now - reign.silent_since(peer) < config.election_timeout)
    }

    /// Does what is due for a leader.
    pub(super) fn lead(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let Some(reign) = &self.reign else { return };
        // Check-quorum (Ongaro 2014, section 6.2): nobody is served by a leader whom nobody follows.
        let lease = cx.config.election_timeout * 2;
        let silent = now - reign.confirmed.unwrap_or(reign.since) >= lease;
        if silent && self.replica.rules().quorum() > 1 && !planted(PlantedBug::DeposedNeverStepsDown) {
            self.replica.step_down();
            self.election_at = now + self.election_timeout(cx.config);
            return;
        }
        let mut out = Output::default();
        if self.found_by.is_none() {
            self.see_to_learners(now, cx.config, &mut out);
            self.see_to_seats(now, cx.config, &mut out);
        }
        self.replica.open(now);
        if self.reign.as_ref().is_some_and(|reign| reign.beat_at <= now) {
            let round = self.replica.beat(now, &mut out);
            let alone = self.replica.completed_round() >= round;
            if let Some(reign) = &mut self.reign {
                reign.beat_at = now + cx.config.consensus_heartbeat;
                if alone {
                    (reign.confirmed, self.led) = (Some(now), now);
                    reign.rounds.clear();
                } else {
                    reign.begin_round(now, round);
                }
            }
        }
        self.carry_out(cx, out);
        if self.is_undecided_for_too_long(now) {
            self.abandon(cx, crate::event::AbandonReason::NotFounded);
        }
    }

    /// Sends the log to who has no group, and to who has this one without a seat.
    fn see_to_learners(&mut self, now: Instant, config: &Config, out: &mut Output) {
        // Who follows a leader without a quorum is of no use to the group that will replace this one.
        let followed = self.reign.as_ref().and_then(|reign| reign.confirmed);
        if followed.is_none_or(|at| now - at >= config.election_timeout) {
            return;
        }
        let Some(group) = self.replica.group() else { return };
        let seated = |life| self.replica.seats().is_some_and(|seats| seats.contains(life));
        let welcome: Vec<Life> = self
            .voters_said(now, config)
            .filter(|(peer, said)| {
                let here = said.belongs.as_ref().is_none_or(|belongs| belongs.group == group);
                peer.open && here && !said.leaving && !seated(said.life)
            })
            .map(|(_, said)| said.life)
            .take(MAX_LEARNERS)
            .collect();
        let Some(leadership) = self.replica.leadership() else {
            return;
        };
        let learners = leadership.peers().map(|(peer, _)| peer);
        let gone: Vec<Life> = learners
            .filter(|&peer| !seated(peer) && !welcome.contains(&peer))
            .collect();
        for life in gone {
            self.replica.remove_learner(life);
            if let Some(reign) = &mut self.reign {
                reign.learning.remove(&life);
                reign.answered.remove(&life);
            }
        }
        for life in welcome {
            self.replica.add_learner(life, out);
            if let Some(reign) = &mut self.reign {
                reign.learning.entry(life).or_insert(now);
            }
        }
    }

    /// Empties the seats of those who are gone, and fills empty seats with learners, the oldest first.
    fn see_to_seats(&mut self, now: Instant, config: &Config, out: &mut Output) {
        let Some(reign) = &self.reign else { return };
        let seats: Vec<Life> = self
            .replica
            .seats()
            .into_iter()
            .flat_map(|seats| seats.iter())
            .collect();
        let gone = |seat: Life| {
            let said = self.said(now, config, seat.node);
            let succeeded = said.is_some_and(|said| said.life > seat);
            let dead = self.dead.contains(&seat.node);
            let failed = now - reign.silent_since(seat) >= config.seat_timeout;
            dead || succeeded || failed
        };
        let leaves = |seat: Life| self.said(now, config, seat.node).is_some_and(|said| said.leaving);
        let kept = planted(PlantedBug::DepartedKeepTheirSeats);
        let mut learners: Vec<(Instant, Life)> = reign
            .learning
            .iter()
            .map(|(&life, &since)| (since, life))
            .filter(|&(_, life)| {
                !seats.contains(&life) && now - reign.silent_since(life) < config.election_timeout
            })
            .collect();
        learners.sort_unstable();
        let others = seats.iter().copied().filter(|&seat| seat != self.replica.life());
        let empty = others
            .clone()
            .find(|&seat| gone(seat))
            .or_else(|| others.clone().find(|&seat| leaves(seat)));
        if let Some(seat) = empty.filter(|_| !kept)
            && self.replica.empty_seat(seat, out)
        {
            return;
        }
        for (_, life) in learners {
            if self.replica.fill_seat(life) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn rounds_complete_however_many_are_under_way() {
        let at = Instant::from_millis;
        let mut reign = Reign::new(at(0), at(75), 0);
        for millis in 1..5_000 {
            reign.begin_round(at(millis), millis);
            let answered = millis.saturating_sub(1_300);
            let news = reign.complete_rounds(answered);
            assert!(news.is_none_or(|began| began <= at(answered)));
            // Nobody waits for much longer than its answers take.
            let confirmed = reign.confirmed.unwrap_or(at(0));
            assert!(
                at(millis) - confirmed <= Duration::from_millis(2_600),
                "{millis}: {confirmed:?}"
            );
        }
    }
}
