use super::*;
use std::collections::BTreeSet;

#[test]
fn every_script_ends_well_and_the_same_each_time() {
    for script in all() {
        let report = script.run(true);
        assert_eq!(report.violation, None, "{}", script.name);
        // The checkers only look.
        if report.simulated < secs(600) {
            assert_eq!(script.run(false).trace_hash, report.trace_hash, "{}", script.name);
        }
    }
}

#[test]
fn names_are_unique_and_every_script_says_what_it_shows() {
    let names: BTreeSet<_> = all().map(|script| script.name).collect();
    assert_eq!(names.len(), all().count());
    for script in all() {
        assert!(crate::scenario::find(script.name).is_none(), "{}", script.name);
        assert!(
            script.about.lines().count() == 2,
            "{}: {}",
            script.name,
            script.about
        );
        assert_eq!(find(script.name).map(|found| found.about), Some(script.about));
    }
    assert!(find("no-such-thing").is_none());
}

/// A mistake in the core that a script notices by itself, without any checker.
#[cfg(feature = "planted-bugs")]
#[test]
fn scripts_notice_mistakes() {
    use quorate_core::PlantedBug as Bug;
    let cases = [
        ("locks-two-at-once", Bug::WokenButNotGranted),
        ("locks-three-at-once", Bug::WokenButNotGranted),
        ("locks-try-at-once", Bug::BeliefOutlivesRelease),
        ("locks-crossing-requests", Bug::RenewalsExtendNothing),
        ("locks-two-tasks", Bug::WokenButNotGranted),
        ("locks-lost-grant", Bug::RenewalsExtendNothing),
        ("locks-lost-release", Bug::BeliefOutlivesRelease),
        ("locks-late-denial", Bug::RenewalsExtendNothing),
        ("locks-gives-up-while-grant-is-late", Bug::WokenButNotGranted),
        ("locks-holder-restarts-on-its-address", Bug::FailedOwnersFreed),
        ("locks-holder-restarts-on-its-address", Bug::ExpiryPutOffForEver),
        ("locks-taken-while-grant-is-late", Bug::TakenGrantBelieved),
        ("locks-replayed-join-and-leave", Bug::DepartedKeepTheirSeats),
        ("locks-replayed-join-and-leave", Bug::DeadlineMovesBack),
        ("locks-stable-pages", Bug::PageRepeatsItsCursor),
        ("locks-crashed-bystander", Bug::RetransmissionRequeues),
        ("locks-holder-crashes-30-times", Bug::FailedOwnersFreed),
        ("locks-holder-crashes-30-times", Bug::ExpiryPutOffForEver),
        ("locks-waiter-has-its-own-ttl", Bug::ExpiryPutOffForEver),
        ("locks-metadata-kept", Bug::WokenButNotGranted),
        ("locks-no-shared-token", Bug::BeliefOutlivesRelease),
        ("locks-wildcard-filters", Bug::WokenButNotGranted),
        ("best-effort-leader-dies", Bug::SuccessionForgetsTable),
        ("best-effort-leader-leaves", Bug::SuccessionForgetsTable),
        ("best-effort-leader-pauses", Bug::OlderGroupStays),
        ("best-effort-grant-not-learned", Bug::MovedBeliefsUntold),
        ("best-effort-halves-meet", Bug::OlderGroupStays),
        ("best-effort-halves-meet", Bug::MovedBeliefsUntold),
        ("best-effort-latecomer", Bug::OlderGroupStays),
    ];
    for (name, bug) in cases {
        let script = find(name).expect("there is such a script");
        let _planted = quorate_core::plant(Some(bug));
        let violation = script.run(false).violation;
        let by = violation.as_ref().map(|violation| violation.by);
        assert_eq!(by, Some(BY), "{name} with {}: {violation:?}", bug.name());
    }
}

/// An hour of contention is too long to be played again and again; two minutes of it show mistakes as well.
#[cfg(feature = "planted-bugs")]
#[test]
fn contention_notices_mistakes() {
    use quorate_core::PlantedBug as Bug;
    let script = Script {
        name: "two minutes",
        about: "",
        cluster_size: 3,
        play: |stage| contention::contention(stage, secs(120)),
    };
    assert_eq!(script.run(false).violation, None);
    for (bug, by) in [
        (Bug::WokenButNotGranted, BY),
        // Who keeps a lock for so short a time hardly ever hears that it was freed.
        (Bug::StaleReleaseFrees, "locks"),
    ] {
        let _planted = quorate_core::plant(Some(bug));
        let violation = script.run(by != BY).violation;
        let found = violation.as_ref().map(|violation| violation.by);
        assert_eq!(found, Some(by), "{}: {violation:?}", bug.name());
    }
}

/// Where there is one group after the other, the checkers know what the next one owes the holders of the one before.
#[cfg(feature = "planted-bugs")]
#[test]
fn checkers_notice_what_a_succession_forgets() {
    use quorate_core::PlantedBug as Bug;
    let cases = [
        (
            "best-effort-leader-dies",
            Bug::SuccessionForgetsTable,
            "without a lock that its founder knew of",
        ),
        (
            "best-effort-leader-leaves",
            Bug::SuccessionForgetsTable,
            "without a lock that its founder knew of",
        ),
    ];
    for (name, bug, rule) in cases {
        let script = find(name).expect("there is such a script");
        let _planted = quorate_core::plant(Some(bug));
        let violation = script.run(true).violation.expect("it is noticed");
        assert!(
            violation.by == "consensus" && violation.what.contains(rule),
            "{name}: {violation}"
        );
    }
}
