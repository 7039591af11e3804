use super::*;
use crate::messaging::frame::{Begin, Head, LaneId, ReplyStatus};
use quickcheck::quickcheck;

/// A receiver that an attacker with a valid session writes to, and the epoch that it was given.
fn victim(config: Config) -> (Net, u64) {
    let mut net = Net::with(1, config, 1);
    net.peers[0].consumes = false;
    let mut body = Vec::new();
    Open { generation: 1 }.encode(&mut body);
    net.act(0, |m, cx| m.handle_frame(cx, id(1), kind::OPEN, &body))
        .unwrap();
    let mut datagram = Vec::new();
    let peer = &mut net.peers[0];
    let mut writer = FrameWriter::new(&mut datagram, LIMIT);
    (peer.messaging).fill(net.now, &mut peer.stats, id(1), &mut writer);
    let frame = Frames::new(&datagram).find(|f| f.kind == kind::OPENED).unwrap();
    let epoch = Opened::decode(frame.body).unwrap().epoch;
    (net, epoch)
}

fn put(net: &mut Net, chunk: &Chunk<'_>) {
    let mut body = Vec::new();
    chunk.encode(&mut body);
    let _ = net.act(0, |m, cx| m.handle_frame(cx, id(1), chunk.kind, &body));
}

fn data(epoch: u64, sequence: u64, total: Option<u32>, end: bool, payload: &[u8]) -> Chunk<'_> {
    Chunk {
        kind: kind::DATA,
        epoch,
        sequence,
        begin: total.map(|total| Begin {
            head: Head::Data,
            total,
        }),
        end,
        payload,
    }
}

#[test]
fn a_message_that_never_ends_stays_within_its_announced_size() {
    let (mut net, epoch) = victim(Config::default());
    put(&mut net, &data(epoch, 0, Some(100_000), false, &[1; 1000]));
    for sequence in 1..5000 {
        put(&mut net, &data(epoch, sequence, None, false, &[1; 1000]));
        assert!(net.peers[0].messaging.receive_bytes(id(1)) <= 100_000);
    }
    assert!(!net.peers[0].messaging.peers[&id(1)].receiver.has_messages());
}

#[test]
fn a_message_announced_too_large_is_not_taken() {
    let (mut net, epoch) = victim(Config::default());
    put(&mut net, &data(epoch, 0, Some(u32::MAX), false, &[1; 1000]));
    assert_eq!(net.peers[0].messaging.receive_bytes(id(1)), 0);
    assert_eq!(net.peers[0].stats.dropped(DropReason::BeyondWindow), 1);
}

#[test]
fn numbers_beyond_the_window_are_not_kept() {
    let (mut net, epoch) = victim(Config::default());
    for sequence in [RING as u64, 1 << 40, (1 << 62) - 1] {
        put(&mut net, &data(epoch, sequence, Some(10), true, &[1; 10]));
    }
    assert_eq!(net.peers[0].stats.dropped(DropReason::BeyondWindow), 3);
    assert_eq!(net.peers[0].messaging.receive_bytes(id(1)), 0);
    let body = [0xff; 30];
    let bad = net.act(0, |m, cx| m.handle_frame(cx, id(1), kind::DATA, &body));
    assert_eq!(bad, Err(BadFrame));
}

#[test]
fn a_floor_at_the_end_of_numbers_harms_only_its_sender() {
    let (mut net, epoch) = victim(Config::default());
    put(&mut net, &data(epoch, 5, Some(10), true, &[1; 10]));
    for lane in LaneId::ALL {
        let mut body = Vec::new();
        let floor = (1 << 62) - 1;
        Floor { lane, epoch, floor }.encode(&mut body);
        net.act(0, |m, cx| m.handle_frame(cx, id(1), kind::FLOOR, &body))
            .unwrap();
        put(&mut net, &data(epoch, floor, Some(10), true, &[1; 10]));
    }
    let peer = &mut net.peers[0];
    assert!(peer.messaging.poll_message(net.now, &mut peer.stats).is_some());
}

