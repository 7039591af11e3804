//! The commands of `quorate-sim`.

mod args;
mod batch;
mod bench;
mod explore;
mod finding;
mod liveness;
mod output;
mod plant;
mod run;
mod scenario;
mod simulate;
mod single;

use args::{Cli, Command};
use clap::Parser as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// What a command found out. Whatever keeps it from finding out anything is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Clean,
    /// A violation, or a planted bug that nothing caught.
    Bad,
}

impl Verdict {
    const fn bad_if(bad: bool) -> Self {
        if bad { Self::Bad } else { Self::Clean }
    }
}

/// Neither clean nor a violation: wrong usage, an unreadable file, an output that nobody takes.
const EXIT_ERROR: u8 = 2;

/// Runs the command that the arguments ask for. Its exit code is 0 if all is clean, 1 after a violation, and 2 if the
/// command could not do its work.
pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    simulate::hush_panics();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = match &command {
        Command::Run(args) => run::run(args, &mut out),
        Command::Coverage(args) => run::coverage(args, &mut out),
        Command::Repro(args) => single::reproduce(args, &mut out),
        Command::Shrink(args) => single::shrink(args, &mut out),
        Command::Show(args) => single::show(args, &mut out),
        Command::Scenario(args) => scenario::run(args, &mut out),
        Command::Plant(args) => plant::run(args, &mut out),
        Command::Bench(args) => bench::measure(args, &mut out),
        Command::Explore(args) => explore::run(args, &mut out),
        Command::Liveness(args) => liveness::run(args, &mut out),
    };
    let result = result.and_then(|verdict| {
        out.flush()?;
        Ok(verdict)
    });
    match result {
        Ok(Verdict::Clean) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(error) => {
            // Whoever read the output has seen enough (`quorate-sim run | head`): nobody is left to be told.
            if !is_broken_pipe(&error) {
                eprintln!("quorate-sim: {error:#}");
            }
            ExitCode::from(EXIT_ERROR)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
