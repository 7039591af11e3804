//! Tests of a leader's leases, with a table to which what it appends is applied at once, or later.

mod limits;
#[cfg(feature = "planted-bugs")]
mod planted;
mod queues;
mod watches;

use super::*;
use crate::id::NodeId;
use crate::locks::Key;
use crate::locks::ask::{Ask, Denial, Wish};
use alloc::vec;
use bytes::Bytes;

fn life(name: u8) -> Life {
    Life::first(NodeId::from_bytes([name; 16]))
}

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn wish(key: &str) -> Wish {
    Wish {
        key: Key::new(key).unwrap(),
        units: 1,
        capacity: 1,
        priority: 0,
        wait: true,
        ttl: 10_000,
        metadata: Bytes::new(),
    }
}

/// A leader with its table. What it appends waits until it is told to apply it.
struct Leader {
    leases: Leases,
    table: Table,
    counter: u64,
    terms: Terms,
    round: u64,
    appended: VecDeque<Change>,
    replies: Vec<Reply>,
}

impl Leader {
    fn new(now: u64) -> Self {
        let mut leader = Self {
            leases: Leases::default(),
            table: Table::default(),
            counter: 100,
            terms: Terms::default(),
            round: 1,
            appended: VecDeque::new(),
            replies: Vec::new(),
        };
        leader.set_open(now, true);
        leader.serve(now);
        leader
    }

    fn with(&mut self, now: u64, act: impl FnOnce(&mut Leases, &At<'_>, &mut Deeds)) {
        let mut deeds = Deeds::default();
        let cx = At {
            now: at(now),
            terms: self.terms,
            table: &self.table,
        };
        act(&mut self.leases, &cx, &mut deeds);
        self.appended.extend(deeds.changes);
        self.replies.extend(deeds.replies);
    }

    fn set_open(&mut self, now: u64, open: bool) {
        self.with(now, |leases, cx, deeds| leases.set_open(cx, open, deeds));
    }

    /// Another leader takes over, with the same table.
    fn serve(&mut self, now: u64) {
        self.appended.clear();
        self.with(now, |leases, cx, _| leases.serve(cx));
    }

    fn ask(&mut self, now: u64, from: u8, ask: &Ask) {
        let round = self.round;
        self.with(now, |leases, cx, deeds| {
            leases.ask(cx, life(from), ask, round, deeds)
        });
    }

    fn acquire(&mut self, now: u64, from: u8, request: u64, wish: Wish) {
        let ask = Ask::Acquire {
            stamp: now,
            request,
            floor: 0,
            wish,
        };
        self.ask(now, from, &ask);
    }

    fn wait(&mut self, now: u64, from: u8, request: u64) {
        let requests = vec![request];
        self.ask(now, from, &Ask::Wait { stamp: now, requests });
    }

    fn renew(&mut self, now: u64, from: u8, token: u64) {
        let tokens = vec![token];
        self.ask(now, from, &Ask::Renew { stamp: now, tokens });
    }

    fn release(&mut self, now: u64, from: u8, token: u64) {
        let tokens = vec![token];
        self.ask(now, from, &Ask::Release { tokens });
    }

    /// Commits what was appended.
    fn commit(&mut self, now: u64) {
        while let Some(change) = self.appended.pop_front() {
            for effect in self.table.apply(&change, true, &mut self.counter) {
                self.with(now, |leases, cx, deeds| leases.applied(cx, &effect, deeds));
            }
        }
    }

    /// This round is complete.
    fn completed(&mut self, round: u64) {
        self.with(0, |leases, cx, deeds| leases.round_completed(cx, round, deeds));
    }

    /// A round begins and completes.
    fn round(&mut self) {
        self.round += 1;
        self.completed(self.round);
    }

    fn timeout(&mut self, now: u64) {
        self.with(now, Leases::handle_timeout);
    }

    fn replies(&mut self) -> Vec<Reply> {
        core::mem::take(&mut self.replies)
    }

    /// Says until when the holder of a token may believe, in milliseconds.
    fn deadline(&self, token: u64) -> Option<u64> {
        let deadline = self.leases.deadline(token)?;
        Some(deadline.as_nanos() / 1_000_000)
    }
}

const fn granted(request: u64, token: u64, stamp: u64, lease: u32) -> Answer {
    Answer::Granted {
        request,
        token,
        stamp,
        lease,
    }
}

fn renewed(token: u64, stamp: u64, lease: u32) -> Answer {
    let leases = vec![(token, lease)];
    Answer::Renewed { stamp, leases }
}

#[test]
fn a_lease_counts_from_the_receipt_of_what_is_answered() {
    let mut leader = Leader::new(0);
    leader.acquire(1000, 1, 1, wish("a"));
    // A copy that comes later, and before the grant is committed, makes the lease no longer.
    leader.acquire(1500, 1, 1, wish("a"));
    assert_eq!(leader.replies(), []);
    leader.commit(2000);
    assert_eq!(leader.replies(), [(life(1), granted(1, 101, 1000, 10_000))]);
    // 1 % more than what its holder counts, and a moment.
    assert_eq!(leader.deadline(101), Some(11_100));
}

#[test]
fn a_copy_that_finds_its_grant_is_a_renewal_and_waits_for_a_round() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.commit(0);
    leader.replies();
    leader.acquire(3000, 1, 1, wish("a"));
    // Extended at once, answered later.
    assert_eq!(leader.deadline(101), Some(13_100));
    assert_eq!(leader.replies(), []);
    leader.round();
    assert_eq!(leader.replies(), [(life(1), granted(1, 101, 3000, 10_000))]);
}

