//! Keys, cluster names, settings.

use super::*;

fn rotate(net: &mut Net, side: usize, keys: &[u8]) {
    let ring = KeyRing::from_keys(keys.iter().map(|&n| key(n))).unwrap();
    let now = net.now;
    net.sides[side].with(now, |s, cx| s.set_keys(cx, &ring));
}

fn quarantined(side: &Side) -> usize {
    side.events
        .iter()
        .filter(|e| matches!(e, SessionEvent::Quarantined { .. }))
        .count()
}

#[test]
fn different_keys_do_not_talk_and_say_so() {
    let mut net = Net::new([base(), Config::default().key(key(2))]);
    net.dial(A, B);
    net.run_secs(5);
    assert!(matches!(
        net.sides[A].events[..],
        [SessionEvent::DialFailed { .. }]
    ));
    assert_eq!(net.sides[B].dropped(DropReason::UnknownKey), 3);
    let addr = net.sides[A].addr;
    assert_eq!(
        net.sides[B].app,
        [Event::UnknownKey {
            addr,
            key: key(1).id()
        }]
    );
    assert_eq!(net.sides[B].sessions.unknown_keys(net.now).len(), 1);
    net.run_secs(60);
    assert_eq!(net.sides[B].sessions.unknown_keys(net.now).len(), 0);
}

#[test]
fn the_next_key_of_the_ring_is_tried() {
    let ring = KeyRing::from_keys([key(2), key(1)]).unwrap();
    let mut net = Net::new([Config::default().keys(ring).cluster_size(3), base()]);
    net.dial(A, B);
    net.run_secs(3);
    net.assert_open();
    assert_eq!(net.sides[A].sessions.key_usage()[1].peers, 1);
}

#[test]
fn a_rotation_in_three_steps_loses_nothing() {
    let mut net = Net::pair().open();
    for keys in [&[1, 2][..], &[2, 1], &[2]] {
        rotate(&mut net, A, keys);
        net.talk(7);
        rotate(&mut net, B, keys);
        net.talk(40);
    }
    for side in [A, B] {
        assert_eq!(net.sides[side].downs(), 0);
        let usage = net.sides[side].sessions.key_usage();
        assert_eq!(usage.len(), 1);
        assert_eq!(
            (usage[0].key, usage[0].sealing, usage[0].peers),
            (key(2).id(), true, 1)
        );
    }
    net.run_secs(20);
    net.assert_clean(A);
    net.assert_clean(B);
}

#[test]
fn a_removed_key_is_replaced_at_once_or_ends_the_session() {
    let both = KeyRing::from_keys([key(1), key(2)]).unwrap();
    let mut net = Net::new([base(), Config::default().keys(both).cluster_size(3)]).open();
    rotate(&mut net, A, &[2]);
    net.talk(9);
    assert_eq!(net.sides[A].sessions.key_usage()[0].peers, 1);
    assert_eq!((net.sides[A].downs(), net.sides[B].downs()), (0, 0));

    // The other side does not have the new key.
    let mut net = Net::pair().open();
    rotate(&mut net, A, &[2]);
    net.run_secs(11);
    assert_eq!((net.sides[A].downs(), net.sides[B].downs()), (1, 1));
    assert!(
        net.sides[B]
            .app
            .iter()
            .any(|e| matches!(e, Event::UnknownKey { .. }))
    );
    net.assert_clean(A);
}

#[test]
fn a_key_that_the_other_side_lacks_does_not_end_the_session() {
    let mut net = Net::pair().open();
    rotate(&mut net, A, &[2, 1]);
    net.talk(400);
    assert_eq!((net.sides[A].downs(), net.sides[B].downs()), (0, 0));
    rotate(&mut net, B, &[1, 2]);
    net.talk(130);
    assert_eq!((net.sides[A].downs(), net.sides[B].downs()), (0, 0));
}

#[test]
fn secured_and_insecure_clusters_never_talk() {
    if cfg!(feature = "simulation") {
        return;
    }
    let mut net = Net::new([base(), Config::default().insecure()]);
    net.dial(A, B);
    net.run_secs(2);
    assert_eq!(net.sides[B].dropped(DropReason::OtherFlavor), 3);
    assert!(!net.sides[B].sessions.secured() && net.sides[A].sessions.secured());

    let mut net = Net::new([Config::default().insecure(), Config::default().insecure()]).open();
    net.talk(3);
}

