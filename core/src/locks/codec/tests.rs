//! Tests of locks on the wire; whole frames, entries and snapshots are tested with those of consensus.

use super::*;
use crate::id::NodeId;
use crate::locks::change::Change;
use crate::locks::table::{Request, Table};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use quickcheck::{Arbitrary, Gen, quickcheck};

fn life(g: &mut Gen) -> Life {
    // Few, so that they meet.
    Life {
        node: NodeId::from_bytes([u8::arbitrary(g) % 4; 16]),
        number: u32::arbitrary(g) % 2,
    }
}

fn key(g: &mut Gen) -> Key {
    let long = u8::arbitrary(g) % 16 == 0;
    let key = if long {
        "k".repeat(MAX_KEY_BYTES)
    } else {
        format!("k{}", u8::arbitrary(g) % 3)
    };
    Key::new(&key).unwrap()
}

fn wish(g: &mut Gen) -> Wish {
    let capacity = *g.choose(&[1, 3, u32::MAX]).unwrap();
    let len = if bool::arbitrary(g) {
        0
    } else {
        usize::arbitrary(g) % (MAX_METADATA_BYTES + 1)
    };
    Wish {
        key: key(g),
        units: *g.choose(&[1, capacity]).unwrap(),
        capacity,
        priority: u8::arbitrary(g) % 3,
        wait: bool::arbitrary(g),
        ttl: u32::arbitrary(g),
        metadata: vec![7; len].into(),
    }
}

fn list(g: &mut Gen) -> Vec<u64> {
    let len = usize::arbitrary(g) % (MAX_LIST + 1);
    (0..len).map(|_| u64::arbitrary(g)).collect()
}

pub(crate) fn change(g: &mut Gen) -> Change {
    let (owner, request) = (life(g), u64::arbitrary(g) % 8);
    let (token, floor) = (101 + u64::arbitrary(g) % 8, u64::arbitrary(g) % 4);
    match u8::arbitrary(g) % 13 {
        0..=3 => Change::Acquire {
            owner,
            request,
            floor,
            wish: Arc::new(wish(g)),
        },
        4 => Change::Grant {
            key: key(g),
            owner,
            request,
        },
        5 => Change::Release { owner, token },
        6 => Change::Raise {
            owner,
            token,
            ttl: u32::arbitrary(g),
        },
        7 => Change::Cancel {
            owner,
            request,
            floor,
        },
        8 => Change::Expire { token },
        9 => Change::Revoke {
            by: owner.node,
            token,
            at_once: bool::arbitrary(g),
        },
        10 => Change::DropWaiter { owner, request },
        11 => Change::ForgetOwner { node: owner.node },
        _ => Change::DropOwner { node: owner.node },
    }
}

pub(crate) fn ask(g: &mut Gen) -> Ask {
    let (stamp, request, token) = (u64::arbitrary(g), u64::arbitrary(g), u64::arbitrary(g));
    match u8::arbitrary(g) % 9 {
        8 => Ask::Watch { request, key: key(g) },
        7 => Ask::List {
            request,
            filter: filter(g),
            after: bool::arbitrary(g).then(|| cursor(g)),
        },
        0 => Ask::Acquire {
            stamp,
            request,
            floor: u64::arbitrary(g),
            wish: wish(g),
        },
        1 => Ask::Wait {
            stamp,
            requests: list(g),
        },
        2 => Ask::Renew {
            stamp,
            tokens: list(g),
        },
        3 => Ask::Raise {
            stamp,
            token,
            ttl: u32::arbitrary(g),
        },
        4 => Ask::Release { tokens: list(g) },
        5 => Ask::Cancel {
            request,
            floor: u64::arbitrary(g),
        },
        _ => Ask::Revoke {
            request,
            token,
            at_once: bool::arbitrary(g),
        },
    }
}

fn cursor(g: &mut Gen) -> LockCursor {
    LockCursor {
        key: key(g),
        waits: bool::arbitrary(g),
        place: (u64::arbitrary(g), u64::arbitrary(g)),
    }
}

fn filter(g: &mut Gen) -> LockFilter {
    LockFilter {
        key: bool::arbitrary(g).then(|| key(g)),
        owner: bool::arbitrary(g).then(|| life(g).node),
        held: bool::arbitrary(g),
        contested: bool::arbitrary(g),
        expires_within: Option::arbitrary(g),
        metadata: bool::arbitrary(g).then(|| (key(g), (*key(g)).into())),
        wrong: None,
    }
}

fn page(g: &mut Gen) -> LockPage {
    let (table, now) = (table(g), crate::time::Instant::ZERO);
    crate::locks::list::page(&table, &filter(g), None, now, |_| None)
}

