mod attack;
mod lifetime;
mod opening;
#[cfg(feature = "planted-bugs")]
mod planted;
mod policy;
mod vectors;

use super::*;
use crate::config::{Config, Key, KeyRing};
use crate::crypto::PureAead;
use crate::event::Event;
use crate::outbox::Outbox;
use alloc::boxed::Box;
use alloc::vec;

/// One process under test, with what its node would lend it.
pub(super) struct Side {
    pub(super) sessions: Sessions,
    pub(super) config: Config,
    pub(super) addr: SocketAddr,
    pub(super) outbox: Outbox,
    pub(super) app: VecDeque<Event>,
    pub(super) stats: Stats,
    pub(super) events: Vec<SessionEvent>,
    /// Frames other than the sessions' own that came in.
    pub(super) frames: Vec<(NodeId, u8, Vec<u8>)>,
}

pub(super) fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

pub(super) fn base() -> Config {
    Config::default().key(key(1)).cluster_size(3)
}

pub(super) fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn crypto() -> Crypto {
    #[cfg(feature = "simulation")]
    return Crypto::simulated();
    #[cfg(not(feature = "simulation"))]
    Crypto::with_aead(Box::new(PureAead))
}

impl Side {
    pub(super) fn new(n: u8, config: Config, crypto: Crypto) -> Self {
        Self {
            sessions: Sessions::new(&config, node(n), &[n; 32], crypto),
            config,
            addr: SocketAddr::from(([10, 0, 0, n], 5000)),
            outbox: Outbox::default(),
            app: VecDeque::new(),
            stats: Stats::default(),
            events: Vec::new(),
            frames: Vec::new(),
        }
    }

    pub(super) fn with<R>(
        &mut self,
        now: Instant,
        f: impl FnOnce(&mut Sessions, &mut Context<'_>) -> R,
    ) -> R {
        let mut cx = Context {
            now,
            config: &self.config,
            outbox: &mut self.outbox,
            events: &mut self.app,
            stats: &mut self.stats,
        };
        let result = f(&mut self.sessions, &mut cx);
        self.events
            .extend(core::iter::from_fn(|| self.sessions.poll_event()));
        result
    }

    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, mut datagram: Vec<u8>) {
        let opened = self.with(now, |s, cx| s.handle_datagram(cx, from, &mut datagram));
        let Some(opened) = opened else { return };
        for frame in Frames::new(&datagram[opened.frames.clone()]) {
            if frame.kind >= 0x60 {
                let _ = self.with(now, |s, cx| s.handle_frame(cx, &opened, frame.kind, frame.body));
            } else {
                self.frames.push((opened.peer, frame.kind, frame.body.to_vec()));
            }
        }
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.stats.dropped(reason)
    }

    pub(super) fn ups(&self) -> usize {
        self.events
            .iter()
            .filter(|e| matches!(e, SessionEvent::Up { .. }))
            .count()
    }

    pub(super) fn downs(&self) -> usize {
        self.events
            .iter()
            .filter(|e| matches!(e, SessionEvent::Down { .. }))
            .count()
    }

    /// Seals one application frame.
    pub(super) fn write(&mut self, now: Instant, to: NodeId, body: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let mut buf = Vec::new();
        let session = self.sessions.begin(to, &mut buf)?;
        put_frame(&mut buf, 0x10, |b| b.extend_from_slice(body));
        let addr = self.sessions.finish(now, session, &mut buf)?;
        Some((addr, buf))
    }
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub(super) struct Flying {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl Flying {
    pub(super) fn kind(&self) -> u8 {
        self.bytes[1]
    }
}

/// What the network does with a datagram: its number in the test and itself; the answer is how often it arrives.
pub(super) type Fate = Box<dyn FnMut(usize, &Flying) -> usize>;

/// Processes and a network with a delay of 1 ms, in virtual time.
pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) sides: Vec<Side>,
    pub(super) fate: Fate,
    /// Everything that was ever sent.
    pub(super) log: Vec<Flying>,
    flying: VecDeque<(Instant, Flying)>,
}

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

