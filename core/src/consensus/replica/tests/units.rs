//! What no trace can say: messages that no honest replica sends.

use super::super::*;
use crate::consensus::log::Snapshot;
use crate::locks::{Change, Key, Terms, Wish};
use crate::time::Duration;
use bytes::Bytes;

pub(super) const HINTS: Hints = Hints {
    fresh: true,
    leader_heard: false,
};
pub(super) const NOW: Instant = Instant::from_millis(1000);

fn rules(cluster_size: u8) -> Rules {
    Rules {
        cluster_size,
        surge: 0,
        allow_observers: false,
        grace: Duration::from_secs(30),
        terms: Terms::default(),
        log_limit: 2,
        snapshot_piece: 20,
    }
}

pub(super) fn life(name: u8) -> Life {
    Life::first(NodeId::from_bytes([name; 16]))
}

pub(super) fn replica(name: u8, cluster_size: u8) -> Replica {
    Replica::new(rules(cluster_size), life(name).node, true)
}

/// A group of one that is open and has granted tokens until its log was compacted.
fn compacted(name: u8) -> Replica {
    let mut replica = replica(name, 1);
    let mut out = Output::default();
    assert!(replica.stand());
    let group = replica.found(NOW, crate::WallTime::default(), &mut out).unwrap();
    assert!(replica.open(NOW));
    replica.flush(NOW, &mut out);
    for request in 0..3 {
        replica.ask(group, life(name), request, &mut out);
        replica.flush(NOW, &mut out);
    }
    assert!(replica.log().unwrap().snapshot().is_some());
    replica
}

/// A snapshot takes time in proportion to the locks: as many entries are waited for.
#[test]
fn a_log_is_compacted_when_it_is_longer_than_its_snapshot() {
    let acquire = |request: u64| Change::Acquire {
        owner: life(1),
        request,
        floor: 0,
        wish: alloc::sync::Arc::new(Wish {
            key: Key::new(&alloc::format!("{request}")).unwrap(),
            units: 1,
            capacity: 1,
            priority: 0,
            wait: false,
            ttl: 1_000,
            metadata: Bytes::new(),
        }),
    };
    let mut leader = replica(1, 1);
    let mut out = Output::default();
    assert!(leader.stand());
    leader.found(NOW, crate::WallTime::default(), &mut out).unwrap();
    assert!(leader.open(NOW));
    let limit = leader.rules.log_limit;
    let mut propose = |change| {
        leader.propose(Command::Lock(change)).unwrap();
        leader.flush(NOW, &mut out);
        let (log, table) = (leader.log().unwrap(), &leader.machine().unwrap().table);
        let locks = table.locks().len();
        assert!(
            log.len() <= limit.max(locks) + 1,
            "{} of {locks} locks",
            log.len()
        );
        let last = log.snapshot().map(|snapshot| snapshot.last.index);
        (last, table.tokens().max())
    };
    for request in 1..=100 {
        propose(acquire(request));
    }
    let (mut made, mut before) = (0, None);
    for request in 101..=300 {
        let (_, token) = propose(acquire(request));
        let (last, _) = propose(Change::Release {
            owner: life(1),
            token: token.unwrap(),
        });
        made += usize::from(last != before);
        before = last;
    }
    // Half of the log is kept each time. One for each entry would be 400.
    assert!((4..=8).contains(&made), "{made} snapshots");
}

/// What is not decided yet does not make each further entry a reason for another snapshot.
#[test]
fn a_long_backlog_is_compacted_no_more_often() {
    let mut leader = replica(1, 1);
    leader.rules.log_limit = 100;
    let mut out = Output::default();
    assert!(leader.stand());
    leader.found(NOW, crate::WallTime::default(), &mut out).unwrap();
    leader.flush(NOW, &mut out);
    let part = leader.part.as_mut().unwrap();
    for _ in 0..600 {
        let term = part.term;
        part.append(Entry {
            term,
            command: Command::Noop,
        });
    }
    let (mut made, mut before) = (0, None);
    for _ in 0..400 {
        leader.part.as_mut().unwrap().commit += 1;
        leader.apply(NOW, &mut out);
        let last = leader.log().unwrap().snapshot().map(|snapshot| snapshot.last);
        made += usize::from(last != before);
        before = last;
    }
    assert!((4..=8).contains(&made), "{made} snapshots");
}

