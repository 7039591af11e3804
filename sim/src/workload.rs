//! The built-in users: an application that talks to everybody, and looks closely at what it is told.

mod locks;

use crate::app::{App, Cx};
use crate::schedule::Workload;
use bytes::Bytes;
use locks::Locks;
use quorate_core::{
    DeliveryError, DrawId, Duration, Event, Instant, Message, NodeId, ReplyTo, RequestId, SendError, SendId,
    Target,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long an answer takes that is not given at once, at most.
const SLOW_ANSWER: u64 = 2_000_000_000;
/// So many requests wait for their slow answers; beyond, they are answered at once.
const MAX_PROMISES: usize = 32;
/// One in so many messages is the first of a burst, and how many those are.
const BURSTS: u64 = 32;
const BURST: usize = 50;
/// One in so many goes to whoever is no member any more, if anybody.
const TOO_LATE: u64 = 16;
/// How many bytes of a message one piece carries: what fills its last one exactly is a case of its own.
const PIECE: u64 = 1_100;
/// Most messages have fewer bytes than that, and those of bursts have.
const SHORT: u64 = 400;
/// How many bytes each message and request of the trial has, and how soon one is tried again that found no room.
const TRIAL: usize = 2_000;
const ROOM: Duration = Duration::from_millis(50);
/// The first bytes of each payload: who sent it, and its number.
const HEADER: usize = 16 + 8;

/// A member's users during a run. What they send says who sent it and proves that it arrived as it was.
#[derive(Debug)]
pub struct Users {
    workload: Workload,
    /// When they rest, in true time.
    until: Instant,
    sent: u64,
    next_send: Option<Instant>,
    next_request: Option<Instant>,
    next_draw: Option<Instant>,
    locks: Locks,
    /// Who was taken off the list last.
    gone: Option<NodeId>,
    promises: VecDeque<(Instant, ReplyTo, Bytes)>,
    /// What was asked of this member after the chaos, and is not answered yet.
    trial: Trial,
}

/// Messages and requests of which all must arrive.
#[derive(Debug, Default)]
struct Trial {
    /// Those for which there was no room yet.
    waiting: Vec<Attempt>,
    sends: BTreeMap<SendId, Attempt>,
    requests: BTreeMap<RequestId, Attempt>,
    draws: BTreeSet<DrawId>,
    failures: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    peer: NodeId,
    request: bool,
    again: bool,
}

impl Users {
    /// Creates the users of one member, who rest from `until` (true time) on. They want leases of up to `max_ttl`.
    pub fn new(workload: Workload, until: Instant, max_ttl: Duration) -> Self {
        Self {
            workload,
            until,
            sent: 0,
            next_send: None,
            next_request: None,
            next_draw: None,
            locks: Locks::new(workload.locks, max_ttl),
            gone: None,
            promises: VecDeque::new(),
            trial: Trial {
                waiting: Vec::new(),
                sends: BTreeMap::new(),
                requests: BTreeMap::new(),
                draws: BTreeSet::new(),
                failures: Vec::new(),
            },
        }
    }

    /// Sends a message and a request to this member. Nothing is in their way any more: both must succeed. One for which
    /// there is no room yet waits for it.
    pub fn try_out(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        for request in [false, true] {
            let again = false;
            self.attempt(cx, Attempt { peer, request, again });
        }
        self.act(cx);
    }

    /// Draws a token, which must succeed.
    pub fn draw(&mut self, cx: &mut Cx<'_>) {
        match cx.draw_token() {
            Ok(id) => drop(self.trial.draws.insert(id)),
            Err(error) => self.trial.failures.push(format!("token refused: {error}")),
        }
    }

    /// Takes two locks that all others ask for as well, and gives them back. Each must be granted within its time: one
    /// that nobody ever used, and one that may still be leased to somebody who has gone.
    pub fn lock(&mut self, cx: &mut Cx<'_>, fresh: Duration, used: Duration) {
        self.locks.try_out(cx, fresh, used);
        self.act(cx);
    }

    fn attempt(&mut self, cx: &mut Cx<'_>, it: Attempt) {
        let (to, payload) = (Target::Node(it.peer), self.payload(cx, TRIAL));
        let trial = &mut self.trial;
        let result = if it.request {
            cx.request(to, payload, None)
                .map(|id| trial.requests.insert(id, it))
        } else {
            cx.send(to, payload, None).map(|id| trial.sends.insert(id, it))
        };
        match result {
            Ok(_) => {}
            Err(SendError::QueueFull { .. }) => trial.waiting.push(it),
            Err(error) => trial.failures.push(format!("{it} was refused: {error}")),
        }
    }

    fn failed(&mut self, cx: &mut Cx<'_>, it: Attempt, error: DeliveryError) {
        // A member that took this one for dead has forgotten which messages it had. The answer to the first one says so,
        // and this member cannot know earlier; the second one has no such excuse.
        if error == DeliveryError::ReplyLost {
            // Large replies of the bad times are still under way, and leave no room for this one.
            self.trial.waiting.push(it);
            cx.set_timer_in(ROOM);
        } else if error == DeliveryError::OutcomeUnknown && !it.again {
            self.attempt(cx, Attempt { again: true, ..it });
        } else {
            self.trial.failures.push(format!("{it}: {error}"));
        }
    }

    /// Returns how many trials are still under way, and the first that failed.
    pub fn trials(&self) -> (usize, Option<&String>) {
        let trial = &self.trial;
        let open = trial.waiting.len() + trial.sends.len() + trial.requests.len() + trial.draws.len();
        let failure = trial.failures.first().or_else(|| self.locks.failures.first());
        (open + self.locks.trials(), failure)
    }

    /// Makes a payload of about this size that can be recognised.
    fn payload(&mut self, cx: &Cx<'_>, size: usize) -> Bytes {
        self.sent += 1;
        let mut bytes = cx.id().to_bytes().to_vec();
        bytes.extend(self.sent.to_be_bytes());
        let fill = (self.sent as u8).wrapping_mul(31);
        bytes.resize(size.max(HEADER), fill);
        bytes.into()
    }

    fn size(&self, cx: &mut Cx<'_>) -> usize {
        let max = u64::from(self.workload.max_size.max(HEADER as u32 + 1));
        let limit = if cx.random().is_multiple_of(8) {
            match cx.random() % 4 {
                0 => return max as usize,
                1 if max >= PIECE => return (PIECE * (1 + cx.random() % (max / PIECE))) as usize,
                _ => max,
            }
        } else {
            max.min(SHORT)
        };
        (cx.random() % limit) as usize
    }

    fn target(&self, cx: &mut Cx<'_>) -> Option<Target> {
        if let Some(gone) = self.gone
            && cx.random().is_multiple_of(TOO_LATE)
        {
            return Some(Target::Node(gone));
        }
        if cx.random().is_multiple_of(5) {
            return Some(Target::All);
        }
        let count = cx.node().members().count() as u64;
        let nth = (count > 0).then(|| (cx.random() % count) as usize)?;
        let member = cx.node().members().nth(nth)?.id;
        Some(Target::Node(member))
    }

    /// Draws when to give up: mostly when the settings say, sometimes very soon, sometimes late.
    fn deadline(cx: &mut Cx<'_>) -> Option<Instant> {
        match cx.random() % 8 {
            0 => Some(cx.now() + Duration::from_millis(cx.random() % 500)),
            1 => Some(cx.now() + Duration::from_millis(cx.random() % 20_000)),
            _ => None,
        }
    }

    fn say(&mut self, cx: &mut Cx<'_>, request: bool) {
        let Some(to) = self.target(cx) else {
            return;
        };
        if cx.random().is_multiple_of(BURSTS) {
            self.burst(cx, to);
        }
        let size = self.size(cx);
        let (payload, deadline) = (self.payload(cx, size), Self::deadline(cx));
        let forgets = cx.random().is_multiple_of(16);
        // A refusal is an answer too; the checkers follow what was accepted.
        if request {
            if let Ok(id) = cx.request(to, payload, deadline)
                && forgets
            {
                cx.cancel_request(id);
            }
        } else if let Ok(id) = cx.send(to, payload, deadline)
            && forgets
        {
            cx.cancel_send(id);
        }
    }

    /// Sends many at once, in case some are refused, or fill somebody's queue.
    fn burst(&mut self, cx: &mut Cx<'_>, to: Target) {
        for _ in 0..BURST {
            let size = (cx.random() % SHORT) as usize;
            let payload = self.payload(cx, size);
            if cx.send(to, payload, None).is_err() {
                return;
            }
        }
    }

    fn act(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        while self.promises.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, to, payload)) = self.promises.pop_front() {
                // Its caller may have given up, or be gone.
                let _ = cx.reply(to, payload);
            }
        }
        if cx.true_time() < self.until {
            if self.next_send.is_some_and(|at| at <= now) {
                self.say(cx, false);
                self.next_send = Self::next(cx, self.workload.messages);
            }
            if self.next_request.is_some_and(|at| at <= now) {
                self.say(cx, true);
                self.next_request = Self::next(cx, self.workload.requests);
            }
            if self.next_draw.is_some_and(|at| at <= now) {
                // A refusal is an answer too, as above.
                let _ = cx.draw_token();
                self.next_draw = Self::next(cx, self.workload.draws);
            }
        } else {
            (self.next_send, self.next_request, self.next_draw) = (None, None, None);
        }
        self.locks.act(cx, cx.true_time() >= self.until);
        for it in std::mem::take(&mut self.trial.waiting) {
            self.attempt(cx, it);
        }
        // Locks are given back, at the latest, when users rest.
        let left = self.until.saturating_since(cx.true_time());
        let rest = (self.locks.is_busy() && !left.is_zero()).then(|| now + left);
        let room = (!self.trial.waiting.is_empty()).then(|| now + ROOM);
        let wishes = [
            room,
            self.next_send,
            self.next_request,
            self.next_draw,
            self.locks.next_at(),
            rest,
            self.promises.front().map(|(at, ..)| *at),
        ];
        cx.set_timer(wishes.into_iter().flatten().min());
    }

    /// Draws the time of the next one of so many a minute.
    fn next(cx: &mut Cx<'_>, per_minute: u32) -> Option<Instant> {
        let mean = 60_000_000_000 / u64::from(per_minute.max(1));
        let after = Duration::from_nanos(cx.random() % (2 * mean));
        (per_minute > 0).then(|| cx.now() + after)
    }

    /// Objects to a payload that is not what its sender made.
    fn inspect(cx: &mut Cx<'_>, from: NodeId, payload: &[u8]) {
        let number = payload
            .get(16..HEADER)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_be_bytes);
        let fill = number.map(|number| (number as u8).wrapping_mul(31));
        let whole = payload.get(..16) == Some(&from.to_bytes()[..])
            && payload
                .get(HEADER..)
                .is_some_and(|rest| rest.iter().all(|&byte| Some(byte) == fill));
        if !whole {
            cx.fail(format!(
                "a message of {from} arrived with other bytes than it sent"
            ));
        }
    }
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.request { "request" } else { "message" };
        write!(f, "{what} to {}", self.peer)
    }
}

