//! `repro`, `shrink` and `show`: one run.

use super::Verdict;
use super::args::{self, DrawArgs, Single, Subject};
use super::batch::stop_on_interrupt;
use super::finding::{self, Finding, print_shrunk, repro, repro_of_seed};
use super::output::{Progress, as_string, grouped, hash, json_line, lasting};
use super::simulate::{simulate, simulate_observed};
use anyhow::{Context as _, bail, ensure};
use quorate_sim::{Recording, Report, Schedule, html, scenario};
use serde::Serialize;
use std::fs;
use std::io::Write;

/// One run again. The field names are part of the command's interface.
#[derive(Debug, Serialize)]
struct Reproduced {
    event: &'static str,
    #[serde(serialize_with = "as_string")]
    seed: u64,
    trace_hash: String,
    violations: Vec<Finding>,
}

impl Single {
    /// Returns the schedule, and the command that runs it again.
    fn load(&self) -> anyhow::Result<(Schedule, String)> {
        let path = match &self.subject {
            Subject::Seed(seed) => {
                let schedule = Schedule::draw(*seed, &self.draw.draw());
                return Ok((schedule, repro_of_seed(*seed, &self.draw, self.plant)));
            }
            Subject::Named(path) => path,
        };
        let name = path.display().to_string();
        ensure!(
            self.draw == DrawArgs::default(),
            "{name} is a whole schedule: --nodes, --minutes, --faults and --loss only go with a seed"
        );
        let schedule = if path.exists() {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
            text.parse().with_context(|| format!("{name} is no schedule"))?
        } else if let Some(found) = scenario::find(&name) {
            found.schedule
        } else {
            bail!("{name} is neither a seed (decimal or 0x, 64 bits), nor a file, nor a scenario");
        };
        Ok((schedule, repro(&quoted(&name), self.plant)))
    }

    fn title(&self) -> String {
        let subject = match &self.subject {
            Subject::Seed(seed) => format!("seed {seed:#x}"),
            Subject::Named(path) => path.display().to_string(),
        };
        match self.plant {
            Some(bug) => format!("{subject} with {}", bug.name()),
            None => subject,
        }
    }
}

/// Quotes a name for a shell where it has to be.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}

/// Runs `repro`.
pub(crate) fn reproduce(args: &args::Repro, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let (schedule, repro) = args.single.load()?;
    let report = simulate(&schedule, args.single.plant);
    let violation = report.violation.as_ref();
    let findings = violation.map(|violation| Finding::new(violation, &schedule, repro));
    if args.json {
        let reproduced = Reproduced {
            event: "repro",
            seed: report.seed,
            trace_hash: hash(report.trace_hash),
            violations: findings.into_iter().collect(),
        };
        json_line(out, &reproduced)?;
    } else {
        writeln!(out, "{}", schedule.to_string().trim_end())?;
        writeln!(out)?;
        print(out, &report, findings.as_ref())?;
    }
    Ok(Verdict::bad_if(report.violation.is_some()))
}

/// Says what a run came to.
fn print(out: &mut dyn Write, report: &Report, finding: Option<&Finding>) -> anyhow::Result<()> {
    let (events, simulated) = (
        grouped(report.events as f64),
        lasting(report.simulated.as_secs_f64()),
    );
    writeln!(
        out,
        "seed {:#x}: {events} events in {simulated} of simulated time",
        report.seed
    )?;
    writeln!(out, "trace hash {}", hash(report.trace_hash))?;
    if let Some(after) = report.recovered_after {
        writeln!(
            out,
            "whole again {} after the last fault",
            lasting(after.as_secs_f64())
        )?;
    }
    match finding {
        Some(finding) => finding.print(out)?,
        None => writeln!(out, "no violation")?,
    }
    Ok(())
}

/// Runs `shrink`. A schedule was found: the run was violated.
pub(crate) fn shrink(args: &args::Shrink, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    stop_on_interrupt()?;
    let (schedule, line) = args.single.load()?;
    let planted = args.single.plant;
    let Some(violation) = simulate(&schedule, planted).violation else {
        writeln!(out, "no violation: nothing to shrink")?;
        return Ok(Verdict::Clean);
    };
    let mut progress = Progress::new("schedules tried at most", u64::from(args.budget));
    let shrunk = finding::shrink(schedule, &violation, planted, args.budget as usize, |candidate| {
        progress.step(&format!(", {} faults", candidate.faults.len()));
    });
    drop(progress);
    // What the smaller schedule shows may be worded differently.
    let violation = simulate(&shrunk.schedule, planted).violation.unwrap_or(violation);
    let line = match &args.output {
        Some(path) => repro(&quoted(&path.display().to_string()), planted),
        None => line,
    };
    Finding::new(&violation, &shrunk.schedule, line).print(out)?;
    match &args.output {
        None => print_shrunk(out, &shrunk)?,
        Some(path) => {
            let name = path.display();
            let text = format!(
                "# {}\n{}",
                violation.to_string().replace('\n', "\n# "),
                shrunk.schedule
            );
            fs::write(path, text).with_context(|| format!("cannot write {name}"))?;
            let faults = shrunk.schedule.faults.len();
            writeln!(out, "  {name}: {faults} faults, {} schedules tried", shrunk.tried)?;
        }
    }
    Ok(Verdict::Bad)
}

/// Runs `show`.
pub(crate) fn show(args: &args::Show, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let (schedule, line) = args.single.load()?;
    let recording = Recording::new(args.events as usize);
    let (report, recording) = simulate_observed(&schedule, args.single.plant, recording);
    let about = html::About {
        title: &args.single.title(),
        seed: report.seed,
        trace_hash: report.trace_hash,
        schedule: &schedule.to_string(),
        violations: report.violation.as_slice(),
    };
    let page = html::page(&recording, &about);
    let name = args.output.display();
    fs::write(&args.output, page).with_context(|| format!("cannot write {name}"))?;
    let violation = report.violation.as_ref();
    let finding = violation.map(|violation| Finding::new(violation, &schedule, line));
    print(out, &report, finding.as_ref())?;
    writeln!(out, "{name}: open it in any browser")?;
    Ok(Verdict::bad_if(report.violation.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("a/b-1.txt"), "a/b-1.txt");
        assert_eq!(quoted("it's here"), "'it'\\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
