//! Each rule is left out of the core in turn: without it, and only then, somebody objects.

use crate::checkers::testing::{A, B, C, cluster, secs};
use crate::observe::{Observer, Seen};
use crate::run::run_observed;
use crate::schedule::Schedule;
use crate::sim::Sim;
use crate::world::{NodeIndex, World};
use quorate_core::consensus::{Group, Leadership, Life};
use quorate_core::{Node, PlantedBug};
use std::collections::BTreeMap;

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

/// Under heavy loss leaders drop members and take them in again, and groups meet and yield.
const LOSSY: &str = "hosts 5
cluster_size 0
fast true
chaos 30s
messages 0
requests 0
draws 0
locks 267
5s +25s burst-loss from=* to=* permille=650 burst=32";

#[test]
fn without_a_size_a_life_may_answer_and_then_go_to_another_group() {
    // One seed in fifteen shows it.
    let shown = (0..200).find(|&seed| {
        let schedule: Schedule = LOSSY.parse().expect("it is a schedule");
        let schedule = Schedule { seed, ..schedule };
        let (report, went) = run_observed(&schedule, true, Went::default());
        assert_eq!(report.violation, None);
        went.after_an_answer
    });
    assert!(
        shown.is_some(),
        "it does not happen any more: look for a schedule that has it"
    );
}

/// Notices a leader that has an answer of a life whose log it does not know to match, and that has gone to another group.
#[derive(Default)]
struct Went {
    groups: BTreeMap<Life, Option<Group>>,
    after_an_answer: bool,
}

impl Observer for Went {
    fn name(&self) -> &'static str {
        "went"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let settled = match *seen {
            Seen::Settled { node } => world.process(node).node(),
            _ => None,
        };
        let Some(replica) = settled.map(Node::replica) else {
            return Ok(());
        };
        self.groups.insert(replica.life(), replica.group());
        let peers = replica.leadership().into_iter().flat_map(Leadership::peers);
        let mut answered = peers.filter(|(_, progress)| progress.matched() == 0 && progress.round() > 0);
        let went = answered.any(|(life, _)| {
            self.groups
                .get(&life)
                .is_some_and(|&group| group != replica.group())
        });
        self.after_an_answer |= went;
        Ok(())
    }
}
