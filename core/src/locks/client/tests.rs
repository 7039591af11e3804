//! Tests of the client: what it believes, and until when.

mod late;
mod moving;

use super::*;
use crate::id::NodeId;
use crate::locks::ask::{Answer, Denial};
use crate::locks::list::LockFilter;
use alloc::vec;
use bytes::Bytes;

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn life(name: u8) -> Life {
    Life::first(NodeId::from_bytes([name; 16]))
}

fn group() -> Group {
    Group {
        founder: life(1),
        founding: 1,
    }
}

fn wish(ttl: u32) -> Wish {
    Wish {
        key: Key::new("a").unwrap(),
        units: 1,
        capacity: 1,
        priority: 0,
        wait: true,
        ttl,
        metadata: Bytes::new(),
    }
}

fn client() -> Client {
    let mut client = Client::default();
    client.adopt(30_000, 10, false);
    client.set_leader(at(0), Some((group(), life(1))));
    client
}

fn timeout(client: &mut Client, millis: u64) -> ClientOutput {
    let mut out = ClientOutput::default();
    client.handle_timeout(at(millis), &mut out);
    out
}

fn answered(client: &mut Client, millis: u64, answer: &Answer) -> Vec<LockEvent> {
    let mut out = ClientOutput::default();
    client.answered(at(millis), group(), answer, &mut out);
    assert_eq!(out.asks, []);
    out.events
}

const fn granted(stamp: u64, lease: u32) -> Answer {
    Answer::Granted {
        request: 1,
        token: 101,
        stamp: stamp * 1_000_000,
        lease,
    }
}

fn renewed(stamp: u64, lease: u32) -> Answer {
    Answer::Renewed {
        stamp: stamp * 1_000_000,
        leases: vec![(101, lease)],
    }
}

fn gone(token: u64, revoked: bool) -> Answer {
    Answer::Gone {
        tokens: vec![token],
        revoked,
    }
}

/// A client that holds token 101, asked for at 0, for 10 s.
fn holder() -> (Client, LockId) {
    let mut client = client();
    let id = client.acquire(at(0), wish(10_000), None).unwrap();
    assert_eq!(timeout(&mut client, 0).asks.len(), 1);
    let events = answered(&mut client, 50, &granted(0, 10_000));
    let until = at(9900);
    let key = Key::new("a").unwrap();
    assert_eq!(
        events,
        [LockEvent::Granted {
            id,
            key,
            token: 101,
            until
        }]
    );
    (client, id)
}

fn until(client: &Client) -> Option<u64> {
    let (_, _, _, until) = client.held().next()?;
    Some(until.as_nanos() / 1_000_000)
}

#[test]
fn a_lease_counts_from_the_stamp_and_for_no_longer_than_wanted() {
    let (mut client, id) = holder();
    // An answer to what was sent at 3 s, at 4 s.
    let events = answered(&mut client, 4000, &renewed(3000, 10_000));
    assert_eq!(
        events,
        [LockEvent::Renewed {
            id,
            until: at(12_900)
        }]
    );
    // Older answers, and one that names less, take nothing away; one that names more gives no more.
    assert_eq!(answered(&mut client, 4100, &renewed(2000, 10_000)), []);
    assert_eq!(answered(&mut client, 4100, &renewed(4050, 2000)), []);
    answered(&mut client, 5000, &renewed(5000, 30_000));
    assert_eq!(until(&client), Some(14_900));
    // What it never sent, it does not believe.
    assert_eq!(answered(&mut client, 5000, &renewed(5001, 10_000)), []);
}

/// An observer may have longer ones in its own settings, and not have heard yet what the group allows.
#[test]
fn too_long_a_lease_is_refused_with_the_limit_of_the_group() {
    let mut client = client();
    let id = client.acquire(at(0), wish(20_000), None).unwrap();
    timeout(&mut client, 0);
    let why = Denial::Ttl(15_000);
    let events = answered(&mut client, 10, &Answer::Denied { request: 1, why });
    let error = LockError::Ttl {
        ttl_ms: 20_000,
        max_ms: 15_000,
    };
    assert_eq!(events, [LockEvent::Failed { id, error }]);
}