/// Nor does it stay beside a whole log of what is applied.
#[test]
fn a_log_is_no_longer_than_its_limit_and_what_is_not_decided() {
    let (mut leader, _) = leader_with_learner(100);
    for step in 0..1000 {
        let part = leader.part.as_mut().unwrap();
        let term = part.term;
        part.append(Entry {
            term,
            command: Command::Noop,
        });
        if step >= 100 {
            part.commit += 1;
            leader.apply(NOW, &mut Output::default());
        }
        let entries = leader.log().unwrap().len();
        assert!(entries <= 88 + 100, "{entries} after {step}");
    }
}

/// A leader, and a learner that has heard of it.
fn leader_with_learner(log_limit: usize) -> (Replica, Replica) {
    let (mut leader, mut learner) = (replica(1, 1), replica(2, 1));
    (leader.rules.log_limit, learner.rules.log_limit) = (log_limit, log_limit);
    let mut out = Output::default();
    assert!(leader.stand());
    leader.found(NOW, crate::WallTime::default(), &mut out).unwrap();
    leader.add_learner(life(2), &mut out);
    leader.flush(NOW, &mut out);
    exchange(&mut leader, &mut learner, out);
    (leader, learner)
}

/// Hands messages from one replica to another until there are no more.
fn exchange(a: &mut Replica, b: &mut Replica, out: Output) {
    let mut under_way: alloc::collections::VecDeque<_> = out.sends.into();
    while let Some(envelope) = under_way.pop_front() {
        let mut out = Output::default();
        if envelope.to == a.life() {
            a.receive(NOW, &envelope, HINTS, &mut out);
        } else if envelope.to == b.life() {
            b.receive(NOW, &envelope, HINTS, &mut out);
        }
        a.flush(NOW, &mut out);
        b.flush(NOW, &mut out);
        under_way.extend(out.sends);
    }
}

/// Refusals of what arrives too early must not multiply what is sent. In order, 500 entries take 32 messages and as many
/// answers.
#[test]
fn another_order_of_arrival_costs_little() {
    let (mut leader, mut learner) = leader_with_learner(10_000);

    let last = (0..500).filter_map(|_| leader.propose(Command::Noop)).last();
    let mut out = Output::default();
    leader.flush(NOW, &mut out);
    let mut under_way = out.sends;
    let (mut messages, mut random) = (0, 1_u64);
    while !under_way.is_empty() {
        messages += 1;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let envelope = under_way.swap_remove((random >> 33) as usize % under_way.len());
        let mut out = Output::default();
        if envelope.to == leader.life() {
            leader.receive(NOW, &envelope, HINTS, &mut out);
        } else {
            learner.receive(NOW, &envelope, HINTS, &mut out);
        }
        leader.flush(NOW, &mut out);
        under_way.extend(out.sends);
    }
    assert!(messages < 300, "{messages} messages in place of 64");
    // What was refused too late to be sent again at once is, when the next round tells of it.
    for _ in 0..2 {
        let mut out = Output::default();
        leader.beat(NOW, &mut out);
        exchange(&mut leader, &mut learner, out);
    }
    assert_eq!(learner.log().map(|log| log.last().index), last);
}

