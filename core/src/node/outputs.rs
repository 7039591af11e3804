//! What the node wants from its driver.

use super::{Node, State, TimerKind, Transmit, context};
use crate::event::{Event, Message, ResolveRequest};
use crate::id::NodeId;
use crate::journal::Entry;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{FrameWriter, HEADER_LEN, MAX_DATAGRAM, TAG_LEN};
use alloc::vec::Vec;

impl Node {
    /// Writes the next datagram into `buf`, which is cleared first, and returns where it goes; `None` if there is
    /// nothing to send. A datagram has at most [`MAX_DATAGRAM`] bytes.
    ///
    /// Drain it after every input: frames are packed, and counters assigned, when the datagram is handed out.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        let own = self.sessions.poll_transmit(buf);
        if own.is_some() && planted(PlantedBug::SentNotCounted) {
            return own.map(|to| Transmit { to });
        }
        let to = own
            .or_else(|| self.pack(now, buf))
            // Packing may have begun a dial for who has no session.
            .or_else(|| self.sessions.poll_transmit(buf))?;
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += buf.len() as u64;
        Some(Transmit { to })
    }

    /// Packs frames of the next peer that has some and can be reached.
    fn pack(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<core::net::SocketAddr> {
        if self.state == State::Left {
            return None;
        }
        while let Some(peer) = self.outbox.next_peer().or_else(|| self.messaging.next_peer()) {
            let Some(session) = self.sessions.begin(peer, buf) else {
                self.dial_for(now, peer);
                continue;
            };
            let mut writer = FrameWriter::new(buf, MAX_DATAGRAM - TAG_LEN);
            self.outbox.fill(peer, &mut writer);
            self.messaging.fill(now, &mut self.stats, peer, &mut writer);
            if buf.len() > HEADER_LEN
                && let Some(to) = self.sessions.finish(now, session, buf)
            {
                return Some(to);
            }
        }
        None
    }

    /// Opens a session for frames that wait. Messaging keeps its own, and is told when the session is open.
    fn dial_for(&mut self, now: Instant, peer: NodeId) {
        let addr = self.membership.address(peer);
        if addr.is_some_and(|addr| self.sessions.dial(context!(self, now), addr, Some(peer))) {
            self.held.insert(peer);
        } else if self.outbox.discard(peer) > 0 {
            self.stats.drop(DropReason::NoRoute);
        }
    }

    /// Returns the next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.examined = self.examined.saturating_sub(1);
        self.journal.other(|| Entry::Event(event.clone()));
        Some(event)
    }

    /// Returns the next message for the application. What is not taken waits in a bounded queue, and its sender is told
    /// to wait.
    pub fn poll_message(&mut self, now: Instant) -> Option<Message> {
        let message = self.messaging.poll_message(now, &mut self.stats)?;
        self.journal.other(|| Entry::Message(message.clone()));
        Some(message)
    }

    /// Returns the next name to resolve; answer with [`Node::handle_resolved`].
    pub fn poll_resolve(&mut self) -> Option<ResolveRequest> {
        self.discovery.poll_resolve()
    }

    /// Returns when [`Node::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timer().map(|(at, _)| at)
    }

    /// Returns which part the next timeout is for.
    pub fn timeout_reason(&self) -> Option<TimerKind> {
        self.next_timer().map(|(_, kind)| kind)
    }

    fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        if self.state == State::Left {
            return None;
        }
        let timers = [
            (self.sessions.poll_timeout(), TimerKind::Session),
            (self.discovery.poll_timeout(), TimerKind::Discovery),
            (self.membership.poll_timeout(), TimerKind::Membership),
            (self.messaging.poll_timeout(), TimerKind::Messaging),
            (self.consensus.poll_timeout(), TimerKind::Consensus),
            (self.gate.poll_timeout(), TimerKind::Gate),
        ];
        timers
            .into_iter()
            .filter_map(|(at, kind)| Some((at?, kind)))
            .min_by_key(|&(at, _)| at)
    }
}
