//! What can be asked for, and seen.

use super::*;

#[test]
fn what_is_wrong_with_a_request_is_said_at_once() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let mut refused = |lock: crate::LockBuilder| match one.run(lock.acquire()) {
        Err(AcquireError::Refused(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(cluster.lock("")), LockError::Key { len: 0 });
    assert_eq!(
        refused(cluster.lock("x".repeat(256))),
        LockError::Key { len: 256 }
    );
    let ttl = Duration::from_millis(999);
    assert_eq!(
        refused(cluster.lock("k").ttl(ttl)),
        LockError::Ttl {
            ttl_ms: 999,
            max_ms: 30_000
        }
    );
    assert_eq!(
        refused(cluster.lock("k").units(2)),
        LockError::Units {
            units: 2,
            capacity: 1
        }
    );
    assert_eq!(
        refused(cluster.semaphore("k", 0)),
        LockError::Units {
            units: 1,
            capacity: 0
        }
    );
    assert!(matches!(
        refused(cluster.lock("k").metadata("", "x")),
        LockError::Metadata { .. }
    ));
}

#[test]
fn readers_share_and_semaphores_count() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let first = one.run(cluster.read("d").acquire()).unwrap();
    let second = one.run(cluster.read("d").acquire()).unwrap();
    assert!(one.run(cluster.write("d").try_acquire()).is_err());
    assert_eq!(
        one.run(cluster.try_lock("d")).unwrap_err(),
        AcquireError::Refused(LockError::OtherCapacity(u32::MAX))
    );
    drop((first, second));
    one.settle();
    let writer = one.run(cluster.write("d").try_acquire()).unwrap();
    assert!(one.run(cluster.read("d").try_acquire()).is_err());
    drop(writer);

    let two = one.run(cluster.semaphore("s", 3).units(2).acquire()).unwrap();
    let three = one.run(cluster.semaphore("s", 3).acquire()).unwrap();
    assert!(one.run(cluster.semaphore("s", 3).try_acquire()).is_err());
    drop(two);
    one.settle();
    assert!(one.run(cluster.semaphore("s", 3).units(2).try_acquire()).is_ok());
    drop(three);
}

#[test]
fn listing_gives_each_once_in_order_over_many_pages() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let guards: Vec<LockGuard> = (0..300)
        .map(|i| {
            let lock = cluster
                .lock(std::format!("job/{i:03}"))
                .metadata("fill", "x".repeat(200));
            one.run(lock.acquire()).unwrap()
        })
        .collect();
    let mut pages = cluster.locks(LockFilter::new().key("job/*"));
    let (mut rows, mut count) = (Vec::new(), 0);
    while let Some(page) = one.run(pages.next()).unwrap() {
        rows.extend(page);
        count += 1;
    }
    assert!(count > 1);
    let listed: Vec<_> = rows.iter().map(|row| row.token).collect();
    let held: Vec<_> = guards.iter().map(|guard| Some(guard.token())).collect();
    assert_eq!(listed, held);
    assert!(one.run(pages.next()).unwrap().is_none());

    let star = one
        .run(cluster.lock("job/*").metadata("who", "me").acquire())
        .unwrap();
    let info = one.run(cluster.lock_info("job/*")).unwrap().expect("it is held");
    assert_eq!((info.capacity, info.holders.len(), info.waiters.len()), (1, 1, 0));
    assert_eq!(info.holders[0].token, Some(star.token()));
    assert!(info.holders[0].metadata().eq([("who", "me")]));
    assert_eq!(one.run(cluster.lock_info("job/999")), Ok(None));
    assert!(one.run(cluster.lock_info("")).is_err());
}

#[test]
fn a_watch_tells_how_a_lock_stands_whenever_it_has_changed() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    assert!(one.run(cluster.watch("")).is_err());
    let mut watch = one.run(cluster.watch("k")).unwrap();
    assert_eq!(one.run(watch.next()), Ok(None));
    let first = one.acquire("k");
    let info = one.run(watch.next()).unwrap().expect("it is held");
    assert_eq!(info.holders[0].token, Some(first.token()));
    let mut second = pin!(cluster.lock("k").acquire());
    assert!(now(second.as_mut()).is_none());
    let info = one.run(watch.next()).unwrap().expect("it is held");
    assert_eq!((info.holders.len(), info.waiters.len()), (1, 1));
    let other = one.acquire("other");
    assert!(now(pin!(watch.next())).is_none());
    drop(first);
    let second = one.run(second).unwrap();
    let mut last = Ok(None);
    while let Some(told) = now(pin!(watch.next())) {
        last = told;
        one.settle();
    }
    while last.as_ref().is_ok_and(|info| {
        let token = info.as_ref().and_then(|info| info.holders.first()?.token);
        token != Some(second.token())
    }) {
        last = one.run(watch.next());
    }
    drop((second, other, watch));
    one.advance(Duration::from_secs(7));
    assert_eq!(one.driver.as_ref().unwrap().locks.len(), 0);
}

