#[cfg(feature = "simulation")]
mod journal;
#[cfg(feature = "planted-bugs")]
mod planted;
#[cfg(feature = "simulation")]
mod usage;

use super::*;
use crate::config::Key;
use crate::error::DeliveryError;
use crate::time::Duration;
use alloc::collections::BTreeMap;
use alloc::vec;
use quickcheck::quickcheck;

const fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn config() -> Config {
    Config::default().key(Key::from_bytes([1; 32]))
}

fn node(config: Config, seed: u8) -> Node {
    Node::new(config, [seed; 32], at(0), WallTime::default()).unwrap()
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 5000))
}

fn run(nodes: &mut [(SocketAddr, Node)], until: Instant) {
    run_from(nodes, at(0), until);
}

/// Carries datagrams between nodes without delay until none moves, advancing time from timer to timer.
fn run_from(nodes: &mut [(SocketAddr, Node)], mut now: Instant, until: Instant) {
    let mut buf = Vec::new();
    let index: BTreeMap<_, _> = nodes
        .iter()
        .enumerate()
        .map(|(i, (addr, _))| (*addr, i))
        .collect();
    loop {
        let mut moved = false;
        for i in 0..nodes.len() {
            while let Some(transmit) = nodes[i].1.poll_transmit(now, &mut buf) {
                moved = true;
                let from = nodes[i].0;
                if let Some(&to) = index.get(&transmit.to) {
                    nodes[to].1.handle_datagram(now, from, &mut buf.clone());
                }
            }
        }
        if moved {
            continue;
        }
        let next = nodes.iter().filter_map(|(_, node)| node.poll_timeout()).min();
        match next {
            Some(next) if next <= until => now = next.max(now),
            _ => return,
        }
        for (_, node) in nodes.iter_mut() {
            if node.poll_timeout().is_some_and(|at| at <= now) {
                node.handle_timeout(now);
            }
        }
    }
}

#[test]
fn an_invalid_config_is_refused() {
    let error = Node::new(Config::default(), [0; 32], at(0), WallTime::default()).unwrap_err();
    assert_eq!(error.faults[0].field, "security");
}

#[test]
fn two_nodes_meet_and_talk_with_real_cryptography() {
    let mut nodes = vec![
        (addr(1), node(config(), 1)),
        (addr(2), node(config().seed("10.0.0.1"), 2)),
    ];
    run(&mut nodes, at(2_000));
    let to = nodes[1].1.id();
    assert_eq!(
        nodes[0].1.members().map(|member| member.id).collect::<Vec<_>>(),
        [to]
    );
    let id = nodes[0]
        .1
        .request(at(2_000), Target::Node(to), Bytes::from("ping"), None)
        .unwrap();
    run(&mut nodes, at(2_100));
    let message = nodes[1].1.poll_message(at(2_100)).unwrap();
    assert_eq!(
        (&message.payload[..], message.from),
        (&b"ping"[..], nodes[0].1.id())
    );
    nodes[1]
        .1
        .reply(at(2_100), message.reply_to.unwrap(), Bytes::from("pong"))
        .unwrap();
    run(&mut nodes, at(2_300));
    let events: Vec<_> = core::iter::from_fn(|| nodes[0].1.poll_event()).collect();
    assert!(
        events.contains(&Event::Reply {
            id,
            from: to,
            payload: Bytes::from("pong")
        }),
        "{events:?}"
    );
    assert_eq!(events.last(), Some(&Event::RequestDone(id)));
    let answered_twice = nodes[1]
        .1
        .reply(at(2_300), message.reply_to.unwrap(), Bytes::new());
    assert_eq!(answered_twice, Err(ReplyError::NotOpen));
}

#[test]
fn what_is_sent_without_a_session_dials_at_once() {
    let mut nodes = vec![
        (addr(1), node(config(), 1)),
        (addr(2), node(config().seed("10.0.0.1"), 2)),
    ];
    run(&mut nodes, at(2_000));
    let to = nodes[1].1.id();
    let node = &mut nodes[0].1;
    let mut buf = Vec::new();
    node.sessions.close(context!(node, at(2_000)), to);
    while node.poll_transmit(at(2_000), &mut buf).is_some() {}
    node.send(at(2_000), Target::Node(to), Bytes::from("hello"), None)
        .unwrap();
    let hello = node.poll_transmit(at(2_000), &mut buf);
    assert_eq!(hello, Some(Transmit { to: addr(2) }));
    assert_eq!(buf[1], 1, "no HELLO: {buf:?}");
}

