//! The world: nodes, the network between them, DNS, and time.

use crate::network::{InFlight, Link, Network};
use crate::trace::TraceHash;
use quorate_core::{Config, Duration, Event, Instant, Message, Node, NodeId, SendFailure, WallTime};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

/// The wall clock at the beginning of every run: 2026-01-01 UTC.
const WALL_ORIGIN: u64 = 1_767_225_600_000_000;

/// Names a node of a [`World`]; a restarted one is a new node at an old address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

/// What the nodes seal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Crypto {
    /// A checksum with the same accept and reject behaviour: thousands of times faster to open a session with.
    #[default]
    Simulated,
    /// The real thing.
    Real,
}

struct Slot {
    /// `None` once it has crashed.
    node: Option<Node>,
    id: NodeId,
    addr: SocketAddr,
    /// Stopped, as by SIGSTOP: nothing is handed to it, and what arrives waits.
    paused: bool,
    parked: Vec<(SocketAddr, Vec<u8>)>,
    /// Whether its application takes messages.
    reading: bool,
    armed: Option<Instant>,
    events: Vec<(Instant, Event)>,
    messages: Vec<(Instant, Message)>,
    wakes: u64,
}

/// A datagram that was recorded on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Where it came from.
    pub from: SocketAddr,
    /// Where it went.
    pub to: SocketAddr,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Many nodes over one virtual network, in virtual time.
pub struct World {
    now: Instant,
    crypto: Crypto,
    link: Link,
    network: Network,
    slots: Vec<Slot>,
    by_addr: BTreeMap<SocketAddr, NodeIndex>,
    /// Wake-ups, earliest first; one that a node no longer wants is skipped.
    timers: BinaryHeap<Reverse<(Instant, NodeIndex)>>,
    /// Ordered pairs of addresses between which nothing passes.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    dns: BTreeMap<String, Vec<SocketAddr>>,
    /// What was recorded, oldest first, and how much of it is kept.
    captured: VecDeque<Captured>,
    capture: usize,
    seeds: ChaCha8Rng,
    chance: ChaCha8Rng,
    trace: TraceHash,
    handled: u64,
    buf: Vec<u8>,
}

