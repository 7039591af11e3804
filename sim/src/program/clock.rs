//! A host's steady clock, for whoever looks at it from anywhere.

use crate::clock::Clock;
use quorate::SteadyClock;
use quorate_core::Instant;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The true time, and how a host's clock follows from it.
#[derive(Clone, Debug)]
pub(crate) struct HostClock {
    now: Arc<AtomicU64>,
    clock: Arc<Mutex<Clock>>,
}

impl HostClock {
    pub(crate) const fn new(now: Arc<AtomicU64>, clock: Arc<Mutex<Clock>>) -> Self {
        Self { now, clock }
    }

    pub(crate) fn true_time(&self) -> Instant {
        Instant::from_nanos(self.now.load(Ordering::Relaxed))
    }
}

impl SteadyClock for HostClock {
    fn now(&self) -> Instant {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.read(self.true_time())
    }
}