impl App for Users {
    fn start(&mut self, cx: &mut Cx<'_>) {
        self.next_send = Self::next(cx, self.workload.messages);
        self.next_request = Self::next(cx, self.workload.requests);
        self.next_draw = Self::next(cx, self.workload.draws);
        self.locks.start(cx);
        self.act(cx);
    }

    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::SendDone { id, result, .. } => {
                if let Some(it) = self.trial.sends.remove(&id)
                    && let Err(error) = result
                {
                    self.failed(cx, it, error);
                }
            }
            Event::Reply { id, .. } => drop(self.trial.requests.remove(&id)),
            Event::RequestFailed { id, error, .. } => {
                if let Some(it) = self.trial.requests.remove(&id) {
                    self.failed(cx, it, error);
                }
            }
            Event::TokenDrawn { id, .. } => drop(self.trial.draws.remove(&id)),
            Event::TokenFailed { id, error } if self.trial.draws.remove(&id) => {
                self.trial.failures.push(format!("token: {error}"));
            }
            Event::Lock(event) => {
                self.locks.event(cx, &event);
                self.act(cx);
            }
            Event::MemberLeft { member, .. } => self.gone = Some(member.id),
            _ => {}
        }
    }

    fn message(&mut self, cx: &mut Cx<'_>, message: Message) {
        Self::inspect(cx, message.from, &message.payload);
        let Some(to) = message.reply_to else {
            return;
        };
        let rests = cx.true_time() >= self.until;
        match cx.random() % 10 {
            0..2 if !rests && self.promises.len() < MAX_PROMISES => {
                let at = cx.now() + Duration::from_nanos(cx.random() % SLOW_ANSWER);
                let at = self.promises.back().map_or(at, |(last, ..)| at.max(*last));
                self.promises.push_back((at, to, message.payload));
                self.act(cx);
            }
            2 if !rests => cx.ignore(to),
            // The reply may come too late.
            _ => drop(cx.reply(to, message.payload)),
        }
    }

    fn timeout(&mut self, cx: &mut Cx<'_>) {
        self.act(cx);
    }
}