impl World {
    /// Creates an empty world; everything random in it is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let stream = |number| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number);
            rng
        };
        Self {
            now: Instant::from_millis(1_000),
            crypto: Crypto::default(),
            link: Link::default(),
            network: Network::default(),
            slots: Vec::new(),
            by_addr: BTreeMap::new(),
            timers: BinaryHeap::new(),
            cut: BTreeSet::new(),
            dns: BTreeMap::new(),
            captured: VecDeque::new(),
            capture: 0,
            seeds: stream(1),
            chance: stream(2),
            trace: TraceHash::new(),
            handled: 0,
            buf: Vec::new(),
        }
    }

    /// Chooses what nodes started from now on seal with.
    pub fn set_crypto(&mut self, crypto: Crypto) {
        self.crypto = crypto;
    }

    /// Changes how datagrams sent from now on travel.
    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Lets a name resolve to these addresses; to none makes resolution fail.
    pub fn set_dns(&mut self, name: &str, addrs: &[SocketAddr]) {
        self.dns.insert(name.to_owned(), addrs.to_vec());
    }

    /// Returns the address that the next started node will get.
    pub fn next_addr(&self) -> SocketAddr {
        let n = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        SocketAddr::from((Ipv4Addr::from(0x0a00_0001 + n), 5000))
    }

    /// Starts a node at an address of its own.
    ///
    /// # Panics
    /// If the config is invalid.
    pub fn start(&mut self, config: Config) -> NodeIndex {
        self.start_at(self.next_addr(), config)
    }

    /// Starts a node at this address; whoever had it is cut off from it.
    ///
    /// # Panics
    /// If the config is invalid.
    pub fn start_at(&mut self, addr: SocketAddr, config: Config) -> NodeIndex {
        let mut seed = [0; 32];
        self.seeds.fill_bytes(&mut seed);
        let wall = WallTime::from_unix_micros(WALL_ORIGIN + self.now.as_nanos() / 1_000);
        let node = match self.crypto {
            Crypto::Simulated => Node::simulated(config, seed, self.now, wall),
            Crypto::Real => Node::new(config, seed, self.now, wall),
        };
        let node = node.expect("the config of a simulated node is valid");
        let index = NodeIndex(self.slots.len());
        self.slots.push(Slot {
            id: node.id(),
            node: Some(node),
            addr,
            paused: false,
            parked: Vec::new(),
            reading: true,
            armed: None,
            events: Vec::new(),
            messages: Vec::new(),
            wakes: 0,
        });
        self.by_addr.insert(addr, index);
        self.flush(index);
        index
    }

    /// Stops a node without a goodbye.
    pub fn crash(&mut self, index: NodeIndex) {
        let slot = &mut self.slots[index.0];
        slot.node = None;
        let addr = slot.addr;
        if self.by_addr.get(&addr) == Some(&index) {
            self.by_addr.remove(&addr);
        }
    }

    /// Stops a node as SIGSTOP does: what arrives waits for it.
    pub fn pause(&mut self, index: NodeIndex) {
        self.slots[index.0].paused = true;
    }

    /// Continues a paused node: it is handed what waited for it first, and its timers then.
    pub fn resume(&mut self, index: NodeIndex) {
        self.slots[index.0].paused = false;
        for (from, mut payload) in std::mem::take(&mut self.slots[index.0].parked) {
            let now = self.now;
            if let Some(node) = self.slots[index.0].node.as_mut() {
                node.handle_datagram(now, from, &mut payload);
            }
        }
        self.wake(index);
        self.flush(index);
    }

    /// Lets the application of a node take messages, or stop taking them.
    pub fn set_reading(&mut self, index: NodeIndex, reading: bool) {
        self.slots[index.0].reading = reading;
        self.flush(index);
    }

    /// Cuts the way between two nodes, in both directions.
    pub fn cut(&mut self, a: NodeIndex, b: NodeIndex) {
        let (a, b) = (self.addr(a), self.addr(b));
        self.cut.extend([(a, b), (b, a)]);
    }

    /// Cuts the way from one node to another, and leaves the way back open.
    pub fn cut_one_way(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cut.insert((self.addr(from), self.addr(to)));
    }

    /// Lets a node go on at another address, as a translator of addresses does that has forgotten it: its own
    /// datagrams come from there now, and what is sent to the old address is lost.
    pub fn rebind(&mut self, index: NodeIndex, addr: SocketAddr) {
        let old = std::mem::replace(&mut self.slots[index.0].addr, addr);
        if self.by_addr.get(&old) == Some(&index) {
            self.by_addr.remove(&old);
        }
        self.by_addr.insert(addr, index);
    }

    /// Records the last `count` datagrams that arrive from now on.
    pub fn capture(&mut self, count: usize) {
        self.capture = count;
        while self.captured.len() > count {
            self.captured.pop_front();
        }
    }

    /// Returns what was recorded, oldest first.
    pub const fn captured(&self) -> &VecDeque<Captured> {
        &self.captured
    }

    /// Cuts every way between the nodes of one group and those of the other.
    pub fn partition(&mut self, left: &[NodeIndex], right: &[NodeIndex]) {
        for &a in left {
            for &b in right {
                self.cut(a, b);
            }
        }
    }

    /// Opens every way again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Returns the time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Returns the address of a node.
    pub fn addr(&self, index: NodeIndex) -> SocketAddr {
        self.slots[index.0].addr
    }

    /// Returns the id of a node, also of one that has crashed.
    pub fn id(&self, index: NodeIndex) -> NodeId {
        self.slots[index.0].id
    }

    /// Returns a node.
    ///
    /// # Panics
    /// If it has crashed.
    pub fn node(&self, index: NodeIndex) -> &Node {
        self.slots[index.0]
            .node
            .as_ref()
            .expect("the node has not crashed")
    }

    /// Returns whether a node has not crashed.
    pub fn is_running(&self, index: NodeIndex) -> bool {
        self.slots[index.0].node.is_some()
    }

    /// Returns how often a node was woken by its timer.
    pub fn wakes(&self, index: NodeIndex) -> u64 {
        self.slots[index.0].wakes
    }

    /// Gives a command to a node, and sends what it wants sent.
    ///
    /// # Panics
    /// If the node has crashed.
    pub fn command<T>(&mut self, index: NodeIndex, command: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let now = self.now;
        let node = self.slots[index.0]
            .node
            .as_mut()
            .expect("the node has not crashed");
        let result = command(node, now);
        self.flush(index);
        result
    }

    /// Hands a datagram to a node as if it had come from `from`, at once.
    pub fn inject(&mut self, index: NodeIndex, from: SocketAddr, mut payload: Vec<u8>) {
        self.deliver(index, from, &mut payload);
    }

    /// Returns the events of a node so far, with their times.
    pub fn events(&self, index: NodeIndex) -> &[(Instant, Event)] {
        &self.slots[index.0].events
    }

    /// Returns the messages that a node's application has taken so far, with their times.
    pub fn messages(&self, index: NodeIndex) -> &[(Instant, Message)] {
        &self.slots[index.0].messages
    }

    /// Returns how many nodes were ever started.
    pub fn node_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many datagrams were delivered and timers fired.
    pub const fn handled(&self) -> u64 {
        self.handled
    }

    /// Returns a hash over every transmit and event of the run so far.
    pub const fn trace_hash(&self) -> u64 {
        self.trace.value()
    }

    /// Runs for this long.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// Runs until the condition holds, for at most this long; returns whether it did.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    /// Does the next thing that happens, if it happens before `end`; otherwise time moves to `end`, and false is
    /// returned. A datagram comes before a timer of the same instant.
    pub fn step(&mut self, end: Instant) -> bool {
        let datagram = self.network.next_at().unwrap_or(Instant::FAR_FUTURE);
        let timer = self
            .timers
            .peek()
            .map_or(Instant::FAR_FUTURE, |Reverse((at, _))| *at);
        let next = datagram.min(timer);
        if next > end {
            self.now = end;
            return false;
        }
        self.now = self.now.max(next);
        if datagram <= timer {
            if let Some(mut flying) = self.network.take() {
                if let Some(&index) = self.by_addr.get(&flying.to) {
                    self.record(&flying);
                    self.deliver(index, flying.from, &mut flying.payload);
                }
                self.network.recycle(flying.payload);
            }
        } else if let Some(Reverse((at, index))) = self.timers.pop()
            && self.slots[index.0].armed == Some(at)
        {
            self.slots[index.0].armed = None;
            // What it waited for may have been put off meanwhile.
            let due = self.slots[index.0].node.as_ref().and_then(Node::poll_timeout);
            if due.is_some_and(|due| due <= self.now) {
                self.wake(index);
                self.flush(index);
            } else {
                self.rearm(index);
            }
        }
        true
    }

    fn record(&mut self, datagram: &InFlight) {
        if self.capture == 0 {
            return;
        }
        if self.captured.len() == self.capture {
            self.captured.pop_front();
        }
        self.captured.push_back(Captured {
            from: datagram.from,
            to: datagram.to,
            payload: datagram.payload.clone(),
        });
    }

    fn wake(&mut self, index: NodeIndex) {
        let now = self.now;
        let slot = &mut self.slots[index.0];
        if slot.paused {
            return;
        }
        if let Some(node) = slot.node.as_mut() {
            node.handle_timeout(now);
            slot.wakes += 1;
            self.handled += 1;
        }
    }

    fn deliver(&mut self, index: NodeIndex, from: SocketAddr, payload: &mut [u8]) {
        let now = self.now;
        let slot = &mut self.slots[index.0];
        if slot.paused {
            // A socket's buffer is bounded too.
            if slot.parked.len() < 1024 {
                slot.parked.push((from, payload.to_vec()));
            }
            return;
        }
        if let Some(node) = slot.node.as_mut() {
            node.handle_datagram(now, from, payload);
            self.handled += 1;
            self.flush(index);
        }
    }

    /// Takes everything that a node wants done.
    fn flush(&mut self, index: NodeIndex) {
        let mut buf = std::mem::take(&mut self.buf);
        let now = self.now;
        loop {
            let slot = &mut self.slots[index.0];
            let Some(node) = slot.node.as_mut().filter(|_| !slot.paused) else {
                break;
            };
            while let Some(event) = node.poll_event() {
                self.trace.bytes(format!("{event:?}").as_bytes());
                slot.events.push((now, event));
            }
            while slot.reading
                && let Some(message) = node.poll_message(now)
            {
                self.trace.bytes(&message.payload);
                slot.messages.push((now, message));
            }
            while let Some(request) = node.poll_resolve() {
                let addrs = self.dns.get(&request.host).cloned().unwrap_or_default();
                node.handle_resolved(now, request.id, &addrs);
            }
            let Some(transmit) = node.poll_transmit(now, &mut buf) else {
                break;
            };
            let from = slot.addr;
            self.trace.number(now.as_nanos());
            self.trace.bytes(&buf);
            self.send(from, transmit.to, &buf);
        }
        self.buf = buf;
        self.rearm(index);
    }

    fn rearm(&mut self, index: NodeIndex) {
        let slot = &mut self.slots[index.0];
        // A paused node's timers wait with it; `resume` arms them again.
        let running = slot.node.as_ref().filter(|_| !slot.paused);
        let Some(at) = running.and_then(Node::poll_timeout) else {
            return;
        };
        let at = at.max(self.now);
        if slot.armed.is_none_or(|armed| at < armed) {
            slot.armed = Some(at);
            self.timers.push(Reverse((at, index)));
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        if self.cut.contains(&(from, to)) || self.draw_permille(self.link.loss_permille) {
            return;
        }
        let at = self.now + self.draw_delay();
        self.network.send(at, from, to, payload);
        if self.draw_permille(self.link.duplicate_permille) {
            let at = self.now + self.draw_delay();
            self.network.send(at, from, to, payload);
        }
    }

    fn draw_permille(&mut self, permille: u16) -> bool {
        permille > 0 && self.chance.next_u32() % 1000 < u32::from(permille)
    }

    fn draw_delay(&mut self) -> Duration {
        let Link {
            min_delay, max_delay, ..
        } = self.link;
        let spread = max_delay.saturating_sub(min_delay).as_nanos() as u64;
        min_delay + Duration::from_nanos(self.chance.next_u64() % (spread + 1))
    }

    /// Tells a node that a datagram could not be sent.
    pub fn fail_send(&mut self, index: NodeIndex, to: SocketAddr, failure: SendFailure) {
        self.command(index, |node, now| node.handle_send_error(now, to, failure));
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("nodes", &self.slots.len())
            .finish_non_exhaustive()
    }
}
