//! Locks of a cluster of one, whose clock the test turns.

mod asking;
mod ends;

use super::*;
use crate::{
    AcquireError, ClusterEvent, Lease, LockError, LockFilter, LockGuard, LostReason, NotHeld, WithLockError,
};
use alloc::boxed::Box;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::AtomicBool;
use quorate_core::LockEvent;
use std::panic::catch_unwind;

const TTL: Duration = Duration::from_secs(15);

/// A cluster of one, and what it needs to go on.
struct One {
    cluster: Cluster,
    driver: Option<Driver<FakeIo>>,
    io: FakeIo,
}

impl One {
    fn new() -> Self {
        let mut one = Self::of(1);
        let cluster = one.cluster.clone();
        one.run(cluster.ready()).unwrap();
        // Once one was granted, the group is open.
        drop(one.acquire("first"));
        one.settle();
        one
    }

    /// One member of a cluster of so many: with others that never come, nobody answers what it asks.
    fn of(cluster_size: u8) -> Self {
        let io = FakeIo::default();
        let config = Config::default().insecure().local().cluster_size(cluster_size);
        let (cluster, driver) = Driver::new(Setup::new(config, [7; 32]), io.clone()).unwrap();
        let driver = Some(driver);
        Self { cluster, driver, io }
    }

    /// What is open with the driver.
    fn open(&self) -> usize {
        self.driver.as_ref().map_or(0, |driver| driver.locks.len())
    }

    /// Lets the driver hear of the node.
    fn tell(&mut self, event: LockEvent) {
        let now = self.io.now();
        let driver = self.driver.as_mut().unwrap();
        driver.locks.handle(&mut driver.node, now, event);
    }

    /// Lets the driver take a step.
    fn pass(&mut self) {
        if let Some(driver) = &mut self.driver
            && pass(driver).0.is_ready()
        {
            self.driver = None;
        }
    }

    /// Lets the driver do what there is to do now.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.pass();
        }
    }

    /// Lets time pass, in small steps, with the driver running.
    fn advance(&mut self, by: Duration) {
        let end = self.io.now() + by;
        while self.io.now() < end {
            self.io.world().now += Duration::from_millis(5);
            self.pass();
        }
    }

    /// Lets time pass while the driver does not run.
    fn pause(&self, for_: Duration) {
        self.io.world().now += for_;
    }

    /// Runs a future to its end, which has to come within a minute.
    fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        for _ in 0..12_000 {
            if let Some(value) = now(future.as_mut()) {
                return value;
            }
            self.advance(Duration::from_millis(5));
        }
        panic!("not within a minute");
    }

    fn acquire(&mut self, key: &str) -> LockGuard {
        let lock = self.cluster.lock(key);
        self.run(lock.acquire()).unwrap()
    }

    /// What the group knows of.
    fn rows(&mut self) -> usize {
        let rows = self.cluster.locks(LockFilter::new());
        self.run(rows.all()).unwrap().len()
    }
}

/// Polls once.
fn now<T>(future: core::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    block_on(poll_once(future))
}

/// Says that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_lock_is_held_renewed_and_given_back() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let token = guard.token();
    assert_eq!((guard.key(), guard.check()), ("k", Ok(token)));
    assert!(guard.remaining() > TTL / 2 && guard.remaining() <= TTL);
    one.advance(TTL * 3);
    assert_eq!(guard.check(), Ok(token));
    assert!(guard.remaining() > TTL / 2);
    assert_eq!(one.run(guard.release()), Ok(()));
    let next = one.acquire("k");
    assert!(next.token() > token);
}

#[test]
fn waiters_get_it_in_turn_and_try_names_the_holder() {
    let mut one = One::new();
    let first = one.acquire("k");
    let cluster = one.cluster.clone();
    let mut second = pin!(cluster.lock("k").acquire());
    assert!(now(second.as_mut()).is_none());
    one.advance(Duration::from_secs(40));
    assert!(
        now(second.as_mut()).is_none(),
        "the first one is renewed all the while"
    );
    let Err(AcquireError::Refused(LockError::Taken { token, waiting, .. })) = one.run(cluster.try_lock("k"))
    else {
        panic!("it is taken");
    };
    assert_eq!((token, waiting), (first.token(), 1));
    let waited = one.run(cluster.lock("k").wait(Duration::from_millis(200)).acquire());
    assert_eq!(waited.unwrap_err(), AcquireError::Refused(LockError::Timeout));
    let lease = first.lease();
    drop(first);
    assert_eq!(lease.check(), Err(NotHeld::Released), "before the driver has run");
    let second = one.run(second).unwrap();
    assert!(second.token() > token);
}

