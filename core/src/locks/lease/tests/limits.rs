//! Tests of limits: what would go beyond them is refused, and nothing else.

use super::queues::{contested, units};
use super::*;

/// What these are refused, in order.
fn refused(leader: &mut Leader) -> Vec<(Life, Denial)> {
    let replies = leader
        .replies()
        .into_iter()
        .filter_map(|(to, answer)| match answer {
            Answer::Denied { why, .. } => Some((to, why)),
            _ => None,
        });
    replies.collect()
}

fn waiting(leader: &Leader) -> usize {
    leader.table.lock("a").map_or(0, |lock| lock.waiting())
}

#[test]
fn limits_are_errors_and_change_nothing() {
    let mut leader = Leader::new(0);
    leader.terms.max_waiters = 1;
    leader.terms.max_locks = 2;
    leader.acquire(0, 1, 1, wish("a"));
    leader.commit(0);
    leader.acquire(0, 2, 1, wish("a"));
    leader.acquire(0, 3, 1, wish("a"));
    leader.commit(0);
    leader.acquire(0, 3, 2, wish("b"));
    leader.commit(0);
    leader.replies();
    let before = leader.table.clone();
    let long = Wish {
        ttl: 30_001,
        ..wish("a")
    };
    leader.acquire(1, 4, 1, wish("a"));
    leader.acquire(1, 4, 2, wish("c"));
    leader.acquire(1, 4, 3, long);
    leader.acquire(
        1,
        4,
        4,
        Wish {
            units: 0,
            ..wish("a")
        },
    );
    leader.acquire(1, 4, MAX_OPEN, wish("a"));
    let denied = |request, why| (life(4), Answer::Denied { request, why });
    assert_eq!(
        leader.replies(),
        [
            denied(1, Denial::TooManyWaiters(1)),
            denied(2, Denial::TableFull),
            denied(3, Denial::Ttl(30_000)),
            denied(4, Denial::Invalid),
            denied(MAX_OPEN, Denial::TooManyRequests),
        ]
    );
    leader.commit(1);
    assert_eq!(leader.table, before);
}

#[test]
fn what_is_under_way_counts_against_the_limits() {
    let mut leader = Leader::new(0);
    leader.terms.max_waiters = 1;
    for who in 1..=3 {
        leader.acquire(0, who, 1, wish("a"));
    }
    leader.terms.max_locks = 1;
    leader.acquire(0, 4, 1, wish("b"));
    let denied = |who, why| (life(who), Answer::Denied { request: 1, why });
    assert_eq!(
        leader.replies(),
        [denied(3, Denial::TooManyWaiters(1)), denied(4, Denial::TableFull)]
    );
    leader.commit(0);
    for _ in 0..=MAX_PENDING {
        leader.renew(0, 1, 101);
    }
    assert_eq!(leader.leases.pending.len(), MAX_PENDING);
}

fn a_try(wish: Wish) -> Wish {
    Wish { wait: false, ..wish }
}

#[test]
fn who_has_a_lock_at_once_does_not_count_as_waiting() {
    for capacity in [1, 3, 4, u32::MAX] {
        let mut leader = Leader::new(0);
        leader.terms.max_waiters = 2;
        for who in 1..=7 {
            leader.acquire(0, who, 1, units(1, capacity));
        }
        let most = u8::try_from(capacity).unwrap_or(5) + 2;
        let late: Vec<_> = (most + 1..=7)
            .map(|who| (life(who), Denial::TooManyWaiters(2)))
            .collect();
        assert_eq!(refused(&mut leader), late, "of {capacity}");
        leader.commit(0);
        let lock = leader.table.lock("a").unwrap();
        assert_eq!(
            lock.holders().count() + lock.waiting(),
            7 - late.len(),
            "of {capacity}"
        );
    }
}

#[test]
fn a_try_under_way_is_no_waiter() {
    let mut leader = contested(&[]);
    leader.terms.max_waiters = 1;
    for who in 2..=3 {
        leader.acquire(0, who, 1, a_try(wish("a")));
    }
    leader.acquire(0, 4, 1, wish("a"));
    assert_eq!(refused(&mut leader), []);
    leader.commit(0);
    assert_eq!(waiting(&leader), 1);
}

