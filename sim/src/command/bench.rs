//! `bench`: how fast the simulator is, and what a member sends.

use super::Verdict;
use super::args::{self, BenchCase};
use super::output::{Progress, Table, grouped, json_line, significant};
use quorate_sim::{
    Draw, Duration, Idle, Observer, Schedule, Seen, Sim, Workload, World, config, run, run_observed,
};
use serde::Serialize;
use std::io::Write;
use std::time::Instant;

/// One measurement. The field names are part of the command's interface.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    nodes: usize,
    checkers: bool,
    events_per_second: f64,
    real_time_factor: f64,
    datagrams_per_node_second: f64,
    bytes_per_node_second: f64,
    /// How far the slowest and the fastest window are from the median, in percent of it.
    #[serde(skip)]
    spread: [f64; 2],
    /// What `events_per_second` and `real_time_factor` should be.
    #[serde(skip)]
    goal: &'static str,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    rows: Vec<Row>,
}

/// The goals are those of the design, for one core.
struct Case {
    family: BenchCase,
    name: &'static str,
    nodes: usize,
    checkers: bool,
    goal: &'static str,
}

const fn case(
    family: BenchCase,
    name: &'static str,
    nodes: usize,
    checkers: bool,
    goal: &'static str,
) -> Case {
    Case {
        family,
        name,
        nodes,
        checkers,
        goal,
    }
}

const CASES: &[Case] = &[
    case(BenchCase::Idle, "idle", 5, true, "15,000 x"),
    case(BenchCase::Idle, "idle", 5, false, ""),
    case(
        BenchCase::Busy,
        "busy, all faults",
        5,
        true,
        "1 M events, 1,000 x",
    ),
    case(BenchCase::Busy, "busy, all faults", 5, false, "2 M events"),
    case(BenchCase::Membership, "membership", 100, true, "500 x"),
    case(BenchCase::Membership, "membership", 100, false, ""),
    case(BenchCase::Membership, "membership", 1_000, true, ""),
    case(BenchCase::Growth, "growth", 10, false, "flat"),
    case(BenchCase::Growth, "growth", 30, false, "flat"),
    case(BenchCase::Growth, "growth", 100, false, "flat"),
    case(BenchCase::Growth, "growth", 300, false, "flat"),
    case(BenchCase::Growth, "growth", 1_000, false, "flat"),
];

/// What happened within a window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    events: f64,
    simulated: f64,
    wall: f64,
}

impl Window {
    fn rate(&self) -> f64 {
        self.events / self.wall.max(1e-9)
    }

    fn factor(&self) -> f64 {
        self.simulated / self.wall.max(1e-9)
    }
}

/// Runs `bench`.
pub(crate) fn measure(args: &args::Bench, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let wanted = |case: &&Case| args.wants(case.family) && case.nodes <= usize::from(args.max_nodes);
    let cases: Vec<_> = CASES.iter().filter(wanted).collect();
    let mut progress = Progress::new("cases", cases.len() as u64);
    let mut rows = Vec::new();
    for case in cases {
        let checkers = if case.checkers { "with" } else { "without" };
        progress.note(&format!(
            "{}, {} nodes, {checkers} checkers",
            case.name, case.nodes
        ));
        rows.push(match case.family {
            BenchCase::Busy => busy(case, args),
            _ => quiet(case, args)?,
        });
    }
    progress.clear();
    if args.json {
        json_line(out, &Summary { event: "bench", rows })?;
        return Ok(Verdict::Clean);
    }
    let mut table = Table::with_text_from(
        8,
        &[
            "case",
            "nodes",
            "checkers",
            "events/s",
            "x real time",
            "spread %",
            "datagrams",
            "bytes",
            "goal",
        ],
    );
    for row in &rows {
        let [slow, fast] = row.spread;
        let checkers = if row.checkers { "on" } else { "off" };
        table.row(vec![
            row.name.into(),
            grouped(row.nodes as f64),
            checkers.into(),
            grouped(row.events_per_second),
            grouped(row.real_time_factor),
            format!("{slow:.0} +{fast:.0}"),
            grouped(row.datagrams_per_node_second),
            grouped(row.bytes_per_node_second),
            row.goal.into(),
        ]);
    }
    table.print(out)?;
    let (windows, ms) = (args.windows, args.window_ms);
    writeln!(
        out,
        "Medians of {windows} windows of {ms} ms on one thread. Datagrams and bytes sent by each node in a"
    )?;
    writeln!(
        out,
        "simulated second, payload of UDP. Goals: those of the design, for one core."
    )?;
    Ok(Verdict::Clean)
}

/// Measures windows of at least the wall time asked for. `part` does a part of the work.
fn windows(args: &args::Bench, mut part: impl FnMut() -> Window) -> Vec<Window> {
    let least = f64::from(args.window_ms) / 1e3;
    let mut window = || {
        let mut sum = Window::default();
        while sum.wall < least {
            let one = part();
            sum.events += one.events;
            sum.simulated += one.simulated;
            sum.wall += one.wall;
        }
        sum
    };
    (0..args.windows).map(|_| window()).collect()
}

