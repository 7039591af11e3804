//! What really happened, as far as the rules of several checkers depend on it.

use super::slot;
use crate::fault::{FaultKind, Host};
use crate::observe::{Datagram, Fate, Provenance, Seen};
use crate::world::{NodeIndex, Process, World};
use quorate_core::{Duration, Event, Instant, LeaveReason, Role};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

/// The truth, shared by the checkers of one run.
pub(super) type Shared = Rc<RefCell<Truth>>;

/// Voters that exchange heartbeats with each other; the others are found by probing.
pub(super) const PARTNERS: usize = 24;
/// How late timers count as late, and how much later than that nothing else explains.
pub(super) const LATE: Duration = Duration::from_millis(100);
/// The second byte of a sealed datagram, and of the two last messages of a handshake.
pub(super) const SEALED: u8 = 5;
pub(super) const M1: u8 = 3;
pub(super) const M2: u8 = 4;
/// So many of the newest datagrams' times of sending are known.
const SENT_KEPT: usize = 1 << 16;
/// Returns after how long without an echo a process forgets everybody.
pub(super) fn isolation(process: &Process) -> Duration {
    process.config.tombstone_timeout / 4
}

/// After so many heartbeat intervals without a word somebody is silent. Within as many of a word both ways an echo is
/// back: the probe goes out within one, the echo rides on a heartbeat within another, and either is under way for less
/// than a fifth of the probe timeout, which is at most an interval.
const SILENCE: u32 = 3;

/// Later than everything that happens: what is wrong now, and has no end yet.
const NOT_OVER: Instant = Instant::FAR_FUTURE;

/// What one process believes of another, as its application was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub(super) present: bool,
    /// When it was listed last.
    pub(super) since: Instant,
    /// When it was taken off the list last.
    pub(super) until: Instant,
    pub(super) incarnation: u32,
    pub(super) voter: bool,
    /// Whether it said goodbye: it never comes back.
    pub(super) left: bool,
    /// Whether it went into quarantine, from which it may come back as it was.
    pub(super) set_aside: bool,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) voter: bool,
    pub(super) host: Host,
    pub(super) addr: SocketAddr,
    /// Whether it was ever reached elsewhere.
    pub(super) moved: bool,
    pub(super) interval: Duration,
    pub(super) probe: Duration,
    pub(super) timeout: Duration,
    pub(super) started: Instant,
    pub(super) paused: Option<Instant>,
    /// Until when anything kept it from working in time.
    trouble: Instant,
    /// The pause before the last one of those that make timers late: when trouble ended before, when it began, and when
    /// it ended.
    pub(super) late: Option<(Instant, Instant, Instant)>,
    pub(super) lists: BTreeMap<NodeIndex, Listed>,
    pub(super) voters_listed: usize,
    pub(super) listed: usize,
    pub(super) last_sent: Instant,
    /// When it was at rest last.
    rest: Instant,
    /// The datagram that it was handed last.
    pub(super) cause: Option<Datagram>,
}

/// What happens on the way from one process to another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    /// When a datagram was sent last.
    pub(super) sent: Instant,
    /// Until when datagrams did not arrive, or late, or altered.
    pub(super) lost: Instant,
    /// The same, or were of no use.
    pub(super) hole: Instant,
    /// When a sealed datagram was taken for authentic and new last.
    pub(super) opened: Instant,
    /// Since when that has happened without a silence.
    talks: Instant,
    /// When the first one after that was refused which arrived as it was sent.
    pub(super) refused: Option<Instant>,
    /// The newest of those.
    pub(super) newest: u64,
}

