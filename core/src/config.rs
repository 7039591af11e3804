//! Everything that bounds or times a node, in one place.

mod key;
mod seed;
#[cfg(test)]
mod tests;
mod validate;

use crate::time::Duration;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::ops::RangeInclusive;

pub use key::{Key, KeyError, KeyId, KeyRing};
pub use seed::{DEFAULT_PORT, Seed, SeedError};
pub use validate::{ConfigError, ConfigFault};

/// Whether a node may take part in elections and quorums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// May hold a seat and vote; counted by the quorum gate.
    #[default]
    Voter,
    /// Sees and reaches everybody, never votes, is never counted, and adopts the cluster's settings.
    Observer,
}

/// What the datagrams of the cluster are sealed with.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// Nothing was chosen yet; `validate` refuses it, so that nobody runs in the clear by forgetting a line.
    #[default]
    Unset,
    /// ChaCha20-Poly1305 under keys that every member shares.
    Keys(KeyRing),
    /// The same protocol under a published key: anybody can read and join. Never talks to a secured cluster.
    Insecure,
}

/// The method that sets a field. Numbers are taken as they are, so that a literal needs no suffix.
macro_rules! setter {
    ($field:ident: $ty:ty, $with:expr) => {
        #[doc = concat!("Sets [`", stringify!($field), "`](#structfield.", stringify!($field), ").")]
        #[must_use]
        pub fn $field(mut self, value: $ty) -> Self {
            self.$field = $with(value);
            self
        }
    };
    ($field:ident u8) => { setter!($field: u8, core::convert::identity); };
    ($field:ident u16) => { setter!($field: u16, core::convert::identity); };
    ($field:ident u32) => { setter!($field: u32, core::convert::identity); };
    ($field:ident usize) => { setter!($field: usize, core::convert::identity); };
    ($field:ident $($ty:tt)+) => { setter!($field: impl Into<$($ty)+>, Into::into); };
}

