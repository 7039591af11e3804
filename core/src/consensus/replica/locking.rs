//! Locks at a replica: what it asks as a client, and what it answers as a leader.

use super::{Output, Replica, Role};
use crate::consensus::entry::{Command, Index, Term};
use crate::consensus::life::{Group, Life};
use crate::consensus::message::Message;
use crate::id::NodeId;
use crate::locks::{Answer, Ask, At, Deeds, Denial, Effect, Leases};
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use alloc::vec::Vec;

impl Replica {
    /// Asks the leader of a group for something about locks. What it answers comes in [`Output::answers`].
    pub fn ask_locks(&mut self, now: Instant, group: Group, leader: Life, ask: Ask, out: &mut Output) {
        self.asked = true;
        if leader == self.life {
            self.on_ask(now, group, leader, &ask, out);
        } else {
            self.send_to(group, leader, Message::Ask(ask), out);
        }
    }

    /// **SAFETY (own term)** Answers nothing unless it leads, and an entry of its own term is applied.
    pub(super) fn on_ask(&mut self, now: Instant, group: Group, from: Life, ask: &Ask, out: &mut Output) {
        let (terms, limit) = (self.rules.terms, self.rules.log_limit as u64);
        let Some(part) = self.part.as_mut().filter(|part| part.group == group) else {
            return;
        };
        // What is not decided cannot be compacted: no more is appended. Who gets no answer asks again.
        let full = part.log.last().index - part.applied >= limit;
        let gate = if full { None } else { part.gate() };
        let Role::Leader(leadership) = &mut part.role else {
            return self.answer_ask(group, from, Answer::Elsewhere, out);
        };
        if planted(PlantedBug::AnswersBeforeOwnTerm) && !leadership.leases.serves() {
            let table = &part.machine.table;
            leadership.leases.serve(&At { now, terms, table });
        }
        if !leadership.leases.serves() {
            return;
        }
        let mut deeds = Deeds::default();
        let table = &part.machine.table;
        let cx = At { now, terms, table };
        let round = leadership.round();
        // Who holds or waits is heard all the same: its time goes on.
        match *ask {
            Ask::Raise { stamp, token, .. } if full => {
                let tokens = [token].into();
                let renewal = Ask::Renew { stamp, tokens };
                leadership.leases.ask(&cx, from, &renewal, round, &mut deeds);
            }
            Ask::Acquire { request, .. } if full && !leadership.leases.knows(table, from, request) => return,
            Ask::Release { .. } | Ask::Cancel { .. } | Ask::Revoke { .. } if full => return,
            Ask::Acquire { request, .. }
                if gate != Some(true) && !leadership.leases.knows(table, from, request) =>
            {
                let why = Denial::NotOpen;
                deeds.replies.push((from, Answer::Denied { request, why }));
            }
            _ => {
                leadership.leases.ask(&cx, from, ask, round, &mut deeds);
            }
        }
        self.carry_out(deeds, out);
    }

    /// Does what is due of locks: leases end, and those who are silent wait no longer.
    pub fn locks_due(&mut self, now: Instant, out: &mut Output) {
        let Some((leases, cx)) = self.leases_mut(now) else {
            return;
        };
        let mut deeds = Deeds::default();
        leases.handle_timeout(&cx, &mut deeds);
        self.carry_out(deeds, out);
    }

    /// Whether it leads, and answers for locks.
    pub fn serves_locks(&self) -> bool {
        self.leadership()
            .is_some_and(|leadership| leadership.leases.serves())
    }

    /// Returns when [`locks_due`](Self::locks_due) has something to do.
    pub fn locks_timeout(&self) -> Option<Instant> {
        self.leadership()?.leases.poll_timeout()
    }

    /// Returns whether answers wait for a quorum round that has not begun.
    pub fn wants_round(&self) -> bool {
        let wanted = |leadership: &super::Leadership| {
            let wanted = leadership.leases.wanted_round();
            wanted.is_some_and(|wanted| wanted > leadership.round())
        };
        self.leadership().is_some_and(wanted)
    }

    /// A process has left: all that it held is free, and it waits for nothing.
    pub fn owner_left(&mut self, now: Instant, node: NodeId, out: &mut Output) {
        let Some((leases, cx)) = self.leases_mut(now) else {
            return;
        };
        let mut deeds = Deeds::default();
        leases.owner_left(&cx, node, &mut deeds);
        self.carry_out(deeds, out);
    }

    /// A process counts as failed: if it holds and waits for nothing, its requests are forgotten.
    pub fn owner_failed(&mut self, now: Instant, node: NodeId, out: &mut Output) {
        let Some((leases, cx)) = self.leases_mut(now) else {
            return;
        };
        let mut deeds = Deeds::default();
        leases.owner_failed(&cx, node, &mut deeds);
        self.carry_out(deeds, out);
    }

    /// Answers what waited for the rounds that are complete.
    pub(super) fn answer_rounds(&mut self, out: &mut Output) {
        let completed = self.completed_round();
        // What is answered does not depend on the time.
        let Some((leases, cx)) = self.leases_mut(Instant::ZERO) else {
            return;
        };
        let mut deeds = Deeds::default();
        leases.round_completed(&cx, completed, &mut deeds);
        self.reply(deeds.replies, out);
    }

    /// Returns the leases of a leader that may answer.
    fn leases_mut(&mut self, now: Instant) -> Option<(&mut Leases, At<'_>)> {
        let terms = self.rules.terms;
        let part = self.part.as_mut()?;
        let Role::Leader(leadership) = &mut part.role else {
            return None;
        };
        let leases = &mut leadership.leases;
        let table = &part.machine.table;
        leases.serves().then_some((leases, At { now, terms, table }))
    }

    /// Appends and sends what the leases want.
    pub(super) fn carry_out(&mut self, deeds: Deeds, out: &mut Output) {
        self.reply(deeds.replies, out);
        let changes: Vec<Command> = deeds.changes.into_iter().map(Command::Lock).collect();
        if !changes.is_empty() {
            self.propose_all(changes);
        }
    }

    fn reply(&self, replies: Vec<(Life, Answer)>, out: &mut Output) {
        let Some(group) = self.group() else { return };
        for (to, answer) in replies {
            self.answer_ask(group, to, answer, out);
        }
    }

    fn answer_ask(&self, group: Group, to: Life, answer: Answer, out: &mut Output) {
        if to == self.life {
            out.answers.push((group, answer));
        } else {
            self.send_to(group, to, Message::Answer(answer), out);
        }
    }

    /// An entry was applied at a leader: what it brought about is told by who appended it in this very term.
    pub(super) fn lock_effects(
        &mut self,
        now: Instant,
        index: Index,
        term: Term,
        effects: &[Effect],
        deeds: &mut Deeds,
    ) {
        let terms = self.rules.terms;
        let Some(part) = &mut self.part else { return };
        let Role::Leader(leadership) = &mut part.role else {
            return;
        };
        let term_start = leadership.term_start();
        let (leases, table) = (&mut leadership.leases, &part.machine.table);
        let cx = At { now, terms, table };
        leases.set_open(&cx, part.machine.open, deeds);
        if index == term_start {
            leases.serve(&cx);
        }
        if term == part.term {
            for effect in effects {
                leases.applied(&cx, effect, deeds);
            }
        }
    }
}