#[test]
fn after_a_pause_the_first_look_says_lost_before_the_driver_runs() {
    let mut one = One::new();
    let mut events = one.cluster.events();
    let guard = one.acquire("k");
    let left = guard.remaining();
    one.pause(left - Duration::from_nanos(1));
    assert!(guard.is_held());
    one.pause(Duration::from_nanos(1));
    assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Expired)));
    assert_eq!(guard.remaining(), Duration::ZERO);
    assert_eq!(now(pin!(guard.lost())), Some(LostReason::Expired));
    one.advance(Duration::from_secs(1));
    assert_eq!(
        guard.check(),
        Err(NotHeld::Lost(LostReason::Expired)),
        "it never comes back"
    );
    let heard = core::iter::from_fn(|| block_on(poll_once(events.next())).flatten());
    let told = heard.filter(|event| matches!(event, ClusterEvent::LockLost { .. }));
    assert_eq!(told.count(), 1);
    assert_eq!(one.run(guard.release()), Err(NotHeld::Lost(LostReason::Expired)));
    assert_eq!(one.rows(), 0);
}

#[test]
fn the_driver_wakes_whoever_waits_for_the_loss() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let (token, cluster) = (guard.token(), one.cluster.clone());
    let mut lost = pin!(guard.lost());
    let mut at_risk = pin!(guard.at_risk());
    assert!(now(lost.as_mut()).is_none() && now(at_risk.as_mut()).is_none());
    assert_eq!(one.run(cluster.force_release(token)), Ok(true));
    assert_eq!(one.run(lost), LostReason::Revoked);
    assert_eq!(one.run(at_risk), Duration::ZERO);
    assert_eq!(one.run(cluster.force_release(token)), Ok(true), "as before");
    let never = one.run(cluster.force_release_unsafely(token + 1));
    assert_eq!(never, Ok(false), "nobody held it");
}

#[test]
fn a_guard_gives_back_in_a_foreign_thread_with_a_full_queue_and_no_driver_running() {
    let mut one = One::new();
    let guard = one.acquire("k");
    block_on(async { while poll_once(one.cluster.refresh()).await.is_some() {} });
    let lease = guard.lease();
    std::thread::spawn(move || drop(guard)).join().unwrap();
    assert_eq!(lease.check(), Err(NotHeld::Released));
    one.settle();
    assert_eq!(one.rows(), 0);
}

#[test]
fn a_panic_gives_back() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = guard;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    one.settle();
    assert_eq!(one.rows(), 0);
}

#[test]
fn an_acquire_that_is_dropped_anywhere_leaves_nothing() {
    // Dropped after so many steps of the driver: in the queue, on its way, granted and not picked up.
    let mut granted = false;
    for steps in 0..12 {
        let mut one = One::new();
        let cluster = one.cluster.clone();
        {
            let mut acquire = pin!(cluster.lock("k").acquire());
            assert!(now(acquire.as_mut()).is_none());
            for _ in 0..steps {
                one.io.world().now += Duration::from_millis(1);
                one.pass();
            }
            granted |= one.driver.as_ref().unwrap().locks.first_alarm().is_some();
        }
        one.advance(Duration::from_secs(1));
        assert_eq!(one.rows(), 0, "dropped after {steps} steps");
        let driver = one.driver.as_ref().unwrap();
        assert_eq!(driver.locks.len(), 0, "dropped after {steps} steps");
    }
    assert!(granted, "no step was far enough");
}

#[test]
fn who_waits_and_gives_up_is_not_granted_later() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let guard = one.acquire("k");
    {
        let mut second = pin!(cluster.lock("k").acquire());
        assert!(now(second.as_mut()).is_none());
        one.advance(Duration::from_millis(100));
        assert_eq!(one.rows(), 2);
    }
    one.settle();
    assert_eq!(one.rows(), 1);
    drop(guard);
    one.settle();
    assert_eq!(one.rows(), 0);
}

