//! Whole runs with the built-in users and every checker: schedules that were written by hand, and some that were drawn.

use quorate_sim::{Draw, Schedule, check, run, scenario};

#[test]
fn every_scenario_is_survived_and_reads_back_as_the_same_run() {
    for scenario in scenario::all() {
        let report = run(&scenario.schedule, true);
        assert_eq!(report.violation, None, "{}", scenario.name);
        let again = scenario
            .schedule
            .to_string()
            .parse()
            .expect("what was written is read");
        assert_eq!(
            run(&again, false).trace_hash,
            report.trace_hash,
            "{}",
            scenario.name
        );
    }
}

#[test]
fn what_is_drawn_is_survived() {
    check(|seed| {
        let report = run(&Schedule::draw(seed, &Draw::default()), true);
        report.violation.map_or(Ok(()), Err)
    });
}
