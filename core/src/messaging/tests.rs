//! Two and more messaging parts in virtual time, joined by links that lose, repeat and reorder.

mod codec;
mod hostile;
#[cfg(feature = "planted-bugs")]
mod planted;
mod pressure;
mod scenarios;

use super::*;
use crate::event::Event;
use crate::outbox::Outbox;
use crate::rng::Stream;
use crate::wire::{Frames, HEADER_LEN, MAX_DATAGRAM, TAG_LEN};
use alloc::vec;
use alloc::vec::Vec;

use super::frame::MAX_CHUNK;
const LIMIT: usize = MAX_DATAGRAM - HEADER_LEN - TAG_LEN;

fn id(index: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(index).unwrap() + 1; 16])
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Peer {
    messaging: Messaging,
    outbox: Outbox,
    events: VecDeque<Event>,
    stats: Stats,
    /// Takes its messages as they come.
    consumes: bool,
    /// Answers each request with its own payload.
    echoes: bool,
    received: Vec<Message>,
}

/// Decides whether a frame passes: sender, kind, body.
type Filter = Box<dyn FnMut(usize, u8, &[u8]) -> bool>;

struct Net {
    now: Instant,
    config: Config,
    peers: Vec<Peer>,
    flight: BTreeMap<(Instant, u64), (usize, usize, Vec<u8>)>,
    sequence: u64,
    rng: Rng,
    loss_permille: u64,
    repeat_permille: u64,
    latency: Duration,
    jitter: Duration,
    filter: Option<Filter>,
}

impl Net {
    fn new(count: usize) -> Self {
        Self::with(count, Config::default(), 1)
    }

    fn with(count: usize, config: Config, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let peers = (0..count)
            .map(|index| {
                bytes[31] = u8::try_from(index).unwrap();
                Peer {
                    messaging: Messaging::new(&config, Rng::new(&bytes, Stream::Messaging)),
                    outbox: Outbox::default(),
                    events: VecDeque::new(),
                    stats: Stats::default(),
                    consumes: true,
                    echoes: false,
                    received: Vec::new(),
                }
            })
            .collect();
        Self {
            now: Instant::from_millis(1000),
            config,
            peers,
            flight: BTreeMap::new(),
            sequence: 0,
            rng: Rng::new(&bytes, Stream::Session),
            loss_permille: 0,
            repeat_permille: 0,
            latency: ms(1),
            jitter: Duration::ZERO,
            filter: None,
        }
    }

