//! Tests of answers that are late, early or another group's, and of what is told again.

use super::*;
use crate::locks::client::endings::MAX_ENDINGS;

fn other_group() -> Group {
    Group {
        founder: life(2),
        founding: 1,
    }
}

#[test]
fn nothing_counts_from_before_it_was_asked_for_or_from_the_future() {
    let mut client = client();
    client.acquire(at(100), wish(10_000), None).unwrap();
    timeout(&mut client, 100);
    for stamp in [50, 201] {
        assert_eq!(answered(&mut client, 200, &granted(stamp, 10_000)), []);
    }
    assert_eq!(answered(&mut client, 200, &granted(100, 3000)).len(), 1);
    assert_eq!(answered(&mut client, 200, &renewed(50, 10_000)), []);
    assert_eq!(until(&client), Some(100 + 2970));
}

#[test]
fn what_a_life_asked_for_is_not_granted_to_the_next() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    client.end_life(at(1000), LostReason::Abandoned, &mut ClientOutput::default());
    let late = Answer::Granted {
        request: 2,
        token: 101,
        stamp: 500_000_000,
        lease: 10_000,
    };
    assert_eq!(answered(&mut client, 1000, &late), []);
    assert_eq!(client.held().count(), 0);
}

#[test]
fn another_group_says_nothing_of_what_is_held() {
    let (mut client, _) = holder();
    for answer in [renewed(3000, 10_000), gone(101, false)] {
        let mut out = ClientOutput::default();
        client.answered(at(4000), other_group(), &answer, &mut out);
        assert_eq!(out, ClientOutput::default());
    }
    assert_eq!(until(&client), Some(9900));
}

#[test]
fn a_longer_lease_is_asked_for_until_it_is_agreed_on() {
    let (mut client, id) = holder();
    client.set_ttl(at(100), id, 20_000).unwrap();
    timeout(&mut client, 100);
    // This one was under way before.
    answered(&mut client, 200, &renewed(99, 10_000));
    let next = client.poll_timeout().unwrap();
    let mut out = ClientOutput::default();
    client.handle_timeout(next, &mut out);
    assert!(matches!(out.asks[..], [Ask::Raise { ttl: 20_000, .. }]));
}

#[test]
fn who_waits_also_waits_for_the_group_to_open() {
    for wait in [true, false] {
        let mut client = client();
        let wish = Wish { wait, ..wish(10_000) };
        client.acquire(at(0), wish, None).unwrap();
        timeout(&mut client, 0);
        let (request, why) = (1, Denial::NotOpen);
        let events = answered(&mut client, 10, &Answer::Denied { request, why });
        assert_eq!(
            (events.len(), client.wanted()),
            if wait { (0, 1) } else { (1, 0) }
        );
        let later = client.poll_timeout();
        assert!(later.is_none_or(|later| later > at(10)));
    }
}

/// A client that has given a lock back, and one up, and heard nothing of it.
fn ending() -> Client {
    let (mut client, held) = holder();
    let wanted = client.acquire(at(60), wish(10_000), None).unwrap();
    timeout(&mut client, 60);
    for id in [held, wanted] {
        client.release(at(100), id, &mut ClientOutput::default()).unwrap();
    }
    assert_eq!(timeout(&mut client, 100).asks.len(), 2);
    client
}

#[test]
fn endings_are_told_until_they_are_heard() {
    let mut heard = ending();
    assert!(heard.poll_timeout().is_some());
    answered(&mut heard, 200, &Answer::Released { tokens: vec![101] });
    answered(&mut heard, 200, &Answer::Cancelled { request: 2 });
    assert_eq!(heard.poll_timeout(), None);

    // Whoever leads next promises a lease anew, also for what was granted and never heard of.
    let mut unheard = ending();
    unheard.set_leader(at(100), None);
    while let Some(next) = unheard.poll_timeout().filter(|&next| next < at(60_000)) {
        unheard.handle_timeout(next, &mut ClientOutput::default());
    }
    unheard.set_leader(at(60_000), Some((group(), life(2))));
    let (tokens, request, floor) = (vec![101], 2, 2);
    let release = Ask::Release { tokens };
    assert_eq!(
        timeout(&mut unheard, 60_000).asks,
        [release, Ask::Cancel { request, floor }]
    );

    // A new leader hears of them at once; another life has nothing to say of them.
    let mut told = ending();
    told.set_leader(at(150), Some((group(), life(2))));
    assert_eq!(timeout(&mut told, 150).asks.len(), 2);
    let mut ended = ending();
    ended.end_life(at(150), LostReason::Abandoned, &mut ClientOutput::default());
    assert_eq!(ended.poll_timeout(), None);
}

