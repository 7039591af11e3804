//! What is measured: each trial is one run of one seed.

mod groups;
mod locks;
mod membership;

use quorate_sim::{Duration, config};

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// How long it took; `None` if it did not happen within the bound.
    pub(super) recovered: Option<Duration>,
    /// It recovered, but not as it must: a group was lost that had a quorum, tokens did not rise, or somebody had a lock in
    /// which another one still believed.
    pub(super) wrong: bool,
    /// For rates: how often it happened, and within how many node-hours.
    pub(super) count: u64,
    pub(super) node_hours: f64,
}

/// One question.
pub(super) struct Trial {
    pub(super) name: String,
    /// Within which time it must happen.
    pub(super) bound: Duration,
    pub(super) run: Box<dyn Fn(u64) -> Outcome + Sync>,
}

impl Trial {
    fn new(name: impl Into<String>, bound: Duration, run: impl Fn(u64) -> Outcome + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            bound,
            run: Box::new(run),
        }
    }
}

/// Returns everything that can be measured.
pub(super) fn rows() -> Vec<Trial> {
    let mut rows = membership::rows();
    rows.extend(groups::rows());
    rows.extend(locks::rows());
    rows
}

/// So many times the silence after which a member has failed: for what needs no more than noticing it.
fn silences(count: u32) -> Duration {
    config().heartbeat_timeout * count
}

/// The bound of recovery of the simulator.
fn recovery() -> Duration {
    quorate_sim::recovery_bound(&config())
}
