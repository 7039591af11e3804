//! Checking a config: every fault at once, each with the field, the value and the allowed range.

use super::{
    Config, DRIFT_PERMILLE, MAX_CLUSTER_SIZE, MAX_METADATA, MAX_NAME, MAX_TTL, Role, Security, Seed, ms, secs,
};
use crate::time::Duration;
use crate::wire::is_shareable;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Debug, Display};
use core::net::SocketAddr;

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The name of the field.
    pub field: &'static str,
    /// The value that was given, as text.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: must be {}", self.field, self.value, self.allowed)
    }
}

/// Everything that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The faults, in the order of the fields; at least one.
    pub faults: Vec<ConfigFault>,
}

impl ConfigError {
    /// Creates an error of one fault, for what only an adapter can check (an address that cannot be bound).
    pub fn one(field: &'static str, value: impl Display, allowed: impl Display) -> Self {
        let fault = ConfigFault {
            field,
            value: value.to_string(),
            allowed: allowed.to_string(),
        };
        Self {
            faults: alloc::vec![fault],
        }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration")?;
        for (i, fault) in self.faults.iter().enumerate() {
            write!(f, "{} {fault}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigError {}

/// Collects faults.
struct Faults(Vec<ConfigFault>);

impl Faults {
    fn add(&mut self, field: &'static str, value: impl Debug, allowed: impl Into<String>) {
        self.0.push(ConfigFault {
            field,
            value: format!("{value:?}"),
            allowed: allowed.into(),
        });
    }

    fn range<T: PartialOrd + Debug>(&mut self, field: &'static str, value: T, min: T, max: T) {
        if value < min || value > max {
            self.add(field, value, format!("{min:?} to {max:?}"));
        }
    }

    fn length(&mut self, field: &'static str, len: usize, min: usize, max: usize) {
        if len < min || len > max {
            self.0.push(ConfigFault {
                field,
                value: format!("{len} bytes"),
                allowed: format!("{min} to {max} bytes"),
            });
        }
    }
}

impl Config {
    /// Checks every field and the rules between them.
    ///
    /// # Errors
    /// All faults at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = Faults(Vec::new());
        self.check_names(&mut faults);
        self.check_cluster(&mut faults);
        self.check_timing(&mut faults);
        self.check_bounds(&mut faults);
        if faults.0.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { faults: faults.0 })
        }
    }

    fn check_names(&self, faults: &mut Faults) {
        if self.seeds.len() > 64 {
            faults.add("seeds", self.seeds.len(), "at most 64 entries");
        }
        for seed in &self.seeds {
            if let Err(error) = Seed::parse(seed) {
                faults.add("seeds", seed, error.to_string().trim_start_matches("must be "));
            }
        }
        if matches!(self.security, Security::Unset) {
            faults.add(
                "security",
                "unset",
                "a key (`key`, `keys`) or, knowingly, `insecure()`",
            );
        }
        if self.bind.parse::<SocketAddr>().is_err() {
            faults.add("bind", &self.bind, "ip:port, such as 0.0.0.0:5000 or [::]:5000");
        }
        if let Some(addr) = self.advertise
            && (addr.port() == 0 || !is_shareable(addr.ip()))
        {
            faults.add(
                "advertise",
                addr,
                "a unicast address, not link-local, with a port of 1 to 65535",
            );
        }
        faults.length("cluster_name", self.cluster_name.len(), 1, MAX_NAME);
        faults.length("name", self.name.len(), 0, MAX_NAME);
        faults.length("metadata", self.metadata.len(), 0, MAX_METADATA);
    }

    fn check_cluster(&self, faults: &mut Faults) {
        faults.range("cluster_size", self.cluster_size, 0, MAX_CLUSTER_SIZE);
        if self.role == Role::Observer && self.surge > 0 {
            faults.add(
                "surge",
                self.surge,
                "0 for an observer, which adopts the cluster's settings",
            );
        } else {
            let spare = usize::from(self.cluster_size).saturating_sub(self.quorum_size());
            faults.range("surge", usize::from(self.surge), 0, spare);
        }
        faults.range("max_ttl", self.max_ttl, *MAX_TTL.start(), *MAX_TTL.end());
        let drift = self.drift_permille;
        faults.range(
            "drift_permille",
            drift,
            *DRIFT_PERMILLE.start(),
            *DRIFT_PERMILLE.end(),
        );
    }

    fn check_timing(&self, faults: &mut Faults) {
        let interval = self.heartbeat_interval;
        faults.range("heartbeat_interval", interval, ms(50), secs(10));
        if self.suspect_timeout < interval.saturating_mul(2) || self.suspect_timeout >= self.heartbeat_timeout
        {
            let allowed = format!(
                "at least twice heartbeat_interval ({interval:?}) and below heartbeat_timeout ({:?})",
                self.heartbeat_timeout
            );
            faults.add("suspect_timeout", self.suspect_timeout, allowed);
        }
        faults.range("heartbeat_timeout", self.heartbeat_timeout, ms(150), secs(600));
        faults.range("probe_timeout", self.probe_timeout, ms(10), interval.max(ms(10)));
        faults.range("gossip_interval", self.gossip_interval, ms(20), secs(10));
        faults.range("gossip_fanout", self.gossip_fanout, 1, 16);
        if let Some(refresh) = self.refresh_interval {
            faults.range("refresh_interval", refresh, secs(1), Duration::from_secs(86_400));
        }
        faults.range("heal_interval", self.heal_interval, ms(100), secs(600));
        faults.range(
            "tombstone_timeout",
            self.tombstone_timeout,
            secs(20),
            secs(18 * 3600),
        );
        if self.tombstone_timeout < self.heartbeat_timeout.saturating_mul(6) {
            faults.add(
                "tombstone_timeout",
                self.tombstone_timeout,
                "at least six times heartbeat_timeout",
            );
        }
        faults.range("leave_timeout", self.leave_timeout, ms(0), secs(10));
        self.check_consensus(faults);
        faults.range("message_timeout", self.message_timeout, ms(10), secs(600));
    }

    fn check_consensus(&self, faults: &mut Faults) {
        let beat = self.consensus_heartbeat;
        faults.range("consensus_heartbeat", beat, ms(5), secs(10));
        faults.range(
            "election_timeout",
            self.election_timeout,
            beat.saturating_mul(4).min(secs(60)),
            secs(60),
        );
        faults.range("found_delay", self.found_delay, ms(200), secs(60));
        faults.range("found_wait", self.found_wait, ms(0), secs(60));
        faults.range(
            "seat_timeout",
            self.seat_timeout,
            self.heartbeat_timeout.min(secs(3600)),
            secs(3600),
        );
        faults.range("leave_wait", self.leave_wait, ms(0), secs(600));
        self.check_locks(faults);
    }

    fn check_locks(&self, faults: &mut Faults) {
        if let Some(ttl) = self.lock_ttl {
            faults.range("lock_ttl", ttl, secs(1), self.max_ttl.max(secs(1)));
        }
        faults.range("waiter_ttl", self.waiter_ttl, secs(2), secs(60));
        faults.range("max_waiters", self.max_waiters, 1, 1 << 16);
        faults.range("max_locks", self.max_locks, 1, 1 << 16);
        faults.range("max_lock_bytes", self.max_lock_bytes, 4 << 10, 8 << 20);
    }

    fn check_bounds(&self, faults: &mut Faults) {
        faults.range("max_message_size", self.max_message_size, 1, 16 << 20);
        faults.range("message_queue_size", self.message_queue_size, 1, 1 << 16);
        faults.range("window_messages", self.window_messages, 1, 1024);
        faults.range(
            "window_bytes",
            self.window_bytes,
            self.max_message_size.min(16 << 20),
            64 << 20,
        );
        faults.range("send_queue_size", self.send_queue_size, 1, 1 << 16);
        faults.range("max_members", self.max_members, 2, 1 << 16);
        faults.range("max_sessions", self.max_sessions, 64, 1 << 16);
        faults.range("max_half_open", self.max_half_open, 8, 4096);
        faults.range("max_dials", self.max_dials, 1, 1024);
        faults.range("dials_per_second", self.dials_per_second, 1, 10_000);
        faults.range("challenges_per_second", self.challenges_per_second, 1, 1_000_000);
        faults.range("max_candidates", self.max_candidates, 8, 1 << 16);
        faults.range("max_tombstones", self.max_tombstones, 16, 1 << 16);
        faults.range("outbox_bytes", self.outbox_bytes, 4 << 10, 16 << 20);
    }
}
