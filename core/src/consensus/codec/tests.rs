use super::super::log::Log;
use super::*;
use crate::locks::codec::tests as locks;
use crate::wire::put_frame;
use crate::wire::vectors::check;
use alloc::vec;
use core::ops::Range;
use quickcheck::{Arbitrary, Gen, quickcheck};

const KINDS: Range<u8> = kind::FOUND_REQUEST..kind::ANSWER + 1;

/// Any number that may travel: seldom a random one, often a small one or the greatest.
fn number(g: &mut Gen) -> u64 {
    match u8::arbitrary(g) % 4 {
        0 => MAX_NUMBER - 1,
        1 => u64::arbitrary(g) % MAX_NUMBER,
        _ => u64::from(u8::arbitrary(g)),
    }
}

fn life(g: &mut Gen) -> Life {
    Life {
        node: NodeId::from_bytes(u128::arbitrary(g).to_be_bytes()),
        number: u32::arbitrary(g),
    }
}

fn group(g: &mut Gen) -> Group {
    Group {
        founder: life(g),
        founding: number(g),
    }
}

fn seats(g: &mut Gen) -> Seats {
    let count = 1 + usize::arbitrary(g) % MAX_SEATS;
    (0..count).map(|_| life(g)).collect()
}

fn found(g: &mut Gen) -> Found {
    Found {
        group: group(g),
        seats: seats(g),
        token_base: u64::arbitrary(g) >> 1,
    }
}

fn position(g: &mut Gen) -> Position {
    Position {
        term: number(g),
        index: number(g),
    }
}

fn command(g: &mut Gen) -> Command {
    match u8::arbitrary(g) % 8 {
        0 => Command::Found(found(g)),
        1 => Command::Noop,
        2 => Command::Seat(SeatChange::Fill(life(g))),
        3 => Command::Seat(SeatChange::Empty(life(g))),
        4 => Command::Open,
        5 => Command::Close,
        6 => Command::Lock(locks::change(g)),
        _ => Command::Draw {
            to: life(g),
            request: u64::arbitrary(g),
        },
    }
}

impl Arbitrary for Entry {
    fn arbitrary(g: &mut Gen) -> Self {
        Self {
            term: number(g),
            command: command(g),
        }
    }
}

impl Arbitrary for Machine {
    fn arbitrary(g: &mut Gen) -> Self {
        let found = found(g);
        let decided = bool::arbitrary(g);
        Self {
            counter: found.token_base + number(g),
            found,
            seats: seats(g),
            open: decided && bool::arbitrary(g),
            decided,
            table: locks::table(g),
        }
    }
}

fn message(g: &mut Gen) -> Message {
    let kind = *g.choose(&KINDS.collect::<Vec<_>>()).unwrap();
    let (term, last, round) = (number(g), position(g), number(g));
    match kind {
        kind::FOUND_REQUEST => Message::FoundRequest,
        kind::FOUND_VOTE => Message::FoundVote {
            floor: u64::arbitrary(g),
        },
        kind::PRE_VOTE => Message::PreVote { term, last },
        kind::PRE_VOTE_REPLY => Message::PreVoteReply {
            term,
            granted: bool::arbitrary(g),
        },
        kind::REQUEST_VOTE => Message::RequestVote { term, last },
        kind::VOTE => Message::Vote {
            term,
            granted: bool::arbitrary(g),
        },
        kind::APPEND => Message::Append {
            term,
            prev: last,
            entries: (0..u8::arbitrary(g) % 4).map(|_| Entry::arbitrary(g)).collect(),
            commit: number(g),
            round,
        },
        kind::APPEND_REPLY => Message::AppendReply {
            term,
            index: number(g),
            matched: bool::arbitrary(g),
            round,
            virgin: bool::arbitrary(g),
        },
        kind::SNAPSHOT => Message::Snapshot {
            term,
            last,
            offset: u32::arbitrary(g),
            total: u32::arbitrary(g),
            data: Vec::<u8>::arbitrary(g).into(),
            round,
        },
        kind::SNAPSHOT_REPLY => Message::SnapshotReply {
            term,
            last,
            received: u32::arbitrary(g),
            round,
        },
        kind::TIMEOUT_NOW | kind::STATUS => Message::TimeoutNow { term },
        kind::DRAW => Message::Draw { request: round },
        kind::ASK => Message::Ask(locks::ask(g)),
        kind::ANSWER => Message::Answer(locks::answer(g)),
        _ => Message::Drawn {
            request: round,
            token: bool::arbitrary(g).then(|| u64::arbitrary(g)),
        },
    }
}

