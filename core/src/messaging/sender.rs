//! The outgoing direction of a channel: messages from their submission to their outcome.

mod filling;

use super::frame::{Ack, Head, LaneId, Opened, Refused, ReplyStatus};
use super::groups::{Groups, Outcome, Owner};
use super::lane::Lane;
use super::outgoing::{Outgoing, Phase};
use super::rtt::Rtt;
#[cfg(feature = "simulation")]
use super::usage::Held;
use super::{Limits, MAX_LOST_NOTES};
use crate::error::DeliveryError;
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::stats::{DropReason, Stats};
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;

/// Where the direction stands with the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Closed,
    Opening {
        generation: u64,
        sent: Option<Instant>,
        tries: u32,
    },
    Open {
        generation: u64,
        epoch: u64,
    },
}

#[derive(Debug)]
pub(super) struct Sender {
    peer: NodeId,
    link: Link,
    lanes: [Lane; 2],
    outgoing: BTreeMap<u64, Outgoing>,
    next_ticket: u64,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Requests begun in this epoch and not answered: number of the first chunk to ticket.
    asked: BTreeMap<u64, u64>,
    /// Replies under way that only say that the real one is lost.
    lost_notes: usize,
    rtt: Rtt,
    /// Room for the tickets that one acknowledgement completes, kept to spare an allocation for each.
    completed: Vec<u64>,
}

impl Sender {
    pub(super) fn new(peer: NodeId) -> Self {
        Self {
            peer,
            link: Link::Closed,
            lanes: [Lane::new(), Lane::new()],
            outgoing: BTreeMap::new(),
            next_ticket: 0,
            deadlines: BTreeSet::new(),
            asked: BTreeMap::new(),
            lost_notes: 0,
            rtt: Rtt::default(),
            completed: Vec::new(),
        }
    }

    fn lane(&mut self, lane: LaneId) -> &mut Lane {
        &mut self.lanes[lane as usize] // one place for each variant
    }

    fn current_epoch(&self) -> Option<u64> {
        match self.link {
            Link::Open { epoch, .. } => Some(epoch),
            Link::Closed | Link::Opening { .. } => None,
        }
    }

    /// Returns whether a message or request of this size may be queued.
    pub(super) fn has_room(&self, limits: &Limits, owner: Owner, len: usize) -> bool {
        let lane = &self.lanes[LaneId::Ordered as usize];
        let unanswered = self.asked.len() + lane.waiting_messages;
        lane.waiting_messages < limits.send_queue
            && lane.waiting_bytes.saturating_add(len) <= limits.send_queue_bytes
            && (matches!(owner, Owner::Send(_)) || unanswered < limits.open_requests)
    }

    /// Queues a message or request.
    pub(super) fn submit(&mut self, owner: Owner, payload: Bytes, deadline: Instant) {
        let head = match owner {
            Owner::Send(_) => Head::Data,
            // The remaining time is put in when it is sent.
            Owner::Request(_) => Head::Request { remaining: 0 },
        };
        self.enqueue(Some(owner), head, payload, deadline);
    }

    /// Queues a reply; `false` if too many are under way, and the caller is told that this one is lost.
    pub(super) fn submit_reply(
        &mut self,
        limits: &Limits,
        stats: &mut Stats,
        request: (u64, u64),
        payload: Bytes,
        deadline: Instant,
    ) -> bool {
        let (epoch, sequence) = request;
        let lane = &self.lanes[LaneId::Unordered as usize];
        let messages = lane.waiting_messages + lane.started_messages - self.lost_notes;
        let bytes = lane.waiting_bytes + lane.started_bytes;
        let fits =
            messages < limits.reply_messages && bytes.saturating_add(payload.len()) <= limits.reply_bytes;
        let status = if fits { ReplyStatus::Ok } else { ReplyStatus::Lost };
        if !fits {
            if self.lost_notes >= MAX_LOST_NOTES {
                stats.drop(DropReason::ReplyDropped);
                return false;
            }
            self.lost_notes += 1;
        }
        let head = Head::Response {
            epoch,
            sequence,
            status,
        };
        self.enqueue(None, head, if fits { payload } else { Bytes::new() }, deadline);
        fits
    }

