//! The incoming direction of a channel: chunks to messages, in order, into the bounded queue of one peer.
//!
//! What a peer can make this node hold: its queue together with the message being assembled for it, at most
//! `window_bytes`; chunks held behind gaps in both lanes, at most `window_bytes` and 128 of them per lane; and one reply
//! being assembled, at most `max_message_size`.

mod acknowledging;

use super::frame::{Begin, Chunk, Floor, Head, LaneId, Open, Ranges, ReplyStatus};
#[cfg(feature = "simulation")]
use super::usage::Held;
use super::{ACK_DELAY, ACK_EVERY, Limits, RING};
use crate::event::{Message, ReplyTo};
use crate::id::NodeId;
use crate::planted::{PlantedBug, planted};
use crate::rng::Rng;
use crate::stats::{DropReason, Stats};
use crate::time::{Duration, Instant};
use crate::wire::kind;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;

/// The most memory that the announced size of a message reserves before its bytes are here.
const RESERVE: usize = 64 << 10;

/// A received number at or behind the first that is not consumed.
#[derive(Debug)]
enum Slot {
    Missing,
    /// Consumed ahead of its turn.
    Taken,
    Held {
        begin: Option<Begin>,
        end: bool,
        payload: Bytes,
    },
}

/// A message of which the first pieces are here.
#[derive(Debug)]
struct Assembly {
    begin: Begin,
    first: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AckDue {
    /// At the next datagram to the peer, or at this instant at the latest.
    By(Instant),
    Now,
}

#[derive(Debug, Default)]
struct Lane {
    /// The first number that is not consumed, and what is known from there on.
    base: u64,
    ring: VecDeque<Slot>,
    /// The sender will not send what is missing below this.
    floor: u64,
    assembly: Option<Assembly>,
    ack: Option<AckDue>,
    unacknowledged: u32,
    /// The first piece of a message that is too large; its sender is to be told. A later one takes its place: whatever
    /// is not acknowledged comes again.
    refused: Option<u64>,
}

impl Lane {
    fn acknowledge_now(&mut self) {
        self.ack = Some(AckDue::Now);
    }

    fn ranges(&self) -> Ranges {
        let mut ranges = Ranges::default();
        let (mut gap, mut len) = (0_u16, 0_u16);
        // The ring has at most 128 slots, so the sums fit.
        for slot in &self.ring {
            if !matches!(slot, Slot::Missing) {
                len += 1;
            } else if len == 0 {
                gap += 1;
            } else {
                if !ranges.push(gap, len) {
                    return ranges;
                }
                (gap, len) = (1, 0);
            }
        }
        if len > 0 {
            ranges.push(gap, len);
        }
        ranges
    }
}

/// A reply that is here as a whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) request: (u64, u64),
    pub(super) status: ReplyStatus,
    pub(super) payload: Bytes,
}

#[derive(Debug)]
struct Queued {
    payload: Bytes,
    /// The epoch and number of the first chunk, if this is a request.
    request: Option<(u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    peer: NodeId,
    /// The sender's generation that `epoch` answers; zero before the first.
    generation: u64,
    epoch: u64,
    lanes: [Lane; 2],
    /// Bytes in the slots of both lanes.
    held_bytes: usize,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    /// Requests that may be answered, by the number of their first chunk, all of this epoch.
    open: BTreeMap<u64, Instant>,
    open_deadlines: BTreeSet<(Instant, u64)>,
    /// The sender was last told to wait.
    told_busy: bool,
    opened_due: bool,
    stale_due: Option<u64>,
    replies: VecDeque<Reply>,
}

/// What happens to a piece whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    /// When the consumer has taken some.
    Later,
    /// Larger than any message that this node takes.
    Never,
}

impl Receiver {
    pub(super) fn new(peer: NodeId) -> Self {
        Self {
            peer,
            generation: 0,
            epoch: 0,
            lanes: [Lane::default(), Lane::default()],
            held_bytes: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            open: BTreeMap::new(),
            open_deadlines: BTreeSet::new(),
            told_busy: false,
            opened_due: false,
            stale_due: None,
            replies: VecDeque::new(),
        }
    }

