//! What a program finds around it: time, tasks, randomness, and the simulator that runs it.

use super::clock::HostClock;
use super::hub::{Hub, Turn, Wakeup, lock};
use super::tasks::{Panic, Spawned};
use crate::fault::Host;
use crate::world::{NodeIndex, host_of, name_of};
use quorate::{Cluster, Filter, StartError, SteadyClock as _};
use quorate_core::{Config, Duration, Instant, NodeId};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

thread_local! {
    /// Where the task runs that is being polled or dropped on this thread.
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Where a task runs, and what it spawned.
pub(crate) struct Context {
    env: Env,
    spawned: Vec<(Turn, Spawned)>,
}

impl Context {
    /// Lets something happen inside a process. Returns also what it spawned.
    pub(crate) fn enter<T>(env: &Env, act: impl FnOnce() -> T) -> (Result<T, Panic>, Vec<(Turn, Spawned)>) {
        let context = Self {
            env: env.clone(),
            spawned: Vec::new(),
        };
        let before = CURRENT.replace(Some(context));
        let result = catch_unwind(AssertUnwindSafe(act));
        let after = CURRENT.replace(before);
        (result, after.map_or_else(Vec::new, |context| context.spawned))
    }
}

/// What a task asks the simulator for.
#[derive(Debug)]
pub(crate) enum Request {
    Start(Box<Birth>),
    Crash(NodeId),
}

/// A node that is to be started.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) config: Config,
    pub(crate) filter: Option<Filter>,
    answer: Arc<Mutex<Answer>>,
}

/// The answer, and who waits for it.
#[derive(Debug, Default)]
struct Answer {
    started: Option<Result<Cluster, StartError>>,
    waker: Option<Waker>,
}

impl Birth {
    pub(crate) fn answer(self, started: Result<Cluster, StartError>) {
        let mut answer = lock(&self.answer);
        answer.started = Some(started);
        let waker = answer.waker.take();
        drop(answer);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a simulated program finds around it. Cheap to clone; every task of a process has the same one.
///
/// Everything that happens in a run follows from its schedule, as long as programs wait, and draw, by what is here (or by
/// wakers alone, as channels do): real clocks, real randomness and threads are not simulated.
#[derive(Clone)]
pub struct Env(Arc<Inner>);

struct Inner {
    /// `None` for what runs beside all processes.
    process: Option<(NodeIndex, Host)>,
    attempt: u32,
    clock: HostClock,
    hub: Arc<Hub>,
    timers: Mutex<Timers>,
    rng: Mutex<ChaCha8Rng>,
    /// The number of the last task.
    tasks: AtomicU64,
}

/// Who sleeps until when, on the host's clock; those who wake at the same time do so in the order in which they began.
#[derive(Debug, Default)]
struct Timers {
    begun: u64,
    waiting: BTreeMap<(Instant, u64), Waker>,
}

impl Env {
    pub(crate) fn new(
        process: Option<(NodeIndex, Host)>,
        attempt: u32,
        clock: HostClock,
        hub: Arc<Hub>,
        rng: ChaCha8Rng,
    ) -> Self {
        Self(Arc::new(Inner {
            process,
            attempt,
            clock,
            hub,
            timers: Mutex::default(),
            rng: Mutex::new(rng),
            tasks: AtomicU64::new(0),
        }))
    }

    /// Returns the environment of the task that is running.
    ///
    /// # Panics
    /// Outside of simulated tasks.
    pub fn current() -> Self {
        let current = CURRENT.with_borrow(|current| current.as_ref().map(|context| context.env.clone()));
        current.expect("a simulated task is running on this thread")
    }

    /// Returns the host; `None` for what runs beside all processes ([`block_on`](crate::block_on)).
    pub fn host(&self) -> Option<Host> {
        self.0.process.map(|(_, host)| host)
    }

    /// Returns the process; `None` for what runs beside all processes.
    pub fn process(&self) -> Option<NodeIndex> {
        self.0.process.map(|(index, _)| index)
    }

    /// Returns how many processes were started on this host so far, this one included: 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Returns the time on this host's steady clock, which may be wrong.
    pub fn now(&self) -> Instant {
        self.0.clock.now()
    }

    /// Returns the true time, which no program knows in earnest. For bookkeeping of tests.
    pub fn true_time(&self) -> Instant {
        self.0.clock.true_time()
    }

    /// Draws 64 bits from this process's own stream.
    pub fn random(&self) -> u64 {
        lock(&self.0.rng).next_u64()
    }

    /// Reports that something is wrong that the program itself noticed: a violation. The task goes on to its next
    /// `.await`.
    pub fn fail(&self, what: impl Into<String>) {
        let what = format!("{self}: {}", what.into());
        self.0.hub.say(|words| {
            words.failure.get_or_insert(what);
        });
    }

    /// Counts that something rare happened, see [`Sim::coverage`](crate::Sim::coverage).
    pub fn cover(&self, name: &'static str) {
        self.0
            .hub
            .say(|words| *words.covered.entry(name).or_default() += 1);
    }

    /// Waits for so long, on this host's clock.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Waits until this host's clock shows this.
    pub fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep {
            env: self.clone(),
            at,
            begun: None,
        }
    }

    /// Runs a future for at most so long, on this host's clock; `None`: it was not done by then.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let (mut future, mut sleep) = (pin!(future), self.sleep(limit));
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| None)
        })
        .await
    }

    /// Runs a future beside the present one, as a task of this environment's process. It ends with the process.
    ///
    /// # Panics
    /// Outside of simulated tasks.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let shared = Rc::new(RefCell::new(Join {
            state: JoinState::Runs,
            joiner: None,
        }));
        let join = Rc::clone(&shared);
        let body = async move {
            let mut future = Box::pin(future);
            let output = poll_fn(|cx| {
                if matches!(join.borrow().state, JoinState::Cancelled) {
                    return Poll::Ready(None);
                }
                future.as_mut().poll(cx).map(Some)
            })
            .await;
            drop(future);
            let mut join = join.borrow_mut();
            if let Some(output) = output {
                join.state = JoinState::Done(output);
            }
            if let Some(joiner) = join.joiner.take() {
                joiner.wake();
            }
        };
        let (turn, wakeup) = self.next_task();
        let waker = Waker::from(Arc::clone(&wakeup));
        let spawned = Spawned {
            future: Box::pin(body),
            wakeup,
        };
        let entered = CURRENT.with_borrow_mut(|current| match current {
            Some(context) => {
                context.spawned.push((turn, spawned));
                true
            }
            None => false,
        });
        assert!(entered, "a simulated task is running on this thread");
        Task { shared, waker }
    }

    /// Numbers a new task, which waits for its first turn.
    pub(crate) fn next_task(&self) -> (Turn, Arc<Wakeup>) {
        let turn = Turn {
            owner: self.process(),
            task: self.0.tasks.fetch_add(1, Ordering::Relaxed) + 1,
        };
        (turn, Wakeup::queued(turn, &self.0.hub))
    }

    /// Starts a node on a new host, or on the host whose address `bind` names: the address of a node that was started
    /// before ([`Cluster::local_addr`]), whose host gets a new process once the old one has ended. `127.0.0.1:0`, and
    /// any unspecified address, stand for a new host.
    pub fn start(&self, config: Config) -> Start {
        self.start_with(config, None)
    }

    /// Starts a node, as [`Env::start`] does, all of whose outgoing datagrams pass a filter.
    pub fn start_filtered(&self, config: Config, filter: Filter) -> Start {
        self.start_with(config, Some(filter))
    }

    /// Returns the name that resolves to this address and nothing else, if it belongs to a host: `host-0.sim` for the
    /// first one.
    pub fn name_of(&self, addr: SocketAddr) -> Option<String> {
        host_of(addr).map(name_of)
    }

    /// Kills the process of a node, without a goodbye, as soon as this task waits. One that has ended stays as it is.
    pub fn crash(&self, node: NodeId) {
        self.0.hub.ask(Request::Crash(node));
    }

    fn start_with(&self, config: Config, filter: Option<Filter>) -> Start {
        Start {
            hub: Arc::clone(&self.0.hub),
            asked: Some((config, filter)),
            answer: Arc::default(),
        }
    }

    /// Returns when the first of those who sleep has to be woken.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        lock(&self.0.timers).waiting.keys().next().map(|&(at, _)| at)
    }

    /// Wakes all who slept long enough.
    pub(crate) fn fire(&self) {
        let now = self.now();
        loop {
            let mut timers = lock(&self.0.timers);
            let first = timers.waiting.first_entry();
            let Some(due) = first.filter(|first| first.key().0 <= now) else {
                return;
            };
            let waker = due.remove();
            drop(timers);
            waker.wake();
        }
    }
}

