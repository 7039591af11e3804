//! How fast locks are taken and given back.

use super::finding::{Cost, Figures, Finding, Rate};
use super::shape;
use crate::args::{LockCase, Locks};
use crate::bench::child::{PROMPT, Peers};
use crate::bench::floor::Floor;
use crate::bench::histogram::Histogram;
use crate::bench::idle;
use crate::bench::protocol::{Load, Order, Pairs, PairsDone, Report, Slice, Usage};
use crate::bench::report::{Case, Reporter};
use crate::output::round;
use anyhow::Context as _;
use clap::ValueEnum as _;
use core::time::Duration;

/// Into how many slices a case is cut. The floor takes turns with them, because machines are noisy.
const SLICES: u32 = 5;
/// The floor is steadier than what it is compared with: it gets this part of the time.
const FLOOR_PART: u64 = 4;
/// Bytes of a datagram of the floor: about what a request for a lock takes.
const FLOOR_SIZE: usize = 128;

/// Where the clients of a case are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Leader,
    Follower,
    Spread,
}

/// A case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    clients: usize,
    place: Place,
    /// Whether each client has a key of its own.
    distinct: bool,
}

/// Returns what a case is; `None` if it is not about rates.
pub(super) const fn spec(case: LockCase) -> Option<Spec> {
    let (clients, place, distinct) = match case {
        LockCase::PairLeader => (1, Place::Leader, true),
        LockCase::PairFollower => (1, Place::Follower, true),
        LockCase::Distinct64 => (64, Place::Spread, true),
        LockCase::Contended8Leader => (8, Place::Leader, false),
        LockCase::Contended8Spread => (8, Place::Spread, false),
        _ => return None,
    };
    Some(Spec {
        clients,
        place,
        distinct,
    })
}

impl Spec {
    /// Returns how many clients each node gets.
    fn clients_by_node(&self, nodes: usize, leader: usize) -> Vec<usize> {
        let mut clients = vec![0; nodes];
        match self.place {
            Place::Leader => clients[leader] = self.clients,
            Place::Follower => clients[(leader + 1) % nodes] = self.clients,
            Place::Spread => (0..self.clients).for_each(|client| clients[client % nodes] += 1),
        }
        clients
    }

    /// The load of the floor: as many datagrams in flight as there can be requests. Who disputes one lock waits for the
    /// hand-over before, so there only one step is under way at a time.
    const fn floor(&self, millis: u64) -> Load {
        Load {
            size: FLOOR_SIZE,
            in_flight: if self.distinct { self.clients } else { 1 },
            millis: millis / FLOOR_PART,
        }
    }
}

pub(super) fn run(args: &Locks, reporter: &mut Reporter<'_>) -> anyhow::Result<()> {
    let cases = LockCase::value_variants().iter().copied();
    let mut cases = cases
        .filter(|&case| args.wants(case))
        .filter_map(|case| Some((case, spec(case)?)))
        .peekable();
    if cases.peek().is_none() {
        return Ok(());
    }
    let mut floor = Floor::start(shape(args))?;
    let mut peers = Peers::start(args.nodes, args.nodes, shape(args))?;
    for (case, spec) in cases {
        reporter.progress(case.name());
        let rate = measure(args, &mut peers, &mut floor, spec).with_context(|| case.name())?;
        let figures = Figures::Rate(rate);
        reporter.add(Case::Locks(Finding { case, figures }))?;
    }
    Ok(())
}

fn measure(args: &Locks, peers: &mut Peers, floor: &mut Floor, spec: Spec) -> anyhow::Result<Rate> {
    let millis = u64::from(args.seconds) * 1000 / u64::from(SLICES);
    let patience = PROMPT + 2 * Duration::from_millis(millis);
    let mut sum = Sum::default();
    for _ in 0..SLICES {
        sum.floors.push(floor.measure(spec.floor(millis), patience)?);
        // Anew for each slice: on a busy machine another one may lead by now.
        let leader = peers.await_group()?;
        let clients = spec.clients_by_node(peers.peers.len(), leader);
        let before = idle::usage(peers)?;
        let mut busy = Vec::new();
        for (index, (peer, &clients)) in peers.peers.iter_mut().zip(&clients).enumerate() {
            if clients == 0 {
                continue;
            }
            let key = match spec.distinct {
                true => format!("bench/{index}"),
                false => "bench".into(),
            };
            let pairs = Pairs {
                key,
                clients,
                distinct: spec.distinct,
                millis,
            };
            peer.child.send(&Order::Pairs(pairs))?;
            busy.push(index);
        }
        let mut done = Vec::new();
        for index in busy {
            let child = &mut peers.peers[index].child;
            match child.receive(patience)? {
                Report::Pairs(pairs) => done.push(pairs),
                other => return child.unexpected(&other),
            }
        }
        sum.add(&done, millis)?;
        sum.used.push((before, idle::usage(peers)?));
    }
    let shares = (!spec.distinct).then_some(sum.finished.as_slice());
    let cost = sum.cost(args.in_process);
    Rate::new(spec.clients, &sum.slices, &sum.floors, shares, cost).context("nothing was measured")
}

