//! What becomes of a lock that is held.

use super::{LONG, acquire, group, patient, short_three, three_with_a_mortal, until_known};
use crate::{Runtime, poll_once, shutdown, soon, until, until_all_meet, until_async, within};
use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use quorate::{
    AcquireError, Closed, ClusterEvent, LeaveReason, LockError, LockFilter, LockQueryError, LostReason,
    NotHeld, WithLockError,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

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
        third
            .cluster
            .lock("k")
            .ttl(LONG)
            .run(|lease| async move { lease.token() }),
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
    let (nodes, guard) = patient::<R>().await;
    let waits = nodes[0].lock("k").acquire();
    let left = async {
        let ended = soon::<R, _>("an end", waits).await;
        assert!(matches!(ended, Err(AcquireError::Closed(_))), "{ended:?}");
    };
    let mut left = pin!(left);
    assert!(poll_once(left.as_mut()).await.is_pending());
    soon::<R, _>("a shutdown", nodes[0].shutdown()).await;
    left.await;
    assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Leaving)));
    assert_eq!(guard.lost().await, LostReason::Leaving);
    let next = acquire::<R>(&nodes[1], "k").await;
    assert!(next.token() > guard.token());
    drop((guard, next));
    shutdown::<R>(nodes).await;
}

/// A panic of whoever holds a lock gives it back.
pub async fn a_panic_hands_over<R: Runtime>() {
    let (nodes, guard) = patient::<R>().await;
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _guard = guard;
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    drop(acquire::<R>(&nodes[1], "k").await);
    shutdown::<R>(nodes).await;
}

/// A panic in the work under a lock gives it back.
pub async fn a_panic_of_the_work_hands_over<R: Runtime>() {
    let nodes = group::<R>().await;
    {
        let work = nodes[0]
            .lock("k")
            .ttl(LONG)
            .run(|_| async { resume_unwind(Box::new("on purpose")) });
        let mut work = pin!(work);
        let panicked = poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
            polled.map_or(Poll::Ready(true), |poll| poll.map(|_: Result<(), _>| false))
        });
        assert!(soon::<R, _>("a panic", panicked).await);
    }
    drop(acquire::<R>(&nodes[1], "k").await);
    shutdown::<R>(nodes).await;
}

/// A lease is renewed while its guard lives, and each renewal is counted.
pub async fn leases_are_renewed<R: Runtime>() {
    let nodes = group::<R>().await;
    let lock = nodes[1].lock("k").ttl(Duration::from_secs(9));
    let guard = soon::<R, _>("a lock", lock.acquire()).await.expect("granted");
    let end = || R::now() + guard.remaining();
    let first = end();
    assert!(guard.remaining() <= Duration::from_secs(9));
    until::<R>("a renewal", || end() > first + Duration::from_secs(2)).await;
    assert_eq!(guard.check(), Ok(guard.token()));
    let stats = nodes[1].stats().await.expect("it runs");
    assert!(stats.locks_renewed >= 1 && stats.locks_lost == 0, "{stats:?}");
    assert_eq!(guard.release().await, Ok(()));
    shutdown::<R>(nodes).await;
}

/// The length of a lease can be changed: a shorter one counts at once, a longer one when it is agreed on.
pub async fn a_lease_gets_shorter_and_longer<R: Runtime>() {
    let (nodes, guard) = patient::<R>().await;
    let (short, max_ms) = (Duration::from_secs(60), 300_000);
    assert!(guard.remaining() > short);
    assert_eq!(guard.set_ttl(short).await, Ok(()));
    assert!(guard.remaining() <= short);
    assert_eq!(guard.set_ttl(LONG).await, Ok(()));
    until::<R>("the longer lease", || guard.remaining() > short).await;
    for wrong in [Duration::from_millis(999), 2 * LONG] {
        let ttl_ms = wrong.as_millis();
        assert_eq!(guard.set_ttl(wrong).await, Err(LockError::Ttl { ttl_ms, max_ms }));
    }
    assert!(guard.is_held() && guard.remaining() > short);

    let taken = soon::<R, _>("an answer", nodes[2].force_release(guard.token())).await;
    assert_eq!(taken, Ok(true));
    assert_eq!(soon::<R, _>("the loss", guard.lost()).await, LostReason::Revoked);
    assert_eq!((guard.is_held(), guard.remaining()), (false, Duration::ZERO));
    assert_eq!(guard.set_ttl(short).await, Err(LockError::UnknownId));
    soon::<R, _>("a shutdown", nodes[0].shutdown()).await;
    assert_eq!(guard.set_ttl(short).await, Err(LockError::Leaving));
    assert_eq!(guard.release().await, Err(NotHeld::Lost(LostReason::Revoked)));
    shutdown::<R>(nodes).await;
}

