use super::*;
use std::collections::BTreeSet;

#[test]
fn every_scenario_can_be_run_and_reads_back() {
    let mut kinds = BTreeSet::new();
    for scenario in all() {
        let (name, schedule) = (scenario.name, &scenario.schedule);
        assert_eq!(schedule.validate(), Ok(()), "{name}");
        assert_eq!(schedule.to_string().parse().as_ref(), Ok(schedule), "{name}");
        assert!(
            scenario.about.len() > 60,
            "{name} says what it shows: {:?}",
            scenario.about
        );
        assert_eq!(find(name).as_ref(), Some(&scenario));
        assert_eq!(schedule.faults.is_empty(), name == "calm");
        assert!(
            schedule.cluster_size == 0
                || usize::from(schedule.cluster_size) == schedule.hosts - schedule.observers,
            "{name} has as many seats as voters"
        );
        kinds.extend(schedule.faults.iter().map(|fault| fault.kind.name()));
    }
    let all = BTreeSet::from_iter(crate::fault::FaultKind::NAMES.iter().copied());
    assert_eq!(kinds, all, "every kind has a scenario");
}

#[test]
fn names_are_unique_and_every_file_is_listed() {
    let listed: BTreeSet<_> = all().map(|scenario| format!("{}.txt", scenario.name)).collect();
    assert_eq!(listed.len(), TEXTS.len());
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap();
    let files: BTreeSet<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, files);
    assert_eq!(find("no-such-thing"), None);
}
