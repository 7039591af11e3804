//! Sessions: keys between two processes, and everything that opens, renews, moves and ends them.
//!
//! A session is opened with HELLO, CHALLENGE, M1 and M2 (`message`), of which the responder stores nothing before the
//! initiator has shown that it receives at its address and has a shared key. It is renewed by a handshake inside the
//! session (`rekey`). `docs/wire.md` has the layouts.

mod accept;
mod dial;
mod frames;
mod keys;
mod limit;
mod message;
mod quarantine;
mod rekey;
mod rotation;
mod table;
#[cfg(test)]
mod tests;
#[cfg(feature = "simulation")]
mod usage;
mod window;

use crate::config::{Config, KeyId, Role};
use crate::crypto::{Crypto, hash128};
use crate::deadlines::Deadlines;
use crate::event::RejectReason;
use crate::id::NodeId;
use crate::id_map::IdMap;
use crate::outbox::Context;
use crate::rng::{KeyRng, Rng, Stream};
use crate::stats::{DropReason, Stats};
use crate::status::{QuarantineReason, Settings};
use crate::time::{Duration, Instant};
use crate::wire::{
    Frames, HEADER_LEN, Header, Kind, MAX_DATAGRAM, PROTOCOL_VERSIONS, ProtocolFlavor, TAG_LEN, canonical,
    kind, put_frame,
};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::ops::Range;
use dial::Dialer;
use keys::{Challenger, SharedKey};
use limit::{Bucket, PerAddress};
use message::Hail;
use quarantine::Quarantine;
use table::{Peer, Session, Standing};

/// What a node must know of sessions. Drained after each input, before the frames of an opened datagram are routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionEvent {
    /// A handshake with a process is complete and both agree. Not reported for a re-key.
    Up {
        peer: NodeId,
        addr: SocketAddr,
        /// Whom the caller of `dial` hoped to find there; `None` also where this side was dialled.
        expected: Option<NodeId>,
        role: Role,
        /// The highest version that both speak.
        version: u8,
        settings: Settings,
        /// Where the peer sees this node; known to the side that dialled.
        observed: Option<SocketAddr>,
        /// Whether this side dialled.
        initiator: bool,
        /// Whether a session with this peer was open before.
        replaced_session: bool,
    },
    /// The last session with a process is gone.
    Down { peer: NodeId },
    /// A process proved that it receives at another address now.
    Moved { peer: NodeId, addr: SocketAddr },
    /// Nobody answered at this address.
    DialFailed {
        addr: SocketAddr,
        expected: Option<NodeId>,
    },
    /// This process itself answered at this address.
    DialedSelf { addr: SocketAddr },
    /// A process of this cluster cannot be talked to. Reported again when its values or address change, and to who
    /// dials it.
    Quarantined {
        peer: NodeId,
        addr: SocketAddr,
        expected: Option<NodeId>,
        reasons: Vec<QuarantineReason>,
    },
    /// That process is gone, or agrees now.
    QuarantineEnded { peer: NodeId },
    /// A process refused this node, or belongs to another cluster.
    Rejected {
        peer: NodeId,
        addr: SocketAddr,
        reason: RejectReason,
    },
    /// Somebody at this address writes to a session that does not exist. At most once a second for each address.
    UnknownSession { from: SocketAddr },
}

/// The session on which a peer is written to at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current(u32);

/// An authenticated datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Who sent it.
    pub(crate) peer: NodeId,
    /// Where the frames are in the datagram.
    pub(crate) frames: Range<usize>,
    /// Where it came from: not proven to be the peer's address.
    pub(crate) from: SocketAddr,
    session: u32,
}

/// The times and counts of the protocol. No part of the config: all members must agree. Tests shorten them.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Age at which the side that dialled re-keys a session in use.
    rekey_after: Duration,
    /// The same for the other side.
    rekey_after_responder: Duration,
    /// Age at which a session is refused.
    reject_after: Duration,
    /// Datagrams after which a session is re-keyed.
    rekey_counter: u64,
    /// Datagrams after which it is refused.
    reject_counter: u64,
    /// A session without datagrams for this long is left to expire instead of being re-keyed.
    unused_after: Duration,
    /// How long a replaced session still receives.
    retire_after: Duration,
    /// How long a handshake may stay half open, and how long a peer may be silent after M2.
    half_open: Duration,
    /// Within which time all sessions are re-keyed after the sealing key was switched.
    rotate_within: Duration,
    /// How long a session made under a removed key lives on.
    removed_key: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            rekey_after: secs(120),
            rekey_after_responder: secs(150),
            reject_after: secs(180),
            rekey_counter: 1 << 32,
            reject_counter: 1 << 33,
            unused_after: secs(60),
            retire_after: secs(15),
            half_open: secs(10),
            rotate_within: secs(30),
            removed_key: secs(10),
        }
    }
}