#[test]
fn a_grant_that_crosses_the_drop_is_given_back() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let guard = one.acquire("k");
    let mut second = Box::pin(cluster.lock("k").acquire());
    assert!(now(second.as_mut()).is_none());
    one.advance(Duration::from_millis(100));
    // The release is on its way, and the waiter gives up behind it, before the driver looks.
    drop(guard);
    drop(second);
    one.advance(Duration::from_millis(100));
    assert_eq!(one.rows(), 0);
    assert_eq!(one.driver.as_ref().unwrap().locks.len(), 0);
}

#[test]
fn work_is_dropped_before_the_lease_ends_also_if_the_driver_does_not_run() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let gone = Arc::new(AtomicBool::new(false));
    let mut steps = 0;
    let seen: Arc<Mutex<Option<Lease>>> = Arc::default();
    let (mark, show) = (Dropped(Arc::clone(&gone)), Arc::clone(&seen));
    let mut work = pin!(cluster.with_lock("k", |lease| async move {
        let _mark = mark;
        *show.lock().unwrap() = Some(lease);
        poll_fn(|_| {
            steps += 1;
            Poll::<()>::Pending
        })
        .await;
    }));
    for _ in 0..10 {
        assert!(now(work.as_mut()).is_none());
        one.advance(Duration::from_millis(5));
    }
    // It goes on while it is renewed.
    one.advance(TTL * 2);
    assert!(now(work.as_mut()).is_none());
    let lease = seen.lock().unwrap().clone().unwrap();
    let left = lease.remaining();
    one.pause(left - left / 20);
    assert!(lease.is_held(), "there is something left");
    assert_eq!(now(work), Some(Err(WithLockError::Lost(LostReason::Expired))));
    assert!(gone.load(Ordering::SeqCst), "the work is gone");
    assert_eq!(lease.check(), Err(NotHeld::Released));
    assert_eq!(one.rows(), 0);
}

#[test]
fn work_is_woken_in_time_by_the_driver() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let mut work = pin!(cluster.with_lock("k", |lease| async move {
        core::future::pending::<()>().await;
        lease
    }));
    assert!(now(work.as_mut()).is_none());
    one.advance(Duration::from_millis(50));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let before = wakes.count();
    // The alarm is the only thing that can wake it: nothing else has changed.
    let alarm = one.driver.as_ref().unwrap().locks.first_alarm().unwrap();
    let now_ = one.io.now();
    assert!(alarm > now_ + TTL / 2 && alarm < now_ + TTL, "{alarm:?}");
    one.io.world().now = alarm;
    let driver = one.driver.as_mut().unwrap();
    driver.locks.handle_timeout(alarm);
    assert!(wakes.count() > before);
}

#[test]
fn work_that_ends_panics_or_is_dropped_gives_back() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let token = one.run(cluster.with_lock("k", |lease| async move { lease.token() }));
    assert!(token.unwrap() > 0);
    assert_eq!(one.rows(), 0);

    let mut panics = Box::pin(cluster.with_lock("k", |_| async { panic!("on purpose") }));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _: Result<(), _> = one.run(&mut panics);
    }));
    assert!(panicked.is_err());
    drop(panics);
    one.settle();
    assert_eq!(one.rows(), 0);

    let mut dropped = Box::pin(cluster.with_lock("k", |_| core::future::pending::<()>()));
    for _ in 0..10 {
        assert!(now(dropped.as_mut()).is_none());
        one.advance(Duration::from_millis(5));
    }
    assert_eq!(one.rows(), 1);
    drop(dropped);
    one.settle();
    assert_eq!(one.rows(), 0);
}

