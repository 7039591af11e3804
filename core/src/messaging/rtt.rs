//! Round-trip time and the retransmission timeout (RFC 6298), in integer nanoseconds.

use super::ACK_DELAY;
use crate::time::Duration;

/// The timeout before anything was measured, and the most it ever is.
const INITIAL: Duration = Duration::from_millis(250);
const MAX: Duration = Duration::from_secs(2);
/// The least margin above the smoothed round trip: the timers of runtimes are no finer (RFC 9002, section 6.1.2).
const MARGIN: u64 = 500_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Rtt {
    /// Smoothed round-trip time and its variation, once measured.
    measured: Option<(u64, u64)>,
    /// The shortest round trip of the last hundred or so.
    least: u64,
}

impl Rtt {
    /// Takes one measurement (RFC 6298, section 2.2 and 2.3). The caller leaves out what was sent more than once (Karn).
    pub(super) fn sample(&mut self, rtt: Duration) {
        // Longer than the longest timeout is as good as that, and keeps the sums below far from overflow.
        let rtt = u64::try_from(rtt.min(MAX).as_nanos()).unwrap_or(u64::MAX / 8);
        // Rises by a hundredth with each sample, or a path that grew longer would never be believed.
        self.least = match self.measured {
            None => rtt,
            Some(_) => rtt.min(self.least + self.least / 128),
        };
        self.measured = Some(match self.measured {
            None => (rtt, rtt / 2),
            Some((smoothed, variation)) => (
                (smoothed * 7 + rtt) / 8,
                (variation * 3 + smoothed.abs_diff(rtt)) / 4,
            ),
        });
    }

    /// Returns how soon after a transmission its acknowledgement can be expected, at the earliest.
    pub(super) const fn soonest(&self) -> Duration {
        Duration::from_nanos(self.least)
    }

    /// Returns the timeout after `backoff` expiries in a row. The peer may delay its acknowledgement, so that delay is
    /// added (as RFC 9002, section 6.2.1, does).
    pub(super) fn timeout(&self, backoff: u32) -> Duration {
        let base = match self.measured {
            None => INITIAL,
            Some((smoothed, variation)) => {
                Duration::from_nanos(smoothed + MARGIN.max(variation * 4)) + ACK_DELAY
            }
        };
        base.saturating_mul(1 << backoff.min(10)).min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_measurements_and_doubles_up_to_two_seconds() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(0), INITIAL);
        assert_eq!(rtt.timeout(1), INITIAL * 2);
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(1));
        }
        assert_eq!(rtt.timeout(0).as_micros(), 2000);
        assert_eq!(rtt.timeout(40), MAX);
        rtt.sample(Duration::MAX);
        assert!(rtt.timeout(0) > Duration::from_millis(500));
    }
}
