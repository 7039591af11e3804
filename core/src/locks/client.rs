//! A client's side of locks: what it asks for, what it holds, and until when it believes so.
//!
//! A plain value with deadlines and without a clock. Whoever owns it tells it who leads.

mod answers;
mod endings;
mod questions;
#[cfg(test)]
mod tests;

use super::ask::{Ask, Wish};
use super::codec::MAX_LIST;
use super::key::Key;
use super::lease::MAX_OPEN;
use super::outcome::{LockError, LockEvent, LockId, LostReason};
use crate::consensus::{Group, Life};
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use endings::Endings;
use questions::Questions;

/// How long after an acquire, a release or a cancel it is sent again, at first and at most.
const ASK_AGAIN: Duration = Duration::from_millis(200);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(1);
/// How long a leader is asked without an answer before others are asked to pass that on.
const RELAY_AFTER: Duration = Duration::from_millis(400);
/// Requests that may be open.
pub(super) const MAX_WANTS: usize = 1024;

/// A lock that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Want {
    id: LockId,
    wish: Wish,
    /// When it was asked for first: no answer can echo an earlier stamp.
    since: Instant,
    /// When it is given up.
    deadline: Option<Instant>,
    /// Whether the leader knows that it waits.
    queued: bool,
    /// How often it was asked for under this number: never, once, or more.
    copies: u8,
    send_at: Instant,
    again: Duration,
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    id: LockId,
    key: Key,
    group: Group,
    /// Since when: no answer can echo an earlier stamp than the request's.
    since: Instant,
    /// What the holder wants, in milliseconds.
    ttl: u32,
    /// Belief ends here.
    until: Instant,
    renew_at: Instant,
    /// From then on no renewal was answered for two thirds of the lease, and whether that was told.
    risk_at: Instant,
    at_risk: bool,
    /// Whether the longer ttl is not known to be in the table.
    raising: bool,
    /// Whether it was granted by another group than the one that is asked to renew it, and has not yet.
    moved: bool,
}

/// What a client wants sent and told. Collected over one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOutput {
    /// To be sent to the leader of the group.
    pub asks: Vec<Ask>,
    /// To be told.
    pub events: Vec<LockEvent>,
}

/// The client of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Client {
    /// The next id and request: one counter for both.
    next: u64,
    drift_permille: u16,
    max_ttl: u32,
    /// Whether what it has goes along when another group takes over.
    moves: bool,
    /// By request.
    wants: BTreeMap<u64, Want>,
    /// By token.
    held: BTreeMap<u64, Held>,
    /// The token of each lock that is held.
    tokens: BTreeMap<LockId, u64>,
    /// Which held lock needs attention when.
    due: BTreeSet<(Instant, u64)>,
    releases: Endings,
    cancels: Endings,
    questions: Questions,
    /// The highest token that was given back because somebody took it, perhaps before this client heard of its grant.
    refused: Option<(Group, u64)>,
    leader: Option<(Group, Life)>,
    /// Since when the leader was asked and has not answered by itself.
    unheard: Option<Instant>,
    /// When something is due next.
    next_due: Option<Instant>,
}

impl Client {
    /// Goes by these settings: the longest lease in milliseconds, how far clocks may be off in thousandths, and whether
    /// what it has goes along when another group takes over, as without a quorum.
    pub const fn adopt(&mut self, max_ttl: u32, drift_permille: u16, moves: bool) {
        self.max_ttl = max_ttl;
        self.drift_permille = drift_permille;
        self.moves = moves;
    }

    /// The longest lease, in milliseconds.
    pub const fn max_ttl(&self) -> u32 {
        self.max_ttl
    }

    /// **SAFETY (holder's clock)** Returns until when a lease counts that was asked for by `stamp`: this clock may be
    /// as much too slow as the bound allows.
    fn until(&self, stamp: Instant, lease: u32) -> Instant {
        let drift = if planted(PlantedBug::HolderIgnoresDrift) {
            0
        } else {
            self.drift_permille
        };
        stamp + Duration::from_nanos(u64::from(lease) * 1000 * u64::from(1000 - drift))
    }

