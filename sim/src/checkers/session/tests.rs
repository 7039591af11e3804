use super::{REMEMBERED, Recent, WINDOW, is_behind};
use crate::checkers::testing::{A, B, C, Panel, cluster, datagram, objects, secs, with_stranger};
use crate::fault::Difference;
use crate::observe::{Datagram, Fate, Provenance, Seen};
use crate::sim::Sim;
use crate::world::NodeIndex;

#[test]
fn objects_to_what_must_not_be_taken_for_authentic() {
    type Change = fn(&mut Datagram);
    let changes: [(Change, &str); 4] = [
        (|datagram| datagram.provenance = Provenance::Altered, "altered"),
        (|datagram| datagram.sender = None, "no process sent"),
        (|datagram| datagram.intended = Some(C), "sent to process 2"),
        (|datagram| datagram.head[1] = 3, "not sealed"),
    ];
    for (change, what) in changes {
        let mut sim = cluster();
        let mut datagram = datagram(&sim);
        change(&mut datagram);
        let seen = Seen::Arrived {
            node: A,
            datagram: &datagram,
            again: false,
            opened: true,
        };
        objects(&mut sim, &seen, "session", what);
    }
    let mut sim = cluster();
    let twice = datagram(&sim);
    let seen = Seen::Arrived {
        node: A,
        datagram: &twice,
        again: false,
        opened: true,
    };
    sim.see(&seen);
    assert_eq!(sim.violations(), []);
    objects(&mut sim, &seen, "session", "as it did before");
}

#[test]
fn objects_to_what_must_not_be_refused() {
    let mut sim = cluster();
    sim.capture(50);
    sim.run_for(secs(1));
    let old = sim
        .captured()
        .iter()
        .find(|old| old.datagram.intended == Some(A))
        .cloned();
    let old = old.expect("somebody wrote to it");
    sim.replay(A, old.datagram.from, &old);
    assert_eq!(sim.violations(), []);
    // The node has refused a copy. To checkers that did not see the first one, it was the first one.
    let seen = Seen::Arrived {
        node: A,
        datagram: &old.datagram,
        again: false,
        opened: false,
    };
    Panel::new(&sim).objects(&sim, &seen, "session", "as replayed");
}

#[test]
fn what_the_window_holds_must_not_be_refused_and_what_it_does_not_must() {
    let newest = 1 << 40;
    assert!(!is_behind(newest - WINDOW + 1, newest) && is_behind(newest - WINDOW, newest));
}

#[test]
fn objects_to_who_writes_before_the_other_has_proved_itself() {
    let mut sim = cluster();
    let stranger = sim.start(crate::config().cluster_size(3));
    let mut datagram = datagram(&sim);
    (datagram.sender, datagram.from) = (Some(stranger), sim.addr(stranger));
    let seen = Seen::Sent {
        datagram: &datagram,
        fate: Fate::Lost,
    };
    objects(&mut sim, &seen, "session", "never proved");
}

#[test]
fn recent_numbers_are_remembered_and_old_ones_are_not_guessed() {
    let mut recent = Recent::default();
    assert!(!recent.mark(5));
    assert!(recent.mark(5));
    assert!(!recent.mark(5 + REMEMBERED * 3));
    assert!(!recent.mark(5), "too old to know");
    assert!(!recent.mark(4 + REMEMBERED * 3));
    assert!(recent.mark(5 + REMEMBERED * 3));
}

#[test]
fn objects_to_an_answer_to_who_was_not_given_the_challenge_or_long_ago() {
    for (elsewhere, waits, what) in [
        (true, secs(1), "whose challenge went to"),
        (false, secs(11), "that was sent 11"),
    ] {
        let mut sim = cluster();
        let mut m1 = datagram(&sim);
        (m1.number, m1.head[1]) = (5, 3);
        m1.intended = Some(A);
        let fate = Fate::Arrives(sim.now());
        sim.see(&Seen::Sent { datagram: &m1, fate });
        sim.run_for(waits);
        if elsewhere {
            m1.from = "203.0.113.9:7000".parse().unwrap();
        }
        sim.see(&Seen::Arrived {
            node: A,
            datagram: &m1,
            again: false,
            opened: false,
        });
        let mut m2 = datagram(&sim);
        (m2.number, m2.head[1]) = (6, 4);
        (m2.sender, m2.to) = (Some(A), m1.from);
        let fate = Fate::Arrives(sim.now());
        objects(&mut sim, &Seen::Sent { datagram: &m2, fate }, "session", what);
    }
}

#[test]
fn objects_to_an_unknown_key_that_is_told_of_again_and_again() {
    let mut sim = cluster();
    let (addr, key) = (sim.addr(B), quorate_core::Key::from_bytes([1; 32]).id());
    let event = quorate_core::Event::UnknownKey { addr, key };
    let seen = Seen::Event {
        node: A,
        event: &event,
    };
    sim.see(&seen);
    sim.run_for(secs(10));
    sim.see(&seen);
    assert_eq!(sim.violations(), []);
    sim.run_for(secs(9));
    objects(&mut sim, &seen, "session", "tells again of an unknown key");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn objects_to_sessions_that_are_not_renewed() {
    use crate::{PlantedBug, plant};
    for (bug, objects) in [(None, false), (Some(PlantedBug::SessionsNeverRekeyed), true)] {
        let _planted = plant(bug);
        let mut sim = Sim::builder().hosts(2).collect_violations().build();
        sim.run_for(secs(400));
        let object = sim
            .violations()
            .iter()
            .any(|it| it.what.contains("made no session"));
        assert_eq!(object, objects, "{bug:?}: {:?}", sim.violations());
    }
}

#[test]
fn objects_to_a_datagram_that_is_called_forged_and_is_not() {
    let mut sim = cluster();
    let mut panel = Panel::new(&sim);
    let (now, from) = (datagram(&sim), sim.addr(B));
    sim.capture(50);
    sim.run_for(secs(1));
    let old = sim
        .captured()
        .iter()
        .find(|old| old.datagram.intended == Some(A) && old.datagram.head[1] == 5)
        .cloned();
    let mut bytes = old.expect("somebody wrote to it").payload.to_vec();
    // Its counter, to one that was not there yet.
    bytes[12] += 1;
    sim.inject_datagram(A, from, &bytes);
    let seen = Seen::Arrived {
        node: A,
        datagram: &now,
        again: false,
        opened: false,
    };
    panel.objects(&sim, &seen, "session", "as forged");
}

#[test]
fn objects_to_a_session_with_one_of_another_key() {
    let mut sim = with_stranger(Difference::Key);
    let stranger = NodeIndex(3);
    let mut datagram = datagram(&sim);
    (datagram.sender, datagram.from) = (Some(stranger), sim.addr(stranger));
    let seen = Seen::Arrived {
        node: A,
        datagram: &datagram,
        again: false,
        opened: true,
    };
    objects(&mut sim, &seen, "session", "with another key");
}

#[test]
fn objects_to_a_storm_of_handshakes() {
    let mut sim = Sim::builder().seed(1).hosts(2).checkers(false).build();
    sim.run_for(secs(5));
    let mut panel = Panel::new(&sim);
    let (mut last, addr) = (B, sim.addr(B));
    let config = sim.world().process(B).config.clone();
    let config = config.key(quorate_core::Key::from_bytes([7; 32]));
    while sim.node_of(A).stats().handshakes < 200 {
        sim.crash(last);
        last = sim.start_at(addr, config.clone());
        sim.run_for(secs(1));
    }
    sim.run_for(secs(20));
    panel.objects(&sim, &Seen::Settled { node: A }, "session", "handshakes within");
}
