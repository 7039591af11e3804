//! Garbage, replays, floods.

use super::*;
use crate::session::message::{CHALLENGE_LEN, HELLO_LEN, M1_LEN, M2_LEN};
use quickcheck::quickcheck;

/// Records one whole handshake and a first message: HELLO, CHALLENGE, M1, M2, sealed.
fn recorded() -> (Net, Vec<Flying>) {
    let mut net = Net::pair();
    net.dial(A, B);
    net.run_ms(10);
    net.say(A, B, b"payload");
    net.run_ms(1);
    let log = net.log.clone();
    assert_eq!(log.iter().map(Flying::kind).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    (net, log)
}

/// A pair at the moment when the datagram of this kind is about to arrive, and that datagram.
fn just_before(kind: u8) -> (Net, Flying) {
    let mut net = Net::pair();
    net.fate = Box::new(move |_, f| usize::from(f.kind() != kind));
    net.dial(A, B);
    net.run_ms(10);
    if kind == 5 {
        net.say(A, B, b"payload");
    }
    let held = net.log.last().unwrap().clone();
    assert_eq!(held.kind(), kind);
    net.fate = Box::new(|_, _| 1);
    (net, held)
}

fn receiver(net: &mut Net, flying: &Flying) -> usize {
    net.sides.iter().position(|s| s.addr == flying.to).unwrap()
}

#[test]
fn every_flipped_bit_of_every_datagram_is_refused_and_harmless() {
    for kind in 1..=5 {
        let (mut net, held) = just_before(kind);
        let to = receiver(&mut net, &held);
        let (now, before) = (net.now, net.log.len());
        let opened = net.sides[to].stats.datagrams_opened;
        for bit in 0..held.bytes.len() * 8 {
            let mut bytes = held.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let drops: u64 = net.sides[to].stats.drops().map(|(_, n)| n).sum();
            net.sides[to].receive(now, held.from, bytes);
            let after: u64 = net.sides[to].stats.drops().map(|(_, n)| n).sum();
            assert_eq!(after, drops + 1, "kind {kind}, bit {bit}");
        }
        assert_eq!(net.sides[to].stats.datagrams_opened, opened, "kind {kind}");
        assert!(
            net.sides[to].sessions.transmits.is_empty(),
            "kind {kind} was answered"
        );
        assert!(net.sides[to].sessions.half_open.len() <= 1);
        // The genuine one is still welcome.
        net.send(held);
        net.run_secs(1);
        net.assert_open();
        assert!(net.log.len() > before);
    }
}

#[test]
fn every_cut_of_every_datagram_is_refused() {
    for kind in 1..=5 {
        let (mut net, held) = just_before(kind);
        let to = receiver(&mut net, &held);
        for len in 0..held.bytes.len() {
            let now = net.now;
            net.sides[to].receive(now, held.from, held.bytes[..len].to_vec());
        }
        assert!(net.sides[to].sessions.transmits.is_empty(), "kind {kind}");
        net.send(held);
        net.run_secs(1);
        net.assert_open();
    }
}

#[test]
fn no_answer_is_larger_than_its_cause() {
    let (_, log) = recorded();
    let lengths: Vec<_> = log[..4].iter().map(|f| f.bytes.len()).collect();
    assert_eq!(lengths, [HELLO_LEN, CHALLENGE_LEN, M1_LEN, M2_LEN]);
    assert_eq!(lengths, [46, 38, 146, 128]);
}

#[test]
fn replays_are_harmless() {
    let (mut net, log) = recorded();
    for _ in 0..10 {
        for flying in &log {
            let (to, now) = (receiver(&mut net, flying), net.now);
            net.sides[to].receive(now, flying.from, flying.bytes.clone());
        }
        net.run_ms(100);
    }
    assert_eq!(net.sides[B].frames.len(), 1);
    assert_eq!(net.sides[B].dropped(DropReason::Replayed), 10);
    assert_eq!((net.sides[A].ups(), net.sides[B].ups()), (1, 1));
    net.talk(3);
    // The challenge in the replayed M1 runs out, and with it the half-open session that it made.
    net.run_secs(20);
    let m1 = log[2].clone();
    let now = net.now;
    net.sides[B].receive(now, m1.from, m1.bytes);
    assert_eq!(net.sides[B].dropped(DropReason::BadChallenge), 1);
    net.assert_clean(B);
}

#[test]
fn datagrams_thrown_back_at_their_sender_are_harmless() {
    let (mut net, log) = recorded();
    for flying in &log {
        let from = receiver(
            &mut net,
            &Flying {
                to: flying.from,
                ..flying.clone()
            },
        );
        let now = net.now;
        net.sides[from].receive(now, flying.to, flying.bytes.clone());
    }
    net.run_secs(2);
    net.talk(3);
    assert_eq!((net.sides[A].ups(), net.sides[B].ups()), (1, 1));
    assert!(
        !net.sides[A]
            .events
            .iter()
            .any(|e| matches!(e, SessionEvent::DialedSelf { .. }))
    );
}

#[test]
fn an_own_m1_that_is_not_outstanding_is_a_reflection() {
    let mut net = Net::pair();
    net.dial(A, A);
    net.run_secs(1);
    let m1 = net.log.iter().find(|f| f.kind() == 3).unwrap().clone();
    let now = net.now;
    net.sides[A].receive(now, m1.from, m1.bytes);
    assert_eq!(net.sides[A].dropped(DropReason::Reflected), 1);
    assert_eq!(net.sides[A].events.len(), 1);
}

#[test]
fn a_challenge_binds_the_address_and_the_opening() {
    let (mut net, held) = just_before(3);
    let now = net.now;
    net.sides[B].receive(now, SocketAddr::from(([10, 0, 0, 77], 5000)), held.bytes.clone());
    assert_eq!(net.sides[B].dropped(DropReason::BadChallenge), 1);
    net.sides[B].receive(now + Duration::from_secs(11), held.from, held.bytes);
    assert_eq!(net.sides[B].dropped(DropReason::BadChallenge), 2);
    assert!(net.sides[B].sessions.half_open.is_empty());
}

#[test]
fn a_flood_of_openings_leaves_nothing_behind() {
    let mut net = Net::new([base(), base().challenges_per_second(1000_u32)]);
    net.dial(A, B);
    let mut hello = Vec::new();
    net.sides[A].sessions.poll_transmit(&mut hello).unwrap();
    let now = net.now;
    for n in 0..20_000_u32 {
        let from = SocketAddr::from((n.to_be_bytes(), 1000));
        net.sides[B].receive(now, from, hello.clone());
        let mut m1 = hello.clone();
        m1[1] = Kind::M1 as u8;
        m1.resize(M1_LEN, 7);
        net.sides[B].receive(now, from, m1);
    }
    let side = &net.sides[B];
    assert!(side.sessions.transmits.len() <= 101);
    assert!(side.dropped(DropReason::ChallengeRate) >= 19_899);
    assert_eq!(side.dropped(DropReason::BadChallenge), 20_000);
    assert!(side.sessions.table.len() == 0 && side.sessions.timers.len() == 0 && side.app.is_empty());
}

#[test]
fn floods_of_unknown_keys_and_sessions_are_reported_within_bounds() {
    let mut net = Net::new([base(), Config::default().key(key(2))]);
    net.dial(A, B);
    let mut hello = Vec::new();
    net.sides[A].sessions.poll_transmit(&mut hello).unwrap();
    let now = net.now;
    for n in 0..5_000_u32 {
        let from = SocketAddr::from((n.to_be_bytes(), 1000));
        net.sides[B].receive(now, from, hello.clone());
        let mut sealed = vec![0; 40];
        sealed[0] = net.sides[B].sessions.flavor as u8;
        sealed[1] = Kind::Sealed as u8;
        net.sides[B].receive(now, from, sealed);
    }
    assert_eq!(net.sides[B].app.len(), 64);
    assert_eq!(net.sides[B].events.len(), 256);
    assert_eq!(net.sides[B].sessions.unknown_keys(now).len(), 64);
}

#[test]
fn half_open_handshakes_are_bounded_and_run_out() {
    let mut configs = vec![base().max_half_open(8_usize)];
    configs.extend((0..20).map(|_| base()));
    let mut net = Net::new(configs);
    // Nobody's first sealed datagram arrives.
    net.fate = Box::new(|_, f| usize::from(f.kind() != 5));
    for other in 1..=20 {
        net.dial(other, A);
    }
    net.run_ms(100);
    assert_eq!(net.sides[A].sessions.half_open.len(), 8);
    assert!(net.sides[A].dropped(DropReason::HalfOpenFull) >= 12);
    assert!(net.sides[A].events.is_empty());
    net.run_secs(15);
    net.assert_clean(A);
}

#[test]
fn the_stored_m2_is_sent_at_most_three_times_more() {
    let (mut net, m1) = just_before(3);
    let now = net.now;
    for _ in 0..20 {
        net.sides[B].receive(now, m1.from, m1.bytes.clone());
    }
    assert_eq!(net.sides[B].sessions.transmits.len(), 4);
}

quickcheck! {
    fn any_bytes_are_survived(datagrams: Vec<Vec<u8>>) -> bool {
        let mut net = Net::pair().open();
        let (now, from) = (net.now, net.sides[A].addr);
        let flavor = net.sides[B].sessions.flavor as u8;
        let real = net.sides[B].sessions.table.keys().next().unwrap().to_be_bytes();
        for (i, datagram) in datagrams.into_iter().enumerate() {
            net.sides[B].receive(now, from, datagram.clone());
            // The same with a head that leads deeper.
            let mut deep = vec![flavor, (i % 6) as u8];
            deep.extend_from_slice(&real);
            deep.extend_from_slice(&datagram);
            deep.resize(deep.len().max(i * 7), 0);
            net.sides[B].receive(now, from, deep);
        }
        net.run_secs(1);
        net.talk(1);
        true
    }

    fn any_session_frame_is_survived(frames: Vec<(u8, Vec<u8>)>) -> bool {
        let mut net = Net::pair().open();
        let now = net.now;
        let session = *net.sides[B].sessions.table.keys().next().unwrap();
        let (peer, from) = (net.id(A), net.sides[A].addr);
        let opened = Opened { peer, frames: 0..0, from, session };
        for (kind, body) in frames {
            let kind = 0x60 + kind % 16;
            let _ = net.sides[B].with(now, |s, cx| s.handle_frame(cx, &opened, kind, &body));
        }
        net.run_secs(30);
        true
    }
}
