//! Messages, requests and replies: what was sent, what arrived, and what became of each command.

mod outcome;
#[cfg(test)]
mod tests;

use super::truth::Shared;
use super::{Every, ensure, slot, who, whom};
use crate::fault::{FaultKind, Host};
use crate::observe::{Command, Observer, Seen};
use crate::world::{NodeIndex, World};
use bytes::Bytes;
use outcome::CLEAR;
use quorate_core::{
    DropReason, Duration, Event, Instant, LeaveReason, Message, NodeId, ReplyError, ReplyTo, RequestId,
    SendError, SendId, Target,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// More messages than that are not followed on one way.
const MAX_FOLLOWED: usize = 200_000;

/// A message or a request, by its sender's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Op {
    Send(SendId),
    Request(RequestId),
}

#[derive(Debug)]
struct Pending {
    payload: Bytes,
    to: Option<NodeId>,
    /// When it was given, or, if it waited for a quorum, got its targets, in true time.
    given: Instant,
    /// When to give up, on the clock of its host.
    deadline: Instant,
    /// Who has no outcome yet; `None` while it waits for a quorum and has no targets.
    open: Option<Vec<NodeId>>,
    /// Who was handed something later, and will never be handed this.
    skipped: Vec<NodeIndex>,
    /// Which replies were given.
    replies: Vec<(NodeIndex, Bytes)>,
    /// Whether a quorum was there at any time since.
    had_quorum: bool,
    cancelled: bool,
}

/// A message on its way to one target.
#[derive(Debug)]
struct Item {
    op: Op,
    payload: Bytes,
    /// When its sender was told that it is in the receiver's queue.
    acknowledged: Option<Instant>,
}

/// What one process sends another, in order: first what it sends to that one, second what it sends to all. The two wait
/// for different things, so that order holds within each.
#[derive(Debug, Default)]
struct Way {
    items: [VecDeque<Item>; 2],
    /// The same payload went both ways, or too much was under way: order cannot be told any more.
    blurred: bool,
    /// Whether two messages that were on it at a time were the same, byte for byte.
    alike: bool,
    /// When the sender said last that the receiver is a member no more.
    lost: Option<Instant>,
    /// Whether the receiver ever did so of the sender: it has forgotten what it knew of its messages.
    forgotten: bool,
}

#[derive(Debug, Default)]
struct Side {
    ops: BTreeMap<Op, Pending>,
    due: BTreeSet<(Instant, Op)>,
    /// What waits for a quorum.
    gated: Vec<Op>,
    cancelled: Vec<Op>,
    /// The requests that its application has taken and not answered.
    asked: BTreeMap<ReplyTo, (NodeIndex, Option<RequestId>)>,
    ways: BTreeMap<NodeIndex, Way>,
}

/// Follows every message.
#[derive(Debug)]
pub(super) struct Messaging {
    truth: Shared,
    sides: Vec<Side>,
    /// Hosts whose application does not take messages, by fault; and when that was over last, by host.
    unread: BTreeMap<usize, Host>,
    read_since: BTreeMap<Host, Instant>,
    look: Every,
}

