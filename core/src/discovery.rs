//! Discovery: which addresses to dial because the seeds name them.
//!
//! A name is a hint. An answer makes nobody a member and a missing answer evicts nobody: failure, empty, stale and
//! duplicate answers, hundreds of addresses and one's own address among them are normal life. Members that are
//! known already are healed by `membership`; this part only looks after the seeds.

#[cfg(test)]
mod tests;

use crate::config::{Config, Seed};
use crate::event::{Event, ResolveId, ResolveRequest};
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::rng::Rng;
use crate::time::{Duration, Instant, earliest};
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use crate::wire::{canonical, is_shareable};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// The most addresses that one answer counts for.
const MAX_ANSWER: usize = 256;
/// A node is ready at the earliest after this long, so that the first answers of slow peers still count.
const READY_DELAY: Duration = Duration::from_millis(200);
/// An exchange that does not end is waited for no longer than this.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// A resolution without an answer counts as failed after this long.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a node that knows nobody looks again at first; doubles up to the configured interval.
const ALONE_INTERVAL: Duration = Duration::from_secs(1);
/// How long an address is believed to be this node's own.
const SELF_TTL: Duration = Duration::from_secs(600);

/// One entry of `Config::seeds`.
#[derive(Debug)]
struct Source {
    seed: Seed,
    /// The newest useful answer; a failed resolution leaves it alone.
    addrs: Vec<SocketAddr>,
    /// The resolution under way, and when it was asked for.
    pending: Option<(ResolveId, Instant)>,
    /// Whether a first answer, or failure, has come.
    tried: bool,
}

/// What is known about an address that a seed names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    /// Being dialled for the first time.
    Dialing,
    /// Somebody is there.
    Reached,
    /// Nobody answered; dial again at `retry`, then after `backoff` more.
    Silent { retry: Instant, backoff: Duration },
    /// This node itself, until the instant.
    Own(Instant),
}

/// The seeds and what came of them.
#[derive(Debug)]
pub(crate) struct Discovery {
    sources: Vec<Source>,
    contacts: BTreeMap<SocketAddr, Contact>,
    requests: VecDeque<ResolveRequest>,
    dials: VecDeque<SocketAddr>,
    next_resolve: u64,
    refresh_at: Option<Instant>,
    heal_at: Instant,
    /// The present interval of both while the node is alone.
    alone: Duration,
    /// Wakes the node for the earliest moment at which it can be ready.
    ready_at: Option<Instant>,
    started: Instant,
    ready: bool,
    rng: Rng,
}

impl Discovery {
    pub(crate) fn new(config: &Config, rng: Rng, now: Instant) -> Self {
        let mut seeds: Vec<Seed> = config
            .seeds
            .iter()
            .filter_map(|text| Seed::parse(text).ok())
            .collect();
        seeds.sort();
        seeds.dedup();
        let source = |seed: Seed| {
            let (addrs, tried) = match &seed {
                Seed::Addr(addr) => (alloc::vec![*addr], true),
                Seed::Name { .. } => (Vec::new(), false),
            };
            Source {
                seed,
                addrs,
                pending: None,
                tried,
            }
        };
        let mut this = Self {
            sources: seeds.into_iter().map(source).collect(),
            contacts: BTreeMap::new(),
            requests: VecDeque::new(),
            dials: VecDeque::new(),
            next_resolve: 0,
            refresh_at: None,
            heal_at: now + ALONE_INTERVAL,
            alone: ALONE_INTERVAL,
            ready_at: Some(now + READY_DELAY),
            started: now,
            ready: false,
            rng,
        };
        this.refresh(config, now);
        this
    }

