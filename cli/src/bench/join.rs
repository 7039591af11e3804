//! How long a node takes to become a member.

use super::child::{PROMPT, Peer, Peers};
use super::histogram::Spread;
use super::protocol::Order;
use super::report::Join;
use crate::args::Messages;
use anyhow::Context as _;
use std::time::Instant;

/// Repeats at least; `--seconds` above it are as many repeats.
const REPEATS: u32 = 7;

/// Starts the last node of a cluster again and again, each time in a fresh process as a fresh node.
///
/// The clock runs in this process, from the order to start the node until the last node has reported that its list is
/// complete: the way through two pipes is included, the start of the process is not.
pub(crate) fn measure(args: &Messages) -> anyhow::Result<Join> {
    let mut peers = Peers::start(args.nodes - 1, args.nodes, super::messages::shape(args))?;
    let mut millis = Vec::new();
    for _ in 0..args.seconds.max(REPEATS) {
        let newcomer = peers.spawn()?;
        let start = peers.start_order();
        let complete = peers.await_order(args.nodes.into());
        for peer in &mut peers.peers {
            peer.child.send(&complete)?;
        }
        let began = Instant::now();
        let mut newcomer = Peer::start(newcomer, &start)?;
        newcomer.child.order(&complete, PROMPT)?;
        for peer in &mut peers.peers {
            expect_done(peer)?;
        }
        millis.push(began.elapsed().as_secs_f64() * 1000.0);
        newcomer.child.order(&Order::Leave, PROMPT)?;
        peers.settle().context("after the last node left again")?;
    }
    let repeats = millis.len();
    let spread = Spread::of(millis, 2).context("nothing was measured")?;
    Ok(Join {
        nodes: args.nodes,
        repeats,
        median_ms: spread.median,
        min_ms: spread.min,
        max_ms: spread.max,
    })
}

fn expect_done(peer: &mut Peer) -> anyhow::Result<()> {
    match peer.child.receive(PROMPT)? {
        super::protocol::Report::Done => Ok(()),
        other => peer.child.unexpected(&other),
    }
}
