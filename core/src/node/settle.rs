//! Carrying news between the parts.

use super::gate::Waiting;
use super::{Node, State, context};
use crate::consensus::Surroundings;
use crate::error::DeliveryError;
use crate::event::{Event, LeaveReason, RejectReason};
use crate::id::NodeId;
use crate::locks::{LockEvent, LockId};
use crate::membership::Action;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::session::SessionEvent;
use crate::stats::DropReason;
use crate::time::Instant;
use alloc::vec::Vec;

impl Node {
    /// Carries news between the parts until there is none.
    pub(super) fn settle(&mut self, now: Instant) {
        self.drain_sessions(now);
        self.examine_events(now);
        while let Some(Action::Dial { addr, expect }) = self.membership.poll_action() {
            self.sessions.dial(context!(self, now), addr, expect);
        }
        while let Some(addr) = self.discovery.poll_dial() {
            if !self.sessions.dial(context!(self, now), addr, None) {
                // Too many wait already: its turn comes again, as if nobody had answered.
                self.discovery.dial_failed(context!(self, now), addr);
            }
        }
        if self
            .discovery
            .became_ready(now, self.membership.pending_exchanges() > 0)
        {
            self.events.push_back(Event::Ready);
        }
        self.update_quorum(now);
        let around = Surroundings {
            ready: self.discovery.is_ready(),
            voters: self.membership.voters_present(),
            quarantined: self.sessions.quarantined_voter(),
            leader_present: self
                .consensus
                .depends_on()
                .is_none_or(|leader| self.membership.get(leader).is_some()),
        };
        self.consensus.look(context!(self, now), around);
        if self.state == State::Leaving && self.consensus.may_go() {
            self.membership.leave(context!(self, now));
        }
        if self.state == State::Leaving && self.membership.left() {
            self.state = State::Left;
            self.sessions.close_all(context!(self, now));
            self.events.push_back(Event::LeaveDone);
        }
    }

    pub(super) fn drain_sessions(&mut self, now: Instant) {
        while let Some(event) = self.sessions.poll_event() {
            self.on_session_event(now, event);
        }
    }

    fn on_session_event(&mut self, now: Instant, event: SessionEvent) {
        match event {
            SessionEvent::Up {
                peer,
                addr,
                expected,
                role,
                observed,
                ..
            } => {
                self.discovery.reached(addr);
                if let Some(reason) = self.refusal(peer) {
                    return self.sessions.reject(context!(self, now), peer, reason);
                }
                self.membership
                    .peer_up(context!(self, now), peer, addr, role, observed, expected);
                self.messaging.link_up(peer);
                let settings = self.sessions.settings();
                self.consensus.adopt(context!(self, now), &settings);
                self.consensus.peer_up(context!(self, now), peer, role);
                self.held.remove(&peer);
                self.outbox.relist(peer);
            }
            SessionEvent::Down { peer } => {
                self.membership.peer_down(context!(self, now), peer);
                self.consensus.peer_down(context!(self, now), peer);
                self.forget_frames_for(peer);
            }
            SessionEvent::Moved { peer, addr } => self.membership.peer_moved(context!(self, now), peer, addr),
            SessionEvent::DialFailed { addr, expected } => {
                self.discovery.dial_failed(context!(self, now), addr);
                self.membership.dial_failed(context!(self, now), addr);
                self.give_up_held(expected);
            }
            SessionEvent::DialedSelf { addr } => {
                self.discovery.dialed_self(now, addr);
                self.membership.dialed_self(context!(self, now), addr);
            }
            SessionEvent::Rejected { addr, reason, .. } => {
                self.discovery.dial_failed(context!(self, now), addr);
                self.events.push_back(Event::Rejected { addr, reason });
            }
            SessionEvent::Quarantined {
                peer, addr, reasons, ..
            } => {
                self.discovery.reached(addr);
                self.events.push_back(Event::Quarantined {
                    id: peer,
                    addr,
                    reasons,
                });
                self.membership.quarantined(context!(self, now), peer);
            }
            SessionEvent::QuarantineEnded { peer } => {
                self.membership.quarantine_ended(peer);
                self.events.push_back(Event::QuarantineEnded { id: peer });
            }
            SessionEvent::UnknownSession { from } => {
                if self.discovery.knows(from) || self.membership.member_at(from).is_some() {
                    self.sessions
                        .dial(context!(self, now), from, self.membership.member_at(from));
                }
            }
        }
    }