#[test]
fn a_belief_that_is_over_does_not_come_back() {
    let (mut client, id) = holder();
    // It was paused: the answer is read before any timer has fired.
    assert_eq!(answered(&mut client, 9900, &renewed(5000, 10_000)), []);
    let out = timeout(&mut client, 9900);
    let (token, reason) = (101, LostReason::Expired);
    assert_eq!(out.events, [LockEvent::Lost { id, token, reason }]);
    // The group hears of it.
    let tokens = vec![101];
    assert_eq!(out.asks, [Ask::Release { tokens }]);
    assert_eq!(answered(&mut client, 9950, &renewed(9000, 10_000)), []);
}

#[test]
fn it_renews_in_time_and_says_when_that_does_not_work() {
    let (mut client, id) = holder();
    assert_eq!(client.poll_timeout(), Some(at(3333)));
    let out = timeout(&mut client, 3333);
    let (stamp, tokens) = (3_333_000_000, vec![101]);
    assert_eq!(out.asks, [Ask::Renew { stamp, tokens }]);
    let mut told = Vec::new();
    while let Some(next) = client.poll_timeout()
        && next < at(9900)
    {
        let mut out = ClientOutput::default();
        client.handle_timeout(next, &mut out);
        told.extend(out.events);
    }
    let until = at(9900);
    assert_eq!(told, [LockEvent::AtRisk { id, until }]);
}

#[test]
fn a_grant_that_comes_too_late_is_not_believed_and_the_next_one_is() {
    let mut client = client();
    client.acquire(at(0), wish(1000), None).unwrap();
    timeout(&mut client, 0);
    assert_eq!(answered(&mut client, 990, &granted(0, 1000)), []);
    assert!(client.held().next().is_none());
    assert_eq!(answered(&mut client, 1100, &granted(1050, 1000)).len(), 1);
}

#[test]
fn what_nobody_wants_any_more_is_given_back() {
    let mut client = client();
    let id = client.acquire(at(0), wish(10_000), Some(at(500))).unwrap();
    timeout(&mut client, 0);
    let out = timeout(&mut client, 500);
    let error = LockError::Timeout;
    assert_eq!(out.events, [LockEvent::Failed { id, error }]);
    assert!(out.asks.contains(&Ask::Cancel { request: 1, floor: 1 }));
    // The grant was under way.
    assert_eq!(answered(&mut client, 510, &granted(0, 10_000)), []);
    let tokens = vec![101];
    assert!(timeout(&mut client, 510).asks.contains(&Ask::Release { tokens }));
}

#[test]
fn a_lock_from_the_queue_is_renewed_at_once() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    answered(&mut client, 10, &Answer::Queued { request: 1 });
    // It says that it waits, in a word.
    let stamp = 1_010_000_000;
    let requests = vec![1];
    assert_eq!(timeout(&mut client, 1010).asks, [Ask::Wait { stamp, requests }]);
    answered(&mut client, 1500, &granted(1010, 3000));
    assert_eq!(until(&client), Some(1010 + 2970));
    assert_eq!(client.poll_timeout(), Some(at(1500)));
    assert!(matches!(timeout(&mut client, 1500).asks[..], [Ask::Renew { .. }]));
}

#[test]
fn belief_ends_before_anything_is_said() {
    let (mut released, id) = holder();
    let mut out = ClientOutput::default();
    released.release(at(100), id, &mut out).unwrap();
    assert_eq!((released.held().count(), out.asks.len()), (0, 0));
    assert_eq!(out.events, [LockEvent::Released { id }]);
    assert!(matches!(
        timeout(&mut released, 100).asks[..],
        [Ask::Release { .. }]
    ));
    assert_eq!(released.release(at(100), id, &mut out), Err(LockError::UnknownId));

    let (mut left, id) = holder();
    let mut out = ClientOutput::default();
    left.leave(at(100), &mut out);
    let (token, reason) = (101, LostReason::Leaving);
    assert_eq!(out.events, [LockEvent::Lost { id, token, reason }]);
    assert_eq!(left.held().count(), 0);

    let (mut abandoned, id) = holder();
    let mut out = ClientOutput::default();
    abandoned.end_life(at(100), LostReason::Abandoned, &mut out);
    let reason = LostReason::Abandoned;
    assert_eq!(out.events, [LockEvent::Lost { id, token, reason }]);
    // To another group it says nothing of tokens that it does not know.
    assert_eq!(timeout(&mut abandoned, 100).asks, []);
}

