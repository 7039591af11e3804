//! The frames of membership as `docs/wire.md` shows them, elicited from a process by the frames of others.

use super::super::*;
use crate::outbox::Outbox;
use crate::stats::Stats;
use crate::wire::vectors::check;
use crate::wire::{FrameWriter, Frames, put_addr, put_frame};
use alloc::vec;

const A: NodeId = NodeId::from_bytes([0xa1; 16]);
const B: NodeId = NodeId::from_bytes([0xb2; 16]);
const C: NodeId = NodeId::from_bytes([0xc3; 16]);

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 5000))
}

/// The process A, alone with what it is told.
struct Lone {
    membership: Membership,
    config: Config,
    now: Instant,
    outbox: Outbox,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Lone {
    fn new() -> Self {
        let config = Config::default().name("a").metadata(*b"meta").advertise(addr(1));
        let now = Instant::from_millis(1_000_000);
        Self {
            membership: Membership::new(A, &config, &[1; 32], now),
            config,
            now,
            outbox: Outbox::default(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut Membership, &mut Context<'_>) -> T) -> T {
        f(
            &mut self.membership,
            &mut Context {
                now: self.now,
                config: &self.config,
                outbox: &mut self.outbox,
                events: &mut self.events,
                stats: &mut self.stats,
            },
        )
    }

    fn up(&mut self, peer: NodeId, n: u8) {
        self.with(|m, cx| m.peer_up(cx, peer, addr(n), Role::Voter, None, None));
    }

    fn hear(&mut self, from: NodeId, kind: u8, body: &[u8]) {
        let heard = self.with(|m, cx| m.handle_frame(cx, from, kind, body));
        assert_eq!(heard, Ok(()));
    }

    /// Takes everything that A has to say, as whole frames.
    fn said(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(peer) = self.outbox.next_peer() {
            let mut buf = Vec::new();
            self.outbox.fill(peer, &mut FrameWriter::new(&mut buf, 1170));
            for frame in Frames::new(&buf) {
                let mut whole = Vec::new();
                put_frame(&mut whole, frame.kind, |buf| buf.extend_from_slice(frame.body));
                frames.push((frame.kind, whole));
            }
        }
        frames
    }

    /// Returns the only frame of this kind that A has to say.
    fn one(&mut self, kind: u8) -> Vec<u8> {
        let mut frames = self.said();
        frames.retain(|&(said, _)| said == kind);
        assert_eq!(frames.len(), 1, "{kind:02x}");
        frames.remove(0).1
    }

    /// Lets time pass until A says a frame of this kind.
    fn wait_for(&mut self, kind: u8) -> Vec<u8> {
        for _ in 0..100 {
            self.now = self.membership.poll_timeout().unwrap().max(self.now);
            self.with(|m, cx| m.handle_timeout(cx));
            if let Some((_, frame)) = self.said().into_iter().find(|&(said, _)| said == kind) {
                return frame;
            }
        }
        panic!("{kind:02x} is never said");
    }
}

/// The body of a JOIN, in which nothing but number 9 and the address stands out.
fn join(n: u8) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    put_addr(&mut body, addr(n));
    put_addr(&mut body, addr(1));
    body.extend_from_slice(&[0, 0, 0]);
    body
}

fn record(id: NodeId, n: u8, state: State) -> Record {
    Record {
        id,
        addr: addr(n),
        incarnation: 0,
        state,
        role: Role::Observer,
        version: 1,
        replaced: false,
        details: 1,
        accuser: NodeId::MIN,
        age: 0,
    }
}

fn gossip(record: &Record) -> Vec<u8> {
    let mut body = vec![1];
    record.encode(&mut body);
    body
}

#[test]
fn the_document_has_what_a_member_says() {
    let mut a = Lone::new();
    let mut vectors = Vec::new();

    a.up(B, 2);
    vectors.push(("membership.join", a.one(kind::JOIN)));
    a.hear(B, kind::JOIN, &join(2));
    let frames = a.said();
    let first = |kind| frames.iter().find(|(said, _)| *said == kind).unwrap().1.clone();
    vectors.push(("membership.join_ack", first(kind::JOIN)));
    vectors.push(("membership.digest_request", first(kind::DIGEST)));
    a.hear(B, kind::DIGEST, &[0, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
    vectors.push(("membership.digest_ack", a.one(kind::DIGEST_ACK)));

    a.hear(B, kind::HEARTBEAT, &[0, 0, 0, 7, 0, 0, 0, 0, 1]);
    vectors.push(("membership.heartbeat_echo", a.one(kind::HEARTBEAT)));
    a.with(|m, cx| m.heartbeat(cx));
    vectors.push(("membership.heartbeat", a.one(kind::HEARTBEAT)));

    let inquiry = [&[0, 0, 0, 5][..], &C.to_bytes()].concat();
    a.hear(B, kind::PROBE_REQUEST, &inquiry);
    vectors.push(("membership.probe_result", a.one(kind::PROBE_RESULT)));

    a.hear(B, kind::GOSSIP, &gossip(&record(C, 3, State::Alive)));
    vectors.push(("membership.details_request", a.wait_for(kind::DETAILS_REQUEST)));
    let request = [&[1][..], &A.to_bytes()].concat();
    a.hear(B, kind::DETAILS_REQUEST, &request);
    vectors.push(("membership.details", a.one(kind::DETAILS)));
    a.hear(B, kind::DIGEST, &[1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
    vectors.push(("membership.digest_page", a.one(kind::DIGEST)));

    let suspect = Record {
        accuser: B,
        role: Role::Voter,
        ..record(A, 1, State::Suspect)
    };
    a.hear(B, kind::GOSSIP, &gossip(&suspect));
    vectors.push(("membership.gossip", a.one(kind::GOSSIP)));

    vectors.push(("membership.probe_request", a.wait_for(kind::PROBE_REQUEST)));

    for n in 4..=8 {
        let peer = NodeId::from_bytes([n; 16]);
        a.up(peer, n);
        a.said();
        a.hear(peer, kind::DIGEST, &[1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    vectors.push(("membership.digest_busy", a.one(kind::DIGEST_ACK)));

    a.hear(C, kind::LEAVE, &[&C.to_bytes()[..], &[0; 4]].concat());
    vectors.push(("membership.leave_ack", a.one(kind::LEAVE_ACK)));
    a.with(|m, cx| m.leave(cx));
    let frames = a.said();
    let leave = frames.iter().find(|(said, _)| *said == kind::LEAVE).unwrap();
    vectors.push(("membership.leave", leave.1.clone()));
    check("membership", &vectors);
}
