//! Whoever gives up leaves nothing behind.

use super::{LONG, acquire, group, patient, until_known};
use crate::{Runtime, SOON, shutdown, soon, within};
use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use quorate::{AcquireError, LockError, LockFilter, LostReason};
use std::sync::Arc;

/// Whoever stops waiting, at whatever moment, does not get the lock.
pub async fn a_dropped_acquire_leaves_nothing<R: Runtime>() {
    let nodes = group::<R>().await;
    let held = acquire::<R>(&nodes[0], "k").await;
    for (i, node) in nodes.iter().cycle().take(9).enumerate() {
        let limit = Duration::from_millis(3 * i as u64);
        let granted = within::<R, _>(limit, node.lock("k").acquire()).await;
        assert!(granted.is_none(), "it is held");
    }
    until_known::<R>(&nodes[1], "k", (1, 0)).await;
    assert_eq!(held.release().await, Ok(()));
    // Free, and given up at any moment: before it is granted, after, or while the grant is on its way.
    for (i, node) in nodes.iter().cycle().take(30).enumerate() {
        let limit = Duration::from_micros(100 * i as u64);
        drop(within::<R, _>(limit, node.lock("k").acquire()).await);
    }
    until_known::<R>(&nodes[2], "k", (0, 0)).await;
    shutdown::<R>(nodes).await;
}

/// Polls a future whenever it is woken, and drops it after so many polls. Returns what came of it by then.
async fn polled<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Whoever is dropped while it asks for a free lock, at whichever of its polls, holds nothing and waits for nothing.
pub async fn an_acquire_dropped_at_any_poll<R: Runtime>() {
    let nodes = group::<R>().await;
    for node in &nodes {
        for asked in [node.lock("k"), node.lock("k").wait(SOON)] {
            let mut ended = false;
            for polls in 1..100 {
                let granted =
                    soon::<R, _>("some polls", polled(polls, asked.clone().ttl(LONG).acquire())).await;
                ended = granted.is_some();
                // Given back where it was granted.
                drop(granted);
                until_known::<R>(node, "k", (0, 0)).await;
                let next = nodes[0].lock("k").ttl(LONG).acquire();
                drop(soon::<R, _>("the next one", next).await.expect("granted"));
                if ended {
                    break;
                }
            }
            assert!(ended, "it is granted in the end");
        }
    }
    shutdown::<R>(nodes).await;
}

/// Work under a lock that is dropped, at whichever of its polls, is gone when its lock is given back.
pub async fn work_dropped_at_any_poll<R: Runtime>() {
    /// Whether the work is there.
    struct There(Arc<AtomicBool>);
    impl Drop for There {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let nodes = group::<R>().await;
    let mut ended = false;
    for polls in 1..100 {
        let there = Arc::new(AtomicBool::new(false));
        let mark = there.clone();
        let work = nodes[1].lock("k").ttl(LONG).run(|lease| async move {
            mark.store(true, Ordering::SeqCst);
            let _there = There(mark);
            R::sleep(Duration::from_millis(1)).await;
            R::sleep(Duration::from_millis(1)).await;
            lease.token()
        });
        let output = soon::<R, _>("some polls", polled(polls, work)).await;
        assert!(!there.load(Ordering::SeqCst), "dropped after {polls} polls");
        let next = nodes[0].lock("k").ttl(LONG).acquire();
        let next = soon::<R, _>("the next one", next).await.expect("granted");
        if let Some(token) = output {
            ended = true;
            assert!(token.expect("done") < next.token());
            break;
        }
        drop(next);
    }
    assert!(ended, "the work is done in the end");
    until_known::<R>(&nodes[2], "k", (0, 0)).await;
    shutdown::<R>(nodes).await;
}

/// What is asked of a lock that is held can be given up at any poll: the lock is held all the same, or, where it was to
/// be taken from its holder, it is taken or not.
pub async fn questions_dropped_at_any_poll<R: Runtime>() {
    let (nodes, guard) = patient::<R>().await;
    for polls in 1..8 {
        let longer = polled(polls, guard.set_ttl(LONG));
        assert!(matches!(
            soon::<R, _>("a longer lease", longer).await,
            None | Some(Ok(()))
        ));
        let refused = soon::<R, _>("a try", polled(polls, nodes[1].try_lock("k"))).await;
        assert!(matches!(
            refused,
            None | Some(Err(AcquireError::Refused(LockError::Taken { .. })))
        ));
        let info = soon::<R, _>("a look", polled(polls, nodes[2].lock_info("k"))).await;
        assert!(info.is_none_or(|info| info.is_ok_and(|info| info.is_some())));
        let rows = soon::<R, _>("a list", polled(polls, nodes[2].locks(LockFilter::new()).all())).await;
        assert!(rows.is_none_or(|rows| rows.is_ok_and(|rows| rows.len() == 1)));
        let watch = soon::<R, _>("a watch", polled(polls, nodes[0].watch("k"))).await;
        assert!(watch.is_none_or(|watch| watch.is_ok()));
        assert_eq!(guard.check(), Ok(guard.token()), "after {polls} polls");
    }
    let token = guard.token();
    for polls in 1..100 {
        let taken = soon::<R, _>("some polls", polled(polls, nodes[2].force_release(token))).await;
        if let Some(taken) = taken {
            assert_eq!(soon::<R, _>("the loss", guard.lost()).await, LostReason::Revoked);
            // An attempt that was given up may have taken it: then nobody holds it under this token any more.
            let taken = taken.expect("an answer");
            assert!(taken || polls > 1);
            shutdown::<R>(nodes).await;
            return;
        }
    }
    panic!("no answer after 100 polls");
}