#[test]
fn misuse_is_an_error_that_changes_nothing() {
    let mut node = node(
        config().max_message_size(10).cluster_size(3).send_queue_size(1),
        1,
    );
    let stranger = NodeId::from_bytes([9; 16]);
    let big = node.send(at(0), Target::All, Bytes::from(vec![0; 11]), None);
    assert_eq!(big, Err(SendError::TooLarge { size: 11, max: 10 }));
    let unknown = node.send(at(0), Target::Node(stranger), Bytes::new(), None);
    assert_eq!(unknown, Err(SendError::UnknownPeer(stranger)));
    assert_eq!(node.stats().messages_refused, 2);
    let waiting = node.send(at(0), Target::All, Bytes::new(), Some(at(50))).unwrap();
    assert_eq!(
        node.send(at(0), Target::All, Bytes::new(), None),
        Err(SendError::QueueFull { limit: 1 })
    );
    node.handle_timeout(at(50));
    let events: Vec<_> = core::iter::from_fn(|| node.poll_event()).collect();
    let failed = Event::SendDone {
        id: waiting,
        to: None,
        result: Err(DeliveryError::NoQuorum),
    };
    assert_eq!(events, [failed, Event::SendFinished(waiting)]);
    let request = node.request(at(60), Target::All, Bytes::new(), None).unwrap();
    node.cancel_request(request);
    node.handle_timeout(at(20_000));
    assert!(!core::iter::from_fn(|| node.poll_event()).any(|e| matches!(e, Event::RequestDone(_))));
}

#[test]
fn a_broadcast_without_members_finishes_at_once() {
    let mut node = node(config(), 1);
    let id = node.send(at(0), Target::All, Bytes::new(), None).unwrap();
    assert_eq!(node.poll_event(), Some(Event::SendFinished(id)));
}

#[test]
fn leaving_fails_what_is_pending_and_ends() {
    let mut node = node(config().cluster_size(3), 1);
    let id = node.send(at(0), Target::All, Bytes::new(), None).unwrap();
    node.leave(at(1));
    node.handle_timeout(at(1) + node.config().leave_timeout);
    let events: Vec<_> = core::iter::from_fn(|| node.poll_event()).collect();
    assert!(events.contains(&Event::SendDone {
        id,
        to: None,
        result: Err(DeliveryError::Leaving)
    }));
    assert_eq!(events.last(), Some(&Event::LeaveDone));
    assert_eq!(
        (
            node.poll_timeout(),
            node.poll_transmit(at(9_000), &mut Vec::new())
        ),
        (None, None)
    );
}

#[test]
fn a_timer_never_asks_for_the_past_again_and_again() {
    let mut node = node(config().seed("10.9.9.9").seed("nowhere.local"), 1);
    let mut buf = Vec::new();
    let (mut now, mut again) = (at(0), 0);
    for _ in 0..2_000 {
        while node.poll_transmit(now, &mut buf).is_some() {}
        while node.poll_event().is_some() {}
        let next = node.poll_timeout().unwrap();
        // Where something has changed: the seeds were tried, a group was founded.
        again = if next == now { again + 1 } else { 0 };
        let late = next < now || again > 2;
        assert!(!late, "{next:?} after {now:?}: {:?}", node.timeout_reason());
        now = next;
        node.handle_timeout(now);
    }
    assert!(now > at(60_000), "2,000 wake-ups must last longer than {now:?}");
}

#[test]
fn a_flood_of_openings_leaves_nothing_behind() {
    let mut node = node(config(), 1);
    let mut buf = Vec::new();
    let mut hello = {
        let mut other = self::node(config().seed("10.0.0.1"), 2);
        other.poll_transmit(at(0), &mut buf).unwrap();
        buf.clone()
    };
    let (mut answers, mut answered_bytes, mut asked_bytes) = (0, 0, 0);
    for i in 0..50_000_u32 {
        let from = SocketAddr::from((core::net::Ipv4Addr::from(0x0b00_0000 + i), 5000));
        asked_bytes += hello.len();
        node.handle_datagram(at(1), from, &mut hello.clone());
        while node.poll_transmit(at(1), &mut buf).is_some() {
            answers += 1;
            answered_bytes += buf.len();
        }
    }
    assert!(answers <= 20_100, "{answers} answers");
    assert!(answered_bytes < asked_bytes);
    assert!(node.stats().dropped(DropReason::ChallengeRate) >= 29_000);
    assert_eq!(node.status(at(1)).sessions, 0);
    hello.clear();
}

#[test]
fn nothing_is_kept_of_members_that_are_gone() {
    let mut nodes = vec![(addr(1), node(config(), 1))];
    for round in 0..20_u8 {
        nodes.push((addr(2 + round % 3), node(config().seed("10.0.0.1"), 2 + round)));
        let from = u64::from(round) * 10_000;
        run_from(&mut nodes, at(from), at(from + 3_000));
        assert_eq!(nodes[0].1.membership.member_count(), 1, "round {round}");
        if round % 2 == 0 {
            nodes[1].1.leave(at(from + 3_000));
            run_from(&mut nodes, at(from + 3_000), at(from + 4_000));
        }
        nodes.truncate(1);
        run_from(&mut nodes, at(from + 4_000), at(from + 10_000));
    }
    run_from(&mut nodes, at(200_000), at(400_000));
    assert_eq!(nodes[0].1.outbox.peers(), 0);
    assert!(nodes[0].1.held.is_empty());
}