impl Arbitrary for Envelope {
    fn arbitrary(g: &mut Gen) -> Self {
        Self {
            group: group(g),
            from: life(g),
            to: life(g),
            message: message(g),
        }
    }
}

fn body(envelope: &Envelope) -> Vec<u8> {
    let mut buf = Vec::new();
    put_envelope(&mut buf, envelope);
    buf
}

/// Reads a body between the two processes of an envelope.
fn read(envelope: &Envelope, body: &[u8]) -> Option<Envelope> {
    let kind = kind_of(&envelope.message);
    read_envelope(envelope.from.node, envelope.to.node, kind, body)
}

quickcheck! {
    fn envelopes_round_trip(envelope: Envelope) -> bool {
        read(&envelope, &body(&envelope)).as_ref() == Some(&envelope)
    }

    fn what_follows_is_ignored(envelope: Envelope, tail: Vec<u8>) -> bool {
        let longer = [body(&envelope), tail].concat();
        read(&envelope, &longer).as_ref() == Some(&envelope)
    }

    fn no_shorter_body_is_taken(envelope: Envelope) -> bool {
        let body = body(&envelope);
        (0..body.len()).all(|len| read(&envelope, &body[..len]).is_none())
    }

    fn machines_round_trip(machine: Machine) -> bool {
        let data = encode_machine(&machine);
        let shorter = (0..data.len()).any(|len| decode_machine(&data[..len]).is_some());
        decode_machine(&data) == Some(machine) && !shorter
    }

    fn entries_are_as_long_as_they_say(entry: Entry) -> bool {
        let mut buf = Vec::new();
        put_entry(&mut buf, &entry);
        buf.len() == entry_len(&entry)
    }

    /// Whatever is taken is what an honest sender would have written: reading and writing it again gives the same.
    fn any_bytes_are_refused_or_mean_one_thing(bytes: Vec<u8>, kind: u8) -> bool {
        let (from, to) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let known = KINDS.contains(&kind) && kind != kind::STATUS;
        match read_envelope(from, to, kind, &bytes) {
            Some(envelope) => known && bytes.starts_with(&body(&envelope)),
            None => true,
        }
    }

    /// One changed byte never makes a frame mean what its reader cannot hold.
    fn damage_is_refused_or_in_bounds(envelope: Envelope, place: usize, value: u8) -> bool {
        let mut damaged = body(&envelope);
        let place = place % damaged.len();
        damaged[place] = value;
        read(&envelope, &damaged).is_none_or(|read| in_bounds(&read))
    }

    fn any_bytes_make_no_machine_out_of_bounds(bytes: Vec<u8>, machine: Machine, place: usize) -> bool {
        let mut damaged = encode_machine(&machine).to_vec();
        let place = place % damaged.len();
        damaged[place] ^= 0x55;
        [bytes, damaged].iter().all(|data| {
            decode_machine(data).is_none_or(|machine| {
                list_in_bounds(&machine.seats)
                    && list_in_bounds(&machine.found.seats)
                    && machine.counter >= machine.found.token_base
            })
        })
    }
}

fn list_in_bounds(seats: &Seats) -> bool {
    let lives: Vec<_> = seats.iter().collect();
    (1..=MAX_SEATS).contains(&lives.len()) && lives.is_sorted()
}

/// Whether no sum with a number of this message can overflow, and no list is longer than it may be.
fn in_bounds(envelope: &Envelope) -> bool {
    let small = |number: u64| number < MAX_NUMBER;
    let at = |position: Position| small(position.term) && small(position.index);
    let entries_fit = |entries: &[Entry]| {
        entries.iter().all(|entry| {
            small(entry.term)
                && match &entry.command {
                    Command::Found(found) => list_in_bounds(&found.seats),
                    _ => true,
                }
        })
    };
    small(envelope.group.founding)
        && envelope.message.term().is_none_or(small)
        && match &envelope.message {
            Message::PreVote { last, .. } | Message::RequestVote { last, .. } => at(*last),
            Message::Append {
                prev,
                entries,
                commit,
                round,
                ..
            } => at(*prev) && small(*commit) && small(*round) && entries_fit(entries),
            Message::AppendReply { index, round, .. } => small(*index) && small(*round),
            Message::Snapshot { last, round, .. } | Message::SnapshotReply { last, round, .. } => {
                at(*last) && small(*round)
            }
            _ => true,
        }
}

const A: Life = Life {
    node: NodeId::from_bytes([0xa1; 16]),
    number: 0,
};
const B: Life = Life {
    node: NodeId::from_bytes([0xb2; 16]),
    number: 1,
};
const C: Life = Life {
    node: NodeId::from_bytes([0xc3; 16]),
    number: 2,
};
const GROUP: Group = Group {
    founder: A,
    founding: 3,
};

