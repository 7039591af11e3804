//! Groups without a quorum: what a successor begins with.

use super::super::*;
use super::units::{HINTS, NOW, life, replica};
use crate::WallTime;
use crate::locks::{Ask, Key, Wish};
use alloc::collections::VecDeque;
use bytes::Bytes;

/// Hands messages to and fro until there are no more, except to those who are gone.
fn deliver(replicas: &mut [&mut Replica], out: Output) {
    let mut under_way: VecDeque<_> = out.sends.into();
    while let Some(envelope) = under_way.pop_front() {
        let mut out = Output::default();
        for replica in replicas.iter_mut().filter(|it| it.life() == envelope.to) {
            replica.receive(NOW, &envelope, HINTS, &mut out);
        }
        under_way.extend(out.sends);
    }
}

fn wish(key: &str) -> Ask {
    Ask::Acquire {
        stamp: 1,
        request: 1,
        floor: 1,
        wish: Wish {
            key: Key::new(key).unwrap(),
            units: 1,
            capacity: 1,
            priority: 0,
            wait: true,
            ttl: 15_000,
            metadata: Bytes::new(),
        },
    }
}

fn holder(replica: &Replica, key: &str) -> Option<u64> {
    let lock = replica.machine()?.table.lock(&Key::new(key).unwrap())?;
    lock.holders().next().map(|(token, _)| token)
}

/// A leader alone, its learner, and a lock of the learner that both know of.
fn led() -> (Replica, Replica, Group) {
    let (mut leader, mut learner) = (replica(1, 0), replica(2, 0));
    let mut out = Output::default();
    assert!(leader.stand());
    let group = leader.found(NOW, WallTime::default(), &mut out).unwrap();
    assert!(leader.open(NOW), "without any grace");
    leader.flush(NOW, &mut out);
    leader.add_learner(life(2), &mut out);
    learner.ask_locks(NOW, group, life(1), wish("a"), &mut out);
    deliver(&mut [&mut leader, &mut learner], out);
    let mut out = Output::default();
    leader.flush(NOW, &mut out);
    deliver(&mut [&mut leader, &mut learner], out);
    let mut out = Output::default();
    leader.beat(NOW, &mut out);
    deliver(&mut [&mut leader, &mut learner], out);
    assert!(holder(&leader, "a").is_some() && holder(&learner, "a") == holder(&leader, "a"));
    (leader, learner, group)
}

#[test]
fn a_successor_has_the_locks_the_lives_and_higher_tokens() {
    let (leader, mut learner, group) = led();
    let (token, counter) = (holder(&learner, "a"), leader.machine().unwrap().counter);
    let mut out = Output::default();
    let next = learner.succeed(NOW, WallTime::default(), &mut out).unwrap();
    assert_eq!((learner.life(), next.founder), (life(2), life(2)));
    assert!(next.founding > group.founding);
    assert_eq!(holder(&learner, "a"), token);
    assert!(learner.machine().unwrap().counter >= counter + FLOOR_AHEAD);
    let leases = learner.leadership().unwrap().leases();
    assert!(leases.serves());
    // From its beginning, on this clock.
    let whole = NOW + crate::Duration::from_millis(15_000);
    assert!(leases.deadline(token.unwrap()).unwrap() > whole);

    // Who comes gets all of it; the leader of before too, once it has given up its own group, in the same life.
    let mut third = replica(3, 0);
    let mut before = leader;
    before.abandon();
    assert_eq!((before.life(), before.group()), (life(1), None));
    learner.add_learner(life(3), &mut out);
    learner.add_learner(life(1), &mut out);
    deliver(&mut [&mut learner, &mut third, &mut before], out);
    for it in [&third, &before] {
        assert_eq!((it.group(), holder(it, "a")), (Some(next), token));
    }

    // Who goes away and comes back with nothing, unnoticed, gets it again.
    third.abandon();
    let mut out = Output::default();
    learner.beat(NOW, &mut out);
    deliver(&mut [&mut learner, &mut third, &mut before], out);
    assert_eq!((third.group(), holder(&third, "a")), (Some(next), token));
}

#[test]
fn no_group_is_named_twice_and_a_quorum_is_never_left_out() {
    let (_, mut learner, group) = led();
    let mut out = Output::default();
    let mut before = group;
    for _ in 0..3 {
        let next = learner.succeed(NOW, WallTime::default(), &mut out).unwrap();
        assert!(next.founding > before.founding);
        before = next;
    }
    learner.abandon();
    assert!(learner.stand());
    let fresh = learner.found(NOW, WallTime::default(), &mut out).unwrap();
    assert!(fresh.founding > before.founding);

    let mut one = replica(1, 1);
    assert!(one.stand());
    one.found(NOW, WallTime::default(), &mut out).unwrap();
    let before = one.clone();
    assert!(one.succeed(NOW, WallTime::default(), &mut out).is_err());
    assert_eq!(one, before);
}