#[test]
fn endings_are_bounded() {
    let mut client = client();
    let cancels = usize::try_from(MAX_OPEN).unwrap();
    for token in 0..MAX_ENDINGS as u64 + 10 {
        let id = client.acquire(at(0), wish(10_000), None).unwrap();
        timeout(&mut client, 0);
        client.release(at(0), id, &mut ClientOutput::default()).unwrap();
        // Nobody wants what this grants.
        let stale = Answer::Granted {
            request: 1,
            token,
            stamp: 0,
            lease: 10_000,
        };
        answered(&mut client, 0, &stale);
    }
    assert_eq!(
        (client.cancels.len(), client.releases.len()),
        (cancels, MAX_ENDINGS)
    );
}

#[test]
fn it_is_at_risk_each_time_that_renewals_stop() {
    let (mut client, id) = holder();
    answered(&mut client, 5000, &renewed(5000, 10_000));
    let mut risks = Vec::new();
    let mut now = 5000;
    let mut run = |client: &mut Client, end: u64| {
        while now < end {
            now += 100;
            risks.extend(timeout(client, now).events);
        }
        risks.clone()
    };
    assert_eq!(run(&mut client, 11_600), []);
    let risk = |until| LockEvent::AtRisk { id, until: at(until) };
    assert_eq!(run(&mut client, 12_000), [risk(14_900)]);
    answered(&mut client, 12_000, &renewed(12_000, 10_000));
    assert_eq!(run(&mut client, 19_000), [risk(14_900), risk(21_900)]);
}

