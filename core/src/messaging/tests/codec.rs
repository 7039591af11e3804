use super::*;
use crate::messaging::frame::{Begin, Head, LaneId, MAX_CHUNK, Ranges, ReplyStatus, Room};
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
        Open::decode(&encoded(|buf| open.encode(buf))) == Ok(open)
            && Opened::decode(&encoded(|buf| opened.encode(buf))) == Ok(opened)
            && Stale::decode(&encoded(|buf| stale.encode(buf))) == Ok(stale)
            && Floor::decode(&encoded(|buf| floor.encode(buf))) == Ok(floor)
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

#[test]
fn a_request_has_the_documented_bytes() {
    let chunk = Chunk {
        kind: kind::REQUEST,
        epoch: 0x0102,
        sequence: 3,
        begin: Some(Begin {
            head: Head::Request { remaining: 5000 },
            total: 2,
        }),
        end: true,
        payload: b"hi",
    };
    let expected = [
        0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0x13, 0x88, b'h', b'i',
    ];
    assert_eq!(encoded(|buf| chunk.encode(buf)), expected);
}
