//! How long it takes until a lock is granted: after failures, after a polite leave, and from nothing.

use super::finding::{Figures, Finding, Recovery};
use super::shape;
use crate::args::{LockCase, Locks};
use crate::bench::child::{PROMPT, Peer, Peers};
use crate::bench::protocol::{Order, Report};
use anyhow::Context as _;
use core::time::Duration;
use std::time::Instant;

/// The lease of a holder that is killed, the shortest there is.
const TTL: Duration = Duration::from_secs(1);
/// How long a holder and its next one are left alone before the holder goes, at least.
const QUEUED: Duration = Duration::from_millis(300);

/// Measures one of the cases again and again.
pub(super) fn measure(args: &Locks, case: LockCase) -> anyhow::Result<Finding> {
    let repeats = match case {
        LockCase::LeaderKilled => args.repeats,
        _ => args.repeats.div_ceil(4),
    };
    let mut times = Vec::new();
    if case == LockCase::ColdStart {
        for _ in 0..repeats {
            times.push(cold_start(args)?);
        }
    } else {
        let mut peers = Peers::start(args.nodes, args.nodes, shape(args))?;
        for repeat in 0..repeats {
            let leader = peers.await_group()?;
            let took = match case {
                LockCase::LeaderKilled => leader_killed(&mut peers, leader, repeat),
                LockCase::LeaderStopped => leader_stopped(&mut peers, leader, repeat),
                LockCase::HolderKilled => holder_killed(&mut peers, leader, repeat),
                LockCase::HolderLeaves => holder_leaves(&mut peers, leader, repeat),
                other => anyhow::bail!("{other:?} is not repeated"),
            };
            times.push(took.with_context(|| format!("repeat {repeat}"))?);
        }
    }
    let ttl = (case == LockCase::HolderKilled).then_some(TTL);
    let figures = Figures::Recovery(Recovery::new(&times, ttl).context("nothing was measured")?);
    Ok(Finding { case, figures })
}

/// The others take turns at being the client.
fn elsewhere(peers: &Peers, node: usize, repeat: u16) -> usize {
    let nodes = peers.peers.len();
    (node + 1 + usize::from(repeat) % (nodes - 1)) % nodes
}

fn acquire(key: &str, ttl: Option<Duration>) -> Order {
    Order::Acquire {
        key: key.into(),
        count: 1,
        ttl_ms: ttl.map(|ttl| ttl.as_millis() as u64),
    }
}

fn granted(peer: &mut Peer) -> anyhow::Result<()> {
    match peer.child.receive(PROMPT)? {
        Report::Done => Ok(()),
        other => peer.child.unexpected(&other),
    }
}

/// From the call to the grant of a lock that is free, and gives it back.
fn time_to_grant(peer: &mut Peer, began: Instant) -> anyhow::Result<Duration> {
    peer.child.order(&acquire("next", None), PROMPT)?;
    let took = began.elapsed();
    peer.child.order(&Order::Release, PROMPT)?;
    Ok(took)
}

fn leader_killed(peers: &mut Peers, leader: usize, repeat: u16) -> anyhow::Result<Duration> {
    let client = elsewhere(peers, leader, repeat);
    let began = Instant::now();
    peers.peers[leader].child.kill()?;
    let took = time_to_grant(&mut peers.peers[client], began)?;
    peers.replace(leader)?;
    Ok(took)
}

fn leader_stopped(peers: &mut Peers, leader: usize, repeat: u16) -> anyhow::Result<Duration> {
    let client = elsewhere(peers, leader, repeat);
    let began = Instant::now();
    peers.peers[leader].child.pause(true)?;
    let took = time_to_grant(&mut peers.peers[client], began)?;
    peers.peers[leader].child.pause(false)?;
    Ok(took)
}

/// The holder does not lead: what is measured is the end of a lease, not an election on top of it.
fn holder_and_next(
    peers: &mut Peers,
    leader: usize,
    repeat: u16,
    ttl: Option<Duration>,
) -> anyhow::Result<(usize, usize)> {
    let holder = elsewhere(peers, leader, repeat);
    let next = elsewhere(peers, holder, repeat);
    peers.peers[holder]
        .child
        .order(&acquire("disputed", ttl), PROMPT)?;
    peers.peers[next].child.send(&acquire("disputed", ttl))?;
    // Each time at another point between two renewals: there is one every third of the lease.
    std::thread::sleep(QUEUED + TTL / 21 * u32::from(repeat % 7));
    Ok((holder, next))
}

fn holder_killed(peers: &mut Peers, leader: usize, repeat: u16) -> anyhow::Result<Duration> {
    let (holder, next) = holder_and_next(peers, leader, repeat, Some(TTL))?;
    let began = Instant::now();
    peers.peers[holder].child.kill()?;
    granted(&mut peers.peers[next])?;
    let took = began.elapsed();
    peers.peers[next].child.order(&Order::Release, PROMPT)?;
    peers.replace(holder)?;
    Ok(took)
}

fn holder_leaves(peers: &mut Peers, leader: usize, repeat: u16) -> anyhow::Result<Duration> {
    let (holder, next) = holder_and_next(peers, leader, repeat, None)?;
    let began = Instant::now();
    peers.peers[holder].child.send(&Order::Leave)?;
    granted(&mut peers.peers[next])?;
    let took = began.elapsed();
    granted(&mut peers.peers[holder])?;
    peers.peers[next].child.order(&Order::Release, PROMPT)?;
    peers.replace(holder)?;
    Ok(took)
}

/// From the order to start the first of all nodes. The processes are there already.
fn cold_start(args: &Locks) -> anyhow::Result<Duration> {
    let mut peers = Peers::start(0, args.nodes, shape(args))?;
    let mut children = Vec::new();
    for _ in 0..args.nodes {
        let mut child = peers.spawn()?;
        // Answered when the process has come up.
        child.usage()?;
        children.push(child);
    }
    let began = Instant::now();
    for child in children {
        let peer = Peer::start(child, &peers.start_order())?;
        peers.peers.push(peer);
    }
    time_to_grant(&mut peers.peers[0], began)
}
