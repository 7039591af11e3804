//! Locks among three.

pub mod cancel;
pub mod elections;
pub mod guards;
pub mod looking;

use crate::{LOOK, Mortal, Runtime, cluster, config, shutdown, soon, until, until_all_meet, until_async};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use quorate::{AcquireError, Closed, Cluster, Config, LockError, LockGuard};
use std::sync::{Arc, Mutex};

/// For locks that end by themselves within the test. All others have leases that no slow machine outlives.
const SHORT: Duration = Duration::from_secs(2);

/// A lease that does not end within any test.
const LONG: Duration = Duration::from_secs(300);

fn three() -> Config {
    config()
        .local()
        .cluster_size(3)
        .max_ttl(LONG)
        .leave_wait(Duration::from_millis(200))
}

/// Three nodes whose group grants locks.
async fn group<R: Runtime>() -> Vec<Cluster> {
    group_of::<R>(three).await
}

async fn group_of<R: Runtime>(config: impl Fn() -> Config) -> Vec<Cluster> {
    let nodes = cluster::<R>(3, config).await;
    all_ready::<R>(&nodes).await;
    nodes
}

async fn all_ready<R: Runtime>(nodes: &[Cluster]) {
    for node in nodes {
        soon::<R, _>("readiness", node.ready()).await.expect("ready");
    }
}

/// Three nodes, the first of which holds the lock `k` under a lease that does not end within any test.
pub(crate) async fn patient<R: Runtime>() -> (Vec<Cluster>, LockGuard) {
    let nodes = group::<R>().await;
    let long = nodes[0].lock("k").ttl(LONG).acquire();
    let guard = soon::<R, _>("a lock", long).await.expect("granted");
    (nodes, guard)
}

/// Three, the last of which can be cut off.
async fn three_with_a_mortal<R: Runtime>() -> (Vec<Cluster>, Mortal) {
    let three = || three().lock_ttl(SHORT);
    let first = crate::start::<R>(three()).await;
    let seed = first.local_addr().to_string();
    let second = crate::start::<R>(three().seed(seed.clone())).await;
    let third = Mortal::start::<R>(three().seed(seed)).await;
    let nodes = vec![first, second, third.cluster.clone()];
    until_all_meet::<R>(&nodes).await;
    all_ready::<R>(&nodes).await;
    (nodes, third)
}

pub(crate) async fn acquire<R: Runtime>(node: &Cluster, key: &str) -> LockGuard {
    soon::<R, _>("a lock", node.lock(key).acquire())
        .await
        .expect("granted")
}

/// Returns how many hold the key, and how many wait for it.
async fn known<R: Runtime>(node: &Cluster, key: &str) -> (usize, usize) {
    let info = soon::<R, _>("an answer", node.lock_info(key)).await;
    let info = info.expect("an answer").unwrap_or_default();
    (info.holders.len(), info.waiters.len())
}

/// Waits until so many hold the key, and so many wait for it.
async fn until_known<R: Runtime>(node: &Cluster, key: &str, expected: (usize, usize)) {
    until_async::<R>("so many hold and wait", async || {
        known::<R>(node, key).await == expected
    })
    .await;
}

