//! Random traffic over a bad network between nodes that come and go, and what must hold of it whatever happens.

use bytes::Bytes;
use quorate_core::{
    Config, DeliveryError, DropReason, Event, Message, NodeId, ReplyTo, RequestId, SendId, Target,
};
use quorate_sim::{Duration, Instant, Link, NodeIndex, Sim, config};
use std::collections::{BTreeMap, BTreeSet};

/// How late an outcome may come. Timers fire on time in the simulator.
const SLACK: Duration = Duration::from_millis(10);
/// What a node may send and be woken in a second of quiet.
const QUIET: u64 = 400;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The generator of what happens, apart from the world's own.
struct Dice(u64);

impl Dice {
    /// SplitMix64.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.index(from.len())])
    }

    /// Mostly small, seldom as large as a message may be, and often at an edge of the chunks.
    fn size(&mut self) -> usize {
        let spread = match self.below(200) {
            0..=149 => 300,
            150..=184 => 3000,
            185..=196 => 30_000,
            197..=198 => 100_000,
            _ => return (1 << 20) - self.index(2),
        };
        if self.one_in(8) {
            1100 * (1 + self.index(3)) + self.index(3) - 1
        } else {
            HEADER + self.index(spread)
        }
    }
}

/// A payload says who sent it to whom under which number; the rest is derived from that.
const HEADER: usize = 17;

/// The ways of sending. Order holds within each: a broadcast may have to wait for a quorum.
const DIRECT: u8 = 0;
const TO_ALL: u8 = 1;
const REPLY: u8 = 2;

fn payload(way: u8, number: u64, size: usize) -> Bytes {
    let mut bytes = vec![way];
    bytes.extend(number.to_be_bytes());
    bytes.extend((size as u64).to_be_bytes());
    bytes.extend((HEADER..size).map(|i| (number as usize * 31 + i / 7) as u8));
    bytes.into()
}

