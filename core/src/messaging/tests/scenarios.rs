use super::*;
use alloc::collections::BTreeSet;
use quickcheck::quickcheck;

const LONG: Duration = Duration::from_secs(5);

#[test]
fn messages_arrive_in_order_and_are_reported() {
    let mut net = Net::new(2);
    for name in 0..200 {
        net.send(0, name, 1, named(name), LONG);
    }
    net.run(ms(100));
    let names: Vec<u64> = net.payloads(1).iter().map(|p| name_of(p)).collect();
    assert_eq!(names, (0..200).collect::<Vec<_>>());
    assert_eq!(
        net.sent(0),
        (0..200).map(|name| (name, Ok(()))).collect::<Vec<_>>()
    );
    assert!(net.peers[0].messaging.groups.is_empty());
    assert_eq!(net.peers[0].stats.retransmits, 0);
}

#[test]
fn an_empty_message_and_an_empty_reply_are_messages() {
    let mut net = Net::new(2);
    net.peers[1].echoes = true;
    net.send(0, 1, 1, vec![], LONG);
    net.request(0, 2, 1, vec![], LONG);
    net.run(ms(100));
    assert_eq!(net.sent(0), [(1, Ok(()))]);
    assert_eq!(net.answers(0), [(2, Ok(Bytes::new()))]);
    assert_eq!(net.peers[1].received.len(), 2);
}

#[test]
fn delivery_takes_two_round_trips_at_first_and_one_after() {
    let mut net = Net::new(2);
    net.send(0, 1, 1, vec![1], LONG);
    net.run(ms(4));
    assert_eq!(net.sent(0), [(1, Ok(()))]);
    net.send(0, 2, 1, vec![2], LONG);
    net.run(ms(2));
    assert_eq!(net.sent(0), [(2, Ok(()))]);
}

#[test]
fn a_command_without_targets_is_finished_at_once() {
    let mut net = Net::new(1);
    let deadline = net.now + LONG;
    net.act(0, |m, cx| m.send(cx, SendId(1), &[], Bytes::new(), deadline))
        .unwrap();
    net.act(0, |m, cx| {
        m.request(cx, RequestId(2), &[], Bytes::new(), deadline)
    })
    .unwrap();
    let events: Vec<_> = net.peers[0].events.drain(..).collect();
    assert_eq!(
        events,
        [Event::SendFinished(SendId(1)), Event::RequestDone(RequestId(2))]
    );
}

#[test]
fn each_target_has_one_outcome_and_then_the_command_ends() {
    let mut net = Net::new(3);
    net.peers[1].echoes = true;
    let deadline = net.now + ms(300);
    net.act(0, |m, cx| {
        m.request(cx, RequestId(7), &[id(1), id(2)], vec![9].into(), deadline)
    })
    .unwrap();
    net.run(LONG);
    let events: Vec<_> = net.peers[0].events.drain(..).collect();
    assert!(matches!(events[0], Event::Reply { from, .. } if from == id(1)));
    let timeout = DeliveryError::Timeout;
    assert!(
        matches!(events[1], Event::RequestFailed { to, error, .. } if to == Some(id(2)) && error == timeout)
    );
    assert_eq!(events[2..], [Event::RequestDone(RequestId(7))]);
}

fn large(loss_permille: u64, time: Duration) -> Net {
    let mut net = Net::new(2);
    net.loss_permille = loss_permille;
    net.peers[1].echoes = true;
    let payload = pattern(1 << 20, 3);
    net.request(0, 1, 1, payload.clone(), time);
    net.run(time);
    assert_eq!(net.answers(0), [(1, Ok(payload.clone().into()))]);
    assert_eq!(net.payloads(1), [payload]);
    net
}

#[test]
fn a_mebibyte_goes_there_and_back() {
    let net = large(0, ms(200));
    assert_eq!(net.peers[0].stats.retransmits, 0);
}

#[test]
fn a_mebibyte_survives_five_percent_loss() {
    large(50, LONG);
}

