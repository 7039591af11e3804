//! The `quorate-sim` command: runs the simulator over many seeds, and looks closely at one.
#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
