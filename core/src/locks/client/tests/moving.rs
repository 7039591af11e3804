//! Without a quorum: another group takes over.

use super::*;

fn next_group() -> Group {
    Group {
        founder: life(2),
        founding: 2,
    }
}

fn told(client: &mut Client, millis: u64, group: Group, answer: &Answer) -> Vec<LockEvent> {
    let mut out = ClientOutput::default();
    client.answered(at(millis), group, answer, &mut out);
    out.events
}

/// A holder whose group was followed by another one, which it has asked.
fn moved() -> (Client, LockId) {
    let (mut client, id) = holder();
    client.moves = true;
    client.set_leader(at(1000), Some((next_group(), life(2))));
    let asks = timeout(&mut client, 1000).asks;
    let stamp = at(1000).as_nanos();
    let tokens = vec![101];
    assert_eq!(asks, [Ask::Renew { stamp, tokens }], "at once");
    (client, id)
}

#[test]
fn what_is_held_is_renewed_by_the_next_group_and_by_no_other() {
    let (mut client, id) = moved();
    assert_eq!(told(&mut client, 1100, group(), &renewed(1000, 10_000)), []);
    assert_eq!(told(&mut client, 1100, group(), &gone(101, false)), []);
    assert_eq!(until(&client), Some(9900), "not for longer than it was");
    let until = at(10_900);
    let events = told(&mut client, 1200, next_group(), &renewed(1000, 10_000));
    assert_eq!(events, [LockEvent::Renewed { id, until }]);
    // From then on it is a lock of that group, which ends as any does.
    let (token, reason) = (101, LostReason::Expired);
    let events = told(&mut client, 1300, next_group(), &gone(101, false));
    assert_eq!(events, [LockEvent::Lost { id, token, reason }]);
}

#[test]
fn what_the_next_group_does_not_know_of_is_lost_in_a_conflict() {
    let (mut client, id) = moved();
    let (token, reason) = (101, LostReason::Conflict);
    let events = told(&mut client, 1100, next_group(), &gone(101, false));
    assert_eq!(events, [LockEvent::Lost { id, token, reason }]);
    assert_eq!(client.held().count(), 0);
}

#[test]
fn requests_are_asked_again_and_what_an_earlier_group_grants_is_not_taken() {
    let mut client = client();
    client.moves = true;
    let id = client.acquire(at(0), wish(10_000), None).unwrap();
    assert_eq!(timeout(&mut client, 0).asks.len(), 1);
    client.set_leader(at(1000), Some((next_group(), life(2))));
    assert_eq!(told(&mut client, 1000, group(), &granted(0, 10_000)), []);
    let asks = timeout(&mut client, 1100).asks;
    assert!(matches!(asks[..], [Ask::Acquire { request: 1, .. }]), "{asks:?}");
    let events = told(&mut client, 1200, next_group(), &granted(1100, 10_000));
    assert!(matches!(events[..], [LockEvent::Granted { id: of, .. }] if of == id));
}

#[test]
fn with_a_quorum_nothing_moves() {
    let (mut client, _) = holder();
    client.set_leader(at(1000), Some((next_group(), life(2))));
    assert_eq!(told(&mut client, 1100, next_group(), &gone(101, false)), []);
    assert_eq!(told(&mut client, 1100, next_group(), &renewed(1000, 10_000)), []);
    assert_eq!(until(&client), Some(9900));
}

/// Nor is a lock given back that is still believed in, because the group that it came from took it.
#[test]
fn what_an_earlier_group_takes_is_not_given_back() {
    let (mut client, _) = moved();
    let before = until(&client);
    assert_eq!(told(&mut client, 1100, group(), &gone(101, true)), []);
    assert_eq!(until(&client), before);
    let asks = timeout(&mut client, 1200).asks;
    assert!(
        !asks.iter().any(|ask| matches!(ask, Ask::Release { .. })),
        "{asks:?}"
    );
}

/// The next group knows of the lock, and not that it was given back.
#[test]
fn that_an_earlier_group_has_heard_of_a_release_is_not_enough() {
    let (mut client, id) = moved();
    client
        .release(at(1100), id, &mut ClientOutput::default())
        .unwrap();
    let release = |client: &mut Client, millis| {
        let asks = timeout(client, millis).asks;
        asks.iter().any(|ask| matches!(ask, Ask::Release { .. }))
    };
    assert!(release(&mut client, 1100));
    let released = Answer::Released { tokens: vec![101] };
    told(&mut client, 1150, group(), &released);
    assert!(release(&mut client, 1300));
    told(&mut client, 1350, next_group(), &released);
    assert!(!release(&mut client, 5000));
    assert_eq!(client.poll_timeout(), None);
}