    /// Why a process that was let in by its key cannot become a member.
    fn refusal(&mut self, peer: NodeId) -> Option<RejectReason> {
        // One that waits for its replacement is still of use to those who come.
        if self.state != State::Running && self.consensus.may_go() {
            return Some(RejectReason::Leaving);
        }
        let full = self.membership.member_count() >= self.config.max_members;
        if full && self.membership.get(peer).is_none() {
            self.stats.drop(DropReason::MembersFull);
            return Some(RejectReason::Full);
        }
        None
    }

    /// Frames for a peer that could not be dialled are of no use to it any more.
    fn give_up_held(&mut self, peer: Option<NodeId>) {
        if let Some(peer) = peer
            && self.held.remove(&peer)
            && self.outbox.discard(peer) > 0
        {
            self.stats.drop(DropReason::NoRoute);
        }
    }

    /// Nothing can be sent any more to who is neither a member nor has a session.
    fn forget_frames_for(&mut self, peer: NodeId) {
        if self.membership.get(peer).is_none() && !self.sessions.is_open(peer) {
            self.held.remove(&peer);
            self.outbox.discard(peer);
        }
    }

    /// What is not told yet of a lock must tell of no more than what is believed in after a shorter lease was set, and
    /// of no less: a belief that is over never comes back, so one that lasts must not be told of too late.
    pub(super) fn shorten_untold(&mut self, lock: LockId, most: Instant) {
        for event in &mut self.events {
            if let Event::Lock(
                LockEvent::Granted { id, until, .. }
                | LockEvent::Renewed { id, until }
                | LockEvent::AtRisk { id, until },
            ) = event
                && *id == lock
            {
                *until = (*until).min(most);
            }
        }
    }

    /// Tells the other parts what follows from the events that came up.
    fn examine_events(&mut self, now: Instant) {
        while let Some(event) = self.events.get(self.examined) {
            self.examined += 1;
            match event {
                Event::MemberLeft { member, reason } => {
                    let (peer, reason) = (member.id, *reason);
                    self.sessions.set_lost(peer, true);
                    self.messaging.peer_gone(context!(self, now), peer);
                    self.consensus.member_left(context!(self, now), peer, reason);
                    // A leaver closes its sessions itself, once it has its acknowledgements.
                    let forget = reason == LeaveReason::Failed && planted(PlantedBug::HealingForgets);
                    if reason == LeaveReason::Replaced || forget {
                        self.outbox.discard(peer);
                        self.sessions.close(context!(self, now), peer);
                    }
                    self.forget_frames_for(peer);
                    self.drain_sessions(now);
                }
                Event::MemberJoined(member) => {
                    self.sessions.set_lost(member.id, false);
                    self.consensus.member_joined(member.id);
                }
                // Dialling back shows a process that missed a rotation the key that it lacks, before it takes itself
                // for ready. Only seeds are dialled: a HELLO under an unknown key proves nothing about its source.
                Event::UnknownKey { addr, .. } if self.discovery.knows(*addr) => {
                    let addr = *addr;
                    self.sessions.dial(context!(self, now), addr, None);
                }
                _ => {}
            }
        }
        let alone = self.membership.member_count() == 0;
        if alone && !self.alone {
            self.discovery.lost_everybody(&self.config, now);
        }
        self.alone = alone;
    }

    pub(super) fn count_quorum(&self) -> bool {
        self.membership.voters_present() >= self.quorum_size()
    }

    fn update_quorum(&mut self, now: Instant) {
        let kept = self.has_quorum && planted(PlantedBug::QuorumNeverLost);
        let has_quorum = self.count_quorum() || kept;
        if has_quorum != self.has_quorum {
            self.has_quorum = has_quorum;
            let present = self.membership.voters_present();
            self.events
                .push_back(Event::QuorumChanged { has_quorum, present });
        }
        if !has_quorum || self.state != State::Running || planted(PlantedBug::GateNeverReleased) {
            return;
        }
        while let Some(Waiting {
            command,
            payload,
            deadline,
        }) = self.gate.release()
        {
            let targets: Vec<NodeId> = self.membership.members().map(|member| member.id).collect();
            if self.dispatch(now, command, &targets, payload, deadline).is_err() {
                // Only a single target's full queue refuses the whole; with several it is that target's outcome.
                self.stats.messages_refused += 1;
                self.events
                    .extend(command.failed(targets.first().copied(), DeliveryError::QueueFull));
            }
        }
    }
}