fn envelope(message: Message) -> Envelope {
    Envelope {
        group: GROUP,
        from: A,
        to: B,
        message,
    }
}

fn sample_found() -> Found {
    Found {
        group: GROUP,
        seats: [A, B].into_iter().collect(),
        token_base: 0x1000,
    }
}

fn append(entries: Vec<Entry>) -> Envelope {
    envelope(Message::Append {
        term: 4,
        prev: Position { term: 3, index: 9 },
        entries,
        commit: 8,
        round: 7,
    })
}

/// A life with this number, all different.
fn nth(n: u8) -> Life {
    Life::first(NodeId::from_bytes([n; 16]))
}

#[test]
fn a_list_of_lives_is_sorted_distinct_and_of_at_most_15() {
    let with = |lives: &[Life]| {
        let mut buf = Vec::new();
        put_group(&mut buf, GROUP);
        put_u64(&mut buf, 0);
        buf.push(lives.len() as u8);
        lives.iter().for_each(|&life| put_life(&mut buf, life));
        read_found(&mut Reader::new(&buf)).map(|found| found.seats.len())
    };
    let all: Vec<_> = (1..=16).map(nth).collect();
    assert_eq!(with(&all[..15]), Some(15));
    assert_eq!(with(&all), None);
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[all[0]]), Some(1));
    assert_eq!(with(&[all[1], all[0]]), None);
    assert_eq!(with(&[all[0], all[0]]), None);
}

#[test]
fn numbers_end_where_sums_with_them_could_overflow() {
    for (term, taken) in [(MAX_NUMBER - 1, true), (MAX_NUMBER, false), (u64::MAX, false)] {
        let sent = envelope(Message::TimeoutNow { term });
        assert_eq!(read(&sent, &body(&sent)).is_some(), taken);
    }
}

#[test]
fn unknown_commands_flags_and_versions_are_malformed() {
    let sent = append(vec![Entry {
        term: 1,
        command: Command::Noop,
    }]);
    let mut changed = body(&sent);
    *changed.last_mut().unwrap() = DRAW + 1;
    assert_eq!(read(&sent, &changed), None);

    let sent = envelope(Message::Vote {
        term: 1,
        granted: true,
    });
    let mut changed = body(&sent);
    *changed.last_mut().unwrap() = 2;
    assert_eq!(read(&sent, &changed), None);

    let mut data = encode_machine(&Machine::new(&sample_found())).to_vec();
    assert!(decode_machine(&data).is_some());
    data[0] += 1;
    assert_eq!(decode_machine(&data), None);
}

#[test]
fn a_state_below_its_beginning_is_refused() {
    let mut machine = Machine::new(&sample_found());
    machine.counter -= 1;
    assert_eq!(decode_machine(&encode_machine(&machine)), None);
}

#[test]
fn more_entries_announced_than_there_are_is_malformed() {
    let sent = append(Vec::new());
    let mut changed = body(&sent);
    *changed.last_mut().unwrap() = u8::MAX;
    assert_eq!(read(&sent, &changed), None);
}

#[test]
fn the_largest_messages_fit_into_a_frame() {
    let seats: Seats = (1..=15).map(nth).collect();
    let found = Entry {
        term: 1,
        command: Command::Found(Found {
            group: GROUP,
            seats,
            token_base: 0,
        }),
    };
    let draw = Entry {
        term: 1,
        command: Command::Draw { to: A, request: 1 },
    };
    let mut log = Log::default();
    log.append(found);
    (0..99).for_each(|_| {
        log.append(draw.clone());
    });
    let all = log.slice(1, usize::MAX, MAX_ENTRY_BYTES);
    let bytes: usize = all.iter().map(entry_len).sum();
    assert!(bytes <= MAX_ENTRY_BYTES && bytes + entry_len(&draw) > MAX_ENTRY_BYTES);
    let sent = append(all);
    assert!(body(&sent).len() <= MAX_FRAME_BODY);
    assert_eq!(read(&sent, &body(&sent)), Some(sent));

    let piece = envelope(Message::Snapshot {
        term: 1,
        last: Position::default(),
        offset: 0,
        total: u32::MAX,
        data: vec![7; MAX_PIECE_BYTES].into(),
        round: 1,
    });
    assert!(body(&piece).len() <= MAX_FRAME_BODY);
    assert_eq!(body(&piece).len(), SNAPSHOT_LEN + MAX_PIECE_BYTES);
    assert_eq!(body(&append(Vec::new())).len(), APPEND_LEN);
}

