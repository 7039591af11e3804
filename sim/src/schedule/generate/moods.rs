//! Faults that belong together: what is rare by chance and hard on a group.

use super::draws::{EDGE, side};
use super::excludes;
use super::random::Random;
use crate::fault::{Delay, Fault, FaultKind, Host, HostSet};
use crate::schedule::Schedule;
use quorate_core::Duration;

/// One in so many runs has a mood.
const MOODS: u64 = 8;
/// In one of so many runs all clocks are at the edges of what they may be.
const EDGES: u64 = 6;
/// In one of so many runs a few are cut off, and one of them stands still meanwhile.
const ASIDES: u64 = 8;
/// A group is founded within so many milliseconds of the start.
const FOUNDING: u64 = 4_000;

/// Draws the mood of a run: half of the clocks as slow as they may be and half as fast, which is where leases meet; some hosts, as many as a quorum needs or one fewer, crash together and are back at once, now
/// and then while a group is founded; and what was sent before arrives long after.
pub(super) fn draw(run: &Schedule) -> Vec<Fault> {
    let mut random = Random::new(run.seed, "mood", 0);
    let mut faults: Vec<Fault> = Vec::new();
    // More voters than seats, when there is no group yet.
    let lasting = Random::new(run.seed, "surge-from-the-start", 0).scaled_millis(3_000, 30_000);
    if run.surge > 0 && Random::new(run.seed, "surge-from-the-start", 1).one_in(4) && lasting <= run.chaos {
        let at = Duration::ZERO;
        let kind = FaultKind::Surge;
        faults.push(Fault { at, lasting, kind });
    }
    let mut edges = Random::new(run.seed, "edges", 0);
    if edges.one_in(EDGES) {
        faults.extend((0..run.hosts).map(Host).map(|host| Fault {
            at: Duration::ZERO,
            lasting: run.chaos,
            kind: FaultKind::Drift {
                host,
                ppm: if edges.one_in(2) { EDGE } else { -EDGE },
            },
        }));
    }
    for fault in draw_asides(run) {
        if fault.ends() <= run.chaos && faults.iter().all(|other| !excludes(&fault, other)) {
            faults.push(fault);
        }
    }
    if !random.one_in(MOODS) {
        return faults;
    }
    let end = run.chaos.as_millis() as u64;
    for _ in 0..random.between(1, 3) {
        let early = random.one_in(3);
        let moment = random.between(0, if early { FOUNDING.min(end) } else { end });
        let hosts = shuffled(&mut random, run.hosts - run.observers);
        let quorum = hosts.len() / 2 + 1;
        let count = random.choose(&[1, quorum - 1, quorum, hosts.len()]);
        let mut add = |at: u64, lasting: Duration, kind: FaultKind| {
            let at = Duration::from_millis(at);
            let fault = Fault { at, lasting, kind };
            if fault.ends() <= run.chaos && faults.iter().all(|other| !excludes(&fault, other)) {
                faults.push(fault);
            }
        };
        for &host in hosts.iter().take(count) {
            let at = moment + random.between(0, 400);
            let lasting = random.scaled_millis(20, 4_000);
            add(at, lasting, FaultKind::Crash { host: Host(host) });
        }
        let before = moment.saturating_sub(random.between(0, 2_000));
        let lasting = random.scaled_millis(2_000, 20_000);
        let (one, all) = (HostSet::of([random.choose(&hosts)]), HostSet::ALL);
        match random.below(5) {
            0 => add(before, lasting, FaultKind::Clog { from: one, to: all }),
            1 => add(before, lasting, FaultKind::Clog { from: all, to: one }),
            2 | 3 => {
                let delay = Delay::Constant(random.scaled_millis(20, 1_000));
                add(
                    before,
                    lasting,
                    FaultKind::Delay {
                        from: all,
                        to: all,
                        delay,
                    },
                );
            }
            _ if run.hosts >= 2 => {
                let left = side(&mut random, run);
                add(before, lasting, FaultKind::Split { left });
            }
            _ => {}
        }
    }
    faults
}

/// Draws splits that leave a voter with one other host, and a pause of it that outlasts an election among the rest. Where
/// it led, it reads afterwards what it was asked meanwhile, as if no time had passed and it still did.
fn draw_asides(run: &Schedule) -> Vec<Fault> {
    let mut random = Random::new(run.seed, "asides", 0);
    let voters = run.hosts - run.observers;
    // The others have to be a quorum.
    let apart = if run.observers > 0 { 1 } else { 2 };
    if voters < 3 || voters - apart < voters / 2 + 1 || !random.one_in(ASIDES) {
        return Vec::new();
    }
    let end = run.chaos.as_millis() as u64;
    let mut faults = Vec::new();
    for _ in 0..random.between(1, 1 + end / 60_000) {
        let order = shuffled(&mut random, voters);
        let host = Host(order[0]);
        let user = if run.observers > 0 { voters } else { order[1] };
        let at = random.millis(0, end);
        let pause = random.millis(1_000, 4_000);
        let left = HostSet::of([host.0, user]);
        faults.push(Fault {
            at,
            lasting: pause + random.millis(200, 3_000),
            kind: FaultKind::Split { left },
        });
        faults.push(Fault {
            at: at + random.millis(0, 100),
            lasting: pause,
            kind: FaultKind::Pause { host },
        });
    }
    faults
}

/// Draws a split from the start: each side may take itself for the whole cluster. When they meet, some crash.
pub(super) fn draw_apart(run: &Schedule) -> Vec<Fault> {
    let mut random = Random::new(run.seed, "apart", 0);
    if run.hosts < 2 || random.one_in(4) {
        return Vec::new();
    }
    let left = side(&mut random, run);
    let lasting = random.scaled_millis(3_000, 30_000).min(run.chaos);
    let mut faults = vec![Fault {
        at: Duration::ZERO,
        lasting,
        kind: FaultKind::Split { left },
    }];
    let crashes = random.below(3) as usize;
    for host in shuffled(&mut random, run.hosts).into_iter().take(crashes) {
        let at = lasting + random.millis(300, 8_000);
        let lasting = random.scaled_millis(20, 4_000);
        let kind = FaultKind::Crash { host: Host(host) };
        faults.push(Fault { at, lasting, kind });
    }
    faults.retain(|fault| fault.ends() <= run.chaos);
    faults
}

fn shuffled(random: &mut Random, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}