fn denial(g: &mut Gen) -> Denial {
    let number = u32::arbitrary(g);
    match u8::arbitrary(g) % 8 {
        0 => Denial::Taken {
            token: u64::arbitrary(g),
            owner: life(g).node,
            left: u32::arbitrary(g),
            waiting: number,
        },
        1 => Denial::OtherCapacity(number),
        2 => Denial::TooManyWaiters(number),
        3 => Denial::TableFull,
        4 => Denial::TooManyRequests,
        5 => Denial::Invalid,
        6 => Denial::Ttl(number),
        _ => Denial::NotOpen,
    }
}

pub(crate) fn answer(g: &mut Gen) -> Answer {
    let (stamp, request, token) = (u64::arbitrary(g), u64::arbitrary(g), u64::arbitrary(g));
    match u8::arbitrary(g) % 12 {
        10 => Answer::Watched {
            request,
            version: token,
        },
        9 => Answer::Page {
            request,
            page: page(g),
        },
        0 => Answer::Granted {
            request,
            token,
            stamp,
            lease: u32::arbitrary(g),
        },
        1 => Answer::Queued { request },
        2 => Answer::Denied {
            request,
            why: denial(g),
        },
        3 => Answer::Unknown { requests: list(g) },
        4 => Answer::Renewed {
            stamp,
            leases: list(g)
                .into_iter()
                .map(|token| (token, u32::arbitrary(g)))
                .collect(),
        },
        5 => Answer::Gone {
            tokens: list(g),
            revoked: bool::arbitrary(g),
        },
        6 => Answer::Released { tokens: list(g) },
        7 => Answer::Cancelled { request },
        8 => Answer::Revoked {
            request,
            held: bool::arbitrary(g),
        },
        _ => Answer::Elsewhere,
    }
}

/// A table to which anything has happened.
pub(crate) fn table(g: &mut Gen) -> Table {
    let mut table = Table::default();
    let mut counter = 100;
    for _ in 0..u8::arbitrary(g) % 24 {
        let open = u8::arbitrary(g) % 8 > 0;
        table.apply(&change(g), open, &mut counter);
    }
    table
}

fn sample_wish() -> Wish {
    Wish {
        key: Key::new("jobs").unwrap(),
        units: 1,
        capacity: 3,
        priority: 7,
        wait: true,
        ttl: 15_000,
        metadata: Bytes::from_static(&[1, 2, b'o', b'n', 0, 1, b'x']),
    }
}

/// What docs/wire.md shows: each change, each ask, and each answer.
pub(crate) fn samples(owner: Life) -> (Vec<Change>, Vec<Ask>, Vec<Answer>) {
    let key = Key::new("jobs").unwrap();
    let (request, floor, token, stamp, ttl) = (6, 5, 0x1002, 1 << 32, 20_000);
    let (by, node, at_once) = (owner.node, owner.node, true);
    let changes = vec![
        Change::Acquire {
            owner,
            request,
            floor,
            wish: Arc::new(sample_wish()),
        },
        Change::Grant { key, owner, request },
        Change::Release { owner, token },
        Change::Raise { owner, token, ttl },
        Change::Cancel {
            owner,
            request,
            floor,
        },
        Change::Expire { token },
        Change::Revoke { by, token, at_once },
        Change::DropWaiter { owner, request },
        Change::DropOwner { node },
        Change::ForgetOwner { node },
    ];
    let (tokens, requests, wish) = (vec![token], vec![request], sample_wish());
    let asks = vec![
        Ask::Acquire {
            stamp,
            request,
            floor,
            wish,
        },
        Ask::Wait {
            stamp,
            requests: requests.clone(),
        },
        Ask::Renew {
            stamp,
            tokens: tokens.clone(),
        },
        Ask::Raise { stamp, token, ttl },
        Ask::Release {
            tokens: tokens.clone(),
        },
        Ask::Cancel { request, floor },
        Ask::Revoke {
            request,
            token,
            at_once,
        },
        Ask::List {
            request,
            filter: LockFilter::new()
                .key("jobs/*")
                .owner(owner.node)
                .held()
                .contested()
                .metadata("on", "x"),
            after: Some(LockCursor {
                key: Key::new("jobs").unwrap(),
                waits: false,
                place: (token, 0),
            }),
        },
        Ask::Watch {
            request,
            key: Key::new("jobs").unwrap(),
        },
    ];
    let denials = [
        Denial::Taken {
            token,
            owner: owner.node,
            left: 1500,
            waiting: 2,
        },
        Denial::OtherCapacity(1),
        Denial::TooManyWaiters(100),
        Denial::TableFull,
        Denial::TooManyRequests,
        Denial::Invalid,
        Denial::NotOpen,
        Denial::Ttl(60_000),
    ];
    let mut answers = vec![
        Answer::Granted {
            request,
            token,
            stamp,
            lease: 3000,
        },
        Answer::Queued { request },
    ];
    answers.extend(denials.map(|why| Answer::Denied { request, why }));
    answers.extend([
        Answer::Unknown { requests },
        Answer::Renewed {
            stamp,
            leases: vec![(token, 15_000)],
        },
        Answer::Gone {
            tokens: tokens.clone(),
            revoked: true,
        },
        Answer::Released { tokens },
        Answer::Cancelled { request },
        Answer::Revoked { request, held: true },
        Answer::Elsewhere,
        Answer::Page {
            request,
            page: sample_page(owner),
        },
        Answer::Watched {
            request,
            version: u64::MAX / 3,
        },
    ]);
    (changes, asks, answers)
}

