//! Handshakes over networks that lose, repeat and reorder.

use super::*;

#[test]
fn two_processes_open_a_session_and_talk() {
    let mut net = Net::pair().open();
    let (a, b) = (net.id(A), net.id(B));
    let (addr_a, addr_b) = (net.sides[A].addr, net.sides[B].addr);
    let Some(SessionEvent::Up {
        peer,
        addr,
        observed,
        initiator,
        replaced_session,
        version,
        ..
    }) = net.sides[A].events.first().cloned()
    else {
        panic!("{:?}", net.sides[A].events)
    };
    assert_eq!((peer, addr, observed, initiator), (b, addr_b, Some(addr_a), true));
    assert_eq!((replaced_session, version), (false, 1));
    assert!(matches!(
        net.sides[B].events[..],
        [SessionEvent::Up { peer, addr, observed: None, initiator: false, .. }] if peer == a && addr == addr_a
    ));
    net.talk(5);
    assert_eq!(net.sides[A].frames[0], (b, 0x10, b"b".to_vec()));
    assert!(net.sides.iter().all(|s| s.stats.drops().count() == 0));
    net.assert_clean(A);
    net.assert_clean(B);
    assert_eq!(net.sides[A].sessions.key_usage()[0].peers, 1);
}

#[test]
fn a_session_opens_although_any_one_datagram_is_lost() {
    for lost in 0..8 {
        let mut net = Net::pair();
        net.fate = Box::new(move |n, _| usize::from(n != lost));
        net.dial(A, B);
        net.run_secs(4);
        net.assert_open();
        net.assert_clean(A);
        net.assert_clean(B);
        assert_eq!((net.sides[A].ups(), net.sides[B].ups()), (1, 1), "lost {lost}");
    }
}

#[test]
fn a_session_opens_although_any_two_of_the_first_datagrams_are_lost() {
    for pair in 0..64_usize {
        let mut net = Net::pair();
        net.fate = Box::new(move |n, _| usize::from(n != pair / 8 && n != pair % 8));
        net.dial(A, B);
        net.run_secs(5);
        net.assert_open();
    }
}

#[test]
fn every_datagram_may_arrive_three_times() {
    let mut net = Net::pair();
    net.fate = Box::new(|_, _| 3);
    net.dial(A, B);
    net.run_secs(1);
    net.assert_open();
    net.say(A, B, b"once");
    net.run_secs(1);
    assert_eq!(net.sides[B].frames.len(), 1);
    assert_eq!((net.sides[A].ups(), net.sides[B].ups()), (1, 1));
    net.run_secs(20);
    net.assert_clean(A);
    net.assert_clean(B);
}

#[test]
fn nobody_answers() {
    let mut net = Net::pair();
    net.fate = Box::new(|_, _| 0);
    net.dial(A, B);
    net.dial(A, B);
    net.run_ms(1499);
    assert!(net.sides[A].events.is_empty());
    net.run_ms(2);
    let addr = net.sides[B].addr;
    assert_eq!(
        net.sides[A].events,
        [SessionEvent::DialFailed { addr, expected: None }]
    );
    assert_eq!(net.log.len(), 3);
    net.assert_clean(A);
}

#[test]
fn the_initiator_gives_up_on_a_responder_that_vanishes_after_m2() {
    let mut net = Net::pair();
    net.fate = Box::new(|_, f| usize::from(f.kind() != 5));
    net.dial(A, B);
    net.run_secs(20);
    assert_eq!((net.sides[A].ups(), net.sides[A].downs()), (1, 1));
    assert!(
        net.sides[B].events.is_empty(),
        "a half-open session counts as nothing"
    );
    net.assert_clean(A);
    net.assert_clean(B);
}

#[test]
fn simultaneous_dials_converge_on_one_session() {
    for silent in [false, true] {
        let mut net = Net::pair();
        net.dial(A, B);
        net.dial(B, A);
        net.run_ms(100);
        net.assert_open();
        if !silent {
            net.talk(3);
        }
        net.run_secs(40);
        net.talk(300);
        net.assert_open();
        assert_eq!((net.sides[A].downs(), net.sides[B].downs()), (0, 0));
        if !silent {
            let current = |s: usize, o: usize| net.sides[s].sessions.peers[&net.id(o)].current;
            let (a, b) = (current(A, B), current(B, A));
            assert_eq!(
                net.sides[A].sessions.table[&a].remote, b,
                "both write on the same session"
            );
        }
    }
}

#[test]
fn a_process_that_dials_itself_learns_so() {
    let mut net = Net::pair();
    net.dial(A, A);
    net.run_secs(3);
    let addr = net.sides[A].addr;
    assert_eq!(net.sides[A].events, [SessionEvent::DialedSelf { addr }]);
    assert_eq!(net.sides[A].sessions.open_count(), 0);
    net.assert_clean(A);
}

#[test]
fn dials_are_bounded_in_number_and_rate() {
    let mut net = Net::new([base()
        .max_dials(4_usize)
        .max_candidates(8_usize)
        .dials_per_second(20_u32)]);
    net.fate = Box::new(|_, _| 0);
    let now = net.now;
    for n in 1..=14 {
        let addr = SocketAddr::from(([10, 1, 0, n], 1));
        let taken = net.sides[A].with(now, |s, cx| s.dial(cx, addr, None));
        assert_eq!(taken, n <= 10, "{n}");
    }
    assert_eq!(net.sides[A].dropped(DropReason::CandidatesFull), 4);
    net.run_ms(60);
    assert!(net.log.len() <= 4);
    net.run_secs(20);
    assert_eq!(net.sides[A].events.len(), 10);
    net.assert_clean(A);
}

#[test]
fn a_mapped_address_is_the_same_address() {
    let mut net = Net::pair();
    let mapped: SocketAddr = "[::ffff:10.0.0.2]:5000".parse().unwrap();
    let now = net.now;
    net.sides[A].with(now, |s, cx| s.dial(cx, mapped, None));
    net.run_secs(1);
    net.assert_open();
    assert_eq!(net.sides[A].sessions.address(net.id(B)), Some(net.sides[B].addr));
}

#[test]
fn a_second_handshake_replaces_the_first() {
    let mut net = Net::pair().open();
    net.dial(A, B);
    net.run_secs(1);
    assert!(matches!(
        net.sides[A].events[1],
        SessionEvent::Up {
            replaced_session: true,
            ..
        }
    ));
    net.talk(30);
    assert_eq!(
        (
            net.sides[A].sessions.table.len(),
            net.sides[B].sessions.table.len()
        ),
        (1, 1)
    );
    assert_eq!(net.sides[A].downs() + net.sides[B].downs(), 0);
}
