//! `scenario`: schedules that were written by hand, and scripts.

use super::Verdict;
use super::args;
use super::batch::{in_order, stop_on_interrupt};
use super::finding::{Finding, repro};
use super::output::{Progress, Table, hash, json_line};
use super::simulate::{play, simulate};
use anyhow::{anyhow, bail};
use quorate_sim::scenario::{self, Scenario};
use quorate_sim::script::{self, Script};
use quorate_sim::{Report, Violation};
use serde::Serialize;
use std::io::Write;
use std::ops::ControlFlow;

/// What all scenarios came to. The field names are part of the command's interface.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    scenarios: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    trace_hash: String,
    recovered_ms: Option<f64>,
    violations: Vec<Finding>,
}

/// What can be run by its name.
enum Named {
    Schedule(Scenario),
    Script(Script),
}

impl Named {
    fn all() -> impl Iterator<Item = Self> {
        let schedules = scenario::all().map(Self::Schedule);
        schedules.chain(script::all().map(Self::Script))
    }

    fn find(name: &str) -> Option<Self> {
        let schedule = scenario::find(name).map(Self::Schedule);
        schedule.or_else(|| script::find(name).map(Self::Script))
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Schedule(scenario) => scenario.name,
            Self::Script(script) => script.name,
        }
    }

    fn about(&self) -> &str {
        match self {
            Self::Schedule(scenario) => &scenario.about,
            Self::Script(script) => script.about,
        }
    }

    fn run(&self) -> Report {
        match self {
            Self::Schedule(scenario) => simulate(&scenario.schedule, None),
            Self::Script(script) => play(*script),
        }
    }

    fn finding(&self, violation: &Violation) -> Finding {
        let name = self.name();
        match self {
            Self::Schedule(scenario) => Finding::new(violation, &scenario.schedule, repro(name, None)),
            Self::Script(_) => Finding::of_script(violation, name),
        }
    }

    /// Writes the schedule, which a script has not.
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Self::Schedule(scenario) = self else {
            return Ok(());
        };
        for line in scenario.about.lines() {
            writeln!(out, "# {line}")?;
        }
        write!(out, "{}", scenario.schedule)
    }
}

/// Runs `scenario`.
pub(crate) fn run(args: &args::Scenario, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let chosen: Vec<Named> = match args.name.as_deref() {
        None | Some("all") => Named::all().collect(),
        Some(name) => vec![Named::find(name).ok_or_else(|| unknown(name))?],
    };
    if args.name.is_none() {
        return list(args, &chosen, out);
    }
    if args.text {
        if let [Named::Script(script)] = &chosen[..] {
            bail!(
                "{} has steps that depend on what happens: it has no text",
                script.name
            );
        }
        chosen.iter().try_for_each(|one| one.print(out))?;
        return Ok(Verdict::Clean);
    }
    stop_on_interrupt()?;
    let mut rows = Vec::new();
    let mut progress = Progress::new("scenarios", chosen.len() as u64);
    let numbers = args::Seeds::from(0, chosen.len() as u64);
    let jobs = args::Jobs::default().count();
    let work = |number: u64| chosen[number as usize].run();
    in_order(numbers, jobs, work, |number, report| {
        let one = &chosen[number as usize];
        let violation = report.violation.as_ref();
        let finding = violation.map(|violation| one.finding(violation));
        rows.push(Row {
            name: one.name(),
            trace_hash: hash(report.trace_hash),
            recovered_ms: report.recovered_after.map(|after| after.as_secs_f64() * 1e3),
            violations: finding.into_iter().collect(),
        });
        progress.step("");
        Ok(ControlFlow::Continue(()))
    })?;
    drop(progress);
    let bad = rows.iter().any(|row| !row.violations.is_empty());
    if args.json {
        let summary = Summary {
            event: "scenario",
            scenarios: rows,
        };
        json_line(out, &summary)?;
        return Ok(Verdict::bad_if(bad));
    }
    let mut table = Table::with_text_from(2, &["scenario", "recovered ms", "trace hash", ""]);
    for row in &rows {
        let recovered = row
            .recovered_ms
            .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
        let verdict = if row.violations.is_empty() {
            ""
        } else {
            "VIOLATION"
        };
        table.row(vec![
            row.name.into(),
            recovered,
            row.trace_hash.clone(),
            verdict.into(),
        ]);
    }
    table.print(out)?;
    for finding in rows.iter().flat_map(|row| &row.violations) {
        finding.print(out)?;
    }
    Ok(Verdict::bad_if(bad))
}

fn unknown(name: &str) -> anyhow::Error {
    let names: Vec<_> = Named::all().map(|one| one.name()).collect();
    anyhow!(
        "no scenario is called '{name}': there are all, {}",
        names.join(", ")
    )
}

fn list(args: &args::Scenario, scenarios: &[Named], out: &mut dyn Write) -> anyhow::Result<Verdict> {
    #[derive(Serialize)]
    struct Listed<'a> {
        event: &'static str,
        scenarios: Vec<(&'static str, &'a str)>,
    }
    if args.json {
        let scenarios = scenarios.iter().map(|one| (one.name(), one.about())).collect();
        let event = "scenarios";
        json_line(out, &Listed { event, scenarios })?;
        return Ok(Verdict::Clean);
    }
    let mut table = Table::with_text_from(1, &["scenario", "what it shows"]);
    for scenario in scenarios {
        let about = scenario.about().lines().next().unwrap_or_default();
        table.row(vec![scenario.name().into(), about.into()]);
    }
    table.print(out)?;
    Ok(Verdict::Clean)
}
