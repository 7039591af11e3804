//! The simulator: it lets things happen one after the other, and tells the observers.

mod builder;
mod faults;
mod hands;
mod processes;
mod programs;
#[cfg(test)]
mod tests;

pub use builder::Builder;
pub use programs::block_on;

use crate::app::{App, Cx, Recorder, Said};
use crate::dns::Dns;
use crate::fault::Host;
use crate::network::{Chances, InFlight, Network, head};
use crate::observe::{Command, Datagram, Fate, Observer, Provenance, Seen, Violation};
use crate::program::{Hub, Program, Tasks};
use crate::schedule::Crypto;
use crate::trace::TraceHash;
use crate::world::{NodeIndex, World, host_of};
use faults::Agenda;
use quorate_core::journal::Entry;
use quorate_core::{Config, Duration, Event, Instant, Node, ResolveId, Stats};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::Hash as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// As many datagrams wait for a process as a socket's buffer has room for.
const SOCKET_BUFFER: usize = 1024;
/// So many of those are handed over before timers get a turn.
const BATCH: usize = 32;

/// The purposes for which randomness is drawn, each from a stream of its own.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Loss = 1,
    Delay,
    Duplicate,
    Corrupt,
    Replay,
    Dns,
    Start,
    Beside,
}

/// Streams of processes begin here: one for the node and one for the application of each start on each host.
const PROCESS_STREAMS: u64 = 1 << 32;

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// What the simulator keeps for a process, beyond what others may see.
struct Slot<A> {
    app: A,
    /// The tasks of a process that runs a program.
    tasks: Option<Tasks>,
    rng: ChaCha8Rng,
    /// When the application wants to be woken, on the host's clock.
    timer: Option<Instant>,
    /// What arrived while the process could not take it.
    parked: VecDeque<InFlight>,
    /// How many of those it was handed since its timers had a turn.
    batch: usize,
    /// Until when it is at work on the last input, and how long each one takes.
    busy_until: Instant,
    cost: Duration,
    /// Whether its application takes messages.
    reading: bool,
    /// Whether a fault keeps it from that.
    unread: bool,
    /// Stopped by [`Sim::pause`], whatever faults there are.
    held: bool,
    armed: Option<Instant>,
    wakes: u64,
    /// One bit for each datagram that the process was handed, by number.
    had: Vec<u64>,
}

impl<A> Slot<A> {
    /// Notes that the process was handed the datagram of this number; returns whether it was before.
    fn had_before(&mut self, number: u64) -> bool {
        let (word, bit) = (number / 64, number % 64);
        let word = usize::try_from(word).unwrap_or(usize::MAX);
        if self.had.len() <= word {
            self.had.resize(word + 1, 0);
        }
        let again = self.had[word] >> bit & 1 == 1;
        self.had[word] |= 1 << bit;
        again
    }

    const fn reads(&self) -> bool {
        self.reading && !self.unread
    }
}

/// A cluster of simulated hosts with a node and an application `A` on each, in virtual time.
///
/// A violation (a checker objects, or an application calls [`Cx::fail`]) panics, unless
/// [`Builder::collect_violations`] was asked for.
pub struct Sim<A: App = Recorder> {
    seed: u64,
    world: World,
    network: Network,
    dns: Dns,
    crypto: Crypto,
    slots: Vec<Slot<A>>,
    factory: Box<dyn FnMut(Host) -> A>,
    /// Gives a host the settings with which a process starts there.
    template: Box<dyn Fn(Host) -> Config>,
    configs: Vec<Config>,
    /// Wake-ups, earliest first; one that a process no longer wants is skipped.
    timers: BinaryHeap<Reverse<(Instant, NodeIndex)>>,
    agenda: Agenda,
    observers: Vec<Box<dyn Observer>>,
    violations: Vec<Violation>,
    collect: bool,
    covered: BTreeMap<&'static str, u64>,
    begun: BTreeMap<&'static str, u64>,
    trace: TraceHash,
    handled: u64,
    said: Said,
    buf: Vec<u8>,
    journal: Vec<Entry>,
    hub: Arc<Hub>,
    /// What runs on hosts that have no program of their own: an application if this is none.
    program: Option<Program>,
    programs: BTreeMap<Host, Program>,
    /// What runs beside all processes.
    beside: Option<Tasks>,
    /// Until when that is at work.
    beside_busy_until: Instant,
}