/// All short sequences of wishes that come before any of them is applied, to a lock that is free, held or waited for.
#[test]
fn no_more_wait_than_may() {
    let kinds = [
        units(1, 3),
        units(2, 3),
        units(3, 3),
        a_try(units(2, 3)),
        a_try(units(3, 3)),
        units(1, 1),
    ];
    let mut full = 0;
    for number in 0..6_u32.pow(4) {
        let pick = |place: u32| kinds[(number / 6_u32.pow(place) % 6) as usize].clone();
        for (limit, before) in [(1, 0), (2, 0), (1, 1), (2, 2)] {
            let mut leader = Leader::new(0);
            leader.terms.max_waiters = limit;
            for who in 1..=before {
                leader.acquire(0, who, 1, units(2, 3));
                leader.commit(0);
            }
            for place in 0..4 {
                leader.acquire(0, 10 + place, 1, pick(place.into()));
            }
            leader.commit(0);
            assert!(waiting(&leader) <= limit as usize, "{number} after {before}");
            full += usize::from(waiting(&leader) == limit as usize);
        }
    }
    assert!(full > 1000, "{full}");
}

#[test]
fn a_full_table_has_room_for_those_who_wait_for_what_is_in_it() {
    let mut leader = contested(&[]);
    leader.acquire(0, 1, 2, wish("b"));
    leader.commit(0);
    // The leader before allowed for more.
    leader.terms.max_locks = 1;
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    assert_eq!(waiting(&leader), 1);
}

/// Readers have the lock. By the time that these are applied it may be gone, and be made anew with another capacity.
#[test]
fn no_more_wait_than_may_for_what_had_another_capacity() {
    let mut leader = Leader::new(0);
    leader.terms.max_waiters = 1;
    leader.acquire(0, 1, 1, units(1, u32::MAX));
    leader.commit(0);
    leader.replies();
    leader.release(0, 1, 101);
    for who in 2..=7 {
        leader.acquire(0, who, 1, units(1, 1));
    }
    assert_eq!(refused(&mut leader).len(), 4);
    leader.commit(0);
    assert_eq!(waiting(&leader), 1);
}

#[test]
fn another_capacity_is_no_reason_to_wait() {
    let mut leader = contested(&[2]);
    leader.terms.max_waiters = 1;
    leader.acquire(0, 3, 1, units(1, u32::MAX));
    leader.commit(0);
    assert_eq!(refused(&mut leader), [(life(3), Denial::OtherCapacity(1))]);
}

#[test]
fn several_who_ask_for_one_lock_make_one() {
    let mut leader = contested(&[]);
    leader.terms.max_locks = 3;
    for who in 1..=3 {
        leader.acquire(0, who, 2, wish("a"));
        leader.acquire(0, who, 3, wish("b"));
    }
    leader.acquire(0, 4, 1, wish("c"));
    assert_eq!(refused(&mut leader), []);
    leader.acquire(0, 5, 1, wish("d"));
    assert_eq!(refused(&mut leader), [(life(5), Denial::TableFull)]);
}

#[test]
fn keys_and_metadata_take_no_more_room_than_they_may() {
    let mut leader = contested(&[]);
    leader.terms.max_bytes = 2 * (64 + 1) + 3;
    let with = |key, metadata: &'static [u8]| Wish {
        metadata: Bytes::from_static(metadata),
        ..wish(key)
    };
    for (request, wish) in [(1, with("bbb", b"12")), (2, with("b", b"1234"))] {
        leader.acquire(0, 2, request, wish);
        assert_eq!(refused(&mut leader), [(life(2), Denial::TableFull)]);
    }
    leader.acquire(0, 2, 3, with("b", b"123"));
    leader.acquire(0, 3, 1, wish("c"));
    assert_eq!(
        refused(&mut leader),
        [(life(3), Denial::TableFull)],
        "what is under way counts"
    );
    leader.commit(0);
    assert!(leader.table.granted(life(2), 3).is_some());
    leader.acquire(0, 3, 2, wish("a"));
    assert_eq!(
        refused(&mut leader),
        [(life(3), Denial::TableFull)],
        "who waits counts, too"
    );
}
