//! Who lists whom.

use super::{Outcome, Trial, recovery, silences};
use quorate_core::{Config, Event, LeaveReason, NodeId};
use quorate_sim::{
    App, Cx, DnsFault, Duration, FaultKind, Host, HostSet, Instant, Link, NodeIndex, Sim, config,
};
use std::collections::{BTreeMap, BTreeSet};

const CRASH_SILENCES: u32 = 10;

/// Returns the rows.
pub(super) fn rows() -> Vec<Trial> {
    let crashes = || silences(CRASH_SILENCES);
    vec![
        Trial::new("crash detected by all, 3 members", crashes(), |seed| {
            crash(seed, 3)
        }),
        Trial::new("crash detected by all, 20 members", crashes(), |seed| {
            crash(seed, 20)
        }),
        Trial::new("crash detected by all, 100 members", crashes(), |seed| {
            crash(seed, 100)
        }),
        Trial::new("false deaths, 20 members, 0 % loss", recovery(), |seed| {
            false_deaths(seed, 0)
        }),
        Trial::new("false deaths, 20 members, 5 % loss", recovery(), |seed| {
            false_deaths(seed, 50)
        }),
        Trial::new("false deaths, 20 members, 30 % loss", recovery(), |seed| {
            false_deaths(seed, 300)
        }),
        Trial::new("reunion of halves after 10 min, with DNS", recovery(), |seed| {
            reunion(seed, true)
        }),
        Trial::new(
            "reunion of halves after 10 min, without DNS",
            recovery(),
            |seed| reunion(seed, false),
        ),
        Trial::new("cluster whole after start, 7 members", recovery(), |seed| {
            start(seed, 7)
        }),
        Trial::new("join known to all, 20 members", recovery(), |seed| join(seed, 20)),
        Trial::new("join known to all, 100 members", recovery(), |seed| {
            join(seed, 100)
        }),
        Trial::new("rejoin after a crash of half, 6 members", recovery(), |seed| {
            rejoin(seed, 3, 6)
        }),
        Trial::new("rejoin after a crash of all, 6 members", recovery(), |seed| {
            rejoin(seed, 6, 6)
        }),
    ]
}

/// Follows whom its node lists, with the true time of the last change.
#[derive(Debug, Default)]
struct Watch {
    listed: BTreeSet<NodeId>,
    changed: Option<Instant>,
    /// When a member was last reported as failed.
    failed: BTreeMap<NodeId, Instant>,
    /// How often names did not resolve.
    unresolved: u64,
}

impl App for Watch {
    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::MemberJoined(member) => drop(self.listed.insert(member.id)),
            Event::MemberLeft { member, reason } => {
                self.listed.remove(&member.id);
                if reason == LeaveReason::Failed {
                    self.failed.insert(member.id, cx.true_time());
                }
            }
            Event::ResolveFailed { .. } => {
                self.unresolved += 1;
                return;
            }
            _ => return,
        }
        self.changed = Some(cx.true_time());
    }
}

/// How often it is looked whether something has happened; the time itself is exact.
const LOOK: Duration = Duration::from_millis(100);

/// Starts members on hosts of their own, which find each other by the address of the first, and waits until each lists
/// all others and has settled. The moment at which that ends differs from seed to seed.
fn settled(seed: u64, members: usize) -> Option<Sim<Watch>> {
    let mut sim = empty(seed);
    let first = sim.next_addr().to_string();
    for _ in 0..members {
        sim.start(seeded(&first));
    }
    settle(&mut sim, seed).then_some(sim)
}

/// As [`settled`]; members find each other by a name.
fn settled_by_name(seed: u64, members: usize) -> Option<Sim<Watch>> {
    let builder = Sim::builder().seed(seed).checkers(false).hosts(members);
    let mut sim = builder.build_with(|_| Watch::default());
    sim.run_for(Duration::from_secs(1));
    settle(&mut sim, seed).then_some(sim)
}

fn empty(seed: u64) -> Sim<Watch> {
    Sim::builder()
        .seed(seed)
        .checkers(false)
        .build_with(|_| Watch::default())
}

fn seeded(first: &str) -> Config {
    config().seed(first)
}

fn settle(sim: &mut Sim<Watch>, seed: u64) -> bool {
    let begin = sim.now();
    if whole_after(sim, begin, recovery()).is_none() {
        return false;
    }
    // Heartbeats come every second or faster: each seed looks at another moment between two.
    let moment = Duration::from_micros(seed.wrapping_mul(618_033) % 1_000_000);
    sim.run_for(Duration::from_secs(10) + moment);
    true
}

/// Returns whether every running member lists all others, and nobody else.
fn is_whole(sim: &Sim<Watch>) -> bool {
    let ids: BTreeSet<_> = sim.apps().map(|(index, _)| sim.id(index)).collect();
    sim.apps().all(|(index, app)| {
        app.listed.len() + 1 == ids.len()
            && app.listed.iter().all(|id| ids.contains(id))
            && !app.listed.contains(&sim.id(index))
    })
}

/// Runs until the cluster is whole, and returns how long after `since` it was.
fn whole_after(sim: &mut Sim<Watch>, since: Instant, bound: Duration) -> Option<Duration> {
    while !is_whole(sim) {
        if sim.now().saturating_since(since) > bound {
            return None;
        }
        sim.run_for(LOOK);
    }
    let last = sim.apps().filter_map(|(_, app)| app.changed).max();
    last.map(|last| last.saturating_since(since))
        .filter(|&after| after <= bound)
}