#[test]
fn a_mebibyte_survives_thirty_percent_loss() {
    large(300, Duration::from_secs(30));
}

#[test]
fn every_chunk_may_be_lost_once() {
    let mut net = Net::new(2);
    let mut seen = BTreeSet::new();
    net.filter = Some(Box::new(move |_, kind, body| {
        kind != kind::DATA || !seen.insert(Chunk::decode(kind, body).unwrap().sequence)
    }));
    let payload = pattern(300_000, 1);
    net.send(0, 1, 1, payload.clone(), LONG);
    net.run(LONG);
    assert_eq!(net.payloads(1), [payload]);
    assert_eq!(net.sent(0), [(1, Ok(()))]);
}

#[test]
fn a_lost_chunk_is_sent_again_as_soon_as_later_ones_arrive() {
    let mut net = Net::new(2);
    net.send(0, 0, 1, named(0), LONG);
    net.run(ms(10));
    let mut lost = false;
    net.filter = Some(Box::new(move |_, kind, body| {
        let hit = kind == kind::DATA && !lost && Chunk::decode(kind, body).unwrap().sequence == 10;
        lost |= hit;
        !hit
    }));
    net.send(0, 1, 1, pattern(40_000, 1), LONG);
    // Two round trips of 2 ms; the retransmission timeout alone is above 16 ms.
    net.run(ms(4));
    assert_eq!(net.sent(0), [(0, Ok(())), (1, Ok(()))]);
    assert_eq!(net.peers[0].stats.retransmits, 1);
}

#[test]
fn a_path_that_reorders_is_not_flooded() {
    for (latency, jitter) in [(1, 2), (1, 30), (20, 10)] {
        let mut net = Net::new(2);
        (net.latency, net.jitter) = (ms(latency), ms(jitter));
        for name in 0..3 {
            net.send(0, name, 1, pattern(1 << 20, 3), LONG);
        }
        net.run(LONG);
        assert_eq!(net.sent(0).len(), 3);
        let chunks = 3 * (1_u64 << 20).div_ceil(MAX_CHUNK as u64);
        let again = net.peers[0].stats.retransmits;
        assert!(
            again < chunks,
            "{again} of {chunks} chunks at {latency} + {jitter} ms"
        );
    }
}

#[test]
fn no_more_peers_are_kept_than_members() {
    let mut net = Net::with(4, Config::default().max_members(2_usize), 1);
    let deadline = net.now + LONG;
    let targets = [id(1), id(2), id(3)];
    net.act(0, |m, cx| m.send(cx, SendId(1), &targets, Bytes::new(), deadline))
        .unwrap();
    net.run(ms(100));
    let done = net.sent(0);
    assert_eq!(done.iter().filter(|(_, result)| result.is_ok()).count(), 2);
    assert!(done.contains(&(1, Err(DeliveryError::QueueFull))));
    net.send(3, 2, 0, named(2), ms(500));
    net.run(ms(1000));
    assert_eq!(net.sent(3), [(2, Err(DeliveryError::Timeout))]);
    assert!(net.peers[0].stats.dropped(DropReason::MembersFull) > 0);
}

#[test]
fn messages_that_wait_in_vain_leave_nothing_behind() {
    let mut net = Net::with(2, Config::default().send_queue_size(50_usize), 1);
    net.filter = Some(Box::new(|_, _, _| false));
    net.request(0, 0, 1, named(0), Duration::from_secs(600));
    for name in 1..2000 {
        net.request(0, name, 1, named(name), ms(20));
        net.run(ms(1));
    }
    assert!(
        net.peers[0].messaging.held() < 150,
        "{}",
        net.peers[0].messaging.held()
    );
}

