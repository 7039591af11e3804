//! What a leader does: replication, quorum rounds, commitment, the gate.

use super::{Output, Part, Peers, Replica, Role};
use crate::consensus::codec::{MAX_ENTRY_BYTES, MAX_PIECE_BYTES};
use crate::consensus::entry::{Command, Entry, Index, Position, Term};
use crate::consensus::life::{Life, Rules};
use crate::consensus::message::Message;
use crate::consensus::seats::Seats;
use crate::locks::Leases;
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Entries in one message.
const BATCH: usize = 16;
/// Pieces of a snapshot that may be under way.
const PIECES_AHEAD: u32 = 16;
/// Entries that may be under way to a follower.
const ENTRIES_AHEAD: u64 = 256;
/// The same, where something did not fit what the peer has, until a round later. If that came too early, so did much of
/// what else was under way, and is refused one by one: where each refusal is answered by all that may be under way, they
/// multiply.
const ENTRIES_AHEAD_CAREFULLY: u64 = BATCH as u64;

/// How far a follower or learner is, as far as the leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    next: Index,
    matched: Index,
    /// The newest round that it answered.
    round: u64,
    /// What it said of itself: see [`Message::AppendReply`].
    virgin: bool,
    /// The first round that began after it had all that was committed.
    caught_up: Option<u64>,
    /// Whether the leader looks for the place where the logs meet.
    probing: bool,
    /// The newest round when it refused one of many messages, until it has answered a newer one.
    refused_in: Option<u64>,
    /// The snapshot that is on its way there.
    transfer: Option<Transfer>,
}

/// How far a snapshot has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Transfer {
    /// The last entry that it covers.
    last: Position,
    /// How many bytes the peer has, as it said last, and how many were sent. Neither is more than there are.
    received: u32,
    sent: u32,
}

impl Progress {
    pub(super) const fn new(last: Index) -> Self {
        Self {
            next: last + 1,
            matched: 0,
            round: 0,
            virgin: false,
            caught_up: None,
            probing: true,
            refused_in: None,
            transfer: None,
        }
    }

    fn answered(&mut self, round: u64) {
        self.round = self.round.max(round);
        self.refused_in = self.refused_in.filter(|&before| round <= before);
    }

    /// Returns how many more entries may be on their way there.
    const fn room(&self) -> u64 {
        let ahead = self.next.saturating_sub(self.matched + 1);
        let most = if self.refused_in.is_some() {
            ENTRIES_AHEAD_CAREFULLY
        } else {
            ENTRIES_AHEAD
        };
        most.saturating_sub(ahead)
    }

    /// Whether there is more to send now. Whoever falls behind has its share under way, and hears of the rest when it has
    /// answered some of that: sent once more for each answer, it would multiply.
    const fn takes_more(&self, last: Index) -> bool {
        self.is_ready(last) && self.next <= last
    }

    /// Whether it can be told something new before it has answered what it was sent.
    const fn is_ready(&self, last: Index) -> bool {
        !self.probing && self.transfer.is_none() && (self.next > last || self.room() > 0)
    }

    /// Returns up to where its log is known to match.
    pub const fn matched(&self) -> Index {
        self.matched
    }

    /// Returns whether it has once had all that was committed.
    pub const fn is_caught_up(&self) -> bool {
        self.caught_up.is_some()
    }

    /// Returns the newest round that it answered.
    pub const fn round(&self) -> u64 {
        self.round
    }

    pub(super) const fn caught_up(&self) -> Option<u64> {
        self.caught_up
    }
}

/// What a leader keeps beside the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leadership {
    /// The first entry of its term.
    term_start: Index,
    /// The newest quorum round that was begun.
    round: u64,
    /// The first round of the present configuration.
    pub(super) seats_round: u64,
    pub(super) peers: Peers,
    /// What it promised to holders and those who wait.
    pub(super) leases: Box<Leases>,
    /// Whether the peers have to be told of something: new entries, or that some are committed.
    unsent: bool,
    /// Answers that said nothing new. Only counted by `PlantedBug::DuplicateAnswersCounted`.
    repeated: u32,
}

