//! What lies between the nodes.

use quorate_core::{Duration, Instant};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// How datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The shortest delay. Each datagram draws its own, so that datagrams overtake each other.
    pub min_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// How many of a thousand datagrams are lost.
    pub loss_permille: u16,
    /// How many of a thousand datagrams arrive twice.
    pub duplicate_permille: u16,
}

impl Default for Link {
    /// A quiet local network: 100 to 300 microseconds, nothing lost.
    fn default() -> Self {
        Self {
            min_delay: Duration::from_micros(100),
            max_delay: Duration::from_micros(300),
            loss_permille: 0,
            duplicate_permille: 0,
        }
    }
}

impl Link {
    /// Returns this link with another loss, in thousandths.
    #[must_use]
    pub const fn loss(self, loss_permille: u16) -> Self {
        Self {
            loss_permille,
            ..self
        }
    }

    /// Returns this link with another share of duplicates, in thousandths.
    #[must_use]
    pub const fn duplicates(self, duplicate_permille: u16) -> Self {
        Self {
            duplicate_permille,
            ..self
        }
    }

    /// Returns this link with other delays.
    #[must_use]
    pub const fn delay(self, min_delay: Duration, max_delay: Duration) -> Self {
        Self {
            min_delay,
            max_delay,
            ..self
        }
    }
}

/// A datagram on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) at: Instant,
    /// Ties are broken by the order of sending.
    pub(crate) number: u64,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for InFlight {}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InFlight {
    /// The earliest comes first out of a max-heap.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The datagrams on their way, and spare buffers.
#[derive(Debug, Default)]
pub(crate) struct Network {
    flying: BinaryHeap<InFlight>,
    spare: Vec<Vec<u8>>,
    sent: u64,
}

impl Network {
    pub(crate) fn send(&mut self, at: Instant, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(payload);
        self.sent += 1;
        self.flying.push(InFlight {
            at,
            number: self.sent,
            from,
            to,
            payload: copy,
        });
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.flying.peek().map(|datagram| datagram.at)
    }

    pub(crate) fn take(&mut self) -> Option<InFlight> {
        self.flying.pop()
    }

    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < 1024 {
            self.spare.push(buffer);
        }
    }
}