    /// Resolves every name again, and dials what is new.
    pub(crate) fn refresh(&mut self, config: &Config, now: Instant) {
        for source in &mut self.sources {
            let Seed::Name { host, port } = &source.seed else {
                continue;
            };
            let given_up = planted(PlantedBug::LookupNeverRetried) && source.tried && source.addrs.is_empty();
            if source.pending.is_none() && !given_up {
                let id = ResolveId(self.next_resolve);
                self.next_resolve += 1;
                source.pending = Some((id, now));
                self.requests.push_back(ResolveRequest {
                    id,
                    host: host.clone(),
                    port: *port,
                });
            }
        }
        self.refresh_at = config
            .refresh_interval
            .map(|interval| now + interval.min(self.alone));
        self.dial_new(config, now);
    }

    /// Takes the answer to a request; an empty one is a failure.
    pub(crate) fn resolved(&mut self, cx: &mut Context<'_>, id: ResolveId, addrs: &[SocketAddr]) {
        let matches = |source: &&mut Source| source.pending.is_some_and(|(pending, _)| pending == id);
        let Some(source) = self.sources.iter_mut().find(matches) else {
            return;
        };
        source.pending = None;
        source.tried = true;
        let Seed::Name { host, port } = &source.seed else {
            return;
        };
        let mut found: Vec<SocketAddr> = addrs
            .iter()
            .map(|addr| SocketAddr::new(addr.ip(), if addr.port() == 0 { *port } else { addr.port() }))
            .map(canonical)
            .filter(|addr| is_shareable(addr.ip()))
            .collect();
        found.sort_unstable();
        found.dedup();
        found.truncate(MAX_ANSWER);
        if found.is_empty() {
            cx.events.push_back(Event::ResolveFailed { host: host.clone() });
        } else {
            source.addrs = found;
            self.dial_new(cx.config, cx.now);
        }
    }

    /// Dials every address that a seed names and that was never dialled.
    fn dial_new(&mut self, config: &Config, now: Instant) {
        // What no seed names any longer is forgotten, so that the table is bounded by the answers.
        let named = |addr: &SocketAddr| self.sources.iter().any(|source| source.addrs.contains(addr));
        self.contacts
            .retain(|addr, contact| named(addr) && !matches!(contact, Contact::Own(until) if *until <= now));
        for addr in self.sources.iter().flat_map(|source| &source.addrs) {
            if self.contacts.len() >= config.max_candidates {
                break;
            }
            self.contacts.entry(*addr).or_insert_with(|| {
                self.dials.push_back(*addr);
                Contact::Dialing
            });
        }
    }

    /// A session with somebody at this address is open.
    pub(crate) fn reached(&mut self, addr: SocketAddr) {
        if let Some(contact) = self.contacts.get_mut(&addr) {
            *contact = Contact::Reached;
        }
    }

    /// Nobody answered at this address.
    pub(crate) fn dial_failed(&mut self, cx: &mut Context<'_>, addr: SocketAddr) {
        let Some(contact) = self.contacts.get_mut(&addr) else {
            return;
        };
        let backoff = match *contact {
            Contact::Silent { backoff, .. } => (backoff * 2).min(cx.config.heal_interval * 6),
            _ => cx.config.heal_interval.min(ALONE_INTERVAL),
        };
        // Jitter of a quarter, so that nodes that lost each other together do not dial in step.
        let jitter = Duration::from_nanos(self.rng.below(backoff.as_nanos() as u64 / 4 + 1));
        *contact = Contact::Silent {
            retry: cx.now + backoff + jitter,
            backoff,
        };
    }

    /// This address is the node's own.
    pub(crate) fn dialed_self(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(contact) = self.contacts.get_mut(&addr) {
            *contact = Contact::Own(now + SELF_TTL);
        }
    }