impl Leadership {
    pub(super) fn new(term_start: Index, seats: &Seats, me: Life, last: Index) -> Self {
        let peers = seats.iter().filter(|&seat| seat != me);
        Self {
            term_start,
            round: 0,
            seats_round: 1,
            peers: peers.map(|seat| (seat, Progress::new(last))).collect(),
            leases: Box::default(),
            unsent: false,
            repeated: 0,
        }
    }

    /// Returns the first entry of its term.
    pub const fn term_start(&self) -> Index {
        self.term_start
    }

    /// Returns the newest quorum round that was begun.
    pub const fn round(&self) -> u64 {
        self.round
    }

    /// Returns what it promised.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Returns everybody that the log is replicated to, in order: the other seats, and learners.
    pub fn peers(&self) -> impl Iterator<Item = (Life, &Progress)> {
        self.peers.iter().map(|(&peer, progress)| (peer, progress))
    }

    /// Returns a follower or learner.
    pub fn peer(&self, life: Life) -> Option<&Progress> {
        self.peers.get(&life)
    }
}

impl Replica {
    /// Begins a quorum round: tells everybody that this life leads, and sends what they lack. Returns the round's
    /// number, 0 if this life does not lead.
    pub fn beat(&mut self, now: Instant, out: &mut Output) -> u64 {
        self.decide(now, out);
        let Some(Part {
            role: Role::Leader(leadership),
            ..
        }) = &mut self.part
        else {
            return 0;
        };
        leadership.round += 1;
        for progress in leadership.peers.values_mut() {
            // What was sent of a snapshot may be lost.
            if let Some(transfer) = &mut progress.transfer {
                transfer.sent = transfer.received;
            }
        }
        let round = leadership.round;
        let peers: Vec<Life> = leadership.peers.keys().copied().collect();
        for peer in peers {
            self.send_appends(peer, out);
        }
        self.answer_rounds(out);
        round
    }

    /// **SAFETY (rounds)** Returns the newest round that a quorum of the present seats has answered: at some moment
    /// after it began, they all followed this leader.
    pub fn completed_round(&self) -> u64 {
        let (Some(part), Some(leadership)) = (&self.part, self.leadership()) else {
            return 0;
        };
        let mut rounds: Vec<u64> = part
            .seats
            .iter()
            .map(|seat| match leadership.peers.get(&seat) {
                Some(progress) => progress.round,
                None if seat == self.life => leadership.round,
                None => 0,
            })
            .collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let quorum = self.rules.quorum_of(part.seats.len());
        let completed = rounds.get(quorum - 1).copied().unwrap_or(0);
        if completed < leadership.seats_round {
            0
        } else {
            completed
        }
    }

    /// Appends an entry, if this life leads, and returns its index. [`flush`](Self::flush) sends it.
    pub fn propose(&mut self, command: Command) -> Option<Index> {
        self.propose_all([command])
    }

    /// Appends entries, if this life leads, and returns the last index.
    pub(super) fn propose_all(&mut self, commands: impl IntoIterator<Item = Command>) -> Option<Index> {
        let part = self.part.as_mut()?;
        let Role::Leader(leadership) = &mut part.role else {
            return None;
        };
        let round = leadership.round;
        let (mut index, mut seats_change) = (None, false);
        for command in commands {
            seats_change |= matches!(command, Command::Seat(_));
            let term = part.term;
            index = Some(part.append(Entry { term, command }));
        }
        if let Role::Leader(leadership) = &mut part.role {
            leadership.unsent |= index.is_some();
            if seats_change {
                leadership.seats_round = round + 1;
            }
        }
        index
    }

    /// Returns whether [`flush`](Self::flush) has something to do.
    pub fn has_unsent(&self) -> bool {
        self.leadership().is_some_and(|leadership| leadership.unsent)
    }

