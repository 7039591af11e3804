//! Faults: when they begin and end, and what follows from those that are going on.

use super::Sim;
use crate::app::App;
use crate::fault::{Difference, Fault, FaultKind, Host};
use crate::observe::{Datagram, Provenance, Seen};
use crate::program::Lookup;
use crate::world::{NodeIndex, START};
use quorate_core::{Config, Duration, Instant, Key, KeyRing, ResolveId};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How often it is looked whether somebody has left.
const RETRY: Duration = Duration::from_millis(100);

/// Something that happens at a time that is known in advance.
#[derive(Debug)]
enum Item {
    /// A member's process starts on its host.
    Start(Host),
    Begin(Fault),
    End(usize),
    /// One of the steps of a fault that has several.
    Step(usize, u32),
    Resolved(NodeIndex, ResolveId, Vec<SocketAddr>),
    /// The same for a program.
    Found(Lookup, Vec<SocketAddr>),
}

/// A fault that is going on.
#[derive(Debug)]
struct Active {
    number: usize,
    kind: FaultKind,
    /// The process that was started for it.
    guest: Option<NodeIndex>,
}

/// What is yet to happen, and what is going on.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    items: BTreeMap<(Instant, u64), Item>,
    /// The time of the first item.
    next: Option<Instant>,
    added: u64,
    active: Vec<Active>,
    begun: usize,
    /// How far keys were rotated: three steps for each key.
    rotation: u32,
    rebinds: u8,
}

impl Agenda {
    pub(super) fn next_at(&self) -> Instant {
        self.next.unwrap_or(Instant::FAR_FUTURE)
    }

    fn add(&mut self, at: Instant, item: Item) {
        self.added += 1;
        self.items.insert((at, self.added), item);
        self.next = self.items.keys().next().map(|&(at, _)| at);
    }

    pub(super) fn start(&mut self, at: Instant, host: Host) {
        self.add(at, Item::Start(host));
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.add(START + fault.at, Item::Begin(fault));
    }

    pub(super) fn resolve(&mut self, at: Instant, node: NodeIndex, id: ResolveId, addrs: Vec<SocketAddr>) {
        self.add(at, Item::Resolved(node, id, addrs));
    }

    pub(super) fn find(&mut self, at: Instant, lookup: Lookup, addrs: Vec<SocketAddr>) {
        self.add(at, Item::Found(lookup, addrs));
    }

    fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_first().map(|(_, item)| item);
        self.next = self.items.keys().next().map(|&(at, _)| at);
        item
    }

    fn any(&self, holds: impl FnMut(&FaultKind) -> bool) -> bool {
        self.active.iter().map(|active| &active.kind).any(holds)
    }

    fn last<T>(&self, of: impl FnMut(&FaultKind) -> Option<T>) -> Option<T> {
        self.active.iter().rev().map(|active| &active.kind).find_map(of)
    }
}

/// The keys after so many steps: each rotation accepts the new key, then seals with it, then forgets the old one.
fn ring(rotation: u32) -> KeyRing {
    let key = |n: u32| Key::from_bytes([u8::try_from(7 + n % 200).unwrap_or(7); 32]);
    let (old, new) = (key(rotation / 3), key(rotation / 3 + 1));
    let keys = match rotation % 3 {
        0 => vec![old],
        1 => vec![old, new],
        _ => vec![new, old],
    };
    KeyRing::from_keys(keys).expect("one or two different keys")
}

impl<A: App> Sim<A> {
    /// Lets something go wrong from now on, for so long.
    pub fn inject(&mut self, kind: FaultKind, lasting: Duration) {
        let at = self.world.elapsed();
        self.begin(Fault { at, lasting, kind });
    }

