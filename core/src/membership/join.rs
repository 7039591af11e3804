//! Sessions coming and going, and the JOIN by which two processes introduce themselves.

use super::record::{Rank, Record, State, decode_role, encode_role, is_reachable};
use super::table::Entry;
use super::timers::Timer;
use super::{Membership, Peer, canonical};
use crate::config::{MAX_METADATA, MAX_NAME, Role};
use crate::event::LeaveReason;
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::time::Duration;
use crate::wire::{PROTOCOL_VERSIONS, Reader, kind, put_addr};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The version of this node's own name and metadata, which do not change while it runs.
pub(super) const OWN_DETAILS: u32 = 1;
const RETRY: Duration = Duration::from_millis(250);
const TRIES: u32 = 5;
/// This is not a JOIN but the acknowledgement of one.
const FLAG_ACK: u8 = 1;
/// The sender lacks the receiver's JOIN.
pub(super) const FLAG_SOLICIT: u8 = 2;
/// The receiver's address has changed as the sender sees it.
const FLAG_MOVED: u8 = 4;

/// A JOIN that was sent and not acknowledged.
#[derive(Debug)]
pub(super) struct Pending {
    number: u32,
    tries: u32,
    flags: u8,
}

/// A name and metadata, as received.
pub(super) struct Introduction<'a> {
    pub(super) name: &'a str,
    pub(super) metadata: &'a [u8],
}

impl<'a> Introduction<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let name = core::str::from_utf8(reader.short_bytes()?).ok()?;
        let metadata = reader.long_bytes()?;
        (name.len() <= MAX_NAME && metadata.len() <= MAX_METADATA).then_some(Self { name, metadata })
    }

    pub(super) fn write(buf: &mut Vec<u8>, name: &str, metadata: &[u8]) {
        // Both are bounded by the config's validation and by `read`.
        let name = &name.as_bytes()[..name.len().min(MAX_NAME)];
        let metadata = &metadata[..metadata.len().min(MAX_METADATA)];
        buf.push(name.len() as u8);
        buf.extend_from_slice(name);
        buf.extend_from_slice(&(metadata.len() as u16).to_be_bytes());
        buf.extend_from_slice(metadata);
    }

    /// Takes over name and metadata. Returns whether they changed.
    pub(super) fn apply(&self, entry: &mut Entry, version: u32) -> bool {
        entry.known = version;
        entry.details = entry.details.max(version);
        let member = &mut entry.member;
        let changed = member.name != self.name || member.metadata != self.metadata;
        if changed {
            member.name = String::from(self.name);
            member.metadata = Bytes::copy_from_slice(self.metadata);
        }
        changed
    }
}

impl Membership {
    /// A session to this peer is open. `observed` is this node's address as the peer sees it; `expected` is who was
    /// thought to be at the address that was dialled.
    pub(crate) fn peer_up(
        &mut self,
        cx: &mut Context<'_>,
        peer: NodeId,
        addr: SocketAddr,
        role: Role,
        observed: Option<SocketAddr>,
        expected: Option<NodeId>,
    ) {
        if self.left() || peer == self.me {
            return;
        }
        self.check_isolation(cx);
        let addr = canonical(addr);
        for old in [self.table.at(addr), expected].into_iter().flatten() {
            if old != peer && self.table.get(old).is_some_and(|entry| entry.member.addr == addr) {
                self.fail(cx, old, LeaveReason::Replaced);
            }
        }
        self.lost.answered(addr, peer);
        if let Some(entry) = self.table.get_mut(peer) {
            // A session is not opened again for what is not heard on it yet.
            entry.contact.wrote = Some(cx.now);
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.addr = addr;
            known.role = role;
        } else {
            self.open.push(peer);
            let awaited = self.table.get(peer).is_none();
            self.awaited += usize::from(awaited);
            let known = Peer {
                addr,
                role,
                seen_as: None,
                join: None,
                awaited,
            };
            self.peers.insert(peer, known);
        }
        if let Some(observed) = observed {
            self.seen_at(cx, peer, canonical(observed));
        }
        if self.leaving.is_some() {
            return;
        }
        if planted(PlantedBug::PeerCountedBeforeSealed) {
            let record = Record {
                id: peer,
                addr,
                incarnation: 0,
                role,
                details: 0,
                ..self.own_record()
            };
            self.learn(cx, &record, super::Source::Gossip(peer));
        }
        self.start_join(cx, peer, 0);
        self.arm_gossip(cx);
        self.redirected(cx, peer, addr);
    }

