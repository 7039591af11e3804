//! Faults for tests.

use alloc::boxed::Box;
use core::fmt;
use core::net::SocketAddr;

type Decide = dyn FnMut(SocketAddr, &[u8]) -> bool + Send;

/// Decides about each outgoing datagram. Exists only with the feature `testing`.
pub struct Filter(Box<Decide>);

impl Filter {
    /// Sends a datagram only if `f` says so.
    pub fn new(f: impl FnMut(SocketAddr, &[u8]) -> bool + Send + 'static) -> Self {
        Self(Box::new(f))
    }

    /// Loses each datagram with a probability given in thousandths, the same ones for the same seed.
    pub fn loss(permille: u32, seed: u64) -> Self {
        // splitmix64: any seed will do.
        let mut state = seed;
        Self::new(move |_, _| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % 1000 >= u64::from(permille)
        })
    }

    /// Returns whether a datagram is sent. It decides once for each: to be asked in the order of sending.
    pub fn passes(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        (self.0)(to, datagram)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_about_what_was_asked_for() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let passed = |permille| {
            let mut filter = Filter::loss(permille, 42);
            (0..10_000).filter(|_| filter.passes(addr, b"x")).count()
        };
        assert_eq!((passed(0), passed(1000)), (10_000, 0));
        assert!((8_800..9_200).contains(&passed(100)));
    }
}
