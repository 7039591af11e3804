//! `quorate bench`: what the library does on this machine, beside what the machine could do.
//!
//! Every node is a process of its own, as in life: this executable, started again with a hidden subcommand
//! ([`worker`]) and steered over its standard input and output ([`child`], [`protocol`]).

mod child;
mod floor;
mod histogram;
mod idle;
mod join;
mod load;
mod locks;
mod messages;
mod protocol;
mod report;
mod runtime;
mod usage;
mod virtual_time;
mod worker;

use crate::args;

/// Runs `bench messages`.
pub(crate) fn messages(args: &args::Messages) -> anyhow::Result<()> {
    messages::run(args)
}

/// Runs `bench locks`.
pub(crate) fn locks(args: &args::Locks) -> anyhow::Result<()> {
    locks::run(args)
}

/// Runs `bench idle`.
pub(crate) fn idle(args: &args::Idle) -> anyhow::Result<()> {
    match args.virtual_nodes {
        Some(nodes) => virtual_time::run(nodes, args),
        None => idle::run(args),
    }
}

/// Runs one process of a benchmark.
pub(crate) fn node(args: &args::BenchNode) -> anyhow::Result<()> {
    worker::run(args)
}