    /// The peer's source address has changed and was verified.
    pub(crate) fn peer_moved(&mut self, cx: &mut Context<'_>, peer: NodeId, addr: SocketAddr) {
        let addr = canonical(addr);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let old = core::mem::replace(&mut known.addr, addr);
        if old == addr {
            return;
        }
        // An advertised address is the member's own affair.
        if self.table.get(peer).is_some_and(|entry| entry.member.addr == old) {
            self.table.set_addr(peer, addr);
            self.announce_update(cx, peer);
        }
        self.start_join(cx, peer, FLAG_MOVED);
    }

    /// The session is gone, which says nothing about the peer's life.
    pub(crate) fn peer_down(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        let Some(known) = self.peers.remove(&peer) else {
            return;
        };
        // Whoever closes the session on a leaver needs no more telling.
        self.handle_leave_ack(peer);
        self.awaited -= usize::from(known.awaited);
        self.open.retain(|&open| open != peer);
        self.timers.disarm(Timer::Join(peer));
        self.end_exchanges(cx, peer);
        if self.open.is_empty() {
            self.timers.disarm(Timer::Gossip);
        }
    }

    /// A peer sees this node at an address. It is believed where no member with an open session still sees the old one:
    /// a node that is met anew at another address is not told that it moved.
    fn seen_at(&mut self, cx: &mut Context<'_>, peer: NodeId, addr: SocketAddr) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.seen_as = Some(addr);
        }
        let confirmed = self.addr.is_some_and(|own| {
            let mut peers = self.peers.iter();
            peers.any(|(&id, known)| known.seen_as == Some(own) && self.table.get(id).is_some())
        });
        if !confirmed {
            self.adopt_addr(cx, addr);
        }
    }

    /// Takes an address for this node's own, and whoever was a member there for gone.
    fn adopt_addr(&mut self, cx: &mut Context<'_>, addr: SocketAddr) {
        if cx.config.advertise.is_some() || self.addr == Some(addr) || !is_reachable(addr) {
            return;
        }
        if self.addr.replace(addr).is_some() {
            self.raise_incarnation(cx, self.incarnation);
        }
        if let Some(predecessor) = self.table.at(addr) {
            self.fail(cx, predecessor, LeaveReason::Replaced);
        }
    }

    /// This node answered its own dial: nobody else is at that address.
    pub(crate) fn dialed_self(&mut self, cx: &mut Context<'_>, addr: SocketAddr) {
        let addr = canonical(addr);
        self.lost.answered(addr, self.me);
        if let Some(predecessor) = self.table.at(addr) {
            self.fail(cx, predecessor, LeaveReason::Replaced);
        }
        if self.addr.is_none() {
            self.adopt_addr(cx, addr);
        }
    }

    /// Introduces this node to a peer and goes on until that is acknowledged.
    pub(super) fn start_join(&mut self, cx: &mut Context<'_>, peer: NodeId, flags: u8) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        self.join_number = self.join_number.wrapping_add(1);
        known.join = Some(Pending {
            number: self.join_number,
            tries: 0,
            flags,
        });
        self.join_due(cx, peer);
    }

    /// Asks a peer that is no member for its JOIN, unless an exchange of JOINs is under way.
    pub(super) fn solicit(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        let idle = self.peers.get(&peer).is_some_and(|known| known.join.is_none());
        if idle && self.leaving.is_none() && self.table.len() < cx.config.max_members {
            self.start_join(cx, peer, FLAG_SOLICIT);
        }
    }

    /// Sends the pending JOIN, the first time or again.
    pub(super) fn join_due(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let Some(pending) = &mut known.join else {
            return;
        };
        if pending.tries == TRIES {
            known.join = None;
            self.awaited -= usize::from(core::mem::take(&mut known.awaited));
            return;
        }
        self.timers
            .arm(Timer::Join(peer), cx.now + RETRY * (1 << pending.tries));
        pending.tries += 1;
        let (number, flags, observed) = (pending.number, pending.flags, known.addr);
        let unknown = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        // An observed address is left out at first: the receiver sees one itself, and its own view is the better. A
        // raised incarnation goes with the address that gossip tells of it: a receiver that has not noticed a move yet
        // would spread the old one under the same number, and neither could ever correct the other.
        let own = self.addr.filter(|_| self.incarnation > 0);
        let claimed = cx.config.advertise.or(own).unwrap_or(unknown);
        let (role, incarnation, config) = (self.role, self.incarnation, cx.config);
        cx.send(peer, kind::JOIN, |buf| {
            buf.push(flags);
            buf.extend_from_slice(&number.to_be_bytes());
            buf.extend_from_slice(&incarnation.to_be_bytes());
            buf.extend_from_slice(&[encode_role(role), PROTOCOL_VERSIONS.1]);
            buf.extend_from_slice(&OWN_DETAILS.to_be_bytes());
            put_addr(buf, claimed);
            put_addr(buf, observed);
            Introduction::write(buf, &config.name, &config.metadata);
        });
    }

    pub(super) fn handle_join(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let flags = reader.u8().ok_or(BadFrame)?;
        let number = reader.u32().ok_or(BadFrame)?;
        let Some(known) = self.peers.get_mut(&from) else {
            cx.stats.drop(DropReason::StaleFrame);
            return Ok(());
        };
        if flags & FLAG_ACK != 0 {
            if known
                .join
                .as_ref()
                .is_some_and(|pending| pending.number == number)
            {
                known.join = None;
                self.timers.disarm(Timer::Join(from));
            }
            return Ok(());
        }
        let incarnation = reader.u32().ok_or(BadFrame)?;
        let role = reader.u8().and_then(decode_role).ok_or(BadFrame)?;
        let version = reader.u8().ok_or(BadFrame)?;
        let details = reader.u32().ok_or(BadFrame)?;
        let claimed = reader.addr().ok_or(BadFrame)?;
        let observed = reader.addr().ok_or(BadFrame)?;
        let introduction = Introduction::read(&mut reader).ok_or(BadFrame)?;

        if role != known.role {
            // The handshake said otherwise.
            return Err(BadFrame);
        }
        let addr = if is_reachable(claimed) {
            claimed
        } else {
            known.addr
        };
        self.awaited -= usize::from(core::mem::take(&mut known.awaited));
        let joining = known.join.is_some();
        // Who is held for dead hears of that in one datagram that may be lost: it is to say JOIN again until it knows.
        let dead = self.table.tombstone(cx.now, from);
        let refused = dead.is_some_and(|old| {
            old.state == State::Failed && Rank::new(State::Alive, incarnation) <= old.rank()
        });
        if !refused {
            cx.send(from, kind::JOIN, |buf| {
                buf.push(FLAG_ACK);
                buf.extend_from_slice(&number.to_be_bytes());
            });
        }
        if self.leaving.is_some() {
            return Ok(());
        }
        if flags & FLAG_MOVED != 0 {
            self.adopt_addr(cx, observed);
        }
        self.seen_at(cx, from, observed);
        if flags & FLAG_SOLICIT != 0 && !joining {
            self.start_join(cx, from, 0);
        }
        let record = Record {
            id: from,
            addr,
            incarnation,
            state: State::Alive,
            role,
            version,
            replaced: false,
            details,
            accuser: NodeId::MIN,
            age: 0,
        };
        self.introduced(cx, &record, &introduction);
        Ok(())
    }

    /// A process has introduced itself.
    fn introduced(&mut self, cx: &mut Context<'_>, record: &Record, introduction: &Introduction<'_>) {
        let id = record.id;
        let seen = self.peers.get(&id).is_some_and(|peer| peer.addr == record.addr);
        if let Some(old) = self.table.tombstone(cx.now, id)
            && record.rank() <= old.rank()
        {
            // It learns what is said of it here, and comes back in a higher incarnation.
            if old.state == State::Failed {
                Self::tell(cx, id, &old);
            }
            return;
        }
        let Some(entry) = self.table.get_mut(id) else {
            let mut entry = Entry::new(record);
            introduction.apply(&mut entry, record.details);
            if self.join_table(cx, entry) {
                self.spread(cx, id);
            }
            return;
        };
        let changed = introduction.apply(entry, record.details);
        // What it said before it moved does not beat what is seen since.
        let newer = record.incarnation > entry.member.incarnation;
        let moved = entry.member.addr != record.addr && (newer || seen);
        let refuted = record.rank() > entry.rank();
        if !refuted && entry.state() == State::Suspect {
            let suspect = entry.record();
            Self::tell(cx, id, &suspect);
        }
        self.details.forget(id);
        if moved {
            self.table.set_addr(id, record.addr);
        }
        if refuted {
            self.update(cx, record, super::Source::Gossip(id));
        }
        if changed || moved {
            self.announce_update(cx, id);
        }
    }
}