/// From a crash until the last of the others has reported it.
fn crash(seed: u64, members: usize) -> Outcome {
    let Some(mut sim) = settled(seed, members) else {
        return Outcome::default();
    };
    let victim = NodeIndex(seed as usize % members);
    let (id, crashed) = (sim.id(victim), sim.now());
    sim.crash(victim);
    let bound = silences(CRASH_SILENCES);
    let reported = |sim: &Sim<Watch>| {
        let times = sim.apps().map(|(_, app)| app.failed.get(&id).copied());
        times.collect::<Option<Vec<_>>>()
    };
    while reported(&sim).is_none() && sim.now().saturating_since(crashed) <= bound {
        sim.run_for(LOOK);
    }
    let last = reported(&sim).and_then(|times| times.into_iter().max());
    let after = last.map(|last| last.saturating_since(crashed));
    Outcome {
        recovered: after.filter(|&after| after <= bound),
        ..Outcome::default()
    }
}

/// For how long members are observed.
const OBSERVED: Duration = Duration::from_secs(120);

/// How often a member that lives is reported as failed: from the first report until all list it again it counts once.
fn false_deaths(seed: u64, loss: u16) -> Outcome {
    const MEMBERS: usize = 20;
    let Some(mut sim) = settled(seed, MEMBERS) else {
        return Outcome::default();
    };
    let ids: Vec<_> = sim.apps().map(|(index, _)| (index, sim.id(index))).collect();
    let begin = sim.now();
    sim.set_link(Link::default().loss(loss));
    let mut dead: BTreeSet<NodeId> = BTreeSet::new();
    let mut count = 0;
    while sim.now().saturating_since(begin) < OBSERVED {
        let before = sim.now();
        sim.run_for(LOOK);
        for &(index, id) in &ids {
            let others = || sim.apps().filter(|(other, _)| *other != index);
            let reported = others().any(|(_, app)| app.failed.get(&id).is_some_and(|&at| at > before));
            if reported && dead.insert(id) {
                count += 1;
            }
            if others().all(|(_, app)| app.listed.contains(&id)) {
                dead.remove(&id);
            }
        }
    }
    sim.set_link(Link::default());
    let healed = sim.now();
    Outcome {
        recovered: whole_after(&mut sim, healed, recovery()),
        count,
        node_hours: MEMBERS as f64 * OBSERVED.as_secs_f64() / 3_600.0,
        ..Outcome::default()
    }
}

/// From the end of a cut through the middle until all list all again.
fn reunion(seed: u64, dns: bool) -> Outcome {
    const MEMBERS: usize = 6;
    const CUT: Duration = Duration::from_secs(600);
    let Some(mut sim) = settled_by_name(seed, MEMBERS) else {
        return Outcome::default();
    };
    if !dns {
        let how = DnsFault::Error;
        sim.inject(FaultKind::Dns { how }, CUT + 2 * recovery());
    }
    let left = HostSet::of(0..MEMBERS / 2);
    sim.inject(FaultKind::Split { left }, CUT);
    let until = sim.now() + CUT;
    sim.run_for(CUT);
    // Halves that did not notice the cut have nothing to recover from, and names that resolve are no missing DNS: that
    // would measure something else.
    let as_meant = |app: &Watch| app.listed.len() + 1 == MEMBERS / 2 && (app.unresolved == 0) == dns;
    let as_meant = sim.apps().all(|(_, app)| as_meant(app));
    Outcome {
        recovered: whole_after(&mut sim, until, recovery()).filter(|_| as_meant),
        ..Outcome::default()
    }
}

/// From the start of the first process until all list all.
fn start(seed: u64, members: usize) -> Outcome {
    let builder = Sim::builder().seed(seed).checkers(false).hosts(members);
    let mut sim = builder.build_with(|_| Watch::default());
    let begin = sim.now();
    let all = sim.run_until(Duration::from_secs(1), |sim| sim.apps().count() == members);
    Outcome {
        recovered: whole_after(&mut sim, begin, recovery()).filter(|_| all),
        ..Outcome::default()
    }
}

/// From the start of one more process until all list all.
fn join(seed: u64, members: usize) -> Outcome {
    let Some(mut sim) = settled(seed, members) else {
        return Outcome::default();
    };
    let begin = sim.now();
    let first = sim.addr(NodeIndex(0)).to_string();
    sim.start(seeded(&first));
    Outcome {
        recovered: whole_after(&mut sim, begin, recovery()),
        ..Outcome::default()
    }
}

/// From the start of the new processes, 1 s after the old ones crashed, until all list all of them and none that crashed.
fn rejoin(seed: u64, crashing: usize, members: usize) -> Outcome {
    const DOWN: Duration = Duration::from_secs(1);
    let Some(mut sim) = settled_by_name(seed, members) else {
        return Outcome::default();
    };
    for host in (0..crashing).map(Host) {
        sim.inject(FaultKind::Crash { host }, DOWN);
    }
    let back = sim.now() + DOWN;
    sim.run_for(DOWN);
    let all = sim.run_until(Duration::from_millis(1), |sim| sim.apps().count() == members);
    Outcome {
        recovered: whole_after(&mut sim, back, recovery()).filter(|_| all),
        ..Outcome::default()
    }
}
