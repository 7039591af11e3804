use super::*;
use quorate_core::PlantedBug;
use std::collections::BTreeSet;

fn config(name: &str) -> Config {
    let found = configs().find(|config| config.name == name);
    found.cloned().unwrap_or_else(|| panic!("no config {name}"))
}

fn searched(config: &Config) -> Report {
    explore(config, || false)
}

#[test]
fn small_systems_are_exhausted() {
    // From nothing, without crashes; and with one, where four may be alive.
    let quiet = Config {
        crashes: 0,
        terms: 1,
        ..config("founding")
    };
    for config in [quiet, config("five"), config("surge"), config("locks-drift")] {
        let report = searched(&config);
        assert_eq!(report.violation, None, "{}: {:#?}", config.name, report.trace);
        assert!(
            report.exhausted && report.states > 100,
            "{}: {report:?}",
            config.name
        );
    }
}

#[test]
fn the_same_search_finds_the_same() {
    let count = |report: Report| (report.states, report.depth);
    assert_eq!(count(searched(&config("five"))), count(searched(&config("five"))));
}

#[test]
fn a_limit_ends_a_search() {
    let report = searched(&Config {
        limit: 100,
        ..config("founding")
    });
    assert!(!report.exhausted && report.violation.is_none());
}

/// What is left out because it makes no difference makes none: without it the same processes meet in the same ways.
#[test]
fn reductions_lose_nothing() {
    let pictures = |config: &Config| {
        let mut space = Space::new(config);
        let first = space.scripted(&mut Vec::new()).unwrap();
        let mut states = Pool::default();
        states.number(first);
        let (mut place, mut steps, mut pictures) = (0, Vec::new(), BTreeSet::new());
        while place < states.len() {
            let state: State = *states.get(place as u32);
            pictures.insert(space.picture(&state));
            space.steps(&state, &mut steps);
            for &step in &steps {
                states.number(space.take(&state, step).unwrap().unwrap_or(state));
            }
            place += 1;
        }
        (states.len(), pictures)
    };
    let quiet = Config {
        crashes: 0,
        terms: 1,
        ..config("founding")
    };
    let crash = Config {
        stands: 0,
        terms: 1,
        ticks: 1,
        ..config("founding")
    };
    let election = Config {
        terms: 2,
        log: 3,
        draws: 0,
        candidates: &[1],
        ..config("election")
    };
    for config in [quiet, crash, election] {
        let (few, reduced) = pictures(&config);
        let plain = Config {
            plain: true,
            ..config
        };
        let (many, all) = pictures(&plain);
        assert!(few < many, "{few} {many}");
        assert_eq!(reduced, all, "{}", plain.name);
    }
}

/// One planted bug for each thing that must hold.
#[test]
fn what_must_hold_can_fail() {
    let cases = [
        (PlantedBug::FoundWithSurplusSeats, "seats of"),
        (PlantedBug::VoteTwiceInATerm, "both lead"),
        (PlantedBug::DuplicateAnswersCounted, "which was committed before"),
        (
            PlantedBug::MajorityOfFilledSeats,
            "appended after the committed Found",
        ),
        (PlantedBug::TokenFloorIgnored, "do not rise with the groups"),
        (PlantedBug::SkipDespiteObservers, "believe at the same time"),
        (PlantedBug::SnapshotLosesOpen, "do not agree on what came of them"),
        (PlantedBug::AbandonKeepsBeliefs, "that they hold the lock"),
        (PlantedBug::NewLeaderCutsLeases, "does not wait"),
        (PlantedBug::LapsedBeliefRevives, "begins to believe"),
    ];
    for (bug, what) in cases {
        let _planted = quorate_core::plant(Some(bug));
        let config = config_for(bug).expect("a config for it").with(bug);
        let report = searched(&config);
        let violation = report.violation.unwrap_or_default();
        assert!(violation.contains(what), "{bug}: {violation:?}");
        assert!(report.trace.len() >= report.depth);
    }
}

/// No planted bug leads there first, so it is done by hand: one identity founds a group twice.
#[test]
fn logs_that_do_not_match_are_seen() {
    use process::{Act, Process, Target};
    use quorate_core::consensus::{Envelope, Group, Life, Message};
    let rules = state::rules(&config("founding"));
    let founder = |voter: u8| {
        let mut process = Process::new(rules, 0, true);
        process.act(0, Act::Stand, &Target::None);
        let vote = Envelope {
            group: Group {
                founder: process.life(),
                founding: 1,
            },
            from: Life::first(process::node(voter)),
            to: process.life(),
            message: Message::FoundVote { floor: 0 },
        };
        process.act(0, Act::Read(0), &Target::Message(&vote));
        process.act(0, Act::Found(1), &Target::None);
        process
    };
    assert_eq!(history::agree(&founder(1), &founder(1)), Ok(()));
    let differs = history::agree(&founder(1), &founder(2)).unwrap_err();
    assert!(differs.contains("though later terms agree"), "{differs}");
}

/// And names are distinct, and no script stops.
#[test]
fn each_rule_has_a_config() {
    let names: BTreeSet<_> = configs().map(|config| config.name).collect();
    assert_eq!(names.len(), configs().count());
    for config in configs() {
        let begun = Config {
            steps: 1,
            ..config.clone()
        };
        assert_eq!(searched(&begun).violation, None, "{}", config.name);
    }
    for rule in rules() {
        assert!(config_for(rule).is_some(), "{rule}");
    }
}
