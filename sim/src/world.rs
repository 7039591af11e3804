//! What is true: hosts, their clocks, and the processes on them.

use crate::clock::Clock;
use crate::fault::Host;
use crate::program::{HostClock, SimIo};
use quorate::Driver;
use quorate_core::{Config, Duration, Instant, Node, NodeId, WallTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Names a process of a run; one that was restarted is a new process on an old host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

impl std::fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.0)
    }
}

/// The time on the clock of the world when a run begins: nothing is ever before it.
pub(crate) const START: Instant = Instant::from_millis(1_000);

/// A process: a node, and what became of it.
#[derive(Debug)]
pub struct Process {
    /// The host that it runs on.
    pub host: Host,
    /// Its id.
    pub id: NodeId,
    /// Where it is reached now.
    pub addr: SocketAddr,
    /// When it started.
    pub started: Instant,
    /// What its host's steady clock showed then.
    pub started_locally: Instant,
    /// What its host's wall clock showed then.
    pub wall: WallTime,
    /// When it was told to leave.
    pub leaving: Option<Instant>,
    /// When it ended: crashed, or had left.
    pub ended: Option<Instant>,
    /// Since when it stands still.
    pub paused: Option<Instant>,
    /// Its settings, without its keys.
    pub config: Config,
    /// Whether it is meant to belong to the cluster. Strangers are not.
    pub member: bool,
    /// `None` once it has crashed.
    pub(crate) engine: Option<Engine>,
}

/// What drives the node of a process.
#[derive(Debug)]
pub(crate) enum Engine {
    /// The simulator itself, for an [`App`](crate::App).
    Plain(Box<Node>),
    /// The driver that drives real ones, for a program.
    Driven(Box<Driver<SimIo>>),
}

impl Engine {
    pub(crate) const fn node_mut(&mut self) -> &mut Node {
        match self {
            Self::Plain(node) => node,
            Self::Driven(driver) => driver.node_mut(),
        }
    }
}

impl Process {
    /// Returns the node, unless it has crashed.
    pub const fn node(&self) -> Option<&Node> {
        match &self.engine {
            Some(Engine::Plain(node)) => Some(node),
            Some(Engine::Driven(driver)) => Some(driver.node()),
            None => None,
        }
    }

    pub(crate) const fn node_mut(&mut self) -> Option<&mut Node> {
        match &mut self.engine {
            Some(engine) => Some(engine.node_mut()),
            None => None,
        }
    }

    /// Returns the driver, if the process runs a program.
    pub(crate) const fn driver_mut(&mut self) -> Option<&mut Driver<SimIo>> {
        match &mut self.engine {
            Some(Engine::Driven(driver)) => Some(driver),
            _ => None,
        }
    }

    /// Returns how much the driver keeps for the handles of a program: what is under way for them, and locks that they
    /// have. 0 for an [`App`](crate::App).
    pub fn pending(&self) -> usize {
        match &self.engine {
            Some(Engine::Driven(driver)) => driver.pending(),
            _ => 0,
        }
    }

    /// Returns whether so many messages wait for its program that it is handed no more.
    pub(crate) fn is_full(&self) -> bool {
        matches!(&self.engine, Some(Engine::Driven(driver)) if driver.is_full())
    }

    /// Returns whether it runs a program.
    pub(crate) const fn is_driven(&self) -> bool {
        matches!(self.engine, Some(Engine::Driven(_)))
    }

    /// Returns whether the process is there, paused or not, and not on its way out.
    pub const fn is_live(&self) -> bool {
        self.ended.is_none() && self.leaving.is_none()
    }
}

/// A machine.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) clock: Clock,
    /// The same, for programs.
    shown: Arc<Mutex<Clock>>,
    pub(crate) starts: u32,
    /// By how much its wall clock is off since everything stopped, and in all, in microseconds.
    pub(crate) wall_blackout: i64,
    pub(crate) wall_off: i64,
}

impl Machine {
    /// Does something to the clock.
    pub(crate) fn set_clock(&mut self, change: impl FnOnce(&mut Clock)) {
        change(&mut self.clock);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = self.clock;
    }
}