#[test]
fn an_unread_flood_stays_within_the_stated_bound() {
    let config = Config::default()
        .max_message_size(20_000_usize)
        .window_bytes(30_000_usize);
    let bound = 2 * 30_000 + 20_000;
    let (mut net, epoch) = victim(config);
    let mut dice = Rng::new(&[5; 32], Stream::Discovery);
    let payload = [1; 1100];
    let mut base = [0_u64; 2];
    for _ in 0..20_000 {
        let reply = dice.below(2) == 0;
        let sequence = base[usize::from(reply)] + dice.below(20);
        base[usize::from(reply)] += u64::from(dice.below(10) == 0);
        let head = if reply {
            Head::Response {
                epoch: 1,
                sequence: 1,
                status: ReplyStatus::Ok,
            }
        } else {
            Head::Request { remaining: u32::MAX }
        };
        let total = 1101 + dice.below(20_000) as u32;
        let chunk = Chunk {
            kind: head.kind(),
            epoch,
            sequence,
            begin: (dice.below(3) == 0).then_some(Begin { head, total }),
            end: dice.below(3) == 0,
            payload: &payload[..1 + dice.below(1100) as usize],
        };
        put(&mut net, &chunk);
        assert!(net.peers[0].messaging.receive_bytes(id(1)) <= bound);
        assert!(net.peers[0].messaging.held() <= 2 * RING + 3 * 256 + 8);
    }
}

#[test]
fn acknowledging_what_was_never_sent_is_malformed() {
    let mut net = Net::new(2);
    net.send(0, 1, 1, vec![1], ms(5000));
    net.run(ms(2));
    net.pump();
    // The sender is open by now; the true epoch is in what it sends.
    let (mut seen, mut body) = (None, Vec::new());
    for (_, _, datagram) in net.flight.values() {
        for frame in Frames::new(datagram) {
            if frame.kind == kind::DATA {
                seen = Some(Chunk::decode(frame.kind, frame.body).unwrap().epoch);
            }
        }
    }
    let ack = Ack {
        lane: LaneId::Ordered,
        epoch: seen.unwrap(),
        cumulative: 1000,
        room: frame::Room::UNLIMITED,
        ranges: frame::Ranges::default(),
    };
    ack.encode(&mut body);
    let result = net.act(0, |m, cx| m.handle_frame(cx, id(1), kind::ACK, &body));
    assert_eq!(result, Err(BadFrame));
    net.run(ms(100));
    assert_eq!(net.sent(0), [(1, Ok(()))]);
}

quickcheck! {
    fn garbage_never_panics(frames: Vec<(u8, Vec<u8>)>) -> bool {
        let (mut net, epoch) = victim(Config::default());
        for (choice, tail) in frames {
            let kinds = [
                kind::DATA, kind::ACK, kind::OPEN, kind::OPENED, kind::STALE, kind::FLOOR, kind::REQUEST, kind::RESPONSE,
            ];
            let kind = kinds[usize::from(choice) % kinds.len()];
            // Half of them get past the epoch check.
            let mut body = if choice < 128 { epoch.to_be_bytes().to_vec() } else { vec![] };
            if choice % 3 == 0 {
                body.extend_from_slice(&[0; 7]);
            }
            body.extend_from_slice(&tail);
            let _ = net.act(0, |m, cx| m.handle_frame(cx, id(1), kind, &body));
        }
        net.run(ms(10_000));
        true
    }

    fn truncated_traffic_never_panics(cuts: Vec<u8>) -> bool {
        let mut net = Net::new(2);
        net.peers[1].echoes = true;
        for name in 0..4 {
            net.request(0, name, 1, pattern(3000, 1), ms(1000));
        }
        let mut cuts = cuts.into_iter().cycle();
        for _ in 0..40 {
            net.pump();
            let flight = core::mem::take(&mut net.flight);
            for (_, (from, to, datagram)) in flight {
                for frame in Frames::new(&datagram) {
                    let cut = usize::from(cuts.next().unwrap_or(3));
                    let body = &frame.body[..frame.body.len().saturating_sub(cut / 64)];
                    let _ = net.act(to, |m, cx| m.handle_frame(cx, id(from), frame.kind, body));
                }
            }
            net.now += ms(40);
            net.act(0, |m, cx| m.handle_timeout(cx));
            net.act(1, |m, cx| m.handle_timeout(cx));
        }
        net.run(ms(10_000));
        net.peers[0].messaging.groups.is_empty()
    }
}
