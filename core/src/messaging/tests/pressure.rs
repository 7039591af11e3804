//! Where one side takes less than the other would give.

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// Two peers, of which the second has settings of its own.
fn unequal(config: Config, other: &Config) -> Net {
    let mut net = Net::with(2, config, 1);
    net.peers[1].messaging = Messaging::new(other, Rng::new(&[9; 32], Stream::Messaging));
    net
}

fn open_requests(net: &Net, at: usize) -> Vec<ReplyTo> {
    net.peers[at].received.iter().filter_map(|m| m.reply_to).collect()
}

#[test]
fn answering_lets_the_request_in_that_had_to_wait() {
    let few = Config::default()
        .send_queue_size(1_usize)
        .window_messages(1_usize);
    let mut net = unequal(Config::default(), &few);
    for name in 0..3 {
        net.request(0, name, 1, named(name), LONG);
    }
    net.run(Duration::from_secs(5));
    let open = open_requests(&net, 1);
    assert_eq!(open.len(), 2, "as many as may be open");
    for to in open {
        net.act(1, |m, cx| m.reply(cx, to, Bytes::new())).unwrap();
    }
    net.run(ms(100));
    assert_eq!(open_requests(&net, 1).len(), 3);
}

#[test]
fn a_request_that_expires_lets_the_next_one_in() {
    let few = Config::default()
        .send_queue_size(1_usize)
        .window_messages(1_usize);
    let mut net = unequal(Config::default(), &few);
    for name in 0..2 {
        net.request(0, name, 1, named(name), Duration::from_secs(5));
    }
    net.request(0, 2, 1, named(2), LONG);
    net.run(Duration::from_secs(6));
    assert_eq!(open_requests(&net, 1).len(), 3);
}

#[test]
fn ignoring_lets_in_what_waits_behind_a_caller_that_gave_up() {
    let few = Config::default()
        .send_queue_size(1_usize)
        .window_messages(1_usize);
    let mut net = unequal(Config::default(), &few);
    for name in 0..3 {
        net.request(0, name, 1, named(name), LONG);
    }
    net.send(0, 9, 1, named(9), LONG);
    net.run(ms(100));
    // Their caller forgets them, but the peer does not know.
    net.act(0, |m, _| (0..2).for_each(|name| m.cancel(RequestId(name))));
    net.run(ms(1000));
    assert_eq!((open_requests(&net, 1).len(), net.sent(0)), (2, Vec::new()));
    let open = open_requests(&net, 1);
    for to in open.iter().chain(&open) {
        net.act(1, |m, cx| m.ignore(cx, *to));
        let late = net.act(1, |m, cx| m.reply(cx, *to, Bytes::new()));
        assert_eq!(late, Err(ReplyError::NotOpen));
    }
    net.run(ms(1000));
    assert_eq!(open_requests(&net, 1).len(), 3);
    assert_eq!(net.sent(0), [(9, Ok(()))]);
    // A caller that still waits runs into its timeout.
    let last = open_requests(&net, 1)[2];
    net.act(1, |m, cx| m.ignore(cx, last));
    net.run(LONG);
    assert_eq!(net.answers(0), [(2, Err(DeliveryError::Timeout))]);
}

#[test]
fn open_requests_do_not_hold_up_messages() {
    let few = Config::default()
        .send_queue_size(1_usize)
        .window_messages(1_usize);
    let mut net = unequal(Config::default(), &few);
    for name in 0..2 {
        net.request(0, name, 1, named(name), LONG);
    }
    net.run(ms(100));
    net.send(0, 9, 1, named(9), LONG);
    net.run(ms(100));
    assert_eq!(net.sent(0), [(9, Ok(()))]);
}

