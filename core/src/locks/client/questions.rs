//! What a client asks that changes nothing of what it holds or wants: lists, locks to be taken away, watches.

use super::{ASK_AGAIN, ASK_AGAIN_AT_MOST, Client, ClientOutput, MAX_WANTS};
use crate::locks::ask::{Answer, Ask};
use crate::locks::key::Key;
use crate::locks::list::{LockCursor, LockFilter};
use crate::locks::outcome::{LockError, LockEvent, LockId};
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;

/// A question that is open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    ask: Ask,
    /// When it is given up; a watch never is.
    deadline: Option<Instant>,
    send_at: Instant,
    again: Duration,
    /// Of a watch: what was told last.
    seen: Option<u64>,
}

/// The open questions, by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Questions(BTreeMap<u64, Question>);

impl Questions {
    /// Somebody else leads, and knows of nothing.
    pub(super) fn ask_again(&mut self, now: Instant) {
        for question in self.0.values_mut() {
            question.send_at = question.send_at.min(now);
        }
    }

    /// Sends what is due. What was not answered in time fails.
    pub(super) fn ask(&mut self, now: Instant, out: &mut ClientOutput) {
        self.0.retain(|&request, question| {
            let late = question.deadline.is_some_and(|deadline| deadline <= now);
            if late {
                let (id, error) = (LockId(request), LockError::Timeout);
                out.events.push(LockEvent::Failed { id, error });
            }
            !late
        });
        for question in self.0.values_mut().filter(|question| question.send_at <= now) {
            question.send_at = now + question.again;
            question.again = (question.again * 2).min(ASK_AGAIN_AT_MOST);
            out.asks.push(question.ask.clone());
        }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let times = self.0.values().map(|question| {
            let deadline = question.deadline.unwrap_or(question.send_at);
            question.send_at.min(deadline)
        });
        times.min()
    }

    /// The node leaves: all fail. A watch just ends.
    pub(super) fn end(&mut self, error: LockError, out: &mut ClientOutput) {
        for (request, question) in core::mem::take(&mut self.0) {
            if question.deadline.is_some() {
                let id = LockId(request);
                out.events.push(LockEvent::Failed { id, error });
            }
        }
    }

    /// Nothing is taken from this node any more: all fail. Who watches is told to look, hears why, and hears of changes
    /// again should that be over.
    pub(super) fn bar(&mut self, error: LockError, out: &mut ClientOutput) {
        self.0.retain(|&request, question| {
            let (id, watches) = (LockId(request), question.deadline.is_none());
            question.seen = None;
            out.events.push(match watches {
                true => LockEvent::Changed { id },
                false => LockEvent::Failed { id, error },
            });
            watches
        });
    }

    /// Gives a question up. Returns whether there was one. A watch just ends.
    pub(super) fn give_up(&mut self, id: LockId, out: &mut ClientOutput) -> bool {
        let question = self.0.remove(&id.0);
        if question
            .as_ref()
            .is_some_and(|question| question.deadline.is_some())
        {
            let error = LockError::Cancelled;
            out.events.push(LockEvent::Failed { id, error });
        }
        question.is_some()
    }
}

impl Client {
    /// Asks for a page of locks, at most until `deadline`.
    pub fn list(
        &mut self,
        now: Instant,
        filter: LockFilter,
        after: Option<LockCursor>,
        deadline: Instant,
    ) -> Result<LockId, LockError> {
        self.question(now, Some(deadline), |request| Ask::List {
            request,
            filter,
            after,
        })
    }

    /// Takes a lock from whoever holds this token.
    pub fn revoke(
        &mut self,
        now: Instant,
        token: u64,
        at_once: bool,
        deadline: Instant,
    ) -> Result<LockId, LockError> {
        self.question(now, Some(deadline), |request| Ask::Revoke {
            request,
            token,
            at_once,
        })
    }

    /// Tells from here on when a lock changes, until [`release`](Self::release).
    pub fn watch(&mut self, now: Instant, key: Key) -> Result<LockId, LockError> {
        self.question(now, None, |request| Ask::Watch { request, key })
    }

    fn question(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
        ask: impl FnOnce(u64) -> Ask,
    ) -> Result<LockId, LockError> {
        // Watches last, and must not be in the way of what is asked once.
        let open = self.questions.0.values();
        let same = open.filter(|question| question.deadline.is_some() == deadline.is_some());
        if same.count() >= MAX_WANTS {
            return Err(LockError::TooManyRequests);
        }
        self.next += 1;
        let question = Question {
            ask: ask(self.next),
            deadline,
            send_at: now,
            again: ASK_AGAIN,
            seen: None,
        };
        self.questions.0.insert(self.next, question);
        self.rearm();
        Ok(LockId(self.next))
    }

    /// Takes the answer to a question, if it is one to a question that is open.
    pub(super) fn told(&mut self, now: Instant, answer: &Answer, out: &mut ClientOutput) {
        let open = &mut self.questions.0;
        match *answer {
            Answer::Revoked { request, held: taken } => {
                let asked = |question: &Question| matches!(question.ask, Ask::Revoke { .. });
                if open.get(&request).is_some_and(asked) {
                    open.remove(&request);
                    let id = LockId(request);
                    out.events.push(LockEvent::Taken { id, taken });
                }
            }
            Answer::Page { request, ref page } => {
                let asked = |question: &Question| matches!(question.ask, Ask::List { .. });
                if open.get(&request).is_some_and(asked) {
                    open.remove(&request);
                    let (id, page) = (LockId(request), page.clone());
                    out.events.push(LockEvent::Listed { id, page });
                }
            }
            Answer::Watched { request, version } => {
                let watches = |question: &&mut Question| matches!(question.ask, Ask::Watch { .. });
                let Some(watch) = open.get_mut(&request).filter(watches) else {
                    return;
                };
                // Asked again: the leader forgets who is silent, and a word of it may be lost.
                watch.send_at = now + ASK_AGAIN_AT_MOST;
                watch.again = ASK_AGAIN;
                if watch.seen.replace(version) != Some(version) {
                    let id = LockId(request);
                    out.events.push(LockEvent::Changed { id });
                }
            }
            _ => {}
        }
    }
}