    fn enqueue(&mut self, owner: Option<Owner>, head: Head, payload: Bytes, deadline: Instant) {
        let deadline = if planted(PlantedBug::DeadlineIgnored) {
            Instant::FAR_FUTURE
        } else {
            deadline
        };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let lane = self.lane(head.lane());
        lane.waiting.push_back(ticket);
        lane.waiting_messages += 1;
        lane.waiting_bytes += payload.len();
        self.deadlines.insert((deadline, ticket));
        let message = Outgoing {
            owner,
            head,
            payload,
            deadline,
            phase: Phase::Waiting,
        };
        self.outgoing.insert(ticket, message);
    }

    /// Takes a message out of everything but the lane's chunks.
    fn remove(&mut self, ticket: u64) -> Option<Outgoing> {
        let message = self.outgoing.remove(&ticket)?;
        self.deadlines.remove(&(message.deadline, ticket));
        let lane = &mut self.lanes[message.head.lane() as usize];
        match message.phase {
            Phase::Waiting => {
                lane.waiting_messages -= 1;
                lane.waiting_bytes -= message.payload.len();
                prune(lane, &self.outgoing);
            }
            Phase::Started { first, .. } => {
                lane.started_messages -= 1;
                lane.started_bytes -= message.payload.len();
                self.forget_asked(first, ticket);
            }
            Phase::Answer { first } => self.forget_asked(first, ticket),
        }
        if matches!(
            message.head,
            Head::Response {
                status: ReplyStatus::Lost,
                ..
            }
        ) {
            self.lost_notes -= 1;
        }
        Some(message)
    }

    fn forget_asked(&mut self, first: u64, ticket: u64) {
        if self.asked.get(&first) == Some(&ticket) {
            self.asked.remove(&first);
        }
    }

    /// Forgets the owner's message: what was not begun is dropped, the rest goes on without anybody waiting for it.
    pub(super) fn cancel(&mut self, owner: Owner) {
        let tickets: Vec<u64> = (self.outgoing.iter())
            .filter(|(_, message)| message.owner == Some(owner))
            .map(|(&ticket, _)| ticket)
            .collect();
        for ticket in tickets {
            let Some(message) = self.outgoing.get_mut(&ticket) else {
                continue;
            };
            message.owner = None;
            if let Phase::Started { first, .. } = message.phase {
                self.forget_asked(first, ticket);
            } else {
                self.remove(ticket);
            }
        }
    }

    /// Ends everything in the ordered lane, and replies too if `replies`.
    pub(super) fn close(
        &mut self,
        cx: &mut Context<'_>,
        groups: &mut Groups,
        error: DeliveryError,
        replies: bool,
    ) {
        let tickets: Vec<u64> = (self.outgoing.iter())
            .filter(|(_, message)| replies || message.head.lane() == LaneId::Ordered)
            .map(|(&ticket, _)| ticket)
            .collect();
        for ticket in tickets {
            self.abandon(cx, groups, ticket, error);
        }
    }

    fn abandon(&mut self, cx: &mut Context<'_>, groups: &mut Groups, ticket: u64, error: DeliveryError) {
        let Some(message) = self.remove(ticket) else {
            return;
        };
        if let Phase::Started { first, .. } = message.phase {
            self.lane(message.head.lane()).abandon(ticket, first);
        }
        if let Some(owner) = message.owner {
            groups.finish(cx.events, owner, self.peer, Outcome::Failed(error));
        }
    }

    pub(super) fn on_opened(&mut self, cx: &mut Context<'_>, groups: &mut Groups, opened: Opened) {
        match self.link {
            Link::Opening {
                generation,
                sent,
                tries,
            } if generation == opened.generation => {
                if tries == 1
                    && let Some(sent) = sent
                {
                    self.rtt.sample(cx.now - sent);
                }
                self.link = Link::Open {
                    generation,
                    epoch: opened.epoch,
                };
            }
            // The peer has made its state anew since, out of a late copy of our OPEN.
            Link::Open { generation, epoch } if generation == opened.generation => {
                if epoch != opened.epoch {
                    self.reopen(cx, groups);
                }
            }
            _ => cx.stats.drop(DropReason::StaleFrame),
        }
    }

    pub(super) fn on_stale(&mut self, cx: &mut Context<'_>, groups: &mut Groups, epoch: u64) {
        if self.current_epoch() == Some(epoch) {
            self.reopen(cx, groups);
        } else {
            cx.stats.drop(DropReason::StaleFrame);
        }
    }

