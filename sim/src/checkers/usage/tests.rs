use super::within;
use crate::checkers::testing::{A, cluster};
use quorate_core::UsageRow;

#[test]
fn objects_to_more_than_a_limit_allows() {
    let sim = cluster();
    let row = |name, used| UsageRow { name, used, limit: 5 };
    assert_eq!(within(sim.world(), A, &[row("dials", 5)]), Ok(()));
    let told = within(sim.world(), A, &[row("dials", 5), row("sessions", 6)]);
    let what = told.expect_err("it must object");
    assert!(what.contains("holds more than it may"), "{what}");
    assert!(what.contains("sessions: 6 of at most 5"), "{what}");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn objects_to_a_node_that_takes_more_than_it_has_room_for() {
    use crate::checkers::testing::{B, secs};
    use quorate_core::{PlantedBug, Target};

    let _planted = quorate_core::plant(Some(PlantedBug::BackPressureIgnored));
    let mut sim = cluster();
    sim.set_reading(B, false);
    let to = Target::Node(sim.id(B));
    for _ in 0..20 {
        sim.with(A, |cx| {
            for _ in 0..50 {
                let _ = cx.send(to, "more", None);
            }
        });
        sim.run_for(secs(1));
    }
    sim.finish();
    let violation = sim.violations().first().expect("it has no room for 1,000");
    assert_eq!(violation.by, "usage", "{violation}");
    assert!(violation.what.contains("worst inbox messages"), "{violation}");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn objects_to_a_handshake_that_is_kept_too_long() {
    use crate::checkers::testing::{B, Panel, secs};
    use crate::sim::Sim;
    use quorate_core::{Duration, PlantedBug};

    let _planted = quorate_core::plant(Some(PlantedBug::HalfOpenNeverExpires));
    let mut sim = Sim::builder().seed(1).checkers(false).build();
    let a = sim.start(crate::config());
    let b = sim.start(crate::config().seed(sim.addr(a).to_string()));
    assert_eq!((a, b), (A, B));
    // The first half of the handshake arrives, and then no answer any more.
    sim.run_until(secs(1), |sim| sim.node_of(A).stats().datagrams_sent == 1);
    sim.cut_one_way(A, B);
    let mut panel = Panel::new(&sim);
    sim.run_for(Duration::from_secs(30));
    panel.objects_at_the_end(&sim, "usage", "keeps 1 half-open sessions");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn objects_to_handshakes_that_stay_half_open() {
    use crate::checkers::testing::secs;
    use crate::sim::Sim;
    use crate::{FaultKind, HostSet, PlantedBug, plant};

    for (bug, objects) in [(None, false), (Some(PlantedBug::HalfOpenNeverExpires), true)] {
        let _planted = plant(bug);
        let mut sim = Sim::builder().hosts(2).collect_violations().build();
        sim.run_for(secs(1));
        // Challenges pass from host 0 to host 1, and what is longer does not: no handshake is completed.
        let (from, to, bytes) = (HostSet::of([0]), HostSet::of([1]), 46);
        sim.inject(FaultKind::Mtu { from, to, bytes }, secs(60));
        sim.inject(FaultKind::Crash { host: crate::Host(1) }, secs(1));
        sim.run_for(secs(50));
        sim.heal();
        sim.run_for(secs(20));
        sim.finish();
        let found = sim
            .violations()
            .iter()
            .any(|violation| violation.by == "usage" && violation.what.contains("half-open"));
        assert_eq!(found, objects, "{:?}", sim.violations());
    }
}
