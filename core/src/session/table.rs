//! The table of sessions: which one a peer is written to on, which ones are still received on, and when each ends.

use super::message::Hail;
use super::rekey::{Rekey, RekeyAnswer};
use super::window::Window;
use super::{Limits, SessionEvent, Sessions, Timer};
use crate::config::KeyId;
use crate::crypto::{Aead, Crypto, SplitKeys};
use crate::event::RejectReason;
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::time::{Duration, Instant, earliest};
use crate::wire::{Frames, HEADER_LEN, Header, ProtocolFlavor, TAG_LEN, kind};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Sessions of one peer that are kept: the current one and what it replaced.
pub(super) const PER_PEER: usize = 4;
/// Two handshakes this close to each other are taken for simultaneous dials.
const SIMULTANEOUS: Duration = Duration::from_secs(10);
/// How long datagrams under way may take to arrive on a session whose key was removed.
pub(super) const IN_FLIGHT: Duration = Duration::from_secs(1);
/// When the first KEEPALIVE follows M2, if nothing else was sent, and how long each further one waits.
const KEEPALIVE_DELAYS: [Duration; 8] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(1500),
    Duration::from_millis(2000),
    Duration::from_millis(2250),
    Duration::from_millis(2500),
];

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// This side sent M2; nothing that the other side sealed came in yet.
    HalfOpen,
    /// The one on which the peer is written to.
    Current,
    /// Replaced. Still received on until then.
    Retired {
        until: Instant,
        /// Whether a re-key replaced it: the peer has the new one for certain, and the time is not extended.
        rekeyed: bool,
    },
}

/// The answer to M1, for as long as the initiator may not have it.
#[derive(Debug)]
pub(super) struct StoredM2 {
    pub(super) ephemeral: [u8; 32],
    pub(super) datagram: Vec<u8>,
    pub(super) resends: u8,
}

/// A changed source address that is not proven yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathProbe {
    pub(super) addr: SocketAddr,
    pub(super) token: [u8; 8],
    pub(super) until: Instant,
}

/// Keys between this process and another, and their state. What every datagram touches comes first and stays together:
/// with many peers it is never in the cache, and each line of it is waited for.
#[repr(C)]
pub(super) struct Session {
    opens: Box<dyn Aead>,
    seals: Box<dyn Aead>,
    /// The counter of the next datagram that is sent.
    pub(super) counter: u64,
    pub(super) created: Instant,
    pub(super) last_sent: Instant,
    pub(super) last_received: Instant,
    pub(super) standing: Standing,
    pub(super) addr: SocketAddr,
    pub(super) remote: u32,
    pub(super) quarantined: bool,
    pub(super) peer: NodeId,
    /// When the next KEEPALIVE is due and how many were before it; `None` as soon as the peer was heard.
    pub(super) keepalive: Option<(Instant, usize)>,
    pub(super) window: Window,
    pub(super) local: u32,
    /// The shared key under which it was made.
    pub(super) key: KeyId,
    /// The hash of its handshake.
    pub(super) hash: [u8; 32],
    pub(super) hail: Hail,
    /// Whether this side began the handshake.
    pub(super) initiator: bool,
    /// The session inside which it was made by a re-key.
    pub(super) parent: Option<u32>,
    pub(super) stored_m2: Option<StoredM2>,
    pub(super) rekey_at: Instant,
    pub(super) rekey: Option<Rekey>,
    pub(super) answering: Option<RekeyAnswer>,
    pub(super) path: Option<PathProbe>,
    /// Its key is no longer in the ring: it ends then.
    pub(super) close_at: Option<Instant>,
    /// When its timer goes off.
    wake: Instant,
}

/// What a handshake has agreed on, for `Session::new`.
pub(super) struct Agreed {
    pub(super) local: u32,
    pub(super) remote: u32,
    pub(super) addr: SocketAddr,
    pub(super) key: KeyId,
    pub(super) hail: Hail,
    pub(super) initiator: bool,
    pub(super) parent: Option<u32>,
}