    pub(super) fn on_open(&mut self, rng: &mut Rng, stats: &mut Stats, open: Open) {
        if open.generation < self.generation || open.generation == 0 {
            stats.drop(DropReason::StaleFrame);
            return;
        }
        if open.generation > self.generation {
            // What the sender heard of as queued stays queued. Its requests are closed: it knows their outcome no more.
            self.generation = open.generation;
            self.epoch = rng.u64();
            self.lanes = [Lane::default(), Lane::default()];
            self.held_bytes = 0;
            self.open.clear();
            self.open_deadlines.clear();
            self.told_busy = false;
        }
        self.opened_due = true;
    }

    /// What `PlantedBug::RequestRunTwice` does when a session opens.
    pub(super) fn forget_epoch(&mut self) {
        self.generation = 0;
    }

    fn knows(&self, epoch: u64) -> bool {
        self.generation > 0 && self.epoch == epoch
    }

    pub(super) fn on_chunk(&mut self, now: Instant, limits: &Limits, stats: &mut Stats, chunk: &Chunk<'_>) {
        if !self.knows(chunk.epoch) {
            self.stale_due = Some(chunk.epoch);
            stats.drop(DropReason::StaleFrame);
            return;
        }
        let id = if chunk.kind == kind::RESPONSE {
            LaneId::Unordered
        } else {
            LaneId::Ordered
        };
        let lane = &mut self.lanes[id as usize];
        let Some(ahead) = chunk.sequence.checked_sub(lane.base) else {
            lane.acknowledge_now();
            stats.drop(DropReason::DuplicateMessage);
            return;
        };
        let place = match usize::try_from(ahead) {
            Ok(place) if place < RING => place,
            // As far as the sums in `ranges` can go.
            Ok(place) if place < 1 << 15 && planted(PlantedBug::UnboundedReassembly) => place,
            _ => {
                lane.acknowledge_now();
                stats.drop(DropReason::BeyondWindow);
                return;
            }
        };
        if !matches!(lane.ring.get(place), None | Some(Slot::Missing)) {
            lane.acknowledge_now();
            stats.drop(DropReason::DuplicateMessage);
            return;
        }
        let in_order = place == 0 && lane.ring.is_empty();
        let fit = self.fit(limits, chunk.begin);
        let consumed = fit == Fit::Yes && place == 0;
        if consumed {
            let piece = (chunk.begin, chunk.end, Payload::Borrowed(chunk.payload));
            self.consume(now, stats, id, piece);
            let lane = &mut self.lanes[id as usize];
            lane.ring.pop_front();
            lane.base += 1;
            self.drain(now, limits, stats, id);
        } else if let Some(begin) = chunk.begin
            && (chunk.end, fit) == (true, Fit::Yes)
            && (id == LaneId::Unordered || planted(PlantedBug::SmallMessagesOvertake))
        {
            // A reply of one chunk has no order to wait for.
            let payload = Bytes::copy_from_slice(chunk.payload);
            self.deliver(now, stats, chunk.sequence, begin.head, payload);
            self.place(id, place, Slot::Taken);
        } else if (fit, place) == (Fit::Later, 0) && planted(PlantedBug::AcknowledgedButNotQueued) {
            let lane = &mut self.lanes[id as usize];
            lane.ring.pop_front();
            lane.base += 1;
            self.drain(now, limits, stats, id);
        } else if fit == Fit::Never {
            stats.drop(DropReason::BeyondWindow);
            self.refuse(id, chunk);
            return;
        } else if self.held_bytes.saturating_add(chunk.payload.len()) > limits.window_bytes
            && !planted(PlantedBug::UnboundedReassembly)
        {
            stats.drop(DropReason::BeyondWindow);
        } else {
            self.held_bytes += chunk.payload.len();
            let slot = Slot::Held {
                begin: chunk.begin,
                end: chunk.end,
                payload: Bytes::copy_from_slice(chunk.payload),
            };
            self.place(id, place, slot);
        }
        if fit == Fit::Later && place == 0 {
            stats.busy += 1;
            self.told_busy = true;
        }
        let lane = &mut self.lanes[id as usize];
        lane.unacknowledged = lane.unacknowledged.saturating_add(1);
        let urgent = !(in_order && consumed && lane.ring.is_empty())
            || lane.unacknowledged >= ACK_EVERY
            || (chunk.kind == kind::DATA && chunk.end);
        if urgent {
            lane.acknowledge_now();
        } else {
            // Keeps an earlier one.
            lane.ack.get_or_insert(AckDue::By(now + ACK_DELAY));
        }
    }

