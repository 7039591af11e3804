//! Asking a leader through somebody else, where the network is cut between two members only.
//!
//! A member passes on what a client asks and what a leader answers, once: what was passed on is never passed on again,
//! so nothing can go round in circles. To those at both ends it is a datagram that took longer.

use super::Consensus;
use crate::consensus::codec;
use crate::consensus::life::Group;
use crate::consensus::message::{Envelope, Message};
use crate::id::NodeId;
use crate::locks::{Answer, Ask};
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use crate::wire::{Reader, kind};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// For how long a leader answers also through whoever passed a client's question on.
const ROUTE: Duration = Duration::from_secs(2);
/// Clients of which a leader knows through whom they ask.
const MAX_ROUTES: usize = 256;

/// Through whom clients asked last, and when; and whose turn it is to pass on what this node asks.
#[derive(Debug, Default)]
pub(super) struct Routes {
    through: BTreeMap<NodeId, (NodeId, Instant)>,
    turn: usize,
}

impl Routes {
    fn learn(&mut self, now: Instant, client: NodeId, through: NodeId) {
        if !self.through.contains_key(&client) && self.through.len() >= MAX_ROUTES {
            self.through.retain(|_, (_, at)| now - *at < ROUTE);
        }
        if self.through.contains_key(&client) || self.through.len() < MAX_ROUTES {
            self.through.insert(client, (through, now));
        }
    }

    fn to(&self, now: Instant, client: NodeId) -> Option<NodeId> {
        let &(through, at) = self.through.get(&client)?;
        (now - at < ROUTE).then_some(through)
    }

    #[cfg(feature = "simulation")]
    pub(super) fn usage(&self, usage: &mut crate::usage::Usage) {
        usage.row("relay routes", self.through.len(), MAX_ROUTES);
    }
}

impl Consensus {
    /// Sends what concerns locks also through somebody else, where that may be the only way.
    pub(super) fn send_around(&mut self, cx: &mut Context<'_>, envelope: &Envelope) {
        let to = envelope.to.node;
        let through = match envelope.message {
            Message::Ask(_) if self.client.needs_relay(cx.now) => self.helper(envelope.group, to),
            Message::Answer(_) => self.routes.to(cx.now, to),
            _ => None,
        };
        if let Some(through) = through {
            put(cx, through, kind::RELAY, to, envelope);
        }
    }

    /// Picks a voter of a group that may reach its leader: each time another one.
    fn helper(&mut self, group: Group, leader: NodeId) -> Option<NodeId> {
        let helps = |&(&id, peer): &(&NodeId, &super::Peer)| {
            let belongs = peer.said.as_ref().and_then(|(_, said)| said.belongs.as_ref());
            let same = belongs.is_some_and(|belongs| belongs.group == group);
            peer.open && peer.voter && same && id != leader
        };
        let helpers = self.peers.iter().filter(helps).count();
        self.routes.turn = self.routes.turn.wrapping_add(1);
        let turn = self.routes.turn % helpers.max(1);
        self.peers.iter().filter(helps).nth(turn).map(|(&id, _)| id)
    }

    /// Passes on what a peer wants said to another one, or drops it where there is no session with that one.
    pub(super) fn on_relay(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let (to, inner, rest) = read(body).ok_or(BadFrame)?;
        if planted(PlantedBug::RelayAnswersItself) && self.answer_for(cx, from, to, inner, rest) {
            return Ok(());
        }
        let reachable = self.peers.get(&to).is_some_and(|peer| peer.open);
        // Whether a peer may ask is known to those who have a session with it.
        if reachable && to != from && (inner == kind::ANSWER || self.may_draw(from)) {
            cx.send(to, kind::RELAYED, |buf| {
                buf.extend_from_slice(&from.to_bytes());
                buf.push(inner);
                buf.extend_from_slice(rest);
            });
        }
        Ok(())
    }

    /// Takes what somebody else passed on.
    pub(super) fn on_relayed(
        &mut self,
        cx: &mut Context<'_>,
        through: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let (origin, inner, rest) = read(body).ok_or(BadFrame)?;
        let me = self.replica.life().node;
        let envelope = codec::read_envelope(origin, me, inner, rest).ok_or(BadFrame)?;
        if let Message::Ask(_) = envelope.message {
            self.routes.learn(cx.now, origin, through);
        }
        self.take(cx, &envelope);
        Ok(())
    }

    /// The mistake of taking the own copy of the table for the leader's word.
    fn answer_for(
        &self,
        cx: &mut Context<'_>,
        client: NodeId,
        leader: NodeId,
        inner: u8,
        rest: &[u8],
    ) -> bool {
        let Some(asked) = codec::read_envelope(client, leader, inner, rest) else {
            return false;
        };
        let table = self.replica.machine().map(|machine| &machine.table);
        let (Message::Ask(Ask::Renew { stamp, tokens }), Some(table)) = (&asked.message, table) else {
            return false;
        };
        let held = |&token: &u64| table.holder(token).map(|(_, holder)| (token, holder.ttl));
        let leases = tokens.iter().filter_map(held).collect();
        let stamp = *stamp;
        let answer = Envelope {
            group: asked.group,
            from: asked.to,
            to: asked.from,
            message: Message::Answer(Answer::Renewed { stamp, leases }),
        };
        put(cx, client, kind::RELAYED, leader, &answer);
        true
    }
}