    /// The peer does not take messages of this size. It is given up, as if its time were over.
    pub(super) fn on_refused(&mut self, cx: &mut Context<'_>, groups: &mut Groups, refused: Refused) {
        let current = self.current_epoch() == Some(refused.epoch);
        let ticket = self.lane(refused.lane).ticket(refused.sequence);
        match ticket.and_then(|ticket| Some((ticket, self.outgoing.get(&ticket)?.phase))) {
            Some((ticket, Phase::Started { first, .. })) if current && first == refused.sequence => {
                self.abandon(cx, groups, ticket, DeliveryError::TooLarge);
            }
            _ => cx.stats.drop(DropReason::StaleFrame),
        }
    }

    /// The peer has lost its memory of this epoch. A message of which not every piece was sent cannot have been delivered
    /// and starts again, as do replies, which the caller can tell apart. What became of the rest nobody knows.
    fn reopen(&mut self, cx: &mut Context<'_>, groups: &mut Groups) {
        let tickets: Vec<u64> = (self.outgoing.iter())
            .filter(|(_, message)| message.phase != Phase::Waiting)
            .map(|(&ticket, _)| ticket)
            .collect();
        for lane in &mut self.lanes {
            lane.restart();
        }
        self.asked.clear();
        self.link = Link::Closed;
        // Tickets rise in the order of submission: the youngest goes to the front first.
        for &ticket in tickets.iter().rev() {
            let Some(message) = self.outgoing.get_mut(&ticket) else {
                continue;
            };
            let again = match message.phase {
                Phase::Started { all, .. } => {
                    message.head.lane() == LaneId::Unordered || (!all && message.owner.is_some())
                }
                Phase::Waiting | Phase::Answer { .. } => false,
            };
            let request = matches!(message.owner, Some(Owner::Request(_)));
            if again || (request && planted(PlantedBug::RequestRunTwice)) {
                message.phase = Phase::Waiting;
                let lane = &mut self.lanes[message.head.lane() as usize];
                lane.waiting.push_front(ticket);
                lane.waiting_messages += 1;
                lane.waiting_bytes += message.payload.len();
            }
        }
        for ticket in tickets {
            // Those that start again are waiting now; `restart` has cleared the counts of the others.
            let Some(message) = self.outgoing.get(&ticket) else {
                continue;
            };
            if message.phase == Phase::Waiting {
                continue;
            }
            self.deadlines.remove(&(message.deadline, ticket));
            if let Some(message) = self.outgoing.remove(&ticket)
                && let Some(owner) = message.owner
            {
                let unknown = Outcome::Failed(DeliveryError::OutcomeUnknown);
                groups.finish(cx.events, owner, self.peer, unknown);
            }
        }
    }

    pub(super) fn on_ack(
        &mut self,
        cx: &mut Context<'_>,
        groups: &mut Groups,
        ack: &Ack,
    ) -> Result<(), BadFrame> {
        if self.current_epoch() != Some(ack.epoch) {
            cx.stats.drop(DropReason::StaleFrame);
            return Ok(());
        }
        let mut completed = core::mem::take(&mut self.completed);
        let lane = &mut self.lanes[ack.lane as usize]; // one place for each variant
        let result = lane.on_ack(cx.now, &self.rtt, ack, &mut completed);
        for ticket in completed.drain(..) {
            self.complete(cx, groups, ticket);
        }
        self.completed = completed;
        if let Some(rtt) = result? {
            self.rtt.sample(rtt);
        }
        self.lanes[ack.lane as usize].update_probe(cx.now, &self.rtt);
        Ok(())
    }

    /// A message is acknowledged as a whole: it is in the peer's queue.
    fn complete(&mut self, cx: &mut Context<'_>, groups: &mut Groups, ticket: u64) {
        let Some(message) = self.outgoing.get_mut(&ticket) else {
            return;
        };
        if let (Some(Owner::Request(_)), Phase::Started { first, .. }) = (message.owner, message.phase) {
            message.phase = Phase::Answer { first };
            let payload = core::mem::take(&mut message.payload);
            if planted(PlantedBug::RequestRunTwice) {
                message.payload = payload.clone();
            }
            let lane = self.lane(LaneId::Ordered);
            lane.started_messages -= 1;
            lane.started_bytes -= payload.len();
            return;
        }
        if let Some(message) = self.remove(ticket)
            && let Some(owner) = message.owner
        {
            groups.finish(cx.events, owner, self.peer, Outcome::Delivered);
        }
    }

