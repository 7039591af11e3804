use super::*;

fn collect(seeds: Seeds, jobs: usize, until: u64) -> Vec<(u64, u64)> {
    let mut got = Vec::new();
    // Later seeds of a stretch are done first, as far as threads run at the same time at all.
    let work = |seed: u64| (0..(9 - seed % 10) * 1_000).fold(seed, |a, b| std::hint::black_box(a ^ b ^ b));
    let each = |seed, result| {
        got.push((seed, result));
        Ok(match seed < until {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    };
    in_order(seeds, jobs, work, each).expect("nothing fails");
    got
}

#[test]
fn results_come_in_the_order_of_seeds_whatever_the_jobs() {
    let all: Vec<_> = (5..=400).map(|seed| (seed, seed)).collect();
    for jobs in [1, 2, 3, 16] {
        assert_eq!(
            collect(Seeds { first: 5, last: 400 }, jobs, u64::MAX),
            all,
            "{jobs} jobs"
        );
    }
}

#[test]
fn more_jobs_than_seeds_and_the_last_seed_of_all() {
    let last = u64::MAX;
    assert_eq!(collect(Seeds { first: last, last }, 8, 0), [(last, last)]);
}

#[test]
fn nothing_comes_after_a_break() {
    for jobs in [1, 4] {
        let got = collect(Seeds::from(0, 10_000), jobs, 7);
        assert_eq!(
            got.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(),
            (0..=7).collect::<Vec<_>>()
        );
    }
}

#[test]
fn an_error_ends_the_batch() {
    let mut seen = 0;
    let result = in_order(
        Seeds::from(0, 1_000),
        3,
        |seed| seed,
        |seed, _| {
            seen += 1;
            anyhow::ensure!(seed < 4, "enough");
            Ok(ControlFlow::Continue(()))
        },
    );
    assert_eq!(result.unwrap_err().to_string(), "enough");
    assert_eq!(seen, 5);
}
