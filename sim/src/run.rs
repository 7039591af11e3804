//! One run from beginning to end: chaos, then calm, in which everything must work again.

mod groups;
#[cfg(test)]
mod tests;

use crate::app::{App, Idle};
use crate::checkers::Coverage;
use crate::observe::{Observer, Violation};
use crate::program::Env;
use crate::schedule::Schedule;
use crate::sim::{Builder, Sim};
use crate::witness;
use crate::workload::Users;
use crate::world::{NodeIndex, Process, START};
use quorate::Cluster;
use quorate_core::{Config, Duration};
use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use groups::group_bound;

/// How often the calm is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// For how long nothing more may happen in the end, at least.
const QUIET: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed of its schedule.
    pub seed: u64,
    /// The first thing that went wrong.
    pub violation: Option<Violation>,
    /// Tells two runs apart: over everything that was sent, told and delivered.
    pub trace_hash: u64,
    /// How many datagrams were handed over and timers fired.
    pub events: u64,
    /// How much time passed in the run.
    pub simulated: Duration,
    /// How many faults of each kind began.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often rare situations occurred, by name; those that did not are there with 0. Empty without checkers.
    pub coverage: BTreeMap<&'static str, u64>,
    /// How long it took after the last fault until every member listed every other.
    pub recovered_after: Option<Duration>,
}

/// Runs a schedule with the built-in users, and with all checkers unless `checkers` is false. What panics counts as a
/// violation.
///
/// # Panics
/// If the schedule is not valid ([`Schedule::validate`]).
pub fn run(schedule: &Schedule, checkers: bool) -> Report {
    let build = |builder: Builder| users(schedule, builder);
    drive(schedule, checkers, Vec::new(), build, try_out).0
}

/// As [`run`]; somebody sees everything that happens.
///
/// # Panics
/// If the schedule is not valid ([`Schedule::validate`]).
pub fn run_observed<O: Observer>(schedule: &Schedule, checkers: bool, observer: O) -> (Report, O) {
    let build = |builder: Builder| users(schedule, builder);
    observed(drive(
        schedule,
        checkers,
        vec![Box::new(observer)],
        build,
        try_out,
    ))
}

/// As [`run`], with a program of yours on every host in place of the built-in users: each process that starts runs it
/// anew, as [`Sim::node`] says. `make` is called once for each run, and makes what its processes share.
///
/// For one seed in sixteen the schedule is run twice: if the two runs differ, that is a violation by `determinism`.
///
/// ```
/// use quorate_sim::{Draw, Duration, Schedule, run_program};
///
/// let schedule = Schedule::draw(0, &Draw { chaos: Duration::from_secs(10), ..Draw::default() });
/// let report = run_program(&schedule, || {
///     |cluster, env| async move {
///         let mut messages = cluster.messages();
///         env.spawn(async move { while messages.next().await.is_some() {} });
///         while cluster.broadcast("tick").await.is_ok() {
///             env.sleep(Duration::from_secs(1)).await;
///         }
///     }
/// });
/// assert_eq!(report.violation, None);
/// ```
///
/// # Panics
/// If the schedule is not valid ([`Schedule::validate`]).
pub fn run_program<P, F>(schedule: &Schedule, make: impl Fn() -> P) -> Report
where
    P: Fn(Cluster, Env) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    drive_program(schedule, Vec::new(), make).0
}

/// As [`run_program`]; somebody sees everything that happens, once: of a schedule that is run twice the first run.
///
/// # Panics
/// If the schedule is not valid ([`Schedule::validate`]).
pub fn run_program_observed<P, F, O: Observer>(
    schedule: &Schedule,
    make: impl Fn() -> P,
    observer: O,
) -> (Report, O)
where
    P: Fn(Cluster, Env) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    observed(drive_program(schedule, vec![Box::new(observer)], make))
}

