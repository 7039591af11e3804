//! Tests of the table, one change at a time.

use super::{Change, Effect, MAX_RECORDS, Table};
use crate::consensus::Life;
use crate::id::NodeId;
use crate::locks::codec::{put_table, read_table};
use crate::locks::{Denial, Key, Wish};
use crate::wire::Reader;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

fn life(name: u8) -> Life {
    Life::first(NodeId::from_bytes([name; 16]))
}

fn wish(key: &str) -> Wish {
    Wish {
        key: Key::new(key).unwrap(),
        units: 1,
        capacity: 1,
        priority: 0,
        wait: true,
        ttl: 2000,
        metadata: Bytes::new(),
    }
}

/// A table, and the counter of its group.
struct World {
    table: Table,
    counter: u64,
}

impl World {
    fn new() -> Self {
        let table = Table::default();
        Self { table, counter: 100 }
    }

    fn apply(&mut self, change: Change) -> Vec<Effect> {
        let effects = self.table.apply(&change, true, &mut self.counter);
        // A snapshot at any moment has everything.
        let mut buf = Vec::new();
        put_table(&mut buf, &self.table);
        let mut reader = Reader::new(&buf);
        assert_eq!(read_table(&mut reader).as_ref(), Some(&self.table));
        assert!(reader.is_empty());
        effects
    }

    fn acquire(&mut self, who: u8, request: u64, wish: Wish) -> Vec<Effect> {
        self.apply(Change::Acquire {
            owner: life(who),
            request,
            floor: 0,
            wish: Arc::new(wish),
        })
    }

    fn grant(&mut self, who: u8, request: u64, key: &str) -> Vec<Effect> {
        self.apply(Change::Grant {
            key: Key::new(key).unwrap(),
            owner: life(who),
            request,
        })
    }

    fn release(&mut self, who: u8, token: u64) -> Vec<Effect> {
        let owner = life(who);
        self.apply(Change::Release { owner, token })
    }

    fn cancel(&mut self, who: u8, request: u64) -> Vec<Effect> {
        self.apply(Change::Cancel {
            owner: life(who),
            request,
            floor: 0,
        })
    }

    fn holders(&self, key: &str) -> Vec<u64> {
        let lock = self.table.lock(key);
        lock.map_or_else(Vec::new, |lock| lock.holders().map(|(token, _)| token).collect())
    }

    fn queue(&self, key: &str) -> Vec<(Life, u64)> {
        let lock = self.table.lock(key);
        let queue = |lock: &super::Lock| {
            lock.queue()
                .map(|waiter| (waiter.owner, waiter.request))
                .collect()
        };
        lock.map_or_else(Vec::new, queue)
    }
}

fn granted(effects: &[Effect]) -> Option<u64> {
    match effects {
        [Effect::Granted { token, .. }] => Some(*token),
        _ => None,
    }
}

#[test]
fn a_free_lock_is_granted_and_a_held_one_is_waited_for() {
    let mut world = World::new();
    assert_eq!(granted(&world.acquire(1, 1, wish("a"))), Some(101));
    assert!(matches!(
        world.acquire(2, 1, wish("a"))[..],
        [Effect::Queued { .. }]
    ));
    // Nobody is served while it is held, and nothing by itself when it is free: that is the leader's to say.
    assert!(matches!(world.grant(2, 1, "a")[..], [Effect::NotGranted { .. }]));
    assert!(matches!(
        world.release(1, 101)[..],
        [Effect::Freed { token: 101, .. }]
    ));
    assert_eq!(world.holders("a"), []);
    assert_eq!(granted(&world.grant(2, 1, "a")), Some(102));
    assert_eq!(world.holders("a"), [102]);
    // And a lock that nobody uses takes no room.
    world.release(2, 102);
    assert_eq!((world.table.locks().len(), world.table.bytes()), (0, 0));
}