    /// Ends all faults at once, opens all cut ways, and drops what has not begun yet: hosts get their processes back.
    /// What was done by [`Sim::pause`], [`Sim::set_link`] and [`Sim::crash`] remains.
    pub fn heal(&mut self) {
        self.network.open_all();
        self.agenda
            .items
            .retain(|_, item| matches!(item, Item::Start(_) | Item::Resolved(..) | Item::Found(..)));
        self.agenda.next = self.agenda.items.keys().next().map(|&(at, _)| at);
        while let Some(number) = self.agenda.active.first().map(|active| active.number) {
            self.end_fault(number);
        }
        self.world.healed = Some(self.world.now);
        self.see(&Seen::Healed);
    }

    pub(super) fn do_next_on_agenda(&mut self) {
        match self.agenda.take() {
            Some(Item::Start(host)) if self.running(host).is_none() && !self.is_down(host) => {
                self.start_on(host);
            }
            // Whoever is replaced has gone before: never are there both.
            Some(Item::Start(host)) if self.is_leaving(host) && !self.is_down(host) => {
                self.agenda.start(self.world.now + RETRY, host);
            }
            Some(Item::Begin(fault)) => self.begin(fault),
            Some(Item::End(number)) => self.end_fault(number),
            Some(Item::Step(number, step)) => self.take_step(number, step),
            Some(Item::Resolved(node, id, addrs)) => self.resolved(node, id, &addrs),
            Some(Item::Found(lookup, addrs)) => lookup.answer(&addrs),
            Some(Item::Start(_)) | None => {}
        }
    }

    fn begin(&mut self, fault: Fault) {
        let number = self.agenda.begun;
        self.agenda.begun += 1;
        self.world.healed = None;
        *self.begun.entry(fault.kind.name()).or_default() += 1;
        self.agenda.active.push(Active {
            number,
            kind: fault.kind,
            guest: None,
        });
        self.see(&Seen::FaultBegan {
            number,
            kind: fault.kind,
        });
        self.network.begin(number, fault.kind);
        let now = self.world.now;
        self.agenda.add(now + fault.lasting, Item::End(number));
        let mut steps = |count: u32| {
            for step in 0..count {
                self.agenda.add(
                    now + fault.lasting / count.max(1) * step,
                    Item::Step(number, step),
                );
            }
        };
        match fault.kind {
            FaultKind::Replay { count, .. } => steps(u32::from(count)),
            FaultKind::Rotate => steps(3),
            FaultKind::RollingUpdate => steps(self.network.members as u32),
            FaultKind::Crash { host } => self.crash_host(host),
            FaultKind::Blackout { .. } => {
                for host in (0..self.network.members).map(Host) {
                    self.crash_host(host);
                }
            }
            FaultKind::Leave { host } => self.leave_host(host),
            FaultKind::Surge => {
                let guest = self.template_for(Host(self.world.machines.len()));
                self.invite(number, guest, true);
            }
            FaultKind::Stranger { differs } => {
                let guest = self.template_for(Host(self.world.machines.len()));
                self.invite(number, differing(guest, differs), false);
            }
            FaultKind::Rebind { host } => {
                self.agenda.rebinds = self.agenda.rebinds.wrapping_add(1);
                let addr = SocketAddr::from(([10, 200, 0, self.agenda.rebinds], 6000));
                if let Some(index) = self.running(host) {
                    self.rebind(index, addr);
                }
            }
            FaultKind::Jump { host, by } => {
                if let Some(machine) = self.world.machines.get_mut(host.0) {
                    machine.set_clock(|clock| clock.jump(by));
                }
            }
            _ => {}
        }
        self.refresh_all();
    }

    fn end_fault(&mut self, number: usize) {
        let Some(at) = self
            .agenda
            .active
            .iter()
            .position(|active| active.number == number)
        else {
            return;
        };
        let ended = self.agenda.active.remove(at);
        self.network.end(self.world.now, number);
        if let Some(guest) = ended.guest.filter(|&guest| self.is_running(guest)) {
            if ended.kind == FaultKind::Surge {
                self.tell_to_leave(guest);
            } else {
                self.crash(guest);
            }
        }
        if ended.kind == FaultKind::Rotate {
            // A rotation that was cut short is completed: halfway, a restarted process could miss the last step.
            let full = self.agenda.rotation.next_multiple_of(3);
            self.rotate_to(full);
        }
        self.see(&Seen::FaultEnded { number });
        self.refresh_all();
    }