impl Way {
    fn lose(&mut self, until: Instant) {
        self.lost = self.lost.max(until);
        self.hole = self.hole.max(until);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Machine {
    /// Faults of its clock or of its speed that are going on.
    faults: usize,
    /// When the last one of those was over.
    trouble: Instant,
}

/// What really happened.
#[derive(Debug, Default)]
pub(super) struct Truth {
    nodes: Vec<Node>,
    ways: Vec<Vec<Way>>,
    hosts: Vec<Machine>,
    /// The hosts that a fault which is going on keeps from working.
    hindered: BTreeMap<usize, Host>,
    pub(super) faults: usize,
    /// When anything happened last that a cluster has to recover from.
    pub(super) unrest: Instant,
    /// In which incarnations processes were declared failed by anybody at first hand or hearsay.
    declared: BTreeMap<NodeIndex, u32>,
    /// Who was reached at an address, ever.
    owners: BTreeMap<SocketAddr, Vec<NodeIndex>>,
    sent: VecDeque<Instant>,
    first_sent: u64,
    /// By how much clocks jumped ahead in all, and the largest rate that any had, in millionths of the right one.
    jumped: Duration,
    fastest: u64,
    pub(super) observers: bool,
}

impl Truth {
    pub(super) fn observe(&mut self, world: &World, seen: &Seen<'_>) {
        let now = world.now();
        match *seen {
            Seen::Sent { datagram, fate } => self.on_sent(now, datagram, fate),
            Seen::Arrived {
                node,
                datagram,
                again,
                opened,
            } => self.on_arrived(now, node, datagram, again, opened),
            Seen::Undelivered { datagram } => {
                if let (Some(from), Some(to)) = (datagram.sender, datagram.intended) {
                    self.way_mut(from, to).lose(now);
                }
            }
            Seen::Woke { node, late } if late > LATE && self.lateness(now, node, late) > LATE => {
                let node = &mut self.nodes[node.0];
                node.trouble = node.trouble.max(now);
            }
            Seen::Settled { node } => self.nodes[node.0].rest = now,
            Seen::Event { node, event } => self.on_event(world, node, event),
            Seen::Started { node, .. } => self.on_started(world, node),
            Seen::Stopped { .. } => self.unrest = now,
            Seen::Paused { node } => {
                self.unrest = now;
                self.nodes[node.0].paused = Some(now);
            }
            Seen::Resumed { node } => self.on_resumed(now, node),
            Seen::FaultBegan { number, kind } => self.on_fault(world, number, kind),
            Seen::FaultEnded { number } => {
                self.unrest = now;
                self.faults = self.faults.saturating_sub(1);
                if let Some(host) = self.hindered.remove(&number) {
                    let machine = slot(&mut self.hosts, host.0);
                    machine.faults -= 1;
                    machine.trouble = now;
                }
            }
            Seen::Healed => self.unrest = now,
            _ => {}
        }
    }

    fn on_started(&mut self, world: &World, index: NodeIndex) {
        let now = world.now();
        let process = world.process(index);
        let config = &process.config;
        self.unrest = now;
        self.observers |= config.role == Role::Observer;
        self.owners.entry(process.addr).or_default().push(index);
        self.nodes.push(Node {
            voter: config.role == Role::Voter,
            host: process.host,
            addr: process.addr,
            moved: false,
            interval: config.heartbeat_interval,
            probe: config.probe_timeout,
            timeout: config.heartbeat_timeout,
            started: now,
            paused: None,
            trouble: Instant::ZERO,
            late: None,
            lists: BTreeMap::new(),
            voters_listed: 0,
            listed: 0,
            last_sent: now,
            rest: now,
            cause: None,
        });
        self.ways.push(Vec::new());
    }

    fn on_sent(&mut self, now: Instant, datagram: &Datagram, fate: Fate) {
        let first = matches!(datagram.provenance, Provenance::Original | Provenance::Altered);
        let Some(from) = datagram.sender.filter(|_| first) else {
            return;
        };
        // Numbers rise, with small gaps; copies of one share its number.
        let known = self.first_sent + self.sent.len() as u64;
        if self.sent.is_empty() || datagram.number > known + SENT_KEPT as u64 {
            self.sent.clear();
            self.first_sent = datagram.number;
        }
        while self.first_sent + (self.sent.len() as u64) <= datagram.number {
            self.sent.push_back(now);
        }
        while self.sent.len() > SENT_KEPT {
            self.sent.pop_front();
            self.first_sent += 1;
        }
        let sender = &mut self.nodes[from.0];
        sender.last_sent = now;
        if sender.addr != datagram.from {
            sender.addr = datagram.from;
            sender.moved = true;
            self.unrest = now;
            let owners = self.owners.entry(datagram.from).or_default();
            if !owners.contains(&from) {
                owners.push(from);
            }
        }
        // Late enough to make a probe of a helper fail.
        let slow = self.nodes[from.0].probe / 5;
        let hole = match fate {
            Fate::Arrives(at) if at.saturating_since(now) > slow => at,
            Fate::Arrives(_) if datagram.provenance == Provenance::Altered => now,
            Fate::Arrives(_) => Instant::ZERO,
            Fate::Waits | Fate::Lost | Fate::Cut | Fate::TooLong => now,
        };
        if hole > Instant::ZERO {
            self.unrest = self.unrest.max(hole);
        }
        if let Some(to) = datagram.intended {
            let way = self.way_mut(from, to);
            way.sent = now;
            way.lose(hole);
        }
    }

    fn on_arrived(&mut self, now: Instant, node: NodeIndex, datagram: &Datagram, again: bool, opened: bool) {
        self.nodes[node.0].cause = Some(*datagram);
        let Some(from) = datagram.sender else {
            return;
        };
        if opened {
            let silence = self.nodes[from.0].interval * SILENCE;
            let way = self.way_mut(from, node);
            if way.opened == Instant::ZERO || now.saturating_since(way.opened) > silence {
                way.talks = now;
            }
            way.opened = now;
            way.refused = None;
            way.newest = way.newest.max(datagram.number);
        } else if datagram.head[1] == SEALED && !again && datagram.provenance == Provenance::Original {
            let way = self.way_mut(from, node);
            way.hole = now;
            way.refused.get_or_insert(now);
        }
    }

    fn on_resumed(&mut self, now: Instant, node: NodeIndex) {
        self.unrest = now;
        let host = slot(&mut self.hosts, self.nodes[node.0].host.0);
        let (hindered, trouble) = (host.faults > 0, host.trouble);
        let node = &mut self.nodes[node.0];
        let Some(since) = node.paused.take() else {
            return;
        };
        let before = if hindered {
            since
        } else {
            node.trouble.max(trouble)
        };
        node.late = Some((before.max(node.started), since, now));
        node.trouble = now;
    }

    fn on_fault(&mut self, world: &World, number: usize, kind: FaultKind) {
        self.unrest = world.now();
        self.faults += 1;
        let host = match kind {
            FaultKind::Jump { host, by } => {
                self.jumped += by;
                host
            }
            FaultKind::Drift { host, ppm } => {
                let rate = u64::try_from(1_000_000 + i64::from(ppm)).unwrap_or(0);
                self.fastest = self.fastest.max(rate);
                host
            }
            FaultKind::Freeze { host } | FaultKind::Slow { host, .. } | FaultKind::Rebind { host } => host,
            _ => return,
        };
        self.hindered.insert(number, host);
        let machine = slot(&mut self.hosts, host.0);
        machine.faults += 1;
        machine.trouble = world.now();
    }

    fn on_event(&mut self, world: &World, node: NodeIndex, event: &Event) {
        let now = world.now();
        let (member, present, reason) = match event {
            Event::MemberJoined(member) => (member, true, None),
            Event::MemberUpdated(member) => (member, true, None),
            Event::MemberLeft { member, reason } => (member, false, Some(*reason)),
            _ => return,
        };
        let Some(subject) = world.find(member.id) else {
            return;
        };
        let node = &mut self.nodes[node.0];
        let old = node.lists.get(&subject).copied();
        let was = old.is_some_and(|old| old.present);
        let voter = member.role == Role::Voter;
        let change = |count: &mut usize, counts: bool| match (was, present) {
            (false, true) if counts => *count += 1,
            (true, false) if counts => *count = count.saturating_sub(1),
            _ => {}
        };
        change(&mut node.voters_listed, voter);
        change(&mut node.listed, true);
        let since = match old {
            Some(old) if was || !present => old.since,
            _ => now,
        };
        let listed = Listed {
            present,
            since,
            until: if present {
                old.map_or(now, |old| old.until)
            } else {
                now
            },
            // Who forgot everybody may let somebody in again as he once was.
            incarnation: match old {
                Some(old) if was => member.incarnation.max(old.incarnation),
                _ => member.incarnation,
            },
            voter,
            left: reason == Some(LeaveReason::Left) || old.is_some_and(|old| old.left),
            set_aside: reason == Some(LeaveReason::Quarantined),
        };
        node.lists.insert(subject, listed);
        if reason == Some(LeaveReason::Failed) {
            let worst = self.declared.entry(subject).or_default();
            *worst = (*worst).max(member.incarnation + 1);
        }
    }

    pub(super) fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0]
    }