    /// Does what is due. `alone` tells whether no member is known, `lives` whether a live one is known at an address.
    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        alone: bool,
        lives: impl Fn(SocketAddr) -> bool,
    ) {
        self.ready_at = self.ready_at.filter(|&at| at > cx.now);
        self.give_up_late_answers(cx);
        if !alone {
            self.alone = cx
                .config
                .refresh_interval
                .unwrap_or(Duration::MAX)
                .max(ALONE_INTERVAL);
        }
        if self.refresh_at.is_some_and(|at| at <= cx.now) {
            self.alone = if alone {
                self.next_alone(cx.config)
            } else {
                self.alone
            };
            self.refresh(cx.config, cx.now);
        }
        if self.heal_at <= cx.now {
            if !planted(PlantedBug::HealingForgets) {
                self.heal(cx, lives);
            }
            self.heal_at = cx.now
                + if alone {
                    ALONE_INTERVAL
                } else {
                    cx.config.heal_interval
                };
        }
    }

    /// A node that has lost everybody starts to look often again.
    pub(crate) fn lost_everybody(&mut self, config: &Config, now: Instant) {
        self.alone = ALONE_INTERVAL;
        self.heal_at = self.heal_at.min(now + ALONE_INTERVAL);
        if config.refresh_interval.is_some() {
            self.refresh_at = earliest(self.refresh_at, Some(now + ALONE_INTERVAL));
        }
    }

    fn next_alone(&self, config: &Config) -> Duration {
        (self.alone * 2).min(config.refresh_interval.unwrap_or(self.alone))
    }

    fn give_up_late_answers(&mut self, cx: &mut Context<'_>) {
        for source in &mut self.sources {
            if source
                .pending
                .is_some_and(|(_, asked)| asked + RESOLVE_TIMEOUT <= cx.now)
            {
                source.pending = None;
                source.tried = true;
                if let Seed::Name { host, .. } = &source.seed {
                    cx.events.push_back(Event::ResolveFailed { host: host.clone() });
                }
            }
        }
    }

    /// Dials one seed address without a live member whose time has come; the one that waits longest.
    fn heal(&mut self, cx: &Context<'_>, lives: impl Fn(SocketAddr) -> bool) {
        let mut due: Option<(Instant, SocketAddr)> = None;
        for (&addr, contact) in &mut self.contacts {
            if *contact == Contact::Reached && !lives(addr) {
                // Whoever was there is gone; give the address a first retry now.
                *contact = Contact::Silent {
                    retry: cx.now,
                    backoff: cx.config.heal_interval.min(ALONE_INTERVAL),
                };
            }
            if let Contact::Silent { retry, .. } = *contact
                && retry <= cx.now
                && !lives(addr)
            {
                due = Some(due.map_or((retry, addr), |found| found.min((retry, addr))));
            }
        }
        if let Some((_, addr)) = due {
            self.dials.push_back(addr);
        }
    }

    /// Returns true once: when every seed was tried and no full exchange with a peer is under way. Looked at after
    /// every input.
    pub(crate) fn became_ready(&mut self, now: Instant, exchanging: bool) -> bool {
        let done = !self.ready
            && now >= self.started + READY_DELAY
            && self.sources.iter().all(|source| source.tried)
            && !self.contacts.values().any(|contact| *contact == Contact::Dialing)
            && (!exchanging || now >= self.started + READY_LIMIT);
        self.ready |= done;
        done
    }

    pub(crate) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns whether a seed names this address.
    pub(crate) fn knows(&self, addr: SocketAddr) -> bool {
        self.contacts.contains_key(&addr)
    }

    pub(crate) fn poll_resolve(&mut self) -> Option<ResolveRequest> {
        self.requests.pop_front()
    }

    pub(crate) fn poll_dial(&mut self) -> Option<SocketAddr> {
        self.dials.pop_front()
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn usage(&self, config: &Config, usage: &mut Usage) {
        let answer = self.sources.iter().map(|source| source.addrs.len()).max();
        usage.row("seed addresses", self.contacts.len(), config.max_candidates);
        usage.row("worst addresses of a seed", answer.unwrap_or(0), MAX_ANSWER);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.sources.iter().filter_map(|source| source.pending);
        let late = pending.map(|(_, asked)| asked + RESOLVE_TIMEOUT).min();
        let heal = (!self.contacts.is_empty()).then_some(self.heal_at);
        earliest(earliest(late, self.ready_at), earliest(self.refresh_at, heal))
    }
}
