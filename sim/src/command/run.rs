//! `run` and `coverage`: many seeds.

use super::Verdict;
use super::args::{self, DrawArgs};
use super::batch::{in_order, interrupted, stop_on_interrupt};
use super::finding::{self, Finding, print_shrunk, repro_of_seed};
use super::output::{Progress, Table, as_string, grouped, hash, json_line, lasting, significant};
use super::simulate::simulate;
use quorate_sim::{FaultKind, Kinds, Report, Schedule, Violation, only_beyond};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;

/// Of so many violations the shortest schedule is looked for; of the others the first line will do.
const MAX_SHRUNK: usize = 10;
/// How many schedules are tried for each.
const SHRINK_BUDGET: usize = 300;
/// So many violations are told; the others are counted.
const MAX_TOLD: usize = 100;
/// From so many seeds on, a rare situation that never occurred is a defect of the checks: nothing tested it.
const ENOUGH_SEEDS: u64 = 500;

/// What all runs came to. The field names are part of the command's interface.
#[derive(Debug, Serialize)]
struct Summary {
    event: &'static str,
    seeds: u64,
    /// How many of the seeds showed a violation; of those told, `violations` has the particulars.
    failed: u64,
    violations: Vec<Finding>,
    events: u64,
    events_per_second: f64,
    simulated_seconds: f64,
    wall_seconds: f64,
    trace_hash: String,
    faults: BTreeMap<&'static str, u64>,
    coverage: BTreeMap<&'static str, u64>,
    interrupted: bool,
}

/// A violation, with the schedule that was found for it: a line of its own in JSON.
#[derive(Serialize)]
struct Told<'a> {
    event: &'static str,
    #[serde(flatten)]
    finding: &'a Finding,
    #[serde(serialize_with = "as_string")]
    schedule: &'a Schedule,
}

/// The sum of many reports, in the order of their seeds.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    failed: u64,
    events: u64,
    simulated: f64,
    trace_hash: u64,
    faults: BTreeMap<&'static str, u64>,
    coverage: BTreeMap<&'static str, u64>,
}

impl Total {
    fn new() -> Self {
        Self {
            // Also what never occurs is there.
            faults: FaultKind::NAMES.iter().map(|&name| (name, 0)).collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.failed += u64::from(report.violation.is_some());
        self.events += report.events;
        self.simulated += report.simulated.as_secs_f64();
        self.trace_hash = fold(self.trace_hash, report.trace_hash);
        for (sum, counts) in [
            (&mut self.faults, &report.faults),
            (&mut self.coverage, &report.coverage),
        ] {
            for (&name, count) in counts {
                *sum.entry(name).or_default() += count;
            }
        }
    }

    /// What never occurred, and could have.
    fn zeros(&self, draw: &DrawArgs) -> Vec<&'static str> {
        let zeros = self.coverage.iter().filter(|(_, count)| **count == 0);
        let zeros = zeros.filter(|(name, _)| draw.beyond || !only_beyond(name));
        zeros.map(|(&name, _)| name).collect()
    }
}