impl Observer for Messaging {
    fn name(&self) -> &'static str {
        "messaging"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Command { node, command } => self.on_command(world, node, command),
            Seen::Event { node, event } => self.on_event(world, node, event),
            Seen::Message { node, message } => self.on_message(world, node, message),
            Seen::Settled { node } => {
                if let Some(side) = self.sides.get_mut(node.0)
                    && !side.cancelled.is_empty()
                {
                    for op in std::mem::take(&mut side.cancelled) {
                        side.forget(op);
                    }
                }
                if self.look.is_due(world.now()) {
                    return self.look_for_overdue(world);
                }
                Ok(())
            }
            Seen::Stopped { node } => {
                self.on_stopped(node);
                Ok(())
            }
            Seen::FaultBegan {
                number,
                kind: FaultKind::Unread { host },
            } => {
                self.unread.insert(number, host);
                Ok(())
            }
            Seen::FaultEnded { number } => {
                if let Some(host) = self.unread.remove(&number) {
                    self.read_since.insert(host, world.now());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        let now = world.now();
        for (index, side) in self.sides.iter().enumerate() {
            let from = NodeIndex(index);
            for (&to, way) in &side.ways {
                let process = world.process(to);
                let Some(node) = process.node().filter(|_| process.is_live()) else {
                    continue;
                };
                let well = process.paused.is_none() && truth.well_since(to, now - CLEAR);
                let dropped = node.stats().dropped(DropReason::OrphanedMessage) > 0;
                // A program need not read, and of two that are alike nobody can tell which one came.
                if !well || dropped || way.blurred || way.alike || process.is_full() {
                    continue;
                }
                for item in way.items.iter().flatten() {
                    ensure(item.acknowledged.is_none(), || {
                        format!(
                            "{} was told that {:?} is with {}, whose application never got it",
                            who(world, from),
                            item.op,
                            who(world, to)
                        )
                    })?;
                }
            }
        }
        Ok(())
    }
}

impl Side {
    fn forget(&mut self, op: Op) -> Option<Pending> {
        let pending = self.ops.remove(&op)?;
        self.due.remove(&(pending.deadline, op));
        Some(pending)
    }

    fn way(&mut self, to: NodeIndex) -> &mut Way {
        self.ways.entry(to).or_default()
    }

    /// Puts a message on its way to one target.
    fn dispatch(&mut self, to: NodeIndex, all: bool, op: Op, payload: Bytes) {
        let way = self.way(to);
        let queue = &mut way.items[usize::from(all)];
        queue.push_back(Item {
            op,
            payload,
            acknowledged: None,
        });
        if queue.len() > MAX_FOLLOWED {
            queue.pop_front();
            way.blurred = true;
        }
    }
}

impl Messaging {
    pub(super) const fn new(truth: Shared) -> Self {
        Self {
            truth,
            sides: Vec::new(),
            unread: BTreeMap::new(),
            read_since: BTreeMap::new(),
            look: Every::new(Duration::from_millis(250)),
        }
    }

    fn side(&mut self, node: NodeIndex) -> &mut Side {
        slot(&mut self.sides, node.0)
    }

    fn on_command(&mut self, world: &World, node: NodeIndex, command: &Command) -> Result<(), String> {
        match command {
            Command::Send {
                to,
                payload,
                deadline,
                result,
            } => self.on_given(world, node, *to, payload, *deadline, result.map(Op::Send)),
            Command::Request {
                to,
                payload,
                deadline,
                result,
            } => self.on_given(world, node, *to, payload, *deadline, result.map(Op::Request)),
            Command::Reply { to, payload, result } => self.on_replied(world, node, *to, payload, *result),
            Command::Ignore(to) => {
                self.side(node).asked.remove(to);
                Ok(())
            }
            Command::CancelSend(id) => {
                self.on_cancelled(node, Op::Send(*id));
                Ok(())
            }
            Command::CancelRequest(id) => {
                self.on_cancelled(node, Op::Request(*id));
                Ok(())
            }
            Command::DrawToken { .. }
            | Command::Lock { .. }
            | Command::Unlock { .. }
            | Command::SetLockTtl { .. }
            | Command::ListLocks { .. }
            | Command::RevokeLock { .. }
            | Command::WatchLock { .. }
            | Command::Leave => Ok(()),
        }
    }