    /// Has the sender told that a message is too large. It then gives the message up, which moves the lane on. The
    /// caller of whom this is the answer waits no longer.
    fn refuse(&mut self, id: LaneId, chunk: &Chunk<'_>) {
        self.lanes[id as usize].refused = Some(chunk.sequence);
        if let Some(Begin {
            head: Head::Response { epoch, sequence, .. },
            ..
        }) = chunk.begin
        {
            self.replies.push_back(Reply {
                request: (epoch, sequence),
                status: ReplyStatus::Lost,
                payload: Bytes::new(),
            });
        }
    }

    fn place(&mut self, id: LaneId, place: usize, slot: Slot) {
        let ring = &mut self.lanes[id as usize].ring;
        while ring.len() <= place {
            ring.push_back(Slot::Missing);
        }
        ring[place] = slot; // the ring was grown to have this place
    }

    /// Tells whether a piece whose turn it is can be taken.
    fn fit(&self, limits: &Limits, begin: Option<Begin>) -> Fit {
        // The room of a message is decided with its first piece.
        let Some(begin) = begin else {
            return Fit::Yes;
        };
        let total = usize::try_from(begin.total).unwrap_or(usize::MAX);
        if total > limits.max_message - usize::from(planted(PlantedBug::LargestMessageRefused)) {
            return Fit::Never;
        }
        let queued = self.queue.len() < limits.queue_messages
            && self.queue_bytes.saturating_add(total) <= limits.window_bytes;
        let room = match begin.head {
            _ if planted(PlantedBug::BackPressureIgnored) => true,
            Head::Response { .. } => true,
            Head::Request { .. } => queued && self.open.len() < limits.open_requests,
            Head::Data => queued,
        };
        if room { Fit::Yes } else { Fit::Later }
    }