/// Returns the way and the number, after a look at every byte.
fn parse(bytes: &Bytes) -> (u8, u64) {
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let (way, number) = (bytes[0], word(1));
    let size = usize::try_from(word(9)).unwrap();
    assert!(*bytes == payload(way, number, size), "a payload was altered");
    (way, number)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Op {
    Send(SendId),
    Request(RequestId),
}

#[derive(Debug)]
struct Pending {
    number: u64,
    /// `None`: all.
    to: Option<NodeId>,
    deadline: Instant,
    heard: BTreeSet<Option<NodeId>>,
    cancelled: bool,
    finished: bool,
}

/// A request that an application means to answer later.
struct Promise {
    at: Instant,
    node: NodeIndex,
    to: ReplyTo,
    number: u64,
}

#[derive(Default)]
struct Ledger {
    ops: BTreeMap<Op, Pending>,
    events_seen: usize,
    messages_seen: usize,
    /// The last number of each sender, by way.
    last: BTreeMap<(NodeId, u8), u64>,
    /// What was received: the sender and its number.
    received: BTreeSet<(NodeId, u64)>,
    /// What was said to be delivered: to whom, and the number.
    delivered: Vec<(NodeId, u64)>,
    /// What ended with `OutcomeUnknown`.
    unknown: BTreeSet<(NodeId, u64)>,
    /// No outcome is expected before it was continued.
    resumed: Instant,
    paused: bool,
    gone: bool,
    reading: bool,
}

struct Traffic {
    seed: u64,
    world: Sim,
    dice: Dice,
    ledgers: Vec<Ledger>,
    config: Config,
    promises: Vec<Promise>,
    /// Requests, by caller and number, that an application has answered, and by whom.
    answered: BTreeSet<(NodeId, u64, NodeId)>,
    next: u64,
    outcomes: BTreeMap<String, u64>,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut config = config().local();
        if dice.one_in(2) {
            config = config.cluster_size(3);
        }
        if dice.one_in(3) {
            config = config
                .message_queue_size(1 + dice.index(8))
                .window_messages(1 + dice.index(8))
                .send_queue_size(1 + dice.index(30));
        }
        if dice.one_in(3) {
            config = config.message_timeout(ms(200 + dice.below(3000)));
        }
        let mut traffic = Self {
            seed,
            world: Sim::new(seed),
            dice,
            ledgers: Vec::new(),
            config,
            promises: Vec::new(),
            answered: BTreeSet::new(),
            next: 1,
            outcomes: BTreeMap::new(),
        };
        for _ in 0..3 + traffic.dice.below(2) {
            traffic.start();
        }
        traffic
    }

    fn start(&mut self) {
        let mut config = self.config.clone();
        // One in four takes less than the others send.
        if self.dice.one_in(4) {
            config = config.max_message_size(1000 + self.dice.index(60_000));
        }
        for index in 0..self.ledgers.len() {
            config = config.seed(self.world.addr(NodeIndex(index)).to_string());
        }
        self.world.start(config);
        self.ledgers.push(Ledger {
            reading: true,
            ..Ledger::default()
        });
    }

    fn alive(&self) -> Vec<NodeIndex> {
        let awake = |ledger: &Ledger| !ledger.gone && !ledger.paused;
        (0..self.ledgers.len())
            .filter(|&index| awake(&self.ledgers[index]))
            .map(NodeIndex)
            .collect()
    }

    fn run(&mut self) {
        let end = self.world.now() + ms(20_000);
        while self.world.now() < end {
            let pause = if self.dice.one_in(20) { 1500 } else { 60 };
            let until = self.world.now() + ms(self.dice.below(pause));
            self.advance(until);
            self.act();
        }
        self.calm();
    }

    /// Runs, and looks at everything as it happens.
    fn advance(&mut self, until: Instant) {
        let (from, start) = (self.world.now(), self.world.handled());
        while self.world.step(until) {
            self.look();
        }
        self.look();
        let spent = self.world.handled() - start;
        let bound = 20_000 + 300_000 * (until - from).as_millis() as u64 / 1000 * self.ledgers.len() as u64;
        assert!(
            spent < bound,
            "seed {}: {spent} steps in {:?}",
            self.seed,
            until - from
        );
    }

    fn act(&mut self) {
        let alive = self.alive();
        let Some(node) = self.dice.pick(&alive) else {
            return self.start();
        };
        match self.dice.below(100) {
            0..=34 => self.send(node, false),
            35..=64 => self.send(node, true),
            65..=74 => (0..self.dice.below(40)).for_each(|_| self.send(node, self.next.is_multiple_of(2))),
            75..=79 => self.cancel(node),
            80..=84 => {
                let ledger = &mut self.ledgers[node.0];
                ledger.reading = !ledger.reading;
                self.world.set_reading(node, ledger.reading);
            }
            85..=88 => {
                let spread = ms(self.dice.below(30));
                let link = Link::default()
                    .loss(u16::try_from(self.dice.below(4) * 100).unwrap())
                    .duplicates(u16::try_from(self.dice.below(3) * 100).unwrap())
                    .delay(Duration::from_micros(100), Duration::from_micros(100) + spread);
                self.world.set_link(link);
            }
            89..=91 => {
                let other = self.dice.pick(&alive).unwrap();
                self.world.cut(node, other);
            }
            92..=94 => self.world.heal(),
            95 if alive.len() > 2 => {
                self.world.crash(node);
                self.ledgers[node.0].gone = true;
            }
            96 if alive.len() > 2 => {
                self.world.with(node, |node| node.leave());
                self.ledgers[node.0].gone = true;
            }
            97 if self.ledgers.len() < 8 => self.start(),
            98 if alive.len() > 2 => {
                self.world.pause(node);
                self.ledgers[node.0].paused = true;
            }
            _ => self.resume(),
        }
        self.look();
    }

    fn resume(&mut self) {
        for index in 0..self.ledgers.len() {
            if self.ledgers[index].paused {
                self.ledgers[index].paused = false;
                self.ledgers[index].resumed = self.world.now();
                self.world.resume(NodeIndex(index));
            }
        }
    }

    fn send(&mut self, node: NodeIndex, request: bool) {
        let members: Vec<NodeId> = self
            .world
            .node_of(node)
            .members()
            .map(|member| member.id)
            .collect();
        let to = if self.dice.one_in(4) {
            None
        } else {
            self.dice.pick(&members)
        };
        let target = to.map_or(Target::All, Target::Node);
        let way = if to.is_none() { TO_ALL } else { DIRECT };
        let max = self.world.node_of(node).config().max_message_size;
        let bytes = payload(way, self.next, self.dice.size().clamp(HEADER, max));
        let now = self.world.now();
        let timeout = self.dice.one_in(2).then(|| now + ms(5 + self.dice.below(6000)));
        let deadline = timeout.unwrap_or(now + self.config.message_timeout);
        let op = self.world.with(node, |node| {
            if request {
                node.request(target, bytes, timeout).map(Op::Request)
            } else {
                node.send(target, bytes, timeout).map(Op::Send)
            }
        });
        if let Ok(op) = op {
            let pending = Pending {
                number: self.next,
                to,
                deadline,
                heard: BTreeSet::new(),
                cancelled: false,
                finished: false,
            };
            self.ledgers[node.0].ops.insert(op, pending);
        }
        self.next += 1;
    }

    fn cancel(&mut self, node: NodeIndex) {
        self.look();
        let open: Vec<Op> = (self.ledgers[node.0].ops.iter())
            .filter(|(_, pending)| !pending.finished && !pending.cancelled)
            .map(|(&op, _)| op)
            .collect();
        let Some(op) = self.dice.pick(&open) else {
            return;
        };
        self.world.with(node, |node| match op {
            Op::Send(id) => node.cancel_send(id),
            Op::Request(id) => node.cancel_request(id),
        });
        self.ledgers[node.0].ops.get_mut(&op).unwrap().cancelled = true;
    }

    /// Checks what is new at every node.
    fn look(&mut self) {
        for index in 0..self.ledgers.len() {
            let node = NodeIndex(index);
            while let Some((at, event)) = self
                .world
                .events(node)
                .get(self.ledgers[index].events_seen)
                .cloned()
            {
                self.ledgers[index].events_seen += 1;
                self.on_event(node, at, event);
            }
            while let Some((_, message)) = self
                .world
                .messages(node)
                .get(self.ledgers[index].messages_seen)
                .cloned()
            {
                self.ledgers[index].messages_seen += 1;
                self.on_message(node, message);
            }
        }
        let now = self.world.now();
        while let Some(place) = self.promises.iter().position(|promise| promise.at <= now) {
            let promise = self.promises.swap_remove(place);
            self.keep(promise);
        }
    }

    fn on_event(&mut self, node: NodeIndex, at: Instant, event: Event) {
        let seed = self.seed;
        let (op, to, result) = match event {
            Event::SendDone { id, to, result } => (Op::Send(id), to, result.map(|()| None)),
            Event::Reply { id, from, payload } => (Op::Request(id), Some(from), Ok(Some(payload))),
            Event::RequestFailed { id, to, error } => (Op::Request(id), to, Err(error)),
            Event::SendFinished(id) => return self.on_finished(node, at, Op::Send(id)),
            Event::RequestDone(id) => return self.on_finished(node, at, Op::Request(id)),
            _ => return,
        };
        let me = self.world.id(node);
        let ledger = &mut self.ledgers[node.0];
        let pending = ledger
            .ops
            .get_mut(&op)
            .unwrap_or_else(|| panic!("seed {seed}: {op:?} is nobody's"));
        assert!(
            !pending.cancelled && !pending.finished,
            "seed {seed}: an outcome too late"
        );
        assert!(pending.heard.insert(to), "seed {seed}: two outcomes at {to:?}");
        let name = match &result {
            Ok(_) => "Ok".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        *self.outcomes.entry(name).or_default() += 1;
        if let Some(only) = pending.to {
            assert_eq!(to, Some(only), "seed {seed}");
        }
        match (to, result) {
            (None, result) => {
                let nobody = matches!(result, Err(DeliveryError::NoQuorum | DeliveryError::Leaving));
                assert!(
                    nobody && pending.to.is_none(),
                    "seed {seed}: {result:?} of nobody"
                );
            }
            (Some(to), Ok(None)) => ledger.delivered.push((to, pending.number)),
            (Some(from), Ok(Some(reply))) => {
                assert_eq!(
                    parse(&reply),
                    (REPLY, pending.number),
                    "seed {seed}: another's reply"
                );
                assert!(
                    self.answered.contains(&(me, pending.number, from)),
                    "seed {seed}: who replied?"
                );
            }
            (Some(to), Err(DeliveryError::OutcomeUnknown)) => {
                ledger.unknown.insert((to, pending.number));
            }
            (Some(_), Err(_)) => {}
        }
    }

    fn on_finished(&mut self, node: NodeIndex, at: Instant, op: Op) {
        let seed = self.seed;
        let ledger = &mut self.ledgers[node.0];
        // A command that ends at once is reported before its caller has its name.
        let Some(pending) = ledger.ops.get_mut(&op) else {
            panic!("seed {seed}: {op:?} is nobody's");
        };
        assert!(
            !pending.cancelled && !pending.finished,
            "seed {seed}: finished twice"
        );
        pending.finished = true;
        let due = pending.deadline.max(ledger.resumed) + SLACK;
        assert!(at <= due, "seed {seed}: {op:?} ended {:?} late", at - due);
        if let Some(only) = pending.to {
            assert!(
                pending.heard.contains(&Some(only)),
                "seed {seed}: {op:?} ended without an outcome"
            );
        }
    }

    fn on_message(&mut self, node: NodeIndex, message: Message) {
        let seed = self.seed;
        let (way, number) = parse(&message.payload);
        let ledger = &mut self.ledgers[node.0];
        let last = ledger.last.insert((message.from, way), number);
        assert!(
            last.is_none_or(|last| last < number),
            "seed {seed}: {number} of {} after {last:?} at {node:?}",
            message.from
        );
        ledger.received.insert((message.from, number));
        if let Some(to) = message.reply_to {
            let wait = match self.dice.below(8) {
                0 => return,
                1 => 500 + self.dice.below(4000),
                2..=4 => self.dice.below(50),
                _ => 0,
            };
            let at = self.world.now() + ms(wait);
            self.answered.insert((message.from, number, self.world.id(node)));
            self.promises.push(Promise { at, node, to, number });
            if self.dice.one_in(10) {
                // And a second time, which must not be heard of.
                let at = at + ms(self.dice.below(20));
                self.promises.push(Promise { at, node, to, number });
            }
        }
    }

    fn keep(&mut self, promise: Promise) {
        let ledger = &self.ledgers[promise.node.0];
        if ledger.gone {
            return;
        }
        if ledger.paused {
            let at = self.world.now() + ms(100);
            return self.promises.push(Promise { at, ..promise });
        }
        let max = self.world.node_of(promise.node).config().max_message_size;
        let bytes = payload(REPLY, promise.number, self.dice.size().clamp(HEADER, max));
        if self.dice.one_in(20) {
            let huge = Bytes::from(vec![0; max + 1]);
            let refused = self.world.with(promise.node, |node| node.reply(promise.to, huge));
            assert!(refused.is_err());
        }
        let _ = self
            .world
            .with(promise.node, |node| node.reply(promise.to, bytes));
    }

    /// The network is well again and everybody reads: what must hold then.
    fn calm(&mut self) {
        let seed = self.seed;
        self.world.heal();
        self.world.set_link(Link::default());
        self.resume();
        for node in self.alive() {
            self.ledgers[node.0].reading = true;
            self.world.set_reading(node, true);
        }
        self.advance(self.world.now() + ms(15_000));
        let alive = self.alive();
        // Healing dials one lost member at a time.
        for _ in 0..60 {
            if (alive.iter()).all(|&node| self.world.node_of(node).members().count() == alive.len() - 1) {
                break;
            }
            self.advance(self.world.now() + ms(1000));
        }
        for &node in &alive {
            let open = self.ledgers[node.0]
                .ops
                .values()
                .find(|op| !op.finished && !op.cancelled);
            assert!(open.is_none(), "seed {seed}: {open:?} never ended");
            assert_eq!(
                self.world.node_of(node).members().count(),
                alive.len() - 1,
                "seed {seed}: {node:?}"
            );
        }
        self.check_deliveries(&alive);
        self.check_quiet(&alive);
        // The first message may find that the peer has forgotten the channel, while this side never knew it was away.
        self.check_fresh(&alive, true);
        self.check_fresh(&alive, false);
    }

    /// What was reported as delivered was received, if both are still there.
    fn check_deliveries(&self, alive: &[NodeIndex]) {
        for &to in alive {
            if self
                .world
                .node_of(to)
                .stats()
                .dropped(DropReason::OrphanedMessage)
                > 0
            {
                continue;
            }
            let received = &self.ledgers[to.0].received;
            for &from in alive {
                let (from_id, to_id) = (self.world.id(from), self.world.id(to));
                for &(id, number) in &self.ledgers[from.0].delivered {
                    let here = id != to_id || received.contains(&(from_id, number));
                    assert!(
                        here,
                        "seed {}: {number} from {from:?} is not at {to:?}",
                        self.seed
                    );
                }
            }
        }
    }

    /// Nobody has anything to do.
    fn check_quiet(&mut self, alive: &[NodeIndex]) {
        let sent = |world: &Sim| -> Vec<u64> {
            alive
                .iter()
                .map(|&node| world.node_of(node).stats().datagrams_sent)
                .collect()
        };
        let (before, handled) = (sent(&self.world), self.world.handled());
        self.advance(self.world.now() + ms(1000));
        for (before, after) in before.into_iter().zip(sent(&self.world)) {
            assert!(
                after - before < QUIET,
                "seed {}: {} datagrams",
                self.seed,
                after - before
            );
        }
        let handled = self.world.handled() - handled;
        assert!(
            handled < QUIET * alive.len() as u64,
            "seed {}: {handled} steps",
            self.seed
        );
    }

    /// Every way is open.
    fn check_fresh(&mut self, alive: &[NodeIndex], may_fail: bool) {
        let mut expected = Vec::new();
        for &from in alive {
            for &to in alive {
                if from == to {
                    continue;
                }
                let (id, number, deadline) = (self.world.id(to), self.next, self.world.now() + ms(10_000));
                let bytes = payload(DIRECT, number, HEADER);
                let op = self
                    .world
                    .with(from, |node| node.send(Target::Node(id), bytes, Some(deadline)))
                    .unwrap();
                let pending = Pending {
                    number,
                    to: Some(id),
                    deadline,
                    heard: BTreeSet::new(),
                    cancelled: false,
                    finished: false,
                };
                self.ledgers[from.0].ops.insert(Op::Send(op), pending);
                self.next += 1;
                expected.push((from, to, number));
            }
        }
        self.advance(self.world.now() + ms(2000));
        for (from, to, number) in expected {
            let (from_id, to_id) = (self.world.id(from), self.world.id(to));
            let arrived = self.ledgers[to.0].received.contains(&(from_id, number));
            let told = self.ledgers[from.0].delivered.contains(&(to_id, number));
            let unknown = may_fail && self.ledgers[from.0].unknown.contains(&(to_id, number));
            assert!(
                (arrived && told) || unknown,
                "seed {}: {from:?} to {to:?} is stuck: arrived {arrived}, told {told}; {:?}; {:?}",
                self.seed,
                self.world.node_of(from).stats(),
                self.world.node_of(to).stats(),
            );
        }
    }
}

#[test]
fn random_traffic_keeps_every_promise() {
    let band = std::env::var("TRAFFIC_SEEDS").ok();
    let (first, last) = match band.as_deref().and_then(|band| band.split_once("..")) {
        Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
        None => (0, 12),
    };
    let mut outcomes = BTreeMap::<String, u64>::new();
    for seed in first..last {
        let mut traffic = Traffic::new(seed);
        traffic.run();
        for (name, count) in traffic.outcomes {
            *outcomes.entry(name).or_default() += count;
        }
    }
    println!("{outcomes:?}");
    assert!(outcomes["Ok"] > 100, "{outcomes:?}");
}