/// Datagrams of the sessions themselves that may wait to be sent.
const MAX_TRANSMITS: usize = 4096;
/// Emptied buffers that are kept for the next datagrams.
const MAX_SPARE: usize = 16;
/// Addresses with unknown keys that are remembered.
const MAX_UNKNOWN_KEYS: usize = 64;
/// Addresses whose unknown sessions were reported in the last second.
const MAX_UNKNOWN_SESSIONS: usize = 256;
/// How long an unknown key is shown in the status.
const UNKNOWN_KEY_SHOWN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Session(u32),
    Dial(SocketAddr),
    /// The dial rate allows another one.
    NextDial,
    Quarantine(NodeId),
}

/// All sessions of a node.
pub(crate) struct Sessions {
    id: NodeId,
    role: Role,
    flavor: ProtocolFlavor,
    /// The hash of the cluster's name.
    cluster: [u8; 16],
    /// The settings in force: the config's, or what an observer adopted.
    settings: Settings,
    adopted: bool,
    crypto: Crypto,
    /// Never empty; the first one seals.
    keys: Vec<SharedKey>,
    secrets: KeyRng,
    rng: Rng,
    challenger: Challenger,
    challenges: Bucket,
    /// By local index: half-open, current and retired sessions.
    table: IdMap<u32, Session>,
    /// Who can be written to, and quarantined peers.
    peers: IdMap<NodeId, Peer>,
    /// Half-open sessions by the ephemeral key of their M1.
    half_open: BTreeMap<[u8; 32], u32>,
    /// Local indexes that were sent out in a HELLO (with the address dialled) or REKEY_M1, but are no session yet.
    reserved: BTreeMap<u32, Option<SocketAddr>>,
    dialer: Dialer,
    quarantine: BTreeMap<NodeId, Quarantine>,
    unknown_keys: VecDeque<(Instant, SocketAddr, KeyId)>,
    unknown_key_limit: PerAddress,
    unknown_session_limit: PerAddress,
    timers: Deadlines<Timer>,
    events: VecDeque<SessionEvent>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    limits: Limits,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("id", &self.id)
            .field("flavor", &self.flavor)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// Creates the sessions of a process. `seed` is the node's; the parts draw from different streams of it.
    pub(crate) fn new(config: &Config, id: NodeId, seed: &[u8; 32], crypto: Crypto) -> Self {
        let mut secrets = KeyRng::new(seed);
        let challenger = Challenger::new(secrets.draw());
        Self {
            id,
            role: config.role,
            flavor: crypto.flavor(&config.security),
            cluster: hash128("quorate v1 cluster name", config.cluster_name.as_bytes()),
            settings: Settings::of(config),
            adopted: false,
            keys: keys::initial_keys(&config.security),
            crypto,
            secrets,
            rng: Rng::new(seed, Stream::Session),
            challenger,
            challenges: Bucket::new(config.challenges_per_second),
            table: IdMap::default(),
            peers: IdMap::default(),
            half_open: BTreeMap::new(),
            reserved: BTreeMap::new(),
            dialer: Dialer::new(config.dials_per_second),
            quarantine: BTreeMap::new(),
            unknown_keys: VecDeque::new(),
            unknown_key_limit: PerAddress::new(Duration::from_secs(10), MAX_UNKNOWN_KEYS),
            unknown_session_limit: PerAddress::new(Duration::from_secs(1), MAX_UNKNOWN_SESSIONS),
            timers: Deadlines::default(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            spare: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Takes a datagram. What it opens is decrypted in place and handed back; everything else is dealt with here.
    pub(crate) fn handle_datagram(
        &mut self,
        cx: &mut Context<'_>,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Option<Opened> {
        let from = canonical(from);
        let &mut [flavor, kind, ..] = datagram else {
            cx.stats.drop(DropReason::Malformed);
            return None;
        };
        if flavor != self.flavor as u8 {
            let ours = matches!(flavor, 0x70 | 0x71 | 0x7f);
            cx.stats.drop(if ours {
                DropReason::OtherFlavor
            } else {
                DropReason::Malformed
            });
            return None;
        }
        let Some(kind) = Kind::from_u8(kind).filter(|_| datagram.len() <= MAX_DATAGRAM) else {
            cx.stats.drop(DropReason::Malformed);
            return None;
        };
        let result = match kind {
            Kind::Sealed => return self.handle_sealed(cx, from, datagram),
            Kind::Hello => self.handle_hello(cx, from, datagram),
            Kind::Challenge => self.handle_challenge(cx, from, datagram),
            Kind::M1 => self.handle_m1(cx, from, datagram),
            Kind::M2 => self.handle_m2(cx, from, datagram),
        };
        if let Err(reason) = result {
            cx.stats.drop(reason);
        }
        None
    }

    fn handle_sealed(
        &mut self,
        cx: &mut Context<'_>,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Option<Opened> {
        let len = datagram.len();
        let header = Header::decode(datagram).filter(|_| len >= HEADER_LEN + TAG_LEN);
        let Some(header) = header else {
            cx.stats.drop(DropReason::Malformed);
            return None;
        };
        let local = header.receiver;
        let Some(session) = self.table.get_mut(&local) else {
            cx.stats.drop(DropReason::UnknownSession);
            if self.unknown_session_limit.take(cx.now, from) {
                self.events.push_back(SessionEvent::UnknownSession { from });
            }
            return None;
        };
        let newest = match session.open(&self.limits, cx.now, header.counter, datagram) {
            Ok(newest) => newest,
            Err(reason) => {
                cx.stats.drop(reason);
                return None;
            }
        };
        cx.stats.datagrams_opened += 1;
        session.last_received = cx.now;
        session.keepalive = None;
        let frames = HEADER_LEN..len - TAG_LEN;
        let mut opened = Opened {
            peer: session.peer,
            frames,
            from,
            session: local,
        };
        // The hot path ends here.
        if session.standing == Standing::Current && session.addr == from && !session.quarantined {
            return Some(opened);
        }
        // `frames` lies in the datagram: its length was checked above.
        let frames = &datagram[opened.frames.clone()];
        if session.is_half_open() && !self.promote(cx, local, frames) {
            return None;
        }
        self.converge(cx.now, local);
        if newest {
            self.probe_path(cx, local, from, frames);
        }
        let session = self.table.get(&local)?;
        opened.peer = session.peer;
        if session.quarantined {
            self.handle_quarantined(cx, &opened, frames);
            return None;
        }
        Some(opened)
    }

    /// Deals with the frames of a quarantined peer: its session lives, but nothing else is heard from it.
    fn handle_quarantined(&mut self, cx: &mut Context<'_>, opened: &Opened, frames: &[u8]) {
        for frame in Frames::new(frames) {
            if (0x60..=0x6f).contains(&frame.kind) {
                if self.handle_frame(cx, opened, frame.kind, frame.body).is_err() {
                    cx.stats.drop(DropReason::MalformedFrame);
                }
            } else {
                cx.stats.drop(DropReason::Quarantined);
            }
        }
    }

    /// Does all that is due.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        while let Some(timer) = self.timers.pop_due(cx.now) {
            match timer {
                Timer::Session(local) => self.wake_session(cx, local),
                Timer::Dial(addr) => self.wake_dial(cx, addr),
                Timer::NextDial => {
                    self.dialer.waiting_for_rate = None;
                    self.start_dials(cx);
                }
                Timer::Quarantine(peer) => self.wake_quarantine(cx, peer),
            }
        }
    }

    /// Returns when `handle_timeout` has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.earliest()
    }