#[test]
fn who_does_not_want_to_wait_is_told_who_is_in_the_way() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    let mut try_it = wish("a");
    try_it.wait = false;
    let taken = |waiting| Effect::Denied {
        owner: life(2),
        request: 1 + u64::from(waiting),
        why: Denial::Taken {
            token: 101,
            owner: life(1).node,
            left: 0,
            waiting,
        },
    };
    assert_eq!(world.acquire(2, 1, try_it.clone()), [taken(0)]);
    world.acquire(3, 1, wish("a"));
    assert_eq!(world.acquire(2, 2, try_it.clone()), [taken(1)]);
    world.acquire(4, 1, wish("a"));
    world.release(1, 101);
    let why = Denial::Taken {
        token: 0,
        owner: life(3).node,
        left: 0,
        waiting: 2,
    };
    let (owner, request) = (life(2), 3);
    let first = Effect::Denied { owner, request, why };
    assert_eq!(
        world.acquire(2, 3, try_it),
        [first],
        "nobody holds it, and this one comes first"
    );
}

#[test]
fn nobody_overtakes_the_head_of_the_queue() {
    let mut world = World::new();
    let units = |units| Wish {
        units,
        capacity: 3,
        ..wish("s")
    };
    world.acquire(1, 1, units(2));
    world.acquire(2, 1, units(3));
    // One unit is free, but somebody else is first.
    assert!(matches!(
        world.acquire(3, 1, units(1))[..],
        [Effect::Queued { .. }]
    ));
    assert!(matches!(world.grant(3, 1, "s")[..], [Effect::NotGranted { .. }]));
    world.release(1, 101);
    assert_eq!(granted(&world.grant(2, 1, "s")), Some(102));
}

#[test]
fn queues_go_by_priority_then_by_arrival() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    for (who, priority) in [(2, 0), (3, 7), (4, 0), (5, 7)] {
        let wish = Wish {
            priority,
            ..wish("a")
        };
        world.acquire(who, 1, wish);
    }
    let order = [3, 5, 2, 4].map(|who| (life(who), 1));
    assert_eq!(world.queue("a"), order);
    // A copy of a request does not move it.
    let again = Wish {
        priority: 0,
        ..wish("a")
    };
    assert_eq!(world.acquire(2, 1, again), []);
    assert_eq!(world.queue("a"), order);
}

#[test]
fn readers_share_and_a_writer_takes_all() {
    let mut world = World::new();
    let of = |units| Wish {
        units,
        capacity: u32::MAX,
        ..wish("rw")
    };
    world.acquire(1, 1, of(1));
    world.acquire(2, 1, of(1));
    assert_eq!(world.holders("rw"), [101, 102]);
    assert!(matches!(
        world.acquire(3, 1, of(u32::MAX))[..],
        [Effect::Queued { .. }]
    ));
    world.release(1, 101);
    assert!(matches!(world.grant(3, 1, "rw")[..], [Effect::NotGranted { .. }]));
    world.release(2, 102);
    assert_eq!(granted(&world.grant(3, 1, "rw")), Some(103));
    assert!(matches!(world.acquire(1, 2, of(1))[..], [Effect::Queued { .. }]));
}

#[test]
fn all_agree_on_the_capacity() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    let other = Wish {
        capacity: 4,
        ..wish("a")
    };
    let why = Denial::OtherCapacity(1);
    let (owner, request) = (life(2), 1);
    assert_eq!(
        world.acquire(2, 1, other),
        [Effect::Denied { owner, request, why }]
    );
    let none = Wish {
        units: 0,
        ..wish("b")
    };
    assert!(matches!(
        world.acquire(2, 2, none)[..],
        [Effect::Denied {
            why: Denial::Invalid,
            ..
        }]
    ));
}

#[test]
fn a_stale_token_releases_nothing() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    world.release(1, 101);
    world.acquire(2, 1, wish("a"));
    // Neither the token that was, nor somebody else's.
    assert_eq!(world.release(1, 101), []);
    assert_eq!(world.release(1, 102), []);
    assert_eq!(world.holders("a"), [102]);
}

