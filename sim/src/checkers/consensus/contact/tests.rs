//! Each rule is left out of the core in turn: without it, and only then, somebody objects.

use crate::checkers::testing::{A, B, C, cluster, secs};
use crate::sim::Sim;
use crate::world::NodeIndex;
use quorate_core::PlantedBug;

/// What the checker says of an open group of three to which something happens, with and without a rule.
#[track_caller]
fn objects_without(bug: PlantedBug, happens: fn(&mut Sim), what: &str) {
    for planted in [None, Some(bug)] {
        let _planted = quorate_core::plant(planted);
        let mut sim = cluster();
        sim.run_for(secs(40));
        assert_eq!(sim.violations(), []);
        happens(&mut sim);
        let mut violations = sim.violations().iter();
        let Some(bug) = planted else {
            assert_eq!(violations.next(), None);
            continue;
        };
        let violation = violations.find(|violation| violation.by == "consensus");
        let violation = violation.unwrap_or_else(|| panic!("nobody misses {bug}"));
        assert!(violation.what.contains(what), "{violation}");
    }
}

/// The three members, the leader first.
fn by_part(sim: &Sim) -> [NodeIndex; 3] {
    let mut all = [A, B, C];
    all.sort_by_key(|&node| sim.node_of(node).replica().leadership().is_none());
    all
}

#[test]
fn a_leader_that_nobody_answers() {
    let cut_off = |sim: &mut Sim| {
        let [leader, one, other] = by_part(sim);
        sim.partition(&[leader], &[one, other]);
        sim.run_for(secs(10));
    };
    let what = "and only 0 other seats were heard of";
    objects_without(PlantedBug::DeposedNeverStepsDown, cut_off, what);
}

#[test]
fn a_candidate_that_asked_nobody_before() {
    let cut_off = |sim: &mut Sim| {
        let [leader, one, other] = by_part(sim);
        sim.partition(&[other], &[leader, one]);
        sim.run_for(secs(10));
    };
    let what = "though only 0 other seats can have said that they would vote for it";
    objects_without(PlantedBug::RemovedNodeRaisesTerms, cut_off, what);
}

#[test]
fn a_round_that_a_newcomer_without_the_group_answers() {
    let restart = |sim: &mut Sim| {
        let [_, one, other] = by_part(sim);
        let config = crate::config().cluster_size(3).seed(sim.addr(one).to_string());
        sim.crash(other);
        sim.start(config);
        sim.run_for(secs(30));
    };
    let what = "which has not stored the beginning of the group";
    objects_without(PlantedBug::RoundsByTheEmpty, restart, what);
}