/// Answers that come late say little that is new, and must not multiply what is sent: not as entries that are under way
/// already, nor as the snapshot in the place of those that were compacted meanwhile.
#[test]
fn late_answers_cost_little() {
    const LATE: usize = 400;
    const STEPS: usize = 4_000;
    let (mut leader, mut learner) = leader_with_learner(100);

    let mut answers: alloc::collections::VecDeque<(usize, Envelope)> = alloc::collections::VecDeque::new();
    let (mut messages, mut pieces) = (0, 0);
    for step in 0..STEPS + 4 * LATE {
        let mut out = Output::default();
        if step < STEPS {
            leader.propose(Command::Noop);
        }
        if step % 10 == 0 {
            leader.beat(NOW, &mut out);
        }
        leader.flush(NOW, &mut out);
        while answers.front().is_some_and(|&(at, _)| at <= step) {
            let (_, answer) = answers.pop_front().unwrap();
            leader.receive(NOW, &answer, HINTS, &mut out);
        }
        for envelope in out.sends {
            messages += 1;
            pieces += usize::from(matches!(envelope.message, Message::Snapshot { .. }));
            let mut replies = Output::default();
            learner.receive(NOW, &envelope, HINTS, &mut replies);
            answers.extend(replies.sends.into_iter().map(|reply| (step + LATE, reply)));
        }
        assert!(messages <= 3 * (step + 100), "{messages} messages by step {step}");
    }
    let last = leader.log().map(|log| log.last().index);
    assert_eq!(learner.log().map(|log| log.last().index), last);
    // It falls behind by more than is kept, again and again.
    assert!(pieces > 0, "nothing was compacted in time");
}

/// The pieces of its snapshot that a leader sends to a new learner.
fn pieces(leader: &mut Replica, learner: Life) -> Vec<Envelope> {
    let mut out = Output::default();
    leader.add_learner(learner, &mut out);
    let question = out.sends.pop().unwrap();
    let Message::Append { term, .. } = question.message else {
        panic!("{question:?}");
    };
    let nothing = Envelope {
        from: learner,
        to: leader.life(),
        message: founding::nothing_yet(term, 0),
        ..question
    };
    leader.receive(NOW, &nothing, HINTS, &mut out);
    assert!(out.sends.len() > 1);
    out.sends
}

#[test]
fn a_snapshot_that_shrinks_while_it_is_sent_begins_anew() {
    let mut leader = compacted(1);
    let sent = pieces(&mut leader, life(2)).len();
    // A smaller one takes its place, as after a seat was emptied or a lock released.
    let part = leader.part.as_mut().unwrap();
    let last = part.log.snapshot().unwrap().last;
    let smaller = Snapshot {
        last: Position {
            index: last.index + 1,
            ..last
        },
        seats: Seats::default(),
        data: Bytes::from_static(&[0; 10]),
    };
    part.log.compact(smaller, 0);
    let mut out = Output::default();
    leader.send_append(life(2), &mut out);
    let begins = |envelope: &Envelope| {
        matches!(
            envelope.message,
            Message::Snapshot {
                offset: 0,
                total: 10,
                ..
            }
        )
    };
    assert!(
        sent > 1 && out.sends.first().is_some_and(begins),
        "{:?}",
        out.sends
    );
}

#[test]
fn a_learner_cannot_claim_more_of_a_snapshot_than_there_is() {
    let mut leader = compacted(1);
    let sent = pieces(&mut leader, life(2));
    let Message::Snapshot {
        term, last, total, ..
    } = sent[0].message
    else {
        panic!("{sent:?}");
    };
    for received in [total + 1, u32::MAX] {
        let mut out = Output::default();
        let claim = Envelope {
            from: life(2),
            to: leader.life(),
            message: Message::SnapshotReply {
                term,
                last,
                received,
                round: 1,
            },
            ..sent[0]
        };
        leader.receive(NOW, &claim, HINTS, &mut out);
        assert_eq!(out.sends, []);
        leader.beat(NOW, &mut out);
        assert!(matches!(
            out.sends[0].message,
            Message::Snapshot { offset: 0, .. }
        ));
    }
}

