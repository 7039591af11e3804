//! How long a suspicion may stay unrefuted: Lifeguard's dynamic timeout, in integers.
//!
//! Dadgar, Phillips, Currey, "Lifeguard: Local Health Awareness for More Accurate Failure Detection", DSN 2018,
//! section IV-B. A suspicion starts with the longest timeout and shrinks as others confirm it independently.

use crate::config::Config;
use crate::id::NodeId;
use crate::time::{Duration, Instant};

/// Accusers after which a suspicion has its shortest timeout.
pub(super) const MAX_ACCUSERS: usize = 3;
/// The worst local health.
pub(super) const MAX_HEALTH: u8 = 8;

/// By how many thousandths of the way from the longest to the shortest timeout a suspicion has come:
/// log(accusers) / log(needed), rows by the accusers needed (1 to 3), columns by those present (1 to 3).
const PROGRESS: [[u32; MAX_ACCUSERS]; MAX_ACCUSERS] = [[1000, 1000, 1000], [0, 1000, 1000], [0, 631, 1000]];

/// Returns the base-2 logarithm, rounded up; 0 for 0 and 1.
pub(super) const fn ceil_log2(n: usize) -> u32 {
    if n <= 1 {
        0
    } else {
        usize::BITS - (n - 1).leading_zeros()
    }
}

/// Returns S, the shortest suspicion among `members` (oneself included): `suspect_timeout`, or 0.8 heartbeat intervals
/// (0.4 s by default) for each doubling of the cluster, as long as news needs to reach everybody and come back.
pub(super) fn shortest(config: &Config, members: usize) -> Duration {
    let spread = config.heartbeat_interval * 4 / 5 * ceil_log2(members.saturating_add(1));
    config.suspect_timeout.max(spread)
}

/// One suspicion and who shares it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    /// When it began here. An echo since then keeps it from being confirmed here.
    pub(super) began: Instant,
    /// Whether its deadline was moved, since its subject last answered, because the timers ran late.
    pub(super) excused: bool,
    shortest: Duration,
    /// How many accusers make it shortest: fewer than `MAX_ACCUSERS` where there are not so many to accuse.
    needed: usize,
    accusers: [NodeId; MAX_ACCUSERS],
    count: usize,
}

impl Suspicion {
    /// Begins a suspicion in a cluster of `members`, oneself and the subject included.
    pub(super) fn new(now: Instant, accuser: NodeId, shortest: Duration, members: usize) -> Self {
        Self {
            began: now,
            excused: false,
            shortest,
            needed: members.saturating_sub(1).clamp(1, MAX_ACCUSERS),
            accusers: [accuser; MAX_ACCUSERS],
            count: 1,
        }
    }

    /// Adds an accuser. Returns whether that made a difference: it is a new one, and not enough had accused before.
    pub(super) fn confirm(&mut self, accuser: NodeId) -> bool {
        if self.count >= self.needed || self.accusers[..self.count].contains(&accuser) {
            return false;
        }
        // `count` is below `needed`, which is at most the length of the array.
        self.accusers[self.count] = accuser;
        self.count += 1;
        true
    }

    /// Returns how long this suspicion lasts from its beginning: from 2S down to S, stretched by up to three times
    /// while the local health is bad (a node that cannot hear answers must not condemn others).
    pub(super) fn lasts(&self, health: u8) -> Duration {
        // Both lie between 1 and `MAX_ACCUSERS`.
        let progress = PROGRESS[self.needed - 1][self.count - 1];
        let base = self.shortest * 2 - self.shortest * progress / 1000;
        base * (4 + u32::from(health.min(MAX_HEALTH))) / 4
    }
}
