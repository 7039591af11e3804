//! Randomness: everything is drawn from the 32 bytes handed to `Node::new`.
//!
//! No generator holds those bytes. Each starts from a key derived from them one-way, so that what a generator has in
//! memory tells nothing about any other, and about ephemeral keys least of all.

use crate::crypto::derive;
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroize as _;

/// The purposes that draw random numbers. Each has a stream of its own, so that a new draw in one part does not
/// shift another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Identity = 1,
    Session = 2,
    Discovery = 3,
    Membership = 4,
    Messaging = 5,
    Consensus = 6,
}

/// Spreads a number over 64 bits (the finalizer of SplitMix64: Steele, Lea, Flood 2014). No randomness, and no secrecy.
pub(crate) const fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws that need no secrecy after the fact: jitter, shuffles, indexes, epochs.
#[derive(Clone, Debug)]
pub(crate) struct Rng(ChaCha8Rng);

impl Rng {
    pub(crate) fn new(seed: &[u8; 32], stream: Stream) -> Self {
        Self(ChaCha8Rng::from_seed(derive(
            seed,
            "quorate v1 stream",
            &[stream as u8],
        )))
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Draws uniformly from `0..bound`; 0 if `bound` is 0. (Lemire 2019, without the rejection step: the bias is
    /// below 2^-32 for every bound used here.)
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// Shuffles in place (Fisher and Yates, in Durstenfeld's form).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// The generator of ephemeral keys. It replaces its own key after every draw, so that keys drawn earlier cannot be
/// recomputed from a later look at its memory (Bernstein, "Fast-key-erasure random-number generators", 2017).
pub(crate) struct KeyRng([u8; 32]);

impl KeyRng {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self(derive(seed, "quorate v1 ephemeral keys", &[]))
    }

    /// Draws 32 secret bytes.
    pub(crate) fn draw(&mut self) -> [u8; 32] {
        let mut rng = ChaCha20Rng::from_seed(self.0);
        self.0.zeroize();
        rng.fill_bytes(&mut self.0);
        let mut out = [0; 32];
        rng.fill_bytes(&mut out);
        out
    }
}

impl Drop for KeyRng {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_repeatable() {
        let seed = [7; 32];
        let a: [u8; 16] = Rng::new(&seed, Stream::Session).bytes();
        let b: [u8; 16] = Rng::new(&seed, Stream::Session).bytes();
        let c: [u8; 16] = Rng::new(&seed, Stream::Membership).bytes();
        assert_eq!(a, b);
        assert_ne!(a, c);
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::new(&[1; 32], Stream::Membership);
        assert_eq!(rng.below(0), 0);
        for bound in 1..100 {
            assert!(rng.below(bound) < bound);
        }
    }

    #[test]
    fn key_rng_never_repeats_and_forgets_its_past() {
        let mut rng = KeyRng::new(&[9; 32]);
        assert_ne!(rng.0, [9; 32], "the seed itself is not kept");
        let before = rng.0;
        let (a, b) = (rng.draw(), rng.draw());
        assert_ne!(a, b);
        assert_ne!(rng.0, before);
    }
}
