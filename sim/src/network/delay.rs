//! Draws of delays, in whole numbers: the same on every machine.

use crate::fault::Delay;
use quorate_core::Duration;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

/// Draws a whole number below `bound`, which is not 0. The bias is below one in 2^32 for every bound in use.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// Draws whether something happens that happens `permille` times in a thousand.
pub(crate) fn permille(rng: &mut ChaCha8Rng, permille: u16) -> bool {
    permille > 0 && below(rng, 1_000) < u64::from(permille)
}

pub(crate) fn between(rng: &mut ChaCha8Rng, min: Duration, max: Duration) -> Duration {
    min + fraction(rng, max.saturating_sub(min))
}

fn fraction(rng: &mut ChaCha8Rng, of: Duration) -> Duration {
    let nanos = u64::try_from(of.as_nanos()).unwrap_or(u64::MAX - 1);
    Duration::from_nanos(below(rng, nanos.saturating_add(1)))
}

/// Draws a delay. `slow` is the state of [`Delay::Bursts`]: whether the last datagram of this way was in a burst.
pub(crate) fn draw(rng: &mut ChaCha8Rng, delay: Delay, slow: &mut bool) -> Duration {
    match delay {
        Delay::Constant(delay) => delay,
        Delay::Uniform(min, max) => between(rng, min, max),
        Delay::Exponential(mean) => exponential(rng, mean),
        Delay::LongTail(typical) => {
            // Pareto of shape 1: a uniform draw u gives typical / u.
            let u = 1 + below(rng, 10_000);
            (typical * 10_000 / u32::try_from(u).unwrap_or(10_000)).min(typical * 100)
        }
        Delay::Bursts(fast, full) => {
            // Stretches of 32 datagrams on average, one in four of them slow.
            let change = if *slow { 32 } else { 96 };
            if below(rng, change) == 0 {
                *slow = !*slow;
            }
            let delay = if *slow { full } else { fast };
            delay / 2 + fraction(rng, delay / 2)
        }
    }
}

/// Draws from the exponential distribution by von Neumann's method (1951, "Various techniques used in connection with
/// random digits", section 6), which needs comparisons only: the whole part counts the rejected rounds.
fn exponential(rng: &mut ChaCha8Rng, mean: Duration) -> Duration {
    for whole in 0..20_u32 {
        let first = rng.next_u32();
        let mut last = first;
        let mut run = 1_u32;
        loop {
            let next = rng.next_u32();
            if next >= last {
                break;
            }
            last = next;
            run += 1;
        }
        if run % 2 == 1 {
            let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
            let part = u64::try_from((u128::from(nanos) * u128::from(first)) >> 32).unwrap_or(u64::MAX);
            return mean * whole + Duration::from_nanos(part);
        }
    }
    mean * 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng as _;

    const MS: Duration = Duration::from_millis(1);

    fn draws(delay: Delay) -> Vec<Duration> {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut slow = false;
        let mut draws: Vec<_> = (0..20_000).map(|_| draw(&mut rng, delay, &mut slow)).collect();
        draws.sort();
        draws
    }

    #[test]
    fn each_distribution_has_its_shape() {
        assert!(draws(Delay::Constant(MS)).iter().all(|&delay| delay == MS));
        let uniform = draws(Delay::Uniform(MS, 3 * MS));
        assert!(uniform[0] >= MS && uniform[0] < MS * 11 / 10);
        assert!(uniform[19_999] <= 3 * MS && uniform[19_999] > MS * 29 / 10);
        let exponential = draws(Delay::Exponential(10 * MS));
        let mean = exponential.iter().sum::<Duration>() / 20_000;
        assert!((9 * MS..11 * MS).contains(&mean), "{mean:?}");
        let median = exponential[10_000];
        assert!((65 * MS / 10..73 * MS / 10).contains(&median), "{median:?}");
        let tail = draws(Delay::LongTail(MS));
        assert!(tail[10_000] < 3 * MS && tail[19_900] > 50 * MS && tail[19_999] <= 100 * MS);
        let bursts = draws(Delay::Bursts(MS, 100 * MS));
        let slow = bursts.iter().filter(|&&delay| delay >= 50 * MS).count();
        assert!((3_000..7_500).contains(&slow), "{slow}");
    }
}