    fn take_step(&mut self, number: usize, step: u32) {
        let active = self.agenda.active.iter().find(|active| active.number == number);
        match active.map(|active| active.kind) {
            Some(FaultKind::Replay {
                elsewhere, spoofed, ..
            }) => self.replay_one(elsewhere, spoofed),
            Some(FaultKind::Rotate) => self.rotate_to(self.agenda.rotation + 1),
            Some(FaultKind::RollingUpdate) => {
                let host = Host(step as usize);
                self.leave_host(host);
                // It comes back a little later than it takes to leave.
                let leave = self
                    .configs
                    .get(host.0)
                    .map_or(Duration::ZERO, |c| c.leave_timeout);
                let back = self.world.now + leave + Duration::from_millis(100);
                self.agenda.start(back, host);
            }
            _ => {}
        }
    }

    /// Returns the process that runs on a host, wherever it is reached.
    fn running(&self, host: Host) -> Option<NodeIndex> {
        let mut processes = self.world.processes.iter().enumerate().rev();
        let found = processes.find(|(_, process)| process.host == host)?;
        found.1.ended.is_none().then_some(NodeIndex(found.0))
    }

    fn is_leaving(&self, host: Host) -> bool {
        let running = self.running(host);
        running.is_some_and(|index| self.world.process(index).leaving.is_some())
    }

    fn crash_host(&mut self, host: Host) {
        match self.running(host) {
            Some(index) => self.crash(index),
            // What had outlived its node ends too.
            None => self.clear(host),
        }
    }

    fn leave_host(&mut self, host: Host) {
        if let Some(index) = self.running(host)
            && self.world.process(index).paused.is_none()
        {
            self.tell_to_leave(index);
        }
    }

    fn template_for(&self, host: Host) -> Config {
        let config = (self.template)(host);
        match self.agenda.rotation {
            0 => config,
            rotation => config.keys(ring(rotation)),
        }
    }

    /// Starts a process for the time of a fault, on a host of its own.
    fn invite(&mut self, number: usize, config: Config, member: bool) {
        let host = self.add_host(config);
        let guest = self.start_on_as(host, member);
        if let Some(active) = self.agenda.active.iter_mut().find(|a| a.number == number) {
            active.guest = Some(guest);
        }
    }

    fn rotate_to(&mut self, rotation: u32) {
        if rotation == self.agenda.rotation {
            return;
        }
        self.agenda.rotation = rotation;
        for host in (0..self.world.machines.len()).map(Host) {
            let foreign = self
                .running(host)
                .is_some_and(|index| !self.world.process(index).member);
            if foreign {
                continue;
            }
            self.configs[host.0] = self.configs[host.0].clone().keys(ring(rotation));
            if let Some(index) = self.running(host) {
                self.with(index, |cx| {
                    cx.node_mut(|node, now| node.set_keys(now, ring(rotation)))
                });
            }
        }
    }

    /// Sends one of the recorded datagrams again.
    fn replay_one(&mut self, elsewhere: bool, spoofed: bool) {
        let Some(old) = self.network.recall() else {
            return;
        };
        let to = if elsewhere {
            let host = Host(self.network.replay_to(self.network.members));
            crate::world::home_of(host)
        } else {
            old.datagram.to
        };
        let from = if spoofed {
            old.datagram.from
        } else {
            SocketAddr::from(([203, 0, 113, 9], 7000))
        };
        let way = (self.host_at(from), self.host_at(to));
        let datagram = Datagram {
            from,
            to,
            provenance: Provenance::Replayed,
            ..old.datagram
        };
        self.network.resend(self.world.now, way, datagram, &old.payload);
        self.tell_fates();
    }

