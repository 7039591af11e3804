use super::*;
use crate::fault::FaultKind;
use crate::schedule::Draw;
use quickcheck::quickcheck;

fn storm() -> Schedule {
    let storm = (0..)
        .map(|seed| Schedule::draw(seed, &Draw::default()))
        .find(|run| run.faults.len() > 100);
    storm.unwrap()
}

fn names(schedule: &Schedule) -> Vec<&'static str> {
    schedule.faults.iter().map(|fault| fault.kind.name()).collect()
}

/// Fails where a crash happens while datagrams are lost, both at least for a second, among three hosts or more.
fn crash_under_loss(schedule: &Schedule) -> bool {
    let long = |name: &'static str| {
        let second = Duration::from_secs(1);
        schedule
            .faults
            .iter()
            .filter(move |fault| fault.kind.name() == name && fault.lasting >= second)
    };
    let overlap = |a: &Fault, b: &Fault| a.at < b.ends() && b.at < a.ends();
    schedule.hosts >= 3 && long("crash").any(|crash| long("loss").any(|loss| overlap(crash, loss)))
}

#[test]
fn what_fails_for_two_faults_is_shrunk_to_two() {
    let mut shrunk = 0;
    for schedule in (0..3000).map(|seed| Schedule::draw(seed, &Draw::default())) {
        if !crash_under_loss(&schedule) {
            continue;
        }
        shrunk += 1;
        let result = shrink(schedule.clone(), 400, crash_under_loss);
        assert!(crash_under_loss(&result.schedule));
        let mut names = names(&result.schedule);
        names.sort_unstable();
        assert_eq!(names, ["crash", "loss"], "of {}", schedule.seed);
        assert_eq!((result.schedule.hosts, result.schedule.observers), (3, 0));
        assert_eq!(result.schedule.workload, Workload::default());
        // Halved as often as they can be: until they would be too short, or no longer overlap.
        let (left, right) = (result.schedule.faults[0], result.schedule.faults[1]);
        for fault in [left, right] {
            let end = fault.at + fault.lasting / 2;
            let apart = end <= left.at.max(right.at);
            assert!(
                apart || fault.lasting < Duration::from_secs(2),
                "{left} and {right}"
            );
        }
        assert_eq!(result.schedule.chaos, left.ends().max(right.ends()));
        assert!(result.tried <= 400);
    }
    assert!(shrunk > 50, "{shrunk}");
}

#[test]
fn a_storm_becomes_a_few_faults_within_a_small_budget() {
    let schedule = storm();
    let wanted = [0, 40, 80].map(|index| schedule.faults[index]);
    let fails = |smaller: &Schedule| {
        wanted.iter().all(|fault| {
            smaller
                .faults
                .iter()
                .any(|f| f.kind.name() == fault.kind.name() && f.at == fault.at)
        })
    };
    let result = shrink(schedule.clone(), 200, fails);
    println!(
        "{} faults to {} with {} tries",
        schedule.faults.len(),
        result.schedule.faults.len(),
        result.tried
    );
    assert!(
        result.schedule.faults.len() <= 12,
        "{}",
        result.schedule.faults.len()
    );
    assert_eq!(
        shrink(schedule.clone(), 200, fails),
        result,
        "nothing but the schedule matters"
    );
    assert_eq!(shrink(schedule, 2000, fails).schedule.faults.len(), 3);
}

#[test]
fn a_budget_is_kept() {
    for budget in [0, 1, 17] {
        let mut tried = 0;
        let result = shrink(storm(), budget, |_| {
            tried += 1;
            false
        });
        assert_eq!((result.tried, tried), (budget, budget));
        assert_eq!(result.schedule, storm());
    }
}

#[test]
fn what_always_fails_becomes_almost_nothing() {
    for seed in 0..50 {
        let Shrunk { schedule, tried } = shrink(Schedule::draw(seed, &Draw::default()), 10_000, |_| true);
        let least = Schedule {
            seed,
            hosts: 1,
            by_name: false,
            chaos: Duration::ZERO,
            ..Schedule::default()
        };
        assert_eq!(schedule, least);
        assert!(tried < 200, "{tried}");
    }
}

#[test]
fn seats_go_with_their_voters() {
    let schedule = Schedule {
        hosts: 5,
        observers: 2,
        cluster_size: 3,
        ..Schedule::default()
    };
    for smaller in schedule.simpler() {
        assert!(
            [0, smaller.hosts - smaller.observers].contains(&smaller.cluster_size.into()),
            "{smaller}"
        );
    }
}

#[test]
fn hosts_after_a_removed_one_move_up() {
    let text = "hosts 4\n1s +1s crash host=3\n1s +1s crash host=1\n1s +1s split left=1\n1s +1s split left=0,1,3\n\
                1s +1s loss from=* to=1,2 permille=9\n";
    let schedule: Schedule = text.parse().unwrap();
    let mut without = schedule.clone();
    without.remove_host(1);
    let faults: Vec<_> = without.faults.iter().map(ToString::to_string).collect();
    let expected = [
        "1s +1s crash host=2",
        "1s +1s split left=0,2",
        "1s +1s loss from=* to=1 permille=9",
    ];
    assert_eq!(faults, expected);
    assert_eq!(without.hosts, 3);
}

#[test]
fn a_shorter_chaos_ends_its_faults() {
    let mut schedule: Schedule = "chaos 10s\n1s +9s ring\n5s rebind host=0\n4s +1s ring\n"
        .parse()
        .unwrap();
    schedule.end_chaos(Duration::from_secs(5));
    assert_eq!(schedule.validate(), Ok(()));
    let faults: Vec<_> = schedule.faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["1s +4s ring", "4s +1s ring"]);
}

quickcheck! {
    fn every_proposal_is_valid_and_another(schedule: Schedule) -> bool {
        schedule.simpler().all(|smaller| smaller != schedule && smaller.validate() == Ok(()))
    }

    /// Whatever a predicate says, the search ends by itself, and no proposal is left that would fail.
    fn the_search_ends_at_a_minimum(schedule: Schedule, salt: u64) -> bool {
        let fails = |run: &Schedule| {
            let hash = run.to_string().bytes().fold(salt, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            hash >> 33 & 1 == 0
        };
        let result = shrink(schedule, usize::MAX, fails);
        !result.schedule.simpler().any(|smaller| fails(&smaller))
    }

    /// Every walk along the proposals comes to its end.
    fn every_walk_ends(schedule: Schedule, choices: Vec<usize>) -> bool {
        let mut schedule = schedule;
        for turn in 0..3000 {
            let choice = choices.get(turn % choices.len().max(1)).copied().unwrap_or(turn);
            let steps: Vec<_> = schedule.steps().collect();
            let next = (0..steps.len()).find_map(|i| schedule.after(steps[(choice.wrapping_add(i)) % steps.len()]));
            match next {
                Some(next) => schedule = next,
                None => return true,
            }
        }
        false
    }
}

#[test]
fn faults_keep_what_they_are() {
    let run = storm();
    for smaller in run.simpler() {
        let mut left = run.faults.iter().map(|fault| fault.kind.name());
        let kept = smaller
            .faults
            .iter()
            .all(|fault: &Fault| left.any(|name| name == FaultKind::name(&fault.kind)));
        assert!(kept, "{smaller}");
    }
}