fn timed(work: impl FnOnce() -> (u64, Duration)) -> Window {
    let began = Instant::now();
    let (events, simulated) = work();
    Window {
        events: events as f64,
        simulated: simulated.as_secs_f64(),
        wall: began.elapsed().as_secs_f64(),
    }
}

fn row(case: &Case, mut windows: Vec<Window>, sent: Sent) -> Row {
    windows.sort_by(|a, b| a.factor().total_cmp(&b.factor()));
    let median = windows[windows.len() / 2];
    let off = |window: Window| (window.factor() / median.factor() - 1.0) * 100.0;
    let node_seconds = (sent.simulated * case.nodes as f64).max(1e-9);
    Row {
        name: case.name,
        nodes: case.nodes,
        checkers: case.checkers,
        events_per_second: significant(median.rate(), 4),
        real_time_factor: significant(median.factor(), 4),
        datagrams_per_node_second: significant(sent.datagrams as f64 / node_seconds, 4),
        bytes_per_node_second: significant(sent.bytes as f64 / node_seconds, 4),
        spread: [off(windows[0]), off(windows[windows.len() - 1])],
        goal: case.goal,
    }
}

/// What processes have sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    datagrams: u64,
    bytes: u64,
    simulated: f64,
}

/// How long a cluster may take to become whole, and how long it is then left alone: what a node does in its first
/// seconds is not what it does.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
const SETTLES_FOR: Duration = Duration::from_secs(20);

/// A cluster that has nothing to do.
fn quiet(case: &Case, args: &args::Bench) -> anyhow::Result<Row> {
    let mut sim = Sim::builder()
        .seed(1)
        .checkers(case.checkers)
        .build_with(|_| Idle);
    let first = sim.next_addr().to_string();
    let nodes: Vec<_> = (0..case.nodes)
        .map(|_| sim.start(config().seed(first.clone())))
        .collect();
    let begin = sim.now();
    while nodes
        .iter()
        .any(|&node| sim.node_of(node).members().count() + 1 < nodes.len())
    {
        let passed = sim.now().saturating_since(begin);
        anyhow::ensure!(
            passed < WHOLE_WITHIN,
            "{} nodes are not whole after {passed:?}",
            case.nodes
        );
        sim.run_for(Duration::from_millis(100));
    }
    sim.run_for(SETTLES_FOR);
    let sent = |sim: &Sim<Idle>| {
        let stats = nodes.iter().map(|&node| sim.node_of(node).stats());
        stats.fold((0, 0), |(datagrams, bytes), stats| {
            (datagrams + stats.datagrams_sent, bytes + stats.bytes_sent)
        })
    };
    let (before, began) = (sent(&sim), sim.now());
    let windows = windows(args, || {
        timed(|| {
            let handled = sim.handled();
            sim.run_for(Duration::from_secs(1));
            (sim.handled() - handled, Duration::from_secs(1))
        })
    });
    let after = sent(&sim);
    let sent = Sent {
        datagrams: after.0 - before.0,
        bytes: after.1 - before.1,
        simulated: sim.now().saturating_since(began).as_secs_f64(),
    };
    Ok(row(case, windows, sent))
}

/// How many different runs are measured. Each window has all of them: they differ more than the machine does.
const BUSY_RUNS: u64 = 16;

/// Runs with everything that goes wrong, and users: 100 messages and requests a second in the whole cluster.
fn busy(case: &Case, args: &args::Bench) -> Row {
    let draw = Draw {
        hosts: case.nodes..=case.nodes,
        ..Draw::default()
    };
    let schedules: Vec<_> = (0..BUSY_RUNS)
        .map(|seed| Schedule {
            workload: Workload {
                draws: 60,
                locks: 0,
                messages: 600,
                requests: 600,
                max_size: 1_000,
            },
            ..Schedule::draw(seed, &draw)
        })
        .collect();
    let mut sent = Sent::default();
    for schedule in &schedules {
        let (report, counted) = run_observed(schedule, false, Counting::default());
        sent.datagrams += counted.datagrams;
        sent.bytes += counted.bytes;
        sent.simulated += report.simulated.as_secs_f64();
    }
    let windows = windows(args, || {
        timed(|| {
            let reports = schedules.iter().map(|schedule| run(schedule, case.checkers));
            reports.fold((0, Duration::ZERO), |(events, simulated), report| {
                (events + report.events, simulated + report.simulated)
            })
        })
    });
    row(case, windows, sent)
}

/// Counts what processes send, without what the network makes of it.
#[derive(Debug, Default)]
struct Counting {
    datagrams: u64,
    bytes: u64,
}

impl Observer for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn observe(&mut self, _: &World, seen: &Seen<'_>) -> Result<(), String> {
        if let Seen::Sent { datagram, .. } = seen
            && datagram.provenance == quorate_sim::Provenance::Original
        {
            self.datagrams += 1;
            self.bytes += datagram.len as u64;
        }
        Ok(())
    }
}