#[test]
fn clusters_of_different_names_reject_each_other() {
    let mut net = Net::new([base(), base().cluster_name("other")]);
    net.dial(A, B);
    net.run_secs(2);
    for (side, other) in [(A, B), (B, A)] {
        let rejected = SessionEvent::Rejected {
            peer: net.id(other),
            addr: net.sides[other].addr,
            reason: RejectReason::OtherCluster,
        };
        assert_eq!(net.sides[side].events, [rejected]);
        assert_eq!(net.sides[side].dropped(DropReason::OtherCluster), 1);
        net.assert_clean(side);
    }
}

#[test]
fn other_settings_lead_to_quarantine_until_the_peer_is_gone() {
    let mut net = Net::new([base(), base().cluster_size(5).surge(1)]);
    net.dial(A, B);
    net.run_secs(1);
    let reasons = vec![
        QuarantineReason::Setting {
            name: "cluster_size",
            ours: 3,
            theirs: 5,
        },
        QuarantineReason::Setting {
            name: "surge",
            ours: 0,
            theirs: 1,
        },
    ];
    let (peer, addr) = (net.id(B), net.sides[B].addr);
    let expected = None;
    assert_eq!(
        net.sides[A].events,
        [SessionEvent::Quarantined {
            peer,
            addr,
            expected,
            reasons
        }]
    );
    assert_eq!(quarantined(&net.sides[B]), 1);
    assert_eq!(
        (
            net.sides[A].sessions.open_count(),
            net.sides[A].sessions.is_open(peer)
        ),
        (0, false)
    );
    assert!(!net.say(A, B, b"x"));
    // Redialled every 10 seconds, it stays.
    net.run_secs(120);
    assert_eq!((quarantined(&net.sides[A]), net.sides[A].events.len()), (1, 1));
    assert_eq!(net.sides[A].sessions.quarantined().len(), 1);
    // Who dials it is told again.
    net.dial(A, B);
    net.run_secs(1);
    assert_eq!((quarantined(&net.sides[A]), quarantined(&net.sides[B])), (2, 1));
    // Gone, it ends.
    net.fate = Box::new(|_, _| 0);
    net.run_secs(31);
    assert_eq!(net.sides[A].events[2..], [SessionEvent::QuarantineEnded { peer }]);
    net.run_secs(180);
    net.assert_clean(A);
}

#[test]
fn a_quarantined_process_is_dialled_by_the_quarantine_alone() {
    let mut net = Net::new([base(), base().surge(1)]);
    net.dial(A, B);
    net.run_secs(1);
    let (id, addr, now, sent) = (net.id(B), net.sides[B].addr, net.now, net.log.len());
    for _ in 0..10 {
        assert!(!net.sides[A].with(now, |s, cx| s.dial(cx, addr, Some(id))));
    }
    net.run_secs(5);
    assert_eq!((net.log.len(), quarantined(&net.sides[A])), (sent, 1));
    // Somebody else may be expected at its address.
    assert!(net.sides[A].with(now, |s, cx| s.dial(cx, addr, Some(node(9)))));
    net.run_secs(1);
    assert!(net.log.len() > sent);
}

#[test]
fn frames_of_a_quarantined_process_are_not_heard() {
    let mut net = Net::new([base(), base().surge(1)]);
    net.dial(A, B);
    net.run_secs(1);
    // B is made to think otherwise.
    let id = net.id(A);
    net.sides[B].sessions.peers.get_mut(&id).unwrap().quarantined = false;
    assert!(net.say(B, A, b"x"));
    net.run_ms(10);
    assert!(net.sides[A].frames.is_empty());
    assert_eq!(net.sides[A].dropped(DropReason::Quarantined), 1);
}

#[test]
fn the_quarantine_is_bounded() {
    let mut configs = vec![base()];
    configs.extend((0..80).map(|_| base().surge(1)));
    let mut net = Net::new(configs);
    for other in 1..=80 {
        net.dial(other, A);
    }
    net.run_secs(2);
    assert_eq!(net.sides[A].sessions.quarantined().len(), 64);
    assert_eq!(net.sides[A].sessions.peers.len(), 64);
}

