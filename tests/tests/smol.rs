//! The suite on smol.

use quorate_tests::{Smol, run, scenarios, scenarios_os};
use std::process::ExitCode;

fn main() -> ExitCode {
    run([scenarios::<Smol>(), scenarios_os::<Smol>()].concat())
}
