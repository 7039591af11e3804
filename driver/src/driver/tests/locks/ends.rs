//! How locks end, and the work that is done under them.

use super::*;

/// Work that never ends, and what is polled of it until it has its lock.
fn begun<F: Future>(one: &mut One, mut work: core::pin::Pin<&mut F>) {
    for _ in 0..10 {
        assert!(now(work.as_mut()).is_none());
        one.advance(Duration::from_millis(5));
    }
}

#[test]
fn work_is_dropped_at_once_when_its_lock_is_taken_or_the_node_ends() {
    for taken in [true, false] {
        let mut one = One::new();
        let cluster = one.cluster.clone();
        let gone = Arc::new(AtomicBool::new(false));
        let seen: Arc<Mutex<Option<Lease>>> = Arc::default();
        let (mark, show) = (Dropped(Arc::clone(&gone)), Arc::clone(&seen));
        let mut work = pin!(cluster.with_lock("k", |lease| async move {
            let _mark = mark;
            *show.lock().unwrap() = Some(lease);
            core::future::pending::<()>().await;
        }));
        begun(&mut one, work.as_mut());
        let token = seen.lock().unwrap().clone().unwrap().token();
        let reason = if taken {
            assert_eq!(one.run(cluster.force_release(token)), Ok(true));
            one.settle();
            LostReason::Revoked
        } else {
            one.driver = None;
            LostReason::Leaving
        };
        assert_eq!(now(work), Some(Err(WithLockError::Lost(reason))));
        assert!(gone.load(Ordering::SeqCst));
    }
}

#[test]
fn work_that_comes_to_its_end_too_late_is_told_so() {
    let mut one = One::new();
    let (cluster, io) = (one.cluster.clone(), one.io.clone());
    let late = one.run(cluster.with_lock("k", |lease| async move {
        // It blocks its thread.
        let left = lease.remaining();
        io.world().now += left;
    }));
    assert_eq!(late, Err(WithLockError::Lost(LostReason::Expired)));
}

/// Says when it is dropped whether the lock was held then.
struct Last(Lease, Arc<Mutex<Option<bool>>>);

impl Drop for Last {
    fn drop(&mut self) {
        *self.1.lock().unwrap() = Some(self.0.is_held());
    }
}

#[test]
fn work_is_gone_before_its_lock_is_given_back() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let last: Arc<Mutex<Option<bool>>> = Arc::default();
    let show = Arc::clone(&last);
    let mut work = pin!(cluster.with_lock("k", |lease| async move {
        let _last = Last(lease, show);
        core::future::pending::<()>().await;
    }));
    begun(&mut one, work.as_mut());
    let alarm = one.driver.as_ref().unwrap().locks.first_alarm().unwrap();
    one.io.world().now = alarm;
    assert_eq!(now(work), Some(Err(WithLockError::Lost(LostReason::Expired))));
    assert_eq!(*last.lock().unwrap(), Some(true));
}

#[test]
fn a_look_that_finds_it_over_gives_it_back_though_the_node_believes_longer() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let mut set = pin!(guard.set_ttl(Duration::from_secs(10)));
    assert!(now(set.as_mut()).is_none());
    one.pass();
    assert_eq!(now(set), Some(Ok(())));
    one.pause(guard.remaining());
    assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Expired)));
    one.advance(Duration::from_secs(1));
    assert_eq!((one.rows(), one.open()), (0, 0));
}

#[test]
fn a_shorter_lease_is_no_less_at_risk() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let (id, until) = (guard.lease().id(), one.io.now() + TTL);
    one.tell(LockEvent::AtRisk { id, until });
    assert!(now(pin!(guard.lease().at_risk())).is_some());
    let sooner = one.io.now() + Duration::from_secs(2);
    assert!(guard.lease().shorten(one.io.now(), sooner).is_some());
    assert!(now(pin!(guard.lease().at_risk())).is_some());
}