fn sample_page(owner: Life) -> LockPage {
    let mut table = Table::default();
    let mut counter = 0x1000;
    for change in history(owner) {
        table.apply(&change, true, &mut counter);
    }
    let now = crate::time::Instant::ZERO;
    let deadline = |_| Some(crate::time::Instant::from_millis(9000));
    crate::locks::list::page(&table, &LockFilter::new(), None, now, deadline)
}

/// After this a table has everything that it can have.
pub(crate) fn history(owner: Life) -> Vec<Change> {
    let acquire = |request, units| Change::Acquire {
        owner,
        request,
        floor: 1,
        wish: Arc::new(Wish {
            units,
            ..sample_wish()
        }),
    };
    let revoke = Change::Revoke {
        by: owner.node,
        token: 0x1001,
        at_once: false,
    };
    let release = Change::Release { owner, token: 0x1002 };
    vec![acquire(1, 2), acquire(2, 1), acquire(3, 3), revoke, release]
}

/// Anything that can happen to a table, in any order.
#[derive(Clone, Debug)]
struct Any(Vec<(Change, bool)>);

impl Arbitrary for Any {
    fn arbitrary(g: &mut Gen) -> Self {
        let count = usize::arbitrary(g) % 40;
        Self(
            (0..count)
                .map(|_| (change(g), u8::arbitrary(g) % 8 > 0))
                .collect(),
        )
    }

    fn shrink(&self) -> alloc::boxed::Box<dyn Iterator<Item = Self>> {
        let all = self.0.clone();
        let shorter = (0..all.len()).map(move |place| {
            let mut less = all.clone();
            less.remove(place);
            Self(less)
        });
        alloc::boxed::Box::new(shorter)
    }
}

/// Says what is wrong with a table.
fn fault(table: &Table) -> Option<String> {
    let mut bytes = 0;
    for (key, lock) in table.locks() {
        let held: u64 = lock.holders().map(|(_, holder)| u64::from(holder.units)).sum();
        if held > u64::from(lock.capacity()) {
            return Some(format!("{key}: {held} units of {}", lock.capacity()));
        }
        if lock.holders().next().is_none() && lock.waiting() == 0 {
            return Some(format!("{key} is kept for nobody"));
        }
        bytes += lock
            .holders()
            .map(|(_, holder)| 64 + key.len() + holder.metadata.len())
            .sum::<usize>();
        for waiter in lock.queue() {
            bytes += 64 + key.len() + waiter.wish.metadata.len();
            if table.waits_for(waiter.owner, waiter.request) != Some(key) {
                return Some(format!("{key}: a waiter is not known to wait"));
            }
        }
        for (token, _) in lock.holders() {
            if table.holder(token).is_none() {
                return Some(format!("{key}: token {token} is not found"));
            }
        }
    }
    let waiting = table.owners.values().flat_map(|known| known.requests.values());
    let waiting = waiting
        .filter(|request| matches!(request, Request::Waits(..)))
        .count();
    if waiting != table.waiters().count() {
        return Some(format!("{waiting} requests wait, and others are in queues"));
    }
    (bytes != table.bytes()).then(|| format!("counts {} bytes of {bytes}", table.bytes()))
}

quickcheck! {
    /// Whatever happens: units are never more than there are, tokens rise, what is counted is there; and applying
    /// anything again changes no more than the count of who ever waited.
    fn a_table_stays_sound(changes: Any) -> Result<(), String> {
        let mut table = Table::default();
        let mut counter = 100;
        for (change, open) in &changes.0 {
            let before = counter;
            let effects = table.apply(change, *open, &mut counter);
            for effect in &effects {
                if let crate::locks::Effect::Granted { token, .. } = effect
                    && *token <= before
                {
                    return Err(format!("token {token} was granted before"));
                }
            }
            if let Some(fault) = fault(&table) {
                return Err(fault);
            }
            let (mut again, mut spare) = (table.clone(), counter);
            let repeated = again.apply(change, *open, &mut spare);
            if spare != counter && !matches!(change, Change::Grant { .. }) {
                return Err(format!("{change:?} twice: {repeated:?}"));
            }
        }
        Ok(())
    }

    fn tables_round_trip(changes: Any) -> bool {
        let mut table = Table::default();
        let mut counter = 100;
        for (change, open) in &changes.0 {
            table.apply(change, *open, &mut counter);
        }
        let mut buf = Vec::new();
        put_table(&mut buf, &table);
        read_table(&mut Reader::new(&buf)) == Some(table)
    }
}