#[test]
fn a_lock_that_was_taken_is_lost_and_the_group_hears_when() {
    let (mut client, id) = holder();
    let (token, reason) = (101, LostReason::Revoked);
    assert_eq!(
        answered(&mut client, 100, &gone(101, true)),
        [LockEvent::Lost { id, token, reason }]
    );
    let tokens = vec![101];
    assert_eq!(timeout(&mut client, 100).asks, [Ask::Release { tokens }]);
}

#[test]
fn who_was_taken_for_gone_asks_anew() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    answered(&mut client, 10, &Answer::Cancelled { request: 1 });
    let asks = timeout(&mut client, 10).asks;
    assert!(matches!(asks[..], [Ask::Acquire { request: 2, .. }]));
}

#[test]
fn a_shorter_lease_counts_at_once_and_a_longer_one_when_it_is_agreed_on() {
    let (mut client, id) = holder();
    client.set_ttl(at(1000), id, 2000).unwrap();
    assert_eq!(until(&client), Some(1000 + 1980));
    client.set_ttl(at(1100), id, 20_000).unwrap();
    assert_eq!(until(&client), Some(1000 + 1980));
    let stamp = 1_100_000_000;
    let (token, ttl) = (101, 20_000);
    assert_eq!(
        timeout(&mut client, 1100).asks,
        [Ask::Raise { stamp, token, ttl }]
    );
    answered(&mut client, 1200, &renewed(1100, 20_000));
    assert_eq!(until(&client), Some(1100 + 19_800));
    assert!(client.set_ttl(at(1300), id, 999).is_err() && client.set_ttl(at(1300), id, 30_001).is_err());
}

/// What was asked for may never have arrived: less than that may still be more than what is agreed on.
#[test]
fn a_lease_is_raised_also_if_more_was_asked_for_before() {
    let (mut client, id) = holder();
    client.set_ttl(at(100), id, 30_000).unwrap();
    timeout(&mut client, 100);
    client.set_ttl(at(200), id, 20_000).unwrap();
    let (stamp, token, ttl) = (200_000_000, 101, 20_000);
    assert_eq!(timeout(&mut client, 200).asks, [Ask::Raise { stamp, token, ttl }]);
    answered(&mut client, 300, &renewed(200, 20_000));
    assert_eq!(until(&client), Some(200 + 19_800));
    assert!(matches!(
        timeout(&mut client, 200 + 20_000 / 3).asks[..],
        [Ask::Renew { .. }]
    ));
}

#[test]
fn a_new_leader_hears_of_who_waits() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    answered(&mut client, 10, &Answer::Queued { request: 1 });
    client.set_leader(at(100), Some((group(), life(2))));
    assert!(matches!(timeout(&mut client, 120).asks[..], [Ask::Wait { .. }]));
    let requests = vec![1];
    answered(&mut client, 130, &Answer::Unknown { requests });
    assert!(matches!(
        timeout(&mut client, 130).asks[..],
        [Ask::Acquire { .. }]
    ));
}

/// Who waits for long may ask for any number of other locks meanwhile.
#[test]
fn who_waits_does_not_hold_the_floor_down() {
    let mut client = client();
    client.acquire(at(0), wish(10_000), None).unwrap();
    timeout(&mut client, 0);
    let second = client.acquire(at(1), wish(10_000), None).unwrap();
    let floor = |client: &mut Client, millis| match timeout(client, millis).asks[..] {
        [
            Ask::Acquire {
                request: 2, floor, ..
            },
        ] => Some(floor),
        _ => None,
    };
    // Its acquire may not have arrived.
    assert_eq!(floor(&mut client, 1), Some(1));
    answered(&mut client, 2, &Answer::Queued { request: 1 });
    assert_eq!(floor(&mut client, 202), Some(2));
    // It is asked for again: then it is not below.
    let requests = vec![1];
    answered(&mut client, 203, &Answer::Unknown { requests });
    assert!(matches!(
        timeout(&mut client, 203).asks[..],
        [Ask::Acquire {
            request: 1,
            floor: 1,
            ..
        }]
    ));
    // What it gives up is not below before the group has heard it.
    answered(&mut client, 204, &Answer::Queued { request: 1 });
    client
        .release(at(205), second, &mut ClientOutput::default())
        .unwrap();
    let floor = 2;
    assert!(
        timeout(&mut client, 205)
            .asks
            .contains(&Ask::Cancel { request: 2, floor })
    );
}

