//! Probes, echoes, suspicions, and what late timers and lost ways do to them.

use super::contact::Contact;
use super::harness::{Net, ms, secs};
use super::suspicion::{Suspicion, ceil_log2, shortest};
use super::*;

#[test]
fn suspicion_shrinks_with_accusers_and_grows_with_the_cluster() {
    let config = Config::default();
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 1000, 1024, 1025].map(ceil_log2),
        [0, 0, 1, 2, 2, 3, 10, 10, 11]
    );
    assert_eq!(shortest(&config, 3), ms(1500));
    assert_eq!(shortest(&config, 100), ms(2800));
    assert_eq!(shortest(&config, 1000), ms(4000));
    let id = |n: u8| NodeId::from_bytes([n; 16]);
    let mut suspicion = Suspicion::new(Instant::ZERO, id(1), ms(2800), 100);
    assert_eq!(suspicion.lasts(0), ms(5600));
    assert!(!suspicion.confirm(id(1)));
    assert!(suspicion.confirm(id(2)));
    assert_eq!(
        suspicion.lasts(0),
        Duration::from_micros(5_600_000 - 2_800_000 * 631 / 1000)
    );
    assert!(suspicion.confirm(id(3)));
    assert_eq!(suspicion.lasts(0), ms(2800));
    assert!(!suspicion.confirm(id(4)));
    assert_eq!(suspicion.lasts(4), ms(5600));
    // Nobody else could accuse: no reason to wait for them.
    assert_eq!(
        Suspicion::new(Instant::ZERO, id(1), ms(1500), 2).lasts(0),
        ms(1500)
    );
}

#[test]
fn an_echo_counts_once_in_order_and_in_time() {
    let at = Instant::from_millis;
    let mut contact = Contact::default();
    contact.probed(at(0), 5);
    contact.probed(at(500), 6);
    contact.probed(at(1000), 7);
    assert!(!contact.take_echo(at(1001), 0, secs(3)), "zero is no number");
    assert!(!contact.take_echo(at(1001), 8, secs(3)), "never sent");
    assert!(contact.take_echo(at(1001), 6, secs(3)));
    assert!(!contact.take_echo(at(1002), 6, secs(3)), "a replay");
    assert!(!contact.take_echo(at(1002), 5, secs(3)), "older than the last");
    contact.excused = true;
    assert!(
        !contact.take_echo(at(4001), 7, secs(3)),
        "delayed beyond the horizon"
    );
    assert!(
        !contact.excused,
        "who is stopped twice may find the answers too late"
    );
    assert_eq!(contact.proven(), Some(at(500)));
    assert_eq!(contact.heard_at(), Some(at(1001)));
    for number in 8..16 {
        contact.probed(at(4100), number);
    }
    assert!(!contact.take_echo(at(4200), 7, secs(9)), "forgotten");
}

#[test]
fn a_crash_is_found_within_its_time() {
    let mut net = Net::new(5, 3);
    net.form();
    let crashed = net.id(4);
    net.crash(4);
    net.run(ms(2600));
    assert!((0..4).any(|n| {
        net.membership(n)
            .get(crashed)
            .is_some_and(|m| m.state == MemberState::Suspect)
    }));
    assert!(
        (0..4).all(|n| net.membership(n).voters_present() == 5),
        "suspects count"
    );
    net.run(ms(1400));
    for n in 0..4 {
        assert!(net.membership(n).get(crashed).is_none());
        assert!(matches!(
            net.events(n).last(),
            Some(Event::MemberLeft {
                reason: LeaveReason::Failed,
                ..
            })
        ));
    }
    net.check();
}

#[test]
fn a_node_of_a_large_cluster_is_found_by_probes() {
    let mut net = Net::new(100, 4);
    net.form();
    // Not a direct partner of anybody: the highest id.
    let last = (0..100).max_by_key(|&n| net.id(n)).unwrap();
    assert!(net.membership(last).partners().is_empty());
    let id = net.id(last);
    net.crash(last);
    net.run(secs(9));
    assert!(
        (0..100)
            .filter(|&n| n != last)
            .all(|n| net.membership(n).get(id).is_none())
    );
    assert!(
        (0..100)
            .filter(|&n| n != last)
            .all(|n| net.membership(n).members().count() == 98)
    );
    net.check();
}

