//! The suite on async-std, with the nodes of `quorate-smol`.

use quorate_tests::{AsyncStd, run, scenarios, scenarios_os};
use std::process::ExitCode;

fn main() -> ExitCode {
    run([scenarios::<AsyncStd>(), scenarios_os::<AsyncStd>()].concat())
}