#[test]
fn renewals_wait_for_a_round_that_began_after_they_came() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.commit(0);
    leader.replies();
    leader.renew(4000, 1, 101);
    // The round that was begun before says nothing.
    leader.completed(leader.round);
    assert_eq!(leader.replies(), []);
    leader.round();
    assert_eq!(leader.replies(), [(life(1), renewed(101, 4000, 10_000))]);
    // A renewal that comes late moves no deadline back.
    leader.renew(3000, 1, 101);
    assert_eq!(leader.deadline(101), Some(14_100));
}

#[test]
fn what_was_appended_to_end_is_never_answered_for_again() {
    for end in ["release", "expire", "revoke", "leave"] {
        let mut leader = Leader::new(0);
        leader.acquire(0, 1, 1, wish("a"));
        leader.commit(0);
        leader.replies();
        // One renewal waits for its round, another comes after the end was appended.
        leader.renew(4000, 1, 101);
        match end {
            "release" => leader.release(5000, 1, 101),
            "expire" => leader.timeout(20_000),
            "revoke" => leader.ask(
                5000,
                2,
                &Ask::Revoke {
                    request: 1,
                    token: 101,
                    at_once: true,
                },
            ),
            _ => leader.with(5000, |leases, cx, deeds| {
                leases.owner_left(cx, life(1).node, deeds);
            }),
        }
        leader.renew(20_001, 1, 101);
        leader.round();
        let gone = |(to, answer): &Reply| {
            *to == life(2) || matches!(answer, Answer::Gone { tokens, .. } if tokens == &[101])
        };
        let replies = leader.replies();
        assert!(
            replies.len() >= 2 && replies.iter().all(gone),
            "{end}: {replies:?}"
        );
    }
}

#[test]
fn a_new_leader_gives_each_lease_its_whole_length() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.commit(0);
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    leader.release(100, 1, 101);
    leader.commit(100);
    // From the queue: short, until it is renewed.
    assert_eq!(leader.deadline(102), Some(3030));
    leader.serve(2000);
    // Perhaps its predecessor has renewed it.
    assert_eq!(leader.deadline(102), Some(12_100));
}

#[test]
fn a_queue_grant_counts_from_the_last_sign_before_it_was_appended() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    leader.wait(1000, 2, 1);
    leader.replies();
    leader.release(1500, 1, 101);
    // Between append and commit: too late to count for the grant.
    leader.wait(1600, 2, 1);
    leader.commit(1700);
    let replies = leader.replies();
    assert!(
        replies.contains(&(life(2), granted(1, 102, 1000, 3000))),
        "{replies:?}"
    );
    assert_eq!(leader.deadline(102), Some(1000 + 3030));
    // A later sign is a renewal: the whole length, after a round.
    leader.wait(1800, 2, 1);
    assert_eq!((leader.deadline(102), leader.replies()), (Some(11_900), vec![]));
    leader.round();
    assert_eq!(leader.replies(), [(life(2), granted(1, 102, 1800, 10_000))]);
}

#[test]
fn who_is_silent_gets_nothing_and_keeps_nobody_waiting() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.acquire(0, 2, 1, wish("a"));
    leader.acquire(0, 3, 1, wish("a"));
    leader.commit(0);
    leader.wait(2500, 3, 1);
    leader.timeout(3031);
    leader.commit(3031);
    assert_eq!(leader.table.waits_for(life(2), 1), None);
    leader.release(3100, 1, 101);
    leader.commit(3100);
    assert_eq!(leader.table.granted(life(3), 1), Some(102));
}

