//! How datagrams travel where no fault says otherwise.

use quorate_core::Duration;

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