macro_rules! config {
    ($($(#[doc = $doc:literal])+ $field:ident: $name:ident $(<$of:ident>)? = $default:expr,)+) => {
        /// The settings of a node. Every field can be set directly or with the method of its name;
        /// [`Config::validate`] says what is wrong with them, all at once.
        ///
        /// ```
        /// use quorate_core::{Config, Key};
        ///
        /// let config = Config::new("orders.svc.local:5000")
        ///     .key(Key::from_bytes([7; 32]))
        ///     .max_waiters(1_000)
        ///     .cluster_size(3);
        /// assert_eq!(config.quorum_size(), 2);
        /// assert!(config.validate().is_ok());
        /// ```
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct Config {
            /// Names (`host:port`, or `host` for port 5000) and literal addresses where members may be found; at
            /// most 64. Resolved at start, on `refresh()` and every `refresh_interval`. A name is a hint: it makes nobody a
            /// member and evicts nobody.
            pub seeds: Vec<String>,
            /// What the datagrams are sealed with. Must be chosen.
            pub security: Security,
            $($(#[doc = $doc])+ pub $field: $name $(<$of>)?,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { seeds: Vec::new(), security: Security::Unset, $($field: $default,)+ }
            }
        }

        impl Config {
            $(setter!($field $name $(<$of>)?);)+
        }
    };
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

config! {
    /// The local address to bind, `ip:port`; port 0 lets the system choose. Used by the runtime; the core does no I/O.
    /// Default `0.0.0.0:5000`.
    bind: String = String::from("0.0.0.0:5000"),
    /// The address under which others reach this node, where it differs from what they see (port forwarding).
    /// Default: what peers observe.
    advertise: Option<SocketAddr> = None,
    /// Clusters of different names ignore each other, also under one key. 1 to 64 bytes. Default `quorate`.
    cluster_name: String = String::from("quorate"),
    /// A name for people, shown in member lists. At most 64 bytes. Default empty.
    name: String = String::new(),
    /// Bytes for the application, carried to every member. At most 512. Default empty.
    metadata: Vec<u8> = Vec::new(),
    /// Whether this node counts for quorums. Default voter.
    role: Role = Role::Voter,

    /// The expected number of voters N, 1 to 15. Broadcasts and locks wait until N/2+1 of them are present. 0 (the
    /// default) disables the gate. Must agree in the whole cluster.
    cluster_size: u8 = 0,
    /// The longest lease that anybody may ask for, 1 s to 5 min. Must agree. Default 30 s.
    max_ttl: Duration = secs(30),
    /// How far the rate of any member's clock may be off, in thousandths (10 is 1 %), 1 to 100. Must agree.
    /// Default 10.
    drift_permille: u16 = 10,
    /// How many voters above `cluster_size` may be alive at once, for rolling updates that start the new process
    /// first. 0 to N minus quorum. Must agree. Default 0.
    surge: u8 = 0,
    /// Whether observers may take locks. Must agree. Default off.
    allow_observers: bool = false,

    /// How often direct partners exchange heartbeats, and the SWIM protocol period. 50 ms to 10 s. Default 500 ms.
    heartbeat_interval: Duration = ms(500),
    /// Silence after which a direct partner is suspected. At least twice `heartbeat_interval`, below
    /// `heartbeat_timeout`. Default 1.5 s.
    suspect_timeout: Duration = ms(1500),
    /// Silence after which a direct partner has failed. 150 ms to 10 min, above `suspect_timeout`. Default 3 s.
    heartbeat_timeout: Duration = ms(3000),
    /// How long a probe of the SWIM detector waits for its direct echo, 10 ms to `heartbeat_interval`. Default 200 ms.
    probe_timeout: Duration = ms(200),
    /// How often news is gossiped while there is any, 20 ms to 10 s. Default 200 ms.
    gossip_interval: Duration = ms(200),
    /// To how many members a piece of news goes in each gossip round, 1 to 16. Default 3.
    gossip_fanout: u8 = 3,
    /// How often the seed names are resolved again, 1 s to 1 day; `None` turns it off. Default 30 s.
    refresh_interval: Option<Duration> = Some(secs(30)),
    /// How often one failed member and one seed without a live member are dialled again, 100 ms to 10 min.
    /// Default 10 s.
    heal_interval: Duration = secs(10),
    /// How long a departed process is remembered, 20 s to 18 h, at least six times `heartbeat_timeout`. Meanwhile no
    /// rumour brings it back, and its address is dialled in case it was only cut off. A node that hears from nobody for
    /// a quarter of this time forgets whom it knew and starts over: its news could be older than the memory of the
    /// others. Default 1 h.
    tombstone_timeout: Duration = secs(3600),
    /// How long a leaving node waits for acknowledgements of its LEAVE, at most 10 s. Default 500 ms.
    leave_timeout: Duration = ms(500),

    /// How often a leader shows its followers that it leads, and a founder its voters that it lives. 5 ms to 10 s.
    /// Default 75 ms.
    consensus_heartbeat: Duration = ms(75),
    /// Silence of the leader after which a seat campaigns: drawn each time from one to two times this. At least four
    /// times `consensus_heartbeat`, at most 1 min. Default 500 ms.
    election_timeout: Duration = ms(500),
    /// How long a node looks for a group before it takes part in founding one. 200 ms to 1 min. Default 200 ms.
    found_delay: Duration = ms(200),
    /// How long a founder that has votes enough waits for the remaining voters, at most 1 min; for voters that are known to
    /// be there twice `heartbeat_timeout` longer, where with all votes the group opens without a grace. Default 3 s.
    found_wait: Duration = secs(3),
    /// Silence after which a failed member loses its seat. `heartbeat_timeout` to 1 h. Default 10 s.
    seat_timeout: Duration = secs(10),
    /// How long a leaving node waits until another has taken over its seat, where the group would end without it. At
    /// most 10 min. Default 10 s.
    leave_wait: Duration = secs(10),

    /// How long a lock is leased for where a request does not say. 1 s to `max_ttl`. Default: 15 s, or `max_ttl` where
    /// that is shorter.
    lock_ttl: Option<Duration> = None,
    /// For how long who waits for a lock may be silent before it is taken for gone; and the length of the first lease of
    /// a lock that was waited for. 2 s to 1 min. Default 3 s.
    waiter_ttl: Duration = secs(3),
    /// How many may wait for one lock, 1 to 65,536. Default 100.
    max_waiters: u32 = 100,
    /// How many locks may be held or waited for, 1 to 65,536. Default 20,000.
    max_locks: u32 = 20_000,
    /// Bytes of keys and metadata of all holders and waiters, and 64 for each of them, 4 KiB to 8 MiB. Default 4 MiB.
    max_lock_bytes: u32 = 4 << 20,

    /// How long a message is retransmitted before its sender gives up, 10 ms to 10 min. Default 5 s.
    message_timeout: Duration = secs(5),
    /// The largest message, in bytes, 1 to 16 MiB; at most `window_bytes`, which has to be raised with it. Default 1 MiB.
    max_message_size: usize = 1 << 20,
    /// How many delivered messages of one peer wait for the application, 1 to 65,536; beyond it that peer is told
    /// to wait. Default 256.
    message_queue_size: usize = 256,
    /// How many messages may be under way to one peer, 1 to 1,024. Default 64.
    window_messages: usize = 64,
    /// How many bytes may be under way to one peer, and how many delivered bytes of one peer wait for the
    /// application; at least `max_message_size`, at most 64 MiB. Default 1 MiB.
    window_bytes: usize = 1 << 20,
    /// How many messages and requests to one peer may wait for their turn, 1 to 65,536; eight times `window_bytes` in all.
    /// Default 1,024.
    send_queue_size: usize = 1024,

    /// The most members that are tracked, 2 to 65,536. Default 4,096.
    max_members: usize = 4096,
    /// The most sessions that are kept, 64 to 65,536; the least recently used one is closed for a new one. Fewer would
    /// not do: up to 23 direct partners are heard from all the time. Default 1,024.
    max_sessions: usize = 1024,
    /// The most handshakes that others have begun with this node, 8 to 4,096. Default 256.
    max_half_open: usize = 256,
    /// The most handshakes that this node has begun, 1 to 1,024. Default 32.
    max_dials: usize = 32,
    /// The most handshakes that this node begins in a second, 1 to 10,000. Default 100.
    dials_per_second: u32 = 100,
    /// The most handshake openings that are answered in a second, from all sources together, 1 to 1,000,000.
    /// Default 20,000.
    challenges_per_second: u32 = 20_000,
    /// The most addresses that wait to be dialled, 8 to 65,536. Default 1,024.
    max_candidates: usize = 1024,
    /// The most tombstones of members that left or failed, 16 to 65,536. Default 4,096.
    max_tombstones: usize = 4096,
    /// Bytes of protocol frames that may wait for one peer, 4 KiB to 16 MiB; more are dropped and counted.
    /// Default 64 KiB.
    outbox_bytes: usize = 64 << 10,
}

/// The longest `metadata`, in bytes.
pub const MAX_METADATA: usize = 512;
/// The longest `name` and `cluster_name`, in bytes.
pub const MAX_NAME: usize = 64;
/// How long a lock is leased for where neither the request nor `lock_ttl` says, and `max_ttl` allows it.
pub const DEFAULT_LOCK_TTL: Duration = secs(15);
/// The largest `cluster_size`.
pub const MAX_CLUSTER_SIZE: u8 = 15;
/// Lengths that the longest lease may have.
pub(crate) const MAX_TTL: RangeInclusive<Duration> = secs(1)..=secs(300);
/// Bounds on clock drift that leases can bear.
pub(crate) const DRIFT_PERMILLE: RangeInclusive<u16> = 1..=100;

impl Config {
    /// Creates a config with one seed, a name (`host:port`, or `host` for port 5000) or a literal address.
    pub fn new(seed: impl Into<String>) -> Self {
        Self::default().seed(seed)
    }

    /// Adds a seed: a name (`host:port`, or `host` for port 5000) or a literal address.
    #[must_use]
    pub fn seed(mut self, seed: impl Into<String>) -> Self {
        self.seeds.push(seed.into());
        self
    }

    /// Seals everything with this key.
    #[must_use]
    pub fn key(self, key: Key) -> Self {
        self.keys(KeyRing::new(key))
    }

    /// Seals everything with the first key of the ring and accepts all of them.
    #[must_use]
    pub fn keys(mut self, keys: KeyRing) -> Self {
        self.security = Security::Keys(keys);
        self
    }

    /// Runs without a secret: the protocol is the same, but its key is published.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.security = Security::Insecure;
        self
    }

    /// Sets timings for a single machine or a test: everything about four times as fast as the default.
    #[must_use]
    pub fn local(self) -> Self {
        self.heartbeat_interval(ms(125))
            .suspect_timeout(ms(400))
            .heartbeat_timeout(ms(800))
            .probe_timeout(ms(50))
            .gossip_interval(ms(50))
            .heal_interval(secs(2))
            .consensus_heartbeat(ms(25))
            .election_timeout(ms(150))
            .found_wait(ms(800))
            .seat_timeout(ms(2500))
    }

    /// Sets timings for members that are far apart: everything about three times as slow as the default.
    #[must_use]
    pub fn wan(self) -> Self {
        self.heartbeat_interval(ms(1500))
            .suspect_timeout(ms(5000))
            .heartbeat_timeout(secs(10))
            .probe_timeout(ms(800))
            .gossip_interval(ms(500))
            .heal_interval(secs(20))
            .consensus_heartbeat(ms(250))
            .election_timeout(ms(1500))
            .found_wait(secs(9))
            .seat_timeout(secs(30))
            .message_timeout(secs(10))
    }

    /// Returns how long leaving may take: what a seat may have to wait for its replacement, or a leader without a quorum
    /// for its heirs to have everything; and the goodbye.
    pub fn longest_leave(&self) -> Duration {
        let waits = !matches!(self.cluster_size, 1 | 2) && self.role == Role::Voter;
        let wait = if waits { self.leave_wait } else { Duration::ZERO };
        wait + self.leave_timeout
    }

    /// For how long a node may be isolated before what it knows could bring back ghosts.
    pub(crate) const fn isolation(&self) -> Duration {
        Duration::from_nanos(self.tombstone_timeout.as_nanos() as u64 / 4)
    }

    /// Returns how many voters make a quorum: `cluster_size / 2 + 1`, or 0 when the gate is disabled.
    pub fn quorum_size(&self) -> usize {
        match self.cluster_size {
            0 => 0,
            n => usize::from(n) / 2 + 1,
        }
    }
}