quickcheck! {
    fn any_datagram_is_survived_and_counted(datagrams: Vec<Vec<u8>>, kind: u8) -> bool {
        let mut node = node(config(), 1);
        let mut buf = Vec::new();
        for (i, mut datagram) in datagrams.into_iter().enumerate() {
            // Half of them begin like ours, to get past the first look.
            if i % 2 == 0 && datagram.len() > 1 {
                datagram[0] = 0x71;
                datagram[1] = kind % 7;
            }
            node.handle_datagram(at(1), addr(1), &mut datagram);
            while node.poll_transmit(at(1), &mut buf).is_some() {}
        }
        let counted: u64 = node.stats().drops().map(|(_, count)| count).sum();
        counted == node.stats().datagrams_received
    }

    fn any_timer_order_is_survived(steps: Vec<u16>) -> bool {
        let mut node = node(config().seed("10.0.0.1").local(), 1);
        let mut now = Instant::ZERO;
        let mut buf = Vec::new();
        for step in steps {
            now += Duration::from_millis(u64::from(step));
            node.handle_timeout(now);
            while node.poll_transmit(now, &mut buf).is_some() {}
        }
        true
    }
}

#[test]
fn what_is_told_late_tells_of_the_lease_that_counts_now() {
    use crate::locks::{LockEvent, LockRequest};

    let mut nodes = vec![(addr(1), node(config(), 1))];
    run(&mut nodes, at(3_000));
    let node = &mut nodes[0].1;
    let ask = |node: &mut Node, key| node.lock(at(3_000), LockRequest::new(key)).unwrap();
    let (a, b) = (ask(node, "a"), ask(node, "b"));
    node.handle_timeout(at(3_000));
    let granted = |event: &Event| matches!(event, Event::Lock(LockEvent::Granted { .. }));
    assert_eq!(
        core::iter::from_fn(|| node.poll_event()).filter(granted).count(),
        2
    );
    let renewed = |id, until| Event::Lock(LockEvent::Renewed { id, until });
    let risky = |id, until| Event::Lock(LockEvent::AtRisk { id, until });
    let told = |node: &mut Node| core::iter::from_fn(|| node.poll_event()).collect::<Vec<_>>();
    // A longer lease takes nothing back: it was believed in until then before, and whoever is not told of that takes
    // the lock for lost too early.
    node.events.extend([renewed(a, at(5_000)), risky(a, at(5_000))]);
    node.set_lock_ttl(at(3_000), a, Duration::from_secs(20)).unwrap();
    assert_eq!(told(node), [renewed(a, at(5_000)), risky(a, at(5_000))]);
    // A shorter one counts at once, also for what is told of only now.
    node.events.extend([
        renewed(a, at(4_000)),
        renewed(a, at(20_000)),
        renewed(b, at(20_000)),
    ]);
    node.events.extend([risky(a, at(20_000)), Event::Ready]);
    node.set_lock_ttl(at(3_000), a, Duration::from_secs(2)).unwrap();
    let most = at(4_980);
    let expected = [
        renewed(a, at(4_000)),
        renewed(a, most),
        renewed(b, at(20_000)),
        risky(a, most),
        Event::Ready,
    ];
    assert_eq!(told(node), expected);
    assert!(node.set_lock_ttl(at(3_000), a, Duration::ZERO).is_err());
}

/// A process that is stopped between the reading of its clock and the founding of its group.
#[test]
fn the_wait_of_a_founder_begins_when_its_group_is_there() {
    use crate::locks::{LockEvent, LockRequest};

    let max_ttl = Duration::from_secs(2);
    let alone = config().cluster_size(1_u8).allow_observers(true).max_ttl(max_ttl);
    let mut node = node(alone, 1);
    let mut read = at(0);
    while node.stats().groups_founded == 0 {
        read = node.poll_timeout().expect("it is to found a group");
        node.handle_timeout(read);
    }
    // What it reads next tells how late it was, and with it began what nobody else must believe in.
    let founded = read + Duration::from_secs(60);
    let mut asked = None;
    let mut granted = |node: &mut Node, until: Instant| {
        while let Some(due) = node.poll_timeout().filter(|&due| due <= until) {
            node.handle_timeout(due.max(founded));
        }
        if asked.is_none() {
            let request = LockRequest::new("a").wait(Duration::from_secs(60));
            asked = Some(node.lock(until, request).unwrap());
        }
        let granted = |event: &Event| matches!(event, Event::Lock(LockEvent::Granted { .. }));
        core::iter::from_fn(|| node.poll_event()).any(|event| granted(&event))
    };
    assert!(!granted(&mut node, founded));
    assert!(!granted(&mut node, founded + max_ttl));
    assert!(granted(&mut node, founded + max_ttl * 2));
}
