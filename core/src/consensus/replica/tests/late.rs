//! Messages of a time that is over, and snapshots of what is there already.

use super::super::*;
use super::units::{HINTS, NOW, life, replica};
use crate::consensus::log::snapshot_of;
use crate::consensus::seats::SeatChange;

/// Hands a replica a message inside the group that 1 founded. Returns what it answers.
fn tell(to: &mut Replica, from: u8, message: Message) -> Vec<Envelope> {
    let (founder, founding) = (life(1), 1);
    let envelope = Envelope {
        group: Group { founder, founding },
        from: life(from),
        to: to.life(),
        message,
    };
    let mut out = Output::default();
    to.receive(NOW, &envelope, HINTS, &mut out);
    out.sends
}

fn append(
    term: Term,
    prev: (Term, Index),
    commands: impl IntoIterator<Item = Command>,
    commit: Index,
) -> Message {
    let entries = commands.into_iter().map(|command| Entry { term, command });
    let (of, index) = prev;
    Message::Append {
        term,
        prev: Position { term: of, index },
        entries: entries.collect(),
        commit,
        round: 1,
    }
}

/// A follower in the group of the first three; its log ends at 1:1, and nothing is committed.
fn follower(name: u8) -> Replica {
    let (founder, founding) = (life(1), 1);
    let found = Found {
        group: Group { founder, founding },
        seats: [life(1), life(2), life(3)].into_iter().collect(),
        token_base: 0,
    };
    let mut follower = replica(name, 3);
    tell(&mut follower, 1, append(1, (0, 0), [Command::Found(found)], 0));
    follower
}

/// A snapshot of the beginning, as if its last entry were 1:index.
fn whole_snapshot(of: &Replica, term: Term, index: Index) -> Message {
    let last = Position { term: 1, index };
    let data = snapshot_of(&Machine::new(of.beginning().unwrap()), last).data;
    let (offset, total, round) = (0, data.len() as u32, 7);
    Message::Snapshot {
        term,
        last,
        offset,
        total,
        data,
        round,
    }
}

#[test]
fn answers_to_an_earlier_reign_do_not_count() {
    let mut leader = follower(2);
    leader.campaign(NOW, &mut Output::default());
    let (term, granted) = (2, true);
    tell(&mut leader, 3, Message::Vote { term, granted });
    let answer = |term| Message::AppendReply {
        term,
        index: 2,
        matched: true,
        round: 1,
        virgin: true,
    };
    tell(&mut leader, 3, answer(1));
    assert_eq!((leader.commit(), leader.completed_round()), (0, 0));
    tell(&mut leader, 3, answer(2));
    assert_eq!((leader.commit(), leader.completed_round()), (2, 1));
}

#[test]
fn a_snapshot_of_an_earlier_term_is_refused() {
    let mut follower = follower(2);
    let last = Position { term: 1, index: 1 };
    tell(&mut follower, 3, Message::RequestVote { term: 2, last });
    let message = whole_snapshot(&follower, 1, 4);
    let answers = tell(&mut follower, 1, message);
    let refuses = |answer: &Envelope| {
        matches!(
            answer.message,
            Message::AppendReply {
                term: 2,
                matched: false,
                round: 0,
                ..
            }
        )
    };
    assert!(answers.len() == 1 && refuses(&answers[0]), "{answers:?}");
    assert_eq!((follower.leader(), follower.last().index), (None, 1));
}

#[test]
fn a_snapshot_of_what_is_stored_drops_nothing_behind_it() {
    let mut follower = follower(2);
    tell(
        &mut follower,
        1,
        append(1, (1, 1), (0..4).map(|_| Command::Noop), 0),
    );
    let message = whole_snapshot(&follower, 1, 3);
    tell(&mut follower, 1, message);
    assert_eq!((follower.commit(), follower.last().index), (3, 5));
}

#[test]
fn a_replaced_change_of_seats_leaves_those_of_the_snapshot() {
    let mut follower = follower(2);
    let empty = Command::Seat(SeatChange::Empty(life(3)));
    let changes = [empty, Command::Noop, Command::Noop];
    tell(&mut follower, 1, append(1, (1, 1), changes, 4));
    assert!(follower.log().unwrap().snapshot().is_some());
    let fill = Command::Seat(SeatChange::Fill(life(4)));
    tell(&mut follower, 1, append(1, (1, 4), [fill], 4));
    assert!(follower.seats().unwrap().contains(life(4)));
    tell(&mut follower, 1, append(2, (1, 4), [Command::Noop], 4));
    let expected: Seats = [life(1), life(2)].into_iter().collect();
    assert_eq!(follower.seats(), Some(&expected));
}

#[test]
fn a_refused_pre_vote_tells_of_a_later_term() {
    let mut one = follower(2);
    one.pre_campaign(NOW, &mut Output::default());
    let (term, granted) = (5, false);
    tell(&mut one, 3, Message::PreVoteReply { term, granted });
    assert_eq!(one.term(), 5);
}

#[test]
fn who_is_told_to_stand_in_a_term_that_is_over_does_not() {
    let mut one = follower(2);
    let last = Position { term: 1, index: 1 };
    tell(&mut one, 3, Message::RequestVote { term: 2, last });
    let sent = tell(&mut one, 1, Message::TimeoutNow { term: 1 });
    assert_eq!((one.term(), sent), (2, Vec::new()));
}

/// The first piece of a snapshot up to this entry.
fn first_piece(of: &Replica, term: Term, index: Index) -> Message {
    match whole_snapshot(of, term, index) {
        Message::Snapshot {
            last,
            total,
            data,
            round,
            ..
        } => Message::Snapshot {
            term,
            last,
            offset: 0,
            total,
            data: data.slice(..8),
            round,
        },
        other => other,
    }
}

#[test]
fn pieces_of_a_snapshot_are_kept_no_longer_than_they_are_of_use() {
    let mut one = follower(2);
    let piece = first_piece(&one, 1, 4);
    tell(&mut one, 1, piece.clone());
    let pieces = |one: &Replica| one.part.as_ref().unwrap().incoming.is_some();
    let noops = |count| (0..count).map(|_| Command::Noop);
    tell(&mut one, 1, append(1, (1, 1), noops(2), 3));
    assert!(pieces(&one));
    tell(&mut one, 1, append(1, (1, 3), noops(1), 4));
    assert!(!pieces(&one));

    let mut alone = replica(3, 1);
    tell(&mut alone, 1, piece);
    assert!(alone.incoming.is_some());
    assert!(alone.stand());
    let wall = crate::WallTime::default();
    alone.found(NOW, wall, &mut Output::default()).unwrap();
    assert!(alone.incoming.is_none());
}