impl Session {
    pub(super) fn new(
        crypto: &Crypto,
        limits: &Limits,
        now: Instant,
        keys: &SplitKeys,
        agreed: Agreed,
    ) -> Self {
        let (ours, theirs) = if agreed.initiator {
            (&keys.initiator, &keys.responder)
        } else {
            (&keys.responder, &keys.initiator)
        };
        let rekey_after = if agreed.initiator {
            limits.rekey_after
        } else {
            limits.rekey_after_responder
        };
        Self {
            local: agreed.local,
            remote: agreed.remote,
            peer: agreed.hail.id,
            addr: agreed.addr,
            seals: crypto.aead(ours),
            opens: crypto.aead(theirs),
            counter: 0,
            window: Window::default(),
            key: agreed.key,
            hash: keys.hash,
            hail: agreed.hail,
            initiator: agreed.initiator,
            created: now,
            last_sent: now,
            last_received: now,
            standing: Standing::HalfOpen,
            parent: agreed.parent,
            quarantined: false,
            stored_m2: None,
            // After a re-key at once: until it comes, the other side writes on the old session.
            keepalive: agreed.initiator.then(|| match agreed.parent {
                Some(_) => (now, 0),
                None => (now + KEEPALIVE_DELAYS[0], 0),
            }),
            rekey_at: now + rekey_after,
            rekey: None,
            answering: None,
            path: None,
            close_at: None,
            wake: Instant::FAR_FUTURE,
        }
    }

    pub(super) fn is_half_open(&self) -> bool {
        self.standing == Standing::HalfOpen
    }

    pub(super) fn expired(&self, limits: &Limits, now: Instant) -> bool {
        now >= self.created + limits.reject_after || self.counter >= limits.reject_counter
    }

    pub(super) fn last_used(&self) -> Instant {
        self.last_sent.max(self.last_received)
    }

    /// Checks, authenticates and decrypts a datagram whose length was looked at, then records its counter. Returns
    /// whether it is the newest.
    pub(super) fn open(
        &mut self,
        limits: &Limits,
        now: Instant,
        counter: u64,
        datagram: &mut [u8],
    ) -> Result<bool, DropReason> {
        if counter >= limits.reject_counter || now >= self.created + limits.reject_after {
            return Err(DropReason::SessionExpired);
        }
        if !self.window.check(counter) {
            return Err(DropReason::Replayed);
        }
        let early =
            planted(PlantedBug::WindowUpdatedBeforeAuthentication).then(|| self.window.update(counter));
        let (header, sealed) = datagram
            .split_at_mut_checked(HEADER_LEN)
            .ok_or(DropReason::Malformed)?;
        let (text, tag) = sealed
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(DropReason::Malformed)?;
        let (nonce, header) = bound(counter, header);
        self.opens
            .open_in_place(nonce, header, text, tag)
            .map_err(|_| DropReason::BadSeal)?;
        Ok(early.unwrap_or_else(|| self.window.update(counter)))
    }

    /// Seals the frames behind the header's place in `buf` under the next counter. `false` if there is no such place.
    pub(super) fn seal(&mut self, flavor: ProtocolFlavor, buf: &mut Vec<u8>) -> bool {
        let header = Header {
            receiver: self.remote,
            counter: self.counter,
        }
        .encode(flavor);
        let Some((head, text)) = buf.split_at_mut_checked(HEADER_LEN) else {
            return false;
        };
        head.copy_from_slice(&header);
        let (nonce, header) = bound(self.counter, &header);
        let tag = self.seals.seal_in_place(nonce, header, text);
        self.counter += 1;
        buf.extend_from_slice(&tag);
        true
    }

    fn next_wake(&self, limits: &Limits) -> Instant {
        let mut wake = self.created + limits.reject_after;
        match self.standing {
            Standing::HalfOpen if planted(PlantedBug::HalfOpenNeverExpires) => return Instant::FAR_FUTURE,
            Standing::HalfOpen => return self.created + limits.half_open,
            Standing::Retired { until, .. } => wake = wake.min(until),
            Standing::Current => {
                wake = wake.min(self.rekey.as_ref().map_or(self.rekey_at, |rekey| rekey.wake));
            }
        }
        let others = earliest(self.keepalive.map(|(at, _)| at), self.path.map(|path| path.until));
        earliest(others, self.close_at).map_or(wake, |at| wake.min(at))
    }
}