    /// Returns what happened next.
    pub(crate) fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Moves the next datagram of the sessions themselves into `buf`, which is cleared, and returns its destination.
    pub(crate) fn poll_transmit(&mut self, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        let (to, datagram) = self.transmits.pop_front()?;
        buf.clear();
        buf.extend_from_slice(&datagram);
        if self.spare.len() < MAX_SPARE {
            self.spare.push(datagram);
        }
        Some(to)
    }

    /// Begins a datagram to a peer: clears `buf` and makes room for the header. Returns the session to `finish` it on;
    /// `None` if the peer cannot be written to.
    pub(crate) fn begin(&self, peer: NodeId, buf: &mut Vec<u8>) -> Option<Current> {
        buf.clear();
        let current = self.peers.get(&peer).filter(|p| !p.quarantined)?.current;
        buf.resize(HEADER_LEN, 0);
        Some(Current(current))
    }

    /// Completes a datagram: writes its header, seals it in place, appends the tag, and returns where it goes. `None`
    /// if the session is past its limits.
    pub(crate) fn finish(
        &mut self,
        now: Instant,
        Current(current): Current,
        buf: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let session = self.table.get_mut(&current)?;
        if session.expired(&self.limits, now) || !session.seal(self.flavor, buf) {
            return None;
        }
        session.last_sent = now;
        let to = session.addr;
        if session.counter == self.limits.rekey_counter {
            session.rekey_at = now;
            self.arm(now, current);
        }
        Some(to)
    }

