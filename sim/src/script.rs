//! Scenarios whose steps depend on what happens: each takes a cluster of three through a story about locks, and says
//! what must hold, and within which time. All checkers watch.

mod contention;
mod faults;
mod stage;
mod succession;
mod table;
#[cfg(test)]
mod tests;

use crate::observe::Violation;
use crate::run::{Report, panic_message, report};
use quorate_core::Duration;
use stage::Stage;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Who objects where a script's own expectations are not met.
const BY: &str = "script";

/// For how long nothing may go wrong after the last step.
const CALM: Duration = Duration::from_secs(60);

/// What a script comes to.
///
/// # Errors
/// What must not be, in one sentence for people.
type Done<T = ()> = Result<T, String>;

/// A scenario with steps.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Its name, such as `locks-lost-grant`.
    pub name: &'static str,
    /// What it shows and what must hold, for people.
    pub about: &'static str,
    /// The `cluster_size` of the three.
    cluster_size: u8,
    play: fn(&mut Stage) -> Done,
}

/// Returns all scripts.
pub fn all() -> impl Iterator<Item = Script> {
    let lists = [
        contention::SCRIPTS,
        faults::SCRIPTS,
        table::SCRIPTS,
        succession::SCRIPTS,
    ];
    lists.into_iter().flatten().copied()
}

/// Returns the script of this name.
pub fn find(name: &str) -> Option<Script> {
    all().find(|script| script.name == name)
}

impl Script {
    /// Plays it, with the built-in checkers unless `checkers` is false. What panics counts as a violation.
    pub fn run(&self, checkers: bool) -> Report {
        const SEED: u64 = 0;
        let mut stage = Stage::new(SEED, self.cluster_size, checkers);
        let played = catch_unwind(AssertUnwindSafe(|| {
            stage.settle()?;
            (self.play)(&mut stage)?;
            stage.sim.heal();
            stage.sim.run_for(CALM);
            stage.sim.finish();
            Ok(())
        }));
        let at = stage.sim.world().elapsed();
        let own = match played {
            Ok(Ok(())) => None,
            Ok(Err(what)) => Some(Violation { what, by: BY, at }),
            Err(payload) => Some(Violation {
                what: panic_message(&*payload),
                by: "panic",
                at,
            }),
        };
        // What a checker objects to stops the run, which then fails the script's expectations as well.
        let first = stage.sim.violations().first().cloned();
        report(&stage.sim, SEED, first.or(own))
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Done {
    if holds { Ok(()) } else { Err(what()) }
}
