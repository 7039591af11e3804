//! How a simulation is set up.

use super::faults::Agenda;
use super::{Purpose, Sim, stream};
use crate::app::{App, Recorder, Said};
use crate::dns::{CLUSTER, Dns};
use crate::fault::{FaultKind, Host};
use crate::network::{Chances, Link, Network, below};
use crate::observe::Observer;
use crate::program::{Env, Hub, Program};
use crate::schedule::Schedule;
use crate::trace::TraceHash;
use crate::world::{START, World, home_of};
use quorate::Cluster;
use quorate_core::{Config, Duration, Instant, MAX_METADATA, MAX_NAME, Role};
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// Within which time all hosts of a schedule start.
const STARTS_WITHIN: Duration = Duration::from_millis(300);
/// How many datagrams somebody has recorded who replays them.
const RECORDED: usize = 2_000;

/// The largest message where limits are small.
const SMALL_MESSAGE: usize = 64 << 10;

type Adjust = Box<dyn Fn(Host, Config) -> Config>;

/// What a [`Sim`] is made of. By default: seed 0, no hosts, a quiet network, no faults, all checkers, and a violation
/// panics.
#[must_use]
pub struct Builder {
    schedule: Schedule,
    link: Link,
    adjust: Adjust,
    observers: Vec<Box<dyn Observer>>,
    checkers: bool,
    collect: bool,
    program: Option<Program>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            schedule: Schedule::calm(0, 0),
            link: Link::default(),
            adjust: Box::new(|_, config| config),
            observers: Vec::new(),
            checkers: true,
            collect: false,
            program: None,
        }
    }
}

impl Builder {
    /// Everything random is drawn from this number.
    pub fn seed(mut self, seed: u64) -> Self {
        self.schedule.seed = seed;
        self
    }

    /// Starts members on so many hosts, at most 64, within the first 300 ms. They find each other.
    pub const fn hosts(mut self, hosts: usize) -> Self {
        self.schedule.hosts = hosts;
        self
    }

    /// Runs this schedule: its seed, its hosts, its faults. What its users do is up to the application:
    /// [`Users`](crate::Users). Without hosts (`hosts` is 0) the test starts what it needs, and no fault may name any.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Changes the settings with which members start on each host.
    pub fn config(mut self, adjust: impl Fn(Host, Config) -> Config + 'static) -> Self {
        self.adjust = Box::new(adjust);
        self
    }

    /// Sets how datagrams travel where no fault says otherwise.
    pub const fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Lets somebody see everything that happens.
    pub fn observer(self, observer: impl Observer) -> Self {
        self.boxed_observer(Box::new(observer))
    }

