//! Processes: how they start, stop, stand still and move.

use super::{PROCESS_STREAMS, Sim, Slot, stream};
use crate::app::{App, Cx};
use crate::dns::CLUSTER;
use crate::fault::Host;
use crate::observe::Seen;
use crate::schedule::Crypto;
use crate::world::{Engine, Machine, NodeIndex, Process, home_of, host_of, name_of};
use quorate_core::journal::Keep;
use quorate_core::{Config, Duration, Instant, Node, NodeId, Security, WallTime};
use rand_core::Rng as _;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The wall clock at the beginning of every run: 2026-01-01 UTC.
const WALL_ORIGIN: i64 = 1_767_225_600_000_000;

/// Whether a process starts with the randomness of the one before it on its host: a mistake of an adapter.
#[cfg(feature = "planted-bugs")]
fn forgotten_process_returns() -> bool {
    quorate_core::planted(quorate_core::PlantedBug::ForgottenProcessReturns)
}

#[cfg(not(feature = "planted-bugs"))]
const fn forgotten_process_returns() -> bool {
    false
}

/// What a new process is made of.
pub(super) struct Birth {
    pub(super) host: Host,
    pub(super) attempt: u32,
    pub(super) config: Config,
    pub(super) seed: [u8; 32],
    /// The number of the stream that is its application's.
    pub(super) own: u64,
    pub(super) local: Instant,
    pub(super) wall: WallTime,
}

impl<A: App> Sim<A> {
    /// Returns the address that the next new host will get.
    pub fn next_addr(&self) -> SocketAddr {
        home_of(Host(self.world.machines.len()))
    }

    /// Starts a process on a new host.
    ///
    /// # Panics
    /// If the config is invalid.
    pub fn start(&mut self, config: Config) -> NodeIndex {
        let host = self.add_host(config);
        self.start_on(host)
    }

    /// Starts a new process on the host that has, or had, this address. What still runs there is cut off from it.
    ///
    /// # Panics
    /// If the config is invalid, or no host ever had the address.
    pub fn start_at(&mut self, addr: SocketAddr, config: Config) -> NodeIndex {
        let home = host_of(addr).filter(|host| host.0 < self.world.machines.len());
        let host = home.or_else(|| {
            let mut processes = self.world.processes.iter().rev();
            processes
                .find(|process| process.addr == addr)
                .map(|process| process.host)
        });
        let host = host.expect("a host has or had the address");
        self.configs[host.0] = config;
        self.start_on(host)
    }

    /// Adds a host on which nothing runs yet.
    pub(super) fn add_host(&mut self, config: Config) -> Host {
        let host = Host(self.world.machines.len());
        self.world.machines.push(Machine::default());
        self.dns.set(&name_of(host), &[home_of(host)]);
        self.world.homes.push(None);
        self.configs.push(config);
        host
    }

    /// Starts a new process on a host, with the settings of that host.
    ///
    /// # Panics
    /// If the config is invalid.
    pub(super) fn start_on(&mut self, host: Host) -> NodeIndex {
        self.start_on_as(host, true)
    }

    /// As [`Sim::start_on`]; a process that is no member is not meant to find the cluster.
    pub(super) fn start_on_as(&mut self, host: Host, member: bool) -> NodeIndex {
        if let Some(program) = self.program_of(host) {
            let (index, cluster) = self
                .start_driven(host, member, None)
                .expect("the config of a simulated node is valid");
            self.begin_program(index, cluster, &program);
            return index;
        }
        let birth = self.conceive(host);
        let Birth { config, seed, .. } = &birth;
        let (config, seed) = (config.clone(), *seed);
        let node = match self.crypto {
            Crypto::Simulated => Node::simulated(config, seed, birth.local, birth.wall),
            Crypto::Real => Node::new(config, seed, birth.local, birth.wall),
        };
        let mut node = node.expect("the config of a simulated node is valid");
        node.keep_journal(Keep::Commands);
        let index = self.give_birth(birth, member, Engine::Plain(Box::new(node)));
        self.tell(index, App::start);
        self.flush(index);
        index
    }