    /// Tells the peers what is new: all that was appended and committed since the last time, in as few messages as it
    /// fits in. Whoever has its share under way is told when it answers, or in the next round. To be called when
    /// whatever is at hand has been taken in.
    pub fn flush(&mut self, now: Instant, out: &mut Output) {
        if self.has_unsent() {
            self.decide(now, out);
            let last = self.last().index;
            let Some(leadership) = self.leadership() else {
                return;
            };
            let peers = leadership.peers.iter();
            let looked_for = |progress: &Progress| progress.probing && progress.transfer.is_none();
            let ready = peers.filter(|(_, progress)| looked_for(progress) || progress.is_ready(last));
            let ready: Vec<Life> = ready.map(|(&peer, _)| peer).collect();
            for peer in ready {
                self.send_appends(peer, out);
            }
        }
    }

    /// Commits what a quorum of one has decided when it was appended, and what comes of that. Whoever calls it tells the
    /// peers.
    fn decide(&mut self, now: Instant, out: &mut Output) {
        while let Some(Part {
            role: Role::Leader(leadership),
            ..
        }) = &mut self.part
            && core::mem::take(&mut leadership.unsent)
        {
            self.advance(now, out);
        }
    }

    /// Takes for granted that a peer's log is what it was last taken for.
    pub(super) fn stop_probing(&mut self, peer: Life) {
        if let Some(Part {
            role: Role::Leader(leadership),
            ..
        }) = &mut self.part
            && let Some(progress) = leadership.peers.get_mut(&peer)
        {
            progress.probing = false;
        }
    }

    /// Sends a peer all that it lacks, as far as so much may be under way.
    pub(super) fn send_appends(&mut self, to: Life, out: &mut Output) {
        loop {
            self.send_append(to, out);
            let Some(part) = &self.part else { return };
            let Some(progress) = self.leadership().and_then(|leadership| leadership.peers.get(&to)) else {
                return;
            };
            let last = part.log.last().index;
            if !progress.takes_more(last) {
                return;
            }
        }
    }

    /// Sends what a peer lacks, or nothing but the sign of life.
    pub(super) fn send_append(&mut self, to: Life, out: &mut Output) {
        let life = self.life;
        let piece_len = self.rules.snapshot_piece.clamp(1, MAX_PIECE_BYTES) as u32;
        let Some(part) = &mut self.part else { return };
        let (group, term, commit) = (part.group, part.term, part.commit);
        let Role::Leader(leadership) = &mut part.role else {
            return;
        };
        let round = leadership.round;
        let Some(progress) = leadership.peers.get_mut(&to) else {
            return;
        };
        let log = &part.log;
        let mut push = |message| {
            out.sends.push(super::Envelope {
                group,
                from: life,
                to,
                message,
            });
        };
        if progress.next < log.first_index()
            && let Some(snapshot) = log.snapshot()
        {
            let total = snapshot.data.len() as u32;
            let under_way = progress
                .transfer
                .filter(|transfer| transfer.last == snapshot.last);
            let mut transfer = under_way.unwrap_or(Transfer {
                last: snapshot.last,
                received: 0,
                sent: 0,
            });
            let end = total.min(transfer.received.saturating_add(PIECES_AHEAD * piece_len));
            // An empty piece is a sign of life.
            loop {
                let offset = transfer.sent;
                transfer.sent = end.min(offset + piece_len).max(offset);
                push(Message::Snapshot {
                    term,
                    last: snapshot.last,
                    offset,
                    total,
                    data: snapshot.data.slice(offset as usize..transfer.sent as usize),
                    round,
                });
                if transfer.sent >= end {
                    break;
                }
            }
            progress.transfer = Some(transfer);
            return;
        }
        let prev = Position {
            index: progress.next - 1,
            term: log.term(progress.next - 1).unwrap_or(0),
        };
        let room = if progress.probing {
            1
        } else {
            BATCH.min(progress.room() as usize)
        };
        let entries = log.slice(progress.next, room, MAX_ENTRY_BYTES);
        if !progress.probing {
            progress.next += entries.len() as Index;
        }
        push(Message::Append {
            term,
            prev,
            entries,
            commit,
            round,
        });
    }

