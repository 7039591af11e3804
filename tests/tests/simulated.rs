//! The suite in the simulator.

use quorate_tests::{Simulated, run, scenarios};
use std::process::ExitCode;

fn main() -> ExitCode {
    run(scenarios::<Simulated>())
}
