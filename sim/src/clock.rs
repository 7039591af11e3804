//! The steady clock of a host: what it shows, as a function of true time.

use quorate_core::{Duration, Instant};

/// Parts of a billion: the rate of a clock that is right.
const TRUE_RATE: u64 = 1_000_000_000;

/// A clock that is right until told otherwise. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// At this true time it showed `shown`, and since then it runs at `rate` billionths of true time.
    since: Instant,
    shown: Instant,
    rate: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            since: Instant::ZERO,
            shown: Instant::ZERO,
            rate: TRUE_RATE,
        }
    }
}

impl Clock {
    /// Returns what the clock shows at this true time.
    pub(crate) fn read(&self, now: Instant) -> Instant {
        let passed = now.saturating_since(self.since);
        if self.rate == TRUE_RATE {
            return self.shown + passed;
        }
        let shown = passed.as_nanos() * u128::from(self.rate) / u128::from(TRUE_RATE);
        self.shown + Duration::from_nanos(u64::try_from(shown).unwrap_or(u64::MAX))
    }

    /// Returns the first true time at which the clock shows `at` or more; `None` if it stands still before that.
    pub(crate) fn due(&self, at: Instant) -> Option<Instant> {
        let ahead = at.saturating_since(self.shown);
        if self.rate == TRUE_RATE || ahead.is_zero() {
            return Some(self.since + ahead);
        }
        let passed = (ahead.as_nanos() * u128::from(TRUE_RATE)).div_ceil(u128::from(self.rate.max(1)));
        (self.rate > 0).then(|| self.since + Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// Changes the rate from now on: millionths more or less than right; `None` stops the clock.
    pub(crate) fn set_rate(&mut self, now: Instant, ppm: Option<i32>) {
        let rate = ppm.map_or(0, |ppm| {
            // At least a thousandth of the right rate: only `None` stops it.
            (TRUE_RATE as i64 + i64::from(ppm) * 1_000).max(TRUE_RATE as i64 / 1_000) as u64
        });
        *self = Self {
            since: now,
            shown: self.read(now),
            rate,
        };
    }

    /// Moves the clock ahead.
    pub(crate) fn jump(&mut self, by: Duration) {
        self.shown += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn it_is_right_until_told_otherwise_and_goes_on_from_what_it_showed() {
        let mut clock = Clock::default();
        assert_eq!(clock.read(ms(5)), ms(5));
        clock.set_rate(ms(1_000), Some(500_000));
        assert_eq!(clock.read(ms(1_000)), ms(1_000));
        assert_eq!(clock.read(ms(3_000)), ms(4_000));
        clock.jump(Duration::from_secs(1));
        assert_eq!(clock.read(ms(3_000)), ms(5_000));
        clock.set_rate(ms(3_000), None);
        assert_eq!(clock.read(ms(9_000)), ms(5_000));
        assert_eq!(clock.due(ms(5_001)), None);
        assert!(clock.due(ms(5_000)).is_some_and(|due| due <= ms(9_000)));
        clock.set_rate(ms(9_000), Some(0));
        assert_eq!(clock.read(ms(9_500)), ms(5_500));
    }

    #[test]
    fn it_shows_the_time_when_it_is_due_and_not_a_nanosecond_before() {
        for ppm in [-999_000, -10_000, -7, 0, 3, 10_000, 777_777] {
            let mut clock = Clock::default();
            clock.set_rate(ms(17), Some(ppm));
            for ahead in [1, 999, 1_000_003, 5_000_000_007] {
                let at = Instant::from_nanos(ms(17).as_nanos() + ahead);
                let due = clock.due(at).unwrap();
                assert!(clock.read(due) >= at, "{ppm} ppm, {ahead} ns ahead");
                let before = Instant::from_nanos(due.as_nanos() - 1);
                assert!(clock.read(before) < at, "{ppm} ppm, {ahead} ns ahead");
            }
        }
    }
}
