//! A run as data: the cluster, what its users do, and what goes wrong.

mod fields;
mod generate;
mod kinds;
pub mod scenario;
mod shrink;
mod text;
mod time;
mod validate;

use crate::fault::Fault;
use quorate_core::Duration;

pub use generate::Draw;
pub use kinds::Kinds;
pub use shrink::{Shrunk, shrink};
pub use text::ParseError;
pub use validate::{Invalid, MAX_CHAOS, MAX_FAULTS, MAX_HOSTS};

/// What the nodes seal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Crypto {
    /// A checksum with the same accept and reject behaviour: thousands of times faster to open a session with.
    #[default]
    Simulated,
    /// The real thing.
    Real,
}

/// What the users of every member do meanwhile. By default nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Workload {
    /// How many messages each member sends in a minute, at most 60,000.
    pub messages: u32,
    /// How many requests each member sends in a minute, at most 60,000.
    pub requests: u32,
    /// How many tokens the users of each member draw in a minute, at most 60,000.
    pub draws: u32,
    /// How many locks the users of each member ask for in a minute, at most 60,000.
    pub locks: u32,
    /// The largest payload, in bytes, up to the default `max_message_size` of 1 MiB; most are far smaller.
    pub max_size: u32,
}

/// Everything that makes a run what it is. The same schedule gives the same run, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From it every random choice of the run is drawn, other than those that are written here.
    pub seed: u64,
    /// How many hosts run a member from the beginning, 1 to 64.
    pub hosts: usize,
    /// How many of them are observers: the last ones. Less than `hosts`.
    pub observers: usize,
    /// The `cluster_size` of all, 0 to 15; 0 runs without a quorum gate. Fewer than there are voters breaks the
    /// assumption under which groups are founded.
    pub cluster_size: u8,
    /// How many voters above `cluster_size` may be alive at once: the `surge` of all, 0 to N minus Q.
    pub surge: u8,
    /// The longest lease: the `max_ttl` of all, 1 s to 5 min. Half of what a group waits for is this long.
    pub max_ttl: Duration,
    /// Whether observers may draw tokens and take locks.
    pub allow_observers: bool,
    /// Whether a member loses its seat as soon as it counts as failed, in place of after `seat_timeout`.
    pub quick_seats: bool,
    /// Whether all use the faster timings of [`Config::local`](quorate_core::Config::local).
    pub fast: bool,
    /// Whether all have small limits for queues, windows and handshakes, which are then met often.
    pub small: bool,
    /// What the nodes seal with.
    pub crypto: Crypto,
    /// Whether members find each other by a name; otherwise by the addresses of the first two hosts.
    pub by_name: bool,
    /// For how long faults and users are at work, up to 24 h. Afterwards everything is healed, and has to recover.
    pub chaos: Duration,
    /// What the users do.
    pub workload: Workload,
    /// What goes wrong, in any order. None lasts longer than the chaos; at most [`MAX_FAULTS`].
    pub faults: Vec<Fault>,
}

impl Default for Schedule {
    /// Three hosts for a minute, found by a name, without a quorum gate, without users, and nothing goes wrong. A
    /// line that is missing in a text has the value that it has here.
    fn default() -> Self {
        Self {
            seed: 0,
            hosts: 3,
            observers: 0,
            cluster_size: 0,
            surge: 0,
            max_ttl: Duration::from_secs(30),
            allow_observers: false,
            quick_seats: false,
            fast: false,
            small: false,
            crypto: Crypto::Simulated,
            by_name: true,
            chaos: Duration::from_secs(60),
            workload: Workload::default(),
            faults: Vec::new(),
        }
    }
}

impl Schedule {
    /// Returns a schedule in which nothing goes wrong and nobody does anything.
    pub fn calm(seed: u64, hosts: usize) -> Self {
        Self {
            seed,
            hosts,
            chaos: Duration::ZERO,
            ..Self::default()
        }
    }
}

impl Fault {
    /// Returns when it is over.
    pub fn ends(&self) -> Duration {
        self.at.saturating_add(self.lasting)
    }
}
