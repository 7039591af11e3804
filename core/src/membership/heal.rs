//! Finding members again that failed: their last addresses are dialled, one at a time, for three days.

use super::timers::Timer;
use super::{Action, Membership, join};
use crate::event::{Event, LeaveReason};
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Addresses that are kept.
const MAX_LOST: usize = 256;
/// How long they are kept.
const KEEP: Duration = Duration::from_secs(72 * 3600);
/// Addresses dialled at once after an isolation.
const BURST: usize = 32;
/// The longest wait for the same address, in heal intervals. Short, because the longest one bounds how long two halves
/// of a small cluster stay apart after their network is whole again.
const MAX_BACKOFF: u32 = 4;

#[derive(Debug)]
struct Address {
    addr: SocketAddr,
    until: Instant,
    next: Instant,
    backoff: u32,
}

/// Where failed members were last reached.
#[derive(Debug, Default)]
pub(super) struct Lost(BTreeMap<NodeId, Address>);

impl Lost {
    #[cfg(feature = "simulation")]
    pub(super) fn usage(&self, usage: &mut Usage) {
        usage.row("lost members", self.0.len(), MAX_LOST);
    }

    /// This member is back, or gone for good.
    pub(super) fn found(&mut self, id: NodeId) {
        self.0.remove(&id);
    }

    /// This process answered at an address: whoever else was there is not. The process itself is looked for until
    /// it is a member again; a session alone does not make it one.
    pub(super) fn answered(&mut self, addr: SocketAddr, by: NodeId) {
        self.0.retain(|&id, lost| lost.addr != addr || id == by);
    }
}

impl Membership {
    /// Remembers where a failed member was.
    pub(super) fn lose(&mut self, cx: &Context<'_>, id: NodeId, addr: SocketAddr) {
        if planted(PlantedBug::HealingForgets) {
            return;
        }
        if self.lost.0.len() >= MAX_LOST
            && let Some(oldest) = self
                .lost
                .0
                .iter()
                .min_by_key(|(_, lost)| lost.until)
                .map(|(&id, _)| id)
        {
            self.lost.0.remove(&oldest);
        }
        let address = Address {
            addr,
            until: cx.now + KEEP,
            next: cx.now,
            backoff: 1,
        };
        self.lost.0.insert(id, address);
        let wait = self.jittered(cx.config.heal_interval);
        self.timers.arm_if_idle(Timer::Heal, cx.now + wait);
    }

    /// Between three quarters and five quarters of a duration.
    pub(super) fn jittered(&mut self, duration: Duration) -> Duration {
        duration * 3 / 4 + duration * (self.rng.below(512) as u32) / 1024
    }

    /// Dials the lost member whose turn it is.
    pub(super) fn heal(&mut self, cx: &mut Context<'_>) {
        self.lost.0.retain(|_, lost| lost.until > cx.now);
        if self.lost.0.is_empty() || self.leaving.is_some() {
            return;
        }
        let factor = self.jittered(cx.config.heal_interval);
        let turn = self.lost.0.values_mut().filter(|lost| lost.next <= cx.now);
        if let Some(lost) = turn.min_by_key(|lost| lost.next) {
            lost.next = cx.now + factor * lost.backoff;
            lost.backoff = (lost.backoff * 2).min(MAX_BACKOFF);
            let addr = lost.addr;
            // Whoever answers is welcome: the process that failed may have been replaced.
            self.act(Action::Dial { addr, expect: None });
        }
        let wait = self.jittered(cx.config.heal_interval);
        self.timers.arm(Timer::Heal, cx.now + wait);
    }

    /// After more than a quarter of `tombstone_timeout` without an echo, isolated or paused, what this node holds for true would bring
    /// back ghosts: all members become addresses to dial, before a word is said to anybody.
    pub(super) fn check_isolation(&mut self, cx: &mut Context<'_>) {
        if cx.now - self.last_echo <= cx.config.isolation() || planted(PlantedBug::PausedNodeBringsGhosts) {
            return;
        }
        self.last_echo = cx.now;
        self.table.forget_failed();
        self.arm_tombstones();
        let members: Vec<NodeId> = self.table.iter().map(|entry| entry.member.id).collect();
        for id in members {
            let Some(entry) = self.table.remove(id) else {
                continue;
            };
            let addr = entry.member.addr;
            self.stop_watching(id);
            self.lose(cx, id, addr);
            let reason = LeaveReason::Failed;
            cx.events.push_back(Event::MemberLeft {
                member: entry.member,
                reason,
            });
        }
        self.news.clear();
        self.details.clear();
        self.detector.clear();
        self.choose_partners(cx);
        for i in 0..self.open.len() {
            self.start_join(cx, self.open[i], join::FLAG_SOLICIT);
        }
        let mut dials = Vec::with_capacity(BURST);
        for lost in self.lost.0.values_mut().take(BURST) {
            lost.next = cx.now + cx.config.heal_interval;
            dials.push(lost.addr);
        }
        for addr in dials {
            self.act(Action::Dial { addr, expect: None });
        }
    }

    /// Nobody answered at this address. The member there is judged by its deadlines, not by this.
    pub(crate) fn dial_failed(&mut self, _cx: &mut Context<'_>, addr: SocketAddr) {
        self.redirect_failed(super::canonical(addr));
    }
}
