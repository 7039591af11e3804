//! Tests of who gets what next, and of what is kept.

use super::*;

pub(super) fn units(units: u32, capacity: u32) -> Wish {
    Wish {
        units,
        capacity,
        ..wish("a")
    }
}

/// A leader under which 1 holds a lock, by token 101, and these wait for it, in order.
pub(super) fn contested(waiters: &[u8]) -> Leader {
    let mut leader = Leader::new(0);
    for &who in [1].iter().chain(waiters) {
        leader.acquire(0, who, 1, wish("a"));
        leader.commit(0);
    }
    leader
}

fn grant(who: u8) -> Change {
    Change::Grant {
        key: Key::new("a").unwrap(),
        owner: life(who),
        request: 1,
    }
}

#[test]
fn the_next_one_is_granted_along_with_the_end_of_the_lease() {
    let mut leader = contested(&[2]);
    leader.wait(9000, 2, 1);
    leader.timeout(10_101);
    assert_eq!(leader.appended, [Change::Expire { token: 101 }, grant(2)]);
    // Nobody else can give it back.
    let mut leader = contested(&[2]);
    leader.release(0, 2, 101);
    assert!(leader.appended.is_empty());
}

#[test]
fn a_cancel_makes_room_and_ends_what_is_answered() {
    let mut leader = contested(&[2]);
    leader.replies();
    // The grant was lost, and the cancel overtook a copy of the acquire.
    leader.ask(10, 1, &Ask::Cancel { request: 1, floor: 1 });
    leader.acquire(20, 1, 1, wish("a"));
    leader.round();
    let gone = |(_, answer): &Reply| matches!(answer, Answer::Gone { .. });
    assert!(leader.replies().iter().all(gone));
    leader.commit(30);
    assert!(leader.table.granted(life(2), 1).is_some());
}

#[test]
fn nobody_is_granted_behind_a_head_that_cannot_be() {
    let mut leader = Leader::new(0);
    for (who, wish) in [(1, units(2, 3)), (2, units(3, 3)), (3, units(1, 3))] {
        leader.acquire(0, who, 1, wish);
        leader.commit(0);
    }
    leader.wait(10, 3, 1);
    assert!(leader.appended.is_empty());
    // When the head gives up, the next one is served.
    leader.ask(20, 2, &Ask::Cancel { request: 1, floor: 1 });
    leader.commit(20);
    assert!(leader.table.granted(life(3), 1).is_some());

    // Nor behind one that has given no sign to a new leader, until it counts as silent.
    let mut leader = contested(&[2, 3]);
    leader.serve(100);
    leader.release(100, 1, 101);
    leader.wait(200, 3, 1);
    leader.commit(200);
    assert!(leader.table.granted(life(3), 1).is_none());
    leader.wait(3100, 3, 1);
    leader.timeout(3200);
    leader.commit(3200);
    assert!(leader.table.granted(life(3), 1).is_some());
}

#[test]
fn who_is_overtaken_while_it_is_granted_is_granted_next_or_dropped_when_silent() {
    for silent in [false, true] {
        let mut leader = contested(&[2]);
        let first = Wish {
            priority: 1,
            ..wish("a")
        };
        leader.acquire(2900, 3, 1, first);
        leader.release(2900, 1, 101);
        assert_eq!(leader.appended.back(), Some(&grant(2)));
        // What is granted is not dropped.
        leader.timeout(3100);
        assert_eq!(leader.appended.back(), Some(&grant(2)));
        leader.commit(3100);
        assert_eq!(leader.table.granted(life(3), 1), Some(102));
        if silent {
            leader.timeout(3100);
            let (owner, request) = (life(2), 1);
            assert_eq!(leader.appended, [Change::DropWaiter { owner, request }]);
        } else {
            leader.wait(3200, 2, 1);
            leader.release(3300, 3, 102);
            leader.commit(3300);
            assert_eq!(leader.table.granted(life(2), 1), Some(103));
        }
    }
}

#[test]
fn a_short_lease_from_the_queue_counts_from_the_newest_sign_and_is_not_granted_when_over() {
    let short = Wish {
        ttl: 1000,
        ..wish("a")
    };
    let mut leader = contested(&[]);
    leader.acquire(0, 2, 1, short);
    leader.commit(0);
    leader.release(1500, 1, 101);
    leader.commit(1500);
    assert!(leader.table.granted(life(2), 1).is_none());
    leader.wait(1600, 2, 1);
    leader.commit(1600);
    assert!(leader.replies().contains(&(life(2), granted(1, 102, 1600, 1000))));

    // A sign that arrives after a later one is older still.
    let mut leader = contested(&[2]);
    leader.wait(2000, 2, 1);
    let (stamp, requests) = (1000, vec![1]);
    leader.ask(2100, 2, &Ask::Wait { stamp, requests });
    leader.release(2200, 1, 101);
    leader.commit(2200);
    assert!(leader.replies().contains(&(life(2), granted(1, 102, 2000, 3000))));
}

#[test]
fn a_new_leader_tells_whose_lock_was_taken() {
    let mut leader = contested(&[]);
    let revoke = Ask::Revoke {
        request: 9,
        token: 101,
        at_once: false,
    };
    leader.ask(0, 2, &revoke);
    leader.commit(0);
    leader.serve(100);
    leader.replies();
    leader.timeout(100);
    let (tokens, revoked) = (vec![101], true);
    assert_eq!(leader.replies(), [(life(1), Answer::Gone { tokens, revoked })]);
}

#[test]
fn what_makes_no_sense_is_not_appended() {
    let mut leader = contested(&[]);
    let (stamp, token, ttl) = (0, 101, leader.terms.max_ttl + 1);
    leader.ask(0, 1, &Ask::Raise { stamp, token, ttl });
    let (request, floor, wish) = (2, 5, wish("b"));
    leader.ask(
        0,
        1,
        &Ask::Acquire {
            stamp,
            request,
            floor,
            wish,
        },
    );
    assert!(leader.appended.is_empty());
}

#[test]
fn nothing_is_kept_of_what_is_over() {
    let mut leader = contested(&[2, 3]);
    let no_wait = Wish {
        wait: false,
        ..wish("a")
    };
    leader.acquire(0, 4, 1, no_wait);
    leader.ask(0, 3, &Ask::Cancel { request: 1, floor: 1 });
    let revoke = Ask::Revoke {
        request: 9,
        token: 101,
        at_once: false,
    };
    leader.ask(0, 4, &revoke);
    leader.commit(0);
    leader.release(10, 1, 101);
    leader.commit(10);
    leader.release(20, 2, 102);
    leader.commit(20);
    leader.round();
    assert_eq!(leader.leases, Leader::new(0).leases);
}

#[test]
fn whose_lock_was_taken_is_told_again_until_it_has_stopped() {
    let mut leader = contested(&[]);
    let (request, token, at_once) = (9, 101, false);
    let revoke = Ask::Revoke {
        request,
        token,
        at_once,
    };
    leader.ask(0, 2, &revoke);
    leader.commit(0);
    leader.replies();
    assert_eq!(leader.leases.poll_timeout(), Some(at(250)));
    leader.timeout(250);
    let (tokens, revoked) = (vec![101], true);
    assert_eq!(leader.replies(), [(life(1), Answer::Gone { tokens, revoked })]);
}