    /// Takes the piece at the base of the lane.
    fn consume(
        &mut self,
        now: Instant,
        stats: &mut Stats,
        id: LaneId,
        (begin, end, payload): (Option<Begin>, bool, Payload<'_>),
    ) {
        let lane = &mut self.lanes[id as usize];
        let sequence = lane.base;
        if let Some(begin) = begin {
            // A message that was not finished before the next one is one that the sender gave up.
            lane.assembly = None;
            if end {
                self.deliver(now, stats, sequence, begin.head, payload.into_bytes());
                return;
            }
            let total = usize::try_from(begin.total).unwrap_or(usize::MAX);
            let mut bytes = Vec::with_capacity(total.min(RESERVE));
            bytes.extend_from_slice(payload.as_slice());
            lane.assembly = Some(Assembly {
                begin,
                first: sequence,
                bytes,
            });
            return;
        }
        let Some(mut assembly) = lane.assembly.take() else {
            // The rest of a message that lost its start.
            stats.drop(DropReason::StaleFrame);
            return;
        };
        let total = usize::try_from(assembly.begin.total).unwrap_or(usize::MAX);
        let len = assembly.bytes.len().saturating_add(payload.as_slice().len());
        if len > total || end != (len == total) {
            stats.drop(DropReason::MalformedFrame);
            return;
        }
        // Grows by doubling, but not past the end.
        if assembly.bytes.capacity() < len {
            let more = assembly.bytes.capacity().min(total - assembly.bytes.len());
            assembly.bytes.reserve_exact(more.max(payload.as_slice().len()));
        }
        assembly.bytes.extend_from_slice(payload.as_slice());
        if end && payload.as_slice().len() == super::frame::MAX_CHUNK && planted(PlantedBug::FullLastPieceCut)
        {
            assembly.bytes.pop();
        }
        if end {
            let Assembly { begin, first, bytes } = assembly;
            self.deliver(now, stats, first, begin.head, Bytes::from(bytes));
        } else {
            lane.assembly = Some(assembly);
        }
    }

    fn deliver(&mut self, now: Instant, stats: &mut Stats, first: u64, head: Head, payload: Bytes) {
        stats.messages_received += 1;
        let request = match head {
            Head::Response {
                epoch,
                sequence,
                status,
            } => {
                self.replies.push_back(Reply {
                    request: (epoch, sequence),
                    status,
                    payload,
                });
                return;
            }
            Head::Request { remaining } => {
                let deadline = now + Duration::from_millis(remaining.into());
                self.open.insert(first, deadline);
                self.open_deadlines.insert((deadline, first));
                Some((self.epoch, first))
            }
            Head::Data => None,
        };
        self.queue_bytes += payload.len();
        self.queue.push_back(Queued { payload, request });
    }

    /// Takes what has its turn, past what the sender gave up.
    fn drain(&mut self, now: Instant, limits: &Limits, stats: &mut Stats, id: LaneId) {
        loop {
            let lane = &mut self.lanes[id as usize];
            match lane.ring.pop_front() {
                None => {
                    if lane.base < lane.floor {
                        lane.base = lane.floor;
                        lane.assembly = None;
                    }
                    return;
                }
                Some(Slot::Missing) if lane.base < lane.floor => lane.assembly = None,
                Some(Slot::Missing) => {
                    // A gap is at the front only of a ring that holds something behind it.
                    lane.ring.push_front(Slot::Missing);
                    return;
                }
                Some(Slot::Taken) => {}
                Some(Slot::Held { begin, end, payload }) => {
                    if self.fit(limits, begin) != Fit::Yes {
                        self.lanes[id as usize]
                            .ring
                            .push_front(Slot::Held { begin, end, payload });
                        self.told_busy = true;
                        return;
                    }
                    self.held_bytes -= payload.len();
                    self.consume(now, stats, id, (begin, end, Payload::Owned(payload)));
                }
            }
            self.lanes[id as usize].base += 1;
        }
    }

    pub(super) fn on_floor(&mut self, now: Instant, limits: &Limits, stats: &mut Stats, floor: Floor) {
        if !self.knows(floor.epoch) {
            self.stale_due = Some(floor.epoch);
            stats.drop(DropReason::StaleFrame);
            return;
        }
        let lane = &mut self.lanes[floor.lane as usize];
        if !planted(PlantedBug::LostFragmentBlocks) {
            lane.floor = lane.floor.max(floor.floor);
        }
        lane.acknowledge_now();
        self.drain(now, limits, stats, floor.lane);
    }

    /// Takes the next reply that is complete.
    pub(super) fn next_reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes the next message for the application. Requests that are closed already are left out.
    pub(super) fn poll(&mut self, now: Instant, limits: &Limits, stats: &mut Stats) -> Option<Message> {
        let message = self.pop(now, stats);
        let moved = self.drain_ordered(now, limits, stats);
        let half_empty =
            self.queue.len() <= limits.queue_messages / 2 && self.queue_bytes <= limits.window_bytes / 2;
        if moved || (self.told_busy && half_empty && !self.is_busy(limits)) {
            self.lanes[LaneId::Ordered as usize].acknowledge_now();
        }
        message
    }

    fn pop(&mut self, now: Instant, stats: &mut Stats) -> Option<Message> {
        while let Some(Queued { payload, request }) = self.queue.pop_front() {
            self.queue_bytes -= payload.len();
            let Some((epoch, sequence)) = request else {
                return Some(self.message(payload, None, None));
            };
            let deadline = self.open.get(&sequence).copied();
            if let Some(deadline) = deadline.filter(|&deadline| epoch == self.epoch && deadline > now) {
                let reply_to = ReplyTo {
                    peer: self.peer,
                    epoch,
                    sequence,
                };
                return Some(self.message(payload, Some(reply_to), Some(deadline)));
            }
            stats.drop(DropReason::ExpiredRequest);
        }
        None
    }

    const fn message(&self, payload: Bytes, reply_to: Option<ReplyTo>, deadline: Option<Instant>) -> Message {
        Message {
            from: self.peer,
            payload,
            reply_to,
            deadline,
        }
    }

    /// Takes the messages that are acknowledged, for after the sender has gone. Its requests are void with it.
    pub(super) fn into_orphans(self) -> impl Iterator<Item = Message> {
        let peer = self.peer;
        (self.queue.into_iter())
            .filter(|queued| queued.request.is_none())
            .map(move |queued| Message {
                from: peer,
                payload: queued.payload,
                reply_to: None,
                deadline: None,
            })
    }

    /// Returns until when a request may be answered, if it is open.
    pub(super) fn open_request(&self, now: Instant, to: &ReplyTo) -> Option<Instant> {
        let deadline = self.open.get(&to.sequence).copied();
        deadline.filter(|&deadline| self.knows(to.epoch) && deadline > now)
    }

    /// Closes a request. That may be what the next one in line waited for.
    pub(super) fn close_request(&mut self, now: Instant, limits: &Limits, stats: &mut Stats, sequence: u64) {
        let Some(deadline) = self.open.remove(&sequence) else {
            return;
        };
        self.open_deadlines.remove(&(deadline, sequence));
        let moved = self.drain_ordered(now, limits, stats);
        if moved || (self.told_busy && !self.is_busy(limits)) {
            self.lanes[LaneId::Ordered as usize].acknowledge_now();
        }
    }

    /// Takes what has room now. Returns whether that was anything.
    fn drain_ordered(&mut self, now: Instant, limits: &Limits, stats: &mut Stats) -> bool {
        let base = self.lanes[LaneId::Ordered as usize].base;
        self.drain(now, limits, stats, LaneId::Ordered);
        self.lanes[LaneId::Ordered as usize].base != base
    }

    /// Returns whether the sender has to wait: nothing fits, or the next in line does not.
    fn is_busy(&self, limits: &Limits) -> bool {
        let room = self.room(limits);
        let blocked = matches!(
            self.lanes[LaneId::Ordered as usize].ring.front(),
            Some(Slot::Held { .. })
        );
        blocked || room.messages == 0 || room.bytes == 0
    }

    /// Returns whether something has to be written at once.
    pub(super) fn ready(&self) -> bool {
        self.opened_due
            || self.stale_due.is_some()
            || (self.lanes.iter()).any(|lane| lane.ack == Some(AckDue::Now) || lane.refused.is_some())
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        let acks = self.lanes.iter().filter_map(|lane| match lane.ack {
            Some(AckDue::By(at)) => Some(at),
            Some(AckDue::Now) | None => None,
        });
        let expiry = self.open_deadlines.first().map(|&(at, _)| at);
        acks.chain(expiry).min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, limits: &Limits, stats: &mut Stats) {
        for lane in &mut self.lanes {
            if let Some(AckDue::By(at)) = lane.ack
                && at <= now
            {
                lane.acknowledge_now();
            }
        }
        while let Some(&(at, sequence)) = self.open_deadlines.first()
            && at <= now
        {
            self.close_request(now, limits, stats, sequence);
        }
    }

    #[cfg(feature = "simulation")]
    pub(super) fn count(&self, held: &mut Held) {
        held.inbox_messages = self.queue.len();
        held.inbox_bytes = self.queue.iter().map(|queued| queued.payload.len()).sum();
        held.received_requests = self.open.len();
        for lane in &self.lanes {
            held.reassembly_pieces += lane.ring.len();
            held.reassembly_bytes += lane
                .assembly
                .as_ref()
                .map_or(0, |assembly| assembly.bytes.capacity());
            for slot in &lane.ring {
                if let Slot::Held { payload, .. } = slot {
                    held.reassembly_bytes += payload.len();
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let assemblies = self.lanes.iter().filter_map(|lane| lane.assembly.as_ref());
        let assembled: usize = assemblies.map(|assembly| assembly.bytes.capacity()).sum();
        self.held_bytes + self.queue_bytes + assembled
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(|lane| lane.ring.len()).sum();
        lanes + self.open.len() + self.open_deadlines.len() + self.queue.len() + self.replies.len()
    }
}

/// A piece that is in the datagram still, or was held.
enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Payload<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => bytes,
        }
    }
}