#[test]
fn pages_and_revocations_are_answered_or_fail() {
    let mut client = client();
    let list = client.list(at(0), LockFilter::new(), None, at(5000)).unwrap();
    let revoke = client.revoke(at(0), 7, false, at(5000)).unwrap();
    assert_eq!(timeout(&mut client, 0).asks.len(), 2);
    // An answer to something else is no answer.
    let held = true;
    assert_eq!(
        answered(&mut client, 1, &Answer::Revoked { request: 1, held }),
        []
    );
    let (id, taken) = (revoke, true);
    assert_eq!(
        answered(&mut client, 1, &Answer::Revoked { request: 2, held }),
        [LockEvent::Taken { id, taken }]
    );
    let (id, error) = (list, LockError::Timeout);
    assert_eq!(
        timeout(&mut client, 5000).events,
        [LockEvent::Failed { id, error }]
    );
}

/// Each planted bug changes what it says.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_show() {
    type Story = fn(&mut Client, LockId) -> bool;
    let rows: &[(PlantedBug, Story)] = &[
        (PlantedBug::HolderIgnoresDrift, |client, _| {
            answered(client, 4000, &renewed(3000, 10_000));
            until(client) == Some(12_900)
        }),
        (PlantedBug::LeaseCountsFromArrival, |client, _| {
            answered(client, 4000, &renewed(3000, 10_000));
            until(client) == Some(12_900)
        }),
        (PlantedBug::LeaseCountsFromLatest, |client, _| {
            client.acquire(at(100), wish(10_000), None).unwrap();
            timeout(client, 100);
            timeout(client, 300);
            let granted = Answer::Granted {
                request: 2,
                token: 102,
                stamp: 100_000_000,
                lease: 10_000,
            };
            answered(client, 400, &granted);
            let late = client.held().find(|&(_, _, token, _)| token == 102);
            late.map(|(_, _, _, until)| until) == Some(at(100 + 9900))
        }),
        (PlantedBug::HolderIgnoresLease, |client, _| {
            answered(client, 4000, &renewed(3000, 8000));
            until(client) == Some(3000 + 7920)
        }),
        (PlantedBug::LapsedBeliefRevives, |client, _| {
            answered(client, 9950, &renewed(5000, 10_000));
            until(client) == Some(9900)
        }),
        (PlantedBug::BeliefOutlivesRelease, |client, id| {
            client.release(at(100), id, &mut ClientOutput::default()).unwrap();
            until(client).is_none()
        }),
        (PlantedBug::TakenGrantBelieved, |client, _| {
            client.acquire(at(100), wish(10_000), None).unwrap();
            timeout(client, 100);
            answered(client, 200, &gone(102, true));
            let tokens = vec![102];
            answered(client, 205, &Answer::Released { tokens });
            let late = Answer::Granted {
                request: 2,
                token: 102,
                stamp: 100_000_000,
                lease: 10_000,
            };
            answered(client, 210, &late);
            client.held().count() == 1
        }),
        (PlantedBug::BeliefOutlivesLeave, |client, _| {
            client.leave(at(100), &mut ClientOutput::default());
            until(client).is_none()
        }),
        (PlantedBug::AbandonKeepsBeliefs, |client, _| {
            client.end_life(at(100), LostReason::Abandoned, &mut ClientOutput::default());
            until(client).is_none()
        }),
    ];
    for &(bug, story) in rows {
        for planted in [None, Some(bug)] {
            let (mut client, id) = holder();
            let guard = crate::planted::plant(planted);
            let right = story(&mut client, id);
            drop(guard);
            assert_eq!(right, planted.is_none(), "{bug:?}");
        }
    }
}

