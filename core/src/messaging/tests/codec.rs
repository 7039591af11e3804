use super::*;
use crate::messaging::frame::{Begin, Head, LaneId, MAX_CHUNK, Ranges, ReplyStatus, Room};
use crate::wire::put_frame;
use crate::wire::vectors::check;
use quickcheck::quickcheck;

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut buf = Vec::new();
    encode(&mut buf);
    buf
}

quickcheck! {
    fn chunks_round_trip(numbers: (u64, u64, u64, u64), choice: (u8, bool, bool), payload: Vec<u8>) -> bool {
        let (kind, begins, end) = choice;
        let sequence = |number: u64| number >> 3;
        let head = match kind % 3 {
            0 => Head::Data,
            1 => Head::Request { remaining: numbers.2 as u32 },
            _ => Head::Response {
                epoch: numbers.2,
                sequence: sequence(numbers.3),
                status: if kind < 128 { ReplyStatus::Ok } else { ReplyStatus::Lost },
            },
        };
        let payload = if payload.is_empty() && !(begins && end) { vec![1] } else { payload };
        let total = payload.len() as u32 + u32::from(!end);
        let chunk = Chunk {
            kind: head.kind(),
            epoch: numbers.0,
            sequence: sequence(numbers.1),
            begin: begins.then_some(Begin { head, total }),
            end,
            payload: &payload,
        };
        let body = encoded(|buf| chunk.encode(buf));
        body.len() == chunk.encoded_len() && Chunk::decode(chunk.kind, &body) == Ok(chunk)
    }

    fn acks_round_trip(ordered: bool, epoch: u64, cumulative: u64, room: (bool, u16, u32), pairs: Vec<(u16, u16)>) -> bool {
        let mut ranges = Ranges::default();
        for (i, &(gap, len)) in pairs.iter().enumerate() {
            assert_eq!(ranges.push(gap, len), i < 16);
        }
        let ack = Ack {
            lane: if ordered { LaneId::Ordered } else { LaneId::Unordered },
            epoch,
            cumulative: cumulative >> 3,
            room: if ordered {
                Room { busy: room.0, messages: room.1, bytes: room.2 }
            } else {
                Room::UNLIMITED
            },
            ranges,
        };
        Ack::decode(&encoded(|buf| ack.encode(buf))) == Ok(ack)
    }

    fn the_small_frames_round_trip(generation: u64, epoch: u64, floor: u64) -> bool {
        let open = Open { generation };
        let opened = Opened { generation, epoch };
        let stale = Stale { epoch };
        let floor = Floor { lane: LaneId::Unordered, epoch, floor: floor >> 3 };
        let refused = Refused { lane: LaneId::Ordered, epoch, sequence: generation >> 3 };
        Open::decode(&encoded(|buf| open.encode(buf))) == Ok(open)
            && Opened::decode(&encoded(|buf| opened.encode(buf))) == Ok(opened)
            && Stale::decode(&encoded(|buf| stale.encode(buf))) == Ok(stale)
            && Floor::decode(&encoded(|buf| floor.encode(buf))) == Ok(floor)
            && Refused::decode(&encoded(|buf| refused.encode(buf))) == Ok(refused)
    }
}

#[test]
fn the_largest_chunk_leaves_room_for_an_acknowledgement() {
    let begin = Begin {
        head: Head::Response {
            epoch: 1,
            sequence: 1,
            status: ReplyStatus::Ok,
        },
        total: 1 << 20,
    };
    let chunk = Chunk {
        kind: kind::RESPONSE,
        epoch: 1,
        sequence: 1,
        begin: Some(begin),
        end: false,
        payload: &[1; MAX_CHUNK],
    };
    let mut datagram = Vec::new();
    let mut writer = FrameWriter::new(&mut datagram, LIMIT);
    assert!(writer.frame(kind::RESPONSE, |buf| chunk.encode(buf)));
    let ack = Ack {
        lane: LaneId::Ordered,
        epoch: 1,
        cumulative: 1,
        room: Room::UNLIMITED,
        ranges: Ranges::default(),
    };
    assert!(writer.frame(kind::ACK, |buf| ack.encode(buf)));
}

/// Builds whole frames: type, length, body.
#[test]
fn the_document_has_what_the_code_encodes() {
    let (epoch, sequence) = (0x0102, 3);
    let whole = |kind, write: &dyn Fn(&mut Vec<u8>)| encoded(|buf| put_frame(buf, kind, write));
    let chunk = |head: Head, total: Option<u32>, payload: &[u8]| {
        let chunk = Chunk {
            kind: head.kind(),
            epoch,
            sequence,
            begin: Some(Begin {
                head,
                total: total.unwrap_or(payload.len() as u32),
            }),
            end: total.is_none(),
            payload,
        };
        assert_eq!(
            Chunk::decode(chunk.kind, &encoded(|buf| chunk.encode(buf))),
            Ok(chunk)
        );
        whole(chunk.kind, &|buf| chunk.encode(buf))
    };
    let response = |status| Head::Response {
        epoch: 0x0a0b,
        sequence: 9,
        status,
    };
    let last = Chunk {
        kind: kind::DATA,
        epoch,
        sequence: 4,
        begin: None,
        end: true,
        payload: b"rate",
    };
    let mut ranges = Ranges::default();
    assert!(ranges.push(1, 2));
    let ack = |lane, room, ranges| {
        let ack = Ack {
            lane,
            epoch,
            cumulative: sequence,
            room,
            ranges,
        };
        whole(kind::ACK, &|buf| ack.encode(buf))
    };
    let room = Room {
        busy: true,
        messages: 0,
        bytes: 4096,
    };
    let floor = Floor {
        lane: LaneId::Ordered,
        epoch,
        floor: 5,
    };
    check(
        "messaging",
        &[
            ("messaging.data", chunk(Head::Data, None, b"quorate")),
            ("messaging.data_first", chunk(Head::Data, Some(7), b"quo")),
            ("messaging.data_last", whole(kind::DATA, &|buf| last.encode(buf))),
            (
                "messaging.request",
                chunk(Head::Request { remaining: 5000 }, None, b"hi"),
            ),
            (
                "messaging.response",
                chunk(response(ReplyStatus::Ok), None, b"yes"),
            ),
            (
                "messaging.response_lost",
                chunk(response(ReplyStatus::Lost), None, b""),
            ),
            ("messaging.ack_ordered", ack(LaneId::Ordered, room, ranges)),
            (
                "messaging.ack_unordered",
                ack(LaneId::Unordered, Room::UNLIMITED, ranges),
            ),
            (
                "messaging.open",
                whole(kind::OPEN, &|buf| Open { generation: 2 }.encode(buf)),
            ),
            (
                "messaging.opened",
                whole(kind::OPENED, &|buf| Opened { generation: 2, epoch }.encode(buf)),
            ),
            (
                "messaging.stale",
                whole(kind::STALE, &|buf| Stale { epoch }.encode(buf)),
            ),
            ("messaging.floor", whole(kind::FLOOR, &|buf| floor.encode(buf))),
        ],
    );
}
