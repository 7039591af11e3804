//! What a node writes down is what passed its face.

use super::*;
use crate::event::Message;
use crate::journal::{Command as Told, Entry, Keep};
use crate::locks::{LockFilter, LockRequest};

fn taken(node: &mut Node) -> Vec<Entry> {
    let mut entries = Vec::new();
    node.take_journal(&mut entries);
    assert!(!node.has_journal());
    entries
}

/// Gives every command there is, and returns what should be written down of it.
fn every_command(node: &mut Node, to: NodeId, reply_to: ReplyTo, now: Instant) -> Vec<Told> {
    let target = || Target::Node(to);
    let payload = Bytes::from("payload");
    let deadline = Some(now + Duration::from_secs(1));
    let request = LockRequest::new("key");
    let sent = node.send(now, target(), payload.clone(), deadline);
    let asked = node.request(now, target(), payload.clone(), None);
    let locked = node.lock(now, request.clone());
    let id = locked.unwrap();
    let ttl = Duration::from_secs(2);
    vec![
        Told::Send {
            to: target(),
            payload: payload.clone(),
            deadline,
            result: sent,
        },
        Told::Request {
            to: target(),
            payload: payload.clone(),
            deadline: None,
            result: asked,
        },
        Told::Lock {
            request,
            result: locked,
        },
        Told::Reply {
            to: reply_to,
            payload: payload.clone(),
            result: node.reply(now, reply_to, payload),
        },
        {
            node.ignore(now, reply_to);
            Told::Ignore(reply_to)
        },
        Told::DrawToken {
            result: node.draw_token(now),
        },
        Told::SetLockTtl {
            id,
            ttl,
            result: node.set_lock_ttl(now, id, ttl),
        },
        Told::ListLocks {
            result: node.list_locks(now, LockFilter::default(), None),
        },
        Told::RevokeLock {
            token: 7,
            at_once: true,
            result: node.revoke_lock(now, 7, true),
        },
        Told::WatchLock {
            result: node.watch_lock(now, "key"),
        },
        Told::Unlock {
            id,
            result: node.unlock(now, id),
        },
        Told::Unlock {
            id,
            result: node.unlock(now, id),
        },
        {
            node.cancel_send(sent.unwrap());
            Told::CancelSend(sent.unwrap())
        },
        {
            node.cancel_request(asked.unwrap());
            Told::CancelRequest(asked.unwrap())
        },
        {
            node.leave(now);
            Told::Leave
        },
    ]
}

/// Two nodes that have met; the second one has a request of the first one.
fn talking(keep: Keep) -> (Vec<(SocketAddr, Node)>, Message) {
    let mut nodes = vec![
        (addr(1), node(config(), 1)),
        (addr(2), node(config().seed("10.0.0.1"), 2)),
    ];
    for (_, node) in &mut nodes {
        node.keep_journal(keep);
    }
    run(&mut nodes, at(2_000));
    let to = Target::Node(nodes[1].1.id());
    nodes[0]
        .1
        .request(at(2_000), to, Bytes::from("ping"), None)
        .unwrap();
    run_from(&mut nodes, at(2_000), at(2_100));
    let message = nodes[1].1.poll_message(at(2_100)).unwrap();
    (nodes, message)
}

#[test]
fn every_command_is_written_down_with_its_result() {
    for keep in [Keep::Commands, Keep::All] {
        let (mut nodes, message) = talking(keep);
        let to = nodes[0].1.id();
        let node = &mut nodes[1].1;
        while node.poll_event().is_some() {}
        taken(node);
        let expected = every_command(node, to, message.reply_to.unwrap(), at(2_100));
        let expected: Vec<_> = expected.into_iter().map(Entry::Command).collect();
        assert_eq!(taken(node), expected);
        assert!(matches!(
            expected[10..12],
            [
                Entry::Command(Told::Unlock { result: Ok(()), .. }),
                Entry::Command(Told::Unlock { result: Err(_), .. })
            ]
        ));
    }
}

#[test]
fn what_is_handed_out_is_written_down_if_all_is() {
    let (mut nodes, message) = talking(Keep::All);
    let node = &mut nodes[1].1;
    let mut handed: Vec<_> = vec![Entry::Message(message.clone())];
    handed.extend(core::iter::from_fn(|| node.poll_event()).map(Entry::Event));
    assert!(handed.len() > 1);
    let written = taken(node);
    let (woke, other): (Vec<_>, Vec<_>) = written
        .into_iter()
        .partition(|entry| matches!(entry, Entry::Woke(_)));
    assert_eq!(other, handed);
    // Here timers are served on the dot.
    assert!(woke.iter().all(|entry| *entry == Entry::Woke(Duration::ZERO)));
    assert!(!woke.is_empty());

    // A timer that is served late says by how much; one that is not due says nothing.
    let due = node.poll_timeout().unwrap();
    node.handle_timeout(due - Duration::from_nanos(1));
    assert!(!node.has_journal());
    node.handle_timeout(due + Duration::from_millis(5));
    assert_eq!(taken(node), [Entry::Woke(Duration::from_millis(5))]);
}

#[test]
fn nothing_is_written_down_unasked_and_no_outputs_for_whoever_takes_them() {
    for (keep, commands) in [(Keep::Nothing, 0), (Keep::Commands, 1)] {
        let (mut nodes, _) = talking(keep);
        assert!(nodes[1].1.poll_event().is_some());
        assert_eq!(taken(&mut nodes[0].1).len(), commands);
        assert_eq!(taken(&mut nodes[1].1), []);
    }
}
