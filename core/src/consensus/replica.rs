//! One replica: everything that safety rests on, without timers.
//!
//! A [`Replica`] is a plain value. It is told what arrived and what its owner decided (to stand, to campaign, to beat),
//! and says what to send. When to do any of that is a matter of liveness and the business of its owner; the only time
//! in here is the grace that a group waits before it opens. A search over all states can therefore let any deadline
//! pass at any moment.

mod election;
mod follower;
mod founding;
mod leader;
mod locking;
mod seating;
mod succession;
#[cfg(test)]
mod tests;

use super::entry::{Command, Entry, Found, Index, Position, Term};
use super::life::{Group, Life, Rules};
use super::log::Log;
use super::machine::{Machine, Outcome};
use super::message::{Envelope, Message};
use super::seats::Seats;
use crate::id::NodeId;
use crate::locks::{Answer, Deeds};
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

pub use founding::{FoundError, Founding};
pub use leader::{Leadership, Progress};

/// What a replica wants done. Collected over one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// What is to be sent, in order.
    pub sends: Vec<Envelope>,
    /// Tokens that this life asked for, or that it was denied.
    pub drawn: Vec<Drawn>,
    /// What leaders answered to what this life asked about locks.
    pub answers: Vec<(Group, Answer)>,
}

/// The answer to a request for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Drawn {
    /// The group that answers.
    pub group: Group,
    /// The asker's number for its request.
    pub request: u64,
    /// The token; `None` if the group grants none now.
    pub token: Option<u64>,
}

/// What the owner of a replica knows of time, when a message arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hints {
    /// Whether this node takes part in foundings now: it knows of no group, and of no other founder that lives.
    pub fresh: bool,
    /// Whether the leader was heard of within the shortest election timeout.
    pub leader_heard: bool,
}

/// What a replica is inside its group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows, as soon as it knows whom.
    Follower {
        /// The leader of this term, if it is known.
        leader: Option<Life>,
    },
    /// Asks whether it could be elected.
    PreCandidate {
        /// Who would vote for it.
        granted: BTreeSet<Life>,
    },
    /// Stands for election.
    Candidate {
        /// Who voted for it.
        granted: BTreeSet<Life>,
    },
    /// Leads.
    Leader(Leadership),
}

/// A snapshot of which pieces have arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Incoming {
    last: Position,
    total: u32,
    data: Vec<u8>,
}

/// This life's part in its group: all that Raft would keep on disk, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    group: Group,
    found: Found,
    /// Whether this life had never stored an entry nor asked for a token when it stored `Found`.
    virgin: bool,
    term: Term,
    vote: Option<Life>,
    log: Log,
    /// Who is seated at the end of the log, and since which entry.
    seats: Seats,
    seats_since: Index,
    commit: Index,
    applied: Index,
    machine: Machine,
    /// The grace counts from here: when `Found` was stored here, or a later `Close`.
    waits_from: Instant,
    incoming: Option<Incoming>,
    role: Role,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    rules: Rules,
    life: Life,
    /// Whether it may vote and be seated. Observers may not.
    eligible: bool,
    /// Whether this life ever asked for a token.
    asked: bool,
    /// The highest token known, 0 for none. Outlives the life.
    highest: u64,
    founding: Founding,
    part: Option<Part>,
    /// A snapshot of a group that this life may follow once it is complete. Of one group only: pieces of two would
    /// make a state that nobody ever agreed on.
    incoming: Option<(Group, Incoming)>,
}

/// What a token that is known must be short of a floor: a node may lag behind by this many.
pub(super) const FLOOR_AHEAD: u64 = 1 << 32;

impl Replica {
    /// Creates the replica of a process in its first life.
    pub const fn new(rules: Rules, node: NodeId, eligible: bool) -> Self {
        Self {
            rules,
            life: Life::first(node),
            eligible,
            asked: false,
            highest: 0,
            founding: Founding::new(),
            part: None,
            incoming: None,
        }
    }

