//! The facade: owns the parts, routes frames between them and packs what they want to send.

mod gate;
mod outputs;
mod settle;
#[cfg(test)]
mod tests;
mod views;

use crate::config::{Config, ConfigError, KeyRing, Security};
use crate::consensus::Consensus;
use crate::crypto::{AeadProvider, Crypto};
use crate::discovery::Discovery;
use crate::error::{DrawError, ReplyError, SendError};
use crate::event::{DrawId, Event, ReplyTo, RequestId, ResolveId, SendId, Target};
use crate::id::NodeId;
use crate::journal::{self, Journal};
use crate::locks::{LockCursor, LockError, LockFilter, LockId, LockRequest};
use crate::membership::Membership;
use crate::messaging::Messaging;
use crate::outbox::{Context, Outbox};
use crate::planted::{PlantedBug, planted};
use crate::rng::{Rng, Stream};
use crate::session::{Opened, Sessions};
use crate::stats::{DropReason, Stats};
use crate::time::{Duration, Instant, WallTime};
use crate::wire::{Frame, Frames, kind};
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use gate::{Command, Gate, Waiting};
use zeroize::Zeroize as _;

/// One process's part in the cluster: a state machine without I/O. The crate's front page says how to drive it.
pub struct Node {
    config: Config,
    id: NodeId,
    sessions: Sessions,
    discovery: Discovery,
    membership: Membership,
    messaging: Messaging,
    consensus: Consensus,
    gate: Gate,
    outbox: Outbox,
    events: VecDeque<Event>,
    /// How many of `events` were looked at by `settle` already.
    examined: usize,
    /// Peers whose frames wait for a session to be dialled.
    held: BTreeSet<NodeId>,
    stats: Stats,
    next_command: u64,
    has_quorum: bool,
    alone: bool,
    state: State,
    journal: Journal,
}

/// How far the node is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Leaving,
    Left,
}

/// Where the datagram that `poll_transmit` wrote into the buffer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The destination.
    pub to: SocketAddr,
}

/// How the system refused to send a datagram. Only counted: such errors are not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendFailure {
    /// There is no way to the destination, or nobody listens there.
    Unreachable,
    /// The datagram is larger than the path allows.
    TooLarge,
    /// Anything else.
    Other,
}

/// Which part of the node the next timeout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimerKind {
    /// Handshakes, re-keying, quarantine.
    Session,
    /// Seeds and name resolution.
    Discovery,
    /// Heartbeats, probes, suspicion, gossip.
    Membership,
    /// Retransmission, acknowledgements, deadlines.
    Messaging,
    /// Elections, leadership, foundings.
    Consensus,
    /// Broadcasts that wait for a quorum.
    Gate,
}

/// The context of a call, borrowed from disjoint fields.
macro_rules! context {
    ($node:ident, $now:expr) => {
        &mut Context {
            now: $now,
            config: &$node.config,
            outbox: &mut $node.outbox,
            events: &mut $node.events,
            stats: &mut $node.stats,
        }
    };
}
use context;

impl Node {
    /// Creates a node that seals with the portable implementation of ChaCha20-Poly1305.
    ///
    /// `seed` is 32 fresh bytes of the system's randomness at every start: the node's id and all its keys are drawn
    /// from it. `wall` is the wall clock at `now`; it only serves tokens and display.
    ///
    /// # Errors
    /// Everything that [`Config::validate`] finds.
    pub fn new(config: Config, seed: [u8; 32], now: Instant, wall: WallTime) -> Result<Self, ConfigError> {
        Self::build(config, seed, now, wall, Crypto::default())
    }

    /// Creates a node whose datagrams are sealed by another implementation of ChaCha20-Poly1305.
    ///
    /// # Errors
    /// Everything that [`Config::validate`] finds.
    pub fn with_aead(
        config: Config,
        seed: [u8; 32],
        now: Instant,
        wall: WallTime,
        aead: Box<dyn AeadProvider>,
    ) -> Result<Self, ConfigError> {
        Self::build(config, seed, now, wall, Crypto::with_aead(aead))
    }

    /// Creates a node with a checksum in place of the cryptography, for simulators.
    ///
    /// # Errors
    /// Everything that [`Config::validate`] finds.
    #[cfg(feature = "simulation")]
    pub fn simulated(
        config: Config,
        seed: [u8; 32],
        now: Instant,
        wall: WallTime,
    ) -> Result<Self, ConfigError> {
        Self::build(config, seed, now, wall, Crypto::simulated())
    }