impl Net {
    pub(super) fn new(configs: impl IntoIterator<Item = Config>) -> Self {
        let sides = configs
            .into_iter()
            .zip(1..)
            .map(|(config, n)| Side::new(n, config, crypto()));
        Self {
            now: Instant::from_millis(1_000_000),
            sides: sides.collect(),
            fate: Box::new(|_, _| 1),
            log: Vec::new(),
            flying: VecDeque::new(),
        }
    }

    pub(super) fn pair() -> Self {
        Self::new([base(), base()])
    }

    pub(super) fn id(&self, side: usize) -> NodeId {
        self.sides[side].sessions.id
    }

    pub(super) fn dial(&mut self, from: usize, to: usize) {
        let addr = self.sides[to].addr;
        let now = self.now;
        assert!(self.sides[from].with(now, |s, cx| s.dial(cx, addr, None)));
    }

    pub(super) fn send(&mut self, flying: Flying) {
        let copies = (self.fate)(self.log.len(), &flying);
        self.log.push(flying.clone());
        for _ in 0..copies {
            self.flying
                .push_back((self.now + Duration::from_millis(1), flying.clone()));
        }
    }

    /// Sends one application frame from one side to another.
    pub(super) fn say(&mut self, from: usize, to: usize, body: &[u8]) -> bool {
        let (id, now) = (self.id(to), self.now);
        let Some((to, bytes)) = self.sides[from].write(now, id, body) else {
            return false;
        };
        let from = self.sides[from].addr;
        self.send(Flying { from, to, bytes });
        true
    }

    fn drain(&mut self) {
        for i in 0..self.sides.len() {
            let mut buf = Vec::new();
            while let Some(to) = self.sides[i].sessions.poll_transmit(&mut buf) {
                let from = self.sides[i].addr;
                self.send(Flying {
                    from,
                    to,
                    bytes: buf.clone(),
                });
            }
        }
    }

    /// Runs everything that happens within a time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for steps in 0.. {
            assert!(steps < 1_000_000, "does not come to rest");
            self.drain();
            let timers = self.sides.iter().filter_map(|s| s.sessions.poll_timeout());
            let next = timers.chain(self.flying.front().map(|(at, _)| *at)).min();
            let Some(next) = next.filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let now = self.now;
            if self.flying.front().is_some_and(|(at, _)| *at <= now)
                && let Some((_, flying)) = self.flying.pop_front()
            {
                if let Some(side) = self.sides.iter_mut().find(|s| s.addr == flying.to) {
                    side.receive(now, flying.from, flying.bytes);
                }
                continue;
            }
            for side in &mut self.sides {
                side.with(now, |s, cx| s.handle_timeout(cx));
            }
        }
        self.now = end;
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    pub(super) fn run_secs(&mut self, secs: u64) {
        self.run(Duration::from_secs(secs));
    }

    /// Runs with a message each way every second; all of them must arrive.
    pub(super) fn talk(&mut self, secs: u64) {
        for i in 0..secs {
            let before = (self.sides[A].frames.len(), self.sides[B].frames.len());
            assert!(self.say(A, B, b"a"), "A cannot write, second {i}");
            assert!(self.say(B, A, b"b"), "B cannot write, second {i}");
            self.run_secs(1);
            let after = (self.sides[A].frames.len(), self.sides[B].frames.len());
            assert_eq!(after, (before.0 + 1, before.1 + 1), "second {i}");
        }
    }

    pub(super) fn open(mut self) -> Self {
        self.dial(A, B);
        self.run_secs(1);
        self.assert_open();
        self
    }

    pub(super) fn assert_open(&self) {
        assert!(
            self.sides[A].sessions.is_open(self.id(B)),
            "{:?}",
            self.sides[A].events
        );
        assert!(
            self.sides[B].sessions.is_open(self.id(A)),
            "{:?}",
            self.sides[B].events
        );
    }

    /// Nothing is left in a side's tables but what belongs to an open session.
    pub(super) fn assert_clean(&self, side: usize) {
        let s = &self.sides[side].sessions;
        assert!(s.half_open.is_empty(), "half open");
        assert!(s.reserved.is_empty(), "reserved indexes");
        let listed: usize = s.peers.values().map(|p| p.sessions.len()).sum();
        assert_eq!(listed, s.table.len(), "sessions without a peer");
        assert_eq!(
            s.timers.len(),
            s.table.len() + s.quarantine.len(),
            "timers left over"
        );
    }
}
