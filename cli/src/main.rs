//! The `quorate` command: `demo` shows what the library does, `bench` measures it on this machine.
#![forbid(unsafe_code)]

extern crate alloc;

mod args;
mod bench;
mod demo;
mod output;
mod task;

use args::{Bench, Cli, Command};
use clap::Parser;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Bench(Bench::Messages(args)) => bench::messages(&args),
        Command::Bench(Bench::Locks(args)) => bench::locks(&args),
        Command::Bench(Bench::Idle(args)) => bench::idle(&args),
        Command::BenchNode(args) => bench::node(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough (`quorate demo | head`): nobody is left to be told.
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
