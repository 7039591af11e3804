//! A violation, and everything that helps to understand it.

use super::args::DrawArgs;
use super::batch::interrupted;
use super::output::as_string;
use super::simulate::simulate;
use quorate_sim::{PlantedBug, Report, Schedule, Shrunk, Violation};
use serde::Serialize;
use std::io::{self, Write};

/// A violation as it stands in JSON. The field names are part of the command's interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    #[serde(serialize_with = "as_string")]
    pub(crate) seed: u64,
    /// What was broken, and who noticed.
    pub(crate) what: String,
    /// When, in simulated seconds.
    pub(crate) at_s: f64,
    /// How many faults the shortest schedule has that was found to show it.
    pub(crate) faults: usize,
    /// The command that shows it again.
    pub(crate) repro: String,
}

impl Finding {
    pub(crate) fn new(violation: &Violation, schedule: &Schedule, repro: String) -> Self {
        Self {
            seed: schedule.seed,
            what: format!("{}: {}", violation.by, violation.what),
            at_s: violation.at.as_secs_f64(),
            faults: schedule.faults.len(),
            repro,
        }
    }

    /// Of a script: its seed is 0, and its faults are steps.
    pub(crate) fn of_script(violation: &Violation, name: &str) -> Self {
        let repro = format!("cargo run --release -p quorate-sim -- scenario {name}");
        Self::new(violation, &Schedule::calm(0, 0), repro)
    }

    /// Writes it for people.
    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "VIOLATION with seed {:#x}, after {:.3} s",
            self.seed, self.at_s
        )?;
        writeln!(out, "  {}", self.what)?;
        writeln!(out, "  again: {}", self.repro)
    }
}

/// Returns the command that runs a seed again.
pub(crate) fn repro_of_seed(seed: u64, draw: &DrawArgs, planted: Option<PlantedBug>) -> String {
    repro(&format!("{seed:#x} {draw}"), planted)
}

/// Returns the command that runs something again.
pub(crate) fn repro(subject: &str, planted: Option<PlantedBug>) -> String {
    let mut line = format!("cargo run --release -p quorate-sim -- repro {subject}");
    if let Some(bug) = planted {
        line.push_str(&format!(" --plant {}", bug.name()));
    }
    line
}

/// Looks for the shortest schedule in which the same checker objects. After Ctrl-C: that which was found so far.
pub(crate) fn shrink(
    schedule: Schedule,
    violation: &Violation,
    planted: Option<PlantedBug>,
    budget: usize,
    mut step: impl FnMut(&Schedule),
) -> Shrunk {
    quorate_sim::shrink(schedule, budget, |candidate| {
        if interrupted() {
            return false;
        }
        step(candidate);
        same(&simulate(candidate, planted), violation)
    })
}

/// Returns whether a run shows a violation of the same kind.
pub(crate) fn same(report: &Report, violation: &Violation) -> bool {
    report
        .violation
        .as_ref()
        .is_some_and(|found| found.by == violation.by)
}

/// Writes the shortest schedule found, as a person can copy it.
pub(crate) fn print_shrunk(out: &mut dyn Write, shrunk: &Shrunk) -> io::Result<()> {
    let faults = shrunk.schedule.faults.len();
    writeln!(
        out,
        "  shortest schedule found ({faults} faults, {} tried):",
        shrunk.tried
    )?;
    shrunk
        .schedule
        .to_string()
        .lines()
        .try_for_each(|line| writeln!(out, "    {line}"))
}
