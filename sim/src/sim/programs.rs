//! Processes that run programs: their drivers and tasks get their turns here.

use super::processes::Birth;
use super::{Purpose, SOCKET_BUFFER, Sim, opened, stream};
use crate::app::{App, Idle};
use crate::fault::Host;
use crate::network::InFlight;
use crate::observe::Seen;
use crate::program::{
    self, Asked, DRIVER, Env, Program, Request, SimIo, Spawned, TURNS, Tasks, Turn, Wakeup,
};
use crate::run::panic_message;
use crate::schedule::{Crypto, Schedule};
use crate::witness;
use crate::world::{Engine, NodeIndex, home_of, host_of};
use quorate::{Cluster, Driver, Filter, Setup, StartError};
use quorate_core::journal::Keep;
use quorate_core::{ConfigError, Duration, Instant};
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// For how long [`TURNS`] keep a process at work.
const TURNS_TAKE: Duration = Duration::from_millis(1);
/// Whose tasks have so many turns, and never all wait in between, will not come to an end.
const RESTLESS: u32 = 1_000_000;
/// For how long it is waited for a future.
const PATIENCE: Duration = Duration::from_secs(2 * 3_600);

/// Runs a future to its end in a simulation of its own, on a network that is well, with all checkers, and
/// with the real cryptography. It is not part of a node, and starts those that it wants with [`Env::start`]. Everything random is drawn from `seed`.
///
/// ```
/// use quorate_sim::{Env, block_on, config};
///
/// let members = block_on(7, async {
///     let env = Env::current();
///     let first = env.start(config()).await.expect("the settings are right");
///     let second = env.start(config().seed(first.local_addr().to_string())).await.expect("these too");
///     second.ready().await.expect("it runs");
///     second.member_count()
/// });
/// assert_eq!(members, 1);
/// ```
///
/// # Panics
/// As [`Sim::block_on`].
pub fn block_on<F: Future>(seed: u64, future: F) -> F::Output {
    let schedule = Schedule {
        crypto: Crypto::Real,
        ..Schedule::calm(seed, 0)
    };
    Sim::builder()
        .schedule(schedule)
        .build_with(|_| Idle)
        .block_on(future)
}