impl Sim<Recorder> {
    /// Creates an empty simulation, in which tests start what they need, with all checkers; everything random in it is
    /// drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::builder().seed(seed).build()
    }

    /// Returns a builder with the defaults of [`Builder`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the events of a process so far, with their true times.
    pub fn events(&self, index: NodeIndex) -> &[(Instant, Event)] {
        &self.app(index).events
    }

    /// Returns the messages that a process's application has taken so far, with their true times.
    pub fn messages(&self, index: NodeIndex) -> &[(Instant, quorate_core::Message)] {
        &self.app(index).messages
    }
}

impl<A: App> Sim<A> {
    /// Returns what is true.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Returns the true time.
    pub const fn now(&self) -> Instant {
        self.world.now
    }

    /// Returns how many datagrams were handed over and timers fired.
    pub const fn handled(&self) -> u64 {
        self.handled
    }

    /// Returns a hash over everything that was sent, told and delivered so far.
    pub const fn trace_hash(&self) -> u64 {
        self.trace.value()
    }

    /// Returns what went wrong so far, if violations are collected.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Returns how often applications said [`Cx::cover`], by name.
    pub const fn coverage(&self) -> &BTreeMap<&'static str, u64> {
        &self.covered
    }

    /// Returns the first observer of this type.
    pub fn observer<O: Observer>(&self) -> Option<&O> {
        self.observers
            .iter()
            .find_map(|observer| (&**observer as &dyn Any).downcast_ref())
    }

    /// Gives the observers back.
    pub fn into_observers(self) -> Vec<Box<dyn Observer>> {
        self.observers
    }

    /// Returns how many faults of each kind have begun.
    pub const fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.begun
    }

    /// Reports that something is wrong: a violation, found by somebody who looks from outside.
    ///
    /// # Panics
    /// Unless violations are collected.
    pub fn violate(&mut self, by: &'static str, what: String) {
        self.object(by, what);
    }

    /// Runs for this long in true time.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.world.now + duration;
        while self.step(end) {}
    }

    /// Runs until the condition holds, for at most this long in true time; returns whether it did.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.world.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    /// Lets the next thing happen, if it happens before `end` (true time) or then; otherwise time moves to `end`, and
    /// false is returned. With a collected violation nothing happens any more.
    ///
    /// At the same instant tasks come first that can go on, then faults, then datagrams, then timers.
    pub fn step(&mut self, end: Instant) -> bool {
        if !self.violations.is_empty() {
            return false;
        }
        if let Some(turn) = self.hub.pop() {
            self.take_turn(turn);
            return true;
        }
        let [agenda, beside, datagram, timer] = self.due();
        let next = datagram.min(timer).min(agenda).min(beside);
        if next > end {
            self.world.advance(end);
            return false;
        }
        self.world.advance(next);
        if agenda == next {
            self.do_next_on_agenda();
        } else if beside == next {
            self.attend_beside();
        } else if datagram == next {
            if let Some(flying) = self.network.take() {
                self.arrive(flying);
            }
        } else if let Some(Reverse((at, index))) = self.timers.pop()
            && self.slots[index.0].armed == Some(at)
        {
            self.slots[index.0].armed = None;
            self.attend(index);
        }
        true
    }

    /// Returns when the first things are due that are on the agenda, beside all processes, on the network, and wanted by
    /// processes.
    fn due(&self) -> [Instant; 4] {
        [
            self.agenda.next_at(),
            self.beside_due(),
            self.network.next_at().unwrap_or(Instant::FAR_FUTURE),
            self.timers
                .peek()
                .map_or(Instant::FAR_FUTURE, |Reverse((at, _))| *at),
        ]
    }

    /// Ends the check: asks every observer whether what is there now may be. Call it when everything had time to
    /// recover.
    pub fn finish(&mut self) {
        for i in 0..self.observers.len() {
            let observer = &mut self.observers[i];
            if let Err(what) = observer.finish(&self.world) {
                let by = observer.name();
                self.object(by, what);
            }
        }
    }

    pub(crate) fn see(&mut self, seen: &Seen<'_>) {
        for i in 0..self.observers.len() {
            let observer = &mut self.observers[i];
            if let Err(what) = observer.observe(&self.world, seen) {
                let by = observer.name();
                self.object(by, what);
            }
        }
    }

    /// # Panics
    /// Unless violations are collected.
    fn object(&mut self, by: &'static str, what: String) {
        let at = self.world.elapsed();
        let violation = Violation { what, by, at };
        assert!(self.collect, "seed {:#x}: {violation}", self.seed);
        self.violations.push(violation);
    }

    /// Hands a datagram to whom it is for, or lets it wait for him.
    fn arrive(&mut self, flying: InFlight) {
        let receiver = self.world.at(flying.datagram.to);
        let Some(index) = receiver.filter(|&index| self.world.process(index).ended.is_none()) else {
            return self.undelivered(flying);
        };
        if self.world.process(index).is_driven() {
            return self.put_into_socket(index, flying);
        }
        let slot = &mut self.slots[index.0];
        let waits = self.world.processes[index.0].paused.is_some()
            || self.world.now < slot.busy_until
            || !slot.parked.is_empty();
        if !waits {
            return self.deliver(index, flying);
        }
        if slot.parked.len() >= SOCKET_BUFFER {
            return self.undelivered(flying);
        }
        slot.parked.push_back(flying);
        self.rearm(index);
    }

    fn undelivered(&mut self, flying: InFlight) {
        self.see(&Seen::Undelivered {
            datagram: &flying.datagram,
        });
        self.network.recycle(flying.payload);
    }

    fn deliver(&mut self, index: NodeIndex, mut flying: InFlight) {
        let process = &mut self.world.processes[index.0];
        let host = process.host;
        let Some(node) = process.node_mut() else {
            return;
        };
        let local = self.world.machines[host.0].clock.read(self.world.now);
        let before = opened(node.stats());
        node.handle_datagram(local, flying.datagram.from, &mut flying.payload);
        let opened = opened(node.stats()) > before;
        self.was_handed(index, flying, opened);
        self.flush(index);
    }

    /// Tells that a process was handed a datagram, on which it is at work now.
    fn was_handed(&mut self, index: NodeIndex, flying: InFlight, opened: bool) {
        let slot = &mut self.slots[index.0];
        let again = slot.had_before(flying.datagram.number);
        slot.busy_until = self.world.now + slot.cost;
        self.handled += 1;
        self.see(&Seen::Arrived {
            node: index,
            datagram: &flying.datagram,
            again,
            opened,
        });
        self.network.recycle(flying.payload);
    }

    /// Gives a process its turn: what waits for it first, then its timers, as a driver does.
    fn attend(&mut self, index: NodeIndex) {
        if self.slots[index.0].tasks.is_some() {
            return self.attend_tasks(index);
        }
        loop {
            let process = &self.world.processes[index.0];
            let slot = &mut self.slots[index.0];
            if process.paused.is_some() || process.ended.is_some() || self.world.now < slot.busy_until {
                break;
            }
            let local = self.world.clock(process.host);
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= local);
            let node_due = due(process.node().and_then(Node::poll_timeout));
            let app_due = due(slot.timer);
            if (slot.batch < BATCH || !(node_due || app_due))
                && let Some(flying) = slot.parked.pop_front()
            {
                slot.batch += 1;
                self.deliver(index, flying);
            } else if node_due {
                slot.batch = 0;
                self.wake(index, local);
            } else if app_due {
                slot.timer = None;
                self.tell(index, App::timeout);
                self.flush(index);
            } else {
                break;
            }
        }
        self.rearm(index);
    }

    fn wake(&mut self, index: NodeIndex, local: Instant) {
        let slot = &mut self.slots[index.0];
        let Some(node) = self.world.processes[index.0].node_mut() else {
            return;
        };
        let late = node
            .poll_timeout()
            .map_or(Duration::ZERO, |due| local.saturating_since(due));
        node.handle_timeout(local);
        slot.busy_until = self.world.now + slot.cost;
        slot.wakes += 1;
        self.handled += 1;
        self.see(&Seen::Woke { node: index, late });
        self.flush(index);
    }

    /// Calls the application of a process, and reports what it did.
    fn tell<T>(&mut self, index: NodeIndex, call: impl FnOnce(&mut A, &mut Cx<'_>) -> T) -> Option<T> {
        let slot = &mut self.slots[index.0];
        let process = &mut self.world.processes[index.0];
        let now = self.world.machines[process.host.0].clock.read(self.world.now);
        let node = process.node_mut()?;
        let result = call(
            &mut slot.app,
            &mut Cx {
                node,
                now,
                true_time: self.world.now,
                timer: &mut slot.timer,
                rng: &mut slot.rng,
                said: &mut self.said,
            },
        );
        self.report_journal(index);
        if !self.said.is_empty() {
            self.report();
        }
        Some(result)
    }

    /// Shows what passed the face of a node since this was done last; returns whether anything did.
    fn report_journal(&mut self, index: NodeIndex) -> bool {
        let node = self.world.processes[index.0].node_mut();
        let Some(node) = node.filter(|node| node.has_journal()) else {
            return false;
        };
        let mut journal = std::mem::take(&mut self.journal);
        node.take_journal(&mut journal);
        for entry in journal.drain(..) {
            self.report_entry(index, &entry);
        }
        self.journal = journal;
        true
    }

    fn report_entry(&mut self, node: NodeIndex, entry: &Entry) {
        match entry {
            Entry::Command(command) => {
                if *command == Command::Leave {
                    let now = self.world.now;
                    self.world.processes[node.0].leaving.get_or_insert(now);
                }
                self.see(&Seen::Command { node, command });
            }
            &Entry::Woke(late) => {
                let slot = &mut self.slots[node.0];
                slot.busy_until = self.world.now + slot.cost;
                slot.wakes += 1;
                self.handled += 1;
                self.see(&Seen::Woke { node, late });
            }
            Entry::Event(event) => {
                self.trace.number(node.0 as u64);
                event.hash(&mut self.trace);
                self.see(&Seen::Event { node, event });
            }
            Entry::Message(message) => {
                self.trace.bytes(&message.payload);
                self.see(&Seen::Message { node, message });
            }
        }
    }

    fn report(&mut self) {
        let said = std::mem::take(&mut self.said);
        for name in said.covered {
            *self.covered.entry(name).or_default() += 1;
        }
        if let Some(what) = said.failure {
            self.object("app", what);
        }
    }

    /// Does everything that a node wants done.
    fn flush(&mut self, index: NodeIndex) {
        if self.world.process(index).is_driven() {
            return self.wake_driver(index);
        }
        let mut buf = std::mem::take(&mut self.buf);
        while self.flush_one(index, &mut buf) {}
        self.buf = buf;
        self.see(&Seen::Settled { node: index });
        self.rearm(index);
    }

    /// Does one thing that a node wants done; returns whether there may be more.
    fn flush_one(&mut self, index: NodeIndex, buf: &mut Vec<u8>) -> bool {
        let process = &mut self.world.processes[index.0];
        if process.paused.is_some() {
            return false;
        }
        let host = process.host;
        let local = self.world.machines[host.0].clock.read(self.world.now);
        let Some(node) = process.node_mut() else {
            return false;
        };
        if let Some(event) = node.poll_event() {
            self.trace.number(index.0 as u64);
            event.hash(&mut self.trace);
            self.see(&Seen::Event {
                node: index,
                event: &event,
            });
            if event == Event::LeaveDone {
                self.end(index);
            }
            self.tell(index, |app, cx| app.event(cx, event));
            return true;
        }
        if self.slots[index.0].reads()
            && let Some(message) = node.poll_message(local)
        {
            self.trace.bytes(&message.payload);
            self.see(&Seen::Message {
                node: index,
                message: &message,
            });
            self.tell(index, |app, cx| app.message(cx, message));
            return true;
        }
        if let Some(request) = node.poll_resolve() {
            let (addrs, after) = self.dns.resolve(&request.host);
            if after.is_zero() {
                node.handle_resolved(local, request.id, &addrs);
            } else {
                self.agenda
                    .resolve(self.world.now + after, index, request.id, addrs);
            }
            return true;
        }
        let Some(transmit) = node.poll_transmit(local, buf) else {
            return false;
        };
        self.send(index, transmit.to, buf, false);
        true
    }

    fn send(&mut self, sender: NodeIndex, to: SocketAddr, payload: &[u8], lost: bool) {
        self.trace.number(self.world.now.as_nanos());
        self.trace.bytes(payload);
        let from = self.world.process(sender).addr;
        let datagram = Datagram {
            number: self.network.number(),
            sender: Some(sender),
            intended: self.world.at(to),
            from,
            to,
            len: payload.len(),
            head: head(payload),
            provenance: Provenance::Original,
        };
        let way = (Some(self.world.process(sender).host), self.host_at(to));
        if lost {
            self.network.fates.push((datagram, Fate::Lost));
        } else {
            self.network.send(self.world.now, way, datagram, payload);
        }
        self.tell_fates();
    }

    /// Returns the host of whoever is at an address, or that the address belongs to.
    fn host_at(&self, addr: SocketAddr) -> Option<Host> {
        let at = self.world.at(addr).map(|index| self.world.process(index).host);
        at.or_else(|| host_of(addr))
    }

    fn tell_fates(&mut self) {
        let mut fates = std::mem::take(&mut self.network.fates);
        for (datagram, fate) in fates.drain(..) {
            self.see(&Seen::Sent {
                datagram: &datagram,
                fate,
            });
        }
        self.network.fates = fates;
    }

    fn resolved(&mut self, index: NodeIndex, id: ResolveId, addrs: &[SocketAddr]) {
        let process = &mut self.world.processes[index.0];
        let local = self.world.machines[process.host.0].clock.read(self.world.now);
        if let Some(node) = process.node_mut() {
            node.handle_resolved(local, id, addrs);
            self.flush(index);
        }
    }

    fn rearm(&mut self, index: NodeIndex) {
        if self.slots[index.0].tasks.is_some() {
            return self.rearm_tasks(index);
        }
        let slot = &mut self.slots[index.0];
        let process = &self.world.processes[index.0];
        // A paused process's timers wait with it; they are armed again when it goes on.
        let runs = process.paused.is_none() && process.ended.is_none();
        let Some(node) = process.node().filter(|_| runs) else {
            return;
        };
        let wish = match (node.poll_timeout(), slot.timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let due = wish.and_then(|at| self.world.machines[process.host.0].clock.due(at));
        let at = match (due, slot.parked.is_empty()) {
            (_, false) => self.world.now,
            (Some(due), true) => due,
            (None, true) => return,
        };
        self.arm(index, at);
    }

    fn arm(&mut self, index: NodeIndex, at: Instant) {
        let slot = &mut self.slots[index.0];
        let at = at.max(self.world.now).max(slot.busy_until);
        if slot.armed.is_none_or(|armed| at < armed) {
            slot.armed = Some(at);
            self.timers.push(Reverse((at, index)));
        }
    }
}

fn opened(stats: &Stats) -> u64 {
    stats.datagrams_opened
}

impl Chances {
    fn new(seed: u64) -> Self {
        let of = |purpose: Purpose| stream(seed, purpose as u64);
        Self {
            loss: of(Purpose::Loss),
            delay: of(Purpose::Delay),
            duplicate: of(Purpose::Duplicate),
            corrupt: of(Purpose::Corrupt),
            replay: of(Purpose::Replay),
        }
    }
}

impl<A: App> std::fmt::Debug for Sim<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("seed", &self.seed)
            .field("world", &self.world)
            .finish_non_exhaustive()
    }
}