#[test]
fn many_locks_are_renewed_in_messages_that_fit() {
    let mut client = client();
    for token in 1..=2 * MAX_LIST as u64 + 1 {
        client.acquire(at(0), wish(10_000), None).unwrap();
        let answer = Answer::Granted {
            request: token,
            token,
            stamp: 0,
            lease: 10_000,
        };
        assert_eq!(answered(&mut client, 0, &answer).len(), 1);
    }
    let asks = timeout(&mut client, 3333).asks;
    let lens: Vec<usize> = asks
        .iter()
        .map(|ask| match ask {
            Ask::Renew { tokens, .. } => tokens.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(lens, [MAX_LIST, MAX_LIST, 1]);
}

#[test]
fn who_leaves_waits_for_nothing() {
    let mut client = client();
    let id = client.acquire(at(0), wish(10_000), None).unwrap();
    let list = client.list(at(0), LockFilter::new(), None, at(5000)).unwrap();
    timeout(&mut client, 0);
    let mut out = ClientOutput::default();
    client.leave(at(10), &mut out);
    let failed = |id| LockEvent::Failed {
        id,
        error: LockError::Leaving,
    };
    assert_eq!(out.events, [failed(id), failed(list)]);
    assert_eq!(client.wanted(), 0);
    assert!(matches!(
        timeout(&mut client, 10).asks[..],
        [Ask::Cancel { request: 1, .. }]
    ));
}

#[test]
fn what_was_never_sent_is_not_cancelled() {
    let mut client = client();
    let id = client.acquire(at(0), wish(10_000), None).unwrap();
    client.release(at(0), id, &mut ClientOutput::default()).unwrap();
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(timeout(&mut client, 0), ClientOutput::default());
}

#[test]
fn whom_the_cluster_takes_nothing_from_tells_and_wants_nothing() {
    let (mut client, held) = holder();
    let given_up = client.acquire(at(60), wish(10_000), None).unwrap();
    let wanted = client.acquire(at(60), wish(10_000), None).unwrap();
    timeout(&mut client, 60);
    client
        .release(at(70), given_up, &mut ClientOutput::default())
        .unwrap();
    let list = client.list(at(80), LockFilter::new(), None, at(5000)).unwrap();
    let watch = client.watch(at(80), Key::new("a").unwrap()).unwrap();
    let mut out = ClientOutput::default();
    client.bar(at(90), &mut out);
    let (id, token, reason) = (held, 101, LostReason::Abandoned);
    let failed = |id| LockEvent::Failed {
        id,
        error: LockError::Observer,
    };
    let lost = LockEvent::Lost { id, token, reason };
    let look = LockEvent::Changed { id: watch };
    assert_eq!(out.events, [lost, failed(wanted), failed(list), look]);
    assert_eq!((client.wanted(), client.held().count()), (0, 0));
    assert_eq!(out.asks, []);
    let asks = timeout(&mut client, 5000).asks;
    assert!(matches!(asks[..], [Ask::Watch { .. }]), "{asks:?}");
}

/// The leader refuses numbers that are too far above what is over.
#[test]
fn what_is_far_above_what_is_not_over_is_asked_for_when_that_was_heard() {
    let mut client = client();
    let id = client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    client.set_leader(at(10), None);
    client.release(at(10), id, &mut ClientOutput::default()).unwrap();
    for _ in 0..MAX_OPEN - 1 {
        let id = client.acquire(at(20), wish(10_000), None).unwrap();
        client.release(at(20), id, &mut ClientOutput::default()).unwrap();
    }
    client.acquire(at(20), wish(10_000), None).unwrap();
    client.set_leader(at(30), Some((group(), life(2))));
    let mut asks = timeout(&mut client, 50).asks;
    assert!(
        matches!(asks[..], [Ask::Cancel { request: 1, floor: 1 }]),
        "{asks:?}"
    );
    answered(&mut client, 60, &Answer::Cancelled { request: 1 });
    let next = client.poll_timeout().unwrap();
    assert!(next <= at(50) + ASK_AGAIN, "{next:?}");
    let mut out = ClientOutput::default();
    client.handle_timeout(next, &mut out);
    asks = out.asks;
    let far = MAX_OPEN + 1;
    assert!(
        matches!(asks[..], [Ask::Acquire { request, floor, .. }] if (request, floor) == (far, far)),
        "{asks:?}"
    );
}

/// The acquire was refused, and a copy of it that was sent meanwhile is granted: nobody would ever use that.
#[test]
fn a_copy_of_what_was_refused_is_cancelled() {
    for copies in 1..=2 {
        let mut client = client();
        client.acquire(at(0), wish(10_000), None).unwrap();
        timeout(&mut client, 0);
        if copies == 2 {
            assert_eq!(timeout(&mut client, 200).asks.len(), 1);
        }
        let (request, why) = (1, Denial::TableFull);
        assert_eq!(
            answered(&mut client, 210, &Answer::Denied { request, why }).len(),
            1
        );
        let asks = timeout(&mut client, 210).asks;
        let cancelled = matches!(asks[..], [Ask::Cancel { request: 1, .. }]);
        assert_eq!(cancelled, copies == 2);
    }
}

#[test]
fn another_group_says_nothing_of_what_is_wanted() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    let request = 1;
    let why = Denial::TableFull;
    let denied = Answer::Denied { request, why };
    for answer in [denied, Answer::Queued { request }, Answer::Cancelled { request }] {
        let before = client.clone();
        let mut out = ClientOutput::default();
        client.answered(at(10), other_group(), &answer, &mut out);
        assert_eq!((&client, out), (&before, ClientOutput::default()));
    }
}

/// A lock is taken from a client that has not heard yet that it has it: it gives the lock back, and the grant comes after
/// that. Meanwhile somebody else may have it.
#[test]
fn a_grant_that_was_taken_before_it_was_heard_of_is_none() {
    for told in [100, 101] {
        let mut client = client();
        client.acquire(at(0), wish(10_000), None).unwrap();
        timeout(&mut client, 0);
        assert_eq!(answered(&mut client, 50, &gone(told, true)), []);
        let released = Answer::Released { tokens: vec![told] };
        assert_eq!(answered(&mut client, 60, &released), []);
        let events = answered(&mut client, 70, &granted(0, 10_000));
        assert_eq!(events.is_empty(), told == 101);
        assert_eq!(client.wanted(), usize::from(told == 101));
        if told == 101 {
            let asks = timeout(&mut client, 70).asks;
            assert!(matches!(
                asks[..],
                [Ask::Release { .. }, Ask::Acquire { request: 2, .. }]
            ));
        }
    }
}

/// Whoever gives a lock back and asks for it again does not wait for itself.
#[test]
fn what_is_given_back_is_told_before_what_is_asked_for_next() {
    let (mut client, held) = holder();
    let mut out = ClientOutput::default();
    client.release(at(60), held, &mut out).unwrap();
    client.acquire(at(60), wish(10_000), None).unwrap();
    let asks = timeout(&mut client, 60).asks;
    assert!(matches!(asks[..], [Ask::Release { .. }, Ask::Acquire { .. }]));
}

/// Words that were lost, or are late, are said again with what they are needed for.
#[test]
fn what_was_given_back_is_told_again_with_what_is_asked_for() {
    let mut client = ending();
    let other = Wish {
        key: Key::new("b").unwrap(),
        ..wish(10_000)
    };
    client.acquire(at(150), other, None).unwrap();
    assert!(matches!(
        timeout(&mut client, 150).asks[..],
        [Ask::Acquire { .. }]
    ));
    // One that will not wait would be refused because of itself.
    let wish = Wish {
        wait: false,
        ..wish(10_000)
    };
    client.acquire(at(160), wish, None).unwrap();
    for millis in [160, 360] {
        let asks = timeout(&mut client, millis).asks;
        let expected = matches!(
            asks[..],
            [Ask::Release { .. }, .., Ask::Acquire { request: 4, .. }]
        );
        assert!(expected, "{asks:?}");
    }
    // A new leader may take the ask and have dropped the release, or the other way round.
    client.set_leader(at(400), Some((group(), life(2))));
    assert_eq!(timeout(&mut client, 410).asks.len(), 4);
    answered(&mut client, 420, &Answer::Released { tokens: vec![101] });
    answered(&mut client, 420, &Answer::Cancelled { request: 2 });
    let asks = timeout(&mut client, 620).asks;
    assert!(
        asks.iter().all(|ask| matches!(ask, Ask::Acquire { .. })),
        "{asks:?}"
    );
}

/// The leader says again and again that a lock was taken, until it hears that its holder has stopped.
#[test]
fn a_lock_that_was_taken_is_given_back_with_what_is_asked_for() {
    let (mut client, _) = holder();
    assert_eq!(answered(&mut client, 100, &gone(101, true)).len(), 1);
    assert_eq!(answered(&mut client, 350, &gone(101, true)), []);
    timeout(&mut client, 350);
    client.acquire(at(360), wish(10_000), None).unwrap();
    let asks = timeout(&mut client, 360).asks;
    assert!(
        matches!(asks[..], [Ask::Release { .. }, Ask::Acquire { .. }]),
        "{asks:?}"
    );
}

#[test]
fn each_of_several_that_were_taken_before_they_were_heard_of_is_none() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    for token in [101, 102] {
        assert_eq!(answered(&mut client, 50, &gone(token, true)), []);
    }
    let tokens = vec![101, 102];
    answered(&mut client, 60, &Answer::Released { tokens });
    assert_eq!(answered(&mut client, 70, &granted(0, 10_000)), []);
    assert_eq!(client.held().count(), 0);
}

