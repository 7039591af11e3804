//! Re-keying, expiry, moving, closing.

use super::*;
use crate::session::table::Standing;

fn current(net: &Net, side: usize, other: usize) -> &Session {
    let s = &net.sides[side].sessions;
    &s.table[&s.peers[&net.id(other)].current]
}

#[test]
fn a_session_in_use_is_rekeyed_and_nothing_is_lost() {
    let mut net = Net::pair().open();
    let first = current(&net, A, B).local;
    net.talk(600);
    assert_ne!(current(&net, A, B).local, first);
    assert!(net.sides[A].stats.rekeys >= 4);
    assert_eq!(net.sides[A].stats.rekeys, net.sides[B].stats.rekeys);
    assert_eq!(
        (net.sides[A].ups(), net.sides[A].downs(), net.sides[B].downs()),
        (1, 0, 0)
    );
    assert!(net.sides.iter().all(|s| s.stats.drops().count() == 0));
    net.run_secs(16);
    net.assert_clean(A);
    net.assert_clean(B);
}

#[test]
fn rekeying_survives_loss() {
    for seed in 0..20 {
        let mut net = Net::pair().open();
        let mut rng = Rng::new(&[seed; 32], Stream::Discovery);
        net.fate = Box::new(move |_, _| usize::from(rng.below(10) >= 3));
        for _ in 0..400 {
            net.say(A, B, b"x");
            net.say(B, A, b"y");
            net.run_secs(1);
        }
        assert_eq!(
            (net.sides[A].downs(), net.sides[B].downs()),
            (0, 0),
            "seed {seed}"
        );
        assert!(net.sides[A].stats.rekeys >= 2);
    }
}

#[test]
fn the_other_side_rekeys_where_the_first_cannot() {
    let mut net = Net::pair().open();
    net.sides[A].sessions.limits.unused_after = Duration::ZERO;
    net.talk(170);
    assert_eq!(net.sides[B].stats.rekeys, 1);
    assert!(current(&net, B, A).initiator);
}

#[test]
fn an_unused_session_expires_on_both_sides() {
    let mut net = Net::pair().open();
    net.run_secs(200);
    for side in [A, B] {
        assert_eq!(net.sides[side].downs(), 1);
        assert_eq!(net.sides[side].stats.rekeys, 0);
        net.assert_clean(side);
    }
    assert!(!net.say(A, B, b"x"));
}

#[test]
fn a_session_is_rekeyed_before_its_counter_ends_and_refused_after() {
    let mut net = Net::pair().open();
    net.sides[A].sessions.limits.rekey_counter = 20;
    let first = current(&net, A, B).local;
    net.talk(30);
    assert_ne!(current(&net, A, B).local, first);

    let mut net = Net::pair().open();
    for side in [A, B] {
        net.sides[side].sessions.limits.reject_counter = 20;
    }
    for _ in 0..40 {
        net.say(A, B, b"x");
        net.run_ms(1);
    }
    assert!(net.sides[B].frames.len() <= 20);
}

#[test]
fn a_replaced_session_receives_for_15_seconds_more() {
    let mut net = Net::pair().open();
    let (id, now) = (net.id(B), net.now);
    let (_, late) = net.sides[A].write(now, id, b"late").unwrap();
    let (_, too_late) = net.sides[A].write(now, id, b"too late").unwrap();
    let old = current(&net, B, A).local;
    while net.sides[B].stats.rekeys == 0 {
        net.talk(1);
    }
    assert!(matches!(
        net.sides[B].sessions.table[&old].standing,
        Standing::Retired { rekeyed: true, .. }
    ));
    let (before, from) = (net.sides[B].frames.len(), net.sides[A].addr);
    net.run_secs(10);
    let now = net.now;
    net.sides[B].receive(now, from, late);
    assert_eq!(net.sides[B].frames.len(), before + 1);
    net.run_secs(6);
    let now = net.now;
    net.sides[B].receive(now, from, too_late);
    assert_eq!(net.sides[B].frames.len(), before + 1);
    assert_eq!(net.sides[B].dropped(DropReason::UnknownSession), 1);
}

#[test]
fn a_new_source_address_is_adopted_only_after_an_echo() {
    let mut net = Net::pair().open();
    let (old, new) = (net.sides[A].addr, SocketAddr::from(([10, 9, 9, 9], 777)));
    net.sides[A].addr = new;
    net.say(A, B, b"from elsewhere");
    net.run_ms(1);
    assert_eq!(
        net.sides[B].sessions.address(net.id(A)),
        Some(old),
        "not before the echo"
    );
    net.run_ms(10);
    let peer = net.id(A);
    assert_eq!(net.sides[B].sessions.address(peer), Some(new));
    assert_eq!(
        net.sides[B].events.last(),
        Some(&SessionEvent::Moved { peer, addr: new })
    );
    net.talk(3);
}

