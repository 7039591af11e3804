//! The tasks of one process, or of nobody.

use super::TaskFuture;
use super::env::{Context, Env};
use super::hub::{DRIVER, Turn, Wakeup};
use quorate_core::Instant;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Wake as _, Waker};

/// A task.
pub(crate) struct Spawned {
    pub(crate) future: TaskFuture,
    pub(crate) wakeup: Arc<Wakeup>,
}

/// What somebody panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// What came of a turn.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) spawned: Vec<(Turn, Spawned)>,
    pub(crate) panic: Option<Panic>,
}

/// The tasks of one process, or of nobody.
pub(crate) struct Tasks {
    pub(crate) env: Env,
    tasks: BTreeMap<u64, Spawned>,
    /// Who wakes the driver.
    driver: Option<Arc<Wakeup>>,
    /// Those whose turn came while the process stood still or was at work.
    waiting: VecDeque<Turn>,
    /// The task that the program is.
    main: Option<u64>,
    turns: Turns,
}

/// So many turns keep a process at work for a while: who never waits for anything makes time pass too.
pub(crate) const TURNS: u32 = 1_000;

/// The turns that tasks had, other than the driver.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turns {
    at: Instant,
    /// How many at this moment.
    pub(crate) now: u32,
    /// How many since all of them waited for something.
    pub(crate) restless: u32,
    /// Some were left for a later moment.
    left: bool,
}

impl Tasks {
    pub(crate) fn new(env: Env, driver: Option<Arc<Wakeup>>) -> Self {
        Self {
            env,
            tasks: BTreeMap::new(),
            driver,
            waiting: VecDeque::new(),
            main: None,
            turns: Turns::default(),
        }
    }

    /// Counts a turn; returns how many there were.
    pub(crate) fn count_turn(&mut self, now: Instant) -> Turns {
        let turns = &mut self.turns;
        if turns.at != now {
            // What is left over because the host is slow says nothing.
            let goes_on = turns.left && turns.now >= TURNS;
            let restless = if goes_on { turns.restless } else { 0 };
            *turns = Turns {
                at: now,
                restless,
                ..Turns::default()
            };
        }
        turns.now += 1;
        turns.restless += 1;
        *turns
    }

    /// Leaves a turn for later.
    pub(crate) fn postpone(&mut self, turn: Turn) {
        self.turns.left |= turn.task != DRIVER;
        self.waiting.push_back(turn);
    }

    /// Returns whether turns were left for later.
    pub(crate) fn has_postponed(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The time has come for what was left for later.
    pub(crate) fn take_postponed(&mut self) -> impl Iterator<Item = Turn> {
        self.waiting.drain(..)
    }

    /// Returns what wakes the driver.
    pub(crate) fn driver(&self) -> Option<Arc<Wakeup>> {
        self.driver.clone()
    }

    pub(crate) fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    pub(crate) fn add(&mut self, number: u64, task: Spawned) {
        self.tasks.insert(number, task);
    }

    /// Names the task that the program is.
    pub(crate) const fn set_main(&mut self, number: u64) {
        self.main = Some(number);
    }

    /// Returns whether the program has come to its end, or there never was one.
    pub(crate) fn is_over(&self) -> bool {
        self.main.is_none_or(|main| !self.tasks.contains_key(&main))
    }

    /// Polls a task.
    pub(crate) fn poll(&mut self, number: u64) -> Done {
        let Some(task) = self.tasks.get_mut(&number) else {
            return Done::default();
        };
        task.wakeup.begin_turn();
        let waker = Waker::from(Arc::clone(&task.wakeup));
        let mut cx = std::task::Context::from_waker(&waker);
        let (polled, spawned) = Context::enter(&self.env, || task.future.as_mut().poll(&mut cx));
        let mut done = Done { spawned, panic: None };
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => done.panic = self.remove(number),
            Err(panic) => {
                self.remove(number);
                done.panic = Some(panic);
            }
        }
        done
    }

    /// Drops a task. What it spawns then never runs.
    fn remove(&mut self, number: u64) -> Option<Panic> {
        let task = self.tasks.remove(&number);
        Context::enter(&self.env, || drop(task)).0.err()
    }

    /// Drops all tasks, those that were spawned last first. Returns the first panic.
    pub(crate) fn end(&mut self) -> Option<(u64, Panic)> {
        self.waiting.clear();
        let mut first = None;
        while let Some(number) = self.tasks.keys().next_back().copied() {
            let panic = self.remove(number);
            first = first.or(panic.map(|panic| (number, panic)));
        }
        first
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks")
            .field("count", &self.tasks.len())
            .finish_non_exhaustive()
    }
}
