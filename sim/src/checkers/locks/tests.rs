use super::*;
use crate::checkers::testing::{A, B, Panel, cluster, secs};
use crate::fault::{FaultKind, Host};
use crate::sim::Sim;
use quorate_core::{LockFilter, LockPage};

/// A cluster of three with an open group.
struct Watched(Sim);

impl Watched {
    fn new() -> Self {
        let mut sim = cluster();
        sim.run_for(secs(40));
        assert_eq!(sim.violations(), []);
        Self(sim)
    }

    /// Takes a lock in earnest; its id, and what the process was told.
    fn take(&mut self, node: NodeIndex, request: LockRequest) -> (LockId, Key, u64, Instant) {
        let id = self.0.with(node, |cx| cx.lock(request)).unwrap();
        self.0.run_for(Duration::from_millis(100));
        let told = self.0.events(node).iter().find_map(|(_, event)| match event {
            Event::Lock(LockEvent::Granted {
                id: of,
                key,
                token,
                until,
            }) if *of == id => Some((id, key.clone(), *token, *until)),
            _ => None,
        });
        told.expect("it is granted")
    }

    fn give_back(&mut self, node: NodeIndex, id: LockId) {
        self.0.with(node, |cx| cx.unlock(id)).unwrap();
        self.0.run_for(Duration::from_millis(100));
    }

    /// Pretends that a process asked for a lock.
    fn pretend(&mut self, node: NodeIndex, request: LockRequest, id: LockId) {
        self.command(
            node,
            &Command::Lock {
                request,
                result: Ok(id),
            },
        );
        assert_eq!(self.0.violations(), []);
    }

    fn command(&mut self, node: NodeIndex, command: &Command) {
        self.0.see(&Seen::Command { node, command });
    }

    fn tell(&mut self, node: NodeIndex, event: LockEvent) {
        let event = &Event::Lock(event);
        self.0.see(&Seen::Event { node, event });
    }

    #[track_caller]
    fn objected(&self, what: &str) {
        // Others may object as well to what cannot be.
        let mut violations = self.0.violations().iter();
        let violation = violations.find(|violation| violation.by == "locks");
        let violation = violation.expect("it must object");
        assert!(violation.what.contains(what), "{violation}");
    }

    #[track_caller]
    fn tell_objects(mut self, node: NodeIndex, event: LockEvent, what: &str) {
        self.tell(node, event);
        self.objected(what);
    }