    /// Draws what a new process on a host is made of.
    pub(super) fn conceive(&mut self, host: Host) -> Birth {
        // What had outlived the node of the process before it ends now.
        self.clear(host);
        let config = self.configs[host.0].clone();
        let machine = &mut self.world.machines[host.0];
        machine.starts += 1;
        let number = PROCESS_STREAMS * (1 + host.0 as u64) + 2 * u64::from(machine.starts);
        // No process draws what one before it drew.
        let drawn = if forgotten_process_returns() {
            PROCESS_STREAMS * (1 + host.0 as u64)
        } else {
            number
        };
        let mut seed = [0; 32];
        stream(self.seed, drawn).fill_bytes(&mut seed);
        let local = machine.clock.read(self.world.now);
        let micros = WALL_ORIGIN + (self.world.now.as_nanos() / 1_000) as i64 + machine.wall_off;
        let wall = WallTime::from_unix_micros(u64::try_from(micros).unwrap_or_default());
        Birth {
            host,
            attempt: machine.starts,
            config,
            seed,
            own: number + 1,
            local,
            wall,
        }
    }

    /// Lets a process be there.
    pub(super) fn give_birth(&mut self, birth: Birth, member: bool, mut engine: Engine) -> NodeIndex {
        let host = birth.host;
        let index = NodeIndex(self.world.processes.len());
        let addr = home_of(host);
        let mut shown = birth.config;
        shown.security = Security::Unset;
        let id = engine.node_mut().id();
        self.world.ids.insert(id, index);
        self.world.processes.push(Process {
            host,
            id,
            addr,
            started: self.world.now,
            started_locally: birth.local,
            wall: birth.wall,
            leaving: None,
            ended: None,
            paused: None,
            config: shown,
            member,
            engine: Some(engine),
        });
        self.slots.push(Slot {
            app: (self.factory)(host),
            tasks: None,
            rng: stream(self.seed, birth.own),
            timer: None,
            parked: VecDeque::new(),
            batch: 0,
            busy_until: Instant::ZERO,
            cost: Duration::ZERO,
            reading: true,
            unread: false,
            held: false,
            armed: None,
            wakes: 0,
            had: Vec::new(),
        });
        self.world.settle_at(addr, Some(index));
        self.announce();
        let config = self.world.processes[index.0].config.clone();
        self.see(&Seen::Started {
            node: index,
            config: &config,
        });
        self.refresh_host(host);
        index
    }

    /// Lets the cluster's name stand for all hosts with a running process.
    fn announce(&mut self) {
        let members = self.network.members;
        let addrs: Vec<_> = (0..members)
            .map(Host)
            .filter(|&host| self.world.at_home(host).is_some())
            .map(home_of)
            .collect();
        self.dns.set(CLUSTER, &addrs);
    }

    /// Stops a process without a goodbye.
    pub fn crash(&mut self, index: NodeIndex) {
        self.end(index);
        // The node first: nothing that tasks do while they are dropped reaches the network.
        self.world.processes[index.0].engine = None;
        self.end_tasks(index);
    }

    /// A process is no more; what it has left can still be looked at.
    pub(super) fn end(&mut self, index: NodeIndex) {
        let process = &mut self.world.processes[index.0];
        if process.ended.is_some() {
            return;
        }
        process.ended = Some(self.world.now);
        let addr = process.addr;
        if self.world.at(addr) == Some(index) {
            self.world.settle_at(addr, None);
        }
        self.announce();
        self.see(&Seen::Stopped { node: index });
    }

    /// Stops a process as SIGSTOP does: what arrives waits for it.
    pub fn pause(&mut self, index: NodeIndex) {
        self.slots[index.0].held = true;
        self.refresh_host(self.world.process(index).host);
    }