    fn on_given(
        &mut self,
        world: &World,
        node: NodeIndex,
        to: Target,
        payload: &Bytes,
        deadline: Option<Instant>,
        result: Result<Op, SendError>,
    ) -> Result<(), String> {
        let process = world.process(node);
        let Some(it) = process.node() else { return Ok(()) };
        let max = process.config.max_message_size;
        let op = match result {
            Ok(op) => op,
            Err(error) => {
                let right = match error {
                    SendError::TooLarge { size, max: told } => {
                        size == payload.len() && told == max && size > max
                    }
                    SendError::UnknownPeer(peer) => it.member(peer).is_none(),
                    SendError::Leaving => process.leaving.is_some() || process.ended.is_some(),
                    _ => true,
                };
                return ensure(right, || {
                    format!(
                        "{} refuses a message of {} bytes: {error}; that is not so",
                        who(world, node),
                        payload.len()
                    )
                });
            }
        };
        ensure(payload.len() <= max && process.leaving.is_none(), || {
            format!(
                "{} takes a message of {} bytes; at most {max} are allowed, and none while it leaves",
                who(world, node),
                payload.len()
            )
        })?;
        let (gated, targets) = match to {
            Target::Node(peer) => (false, vec![peer]),
            Target::All if it.has_quorum() => (false, it.members().map(|member| member.id).collect()),
            Target::All => (true, Vec::new()),
        };
        if to == Target::All && !gated {
            // What waited was sent before, even if that was not told yet.
            self.on_quorum(world, node);
        }
        let local = world.clock(process.host);
        let deadline = deadline.unwrap_or_else(|| local + process.config.message_timeout);
        let side = slot(&mut self.sides, node.0);
        for target in targets.iter().filter_map(|&id| world.find(id)) {
            side.dispatch(target, to == Target::All, op, payload.clone());
        }
        if gated {
            side.gated.push(op);
        }
        side.due.insert((deadline, op));
        side.ops.insert(
            op,
            Pending {
                payload: payload.clone(),
                to: match to {
                    Target::Node(peer) => Some(peer),
                    Target::All => None,
                },
                given: world.now(),
                deadline,
                open: (!gated).then_some(targets),
                skipped: Vec::new(),
                replies: Vec::new(),
                had_quorum: !gated,
                cancelled: false,
            },
        );
        Ok(())
    }

    /// What was in the queue of events already may still be told, until the node is at rest.
    fn on_cancelled(&mut self, node: NodeIndex, op: Op) {
        let side = self.side(node);
        if let Some(pending) = side.ops.get_mut(&op) {
            pending.cancelled = true;
            side.gated.retain(|&gated| gated != op);
            side.cancelled.push(op);
        }
    }

    fn on_replied(
        &mut self,
        world: &World,
        node: NodeIndex,
        to: ReplyTo,
        payload: &Bytes,
        result: Result<(), ReplyError>,
    ) -> Result<(), String> {
        if matches!(result, Err(ReplyError::TooLarge { .. })) {
            return Ok(());
        }
        let asked = self.side(node).asked.remove(&to);
        if result.is_err() {
            return Ok(());
        }
        let Some((caller, request)) = asked else {
            return Err(format!(
                "{} takes a reply to a request that is not open: answered before, or never handed to its application",
                who(world, node)
            ));
        };
        if let Some(request) = request
            && let Some(pending) = self.side(caller).ops.get_mut(&Op::Request(request))
        {
            pending.replies.push((node, payload.clone()));
        }
        Ok(())
    }