    fn act<R>(&mut self, at: usize, act: impl FnOnce(&mut Messaging, &mut Context<'_>) -> R) -> R {
        let peer = &mut self.peers[at];
        let mut cx = Context {
            now: self.now,
            config: &self.config,
            outbox: &mut peer.outbox,
            events: &mut peer.events,
            stats: &mut peer.stats,
        };
        act(&mut peer.messaging, &mut cx)
    }

    fn send(&mut self, from: usize, name: u64, to: usize, payload: Vec<u8>, timeout: Duration) {
        let deadline = self.now + timeout;
        self.act(from, |m, cx| {
            m.send(cx, SendId(name), &[id(to)], payload.into(), deadline)
        })
        .unwrap();
    }

    fn request(&mut self, from: usize, name: u64, to: usize, payload: Vec<u8>, timeout: Duration) {
        let deadline = self.now + timeout;
        self.act(from, |m, cx| {
            m.request(cx, RequestId(name), &[id(to)], payload.into(), deadline)
        })
        .unwrap();
    }

    /// Hands over what was sent and what can be consumed, until nothing more happens at this instant.
    fn pump(&mut self) {
        for at in 0..self.peers.len() {
            for round in 0.. {
                assert!(round < 10_000, "a peer never stops sending");
                if self.peers[at].consumes {
                    self.consume(at);
                }
                let peer = &mut self.peers[at];
                let Some(to) = peer.messaging.next_peer() else {
                    break;
                };
                let mut datagram = Vec::new();
                let mut writer = FrameWriter::new(&mut datagram, LIMIT);
                (peer.messaging).fill(self.now, &mut peer.stats, to, &mut writer);
                assert!(datagram.len() <= LIMIT);
                let to = (0..self.peers.len()).find(|&index| id(index) == to);
                if let Some(to) = to
                    && !datagram.is_empty()
                {
                    self.transmit(at, to, &datagram);
                }
            }
        }
    }

    fn consume(&mut self, at: usize) {
        loop {
            let peer = &mut self.peers[at];
            let Some(message) = peer.messaging.poll_message(self.now, &mut peer.stats) else {
                return;
            };
            if let Some(to) = message.reply_to
                && peer.echoes
            {
                let payload = message.payload.clone();
                self.act(at, |m, cx| m.reply(cx, to, payload)).unwrap();
            }
            self.peers[at].received.push(message);
        }
    }

    fn transmit(&mut self, from: usize, to: usize, datagram: &[u8]) {
        let mut kept = Vec::new();
        for frame in Frames::new(datagram) {
            if (self.filter.as_mut()).is_none_or(|filter| filter(from, frame.kind, frame.body)) {
                crate::wire::put_frame(&mut kept, frame.kind, |buf| buf.extend_from_slice(frame.body));
            }
        }
        if kept.is_empty() {
            return;
        }
        let copies = 1 + u64::from(self.rng.below(1000) < self.repeat_permille);
        for _ in 0..copies {
            if self.rng.below(1000) >= self.loss_permille {
                let jitter = self.rng.below(self.jitter.as_nanos() as u64 + 1);
                let at = self.now + self.latency + Duration::from_nanos(jitter);
                self.sequence += 1;
                self.flight.insert((at, self.sequence), (from, to, kept.clone()));
            }
        }
    }

    /// Goes on to the next thing that happens, if that is before `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.pump();
        let arrival = self.flight.keys().next().map(|&(at, _)| at);
        let timer = self.peers.iter().filter_map(|p| p.messaging.poll_timeout()).min();
        let Some(next) = [arrival, timer]
            .into_iter()
            .flatten()
            .min()
            .filter(|&at| at <= end)
        else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.flight.first_entry()
            && entry.key().0 <= self.now
        {
            let (from, to, datagram) = entry.remove();
            for frame in Frames::new(&datagram) {
                self.act(to, |m, cx| m.handle_frame(cx, id(from), frame.kind, frame.body))
                    .unwrap();
            }
        }
        for at in 0..self.peers.len() {
            self.act(at, |m, cx| {
                m.handle_timeout(cx);
                assert!(
                    m.poll_timeout().is_none_or(|t| t > cx.now),
                    "what was due is done"
                );
            });
        }
        true
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.pump();
    }

    /// Takes the outcomes of a peer's messages: the name, and the result.
    fn sent(&mut self, at: usize) -> Vec<(u64, Result<(), DeliveryError>)> {
        let mut done = Vec::new();
        self.peers[at].events.retain(|event| match event {
            Event::SendDone { id, result, .. } => {
                done.push((id.0, *result));
                false
            }
            Event::SendFinished(_) => false,
            _ => true,
        });
        done
    }

    /// Takes the outcomes of a peer's requests: the name, and the answer.
    fn answers(&mut self, at: usize) -> Vec<(u64, Result<Bytes, DeliveryError>)> {
        let mut done = Vec::new();
        self.peers[at].events.retain(|event| match event {
            Event::Reply { id, payload, .. } => {
                done.push((id.0, Ok(payload.clone())));
                false
            }
            Event::RequestFailed { id, error, .. } => {
                done.push((id.0, Err(*error)));
                false
            }
            Event::RequestDone(_) => false,
            _ => true,
        });
        done
    }

    fn payloads(&self, at: usize) -> Vec<Vec<u8>> {
        self.peers[at]
            .received
            .iter()
            .map(|m| m.payload.to_vec())
            .collect()
    }
}

/// Returns bytes in which a piece at the wrong place shows.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i / 7 + seed * 31) % 251) as u8).collect()
}

fn named(name: u64) -> Vec<u8> {
    name.to_be_bytes().to_vec()
}

fn name_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}