    /// Takes the answer of a follower or learner.
    pub(super) fn on_reply(&mut self, now: Instant, from: Life, message: &Message, out: &mut Output) {
        let best_effort = self.rules.is_best_effort();
        let Some(part) = &mut self.part else { return };
        let (first, last, commit) = (part.log.first_index(), part.log.last().index, part.commit);
        let knows = part.knows_what_is_committed();
        let snapshot = part.log.snapshot();
        let snapshot = snapshot.map(|snapshot| (snapshot.last, snapshot.data.len() as u32));
        let Role::Leader(leadership) = &mut part.role else {
            return;
        };
        if message.term() != Some(part.term) {
            return;
        }
        let newest = leadership.round;
        let Some(progress) = leadership.peers.get_mut(&from) else {
            return;
        };
        let more = match *message {
            Message::AppendReply {
                index,
                matched: true,
                round,
                virgin,
                ..
            } if index <= last => {
                progress.answered(round.min(newest));
                progress.virgin = virgin;
                if index <= progress.matched && index > 0 && planted(PlantedBug::DuplicateAnswersCounted) {
                    leadership.repeated += 1;
                }
                let progress = leadership
                    .peers
                    .entry(from)
                    .or_insert_with(|| Progress::new(last));
                progress.matched = progress.matched.max(index);
                progress.next = progress.next.max(progress.matched + 1);
                progress.probing = false;
                // An answer to what came before the snapshot does not end that.
                let matched = progress.matched;
                let over = |transfer: &mut Transfer| progress.next >= first || transfer.last.index <= matched;
                progress.transfer.take_if(over);
                if knows && progress.matched >= commit && progress.caught_up.is_none() {
                    progress.caught_up = Some(newest + 1);
                }
                progress.takes_more(last)
            }
            Message::AppendReply {
                index,
                matched: false,
                round,
                ..
            } => {
                // The same life may go to another group and come back, with nothing.
                let anew = best_effort && index == 0 && progress.next > 1;
                if anew {
                    *progress = Progress::new(0);
                }
                progress.answered(round.min(newest));
                // A late answer to an older message says nothing about what is known to match.
                let next = (index + 1).max(progress.matched + 1);
                // Nor does it say that what was sent since is lost: if it is, the next round tells.
                let late = progress.refused_in.is_some() && !progress.probing && index <= progress.matched;
                let back = next < progress.next && !late;
                if back {
                    if progress.next - next > ENTRIES_AHEAD_CAREFULLY {
                        progress.refused_in = Some(newest);
                    }
                    (progress.next, progress.probing) = (next, true);
                }
                back || anew
            }
            Message::SnapshotReply {
                last: of,
                received,
                round,
                ..
            } => {
                progress.answered(round.min(newest));
                let total = snapshot.filter(|&(last, _)| last == of).map(|(_, total)| total);
                match &mut progress.transfer {
                    Some(transfer) if transfer.last == of && total.is_some_and(|total| received <= total) => {
                        let more = received > transfer.received;
                        // Less than before where pieces of another snapshot took the place of these, and in answers
                        // that come late: then some are sent twice.
                        transfer.received = received;
                        transfer.sent = transfer.sent.max(received);
                        more && Some(transfer.sent) < total
                    }
                    _ => false,
                }
            }
            _ => return,
        };
        if more {
            self.send_appends(from, out);
        }
        self.advance(now, out);
        self.answer_rounds(out);
    }

    /// Commits what a quorum has stored, and applies it.
    pub(super) fn advance(&mut self, now: Instant, out: &mut Output) {
        let Some(part) = &mut self.part else { return };
        let Some(commit) = part.committable(self.life, &self.rules) else {
            return;
        };
        // Whoever asked for a lock is told by this leader. Followers apply that with the next thing that they
        // are told, at the latest the next heartbeat.
        let can_wait = |command: &Command| matches!(command, Command::Lock(_));
        let news = (part.commit + 1..=commit)
            .any(|index| part.log.get(index).is_none_or(|entry| !can_wait(&entry.command)));
        part.commit = commit;
        if let Role::Leader(leadership) = &mut part.role {
            leadership.repeated = 0;
            leadership.unsent |= news;
        }
        self.apply(now, out);
    }