    fn on_event(&mut self, world: &World, node: NodeIndex, event: &Event) -> Result<(), String> {
        match event {
            Event::SendDone { id, to, result } => {
                self.on_outcome(world, node, Op::Send(*id), *to, result.err(), None)
            }
            Event::Reply { id, from, payload } => {
                self.on_outcome(world, node, Op::Request(*id), Some(*from), None, Some(payload))
            }
            Event::RequestFailed { id, to, error } => {
                self.on_outcome(world, node, Op::Request(*id), *to, Some(*error), None)
            }
            Event::SendFinished(id) => self.on_finished(world, node, Op::Send(*id)),
            Event::RequestDone(id) => self.on_finished(world, node, Op::Request(*id)),
            Event::QuorumChanged { has_quorum: true, .. } => {
                self.on_quorum(world, node);
                Ok(())
            }
            Event::MemberLeft { member, reason } => {
                if let Some(other) = world.find(member.id) {
                    let now = world.now();
                    self.side(node).way(other).lost = Some(now);
                    self.side(other).way(node).forgotten = true;
                    if *reason == LeaveReason::Left {
                        self.side(node).asked.retain(|_, (caller, _)| *caller != other);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What waited for a quorum goes to all who are members now.
    fn on_quorum(&mut self, world: &World, node: NodeIndex) {
        let Some(it) = world.process(node).node() else {
            return;
        };
        let side = slot(&mut self.sides, node.0);
        if side.gated.is_empty() {
            return;
        }
        let members: Vec<NodeId> = it.members().map(|member| member.id).collect();
        for op in std::mem::take(&mut side.gated) {
            let Some(pending) = side.ops.get_mut(&op) else {
                continue;
            };
            pending.open = Some(members.clone());
            pending.given = world.now();
            pending.had_quorum = true;
            let payload = pending.payload.clone();
            for target in members.iter().filter_map(|&id| world.find(id)) {
                side.dispatch(target, true, op, payload.clone());
            }
        }
    }

    fn on_message(&mut self, world: &World, node: NodeIndex, message: &Message) -> Result<(), String> {
        let says = |what: &str| {
            format!(
                "the application of {} was handed a {} of {} bytes from {}{what}",
                who(world, node),
                if message.reply_to.is_some() {
                    "request"
                } else {
                    "message"
                },
                message.payload.len(),
                whom(world, message.from)
            )
        };
        let Some(from) = world.find(message.from).filter(|&from| from != node) else {
            return Err(says(", which is nobody else"));
        };
        let is_request = message.reply_to.is_some();
        let side = slot(&mut self.sides, from.0);
        let matches =
            |item: &Item| matches!(item.op, Op::Request(_)) == is_request && item.payload == message.payload;
        let way = side.ways.entry(node).or_default();
        let found = way.items.each_ref().map(|items| items.iter().position(matches));
        let (queue, place) = match found {
            [Some(a), Some(b)] => {
                way.blurred |= a + b > 0;
                if b < a { (1, b) } else { (0, a) }
            }
            [Some(a), None] => (0, a),
            [None, Some(b)] => (1, b),
            [None, None] if way.blurred => {
                if let Some(to) = message.reply_to {
                    self.side(node).asked.insert(to, (from, None));
                }
                return Ok(());
            }
            [None, None] => {
                return Err(says(
                    ", which that never sent to it; or it was handed it before, or something that was sent later",
                ));
            }
        };
        // Of two that are alike, nobody can tell which one came: the other one may be the one that was lost.
        way.alike |= way.items[queue].iter().skip(place + 1).any(matches);
        let mut taken = None;
        let blurred = way.blurred || way.alike;
        for _ in 0..=place {
            if let Some(passed) = taken.replace(way.items[queue].pop_front()).flatten() {
                let acknowledged = passed.acknowledged.is_some() && !blurred;
                let excused = world
                    .process(node)
                    .node()
                    .is_none_or(|it| it.stats().dropped(DropReason::OrphanedMessage) > 0);
                ensure(!acknowledged || excused, || {
                    says(&format!(
                        ", before {:?}, which was sent earlier and acknowledged",
                        passed.op
                    ))
                })?;
                if let Some(pending) = side.ops.get_mut(&passed.op)
                    && !blurred
                {
                    pending.skipped.push(node);
                }
            }
        }
        if let (
            Some(to),
            Some(Some(Item {
                op: Op::Request(id), ..
            })),
        ) = (message.reply_to, taken)
        {
            let local = world.clock(world.process(node).host);
            let in_time = message.deadline.is_some_and(|deadline| deadline > local);
            let again = self.side(node).asked.insert(to, (from, Some(id)));
            ensure(in_time, || says(", after its deadline"))?;
            ensure(again.is_none(), || says(" twice"))?;
        }
        Ok(())
    }

    fn on_stopped(&mut self, node: NodeIndex) {
        let side = self.side(node);
        side.ops.clear();
        side.due.clear();
        side.gated.clear();
        side.asked.clear();
        // A process that has left may still hand over what it has.
        for way in self.sides.iter_mut().filter_map(|side| side.ways.get_mut(&node)) {
            // Who forgot whom stays as it was: the last word of the one that stopped may be under way.
            *way = Way {
                blurred: true,
                lost: way.lost,
                forgotten: way.forgotten,
                ..Way::default()
            };
        }
    }
}
