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
    let report = run(&busy(2, faults), true);
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
