use super::*;
use crate::fault::{Fault, FaultKind, Host, HostSet};
use crate::schedule::Workload;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn busy(seed: u64, faults: Vec<Fault>) -> Schedule {
    Schedule {
        cluster_size: 5,
        chaos: secs(60),
        workload: Workload {
            draws: 60,
            locks: 120,
            messages: 120,
            requests: 120,
            max_size: 20_000,
        },
        faults,
        ..Schedule::calm(seed, 5)
    }
}

fn fault(at: u64, lasting: u64, kind: FaultKind) -> Fault {
    Fault {
        at: secs(at),
        lasting: secs(lasting),
        kind,
    }
}

#[test]
fn a_run_without_faults_is_clean_and_recovers_at_once() {
    let report = run(&busy(1, Vec::new()), true);
    assert_eq!(report.violation, None);
    assert_eq!(report.recovered_after, Some(Duration::ZERO));
    assert!(report.events > 1_000);
}

#[test]
fn faults_of_many_kinds_are_survived_and_counted() {
    let left = HostSet::of([0, 1]);
    let faults = vec![
        fault(5, 10, FaultKind::Split { left }),
        fault(20, 5, FaultKind::Crash { host: Host(2) }),
        fault(30, 20, FaultKind::Surge),
        fault(31, 3, FaultKind::Freeze { host: Host(0) }),
        fault(40, 8, FaultKind::Pause { host: Host(1) }),
        fault(58, 2, FaultKind::Leave { host: Host(3) }),
    ];
    let schedule = Schedule {
        surge: 1,
        ..busy(2, faults)
    };
    let report = run(&schedule, true);
    assert_eq!(report.violation, None);
    assert_eq!(report.faults.len(), 6);
    assert!(report.recovered_after > Some(Duration::ZERO));
}

#[test]
fn the_same_schedule_is_the_same_run_and_observers_change_nothing() {
    let schedule = busy(3, vec![fault(5, 10, FaultKind::Ring)]);
    let first = run(&schedule, true);
    assert_eq!(first, run(&schedule, true));
    assert_eq!(first.trace_hash, run(&schedule, false).trace_hash);
    assert_ne!(first.trace_hash, run(&busy(4, Vec::new()), true).trace_hash);
}

/// Returns what somebody panics with who is given a schedule.
fn refusal<T>(act: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(act))
        .err()
        .expect("the schedule is refused");
    panic_message(&*payload)
}

#[test]
fn whoever_takes_a_schedule_refuses_an_invalid_one() {
    let surge = || busy(1, vec![fault(5, 10, FaultKind::Surge)]);
    let wrong = [
        (surge(), "fault 0: surge is 0"),
        (
            Schedule {
                hosts: 0,
                faults: Vec::new(),
                ..surge()
            },
            "hosts is 0: must be 1 to 64",
        ),
        (Schedule { hosts: 65, ..surge() }, "hosts is 65"),
        (
            Schedule {
                cluster_size: 16,
                ..surge()
            },
            "cluster_size is 16: must be 0 to 15",
        ),
        (Schedule { surge: 3, ..surge() }, "surge is 3: must be 0 to 2"),
        (
            Schedule {
                surge: 1,
                chaos: secs(10),
                ..surge()
            },
            "fault 0: the end is 15s",
        ),
    ];
    let program = || |_: Cluster, _: Env| async {};
    for (schedule, expected) in wrong {
        let refusals = [
            refusal(|| run(&schedule, true)),
            refusal(|| run_observed(&schedule, false, crate::Recording::new(10))),
            refusal(|| run_program(&schedule, program)),
            refusal(|| run_program_observed(&schedule, program, crate::Recording::new(10))),
            refusal(|| crate::shrink(schedule.clone(), 10, |_| true)),
            refusal(|| schedule.simpler().count()),
        ];
        for refusal in refusals {
            assert!(refusal.contains(expected), "{refusal}");
        }
        // Without hosts it is a test that starts them.
        if schedule.hosts > 0 {
            let refusal = refusal(|| Sim::builder().schedule(schedule).build());
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}
