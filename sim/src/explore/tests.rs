use super::*;
use quorate_core::PlantedBug;

fn config(name: &str) -> Config {
    let found = CONFIGS.iter().find(|config| config.name == name);
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
    for config in [quiet, config("five"), config("surge")] {
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

/// One planted bug for each thing that must hold.
#[test]
fn what_must_hold_can_fail() {
    let cases = [
        (PlantedBug::FoundWithSurplusSeats, "seats of"),
        (PlantedBug::VoteTwiceInATerm, "both lead"),
        (PlantedBug::DuplicateAnswersCounted, "which was committed before"),
        (PlantedBug::ForgottenProcessReturns, "both lead"),
        (
            PlantedBug::MajorityOfFilledSeats,
            "appended after the committed Found",
        ),
        (PlantedBug::TokenFloorIgnored, "do not rise with the groups"),
        (PlantedBug::SkipDespiteObservers, "believe at the same time"),
        (PlantedBug::SnapshotLosesOpen, "do not agree on what came of them"),
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

#[test]
fn lists_name_configs() {
    for name in CI.iter().chain(LARGE) {
        config(name);
    }
    for rule in rules() {
        assert!(config_for(rule).is_some(), "{rule}");
    }
}