#[test]
fn a_late_copy_of_what_is_over_is_not_granted() {
    let mut world = World::new();
    let over = |request| Effect::Ended {
        owner: life(1),
        request,
        key: None,
    };
    world.acquire(1, 1, wish("a"));
    world.release(1, 101);
    assert_eq!(world.acquire(1, 1, wish("a")), [over(1)]);
    // Nor one that was given up before it arrived.
    world.cancel(1, 2);
    assert_eq!(world.acquire(1, 2, wish("a")), [over(2)]);
    // Nor one that its owner says is over.
    world.apply(Change::Acquire {
        owner: life(1),
        request: 9,
        floor: 9,
        wish: Arc::new(wish("b")),
    });
    assert_eq!(world.acquire(1, 8, wish("a")), [over(8)]);
    assert_eq!(world.holders("a"), []);
    assert!(world.table.is_over(life(1), 8) && !world.table.is_over(life(1), 10));
}

#[test]
fn what_is_over_is_remembered_only_as_long_as_it_matters() {
    let mut world = World::new();
    for request in 1..=1000 {
        let floor = request;
        world.apply(Change::Acquire {
            owner: life(1),
            request,
            floor,
            wish: Arc::new(wish("a")),
        });
        world.release(1, 100 + request);
    }
    let known = world.table.owners.get(&life(1)).unwrap();
    assert_eq!(known.requests.len(), 1);
}

#[test]
fn a_cancel_ends_what_became_of_the_request() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    world.acquire(2, 1, wish("a"));
    world.acquire(3, 1, wish("a"));
    world.cancel(2, 1);
    assert_eq!(world.queue("a"), [(life(3), 1)]);
    let effects = world.cancel(1, 1);
    assert!(matches!(effects[0], Effect::Freed { token: 101, .. }));
    assert_eq!(world.holders("a"), []);
    // Again it changes nothing, and is answered.
    assert!(matches!(
        world.cancel(1, 1)[..],
        [Effect::Ended { key: None, .. }]
    ));
}

#[test]
fn nothing_is_granted_while_the_group_is_closed() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    world.acquire(2, 1, wish("a"));
    world.release(1, 101);
    let grant = Change::Grant {
        key: Key::new("a").unwrap(),
        owner: life(2),
        request: 1,
    };
    let closed = world.table.apply(&grant, false, &mut world.counter);
    assert!(matches!(closed[..], [Effect::NotGranted { .. }]));
    let acquire = Change::Acquire {
        owner: life(3),
        request: 1,
        floor: 0,
        wish: Arc::new(wish("b")),
    };
    let closed = world.table.apply(&acquire, false, &mut world.counter);
    assert!(matches!(
        closed[..],
        [Effect::Denied {
            why: Denial::NotOpen,
            ..
        }]
    ));
    // It is not over: it may be asked again.
    assert_eq!(granted(&world.apply(acquire)), Some(102));
}

#[test]
fn who_leaves_leaves_nothing_behind() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    world.acquire(1, 2, wish("b"));
    world.acquire(2, 1, wish("c"));
    world.acquire(1, 3, wish("c"));
    let node = life(1).node;
    let effects = world.apply(Change::DropOwner { node });
    assert_eq!(effects.len(), 3);
    assert_eq!((world.holders("a"), world.holders("b")), (vec![], vec![]));
    assert_eq!((world.holders("c"), world.queue("c")), (vec![103], vec![]));
    assert!(!world.table.knows(node));
}

#[test]
fn a_lock_that_is_taken_away_is_held_until_its_holder_has_stopped() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    let by = life(9).node;
    let revoke = |at_once| Change::Revoke {
        by,
        token: 101,
        at_once,
    };
    assert!(matches!(
        world.apply(revoke(false))[..],
        [Effect::Revoked { token: 101, .. }]
    ));
    assert_eq!(world.holders("a"), [101]);
    assert!(world.table.holder(101).unwrap().1.revoked);
    assert!(matches!(
        world.apply(revoke(true))[..],
        [Effect::Revoked { .. }, Effect::Freed { token: 101, .. }]
    ));
    let records: Vec<_> = world.table.records().map(|record| record.at_once).collect();
    assert_eq!(records, [false, true]);
}

