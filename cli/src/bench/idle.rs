//! `bench idle`: what nodes cost that have nothing to do.

use super::child::{Peer, Peers, Shape};
use super::histogram::Spread;
use super::protocol::Usage;
use super::report::{Case, Idle, Memory, Reporter, Setup};
use crate::args;
use crate::args::Runtime;
use crate::output::round;
use anyhow::Context as _;
use core::time::Duration;
use std::io;
use std::time::Instant;

/// How long a complete cluster is left alone before it counts as settled: news are gossiped to the end, and first
/// sessions are confirmed.
const SETTLING: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &args::Idle) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let setup = Setup::new("idle", args.runtime.name(), args.nodes.into(), args.seconds);
    let mut reporter = Reporter::new(setup, args.json, &mut out);
    reporter.progress(&format!("{} idle nodes", args.nodes));
    let case = measure(args.nodes, args.runtime, args.seconds)?;
    reporter.add(Case::Idle(case))?;
    reporter.finish()
}

/// Measures nodes of a cluster of their own, each a process with one thread.
pub(super) fn measure(nodes: u8, runtime: Runtime, seconds: u32) -> anyhow::Result<Idle> {
    let shape = Shape {
        runtime,
        workers: 0,
        in_process: false,
    };
    let mut peers = Peers::start(0, nodes, shape)?;
    let mut bare = Vec::new();
    for _ in 0..nodes {
        let mut child = peers.spawn()?;
        bare.push(child.usage()?);
        let peer = Peer::start(child, &peers.start_order())?;
        peers.peers.push(peer);
    }
    peers.settle()?;
    std::thread::sleep(SETTLING);
    let began = Instant::now();
    let before = usage(&mut peers)?;
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let after = usage(&mut peers)?;
    let elapsed = began.elapsed().as_secs_f64();
    sum_up(nodes, elapsed, &bare, &before, &after).context("nothing was measured")
}

pub(super) fn usage(peers: &mut Peers) -> anyhow::Result<Vec<Usage>> {
    peers.peers.iter_mut().map(|peer| peer.child.usage()).collect()
}

/// Puts the figures of all nodes together; `None` if there are none.
fn sum_up(nodes: u8, seconds: f64, bare: &[Usage], before: &[Usage], after: &[Usage]) -> Option<Idle> {
    let rates = |of: fn(&Usage) -> u64| {
        let differences = before.iter().zip(after).map(|(a, b)| of(b).saturating_sub(of(a)));
        mean_and_max(differences.map(|difference| difference as f64 / seconds))
    };
    let datagrams = rates(|usage| usage.datagrams_sent)?;
    let bytes = rates(|usage| usage.bytes_sent)?;
    // 10^9 ns in a second, 100 percent.
    let cpu = after
        .iter()
        .all(|usage| usage.cpu_ns.is_some())
        .then(|| rates(|usage| usage.cpu_ns.unwrap_or(0)))
        .flatten()
        .map(|(mean, max)| (round(mean / 1e7, 3), round(max / 1e7, 3)));
    Some(Idle {
        nodes,
        seconds: round(seconds, 1),
        memory: memory(bare, after),
        cpu_percent: cpu.map(|cpu| cpu.0),
        cpu_percent_max: cpu.map(|cpu| cpu.1),
        datagrams_per_second: round(datagrams.0, 1),
        datagrams_per_second_max: round(datagrams.1, 1),
        bytes_per_second: round(bytes.0, 0),
        bytes_per_second_max: round(bytes.1, 0),
    })
}

fn memory(bare: &[Usage], after: &[Usage]) -> Option<Memory> {
    let kib = |of: fn(&Usage) -> Option<u64>, usages: &[Usage]| {
        let values: Option<Vec<f64>> = usages.iter().map(|usage| Some(of(usage)? as f64)).collect();
        let (mean, max) = mean_and_max(values?)?;
        Some((mean.round() as u64, max.round() as u64))
    };
    let rss = kib(|usage| usage.rss_kib, after)?;
    let pss = kib(|usage| usage.pss_kib, after);
    Some(Memory {
        rss_kib: rss.0,
        rss_kib_max: rss.1,
        pss_kib: pss.map(|pss| pss.0),
        pss_kib_max: pss.map(|pss| pss.1),
        rss_without_node_kib: kib(|usage| usage.rss_kib, bare)?.0,
    })
}

/// Returns mean and maximum; `None` without values.
pub(crate) fn mean_and_max(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let values: Vec<f64> = values.into_iter().collect();
    let max = Spread::of(values.iter().copied(), 9)?.max;
    Some((values.iter().sum::<f64>() / values.len() as f64, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rates_of_differences() {
        let usage = |cpu_ms: u64, datagrams, bytes, rss| Usage {
            cpu_ns: Some(cpu_ms * 1_000_000),
            rss_kib: Some(rss),
            datagrams_sent: datagrams,
            bytes_sent: bytes,
            ..Usage::default()
        };
        let before = [usage(10, 100, 1000, 0), usage(10, 200, 2000, 0)];
        let after = [usage(20, 110, 2000, 5000), usage(40, 240, 3000, 7000)];
        let bare = [usage(0, 0, 0, 3000), usage(0, 0, 0, 3001)];
        let idle = sum_up(2, 2.0, &bare, &before, &after).expect("there are nodes");
        assert_eq!(
            (idle.datagrams_per_second, idle.datagrams_per_second_max),
            (12.5, 20.0)
        );
        assert_eq!((idle.bytes_per_second, idle.bytes_per_second_max), (500.0, 500.0));
        assert_eq!((idle.cpu_percent, idle.cpu_percent_max), (Some(1.0), Some(1.5)));
        let memory = idle.memory.expect("known");
        assert_eq!(
            (memory.rss_kib, memory.rss_kib_max, memory.pss_kib),
            (6000, 7000, None)
        );
        assert_eq!(memory.rss_without_node_kib, 3001);
        assert_eq!(sum_up(0, 2.0, &[], &[], &[]), None);
    }
}
