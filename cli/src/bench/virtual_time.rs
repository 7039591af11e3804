//! `bench idle --virtual`: many nodes in one process, in virtual time.

use super::idle::mean_and_max;
use super::report::{Case, Reporter, Setup, Virtual};
use crate::args;
use crate::output::round;
use anyhow::{Context as _, ensure};
use core::time::Duration;
use quorate_sim::{NodeIndex, Sim, config};
use std::io;
use std::time::Instant;

/// The same world in every run: what differs between two runs is the speed of the machine.
const SEED: u64 = 1;
/// How many nodes everybody else is told of, as by a DNS name with these addresses.
const SEEDS: usize = 3;
/// How much virtual time the nodes may take to find each other.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a complete cluster is left alone before it counts as settled, in virtual time.
const SETTLING: Duration = Duration::from_secs(30);

pub(crate) fn run(nodes: u16, args: &args::Idle) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let setup = Setup::new("idle", "virtual", nodes, args.seconds);
    let mut reporter = Reporter::new(setup, args.json, &mut out);
    reporter.progress(&format!("{nodes} idle nodes in virtual time"));
    let case = measure(nodes, args.seconds)?;
    reporter.add(Case::Virtual(case))?;
    reporter.finish()
}

fn measure(nodes: u16, seconds: u32) -> anyhow::Result<Virtual> {
    let mut world = Sim::new(SEED);
    let mut started: Vec<NodeIndex> = Vec::new();
    for _ in 0..nodes {
        let seeds = started
            .iter()
            .take(SEEDS)
            .map(|&node| world.addr(node).to_string());
        let config = seeds.fold(config(), |config, seed| config.seed(seed));
        started.push(world.start(config));
    }
    complete(&mut world, &started)?;
    world.run_for(SETTLING);

    let traffic = |world: &Sim| -> Vec<(u64, u64)> {
        let stats = started.iter().map(|&node| world.node_of(node).stats());
        stats
            .map(|stats| (stats.datagrams_sent, stats.bytes_sent))
            .collect()
    };
    let before = traffic(&world);
    let began = Instant::now();
    world.run_for(Duration::from_secs(seconds.into()));
    let wall = began.elapsed().as_secs_f64();
    let after = traffic(&world);

    let seconds = f64::from(seconds);
    let rate = |of: fn(&(u64, u64)) -> u64| {
        let differences = before.iter().zip(&after).map(|(a, b)| of(b) - of(a));
        mean_and_max(differences.map(|difference| difference as f64 / seconds))
    };
    let datagrams = rate(|traffic| traffic.0).context("there are no nodes")?;
    let bytes = rate(|traffic| traffic.1).context("there are no nodes")?;
    Ok(Virtual {
        nodes,
        seconds,
        datagrams_per_second: round(datagrams.0, 1),
        datagrams_per_second_max: round(datagrams.1, 1),
        bytes_per_second: round(bytes.0, 0),
        bytes_per_second_max: round(bytes.1, 0),
        speed: round(seconds / wall.max(1e-9), 1),
    })
}

/// Waits until all list each other.
fn complete(world: &mut Sim, nodes: &[NodeIndex]) -> anyhow::Result<()> {
    let others = nodes.len() - 1;
    let mut waited = Duration::ZERO;
    loop {
        let incomplete = nodes
            .iter()
            .filter(|&&node| world.node_of(node).members().count() != others);
        let incomplete = incomplete.count();
        if incomplete == 0 {
            return Ok(());
        }
        ensure!(
            waited < PATIENCE,
            "after {} virtual seconds, {incomplete} of {} nodes still do not list all others",
            waited.as_secs(),
            nodes.len()
        );
        world.run_for(Duration::from_secs(1));
        waited += Duration::from_secs(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_nodes_talk_a_little() {
        let case = measure(4, 5).expect("four nodes find each other");
        assert!(case.datagrams_per_second > 1.0, "{case:?}");
        assert!(case.datagrams_per_second < 100.0, "{case:?}");
        assert!(
            case.bytes_per_second_max >= case.bytes_per_second && case.speed > 0.0,
            "{case:?}"
        );
    }
}
