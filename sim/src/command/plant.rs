//! `plant`: the simulator itself is measured by the mistakes that it notices.

use super::Verdict;
use super::args::{self, DrawArgs, Seeds};
use super::batch::{in_order, interrupted, stop_on_interrupt};
use super::finding::{self, repro_of_seed};
use super::output::{Progress, Table, json_line};
use super::simulate::simulate;
use quorate_sim::{PlantedBug, Schedule, Violation};
use serde::Serialize;
use std::io::Write;
use std::ops::ControlFlow;

/// How many schedules are tried to shrink one that caught a bug.
const SHRINK_BUDGET: usize = 300;

/// What became of all bugs. The field names are part of the command's interface.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    planted: Vec<Row>,
}

/// What became of one bug, over all repetitions.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// Whether it was caught every time.
    caught: bool,
    /// The median number of seeds that it took, the one that caught it included. Those of a repetition that did not
    /// catch it count as the whole budget.
    seeds: u64,
    /// The number of faults in the shortest schedule found; the most of all repetitions.
    faults: usize,
    /// Whether the shortest schedules are clean without the bug: what they show is the bug, and nothing else.
    clean_without: bool,
    /// What was noticed the first time.
    what: Option<String>,
    repro: Option<String>,
}

/// A seed that shows a bug.
struct Catch {
    /// How many seeds it took.
    seeds: u64,
    faults: usize,
    clean_without: bool,
    schedule: Schedule,
    violation: Violation,
}

/// Runs `plant`.
pub(crate) fn run(args: &args::Plant, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    stop_on_interrupt()?;
    let mut progress = Progress::new("bugs", args.bugs.0.len() as u64);
    let mut rows: Vec<Row> = Vec::new();
    for &bug in &args.bugs.0 {
        let draw = draw_for(bug, &args.draw);
        let mut catches = Vec::new();
        for repetition in 0..args.repetitions {
            let what = format!(
                "{}, repetition {} of {}",
                bug.name(),
                repetition + 1,
                args.repetitions
            );
            progress.note(&what);
            let first = u64::from(repetition) * u64::from(args.budget);
            catches.push(hunt(args, &draw, bug, first)?);
        }
        if interrupted() {
            break;
        }
        rows.push(row(args, &draw, bug, &catches));
        progress.step("");
    }
    progress.clear();
    let missed = rows.iter().any(|row| !row.caught);
    match args.json {
        true => json_line(
            out,
            &Summary {
                event: "planted",
                planted: rows,
            },
        )?,
        false => print(args, &rows, out)?,
    }
    Ok(Verdict::bad_if(missed))
}

/// What can only go wrong with more voters than may be alive is looked for among those.
fn draw_for(bug: PlantedBug, draw: &DrawArgs) -> DrawArgs {
    use PlantedBug as Bug;
    let beyond = matches!(
        bug,
        Bug::SurplusVotersIgnored | Bug::CloseLeftOut | Bug::CloseWaitInherited | Bug::YieldBeforeClose
    );
    DrawArgs {
        beyond: beyond || draw.beyond,
        ..draw.clone()
    }
}

/// Runs seeds with a bug in the core until one shows it: a run that is violated with the bug, and is not without.
fn hunt(args: &args::Plant, draw: &DrawArgs, bug: PlantedBug, first: u64) -> anyhow::Result<Option<Catch>> {
    let draw = draw.draw();
    let seeds = Seeds::from(first, u64::from(args.budget));
    let work = |seed| {
        let schedule = Schedule::draw(seed, &draw);
        let violation = simulate(&schedule, Some(bug)).violation?;
        // A run that fails without the bug says nothing about it.
        simulate(&schedule, None)
            .violation
            .is_none()
            .then_some((schedule, violation))
    };
    let mut caught = None;
    in_order(seeds, args.jobs.count(), work, |seed, found| {
        Ok(match found {
            Some(found) => {
                caught = Some((seed - first + 1, found));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        })
    })?;
    Ok(caught.map(|(seeds, (schedule, violation))| {
        let shrunk = finding::shrink(schedule.clone(), &violation, Some(bug), SHRINK_BUDGET, |_| {}).schedule;
        Catch {
            seeds,
            faults: shrunk.faults.len(),
            clean_without: simulate(&shrunk, None).violation.is_none(),
            schedule,
            violation,
        }
    }))
}

fn row(args: &args::Plant, draw: &DrawArgs, bug: PlantedBug, catches: &[Option<Catch>]) -> Row {
    let mut seeds: Vec<u64> = catches
        .iter()
        .map(|caught| {
            caught
                .as_ref()
                .map_or(u64::from(args.budget), |caught| caught.seeds)
        })
        .collect();
    seeds.sort_unstable();
    let found = || catches.iter().flatten();
    let first = found().next();
    Row {
        name: bug.name(),
        caught: found().count() == catches.len(),
        seeds: seeds.get(seeds.len() / 2).copied().unwrap_or_default(),
        faults: found().map(|caught| caught.faults).max().unwrap_or_default(),
        clean_without: found().all(|caught| caught.clean_without),
        what: first.map(|caught| format!("{}: {}", caught.violation.by, caught.violation.what)),
        repro: first.map(|caught| repro_of_seed(caught.schedule.seed, draw, Some(bug))),
    }
}

fn print(args: &args::Plant, rows: &[Row], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut table = Table::with_text_from(3, &["planted bug", "seeds", "faults", "noticed as"]);
    for row in rows {
        let what: String = match &row.what {
            Some(what) => what.chars().take(100).collect(),
            None => "NOT CAUGHT".to_owned(),
        };
        let missed = match (row.caught, row.clean_without) {
            (false, _) if row.what.is_some() => "NOT ALWAYS CAUGHT: ",
            (_, false) => "SHRUNK TO SOMETHING ELSE: ",
            _ => "",
        };
        let cells = [row.name.to_owned(), row.seeds.to_string(), row.faults.to_string()];
        table.row(cells.into_iter().chain([format!("{missed}{what}")]).collect());
    }
    table.print(out)?;
    let caught = rows.iter().filter(|row| row.caught).count();
    let (budget, times) = (args.budget, args.repetitions);
    writeln!(
        out,
        "{caught} of {} caught (at most {budget} seeds, {times} times each)",
        rows.len()
    )?;
    if let [row] = rows
        && let Some(repro) = &row.repro
    {
        writeln!(out, "again: {repro}")?;
    }
    Ok(())
}