    pub(crate) fn boxed_observer(mut self, observer: Box<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Turns the built-in checkers off, or on again.
    pub const fn checkers(mut self, checkers: bool) -> Self {
        self.checkers = checkers;
        self
    }

    /// Remembers a violation and stops the run, in place of a panic.
    pub const fn collect_violations(mut self) -> Self {
        self.collect = true;
        self
    }

    /// Runs a program on every host of the schedule, and on those that faults add: each process that starts there runs
    /// it anew. See [`Sim::node`].
    pub fn program<F>(mut self, program: impl Fn(Cluster, Env) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        self.program = Some(crate::program::program(program));
        self
    }

    /// Builds a simulation whose applications remember what they are told.
    ///
    /// # Panics
    /// As [`Builder::build_with`].
    pub fn build(self) -> Sim<Recorder> {
        self.build_with(|_| Recorder::default())
    }

    /// Builds a simulation of an application. `app` is called for each process that starts.
    ///
    /// # Panics
    /// If the schedule is not valid ([`Schedule::validate`]); it may have no hosts.
    pub fn build_with<A: App>(self, app: impl FnMut(Host) -> A + 'static) -> Sim<A> {
        let Self {
            mut schedule,
            link,
            adjust,
            mut observers,
            checkers,
            collect,
            program,
        } = self;
        // Without hosts it is up to a test to start some; all else has to be right all the same.
        let hosts = schedule.hosts;
        schedule.hosts = hosts.max(1);
        schedule.expect_valid();
        schedule.hosts = hosts;
        if checkers {
            observers.extend(crate::checkers::all());
        }
        let seed = schedule.seed;
        let mut network = Network::new(Chances::new(seed));
        network.link = link;
        network.members = schedule.hosts;
        if schedule
            .faults
            .iter()
            .any(|fault| matches!(fault.kind, FaultKind::Replay { .. }))
        {
            network.capture(RECORDED);
        }
        let mut agenda = Agenda::default();
        let mut starts = stream(seed, Purpose::Start as u64);
        for host in (0..schedule.hosts).map(Host) {
            let within = STARTS_WITHIN.as_nanos() as u64;
            let after = Duration::from_nanos(below(&mut starts, within));
            agenda.start(START + after, host);
        }
        for &fault in &schedule.faults {
            agenda.fault(fault);
        }
        let crypto = schedule.crypto;
        let template = move |host| adjust(host, member_config(&schedule, host));
        let mut sim = Sim {
            seed,
            world: World::new(),
            network,
            dns: Dns::new(stream(seed, Purpose::Dns as u64)),
            crypto,
            slots: Vec::new(),
            factory: Box::new(app),
            template: Box::new(template),
            configs: Vec::new(),
            timers: BinaryHeap::new(),
            agenda,
            observers,
            violations: Vec::new(),
            collect,
            covered: BTreeMap::new(),
            begun: BTreeMap::new(),
            trace: TraceHash::new(),
            handled: 0,
            said: Said::default(),
            buf: Vec::new(),
            journal: Vec::new(),
            hub: Arc::new(Hub::new()),
            program,
            programs: BTreeMap::new(),
            beside: None,
            beside_busy_until: Instant::ZERO,
        };
        for host in (0..hosts).map(Host) {
            let config = (sim.template)(host);
            sim.add_host(config);
        }
        sim
    }
}

/// Returns the settings of a member that a schedule asks for.
fn member_config(schedule: &Schedule, host: Host) -> Config {
    // What members know of each other differs, or a mix-up would not show.
    let mut config = crate::config()
        .cluster_size(schedule.cluster_size)
        .name(format!("host {}", host.0))
        .metadata(vec![host.0 as u8; host.0 * 37 % 200]);
    if schedule.fast {
        config = config.local();
    }
    if schedule.quick_seats {
        config.seat_timeout = config.heartbeat_timeout;
    }
    if schedule.small {
        // With limits that are small, what has to pass them is large.
        config = with_small_limits(config)
            .name(format!("host {:0>1$}", host.0, MAX_NAME - "host ".len()))
            .metadata(vec![host.0 as u8; MAX_METADATA]);
    }
    if schedule.by_name {
        config = config.seed(CLUSTER);
    } else {
        for first in (0..schedule.hosts.min(2)).map(Host) {
            config = config.seed(home_of(first).to_string());
        }
    }
    let observers = schedule.hosts - schedule.observers.min(schedule.hosts);
    if (observers..schedule.hosts).contains(&host.0) {
        // It adopts the cluster's settings.
        config = config.role(Role::Observer);
    } else {
        config = config
            .surge(schedule.surge)
            .max_ttl(schedule.max_ttl)
            .allow_observers(schedule.allow_observers);
    }
    config
}

/// Limits that a few messages, or a few others, are enough to meet. There are no fewer tombstones: who was forgotten may
/// come back as it was.
fn with_small_limits(config: Config) -> Config {
    config
        .max_message_size(SMALL_MESSAGE)
        .window_bytes(SMALL_MESSAGE)
        .window_messages(4_usize)
        .message_queue_size(4_usize)
        .send_queue_size(8_usize)
        .outbox_bytes(4_096_usize)
        .max_half_open(8_usize)
        .max_dials(2_usize)
        .max_candidates(8_usize)
        .challenges_per_second(50_u32)
        .max_waiters(8_u32)
        // A node that is alone for a quarter of this forgets whom it knew. No datagram that is drawn is under way for as
        // long (50 s): who has left could come back by it.
        .tombstone_timeout(Duration::from_secs(60))
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}