    /// Asks the rules about what the checker knows.
    fn judge<T>(&self, ask: impl FnOnce(&Judge<'_>, &Locks) -> T) -> T {
        let locks = self.0.observer::<Locks>().expect("it is among the checkers");
        let consensus = locks.consensus.borrow();
        ask(&Judge::new(self.0.world(), &consensus), locks)
    }

    fn belief(&self, node: NodeIndex, id: LockId) -> Belief {
        self.judge(|_, locks| locks.clients[&node].held[&id].clone())
    }
}

fn a() -> LockRequest {
    LockRequest::new("a")
}

#[track_caller]
fn objection(told: Result<(), String>, what: &str) {
    let objection = told.expect_err("it must object");
    assert!(objection.contains(what), "{objection}");
}

/// Ids that the first process never gave: those of the second.
fn strange_ids(watched: &mut Watched) -> [LockId; 3] {
    [(); 3].map(|()| {
        let (id, ..) = watched.take(B, LockRequest::new("of b"));
        watched.give_back(B, id);
        id
    })
}

#[test]
fn what_is_accepted_and_refused() {
    let cases = [
        a().ttl(secs(31)),
        a().ttl(Duration::from_millis(999)),
        LockRequest::units("a", 3, 2),
        LockRequest::units("a", 0, 2),
    ];
    for request in cases {
        let mut watched = Watched::new();
        let [id, ..] = strange_ids(&mut watched);
        watched.command(
            A,
            &Command::Lock {
                request,
                result: Ok(id),
            },
        );
        watched.objected("may ask for");
    }
    let mut watched = Watched::new();
    let [id, ..] = strange_ids(&mut watched);
    watched.pretend(A, a().wait(secs(3)), id);
    let request = a();
    watched.command(
        A,
        &Command::Lock {
            request,
            result: Ok(id),
        },
    );
    watched.objected("twice");
}

#[test]
fn outcomes_that_nobody_asked_for_or_twice() {
    for again in 0..2 {
        let mut watched = Watched::new();
        let (id, key, token, until) = watched.take(A, a());
        let event = match again {
            0 => LockEvent::Granted {
                id,
                key,
                token,
                until,
            },
            _ => LockEvent::Failed {
                id,
                error: LockError::Timeout,
            },
        };
        watched.tell_objects(A, event, "which it did not ask for or knows already");
    }
}

#[test]
fn grants_that_are_not_what_was_asked_for() {
    type Spoil = fn(Instant, &mut LockRequest, &mut u64, &mut Instant);
    let cases: [(Spoil, &str); 6] = [
        (|clock, _, _, until| *until = clock, "may believe in a by token"),
        (
            |clock, _, _, until| *until = clock + secs(16),
            "may believe in a by token",
        ),
        (
            |_, request, _, _| *request = LockRequest::new("b"),
            "may believe in a by token",
        ),
        (|_, _, token, _| *token += 1, "which it was not granted"),
        (
            |_, request, _, _| *request = LockRequest::units("a", 1, 2),
            "is granted 1 of 1 of a",
        ),
        (|_, _, _, _| {}, "is told of twice"),
    ];
    for (spoil, what) in cases {
        let mut watched = Watched::new();
        let [id, ..] = strange_ids(&mut watched);
        let (_, key, mut token, _) = watched.take(A, a());
        let clock = watched.0.world().clock(Host(0));
        let (mut request, mut until) = (a(), clock + secs(5));
        spoil(clock, &mut request, &mut token, &mut until);
        watched.pretend(A, request, id);
        let granted = LockEvent::Granted {
            id,
            key,
            token,
            until,
        };
        watched.tell_objects(A, granted, what);
    }
}

#[test]
fn failures_that_cannot_be() {
    let wait = || a().wait(secs(10));
    let other = LockError::OtherCapacity(1);
    let taken = LockError::Taken {
        token: 1,
        owner: quorate_core::NodeId::from_bytes([1; 16]),
        left: secs(1),
        waiting: 0,
    };
    let cases = [
        (taken, wait(), secs(0)),
        (LockError::NotOpen, wait(), secs(0)),
        (LockError::TooManyWaiters(9), a(), secs(0)),
        (other, a(), secs(0)),
        (LockError::Leaving, a(), secs(0)),
        (
            LockError::Units {
                units: 1,
                capacity: 1,
            },
            a(),
            secs(0),
        ),
        (
            LockError::Ttl {
                ttl_ms: 20_000,
                max_ms: 10_000,
            },
            a(),
            secs(0),
        ),
        (LockError::UnknownId, a(), secs(0)),
    ];
    for (error, request, after) in cases {
        let mut watched = Watched::new();
        let [id, ..] = strange_ids(&mut watched);
        watched.pretend(A, request, id);
        watched.0.run_for(after);
        watched.tell_objects(A, LockEvent::Failed { id, error }, "which fails");
    }
    let mut watched = Watched::new();
    let [id, ..] = strange_ids(&mut watched);
    watched.pretend(A, wait(), id);
    let error = LockError::Cancelled;
    watched.tell_objects(A, LockEvent::Failed { id, error }, "and did not");
}

#[test]
fn requests_that_end_too_early_late_or_never() {
    let error = LockError::Timeout;
    // Without waiting as long as for a message.
    for (request, wait) in [(a().wait(secs(3)), 3), (a(), 5)] {
        for (after, fits) in [
            (wait * 1000 - 1, false),
            (wait * 1000, true),
            (wait * 1000 + 201, false),
        ] {
            let mut watched = Watched::new();
            let [id, ..] = strange_ids(&mut watched);
            watched.pretend(A, request.clone(), id);
            watched.0.run_for(Duration::from_millis(after));
            watched.tell(A, LockEvent::Failed { id, error });
            match fits {
                true => assert_eq!(watched.0.violations(), []),
                false => watched.objected(if after > wait * 1000 {
                    ""
                } else {
                    "it was to wait until"
                }),
            }
        }
        let mut watched = Watched::new();
        let [id, ..] = strange_ids(&mut watched);
        watched.pretend(A, request, id);
        watched.0.run_for(secs(wait + 2));
        watched.objected("has no outcome in its time");
    }
    let mut watched = Watched::new();
    let [id, ..] = strange_ids(&mut watched);
    watched.pretend(A, a().wait(secs(100)), id);
    let event = &Event::LeaveDone;
    watched.0.see(&Seen::Event { node: A, event });
    watched.objected("has no outcome");
}

#[test]
fn ends_of_what_is_not_held_or_was_not_given_back() {
    let mut watched = Watched::new();
    let [id, ..] = strange_ids(&mut watched);
    let until = watched.0.world().clock(Host(0)) + secs(1);
    let reason = LostReason::Expired;
    for event in [
        LockEvent::Renewed { id, until },
        LockEvent::AtRisk { id, until },
        LockEvent::Lost { id, token: 1, reason },
        LockEvent::Released { id },
    ] {
        let mut watched = Watched::new();
        strange_ids(&mut watched);
        watched.tell_objects(A, event, "which it does not hold");
    }
    let mut watched = Watched::new();
    let (id, .., token, _) = watched.take(A, a());
    let token = token + 1;
    watched.tell_objects(A, LockEvent::Lost { id, token, reason }, "and has it with token");
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, a());
    watched.tell_objects(A, LockEvent::Released { id }, "and did not");
    let mut watched = Watched::new();
    let [id, ..] = strange_ids(&mut watched);
    let unlock = Command::Unlock { id, result: Ok(()) };
    watched.command(A, &unlock);
    watched.objected("which it does not have");
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, a());
    watched.command(A, &Command::Unlock { id, result: Ok(()) });
    watched.0.run_for(secs(1));
    watched.objected("and is not told so");
    let mut watched = Watched::new();
    let (id, _, token, _) = watched.take(A, a());
    watched.command(A, &Command::Unlock { id, result: Ok(()) });
    let reason = LostReason::Expired;
    watched.tell_objects(
        A,
        LockEvent::Lost { id, token, reason },
        "told that it was lost, though it had it",
    );
}