/// Returns what of the header a seal covers: the counter as its nonce, and all of it as associated data.
fn bound(counter: u64, header: &[u8]) -> (u64, &[u8]) {
    if planted(PlantedBug::HeaderNotAuthenticated) {
        (0, &[])
    } else {
        (counter, header)
    }
}

/// A process with a confirmed session.
#[derive(Debug)]
pub(super) struct Peer {
    /// The session on which it is written to.
    pub(super) current: u32,
    /// All confirmed ones, the current one among them, oldest first; at most `PER_PEER`.
    pub(super) sessions: Vec<u32>,
    pub(super) quarantined: bool,
    /// Whether it was a member and is none any more. Its sessions outlive that, so that it can come back on them.
    pub(super) lost: bool,
}

impl Sessions {
    /// Puts a session into the table, with its timer.
    pub(super) fn insert_session(&mut self, now: Instant, session: Session) {
        let local = session.local;
        self.table.insert(local, session);
        self.arm(now, local);
    }

    /// Sets the session's timer to what it waits for next.
    pub(super) fn arm(&mut self, now: Instant, local: u32) {
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        // What is due already goes off a moment later: a timer never sets itself to the present, over and over.
        let wake = session
            .next_wake(&self.limits)
            .max(now + Duration::from_micros(1));
        if wake != session.wake {
            self.timers.remove(session.wake, Timer::Session(local));
            self.timers.insert(wake, Timer::Session(local));
            session.wake = wake;
        }
    }

    /// Does what a session's timer went off for.
    pub(super) fn wake_session(&mut self, cx: &mut Context<'_>, local: u32) {
        let now = cx.now;
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        session.wake = Instant::FAR_FUTURE;
        let over = match session.standing {
            Standing::HalfOpen => now >= session.created + self.limits.half_open,
            Standing::Retired { until, .. } => now >= until,
            Standing::Current => false,
        };
        if over || session.expired(&self.limits, now) {
            self.remove_session(now, local);
            return;
        }
        if session.close_at.is_some_and(|at| at <= now) {
            // On a replaced session it could overtake the first datagram on the new one, and end that too.
            if session.standing == Standing::Current {
                self.transmit_frame(cx.stats, local, None, kind::CLOSE, |_| {});
            }
            self.remove_session(now, local);
            return;
        }
        session.path = session.path.filter(|path| path.until > now);
        if let Some((at, before)) = session.keepalive
            && at <= now
        {
            let Some(&delay) = KEEPALIVE_DELAYS.get(before + 1) else {
                // The responder is gone, or it dropped the half-open session.
                self.remove_session(now, local);
                return;
            };
            session.keepalive = Some((now + delay, before + 1));
            // The first one only stands in for a frame that would have been sent anyway.
            if before > 0 || session.counter == 0 {
                self.transmit_frame(cx.stats, local, None, kind::KEEPALIVE, |_| {});
            }
        }
        self.wake_rekey(cx, local);
        self.arm(now, local);
    }

    /// Makes a session whose handshake is complete, by M2 or by its first sealed datagram, the current one of its
    /// peer. `frames` are those of that datagram. Returns whether the session lives on.
    pub(super) fn promote(&mut self, cx: &mut Context<'_>, local: u32, frames: &[u8]) -> bool {
        let Some(session) = self.table.get_mut(&local) else {
            return false;
        };
        if let Some(stored) = session.stored_m2.take() {
            self.half_open.remove(&stored.ephemeral);
        }
        if session.parent.is_some() {
            return self.replace_parent(cx, local);
        }
        let (addr, peer) = (session.addr, session.peer);
        if session.hail.cluster == self.cluster {
            return self.open(cx, local, None, None, false);
        }
        cx.stats.drop(DropReason::OtherCluster);
        let rejected = Frames::new(frames).any(|frame| frame.kind == kind::REJECT);
        if rejected {
            let reason = RejectReason::OtherCluster;
            self.events
                .push_back(SessionEvent::Rejected { peer, addr, reason });
        } else {
            let code = reject_code(RejectReason::OtherCluster);
            self.transmit_frame(cx.stats, local, None, kind::REJECT, |buf| buf.push(code));
        }
        self.remove_session(cx.now, local);
        false
    }