    /// Takes a message. What is not for this life, or makes no sense in its state, changes nothing.
    pub fn receive(&mut self, now: Instant, envelope: &Envelope, hints: Hints, out: &mut Output) {
        let Envelope { group, from, to, .. } = *envelope;
        let mine = to == self.life || (to.node == self.life.node && planted(PlantedBug::EarlierLivesAnswer));
        if !mine || from.node == self.life.node {
            return;
        }
        match envelope.message {
            Message::FoundRequest => return self.on_found_request(group, from, hints, out),
            Message::FoundVote { floor } => return self.on_found_vote(group, from, floor),
            Message::Ask(ref ask) => return self.on_ask(now, group, from, ask, out),
            Message::Answer(ref answer) => {
                if let Answer::Granted { token, .. } = *answer {
                    self.highest = self.highest.max(token);
                }
                return out.answers.push((group, answer.clone()));
            }
            Message::Draw { request } => return self.on_draw(group, from, request, out),
            Message::Drawn { request, token } => {
                self.highest = self.highest.max(token.unwrap_or(0));
                return out.drawn.push(Drawn {
                    group,
                    request,
                    token,
                });
            }
            _ => {}
        }
        if !self.eligible {
            return;
        }
        if self.part.as_ref().is_none_or(|part| part.group != group) {
            // SAFETY (votes need Found): who does not hold the group's `Found` has no say inside it. It may only
            // begin to follow.
            match &envelope.message {
                Message::Append { .. } | Message::Snapshot { .. } if self.may_adopt() => {
                    self.adopt(now, envelope, out);
                }
                Message::RequestVote { term, .. } if planted(PlantedBug::VoteWithoutFound) => {
                    let message = Message::Vote {
                        term: *term,
                        granted: true,
                    };
                    self.send_to(group, from, message, out);
                }
                _ => {}
            }
            return;
        }
        self.meet_term(&envelope.message);
        match &envelope.message {
            Message::PreVote { term, last } => self.on_pre_vote(from, *term, *last, hints, out),
            Message::PreVoteReply { term, granted } => {
                self.on_pre_vote_reply(now, from, *term, *granted, out)
            }
            Message::RequestVote { term, last } => self.on_request_vote(from, *term, *last, out),
            Message::Vote { term, granted } => self.on_vote(now, from, *term, *granted, out),
            Message::Append { .. } => self.on_append(now, from, &envelope.message, out),
            Message::Snapshot { .. } => self.on_snapshot(now, from, &envelope.message, out),
            Message::AppendReply { .. } | Message::SnapshotReply { .. } => {
                self.on_reply(now, from, &envelope.message, out);
            }
            Message::TimeoutNow { term } => self.on_timeout_now(now, *term, out),
            Message::FoundRequest
            | Message::FoundVote { .. }
            | Message::Ask(_)
            | Message::Answer(_)
            | Message::Draw { .. }
            | Message::Drawn { .. } => {}
        }
    }

    /// Follows a higher term. Those who only ask whether they could be elected have not begun one.
    fn meet_term(&mut self, message: &Message) {
        let Some(part) = &mut self.part else { return };
        let begun = match message {
            Message::PreVote { .. } | Message::PreVoteReply { granted: true, .. } => None,
            _ => message.term(),
        };
        if let Some(term) = begun
            && term > part.term
        {
            part.follow(term, None);
        }
    }

    /// **SAFETY (abandon)** Restarts in place: log and votes are forgotten, and so is the life that made them. Only the
    /// highest token stays. Beliefs in tokens must have ended before.
    ///
    /// Without a quorum nobody votes, and what a life holds and waits for moves with it to the next group: it goes on.
    pub fn abandon(&mut self) {
        if !self.rules.is_best_effort() && !planted(PlantedBug::LifeSurvivesAbandon) {
            self.life.number += 1;
            self.asked = false;
            self.founding = Founding::new();
        }
        if planted(PlantedBug::AbandonForgetsFloor) {
            self.highest = 0;
        }
        (self.part, self.incoming) = (None, None);
    }

    /// Asks the leader of a group for a token, under a number of the caller's choice. The answer comes as [`Drawn`].
    pub fn ask(&mut self, group: Group, leader: Life, request: u64, out: &mut Output) {
        self.asked = true;
        if leader == self.life {
            self.on_draw(group, leader, request, out);
        } else {
            self.send_to(group, leader, Message::Draw { request }, out);
        }
    }

    fn on_draw(&mut self, group: Group, from: Life, request: u64, out: &mut Output) {
        let part = self
            .part
            .as_ref()
            .filter(|part| part.group == group && part.knows_what_is_committed());
        let Some(part) = part else { return };
        // What is not decided cannot be compacted. Who gets no answer asks again.
        let backlog = part.log.last().index - part.applied;
        if backlog >= self.rules.log_limit as u64 {
            return;
        }
        if part.gate() == Some(true) {
            let command = Command::Draw { to: from, request };
            self.propose(command);
        } else {
            self.answer(group, from, request, None, out);
        }
    }

