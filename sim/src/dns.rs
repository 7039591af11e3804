//! Names, and how they fail to resolve.

use crate::fault::DnsFault;
use quorate_core::Duration;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The name that resolves to every host with a running process.
pub(crate) const CLUSTER: &str = "cluster.sim";

/// How long a resolver waits for an answer that does not come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the names stand for.
#[derive(Debug)]
pub(crate) struct Dns {
    names: BTreeMap<String, Vec<SocketAddr>>,
    /// What the names stood for when they began to be stale.
    stale: Option<BTreeMap<String, Vec<SocketAddr>>>,
    fault: Option<DnsFault>,
    rng: ChaCha8Rng,
}

impl Dns {
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            names: BTreeMap::new(),
            stale: None,
            fault: None,
            rng,
        }
    }

    pub(crate) fn set(&mut self, name: &str, addrs: &[SocketAddr]) {
        self.names.insert(name.to_owned(), addrs.to_vec());
    }

    pub(crate) fn set_fault(&mut self, fault: Option<DnsFault>) {
        if fault != Some(DnsFault::Stale) {
            self.stale = None;
        } else if self.stale.is_none() {
            self.stale = Some(self.names.clone());
        }
        self.fault = fault;
    }

    /// Returns the addresses of a name (none stand for a failure), and when the answer comes.
    pub(crate) fn resolve(&mut self, name: &str) -> (Vec<SocketAddr>, Duration) {
        let now = Duration::ZERO;
        let addrs = self.names.get(name).cloned().unwrap_or_default();
        match self.fault {
            None => (addrs, now),
            Some(DnsFault::Error | DnsFault::Empty) => (Vec::new(), now),
            Some(DnsFault::Timeout) => (Vec::new(), TIMEOUT),
            Some(DnsFault::Stale) => {
                let stale = self.stale.as_ref().and_then(|names| names.get(name));
                (stale.cloned().unwrap_or_default(), now)
            }
            Some(DnsFault::Partial) => {
                let mut addrs = addrs;
                addrs.retain(|_| self.rng.next_u32().is_multiple_of(2));
                (addrs, now)
            }
            Some(DnsFault::Wrong) => {
                let nobody = |n: u8| SocketAddr::from(([192, 0, 2, n], 5000));
                ((1..=3).map(nobody).collect(), now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng as _;

    #[test]
    fn each_fault_answers_in_its_own_way_and_is_over_when_it_is_over() {
        let addr = |n: u8| SocketAddr::from(([10, 0, 0, n], 5000));
        let all: Vec<_> = (1..=8).map(addr).collect();
        let mut dns = Dns::new(ChaCha8Rng::seed_from_u64(1));
        dns.set("a", &all);
        assert_eq!(dns.resolve("a"), (all.clone(), Duration::ZERO));
        assert_eq!(dns.resolve("b").0, []);
        for fault in [DnsFault::Error, DnsFault::Empty, DnsFault::Timeout] {
            dns.set_fault(Some(fault));
            assert_eq!(dns.resolve("a").0, []);
        }
        assert_eq!(dns.resolve("a").1, TIMEOUT);
        dns.set_fault(Some(DnsFault::Stale));
        dns.set("a", &all[..2]);
        assert_eq!(dns.resolve("a").0, all);
        dns.set_fault(Some(DnsFault::Wrong));
        assert!(dns.resolve("a").0.iter().all(|addr| !all.contains(addr)));
        dns.set_fault(None);
        dns.set("a", &all);
        dns.set_fault(Some(DnsFault::Partial));
        let answers: Vec<_> = (0..8).map(|_| dns.resolve("a").0.len()).collect();
        assert!(answers.iter().any(|&n| n < 8) && answers.iter().any(|n| *n != answers[0]));
        dns.set_fault(None);
        assert_eq!(dns.resolve("a").0, all);
    }
}