impl std::fmt::Display for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.process {
            Some((index, host)) => write!(f, "process {} on host {}", index.0, host.0),
            None => f.write_str("beside all processes"),
        }
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("process", &self.0.process)
            .finish_non_exhaustive()
    }
}

/// A wait, see [`Env::sleep`].
#[derive(Debug)]
#[must_use = "nothing waits before it is awaited"]
pub struct Sleep {
    env: Env,
    at: Instant,
    /// Its number among those who sleep.
    begun: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.env.now() >= this.at {
            return Poll::Ready(());
        }
        let mut timers = lock(&this.env.0.timers);
        let number = *this.begun.get_or_insert_with(|| {
            timers.begun += 1;
            timers.begun
        });
        timers.waiting.insert((this.at, number), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.begun {
            lock(&self.env.0.timers).waiting.remove(&(self.at, number));
        }
    }
}

/// A node that is being started, see [`Env::start`]. Dropped before it was polled, it has started nothing.
#[derive(Debug)]
#[must_use = "nothing is started before it is awaited"]
pub struct Start {
    hub: Arc<Hub>,
    asked: Option<(Config, Option<Filter>)>,
    answer: Arc<Mutex<Answer>>,
}

impl Future for Start {
    type Output = Result<Cluster, StartError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some((config, filter)) = this.asked.take() {
            this.hub.ask(Request::Start(Box::new(Birth {
                config,
                filter,
                answer: Arc::clone(&this.answer),
            })));
        }
        let mut answer = lock(&this.answer);
        match answer.started.take() {
            Some(started) => Poll::Ready(started),
            None => {
                answer.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A task, see [`Env::spawn`]. Awaiting it gives what it came to; dropping this lets it go on by itself.
pub struct Task<T> {
    shared: Rc<RefCell<Join<T>>>,
    waker: Waker,
}

struct Join<T> {
    state: JoinState<T>,
    joiner: Option<Waker>,
}

enum JoinState<T> {
    Runs,
    Cancelled,
    Done(T),
    Taken,
}

impl<T> Task<T> {
    /// Drops the task's future, wherever it stands, at its next turn.
    pub fn cancel(self) {
        let mut join = self.shared.borrow_mut();
        if matches!(join.state, JoinState::Runs) {
            join.state = JoinState::Cancelled;
            drop(join);
            self.waker.wake_by_ref();
        }
    }

    /// Returns whether it has come to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.shared.borrow().state, JoinState::Done(_) | JoinState::Taken)
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<T> {
        let mut join = self.shared.borrow_mut();
        if matches!(join.state, JoinState::Done(_))
            && let JoinState::Done(output) = mem::replace(&mut join.state, JoinState::Taken)
        {
            return Poll::Ready(output);
        }
        join.joiner = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}