#[test]
fn locks_are_found_by_the_name_of_their_owner() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let _held = one.acquire("k");
    let name = cluster.config().name.clone();
    for (pattern, found) in [(&*name, 1), ("*", 1), ("somebody-else", 0)] {
        let rows = one.run(cluster.locks(LockFilter::new()).owner_name(pattern).all());
        assert_eq!(rows.unwrap().len(), found, "{pattern}");
    }
}

#[test]
fn who_leads_is_seen_with_its_value_and_who_follows() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let election = cluster.elect("boss");
    let mut leaders = one.run(election.observe()).unwrap();
    assert_eq!(one.run(leaders.next()), Some(None));
    let first = one.run(election.clone().value("a:1").campaign()).unwrap();
    let seen = one.run(leaders.next()).flatten().expect("somebody leads");
    assert_eq!(
        (&*seen.value, seen.token, seen.node),
        ("a:1", first.token(), cluster.id())
    );
    assert_eq!(one.run(election.leader()), Ok(Some(seen)));
    assert_eq!(first.value(), "a:1");
    let mut second = pin!(election.clone().value("b:2").campaign());
    assert!(now(second.as_mut()).is_none());
    assert_eq!(one.run(first.step_down()), Ok(()));
    let second = one.run(second).unwrap();
    let seen = one.run(leaders.next()).flatten().expect("somebody leads");
    assert_eq!((&*seen.value, seen.token), ("b:2", second.token()));
    drop(second);
    assert_eq!(one.run(leaders.next()), Some(None));
    // The driver forgets whoever observes no more.
    drop(leaders);
    one.advance(Duration::from_secs(7));
    assert_eq!(one.driver.as_ref().unwrap().locks.len(), 0);
    assert!(one.driver.as_ref().unwrap().locks.poll_timeout().is_none());
}

#[test]
fn a_question_that_is_dropped_leaves_its_place() {
    let mut one = One::of(3);
    let cluster = one.cluster.clone();
    for early in [true, false] {
        let mut list = Box::pin(cluster.lock_info("k"));
        let mut forced = Box::pin(cluster.force_release(7));
        assert!(now(list.as_mut()).is_none() && now(forced.as_mut()).is_none());
        if !early {
            one.settle();
            assert_eq!(one.open(), 2);
        }
        drop((list, forced));
        one.settle();
        assert_eq!(one.open(), 0);
    }
    // The node has as many places as ever.
    let mut open = Vec::new();
    for i in 0..2_000 {
        let mut list = Box::pin(cluster.lock_info("k"));
        assert!(now(list.as_mut()).is_none());
        one.pass();
        if i % 2 == 0 {
            open.push(list);
        }
    }
    one.settle();
    assert_eq!(one.open(), 1_000);
}

#[test]
fn whoever_observes_waits_for_room_to_ask() {
    let mut one = One::of(3);
    let cluster = one.cluster.clone();
    let election = cluster.elect("boss");
    let mut leaders = one.run(election.observe()).unwrap();
    let watch = one.driver.as_ref().unwrap().locks.newest().unwrap();
    let mut lists = Vec::new();
    for _ in 0..1_024 {
        let mut list = Box::pin(cluster.lock_info("k"));
        assert!(now(list.as_mut()).is_none());
        lists.push(list);
        one.pass();
    }
    let full = one.run(cluster.lock_info("k"));
    assert_eq!(full, Err(LockError::TooManyRequests.into()));
    one.tell(LockEvent::Changed { id: watch });

    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut next = Box::pin(leaders.next());
    let mut polls = 0;
    woken.0.store(true, Ordering::SeqCst);
    for turn in 0..200 {
        if woken.0.swap(false, Ordering::SeqCst) {
            polls += 1;
            assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        one.settle();
        if turn == 100 {
            assert!(polls < 10, "it asked {polls} times in vain");
            assert_eq!(one.open(), 1_025);
            lists.pop();
        }
    }
    assert!(polls < 20, "{polls}");
    assert_eq!(one.open(), 1_025, "its question is one of them");

    // An answer that says nothing is no end, one that says that it may not ask is.
    for (error, ends) in [(LockError::Timeout, false), (LockError::Observer, true)] {
        let id = one.driver.as_ref().unwrap().locks.newest().unwrap();
        one.tell(LockEvent::Failed { id, error });
        let polled = next.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, if ends { Poll::Ready(None) } else { Poll::Pending });
        lists.pop();
        one.settle();
    }
}