/// Folds a hash into that of all seeds before: their order counts (the finalizer of splitmix64).
fn fold(all: u64, one: u64) -> u64 {
    let mut mixed = all.rotate_left(1) ^ one;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Runs all seeds; `each` is told of every violation.
fn total(
    args: &args::Run,
    progress: &mut Progress,
    mut each: impl FnMut(Schedule, Violation, &mut Progress) -> anyhow::Result<()>,
) -> anyhow::Result<Total> {
    stop_on_interrupt()?;
    let draw = args.draw.draw();
    let mut total = Total::new();
    let work = |seed| simulate(&Schedule::draw(seed, &draw), args.plant);
    in_order(args.seeds, args.jobs.count(), work, |seed, report| {
        total.add(&report);
        if let Some(violation) = report.violation {
            each(Schedule::draw(seed, &draw), violation, progress)?;
        }
        let note = match total.failed {
            0 => String::new(),
            count => format!(", {count} with violations"),
        };
        progress.step(&note);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(total)
}

/// Runs `run`.
pub(crate) fn run(args: &args::Run, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new("seeds", args.seeds.count());
    let mut findings = Vec::new();
    let total = total(args, &mut progress, |schedule, violation, progress| {
        if findings.len() < MAX_TOLD {
            let shrinks = findings.len() < MAX_SHRUNK;
            findings.push(tell(args, schedule, &violation, shrinks, progress, out)?);
        }
        Ok(())
    })?;
    progress.clear();
    let wall = progress.elapsed().as_secs_f64();
    let summary = Summary {
        event: "summary",
        seeds: total.seeds,
        failed: total.failed,
        violations: findings,
        events: total.events,
        events_per_second: significant(total.events as f64 / wall, 4),
        simulated_seconds: total.simulated,
        wall_seconds: significant(wall, 4),
        trace_hash: hash(total.trace_hash),
        faults: total.faults.clone(),
        coverage: total.coverage.clone(),
        interrupted: interrupted(),
    };
    match args.json {
        true => json_line(out, &summary)?,
        false => print(out, &summary, &args.draw, &total.zeros(&args.draw))?,
    }
    Ok(Verdict::bad_if(summary.failed > 0))
}

/// Tells of a violation at once: who waits for the others may look into it already.
fn tell(
    args: &args::Run,
    schedule: Schedule,
    violation: &Violation,
    shrinks: bool,
    progress: &mut Progress,
    out: &mut dyn Write,
) -> anyhow::Result<Finding> {
    let repro = repro_of_seed(schedule.seed, &args.draw, args.plant);
    let mut tried = 0;
    let budget = if shrinks { SHRINK_BUDGET } else { 0 };
    let shrunk = finding::shrink(schedule, violation, args.plant, budget, |candidate| {
        tried += 1;
        let (seed, faults) = (candidate.seed, candidate.faults.len());
        progress.note(&format!(
            "seed {seed:#x}: shrinking, {tried} of {budget} tried, {faults} faults"
        ));
    });
    let finding = Finding::new(violation, &shrunk.schedule, repro);
    progress.clear();
    if args.json {
        let told = Told {
            event: "violation",
            finding: &finding,
            schedule: &shrunk.schedule,
        };
        json_line(out, &told)?;
    } else {
        finding.print(out)?;
        if shrinks {
            print_shrunk(out, &shrunk)?;
        }
        writeln!(out)?;
        out.flush()?;
    }
    Ok(finding)
}

fn print(out: &mut dyn Write, summary: &Summary, draw: &DrawArgs, zeros: &[&str]) -> io::Result<()> {
    let verdict = match summary.failed {
        0 => "no violation".to_owned(),
        count => format!("{count} WITH VIOLATIONS"),
    };
    let stopped = if summary.interrupted {
        " (stopped early)"
    } else {
        ""
    };
    writeln!(
        out,
        "{} seeds, {draw}: {verdict}{stopped}",
        grouped(summary.seeds as f64)
    )?;
    if summary.failed > summary.violations.len() as u64 {
        writeln!(
            out,
            "  only the first {} are told above",
            summary.violations.len()
        )?;
    }
    let rate = grouped(significant(summary.events_per_second, 3));
    let factor = significant(summary.simulated_seconds / summary.wall_seconds.max(1e-3), 3);
    writeln!(
        out,
        "  events      {}, {rate} a second",
        grouped(summary.events as f64)
    )?;
    let (simulated, wall) = (lasting(summary.simulated_seconds), lasting(summary.wall_seconds));
    writeln!(
        out,
        "  simulated   {simulated} in {wall}: {} times real time",
        grouped(factor)
    )?;
    writeln!(out, "  trace hash  {}", summary.trace_hash)?;
    if draw.faults != Kinds::NONE {
        let faults = summary
            .faults
            .iter()
            .filter(|(name, _)| draw.faults.contains(name));
        let faults: Vec<_> = faults.map(|(name, count)| format!("{name} {count}")).collect();
        write_wrapped(out, "  faults      ", &faults)?;
    }
    let counters = summary.coverage.len();
    match zeros {
        _ if counters == 0 => writeln!(out, "  coverage    nothing was counted"),
        [] => writeln!(out, "  coverage    each of {counters} rare situations occurred"),
        zeros => {
            let of = format!("{} of {counters} rare situations never occurred:", zeros.len());
            writeln!(out, "  coverage    {of}")?;
            write_wrapped(out, "              ", zeros)
        }
    }
}

/// Writes items with commas between them, in lines of a readable length.
fn write_wrapped(out: &mut dyn Write, head: &str, items: &[impl AsRef<str>]) -> io::Result<()> {
    let indent = " ".repeat(head.len());
    let mut line = head.to_owned();
    for (index, item) in items.iter().map(AsRef::as_ref).enumerate() {
        let comma = if index + 1 < items.len() { ", " } else { "" };
        if line.len() > head.len() && line.len() + item.len() > 100 {
            writeln!(out, "{}", line.trim_end())?;
            line.clone_from(&indent);
        }
        line.push_str(item);
        line.push_str(comma);
    }
    writeln!(out, "{}", line.trim_end())
}

#[derive(Serialize)]
struct Coverage<'a> {
    event: &'static str,
    seeds: u64,
    coverage: &'a BTreeMap<&'static str, u64>,
    never: &'a [&'static str],
}

/// Runs `coverage`.
pub(crate) fn coverage(args: &args::Run, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let mut progress = Progress::new("seeds", args.seeds.count());
    let total = total(args, &mut progress, |_, _, _| Ok(()))?;
    progress.clear();
    let zeros = total.zeros(&args.draw);
    let enough = total.seeds >= ENOUGH_SEEDS;
    if args.json {
        let report = Coverage {
            event: "coverage",
            seeds: total.seeds,
            coverage: &total.coverage,
            never: &zeros,
        };
        json_line(out, &report)?;
    } else {
        let mut table = Table::with_text_from(2, &["situation", "times", ""]);
        for (name, &count) in &total.coverage {
            let mark = if count == 0 { "NEVER" } else { "" };
            table.row(vec![(*name).into(), grouped(count as f64), mark.into()]);
        }
        table.print(out)?;
        let (seeds, counters) = (grouped(total.seeds as f64), total.coverage.len());
        writeln!(
            out,
            "{seeds} seeds: {} of {counters} situations never occurred",
            zeros.len()
        )?;
        if total.failed > 0 {
            writeln!(
                out,
                "{} seeds with violations: see `quorate-sim run`",
                total.failed
            )?;
        }
    }
    Ok(Verdict::bad_if(total.failed > 0 || (enough && !zeros.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_all_depends_on_each_and_on_the_order() {
        let all = |hashes: &[u64]| hashes.iter().fold(0, |all, &one| fold(all, one));
        let different = [
            all(&[]),
            all(&[1]),
            all(&[1, 2]),
            all(&[2, 1]),
            all(&[1, 2, 2]),
            all(&[1, 1, 2]),
        ];
        for (index, hash) in different.iter().enumerate() {
            assert!(!different[..index].contains(hash), "{different:x?}");
        }
    }

    #[test]
    fn long_lists_are_wrapped() {
        let items: Vec<_> = (0..40).map(|n| format!("item-{n}")).collect();
        let mut out = Vec::new();
        write_wrapped(&mut out, "  names ", &items).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.lines().count() > 2 && text.lines().all(|line| line.len() <= 102),
            "{text}"
        );
        let words = text
            .split_whitespace()
            .skip(1)
            .map(|word| word.trim_end_matches(','));
        assert!(words.eq(items.iter().map(String::as_str)), "{text}");
    }
}