#[test]
fn a_slice_keeps_to_count_bytes_and_what_is_there() {
    let mut log = Log::default();
    for term in 1..=10 {
        log.append(Entry {
            term,
            command: Command::Noop,
        });
    }
    let terms = |from, limit, bytes| {
        let entries = log.slice(from, limit, bytes);
        entries.iter().map(|entry| entry.term).collect::<Vec<_>>()
    };
    assert_eq!(terms(3, 2, 1000), [3, 4]);
    assert_eq!(terms(3, 5, 2 * ENTRY_HEAD), [3, 4]);
    assert_eq!(terms(3, 5, 3 * ENTRY_HEAD - 1), [3, 4]);
    assert_eq!(terms(9, 5, 1000), [9, 10]);
    assert_eq!(terms(9, 5, 0), []);
    assert_eq!(terms(11, 5, 1000), []);
}

#[test]
fn frames_are_as_documented() {
    let frame = |message| {
        let envelope = envelope(message);
        let mut buf = Vec::new();
        put_frame(&mut buf, kind_of(&envelope.message), |buf| {
            put_envelope(buf, &envelope)
        });
        buf
    };
    let last = Position { term: 3, index: 9 };
    let (term, round) = (4, 7);
    let entry = |command| Entry { term: 3, command };
    let entries = vec![
        entry(Command::Noop),
        entry(Command::Seat(SeatChange::Fill(C))),
        entry(Command::Seat(SeatChange::Empty(B))),
        entry(Command::Open),
        entry(Command::Close),
        entry(Command::Draw { to: C, request: 5 }),
    ];
    let append = |prev, entries| Message::Append {
        term,
        prev,
        entries,
        commit: 8,
        round,
    };
    let mut machine = Machine::new(&sample_found());
    machine.seats.apply(SeatChange::Fill(C));
    (machine.open, machine.decided, machine.counter) = (true, true, 0x1002);
    let machine = encode_machine(&machine);
    let reply = |matched, virgin| Message::AppendReply {
        term,
        index: 9,
        matched,
        round,
        virgin,
    };
    let drawn = |token| Message::Drawn { request: 5, token };
    let (changes, asks, answers) = locks::samples(C);
    let changes = changes.into_iter().map(|change| entry(Command::Lock(change)));
    let mut locked = Machine::new(&sample_found());
    locked.open = true;
    locked.decided = true;
    for change in locks::history(C) {
        locked.table.apply(&change, true, &mut locked.counter);
    }
    let all = |name: &'static str, messages: Vec<Message>| {
        (name, messages.into_iter().flat_map(frame).collect::<Vec<u8>>())
    };
    check(
        "consensus",
        &[
            ("consensus.found_request", frame(Message::FoundRequest)),
            (
                "consensus.found_vote",
                frame(Message::FoundVote { floor: 0x1001 }),
            ),
            ("consensus.pre_vote", frame(Message::PreVote { term, last })),
            (
                "consensus.pre_vote_reply",
                frame(Message::PreVoteReply { term, granted: true }),
            ),
            (
                "consensus.request_vote",
                frame(Message::RequestVote { term, last }),
            ),
            ("consensus.vote", frame(Message::Vote { term, granted: false })),
            (
                "consensus.append_found",
                frame(append(
                    Position::default(),
                    vec![Entry {
                        term: 1,
                        command: Command::Found(sample_found()),
                    }],
                )),
            ),
            ("consensus.append", frame(append(last, entries))),
            ("consensus.append_reply", frame(reply(true, true))),
            ("consensus.append_refused", frame(reply(false, false))),
            (
                "consensus.snapshot",
                frame(Message::Snapshot {
                    term,
                    last,
                    offset: 2,
                    total: machine.len() as u32,
                    data: machine.slice(2..6),
                    round,
                }),
            ),
            (
                "consensus.snapshot_reply",
                frame(Message::SnapshotReply {
                    term,
                    last,
                    received: 6,
                    round,
                }),
            ),
            ("consensus.timeout_now", frame(Message::TimeoutNow { term })),
            ("consensus.draw", frame(Message::Draw { request: 5 })),
            ("consensus.drawn", frame(drawn(Some(0x1002)))),
            ("consensus.not_drawn", frame(drawn(None))),
            ("consensus.machine", machine.to_vec()),
            ("consensus.append_locks", frame(append(last, changes.collect()))),
            all("consensus.asks", asks.into_iter().map(Message::Ask).collect()),
            all(
                "consensus.answers",
                answers.into_iter().map(Message::Answer).collect(),
            ),
            ("consensus.machine_locks", encode_machine(&locked).to_vec()),
        ],
    );
}
