//! What an application asks for.

use super::ask::Wish;
use super::key::{Key, MAX_METADATA_BYTES};
use super::outcome::LockError;
use crate::config::{Config, DEFAULT_LOCK_TTL};
use crate::time::{Duration, Instant};
use alloc::string::String;
use alloc::vec::Vec;

/// The most pairs of metadata.
const MAX_PAIRS: usize = 16;

/// A request for a lock, given to [`Node::lock`](crate::Node::lock).
///
/// All who use one key have to agree on its capacity: 1 for [`new`](Self::new), unbounded for [`read`](Self::read) and
/// [`write`](Self::write), any number for [`units`](Self::units).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LockRequest {
    /// The key.
    pub key: String,
    /// How much of it is asked for, 1 to `capacity`.
    pub units: u32,
    /// How much there is of it.
    pub capacity: u32,
    /// See [`priority`](Self::priority()).
    pub priority: u8,
    /// See [`ttl`](Self::ttl()); `None` stands for `lock_ttl`.
    pub ttl: Option<Duration>,
    /// See [`wait`](Self::wait()); `None` does not wait.
    pub wait: Option<Duration>,
    /// See [`metadata`](Self::metadata()).
    pub metadata: Vec<(String, String)>,
}

impl LockRequest {
    /// Asks for a lock that one can hold at a time. The key has 1 to 255 bytes.
    pub fn new(key: impl Into<String>) -> Self {
        Self::units(key, 1, 1)
    }

    /// Asks for a share of a lock that many may read.
    pub fn read(key: impl Into<String>) -> Self {
        Self::units(key, 1, u32::MAX)
    }

    /// Asks for all of a lock that many may read.
    pub fn write(key: impl Into<String>) -> Self {
        Self::units(key, u32::MAX, u32::MAX)
    }

    /// Asks for some units of a semaphore that has `capacity` of them; 1 to `capacity`.
    pub fn units(key: impl Into<String>, units: u32, capacity: u32) -> Self {
        Self {
            key: key.into(),
            units,
            capacity,
            priority: 0,
            ttl: None,
            wait: None,
            metadata: Vec::new(),
        }
    }

    /// Waits for the lock, at most this long. Without it a lock that is taken is refused at once.
    #[must_use]
    pub const fn wait(mut self, at_most: Duration) -> Self {
        self.wait = Some(at_most);
        self
    }

    /// Goes before all who wait with a lower priority. Who waits with a low one may then wait for ever. Default 0.
    #[must_use]
    pub const fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the length of the lease, 1 s to `max_ttl`: how long others wait if this process dies with the lock. It is
    /// renewed by itself. Default `lock_ttl` of the settings.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds something that others see of the holder. At most 16 pairs and, with three bytes for each, 511 bytes in all;
    /// names have 1 to 255 bytes.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// Checks the request, and works out until when it may stay open. The cluster allows leases of `max_ttl`
    /// milliseconds.
    pub(crate) fn check(
        self,
        now: Instant,
        config: &Config,
        max_ttl: u32,
    ) -> Result<(Wish, Option<Instant>), LockError> {
        let key = Key::new(&self.key).ok_or(LockError::Key { len: self.key.len() })?;
        if self.units == 0 || self.units > self.capacity {
            let Self { units, capacity, .. } = self;
            return Err(LockError::Units { units, capacity });
        }
        let longest = Duration::from_millis(max_ttl.into());
        let default = || DEFAULT_LOCK_TTL.min(longest);
        let ttl = self.ttl.or(config.lock_ttl).unwrap_or_else(default);
        let too_long = |_| LockError::Ttl {
            ttl_ms: ttl.as_millis(),
            max_ms: max_ttl,
        };
        let millis = u32::try_from(ttl.as_millis()).map_err(too_long)?;
        let deadline = now + self.wait.unwrap_or(config.message_timeout);
        let wish = Wish {
            key,
            units: self.units,
            capacity: self.capacity,
            priority: self.priority,
            wait: self.wait.is_some(),
            // Whether it is in range is checked by those settings that the cluster agrees on.
            ttl: millis,
            metadata: encode(&self.metadata)?.into(),
        };
        Ok((wish, Some(deadline).filter(|&at| at < Instant::FAR_FUTURE)))
    }
}

/// Returns the pairs as they travel: a count, then each name with its length in a byte, each value with its in two.
fn encode(pairs: &[(String, String)]) -> Result<Vec<u8>, LockError> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let len = 1 + pairs
        .iter()
        .map(|(name, value)| 3 + name.len() + value.len())
        .sum::<usize>();
    let names = pairs.iter().all(|(name, _)| (1..=255).contains(&name.len()));
    if len > MAX_METADATA_BYTES || pairs.len() > MAX_PAIRS || !names {
        let pairs = pairs.len();
        // The limit that people are told is without the count.
        let len = len - 1;
        return Err(LockError::Metadata { len, pairs });
    }
    let mut buf = Vec::with_capacity(len);
    buf.push(pairs.len() as u8);
    for (name, value) in pairs {
        buf.push(name.len() as u8);
        buf.extend_from_slice(name.as_bytes());
        buf.extend_from_slice(&(value.len() as u16).to_be_bytes());
        buf.extend_from_slice(value.as_bytes());
    }
    Ok(buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_ttl_is_no_longer_than_the_cluster_allows() {
        let ttl = |config: &Config, agreed| {
            let asked = LockRequest::new("k").check(Instant::ZERO, config, agreed);
            asked.map(|(wish, _)| wish.ttl)
        };
        assert_eq!(ttl(&Config::default(), 30_000), Ok(15_000));
        assert_eq!(ttl(&Config::default(), 2_000), Ok(2_000));
        let chosen = Config::default().lock_ttl(Duration::from_secs(5));
        assert_eq!(ttl(&chosen, 30_000), Ok(5_000));
    }

    #[test]
    fn the_ttl_of_a_request_goes_before_that_of_the_settings() {
        let config = Config::default().lock_ttl(Duration::from_secs(5));
        let asked = LockRequest::new("k").ttl(Duration::from_secs(9));
        let asked = asked.check(Instant::ZERO, &config, 30_000);
        assert_eq!(asked.map(|(wish, _)| wish.ttl), Ok(9_000));
    }
}
