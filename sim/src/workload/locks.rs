//! Users that take locks, and give them back soon, late or never.

use super::ROOM;
use crate::app::Cx;
use quorate_core::{Duration, Instant, LockError, LockEvent, LockFilter, LockId, LockPage, LockRequest};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;

/// The shortest lease.
const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest that a user waits.
const LONGEST_WAIT: u64 = 20_000;
/// The lock that is taken only in the end.
const TRIAL: &str = "trial";
/// The other locks, as often as they are asked for in comparison.
const KEYS: &[u8] = &[0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5];
/// How many units the semaphore has.
const CAPACITY: u32 = 3;

/// Of so many requests for locks six come with a look at the table.
const LOOKS: u64 = 40;
/// One of so many locks that somebody sees in it is taken from its holder.
const TAKES: u64 = 6;

/// What becomes of a lock, or of a request for one.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// When it is given back; while it waits, when it is given up.
    ends: Option<Instant>,
    /// How long it is held; `None` for as long as possible.
    hold: Option<Duration>,
    /// How long it is held before its leases become of another length, and of which.
    change: Option<(Duration, Duration)>,
    change_at: Option<Instant>,
    trial: Option<Trial>,
}

/// A lock that has to be granted to everybody.
#[derive(Clone, Copy, Debug)]
struct Trial {
    key: &'static str,
    wait: Duration,
}

/// What the users of one member do with locks.
#[derive(Debug)]
pub(super) struct Locks {
    /// How many requests there are in a minute.
    per_minute: u32,
    max_ttl: Duration,
    rng: ChaCha8Rng,
    /// Decides who looks, and who takes locks from others.
    looks: ChaCha8Rng,
    next: Option<Instant>,
    plans: BTreeMap<LockId, Plan>,
    /// Those for which there was no room in the queue, and when they are asked for again.
    full: Vec<(Instant, Trial)>,
    /// What failed of what had to succeed.
    pub(super) failures: Vec<String>,
}

impl Locks {
    pub(super) fn new(per_minute: u32, max_ttl: Duration) -> Self {
        Self {
            per_minute,
            max_ttl: max_ttl.max(MIN_TTL),
            rng: ChaCha8Rng::from_seed([0; 32]),
            looks: ChaCha8Rng::from_seed([0; 32]),
            next: None,
            plans: BTreeMap::new(),
            full: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Begins. Everything is drawn from a stream of its own, which is the process's alone as its id is: what the other
    /// users draw does not depend on it.
    pub(super) fn start(&mut self, cx: &Cx<'_>) {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&cx.id().to_bytes());
        self.rng = ChaCha8Rng::from_seed(seed);
        self.looks = ChaCha8Rng::from_seed(seed);
        self.looks.set_stream(1);
        self.next = self.draw_next(cx.now());
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high.saturating_sub(low) + 1))
    }

    fn draw_next(&mut self, now: Instant) -> Option<Instant> {
        let mean = 60_000_000_000 / u64::from(self.per_minute.max(1));
        let after = Duration::from_nanos(self.below(2 * mean));
        (self.per_minute > 0).then(|| now + after)
    }

    fn ttl(&mut self) -> Duration {
        let most = self.max_ttl.as_millis() as u64;
        match self.below(4) {
            0 => MIN_TTL,
            1 => self.max_ttl,
            _ => self.millis(1_000, most),
        }
    }

    /// Each key has a kind of its own: most are held by one at a time, one is read and written, one has several units.
    fn request(&mut self) -> LockRequest {
        let key = KEYS[self.below(KEYS.len() as u64) as usize];
        let name = format!("lock {key}");
        let request = match key {
            3 if self.one_in(3) => LockRequest::write(name),
            3 => LockRequest::read(name),
            4 => {
                let units = 1 + self.below(u64::from(CAPACITY)) as u32;
                // Somebody who is mistaken about it.
                let capacity = CAPACITY + u32::from(self.one_in(16));
                LockRequest::units(name, units, capacity)
            }
            _ => LockRequest::new(name),
        };
        let request = request.ttl(self.ttl());
        let request = match self.below(8) {
            0..3 => request,
            3 | 4 => request.wait(self.millis(50, 2_000)),
            5 | 6 => request.wait(self.millis(2_000, LONGEST_WAIT / 2)),
            _ => request.wait(self.millis(LONGEST_WAIT / 2, LONGEST_WAIT)),
        };
        let request = match self.below(8) {
            0 => request.priority(self.below(256) as u8),
            _ => request,
        };
        match self.one_in(8) {
            true => request.metadata("user", "somebody"),
            false => request,
        }
    }