#[test]
fn a_new_leader_grants_to_who_waits_only_after_a_sign_of_it() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    leader.serve(1000);
    leader.release(1100, 1, 101);
    leader.commit(1100);
    assert_eq!(leader.table.granted(life(2), 1), None);
    leader.wait(1200, 2, 1);
    leader.commit(1250);
    assert_eq!(leader.table.granted(life(2), 1), Some(102));
    // Silence counts from its own beginning, not from what others heard.
    leader.acquire(1300, 3, 1, wish("a"));
    leader.commit(1300);
    leader.serve(10_000);
    leader.timeout(13_029);
    assert_eq!(leader.appended, []);
    leader.timeout(13_031);
    assert_eq!(leader.appended.len(), 1);
}

#[test]
fn leases_end_at_their_deadline_and_not_before() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    leader.wait(10_000, 2, 1);
    leader.timeout(10_100);
    assert_eq!(leader.appended, []);
    leader.timeout(10_101);
    leader.commit(10_101);
    assert_eq!(leader.table.granted(life(2), 1), Some(102));
}

#[test]
fn a_longer_lease_is_promised_only_once_it_is_agreed_on() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.commit(0);
    leader.replies();
    let raise = |stamp| Ask::Raise {
        stamp,
        token: 101,
        ttl: 20_000,
    };
    leader.ask(1000, 1, &raise(1000));
    leader.round();
    assert_eq!(leader.replies(), []);
    leader.commit(1500);
    leader.ask(2000, 1, &raise(2000));
    leader.round();
    assert_eq!(leader.replies(), [(life(1), renewed(101, 2000, 20_000))]);
    assert_eq!(leader.deadline(101), Some(22_200));
}

#[test]
fn a_lock_that_is_taken_goes_on_when_its_holder_has_stopped_or_its_lease_is_over() {
    let revoke = Ask::Revoke {
        request: 1,
        token: 101,
        at_once: false,
    };
    for stops in [true, false] {
        let mut leader = Leader::new(0);
        leader.acquire(0, 1, 1, wish("a"));
        leader.acquire(0, 2, 1, wish("a"));
        leader.commit(0);
        leader.wait(900, 2, 1);
        leader.ask(1000, 3, &revoke);
        leader.commit(1000);
        let replies = leader.replies();
        let told = Answer::Gone {
            tokens: vec![101],
            revoked: true,
        };
        assert!(replies.contains(&(life(1), told.clone())));
        // It cannot go on by renewals.
        leader.renew(1100, 1, 101);
        leader.round();
        assert_eq!(leader.replies(), [(life(1), told)]);
        assert_eq!(leader.deadline(101), Some(10_100));
        if stops {
            leader.release(1200, 1, 101);
        } else {
            leader.timeout(1300);
            assert_eq!(leader.table.granted(life(2), 1), None);
            leader.wait(9900, 2, 1);
            leader.timeout(10_101);
        }
        leader.commit(10_102);
        assert_eq!(leader.table.granted(life(2), 1), Some(102));
    }
}

/// The table keeps a record of the last 64 only.
#[test]
fn each_of_many_that_are_taken_at_once_is_told_of() {
    const MANY: u64 = 100;
    for at_once in [false, true] {
        let mut leader = Leader::new(0);
        for request in 1..=MANY {
            leader.acquire(0, 1, request, wish(&alloc::format!("{request}")));
        }
        leader.commit(0);
        leader.replies();
        for request in 1..=MANY {
            let token = 100 + request;
            leader.ask(
                1000,
                3,
                &Ask::Revoke {
                    request,
                    token,
                    at_once,
                },
            );
        }
        leader.commit(1000);
        let told = leader.replies();
        let taken = |&request: &u64| told.contains(&(life(3), Answer::Revoked { request, held: true }));
        assert_eq!((1..=MANY).filter(taken).count() as u64, MANY);
        // Whoever takes one at once hears of it when nobody has it any more, also if another one took it before.
        let taken = Answer::Revoked {
            request: 9,
            held: true,
        };
        if !at_once {
            leader.acquire(1000, 2, 1, wish("b"));
            leader.commit(1000);
            let token = leader.table.granted(life(2), 1).unwrap();
            let ask = |at_once| Ask::Revoke {
                request: 9,
                token,
                at_once,
            };
            leader.ask(1100, 3, &ask(false));
            leader.ask(1100, 4, &ask(true));
            leader.replies();
            let later = leader.appended.split_off(1);
            leader.commit(1100);
            let told = leader.replies();
            assert!(told.contains(&(life(3), taken.clone())) && !told.contains(&(life(4), taken.clone())));
            leader.appended = later;
            leader.commit(1100);
            assert!(leader.replies().contains(&(life(4), taken)));
        }
        // An answer may be lost: who asks again is told the same, while they are held.
        if !at_once {
            leader.ask(
                1200,
                3,
                &Ask::Revoke {
                    request: 1,
                    token: 101,
                    at_once,
                },
            );
            leader.round();
            assert!(leader.replies().contains(&(
                life(3),
                Answer::Revoked {
                    request: 1,
                    held: true
                }
            )));
        }
    }
}

