//! Two groups that meet. More voters were alive than may be, or this would not happen.

use super::Consensus;
use super::announce::Sighting;
use crate::consensus::life::Group;
use crate::event::{AbandonReason, Event};
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;

/// The other group, and when it was met.
#[derive(Debug, Default)]
pub(super) struct Met(Option<(Group, Instant)>);

/// What decides which of two groups yields: one in its grace does; else the older one.
fn rank(gate: Option<bool>, token_base: u64, group: Group) -> (bool, u64, Group) {
    (gate.is_some(), token_base, group)
}

impl Consensus {
    /// Deals with another group that has a quorum, if one is heard of.
    pub(super) fn settle_conflicts(&mut self, cx: &mut Context<'_>) {
        let (now, config) = (cx.now, cx.config);
        let Some(ours) = self.replica.group() else { return };
        let others = self
            .sightings
            .live(now, config)
            .filter(|sighting| sighting.group != ours);
        let other = others.max_by_key(|sighting| sighting.confirmed);
        let Some(other) = other.copied() else {
            self.met = Met::default();
            return;
        };
        // Without a quorum of its own this group is over: `consider_abandoning`.
        if self.is_leaderless(now, config) {
            return;
        }
        let since = self.meet(cx, ours, other.group);
        // Both have a quorum only if both have shown one after they met.
        let own = self
            .own_sighting(now, config)
            .or_else(|| self.sightings.get(ours).copied());
        let both = other.confirmed > since && own.is_some_and(|own| own.confirmed > since);
        if both {
            self.yield_or_close(cx, &other);
        }
    }

    /// Tells of another group when it is met. Returns since when it is known.
    pub(super) fn meet(&mut self, cx: &mut Context<'_>, ours: Group, theirs: Group) -> Instant {
        match self.met.0 {
            Some((group, since)) if group == theirs => since,
            _ => {
                self.met = Met(Some((theirs, cx.now)));
                cx.stats.conflicts += 1;
                cx.events.push_back(Event::ConflictDetected { ours, theirs });
                cx.now
            }
        }
    }

    fn yield_or_close(&mut self, cx: &mut Context<'_>, other: &Sighting) {
        let Some(machine) = self.replica.machine() else {
            return;
        };
        let own = rank(machine.gate(), machine.found.token_base, machine.found.group);
        let theirs = rank(other.gate, other.token_base, other.group);
        if own < theirs {
            // SAFETY (close): what this group granted holds until the other one grants nothing any more.
            let closed = other.gate == Some(false) || planted(PlantedBug::YieldBeforeClose);
            if closed {
                self.abandon(cx, AbandonReason::Conflict);
            }
            return;
        }
        if self.replica.leadership().is_none() || planted(PlantedBug::CloseLeftOut) {
            return;
        }
        if !self.replica.close(cx.now) {
            self.replica.prolong_close(cx.now);
        }
        self.wait_began = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Peer;
    use super::super::announce::Announcement;
    use super::super::testing::{act, pass};
    use super::*;
    use crate::config::Config;
    use crate::consensus::codec::{put_group, put_life};
    use crate::consensus::life::Life;
    use crate::id::NodeId;
    use crate::time::{Duration, WallTime};
    use alloc::vec::Vec;

    /// Somebody says that it leads another group, with a quorum right now, that was never opened.
    fn stranger() -> Announcement {
        let founder = Life::first(NodeId::from_bytes([2; 16]));
        // Life number and wall clock.
        let mut body = Vec::from([0; 12]);
        // What it saw of another group.
        body.push(16);
        put_group(&mut body, Group { founder, founding: 1 });
        put_life(&mut body, founder);
        // Age, token base, gate.
        body.extend_from_slice(&[0; 4 + 8 + 1]);
        Announcement::read(founder.node, &body).unwrap()
    }

    fn step(one: &mut Consensus, config: &Config, now: Instant, hears: bool) {
        act(config, now, |cx| {
            if hears {
                one.heard(cx, stranger());
            }
            pass(one, cx);
        });
    }

    /// A process that is stopped between the reading of its clock and its `Close`.
    #[test]
    fn the_wait_after_a_close_begins_when_that_is_there() {
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let config = Config::default().cluster_size(1);
        let me = NodeId::from_bytes([1; 16]);
        let mut one = Consensus::new(me, &config, &[0; 32], Instant::ZERO, WallTime::default());
        let peer = Peer {
            voter: true,
            open: true,
            said: None,
            skewed: false,
        };
        one.peers.insert(NodeId::from_bytes([2; 16]), peer);
        let gate = |one: &Consensus| one.replica.machine().and_then(|machine| machine.gate());
        step(&mut one, &config, at(10), false);
        assert_eq!(gate(&one), Some(true));
        step(&mut one, &config, at(20), true);
        step(&mut one, &config, at(21), true);
        assert_eq!(gate(&one), Some(false));
        step(&mut one, &config, at(81), false);
        assert_eq!(one.replica.opens_at(), Some(at(81) + one.replica.rules().grace));
    }
}
