//! `bench locks`: the parent's side.

mod clients;
mod finding;
mod held;
mod rates;
mod recovery;

use super::child::Shape;
use super::idle;
use super::report::{Case, Reporter, Setup, Skipped};
use crate::args::{LockCase, Locks};
use anyhow::Context as _;
use clap::ValueEnum as _;
pub(super) use clients::{acquire, group, pairs};
pub(super) use finding::{Family, Finding};
use std::io;

pub(crate) fn run(args: &Locks) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let setup = Setup {
        in_process: args.in_process,
        ..Setup::new("locks", args.runtime.name(), args.nodes.into(), args.seconds)
    };
    let mut reporter = Reporter::new(setup, args.json, &mut out);
    rates::run(args, &mut reporter)?;
    for &case in LockCase::value_variants() {
        if !args.wants(case) || rates::spec(case).is_some() {
            continue;
        }
        let what = case.name();
        if args.in_process && case.needs_processes() {
            let why = "takes a process for each node";
            let what = what.into();
            reporter.add(Case::Skipped(Skipped { what, why }))?;
            continue;
        }
        reporter.progress(what);
        let found = match case {
            LockCase::Idle => Case::Idle(idle::measure(args.nodes, args.runtime, args.seconds)?),
            LockCase::Held10000 => Case::Locks(held::measure(args).context(what)?),
            _ => Case::Locks(recovery::measure(args, case).context(what)?),
        };
        reporter.add(found)?;
    }
    reporter.finish()
}

/// What the nodes' processes are like.
const fn shape(args: &Locks) -> Shape {
    Shape {
        runtime: args.runtime,
        workers: args.workers,
        in_process: args.in_process,
    }
}