/// A peer that takes 1,000 bytes is sent more.
fn oversized(size: usize) {
    let small = Config::default().max_message_size(1000_usize);
    let mut net = unequal(Config::default(), &small);
    net.send(0, 1, 1, pattern(size, 1), LONG);
    net.request(0, 2, 1, pattern(size, 2), LONG);
    net.send(0, 3, 1, pattern(1000, 3), LONG);
    net.run(Duration::from_secs(2));
    assert_eq!(
        net.payloads(1),
        [pattern(1000, 3)],
        "what is behind it is not held up"
    );
    assert_eq!(net.sent(0), [(1, Err(DeliveryError::TooLarge)), (3, Ok(()))]);
    assert_eq!(net.answers(0), [(2, Err(DeliveryError::TooLarge))]);
    net.run(LONG);
    assert_eq!(net.peers[0].messaging.held() + net.peers[1].messaging.held(), 0);
}

#[test]
fn a_peer_refuses_what_is_too_large_for_it() {
    oversized(1001);
    oversized(1100);
    oversized(5000);
    oversized(500_000);
}

#[test]
fn a_refusal_survives_a_bad_link() {
    for seed in 0..20 {
        let small = Config::default().max_message_size(1000_usize);
        let mut net = Net::with(2, Config::default(), seed);
        net.peers[1].messaging = Messaging::new(&small, Rng::new(&[9; 32], Stream::Messaging));
        (net.loss_permille, net.repeat_permille, net.jitter) = (200, 100, ms(20));
        for name in 0..20 {
            net.send(
                0,
                name,
                1,
                pattern(if name % 2 == 0 { 3000 } else { 900 }, 0),
                LONG,
            );
        }
        net.run(LONG);
        let mut sent = net.sent(0);
        sent.sort_by_key(|(name, _)| *name);
        for (name, result) in sent {
            let expected = if name % 2 == 0 {
                Err(DeliveryError::TooLarge)
            } else {
                Ok(())
            };
            assert_eq!(result, expected, "message {name}, seed {seed}");
        }
        assert_eq!(net.payloads(1).len(), 10);
    }
}

#[test]
fn a_reply_too_large_for_the_caller_ends_its_request() {
    for size in [1001, 1100, 5000, 200_000] {
        let small = Config::default().max_message_size(1000_usize);
        let mut net = unequal(Config::default(), &small);
        net.request(1, 1, 0, named(1), LONG);
        net.request(1, 2, 0, named(2), LONG);
        net.run(ms(50));
        let open = open_requests(&net, 0);
        net.act(0, |m, cx| m.reply(cx, open[0], pattern(size, 1).into()))
            .unwrap();
        net.act(0, |m, cx| m.reply(cx, open[1], pattern(1000, 2).into()))
            .unwrap();
        net.run(Duration::from_secs(2));
        let mut answers = net.answers(1);
        answers.sort_by_key(|(name, _)| *name);
        let expected = [
            (1, Err(DeliveryError::ReplyLost)),
            (2, Ok(pattern(1000, 2).into())),
        ];
        assert_eq!(answers, expected, "a reply of {size} bytes");
        net.run(LONG);
        assert_eq!(net.peers[0].messaging.held() + net.peers[1].messaging.held(), 0);
    }
}

#[test]
fn a_sender_that_gave_up_what_the_peer_holds_still_asks_for_room() {
    let config = Config::default().message_queue_size(1_usize);
    let mut net = Net::with(2, config.clone(), 1);
    net.peers[1].consumes = false;
    net.send(0, 1, 1, named(1), LONG);
    net.send(0, 2, 1, named(2), ms(500));
    net.run(ms(600));
    assert_eq!(net.sent(0).len(), 2);
    // The word of new room is lost, and all that the peer knew with it.
    net.peers[1].messaging = Messaging::new(&config, Rng::new(&[8; 32], Stream::Messaging));
    net.peers[1].consumes = true;
    net.send(0, 3, 1, named(3), LONG);
    net.run(Duration::from_secs(3));
    assert_eq!(net.payloads(1), [named(3)]);
}