impl<A: App> Sim<A> {
    /// Starts a program on a new host, with the settings that the builder gives to members there. Whatever starts on
    /// that host later, after a crash say, runs the program anew.
    ///
    /// The program is async code against a [`Cluster`], as it runs on a real machine. The driver of its node is the
    /// real one; sockets, clocks, timers and names are simulated. The process goes on until the node has left or is
    /// killed, also where the program returns earlier: other tasks may be at work, and a node leaves by itself when its
    /// last handle is dropped. A program that has not returned when its node has left goes on until it does, or until
    /// something else starts on its host.
    ///
    /// ```
    /// use quorate_sim::{Duration, Sim};
    ///
    /// let mut sim = Sim::builder().seed(1).config(|_, config| config.cluster_size(3)).build();
    /// for _ in 0..3 {
    ///     sim.node(|cluster, env| async move {
    ///         let guard = cluster.lock("a").acquire().await.expect("the node runs");
    ///         env.sleep(Duration::from_secs(1)).await;
    ///         if guard.check().is_ok() {
    ///             env.cover("worked under the lock");
    ///         }
    ///     });
    /// }
    /// sim.run_for(Duration::from_secs(60));
    /// assert_eq!(sim.coverage()["worked under the lock"], 3);
    /// ```
    ///
    /// # Panics
    /// If the settings that the builder gives are invalid.
    pub fn node<F>(&mut self, program: impl Fn(Cluster, Env) -> F + 'static) -> NodeIndex
    where
        F: Future<Output = ()> + 'static,
    {
        let next = Host(self.world.machines.len());
        let config = (self.template)(next);
        let host = self.add_host(config);
        if self.network.members == host.0 {
            // It is found by the cluster's name, as those of the schedule are.
            self.network.members += 1;
        }
        self.programs.insert(host, program::program(program));
        self.start_on(host)
    }

    /// Returns what runs on a host, if that is a program.
    pub(super) fn program_of(&self, host: Host) -> Option<Program> {
        self.programs.get(&host).or(self.program.as_ref()).cloned()
    }

    /// Starts a process on a host whose node is driven by the real driver.
    pub(super) fn start_driven(
        &mut self,
        host: Host,
        member: bool,
        filter: Option<Filter>,
    ) -> Result<(NodeIndex, Cluster), ConfigError> {
        let birth = self.conceive(host);
        let Birth { attempt, own, .. } = birth;
        let clock = self.world.clock_of(Some(host));
        let io = SimIo::new(clock.clone(), birth.wall, home_of(host), filter);
        let mut setup = Setup::new(birth.config.clone(), birth.seed);
        if self.crypto == Crypto::Simulated {
            setup = setup.simulated();
        }
        let (cluster, mut driver) = Driver::new(setup, io)?;
        driver.node_mut().keep_journal(Keep::All);
        let index = self.give_birth(birth, member, Engine::Driven(Box::new(driver)));
        let env = Env::new(
            Some((index, host)),
            attempt,
            clock,
            Arc::clone(&self.hub),
            stream(self.seed, own),
        );
        let turn = Turn {
            owner: Some(index),
            task: DRIVER,
        };
        self.slots[index.0].tasks = Some(Tasks::new(env, Some(Wakeup::queued(turn, &self.hub))));
        self.refresh_host(host);
        Ok((index, cluster))
    }

    /// Lets a process run its program.
    pub(super) fn begin_program(&mut self, index: NodeIndex, cluster: Cluster, program: &Program) {
        let Some(tasks) = &mut self.slots[index.0].tasks else {
            return;
        };
        let (env, program) = (tasks.env.clone(), program.clone());
        let (turn, wakeup) = env.next_task();
        // Also what the closure does before it gives its future happens in its first turn.
        let body = {
            let env = env.clone();
            async move { program(cluster, env).await }
        };
        tasks.set_main(turn.task);
        let future = Box::pin(body);
        tasks.add(turn.task, Spawned { future, wakeup });
    }

    /// Gives a task its turn.
    pub(super) fn take_turn(&mut self, turn: Turn) {
        if self.postpone(turn) {
            return;
        }
        if let Some(index) = turn.owner.filter(|_| turn.task == DRIVER) {
            self.drive(index);
            self.look_for_threads();
            return witness::note(self.world.elapsed(), self.trace.value());
        }
        let tasks = match turn.owner {
            Some(index) => self.slots[index.0].tasks.as_mut(),
            None => self.beside.as_mut(),
        };
        let Some(tasks) = tasks else { return };
        self.trace.number(self.world.now.as_nanos());
        self.trace
            .number(turn.owner.map_or(u64::MAX, |index| index.0 as u64));
        self.trace.number(turn.task);
        // What draws by this, as `race` of futures-lite does, draws the same in the same run.
        fastrand::seed(self.trace.value());
        let done = tasks.poll(turn.task);
        self.add_tasks(done.spawned);
        if let Some(panic) = done.panic {
            let whom = self.name_of(turn.owner);
            let what = panic_message(&*panic);
            self.object(
                "program",
                format!("task {} of {whom} panicked: {what}", turn.task),
            );
        }
        self.count_turn(turn);
        self.hear();
        if let Some(index) = turn.owner {
            self.retire(index);
            self.rearm(index);
        }
        witness::note(self.world.elapsed(), self.trace.value());
    }

    fn add_tasks(&mut self, spawned: Vec<(Turn, Spawned)>) {
        for (turn, task) in spawned {
            let tasks = match turn.owner {
                Some(index) => self.slots[index.0].tasks.as_mut(),
                None => self.beside.as_mut(),
            };
            if let Some(tasks) = tasks {
                tasks.add(turn.task, task);
            }
        }
    }

    /// Runs a future beside all processes until it is done, and everything else meanwhile. In it, [`Env::current`] is
    /// an environment without a host, whose clock is right.
    ///
    /// # Panics
    /// If the future panics, something is wrong in the run, nothing is left to happen that could wake the future, or it
    /// is not done after two hours of the run.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        let env = match &self.beside {
            Some(tasks) => tasks.env.clone(),
            None => {
                let rng = stream(self.seed, Purpose::Beside as u64);
                let env = Env::new(None, 0, self.world.clock_of(None), Arc::clone(&self.hub), rng);
                self.beside.insert(Tasks::new(env, None)).env.clone()
            }
        };
        let (own, wakeup) = env.next_task();
        let waker = Waker::from(Arc::clone(&wakeup));
        let mut future = pin!(future);
        let end = self.world.now + PATIENCE;
        loop {
            match self.hub.pop() {
                Some(turn) if turn == own => {
                    if self.postpone(turn) {
                        continue;
                    }
                    self.count_turn(turn);
                    wakeup.begin_turn();
                    fastrand::seed(self.trace.value());
                    let mut cx = Context::from_waker(&waker);
                    let (polled, spawned) = program::Context::enter(&env, || future.as_mut().poll(&mut cx));
                    self.add_tasks(spawned);
                    self.hear();
                    match polled {
                        Ok(Poll::Ready(output)) => return output,
                        Ok(Poll::Pending) => {}
                        Err(panic) => resume_unwind(panic),
                    }
                }
                Some(turn) => self.take_turn(turn),
                None if self.step(end) => {}
                None => self.give_up(),
            }
        }
    }

    /// Says why nothing comes of waiting any longer.
    fn give_up(&self) -> ! {
        let seed = self.seed;
        match self.violations.first() {
            Some(violation) => panic!("seed {seed:#x}: {violation}"),
            None if self.due() == [Instant::FAR_FUTURE; 4] => {
                panic!("seed {seed:#x}: deadlock: the future is not done, and nothing is left to happen")
            }
            None => panic!("seed {seed:#x}: the future is not done after {PATIENCE:?} of the run"),
        }
    }

    /// Lets a turn wait, if it is not possible now; returns whether it is not.
    fn postpone(&mut self, turn: Turn) -> bool {
        let Some(index) = turn.owner else {
            let busy = self.world.now < self.beside_busy_until;
            if let Some(tasks) = self.beside.as_mut().filter(|_| busy) {
                tasks.postpone(turn);
            }
            return busy;
        };
        let held_up = self.is_held_up(index);
        if held_up {
            if let Some(tasks) = &mut self.slots[index.0].tasks {
                tasks.postpone(turn);
            }
            self.rearm(index);
        }
        held_up
    }

    /// Accounts for the turn of a task that is not the driver.
    fn count_turn(&mut self, turn: Turn) {
        let (tasks, busy_until) = match turn.owner {
            Some(index) => {
                let slot = &mut self.slots[index.0];
                (slot.tasks.as_mut(), &mut slot.busy_until)
            }
            None => (self.beside.as_mut(), &mut self.beside_busy_until),
        };
        let Some(tasks) = tasks else { return };
        let now = self.world.now;
        let turns = tasks.count_turn(now);
        if turns.now >= TURNS {
            *busy_until = (*busy_until).max(now + TURNS_TAKE);
        }
        if turns.restless == RESTLESS {
            let whom = self.name_of(turn.owner);
            let what = format!(
                "task {} of {whom} wakes itself, or is woken, again and again: {RESTLESS} turns of the tasks there without \
                 a moment at which all of them wait",
                turn.task
            );
            self.object("program", what);
        }
    }

    /// Returns whether nothing of a process can be polled now.
    fn is_held_up(&self, index: NodeIndex) -> bool {
        self.world.process(index).paused.is_some() || self.world.now < self.slots[index.0].busy_until
    }

    fn name_of(&self, owner: Option<NodeIndex>) -> String {
        match owner {
            Some(index) => format!("{index} on host {}", self.world.process(index).host.0),
            None => "nobody".to_owned(),
        }
    }

    /// Hears what tasks said, and does what they asked for.
    fn hear(&mut self) {
        self.look_for_threads();
        let words = self.hub.take_words();
        for (name, times) in words.covered {
            self.trace.bytes(name.as_bytes());
            self.trace.number(times);
            *self.covered.entry(name).or_default() += times;
        }
        if let Some(what) = words.failure {
            self.trace.bytes(what.as_bytes());
            self.object("program", what);
        }
        while let Some(request) = self.hub.take_request() {
            match request {
                Request::Start(asked) => self.start_for(*asked),
                Request::Crash(id) => {
                    if let Some(index) = self.world.find(id).filter(|&index| self.is_running(index)) {
                        self.crash(index);
                    }
                }
            }
        }
    }

    fn look_for_threads(&mut self) {
        if self.hub.was_woken_from_elsewhere() {
            let what = "a task was woken from another thread: what threads do, and when, is not simulated";
            self.object("determinism", what.to_owned());
        }
    }

    /// Starts a node for a task.
    fn start_for(&mut self, mut asked: Asked) {
        let host = match self.host_for(&asked.config.bind) {
            Ok(host) => host,
            Err((addr, kind)) => {
                let source = io::Error::from(kind);
                return asked.answer(Err(StartError::Bind { addr, source }));
            }
        };
        if let Err(error) = asked.config.validate() {
            return asked.answer(Err(error.into()));
        }
        let config = asked.config.clone();
        let host = match host {
            Some(host) => {
                self.configs[host.0] = config;
                host
            }
            None => self.add_host(config),
        };
        let started = self.start_driven(host, true, asked.filter.take());
        asked.answer(started.map(|(_, cluster)| cluster).map_err(StartError::Config));
    }

    /// Returns the host that an address to bind stands for; `None` for a new one.
    fn host_for(&self, bind: &str) -> Result<Option<Host>, (SocketAddr, io::ErrorKind)> {
        let Ok(addr) = bind.parse::<SocketAddr>() else {
            // The config is refused for that.
            return Ok(None);
        };
        let ip = addr.ip();
        if ip.is_unspecified() || (ip.is_loopback() && addr.port() == 0) {
            return Ok(None);
        }
        match host_of(addr).filter(|host| host.0 < self.world.machines.len()) {
            None => Err((addr, io::ErrorKind::AddrNotAvailable)),
            Some(host) if self.is_occupied(host) => Err((addr, io::ErrorKind::AddrInUse)),
            host => Ok(host),
        }
    }

    fn is_occupied(&self, host: Host) -> bool {
        let mut processes = self.world.processes.iter();
        processes.any(|process| process.host == host && process.ended.is_none())
    }

    /// Runs the driver of a process until it waits. Whatever the node is given is seen by itself, as for applications
    /// without I/O.
    fn drive(&mut self, index: NodeIndex) {
        let Some(tasks) = &self.slots[index.0].tasks else {
            return;
        };
        let Some(wakeup) = tasks.driver() else { return };
        wakeup.begin_turn();
        let waker = Waker::from(Arc::clone(&wakeup));
        loop {
            if self.is_held_up(index) {
                // In the middle of a pass: it goes on there.
                Waker::wake_by_ref(&waker);
                break;
            }
            let Some(driver) = self.world.processes[index.0].driver_mut() else {
                return;
            };
            let before = opened(driver.node().stats());
            let step = driver.poll_step(&mut Context::from_waker(&waker));
            let opened = opened(driver.node().stats()) > before;
            self.look(index, opened);
            match step {
                None => {}
                Some(Poll::Pending) => break,
                Some(Poll::Ready(())) => {
                    self.end(index);
                    self.world.processes[index.0].engine = None;
                    self.retire(index);
                    break;
                }
            }
        }
        self.rearm(index);
    }

    /// Shows what a step of a driver came to, and sends what is to be sent.
    fn look(&mut self, index: NodeIndex, opened: bool) {
        let Some(driver) = self.world.processes[index.0].driver_mut() else {
            return;
        };
        let io = driver.io_mut();
        let received = io.received.take();
        let lookups = io.take_lookups();
        let mut outbox = std::mem::take(&mut io.outbox);
        let mut sent = std::mem::take(&mut io.sent);
        let mut happened = received.is_some() || !outbox.is_empty();
        if let Some(flying) = received {
            self.was_handed(index, flying, opened);
        }
        happened |= self.report_journal(index);
        for lookup in lookups {
            let (addrs, after) = self.dns.resolve(&lookup.host);
            if after.is_zero() {
                lookup.answer(&addrs);
            } else {
                self.agenda.find(self.world.now + after, lookup, addrs);
            }
        }
        let mut from = 0;
        for datagram in outbox.drain(..) {
            let bytes = &sent[from..from + datagram.len];
            from += datagram.len;
            self.send(index, datagram.to, bytes, datagram.lost);
        }
        sent.clear();
        if let Some(driver) = self.world.processes[index.0].driver_mut() {
            let io = driver.io_mut();
            (io.outbox, io.sent) = (outbox, sent);
        }
        if happened {
            self.see(&Seen::Settled { node: index });
        }
    }

    /// Lets a driver look at what it was given.
    pub(super) fn wake_driver(&mut self, index: NodeIndex) {
        let unread = !self.slots[index.0].reads();
        if let Some(driver) = self.world.processes[index.0].driver_mut() {
            driver.set_unread(unread);
        }
        if let Some(tasks) = &self.slots[index.0].tasks {
            tasks.wake_driver();
        }
    }

    /// Puts a datagram into the buffer of a driver's socket.
    pub(super) fn put_into_socket(&mut self, index: NodeIndex, flying: InFlight) {
        let driver = self.world.processes[index.0].driver_mut();
        let room = driver
            .map(Driver::io_mut)
            .filter(|io| io.inbox.len() < SOCKET_BUFFER);
        match room {
            Some(io) => {
                io.inbox.push_back(flying);
                if let Some(tasks) = &self.slots[index.0].tasks {
                    tasks.wake_driver();
                }
            }
            None => self.undelivered(flying),
        }
    }

    /// The time has come for which a process waits: its timers are due, or it goes on after it stood still.
    pub(super) fn attend_tasks(&mut self, index: NodeIndex) {
        if self.is_held_up(index) {
            return self.rearm(index);
        }
        let local = self.world.clock(self.world.process(index).host);
        let Some(tasks) = &mut self.slots[index.0].tasks else {
            return;
        };
        for turn in tasks.take_postponed() {
            self.hub.push(turn);
        }
        if let Some(driver) = self.world.processes[index.0].driver_mut() {
            let timer = &mut driver.io_mut().timer;
            if timer.is_some_and(|at| at <= local) {
                *timer = None;
                tasks.wake_driver();
            }
        }
        tasks.env.fire();
        self.rearm(index);
    }

    pub(super) fn rearm_tasks(&mut self, index: NodeIndex) {
        let process = &mut self.world.processes[index.0];
        let (host, paused) = (process.host, process.paused.is_some());
        let timer = process.driver_mut().and_then(|driver| driver.io_mut().timer);
        let Some(tasks) = &self.slots[index.0].tasks else {
            return;
        };
        if paused {
            return;
        }
        if tasks.has_postponed() {
            return self.arm(index, self.world.now);
        }
        let wish = [timer, tasks.env.next_timer()].into_iter().flatten().min();
        if let Some(at) = wish.and_then(|at| self.world.machines[host.0].clock.due(at)) {
            self.arm(index, at);
        }
    }

    /// Ends the tasks of a process whose node is gone and whose program has come to its end.
    fn retire(&mut self, index: NodeIndex) {
        let over = |tasks: &Tasks| tasks.is_over();
        if self.world.process(index).ended.is_some() && self.slots[index.0].tasks.as_ref().is_some_and(over) {
            self.end_tasks(index);
        }
    }

    /// Drops all tasks of a process.
    pub(super) fn end_tasks(&mut self, index: NodeIndex) {
        let Some(mut tasks) = self.slots[index.0].tasks.take() else {
            return;
        };
        if let Some((task, panic)) = tasks.end() {
            let (whom, what) = (self.name_of(Some(index)), panic_message(&*panic));
            let what = format!("task {task} of {whom} panicked while it was dropped: {what}");
            self.object("program", what);
        }
        self.hear();
    }

    /// Ends what had outlived its node on a host.
    pub(super) fn clear(&mut self, host: Host) {
        for index in 0..self.slots.len() {
            let process = &self.world.processes[index];
            if process.host == host && process.ended.is_some() {
                self.end_tasks(NodeIndex(index));
            }
        }
    }

    /// Returns when what runs beside all processes wants to be woken.
    pub(super) fn beside_due(&self) -> Instant {
        let Some(tasks) = &self.beside else {
            return Instant::FAR_FUTURE;
        };
        let busy = tasks.has_postponed().then_some(self.beside_busy_until);
        let due = [busy, tasks.env.next_timer()].into_iter().flatten().min();
        due.unwrap_or(Instant::FAR_FUTURE)
    }

    pub(super) fn attend_beside(&mut self) {
        let busy = self.world.now < self.beside_busy_until;
        let Some(tasks) = &mut self.beside else {
            return;
        };
        if !busy {
            for turn in tasks.take_postponed() {
                self.hub.push(turn);
            }
        }
        tasks.env.fire();
    }
}