    fn answer(&self, group: Group, to: Life, request: u64, token: Option<u64>, out: &mut Output) {
        if to == self.life {
            out.drawn.push(Drawn {
                group,
                request,
                token,
            });
        } else {
            self.send_to(group, to, Message::Drawn { request, token }, out);
        }
    }

    fn send_to(&self, group: Group, to: Life, message: Message, out: &mut Output) {
        out.sends.push(Envelope {
            group,
            from: self.life,
            to,
            message,
        });
    }

    /// Sends inside the own group.
    fn send(&self, to: Life, message: Message, out: &mut Output) {
        if let Some(part) = &self.part {
            self.send_to(part.group, to, message, out);
        }
    }

    /// Applies what is committed.
    fn apply(&mut self, now: Instant, out: &mut Output) {
        let mut answers = Vec::new();
        let mut deeds = Deeds::default();
        while let Some(part) = &mut self.part
            && part.applied < part.commit
            && let Some(entry) = part.log.get(part.applied + 1)
        {
            let outcome = part.machine.apply(entry);
            let term = entry.term;
            part.applied += 1;
            let index = part.applied;
            // SAFETY (own term): only who appended it in this very term answers for it.
            let own = matches!(part.role, Role::Leader(_)) && term == part.term;
            match outcome {
                Outcome::Drawn { to, request, token } if own => answers.push((to, request, token)),
                Outcome::Locks(effects) => self.lock_effects(now, index, term, &effects, &mut deeds),
                _ => self.lock_effects(now, index, term, &[], &mut deeds),
            }
        }
        let Some(part) = &mut self.part else { return };
        self.highest = self.highest.max(part.machine.counter);
        let group = part.group;
        part.compact(self.rules.log_limit);
        for (to, request, token) in answers {
            self.answer(group, to, request, token, out);
        }
        self.carry_out(deeds, out);
    }

    /// **SAFETY (tokens across groups)** Returns the floor that a vote carries: above every token that this node knows
    /// of, and above those that may have been granted meanwhile. 0 if it knows of none.
    pub const fn floor(&self) -> u64 {
        if self.highest == 0 {
            0
        } else {
            self.highest.saturating_add(FLOOR_AHEAD)
        }
    }

    /// Returns what all members agree on.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes other rules: an observer adopts the cluster's.
    pub(crate) const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Returns the present life.
    pub const fn life(&self) -> Life {
        self.life
    }

    /// Returns whether this replica may vote and be seated.
    pub const fn is_eligible(&self) -> bool {
        self.eligible
    }

    /// Returns whether this life ever asked for a token.
    pub const fn has_asked(&self) -> bool {
        self.asked
    }

    /// Returns how it stands with founding a group.
    pub const fn founding(&self) -> &Founding {
        &self.founding
    }

    /// Returns the group that this life belongs to.
    pub fn group(&self) -> Option<Group> {
        self.part.as_ref().map(|part| part.group)
    }

    /// Returns how the group began.
    pub fn beginning(&self) -> Option<&Found> {
        self.part.as_ref().map(|part| &part.found)
    }

    /// Returns the term, 0 without a group.
    pub fn term(&self) -> Term {
        self.part.as_ref().map_or(0, |part| part.term)
    }

    /// Returns whom this life voted for in the present term.
    pub fn vote(&self) -> Option<Life> {
        self.part.as_ref().and_then(|part| part.vote)
    }

    /// Returns the role inside the group.
    pub fn role(&self) -> Option<&Role> {
        self.part.as_ref().map(|part| &part.role)
    }

    /// Returns who leads the group in this term, as far as it is known; this life, if it does.
    pub fn leader(&self) -> Option<Life> {
        match self.role()? {
            Role::Leader(_) => Some(self.life),
            Role::Follower { leader } => *leader,
            Role::PreCandidate { .. } | Role::Candidate { .. } => None,
        }
    }

    /// Returns what a leader keeps, if this replica leads.
    pub fn leadership(&self) -> Option<&Leadership> {
        match self.role()? {
            Role::Leader(leadership) => Some(leadership),
            _ => None,
        }
    }

    /// Returns the log.
    pub fn log(&self) -> Option<&Log> {
        self.part.as_ref().map(|part| &part.log)
    }