#[test]
fn a_spoofed_source_address_changes_nothing() {
    let mut net = Net::pair().open();
    let (id, now, old) = (net.id(B), net.now, net.sides[A].addr);
    for n in 0..50 {
        let (to, bytes) = net.sides[A]
            .write(now, id, b"taken on the way and sent on")
            .unwrap();
        let from = SocketAddr::from(([10, 66, 0, n], 5000));
        net.send(Flying { from, to, bytes });
    }
    let sent = net.log.len();
    net.run_ms(900);
    assert_eq!(net.sides[B].sessions.address(net.id(A)), Some(old));
    assert_eq!(net.log.len() - sent, 1, "one challenge at a time");
    net.talk(3);
}

#[test]
fn closing_ends_the_session_on_both_sides() {
    let mut net = Net::pair().open();
    let (id, now) = (net.id(B), net.now);
    net.sides[A].with(now, |s, cx| s.close(cx, id));
    net.run_ms(10);
    for side in [A, B] {
        assert_eq!(net.sides[side].downs(), 1);
        assert_eq!(net.sides[side].sessions.open_count(), 0);
        net.assert_clean(side);
    }
    net.dial(B, A);
    net.run_secs(1);
    net.assert_open();
}

#[test]
fn the_least_recently_used_session_makes_room() {
    let mut configs = vec![base().max_sessions(8_usize)];
    configs.extend((0..9).map(|_| base()));
    let mut net = Net::new(configs);
    for other in 1..=8 {
        net.dial(other, A);
        net.run_ms(100);
    }
    net.say(1, A, b"still here");
    net.run_ms(100);
    net.dial(9, A);
    net.run_ms(100);
    assert_eq!(net.sides[A].sessions.open_count(), 8);
    assert_eq!(net.sides[A].dropped(DropReason::SessionEvicted), 1);
    assert!(
        net.sides[A]
            .events
            .contains(&SessionEvent::Down { peer: node(3) })
    );
    assert!(!net.sides[2].sessions.is_open(node(1)), "it was told");
    net.assert_clean(A);
}

#[test]
fn a_lost_session_is_reported_and_repaired() {
    let mut net = Net::pair().open();
    // A forgets without a word, as if CLOSE were lost.
    let (id, now) = (net.id(B), net.now);
    net.sides[A].with(now, |s, cx| s.forget(cx.now, id));
    for _ in 0..5 {
        net.say(B, A, b"x");
    }
    net.run_ms(10);
    let from = net.sides[B].addr;
    let unknown = |e: &&SessionEvent| **e == SessionEvent::UnknownSession { from };
    assert_eq!(net.sides[A].events.iter().filter(unknown).count(), 1);
    net.dial(A, B);
    net.run_secs(1);
    net.talk(30);
    assert_eq!(net.sides[B].downs(), 0);
}

#[test]
fn a_session_that_leads_where_another_process_answers_is_over() {
    let mut net = Net::new([base(), base(), base()]).open();
    let (old, new, addr) = (net.id(B), net.id(2), net.sides[B].addr);
    net.sides[B].addr = SocketAddr::from(([10, 0, 9, 9], 5000));
    net.sides[2].addr = addr;
    net.dial(A, 2);
    net.run_secs(1);
    assert!(net.sides[A].sessions.is_open(new) && !net.sides[A].sessions.is_open(old));
    assert_eq!(net.sides[A].downs(), 1);
    // It lives, and finds its way back.
    net.dial(B, A);
    net.run_secs(1);
    net.assert_open();
    assert!(net.sides[A].sessions.is_open(new));
    net.run_secs(200);
    net.assert_clean(A);
}

#[test]
fn a_datagram_from_elsewhere_is_answered_there_with_no_more_than_one() {
    for challenge in [false, true] {
        let mut net = Net::pair().open();
        let (now, to) = (net.now, net.id(A));
        let elsewhere = SocketAddr::from(([203, 0, 113, 9], 7000));
        let local = net.sides[B].sessions.peers.get(&to).unwrap().current;
        let (_, bytes) = if challenge {
            let side = &mut net.sides[B];
            side.with(now, |s, cx| {
                s.transmit_frame(cx.stats, local, None, kind::PATH_CHALLENGE, |buf| {
                    buf.extend_from_slice(&[7; 8])
                });
                s.transmits.pop_back().unwrap()
            })
        } else {
            net.sides[B].write(now, to, &[0; 8]).unwrap()
        };
        let (len, before) = (bytes.len(), net.log.len());
        net.sides[A].receive(now, elsewhere, bytes);
        net.run_ms(10);
        let answers: Vec<_> = net.log[before..].iter().filter(|f| f.to == elsewhere).collect();
        assert_eq!(answers.len(), 1, "{challenge}");
        assert!(answers[0].bytes.len() <= len);
    }
}