#[test]
fn pieces_of_two_groups_are_not_put_together() {
    let (mut one, mut other) = (compacted(1), compacted(2));
    let mut learner = replica(3, 1);
    let (first, second) = (pieces(&mut one, life(3)), pieces(&mut other, life(3)));
    // As long as each other, and of the same entry.
    assert!(first.len() == 6 && second.len() == 6);
    let mut out = Output::default();
    for envelope in first[..3].iter().chain([&second[3], &first[4], &first[5]]) {
        learner.receive(NOW, envelope, HINTS, &mut out);
    }
    assert_eq!(learner.group(), None);
    // A leader that is told that there is less than there was begins anew.
    for _ in 0..2 {
        let mut out = Output::default();
        other.beat(NOW, &mut out);
        exchange(&mut other, &mut learner, out);
    }
    assert_eq!(learner.group(), other.group());
    assert_eq!(learner.machine(), other.machine());
}

/// It holds no group yet, so its answers count for no round, and still the leader believes what it lacks.
#[test]
fn a_leader_begins_anew_where_pieces_gave_way_to_those_of_another_group() {
    let (mut one, mut other) = (compacted(1), compacted(2));
    let mut learner = replica(3, 1);
    let (first, second) = (pieces(&mut one, life(3)), pieces(&mut other, life(3)));
    let mut out = Output::default();
    learner.receive(NOW, &first[0], HINTS, &mut out);
    one.receive(NOW, &out.sends[0], HINTS, &mut Output::default());
    learner.receive(NOW, &second[0], HINTS, &mut out);
    for _ in 0..2 {
        let mut out = Output::default();
        one.beat(NOW, &mut out);
        exchange(&mut one, &mut learner, out);
    }
    assert_eq!(learner.machine(), one.machine());
}

/// `Found` names another group than the frame that brings it.
#[test]
fn a_beginning_of_another_group_is_refused() {
    let group = |name| Group {
        founder: life(name),
        founding: 1,
    };
    let receive = |named: Group| {
        let mut replica = replica(3, 3);
        let found = Found {
            group: named,
            seats: [life(1), life(2), life(3)].into_iter().collect(),
            token_base: 0,
        };
        let envelope = Envelope {
            group: group(1),
            from: life(1),
            to: life(3),
            message: Message::Append {
                term: 1,
                prev: Position::default(),
                entries: Vec::from([Entry {
                    term: 1,
                    command: Command::Found(found),
                }]),
                commit: 0,
                round: 1,
            },
        };
        replica.receive(NOW, &envelope, HINTS, &mut Output::default());
        replica.group()
    };
    assert_eq!(receive(group(1)), Some(group(1)));
    assert_eq!(receive(group(2)), None);
}

/// A heartbeat takes along what was appended before. Where nobody answers it, nobody else would notice that it is decided.
#[test]
fn a_group_of_one_decides_also_what_a_heartbeat_took_along() {
    let mut one = replica(1, 1);
    let mut out = Output::default();
    assert!(one.stand());
    one.found(NOW, crate::WallTime::default(), &mut out).unwrap();
    assert!(one.open(NOW));
    one.beat(NOW, &mut out);
    assert!(one.machine().unwrap().open);
    one.flush(NOW, &mut out);
    assert!(!one.has_unsent());
}

#[test]
fn who_was_granted_a_lock_knows_its_token() {
    let (mut voter, founder) = (replica(2, 3), life(1));
    let (request, token, stamp, lease) = (1, 77, 0, 1000);
    let answer = Answer::Granted {
        request,
        token,
        stamp,
        lease,
    };
    let envelope = Envelope {
        group: Group { founder, founding: 1 },
        from: founder,
        to: voter.life(),
        message: Message::Answer(answer),
    };
    voter.receive(NOW, &envelope, HINTS, &mut Output::default());
    assert_eq!(voter.floor(), 77 + FLOOR_AHEAD);
}