    fn plan(&mut self, now: Instant, ttl: Duration) -> Plan {
        let hold = match self.below(32) {
            0 => None,
            1..4 => Some(ttl + self.millis(0, 2 * ttl.as_millis() as u64)),
            4..8 => Some(self.millis(500, 3_000)),
            _ => Some(self.millis(0, 500)),
        };
        let change = self.one_in(6).then(|| (self.millis(0, 1_000), self.ttl()));
        let ends = self.one_in(8).then(|| now + self.millis(0, 1_500));
        Plan {
            ends,
            hold,
            change,
            change_at: None,
            trial: None,
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>) {
        let request = self.request();
        let ttl = request.ttl.unwrap_or(MIN_TTL);
        let plan = self.plan(cx.now(), ttl);
        // A refusal is an answer too; the checkers follow what was accepted.
        if let Ok(id) = cx.lock(request) {
            self.plans.insert(id, plan);
        }
    }

    /// Looks now and then who has what.
    fn look(&mut self, cx: &mut Cx<'_>) {
        let filter = LockFilter::new();
        let filter = match self.looks.next_u64() % LOOKS {
            0 => filter,
            1 => filter.held(),
            2 => filter.contested(),
            3 => filter.key("lock ?"),
            4 => filter.owner(cx.id()),
            5 => filter.metadata("user", "some*"),
            _ => return,
        };
        // A refusal is an answer too.
        let _ = cx.list_locks(filter, None);
    }

    /// Looks further, and takes locks from whoever holds them.
    fn seen(&mut self, cx: &mut Cx<'_>, page: &LockPage) {
        for token in page.rows.iter().filter_map(|row| row.token) {
            if self.looks.next_u64().is_multiple_of(TAKES) {
                let at_once = self.looks.next_u64().is_multiple_of(3);
                let _ = cx.revoke_lock(token, at_once);
            }
        }
        if page.next.is_some() {
            let _ = cx.list_locks(LockFilter::new(), page.next.clone());
        }
    }

    /// Asks for a lock that everybody asks for, waits for it, and gives it back at once: it must be granted in time.
    /// The other one was used before.
    pub(super) fn try_out(&mut self, cx: &mut Cx<'_>, fresh: Duration, used: Duration) {
        for (key, wait) in [(TRIAL, fresh), ("lock 0", used)] {
            self.attempt(cx, Trial { key, wait });
        }
    }

    fn attempt(&mut self, cx: &mut Cx<'_>, trial: Trial) {
        let request = LockRequest::new(trial.key).wait(trial.wait).ttl(MIN_TTL);
        let plan = Plan {
            ends: None,
            hold: Some(Duration::ZERO),
            change: None,
            change_at: None,
            trial: Some(trial),
        };
        match cx.lock(request) {
            Ok(id) => drop(self.plans.insert(id, plan)),
            Err(error) => self.failures.push(format!("{} refused: {error}", trial.key)),
        }
    }

    /// Returns how many of those have no outcome.
    pub(super) fn trials(&self) -> usize {
        let open = self.plans.values().filter(|plan| plan.trial.is_some());
        open.count() + self.full.len()
    }

    pub(super) fn event(&mut self, cx: &mut Cx<'_>, event: &LockEvent) {
        match *event {
            // Who rests leaves others alone.
            LockEvent::Listed { ref page, .. } if self.next.is_some() => self.seen(cx, page),
            LockEvent::Granted { id, .. } => {
                if let Some(plan) = self.plans.get_mut(&id) {
                    plan.ends = plan.hold.map(|hold| cx.now() + hold);
                    plan.change_at = plan.change.map(|(after, _)| cx.now() + after);
                }
            }
            LockEvent::Failed { id, error } => match self.plans.get(&id).and_then(|plan| plan.trial) {
                // Those who waited and are gone keep their places for a while.
                Some(trial) if matches!(error, LockError::TooManyWaiters(_)) => {
                    self.plans.remove(&id);
                    self.full.push((cx.now() + ROOM, trial));
                }
                _ => self.ended(id, || error.to_string()),
            },
            LockEvent::Lost { id, reason, .. } => self.ended(id, || format!("lost: {reason:?}")),
            LockEvent::Released { id } => drop(self.plans.remove(&id)),
            _ => {}
        }
    }

    fn ended(&mut self, id: LockId, why: impl FnOnce() -> String) {
        if let Some(trial) = self.plans.remove(&id).and_then(|plan| plan.trial) {
            self.failures.push(format!("{}: {}", trial.key, why()));
        }
    }

    /// Does what is due; `rests` says that users want no more locks, give back what they have, and give up the rest.
    pub(super) fn act(&mut self, cx: &mut Cx<'_>, rests: bool) {
        let now = cx.now();
        if rests {
            self.next = None;
        } else if self.next.is_some_and(|at| at <= now) {
            self.ask(cx);
            self.look(cx);
            self.next = self.draw_next(now);
        }
        let (full, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.full)
            .into_iter()
            .partition(|&(at, _)| at <= now);
        self.full = later;
        for (_, trial) in full {
            self.attempt(cx, trial);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let plans: Vec<_> = self.plans.iter().map(|(&id, &plan)| (id, plan)).collect();
        for (id, plan) in plans {
            if due(plan.ends) || (rests && plan.trial.is_none()) {
                // It may have failed, or be lost, and this was not told yet. The end of the plan is told as well.
                let _: Result<(), LockError> = cx.unlock(id);
                if let Some(plan) = self.plans.get_mut(&id) {
                    plan.ends = None;
                }
            } else if due(plan.change_at)
                && let Some((_, ttl)) = plan.change
            {
                let _ = cx.set_lock_ttl(id, ttl);
                if let Some(plan) = self.plans.get_mut(&id) {
                    plan.change_at = None;
                }
            }
        }
    }

    /// Returns when [`act`](Self::act) has something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let plans = self.plans.values();
        let times = plans.flat_map(|plan| [plan.ends, plan.change_at]).flatten();
        let full = self.full.iter().map(|&(at, _)| at);
        times.chain(self.next).chain(full).min()
    }

    /// Whether there is anything to give back or up.
    pub(super) fn is_busy(&self) -> bool {
        !self.plans.is_empty()
    }
}