/// Else the one that is refused would be appended again and again.
#[test]
fn nothing_is_appended_for_who_waits_while_the_group_is_closed() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    leader.set_open(1, false);
    leader.wait(1000, 2, 1);
    leader.release(1000, 1, 101);
    leader.commit(1000);
    assert_eq!(leader.table.granted(life(2), 1), None);
    leader.set_open(2000, true);
    leader.commit(2000);
    assert_eq!(leader.table.granted(life(2), 1), Some(102));
}

/// Who waits is told that the lock is free when the cancel is appended: it has to be true when it is applied.
#[test]
fn a_late_cancel_ends_a_lease_whatever_floor_came_before() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    let later = Ask::Acquire {
        stamp: 1,
        request: 9,
        floor: 9,
        wish: wish("b"),
    };
    leader.ask(1, 1, &later);
    let cancel = Ask::Cancel { request: 1, floor: 1 };
    leader.ask(2, 1, &cancel);
    leader.wait(2, 2, 1);
    leader.commit(3);
    assert!(leader.table.holder(101).is_none());
    assert!(leader.table.granted(life(2), 1).is_some());
}

#[test]
fn a_request_that_is_not_known_is_asked_for_again() {
    let mut leader = Leader::new(0);
    leader.wait(0, 1, 7);
    let requests = vec![7];
    assert_eq!(leader.replies(), [(life(1), Answer::Unknown { requests })]);
}

/// As [`Client`](crate::locks::Client) does it: who waits is below the floor, and so is not in the way of what comes after.
#[test]
fn who_waits_for_long_may_ask_for_other_locks() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.acquire(0, 2, 1, wish("a"));
    leader.commit(0);
    for request in 2..=3 * MAX_OPEN {
        let (stamp, floor, wish) = (0, request, wish("b"));
        leader.ask(
            0,
            2,
            &Ask::Acquire {
                stamp,
                request,
                floor,
                wish,
            },
        );
        leader.commit(0);
        let token = leader.table.granted(life(2), request).unwrap();
        leader.release(0, 2, token);
        leader.commit(0);
    }
    // Nor does a message matter that counts from further below.
    leader.acquire(0, 2, 3 * MAX_OPEN + 1, wish("b"));
    leader.wait(1, 2, 1);
    leader.release(1, 1, 101);
    leader.commit(1);
    assert!(leader.table.granted(life(2), 1).is_some());
    assert!(leader.table.granted(life(2), 3 * MAX_OPEN + 1).is_some());
}

#[test]
fn cancels_of_what_nobody_asked_for_do_not_fill_the_table() {
    let mut leader = Leader::new(0);
    for request in MAX_OPEN - 1..=2 * MAX_OPEN {
        leader.ask(0, 1, &Ask::Cancel { request, floor: 0 });
    }
    assert_eq!(leader.appended.len(), 1);
    leader.commit(0);
    // They are answered, so that nobody asks for ever.
    assert_eq!(leader.replies().len() as u64, MAX_OPEN + 2);
}

#[test]
fn a_copy_that_is_over_when_it_is_applied_leaves_nothing() {
    let mut leader = Leader::new(0);
    let acquire = |request, floor| Ask::Acquire {
        stamp: 0,
        request,
        floor,
        wish: wish("a"),
    };
    leader.ask(0, 1, &acquire(5, 5));
    // Was on its way for longer: all below 5 is over, and that is appended.
    leader.ask(0, 1, &acquire(3, 0));
    leader.commit(0);
    assert!(leader.leases.asked.is_empty());
    assert!(
        leader
            .replies()
            .contains(&(life(1), Answer::Cancelled { request: 3 }))
    );
    assert_eq!(leader.table.lock("a").unwrap().waiting(), 0);
}

#[test]
fn what_arrives_after_a_goodbye_is_dropped_too() {
    let mut leader = Leader::new(0);
    for request in 1..=3 {
        leader.acquire(0, 1, request, wish("a"));
        leader.commit(0);
        leader.with(0, |leases, cx, deeds| {
            leases.owner_left(cx, life(1).node, deeds);
        });
        leader.commit(0);
        assert!(!leader.table.knows(life(1).node));
    }
}

#[test]
fn nobody_else_renews_a_lease() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.commit(0);
    leader.replies();
    let before = leader.deadline(101);
    leader.renew(4000, 2, 101);
    leader.round();
    let (tokens, revoked) = (vec![101], false);
    assert_eq!(leader.replies(), [(life(2), Answer::Gone { tokens, revoked })]);
    assert_eq!(leader.deadline(101), before);
}