#[test]
fn a_longer_lease_is_kept_and_a_shorter_one_is_not() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    for (ttl, kept) in [(5000, 5000), (1000, 5000)] {
        world.apply(Change::Raise {
            owner: life(1),
            token: 101,
            ttl,
        });
        assert_eq!(world.table.holder(101).unwrap().1.ttl, kept);
    }
    let other = Change::Raise {
        owner: life(2),
        token: 101,
        ttl: 9000,
    };
    assert_eq!(world.apply(other), []);
}

/// A process that counts as failed may come back, with a belief: nothing of it is freed.
#[test]
fn who_holds_or_waits_is_not_forgotten() {
    let mut world = World::new();
    let forget = |who| Change::ForgetOwner { node: life(who).node };
    world.acquire(1, 1, wish("a"));
    world.acquire(2, 1, wish("a"));
    for who in [1, 2] {
        assert_eq!(world.apply(forget(who)), []);
        assert!(world.table.knows(life(who).node));
    }
    assert_eq!(world.holders("a"), [101]);
    world.release(1, 101);
    world.apply(forget(1));
    assert!(!world.table.knows(life(1).node));
}

#[test]
fn what_waits_or_is_held_is_remembered_below_the_floor() {
    let mut world = World::new();
    world.acquire(1, 1, wish("a"));
    world.acquire(2, 1, wish("a"));
    for who in [1, 2] {
        world.apply(Change::Acquire {
            owner: life(who),
            request: 9,
            floor: 9,
            wish: Arc::new(wish("b")),
        });
    }
    assert_eq!(world.table.granted(life(1), 1), Some(101));
    assert!(world.table.waits_for(life(2), 1).is_some());
    // A cancel finds the lock, whatever floor comes with it; and what ends below the floor leaves nothing.
    let effects = world.apply(Change::Cancel {
        owner: life(1),
        request: 1,
        floor: 9,
    });
    assert!(matches!(effects[0], Effect::Freed { token: 101, .. }));
    assert_eq!(granted(&world.grant(2, 1, "a")), Some(103));
    world.release(2, 103);
    for who in [1, 2] {
        assert!(world.table.is_over(life(who), 1));
        assert!(!world.table.owners[&life(who)].requests.contains_key(&1));
    }
    assert_eq!(world.holders("a"), []);
}

#[test]
fn lives_of_a_process_are_told_apart_and_leave_together() {
    let mut world = World::new();
    let owner = Life { number: 1, ..life(1) };
    world.acquire(1, 1, wish("a"));
    let (request, floor) = (1, 0);
    world.apply(Change::Acquire {
        owner,
        request,
        floor,
        wish: Arc::new(wish("b")),
    });
    // What an earlier life held, a later one cannot release.
    assert_eq!(world.apply(Change::Release { owner, token: 101 }), []);
    world.apply(Change::DropOwner { node: owner.node });
    assert_eq!(world.table.locks().len(), 0);
    assert!(!world.table.knows(owner.node));
}

#[test]
fn the_newest_records_are_kept_and_only_what_is_below_the_floor_is_over() {
    let mut world = World::new();
    let by = life(2).node;
    for request in 1..=MAX_RECORDS as u64 + 1 {
        world.acquire(1, request, wish("a"));
        let (token, at_once) = (100 + request, true);
        world.apply(Change::Revoke { by, token, at_once });
    }
    let tokens: Vec<u64> = world.table.records().map(|record| record.token).collect();
    assert_eq!(tokens, (102..=101 + MAX_RECORDS as u64).collect::<Vec<_>>());
    let (owner, request, floor) = (life(1), 900, 900);
    world.apply(Change::Cancel {
        owner,
        request,
        floor: 0,
    });
    world.apply(Change::Cancel {
        owner,
        request: 901,
        floor,
    });
    assert!(!world.table.is_over(owner, 902) && world.table.is_over(owner, 899));
    let floor = 902;
    world.apply(Change::Cancel {
        owner,
        request: 903,
        floor,
    });
    assert!(!world.table.is_over(owner, 902) && world.table.is_over(owner, 901));
}
