//! Random draws, every purpose from a stream of its own.

use quorate_core::Duration;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The draws of one purpose. Drawing more or less here shifts nothing elsewhere.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// Returns the draws for the `number`th of what is called `purpose`.
    pub(super) fn new(seed: u64, purpose: &str, number: u64) -> Self {
        // FNV-1a: purposes are named, so that a new one does not renumber the others.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let stream = purpose
            .bytes()
            .chain(number.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, mix);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Draws a number below `bound`; 0 if there is none.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Draws from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Draws from `low` (at least 1) to `high` so that each doubling is about equally likely.
    pub(super) fn scale(&mut self, low: u64, high: u64) -> u64 {
        let doublings = u64::from((high / low).checked_ilog2().unwrap_or(0));
        let base = low << self.below(doublings + 1);
        self.between(base, high.min(base * 2))
    }

    /// Returns true once in `of` times.
    pub(super) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// Draws one of the items.
    ///
    /// # Panics
    /// If there are none.
    pub(super) fn choose<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// As [`Self::between`], in milliseconds.
    pub(super) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// As [`Self::scale`], in milliseconds.
    pub(super) fn scaled_millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.scale(low, high))
    }
}