#[test]
fn renewals_that_revive_or_shorten_or_last_too_long() {
    let renew = |watched: &Watched, id, by: Duration| LockEvent::Renewed {
        id,
        until: watched.belief(A, id).until + by,
    };
    for by in [secs(0), secs(20)] {
        let mut watched = Watched::new();
        let (id, ..) = watched.take(A, a());
        let event = renew(&watched, id, by);
        watched.tell_objects(A, event, "the longest ttl it wanted");
    }
    // As far as the checker knows, the lease ends at once.
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, a());
    let ttl = Duration::ZERO;
    let result = Ok(());
    watched.command(A, &Command::SetLockTtl { id, ttl, result });
    let event = renew(&watched, id, secs(1));
    watched.tell_objects(A, event, "the longest ttl it wanted");
    // What was to be told before a shorter lease was set tells of that one.
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, a());
    let ttl = secs(1);
    watched.command(A, &Command::SetLockTtl { id, ttl, result });
    let event = renew(&watched, id, secs(0));
    watched.tell(A, event.clone());
    watched.tell(A, event);
    // A longer one changes nothing.
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, a());
    let ttl = watched.belief(A, id).ttl + secs(1);
    watched.command(A, &Command::SetLockTtl { id, ttl, result });
    let event = renew(&watched, id, secs(0));
    watched.tell_objects(A, event, "the longest ttl it wanted");
}

#[test]
fn changes_of_what_is_not_watched() {
    let mut watched = Watched::new();
    let [id, ..] = strange_ids(&mut watched);
    watched.tell_objects(A, LockEvent::Changed { id }, "which it does not watch");

    // What is watched is told of, and no more once that has ended.
    let mut watched = Watched::new();
    let [id, ..] = strange_ids(&mut watched);
    watched.command(A, &Command::WatchLock { result: Ok(id) });
    watched.tell(A, LockEvent::Changed { id });
    let result = Ok(());
    watched.command(A, &Command::Unlock { id, result });
    watched.tell_objects(A, LockEvent::Changed { id }, "which it does not watch");
}

#[test]
fn a_lease_that_ends_untold() {
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, a());
    let ttl = secs(1);
    let result = Ok(());
    watched.command(A, &Command::SetLockTtl { id, ttl, result });
    watched.0.run_for(Duration::from_millis(1_100));
    assert_eq!(watched.0.violations(), []);
    watched.0.run_for(secs(2));
    watched.objected("is not told that its lease of a is over");
}

