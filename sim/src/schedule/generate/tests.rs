use super::*;
use crate::fault::Host;
use std::collections::BTreeMap;

const SEEDS: u64 = 2000;

fn drawn() -> impl Iterator<Item = Schedule> {
    (0..SEEDS).map(|seed| Schedule::draw(seed, &Draw::default()))
}

fn share(of: usize) -> f64 {
    of as f64 / SEEDS as f64
}

#[test]
fn a_seed_is_a_schedule() {
    let schedules: Vec<_> = drawn().collect();
    assert!(drawn().eq(schedules.iter().cloned()));
    assert!(
        schedules
            .windows(2)
            .all(|two| two[0].faults != two[1].faults || two[0].faults.is_empty())
    );
}

#[test]
fn every_plan_is_for_its_kind() {
    let mut names: Vec<_> = draws::PLANS.iter().map(|plan| plan.name).collect();
    let run = drawn().find(|run| run.surge > 0).unwrap();
    for plan in draws::PLANS {
        let drawn = (0..100).find_map(|number| plan.draw(&mut Random::new(1, "test", number), &run));
        assert_eq!(drawn.unwrap().1.name(), plan.name);
    }
    let mut known = FaultKind::NAMES.to_vec();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn all_of_it_is_allowed_and_ends_in_time() {
    let options = [
        Draw::default(),
        Draw {
            hosts: 1..=1,
            ..Draw::default()
        },
        Draw {
            hosts: 2..=64,
            chaos: Duration::from_secs(600),
            ..Draw::default()
        },
        Draw {
            chaos: Duration::ZERO,
            ..Draw::default()
        },
        Draw {
            chaos: Duration::from_millis(700),
            loss: Some(1000),
            ..Draw::default()
        },
    ];
    for options in options {
        assert_eq!(options.validate(), Ok(()));
        for seed in 0..300 {
            let schedule = Schedule::draw(seed, &options);
            assert_eq!(schedule.validate(), Ok(()), "seed {seed}");
            assert!(options.hosts.contains(&schedule.hosts));
            assert!(schedule.faults.iter().all(|fault| fault.ends() <= options.chaos));
        }
    }
}

#[test]
fn options_out_of_range_are_refused_or_held_to_it() {
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    let bad = [
        (
            0..=3,
            1,
            None,
            "hosts is 0-3: must be a range within 1-64, the smaller number first",
        ),
        (
            5..=3,
            1,
            None,
            "hosts is 5-3: must be a range within 1-64, the smaller number first",
        ),
        (
            3..=65,
            1,
            None,
            "hosts is 3-65: must be a range within 1-64, the smaller number first",
        ),
        (3..=3, 86_401, None, "chaos is 86401s: must be at most 86400s"),
        (3..=3, 1, Some(1001), "loss is 1001: must be 0 to 1000 permille"),
    ];
    for (hosts, chaos, loss, expected) in bad {
        let draw = Draw {
            hosts,
            chaos: Duration::from_secs(chaos),
            kinds: "loss".parse().unwrap(),
            loss,
            ..Draw::default()
        };
        assert_eq!(draw.validate().unwrap_err().to_string(), expected);
        assert_eq!(Schedule::draw(1, &draw).validate(), Ok(()));
    }
}

#[test]
fn a_long_run_has_its_share() {
    let options = Draw {
        hosts: 7..=7,
        chaos: MAX_CHAOS,
        ..Draw::default()
    };
    let schedule = Schedule::draw(3, &options);
    assert_eq!(schedule.validate(), Ok(()));
    assert!(schedule.faults.len() > 3000, "{}", schedule.faults.len());
}

#[test]
fn leaving_out_a_kind_shifts_nothing_else() {
    for seed in 0..50 {
        let all = Schedule::draw(seed, &Draw::default());
        for name in FaultKind::NAMES {
            let kinds: Vec<_> = Kinds::ALL.names().filter(|other| other != name).collect();
            let options = Draw {
                kinds: kinds.join(",").parse().unwrap(),
                ..Draw::default()
            };
            let without = Schedule::draw(seed, &options);
            let mut expected = all.clone();
            expected.faults.retain(|fault| fault.kind.name() != *name);
            assert_eq!(without, expected, "seed {seed} without {name}");
        }
    }
}

#[test]
fn a_kind_alone_occurs_in_most_runs() {
    for name in FaultKind::NAMES {
        let options = Draw {
            kinds: name.parse().unwrap(),
            ..Draw::default()
        };
        let (mut with, mut faults) = (0, 0);
        for seed in 0..40 {
            let schedule = Schedule::draw(seed, &options);
            assert!(schedule.faults.iter().all(|fault| fault.kind.name() == *name));
            with += usize::from(!schedule.faults.is_empty());
            faults += schedule.faults.len();
        }
        assert!(with >= 16, "{name} in {with} of 40 runs, {faults} times");
    }
    let none = Draw {
        kinds: Kinds::NONE,
        loss: Some(50),
        ..Draw::default()
    };
    let faults = Schedule::draw(1, &none).faults;
    let [only] = faults.as_slice() else {
        panic!("{faults:?}");
    };
    assert_eq!(only.to_string(), "0s +120s loss from=* to=* permille=50");
}

#[test]
fn most_runs_have_a_dozen_faults_some_are_calm_and_some_are_storms() {
    let mut counts: Vec<_> = drawn().map(|schedule| schedule.faults.len()).collect();
    counts.sort_unstable();
    let at = |permille: usize| counts[permille * counts.len() / 1000];
    let percentiles = [at(0), at(50), at(100), at(500), at(900), at(940), at(999)];
    println!("faults in a run, 0 5 10 50 90 94 99.9 %: {percentiles:?}");
    assert!(at(50) <= 5 && at(100) >= 5 && (9..=17).contains(&at(500)) && at(900) <= 25 && at(970) >= 40);
    assert!(at(999) <= 400);
}

#[test]
fn every_kind_occurs_and_each_is_left_out_at_least_half_of_the_time() {
    let mut runs = BTreeMap::new();
    for schedule in drawn() {
        let names: std::collections::BTreeSet<_> =
            schedule.faults.iter().map(|fault| fault.kind.name()).collect();
        names
            .into_iter()
            .for_each(|name| *runs.entry(name).or_insert(0) += 1);
    }
    println!("{runs:?}");
    for name in FaultKind::NAMES {
        let share = share(runs.get(name).copied().unwrap_or(0));
        assert!((0.05..0.53).contains(&share), "{name} in {share} of the runs");
    }
}

#[test]
fn the_clusters_differ() {
    let runs: Vec<_> = drawn().collect();
    let count = |holds: fn(&Schedule) -> bool| share(runs.iter().filter(|run| holds(run)).count());
    let near = |share: f64, expected: f64| (share - expected).abs() < 0.04;
    assert!(near(count(|run| run.crypto == Crypto::Real), 1.0 / 16.0));
    assert!(near(count(|run| run.fast), 0.5));
    assert!(near(count(|run| run.by_name), 0.75));
    assert!(near(count(|run| run.observers > 0), 0.25));
    assert!(near(count(|run| run.cluster_size == 0), 0.125));
    assert!(near(count(|run| run.workload == Workload::default()), 0.125));
    assert!(near(count(|run| run.workload.messages >= 600), 0.125));
    for hosts in 3..=7 {
        assert!(near(
            share(runs.iter().filter(|run| run.hosts == hosts).count()),
            0.2
        ));
    }
}

/// The founding assumption: at every instant at most so many voters live as there are seats, and one more in a surge.
#[test]
fn never_more_voters_than_seats() {
    for schedule in drawn() {
        let voters = schedule.hosts - schedule.observers;
        assert!(voters >= 1);
        assert!(schedule.cluster_size == 0 || usize::from(schedule.cluster_size) == voters);
        let surges: Vec<_> = of(&schedule, "surge").collect();
        assert!(surges.is_empty() || schedule.cluster_size == 0 || schedule.surge > 0);
        // Who leaves after one is gone before the next one.
        let apart = |two: &[&Fault]| two[0].ends() + LEAVING < two[1].at;
        assert!(surges.windows(2).all(apart));
        assert!(schedule.surge <= schedule.most_surge());
    }
}

/// Beyond the assumption there are always more voters than seats.
#[test]
fn more_voters_than_seats_where_that_is_asked_for() {
    let options = Draw {
        hosts: 2..=7,
        beyond: true,
        ..Draw::default()
    };
    let mut apart = 0;
    for seed in 0..300 {
        let schedule = Schedule::draw(seed, &options);
        assert_eq!(schedule.validate(), Ok(()));
        let voters = schedule.hosts - schedule.observers;
        let seats = usize::from(schedule.cluster_size);
        assert!(voters == 1 || (1..voters).contains(&seats), "{schedule}");
        let first = of(&schedule, "split").next();
        apart += usize::from(first.is_some_and(|split| split.at.is_zero()));
    }
    assert!(apart > 150, "{apart}");
}

#[test]
fn groups_are_drawn_with_all_their_settings() {
    let runs: Vec<_> = drawn().filter(|run| run.cluster_size > 0).collect();
    let count = |holds: fn(&Schedule) -> bool| {
        runs.iter().filter(|run| holds(run)).count() as f64 / runs.len() as f64
    };
    let (short, long) = (
        count(|run| run.max_ttl <= Duration::from_secs(10)),
        count(|run| run.max_ttl == Duration::from_secs(30)),
    );
    assert!((0.85..0.97).contains(&short) && (short + long - 1.0).abs() < 1e-9);
    assert!((0.4..0.6).contains(&count(|run| run.surge > 0)));
    assert!((0.4..0.6).contains(&count(|run| run.allow_observers)));
    assert!((0.25..0.45).contains(&count(|run| run.quick_seats)));
    assert!((0.8..0.95).contains(&count(|run| run.workload.draws > 0)));
    assert!((0.8..0.95).contains(&count(|run| run.workload.locks > 0)));
    // Some hosts, at least as many as a quorum, crash within half a second.
    let together = |run: &Schedule| {
        let crashes: Vec<_> = of(run, "crash").map(|fault| fault.at).collect();
        let quorum = usize::from(run.cluster_size) / 2 + 1;
        let close = |window: &[Duration]| window[quorum - 1] - window[0] <= Duration::from_millis(500);
        quorum > 1 && crashes.windows(quorum).any(close)
    };
    assert!(runs.iter().filter(|run| together(run)).count() > 60);
}

fn of<'a>(schedule: &'a Schedule, name: &'a str) -> impl Iterator<Item = &'a Fault> {
    schedule
        .faults
        .iter()
        .filter(move |fault| fault.kind.name() == name)
}

#[test]
fn nothing_happens_twice_to_one_process_at_a_time() {
    let mut pairs = 0;
    for schedule in drawn() {
        let stopping: Vec<_> = schedule
            .faults
            .iter()
            .filter(|fault| stops(&fault.kind).is_some())
            .collect();
        for (i, a) in stopping.iter().enumerate() {
            for b in &stopping[..i] {
                let (Some(hosts), Some(others)) = (stops(&a.kind), stops(&b.kind)) else {
                    continue;
                };
                let shared = (0..7)
                    .map(Host)
                    .any(|host| hosts.contains(host) && others.contains(host));
                if shared {
                    pairs += 1;
                    assert!(a.ends() < b.at || b.ends() < a.at, "{a} and {b}");
                }
            }
        }
    }
    assert!(pairs > 1000, "{pairs}");
}

#[test]
fn each_step_of_a_rotation_reaches_everybody() {
    let mut rotations = 0;
    for schedule in drawn() {
        for rotation in of(&schedule, "rotate") {
            rotations += 1;
            assert!(rotation.lasting / 3 >= draws::ROTATION_STEP);
            for sleeper in of(&schedule, "pause")
                .chain(of(&schedule, "freeze"))
                .chain(of(&schedule, "rotate"))
            {
                let apart = sleeper.ends() < rotation.at || rotation.ends() < sleeper.at;
                assert!(apart || sleeper == rotation, "{rotation} and {sleeper}");
            }
        }
    }
    assert!(rotations > 100, "{rotations}");
}

#[test]
fn clocks_are_drawn_inside_and_beyond_the_stated_bound() {
    let (mut inside, mut edge, mut beyond) = (0, 0, 0);
    for fault in drawn().flat_map(|schedule| schedule.faults) {
        if let FaultKind::Drift { ppm, .. } = fault.kind {
            match ppm.abs() {
                0..10_000 => inside += 1,
                10_000 => edge += 1,
                _ => beyond += 1,
            }
        }
    }
    assert!(
        inside > 200 && edge > 50 && beyond > 200,
        "{inside} {edge} {beyond}"
    );
}

#[test]
fn draws_stay_in_their_range() {
    let mut random = Random::new(1, "test", 0);
    for _ in 0..1000 {
        assert!((5..=9).contains(&random.between(5, 9)));
        assert!((5..=1000).contains(&random.scale(5, 1000)));
        assert!((3..=3).contains(&random.scale(3, 3)));
    }
    assert_eq!(random.between(7, 7), 7);
    assert_eq!(random.below(0), 0);
    // Each doubling from 1 to 1,024 is about equally likely.
    let small = (0..1000).filter(|_| random.scale(1, 1 << 20) < 1 << 10).count();
    assert!((400..600).contains(&small), "{small}");
}