/// Everything that is true in a run, for observers to look at.
#[derive(Debug)]
pub struct World {
    pub(crate) now: Instant,
    /// The same, for programs.
    shown: Arc<AtomicU64>,
    pub(crate) processes: Vec<Process>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) ids: BTreeMap<NodeId, NodeIndex>,
    /// Who is at the address that belongs to each host.
    pub(crate) homes: Vec<Option<NodeIndex>>,
    /// Who is at other addresses.
    pub(crate) elsewhere: BTreeMap<SocketAddr, NodeIndex>,
    pub(crate) healed: Option<Instant>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: START,
            shown: Arc::new(AtomicU64::new(START.as_nanos())),
            processes: Vec::new(),
            machines: Vec::new(),
            ids: BTreeMap::new(),
            homes: Vec::new(),
            elsewhere: BTreeMap::new(),
            healed: None,
        }
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, to: Instant) {
        self.now = self.now.max(to);
        self.shown.store(self.now.as_nanos(), Ordering::Relaxed);
    }

    /// Returns the clock of a host, or one that is always right, for programs.
    pub(crate) fn clock_of(&self, host: Option<Host>) -> HostClock {
        let clock = host.map_or_else(Arc::default, |host| Arc::clone(&self.machines[host.0].shown));
        HostClock::new(Arc::clone(&self.shown), clock)
    }

    /// Returns the true time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Returns how long the run has lasted, in true time.
    pub const fn elapsed(&self) -> Duration {
        self.now.saturating_since(START)
    }

    /// Returns when the last fault was over, if no fault has begun since.
    pub const fn healed(&self) -> Option<Instant> {
        self.healed
    }

    /// Returns all processes that ever ran, in the order of their start.
    pub fn processes(&self) -> impl Iterator<Item = (NodeIndex, &Process)> {
        self.processes
            .iter()
            .enumerate()
            .map(|(i, process)| (NodeIndex(i), process))
    }

    /// Returns a process.
    ///
    /// # Panics
    /// If there never was one of this index.
    pub fn process(&self, index: NodeIndex) -> &Process {
        &self.processes[index.0]
    }

    /// Returns the process with this id.
    pub fn find(&self, id: NodeId) -> Option<NodeIndex> {
        self.ids.get(&id).copied()
    }

    /// Returns what the steady clock of a host shows.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn clock(&self, host: Host) -> Instant {
        self.machines[host.0].clock.read(self.now)
    }

    /// Returns how many hosts there are.
    pub const fn host_count(&self) -> usize {
        self.machines.len()
    }

    /// Returns the process that has the address of a host.
    pub fn at_home(&self, host: Host) -> Option<NodeIndex> {
        self.homes.get(host.0).copied().flatten()
    }

    /// Returns the process that is reached at an address.
    pub fn at(&self, addr: SocketAddr) -> Option<NodeIndex> {
        match host_of(addr) {
            Some(host) => self.at_home(host),
            None => self.elsewhere.get(&addr).copied(),
        }
    }

    pub(crate) fn settle_at(&mut self, addr: SocketAddr, index: Option<NodeIndex>) {
        match (host_of(addr), index) {
            (Some(host), _) if host.0 < self.homes.len() => self.homes[host.0] = index,
            (_, Some(index)) => {
                self.elsewhere.insert(addr, index);
            }
            (_, None) => {
                self.elsewhere.remove(&addr);
            }
        }
    }
}

/// The first host's address: 10.0.0.1.
const FIRST: u32 = 0x0a00_0001;
const PORT: u16 = 5000;
/// Addresses beyond belong to no host.
const MAX_HOSTS: u32 = 1 << 20;

/// Returns the address of a host.
pub(crate) fn home_of(host: Host) -> SocketAddr {
    let n = u32::try_from(host.0).unwrap_or(MAX_HOSTS).min(MAX_HOSTS);
    SocketAddr::from((Ipv4Addr::from(FIRST + n), PORT))
}

/// Returns the name that stands for a host.
pub(crate) fn name_of(host: Host) -> String {
    format!("host-{}.sim", host.0)
}

/// Returns the host that an address belongs to.
pub(crate) fn host_of(addr: SocketAddr) -> Option<Host> {
    let IpAddr::V4(ip) = addr.ip() else {
        return None;
    };
    let n = u32::from(ip).checked_sub(FIRST)?;
    (addr.port() == PORT && n < MAX_HOSTS).then_some(Host(n as usize))
}
