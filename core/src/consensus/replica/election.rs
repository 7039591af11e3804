//! Elections (Ongaro 2014, sections 3.4, 3.10 and 9.6).

use super::{Hints, Leadership, Output, Replica, Role};
use crate::consensus::entry::{Command, Entry, Position, Term};
use crate::consensus::life::Life;
use crate::consensus::message::Message;
use crate::consensus::seats::Seats;
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use alloc::collections::BTreeSet;

impl Replica {
    /// Whether this life may campaign: it is seated, as far as it knows.
    fn may_campaign(&self) -> bool {
        let leads = matches!(self.role(), Some(Role::Leader(_)));
        self.part.is_some() && !leads && (self.is_seated() || planted(PlantedBug::RemovedNodeRaisesTerms))
    }

    /// Asks the seats whether they would vote for this life. Whoever hears a leader would not, so that a member that
    /// was cut off, or has lost its seat, cannot depose anybody.
    pub fn pre_campaign(&mut self, now: Instant, out: &mut Output) {
        if !self.may_campaign() {
            return;
        }
        if planted(PlantedBug::RemovedNodeRaisesTerms) {
            return self.campaign(now, out);
        }
        let (life, rules) = (self.life, self.rules);
        let Some(part) = &mut self.part else { return };
        part.role = Role::PreCandidate {
            granted: BTreeSet::from([life]),
        };
        if rules.quorum_of(part.seats.len()) <= 1 {
            return self.campaign(now, out);
        }
        let message = Message::PreVote {
            term: part.term + 1,
            last: part.log.last(),
        };
        self.send_to_seats(&message, out);
    }

    /// Stands for election in a new term.
    pub fn campaign(&mut self, now: Instant, out: &mut Output) {
        if !self.may_campaign() {
            return;
        }
        let life = self.life;
        let Some(part) = &mut self.part else { return };
        part.term += 1;
        part.vote = Some(life);
        part.role = Role::Candidate {
            granted: BTreeSet::from([life]),
        };
        let message = Message::RequestVote {
            term: part.term,
            last: part.log.last(),
        };
        self.send_to_seats(&message, out);
        self.count_votes(now, out);
    }

    fn send_to_seats(&self, message: &Message, out: &mut Output) {
        let seats = self.seats().into_iter().flat_map(Seats::iter);
        for seat in seats.filter(|&seat| seat != self.life) {
            self.send(seat, message.clone(), out);
        }
    }

    pub(super) fn on_pre_vote(&self, from: Life, term: Term, last: Position, hints: Hints, out: &mut Output) {
        let Some(part) = &self.part else { return };
        let leads = matches!(part.role, Role::Leader(_));
        let granted = term > part.term && last >= part.log.last() && !hints.leader_heard && !leads;
        let message = Message::PreVoteReply {
            term: if granted { term } else { part.term },
            granted,
        };
        self.send(from, message, out);
    }

    pub(super) fn on_pre_vote_reply(
        &mut self,
        now: Instant,
        from: Life,
        term: Term,
        granted: bool,
        out: &mut Output,
    ) {
        let rules = self.rules;
        let Some(part) = &mut self.part else { return };
        let Role::PreCandidate { granted: by } = &mut part.role else {
            return;
        };
        if granted && term == part.term + 1 && part.seats.contains(from) {
            by.insert(from);
            if by.len() >= rules.quorum_of(part.seats.len()) {
                self.campaign(now, out);
            }
        }
    }

    /// **SAFETY (one vote a term)** Votes for at most one life in each term, and for none whose log lacks what may be
    /// committed.
    pub(super) fn on_request_vote(&mut self, from: Life, term: Term, last: Position, out: &mut Output) {
        let Some(part) = &mut self.part else { return };
        let free = part.vote.is_none_or(|vote| vote == from) || planted(PlantedBug::VoteTwiceInATerm);
        let granted = term == part.term && free && last >= part.log.last();
        if granted {
            part.vote = Some(from);
        }
        let message = Message::Vote {
            term: part.term,
            granted,
        };
        self.send(from, message, out);
    }

    pub(super) fn on_vote(&mut self, now: Instant, from: Life, term: Term, granted: bool, out: &mut Output) {
        let Some(part) = &mut self.part else { return };
        if let Role::Candidate { granted: by } = &mut part.role
            && granted
            && term == part.term
            && part.seats.contains(from)
        {
            by.insert(from);
            self.count_votes(now, out);
        }
    }

    fn count_votes(&mut self, now: Instant, out: &mut Output) {
        let Some(part) = &self.part else { return };
        if let Role::Candidate { granted } = &part.role
            && granted.len() >= self.rules.quorum_of(part.seats.len())
        {
            self.lead(now, out);
        }
    }

    pub(super) fn lead(&mut self, now: Instant, out: &mut Output) {
        let life = self.life;
        let Some(part) = &mut self.part else { return };
        // SAFETY (close): what a former leader has seen of the other group is not known here.
        if part.gate() == Some(false) && !planted(PlantedBug::CloseWaitInherited) {
            part.waits_from = now;
        }
        let last = part.log.last().index;
        part.role = Role::Leader(Leadership::new(last + 1, &part.seats, life, last));
        let entry = Entry {
            term: part.term,
            command: Command::Noop,
        };
        part.append(entry);
        self.beat(now, out);
        self.advance(now, out);
    }

    /// The leader leaves and wants this life to take over.
    pub(super) fn on_timeout_now(&mut self, now: Instant, term: Term, out: &mut Output) {
        if self.term() == term {
            self.campaign(now, out);
        }
    }

    /// Hands leadership to the one of these lives whose log is the most complete, and returns which; `None` if none of
    /// them has a seat.
    pub fn transfer(&mut self, heirs: &[Life], out: &mut Output) -> Option<Life> {
        let (part, leadership) = (self.part.as_ref()?, self.leadership()?);
        let seated = heirs.iter().filter(|&&heir| part.seats.contains(heir));
        let reached = seated.filter_map(|&heir| Some((leadership.peer(heir)?.matched(), heir)));
        let (_, heir) = reached.max_by_key(|&(matched, heir)| (matched, core::cmp::Reverse(heir)))?;
        let message = Message::TimeoutNow { term: part.term };
        self.send(heir, message, out);
        Some(heir)
    }

    /// Stops leading or campaigning: no quorum answers.
    pub fn step_down(&mut self) {
        if let Some(part) = &mut self.part {
            part.role = Role::Follower { leader: None };
        }
    }
}