#[test]
fn what_is_given_up_does_not_hold_up_the_rest() {
    let mut net = Net::new(2);
    // The first message never gets through, nor do two pieces of the third.
    net.filter = Some(Box::new(|_, kind, body| {
        kind != kind::DATA || ![0, 4, 9].contains(&Chunk::decode(kind, body).unwrap().sequence)
    }));
    net.send(0, 0, 1, named(0), ms(300));
    net.send(0, 1, 1, named(1), LONG);
    net.send(0, 2, 1, pattern(10_000, 1), ms(400));
    net.send(0, 3, 1, named(3), LONG);
    net.run(ms(200));
    assert!(net.payloads(1).is_empty(), "the order is kept");
    net.run(LONG);
    assert_eq!(net.payloads(1), [named(1), named(3)]);
    let timeout = Err(DeliveryError::Timeout);
    assert_eq!(
        net.sent(0),
        [(0, timeout), (1, Ok(())), (2, timeout), (3, Ok(()))]
    );
    net.filter = None;
    net.send(0, 4, 1, named(4), LONG);
    net.run(ms(10));
    assert_eq!(net.sent(0), [(4, Ok(()))]);
}

#[test]
fn a_message_given_up_half_sent_leaves_no_gap() {
    let mut net = Net::new(2);
    net.send(0, 0, 1, vec![0], LONG);
    net.run(ms(10));
    // Nothing comes back, so at most 64 chunks of the large one are ever sent.
    net.filter = Some(Box::new(|from, _, _| from == 0));
    net.send(0, 1, 1, pattern(500_000, 1), ms(100));
    net.run(ms(200));
    net.filter = None;
    net.send(0, 2, 1, vec![2], LONG);
    net.run(ms(1000));
    assert_eq!(net.payloads(1), [vec![0], vec![2]]);
    assert_eq!(net.sent(0)[1..], [(1, Err(DeliveryError::Timeout)), (2, Ok(()))]);
}

#[test]
fn a_slow_consumer_holds_up_only_its_own_queue() {
    let mut net = Net::with(3, Config::default().message_queue_size(8_usize), 1);
    net.peers[1].consumes = false;
    for name in 0..100 {
        net.send(0, name, 1, named(name), Duration::from_secs(60));
        net.send(0, 1000 + name, 2, named(name), LONG);
    }
    net.run(Duration::from_secs(20));
    let done = net.sent(0);
    assert_eq!(done.iter().filter(|(name, _)| *name >= 1000).count(), 100);
    assert_eq!(
        done.iter().filter(|(name, _)| *name < 1000).count(),
        8,
        "what is queued is delivered"
    );
    assert!(net.peers[0].stats.retransmits < 30, "{:?}", net.peers[0].stats);
    assert!(net.peers[1].messaging.held() < 300);
    net.peers[1].consumes = true;
    net.run(ms(100));
    assert_eq!(net.payloads(1).len(), 100);
    assert_eq!(net.sent(0).len(), 92);
}

#[test]
fn a_lost_word_of_new_room_is_asked_for() {
    let mut net = Net::with(2, Config::default().message_queue_size(4_usize), 1);
    net.peers[1].consumes = false;
    for name in 0..20 {
        net.send(0, name, 1, named(name), Duration::from_secs(60));
    }
    net.run(ms(500));
    net.filter = Some(Box::new(|from, _, _| from == 0));
    net.peers[1].consumes = true;
    net.run(ms(50));
    net.filter = None;
    net.run(Duration::from_secs(5));
    assert_eq!(net.payloads(1).len(), 20);
    assert_eq!(net.sent(0).len(), 20);
}

#[test]
fn a_message_as_large_as_the_window_waits_for_an_empty_queue() {
    let config = Config::default()
        .max_message_size(50_000_usize)
        .window_bytes(50_000_usize);
    let mut net = Net::with(2, config, 1);
    net.peers[1].consumes = false;
    net.send(0, 0, 1, pattern(100, 0), Duration::from_secs(60));
    net.send(0, 1, 1, pattern(50_000, 1), Duration::from_secs(60));
    net.run(ms(3000));
    assert_eq!(net.sent(0), [(0, Ok(()))]);
    assert!(net.peers[1].messaging.receive_bytes(id(0)) <= 150_000);
    net.peers[1].consumes = true;
    net.run(ms(3000));
    assert_eq!(net.sent(0), [(1, Ok(()))]);
    assert_eq!(net.payloads(1)[1], pattern(50_000, 1));
}