#[test]
fn who_waits_for_the_group_to_open_asks_at_least_each_second() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    let (request, why, mut now) = (1, Denial::NotOpen, 0);
    while now < 30_000 {
        assert_eq!(timeout(&mut client, now).asks.len(), 1);
        answered(&mut client, now + 1, &Answer::Denied { request, why });
        let next = client.poll_timeout().unwrap();
        assert!(next <= at(now + 1 + 1000), "{next:?}");
        now = next.as_nanos() / 1_000_000;
    }
}

#[test]
fn what_is_asked_for_anew_can_be_given_up() {
    let mut client = client();
    let id = client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    client.end_life(at(1000), LostReason::Abandoned, &mut ClientOutput::default());
    timeout(&mut client, 1000);
    let mut out = ClientOutput::default();
    client.release(at(1010), id, &mut out).unwrap();
    let error = LockError::Cancelled;
    assert_eq!(out.events, [LockEvent::Failed { id, error }]);
    assert_eq!(client.wanted(), 0);
    let asks = timeout(&mut client, 1010).asks;
    assert!(matches!(asks[..], [Ask::Cancel { request: 2, .. }]), "{asks:?}");
}

#[test]
fn a_shorter_lease_is_at_risk_before_it_is_lost() {
    let (mut client, id) = holder();
    let until = client.set_ttl(at(1000), id, 2000).unwrap();
    let mut told = Vec::new();
    while let Some(next) = client.poll_timeout().filter(|&next| next < until) {
        let mut out = ClientOutput::default();
        client.handle_timeout(next, &mut out);
        told.extend(out.events);
    }
    assert_eq!(told, [LockEvent::AtRisk { id, until }]);
}