/// The slices of a case.
#[derive(Debug, Default)]
struct Sum {
    slices: Vec<Slice>,
    floors: Vec<Slice>,
    /// Pairs by client, over all slices.
    finished: Vec<u64>,
    /// All pairs, those of the warm-ups too.
    pairs: u64,
    /// What all nodes had used before and after each slice.
    used: Vec<(Vec<Usage>, Vec<Usage>)>,
}

impl Sum {
    /// What a pair cost all nodes together.
    fn cost(&self, in_process: bool) -> Cost {
        let sum = |of: fn(&Usage) -> Option<u64>| {
            let mut sum = 0;
            for (before, after) in &self.used {
                for (before, after) in before.iter().zip(after) {
                    sum += of(after)?.saturating_sub(of(before)?);
                }
            }
            (self.pairs > 0).then(|| sum as f64 / self.pairs as f64)
        };
        let cpu_ns = if in_process {
            None
        } else {
            sum(|usage| usage.cpu_ns)
        };
        Cost {
            datagrams_per_pair: sum(|usage| Some(usage.datagrams_sent)).map(|datagrams| round(datagrams, 2)),
            cpu_us_per_pair: cpu_ns.map(|nanos| round(nanos / 1000.0, 1)),
        }
    }

    /// Puts together what the nodes did in one slice.
    fn add(&mut self, nodes: &[PairsDone], millis: u64) -> anyhow::Result<()> {
        let mut times = Histogram::new();
        for node in nodes {
            times.add_filled(&node.times)?;
        }
        self.pairs += nodes.iter().map(|node| node.pairs).sum::<u64>();
        let finished = nodes.iter().flat_map(|node| node.finished.iter().copied());
        let errors = nodes.iter().map(|node| node.errors).sum();
        let micros = |permille| {
            let nanos = times.percentile(permille);
            let nanos =
                nanos.with_context(|| format!("no lock in the measured time, and {errors} errors"))?;
            anyhow::Ok(nanos as f64 / 1000.0)
        };
        self.slices.push(Slice {
            per_second: finished.clone().sum::<u64>() as f64 * 1000.0 / millis as f64,
            median_us: micros(500)?,
            p99_us: micros(990)?,
            errors,
        });
        self.finished.resize(finished.clone().count(), 0);
        self.finished
            .iter_mut()
            .zip(finished)
            .for_each(|(sum, more)| *sum += more);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_where_their_case_says() {
        let by_node = |case, leader| {
            let spec = spec(case).expect("about rates");
            spec.clients_by_node(3, leader)
        };
        assert_eq!(by_node(LockCase::PairLeader, 2), [0, 0, 1]);
        assert_eq!(by_node(LockCase::PairFollower, 2), [1, 0, 0]);
        assert_eq!(by_node(LockCase::Distinct64, 1), [22, 21, 21]);
        assert_eq!(by_node(LockCase::Contended8Leader, 1), [0, 8, 0]);
        assert_eq!(by_node(LockCase::Contended8Spread, 1), [3, 3, 2]);
        assert_eq!(spec(LockCase::LeaderKilled), None);
    }

    #[test]
    fn nodes_are_summed_up_and_clients_over_slices() {
        let node = |nanos: u64, finished: &[u64]| {
            let mut times = Histogram::new();
            times.record(nanos);
            PairsDone {
                times: times.filled(),
                finished: finished.to_vec(),
                pairs: 50,
                errors: 1,
            }
        };
        let mut sum = Sum::default();
        let nodes = [node(100_000, &[10, 20]), node(300_000, &[30])];
        sum.add(&nodes, 500).expect("there are times");
        sum.add(&nodes, 500).expect("there are times");
        assert_eq!(sum.finished, [20, 40, 60]);
        let slice = sum.slices[0];
        assert_eq!((slice.per_second, slice.errors), (120.0, 2));
        assert!(
            (slice.median_us - 100.0).abs() < 1.0 && (slice.p99_us - 300.0).abs() < 2.0,
            "{slice:?}"
        );
        assert!(sum.add(&[PairsDone::default()], 500).is_err());
        let used = |datagrams_sent, cpu_us: u64| Usage {
            datagrams_sent,
            cpu_ns: Some(cpu_us * 1000),
            ..Usage::default()
        };
        // 200 pairs in all.
        sum.used.push((
            vec![used(0, 0), used(10, 10)],
            vec![used(100, 1000), used(310, 3010)],
        ));
        let cost = |datagrams_per_pair, cpu_us_per_pair| Cost {
            datagrams_per_pair,
            cpu_us_per_pair,
        };
        assert_eq!(sum.cost(false), cost(Some(2.0), Some(20.0)));
        assert_eq!(sum.cost(true), cost(Some(2.0), None));
        assert_eq!(Sum::default().cost(false), cost(None, None));
    }
}
