//! Messages, requests and replies between members: in order, at most once, bounded on both sides.
//!
//! A *channel* joins two processes and outlives their sessions. Each of its directions has two lanes: an ordered one
//! for messages and requests, an unordered one for replies. Messages are cut into chunks; every chunk has a number in
//! its lane, is acknowledged cumulatively and in ranges, and is sent again when lost (after SCTP, RFC 9260). What is not
//! delivered by its deadline is given up, and the peer is told which numbers it need not wait for (RFC 3758).
//!
//! The receiving side draws an *epoch* when it makes its state for a sender, and chunks name it. A receiver that has
//! lost its state says so instead of guessing: the sender then reports what was under way as of unknown outcome. That is
//! how nothing is run twice.

mod frame;
mod groups;
mod lane;
mod outgoing;
mod receiver;
mod rtt;
mod sender;
#[cfg(test)]
mod tests;
#[cfg(feature = "simulation")]
mod usage;

use crate::config::Config;
use crate::deadlines::Deadlines;
use crate::error::{DeliveryError, ReplyError, SendError};
use crate::event::{Message, ReplyTo, RequestId, SendId};
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::rng::Rng;
use crate::stats::{DropReason, Stats};
use crate::time::{Duration, Instant, earliest};
use crate::wire::{FrameWriter, kind};
use alloc::boxed::Box;
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, VecDeque};
use bytes::Bytes;
use frame::{Ack, Chunk, Floor, Open, Opened, Refused, Stale};
use groups::{Groups, Outcome, Owner};
use outgoing::NoRoom;
use receiver::Receiver;
use sender::Sender;

/// The most chunks in flight in one lane.
const MAX_IN_FLIGHT: usize = 64;
/// How far a chunk's number may be ahead of the first that is missing. Leaves room behind a lost one.
const RING: usize = 128;
/// How long an acknowledgement may wait for a frame to ride with.
const ACK_DELAY: Duration = Duration::from_micros(500);
/// How many chunks may wait together for their acknowledgement.
const ACK_EVERY: u32 = 16;
/// The most replies under way to one peer, and their bytes (or one of the largest message size).
const REPLY_MESSAGES: usize = 256;
const REPLY_BYTES: usize = 1 << 20;
/// The most notes under way to one peer that a reply is lost.
const MAX_LOST_NOTES: usize = 256;

/// The bounds, from the config.
#[derive(Clone, Copy, Debug)]
struct Limits {
    peers: usize,
    max_message: usize,
    /// Messages and bytes under way to a peer; the bytes also bound a peer's queue for the application.
    window_messages: usize,
    window_bytes: usize,
    /// Messages of a peer that wait for the application.
    queue_messages: usize,
    /// Messages and bytes that wait for their turn to be sent to a peer.
    send_queue: usize,
    send_queue_bytes: usize,
    /// Requests of one side that the other has not answered.
    open_requests: usize,
    reply_messages: usize,
    reply_bytes: usize,
}

impl Limits {
    fn new(config: &Config) -> Self {
        Self {
            peers: config.max_members,
            max_message: config.max_message_size,
            window_messages: config.window_messages,
            window_bytes: config.window_bytes,
            queue_messages: config.message_queue_size,
            send_queue: config.send_queue_size,
            send_queue_bytes: config.window_bytes.saturating_mul(8),
            open_requests: config.send_queue_size.saturating_add(config.window_messages),
            reply_messages: REPLY_MESSAGES,
            reply_bytes: REPLY_BYTES.max(config.max_message_size),
        }
    }
}

#[derive(Debug)]
struct Peer {
    sender: Sender,
    receiver: Receiver,
    /// In the list of those that want to send, and of those that have messages.
    listed: bool,
    has_messages: bool,
    /// The entry in the timer list; never later than what is due first, but possibly earlier.
    timer: Option<Instant>,
}

/// Who wants what, so that nobody has to be searched for.
#[derive(Debug, Default)]
struct Lists {
    /// Peers that something is to be sent to.
    ready: VecDeque<NodeId>,
    /// Peers with messages for the application.
    inbox: VecDeque<NodeId>,
    /// One entry for each peer that has a timer.
    timers: Deadlines<NodeId>,
}

