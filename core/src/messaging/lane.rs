//! One sequence of chunks on its way to a peer: what flies, what is lost, what the peer has room for.

use super::frame::{Ack, Room};
use super::rtt::Rtt;
use super::{MAX_IN_FLIGHT, RING};
use crate::outbox::BadFrame;
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A chunk counts as lost when this many later transmissions were acknowledged (RFC 9002, section 6.1.1): so many at
/// first, and up to so many on a path that reorders.
const REORDER_THRESHOLD: u64 = 3;
const MAX_REORDER_THRESHOLD: u64 = 48;
/// How many chunks the first timeout sends again: one datagram of small ones.
const TAIL_PROBE: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flying,
    Lost,
    Acked,
    /// Of an abandoned message: never sent again.
    Dropped,
}

/// A chunk that was sent at least once and is not cumulatively acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// The message, and the place of this piece in it.
    pub(super) ticket: u64,
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) last: bool,
    state: State,
    /// The number of its latest transmission.
    ordinal: u64,
    at: Instant,
    resent: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// The first number that the peer has not cumulatively acknowledged, and the chunks from there on.
    base: u64,
    chunks: VecDeque<Sent>,
    /// Transmissions in their order, as ordinal and sequence number. One whose chunk was acknowledged, dropped or sent
    /// again since is out of date and skipped.
    flight: VecDeque<(u64, u64)>,
    /// Numbers to send again; those acknowledged or dropped since are skipped.
    lost: VecDeque<u64>,
    in_flight: usize,
    dropped: usize,
    next_ordinal: u64,
    acked_ordinal: u64,
    /// How many later transmissions tell that one is lost. Doubles when that was wrong (RFC 8985, section 6.2, step 4),
    /// halves when a timeout had to tell.
    reorder: u64,
    backoff: u32,

    /// Messages that wait for their turn, oldest first; a message that is gone leaves its ticket behind until it is met.
    pub(super) waiting: VecDeque<u64>,
    pub(super) waiting_messages: usize,
    pub(super) waiting_bytes: usize,
    /// Messages begun and not yet completely acknowledged.
    pub(super) started_messages: usize,
    pub(super) started_bytes: usize,
    /// The message that has chunks left which were never sent.
    pub(super) sending: Option<u64>,

    floor: u64,
    floor_sent: Option<Instant>,

    /// The room that the peer last spoke of.
    pub(super) room: Room,
    probe_at: Option<Instant>,
    probe_due: bool,
    probe_backoff: u32,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            base: 0,
            chunks: VecDeque::new(),
            flight: VecDeque::new(),
            lost: VecDeque::new(),
            in_flight: 0,
            dropped: 0,
            next_ordinal: 0,
            acked_ordinal: 0,
            reorder: REORDER_THRESHOLD,
            backoff: 0,
            waiting: VecDeque::new(),
            waiting_messages: 0,
            waiting_bytes: 0,
            started_messages: 0,
            started_bytes: 0,
            sending: None,
            floor: 0,
            floor_sent: None,
            room: Room::UNLIMITED,
            probe_at: None,
            probe_due: false,
            probe_backoff: 0,
        }
    }

    /// Starts again at number zero for a new epoch. What waits stays.
    pub(super) fn restart(&mut self) {
        let (waiting, messages, bytes) = (
            core::mem::take(&mut self.waiting),
            self.waiting_messages,
            self.waiting_bytes,
        );
        *self = Self {
            waiting,
            waiting_messages: messages,
            waiting_bytes: bytes,
            ..Self::new()
        };
    }

    /// Returns the number of the next chunk.
    pub(super) fn next(&self) -> u64 {
        self.base + self.chunks.len() as u64
    }

    fn get(&self, sequence: u64) -> Option<&Sent> {
        self.chunks
            .get(usize::try_from(sequence.checked_sub(self.base)?).ok()?)
    }

    fn get_mut(&mut self, sequence: u64) -> Option<&mut Sent> {
        self.chunks
            .get_mut(usize::try_from(sequence.checked_sub(self.base)?).ok()?)
    }

    /// Returns the message that this chunk is a piece of.
    pub(super) fn ticket(&self, sequence: u64) -> Option<u64> {
        self.get(sequence).map(|chunk| chunk.ticket)
    }

    pub(super) fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Returns below which number nothing will be sent any more, as far as the peer has to know.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    const fn has_waiting(&self) -> bool {
        self.waiting_messages > 0 || self.sending.is_some()
    }

    /// Returns whether one more chunk may be under way. After timeouts in a row only a few are risked.
    fn may_fly(&self) -> bool {
        let limit = (MAX_IN_FLIGHT >> self.backoff.min(5)).max(2);
        !self.room.busy && self.in_flight < limit
    }

    /// Returns whether there is room for one more new chunk.
    pub(super) fn has_room(&self) -> bool {
        self.may_fly() && (self.chunks.len() < RING || planted(PlantedBug::UnboundedReassembly))
    }

    /// Records the first transmission of the next chunk.
    pub(super) fn first_sent(&mut self, now: Instant, ticket: u64, offset: usize, len: usize, last: bool) {
        let ordinal = self.ordinal();
        self.flight.push_back((ordinal, self.next()));
        self.in_flight += 1;
        self.chunks.push_back(Sent {
            ticket,
            offset,
            len,
            last,
            state: State::Flying,
            ordinal,
            at: now,
            resent: false,
        });
    }

    /// Records that a chunk was sent again.
    pub(super) fn sent_again(&mut self, now: Instant, sequence: u64) {
        let ordinal = self.ordinal();
        let Some(chunk) = self.get_mut(sequence) else {
            return;
        };
        chunk.ordinal = ordinal;
        chunk.at = now;
        chunk.resent = true;
        if chunk.state == State::Lost {
            chunk.state = State::Flying;
            self.in_flight += 1;
        }
        self.flight.push_back((ordinal, sequence));
        self.trim();
    }

    fn ordinal(&mut self) -> u64 {
        self.next_ordinal += 1;
        self.next_ordinal
    }

    /// Returns the next chunk to send again, without taking it from the list: `lost_sent` does.
    pub(super) fn peek_lost(&mut self) -> Option<(u64, Sent)> {
        if !self.may_fly() {
            return None;
        }
        while let Some(&sequence) = self.lost.front() {
            match self.get(sequence) {
                Some(chunk) if chunk.state == State::Lost => return Some((sequence, *chunk)),
                _ => self.lost.pop_front(),
            };
        }
        None
    }

    pub(super) fn lost_sent(&mut self, now: Instant, sequence: u64) {
        self.lost.pop_front();
        self.sent_again(now, sequence);
    }

    /// Returns the oldest chunk that can be sent as a question for the peer's state: its message is still there. What
    /// the peer holds of a message that was given up counts as acknowledged, and cannot be sent again.
    pub(super) fn peek_oldest(&self, is_kept: impl Fn(u64) -> bool) -> Option<(u64, Sent)> {
        let place = self
            .chunks
            .iter()
            .position(|chunk| chunk.state != State::Dropped && is_kept(chunk.ticket))?;
        Some((self.base + place as u64, self.chunks[place])) // `position` found it there
    }

    /// Takes an acknowledgement, and puts the tickets of messages that are now acknowledged as a whole in `completed`.
    ///
    /// Returns a round-trip measurement, if there is one.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        rtt: &Rtt,
        ack: &Ack,
        completed: &mut Vec<u64>,
    ) -> Result<Option<Duration>, BadFrame> {
        if ack.cumulative > self.next().max(self.floor) {
            return Err(BadFrame);
        }
        if ack.cumulative < self.base {
            // Overtaken by a newer one.
            return Ok(None);
        }
        // The newest transmission acknowledged by this, and when it was made if it was the only one of its chunk.
        let mut newest: Option<(u64, Option<Instant>)> = None;
        let (mut heard, mut spurious) = (false, false);
        let mut note = |chunk: &Sent| {
            heard = true;
            if chunk.state == State::Lost || (chunk.resent && now - chunk.at < rtt.soonest()) {
                // It speaks of the transmission before, which had not been lost (RFC 8985, section 6.2, step 2). Taken
                // for word of the last one, it would make everything in between look lost too, and so on.
                spurious = true;
                return;
            }
            if newest.is_none_or(|(ordinal, _)| ordinal < chunk.ordinal) {
                newest = Some((chunk.ordinal, (!chunk.resent).then_some(chunk.at)));
            }
        };
        let progress = ack.cumulative > self.base;
        while self.base < ack.cumulative {
            let Some(chunk) = self.chunks.pop_front() else {
                break;
            };
            self.base += 1;
            match chunk.state {
                State::Flying => {
                    self.in_flight -= 1;
                    note(&chunk);
                }
                State::Lost => note(&chunk),
                State::Acked => {}
                State::Dropped => {
                    self.dropped -= 1;
                    continue;
                }
            }
            if chunk.last {
                completed.push(chunk.ticket);
            }
        }
        self.base = ack.cumulative;
        let mut place = 0_usize;
        for (gap, len) in ack.ranges.iter() {
            place += usize::from(gap);
            for chunk in self.chunks.iter_mut().skip(place).take(usize::from(len)) {
                match chunk.state {
                    State::Flying => self.in_flight -= 1,
                    State::Lost => {}
                    State::Acked | State::Dropped => continue,
                }
                note(chunk);
                chunk.state = State::Acked;
            }
            place += usize::from(len);
        }
        if progress {
            self.probe_backoff = 0;
        }
        if heard {
            self.backoff = 0;
        }
        if spurious {
            self.reorder = (self.reorder * 2).min(MAX_REORDER_THRESHOLD);
        }
        if let Some((ordinal, _)) = newest {
            self.acked_ordinal = self.acked_ordinal.max(ordinal);
            self.detect_loss();
        }
        self.trim();
        self.advance_floor();
        self.take_room(ack.room);
        Ok(newest.and_then(|(_, at)| at).map(|at| now - at))
    }

    fn take_room(&mut self, room: Room) {
        let resumed = self.room.busy && !room.busy;
        self.room = room;
        if resumed {
            // Nothing says which of those in flight the peer refused while it had no room.
            self.lose_all();
            self.probe_backoff = 0;
        }
    }

    /// Moves every transmission that is overtaken by acknowledged ones to the lost.
    fn detect_loss(&mut self) {
        while let Some(&(ordinal, sequence)) = self.flight.front() {
            if ordinal + self.reorder > self.acked_ordinal {
                break;
            }
            self.flight.pop_front();
            self.lose(ordinal, sequence);
        }
    }

    fn lose(&mut self, ordinal: u64, sequence: u64) {
        if let Some(chunk) = self.get_mut(sequence)
            && chunk.ordinal == ordinal
            && chunk.state == State::Flying
        {
            chunk.state = State::Lost;
            self.in_flight -= 1;
            self.lost.push_back(sequence);
        }
    }

    /// Counts everything in flight as lost.
    pub(super) fn lose_all(&mut self) {
        self.lose_oldest(usize::MAX);
    }

    /// Counts the oldest transmissions in flight as lost.
    fn lose_oldest(&mut self, count: usize) {
        for _ in 0..count.min(self.flight.len()) {
            let Some((ordinal, sequence)) = self.flight.pop_front() else {
                break;
            };
            self.lose(ordinal, sequence);
        }
        self.trim();
    }

    /// Forgets what is out of date at the front of the flight, so that its front tells the next timeout.
    fn trim(&mut self) {
        while let Some(&(ordinal, sequence)) = self.flight.front() {
            match self.get(sequence) {
                Some(chunk) if chunk.ordinal == ordinal && chunk.state == State::Flying => break,
                _ => self.flight.pop_front(),
            };
        }
    }

    /// Drops the chunks of a message from `first` on.
    pub(super) fn abandon(&mut self, ticket: u64, first: u64) {
        let skip = usize::try_from(first.saturating_sub(self.base)).unwrap_or(usize::MAX);
        for chunk in self.chunks.iter_mut().skip(skip) {
            if chunk.ticket != ticket {
                break;
            }
            match chunk.state {
                State::Flying => self.in_flight -= 1,
                State::Lost => {}
                // The floor passes what was received as well; the peer discards pieces of a broken message.
                State::Acked | State::Dropped => continue,
            }
            chunk.state = State::Dropped;
            self.dropped += 1;
        }
        if self.sending == Some(ticket) {
            self.sending = None;
        }
        self.trim();
        self.advance_floor();
    }

    /// Raises the floor over everything that is acknowledged or dropped (RFC 3758, section 3.5, C1).
    fn advance_floor(&mut self) {
        if self.dropped == 0 {
            return;
        }
        let mut floor = self.floor;
        for (sequence, chunk) in (self.base..).zip(&self.chunks) {
            match chunk.state {
                State::Dropped => floor = floor.max(sequence + 1),
                State::Acked => {}
                State::Flying | State::Lost => break,
            }
        }
        if floor > self.floor {
            self.floor = floor;
            self.floor_sent = None;
        }
    }

    /// Returns whether there may be something to send.
    pub(super) fn ready(&self) -> bool {
        self.probe_due
            || self.floor_to_send().is_some()
            || (self.may_fly() && !self.lost.is_empty())
            || (self.has_room() && self.has_waiting())
    }

    /// Returns the floor if the peer has to be told.
    pub(super) fn floor_to_send(&self) -> Option<u64> {
        (self.floor > self.base && self.floor_sent.is_none()).then_some(self.floor)
    }

    pub(super) const fn floor_was_sent(&mut self, now: Instant) {
        self.floor_sent = Some(now);
    }

    pub(super) const fn probe_due(&self) -> bool {
        self.probe_due
    }

    pub(super) const fn probe_sent(&mut self) {
        self.probe_due = false;
    }

    /// Keeps a timer running whenever nothing flies whose loss would be noticed, and yet something is unfinished: a peer
    /// without room, or whose last word was lost.
    pub(super) fn update_probe(&mut self, now: Instant, rtt: &Rtt) {
        let unfinished = !self.chunks.is_empty() || self.has_waiting();
        let silent = self.in_flight == 0 && self.lost.is_empty() && self.floor <= self.base;
        if !unfinished || !(self.room.busy || silent) {
            self.probe_at = None;
            self.probe_due = false;
        } else if self.probe_at.is_none() && !self.probe_due {
            self.probe_at = Some(now + rtt.timeout(self.probe_backoff));
        }
    }

    pub(super) fn timer(&self, rtt: &Rtt) -> Option<Instant> {
        let timeout = rtt.timeout(self.backoff);
        let oldest = match self.flight.front() {
            // While the peer has no room, only the probe asks.
            Some(&(_, sequence)) if !self.room.busy => self.get(sequence).map(|chunk| chunk.at + timeout),
            _ => None,
        };
        let floor = match self.floor_sent {
            Some(at) if self.floor > self.base => Some(at + timeout),
            _ => None,
        };
        [oldest, floor, self.probe_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, rtt: &Rtt) {
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe_at = None;
            self.probe_due = true;
            self.probe_backoff = (self.probe_backoff + 1).min(16);
        }
        let timeout = rtt.timeout(self.backoff);
        if self.floor > self.base && self.floor_sent.is_some_and(|at| at + timeout <= now) {
            self.floor_sent = None;
            self.backoff = (self.backoff + 1).min(16);
        }
        if !self.room.busy
            && let Some(&(_, sequence)) = self.flight.front()
            && self.get(sequence).is_some_and(|chunk| chunk.at + timeout <= now)
        {
            // The end of a burst has nothing behind it that would show its loss. Word of a few chunks sent again shows
            // what became of the rest, and costs little where the peer was merely slow (RFC 8985, section 7).
            let count = if self.backoff == 0 { TAIL_PROBE } else { usize::MAX };
            self.lose_oldest(count);
            self.reorder = (self.reorder / 2).max(REORDER_THRESHOLD);
            self.backoff = (self.backoff + 1).min(16);
        }
    }

    /// The peer can be reached again: whatever is outstanding goes out at once.
    pub(super) fn hurry(&mut self) {
        self.backoff = 0;
        self.probe_backoff = 0;
        self.floor_sent = None;
        self.lose_all();
        if self.room.busy || self.lost.is_empty() {
            self.probe_at = None;
            self.probe_due = !self.chunks.is_empty() || self.has_waiting();
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.chunks.len() + self.flight.len() + self.lost.len() + self.waiting.len()
    }
}
