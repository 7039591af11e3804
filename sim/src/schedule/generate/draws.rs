//! How each kind of fault is drawn.

use super::random::Random;
use crate::fault::{Corruption, Delay, Difference, DnsFault, FaultKind, Host, HostSet};
use crate::schedule::Schedule;
use quorate_core::Duration;

/// The three steps of a rotation are at least this far apart: members move to a new key within 30 s.
pub(super) const ROTATION_STEP: Duration = Duration::from_secs(31);

/// How many millionths a clock may be off by the default settings, either way.
pub(super) const EDGE: i32 = 10_000;

/// How one kind is drawn.
pub(super) struct Plan {
    /// The name of the kind.
    pub(super) name: &'static str,
    /// How many there are in two minutes of a run that has the kind at all: thousandths, on the average.
    pub(super) mean: u64,
    /// Whether there are more of them in a storm.
    pub(super) storms: bool,
    kind: fn(&mut Random, &Schedule) -> FaultKind,
}

const fn plan(name: &'static str, mean: u64, kind: fn(&mut Random, &Schedule) -> FaultKind) -> Plan {
    Plan {
        name,
        mean,
        storms: true,
        kind,
    }
}

/// One that concerns the whole cluster for long: more of it would leave no room for anything else.
const fn large(name: &'static str, mean: u64, kind: fn(&mut Random, &Schedule) -> FaultKind) -> Plan {
    Plan {
        storms: false,
        ..plan(name, mean, kind)
    }
}

/// Those that need the most room come first: of two faults that cannot be together, the first one stays.
pub(super) const PLANS: &[Plan] = &[
    large("rotate", 500, |_, _| FaultKind::Rotate),
    large("rolling-update", 500, |_, _| FaultKind::RollingUpdate),
    large("blackout", 300, |random, _| FaultKind::Blackout {
        wall_back: match random.below(3) {
            0 => Duration::ZERO,
            1 => random.scaled_millis(1, 60_000),
            _ => random.scaled_millis(60_000, 86_400_000),
        },
    }),
    large("surge", 700, |_, _| FaultKind::Surge),
    plan("leave", 800, |random, run| FaultKind::Leave {
        host: host(random, run),
    }),
    plan("crash", 2000, |random, run| FaultKind::Crash {
        host: host(random, run),
    }),
    plan("pause", 1300, |random, run| FaultKind::Pause {
        host: host(random, run),
    }),
    plan("loss", 1300, |random, run| {
        let (from, to) = way(random, run);
        let permille = random.scale(5, 1000) as u16;
        FaultKind::Loss { from, to, permille }
    }),
    plan("burst-loss", 900, |random, run| {
        let (from, to) = way(random, run);
        FaultKind::BurstLoss {
            from,
            to,
            permille: random.scale(20, 800) as u16,
            burst: random.scale(2, 100) as u16,
        }
    }),
    plan("duplicate", 900, |random, run| {
        let (from, to) = way(random, run);
        let permille = random.scale(10, 1000) as u16;
        FaultKind::Duplicate { from, to, permille }
    }),
    plan("delay", 1300, |random, run| {
        let (from, to) = way(random, run);
        let delay = delay(random);
        FaultKind::Delay { from, to, delay }
    }),
    plan("reorder", 1000, |random, run| {
        let (from, to) = way(random, run);
        FaultKind::Reorder {
            from,
            to,
            permille: random.scale(10, 700) as u16,
            by: random.scaled_millis(1, 2000),
        }
    }),
    plan("corrupt", 1000, |random, run| {
        let (from, to) = way(random, run);
        FaultKind::Corrupt {
            from,
            to,
            permille: random.scale(5, 600) as u16,
            how: random.choose(Corruption::ALL),
        }
    }),
    plan("one-way", 1200, |random, run| {
        let (from, to) = way(random, run);
        FaultKind::OneWay { from, to }
    }),
    plan("split", 1500, |random, run| FaultKind::Split {
        left: side(random, run),
    }),
    plan("ring", 600, |_, _| FaultKind::Ring),
    plan("bridge", 700, |random, run| FaultKind::Bridge {
        left: side(random, run),
        over: host(random, run),
    }),
    plan("clog", 900, |random, run| {
        let (from, to) = way(random, run);
        FaultKind::Clog { from, to }
    }),
    plan("mtu", 700, |random, run| {
        let (from, to) = way(random, run);
        let bytes = random.choose(&[100, 576, 1100, 1199, 1200, 1280]);
        FaultKind::Mtu { from, to, bytes }
    }),
    plan("replay", 1000, |random, _| FaultKind::Replay {
        count: random.scale(1, 500) as u16,
        elsewhere: random.one_in(3),
        spoofed: random.one_in(3),
    }),
    // Never the first host: if nobody is left where names and seeds point, nobody can be found again.
    plan("rebind", 900, |random, run| FaultKind::Rebind {
        host: Host(random.between(1, (run.hosts as u64).max(2) - 1) as usize),
    }),
    plan("slow", 900, |random, run| FaultKind::Slow {
        host: host(random, run),
        each: Duration::from_micros(random.scale(100, 50_000)),
    }),
    plan("stranger", 800, |random, _| FaultKind::Stranger {
        differs: random.choose(Difference::ALL),
    }),
    plan("unread", 900, |random, run| FaultKind::Unread {
        host: host(random, run),
    }),
    plan("drift", 1300, |random, run| FaultKind::Drift {
        host: host(random, run),
        ppm: drift(random),
    }),
    plan("jump", 800, |random, run| FaultKind::Jump {
        host: host(random, run),
        by: random.scaled_millis(10, 3_600_000),
    }),
    plan("freeze", 800, |random, run| FaultKind::Freeze {
        host: host(random, run),
    }),
    plan("wall", 700, |random, run| {
        let by_ms = random.scale(1, 86_400_000) as i64;
        FaultKind::Wall {
            host: host(random, run),
            by_ms: if random.one_in(2) { by_ms } else { -by_ms },
        }
    }),
    plan("dns", 900, |random, _| FaultKind::Dns {
        how: random.choose(DnsFault::ALL),
    }),
];