/// A lock whose renewals are not answered is at risk first, and lost then, and listeners are told of both.
pub async fn a_lock_at_risk<R: Runtime>() {
    let (nodes, third) = three_with_a_mortal::<R>().await;
    let mut events = third.cluster.events();
    let ttl = Duration::from_secs(3);
    let lock = third.cluster.lock("k").ttl(ttl);
    let guard = soon::<R, _>("a lock", lock.acquire()).await.expect("granted");
    third.cut();
    let left = soon::<R, _>("the risk", guard.at_risk()).await;
    assert!(left <= ttl / 3, "{left:?}");
    let ended = soon::<R, _>("the end", guard.lease().ended()).await;
    assert_eq!(ended, NotHeld::Lost(LostReason::Expired));
    let told = async {
        let mut at_risk = false;
        loop {
            match events.next().await.expect("the node runs") {
                ClusterEvent::LockAtRisk { token, .. } if token == guard.token() => at_risk = true,
                ClusterEvent::LockLost { token, .. } if token == guard.token() => return at_risk,
                _ => {}
            }
        }
    };
    let at_risk = soon::<R, _>("the news", told).await;
    // After a long pause of the whole process there may be no time left to be at risk in.
    assert!(at_risk || left.is_zero());
    drop((guard, events));
    third.die::<R>().await;
    shutdown::<R>(nodes).await;
}

/// Taken from a holder that nobody hears of, a lock stays its holder's until its lease is over; freed all the same, it
/// does not.
pub async fn a_dead_holder_is_waited_for_unless_told_otherwise<R: Runtime>() {
    let (mut nodes, third) = three_with_a_mortal::<R>().await;
    let long = third.cluster.lock("k").ttl(LONG).acquire();
    let guard = soon::<R, _>("a lock", long).await.expect("granted");
    let token = guard.token();
    third.cut();
    let taken = soon::<R, _>("an answer", nodes[0].force_release(token)).await;
    assert_eq!(taken, Ok(true));
    let granted = within::<R, _>(Duration::from_secs(1), nodes[1].lock("k").acquire()).await;
    assert!(granted.is_none(), "{granted:?}");
    let taken = soon::<R, _>("an answer", nodes[0].force_release_unsafely(token)).await;
    assert_eq!(taken, Ok(true));
    assert!(acquire::<R>(&nodes[1], "k").await.token() > token);
    nodes.pop();
    drop(guard);
    third.die::<R>().await;
    shutdown::<R>(nodes).await;
}