    /// Returns when the group may be opened: `None` if it is open or this life does not lead.
    pub fn opens_at(&self) -> Option<Instant> {
        let part = self.part.as_ref()?;
        if !part.knows_what_is_committed() || part.gate() == Some(true) {
            return None;
        }
        // Without a quorum nobody knows what an earlier group granted, nor for how long: to wait would only cost time.
        let skips = self.rules.is_best_effort() || self.may_skip() || planted(PlantedBug::GraceLeftOut);
        if part.gate().is_none() && skips {
            return Some(Instant::ZERO);
        }
        Some(part.waits_from + self.rules.grace)
    }

    /// **SAFETY (grace)** Opens the group, if the time has come: what any earlier group granted is over.
    pub fn open(&mut self, now: Instant) -> bool {
        let due = self.opens_at().is_some_and(|at| at <= now);
        due && self.propose(Command::Open).is_some()
    }

    /// **SAFETY (close)** Stops granting: another group was met. The wait for the next `Open` begins.
    pub fn close(&mut self, now: Instant) -> bool {
        let Some(part) = self.part.as_mut().filter(|part| part.knows_what_is_committed()) else {
            return false;
        };
        if part.gate() == Some(false) {
            return false;
        }
        part.waits_from = now;
        self.propose(Command::Close).is_some()
    }

    /// The other group still has a quorum: the wait begins anew.
    pub fn prolong_close(&mut self, now: Instant) {
        if self.part.as_ref().is_some_and(|part| part.gate() == Some(false)) {
            self.wait_from(now);
        }
    }

    /// The wait for the next `Open` counts from here, and not from earlier.
    pub fn wait_from(&mut self, now: Instant) {
        if let Some(part) = &mut self.part {
            part.waits_from = part.waits_from.max(now);
        }
    }

    /// **SAFETY (skip)** Whether nobody alive can hold anything of an earlier group: all N lives of `Found` have stored
    /// it, and each says that it had never stored an entry nor asked for a token before.
    fn may_skip(&self) -> bool {
        let (Some(part), Some(leadership)) = (&self.part, self.leadership()) else {
            return false;
        };
        let rules = &self.rules;
        let surplus = rules.surge > 0 && !planted(PlantedBug::SkipDespiteSurge);
        let watched = rules.allow_observers && !planted(PlantedBug::SkipDespiteObservers);
        if surplus || watched {
            return false;
        }
        if planted(PlantedBug::SkipOnFilledSeats) {
            return part.seats.len() == rules.seats();
        }
        let storing_is_enough = planted(PlantedBug::SkipWithNonVirginSeat);
        part.found.seats.len() == rules.seats()
            && part
                .found
                .seats
                .iter()
                .all(|seat| match leadership.peers.get(&seat) {
                    Some(progress) => {
                        planted(PlantedBug::SkipCountedOnVotes)
                            || (progress.matched > 0 && (progress.virgin || storing_is_enough))
                    }
                    None => seat == self.life && (part.virgin || storing_is_enough),
                })
    }
}

impl Part {
    /// Returns up to where the log can be committed now, if that is further than it is.
    ///
    /// **SAFETY (own term)** An entry of an earlier term is committed only by one of this term behind it (Ongaro 2014,
    /// section 3.6.2).
    fn committable(&self, me: Life, rules: &Rules) -> Option<Index> {
        let Role::Leader(leadership) = &self.role else {
            return None;
        };
        let last = self.log.last().index;
        let matched = |seat: Life| match leadership.peers.get(&seat) {
            Some(progress) => progress.matched,
            None if seat == me => last,
            None => 0,
        };
        let mut ends: Vec<Index> = self.seats.iter().map(matched).collect();
        ends.extend((0..leadership.repeated).map(|_| last));
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let stored = *ends.get(rules.quorum_of(self.seats.len()) - 1)?;
        let own: Term = self.log.term(stored)?;
        if stored <= self.commit || (own != self.term && !planted(PlantedBug::PriorTermCommitted)) {
            return None;
        }
        // SAFETY (surge): `Found`, and with it all else, waits for Q + s of the lives that it names.
        let named = self.found.seats.iter().filter(|&seat| matched(seat) > 0).count();
        let founded = self.commit > 0
            || named >= rules.founding_quorum()
            || planted(PlantedBug::FoundCommittedByQuorum);
        founded.then_some(stored)
    }
}
