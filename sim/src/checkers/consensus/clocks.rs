//! Which hosts count time as the bound on drift promises.

use crate::checkers::slot;
use crate::fault::{FaultKind, Host};
use quorate_core::Instant;
use std::collections::BTreeMap;

/// The clocks of all hosts.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// The faults that go on, by number.
    wrong: BTreeMap<usize, Host>,
    /// When each clock was last set right.
    until: Vec<Instant>,
}

impl Clocks {
    /// A fault begins. `bound` is the bound on drift, in thousandths.
    pub(super) fn began(&mut self, now: Instant, number: usize, kind: FaultKind, bound: u16) {
        match kind {
            FaultKind::Drift { host, ppm } if ppm.unsigned_abs() > u32::from(bound) * 1000 => {
                self.wrong.insert(number, host);
            }
            FaultKind::Freeze { host } => {
                self.wrong.insert(number, host);
            }
            FaultKind::Jump { host, .. } => *slot(&mut self.until, host.0) = now,
            _ => {}
        }
    }

    pub(super) fn ended(&mut self, now: Instant, number: usize) {
        if let Some(host) = self.wrong.remove(&number) {
            *slot(&mut self.until, host.0) = now;
        }
    }

    /// Whether a host's clock has been inside the bound since then.
    pub(super) fn fine_since(&self, host: Host, since: Instant) -> bool {
        let wrong = self.wrong.values().any(|&wrong| wrong == host);
        !wrong && self.until.get(host.0).is_none_or(|&until| until < since)
    }
}
