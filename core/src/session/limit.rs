//! Rate limits.

use crate::time::{Duration, Instant};
use alloc::collections::{BTreeSet, VecDeque};
use core::net::SocketAddr;

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): one instant is all its state.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    burst: Duration,
    /// When the bucket would be full again.
    full: Instant,
}

impl Bucket {
    /// Lets through `per_second` things a second, and as many as come in a tenth of a second at once.
    pub(super) fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            burst: (Duration::from_secs(1) / 10).max(interval),
            full: Instant::ZERO,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + self.interval;
        let open = full.saturating_since(now) <= self.burst;
        if open {
            self.full = full;
        }
        open
    }

    /// Returns when the next token will be there.
    pub(super) fn next(&self) -> Instant {
        self.full + self.interval - self.burst
    }
}

/// Lets each address through once in an interval; remembers a bounded number, and lets nobody else through
/// meanwhile.
#[derive(Debug)]
pub(super) struct PerAddress {
    interval: Duration,
    capacity: usize,
    recent: BTreeSet<SocketAddr>,
    /// The same, in the order in which they came.
    order: VecDeque<(Instant, SocketAddr)>,
}

impl PerAddress {
    pub(super) const fn new(interval: Duration, capacity: usize) -> Self {
        Self {
            interval,
            capacity,
            recent: BTreeSet::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn take(&mut self, now: Instant, addr: SocketAddr) -> bool {
        while let Some(&(at, old)) = self.order.front()
            && at + self.interval <= now
        {
            self.order.pop_front();
            self.recent.remove(&old);
        }
        let open = self.order.len() < self.capacity && self.recent.insert(addr);
        if open {
            self.order.push_back((now, addr));
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_its_rate() {
        let mut bucket = Bucket::new(100);
        let mut taken = 0;
        for ms in 0..2000 {
            taken += u32::from(bucket.take(Instant::from_millis(ms)));
        }
        assert!((200..=210).contains(&taken), "{taken}");
        let now = Instant::from_millis(1999);
        while bucket.take(now) {}
        assert!(!bucket.take(bucket.next() - Duration::from_nanos(1)));
        assert!(bucket.take(bucket.next()));
    }

    #[test]
    fn an_address_passes_once_in_an_interval_and_the_table_is_bounded() {
        let mut limit = PerAddress::new(Duration::from_secs(1), 2);
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let at = Instant::from_millis;
        assert!(limit.take(at(0), addr(1)));
        assert!(!limit.take(at(999), addr(1)));
        assert!(limit.take(at(999), addr(2)));
        assert!(!limit.take(at(999), addr(3)));
        assert!(limit.take(at(1000), addr(3)));
        assert!(limit.order.len() <= 2 && limit.recent.len() <= 2);
    }
}
