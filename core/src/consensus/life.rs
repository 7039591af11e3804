//! Who takes part: lives and groups, and how many of them decide.

use super::codec::MAX_PIECE_BYTES;
use crate::config::Config;
use crate::id::NodeId;
use crate::locks::Terms;
use crate::planted::{PlantedBug, planted};
use crate::status::Settings;
use crate::time::Duration;
use core::fmt;

/// One consensus life of a process. A process that abandons its group forgets log and votes, and goes on as the next
/// life; a process that restarts is another process. Memory and life end together, so that nobody ever votes with
/// forgotten memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The process.
    pub node: NodeId,
    /// Counts how often the process has abandoned a group.
    pub number: u32,
}

impl Life {
    /// Returns the first life of a process.
    pub const fn first(node: NodeId) -> Self {
        Self { node, number: 0 }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.node, self.number)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.number)
    }
}

/// Names a group: the life that founded it, and which of that life's foundings it was. Terms inside the group are
/// separate numbers.
///
/// Without a quorum a group that takes over from another one has a higher number than that one as well: the number tells
/// the generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Who founded it.
    pub founder: Life,
    /// Counts the foundings that this life stood for.
    pub founding: u64,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.founder, self.founding)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.founder, self.founding)
    }
}

/// What all members agree on, as far as consensus needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// The number of seats N, 1 to 15; 0 for groups without a quorum.
    pub cluster_size: u8,
    /// How many voters above N may be alive at once.
    pub surge: u8,
    /// Whether observers may take locks.
    pub allow_observers: bool,
    /// How long a group waits before it grants anything: the longest lease, stretched by the bound on clock drift.
    pub grace: Duration,
    /// What leases go by.
    pub terms: Terms,
    /// Entries after which the log is compacted, and how many of them are kept for followers that lag.
    pub log_limit: usize,
    /// Bytes of a snapshot in one message, 1 to 1,024.
    pub snapshot_piece: usize,
}

/// Entries that a log may hold before those that are applied go into a snapshot.
const LOG_LIMIT: usize = 1024;

impl Rules {
    /// Takes what matters from the settings that the cluster agrees on.
    pub(crate) fn of(settings: &Settings, config: &Config) -> Self {
        Self {
            cluster_size: settings.cluster_size,
            surge: settings.surge,
            allow_observers: settings.allow_observers,
            grace: stretched(settings.max_ttl, settings.drift_permille),
            terms: Terms {
                max_ttl: millis(settings.max_ttl),
                drift_permille: settings.drift_permille,
                waiter_ttl: millis(config.waiter_ttl),
                max_waiters: config.max_waiters,
                max_locks: config.max_locks,
                max_bytes: config.max_lock_bytes,
            },
            log_limit: LOG_LIMIT,
            snapshot_piece: MAX_PIECE_BYTES,
        }
    }

    /// Returns whether groups do without a quorum: one leads by itself, and another one takes over when it goes. The best
    /// that can be done without knowing how many there are, and not safe: `docs/safety.md` says what may happen.
    pub const fn is_best_effort(&self) -> bool {
        self.cluster_size == 0
    }

    /// Returns the number of seats. Without a quorum the leader's is the only one.
    pub const fn seats(&self) -> usize {
        if self.is_best_effort() {
            1
        } else {
            self.cluster_size as usize
        }
    }

    /// **SAFETY (quorum)** Returns Q: how many distinct filled seats elect, commit and complete a round. A majority of
    /// all N seats, empty and dead ones included, never of whoever is there.
    pub const fn quorum(&self) -> usize {
        self.seats() / 2 + 1
    }

    /// **SAFETY (surge)** Returns Q + s: how many lives must vote for a founder, and how many named ones must store
    /// `Found` before it is committed.
    pub const fn founding_quorum(&self) -> usize {
        self.quorum() + self.surge as usize
    }

    /// Returns how many of `filled` seats decide.
    pub(super) fn quorum_of(&self, filled: usize) -> usize {
        if planted(PlantedBug::MajorityOfFilledSeats) {
            return filled / 2 + 1;
        }
        self.quorum()
    }
}

/// Returns a time in whole milliseconds; every one that the config allows is below 2^32 of them.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Returns a time on one clock that is over no sooner than `duration` on another, where both may be off by the bound.
const fn stretched(duration: Duration, drift_permille: u16) -> Duration {
    // Below 2^64 ns for every duration that the config allows.
    let nanos = duration.as_nanos() as u64;
    Duration::from_nanos(nanos + (nanos / 1000 + 1) * drift_permille as u64)
}
