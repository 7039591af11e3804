//! Whether a run is a function of its seed: it is run twice, and the two are compared.

use quorate_core::Duration;
use std::cell::RefCell;

/// One seed in so many is run twice.
const ONE_IN: u64 = 16;
/// How far apart in a run the moments are that are compared.
const APART: Duration = Duration::from_millis(1);
/// How many of them are.
const MOMENTS: usize = 1 << 20;

thread_local! {
    /// What the run on this thread did so far, while anybody compares.
    static WITNESS: RefCell<Option<Vec<(Duration, u64)>>> = const { RefCell::new(None) };
}

/// Notes how far a run came by this moment, if anybody compares.
pub(crate) fn note(at: Duration, hash: u64) {
    WITNESS.with_borrow_mut(|witness| {
        let Some(moments) = witness else { return };
        if let Some((last, newest)) = moments.last_mut()
            && *last <= at
            && at < *last + APART
        {
            *newest = hash;
        } else if moments.len() < MOMENTS {
            moments.push((at, hash));
        }
    });
}

/// Runs something; for one seed in sixteen twice, if it runs programs. Says what it means if the two differ.
pub(crate) fn run<T>(seed: u64, run: impl Fn() -> T) -> (T, Option<String>) {
    let compared = WITNESS.with_borrow(Option::is_some);
    if compared || !seed.is_multiple_of(ONE_IN) {
        return (run(), None);
    }
    let (result, first) = witnessed(&run);
    if first.is_empty() {
        return (result, None);
    }
    let (_, second) = witnessed(&run);
    let parted = parted(&first, &second);
    (result, parted)
}

fn witnessed<T>(run: impl Fn() -> T) -> (T, Vec<(Duration, u64)>) {
    /// Nobody compares any more, also after a panic.
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            WITNESS.take();
        }
    }
    WITNESS.set(Some(Vec::new()));
    let _over = Over;
    let result = run();
    (result, WITNESS.take().unwrap_or_default())
}

fn parted(first: &[(Duration, u64)], second: &[(Duration, u64)]) -> Option<String> {
    if first == second {
        return None;
    }
    let mut pairs = first.iter().zip(second);
    let same = pairs
        .position(|(a, b)| a != b)
        .unwrap_or(first.len().min(second.len()));
    let after = same.checked_sub(1).map_or(Duration::ZERO, |last| first[last].0);
    let at = [first, second]
        .iter()
        .filter_map(|run| run.get(same))
        .map(|&(at, _)| at)
        .min();
    let at = at.unwrap_or(after).max(after);
    Some(format!(
        "the same seed gave two different runs: they parted between {:.3} s and {:.3} s. Something outside of the simulation \
         decided what a program did: a real clock, real randomness, a thread, or the order of an unordered map",
        after.as_secs_f64(),
        at.as_secs_f64()
    ))
}
