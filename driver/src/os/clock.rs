//! The system's clocks.

use crate::io::SteadyClock;
use quorate_core::{Duration, Instant, WallTime};
use std::time::SystemTime;

/// A steady clock that goes on while the machine is suspended.
///
/// | system | clock |
/// |---|---|
/// | Linux, Android | `CLOCK_BOOTTIME` |
/// | macOS, iOS | `CLOCK_MONOTONIC`, which there goes on during sleep |
/// | other Unix | `CLOCK_MONOTONIC`; **stands still** while suspended on most of them |
/// | Windows | the performance counter (std's `Instant`), which goes on |
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    #[cfg(not(unix))]
    origin: std::time::Instant,
}

impl Clock {
    /// Opens the clock.
    #[allow(clippy::new_without_default, reason = "where it has an origin, that is now")]
    pub fn new() -> Self {
        Self {
            #[cfg(not(unix))]
            origin: std::time::Instant::now(),
        }
    }

    /// Reads it.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.since_origin().as_nanos()).unwrap_or(u64::MAX))
    }

    #[cfg(unix)]
    fn since_origin(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};

        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: ClockId = ClockId::Monotonic;

        let time = clock_gettime(CLOCK);
        // Neither is ever negative on a clock that counts from the boot.
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }

    #[cfg(not(unix))]
    fn since_origin(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Reads the wall clock.
    pub fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let micros = since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        WallTime::from_unix_micros(micros)
    }
}

impl SteadyClock for Clock {
    fn now(&self) -> Instant {
        Self::now(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_as_fast_as_the_system_says() {
        let clock = Clock::new();
        let (std_start, start) = (std::time::Instant::now(), clock.now());
        std::thread::sleep(Duration::from_millis(20));
        let (passed, std_passed) = (clock.now().saturating_since(start), std_start.elapsed());
        assert!(passed >= Duration::from_millis(20) && passed <= std_passed + Duration::from_millis(20));
    }

    #[test]
    fn the_wall_clock_is_in_this_age() {
        assert!(Clock::new().wall().as_unix_micros() > 1_700_000_000_000_000);
    }
}