/// Sends an envelope through a peer: with whom it is for (`RELAY`) or whom it is from (`RELAYED`).
fn put(cx: &mut Context<'_>, through: NodeId, outer: u8, other: NodeId, envelope: &Envelope) {
    cx.send(through, outer, |buf| put_body(buf, other, envelope));
}

fn put_body(buf: &mut Vec<u8>, other: NodeId, envelope: &Envelope) {
    buf.extend_from_slice(&other.to_bytes());
    buf.push(codec::kind_of(&envelope.message));
    codec::put_envelope(buf, envelope);
}

/// Reads another process, the type of the frame, and its body. Only what concerns locks is passed on.
fn read(body: &[u8]) -> Option<(NodeId, u8, &[u8])> {
    let mut reader = Reader::new(body);
    let (other, inner) = (reader.node_id()?, reader.u8()?);
    matches!(inner, kind::ASK | kind::ANSWER).then_some((other, inner, reader.rest()))
}

#[cfg(test)]
mod tests {
    use super::super::Peer;
    use super::super::announce::Announcement;
    use super::*;
    use crate::config::Config;
    use crate::consensus::entry::Position;
    use crate::consensus::life::Life;
    use crate::consensus::seats::Seats;
    use crate::time::WallTime;
    use crate::wire::vectors::check;

    #[test]
    fn only_what_concerns_locks_is_passed_on() {
        let [client, leader] = [1, 2].map(|name| Life::first(NodeId::from_bytes([name; 16])));
        let group = Group {
            founder: leader,
            founding: 7,
        };
        let (request, floor) = (5, 4);
        let envelope = Envelope {
            group,
            from: client,
            to: leader,
            message: Message::Ask(Ask::Cancel { request, floor }),
        };
        let [mut relay, mut relayed] = [Vec::new(), Vec::new()];
        put_body(&mut relay, leader.node, &envelope);
        put_body(&mut relayed, client.node, &envelope);
        let (to, inner, body) = read(&relay).unwrap();
        assert_eq!((to, inner), (leader.node, kind::ASK));
        let read_back = codec::read_envelope(client.node, leader.node, inner, body);
        assert_eq!(read_back, Some(envelope));
        check(
            "relay",
            &[("relay.relay", relay.clone()), ("relay.relayed", relayed)],
        );

        assert!(read(&relay[..16]).is_none());
        for other in [kind::LEAVE, kind::APPEND, kind::RELAY, kind::RELAYED] {
            relay[16] = other;
            assert!(read(&relay).is_none());
        }
    }

    #[test]
    fn routes_are_bounded_and_fade() {
        let mut routes = Routes::default();
        let node = |name: u64| NodeId::from_bytes(u128::from(name).to_be_bytes());
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        for name in 0..300 {
            routes.learn(at(1), node(name), node(999));
        }
        assert_eq!(routes.through.len(), MAX_ROUTES);
        assert_eq!(routes.to(at(2), node(0)), Some(node(999)));
        assert_eq!(routes.to(at(3), node(0)), None);
        routes.learn(at(3), node(300), node(999));
        assert_eq!(routes.through.len(), 1);
    }

    #[test]
    fn each_time_another_one_is_asked_to_pass_it_on() {
        let node = |name: u8| NodeId::from_bytes([name; 16]);
        let founder = Life::first(node(9));
        let founding = 1;
        let group = Group { founder, founding };
        let seats: Seats = [founder].into_iter().collect();
        let belongs = |name: u8| {
            // Life number and wall clock, and that it belongs to a group.
            let mut body = Vec::from([0; 12]);
            body.push(8);
            codec::put_group(&mut body, group);
            codec::put_position(&mut body, Position::default());
            codec::put_seats(&mut body, &seats);
            Announcement::read(node(name), &body).unwrap()
        };
        let config = Config::default();
        let mut client = Consensus::new(node(1), &config, &[0; 32], Instant::ZERO, WallTime::default());
        for name in [2, 3, 9] {
            let peer = Peer {
                voter: true,
                open: true,
                said: Some((Instant::ZERO, belongs(name))),
                skewed: false,
            };
            client.peers.insert(node(name), peer);
        }
        let asked = [(); 2].map(|()| client.helper(group, founder.node));
        assert!(
            asked == [Some(node(2)), Some(node(3))] || asked == [Some(node(3)), Some(node(2))],
            "{asked:?}"
        );
    }
}
