//! Locks among three.

use crate::{Mortal, Runtime, cluster, config, shutdown, soon, until, until_all_meet};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::Poll;
use core::time::Duration;
use quorate::{
    AcquireError, Closed, Cluster, ClusterEvent, Config, LockError, LockFilter, LockGuard, LostReason,
    NotHeld, WithLockError,
};
use std::sync::{Arc, Mutex};

/// For locks that end by themselves within the test. All others have leases that no slow machine outlives.
const SHORT: Duration = Duration::from_secs(2);

fn three() -> Config {
    config()
        .local()
        .cluster_size(3)
        .leave_wait(Duration::from_millis(200))
}

/// Three nodes whose group grants locks.
async fn group<R: Runtime>() -> Vec<Cluster> {
    let nodes = cluster::<R>(3, three).await;
    all_ready::<R>(&nodes).await;
    nodes
}

async fn all_ready<R: Runtime>(nodes: &[Cluster]) {
    for node in nodes {
        soon::<R, _>("readiness", node.ready()).await.expect("ready");
    }
}

async fn acquire<R: Runtime>(node: &Cluster, key: &str) -> LockGuard {
    soon::<R, _>("a lock", node.lock(key).acquire())
        .await
        .expect("granted")
}

/// Returns how many hold the key or wait for it.
async fn known<R: Runtime>(node: &Cluster, key: &str) -> usize {
    let info = soon::<R, _>("an answer", node.lock_info(key))
        .await
        .expect("an answer");
    info.map_or(0, |info| info.holders.len() + info.waiters.len())
}

/// Waits until nobody holds the key or waits for it.
async fn until_gone<R: Runtime>(node: &Cluster, key: &str) {
    let asked = async {
        while known::<R>(node, key).await > 0 {
            R::sleep(Duration::from_millis(20)).await;
        }
    };
    soon::<R, _>("nothing is left", asked).await;
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
    until_gone::<R>(&nodes[0], "one").await;
    shutdown::<R>(nodes).await;
}

/// Waits for a future, at most so long.
async fn at_most<R: Runtime, T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut timer) = (core::pin::pin!(future), core::pin::pin!(R::sleep(limit)));
    core::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Whoever stops waiting, at whatever moment, does not get the lock.
