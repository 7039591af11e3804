//! `liveness`: how long a cluster takes to notice and to recover.

mod distribution;
mod trials;

use super::Verdict;
use super::args::{self, Seeds};
use super::batch::{in_order, interrupted, stop_on_interrupt};
use super::output::{Progress, Table, grouped, json_line, significant};
use distribution::Distribution;
use serde::Serialize;
use std::io::Write;
use std::ops::ControlFlow;
use trials::Trial;

/// One question, over many seeds. The field names are part of the command's interface.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    seeds: u64,
    /// `null` where no seed recovered, and for rates.
    median_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    /// How many seeds did not recover within `bound_ms`.
    never: u64,
    /// How many seeds recovered, but not as they must: a group was lost that had a quorum, tokens did not rise, or somebody
    /// had a lock in which another one still believed.
    wrong: u64,
    bound_ms: f64,
    /// For rates: how often it happened, for each member and simulated hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_node_hour: Option<f64>,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    rows: Vec<Row>,
}

/// Runs `liveness`.
pub(crate) fn run(args: &args::Liveness, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    stop_on_interrupt()?;
    let all = trials::rows();
    let chosen: Vec<_> = all.iter().filter(|row| args.wants(&row.name)).collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        "--row: no row has this in its name: there are {}",
        names(&all)
    );
    let mut progress = Progress::new("runs", chosen.len() as u64 * u64::from(args.seeds));
    let mut rows = Vec::new();
    for row in chosen {
        let measured = measure(row, args, &mut progress)?;
        // A row with some of its seeds is worth something, one without is not.
        rows.extend((measured.seeds > 0).then_some(measured));
        if interrupted() {
            break;
        }
    }
    progress.clear();
    match args.json {
        true => json_line(
            out,
            &Summary {
                event: "liveness",
                rows,
            },
        )?,
        false => print(&rows, out)?,
    }
    Ok(Verdict::Clean)
}

fn names(rows: &[Trial]) -> String {
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    names.join("; ")
}

fn measure(row: &Trial, args: &args::Liveness, progress: &mut Progress) -> anyhow::Result<Row> {
    let mut times = Distribution::default();
    let (mut seeds, mut never, mut wrong, mut count, mut node_hours) = (0, 0, 0, 0, 0.0);
    let all = Seeds::from(0, u64::from(args.seeds));
    in_order(
        all,
        args.jobs.count(),
        |seed| (row.run)(seed),
        |_, outcome| {
            seeds += 1;
            match outcome.recovered {
                Some(after) => times.add(after.as_secs_f64() * 1e3),
                None => never += 1,
            }
            wrong += u64::from(outcome.wrong);
            count += outcome.count;
            node_hours += outcome.node_hours;
            progress.step(&format!(", {}", row.name));
            Ok(ControlFlow::Continue(()))
        },
    )?;
    let is_rate = node_hours > 0.0;
    let at = |times: &mut Distribution, share: f64| match is_rate {
        true => None,
        false => times.quantile(share).map(|ms| significant(ms, 4)),
    };
    Ok(Row {
        name: row.name.clone(),
        seeds,
        median_ms: at(&mut times, 0.5),
        p99_ms: at(&mut times, 0.99),
        p999_ms: at(&mut times, 0.999),
        never,
        wrong,
        bound_ms: row.bound.as_secs_f64() * 1e3,
        per_node_hour: is_rate.then(|| significant(count as f64 / node_hours, 3)),
    })
}

fn print(rows: &[Row], out: &mut dyn Write) -> anyhow::Result<()> {
    let header = [
        "what",
        "seeds",
        "median ms",
        "p99 ms",
        "p99.9 ms",
        "never",
        "wrong",
        "bound ms",
        "per node-hour",
    ];
    let mut table = Table::new(&header);
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), grouped);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            row.seeds.to_string(),
            ms(row.median_ms),
            ms(row.p99_ms),
            ms(row.p999_ms),
            row.never.to_string(),
            row.wrong.to_string(),
            grouped(row.bound_ms),
            ms(row.per_node_hour),
        ]);
    }
    table.print(out)?;
    let config = quorate_sim::config();
    let timeout = config.heartbeat_timeout.as_millis();
    writeln!(
        out,
        "Default settings: heartbeat_timeout is {timeout} ms. 'never': not within the bound. 'wrong': a group was lost that \
         had a quorum, tokens did not rise, or somebody had a lock in which another one still believed."
    )?;
    Ok(())
}