#[test]
fn late_timers_condemn_nobody() {
    for size in [3, 40] {
        let mut net = Net::new(size, 10);
        net.form();
        let before = net.membership(0).members().count();
        // Node 0 sleeps: nothing is received and no timer runs. Then its timers run before its datagrams.
        net.pause(0, secs(2));
        net.run(secs(2));
        net.resume(0);
        assert_eq!(net.stats(0).late_timeouts, 1);
        assert_eq!(net.stats(0).suspicions, 0);
        net.run(secs(8));
        assert_eq!(net.membership(0).members().count(), before);
        assert!(
            !net.events(0)
                .iter()
                .any(|e| matches!(e, Event::MemberLeft { .. })),
            "{size}"
        );
        net.check();
    }
}

#[test]
fn late_timers_are_excused_again_once_helpers_heard() {
    let mut net = Net::new(3, 10);
    net.form();
    let other = net.id(1);
    // From here on only node 2 hears of node 1.
    net.cut(0, 1);
    net.run(secs(5));
    for (late, pause) in [(1, ms(640)), (2, secs(4))] {
        net.pause(0, pause);
        net.run(pause);
        net.resume(0);
        assert_eq!(net.stats(0).late_timeouts, late);
        assert!(net.membership(0).get(other).is_some(), "{pause:?}");
        net.run(secs(10));
    }
    net.check();
}

#[test]
fn a_suspicion_is_excused_again_once_its_subject_answered() {
    let mut net = Net::new(40, 10);
    net.form();
    let is_partner = |net: &Net, id| net.membership(0).partners().contains(&id);
    let id = (1..40).map(|n| net.id(n)).find(|&id| !is_partner(&net, id));
    let id = id.expect("40 are more than all partners");
    let present = |m: &Membership| m.get(id).is_some();
    net.with(0, |m, cx| {
        m.begin_suspicion(cx, id, m.me);
        m.suspicion_due(cx, id, true);
        let contact = &mut m.table.get_mut(id).unwrap().contact;
        let number = u32::MAX / 2;
        contact.probed(cx.now, number);
        assert!(contact.take_echo(cx.now, number, cx.config.heartbeat_timeout));
        cx.now += secs(1);
        // It has not heard of the suspicion yet.
        m.suspicion_due(cx, id, false);
        assert!(present(m));
        cx.now += secs(60);
        m.suspicion_due(cx, id, true);
        assert!(present(m), "late again, and nobody could answer");
        cx.now += secs(60);
        m.suspicion_due(cx, id, true);
        assert!(!present(m), "late for the second time since it answered");
    });
}

#[test]
fn a_lost_path_between_two_nodes_harms_nobody() {
    let mut net = Net::new(5, 14);
    net.form();
    net.cut(0, 1);
    net.run(secs(30));
    let (a, b) = (net.id(0), net.id(1));
    assert!(net.membership(0).get(b).is_some() && net.membership(1).get(a).is_some());
    assert!((0..5).all(|n| {
        !net.events(n)
            .iter()
            .any(|e| matches!(e, Event::MemberLeft { .. }))
    }));
}

#[test]
fn echoes_that_come_late_are_no_reason_to_dial() {
    let mut net = Net::new(3, 24);
    net.observer(2);
    for n in 0..3 {
        // A datagram travels for 0.2 to 2.2 ms: half of the echoes take longer than this.
        net.config(n).probe_timeout = ms(2);
    }
    net.form();
    let dials = net.dials;
    net.run(secs(60));
    assert_eq!(net.dials - dials, 0);
    net.check();
}

#[test]
fn who_answers_dials_and_says_nothing_else_is_not_dialled_for_every_heartbeat() {
    let mut net = Net::new(2, 25);
    net.form();
    let before = net.dials;
    net.loss = 1000;
    net.run(ms(2_500));
    // Two intervals and a probe's time without a word are over at the third beat, and then at the third one after that.
    let dials = net.dials - before;
    assert!((1..=2).contains(&dials), "{dials}");
}