fn drive_program<P, F>(
    schedule: &Schedule,
    observers: Vec<Box<dyn Observer>>,
    make: impl Fn() -> P,
) -> (Report, Vec<Box<dyn Observer>>)
where
    P: Fn(Cluster, Env) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    // Observers change nothing, so that a second run does without them.
    let observers = Cell::new(observers);
    let run = || {
        let program = make();
        let build = |builder: Builder| builder.program(program).build_with(|_| Idle);
        drive(schedule, true, observers.take(), build, |_, _| {})
    };
    let ((mut report, observers), parted) = witness::run(schedule.seed, run);
    if let Some(what) = parted {
        let at = report.violation.map_or(report.simulated, |first| first.at);
        let by = "determinism";
        report.violation = Some(Violation { what, by, at });
    }
    (report, observers)
}

/// Finds the observer that was put among all.
fn observed<O: Observer>((report, observers): (Report, Vec<Box<dyn Observer>>)) -> (Report, O) {
    let found = observers
        .into_iter()
        .find_map(|observer| (observer as Box<dyn Any>).downcast().ok());
    (
        report,
        *found.expect("the observer is among those it was put among"),
    )
}

/// Builds a simulation of the built-in users.
fn users(schedule: &Schedule, builder: Builder) -> Sim<Users> {
    let (workload, until, max_ttl) = (schedule.workload, START + schedule.chaos, schedule.max_ttl);
    builder.build_with(move |_| Users::new(workload, until, max_ttl))
}

fn drive<A: App>(
    schedule: &Schedule,
    checkers: bool,
    observers: Vec<Box<dyn Observer>>,
    build: impl FnOnce(Builder) -> Sim<A>,
    try_out: impl FnOnce(&mut Sim<A>, &Config),
) -> (Report, Vec<Box<dyn Observer>>) {
    schedule.expect_valid();
    let mut builder = Sim::builder()
        .schedule(schedule.clone())
        .checkers(checkers)
        .collect_violations();
    for observer in observers {
        builder = builder.boxed_observer(observer);
    }
    let mut sim = build(builder);
    let mut recovered_after = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        recovered_after = play(&mut sim, schedule, try_out);
    }));
    let panicked = played.err().map(|payload| Violation {
        what: panic_message(&*payload),
        by: "panic",
        at: sim.world().elapsed(),
    });
    let violation = panicked.or_else(|| sim.violations().first().cloned());
    let report = Report {
        recovered_after,
        ..report(&sim, schedule.seed, violation)
    };
    (report, sim.into_observers())
}

/// Returns what a run came to.
pub(crate) fn report<A: App>(sim: &Sim<A>, seed: u64, violation: Option<Violation>) -> Report {
    let mut coverage = sim.coverage().clone();
    if let Some(counter) = sim.observer::<Coverage>() {
        coverage.extend(counter.counts());
    }
    Report {
        seed,
        violation,
        trace_hash: sim.trace_hash(),
        events: sim.handled(),
        simulated: sim.world().elapsed(),
        faults: sim.faults().clone(),
        coverage,
        recovered_after: None,
    }
}

/// Returns what somebody said who panicked.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("something panicked").to_owned()
}

/// Plays the chaos, then the calm; returns how long the recovery took.
fn play<A: App>(
    sim: &mut Sim<A>,
    schedule: &Schedule,
    try_out: impl FnOnce(&mut Sim<A>, &Config),
) -> Option<Duration> {
    sim.run_for(schedule.chaos);
    sim.heal();
    let config = sim
        .world()
        .processes()
        .next()
        .map(|(_, process)| process.config.clone())?;
    let recovered = recover(sim, recovery_bound(&config))?;
    groups::recover(sim, &config);
    try_out(sim, &config);
    let group = groups::present(sim);
    // What recovered stays that way, and what is left of the bad times is cleared away.
    let end = sim.world().now()
        + QUIET
            .max(3 * config.heartbeat_timeout)
            .max(groups::lock_bound(&config));
    while sim.violations().is_empty() && sim.world().now() < end {
        sim.run_for(LOOK);
        let wrong = unsettled(sim).into_iter().next().or_else(|| groups::missing(sim));
        let changed =
            || (groups::present(sim) != group).then(|| "the group or its leader changed".to_owned());
        if let Some(what) = wrong.or_else(changed) {
            sim.violate("calm", format!("after everything had recovered, {what}"));
        }
    }
    if sim.violations().is_empty() {
        sim.finish();
    }
    Some(recovered)
}

