//! Drawing tokens. Stands for locks until there are some.

use super::Consensus;
use crate::config::Config;
use crate::consensus::life::{Group, Life};
use crate::consensus::replica::{Drawn, Output};
use crate::error::DrawError;
use crate::event::{DrawId, Event};
use crate::id::NodeId;
use crate::outbox::Context;
use crate::status::Settings;
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;

/// Requests that may be open.
const MAX_DRAWS: usize = 256;

#[derive(Debug)]
struct Draw {
    /// Belief counts from here.
    asked: Instant,
    deadline: Instant,
    send_at: Instant,
}

/// The requests of this node.
#[derive(Debug, Default)]
pub(super) struct Draws {
    /// How long a token may be believed in, on this node's clock, from the moment at which it was asked for.
    belief: Duration,
    open: BTreeMap<u64, Draw>,
    next: Option<Instant>,
}

impl Draws {
    /// Goes by these settings: an observer adopts the cluster's.
    pub(super) const fn adopt(&mut self, settings: &Settings) {
        // This clock may be as much too slow as the bound allows.
        let nanos = settings.max_ttl.as_nanos() as u64;
        self.belief = Duration::from_nanos(nanos / 1000 * (1000 - settings.drift_permille as u64));
    }

    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    fn rearm(&mut self) {
        self.next = self
            .open
            .values()
            .map(|draw| draw.send_at.min(draw.deadline))
            .min();
    }

    fn fail_all(&mut self, cx: &mut Context<'_>, error: DrawError) {
        for id in core::mem::take(&mut self.open).into_keys() {
            let id = DrawId(id);
            cx.events.push_back(Event::TokenFailed { id, error });
        }
        self.rearm();
    }

    /// Ends all requests of a life that ends.
    pub(super) fn forget(&mut self, cx: &mut Context<'_>) {
        self.fail_all(cx, DrawError::Abandoned);
    }

    /// Ends all requests of a node that leaves.
    pub(super) fn refuse(&mut self, cx: &mut Context<'_>) {
        self.fail_all(cx, DrawError::Leaving);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

pub(super) const fn most_draws() -> usize {
    MAX_DRAWS
}

impl Consensus {
    /// Asks the group for a token. The outcome is an event.
    pub(crate) fn draw(&mut self, cx: &mut Context<'_>, id: u64) -> Result<(), DrawError> {
        if !self.may_draw(self.replica.life().node) {
            return Err(DrawError::Observer);
        }
        if self.leaving.is_some() {
            return Err(DrawError::Leaving);
        }
        if self.draws.open.len() >= MAX_DRAWS {
            return Err(DrawError::QueueFull);
        }
        let draw = Draw {
            asked: cx.now,
            deadline: cx.now + cx.config.message_timeout,
            send_at: cx.now,
        };
        self.draws.open.insert(id, draw);
        self.draws_due(cx);
        self.after(cx);
        Ok(())
    }

    /// Whether a process may ask for tokens.
    pub(super) fn may_draw(&self, id: NodeId) -> bool {
        let voter = if id == self.replica.life().node {
            self.replica.is_eligible()
        } else {
            self.peers.get(&id).is_some_and(|peer| peer.voter)
        };
        voter || self.replica.rules().allow_observers
    }

    /// Whom to ask: the leader of the own group, or the one that was heard of last; without a quorum, that of the
    /// youngest group. Nobody, if nothing is taken from this node.
    pub(super) fn leader_to_ask(&self, now: Instant, config: &Config) -> Option<(Group, Life)> {
        if !self.may_draw(self.replica.life().node) {
            return None;
        }
        let own = self.replica.group().zip(self.replica.leader());
        let Some((group, leader)) = own else {
            let foremost = self.foremost(self.sightings.live(now, config))?;
            return Some((foremost.group, foremost.leader));
        };
        // Who has no seat never campaigns: that another one leads now it hears of that one, or of others if cut off.
        let outside = !self.replica.is_seated() && self.replica.leadership().is_none();
        let seen = self.sightings.get(group).filter(|_| outside);
        let newer = seen.filter(|seen| Some(seen.confirmed) > self.leader_heard);
        Some((group, newer.map_or(leader, |seen| seen.leader)))
    }

    pub(super) fn draws_due(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        if self.draws.next.is_none_or(|next| next > now)
            && self.draws.open.values().all(|draw| draw.send_at > now)
        {
            return;
        }
        let leader = self.leader_to_ask(now, cx.config);
        let mut out = Output::default();
        let mut late = alloc::vec::Vec::new();
        for (&id, draw) in &mut self.draws.open {
            if draw.deadline <= now {
                late.push(id);
            } else if draw.send_at <= now {
                draw.send_at = now + Duration::from_millis(250);
                if let Some((group, leader)) = leader {
                    self.replica.ask(group, leader, id, &mut out);
                }
            }
        }
        for id in late {
            self.draws.open.remove(&id);
            let (id, error) = (DrawId(id), DrawError::Timeout);
            cx.events.push_back(Event::TokenFailed { id, error });
        }
        self.draws.rearm();
        self.carry_out(cx, out);
    }

    /// The group has answered.
    pub(super) fn drawn(&mut self, cx: &mut Context<'_>, drawn: Drawn) {
        let Some(draw) = self.draws.open.remove(&drawn.request) else {
            return;
        };
        self.draws.rearm();
        let id = DrawId(drawn.request);
        let until = draw.asked + self.draws.belief;
        cx.events.push_back(match drawn.token {
            Some(_) if until <= cx.now => Event::TokenFailed {
                id,
                error: DrawError::Timeout,
            },
            Some(token) => Event::TokenDrawn {
                id,
                token,
                group: drawn.group,
                until,
            },
            None => Event::TokenFailed {
                id,
                error: DrawError::Closed,
            },
        });
    }
}