/// The lock of a dead process passes on when its lease is over, and not before; its successor at the same address is
/// somebody else.
pub async fn a_dead_holder<R: Runtime>() {
    let (mut nodes, third) = three_with_a_mortal::<R>().await;
    let guard = acquire::<R>(&third.cluster, "k").await;
    let (addr, token) = (third.cluster.local_addr(), guard.token());
    let (now, left) = (R::now(), guard.remaining());
    third.cut();
    let waiting = nodes[0].lock("k").ttl(LONG).acquire();
    let next = soon::<R, _>("the next turn", waiting).await.expect("granted");
    // Clocks may differ by a little where each node has one of its own.
    assert!(R::now() + left / 20 >= now + left, "granted too early");
    assert!(next.token() > token);
    nodes.pop();
    drop(guard);
    third.die::<R>().await;

    let seed = nodes[0].local_addr().to_string();
    nodes.push(crate::start::<R>(short_three().bind(addr.to_string()).seed(seed)).await);
    until_all_meet::<R>(&nodes).await;
    let refused = soon::<R, _>("an answer", nodes[2].try_lock("k")).await;
    let Err(AcquireError::Refused(LockError::Taken { token, owner, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((token, owner), (next.token(), nodes[0].id()));
    next.release().await.expect("held");
    assert!(acquire::<R>(&nodes[2], "k").await.token() > token);
    shutdown::<R>(nodes).await;
}

/// A guard keeps its node in the cluster when all other handles are gone; without it the node leaves, and its lock is
/// free at once.
pub async fn a_guard_keeps_its_node<R: Runtime>() {
    let (mut nodes, guard) = patient::<R>().await;
    let mut events = nodes[1].events();
    let first = nodes.remove(0).id();
    R::sleep(Duration::from_millis(500)).await;
    assert!(guard.is_held());
    drop(guard);
    drop(acquire::<R>(&nodes[0], "k").await);
    let left = async {
        loop {
            let event = events.next().await.expect("the node runs");
            if let ClusterEvent::MemberLeft { member, reason } = event
                && reason == LeaveReason::Left
            {
                return member.id;
            }
        }
    };
    assert_eq!(soon::<R, _>("a goodbye", left).await, first);
    shutdown::<R>(nodes).await;
}

/// What one process gives back at once is free at once, however much it is.
pub async fn many_guards_are_dropped_at_once<R: Runtime>() {
    let nodes = group::<R>().await;
    let mut guards = Vec::new();
    for number in 0..1_500 {
        let lock = nodes[0].lock(format!("k{number}")).ttl(LONG);
        guards.push(soon::<R, _>("a lock", lock.acquire()).await.expect("granted"));
    }
    let released = guards.split_off(700);
    drop(guards);
    for guard in released {
        guard.release().await.expect("held");
    }
    until_async::<R>("none to be held", async || {
        let held = nodes[1].locks(LockFilter::new().held()).all();
        held.await.expect("a quorum is there").is_empty()
    })
    .await;
    shutdown::<R>(nodes).await;
}

/// All leave at once, with locks held and wanted: all of it ends, and says so.
pub async fn everybody_leaves_with_locks<R: Runtime>() {
    let nodes = group::<R>().await;
    let mut guards = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let lock = node.lock(format!("{i}")).ttl(LONG);
        guards.push(soon::<R, _>("a lock", lock.acquire()).await.expect("granted"));
    }
    let (ended, ends) = std::sync::mpsc::channel();
    for (i, node) in nodes.iter().enumerate() {
        let (node, ended) = (node.clone(), ended.clone());
        R::spawn(async move {
            let lock = node.lock(format!("{}", (i + 1) % 3)).acquire().await;
            let work = node.with_lock(format!("{}", (i + 2) % 3), |_| async {}).await;
            let _ = ended.send((lock.map(drop), work));
        });
        until_known::<R>(&nodes[i], &format!("{}", (i + 1) % 3), (1, 1)).await;
    }
    for node in nodes.clone() {
        R::spawn(async move { node.shutdown().await });
    }
    for (i, node) in nodes.iter().enumerate() {
        assert!(soon::<R, _>("a shutdown", node.closed()).await.is_ok());
        assert_eq!(guards[i].check(), Err(NotHeld::Lost(LostReason::Leaving)));
        assert_eq!(guards[i].lost().await, LostReason::Leaving);
        let end = AcquireError::Closed(Closed);
        assert_eq!(node.try_lock("later").await.map(drop), Err(end));
        assert_eq!(node.lock_info("0").await, Err(LockQueryError::Closed(Closed)));
        assert_eq!(
            node.force_release(guards[i].token()).await,
            Err(LockQueryError::Closed(Closed))
        );
        assert_eq!(
            node.watch("0").await.map(drop),
            Err(LockQueryError::Closed(Closed))
        );
    }
    let closed = AcquireError::Closed(Closed);
    let (mut count, mut refused) = (0, 0);
    until::<R>("the end of every call", || {
        for (lock, work) in ends.try_iter() {
            // Who leaves a moment later may get what another one gives back, and nobody who knows that it leaves.
            let late = Err(WithLockError::NotAcquired(closed));
            let lost = Err(WithLockError::Lost(LostReason::Leaving));
            match lock {
                Ok(()) => assert!(work.is_ok() || work == late || work == lost, "{work:?}"),
                Err(error) => assert_eq!((error, work), (closed, late)),
            }
            refused += usize::from(lock.is_err());
            count += 1;
        }
        count == 3
    })
    .await;
    // Each waits for the next one's: whoever leaves first has not got it.
    assert!(refused > 0);
    for guard in guards {
        assert_eq!(guard.release().await, Err(NotHeld::Lost(LostReason::Leaving)));
    }
}
