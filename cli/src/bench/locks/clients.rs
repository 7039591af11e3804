//! Clients of locks, in the process of their node.

use crate::bench::load::{Tally, Window};
use crate::bench::protocol::{Group, Pairs, PairsDone};
use crate::bench::runtime::Runtime;
use core::time::Duration;
use quorate_tokio::{AcquireError, Cluster, LockBuilder, LockGuard};
use std::time::Instant;

/// A lock that is not granted by then counts as an error.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a client waits after an error: some come at once, and going on would spin.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// Clients that take locks to keep them.
const TAKERS: usize = 64;

/// Returns how the group stands that grants locks.
pub(crate) async fn group(cluster: &Cluster) -> anyhow::Result<Group> {
    let status = cluster.status().await?;
    let group = status.consensus;
    Ok(Group {
        leader: group.leader.map(|id| id.to_string()),
        seats: group.seats.iter().map(|life| life.node.to_string()).collect(),
        open: group.open,
    })
}

/// Lets clients take and give back locks, each as fast as it can.
pub(crate) async fn pairs(runtime: Runtime, cluster: &Cluster, pairs: &Pairs) -> anyhow::Result<PairsDone> {
    let window = Window::starting_now(pairs.millis);
    let tasks: Vec<_> = (0..pairs.clients)
        .map(|client| {
            let key = match pairs.distinct {
                true => format!("{}/{client}", pairs.key),
                false => pairs.key.clone(),
            };
            runtime.spawn(pair_loop(runtime, cluster.lock(key).wait(PATIENCE), window))
        })
        .collect();
    let mut total = Tally::new(window);
    let (mut finished, mut all) = (Vec::new(), 0);
    for task in tasks {
        let (tally, pairs) = task.recv().await?;
        finished.push(tally.finished);
        all += pairs;
        total.merge(&tally);
    }
    Ok(PairsDone {
        times: total.times.filled(),
        finished,
        pairs: all,
        errors: total.errors,
    })
}

async fn pair_loop(runtime: Runtime, lock: LockBuilder, window: Window) -> (Tally, u64) {
    let (mut tally, mut pairs) = (Tally::new(window), 0);
    let mut began = Instant::now();
    while !tally.is_over(began) {
        match pair(&lock).await {
            Ok(()) => {
                tally.record(began, Instant::now());
                pairs += 1;
            }
            Err(_) => {
                tally.errors += 1;
                runtime.sleep(AFTER_ERROR).await;
            }
        }
        began = Instant::now();
    }
    (tally, pairs)
}

async fn pair(lock: &LockBuilder) -> anyhow::Result<()> {
    let guard = lock.clone().acquire().await?;
    Ok(guard.release().await?)
}

/// Takes locks, 64 at a time, and returns them when all are held.
pub(crate) async fn acquire(
    runtime: Runtime,
    cluster: &Cluster,
    key: &str,
    count: usize,
    ttl: Option<Duration>,
) -> anyhow::Result<Vec<LockGuard>> {
    let lock = |number: usize| {
        let lock = match count {
            1 => cluster.lock(key),
            _ => cluster.lock(format!("{key}/{number}")),
        };
        match ttl {
            Some(ttl) => lock.ttl(ttl),
            None => lock,
        }
    };
    let tasks: Vec<_> = (0..TAKERS.min(count))
        .map(|taker| {
            let locks: Vec<_> = (taker..count).step_by(TAKERS).map(lock).collect();
            runtime.spawn(async move {
                let mut guards = Vec::new();
                for lock in locks {
                    guards.push(lock.acquire().await?);
                }
                Ok::<_, AcquireError>(guards)
            })
        })
        .collect();
    let mut guards = Vec::new();
    for task in tasks {
        guards.append(&mut task.recv().await??);
    }
    Ok(guards)
}