impl Plan {
    /// Draws one fault and its length; `None` where it would have no effect, or no room.
    pub(super) fn draw(&self, random: &mut Random, run: &Schedule) -> Option<(Duration, FaultKind)> {
        let lasting = length(random);
        let kind = (self.kind)(random, run);
        let lasting = match kind {
            FaultKind::Rebind { .. } | FaultKind::Jump { .. } => Duration::ZERO,
            FaultKind::Rotate => ROTATION_STEP * 3 + random.millis(0, 12_000),
            // Each host has left for at least a second before it comes back.
            FaultKind::RollingUpdate => random.scaled_millis(2_000, 8_000) * run.hosts as u32,
            FaultKind::Leave { .. } => lasting.max(Duration::from_secs(1)),
            FaultKind::Surge | FaultKind::Stranger { .. } | FaultKind::Dns { .. } => {
                lasting.max(Duration::from_secs(3))
            }
            _ => lasting.min(run.chaos),
        };
        let works = match kind {
            // Without a spare seat, nobody may be more.
            FaultKind::Surge => run.cluster_size == 0 || run.surge > 0,
            FaultKind::Rebind { host } => host.0 < run.hosts,
            FaultKind::Dns { .. } => run.by_name,
            FaultKind::Split { .. } => run.hosts >= 2,
            FaultKind::Bridge { .. } => run.hosts >= 3,
            // Three hosts in a ring reach each other.
            FaultKind::Ring => run.hosts >= 4,
            _ => true,
        };
        (works && lasting <= run.chaos).then_some((lasting, kind))
    }
}

/// A blink, about the timeouts of the nodes, or long after all of them.
fn length(random: &mut Random) -> Duration {
    match random.below(8) {
        0 | 1 => random.scaled_millis(20, 1_000),
        2..=4 => random.scaled_millis(400, 6_000),
        5 | 6 => random.scaled_millis(6_000, 20_000),
        _ => random.scaled_millis(20_000, 45_000),
    }
}

fn host(random: &mut Random, run: &Schedule) -> Host {
    Host(random.below(run.hosts as u64) as usize)
}

fn one(random: &mut Random, run: &Schedule) -> HostSet {
    HostSet::of([host(random, run).0])
}

/// Some hosts, each with probability 1/2.
fn some(random: &mut Random, run: &Schedule) -> HostSet {
    HostSet::of((0..run.hosts).filter(|_| random.one_in(2)))
}

/// One side of a cut: one host, half of them, or any.
pub(super) fn side(random: &mut Random, run: &Schedule) -> HostSet {
    let any = some(random, run);
    let mut order: Vec<usize> = (0..run.hosts).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    let half = HostSet::of(order.iter().copied().take(run.hosts / 2));
    let single = HostSet::of(order.iter().copied().take(1));
    match random.below(4) {
        0 | 1 => single,
        2 => half,
        // Nobody and everybody are no sides.
        _ if any == HostSet::NONE || any.limited(run.hosts) == HostSet::ALL => half,
        _ => any,
    }
}

/// From whom, and to whom.
fn way(random: &mut Random, run: &Schedule) -> (HostSet, HostSet) {
    match random.below(6) {
        0 | 1 => (HostSet::ALL, HostSet::ALL),
        2 => (HostSet::ALL, one(random, run)),
        3 => (one(random, run), HostSet::ALL),
        4 => (one(random, run), one(random, run)),
        _ => (some(random, run), some(random, run)),
    }
}

fn delay(random: &mut Random) -> Delay {
    let typical = random.scaled_millis(1, 1500);
    let more = typical + random.scaled_millis(1, 1500);
    match random.below(5) {
        0 => Delay::Constant(typical),
        1 => Delay::Uniform(typical, more),
        2 => Delay::Exponential(typical),
        // A hundred times as long is still less than a minute.
        3 => Delay::LongTail(typical.min(Duration::from_millis(500))),
        _ => Delay::Bursts(typical, more),
    }
}

/// As real clocks do, anything inside the stated bound of 1 %, its very edge, or far beyond.
fn drift(random: &mut Random) -> i32 {
    let ppm = match random.below(8) {
        0 => random.between(1, 200),
        1..=3 => random.between(200, EDGE as u64),
        4 => EDGE as u64,
        _ => random.scale(EDGE as u64 + 1, 500_000),
    } as i32;
    if random.one_in(2) { ppm } else { -ppm }
}