    /// Returns where the log ends; zeros if it is empty.
    pub fn last(&self) -> Position {
        self.part
            .as_ref()
            .map_or_else(Position::default, |part| part.log.last())
    }

    /// Returns the last entry that is known to be committed, 0 for none.
    pub fn commit(&self) -> Index {
        self.part.as_ref().map_or(0, |part| part.commit)
    }

    /// Returns the last entry that is applied.
    pub fn applied(&self) -> Index {
        self.part.as_ref().map_or(0, |part| part.applied)
    }

    /// Returns who is seated at the end of the log.
    pub fn seats(&self) -> Option<&Seats> {
        self.part.as_ref().map(|part| &part.seats)
    }

    /// Returns whether this life is seated.
    pub fn is_seated(&self) -> bool {
        self.seats().is_some_and(|seats| seats.contains(self.life))
    }

    /// Returns what the group agreed on, up to the last entry that was applied.
    pub fn machine(&self) -> Option<&Machine> {
        self.part.as_ref().map(|part| &part.machine)
    }

    /// Returns whether this life was virgin when it stored `Found`.
    pub fn was_virgin(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.virgin)
    }
}

impl Part {
    /// Follows in a term: the present one, or a later one, which has no vote yet.
    fn follow(&mut self, term: Term, leader: Option<Life>) {
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.role = Role::Follower { leader };
    }

    /// Whether this replica leads and has committed an entry of its own term: only then does it know all that is.
    fn knows_what_is_committed(&self) -> bool {
        matches!(&self.role, Role::Leader(leadership) if self.commit >= leadership.term_start())
    }

    /// Appends an entry; a change of seats is in force at once.
    fn append(&mut self, entry: Entry) -> Index {
        let change = match entry.command {
            Command::Seat(change) => Some(change),
            _ => None,
        };
        let index = self.log.append(entry);
        if let Some(change) = change {
            self.seats.apply(change);
            self.seats_since = index;
        }
        index
    }

    /// Drops entries that another leader's replace, and what they changed about the seats.
    fn truncate_from(&mut self, index: Index) {
        self.log.truncate_from(index);
        if self.seats_since >= index {
            self.recount_seats();
        }
    }

    fn recount_seats(&mut self) {
        let (mut seats, mut since) = match self.log.snapshot() {
            Some(snapshot) => (snapshot.seats.clone(), snapshot.last.index),
            None => (self.found.seats.clone(), 1),
        };
        let covered = since;
        for (index, entry) in self.log.iter().filter(|&(index, _)| index > covered) {
            if let Command::Seat(change) = entry.command {
                seats.apply(change);
                since = index;
            }
        }
        (self.seats, self.seats_since) = (seats, since);
    }

    /// Puts what is applied into a snapshot where the log is too long: longer than the limit, and than what the snapshot
    /// would hold, so that its making stays a small part of the work. What is not applied has to stay, however much that
    /// is: so that the next snapshot is not due at once, each one has to cover enough. Half of that is kept: whoever was
    /// sent the snapshot before this one in time finds what follows it, or needs a second one at worst.
    fn compact(&mut self, limit: usize) {
        let limit = limit.max(self.machine.table.locks().len());
        let applied = self.applied.saturating_sub(self.log.base().index);
        let applied = usize::try_from(applied).unwrap_or(usize::MAX);
        if self.log.len() > limit
            && applied > limit - limit / 8
            && let Some(term) = self.log.term(self.applied)
        {
            let last = Position {
                term,
                index: self.applied,
            };
            if self
                .log
                .snapshot()
                .is_none_or(|snapshot| snapshot.last.index < last.index)
            {
                let snapshot = super::log::snapshot_of(&self.machine, last);
                self.log.compact(snapshot, limit.min(applied) / 2);
            }
        }
    }

    /// Returns what the end of the log says about granting: `Some(true)` after `Open`, `Some(false)` after `Close`,
    /// `None` before either.
    fn gate(&self) -> Option<bool> {
        let unapplied = (self.applied + 1..=self.log.last().index).rev();
        let mut gates = unapplied.filter_map(|index| match self.log.get(index)?.command {
            Command::Open => Some(true),
            Command::Close => Some(false),
            _ => None,
        });
        gates.next().or_else(|| self.machine.gate())
    }
}

/// Who the log is replicated to.
type Peers = BTreeMap<Life, Progress>;