#[test]
fn an_observer_adopts_the_settings_of_the_first_voter() {
    let observer = Config::default().key(key(1)).role(Role::Observer);
    let mut net = Net::new([
        observer,
        base().max_ttl(Duration::from_secs(60)),
        base().cluster_size(5),
    ]);
    net.dial(A, B);
    net.run_secs(1);
    net.assert_open();
    assert_eq!(net.sides[A].sessions.settings().cluster_size, 3);
    assert_eq!(net.sides[A].sessions.settings().max_ttl, Duration::from_secs(60));
    net.dial(A, 2);
    net.run_secs(1);
    assert!(net.sides[A].sessions.is_quarantined(net.id(2)));
    assert!(
        net.sides[2].sessions.is_open(net.id(A)),
        "an observer brings no settings"
    );
    // When all voters are gone, it is free to adopt others.
    let (id, now) = (net.id(B), net.now);
    net.sides[A].with(now, |s, cx| s.close(cx, id));
    net.run_secs(12);
    assert_eq!(net.sides[A].sessions.settings().cluster_size, 5);
    assert!(net.sides[A].sessions.is_open(net.id(2)));
}

/// Beliefs go by the bound on drift: one that no cluster may have must not be taken over.
#[test]
fn an_observer_adopts_no_settings_that_a_cluster_cannot_have() {
    let strange = [
        base().drift_permille(2000_u16),
        base().max_ttl(Duration::from_secs(3600)),
        base().cluster_size(200_u8),
        base().surge(2_u8),
    ];
    for strange in strange {
        let observer = Config::default().key(key(1)).role(Role::Observer);
        let mut net = Net::new([observer, strange, base()]);
        let before = net.sides[A].sessions.settings();
        net.dial(A, B);
        net.run_secs(1);
        assert!(net.sides[A].sessions.is_quarantined(net.id(B)));
        assert_eq!(net.sides[A].sessions.settings(), before);
        net.dial(A, 2);
        net.run_secs(1);
        assert_eq!(net.sides[A].sessions.settings().cluster_size, 3);
        assert!(net.sides[A].sessions.is_open(net.id(2)));
    }
}

#[test]
fn an_observer_adopts_anew_when_all_its_voters_are_lost() {
    let observer = Config::default().key(key(1)).role(Role::Observer);
    let mut net = Net::new([observer, base().cluster_size(1), base(), base()]);
    let ids = [1, 2, 3].map(|side| net.id(side));
    net.dial(A, 1);
    net.run_secs(1);
    assert_eq!(net.sides[A].sessions.settings().cluster_size, 1);
    // It is lost, and found again on the same session: it still counts.
    for lost in [true, false] {
        net.sides[A].sessions.set_lost(ids[0], lost);
    }
    net.dial(A, 2);
    net.run_secs(1);
    assert!(net.sides[A].sessions.is_quarantined(ids[1]));
    // Lost for good, it does not, though its session is still in the table.
    net.sides[A].sessions.set_lost(ids[0], true);
    net.dial(A, 3);
    net.run_secs(1);
    assert_eq!(net.sides[A].sessions.settings().cluster_size, 3);
    assert!(net.sides[A].sessions.is_open(ids[2]));
    assert!(
        !net.sides[A].sessions.is_open(ids[0]),
        "its session would let it in unjudged"
    );
    net.run_secs(11);
    assert!(net.sides[A].sessions.is_open(ids[1]) && !net.sides[A].sessions.is_quarantined(ids[1]));
    // Should it come back, it is the one who does not agree.
    net.dial(1, A);
    net.run_secs(1);
    assert!(net.sides[A].sessions.is_quarantined(ids[0]));
}

#[test]
fn a_node_may_refuse_a_peer() {
    let mut net = Net::pair().open();
    let (id, now) = (net.id(A), net.now);
    net.sides[B].with(now, |s, cx| s.reject(cx, id, RejectReason::Full));
    net.run_ms(10);
    let (peer, addr) = (net.id(B), net.sides[B].addr);
    let reason = RejectReason::Full;
    assert_eq!(
        net.sides[A].events[1..],
        [
            SessionEvent::Rejected { peer, addr, reason },
            SessionEvent::Down { peer },
        ]
    );
    net.assert_clean(A);
    net.assert_clean(B);
}