/// Says whether it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn guards_and_futures_may_cross_threads() {
    fn sync<T: Send + Sync + 'static>() {}
    fn send<T: Send>(_: T) {}
    sync::<LockGuard>();
    sync::<Lease>();
    sync::<crate::LockBuilder>();
    sync::<crate::Leadership>();
    sync::<crate::Leaders>();
    sync::<crate::LockPages>();
    let (cluster, _driver, _io) = node();
    send(cluster.lock("k").acquire());
    send(cluster.try_lock("k"));
    send(cluster.with_lock("k", |lease| async move { drop(lease) }));
    send(cluster.elect("k").campaign());
    send(cluster.elect("k").observe());
    send(cluster.locks(LockFilter::new()).all());
    send(cluster.lock_info("k"));
    send(cluster.force_release(1));
}

#[test]
fn a_watch_that_is_dropped_in_the_queue_leaves_its_place() {
    let mut one = One::of(3);
    let cluster = one.cluster.clone();
    for _ in 0..1_100 {
        let mut watch = Box::pin(cluster.watch("k"));
        assert!(now(watch.as_mut()).is_none());
        drop(watch);
        one.pass();
    }
    assert!(one.run(cluster.watch("k")).is_ok());
}

#[test]
fn a_question_that_nobody_answers_fails_in_time() {
    let mut one = One::of(3);
    let cluster = one.cluster.clone();
    assert_eq!(one.run(cluster.force_release(7)), Err(LockError::Timeout.into()));
    assert_eq!(
        one.run(cluster.lock_info("k")).err(),
        Some(LockError::Timeout.into())
    );
}

#[test]
fn a_page_that_was_given_up_or_failed_is_asked_for_again() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let _held = one.acquire("k");
    let mut pages = cluster.locks(LockFilter::new());
    {
        let mut next = pin!(pages.next());
        assert!(now(next.as_mut()).is_none());
    }
    let page = one.run(pages.next()).unwrap().expect("the same page");
    assert_eq!(page.len(), 1);
    assert_eq!(one.run(pages.next()), Ok(None));

    let mut one = One::of(3);
    let mut pages = one.cluster.clone().locks(LockFilter::new());
    for _ in 0..2 {
        assert_eq!(one.run(pages.next()), Err(LockError::Timeout.into()));
    }
}

#[test]
fn a_look_at_one_lock_takes_as_many_answers_as_it_needs() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let read = |one: &mut One| one.run(cluster.read("d").acquire()).unwrap();
    let readers: Vec<LockGuard> = (0..30).map(|_| read(&mut one)).collect();
    let mut writers: Vec<_> = (0..30).map(|_| Box::pin(cluster.write("d").acquire())).collect();
    for writer in &mut writers {
        assert!(now(writer.as_mut()).is_none());
    }
    one.advance(Duration::from_millis(100));
    let info = one.run(cluster.lock_info("d")).unwrap().expect("it is held");
    assert_eq!((info.capacity, info.waiters.len()), (u32::MAX, 30));
    let held: Vec<_> = readers.iter().map(|guard| Some(guard.token())).collect();
    assert_eq!(info.holders.iter().map(|row| row.token).collect::<Vec<_>>(), held);
}

#[test]
fn a_look_shows_what_each_has_and_wants() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let _two = one.run(cluster.semaphore("s", 4).units(2).acquire()).unwrap();
    let mut waits = [3, 1].map(|units| Box::pin(cluster.semaphore("s", 4).units(units).acquire()));
    for wait in &mut waits {
        assert!(now(wait.as_mut()).is_none());
        one.advance(Duration::from_millis(100));
    }
    let info = one.run(cluster.lock_info("s")).unwrap().expect("it is held");
    let holder = &info.holders[0];
    assert_eq!((info.capacity, holder.units, holder.waiting), (4, 2, 2));
    assert_eq!(
        info.waiters.iter().map(|row| row.units).collect::<Vec<_>>(),
        [3, 1]
    );
}

#[test]
fn who_works_as_a_leader_shows_its_value() {
    let mut one = One::new();
    let cluster = one.cluster.clone();
    let asked = cluster.elect("boss");
    let election = cluster.elect("boss").value("a:1");
    let worked = election.run(|lease| async move { (lease.token(), asked.leader().await) });
    let (token, leader) = one.run(worked).unwrap();
    let leader = leader.unwrap().expect("somebody leads");
    assert_eq!(
        (&*leader.value, leader.token, leader.node),
        ("a:1", token, cluster.id())
    );
}
