use crate::checkers::testing::{A, B, Panel, cluster, datagram, member, secs};
use crate::observe::Seen;
use crate::sim::Sim;
use quorate_core::{Duration, Event};

#[test]
fn objects_to_silence() {
    let mut sim = Sim::builder().seed(1).hosts(2).checkers(false).build();
    sim.run_for(secs(5));
    let mut panel = Panel::new(&sim);
    let joined = Event::MemberJoined(member(&sim));
    let seen = Seen::Event {
        node: A,
        event: &joined,
    };
    panel.tell(&sim, &seen);
    sim.run_for(secs(5));
    panel.objects(&sim, &Seen::Settled { node: A }, "timers", "has not written");
}

#[test]
fn objects_to_a_session_that_only_one_side_has() {
    let mut sim = cluster();
    let mut panel = Panel::new(&sim);
    let other = sim.node_of(B).member(sim.id(A)).expect("they know each other");
    for (node, other) in [(A, member(&sim)), (B, other)] {
        let event = &Event::MemberJoined(other);
        panel.tell(&sim, &Seen::Event { node, event });
    }
    let refused = datagram(&sim);
    let seen = Seen::Arrived {
        node: A,
        datagram: &refused,
        again: false,
        opened: false,
    };
    panel.tell(&sim, &seen);
    sim.run_for(secs(20));
    panel.objects(&sim, &Seen::Settled { node: A }, "timers", "has opened nothing");
}

#[test]
fn excuses_silence_towards_who_moved_and_has_said_nothing_since() {
    let mut sim = Sim::builder().seed(1).hosts(2).build();
    sim.run_for(secs(5));
    let there = sim.addr(B);
    // Its deadlines never come, so that nothing makes it write.
    sim.pause(B);
    sim.rebind(B, "10.200.0.1:6000".parse().unwrap());
    assert_ne!(sim.addr(B), there);
    // A still writes to where B was, for as long as it lists it.
    let found = Duration::from_millis(2_700);
    sim.run_for(found);
    assert!(sim.node_of(A).member(sim.id(B)).is_some());
}

#[test]
fn excuses_a_session_that_cannot_be_opened_because_the_way_is_too_narrow_for_it() {
    use crate::{FaultKind, Host, HostSet};
    let mut sim = Sim::builder().seed(1).hosts(3).build();
    sim.run_for(secs(5));
    // What a handshake ends with does not get to host 2 from host 1, heartbeats do.
    let (from, to) = (HostSet::of([1]), HostSet::of([2]));
    sim.inject(FaultKind::Mtu { from, to, bytes: 50 }, secs(40));
    sim.inject(FaultKind::Crash { host: Host(2) }, Duration::ZERO);
    sim.run_for(secs(40));
}