pub async fn a_dropped_acquire_leaves_nothing<R: Runtime>() {
    let nodes = group::<R>().await;
    let held = acquire::<R>(&nodes[0], "k").await;
    for (i, node) in nodes.iter().cycle().take(9).enumerate() {
        let limit = Duration::from_millis(3 * i as u64);
        let granted = at_most::<R, _>(limit, node.lock("k").acquire()).await;
        assert!(granted.is_none(), "it is held");
    }
    soon::<R, _>("only the holder is left", async {
        while known::<R>(&nodes[1], "k").await > 1 {
            R::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(held.release().await, Ok(()));
    // Free, and given up at any moment: before it is granted, after, or while the grant is on its way.
    for (i, node) in nodes.iter().cycle().take(30).enumerate() {
        let limit = Duration::from_micros(100 * i as u64);
        drop(at_most::<R, _>(limit, node.lock("k").acquire()).await);
    }
    until_gone::<R>(&nodes[2], "k").await;
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

/// A holder that is cut off has lost the lock when the next one has it, without having heard of anything.
pub async fn a_cut_off_holder_has_lost_it_before_the_next_gets_it<R: Runtime>() {
    let (nodes, third) = three_with_a_mortal::<R>().await;
    let mut events = third.cluster.events();
    let guard = acquire::<R>(&third.cluster, "k").await;
    third.cut();
    let next = acquire::<R>(&nodes[0], "k").await;
    assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Expired)));
    assert!(next.token() > guard.token());
    let lost = soon::<R, _>("the loss", guard.lost()).await;
    assert_eq!(lost, LostReason::Expired);
    let told = async {
        while let Some(event) = events.next().await {
            if let ClusterEvent::LockLost { token, .. } = event {
                return token;
            }
        }
        panic!("the node is gone");
    };
    assert_eq!(soon::<R, _>("the event", told).await, guard.token());
    assert_eq!(guard.release().await, Err(NotHeld::Lost(LostReason::Expired)));
    drop((next, events));
    third.die::<R>().await;
    shutdown::<R>(nodes).await;
}

/// Work under a lock that is lost is dropped, and its caller told.
pub async fn work_is_stopped_when_the_lock_is_lost<R: Runtime>() {
    struct Gone(Arc<AtomicBool>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (nodes, third) = three_with_a_mortal::<R>().await;
    let done = soon::<R, _>(
        "work",
        third.cluster.with_lock("k", |lease| async move { lease.token() }),
    )
    .await;
    let gone = Arc::new(AtomicBool::new(false));
    let mark = Gone(gone.clone());
    let (cut, token) = (&third, done.expect("done"));
    let work = third.cluster.with_lock("k", |lease| async move {
        let _mark = mark;
        assert!(lease.token() > token);
        cut.cut();
        core::future::pending::<()>().await;
    });
    let stopped = soon::<R, _>("the end of the work", work).await;
    assert_eq!(stopped, Err(WithLockError::Lost(LostReason::Expired)));
    assert!(
        gone.load(Ordering::SeqCst),
        "the work is dropped before that is told"
    );
    drop(acquire::<R>(&nodes[0], "k").await);
    third.die::<R>().await;
    shutdown::<R>(nodes).await;
}

/// A holder that leaves hands over at once, long before its lease would end.
pub async fn whoever_leaves_hands_over_at_once<R: Runtime>() {
    // No lease of this length ends within the test.
    let nodes = cluster::<R>(3, || three().max_ttl(Duration::from_secs(300))).await;
    all_ready::<R>(&nodes).await;
    let long = nodes[0].lock("k").ttl(Duration::from_secs(300));
    let guard = soon::<R, _>("a lock", long.acquire()).await.expect("granted");
    let waits = nodes[0].lock("k").acquire();
    let left = async {
        let ended = soon::<R, _>("an end", waits).await;
        assert!(matches!(ended, Err(AcquireError::Closed(_))), "{ended:?}");
    };
    let mut left = Box::pin(left);
    core::future::poll_fn(|cx| {
        assert!(left.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    soon::<R, _>("a shutdown", nodes[0].shutdown()).await;
    left.await;
    assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Leaving)));
    assert_eq!(guard.lost().await, LostReason::Leaving);
    let next = acquire::<R>(&nodes[1], "k").await;
    assert!(next.token() > guard.token());
    drop((guard, next));
    shutdown::<R>(nodes).await;
}

/// A guard gives its lock back in a thread that knows of no runtime.
pub async fn a_guard_dropped_outside_of_any_runtime<R: Runtime>() {
    let nodes = cluster::<R>(3, || three().max_ttl(Duration::from_secs(300))).await;
    all_ready::<R>(&nodes).await;
    let long = nodes[0].lock("k").ttl(Duration::from_secs(300));
    let guard = soon::<R, _>("a lock", long.acquire()).await.expect("granted");
    std::thread::spawn(move || drop(guard)).join().expect("no panic");
    drop(acquire::<R>(&nodes[1], "k").await);
    shutdown::<R>(nodes).await;
}

/// A panic of whoever holds a lock gives it back.
pub async fn a_panic_hands_over<R: Runtime>() {
    let nodes = cluster::<R>(3, || three().max_ttl(Duration::from_secs(300))).await;
    all_ready::<R>(&nodes).await;
    let long = nodes[0].lock("k").ttl(Duration::from_secs(300));
    let guard = soon::<R, _>("a lock", long.acquire()).await.expect("granted");
    let thread = std::thread::spawn(move || {
        let _guard = guard;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(thread.join().is_err());
    drop(acquire::<R>(&nodes[1], "k").await);
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

/// Everybody sees who holds and waits, and can take a lock from its holder.
pub async fn listing_and_force<R: Runtime>() {
    let nodes = group::<R>().await;
    let named = nodes[0].lock("jobs/a").metadata("who", "zero");
    let guard = soon::<R, _>("a lock", named.acquire()).await.expect("granted");
    let other = acquire::<R>(&nodes[1], "jobs/b").await;
    let _third = acquire::<R>(&nodes[1], "other").await;
    for node in &nodes {
        let rows = soon::<R, _>("a list", node.locks(LockFilter::new().key("jobs/*")).all()).await;
        let rows = rows.expect("a list");
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (&*row.key, row.owner.node, row.token))
            .collect();
        let a = ("jobs/a", nodes[0].id(), Some(guard.token()));
        assert_eq!(seen, [a, ("jobs/b", nodes[1].id(), Some(other.token()))]);
        assert!(rows[0].metadata().eq([("who", "zero")]));
    }
    for unsafely in [false, true] {
        let guard = acquire::<R>(&nodes[0], "stuck").await;
        let token = guard.token();
        let taken = if unsafely {
            soon::<R, _>("an answer", nodes[2].force_release_unsafely(token)).await
        } else {
            soon::<R, _>("an answer", nodes[2].force_release(token)).await
        };
        assert_eq!(taken, Ok(true));
        let next = acquire::<R>(&nodes[1], "stuck").await;
        let reason = soon::<R, _>("the loss", guard.lost()).await;
        if !unsafely {
            assert_eq!(reason, LostReason::Revoked);
        }
        assert!(next.token() > token);
        let none = soon::<R, _>("an answer", nodes[0].force_release(u64::MAX >> 1)).await;
        assert_eq!(none, Ok(false));
        drop((guard, next));
    }
    drop((guard, other));
    shutdown::<R>(nodes).await;
}

/// One leads, everybody sees who, and the next follows.
pub async fn elections<R: Runtime>() {
    let nodes = group::<R>().await;
    let election = |i: usize| nodes[i].elect("boss").value(format!("node-{i}"));
    let mut leaders = soon::<R, _>("an observer", election(2).observe())
        .await
        .expect("observes");
    assert_eq!(soon::<R, _>("a first look", leaders.next()).await, Some(None));
    let first = soon::<R, _>("an election", election(0).campaign())
        .await
        .expect("elected");
    let seen = soon::<R, _>("a leader", leaders.next())
        .await
        .flatten()
        .expect("a leader");
    assert_eq!(
        (&*seen.value, seen.node, seen.token),
        ("node-0", nodes[0].id(), first.token())
    );
    let asked = soon::<R, _>("an answer", election(1).leader()).await;
    assert_eq!(asked, Ok(Some(seen)));
    first.step_down().await.expect("it led");
    let second = soon::<R, _>("an election", election(1).campaign())
        .await
        .expect("elected");
    let follows = async {
        // It may have been looked at between the two.
        loop {
            if let Some(leader) = leaders.next().await.expect("the node runs") {
                return leader;
            }
        }
    };
    let seen = soon::<R, _>("the next leader", follows).await;
    assert_eq!((&*seen.value, seen.token), ("node-1", second.token()));
    drop((second, leaders));
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
                R::sleep(Duration::from_millis(20)).await;
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
    let told = async {
        while health(&last).await.can_lock() {
            R::sleep(Duration::from_millis(20)).await;
        }
    };
    soon::<R, _>("the loss of the group", told).await;
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