#[test]
fn a_shorter_ttl_counts_at_once_and_a_longer_one_when_it_is_agreed_on() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let mut set = pin!(guard.set_ttl(Duration::from_secs(2)));
    assert!(now(set.as_mut()).is_none());
    one.pass();
    assert_eq!(now(set.as_mut()), Some(Ok(())));
    assert!(guard.remaining() <= Duration::from_secs(2));
    one.advance(Duration::from_secs(10));
    assert!(guard.remaining() > Duration::from_millis(900) && guard.remaining() < Duration::from_secs(2));
    assert_eq!(one.run(guard.set_ttl(Duration::from_secs(25))), Ok(()));
    one.advance(Duration::from_secs(3));
    assert!(guard.remaining() > Duration::from_secs(15));
    let wrong = one.run(guard.set_ttl(Duration::from_secs(31)));
    assert_eq!(
        wrong,
        Err(LockError::Ttl {
            ttl_ms: 31_000,
            max_ms: 30_000
        })
    );
    assert!(guard.is_held());
    let token = guard.token();
    let cluster = one.cluster.clone();
    assert_eq!(one.run(cluster.force_release(token)), Ok(true));
    assert_eq!(one.run(guard.lost()), LostReason::Revoked);
    assert_eq!(
        one.run(guard.set_ttl(Duration::from_secs(5))),
        Err(LockError::UnknownId)
    );
}

/// The guard's deadline against the leader's, at every step of a long life with changes of the length.
#[test]
fn no_guard_believes_as_long_as_the_leader() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let guard = one.acquire("k");
    for secs in [9, 2, 30, 1, 5, 29, 3].into_iter().cycle().take(28) {
        one.run(guard.set_ttl(Duration::from_secs(secs))).unwrap();
        for step in 0..50 {
            one.advance(Duration::from_millis(15));
            let mut info = pin!(cluster.lock_info("k"));
            assert!(now(info.as_mut()).is_none());
            one.settle();
            // No time has passed.
            let info = now(info)
                .expect("the leader is here")
                .unwrap()
                .expect("it is held");
            let leader = Duration::from_millis(info.holders[0].left_ms.unwrap().into());
            let left = guard.remaining();
            assert!(
                left > Duration::ZERO && left <= leader,
                "{secs} s, step {step}: {left:?}, {leader:?}"
            );
        }
    }
}

#[test]
fn after_the_end_guards_are_lost_and_calls_are_closed() {
    for polite in [true, false] {
        let mut one = One::new();
        let cluster = one.cluster.clone();
        let guard = one.acquire("k");
        let mut waits = pin!(cluster.lock("k").acquire());
        let mut watch = pin!(async {
            let mut leaders = cluster.elect("e").observe().await.unwrap();
            while leaders.next().await.is_some() {}
        });
        assert!(now(waits.as_mut()).is_none() && now(watch.as_mut()).is_none());
        one.settle();
        assert!(now(watch.as_mut()).is_none());
        if polite {
            let other = one.cluster.clone();
            one.run(other.shutdown());
        } else {
            one.driver = None;
        }
        assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Leaving)));
        assert!(matches!(now(waits), Some(Err(AcquireError::Closed(Closed)))));
        assert_eq!(now(watch), Some(()));
        assert_eq!(now(pin!(guard.set_ttl(TTL))), Some(Err(LockError::Leaving)));
        assert_eq!(
            now(pin!(guard.release())),
            Some(Err(NotHeld::Lost(LostReason::Leaving)))
        );
        assert!(matches!(
            now(pin!(cluster.try_lock("k"))),
            Some(Err(AcquireError::Closed(_)))
        ));
        assert!(matches!(
            now(pin!(cluster.lock_info("k"))),
            Some(Err(crate::LockQueryError::Closed(_)))
        ));
    }
}

#[test]
fn a_guard_keeps_the_node() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let lease = guard.lease();
    one.cluster = {
        // Nothing else is left.
        let (other, _) = Driver::new(
            Setup::new(Config::default().insecure(), [8; 32]),
            FakeIo::default(),
        )
        .unwrap();
        other
    };
    let wants_leave = |one: &One| one.driver.as_ref().unwrap().shared.wants_leave();
    assert!(!wants_leave(&one));
    drop(guard);
    assert!(wants_leave(&one));
    drop(lease);
}

#[test]
fn a_much_longer_ttl_does_not_lose_the_lock() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    for late in 0..20 {
        let guard = one
            .run(cluster.lock("k").ttl(Duration::from_secs(1)).acquire())
            .unwrap();
        one.advance(Duration::from_millis(50 * late));
        one.run(guard.set_ttl(Duration::from_secs(30))).unwrap();
        one.advance(Duration::from_secs(5));
        assert!(guard.is_held(), "{late}");
        drop(guard);
        one.settle();
    }
}