/// Two beliefs in one lock, the second of which nobody was told of.
fn two(request: LockRequest) -> (Watched, Belief, Belief) {
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, request);
    let first = watched.belief(A, id);
    let second = Belief {
        node: B,
        token: first.token + 1,
        ..first.clone()
    };
    (watched, first, second)
}

#[test]
fn two_who_believe_in_one_lock() {
    let check = |watched: &Watched, first: &Belief, second: &Belief| {
        watched.judge(|judge, _| judge.check_alone(second, [first].into_iter()))
    };
    let (mut watched, first, second) = two(a());
    objection(check(&watched, &first, &second), "and so does process 0");
    // Of another lock, or over.
    let key = Key::new("b").unwrap();
    assert_eq!(check(&watched, &Belief { key, ..first.clone() }, &second), Ok(()));
    let until = watched.0.world().clock(Host(0));
    assert_eq!(
        check(
            &watched,
            &Belief {
                until,
                ..first.clone()
            },
            &second
        ),
        Ok(())
    );
    // A clock that is wrong promises nothing, whoever's it is.
    for host in [Host(0), Host(1)] {
        let (mut watched, first, second) = two(a());
        let kind = FaultKind::Freeze { host };
        watched.0.see(&Seen::FaultBegan { number: 0, kind });
        assert_eq!(check(&watched, &first, &second), Ok(()));
    }
    // Neither does one that was: for as long as any lease.
    let kind = FaultKind::Freeze { host: Host(0) };
    watched.0.see(&Seen::FaultBegan { number: 0, kind });
    watched.0.see(&Seen::FaultEnded { number: 0 });
    watched.0.run_for(secs(30));
    let until = watched.0.world().clock(Host(0)) + secs(5);
    let (first, second) = (Belief { until, ..first }, Belief { until, ..second });
    assert_eq!(check(&watched, &first, &second), Ok(()));
    watched.0.run_for(secs(8));
    let until = watched.0.world().clock(Host(0)) + secs(5);
    let (first, second) = (Belief { until, ..first }, Belief { until, ..second });
    objection(check(&watched, &first, &second), "and so does process 0");
    // Those who share it.
    let (watched, first, second) = two(LockRequest::read("a"));
    assert_eq!(check(&watched, &first, &second), Ok(()));
    let writer = Belief {
        units: u32::MAX,
        ..second
    };
    objection(check(&watched, &first, &writer), "and so does process 0");
    let (watched, first, second) = two(LockRequest::units("a", 2, 4));
    assert_eq!(check(&watched, &first, &second), Ok(()));
    let more = Belief { units: 3, ..second };
    objection(check(&watched, &first, &more), "5 units of 4");
}

#[test]
fn tokens_that_do_not_rise() {
    let check = |watched: &Watched, belief: &Belief, before: &Belief, alone: bool| {
        let begun = (before.clone(), alone.then(|| before.clone()));
        watched.judge(|judge, _| judge.check_order(belief, Some(&begun)))
    };
    let (watched, first, second) = two(a());
    assert_eq!(check(&watched, &second, &first, true), Ok(()));
    objection(
        check(&watched, &first, &second, true),
        "after somebody did by token",
    );
    // Who shares a lock comes in any order, but not after somebody who has it alone.
    let shares = |belief: &Belief| Belief {
        capacity: 9,
        ..belief.clone()
    };
    assert_eq!(check(&watched, &shares(&first), &shares(&second), false), Ok(()));
    objection(
        check(&watched, &shares(&first), &second, true),
        "after somebody did",
    );
    objection(
        check(&watched, &first, &shares(&second), false),
        "after somebody did",
    );
}

#[test]
fn beliefs_that_the_leader_does_not_know_of() {
    let (watched, first, second) = two(a());
    let check = |belief: &Belief| {
        watched.judge(|judge, _| {
            let mut leaders = watched.0.world().processes().filter_map(|(index, process)| {
                let replica = serving(process)?;
                Some(judge.check_served(index, replica, [belief].into_iter()))
            });
            leaders.next().expect("somebody leads")
        })
    };
    assert_eq!(check(&first), Ok(()));
    let until = first.until + secs(1);
    let longer = Belief {
        until,
        ..first.clone()
    };
    objection(check(&longer), "takes the lease for over at Some");
    objection(check(&second), "takes the lease for over at None");
    let until = Instant::ZERO;
    assert_eq!(check(&Belief { until, ..second }), Ok(()));
}