#[test]
fn a_receiver_that_lost_its_memory_runs_nothing_twice() {
    let mut net = Net::new(2);
    net.request(0, 1, 1, named(1), LONG);
    net.run(ms(50));
    assert_eq!(net.peers[1].received.len(), 1);
    // The acknowledgement of the second one never arrives; then the receiver forgets the sender.
    net.filter = Some(Box::new(|from, _, _| from == 0));
    net.request(0, 2, 1, named(2), LONG);
    net.run(ms(10));
    assert_eq!(net.peers[1].received.len(), 2);
    net.act(1, |m, cx| m.peer_gone(cx, id(0)));
    net.filter = None;
    net.request(0, 3, 1, named(3), LONG);
    net.run(ms(1000));
    net.peers[1].echoes = true;
    net.request(0, 4, 1, named(4), LONG);
    net.run(ms(1000));
    let unknown = Err(DeliveryError::OutcomeUnknown);
    let answers = net.answers(0);
    assert_eq!(answers[..2], [(1, unknown.clone()), (2, unknown)]);
    // The third was sent before the news came, the fourth after.
    assert_eq!(answers[3], (4, Ok(named(4).into())));
    let names: Vec<u64> = net.payloads(1).iter().map(|p| name_of(p)).collect();
    assert_eq!(names, [1, 2, 4]);
}

#[test]
fn what_was_not_sent_goes_on_in_the_next_epoch() {
    let mut net = Net::with(2, Config::default().window_messages(1_usize), 1);
    net.send(0, 0, 1, named(0), LONG);
    net.run(ms(10));
    net.act(1, |m, cx| m.peer_gone(cx, id(0)));
    for name in 1..5 {
        net.send(0, name, 1, named(name), LONG);
    }
    net.send(0, 5, 1, pattern(200_000, 1), LONG);
    net.run(ms(100));
    let mut expected = vec![(0, Ok(())), (1, Err(DeliveryError::OutcomeUnknown))];
    expected.extend((2..6).map(|name| (name, Ok(()))));
    assert_eq!(net.sent(0), expected);
    assert_eq!(net.payloads(1).len(), 5);
}

#[test]
fn a_large_message_caught_half_sent_starts_again() {
    let mut net = Net::new(2);
    net.send(0, 0, 1, named(0), LONG);
    net.run(ms(10));
    net.act(1, |m, cx| m.peer_gone(cx, id(0)));
    net.send(0, 1, 1, pattern(200_000, 1), LONG);
    net.send(0, 2, 1, named(2), LONG);
    net.run(ms(100));
    assert_eq!(net.sent(0), [(0, Ok(())), (1, Ok(())), (2, Ok(()))]);
    assert_eq!(net.payloads(1)[1..], [pattern(200_000, 1), named(2)]);
}

#[test]
fn a_reply_is_sent_again_when_the_caller_has_forgotten_the_channel() {
    let mut net = Net::new(2);
    net.peers[1].echoes = true;
    net.request(0, 1, 1, named(1), LONG);
    net.run(ms(50));
    // Only the caller has lost the other from sight. Its requests go over a new channel, the replies over the old one.
    net.act(0, |m, cx| m.peer_gone(cx, id(1)));
    net.request(0, 2, 1, named(2), LONG);
    net.run(ms(50));
    let answers = [(1, Ok(named(1).into())), (2, Ok(named(2).into()))];
    assert_eq!(net.answers(0), answers);
    assert_eq!(net.peers[1].received.len(), 2);
}