    /// Continues a paused process: it is handed what waited for it first, and its timers then.
    pub fn resume(&mut self, index: NodeIndex) {
        self.slots[index.0].held = false;
        self.refresh_host(self.world.process(index).host);
    }

    /// Lets a process stand still, or go on.
    pub(super) fn set_paused(&mut self, index: NodeIndex, paused: bool) {
        let now = self.world.now;
        let process = &mut self.world.processes[index.0];
        if process.ended.is_some() || process.paused.is_some() == paused {
            return;
        }
        process.paused = paused.then_some(now);
        if paused {
            self.see(&Seen::Paused { node: index });
        } else {
            self.see(&Seen::Resumed { node: index });
            self.attend(index);
            self.flush(index);
        }
    }

    /// Tells a process to leave, as whoever operates it does.
    pub(super) fn tell_to_leave(&mut self, index: NodeIndex) {
        match self.world.processes[index.0].driver_mut() {
            Some(driver) => driver.leave(),
            None => self.with(index, |cx| cx.leave()),
        }
    }

    /// Lets the application of a process take messages, or stop taking them.
    pub fn set_reading(&mut self, index: NodeIndex, reading: bool) {
        self.slots[index.0].reading = reading;
        self.flush(index);
    }

    /// Lets a process go on at another address, as a translator of addresses does that has forgotten it: its own
    /// datagrams come from there now, and what is sent to the old address is lost.
    pub fn rebind(&mut self, index: NodeIndex, addr: SocketAddr) {
        let old = std::mem::replace(&mut self.world.processes[index.0].addr, addr);
        if self.world.at(old) == Some(index) {
            self.world.settle_at(old, None);
        }
        self.world.settle_at(addr, Some(index));
    }

    /// Returns the address of a process.
    pub fn addr(&self, index: NodeIndex) -> SocketAddr {
        self.world.process(index).addr
    }

    /// Returns the id of a process, also of one that has crashed.
    pub fn id(&self, index: NodeIndex) -> NodeId {
        self.world.process(index).id
    }

    /// Returns the node of a process.
    ///
    /// # Panics
    /// If it has crashed.
    pub fn node_of(&self, index: NodeIndex) -> &Node {
        let node = self.world.process(index).node();
        node.expect("the process has not crashed")
    }

    /// Returns the application of a process; of one that has ended, as it was then.
    pub fn app(&self, index: NodeIndex) -> &A {
        &self.slots[index.0].app
    }

    /// Returns the running processes of members and their applications.
    pub fn apps(&self) -> impl Iterator<Item = (NodeIndex, &A)> {
        self.world
            .processes()
            .filter(|(_, process)| process.ended.is_none() && process.member)
            .map(|(index, _)| (index, &self.slots[index.0].app))
    }

    /// Returns whether a process has neither crashed nor left.
    pub fn is_running(&self, index: NodeIndex) -> bool {
        self.world.process(index).ended.is_none()
    }

    /// Returns how often a process was woken by its timer.
    pub fn wakes(&self, index: NodeIndex) -> u64 {
        self.slots[index.0].wakes
    }

    /// Returns how many processes were ever started.
    pub const fn node_count(&self) -> usize {
        self.world.processes.len()
    }

    /// Gives commands to a process from outside, and does what follows from them.
    ///
    /// # Panics
    /// If the process has crashed.
    pub fn with<T>(&mut self, index: NodeIndex, act: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        self.with_app(index, |_, cx| act(cx))
    }

    /// Gives commands to a process and its application from outside, and does what follows from them.
    ///
    /// # Panics
    /// If the process has crashed.
    pub fn with_app<T>(&mut self, index: NodeIndex, act: impl FnOnce(&mut A, &mut Cx<'_>) -> T) -> T {
        let result = self.tell(index, act);
        self.flush(index);
        result.expect("the process has not crashed")
    }
}