    /// Makes a session current and retires what it replaces. A new peer beyond `max_sessions` evicts the least
    /// recently used one. Returns whether the peer had a session before.
    pub(super) fn install(&mut self, cx: &mut Context<'_>, local: u32, quarantined: bool) -> bool {
        let now = cx.now;
        let Some(session) = self.table.get_mut(&local) else {
            return false;
        };
        let (id, parent) = (session.peer, session.parent);
        session.standing = Standing::Current;
        session.quarantined = quarantined;
        let known = self.peers.contains_key(&id);
        if !known && self.peers.len() >= cx.config.max_sessions {
            self.evict(cx);
        }
        let peer = self.peers.get_or_insert_with(id, || Peer {
            current: local,
            sessions: Vec::new(),
            quarantined,
            lost: false,
        });
        peer.quarantined = quarantined;
        peer.lost = false;
        peer.current = local;
        let others = peer.sessions.clone();
        peer.sessions.push(local);
        for &other in &others {
            self.retire(now, other, parent == Some(other), quarantined);
        }
        if others.len() >= PER_PEER
            && let Some(&oldest) = others.first()
        {
            self.remove_session(now, oldest);
        }
        self.arm(now, local);
        known
    }

    fn retire(&mut self, now: Instant, local: u32, rekeyed: bool, quarantined: bool) {
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        session.quarantined = quarantined;
        if session.standing == Standing::Current || rekeyed {
            let until = now + self.limits.retire_after;
            session.standing = Standing::Retired { until, rekeyed };
        }
        session.keepalive = None;
        if rekeyed && planted(PlantedBug::ReplayWindowResetOnRekey) {
            session.window = Window::default();
        }
        // Its key was removed, and now it is replaced: only what is under way holds it.
        if rekeyed {
            session.close_at = session.close_at.map(|at| at.min(now + IN_FLIGHT));
        }
        if let Some(rekey) = session.rekey.take() {
            self.reserved.remove(&rekey.index);
        }
        self.arm(now, local);
    }

    /// Deals with a datagram on a session that is not current. After simultaneous dials each side may have taken the
    /// other session for the newest: both turn to the one that the smaller id began, as soon as they see that the
    /// peer has it.
    pub(super) fn converge(&mut self, now: Instant, local: u32) {
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        let Standing::Retired {
            until,
            rekeyed: false,
        } = session.standing
        else {
            return;
        };
        // The peer still writes on it, so it may take it for the newest: it lives as long as that goes on.
        let until = until.max(now + self.limits.retire_after);
        session.standing = Standing::Retired {
            until,
            rekeyed: false,
        };
        let (id, created, initiator, parent) =
            (session.peer, session.created, session.initiator, session.parent);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(current) = self.table.get(&peer.current) else {
            return;
        };
        let gap = created.saturating_since(current.created) + current.created.saturating_since(created);
        let simultaneous = initiator != current.initiator && parent == current.parent && gap < SIMULTANEOUS;
        if simultaneous && initiator == (self.id < id) {
            let old = core::mem::replace(&mut peer.current, local);
            if let Some(session) = self.table.get_mut(&local) {
                session.standing = Standing::Current;
            }
            let quarantined = self.peers.get(&id).is_some_and(|p| p.quarantined);
            self.retire(now, old, false, quarantined);
            self.arm(now, local);
        }
    }