    pub(super) const fn count(&self) -> usize {
        self.nodes.len()
    }

    fn way_mut(&mut self, from: NodeIndex, to: NodeIndex) -> &mut Way {
        slot(&mut self.ways[from.0], to.0)
    }

    pub(super) fn way(&self, from: NodeIndex, to: NodeIndex) -> Way {
        self.ways[from.0].get(to.0).copied().unwrap_or_default()
    }

    /// Returns what one process believes of another.
    pub(super) fn listed(&self, node: NodeIndex, subject: NodeIndex) -> Option<&Listed> {
        self.nodes[node.0].lists.get(&subject)
    }

    /// Returns whether one lists the other now, and has since then.
    pub(super) fn lists_since(&self, node: NodeIndex, subject: NodeIndex, since: Instant) -> bool {
        self.listed(node, subject)
            .is_some_and(|listed| listed.present && listed.since <= since)
    }

    /// Returns who was ever reached at an address.
    pub(super) fn owners(&self, addr: SocketAddr) -> &[NodeIndex] {
        self.owners.get(&addr).map_or(&[], Vec::as_slice)
    }

    /// Returns at how many addresses anybody ever was.
    pub(super) fn addresses(&self) -> usize {
        self.owners.len()
    }

    /// Returns whether anybody declared a process failed in this incarnation or a higher one.
    pub(super) fn was_declared(&self, subject: NodeIndex, incarnation: u32) -> bool {
        self.declared
            .get(&subject)
            .is_some_and(|&worst| worst > incarnation)
    }