#[test]
fn a_peer_that_goes_ends_what_is_pending() {
    let mut net = Net::new(2);
    net.request(0, 1, 1, named(1), LONG);
    net.run(ms(50));
    net.request(0, 2, 1, named(2), LONG);
    net.send(0, 3, 1, named(3), LONG);
    net.act(0, |m, cx| m.peer_gone(cx, id(1)));
    let gone = DeliveryError::PeerDisconnected;
    assert_eq!(net.answers(0), [(1, Err(gone)), (2, Err(gone))]);
    assert_eq!(net.sent(0), [(3, Err(gone))]);
    assert_eq!(net.peers[0].messaging.held(), 0);
    let to = net.peers[1].received[0].reply_to.unwrap();
    net.act(1, |m, cx| m.peer_gone(cx, id(0)));
    let refused = net.act(1, |m, cx| m.reply(cx, to, Bytes::new()));
    assert_eq!(refused, Err(ReplyError::NotOpen));
    // Both meet again.
    net.peers[1].echoes = true;
    net.request(0, 4, 1, named(4), LONG);
    net.run(ms(1000));
    assert_eq!(net.answers(0), [(4, Ok(named(4).into()))]);
}

#[test]
fn what_was_acknowledged_is_delivered_even_when_its_sender_has_gone() {
    let mut net = Net::new(2);
    net.peers[1].consumes = false;
    net.send(0, 1, 1, named(1), LONG);
    net.request(0, 2, 1, named(2), LONG);
    net.run(ms(50));
    assert_eq!(net.sent(0), [(1, Ok(()))]);
    net.act(1, |m, cx| m.peer_gone(cx, id(0)));
    net.peers[1].consumes = true;
    net.pump();
    assert_eq!(net.payloads(1), [named(1)], "but nobody waits for its requests");
}

#[test]
fn a_reply_is_given_once_and_in_time() {
    let mut net = Net::new(2);
    net.request(0, 1, 1, named(1), ms(100));
    net.request(0, 2, 1, named(2), ms(100));
    net.run(ms(50));
    let (first, second) = (&net.peers[1].received[0], &net.peers[1].received[1]);
    let (first, second, deadline) = (first.reply_to.unwrap(), second.reply_to.unwrap(), first.deadline);
    assert!(deadline.is_some_and(|at| at > net.now && at <= net.now + ms(60)));
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    let max = 1 << 20;
    assert_eq!(
        net.act(1, |m, cx| m.reply(cx, first, large)),
        Err(ReplyError::TooLarge { size: max + 1, max })
    );
    assert_eq!(net.act(1, |m, cx| m.reply(cx, first, Bytes::new())), Ok(()));
    assert_eq!(
        net.act(1, |m, cx| m.reply(cx, first, Bytes::new())),
        Err(ReplyError::NotOpen)
    );
    net.run(ms(100));
    assert_eq!(
        net.act(1, |m, cx| m.reply(cx, second, Bytes::new())),
        Err(ReplyError::NotOpen)
    );
    assert_eq!(
        net.answers(0),
        [(1, Ok(Bytes::new())), (2, Err(DeliveryError::Timeout))]
    );
}

#[test]
fn a_request_that_nobody_took_in_time_is_not_run() {
    let mut net = Net::new(2);
    net.peers[1].consumes = false;
    net.request(0, 1, 1, named(1), ms(100));
    net.send(0, 2, 1, named(2), LONG);
    net.run(ms(200));
    net.peers[1].consumes = true;
    net.pump();
    assert_eq!(net.payloads(1), [named(2)]);
    assert_eq!(net.peers[1].stats.dropped(DropReason::ExpiredRequest), 1);
}

