//! The suite on tokio.

use quorate_tests::{Tokio, run, scenarios, scenarios_os};
use std::process::ExitCode;

fn main() -> ExitCode {
    run([scenarios::<Tokio>(), scenarios_os::<Tokio>()].concat())
}