    /// Returns whether a fault keeps a host without a process.
    fn is_down(&self, host: Host) -> bool {
        self.agenda.any(|kind| match *kind {
            FaultKind::Crash { host: down } | FaultKind::Leave { host: down } => down == host,
            FaultKind::Blackout { .. } => host.0 < self.network.members,
            _ => false,
        })
    }

    fn refresh_all(&mut self) {
        let dns = self.agenda.last(|kind| match *kind {
            FaultKind::Dns { how } => Some(how),
            _ => None,
        });
        self.dns.set_fault(dns);
        for host in (0..self.world.machines.len()).map(Host) {
            self.refresh_clock(host);
            if host.0 < self.network.members && !self.is_down(host) {
                self.revive(host);
            }
            self.refresh_host(host);
        }
    }

    /// Gives a host of the schedule its process back.
    fn revive(&mut self, host: Host) {
        let Some(last) = self.world.processes.iter().rev().find(|p| p.host == host) else {
            // It was kept down from the beginning, or its time is yet to come.
            let mut items = self.agenda.items.values();
            if !items.any(|item| matches!(item, Item::Start(of) if *of == host)) {
                self.start_on(host);
            }
            return;
        };
        let rolling = self.agenda.any(|kind| *kind == FaultKind::RollingUpdate);
        let stays = last.ended.is_none() && last.leaving.is_none();
        // In a rolling update whoever leaves comes back by himself.
        if stays || (rolling && last.leaving.is_some()) {
            return;
        }
        // Whoever is still saying goodbye is not waited for.
        self.crash_host(host);
        self.start_on(host);
    }

    fn refresh_clock(&mut self, host: Host) {
        let rate = self.agenda.last(|kind| match *kind {
            FaultKind::Freeze { host: of } if of == host => Some(None),
            FaultKind::Drift { host: of, ppm } if of == host => Some(Some(ppm)),
            _ => None,
        });
        let wall_ms = self.agenda.last(|kind| match *kind {
            FaultKind::Wall { host: of, by_ms } if of == host => Some(by_ms),
            _ => None,
        });
        let now = self.world.now;
        let back = self.agenda.last(|kind| match *kind {
            FaultKind::Blackout { wall_back } => i64::try_from(wall_back.as_micros()).ok(),
            _ => None,
        });
        let machine = &mut self.world.machines[host.0];
        machine.set_clock(|clock| clock.set_rate(now, rate.unwrap_or(Some(0))));
        if let Some(back) = back {
            // It stays wrong: the processes that start afterwards are those that see it.
            machine.wall_blackout = -back;
        }
        machine.wall_off = machine.wall_blackout + wall_ms.unwrap_or(0) * 1_000;
    }

    /// Applies to the process on a host what follows from the faults that are going on.
    pub(super) fn refresh_host(&mut self, host: Host) {
        let Some(index) = self.running(host) else {
            return;
        };
        let cost = self.agenda.last(|kind| match *kind {
            FaultKind::Slow { host: of, each } if of == host => Some(each),
            _ => None,
        });
        let unread = self
            .agenda
            .any(|kind| matches!(kind, FaultKind::Unread { host: of } if *of == host));
        let paused = self
            .agenda
            .any(|kind| matches!(kind, FaultKind::Pause { host: of } if *of == host));
        let slot = &mut self.slots[index.0];
        slot.cost = cost.unwrap_or_default();
        let started_reading = slot.unread && !unread;
        slot.unread = unread;
        let paused = paused || slot.held;
        self.set_paused(index, paused);
        if started_reading {
            self.flush(index);
        }
        self.rearm(index);
    }
}

/// Returns settings that differ from the cluster's in one thing.
fn differing(config: Config, differs: Difference) -> Config {
    match differs {
        Difference::ClusterSize => {
            let size = config.cluster_size;
            config.cluster_size(if size == 15 { 14 } else { size + 1 })
        }
        Difference::MaxTtl => config.max_ttl(Duration::from_secs(61)),
        Difference::Name => config.cluster_name("another"),
        Difference::Key => config.key(Key::from_bytes([251; 32])),
        Difference::Insecure => config.insecure(),
    }
}