    /// Returns when a datagram was sent, if that is not too long ago.
    pub(super) fn sent_at(&self, number: u64) -> Option<Instant> {
        let at = usize::try_from(number.checked_sub(self.first_sent)?).ok()?;
        self.sent.get(at).copied()
    }

    /// Until when something kept a process from working in time: a pause, a slow machine, a clock that is wrong.
    pub(super) fn trouble(&self, node: NodeIndex) -> Instant {
        let node = &self.nodes[node.0];
        let machine = self.hosts.get(node.host.0).copied().unwrap_or_default();
        if node.paused.is_some() || machine.faults > 0 {
            return NOT_OVER;
        }
        node.trouble.max(machine.trouble)
    }

    /// Returns by how much a process was really woken too late: it may have set its timer to the past.
    pub(super) fn lateness(&self, now: Instant, node: NodeIndex, late: Duration) -> Duration {
        late.min(now.saturating_since(self.nodes[node.0].rest))
    }

    /// Returns whether a process has run undisturbed since then.
    pub(super) fn well_since(&self, node: NodeIndex, since: Instant) -> bool {
        self.nodes[node.0].started <= since && self.trouble(node) < since
    }

    /// Returns whether everything that two processes sent each other since then arrived in time and was of use, that
    /// they did write to each other, for long enough that one would have an answer, and that both were well.
    pub(super) fn clear_since(&self, world: &World, a: NodeIndex, b: NodeIndex, since: Instant) -> bool {
        let runs = |process: &Process| process.is_live() && process.member;
        let now = world.now();
        let spoke = |from: NodeIndex, to: NodeIndex| {
            let (way, silence) = (self.way(from, to), self.node(from).interval * SILENCE);
            way.hole < since
                && now.saturating_since(way.opened) <= silence
                && now.saturating_since(way.talks) >= silence
        };
        runs(world.process(a))
            && runs(world.process(b))
            && self.well_since(a, since)
            && self.well_since(b, since)
            && spoke(a, b)
            && spoke(b, a)
    }

    /// Returns whether one who leaves and another one that knows it heard each other all the time since it was told to.
    pub(super) fn heard_goodbye(
        &self,
        world: &World,
        leaver: NodeIndex,
        other: NodeIndex,
        since: Instant,
    ) -> bool {
        let (there, way) = (world.process(other), self.way(leaver, other));
        there.is_live()
            && there.member
            && self.well_since(other, since)
            && way.hole < since
            && way.opened >= since
            && self.way(other, leaver).hole < since
            && self.listed(other, leaver).is_some_and(|listed| listed.left)
    }

    /// Returns whether two processes exchange heartbeats, as far as the first one knows.
    pub(super) fn are_partners(&self, node: NodeIndex, other: NodeIndex) -> bool {
        let (a, b) = (self.node(node), self.node(other));
        a.voter && b.voter && a.voters_listed < PARTNERS
    }

    /// Returns by how much clocks have jumped ahead in all.
    pub(super) const fn jumped(&self) -> Duration {
        self.jumped
    }

    /// Returns an upper bound on what any clock counted since the beginning of the run.
    pub(super) fn longest(&self, world: &World) -> Duration {
        let rate = self.fastest.max(1_000_000);
        let micros = u64::try_from(world.elapsed().as_micros()).unwrap_or(u64::MAX / 2);
        Duration::from_micros(micros.saturating_mul(rate) / 1_000_000).saturating_add(self.jumped)
    }
}