    /// All requests below are over, or in the queues that the group agreed on: who waits for long must not make the
    /// group remember all that came after.
    fn floor(&self) -> u64 {
        let mut open = self.wants.iter().filter(|(_, want)| !want.queued);
        let open = open.next().map(|(request, _)| request).into_iter();
        let all = open.copied().chain(self.cancels.first());
        all.min().unwrap_or(self.next + 1)
    }

    /// Asks for a lock, at most until `deadline`.
    pub fn acquire(
        &mut self,
        now: Instant,
        wish: Wish,
        deadline: Option<Instant>,
    ) -> Result<LockId, LockError> {
        if self.wants.len() >= MAX_WANTS {
            return Err(LockError::TooManyRequests);
        }
        if wish.units == 0 || wish.units > wish.capacity {
            let (units, capacity) = (wish.units, wish.capacity);
            return Err(LockError::Units { units, capacity });
        }
        self.check_ttl(wish.ttl)?;
        self.next += 1;
        let id = LockId(self.next);
        let want = Want {
            id,
            wish,
            since: now,
            deadline,
            queued: false,
            copies: 0,
            send_at: now,
            again: ASK_AGAIN,
        };
        self.wants.insert(self.next, want);
        self.rearm();
        Ok(id)
    }

    const fn check_ttl(&self, ttl: u32) -> Result<(), LockError> {
        if ttl < super::lease::MIN_TTL || ttl > self.max_ttl {
            return Err(LockError::Ttl {
                ttl_ms: ttl as u128,
                max_ms: self.max_ttl,
            });
        }
        Ok(())
    }

    /// Gives a lock back, or gives up waiting for it.
    ///
    /// **SAFETY (belief ends first)** The belief is over before the first release leaves.
    pub fn release(&mut self, now: Instant, id: LockId, out: &mut ClientOutput) -> Result<(), LockError> {
        if let Some(token) = self.token_of(id) {
            if planted(PlantedBug::BeliefOutlivesRelease) {
                self.let_go(now, token, None);
                return Ok(());
            }
            let held = self.stop(token);
            let until = held.as_ref().map_or(now, |held| held.until);
            self.let_go(now, token, held.map(|held| held.key));
            // After a pause the end of the lease may not have been noticed: it was lost before it was given back.
            let reason = LostReason::Expired;
            out.events.push(match until <= now {
                true => LockEvent::Lost { id, token, reason },
                false => LockEvent::Released { id },
            });
            self.rearm();
            return Ok(());
        }
        if self.questions.give_up(id, out) {
            self.rearm();
            return Ok(());
        }
        let request = self.request_of(id).ok_or(LockError::UnknownId)?;
        self.give_up(now, request);
        let error = LockError::Cancelled;
        out.events.push(LockEvent::Failed { id, error });
        self.rearm();
        Ok(())
    }

    /// Wants a lease of another length from here on. A longer one is asked of the leader; a shorter one is believed
    /// in at once. Returns until when the lock is believed in now.
    pub fn set_ttl(&mut self, now: Instant, id: LockId, ttl: u32) -> Result<Instant, LockError> {
        self.check_ttl(ttl)?;
        let token = self.token_of(id).ok_or(LockError::UnknownId)?;
        let less = self.until(now, ttl);
        let mut until = less;
        self.change(token, |held| {
            held.raising |= ttl > held.ttl;
            if ttl < held.ttl {
                held.until = held.until.min(less);
                held.risk_at = held.risk_at.min(answers::two_thirds_after(now, ttl));
            }
            (held.ttl, held.renew_at) = (ttl, now);
            until = held.until;
        });
        self.rearm();
        Ok(until)
    }

    fn token_of(&self, id: LockId) -> Option<u64> {
        self.tokens.get(&id).copied()
    }

    fn request_of(&self, id: LockId) -> Option<u64> {
        // Most are still asked for under their first number.
        if self.wants.get(&id.0).is_some_and(|want| want.id == id) {
            return Some(id.0);
        }
        let mut wants = self.wants.iter();
        wants.find(|(_, want)| want.id == id).map(|(&request, _)| request)
    }

    /// Forgets a lock: nobody here believes in it from now on.
    fn stop(&mut self, token: u64) -> Option<Held> {
        let held = self.held.remove(&token)?;
        self.tokens.remove(&held.id);
        self.due.remove(&(held.attention(), token));
        Some(held)
    }

