//! Each planted bug changes what happens.

use super::*;
use crate::planted::{PlantedBug, without_and_with};

const LONG: Duration = Duration::from_secs(30);

/// Loses chunk number zero of a kind: every time, or only once.
fn without_the_first(kind: u8, always: bool) -> Option<Filter> {
    let mut lost = false;
    Some(Box::new(move |_, got, body| {
        let first = got == kind && Chunk::decode(got, body).is_ok_and(|chunk| chunk.sequence == 0);
        !(first && (always || !core::mem::replace(&mut lost, true)))
    }))
}

fn names(net: &Net, at: usize) -> Vec<u64> {
    net.payloads(at).iter().map(|payload| name_of(payload)).collect()
}

#[test]
fn request_run_twice() {
    let runs = || {
        let mut net = Net::new(2);
        net.request(0, 1, 1, named(1), LONG);
        net.run(ms(100));
        for (at, other) in [(0, 1), (1, 0)] {
            net.peers[at].messaging.link_up(id(other));
        }
        net.send(0, 2, 1, named(2), LONG);
        net.run(ms(1000));
        names(&net, 1).iter().filter(|&&name| name == 1).count()
    };
    assert_eq!(without_and_with(PlantedBug::RequestRunTwice, runs), (1, 2));
}

#[test]
fn lost_fragment_blocks() {
    let delivered = || {
        let mut net = Net::new(2);
        net.filter = without_the_first(kind::DATA, true);
        net.send(0, 1, 1, pattern(3000, 1), ms(300));
        net.run(ms(1000));
        net.send(0, 2, 1, named(2), LONG);
        net.run(LONG);
        net.sent(0).contains(&(2, Ok(())))
    };
    assert_eq!(
        without_and_with(PlantedBug::LostFragmentBlocks, delivered),
        (true, false)
    );
}

#[test]
fn request_never_retransmitted() {
    let delivered = || {
        let mut net = Net::new(2);
        net.filter = without_the_first(kind::REQUEST, false);
        net.request(0, 1, 1, named(1), ms(5000));
        net.run(ms(5000));
        net.peers[1].received.len()
    };
    assert_eq!(
        without_and_with(PlantedBug::RequestNeverRetransmitted, delivered),
        (1, 0)
    );
}

#[test]
fn unbounded_reassembly() {
    let overflows = || {
        let config = Config::default()
            .max_message_size(2000_usize)
            .window_bytes(2000_usize);
        let mut net = Net::with(2, config, 1);
        net.filter = without_the_first(kind::DATA, true);
        for name in 0..100 {
            net.send(0, name, 1, pattern(100, 1), LONG);
        }
        net.run(ms(100));
        net.peers[1].messaging.receive_bytes(id(0)) > 2000
    };
    assert_eq!(
        without_and_with(PlantedBug::UnboundedReassembly, overflows),
        (false, true)
    );
}

/// A burst to a peer whose queue has four places and whose application reads only later. Returns how many messages were
/// acknowledged before it read, and how many were acknowledged and received in the end.
fn slow_consumer() -> (usize, usize, usize) {
    let config = Config::default().message_queue_size(4_usize);
    let mut net = Net::with(2, config, 1);
    net.peers[1].consumes = false;
    for name in 0..50 {
        net.send(0, name, 1, named(name), LONG);
    }
    net.run(ms(500));
    let ok = |sent: Vec<(u64, Result<(), DeliveryError>)>| sent.iter().filter(|(_, r)| r.is_ok()).count();
    let early = ok(net.sent(0));
    net.peers[1].consumes = true;
    net.run(LONG);
    (early, early + ok(net.sent(0)), net.peers[1].received.len())
}

#[test]
fn back_pressure_ignored() {
    let (without, with) = without_and_with(PlantedBug::BackPressureIgnored, slow_consumer);
    assert_eq!((without, with), ((4, 50, 50), (50, 50, 50)));
}

#[test]
fn acknowledged_but_not_queued() {
    let (without, with) = without_and_with(PlantedBug::AcknowledgedButNotQueued, slow_consumer);
    assert_eq!(without.1, without.2);
    assert!(with.1 > with.2, "{with:?}");
}

#[test]
fn small_messages_overtake() {
    let order = || {
        let mut net = Net::new(2);
        net.filter = without_the_first(kind::DATA, false);
        for name in 1..=3 {
            net.send(0, name, 1, named(name), LONG);
        }
        net.run(LONG);
        names(&net, 1)
    };
    assert_eq!(
        without_and_with(PlantedBug::SmallMessagesOvertake, order),
        (vec![1, 2, 3], vec![2, 3, 1])
    );
}

#[test]
fn reply_matched_by_order() {
    let answered = || {
        let mut net = Net::new(2);
        for name in 1..=2 {
            net.request(0, name, 1, named(name), LONG);
        }
        net.run(ms(100));
        let second = net.peers[1].received[1].reply_to.unwrap();
        net.act(1, |m, cx| m.reply(cx, second, Bytes::new())).unwrap();
        net.run(ms(100));
        net.answers(0).iter().map(|(name, _)| *name).collect::<Vec<_>>()
    };
    assert_eq!(
        without_and_with(PlantedBug::ReplyMatchedByOrder, answered),
        (vec![2], vec![1])
    );
}

#[test]
fn deadline_ignored() {
    let given_up = || {
        let mut net = Net::new(2);
        net.filter = Some(Box::new(|_, _, _| false));
        net.send(0, 1, 1, named(1), ms(300));
        net.run(LONG);
        net.sent(0)
    };
    assert_eq!(
        without_and_with(PlantedBug::DeadlineIgnored, given_up),
        (vec![(1, Err(DeliveryError::Timeout))], vec![])
    );
}

#[test]
fn full_queue_drops_silently() {
    let refused = || {
        let mut net = Net::with(2, Config::default().send_queue_size(1_usize), 1);
        net.send(0, 1, 1, named(1), LONG);
        let deadline = net.now + LONG;
        let result = net.act(0, |m, cx| m.send(cx, SendId(2), &[id(1)], Bytes::new(), deadline));
        net.run(LONG);
        assert_eq!(net.sent(0), [(1, Ok(()))]);
        result.is_err()
    };
    assert_eq!(
        without_and_with(PlantedBug::FullQueueDropsSilently, refused),
        (true, false)
    );
}

#[test]
fn departure_leaves_commands_open() {
    let outcomes = || {
        let mut net = Net::new(2);
        net.filter = Some(Box::new(|_, _, _| false));
        net.send(0, 1, 1, named(1), LONG);
        net.run(ms(100));
        net.act(0, |m, cx| m.peer_gone(cx, id(1)));
        net.run(LONG);
        net.sent(0).len()
    };
    assert_eq!(
        without_and_with(PlantedBug::DepartureLeavesCommandsOpen, outcomes),
        (1, 0)
    );
}

/// What arrives of a message of so many bytes.
fn arrives(size: usize) -> Vec<usize> {
    let mut net = Net::new(2);
    net.send(0, 1, 1, pattern(size, 1), LONG);
    net.run(LONG);
    net.payloads(1).iter().map(|payload| payload.len()).collect()
}

#[test]
fn full_last_piece_cut() {
    let size = 2 * MAX_CHUNK;
    let (without, with) = without_and_with(PlantedBug::FullLastPieceCut, || arrives(size));
    assert_eq!((without, with), (vec![size], vec![size - 1]));
}

#[test]
fn largest_message_refused() {
    let size = Config::default().max_message_size;
    let (without, with) = without_and_with(PlantedBug::LargestMessageRefused, || arrives(size));
    assert_eq!((without, with), (vec![size], vec![]));
}
