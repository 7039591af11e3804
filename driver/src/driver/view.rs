//! Keeping what handles can read at any time, and telling subscribers.

use crate::cluster::{ClusterEvent, Shared, View};
use alloc::collections::BTreeSet;
use alloc::string::String;
use core::net::SocketAddr;
use quorate_core::{Config, Duration, Event, Instant, Node, Role, Seed};

/// How often members are copied for readers, at most: their states change without an event.
const COPY_INTERVAL: Duration = Duration::from_millis(500);
/// How many addresses of seeds are remembered.
const SEED_ADDRS: usize = 1024;

/// Keeps the view.
#[derive(Debug)]
pub(crate) struct ViewKeeper {
    /// Where seeds are. Only what an unknown key is seen at these says about this node's own key.
    seeds: BTreeSet<SocketAddr>,
    has_quorum: bool,
    ready: bool,
    settled: bool,
    /// An observer adopts the cluster's settings; a voter's are its own.
    adopts: bool,
    copied: Instant,
}

impl ViewKeeper {
    pub(crate) fn new(config: &Config, view: &View, now: Instant) -> Self {
        let literal = |seed: &String| match Seed::parse(seed) {
            Ok(Seed::Addr(addr)) => Some(addr),
            _ => None,
        };
        Self {
            seeds: config.seeds.iter().filter_map(literal).collect(),
            has_quorum: view.has_quorum,
            ready: view.ready,
            settled: view.settled,
            adopts: config.role == Role::Observer,
            copied: now,
        }
    }

    /// Remembers where seeds were found.
    pub(crate) fn note_seeds(&mut self, addrs: &[SocketAddr]) {
        if self.seeds.len() + addrs.len() <= SEED_ADDRS {
            self.seeds.extend(addrs);
        }
    }

    /// Applies an event to the view, then passes it on: whoever hears of it finds it there.
    pub(crate) fn tell(&mut self, node: &Node, shared: &Shared, now: Instant, event: Event) {
        match &event {
            Event::MemberJoined(member) | Event::MemberUpdated(member) => shared.update(|view| {
                view.members.insert(member.id, member.clone());
                view.unknown_key = None;
            }),
            Event::MemberLeft { member, .. } => shared.update(|view| {
                view.members.remove(&member.id);
            }),
            Event::QuorumChanged { has_quorum, .. } => self.set_quorum(shared, *has_quorum),
            Event::Ready => {
                self.ready = true;
                let unknown_key = self.unknown_key(node, now);
                shared.update(|view| {
                    view.ready = true;
                    view.unknown_key = unknown_key;
                });
            }
            Event::UnknownKey { .. } if self.ready => {
                let unknown_key = self.unknown_key(node, now);
                shared.update(|view| view.unknown_key = unknown_key);
            }
            _ => {}
        }
        if self.adopts && matches!(event, Event::MemberJoined(_) | Event::QuorumChanged { .. }) {
            let quorum_size = node.status(now).quorum_size;
            shared.update(|view| view.quorum_size = quorum_size);
        }
        if let Some(event) = ClusterEvent::from_core(event) {
            shared.for_subscribers(|subscriber| subscriber.push(event.clone()));
        }
    }

    /// Brings up to date what has no event of its own.
    pub(crate) fn publish(&mut self, node: &Node, shared: &Shared, now: Instant) {
        self.set_quorum(shared, node.has_quorum());
        let settled = node.is_settled();
        if self.settled != settled {
            self.settled = settled;
            shared.update(|view| view.settled = settled);
        }
        if now.saturating_since(self.copied) >= COPY_INTERVAL && shared.take_view_read() {
            self.copied = now;
            shared.update(|view| view.members = node.members().map(|member| (member.id, member)).collect());
        }
    }

    fn set_quorum(&mut self, shared: &Shared, has_quorum: bool) {
        if self.has_quorum != has_quorum {
            self.has_quorum = has_quorum;
            shared.update(|view| view.has_quorum = has_quorum);
        }
    }

    fn unknown_key(&self, node: &Node, now: Instant) -> Option<(SocketAddr, quorate_core::KeyId)> {
        let seen = node.status(now).unknown_keys;
        seen.into_iter().find(|(addr, _)| self.seeds.contains(addr))
    }
}