    /// Returns whether a peer can be written to.
    pub(crate) fn is_open(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|p| !p.quarantined)
    }

    /// Returns where a peer's datagrams go.
    #[cfg(test)]
    pub(crate) fn address(&self, peer: NodeId) -> Option<SocketAddr> {
        let peer = self.peers.get(&peer).filter(|p| !p.quarantined)?;
        self.table.get(&peer.current).map(|s| s.addr)
    }

    /// Returns how many peers can be written to.
    pub(crate) fn open_count(&self) -> usize {
        // A quarantined peer is in `quarantine` for as long as it is in `peers`.
        self.peers.len()
            - self
                .quarantine
                .keys()
                .filter(|id| self.peers.contains_key(id))
                .count()
    }

    /// Returns the settings in force.
    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns whether datagrams are sealed with a secret key.
    pub(crate) fn secured(&self) -> bool {
        self.flavor == ProtocolFlavor::Secured
    }

    /// What this process says about itself.
    fn hail(&self) -> Hail {
        Hail {
            id: self.id,
            versions: PROTOCOL_VERSIONS,
            cluster: self.cluster,
            settings: self.settings,
            role: self.role,
        }
    }

    /// Returns the place of a key in the ring.
    fn find_key(&self, id: KeyId) -> Option<usize> {
        self.keys.iter().position(|key| key.id == id)
    }

    /// Draws a session index that nothing else uses.
    fn draw_index(&mut self) -> u32 {
        loop {
            // Ends: at most a small part of the 2^32 indexes is in use (`max_sessions` is at most 65,536).
            let index = self.rng.u32();
            if !self.table.contains_key(&index) && !self.reserved.contains_key(&index) {
                return index;
            }
        }
    }

    /// Queues a datagram that `write` puts into an empty buffer.
    fn transmit(&mut self, stats: &mut Stats, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buf = self.buffer();
        write(&mut buf);
        self.queue(stats, to, buf);
    }

    /// Returns an empty buffer for a datagram, if possible one that was used before.
    fn buffer(&mut self) -> Vec<u8> {
        let mut buf = self.spare.pop().unwrap_or_default();
        buf.clear();
        buf
    }

    /// Queues a datagram in a buffer from `buffer`.
    fn queue(&mut self, stats: &mut Stats, to: SocketAddr, buf: Vec<u8>) {
        if self.transmits.len() >= MAX_TRANSMITS {
            stats.drop(DropReason::TransmitFull);
        } else {
            self.transmits.push_back((to, buf));
        }
    }

    /// Seals one frame of the session itself and queues it, to the session's address if no other is given.
    fn transmit_frame(
        &mut self,
        stats: &mut Stats,
        local: u32,
        to: Option<SocketAddr>,
        kind: u8,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let flavor = self.flavor;
        let mut buf = self.buffer();
        let limit = self.limits.reject_counter;
        let Some(session) = self.table.get_mut(&local).filter(|s| s.counter < limit) else {
            return;
        };
        buf.resize(HEADER_LEN, 0);
        put_frame(&mut buf, kind, body);
        session.seal(flavor, &mut buf);
        let to = to.unwrap_or(session.addr);
        self.queue(stats, to, buf);
    }

    /// Ends all sessions with a peer, and tells it so.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        self.dismiss(cx, peer, kind::CLOSE, None);
    }

    /// Ends all sessions with all peers, and tells them so.
    pub(crate) fn close_all(&mut self, cx: &mut Context<'_>) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.close(cx, peer);
        }
    }

    /// Ends all sessions with a peer, and tells it why it cannot take part.
    pub(crate) fn reject(&mut self, cx: &mut Context<'_>, peer: NodeId, reason: RejectReason) {
        self.dismiss(cx, peer, kind::REJECT, Some(reason));
    }
}