/// All channels of a node.
///
/// Memory for one peer: to it, `send_queue_size` messages of at most 8 x `window_bytes` that wait, a window under way,
/// 256 replies of 1 MiB; from it, at most 2 x `window_bytes` + `max_message_size` (see `receiver`), and as many
/// open requests as `send_queue_size` + `window_messages`.
#[derive(Debug)]
pub(crate) struct Messaging {
    limits: Limits,
    rng: Rng,
    peers: BTreeMap<NodeId, Box<Peer>>,
    groups: Groups,
    /// The newest generation that was drawn for any channel.
    generation: u64,
    lists: Lists,
    /// Acknowledged messages of senders that have gone since, and their bytes.
    orphans: VecDeque<Message>,
    orphan_bytes: usize,
    leaving: bool,
}

impl Messaging {
    /// Creates the part; `rng` is the stream for messaging.
    pub(crate) fn new(config: &Config, rng: Rng) -> Self {
        Self {
            limits: Limits::new(config),
            rng,
            peers: BTreeMap::new(),
            groups: Groups::default(),
            generation: 0,
            lists: Lists::default(),
            orphans: VecDeque::new(),
            orphan_bytes: 0,
            leaving: false,
        }
    }

    /// Sends a message to each target. Each has one `SendDone`, and after the last comes `SendFinished`.
    ///
    /// # Errors
    /// Nothing was queued. `QueueFull` only where there is one target; one of several fails in its `SendDone`.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        id: SendId,
        targets: &[NodeId],
        payload: Bytes,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.submit(cx, Owner::Send(id), targets, &payload, deadline)
    }

    /// Sends a request to each target. Each has one `Reply` or `RequestFailed`, and after the last comes `RequestDone`.
    ///
    /// # Errors
    /// As `send`.
    pub(crate) fn request(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        targets: &[NodeId],
        payload: Bytes,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.submit(cx, Owner::Request(id), targets, &payload, deadline)
    }

    fn submit(
        &mut self,
        cx: &mut Context<'_>,
        owner: Owner,
        targets: &[NodeId],
        payload: &Bytes,
        deadline: Instant,
    ) -> Result<(), SendError> {
        if self.leaving {
            return Err(SendError::Leaving);
        }
        let (size, max) = (payload.len(), self.limits.max_message);
        if size > max {
            return Err(SendError::TooLarge { size, max });
        }
        let silent = planted(PlantedBug::FullQueueDropsSilently);
        if let &[only] = targets
            && !self.has_room(only, owner, size)
            && !silent
        {
            return Err(SendError::QueueFull {
                limit: self.limits.send_queue,
            });
        }
        self.groups.begin(cx.events, owner, targets);
        for &target in targets {
            if self.has_room(target, owner, size) {
                let peer = (self.peers.entry(target)).or_insert_with(|| Peer::new(target));
                peer.sender.submit(owner, payload.clone(), deadline);
                peer.settle(target, &mut self.lists);
            } else if !silent {
                cx.stats.messages_refused += 1;
                let full = Outcome::Failed(DeliveryError::QueueFull);
                self.groups.finish(cx.events, owner, target, full);
            }
        }
        Ok(())
    }

    fn has_room(&self, id: NodeId, owner: Owner, size: usize) -> bool {
        match self.peers.get(&id) {
            Some(peer) => peer.sender.has_room(&self.limits, owner, size),
            None => self.peers.len() < self.limits.peers,
        }
    }

    /// Answers a request, once.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub(crate) fn reply(
        &mut self,
        cx: &mut Context<'_>,
        to: ReplyTo,
        payload: Bytes,
    ) -> Result<(), ReplyError> {
        let limits = self.limits;
        let peer = self.peers.get_mut(&to.peer).ok_or(ReplyError::NotOpen)?;
        let deadline = peer
            .receiver
            .open_request(cx.now, &to)
            .ok_or(ReplyError::NotOpen)?;
        let (size, max) = (payload.len(), limits.max_message);
        if size > max {
            return Err(ReplyError::TooLarge { size, max });
        }
        peer.receiver
            .close_request(cx.now, &limits, cx.stats, to.sequence);
        let request = (to.epoch, to.sequence);
        let kept = (peer.sender).submit_reply(&limits, cx.stats, request, payload, deadline);
        peer.settle(to.peer, &mut self.lists);
        if kept { Ok(()) } else { Err(ReplyError::Full) }
    }

    /// Closes a received request without a reply: its caller runs into its timeout, and its place is free.
    pub(crate) fn ignore(&mut self, cx: &mut Context<'_>, to: ReplyTo) {
        let limits = self.limits;
        if let Some(peer) = self.peers.get_mut(&to.peer)
            && peer.receiver.open_request(cx.now, &to).is_some()
        {
            peer.receiver
                .close_request(cx.now, &limits, cx.stats, to.sequence);
            peer.settle(to.peer, &mut self.lists);
        }
    }

    /// Forgets a request: nothing more is reported of it, and what was not begun is not sent.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.cancel_owner(Owner::Request(id));
    }

    /// Forgets a message: nothing more is reported of it, and what was not begun is not sent.
    pub(crate) fn cancel_send(&mut self, id: SendId) {
        self.cancel_owner(Owner::Send(id));
    }

    fn cancel_owner(&mut self, owner: Owner) {
        for target in self.groups.cancel(owner) {
            if let Some(peer) = self.peers.get_mut(&target) {
                peer.sender.cancel(owner);
                peer.settle(target, &mut self.lists);
            }
        }
    }

    /// A member left, failed or was replaced: everything pending with it ends, and the channel is forgotten. Messages
    /// that were acknowledged to it are still delivered, within the bounds of one peer's queue for all who have gone.
    pub(crate) fn peer_gone(&mut self, cx: &mut Context<'_>, id: NodeId) {
        let Some(mut peer) = self.peers.remove(&id) else {
            return;
        };
        if let Some(at) = peer.timer {
            self.lists.timers.remove(at, id);
        }
        if peer.listed {
            self.lists.ready.retain(|&listed| listed != id);
        }
        if peer.has_messages {
            self.lists.inbox.retain(|&listed| listed != id);
        }
        if !planted(PlantedBug::DepartureLeavesCommandsOpen) {
            peer.sender
                .close(cx, &mut self.groups, DeliveryError::PeerDisconnected, true);
        }
        for message in peer.receiver.into_orphans() {
            let bytes = self.orphan_bytes + message.payload.len();
            if self.orphans.len() >= self.limits.queue_messages || bytes > self.limits.window_bytes {
                cx.stats.drop(DropReason::OrphanedMessage);
            } else {
                self.orphan_bytes = bytes;
                self.orphans.push_back(message);
            }
        }
    }

    /// A session with the peer is open again: what is outstanding goes out at once.
    pub(crate) fn link_up(&mut self, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.sender.link_up();
            if planted(PlantedBug::RequestRunTwice) {
                peer.receiver.forget_epoch();
            }
            peer.settle(id, &mut self.lists);
        }
    }

    /// This node leaves: what is pending ends, and nothing new is taken. Received messages can still be read, and
    /// replies that are under way still go out.
    pub(crate) fn shutdown(&mut self, cx: &mut Context<'_>) {
        self.leaving = true;
        for peer in self.peers.values_mut() {
            peer.sender
                .close(cx, &mut self.groups, DeliveryError::Leaving, false);
        }
    }

    /// Takes one frame of 0x10 to 0x2f.
    pub(crate) fn handle_frame(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        kind: u8,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        match kind {
            kind::DATA | kind::REQUEST | kind::RESPONSE => {
                let chunk = Chunk::decode(kind, body)?;
                self.incoming(cx, from, |limits, _, cx, peer| {
                    peer.receiver.on_chunk(cx.now, limits, cx.stats, &chunk);
                });
            }
            kind::FLOOR => {
                let floor = Floor::decode(body)?;
                self.incoming(cx, from, |limits, _, cx, peer| {
                    peer.receiver.on_floor(cx.now, limits, cx.stats, floor);
                });
            }
            kind::OPEN => {
                let open = Open::decode(body)?;
                self.incoming(cx, from, |_, rng, cx, peer| {
                    peer.receiver.on_open(rng, cx.stats, open);
                });
            }
            kind::ACK => {
                let ack = Ack::decode(body)?;
                return self.answered(cx, from, |cx, groups, sender| sender.on_ack(cx, groups, &ack));
            }
            kind::OPENED => {
                let opened = Opened::decode(body)?;
                return self.answered(cx, from, |cx, groups, sender| {
                    sender.on_opened(cx, groups, opened);
                    Ok(())
                });
            }
            kind::REFUSED => {
                let refused = Refused::decode(body)?;
                return self.answered(cx, from, |cx, groups, sender| {
                    sender.on_refused(cx, groups, refused);
                    Ok(())
                });
            }
            kind::STALE => {
                let stale = Stale::decode(body)?;
                return self.answered(cx, from, |cx, groups, sender| {
                    sender.on_stale(cx, groups, stale.epoch);
                    Ok(())
                });
            }
            _ => return Err(BadFrame),
        }
        Ok(())
    }

    /// Handles a frame for the receiving side.
    fn incoming(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        handle: impl FnOnce(&Limits, &mut Rng, &mut Context<'_>, &mut Peer),
    ) {
        let full = self.peers.len() >= self.limits.peers;
        let peer = match self.peers.entry(from) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if full => {
                cx.stats.drop(DropReason::MembersFull);
                return;
            }
            Entry::Vacant(entry) => entry.insert(Peer::new(from)),
        };
        handle(&self.limits, &mut self.rng, cx, peer);
        while let Some(reply) = peer.receiver.next_reply() {
            (peer.sender).on_reply(cx, &mut self.groups, reply.request, reply.status, reply.payload);
        }
        peer.settle(from, &mut self.lists);
    }

    /// Handles a frame for the sending side; without one it is out of date.
    fn answered(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        handle: impl FnOnce(&mut Context<'_>, &mut Groups, &mut Sender) -> Result<(), BadFrame>,
    ) -> Result<(), BadFrame> {
        let Some(peer) = self.peers.get_mut(&from) else {
            cx.stats.drop(DropReason::StaleFrame);
            return Ok(());
        };
        let result = handle(cx, &mut self.groups, &mut peer.sender);
        peer.settle(from, &mut self.lists);
        result
    }

    /// Returns when `handle_timeout` is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.lists.timers.earliest()
    }

    /// Does all that is due.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        while let Some(id) = self.lists.timers.pop_due(cx.now) {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            peer.timer = None;
            peer.sender.handle_timeout(cx, &mut self.groups);
            peer.receiver.handle_timeout(cx.now, &self.limits, cx.stats);
            peer.settle(id, &mut self.lists);
        }
    }

    /// Takes the next message for the application, from each peer in turn.
    pub(crate) fn poll_message(&mut self, now: Instant, stats: &mut Stats) -> Option<Message> {
        if let Some(message) = self.orphans.pop_front() {
            self.orphan_bytes -= message.payload.len();
            return Some(message);
        }
        while let Some(id) = self.lists.inbox.pop_front() {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            peer.has_messages = false;
            let message = peer.receiver.poll(now, &self.limits, stats);
            peer.settle(id, &mut self.lists);
            if message.is_some() {
                return message;
            }
        }
        None
    }

    /// Takes the next peer that something is to be sent to. The caller builds a datagram with `fill`; if there is no
    /// session, it calls `link_up` once there is.
    pub(crate) fn next_peer(&mut self) -> Option<NodeId> {
        let id = self.lists.ready.pop_front()?;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.listed = false;
        }
        Some(id)
    }

    /// Writes what is to be sent to this peer into a datagram; with more left than fits, the peer is listed again.
    pub(crate) fn fill(&mut self, now: Instant, stats: &mut Stats, id: NodeId, writer: &mut FrameWriter<'_>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let result = peer.receiver.fill(&self.limits, writer).and_then(|()| {
            peer.sender
                .fill(now, stats, &self.limits, &mut self.generation, writer)
        });
        if matches!(result, Err(NoRoom)) && !peer.listed {
            peer.listed = true;
            self.lists.ready.push_back(id);
        }
        peer.schedule(id, &mut self.lists);
    }

    #[cfg(test)]
    fn receive_bytes(&self, id: NodeId) -> usize {
        self.peers.get(&id).map_or(0, |peer| peer.receiver.held_bytes())
    }

    #[cfg(test)]
    fn held(&self) -> usize {
        let peers = self.peers.values();
        let held: usize = peers.map(|peer| peer.sender.held() + peer.receiver.held()).sum();
        held + self.lists.ready.len() + self.lists.inbox.len() + self.lists.timers.len()
    }
}

impl Peer {
    fn new(id: NodeId) -> Box<Self> {
        Box::new(Self {
            sender: Sender::new(id),
            receiver: Receiver::new(id),
            listed: false,
            has_messages: false,
            timer: None,
        })
    }

    /// Lists the peer wherever it belongs after something happened to it.
    fn settle(&mut self, id: NodeId, lists: &mut Lists) {
        if !self.listed && (self.receiver.ready() || self.sender.ready()) {
            self.listed = true;
            lists.ready.push_back(id);
        }
        if !self.has_messages && self.receiver.has_messages() {
            self.has_messages = true;
            lists.inbox.push_back(id);
        }
        self.schedule(id, lists);
    }

    /// Lists the peer's timer. One that moved to later stays where it is: when it fires, it is listed anew, which costs
    /// less than moving it with every frame.
    fn schedule(&mut self, id: NodeId, lists: &mut Lists) {
        let next = earliest(self.sender.timer(), self.receiver.timer());
        if let Some(next) = next
            && self.timer.is_none_or(|at| next < at)
        {
            if let Some(at) = self.timer.replace(next) {
                lists.timers.remove(at, id);
            }
            lists.timers.insert(next, id);
        }
    }
}
