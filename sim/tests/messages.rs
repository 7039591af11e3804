//! Messages and requests between whole nodes over the virtual network.

use bytes::Bytes;
use quorate_core::{DeliveryError, Event, ReplyTo, Target};
use quorate_sim::{Duration, Link, NodeIndex, Sim, config};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn pair(seed: u64) -> (Sim, NodeIndex, NodeIndex) {
    let mut world = Sim::new(seed);
    let a = world.start(config());
    let b = world.start(config().seed(world.addr(a).to_string()));
    let met = world.run_until(secs(5), |w| {
        [a, b].iter().all(|&n| w.node_of(n).members().count() == 1)
    });
    assert!(met);
    (world, a, b)
}

fn bytes(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

#[test]
fn a_thousand_messages_arrive_in_order_over_a_bad_link() {
    let (mut world, a, b) = pair(1);
    world.set_link(
        Link::default()
            .loss(100)
            .duplicates(100)
            .delay(Duration::ZERO, Duration::from_millis(20)),
    );
    let to = Target::Node(world.id(b));
    for n in 0..1000 {
        let sent = world.with(a, |node| node.send(to, bytes(n), Some(node.now() + secs(60))));
        sent.expect("the queue holds 1,024");
    }
    assert!(world.run_until(secs(60), |w| w.messages(b).len() == 1000));
    for (n, (_, message)) in world.messages(b).iter().enumerate() {
        assert_eq!(message.payload, bytes(u32::try_from(n).unwrap()));
    }
    assert!(world.run_until(secs(5), |w| {
        let done = |e: &Event| matches!(e, Event::SendDone { result: Ok(()), .. });
        w.events(a).iter().filter(|(_, e)| done(e)).count() == 1000
    }));
}

#[test]
fn a_mebibyte_arrives_whole_at_five_percent_loss() {
    let (mut world, a, b) = pair(2);
    world.set_link(Link::default().loss(50));
    let payload: Vec<u8> = (0..1_u32 << 20)
        .map(|i| (i.wrapping_mul(31) >> 3) as u8)
        .collect();
    let to = Target::Node(world.id(b));
    let (payload, started) = (Bytes::from(payload), world.now());
    let copy = payload.clone();
    world.with(a, |node| node.send(to, copy, None)).unwrap();
    assert!(world.run_until(secs(5), |w| !w.messages(b).is_empty()));
    assert!(world.messages(b)[0].1.payload == payload, "altered on the way");
    assert!(
        world.now() - started < secs(2),
        "took {:?}",
        world.now() - started
    );
}

fn open_request(world: &Sim, node: NodeIndex, nth: usize) -> ReplyTo {
    world.messages(node)[nth].1.reply_to.expect("a request")
}

#[test]
fn requests_are_answered_once_over_a_bad_link() {
    let (mut world, a, b) = pair(3);
    world.set_link(Link::default().loss(150).duplicates(150));
    let to = Target::Node(world.id(b));
    for n in 0..200 {
        world
            .with(a, |node| node.request(to, bytes(n), Some(node.now() + secs(30))))
            .unwrap();
    }
    let mut answered = 0;
    let end = world.now() + secs(30);
    while world.step(end) {
        while answered < world.messages(b).len() {
            let (to, payload) = (
                open_request(&world, b, answered),
                world.messages(b)[answered].1.payload.clone(),
            );
            world.with(b, |node| node.reply(to, payload)).unwrap();
            answered += 1;
        }
    }
    assert_eq!(answered, 200, "each request runs exactly once");
    let replies = world
        .events(a)
        .iter()
        .filter(|(_, e)| matches!(e, Event::Reply { .. }))
        .count();
    assert_eq!(replies, 200);
}

#[test]
fn a_request_to_a_peer_that_goes_ends_early() {
    for polite in [true, false] {
        let (mut world, a, b) = pair(4);
        let to = Target::Node(world.id(b));
        let id = world
            .with(a, |node| node.request(to, bytes(1), Some(node.now() + secs(60))))
            .unwrap();
        world.run_for(secs(1));
        if polite {
            world.with(b, |node| node.leave());
        } else {
            world.crash(b);
        }
        let failed = Event::RequestFailed {
            id,
            to: Some(world.id(b)),
            error: DeliveryError::PeerDisconnected,
        };
        assert!(world.run_until(secs(5), |w| w.events(a).iter().any(|(_, e)| *e == failed)));
        assert!(world.events(a).iter().any(|(_, e)| *e == Event::RequestDone(id)));
    }
}

#[test]
fn a_consumer_that_stops_reading_stops_its_senders_and_nothing_else() {
    let (mut world, a, b) = pair(5);
    world.set_reading(b, false);
    let to = Target::Node(world.id(b));
    let (mut accepted, mut refused) = (0, 0);
    for n in 0..4000 {
        let sent = world.with(a, |node| node.send(to, bytes(n), Some(node.now() + secs(120))));
        if sent.is_ok() {
            accepted += 1
        } else {
            refused += 1
        }
        if n % 100 == 0 {
            world.run_for(Duration::from_millis(100));
        }
    }
    assert!(refused > 0, "the sender's queue is bounded");
    world.run_for(secs(10));
    for node in [a, b] {
        assert_eq!(world.node_of(node).members().count(), 1);
        assert!(
            !world
                .events(node)
                .iter()
                .any(|(_, e)| matches!(e, Event::MemberLeft { .. }))
        );
    }
    assert!(world.node_of(b).stats().busy > 0);
    world.set_reading(b, true);
    assert!(world.run_until(secs(60), |w| w.messages(b).len() == accepted));
    let order: Vec<_> = world.messages(b).iter().map(|(_, m)| m.payload.clone()).collect();
    assert!(order.is_sorted(), "order is kept");
}

#[test]
fn a_partition_in_the_middle_of_a_conversation_heals() {
    let (mut world, a, b) = pair(6);
    let to = Target::Node(world.id(b));
    world.cut(a, b);
    for n in 0..10 {
        world
            .with(a, |node| node.send(to, bytes(n), Some(node.now() + secs(20))))
            .unwrap();
    }
    world.run_for(secs(2));
    world.heal();
    assert!(
        world.run_until(secs(4), |w| w.messages(b).len() == 10),
        "{}",
        world.messages(b).len()
    );
}

#[test]
fn after_a_failure_messages_flow_again_and_none_is_run_twice() {
    let (mut world, a, b) = pair(7);
    let to = Target::Node(world.id(b));
    world
        .with(a, |node| node.request(to, bytes(1), Some(node.now() + secs(60))))
        .unwrap();
    world.run_for(secs(1));
    world.cut(a, b);
    assert!(world.run_until(secs(10), |w| w.node_of(a).members().count() == 0
        && w.node_of(b).members().count() == 0));
    world.heal();
    assert!(world.run_until(secs(60), |w| {
        [a, b].iter().all(|&n| w.node_of(n).members().count() == 1)
    }));
    world
        .with(a, |node| node.request(to, bytes(2), Some(node.now() + secs(60))))
        .unwrap();
    world.run_for(secs(5));
    let seen: Vec<_> = world.messages(b).iter().map(|(_, m)| m.payload.clone()).collect();
    assert_eq!(seen, [bytes(1), bytes(2)]);
}