    fn build(
        config: Config,
        mut seed: [u8; 32],
        now: Instant,
        wall: WallTime,
        crypto: Crypto,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let id = NodeId::from_bytes(Rng::new(&seed, Stream::Identity).bytes());
        let mut node = Self {
            id,
            sessions: Sessions::new(&config, id, &seed, crypto),
            discovery: Discovery::new(&config, Rng::new(&seed, Stream::Discovery), now),
            membership: Membership::new(id, &config, &seed, now),
            messaging: Messaging::new(&config, Rng::new(&seed, Stream::Messaging)),
            consensus: Consensus::new(id, &config, &seed, now, wall),
            gate: Gate::default(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            examined: 0,
            held: BTreeSet::new(),
            stats: Stats::default(),
            next_command: 1,
            has_quorum: false,
            alone: true,
            state: State::Running,
            journal: Journal::default(),
            config,
        };
        seed.zeroize();
        // The sessions have what they need of the keys; no second copy outlives a rotation.
        node.config.security = Security::Unset;
        node.has_quorum = node.count_quorum();
        node.settle(now);
        Ok(node)
    }

    /// Takes a datagram that arrived from `from`. Its bytes are decrypted in place; what is in the buffer afterwards
    /// is of no use.
    ///
    /// **SAFETY (renewal)** `now` must have been read after the datagram was received. A leader counts leases from
    /// there; a process may be stopped between any two steps, and with a time from before it would grant a lock anew
    /// while its holder still believes in it.
    ///
    /// Never fails: what cannot be used is counted in [`Stats`]. Timers do not fire in here.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        if self.state == State::Left {
            return;
        }
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        if let Some(opened) = self.sessions.handle_datagram(context!(self, now), from, datagram) {
            if planted(PlantedBug::TimersStarvedByInput) {
                self.membership.postpone_timers(now);
            }
            // A handshake may complete with this very datagram: its peer is told of before its frames are read.
            self.drain_sessions(now);
            let frames = datagram.get(opened.frames.clone()).unwrap_or_default();
            self.route(now, &opened, frames);
        }
        self.settle(now);
    }

    /// Takes frames as if this peer had sealed them, for fuzzing: past the session, into the parts. Frames of the
    /// session itself are left out.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn handle_frames(&mut self, now: Instant, peer: NodeId, frames: &[u8]) {
        let mut sealed = Frames::new(frames);
        for frame in sealed.by_ref().filter(|frame| frame.kind < 0x60) {
            self.route_frame(now, peer, frame);
        }
        self.settle(now);
    }

    fn route(&mut self, now: Instant, opened: &Opened, bytes: &[u8]) {
        let mut frames = Frames::new(bytes);
        for frame in frames.by_ref() {
            if matches!(frame.kind, kind::REKEY_M1..=kind::KEEPALIVE) {
                if self
                    .sessions
                    .handle_frame(context!(self, now), opened, frame.kind, frame.body)
                    .is_err()
                {
                    self.stats.drop(DropReason::MalformedFrame);
                }
            } else {
                self.route_frame(now, opened.peer, frame);
            }
        }
        if frames.malformed() {
            self.stats.drop(DropReason::MalformedFrame);
        }
    }

    fn route_frame(&mut self, now: Instant, peer: NodeId, frame: Frame<'_>) {
        let handled = match frame.kind {
            kind::JOIN..=kind::DETAILS => {
                self.membership
                    .handle_frame(context!(self, now), peer, frame.kind, frame.body)
            }
            kind::DATA..=kind::REFUSED | kind::REQUEST | kind::RESPONSE => {
                if self.membership.get(peer).is_none() {
                    return self.stats.drop(DropReason::NotAMember);
                }
                self.messaging
                    .handle_frame(context!(self, now), peer, frame.kind, frame.body)
            }
            kind::FOUND_REQUEST..=kind::RELAYED => {
                self.consensus
                    .handle_frame(context!(self, now), peer, frame.kind, frame.body)
            }
            _ => return self.stats.drop(DropReason::UnknownFrame),
        };
        if handled.is_err() {
            self.stats.drop(DropReason::MalformedFrame);
        }
    }

    /// Does what is due at `now`. A call before [`Node::poll_timeout`] is a no-op.
    ///
    /// Where both are at hand, give datagrams before calling this: a pause of the process must not make it accuse peers
    /// whose answers wait in the socket.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state == State::Left {
            return;
        }
        #[cfg(feature = "simulation")]
        if self.journal.keeps_all()
            && let Some(due) = self.poll_timeout().filter(|&due| due <= now)
        {
            self.journal
                .other(|| journal::Entry::Woke(now.saturating_since(due)));
        }
        // Membership first: it judges by its own deadline how late this call is.
        self.membership.handle_timeout(context!(self, now));
        self.sessions.handle_timeout(context!(self, now));
        self.messaging.handle_timeout(context!(self, now));
        self.consensus.handle_timeout(context!(self, now));
        self.gate.handle_timeout(context!(self, now));
        let membership = &self.membership;
        self.discovery
            .handle_timeout(context!(self, now), self.alone, |addr| {
                membership.member_at(addr).is_some()
            });
        self.settle(now);
    }

    /// Takes the answer to a [`Node::poll_resolve`]: the addresses, or none if the resolution failed. A port of 0
    /// stands for the port of the request.
    pub fn handle_resolved(&mut self, now: Instant, id: ResolveId, addrs: &[SocketAddr]) {
        if self.state == State::Running {
            self.discovery.resolved(context!(self, now), id, addrs);
            if planted(PlantedBug::AnswerTakenForMembers) {
                self.membership.evict_unnamed(context!(self, now), addrs);
            }
            self.settle(now);
        }
    }

    /// Takes note that the system refused to send a datagram.
    pub fn handle_send_error(&mut self, _now: Instant, _to: SocketAddr, _error: SendFailure) {
        self.stats.drop(DropReason::SendError);
    }

    /// Sends a message. What becomes of it arrives as one [`Event::SendDone`] for each target and one
    /// [`Event::SendFinished`].
    ///
    /// `deadline` is when to give up; `None` stands for `message_timeout` from now. [`Target::All`] waits for a quorum,
    /// if `cluster_size` is set, until the deadline.
    ///
    /// # Errors
    /// [`SendError`]; nothing is queued then.
    pub fn send(
        &mut self,
        now: Instant,
        to: Target,
        payload: Bytes,
        deadline: Option<Instant>,
    ) -> Result<SendId, SendError> {
        let id = SendId(self.take_command_id());
        let copy = self.journal.copy(&payload);
        let submitted = self.submit(now, to, Command::Send(id), payload, deadline);
        self.stats.messages_refused += u64::from(submitted.is_err());
        let result = submitted.map(|()| id);
        if let Some(payload) = copy {
            self.journal.command(|| journal::Command::Send {
                to,
                payload,
                deadline,
                result,
            });
        }
        result
    }

    /// Sends a request. Each target's answer arrives as [`Event::Reply`] or [`Event::RequestFailed`], and
    /// [`Event::RequestDone`] follows the last one.
    ///
    /// A request is run at most once by each target. `deadline` and [`Target::All`] are as for [`Node::send`].
    ///
    /// # Errors
    /// [`SendError`]; nothing is queued then.
    pub fn request(
        &mut self,
        now: Instant,
        to: Target,
        payload: Bytes,
        deadline: Option<Instant>,
    ) -> Result<RequestId, SendError> {
        let id = RequestId(self.take_command_id());
        let copy = self.journal.copy(&payload);
        let submitted = self.submit(now, to, Command::Request(id), payload, deadline);
        self.stats.messages_refused += u64::from(submitted.is_err());
        let result = submitted.map(|()| id);
        if let Some(payload) = copy {
            self.journal.command(|| journal::Command::Request {
                to,
                payload,
                deadline,
                result,
            });
        }
        result
    }

    fn take_command_id(&mut self) -> u64 {
        let id = self.next_command;
        self.next_command += 1;
        id
    }

    fn submit(
        &mut self,
        now: Instant,
        to: Target,
        command: Command,
        payload: Bytes,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        if self.state != State::Running {
            return Err(SendError::Leaving);
        }
        let (size, max) = (payload.len(), self.config.max_message_size);
        if size > max {
            return Err(SendError::TooLarge { size, max });
        }
        let deadline = deadline.unwrap_or_else(|| now + self.config.message_timeout);
        match to {
            Target::Node(peer) if self.membership.get(peer).is_none() => Err(SendError::UnknownPeer(peer)),
            Target::Node(peer) => self.dispatch(now, command, &[peer], payload, deadline),
            Target::All if self.has_quorum => {
                let targets: Vec<NodeId> = self.membership.members().map(|member| member.id).collect();
                self.dispatch(now, command, &targets, payload, deadline)
            }
            Target::All => self.gate.hold(
                &self.config,
                Waiting {
                    command,
                    payload,
                    deadline,
                },
            ),
        }
    }

    fn dispatch(
        &mut self,
        now: Instant,
        command: Command,
        targets: &[NodeId],
        payload: Bytes,
        deadline: Instant,
    ) -> Result<(), SendError> {
        let cx = context!(self, now);
        match command {
            Command::Send(id) => self.messaging.send(cx, id, targets, payload, deadline),
            Command::Request(id) => self.messaging.request(cx, id, targets, payload, deadline),
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`ReplyError`]: too large (the request stays open), not open, or too many replies under way.
    pub fn reply(&mut self, now: Instant, to: ReplyTo, payload: Bytes) -> Result<(), ReplyError> {
        let copy = self.journal.copy(&payload);
        let result = self.messaging.reply(context!(self, now), to, payload);
        self.stats.messages_refused += u64::from(result.is_err());
        if let Some(payload) = copy {
            self.journal
                .command(|| journal::Command::Reply { to, payload, result });
        }
        result
    }

    /// Closes a received request that will not be answered. Its caller is not told and runs into its timeout; but its
    /// place is free for others: a peer's open requests are bounded, and all it sends waits behind the first one that
    /// has no place.
    pub fn ignore(&mut self, now: Instant, to: ReplyTo) {
        self.messaging.ignore(context!(self, now), to);
        self.journal.command(|| journal::Command::Ignore(to));
    }

    /// Forgets a message: no more events come for it, and what was not sent yet is not sent.
    pub fn cancel_send(&mut self, id: SendId) {
        if !self.gate.cancel(Command::Send(id)) {
            self.messaging.cancel_send(id);
        }
        self.journal.command(|| journal::Command::CancelSend(id));
    }

    /// Forgets a request: no more events come for it, and what was not sent yet is not sent.
    pub fn cancel_request(&mut self, id: RequestId) {
        if !self.gate.cancel(Command::Request(id)) {
            self.messaging.cancel(id);
        }
        self.journal.command(|| journal::Command::CancelRequest(id));
    }

    /// Resolves the seed names again, now.
    pub fn refresh(&mut self, now: Instant) {
        if self.state == State::Running {
            self.discovery.refresh(&self.config, now);
            self.settle(now);
        }
    }

    /// Changes the keys that are accepted, and the one that seals. All sessions move to the new sealing key within
    /// 30 s. Without effect on an insecure cluster.
    pub fn set_keys(&mut self, now: Instant, keys: KeyRing) {
        self.sessions.set_keys(context!(self, now), &keys);
        self.settle(now);
    }

    /// Asks the group for a token, higher than all before. A lock brings a token with it; this is one without a lock.
    ///
    /// # Errors
    /// [`DrawError`]; nothing was asked for.
    #[doc(hidden)]
    pub fn draw_token(&mut self, now: Instant) -> Result<DrawId, DrawError> {
        let id = self.take_command_id();
        let drawn = self.consensus.draw(context!(self, now), id);
        self.settle(now);
        let result = drawn.map(|()| DrawId(id));
        self.journal.command(|| journal::Command::DrawToken { result });
        result
    }

    /// Asks for a lock. [`LockEvent::Granted`](crate::LockEvent::Granted) or
    /// [`LockEvent::Failed`](crate::LockEvent::Failed) follows, exactly one of them.
    ///
    /// # Errors
    /// [`LockError`] where the request can never be granted; nothing was asked for.
    pub fn lock(&mut self, now: Instant, request: LockRequest) -> Result<LockId, LockError> {
        let copy = self.journal.copy(&request);
        let result = self.consensus.lock(context!(self, now), request);
        self.settle(now);
        if let Some(request) = copy {
            self.journal
                .command(|| journal::Command::Lock { request, result });
        }
        result
    }

    /// Gives a lock back, which [`LockEvent::Released`](crate::LockEvent::Released) confirms at once: this node believes
    /// in it no longer, and the group is told until it has heard. If the lease was over by then, it is
    /// [`LockEvent::Lost`](crate::LockEvent::Lost) instead. A request that is still open fails with
    /// [`LockError::Cancelled`], and leaves nothing behind; so does a list or a forced release that has no answer yet, the
    /// latter of which may have happened. A watch just ends.
    ///
    /// # Errors
    /// [`LockError::UnknownId`] if this node holds no such lock, and has no such request, question or watch.
    pub fn unlock(&mut self, now: Instant, id: LockId) -> Result<(), LockError> {
        let result = self.consensus.unlock(context!(self, now), id);
        self.settle(now);
        self.journal.command(|| journal::Command::Unlock { id, result });
        result
    }

    /// Changes the length of the leases of a lock that is held, 1 s to `max_ttl`. A shorter one counts at once for this
    /// node; a longer one as soon as the group has agreed, which the next
    /// [`LockEvent::Renewed`](crate::LockEvent::Renewed) shows.
    ///
    /// # Errors
    /// [`LockError::UnknownId`] or [`LockError::Ttl`]; nothing changed.
    pub fn set_lock_ttl(&mut self, now: Instant, id: LockId, ttl: Duration) -> Result<(), LockError> {
        let millis = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        let result = self.consensus.set_lock_ttl(context!(self, now), id, millis);
        let result = result.map_err(|error| error.of_ttl(ttl));
        if let Ok(until) = result {
            self.shorten_untold(id, until);
        }
        let result = result.map(drop);
        self.settle(now);
        self.journal
            .command(|| journal::Command::SetLockTtl { id, ttl, result });
        result
    }

    /// Asks who holds and waits for locks. [`LockEvent::Listed`](crate::LockEvent::Listed) brings one page, in a stable
    /// order, as everything stood at some moment between this call and the answer; its `next` is where the next page
    /// begins. Or [`LockEvent::Failed`](crate::LockEvent::Failed): after `message_timeout`, or at once by
    /// [`unlock`](Self::unlock) with the returned id.
    ///
    /// # Errors
    /// [`LockError`]; nothing was asked.
    pub fn list_locks(
        &mut self,
        now: Instant,
        filter: LockFilter,
        after: Option<LockCursor>,
    ) -> Result<LockId, LockError> {
        let result = self.consensus.list_locks(context!(self, now), filter, after);
        self.settle(now);
        self.journal.command(|| journal::Command::ListLocks { result });
        result
    }

    /// Tells from here on when a lock changes, by [`LockEvent::Changed`](crate::LockEvent::Changed): once it is known how
    /// it stands, and then within a round trip of each change; within two seconds if a word of it was lost, and not
    /// before there is a leader again. [`unlock`](Self::unlock) with the returned id ends it.
    ///
    /// # Errors
    /// [`LockError`]; nothing is watched.
    pub fn watch_lock(&mut self, now: Instant, key: &str) -> Result<LockId, LockError> {
        let result = self.consensus.watch_lock(context!(self, now), key);
        self.settle(now);
        self.journal.command(|| journal::Command::WatchLock { result });
        result
    }

    /// Takes a lock from whoever holds it by this token: its lease is not renewed any more, and it is told. The next
    /// holder gets it when this one has said that it stopped, or its lease is over.
    ///
    /// With `at_once` the next holder gets it without waiting for that: **two may believe that they hold it**, and only
    /// a resource that checks tokens is safe. [`LockEvent::Taken`](crate::LockEvent::Taken) follows, or
    /// [`LockEvent::Failed`](crate::LockEvent::Failed) after `message_timeout` or by [`unlock`](Self::unlock), and the
    /// table keeps a record.
    ///
    /// # Errors
    /// [`LockError`]; nothing was asked.
    pub fn revoke_lock(&mut self, now: Instant, token: u64, at_once: bool) -> Result<LockId, LockError> {
        let result = self.consensus.revoke_lock(context!(self, now), token, at_once);
        self.settle(now);
        self.journal.command(|| journal::Command::RevokeLock {
            token,
            at_once,
            result,
        });
        result
    }

    /// Says goodbye. Pending messages and requests fail with `Leaving`. A leader hands leadership over, and a seat that
    /// its group cannot do without waits up to `leave_wait` for its replacement; then [`Event::LeaveDone`] follows
    /// within `leave_timeout`, and from then on the node does nothing.
    pub fn leave(&mut self, now: Instant) {
        if self.state == State::Running {
            self.state = State::Leaving;
            self.gate.close(context!(self, now));
            self.messaging.shutdown(context!(self, now));
            self.consensus.leave(context!(self, now));
            self.settle(now);
        }
        self.journal.command(|| journal::Command::Leave);
    }
}