    /// Takes a session out of the table, and all that hangs on it. If it was the current one, the newest of the
    /// peer's others takes its place; without any the peer is down.
    pub(super) fn remove_session(&mut self, now: Instant, local: u32) {
        let Some(session) = self.table.remove(&local) else {
            return;
        };
        self.timers.remove(session.wake, Timer::Session(local));
        if let Some(stored) = &session.stored_m2 {
            self.half_open.remove(&stored.ephemeral);
        }
        if let Some(rekey) = &session.rekey {
            self.reserved.remove(&rekey.index);
        }
        if let Some(answer) = &session.answering
            && self
                .table
                .get(&answer.local)
                .is_some_and(|child| child.is_half_open())
        {
            // A half-open child has no children and stands in no peer's list.
            self.remove_session(now, answer.local);
        }
        if session.is_half_open() {
            return;
        }
        let Some(peer) = self.peers.get_mut(&session.peer) else {
            return;
        };
        peer.sessions.retain(|&other| other != local);
        if peer.current != local {
            return;
        }
        if let Some(&newest) = peer.sessions.last() {
            peer.current = newest;
            if let Some(next) = self.table.get_mut(&newest) {
                next.standing = Standing::Current;
            }
            self.arm(now, newest);
            return;
        }
        let quarantined = peer.quarantined;
        self.peers.remove(&session.peer);
        if !quarantined {
            self.events.push_back(SessionEvent::Down { peer: session.peer });
        }
    }

    /// Sends a last frame to a peer and ends all its sessions.
    pub(super) fn dismiss(
        &mut self,
        cx: &mut Context<'_>,
        peer: NodeId,
        kind: u8,
        reason: Option<RejectReason>,
    ) {
        if let Some(current) = self.peers.get(&peer).map(|p| p.current) {
            self.transmit_frame(cx.stats, current, None, kind, |buf| {
                buf.extend(reason.map(reject_code))
            });
            self.forget(cx.now, peer);
        }
    }

    /// Ends all sessions with a peer without a word.
    pub(super) fn forget(&mut self, now: Instant, peer: NodeId) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        // The current one last: none of the others is to take its place.
        let current = entry.current;
        for local in core::mem::replace(&mut entry.sessions, alloc::vec![current]) {
            if local != current {
                self.remove_session(now, local);
            }
        }
        self.remove_session(now, current);
    }

    /// A process answers at an address: sessions with others lead there no more. What is written on them would go to
    /// one that does not know them, and dials because of it, again and again.
    pub(super) fn forget_others_at(&mut self, now: Instant, addr: SocketAddr, by: NodeId) {
        // A scan of the table: only a complete handshake comes here, which costs more by itself.
        let leads = |peer: &Peer| self.table.get(&peer.current).is_some_and(|s| s.addr == addr);
        let others = self.peers.iter().filter(|&(&id, peer)| id != by && leads(peer));
        let others: Vec<_> = others.map(|(&id, _)| id).collect();
        for id in others {
            self.forget(now, id);
        }
    }

    /// A peer is a member no more, or is one again.
    pub(crate) fn set_lost(&mut self, peer: NodeId, lost: bool) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.lost = lost;
        }
    }

    /// Closes the session that was used least recently.
    fn evict(&mut self, cx: &mut Context<'_>) {
        // A scan of the table: only a complete handshake with a full table comes here, which costs more by itself.
        let used = |peer: &Peer| self.table.get(&peer.current).map(|s| s.last_used());
        let oldest = self
            .peers
            .iter()
            .min_by_key(|(_, peer)| used(peer))
            .map(|(&id, _)| id);
        if let Some(id) = oldest {
            cx.stats.drop(DropReason::SessionEvicted);
            self.dismiss(cx, id, kind::CLOSE, None);
        }
    }
}

/// Returns the number of a reason in REJECT.
pub(super) const fn reject_code(reason: RejectReason) -> u8 {
    match reason {
        RejectReason::OtherCluster => 1,
        RejectReason::Full => 2,
        RejectReason::Leaving => 3,
    }
}

pub(super) const fn reject_reason(code: u8) -> Option<RejectReason> {
    Some(match code {
        1 => RejectReason::OtherCluster,
        2 => RejectReason::Full,
        3 => RejectReason::Leaving,
        _ => return None,
    })
}
