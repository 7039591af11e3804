//! The replay window of a session (RFC 6479): which of the newest counters were received.

/// How many counters behind the newest one are still told apart.
pub(super) const WINDOW: u64 = 2048;
/// One word more than the window has, so that a word is cleared only when all of it has left the window.
const WORDS: usize = (WINDOW / 64) as usize + 1;

/// A ring of bits, one for each counter.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Window {
    /// One more than the newest counter that was received. The first field: it lies with what else a datagram touches.
    next: u64,
    bits: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bits: [0; WORDS],
            next: 0,
        }
    }
}

impl Window {
    /// Returns the place of a counter: an index below `WORDS` and a mask.
    const fn place(counter: u64) -> (usize, u64) {
        ((counter / 64 % WORDS as u64) as usize, 1 << (counter % 64))
    }

    /// Returns whether this counter is neither too old nor received before. Changes nothing: the datagram is not
    /// authenticated yet.
    pub(super) const fn check(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        if counter.saturating_add(WINDOW) < self.next {
            return false;
        }
        let (word, mask) = Self::place(counter);
        self.bits[word] & mask == 0
    }

    /// Records the counter of an authenticated datagram that `check` let through. Returns whether it is the newest.
    pub(super) fn update(&mut self, counter: u64) -> bool {
        let newest = counter >= self.next;
        if newest {
            // Words between the old newest and the new one hold counters that left the window.
            let last = if self.next == 0 { 0 } else { (self.next - 1) / 64 };
            let steps = (counter / 64).saturating_sub(last).min(WORDS as u64);
            for step in 0..steps {
                self.bits[((counter / 64 - step) % WORDS as u64) as usize] = 0;
            }
            self.next = counter.saturating_add(1);
        }
        let (word, mask) = Self::place(counter);
        self.bits[word] |= mask;
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use quickcheck::quickcheck;

    quickcheck! {
        fn agrees_with_a_set(steps: Vec<(bool, u16)>) -> bool {
            let (mut window, mut seen, mut newest) = (Window::default(), BTreeSet::new(), None::<u64>);
            let mut base = 0_u64;
            steps.iter().all(|&(jump, step)| {
                // Steps around the present position, now and then far ahead.
                if jump {
                    base += u64::from(step) % 5000;
                }
                let counter = base.saturating_sub(u64::from(step) % 2300);
                let fresh = !seen.contains(&counter) && newest.is_none_or(|n| counter + WINDOW > n);
                let agrees = window.check(counter) == fresh;
                if fresh {
                    let is_newest = newest.is_none_or(|n| counter > n);
                    assert_eq!(window.update(counter), is_newest);
                    seen.insert(counter);
                    newest = newest.max(Some(counter));
                }
                agrees
            })
        }
    }

    #[test]
    fn the_edges_of_the_window() {
        let mut window = Window::default();
        assert!(window.update(0));
        assert!(!window.check(0));
        assert!(window.update(WINDOW));
        assert!(!window.check(0));
        assert!(window.check(1));
        assert!(!window.update(1));
        assert!(!window.check(1));
        assert!(window.update(1 << 40));
        assert!(window.check((1 << 40) - WINDOW + 1));
        assert!(!window.check((1 << 40) - WINDOW));
    }
}