    fn let_go(&mut self, now: Instant, token: u64, key: Option<Key>) {
        let key = key.or_else(|| self.releases.key(token).cloned());
        self.releases.insert(now, token, key);
    }

    /// Returns the lock that was asked for, also if it was given up.
    fn key_of(&self, request: u64) -> Option<Key> {
        let want = self.wants.get(&request).map(|want| &want.wish.key);
        want.or_else(|| self.cancels.key(request)).cloned()
    }

    fn give_up(&mut self, now: Instant, request: u64) {
        let Some(want) = self.wants.remove(&request) else {
            return;
        };
        // Of what was never sent nobody can have heard.
        if want.copies > 0 {
            self.cancels.insert(now, request, Some(want.wish.key));
        }
    }

    /// Asks again for what is not granted, under new numbers: those that were used belong to a life or a group that
    /// has ended.
    fn ask_anew(&mut self, now: Instant, requests: &[u64]) {
        for request in requests {
            if let Some(mut want) = self.wants.remove(request) {
                self.next += 1;
                (want.since, want.send_at, want.queued) = (now, now, false);
                (want.again, want.copies) = (ASK_AGAIN, 0);
                self.wants.insert(self.next, want);
            }
        }
    }

    /// **SAFETY (abandon)** The life ends, and all that it believes in first. What it waits for, the next life asks
    /// for.
    pub fn end_life(&mut self, now: Instant, reason: LostReason, out: &mut ClientOutput) {
        let kept = planted(PlantedBug::AbandonKeepsBeliefs);
        for token in self.all_held().into_iter().filter(|_| !kept) {
            if let Some(held) = self.stop(token) {
                let id = held.id;
                out.events.push(LockEvent::Lost { id, token, reason });
            }
        }
        self.releases.clear();
        self.cancels.clear();
        let requests: Vec<u64> = self.wants.keys().copied().collect();
        self.ask_anew(now, &requests);
        self.rearm();
    }

    /// The node leaves: it believes in nothing any more, and waits for nothing.
    pub fn leave(&mut self, now: Instant, out: &mut ClientOutput) {
        let kept = planted(PlantedBug::BeliefOutlivesLeave);
        for token in self.all_held().into_iter().filter(|_| !kept) {
            if let Some(held) = self.stop(token) {
                let (id, reason) = (held.id, LostReason::Leaving);
                out.events.push(LockEvent::Lost { id, token, reason });
                self.let_go(now, token, Some(held.key));
            }
        }
        self.want_nothing(now, LockError::Leaving, out);
        self.questions.end(LockError::Leaving, out);
        self.rearm();
    }

    /// The cluster takes nothing from this node any more: it was started anew with other settings. What this one had is
    /// over, and nobody has to hear of that.
    pub fn bar(&mut self, now: Instant, out: &mut ClientOutput) {
        self.end_life(now, LostReason::Abandoned, out);
        self.want_nothing(now, LockError::Observer, out);
        self.questions.bar(LockError::Observer, out);
        self.rearm();
    }

    fn want_nothing(&mut self, now: Instant, error: LockError, out: &mut ClientOutput) {
        let requests: Vec<(u64, LockId)> = self
            .wants
            .iter()
            .map(|(&request, want)| (request, want.id))
            .collect();
        for (request, id) in requests {
            self.give_up(now, request);
            out.events.push(LockEvent::Failed { id, error });
        }
    }

    fn all_held(&self) -> Vec<u64> {
        self.held.keys().copied().collect()
    }

    /// Somebody leads from here on, or nobody that is known.
    pub fn set_leader(&mut self, now: Instant, leader: Option<(Group, Life)>) {
        if self.leader == leader {
            return;
        }
        self.leader = leader;
        self.unheard = None;
        if let Some((group, _)) = leader.filter(|_| self.moves) {
            self.move_to(now, group);
        }
        // The new one has heard of nobody who waits. Those who wait tell it soon, but not all at the same time.
        for (request, want) in &mut self.wants {
            want.send_at = want.send_at.min(now + Duration::from_millis(request % 16));
            want.again = ASK_AGAIN;
        }
        self.releases.tell_anew(now);
        self.cancels.tell_anew(now);
        self.questions.ask_again(now);
        let overdue: Vec<u64> = self
            .held
            .iter()
            .filter(|(_, held)| held.renew_at <= now + held.retry())
            .map(|(&token, _)| token)
            .collect();
        for token in overdue {
            self.change(token, |held| held.renew_at = now);
        }
        self.rearm();
    }