#[test]
fn replies_beyond_the_bound_are_reported_lost() {
    let mut net = Net::with(2, Config::default().message_queue_size(1000_usize), 1);
    net.peers[0].echoes = true;
    for name in 0..REPLY_MESSAGES as u64 + 10 {
        net.request(0, name, 1, named(name), LONG);
    }
    net.run(ms(200));
    let open: Vec<_> = net.peers[1]
        .received
        .iter()
        .map(|m| m.reply_to.unwrap())
        .collect();
    let results: Vec<_> = (open.iter())
        .map(|&to| net.act(1, |m, cx| m.reply(cx, to, vec![1].into())))
        .collect();
    assert!(results[..REPLY_MESSAGES].iter().all(Result::is_ok));
    assert!(
        results[REPLY_MESSAGES..]
            .iter()
            .all(|r| *r == Err(ReplyError::Full))
    );
    net.run(ms(200));
    let answers = net.answers(0);
    assert_eq!(answers.len(), REPLY_MESSAGES + 10);
    let lost = answers
        .iter()
        .filter(|(_, a)| *a == Err(DeliveryError::ReplyLost));
    assert_eq!(lost.count(), 10);
}

#[test]
fn a_cancelled_command_reports_nothing() {
    let mut net = Net::with(2, Config::default().window_messages(2_usize), 1);
    for name in 0..4 {
        net.request(0, name, 1, named(name), LONG);
        net.send(0, name, 1, named(name), LONG);
    }
    net.run(ms(1));
    net.act(0, |m, _| {
        m.cancel(RequestId(0));
        m.cancel(RequestId(2));
        m.cancel(RequestId(2));
        m.cancel_send(SendId(3));
    });
    net.peers[1].echoes = true;
    net.run(LONG);
    assert_eq!(net.answers(0).iter().map(|a| a.0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(net.sent(0).iter().map(|a| a.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(net.peers[0].messaging.groups.is_empty());
}

#[test]
fn a_full_queue_refuses_one_target_and_fails_one_of_several() {
    let mut net = Net::with(3, Config::default().send_queue_size(5_usize), 1);
    let deadline = net.now + LONG;
    for name in 0..5 {
        net.send(0, name, 1, named(name), LONG);
    }
    let refused = net.act(0, |m, cx| m.send(cx, SendId(9), &[id(1)], Bytes::new(), deadline));
    assert_eq!(refused, Err(SendError::QueueFull { limit: 5 }));
    net.act(0, |m, cx| {
        m.send(cx, SendId(10), &[id(1), id(2)], Bytes::new(), deadline)
    })
    .unwrap();
    net.run(ms(100));
    let done = net.sent(0);
    assert!(done.contains(&(10, Err(DeliveryError::QueueFull))) && done.contains(&(10, Ok(()))));
    assert_eq!(done.len(), 7);
    // A single target is counted by the node, which also refuses without asking here.
    assert_eq!(net.peers[0].stats.messages_refused, 1);
}

#[test]
fn leaving_ends_what_is_pending_and_takes_nothing_new() {
    let mut net = Net::new(2);
    net.request(0, 1, 1, named(1), LONG);
    net.send(0, 2, 1, named(2), LONG);
    net.act(0, |m, cx| m.shutdown(cx));
    let deadline = net.now + LONG;
    let refused = net.act(0, |m, cx| m.send(cx, SendId(9), &[id(1)], Bytes::new(), deadline));
    assert_eq!(refused, Err(SendError::Leaving));
    assert_eq!(net.answers(0), [(1, Err(DeliveryError::Leaving))]);
    assert_eq!(net.sent(0), [(2, Err(DeliveryError::Leaving))]);
}

#[test]
fn a_new_session_sends_at_once_what_was_outstanding() {
    let mut net = Net::new(2);
    net.send(0, 0, 1, named(0), LONG);
    net.run(ms(10));
    net.filter = Some(Box::new(|_, _, _| false));
    net.send(0, 1, 1, named(1), Duration::from_secs(60));
    net.run(Duration::from_secs(10));
    net.filter = None;
    net.act(0, |m, _| m.link_up(id(1)));
    net.run(ms(3));
    assert_eq!(net.sent(0), [(0, Ok(())), (1, Ok(()))]);
}

#[test]
fn an_idle_channel_needs_no_timer() {
    let mut net = Net::new(2);
    net.peers[1].echoes = true;
    net.request(0, 1, 1, named(1), LONG);
    net.run(Duration::from_secs(20));
    for peer in &net.peers {
        assert_eq!(peer.messaging.poll_timeout(), None);
        assert_eq!(peer.messaging.held(), 0);
    }
}

#[test]
fn small_requests_share_datagrams() {
    let mut net = Net::new(2);
    net.peers[1].echoes = true;
    for name in 0..64 {
        net.request(0, name, 1, vec![7; 128], LONG);
    }
    net.run(ms(20));
    assert_eq!(net.answers(0).len(), 64);
    // 64 requests of 128 bytes and 64 replies, each at least seven to a datagram, and what opens and acknowledges.
    assert!(net.sequence < 40, "{}", net.sequence);
}

/// Sends mixed traffic both ways over a bad link. Everything has exactly one outcome; what arrives is in order and never
/// twice; what was reported delivered has arrived; answers belong to their questions.
fn bad_link(seed: u64, forget: bool) -> bool {
    let mut dice = Rng::new(&[seed as u8; 32], Stream::Discovery);
    let config = Config::default().message_queue_size(1 + dice.below(50) as usize);
    let mut net = Net::with(2, config, seed);
    net.loss_permille = dice.below(400);
    net.repeat_permille = dice.below(300);
    net.jitter = ms(dice.below(40));
    net.latency = Duration::from_micros(dice.below(20_000));
    net.peers[0].echoes = true;
    net.peers[1].echoes = true;
    let mut names = 0;
    let (mut asked, mut outcomes) = (vec![], BTreeMap::new());
    for round in 0..60 {
        for from in 0..2 {
            for _ in 0..dice.below(4) {
                names += 1;
                let mut payload = named(names);
                let extra = if dice.below(8) == 0 {
                    dice.below(30_000)
                } else {
                    dice.below(200)
                };
                payload.extend(pattern(extra as usize, names as usize));
                let timeout = ms(100 + dice.below(4000));
                asked.push(names);
                if dice.below(2) == 0 {
                    net.send(from, names, 1 - from, payload, timeout);
                } else {
                    net.request(from, names, 1 - from, payload, timeout);
                }
            }
        }
        if forget && round % 20 == 19 {
            let (at, other) = (round / 20 % 2, id(1 - round / 20 % 2));
            net.act(at, |m, cx| m.peer_gone(cx, other));
        }
        net.peers[1].consumes = dice.below(4) > 0;
        net.run(ms(dice.below(60)));
    }
    net.peers[1].consumes = true;
    net.run(Duration::from_secs(20));
    for from in 0..2 {
        for (name, result) in net.sent(from) {
            assert_eq!(outcomes.insert(name, (result.is_ok(), true)), None, "one outcome");
        }
        for (name, answer) in net.answers(from) {
            let ok = answer.is_ok();
            if let Ok(payload) = answer {
                assert_eq!(name_of(&payload), name, "the answer belongs to the question");
            }
            assert_eq!(outcomes.insert(name, (ok, true)), None, "one outcome");
        }
        assert!(net.peers[from].messaging.groups.is_empty());
    }
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), asked);
    let mut arrived = BTreeSet::new();
    for at in 0..2 {
        let names: Vec<u64> = net.payloads(at).iter().map(|p| name_of(p)).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "in order, never twice");
        for payload in net.payloads(at) {
            let name = name_of(&payload);
            assert_eq!(payload[8..], pattern(payload.len() - 8, name as usize));
            arrived.insert(name);
        }
    }
    outcomes
        .iter()
        .all(|(name, (ok, _))| !ok || arrived.contains(name))
}

quickcheck! {
    fn any_link_keeps_the_promises(seed: u64) -> bool {
        bad_link(seed, false)
    }

    fn lost_memory_keeps_the_promises(seed: u64) -> bool {
        bad_link(seed, true)
    }
}
