//! Locks among three.

pub mod cancel;
pub mod elections;
pub mod guards;
pub mod looking;

use crate::{
    LOOK, Mortal, Runtime, SOON, cluster, config, poll_once, shutdown, soon, until, until_all_meet,
    until_async,
};
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use quorate::{
    AcquireError, Closed, Cluster, Config, LockBuilder, LockError, LockGuard, LockQueryError, Role,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// For locks that end by themselves within the test. All others have leases that no slow machine outlives.
const SHORT: Duration = Duration::from_secs(2);

/// A lease that does not end within any test.
const LONG: Duration = Duration::from_secs(300);

/// On a slow machine questions, and the first lease of who waited, have as long as everything else. So has the third to
/// appear: a group that is founded without it would grant nothing for longer than any test takes.
fn three() -> Config {
    config()
        .local()
        .cluster_size(3)
        .max_ttl(LONG)
        .waiter_ttl(SOON)
        .found_wait(SOON)
        .leave_wait(Duration::from_millis(200))
}

fn short_three() -> Config {
    three().lock_ttl(SHORT)
}

/// Three nodes whose group grants locks.
async fn group<R: Runtime>() -> Vec<Cluster> {
    group_of::<R>(three).await
}

async fn group_of<R: Runtime>(config: impl Fn() -> Config) -> Vec<Cluster> {
    let nodes = cluster::<R>(3, config).await;
    all_may_lock::<R>(&nodes).await;
    nodes
}

/// Readiness is not enough: the leader may not have heard yet that the last of the three has stored the group's
/// beginning, and grants nothing before.
async fn all_may_lock<R: Runtime>(nodes: &[Cluster]) {
    for node in nodes {
        soon::<R, _>("readiness", node.ready()).await.expect("ready");
        until_async::<R>("its group grants locks", async || {
            node.health().await.expect("it runs").can_lock()
        })
        .await;
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
    let first = crate::start::<R>(short_three()).await;
    let seed = first.local_addr().to_string();
    let second = crate::start::<R>(short_three().seed(seed.clone())).await;
    let third = Mortal::start::<R>(short_three().seed(seed)).await;
    let nodes = vec![first, second, third.cluster.clone()];
    until_all_meet::<R>(&nodes).await;
    all_may_lock::<R>(&nodes).await;
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

/// Whoever gives a lock back and asks again at once is not refused because of itself.
pub async fn release_and_ask_again<R: Runtime>() {
    let nodes = group::<R>().await;
    for node in nodes.iter().cycle().take(100) {
        let guard = soon::<R, _>("an answer", node.try_lock("k")).await;
        let guard = guard.expect("free");
        drop(guard);
        let again = soon::<R, _>("an answer", node.try_lock("k")).await;
        again.expect("free").release().await.expect("held");
        // What others ask may overtake the release.
        until_known::<R>(node, "k", (0, 0)).await;
    }
    shutdown::<R>(nodes).await;
}

/// Whoever is more urgent goes first, and others in the order of asking.
pub async fn the_urgent_go_first<R: Runtime>() {
    let (nodes, held) = patient::<R>().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    for (i, (node, priority)) in [(1, 0), (2, 5), (1, 9), (2, 5)].into_iter().enumerate() {
        let (lock, order) = (nodes[node].lock("k").ttl(LONG).priority(priority), order.clone());
        R::spawn(async move {
            let guard = lock.acquire().await.expect("granted");
            order.lock().unwrap().push((priority, i));
            guard.release().await.expect("held");
        });
        until_known::<R>(&nodes[0], "k", (1, i + 1)).await;
    }
    let info = soon::<R, _>("an answer", nodes[2].lock_info("k")).await;
    let info = info.expect("an answer").expect("it is held");
    let queue: Vec<_> = info.waiters.iter().map(|row| row.owner.node).collect();
    assert_eq!(queue, [1, 2, 2, 1].map(|i| nodes[i].id()));
    drop(held);
    until::<R>("four turns", || order.lock().unwrap().len() == 4).await;
    assert_eq!(*order.lock().unwrap(), [(9, 2), (5, 1), (5, 3), (0, 0)]);
    until_known::<R>(&nodes[0], "k", (0, 0)).await;
    shutdown::<R>(nodes).await;
}

async fn refused<R: Runtime>(lock: LockBuilder) -> LockError {
    match soon::<R, _>("an answer", lock.acquire()).await {
        Err(AcquireError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// What can never be granted is refused at once, and says why.
pub async fn wrong_requests<R: Runtime>() {
    let nodes = group::<R>().await;
    let node = &nodes[1];
    let max_ms = u32::try_from(LONG.as_millis()).unwrap();
    let ttl = |ttl_ms| LockError::Ttl { ttl_ms, max_ms };
    let units = |units, capacity| LockError::Units { units, capacity };
    for (lock, expected) in [
        (node.lock(""), LockError::Key { len: 0 }),
        (node.read("x".repeat(256)), LockError::Key { len: 256 }),
        (node.lock("k").ttl(Duration::from_millis(999)), ttl(999)),
        (node.lock("k").ttl(2 * LONG), ttl(2 * LONG.as_millis())),
        (node.lock("k").ttl(Duration::MAX), ttl(Duration::MAX.as_millis())),
        (node.lock("k").units(2), units(2, 1)),
        (node.read("k").units(5), LockError::NotDivisible),
        (node.write("k").units(1), LockError::NotDivisible),
        (node.semaphore("k", 4).units(5), units(5, 4)),
        (node.semaphore("k", 0), units(1, 0)),
    ] {
        assert_eq!(refused::<R>(lock).await, expected);
    }
    let much = node.lock("k").metadata("name", "x".repeat(600));
    assert!(matches!(refused::<R>(much).await, LockError::Metadata { .. }));
    // All of the above were refused before anything was held, so this one is granted.
    let held = acquire::<R>(&nodes[0], "k").await;
    assert_eq!(
        refused::<R>(node.semaphore("k", 4)).await,
        LockError::OtherCapacity(1)
    );
    assert_eq!(refused::<R>(node.write("k")).await, LockError::OtherCapacity(1));
    drop(held);

    let seed = nodes[0].local_addr().to_string();
    let observer = crate::start::<R>(three().role(Role::Observer).seed(seed)).await;
    soon::<R, _>("readiness", observer.ready()).await.expect("ready");
    assert_eq!(refused::<R>(observer.lock("k")).await, LockError::Observer);
    shutdown::<R>(vec![observer]).await;
    shutdown::<R>(nodes).await;
}

/// What is full says what is full, and has room again later.
pub async fn limits<R: Runtime>() {
    let nodes = group_of::<R>(|| three().max_waiters(2_u32).max_locks(3_u32)).await;
    let held = acquire::<R>(&nodes[0], "a").await;
    let mut waiting = [
        pin!(nodes[1].lock("a").acquire()),
        pin!(nodes[1].lock("a").acquire()),
    ];
    for (i, wait) in waiting.iter_mut().enumerate() {
        assert!(poll_once(wait.as_mut()).await.is_pending());
        until_known::<R>(&nodes[2], "a", (1, i + 1)).await;
    }
    assert_eq!(
        refused::<R>(nodes[2].lock("a")).await,
        LockError::TooManyWaiters(2)
    );
    let others = [
        acquire::<R>(&nodes[1], "b").await,
        acquire::<R>(&nodes[2], "c").await,
    ];
    assert_eq!(refused::<R>(nodes[0].lock("d")).await, LockError::TableFull);
    drop(others);
    until_known::<R>(&nodes[0], "b", (0, 0)).await;
    drop(acquire::<R>(&nodes[0], "d").await);
    drop(held);
    for wait in waiting {
        drop(soon::<R, _>("its turn", wait).await.expect("granted"));
    }
    shutdown::<R>(nodes).await;
}

/// Without a quorum nothing is granted, and whoever limits the wait is told; a node has a limited number of requests.
pub async fn no_quorum_no_locks<R: Runtime>() {
    let node = crate::start::<R>(three().message_timeout(Duration::from_millis(500))).await;
    let short = node.lock("k").wait(Duration::from_millis(200));
    assert_eq!(refused::<R>(short).await, LockError::Timeout);
    let tried = soon::<R, _>("an answer", node.try_lock("k")).await;
    let no_answer = |error| matches!(error, LockError::NotOpen | LockError::Timeout);
    assert!(
        matches!(tried, Err(AcquireError::Refused(error)) if no_answer(error)),
        "{tried:?}"
    );
    let asked = soon::<R, _>("an answer", node.lock_info("k")).await;
    assert!(
        matches!(asked, Err(LockQueryError::Failed(error)) if no_answer(error)),
        "{asked:?}"
    );

    let mut open = Vec::new();
    for _ in 0..1024 {
        let mut request = Box::pin(node.lock("k").acquire());
        assert!(poll_once(request.as_mut()).await.is_pending());
        if open.len() % 128 == 0 {
            // Let the driver take up what waits for it.
            node.status().await.expect("it runs");
        }
        open.push(request);
    }
    assert_eq!(refused::<R>(node.lock("k")).await, LockError::TooManyRequests);
    assert_eq!(node.health().await.expect("it runs").own_waiting, 1024);
    drop(open);
    let again = node.lock("k").wait(Duration::from_millis(200));
    assert_eq!(refused::<R>(again).await, LockError::Timeout);
    shutdown::<R>(vec![node]).await;
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
                if health.is_serving() && health.can_lock() && health.leader_addr.is_some() {
                    return health;
                }
                R::sleep(LOOK).await;
            }
        };
        let seen = soon::<R, _>("a leader", led).await;
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

    // Who hears the others, and is heard by nobody.
    let (nodes, third) = three_with_a_mortal::<R>().await;
    third.cut();
    let cut_off = async || !health(&third.cluster).await.can_lock();
    until_async::<R>("it to notice", cut_off).await;
    third.die::<R>().await;
    shutdown::<R>(nodes).await;

    // Whoever may not have any.
    let alone = crate::start::<R>(three().role(Role::Observer)).await;
    let seen = health(&alone).await;
    assert!(!seen.may_lock && !seen.can_lock(), "{seen:?}");
    soon::<R, _>("a shutdown", alone.shutdown()).await;
    assert_eq!(alone.health().await, Err(Closed));
}

/// Without a `cluster_size` there are locks too, as good as can be: they move to whoever takes over.
pub async fn without_a_cluster_size<R: Runtime>() {
    // Nobody is taken for dead because it stands still for a moment: two would decide, each for itself.
    let patient = || {
        let patience = Duration::from_secs(3);
        config()
            .local()
            .heartbeat_timeout(patience)
            .seat_timeout(patience)
    };
    let mut nodes = cluster::<R>(3, patient).await;
    all_may_lock::<R>(&nodes).await;
    // Each may have begun to decide before it heard of the others.
    until_async::<R>("they follow one", async || {
        let mut leaders = BTreeSet::new();
        for node in &nodes {
            leaders.insert(node.health().await.expect("it runs").leader);
        }
        leaders.len() == 1 && !leaders.contains(&None)
    })
    .await;
    let mut last = 0;
    for node in &nodes {
        let guard = acquire::<R>(node, "k").await;
        assert!(guard.token() > last, "{} after {last}", guard.token());
        last = guard.token();
        guard.release().await.expect("held");
    }
    let led = async {
        loop {
            let health = nodes[0].health().await.expect("it runs");
            assert!(health.best_effort, "{health:?}");
            let leader = nodes.iter().position(|node| Some(node.id()) == health.leader);
            match leader.filter(|_| health.can_lock()) {
                Some(leader) => return leader,
                None => R::sleep(LOOK).await,
            }
        }
    };
    let leader = soon::<R, _>("a leader", led).await;
    let leader = nodes.remove(leader);
    let kept = acquire::<R>(&nodes[0], "kept").await;
    shutdown::<R>(vec![leader]).await;
    let next = acquire::<R>(&nodes[1], "k").await;
    assert!(next.token() > last && kept.is_held());
    let tried = soon::<R, _>("an answer", nodes[1].try_lock("kept")).await;
    assert!(
        matches!(tried, Err(AcquireError::Refused(LockError::Taken { token, .. })) if token == kept.token()),
        "{tried:?}"
    );
    kept.release().await.expect("held");
    drop(next);
    shutdown::<R>(nodes).await;
}
