use crate::checkers::testing::{A, B, Panel, cluster, datagram, objects, secs};
use crate::observe::{Fate, Seen};
use crate::sim::Sim;
use quorate_core::Duration;

#[test]
fn objects_to_too_much_of_anything() {
    let mut sim = cluster();
    let mut datagram = datagram(&sim);
    (datagram.sender, datagram.intended, datagram.len) = (Some(A), Some(B), 1_201);
    (datagram.from, datagram.to) = (datagram.to, datagram.from);
    let seen = Seen::Sent {
        datagram: &datagram,
        fate: Fate::Lost,
    };
    objects(&mut sim, &seen, "bounds", "1201 bytes");
    let mut sim = cluster();
    sim.run_for(Duration::from_millis(400));
    for _ in 0..300 {
        sim.see(&Seen::Woke {
            node: A,
            late: Duration::ZERO,
        });
    }
    assert!(sim.violations()[0].what.contains("over and over"));
    let mut sim = cluster();
    datagram.len = 100;
    for number in 0..20_000 {
        datagram.number = (1 << 40) + number;
        sim.see(&Seen::Sent {
            datagram: &datagram,
            fate: Fate::Arrives(sim.now()),
        });
    }
    sim.run_for(secs(3));
    assert!(
        sim.violations()[0].what.contains("datagrams in a second"),
        "{:?}",
        sim.violations()
    );
}

/// A member that is alone, and checkers that have seen only that it started.
fn unseen() -> (Sim, Panel) {
    let mut sim = Sim::builder().seed(1).hosts(1).checkers(false).build();
    sim.run_for(secs(5));
    let panel = Panel::new(&sim);
    (sim, panel)
}

#[test]
fn objects_to_who_is_woken_late() {
    let (mut sim, mut panel) = unseen();
    panel.tell(&sim, &Seen::Settled { node: A });
    sim.run_for(secs(5));
    let late = secs(3);
    panel.objects(
        &sim,
        &Seen::Woke { node: A, late },
        "bounds",
        "woken 3.000 s late",
    );
}

#[test]
fn objects_to_too_many_wakes() {
    let (mut sim, mut panel) = unseen();
    sim.run_for(secs(3));
    let late = Duration::ZERO;
    for _ in 0..21 {
        sim.run_for(Duration::from_millis(10));
        for _ in 0..100 {
            panel.tell(&sim, &Seen::Woke { node: A, late });
        }
    }
    panel.objects(&sim, &Seen::Settled { node: A }, "bounds", "woken 2100 times");
}

#[test]
fn objects_to_a_timer_that_does_not_fire() {
    let (mut sim, mut panel) = unseen();
    // Nobody sees that it stands still.
    sim.pause(A);
    sim.run_for(secs(10));
    // An input may have set the timer to the past just now.
    panel.tell(&sim, &Seen::Settled { node: A });
    sim.run_for(secs(1));
    panel.objects(&sim, &Seen::Settled { node: A }, "bounds", "does not fire");
}

#[test]
fn excuses_a_timer_in_the_past_that_fires() {
    let (mut sim, mut panel) = unseen();
    sim.pause(A);
    sim.run_for(secs(10));
    let late = Duration::ZERO;
    for _ in 0..10 {
        panel.tell(&sim, &Seen::Settled { node: A });
        sim.run_for(Duration::from_millis(500));
        panel.tell(&sim, &Seen::Woke { node: A, late });
        sim.run_for(Duration::from_millis(500));
    }
}

#[test]
fn objects_to_a_counter_that_falls() {
    let (sim, mut panel) = unseen();
    panel.tell(&sim, &Seen::Settled { node: A });
    // The same member in another life, in which it had nobody to look for.
    let alone = |_, mut config: quorate_core::Config| {
        config.seeds.clear();
        config
    };
    let builder = Sim::builder().seed(1).hosts(1).checkers(false);
    let mut other = builder.config(alone).build();
    other.run_for(secs(7));
    panel.objects(
        &other,
        &Seen::Settled { node: A },
        "bounds",
        "of process 0 on host 0 fell",
    );
}

#[test]
fn objects_to_counters_that_are_not_what_happened() {
    let mut sim = cluster();
    let datagram = datagram(&sim);
    // Something that the first process never saw.
    sim.see(&Seen::Arrived {
        node: A,
        datagram: &datagram,
        again: false,
        opened: false,
    });
    sim.run_for(secs(2));
    assert!(
        sim.violations()[0].what.contains("datagrams sent and received"),
        "{:?}",
        sim.violations()
    );
}
