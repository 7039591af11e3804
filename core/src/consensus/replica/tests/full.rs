//! A leader with as much undecided as it takes.

use super::super::*;
use super::units::{NOW, life, replica};
use crate::WallTime;
use crate::locks::{Answer, Ask, Key, Wish};
use alloc::vec;
use bytes::Bytes;

const LIMIT: usize = 10;

fn acquire(request: u64, key: &str) -> Ask {
    Ask::Acquire {
        stamp: 1,
        request,
        floor: 1,
        wish: Wish {
            key: Key::new(key).unwrap(),
            units: 1,
            capacity: 1,
            priority: 0,
            wait: true,
            ttl: 5_000,
            metadata: Bytes::new(),
        },
    }
}

/// A leader alone, whose own first request holds a lock and whose second waits for it. Nothing is decided any more.
fn full() -> (Replica, Group, u64) {
    let mut leader = replica(1, 1);
    leader.rules.log_limit = LIMIT;
    let mut out = Output::default();
    assert!(leader.stand());
    let group = leader.found(NOW, WallTime::default(), &mut out).unwrap();
    assert!(leader.open(NOW));
    for request in [1, 2] {
        leader.ask_locks(NOW, group, life(1), acquire(request, "a"), &mut out);
        leader.flush(NOW, &mut out);
    }
    let token = leader.machine().unwrap().table.granted(life(1), 1).unwrap();
    for _ in 0..LIMIT {
        leader.propose(Command::Noop);
    }
    (leader, group, token)
}

/// Who holds or waits is heard all the same: its time goes on.
#[test]
fn a_full_log_stops_neither_renewals_nor_signs_of_those_who_wait() {
    let stamp = 2;
    let heard = |ask: Ask, answered: bool| {
        let (mut leader, group, token) = full();
        let before = leader.leadership().unwrap().leases.deadline(token);
        let last = leader.log().unwrap().last();
        let later = NOW + crate::Duration::from_secs(1);
        let mut out = Output::default();
        leader.ask_locks(later, group, life(1), ask, &mut out);
        assert_eq!(leader.log().unwrap().last(), last, "nothing is appended");
        let after = leader.leadership().unwrap().leases.deadline(token);
        assert_eq!(after > before, answered && out.answers.is_empty());
        assert_eq!(leader.wants_round(), answered && out.answers.is_empty());
        leader.beat(later, &mut out);
        assert_eq!(!out.answers.is_empty(), answered, "{:?}", out.answers);
        out.answers
    };
    let token = full().2;
    let renewed = |answers: &[(Group, Answer)]| matches!(answers, [(_, Answer::Renewed { .. })]);
    let tokens = vec![token];
    assert!(renewed(&heard(Ask::Renew { stamp, tokens }, true)));
    let ttl = 8_000;
    assert!(
        renewed(&heard(Ask::Raise { stamp, token, ttl }, true)),
        "as long as it was"
    );
    let granted = heard(acquire(1, "a"), true);
    assert!(
        matches!(granted[..], [(_, Answer::Granted { .. })]),
        "{granted:?}"
    );
    let requests = vec![2];
    let queued = heard(Ask::Wait { stamp, requests }, true);
    assert!(
        matches!(queued[..], [(_, Answer::Queued { request: 2 })]),
        "{queued:?}"
    );

    heard(acquire(3, "b"), false);
    let tokens = vec![token];
    heard(Ask::Release { tokens }, false);
    heard(Ask::Cancel { request: 2, floor: 1 }, false);
    let (request, at_once) = (9, true);
    heard(
        Ask::Revoke {
            request,
            token,
            at_once,
        },
        false,
    );
}
