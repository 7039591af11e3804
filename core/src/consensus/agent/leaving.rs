//! Leaving politely: a group loses no seat that it cannot do without, and no leader before it has another.

use super::Consensus;
use super::announce::Belonging;
use crate::config::Config;
use crate::consensus::life::Life;
use crate::consensus::replica::Output;
use crate::outbox::Context;
use crate::time::Instant;
use alloc::vec::Vec;

/// A node on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    until: Instant,
    look_at: Instant,
    done: bool,
}

impl Leaving {
    pub(super) fn next(&self) -> Instant {
        if self.done {
            Instant::FAR_FUTURE
        } else {
            self.look_at.min(self.until)
        }
    }
}

impl Consensus {
    /// Begins to leave. [`Consensus::may_go`] says when the goodbye may be said.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        self.leaving = Some(Leaving {
            until: cx.now + cx.config.leave_wait,
            look_at: cx.now,
            done: self.replica.group().is_none(),
        });
        self.standing = None;
        self.replica.withdraw();
        self.draws.refuse(cx);
        self.end_all_beliefs(cx);
        if self.replica.rules().is_best_effort() && self.replica.leadership().is_some() {
            // From here on it decides nothing more.
            self.flush(cx);
        }
        self.announce_at = cx.now;
        self.rearm(cx.now, cx.config);
        self.leave_due(cx);
    }

    /// Whether the group can do without this node, or has had its time.
    pub(crate) fn may_go(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.done)
    }

    pub(super) fn leave_due(&mut self, cx: &mut Context<'_>) {
        let (now, config) = (cx.now, cx.config);
        let Some(leaving) = &self.leaving else { return };
        if leaving.done {
            return;
        }
        let done = leaving.until <= now || !self.is_needed(now, config);
        let look = leaving.look_at <= now;
        if done && self.hands_over() {
            self.replica.step_down();
            self.after(cx);
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.done = done;
            if look {
                leaving.look_at = now + config.election_timeout;
            }
        }
        if !done && look && self.replica.leadership().is_some() {
            let heirs: Vec<Life> = self
                .voters_said(now, config)
                .filter(|(_, said)| !said.leaving && self.answers(now, config, said.life))
                .map(|(_, said)| said.life)
                .collect();
            let mut out = Output::default();
            self.replica.transfer(&heirs, &mut out);
            self.carry_out(cx, out);
        }
    }

    /// Whether the group goes on better if this node stays a little longer: it has a seat. A seat becomes empty by the
    /// log, one after the other and never one of the last Q; so of several who leave at once nobody goes who is needed,
    /// and a leader goes when another one leads. A group of which others leave as well, and that nobody could fill up,
    /// ends anyway.
    fn is_needed(&self, now: Instant, config: &Config) -> bool {
        let (me, rules) = (self.replica.life(), self.replica.rules());
        if self.hands_over() {
            return self.has_heirs_behind(now, config);
        }
        // With one or two seats none can ever be replaced.
        if rules.seats() < 3 || !self.replica.is_seated() {
            return false;
        }
        let seated = |life: Life| self.replica.seats().is_some_and(|seats| seats.contains(life));
        // Whose goodbye was heard says nothing any more.
        let (mut staying, mut going, mut spare) = (0, self.dead.len(), 0);
        for (_, said) in self.voters_said(now, config).filter(|(_, said)| said.life != me) {
            // The leader does not tell who has no seat any more.
            let newer = |belongs: &&Belonging| {
                Some(belongs.group) == self.replica.group() && belongs.last > self.replica.last()
            };
            if said
                .belongs
                .as_ref()
                .filter(newer)
                .is_some_and(|belongs| !belongs.seats.contains(me))
            {
                return false;
            }
            match (seated(said.life), said.leaving) {
                (true, false) => staying += 1,
                (true, true) => going += 1,
                (false, leaving) => spare += usize::from(!leaving),
            }
        }
        let over = going > 0 && staying + spare + 1 < rules.quorum();
        !over && !self.is_leaderless(now, config)
    }

    /// Whether this life leads without a quorum and leaves: it takes no requests any more, and goes when those who may
    /// take over know all that it has decided.
    pub(super) fn hands_over(&self) -> bool {
        self.leaving.is_some() && self.replica.rules().is_best_effort() && self.replica.leadership().is_some()
    }

    fn has_heirs_behind(&self, now: Instant, config: &Config) -> bool {
        let Some(leadership) = self.replica.leadership() else {
            return false;
        };
        let last = self.replica.last().index;
        self.voters_said(now, config)
            .filter(|(_, said)| !said.leaving && self.answers(now, config, said.life))
            .filter_map(|(_, said)| leadership.peer(said.life))
            .any(|progress| progress.matched() < last)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Peer;
    use super::super::testing::{act, pass};
    use super::*;
    use crate::consensus::codec;
    use crate::consensus::message::{Envelope, Message};
    use crate::id::NodeId;
    use crate::locks::{Ask, Key, Wish};
    use crate::time::{Duration, WallTime};
    use crate::wire::kind;
    use bytes::Bytes;

    /// Wants another lock each time, directly or through a helper.
    fn ask(one: &mut Consensus, cx: &mut Context<'_>, request: u64, relayed: bool) {
        let node = |name: u8| NodeId::from_bytes([name; 16]);
        let wish = Wish {
            key: Key::new(&alloc::format!("{request}")).unwrap(),
            units: 1,
            capacity: 1,
            priority: 0,
            wait: true,
            ttl: 1000,
            metadata: Bytes::new(),
        };
        let (stamp, floor) = (0, 1);
        let envelope = Envelope {
            group: one.replica.group().unwrap(),
            from: Life::first(node(2)),
            to: one.replica.life(),
            message: Message::Ask(Ask::Acquire {
                stamp,
                request,
                floor,
                wish,
            }),
        };
        let mut body = Vec::new();
        let (mut from, mut of) = (node(2), kind::ASK);
        if relayed {
            body.extend_from_slice(&from.to_bytes());
            body.push(of);
            (from, of) = (node(3), kind::RELAYED);
        }
        codec::put_envelope(&mut body, &envelope);
        one.handle_frame(cx, from, of, &body).unwrap();
    }

    #[test]
    fn who_hands_over_takes_no_requests_by_any_way() {
        let config = Config::default();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let me = NodeId::from_bytes([1; 16]);
        let mut one = Consensus::new(me, &config, &[0; 32], at(0), WallTime::default());
        for name in [2, 3] {
            let peer = Peer {
                voter: true,
                open: true,
                said: None,
                skewed: false,
            };
            one.peers.insert(NodeId::from_bytes([name; 16]), peer);
        }
        for secs in 1..=90 {
            act(&config, at(secs), |cx| pass(&mut one, cx));
        }
        assert!(one.replica.leadership().is_some());
        let locks = |one: &Consensus| one.replica.machine().unwrap().table.locks().len();
        for (request, relayed) in [(1, false), (2, true)] {
            act(&config, at(91), |cx| ask(&mut one, cx, request, relayed));
        }
        act(&config, at(92), |cx| pass(&mut one, cx));
        assert_eq!(locks(&one), 2);
        one.leaving = Some(Leaving {
            until: at(100),
            look_at: at(100),
            done: false,
        });
        assert!(one.hands_over());
        for (request, relayed) in [(3, false), (4, true)] {
            let before = one.replica.last();
            act(&config, at(93), |cx| ask(&mut one, cx, request, relayed));
            assert_eq!((one.replica.last(), locks(&one)), (before, 2), "{relayed}");
        }
        // Nor does it hold against anybody that no signs of life are taken meanwhile.
        let before = one.replica.last();
        act(&config, at(99), |cx| one.leases_due(cx));
        assert_eq!((one.replica.last(), one.leases_timeout()), (before, None));
    }
}
