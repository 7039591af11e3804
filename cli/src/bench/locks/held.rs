//! What it costs to hold many locks.

use super::finding::{Figures, Finding, Held};
use super::shape;
use crate::args::{LockCase, Locks};
use crate::bench::child::{PROMPT, Peers};
use crate::bench::idle;
use crate::bench::protocol::{Order, Report, Usage};
use crate::output::round;
use anyhow::Context as _;
use core::time::Duration;
use std::time::Instant;

const LOCKS: usize = 10_000;
/// How long nodes are left alone before anything counts: what they have to tell each other is told by then.
const SETTLING: Duration = Duration::from_secs(3);
/// Locks are renewed every third of their lease: 5 s by default. Less than twice that would measure chance.
const MIN_SECONDS: u32 = 10;

pub(super) fn measure(args: &Locks) -> anyhow::Result<Finding> {
    let mut peers = Peers::start(args.nodes, args.nodes, shape(args))?;
    let leader = peers.await_group()?;
    // Who leads would renew by itself, without a datagram.
    let holder = (leader + 1) % peers.peers.len();
    std::thread::sleep(SETTLING);
    let idle = traffic(&mut peers, args.seconds)?;
    let order = Order::Acquire {
        key: "held".into(),
        count: LOCKS,
        ttl_ms: None,
    };
    let began = Instant::now();
    peers.peers[holder].child.order(&order, PROMPT)?;
    let took = began.elapsed();
    std::thread::sleep(SETTLING);
    let busy = traffic(&mut peers, args.seconds.max(MIN_SECONDS))?;
    let child = &mut peers.peers[holder].child;
    match child.call(&Order::Held, PROMPT)? {
        Report::Held { count } => anyhow::ensure!(count == LOCKS, "only {count} locks are held still"),
        other => return child.unexpected(&other),
    }
    anyhow::ensure!(
        peers.await_group()? == leader,
        "another node leads by now: the machine is too busy"
    );
    let held =
        sum_up(took, &idle, &busy, holder, leader).context("memory and processor time are not known here")?;
    let (case, figures) = (LockCase::Held10000, Figures::Held(held));
    Ok(Finding { case, figures })
}

/// What all nodes used in a stretch of time.
struct Traffic {
    before: Vec<Usage>,
    after: Vec<Usage>,
    seconds: f64,
}

impl Traffic {
    fn rate(&self, node: usize, of: fn(&Usage) -> u64) -> f64 {
        of(&self.after[node]).saturating_sub(of(&self.before[node])) as f64 / self.seconds
    }
}

fn traffic(peers: &mut Peers, seconds: u32) -> anyhow::Result<Traffic> {
    let began = Instant::now();
    let before = idle::usage(peers)?;
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let after = idle::usage(peers)?;
    Ok(Traffic {
        before,
        after,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Compares with the same nodes before they had locks. `None` where the system does not tell what they used.
fn sum_up(took: Duration, idle: &Traffic, busy: &Traffic, holder: usize, leader: usize) -> Option<Held> {
    // 10^9 ns in a second, 100 percent.
    let cpu = |node: usize| {
        let rate = busy.rate(node, |usage| usage.cpu_ns.unwrap_or(0));
        busy.after[node].cpu_ns.map(|_| round(rate / 1e7, 2))
    };
    let datagrams = |node| {
        let rate = |traffic: &Traffic| traffic.rate(node, |usage| usage.datagrams_sent);
        round(rate(busy) - rate(idle), 1)
    };
    let mut bytes = Vec::new();
    for (without, with) in idle.after.iter().zip(&busy.after) {
        let grown = with.rss_kib?.saturating_sub(without.rss_kib?);
        bytes.push((grown * 1024) as f64 / LOCKS as f64);
    }
    let (mean, max) = idle::mean_and_max(bytes)?;
    Some(Held {
        locks: LOCKS,
        seconds: round(busy.seconds, 1),
        acquired_per_second: round(LOCKS as f64 / took.as_secs_f64(), 0),
        renewal_datagrams_per_second: datagrams(holder),
        leader_datagrams_per_second: datagrams(leader),
        cpu_percent: cpu(holder)?,
        leader_cpu_percent: cpu(leader)?,
        bytes_per_lock: round(mean, 0),
        bytes_per_lock_max: round(max, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_locks_cost_is_what_is_added() {
        let usage = |datagrams_sent, cpu_ms: u64, rss_kib| Usage {
            datagrams_sent,
            cpu_ns: Some(cpu_ms * 1_000_000),
            rss_kib: Some(rss_kib),
            ..Usage::default()
        };
        let idle = Traffic {
            before: vec![usage(0, 0, 1000), usage(0, 0, 1000)],
            after: vec![usage(10, 1, 1000), usage(20, 1, 1000)],
            seconds: 2.0,
        };
        let busy = Traffic {
            before: vec![usage(100, 10, 0), usage(100, 10, 0)],
            after: vec![usage(150, 20, 1000 + 4000), usage(300, 40, 1000 + 8000)],
            seconds: 2.0,
        };
        let took = Duration::from_millis(500);
        let held = sum_up(took, &idle, &busy, 0, 1).expect("known");
        assert_eq!(
            (
                held.renewal_datagrams_per_second,
                held.leader_datagrams_per_second
            ),
            (20.0, 90.0)
        );
        assert_eq!((held.cpu_percent, held.leader_cpu_percent), (0.5, 1.5));
        assert_eq!((held.bytes_per_lock, held.bytes_per_lock_max), (614.0, 819.0));
        assert_eq!(held.acquired_per_second, 20_000.0);
    }
}
