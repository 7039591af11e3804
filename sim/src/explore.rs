//! Exhaustive search: every state that a few replicas can reach within bounds, over their real code.
//!
//! **A state** is the clock, one process on each host (its [`Replica`](quorate_core::consensus::Replica), the requests
//! for tokens that it has under way, its [`Client`](quorate_core::locks::Client), what it believes in), the messages that each may read, and what really
//! happened so far, as far as it is needed to judge what happens next. Each part is kept once and named by a number,
//! so that a state is eleven numbers, and states are compared exactly: there are no odds of a collision.
//!
//! **A step** is whatever a process can do by itself, at any moment (reading a message, standing, founding, campaigning,
//! beating, opening, asking for a token, changing seats, abandoning); a crash, after which a fresh process starts on the
//! host; a tick of the clock. No timer is modelled but the grace, the leases and what follows from them: leaders read
//! the clock as fast as it may be, holders as slow, and do what is due at any moment after it is.
//!
//! **The network** is a set of facts: what was sent may be read later, again, or never. Three reductions:
//! - A message that can never again matter to its reader is forgotten (`Process::is_done_with`).
//! - A message that changes nothing about its reader is read at once, and what it answers is sent (`Space::echo`). That
//!   adds facts and takes nothing away, so every other order can still happen.
//! - After that, some need not be read again (`Process::has_heard`, which says what this leaves out).
//!
//! Breadth first, so that what is found is as short as can be.

mod config;
mod history;
mod locks;
mod pool;
mod process;
#[cfg(feature = "planted-bugs")]
mod rules;
mod state;

pub use config::{Beginning, Config, Wall, configs};
#[cfg(feature = "planted-bugs")]
pub use rules::{config_for, rules};

use pool::Pool;
use state::{Space, State, Step};

/// What a search found out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many different states were reached.
    pub states: usize,
    /// How many steps lead to the last of them at most.
    pub depth: usize,
    /// Whether nothing is left inside the bounds.
    pub exhausted: bool,
    /// What must hold and did not.
    pub violation: Option<String>,
    /// The steps that led there, for people.
    pub trace: Vec<String>,
}

/// Searches all that can happen within the bounds, until something does not hold that must. Asks between two levels
/// whether to stop.
pub fn explore(config: &Config, mut stop: impl FnMut() -> bool) -> Report {
    let mut space = Space::new(config);
    let mut report = Report::default();
    let mut states = Pool::default();
    let mut script = Vec::new();
    let first = match space.scripted(&mut script) {
        Ok(first) => first,
        Err(violation) => {
            (report.violation, report.trace) = (Some(violation), script);
            return report;
        }
    };
    states.number(first);
    let mut parents = vec![0_u32];
    let mut steps: Vec<Step> = Vec::new();
    let (mut place, mut end_of_level) = (0, 1);
    while place < states.len() {
        if place == end_of_level {
            end_of_level = states.len();
            report.depth += 1;
            if report.depth >= config.steps {
                break;
            }
            if stop() {
                report.states = states.len();
                return report;
            }
        }
        if states.len() >= config.limit {
            report.states = states.len();
            return report;
        }
        let state: State = *states.get(place as u32);
        space.steps(&state, &mut steps);
        for &step in &steps {
            match space.take(&state, step) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    if states.number(next) as usize == parents.len() {
                        parents.push(place as u32);
                    }
                }
                Err(violation) => {
                    report.trace = script;
                    report
                        .trace
                        .extend(trace(&mut space, &states, &parents, place as u32));
                    report.trace.push(space.describe(&state, step));
                    report.violation = Some(violation);
                    report.states = states.len();
                    report.depth += 1;
                    return report;
                }
            }
        }
        place += 1;
    }
    report.states = states.len();
    report.exhausted = true;
    report
}

/// The steps that led to a state. Only its predecessors are known: the step between is looked for again.
fn trace(space: &mut Space, states: &Pool<State>, parents: &[u32], mut place: u32) -> Vec<String> {
    let mut trace = Vec::new();
    let mut steps = Vec::new();
    while place != 0 {
        let parent = parents[place as usize];
        let (before, after) = (*states.get(parent), *states.get(place));
        space.steps(&before, &mut steps);
        let step = steps
            .iter()
            .find(|&&step| space.take(&before, step) == Ok(Some(after)));
        trace.extend(step.map(|&step| space.describe(&before, step)));
        place = parent;
    }
    trace.reverse();
    trace
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests;