    /// Asks another group for what an earlier one granted. What that one does not know of is lost.
    fn move_to(&mut self, now: Instant, group: Group) {
        let others = self.held.iter().filter(|(_, held)| held.group != group);
        let others: Vec<u64> = others.map(|(&token, _)| token).collect();
        for token in others {
            self.change(token, |held| {
                (held.group, held.moved, held.renew_at) = (group, true, now);
            });
        }
    }

    /// Changes a lock that is held, and when it needs attention.
    fn change(&mut self, token: u64, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.held.get_mut(&token) else {
            return;
        };
        self.due.remove(&(held.attention(), token));
        change(held);
        let at = held.attention();
        self.due.insert((at, token));
    }

    /// Somebody answered by itself, and not through somebody else.
    pub(crate) fn heard_from(&mut self, life: Life) {
        if self.leader.is_some_and(|(_, leader)| leader == life) {
            self.unheard = None;
        }
    }

    /// Returns whether the leader does not answer, though others may reach it.
    pub(crate) fn needs_relay(&self, now: Instant) -> bool {
        self.unheard.is_some_and(|since| now - since >= RELAY_AFTER)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut ClientOutput) {
        self.end_what_is_over(now, out);
        let late: Vec<u64> = self
            .wants
            .iter()
            .filter(|(_, want)| want.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(&request, _)| request)
            .collect();
        for request in late {
            if let Some(id) = self.wants.get(&request).map(|want| want.id) {
                self.give_up(now, request);
                let error = LockError::Timeout;
                out.events.push(LockEvent::Failed { id, error });
            }
        }
        self.renew(now, out);
        // First what is given back: it may be what is asked for next.
        self.tell_what_is_asked_for_again(now);
        self.tell_endings(now, out);
        self.ask_for_wants(now, out);
        self.questions.ask(now, out);
        if !out.asks.is_empty() {
            self.unheard = self.unheard.or(Some(now));
        }
        self.rearm();
    }

    /// **SAFETY (expiry)** Beliefs end on time, whatever else there is to do.
    fn end_what_is_over(&mut self, now: Instant, out: &mut ClientOutput) {
        let due = self.due.iter().take_while(|&&(at, _)| at <= now);
        let due: Vec<u64> = due.map(|&(_, token)| token).collect();
        for token in due {
            let Some(held) = self.held.get(&token) else {
                continue;
            };
            let (id, until) = (held.id, held.until);
            if until <= now {
                let key = self.stop(token).map(|held| held.key);
                let reason = LostReason::Expired;
                out.events.push(LockEvent::Lost { id, token, reason });
                self.let_go(now, token, key);
            } else if held.risk_at <= now && !held.at_risk {
                self.change(token, |held| held.at_risk = true);
                out.events.push(LockEvent::AtRisk { id, until });
            }
        }
    }

    /// Renews what is due, and what will be soon along with it.
    fn renew(&mut self, now: Instant, out: &mut ClientOutput) {
        let mut due = self.due.iter().take_while(|&&(at, _)| at <= now);
        if !due.any(|(_, token)| self.held.get(token).is_some_and(|held| held.renew_at <= now)) {
            return;
        }
        let soon: Vec<u64> = self
            .held
            .iter()
            .filter(|(_, held)| held.renew_at <= now + held.retry())
            .map(|(&token, _)| token)
            .collect();
        let stamp = now.as_nanos();
        let mut tokens = Vec::new();
        for token in soon {
            self.change(token, |held| held.renew_at = now + held.retry());
            match self.held.get(&token) {
                Some(held) if held.raising => out.asks.push(Ask::Raise {
                    stamp,
                    token,
                    ttl: held.ttl,
                }),
                _ => tokens.push(token),
            }
        }
        for tokens in tokens.chunks(MAX_LIST) {
            let tokens = tokens.to_vec();
            out.asks.push(Ask::Renew { stamp, tokens });
        }
    }