/// Twelve clients on three nodes, one lock: never two at a time, and the tokens rise.
pub async fn hand_over_with_rising_tokens<R: Runtime>() {
    let nodes = group::<R>().await;
    let inside = Arc::new(AtomicUsize::new(0));
    let tokens = Arc::new(Mutex::new(Vec::new()));
    for client in 0..12 {
        let (node, inside, tokens) = (nodes[client % 3].clone(), inside.clone(), tokens.clone());
        R::spawn(async move {
            for _ in 0..5 {
                let guard = node.lock("one").acquire().await.expect("granted");
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else holds it");
                tokens.lock().unwrap().push(guard.token());
                R::sleep(Duration::from_millis(1)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                match client % 2 {
                    0 => drop(guard),
                    _ => guard.release().await.expect("held"),
                }
            }
        });
    }
    until::<R>("60 turns", || tokens.lock().unwrap().len() == 60).await;
    let tokens = tokens.lock().unwrap().clone();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    until_known::<R>(&nodes[0], "one", (0, 0)).await;
    shutdown::<R>(nodes).await;
}

/// A lock that is taken is refused with the token of its holder, and a limited wait ends.
pub async fn a_refused_try_names_the_holder<R: Runtime>() {
    let nodes = group::<R>().await;
    let held = acquire::<R>(&nodes[0], "k").await;
    for node in &nodes {
        let refused = soon::<R, _>("an answer", node.try_lock("k"))
            .await
            .expect_err("taken");
        let AcquireError::Refused(LockError::Taken {
            token, waiting: 0, ..
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(token, held.token());
    }
    let short = nodes[1].lock("k").wait(Duration::from_millis(200)).acquire();
    let error = soon::<R, _>("the end of the wait", short)
        .await
        .expect_err("held");
    assert_eq!(error, AcquireError::Refused(LockError::Timeout));
    assert!(held.is_held());
    drop(held);
    shutdown::<R>(nodes).await;
}

/// Semaphores count, readers share, and a writer is alone.
pub async fn units_and_readers<R: Runtime>() {
    let nodes = group::<R>().await;
    let take = async |i: usize, units| {
        let lock = nodes[i].semaphore("gpu", 4).units(units);
        soon::<R, _>("an answer", lock.try_acquire()).await
    };
    let (two, one) = (
        take(0, 2).await.expect("2 of 4"),
        take(1, 1).await.expect("3 of 4"),
    );
    assert!(take(2, 2).await.is_err());
    let last = take(2, 1).await.expect("4 of 4");
    two.release().await.expect("held");
    // The release is on its way: who waits gets it.
    let again = soon::<R, _>("2 of 4", nodes[1].semaphore("gpu", 4).units(2).acquire()).await;
    drop((one, last, again.expect("granted")));

    let mut readers = Vec::new();
    for node in &nodes {
        let reader = soon::<R, _>("a share", node.read("doc").acquire()).await;
        readers.push(reader.expect("granted"));
    }
    assert!(
        soon::<R, _>("an answer", nodes[0].write("doc").try_acquire())
            .await
            .is_err()
    );
    drop(readers);
    let writer = soon::<R, _>("all of it", nodes[1].write("doc").acquire())
        .await
        .expect("granted");
    assert!(
        soon::<R, _>("an answer", nodes[2].read("doc").try_acquire())
            .await
            .is_err()
    );
    drop(writer);
    shutdown::<R>(nodes).await;
}

/// A node says in one call whether it serves and can have locks, also when the others are gone, and where it never can.
pub async fn health_says_whether_locks_come<R: Runtime>() {
    let health = async |node: &Cluster| soon::<R, _>("an answer", node.health()).await.expect("it runs");
    let nodes = group::<R>().await;
    let guard = acquire::<R>(&nodes[0], "k").await;
    for node in &nodes {
        let led = async {
            loop {
                let health = health(node).await;
                if health.can_lock() && health.leader_addr.is_some() {
                    return health;
                }
                R::sleep(LOOK).await;
            }
        };
        let seen = soon::<R, _>("a leader", led).await;
        assert!(seen.is_serving(), "{seen:?}");
        let leader = nodes
            .iter()
            .find(|node| Some(node.id()) == seen.leader)
            .expect("one of them");
        assert_eq!(
            seen.leader_addr.map(|addr| addr.port()),
            Some(leader.local_addr().port())
        );
        assert_eq!(seen.own_held, usize::from(node.id() == nodes[0].id()), "{seen:?}");
    }
    drop(guard);

    let last = nodes[2].clone();
    for node in &nodes[..2] {
        soon::<R, _>("a shutdown", node.shutdown()).await;
    }
    until_async::<R>("the loss of the group", async || !health(&last).await.can_lock()).await;
    let left = health(&last).await;
    assert!(left.may_lock && left.problem.is_some(), "{left:?}");
    assert!(!left.is_serving(), "{left:?}");
    shutdown::<R>(vec![last]).await;

    let alone = crate::start::<R>(config().local()).await;
    soon::<R, _>("readiness", alone.ready()).await.expect("ready");
    let seen = health(&alone).await;
    assert!(
        seen.is_serving() && !seen.may_lock && !seen.can_lock() && seen.problem.is_none(),
        "{seen:?}"
    );
    soon::<R, _>("a shutdown", alone.shutdown()).await;
    assert_eq!(alone.health().await, Err(Closed));
}
