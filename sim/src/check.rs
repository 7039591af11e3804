//! Tests over many seeds.

#[cfg(test)]
mod tests;

use crate::witness;
use std::env;
use std::fmt;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many seeds [`check`] runs unless told otherwise.
const SEEDS: u64 = 100;

/// What a test of one seed comes to: nothing (it panics if it fails), or a result.
pub trait Outcome {
    /// Returns why the test failed.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// Runs a test for many seeds, and stops at the first that fails with a line that runs only that one.
///
/// A test that runs programs ([`Sim::node`](crate::Sim::node)) is run twice for one seed in sixteen, and fails if the two
/// runs differ.
///
/// It runs seeds 0 to 99; with `SIM_SEEDS=500` in the environment 0 to 499, with `SIM_SEEDS=500-999` those, and with
/// `SIM_SEED=0x2a` only that one.
///
/// ```
/// use quorate_sim::{Draw, Duration, Schedule, Sim, check};
///
/// check(|seed| {
///     let chaos = Duration::from_secs(10);
///     let schedule = Schedule::draw(seed, &Draw { chaos, ..Draw::default() });
///     let mut sim = Sim::builder().schedule(schedule).build();
///     sim.run_for(chaos);
///     sim.heal();
///     let whole = |sim: &Sim| sim.apps().all(|(node, _)| sim.node_of(node).members().count() + 1 == sim.apps().count());
///     match sim.run_until(Duration::from_secs(90), whole) {
///         true => Ok(()),
///         false => Err("they did not find each other again"),
///     }
/// });
/// ```
///
/// # Panics
/// If the test fails for a seed, or the environment names no seeds.
pub fn check<R: Outcome>(test: impl Fn(u64) -> R) {
    let seeds = seeds(
        env::var("SIM_SEED").ok().as_deref(),
        env::var("SIM_SEEDS").ok().as_deref(),
    );
    let seeds = seeds.unwrap_or_else(|error| panic!("{error}"));
    for seed in seeds {
        let run = || match catch_unwind(AssertUnwindSafe(|| test(seed).failure())) {
            Ok(failure) => failure,
            Err(payload) => Some(crate::run::panic_message(&*payload)),
        };
        let (failure, parted) = witness::run(seed, run);
        let failure = parted.map(|what| format!("determinism: {what}")).or(failure);
        if let Some(failure) = failure {
            panic!(
                "seed {seed:#x}: {failure}\nto run only this one: {}",
                command(seed)
            );
        }
    }
}

/// Returns the line that runs the present test for one seed. The test harness names its threads after the tests.
fn command(seed: u64) -> String {
    let thread = std::thread::current();
    let package = env::var("CARGO_PKG_NAME").map_or(String::new(), |name| format!(" -p {name}"));
    let test = thread.name().filter(|&name| name != "main");
    let test = test.map_or(String::new(), |name| format!(" {name}"));
    format!("SIM_SEED={seed:#x} cargo test{package}{test}")
}

fn seeds(one: Option<&str>, many: Option<&str>) -> Result<RangeInclusive<u64>, String> {
    if let Some(one) = one {
        let seed =
            number(one).ok_or_else(|| format!("SIM_SEED is '{one}': not a number such as 42 or 0x2a"))?;
        return Ok(seed..=seed);
    }
    let Some(many) = many else {
        return Ok(0..=SEEDS - 1);
    };
    let range = match many.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(many).and_then(|count| Some((0, count.checked_sub(1)?))),
    };
    match range {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err(format!(
            "SIM_SEEDS is '{many}': neither a count of at least 1 nor a range such as 100-199"
        )),
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
