//! Each planted bug changes what happens.

use super::*;
use crate::planted::{PlantedBug, without_and_with};

/// Lets a datagram arrive at B and tells whether it passed for authentic and new.
fn passes(net: &mut Net, datagram: Flying) -> bool {
    let (now, before) = (net.now, net.sides[B].stats.datagrams_opened);
    net.sides[B].receive(now, datagram.from, datagram.bytes);
    net.sides[B].stats.datagrams_opened > before
}

/// Seals a datagram from A to B and keeps it from being sent.
fn sealed(net: &mut Net) -> Flying {
    let (id, now, from) = (net.id(B), net.now, net.sides[A].addr);
    let (to, bytes) = net.sides[A].write(now, id, b"long enough").unwrap();
    Flying { from, to, bytes }
}

/// Raises the counter in the header by 65,536.
fn altered(mut datagram: Flying) -> Flying {
    datagram.bytes[11] ^= 1;
    datagram
}

#[test]
fn replay_window_reset_on_rekey() {
    let played_back = || {
        let mut net = Net::pair().open();
        net.say(A, B, b"x");
        let captured = net.log.last().unwrap().clone();
        net.run_ms(10);
        while net.sides[B].stats.rekeys == 0 {
            net.talk(1);
        }
        passes(&mut net, captured)
    };
    assert_eq!(
        without_and_with(PlantedBug::ReplayWindowResetOnRekey, played_back),
        (false, true)
    );
}

#[test]
fn window_updated_before_authentication() {
    let survives = || {
        let mut net = Net::pair().open();
        let genuine = sealed(&mut net);
        assert!(!passes(&mut net, altered(genuine.clone())));
        passes(&mut net, genuine)
    };
    assert_eq!(
        without_and_with(PlantedBug::WindowUpdatedBeforeAuthentication, survives),
        (true, false)
    );
}

#[test]
fn header_not_authenticated() {
    let accepted = || {
        let mut net = Net::pair().open();
        let genuine = sealed(&mut net);
        passes(&mut net, altered(genuine))
    };
    assert_eq!(
        without_and_with(PlantedBug::HeaderNotAuthenticated, accepted),
        (false, true)
    );
}

#[test]
fn peer_counted_before_sealed() {
    let counted = || {
        let mut net = Net::pair();
        net.fate = Box::new(|_, f| usize::from(f.kind() != Kind::Sealed as u8));
        net.dial(A, B);
        net.run_ms(100);
        net.sides[B].sessions.open_count()
    };
    assert_eq!(
        without_and_with(PlantedBug::PeerCountedBeforeSealed, counted),
        (0, 1)
    );
}

#[test]
fn challenge_not_checked() {
    let answered = || {
        let mut net = Net::pair().open();
        let m1 = net
            .log
            .iter()
            .find(|f| f.kind() == Kind::M1 as u8)
            .unwrap()
            .clone();
        net.run_secs(60);
        let now = net.now;
        net.sides[B].receive(now, m1.from, m1.bytes);
        net.sides[B].sessions.half_open.len()
    };
    assert_eq!(
        without_and_with(PlantedBug::ChallengeNotChecked, answered),
        (0, 1)
    );
}

#[test]
fn path_followed_without_proof() {
    let elsewhere = SocketAddr::from(([10, 66, 0, 1], 5000));
    let followed = || {
        let mut net = Net::pair().open();
        let mut datagram = sealed(&mut net);
        datagram.from = elsewhere;
        assert!(passes(&mut net, datagram));
        net.sides[B].sessions.address(net.id(A)) == Some(elsewhere)
    };
    assert_eq!(
        without_and_with(PlantedBug::PathFollowedWithoutProof, followed),
        (false, true)
    );
}

#[test]
fn half_open_never_expires() {
    let left_over = || {
        let mut net = Net::pair();
        net.fate = Box::new(|_, f| usize::from(f.kind() != Kind::M2 as u8));
        net.dial(A, B);
        net.run_secs(300);
        net.sides[B].sessions.half_open.len()
    };
    assert_eq!(
        without_and_with(PlantedBug::HalfOpenNeverExpires, left_over),
        (0, 1)
    );
}

#[test]
fn failed_dial_keeps_its_place() {
    let dialled_again = || {
        let mut net = Net::pair();
        net.fate = Box::new(|_, _| 0);
        net.dial(A, B);
        net.run_secs(5);
        assert!(matches!(
            net.sides[A].events[..],
            [SessionEvent::DialFailed { .. }]
        ));
        net.fate = Box::new(|_, _| 1);
        net.dial(A, B);
        net.run_secs(5);
        net.sides[A].ups()
    };
    assert_eq!(
        without_and_with(PlantedBug::FailedDialKeepsItsPlace, dialled_again),
        (1, 0)
    );
}

#[test]
fn rotation_forgets_sessions() {
    let switched = || {
        let mut net = Net::pair().open();
        let now = net.now;
        for side in [A, B] {
            let ring = KeyRing::from_keys([key(2), key(1)]).unwrap();
            net.sides[side].with(now, |s, cx| s.set_keys(cx, &ring));
        }
        net.talk(40);
        let usage = net.sides[A].sessions.key_usage();
        assert!(usage[0].sealing);
        usage[0].peers
    };
    assert_eq!(
        without_and_with(PlantedBug::RotationForgetsSessions, switched),
        (1, 0)
    );
}

#[test]
fn quarantine_forgotten() {
    let let_in = || {
        let mut net = Net::new([base(), base().cluster_size(5)]);
        net.dial(A, B);
        net.run_secs(15);
        net.sides[A].sessions.is_open(net.id(B))
    };
    assert_eq!(
        without_and_with(PlantedBug::QuarantineForgotten, let_in),
        (false, true)
    );
}

#[test]
fn sessions_never_rekeyed() {
    let rekeys = || {
        let mut net = Net::pair().open();
        net.talk(170);
        net.sides[A].stats.rekeys > 0
    };
    assert_eq!(
        without_and_with(PlantedBug::SessionsNeverRekeyed, rekeys),
        (true, false)
    );
}