    fn ask_for_wants(&mut self, now: Instant, out: &mut ClientOutput) {
        let (stamp, floor) = (now.as_nanos(), self.floor());
        let due = |want: &Want| want.send_at <= now;
        if self.leader.is_none() || !self.wants.values().any(due) {
            let later = now + ASK_AGAIN;
            for want in self.wants.values_mut().filter(|want| want.send_at <= now) {
                want.send_at = later;
            }
            return;
        }
        let mut waiting = Vec::new();
        for (&request, want) in &mut self.wants {
            if want.queued && want.send_at <= now + Duration::from_millis(100) {
                want.send_at = now + keepalive(want.wish.ttl);
                waiting.push(request);
            } else if want.send_at <= now && request >= floor.saturating_add(MAX_OPEN) {
                // Too far above what is not over: the leader would refuse it. It has to hear first that more is.
                want.send_at = now + ASK_AGAIN;
            } else if want.send_at <= now {
                want.send_at = now + want.again;
                want.again = (want.again * 2).min(ASK_AGAIN_AT_MOST);
                want.copies = (want.copies + 1).min(2);
                if planted(PlantedBug::LeaseCountsFromLatest) {
                    want.since = now;
                }
                out.asks.push(Ask::Acquire {
                    stamp,
                    request,
                    floor,
                    wish: want.wish.clone(),
                });
            }
        }
        for requests in waiting.chunks(MAX_LIST) {
            let requests = requests.to_vec();
            out.asks.push(Ask::Wait { stamp, requests });
        }
    }

    /// What is asked for may have been given back by this client, in words that are lost or late. Those go first now, so
    /// that it is not refused because of itself. Over a network that changes the order, or over several other members,
    /// the request may overtake them still: then one that does not wait is refused, and one that waits has its turn when
    /// they arrive.
    fn tell_what_is_asked_for_again(&mut self, now: Instant) {
        if self.leader.is_none() {
            return;
        }
        let due = |want: &&Want| !want.queued && want.send_at <= now;
        let keys: BTreeSet<&Key> = self
            .wants
            .values()
            .filter(due)
            .map(|want| &want.wish.key)
            .collect();
        for key in keys {
            self.releases.tell_of(now, key);
        }
    }

    fn tell_endings(&mut self, now: Instant, out: &mut ClientOutput) {
        let floor = self.floor();
        for tokens in self.releases.take_due(now).chunks(MAX_LIST) {
            let tokens = tokens.to_vec();
            out.asks.push(Ask::Release { tokens });
        }
        for request in self.cancels.take_due(now) {
            out.asks.push(Ask::Cancel { request, floor });
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has something to do.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next_due
    }

    fn rearm(&mut self) {
        let wants = self.wants.values();
        let wants = wants.map(|want| want.deadline.map_or(want.send_at, |by| by.min(want.send_at)));
        let held = self.due.first().map(|&(at, _)| at);
        let times = held.into_iter().chain(wants).chain(self.questions.due());
        let times = times.chain(self.releases.next()).chain(self.cancels.next());
        self.next_due = times.min();
    }

    /// Returns what this node believes to hold: id, lock, token, and until when.
    pub fn held(&self) -> impl Iterator<Item = (LockId, &Key, u64, Instant)> {
        self.held
            .iter()
            .map(|(&token, held)| (held.id, &held.key, token, held.until))
    }

    /// Returns how many requests are open.
    pub fn wanted(&self) -> usize {
        self.wants.len()
    }
}

impl Held {
    /// When it needs attention next.
    fn attention(&self) -> Instant {
        let next = self.renew_at.min(self.until);
        if self.at_risk {
            next
        } else {
            next.min(self.risk_at)
        }
    }

    fn third_after(&self, stamp: Instant) -> Instant {
        stamp + Duration::from_millis(u64::from(self.ttl / 3))
    }

    /// How long after a renewal that was not answered the next one is sent. The first one for a longer ttl is answered by
    /// none, and only the present, shorter lease is there to wait for the next.
    fn retry(&self) -> Duration {
        let ttl = if self.raising { 0 } else { self.ttl };
        Duration::from_millis(u64::from(ttl / 12).clamp(80, 1000))
    }
}

/// How often who waits says that it still does.
fn keepalive(ttl: u32) -> Duration {
    Duration::from_millis(u64::from(ttl / 4).min(1000))
}
