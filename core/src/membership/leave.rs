//! Saying goodbye, and hearing it.

use super::Membership;
use super::record::{Record, State};
use super::timers::Timer;
use crate::config::Role;
use crate::event::LeaveReason;
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use crate::wire::{Reader, kind};
use alloc::vec::Vec;

/// Voters that are told.
const VOTERS: usize = 32;
/// Other members that are told.
const OTHERS: usize = 3;
const TRIES: u32 = 3;
/// Acknowledgements that are enough: two members spread the word.
const ENOUGH: usize = 2;

/// A departure under way.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Who has not acknowledged.
    silent: Vec<NodeId>,
    /// Acknowledgements still needed.
    needed: usize,
    tries: u32,
    until: Instant,
    done: bool,
}

impl Membership {
    /// Starts leaving: tells up to 32 voters and 3 others. Calling it again changes nothing.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        if self.leaving.is_some() {
            return;
        }
        let mut recipients = self.detector.partners.clone();
        let voter = |id: &NodeId| {
            self.table
                .get(*id)
                .is_some_and(|entry| entry.member.role == Role::Voter)
        };
        // Voters with an open session first: those hear it without a handshake.
        let voters = self.open.iter().filter(|id| voter(id)).chain(self.table.voters());
        for &id in voters {
            if recipients.len() >= VOTERS {
                break;
            }
            if id != self.me && !recipients.contains(&id) {
                recipients.push(id);
            }
        }
        self.rng.shuffle(&mut self.open);
        let members = self
            .open
            .iter()
            .copied()
            .filter(|&id| self.table.get(id).is_some());
        let mut others: Vec<NodeId> = members.collect();
        others.extend(
            self.table
                .iter()
                .map(|entry| entry.member.id)
                .take(VOTERS + OTHERS),
        );
        let enough = recipients.len() + OTHERS;
        for id in others {
            if recipients.len() < enough && !recipients.contains(&id) {
                recipients.push(id);
            }
        }
        self.leaving = Some(Leaving {
            needed: recipients.len().min(ENOUGH),
            done: recipients.is_empty() || planted(PlantedBug::LeaveNotAwaited),
            silent: recipients,
            tries: 0,
            until: cx.now + cx.config.leave_timeout,
        });
        if self.left() {
            self.stop();
        } else {
            self.leave_due(cx);
        }
    }

    /// Whether leaving is complete. Nothing is sent or taken any more.
    pub(crate) fn left(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.done)
    }

    fn stop(&mut self) {
        self.timers.clear();
        self.actions.clear();
    }

    pub(super) fn leave_due(&mut self, cx: &mut Context<'_>) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        if cx.now >= leaving.until && planted(PlantedBug::LeaveWaitsForEver) {
            return;
        }
        if cx.now >= leaving.until && leaving.tries > 0 {
            leaving.done = true;
            self.stop();
            return;
        }
        if leaving.tries < TRIES {
            leaving.tries += 1;
            for &peer in &leaving.silent {
                Self::say_leave(cx, peer, self.me, self.incarnation);
            }
        }
        let next = cx.now + cx.config.leave_timeout / TRIES;
        self.timers.arm(Timer::Leave, next.min(leaving.until));
    }

    pub(super) fn say_leave(cx: &mut Context<'_>, to: NodeId, leaver: NodeId, incarnation: u32) {
        cx.send(to, kind::LEAVE, |buf| {
            buf.extend_from_slice(&leaver.to_bytes());
            buf.extend_from_slice(&incarnation.to_be_bytes());
        });
    }

    /// A member says goodbye, for itself and nobody else.
    pub(super) fn handle_leave(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let named = reader.node_id().ok_or(BadFrame)?;
        let incarnation = reader.u32().ok_or(BadFrame)?;
        if named != from {
            if planted(PlantedBug::LeaveHonouredForAnother) {
                self.depart(cx, named, LeaveReason::Left, incarnation);
                return Ok(());
            }
            return Err(BadFrame);
        }
        cx.send(from, kind::LEAVE_ACK, |_| {});
        if self.table.get(from).is_some() {
            let reason = if planted(PlantedBug::GoodbyeCalledFailure) {
                LeaveReason::Failed
            } else {
                LeaveReason::Left
            };
            self.depart(cx, from, reason, incarnation);
            return Ok(());
        }
        // It may be a member elsewhere, and its JOIN may still be under way to here.
        let old = self.table.tombstone(cx.now, from);
        if old.is_none_or(|old| old.state != State::Left)
            && let Some(peer) = self.peers.get(&from)
        {
            let record = Record {
                id: from,
                addr: peer.addr,
                incarnation,
                state: State::Left,
                ..old.unwrap_or(self.own_record())
            };
            self.bury(cx, Record { age: 0, ..record });
            self.spread(cx, from);
        }
        Ok(())
    }

    pub(super) fn handle_leave_ack(&mut self, from: NodeId) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        let Some(place) = leaving.silent.iter().position(|&peer| peer == from) else {
            return;
        };
        leaving.silent.swap_remove(place);
        leaving.needed = leaving.needed.saturating_sub(1);
        if leaving.needed == 0 {
            leaving.done = true;
            self.stop();
        }
    }
}