#[test]
fn a_watch_tells_each_version_once_and_goes_on_until_it_is_given_up() {
    let mut client = client();
    let id = client.watch(at(0), Key::new("a").unwrap()).unwrap();
    let ask = Ask::Watch {
        request: id.0,
        key: Key::new("a").unwrap(),
    };
    let watched = |version| Answer::Watched {
        request: id.0,
        version,
    };
    assert_eq!(timeout(&mut client, 0).asks, core::slice::from_ref(&ask));
    assert_eq!(
        timeout(&mut client, 200).asks,
        core::slice::from_ref(&ask),
        "no word yet"
    );
    let changed = [LockEvent::Changed { id }];
    assert_eq!(answered(&mut client, 210, &watched(1)), changed);
    assert_eq!(answered(&mut client, 220, &watched(1)), []);
    assert_eq!(answered(&mut client, 230, &watched(7)), changed);
    assert_eq!(client.poll_timeout(), Some(at(1230)));
    assert_eq!(timeout(&mut client, 1230).asks, [ask]);
    let mut out = ClientOutput::default();
    client.release(at(1240), id, &mut out).unwrap();
    assert_eq!(out, ClientOutput::default());
    assert_eq!(answered(&mut client, 1250, &watched(8)), []);
    assert_eq!(client.poll_timeout(), None);
    let mut out = ClientOutput::default();
    assert_eq!(client.release(at(1260), id, &mut out), Err(LockError::UnknownId));
}

#[test]
fn what_is_given_back_after_its_end_was_lost() {
    for (when, lost) in [(9_899, false), (9_900, true)] {
        let mut client = client();
        let id = client.acquire(at(0), wish(10_000), None).unwrap();
        timeout(&mut client, 0);
        answered(&mut client, 10, &granted(0, 10_000));
        let mut out = ClientOutput::default();
        client.release(at(when), id, &mut out).unwrap();
        let (token, reason) = (101, LostReason::Expired);
        let told = match lost {
            true => LockEvent::Lost { id, token, reason },
            false => LockEvent::Released { id },
        };
        assert_eq!(out.events, [told]);
        assert_eq!(timeout(&mut client, when).events, [], "it is told once");
    }
}

#[test]
fn watches_are_not_in_the_way_of_what_is_asked_once() {
    let mut client = client();
    let key = || Key::new("a").unwrap();
    for _ in 0..MAX_WANTS {
        client.watch(at(0), key()).unwrap();
    }
    assert_eq!(client.watch(at(0), key()), Err(LockError::TooManyRequests));
    for token in 1..=MAX_WANTS as u64 {
        client.revoke(at(0), token, false, at(5000)).unwrap();
    }
    let list = |client: &mut Client| client.list(at(0), LockFilter::new(), None, at(5000));
    assert_eq!(list(&mut client), Err(LockError::TooManyRequests));
    timeout(&mut client, 5000);
    assert!(list(&mut client).is_ok());
}

#[test]
fn a_question_that_is_given_up_is_asked_no_more_and_makes_room() {
    let mut client = client();
    let mut ids = Vec::new();
    for token in 1..=MAX_WANTS as u64 {
        ids.push(client.revoke(at(0), token, false, at(5000)).unwrap());
    }
    assert_eq!(timeout(&mut client, 0).asks.len(), MAX_WANTS);
    let list = |client: &mut Client| client.list(at(0), LockFilter::new(), None, at(5000));
    assert_eq!(list(&mut client), Err(LockError::TooManyRequests));
    for id in ids {
        let mut out = ClientOutput::default();
        client.release(at(10), id, &mut out).unwrap();
        let error = LockError::Cancelled;
        assert_eq!(out.events, [LockEvent::Failed { id, error }]);
        assert_eq!(client.release(at(10), id, &mut out), Err(LockError::UnknownId));
        let (request, held) = (id.0, true);
        assert_eq!(answered(&mut client, 20, &Answer::Revoked { request, held }), []);
    }
    assert_eq!(client.poll_timeout(), None);
    assert!(list(&mut client).is_ok());
}