/// Returns within which time after the last fault every member must list every other.
///
/// A failed address is dialled again every `heal_interval`, and names are resolved again every `refresh_interval`;
/// each of those may meet a host that is just finding out itself (`heartbeat_timeout`), and up to four in turn must
/// have found what they miss.
pub fn recovery_bound(config: &Config) -> Duration {
    let refresh = config.refresh_interval.unwrap_or(Duration::ZERO);
    refresh + 4 * config.heal_interval + 4 * config.heartbeat_timeout
}

fn recover<A: App>(sim: &mut Sim<A>, bound: Duration) -> Option<Duration> {
    let healed = sim.world().now();
    while sim.violations().is_empty() {
        let missing = unsettled(sim);
        let passed = sim.world().now().saturating_since(healed);
        if missing.is_empty() {
            return Some(passed);
        }
        if passed > bound {
            let list = missing.join("; ");
            sim.violate("calm", format!("{passed:?} after the last fault, {list}"));
        }
        sim.run_for(LOOK);
    }
    None
}

/// Returns what still keeps the cluster from being whole.
fn unsettled<A: App>(sim: &Sim<A>) -> Vec<String> {
    let world = sim.world();
    let live = |process: &Process| process.is_live() && process.member;
    let members: Vec<_> = world.processes().filter(|(_, process)| live(process)).collect();
    let mut out = Vec::new();
    for &(index, process) in &members {
        let Some(node) = process.node() else {
            continue;
        };
        let mut missing: BTreeSet<_> = members.iter().map(|&(other, _)| other).collect();
        missing.remove(&index);
        for member in node.members() {
            match world.find(member.id) {
                Some(other) if missing.remove(&other) => {}
                Some(other) => out.push(format!("{index} lists {other}, which is no live member")),
                None => out.push(format!("{index} lists {}, which never existed", member.id)),
            }
        }
        out.extend(
            missing
                .into_iter()
                .map(|other| format!("{index} does not list {other}")),
        );
    }
    out
}

/// Lets every member send something to every other: all of it must arrive.
fn try_out(sim: &mut Sim<Users>, config: &Config) {
    let members: Vec<_> = sim.apps().map(|(index, _)| index).collect();
    let used = groups::lock_bound(config);
    for &from in &members {
        for &to in members.iter().filter(|&&to| to != from) {
            let peer = sim.id(to);
            sim.with_app(from, |users, cx| users.try_out(cx, peer));
        }
        if groups::grants_to(sim, from) {
            sim.with_app(from, Users::draw);
            sim.with_app(from, |users, cx| users.lock(cx, config.message_timeout, used));
        }
    }
    // Two attempts.
    let messages = 2 * config.message_timeout + Duration::from_secs(1);
    let end = sim.world().now() + messages.max(used + Duration::from_secs(1));
    let mut open = members.clone();
    while sim.violations().is_empty() && !open.is_empty() {
        sim.run_for(LOOK);
        open.retain(|&index| sim.app(index).trials().0 > 0);
        let failed = members.iter().find_map(|&index| {
            let failure = sim.app(index).trials().1?;
            Some(format!("in the calm, {index} could not: {failure}"))
        });
        if let Some(what) = failed {
            sim.violate("calm", what);
        } else if sim.world().now() > end {
            let late = open.first().copied().unwrap_or(NodeIndex(0));
            sim.violate(
                "calm",
                format!("in the calm, a message, request or lock of {late} has no outcome"),
            );
        }
    }
}