/// Looks at a lease at the moment when the driver is rung.
struct Looks(Lease, Mutex<Vec<Result<u64, NotHeld>>>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0.check());
    }
}

#[test]
fn the_belief_is_over_before_the_driver_hears_of_a_release() {
    let mut one = One::new();
    let guard = one.acquire("k");
    one.settle();
    let looks = Arc::new(Looks(guard.lease(), Mutex::default()));
    let waker = Waker::from(Arc::clone(&looks));
    let driver = one.driver.as_mut().unwrap();
    assert!(driver.pass(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(*looks.1.lock().unwrap(), []);
    drop(guard);
    assert_eq!(*looks.1.lock().unwrap(), [Err(NotHeld::Released)]);
}

#[test]
fn a_look_that_finds_it_over_ends_it_also_if_a_renewal_was_answered_just_then() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let (before, until) = (one.io.now(), one.io.now() + guard.remaining());
    one.io.world().now = until;
    assert!(!guard.is_held());
    // The driver had read its clock a moment earlier.
    let (id, later) = (guard.lease().id(), until + TTL);
    let driver = one.driver.as_mut().unwrap();
    let renewed = LockEvent::Renewed { id, until: later };
    driver.locks.handle(&mut driver.node, before, renewed);
    assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Expired)));
    one.settle();
    assert_eq!(one.rows(), 0);
}

#[test]
fn who_listens_hears_of_a_lock_at_risk_and_that_it_is_over() {
    let mut one = One::new();
    let mut events = one.cluster.events();
    let guard = one.acquire("k");
    let mut at_risk = pin!(guard.at_risk());
    assert!(now(at_risk.as_mut()).is_none());
    let (id, at) = (guard.lease().id(), one.io.now());
    let driver = one.driver.as_mut().unwrap();
    let until = at + guard.remaining();
    driver
        .locks
        .handle(&mut driver.node, at, LockEvent::AtRisk { id, until });
    assert_eq!(now(at_risk.as_mut()), Some(guard.remaining()));
    let heard = core::iter::from_fn(|| block_on(poll_once(events.next())).flatten());
    let told: Vec<ClusterEvent> = heard
        .filter(|event| matches!(event, ClusterEvent::LockAtRisk { .. }))
        .collect();
    let key = crate::LockKey::new("k").unwrap();
    let (token, left) = (guard.token(), guard.remaining());
    assert_eq!(told, [ClusterEvent::LockAtRisk { key, token, left }]);
    // A renewal is answered after all.
    one.advance(TTL / 2);
    assert!(now(pin!(guard.at_risk())).is_none());
}

#[test]
fn a_renewal_from_before_a_shorter_ttl_does_not_count_after_it() {
    let mut one = One::new();
    let guard = one.acquire("k");
    one.pause(TTL / 3 + Duration::from_millis(100));
    let mut set = pin!(guard.set_ttl(Duration::from_secs(1)));
    assert!(now(set.as_mut()).is_none());
    let driver = one.driver.as_mut().unwrap();
    // It is answered, and not handed out yet.
    for _ in 0..100 {
        one.io.world().now += Duration::from_millis(1);
        driver.node.handle_timeout(one.io.now());
    }
    one.pass();
    assert_eq!(now(set), Some(Ok(())));
    assert!(guard.is_held() && guard.remaining() <= Duration::from_secs(1));
}

#[test]
fn what_is_asked_after_a_release_is_asked_after_it_also_in_the_middle_of_a_pass() {
    let mut one = One::new();
    let guard = one.acquire("k");
    let cluster = one.cluster.clone();
    let mut first = pin!(cluster.status());
    assert!(now(first.as_mut()).is_none(), "a command waits");
    let (sender, asked) = std::sync::mpsc::channel();
    let asking = one.cluster.clone();
    one.io.world().meanwhile = Some(Box::new(move || {
        drop(guard);
        let mut again = Box::pin(async move { asking.try_lock("k").await });
        assert!(now(again.as_mut().as_mut()).is_none());
        sender.send(again).unwrap();
    }));
    one.pass();
    let again = asked.try_recv().expect("it happened");
    assert!(one.run(again).is_ok());
}