    /// Takes the answer to a request of ours.
    pub(super) fn on_reply(
        &mut self,
        cx: &mut Context<'_>,
        groups: &mut Groups,
        request: (u64, u64),
        status: ReplyStatus,
        payload: Bytes,
    ) {
        let (epoch, sequence) = request;
        let ticket = if self.current_epoch() == Some(epoch) {
            if planted(PlantedBug::ReplyMatchedByOrder) {
                self.asked.pop_first().map(|(_, ticket)| ticket)
            } else {
                self.asked.remove(&sequence)
            }
        } else {
            None
        };
        let Some((ticket, message)) = ticket.and_then(|t| Some((t, self.outgoing.get_mut(&t)?))) else {
            // Cancelled, out of time, or of an earlier epoch.
            cx.stats.drop(DropReason::StaleFrame);
            return;
        };
        let owner = message.owner.take();
        if matches!(message.phase, Phase::Answer { .. }) {
            self.remove(ticket);
        }
        if let Some(owner) = owner {
            let outcome = match status {
                ReplyStatus::Ok => Outcome::Answered(payload),
                ReplyStatus::Lost => Outcome::Failed(DeliveryError::ReplyLost),
            };
            groups.finish(cx.events, owner, self.peer, outcome);
        }
    }

    /// The peer can be reached again.
    pub(super) fn link_up(&mut self) {
        match &mut self.link {
            Link::Closed => {}
            Link::Opening { sent, tries, .. } => {
                *sent = None;
                *tries = 0;
            }
            Link::Open { .. } => {
                for lane in &mut self.lanes {
                    lane.hurry();
                }
            }
        }
    }

    fn has_messages(&self) -> bool {
        self.lanes
            .iter()
            .any(|lane| lane.waiting_messages + lane.started_messages > 0)
    }

    /// Returns whether `fill` may have something to write.
    pub(super) fn ready(&self) -> bool {
        match self.link {
            Link::Closed | Link::Opening { sent: None, .. } => self.has_messages(),
            Link::Opening { sent: Some(_), .. } => false,
            Link::Open { .. } => self.lanes.iter().any(Lane::ready),
        }
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        let link = match self.link {
            Link::Closed => None,
            Link::Opening { sent, tries, .. } => sent
                .filter(|_| self.has_messages())
                .map(|at| at + self.rtt.timeout(tries.saturating_sub(1))),
            Link::Open { .. } => {
                let timers = self.lanes.iter().filter_map(|lane| lane.timer(&self.rtt));
                timers.min()
            }
        };
        [deadline, link].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>, groups: &mut Groups) {
        while let Some(&(at, ticket)) = self.deadlines.first() {
            if at > cx.now {
                break;
            }
            self.abandon(cx, groups, ticket, DeliveryError::Timeout);
        }
        match &mut self.link {
            Link::Closed => {}
            Link::Opening { sent, tries, .. } => {
                let timeout = self.rtt.timeout(tries.saturating_sub(1));
                if sent.is_some_and(|at| at + timeout <= cx.now) {
                    *sent = None;
                }
            }
            Link::Open { .. } => {
                for lane in &mut self.lanes {
                    lane.handle_timeout(cx.now, &self.rtt);
                    lane.update_probe(cx.now, &self.rtt);
                }
            }
        }
    }

    #[cfg(feature = "simulation")]
    pub(super) fn count(&self, held: &mut Held) {
        held.open_requests = self.asked.len();
        for message in self.outgoing.values() {
            match (message.head.lane(), message.phase) {
                (LaneId::Unordered, _) => {
                    held.replies += 1;
                    held.reply_bytes += message.payload.len();
                }
                (LaneId::Ordered, Phase::Waiting) => {
                    held.waiting += 1;
                    held.waiting_bytes += message.payload.len();
                }
                (LaneId::Ordered, Phase::Started { .. }) => held.under_way += 1,
                (LaneId::Ordered, Phase::Answer { .. }) => {}
            }
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(Lane::held).sum();
        lanes + self.outgoing.len() + self.deadlines.len() + self.asked.len()
    }
}

/// Forgets the tickets of messages that are gone: at the front always, elsewhere when they are the greater part.
fn prune(lane: &mut Lane, outgoing: &BTreeMap<u64, Outgoing>) {
    while lane
        .waiting
        .front()
        .is_some_and(|ticket| !outgoing.contains_key(ticket))
    {
        lane.waiting.pop_front();
    }
    if lane.waiting.len() > 2 * lane.waiting_messages + 16 {
        lane.waiting.retain(|ticket| outgoing.contains_key(ticket));
    }
}