#[test]
fn a_resource_goes_by_tokens() {
    let (watched, first, second) = two(a());
    let tally = Tally::default();
    watched.judge(|judge, _| {
        let mut resources = Resources::new();
        assert_eq!(resources.write(judge, &first, &tally), Ok(()));
        // Nothing granted this one, so that it comes before the first.
        objection(
            resources.write(judge, &second, &tally),
            "after one with a later grant",
        );
        let mut resources = Resources::new();
        assert_eq!(resources.write(judge, &second, &tally), Ok(()));
        objection(
            resources.write(judge, &first, &tally),
            "is refused, which it believes in",
        );
        let until = Instant::ZERO;
        let over = Belief {
            until,
            ..first.clone()
        };
        assert_eq!(resources.write(judge, &over, &tally), Ok(()));
    });
}

#[test]
fn a_lock_that_was_given_back_is_used_by_mistake() {
    let mut watched = Watched::new();
    let (id, ..) = watched.take(A, a());
    let first = watched.belief(A, id);
    watched.give_back(A, id);
    let (id, ..) = watched.take(B, a());
    let second = watched.belief(B, id);
    let tally = Tally::default();
    watched.judge(|judge, _| {
        let mut resources = Resources::new();
        assert_eq!(resources.write(judge, &first, &tally), Ok(()));
        assert_eq!(resources.write(judge, &second, &tally), Ok(()));
        assert_eq!(resources.write_late(judge, A, &tally), Ok(()));
        objection(
            resources.write(judge, &first, &tally),
            "is refused, which it believes in",
        );
    });
}

#[test]
fn a_lock_that_nobody_has() {
    let mut watched = Watched::new();
    // A panel that sees nothing of it.
    let mut panel = Panel::new(&watched.0);
    watched.take(A, a());
    watched.0.run_for(secs(60));
    panel.objects_at_the_end(&watched.0, "locks", "which nobody holds or waits for");
    // The cluster's own checkers know who has it.
    watched.0.finish();
    assert_eq!(watched.0.violations(), []);
}

#[test]
fn beliefs_of_a_life_that_is_over() {
    let (watched, first, _) = two(a());
    let check = |belief: &Belief| watched.judge(|judge, _| judge.check_life(A, [belief].into_iter()));
    assert_eq!(check(&first), Ok(()));
    let life = Life::first(watched.0.id(B));
    let other = Belief {
        life,
        ..first.clone()
    };
    objection(check(&other), "has abandoned its group");
    let until = Instant::ZERO;
    assert_eq!(check(&Belief { until, ..other }), Ok(()));
}

/// Lets a lock go from hand to hand, so often that the leader also hears last from somebody else than who gets it.
#[cfg(feature = "planted-bugs")]
fn handed_over(bug: Option<quorate_core::PlantedBug>) -> Watched {
    let mut watched = Watched::new();
    let _planted = quorate_core::plant(bug);
    for round in 0..60 {
        let nodes = [round % 3, (round + 1) % 3].map(NodeIndex);
        let ids = nodes.map(|node| {
            let request = a().wait(secs(9));
            (node, watched.0.with(node, |cx| cx.lock(request)).unwrap())
        });
        for (node, id) in ids {
            watched.0.run_for(Duration::from_millis(50));
            let _ = watched.0.with(node, |cx| cx.unlock(id));
        }
        watched.0.run_for(Duration::from_millis(50));
    }
    watched
}

