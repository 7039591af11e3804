//! `bench messages`: the parent's side.

use super::child::{PROMPT, Peers, Shape};
use super::floor::Floor;
use super::join;
use super::protocol::{Broadcasts, Load, Order, Report};
use super::report::{Broadcast, Case, Reporter, Request, Setup, Skipped};
use super::runtime::Loss;
use crate::args::{MessageCase, Messages};
use crate::output::round;
use anyhow::Context as _;
use core::time::Duration;
use std::io;
use std::time::Instant;

/// Into how many slices a case is cut. The slices of what is compared alternate, because machines are noisy.
const SLICES: u32 = 5;

/// A case of requests.
struct Spec {
    size: usize,
    in_flight: usize,
    loss_permille: u32,
}

const REQUESTS: [Spec; 6] = [
    spec(128, 1, 0),
    spec(1024, 1, 0),
    spec(128, 64, 0),
    spec(1024, 64, 0),
    spec(128, 64, 50),
    spec(1024, 64, 50),
];

const fn spec(size: usize, in_flight: usize, loss_permille: u32) -> Spec {
    Spec {
        size,
        in_flight,
        loss_permille,
    }
}

const BROADCAST_SIZE: usize = 1024;
/// Broadcasts a second; 0 is flat out.
const PACES: [u32; 2] = [0, 10_000];

pub(crate) fn run(args: &Messages) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let setup = Setup::new("messages", args.runtime.name(), args.nodes.into(), args.seconds);
    let mut reporter = Reporter::new(setup, args.json, &mut out);
    if args.wants(MessageCase::Request) || args.wants(MessageCase::Broadcast) {
        let mut peers = Peers::start(args.nodes, args.nodes, shape(args))?;
        if args.wants(MessageCase::Request) {
            requests(args, &mut peers, &mut reporter)?;
        }
        if args.wants(MessageCase::Broadcast) {
            for pace in PACES {
                reporter.progress(&match pace {
                    0 => "broadcasts, flat out".into(),
                    pace => format!("broadcasts, {pace} a second"),
                });
                reporter.add(Case::Broadcast(broadcast(args, &mut peers, pace)?))?;
            }
        }
    }
    if args.wants(MessageCase::Join) {
        reporter.progress("joining");
        reporter.add(Case::Join(join::measure(args)?))?;
    }
    reporter.finish()
}

/// What the nodes' processes are like.
pub(super) const fn shape(args: &Messages) -> Shape {
    Shape {
        runtime: args.runtime,
        workers: args.workers,
        in_process: false,
    }
}

/// How long one slice measures.
fn slice_millis(args: &Messages) -> u64 {
    u64::from(args.seconds) * 1000 / u64::from(SLICES)
}

/// How long a slice may take in all before something is wrong.
fn patience(args: &Messages) -> Duration {
    PROMPT + 2 * Duration::from_millis(slice_millis(args))
}

fn requests(args: &Messages, peers: &mut Peers, reporter: &mut Reporter<'_>) -> anyhow::Result<()> {
    let mut floor = Floor::start(shape(args))?;
    for spec in &REQUESTS {
        let percent = f64::from(spec.loss_permille) / 10.0;
        let what = format!(
            "requests of {} B, {} in flight, {percent} % loss",
            spec.size, spec.in_flight
        );
        if spec.loss_permille > 0 && !Loss::POSSIBLE {
            let why = "built without the feature `testing`";
            reporter.add(Case::Skipped(Skipped { what, why }))?;
            continue;
        }
        reporter.progress(&what);
        let case = request(args, peers, &mut floor, spec).with_context(|| what)?;
        reporter.add(Case::Request(case))?;
    }
    Ok(())
}

/// Measures one case: in each slice the floor, then (where there is loss) without and with loss.
fn request(args: &Messages, peers: &mut Peers, floor: &mut Floor, spec: &Spec) -> anyhow::Result<Request> {
    let load = Load {
        size: spec.size,
        in_flight: spec.in_flight,
        millis: slice_millis(args),
    };
    // A cluster has two nodes at least: see the range of `--nodes`.
    let ask = Order::Request {
        to: peers.peers[1].id.clone(),
        load,
    };
    let (mut floors, mut loss_free, mut slices) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SLICES {
        floors.push(floor.measure(load, patience(args))?);
        if spec.loss_permille > 0 {
            loss_free.push(peers.peers[0].child.slice(&ask, patience(args))?);
            lose(peers, spec.loss_permille)?;
        }
        slices.push(peers.peers[0].child.slice(&ask, patience(args))?);
        if spec.loss_permille > 0 {
            lose(peers, 0)?;
        }
    }
    let percent = f64::from(spec.loss_permille) / 10.0;
    Request::new((spec.size, spec.in_flight, percent), &slices, &floors, &loss_free)
        .context("nothing was measured")
}

/// Sets the loss of every node.
fn lose(peers: &mut Peers, permille: u32) -> anyhow::Result<()> {
    for peer in &mut peers.peers {
        peer.child.order(&Order::Loss { permille }, PROMPT)?;
    }
    Ok(())
}

fn broadcast(args: &Messages, peers: &mut Peers, paced: u32) -> anyhow::Result<Broadcast> {
    let order = Order::Broadcast {
        size: BROADCAST_SIZE,
        paced,
        millis: slice_millis(args),
    };
    let received_before = received(peers)?;
    let resent_before = peers.peers[0].child.usage()?.retransmits;
    let mut slices: Vec<Broadcasts> = Vec::new();
    for _ in 0..SLICES {
        let child = &mut peers.peers[0].child;
        match child.call(&order, patience(args))? {
            Report::Broadcasts(slice) => slices.push(slice),
            other => return child.unexpected(&other),
        }
    }
    let sum = |of: fn(&Broadcasts) -> u64| slices.iter().map(of).sum::<u64>();
    let (sent, delivered) = (sum(|slice| slice.sent), sum(|slice| slice.delivered));
    let received = received_in_all(peers, received_before + delivered)? - received_before;
    let resent = peers.peers[0].child.usage()?.retransmits - resent_before;
    let spread = |of: fn(&Broadcasts) -> f64, digits| {
        super::histogram::Spread::of(slices.iter().map(of), digits).context("nothing was measured")
    };
    let rate = spread(|slice| slice.per_second, 0)?;
    Ok(Broadcast {
        size: BROADCAST_SIZE,
        paced,
        sent,
        delivered,
        lost: sent.saturating_sub(delivered),
        received,
        retransmits: resent,
        per_second: rate.median,
        per_second_min: rate.min,
        per_second_max: rate.max,
        median_us: round(spread(|slice| slice.median_us, 1)?.median, 1),
        p99_us: round(spread(|slice| slice.p99_us, 1)?.median, 1),
    })
}

/// Returns how many messages have reached the applications so far.
fn received(peers: &mut Peers) -> anyhow::Result<u64> {
    let mut sum = 0;
    for peer in &mut peers.peers {
        sum += peer.child.usage()?.messages;
    }
    Ok(sum)
}

/// The same, but lets the applications read first what their nodes have acknowledged.
fn received_in_all(peers: &mut Peers, expected: u64) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let sum = received(peers)?;
        if sum >= expected || Instant::now() > deadline {
            return Ok(sum);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
