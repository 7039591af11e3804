//! Which hosts count time as the bound on drift promises.

use crate::checkers::slot;
use crate::fault::{FaultKind, Host};
use quorate_core::Instant;
use std::collections::BTreeMap;

/// The clocks of all hosts.
#[derive(Debug, Default)]
pub(in crate::checkers) struct Clocks {
    /// The bound on drift, in millionths.
    bound: u32,
    /// The faults that go on, by number: by how many millionths each clock is off, at the most if it stands still.
    off: BTreeMap<usize, (Host, u32)>,
    /// When each clock was last set right.
    until: Vec<Instant>,
}

impl Clocks {
    /// What processes count on, in thousandths. Faults may begin before the first one starts.
    pub(super) fn promise(&mut self, drift_permille: u16) {
        self.bound = u32::from(drift_permille) * 1000;
    }

    pub(super) fn began(&mut self, now: Instant, number: usize, kind: FaultKind) {
        match kind {
            FaultKind::Drift { host, ppm } => {
                self.off.insert(number, (host, ppm.unsigned_abs()));
            }
            FaultKind::Freeze { host } => {
                self.off.insert(number, (host, u32::MAX));
            }
            FaultKind::Jump { host, .. } => *slot(&mut self.until, host.0) = now,
            _ => {}
        }
    }

    pub(super) fn ended(&mut self, now: Instant, number: usize) {
        if let Some((host, off)) = self.off.remove(&number)
            && off > self.bound
        {
            *slot(&mut self.until, host.0) = now;
        }
    }

    /// Whether a host's clock has been inside the bound since then.
    pub(in crate::checkers) fn fine_since(&self, host: Host, since: Instant) -> bool {
        let wrong = self.off.values().any(|&(of, off)| of == host && off > self.bound);
        !wrong && self.until.get(host.0).is_none_or(|&until| until < since)
    }
}
