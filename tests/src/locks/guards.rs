//! What becomes of a lock that is held.

use super::{acquire, patient, three_with_a_mortal};
use crate::{Runtime, poll_once, shutdown, soon};
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use quorate::{AcquireError, ClusterEvent, LostReason, NotHeld, WithLockError};
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