#[cfg(feature = "planted-bugs")]
#[test]
fn what_is_granted_from_the_queue_is_short_at_first() {
    assert_eq!(handed_over(None).0.violations(), []);
    let watched = handed_over(Some(quorate_core::PlantedBug::WholeLeaseFromTheQueue));
    watched.objected("from the queue, and waits for its holder until");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_lock_that_is_free_and_goes_to_nobody() {
    for (bug, fits) in [
        (None, true),
        (Some(quorate_core::PlantedBug::SilentWaitersStay), false),
    ] {
        let mut watched = Watched::new();
        let _planted = quorate_core::plant(bug);
        let (id, ..) = watched.take(A, a());
        watched.0.with(B, |cx| cx.lock(a().wait(secs(99)))).unwrap();
        watched.0.run_for(secs(1));
        watched.0.crash(B);
        watched.0.heal();
        // Who was heard of just now would get it.
        watched.0.run_for(secs(5));
        watched.give_back(A, id);
        watched.0.run_for(secs(30));
        match fits {
            true => assert_eq!(watched.0.violations(), []),
            false => watched.objected("and it does not get it"),
        }
    }
}

#[test]
fn questions_that_are_answered_wrongly_twice_or_never() {
    let list = |watched: &mut Watched, id| watched.command(A, &Command::ListLocks { result: Ok(id) });
    let page = LockPage::default;
    let taken = true;
    type Ask = fn(&mut Watched, LockId);
    let revoke: Ask = |watched, id| {
        let (token, at_once, result) = (7, false, Ok(id));
        let command = Command::RevokeLock {
            token,
            at_once,
            result,
        };
        watched.command(A, &command);
    };
    let asked = |ask: &dyn Fn(&mut Watched, LockId)| {
        let mut watched = Watched::new();
        let [id, ..] = strange_ids(&mut watched);
        ask(&mut watched, id);
        assert_eq!(watched.0.violations(), []);
        (watched, id)
    };
    // Whoever has given it up is told so, and nobody else.
    let error = LockError::Cancelled;
    let (watched, id) = asked(&list);
    watched.tell_objects(A, LockEvent::Failed { id, error }, "has not given up");
    let (mut watched, id) = asked(&list);
    let result = Ok(());
    watched.command(A, &Command::Unlock { id, result });
    watched.tell(A, LockEvent::Failed { id, error });
    watched.tell_objects(A, LockEvent::Listed { id, page: page() }, "which it did not ask");
    let (watched, id) = asked(&list);
    watched.tell_objects(A, LockEvent::Taken { id, taken }, "asked for a listing");
    let (watched, id) = asked(&revoke);
    watched.tell_objects(A, LockEvent::Listed { id, page: page() }, "and did not ask");
    let (watched, id) = asked(&|_, _| {});
    watched.tell_objects(A, LockEvent::Listed { id, page: page() }, "which it did not ask");
    let (mut watched, id) = asked(&list);
    watched.tell(A, LockEvent::Listed { id, page: page() });
    watched.tell_objects(A, LockEvent::Listed { id, page: page() }, "which it did not ask");
    let (watched, id) = asked(&revoke);
    let error = LockError::Timeout;
    watched.tell_objects(A, LockEvent::Failed { id, error }, "and is told at");
    let (mut watched, _) = asked(&list);
    watched.0.run_for(secs(7));
    watched.objected("has no answer in its time");
}

#[test]
fn a_listing_of_what_is_over() {
    let mut watched = Watched::new();
    let (held, ..) = watched.take(A, a());
    let id = watched
        .0
        .with(A, |cx| cx.list_locks(LockFilter::new(), None))
        .unwrap();
    watched.0.run_for(secs(1));
    let page = watched.0.events(A).iter().find_map(|(_, event)| match event {
        Event::Lock(LockEvent::Listed { id: of, page }) if *of == id => Some(page.clone()),
        _ => None,
    });
    let page = page.expect("it is answered");
    assert_eq!(page.rows.len(), 1);
    watched.give_back(A, held);
    let [id, ..] = strange_ids(&mut watched);
    watched.command(A, &Command::ListLocks { result: Ok(id) });
    watched.tell_objects(A, LockEvent::Listed { id, page }, "which had ended");
}

#[test]
fn a_lock_that_is_taken_at_once_may_have_two_holders() {
    let mut watched = Watched::new();
    let (.., token, _) = watched.take(A, a());
    // It does not hear of it.
    watched.0.cut(A, B);
    watched.0.cut(A, NodeIndex(2));
    let at_once = true;
    watched.0.with(B, |cx| cx.revoke_lock(token, at_once)).unwrap();
    watched.0.run_for(secs(3));
    let id = watched.0.with(B, |cx| cx.lock(a().wait(secs(9)))).unwrap();
    watched.0.run_for(secs(1));
    assert_eq!(watched.0.violations(), []);
    let granted = watched
        .0
        .events(B)
        .iter()
        .any(|(_, event)| matches!(event, Event::Lock(LockEvent::Granted { id: of, .. }) if *of == id));
    let locks = |watched: &Watched| watched.judge(|_, locks| locks.clients[&A].held.len());
    assert!(granted && locks(&watched) == 1, "both believe in it");
}
