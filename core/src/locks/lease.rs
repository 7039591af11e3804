//! The leader's side of leases: until when each holder may believe, who of those who wait is there, and what may be
//! answered. Nothing of it is replicated; a new leader begins anew.

mod asking;
mod granting;
#[cfg(test)]
mod tests;
mod watches;

use super::ask::{Answer, Wish};
use super::change::Change;
use super::list::{LockCursor, LockFilter, page};
use super::table::{Holder, Table};
use crate::consensus::Life;
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use watches::Watches;

/// What the leader goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Terms {
    /// The longest lease, in milliseconds.
    pub max_ttl: u32,
    /// How far a clock may be off, in thousandths.
    pub drift_permille: u16,
    /// How long a waiter may be silent, in milliseconds.
    pub waiter_ttl: u32,
    /// How many may wait for one lock.
    pub max_waiters: u32,
    /// How many locks there may be.
    pub max_locks: u32,
    /// How large the table may be, as [`Table::bytes`] counts.
    pub max_bytes: u32,
}

/// The shortest lease, in milliseconds.
pub(super) const MIN_TTL: u32 = 1000;
/// Requests that a client may have open: how far above its floor a request may be.
pub(super) const MAX_OPEN: u64 = 4096;
/// Answers that may wait for a round. Who gets none asks again.
const MAX_PENDING: usize = 4096;
/// How long until a holder is told again that its lock was taken.
const TELL_AGAIN: Duration = Duration::from_millis(250);

impl Default for Terms {
    /// What a cluster goes by that sets nothing else.
    fn default() -> Self {
        Self {
            max_ttl: 30_000,
            drift_permille: 10,
            waiter_ttl: 3000,
            max_waiters: 100,
            max_locks: 20_000,
            max_bytes: 4 << 20,
        }
    }
}

impl Terms {
    /// **SAFETY (leader's clock)** Returns until when a holder counts on a lease of which the leader received the
    /// stamp at `at`, at the latest: this clock may be as much too fast as the bound allows.
    fn deadline(self, at: Instant, lease: u32) -> Instant {
        let nanos = u64::from(lease) * 1_000_000;
        if planted(PlantedBug::DriftIgnored) {
            return at + Duration::from_nanos(nanos);
        }
        at + Duration::from_nanos(nanos + (nanos / 1000 + 1) * u64::from(self.drift_permille))
    }

    /// **SAFETY (first lease)** Returns how long a lease is that was granted from the queue, until it is renewed: who
    /// waits may be gone for as long as it may be silent.
    fn first_lease(self, holder_ttl: u32, queued: bool) -> u32 {
        if queued && !planted(PlantedBug::WholeLeaseFromTheQueue) {
            holder_ttl.min(self.waiter_ttl)
        } else {
            holder_ttl
        }
    }
}

/// When the leader is asked, and what is agreed on by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) now: Instant,
    pub(crate) terms: Terms,
    pub(crate) table: &'a Table,
}

impl<'a> At<'a> {
    fn holder(&self, token: u64) -> Option<&'a Holder> {
        self.table.holder(token).map(|(_, holder)| holder)
    }
}

/// What a leader heard of a client, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Heard {
    /// When the client sent it, by its own clock.
    stamp: u64,
    /// When it was received.
    at: Instant,
}

/// Who waits, as far as the leader has heard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    /// The newest sign of it in this term.
    heard: Option<Heard>,
    /// Silent from then on it is dropped.
    until: Instant,
    /// The sign that a `Grant` counts from that was appended and is not applied.
    granting: Option<Heard>,
    /// Whether its end was appended.
    ending: bool,
}

/// An answer that waits for a quorum round.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    /// The round that has to be complete.
    round: u64,
    to: Life,
    question: Question,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    /// To go on holding.
    Renew {
        stamp: u64,
        /// The leases that were extended when the stamp was received, in milliseconds; what is not held any more is told.
        leases: Vec<(u64, u32)>,
        /// For which request, if an acquire found its grant.
        request: Option<u64>,
    },
    /// To see who holds and waits.
    List {
        request: u64,
        at: Instant,
        filter: LockFilter,
        after: Option<LockCursor>,
    },
    /// Whether a lock was taken from its holder.
    Revoke { request: u64, token: u64 },
}

/// What to tell whom.
pub type Reply = (Life, Answer);

/// What the leader wants done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    /// To be appended, in order.
    pub(crate) changes: Vec<Change>,
    /// To be sent.
    pub(crate) replies: Vec<Reply>,
}

/// A leader's leases.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Leases {
    /// **SAFETY (own term)** Whether an entry of the leader's own term is applied. Nothing is answered before.
    serving: bool,
    /// Until when the holder of each token counts on it, at the latest.
    deadlines: BTreeMap<u64, Instant>,
    due: BTreeSet<(Instant, u64)>,
    /// **SAFETY (ended)** Tokens whose end was appended: never answered for again, though they are in the table still.
    ended: BTreeSet<u64>,
    /// Acquires that were appended and are not applied: what their leases count from, and what is wished for.
    asked: BTreeMap<(Life, u64), (Heard, Arc<Wish>)>,
    waiting: BTreeMap<(Life, u64), Waiting>,
    /// Who waits, by when it counts as silent.
    silent: BTreeSet<(Instant, (Life, u64))>,
    pending: VecDeque<Pending>,
    /// Tokens that were taken from holders who have not stopped, and when they are told again.
    revoked: BTreeMap<u64, Instant>,
    /// Who is to hear that a token was taken, once that is applied, and whether at once.
    revoking: BTreeMap<u64, BTreeSet<(Life, u64, bool)>>,
    watches: Watches,
    /// Whether the group grants, as far as entries are applied.
    open: bool,
}

impl Leases {
    /// An entry of the leader's own term is applied.
    ///
    /// **SAFETY (new leader)** It does not know when its predecessor last extended a lease: each lasts for the whole
    /// ttl in the table from now on, also one that was granted from the queue and never renewed.
    pub(crate) fn serve(&mut self, cx: &At<'_>) {
        *self = Self {
            serving: true,
            open: self.open,
            ..Self::default()
        };
        for token in cx.table.tokens() {
            if let Some(holder) = cx.holder(token) {
                let whole = !planted(PlantedBug::NewLeaderCutsLeases);
                let lease = cx.terms.first_lease(holder.ttl, !whole);
                self.extend(token, cx.terms.deadline(cx.now, lease));
                if holder.revoked {
                    self.revoked.insert(token, cx.now);
                }
            }
        }
        for (_, waiter) in cx.table.waiters() {
            self.wait(cx, waiter.owner, waiter.request, None);
        }
    }

    /// Returns whether the leader may answer.
    pub const fn serves(&self) -> bool {
        self.serving
    }

    /// Returns until when the holder of a token may believe in it, on the leader's clock.
    pub fn deadline(&self, token: u64) -> Option<Instant> {
        self.deadlines.get(&token).copied()
    }

    /// **SAFETY (never earlier)** Moves a deadline, but never to an earlier instant.
    fn extend(&mut self, token: u64, until: Instant) {
        let before = self.deadlines.get(&token).copied();
        if before.is_some_and(|before| before >= until) && !planted(PlantedBug::DeadlineMovesBack) {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, token));
        }
        self.deadlines.insert(token, until);
        self.due.insert((until, token));
    }

    fn forget(&mut self, token: u64) {
        if let Some(until) = self.deadlines.remove(&token) {
            self.due.remove(&(until, token));
        }
        self.ended.remove(&token);
        self.revoked.remove(&token);
        self.revoking.remove(&token);
    }

    fn has_ended(&self, token: u64) -> bool {
        self.ended.contains(&token) && !planted(PlantedBug::AnswersAfterTheEnd)
    }

    /// Whether a life holds a token, and may go on holding it.
    fn may_hold(&self, cx: &At<'_>, owner: Life, token: u64) -> bool {
        let taken = |holder: &Holder| holder.revoked && !planted(PlantedBug::RevokedLeasesGoOn);
        let holds = |holder: &Holder| holder.owner == owner && !taken(holder);
        cx.holder(token).is_some_and(holds) && !self.has_ended(token)
    }

    fn wait(&mut self, cx: &At<'_>, owner: Life, request: u64, heard: Option<Heard>) {
        let until = cx.terms.deadline(cx.now, cx.terms.waiter_ttl);
        let waiting = self.waiting.entry((owner, request)).or_insert(Waiting {
            heard: None,
            until,
            granting: None,
            ending: false,
        });
        if heard.is_some() {
            self.silent.remove(&(waiting.until, (owner, request)));
            waiting.heard = waiting.heard.max(heard);
            waiting.until = until;
        }
        self.silent.insert((waiting.until, (owner, request)));
    }

    /// Forgets who waits no longer.
    fn end_waiting(&mut self, owner: Life, request: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&(owner, request))?;
        self.silent.remove(&(waiting.until, (owner, request)));
        Some(waiting)
    }

    /// Answers after the next round that begins.
    fn answer_after(&mut self, round: u64, to: Life, question: Question, deeds: &mut Deeds) {
        if planted(PlantedBug::RenewalsWithoutRound)
            && let Question::Renew {
                stamp,
                leases,
                request,
            } = question
        {
            let answer = |(token, lease)| match request {
                Some(request) => Answer::Granted {
                    request,
                    token,
                    stamp,
                    lease,
                },
                None => Answer::Renewed {
                    stamp,
                    leases: [(token, lease)].into(),
                },
            };
            let leases = leases.into_iter().filter(|&(_, lease)| lease > 0);
            return deeds.replies.extend(leases.map(|lease| (to, answer(lease))));
        }
        if self.pending.len() < MAX_PENDING {
            self.pending.push_back(Pending {
                round: round + 1,
                to,
                question,
            });
        }
    }

    /// Returns the round that the oldest answer waits for.
    pub(crate) fn wanted_round(&self) -> Option<u64> {
        self.pending.front().map(|pending| pending.round)
    }

    /// **SAFETY (rounds)** Answers what waited for this round: a quorum followed this leader after it was asked.
    pub(crate) fn round_completed(&mut self, cx: &At<'_>, round: u64, deeds: &mut Deeds) {
        while self.wanted_round().is_some_and(|wanted| wanted <= round)
            && let Some(pending) = self.pending.pop_front()
        {
            self.answer(cx, pending, deeds);
        }
    }

    fn answer(&self, cx: &At<'_>, pending: Pending, deeds: &mut Deeds) {
        let to = pending.to;
        match pending.question {
            Question::Renew {
                stamp,
                leases,
                request,
            } => self.answer_renewal(cx, to, stamp, leases, request, deeds),
            Question::List {
                request,
                at,
                filter,
                after,
            } => {
                let deadline = |token| self.deadline(token);
                let page = page(cx.table, &filter, after.as_ref(), at, deadline);
                deeds.replies.push((to, Answer::Page { request, page }));
            }
            Question::Revoke { request, token } => {
                let revoked = cx.holder(token).is_some_and(|holder| holder.revoked);
                let held = revoked || cx.table.records().any(|record| record.token == token);
                deeds.replies.push((to, Answer::Revoked { request, held }));
            }
        }
    }

    fn answer_renewal(
        &self,
        cx: &At<'_>,
        to: Life,
        stamp: u64,
        asked: Vec<(u64, u32)>,
        request: Option<u64>,
        deeds: &mut Deeds,
    ) {
        let (mut leases, mut gone, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
        for (token, lease) in asked {
            let taken = |holder: &Holder| holder.owner == to && holder.revoked;
            if lease > 0 && self.may_hold(cx, to, token) {
                leases.push((token, lease));
            } else if cx.holder(token).is_some_and(taken) {
                revoked.push(token);
            } else {
                gone.push(token);
            }
        }
        for (tokens, revoked) in [(gone, false), (revoked, true)] {
            if !tokens.is_empty() {
                deeds.replies.push((to, Answer::Gone { tokens, revoked }));
            }
        }
        let Some(request) = request else {
            if !leases.is_empty() {
                deeds.replies.push((to, Answer::Renewed { stamp, leases }));
            }
            return;
        };
        for (token, lease) in leases {
            let answer = Answer::Granted {
                request,
                token,
                stamp,
                lease,
            };
            deeds.replies.push((to, answer));
        }
    }

    /// Does what is due: leases end, and those who are silent wait no longer.
    pub(crate) fn handle_timeout(&mut self, cx: &At<'_>, deeds: &mut Deeds) {
        if !self.serving {
            return;
        }
        while let Some(&(until, token)) = self.due.first()
            && until <= cx.now
        {
            self.due.pop_first();
            if planted(PlantedBug::ExpiryPutOffForEver) {
                self.extend(token, cx.now + TELL_AGAIN);
                continue;
            }
            // Appended also where another end was: that one may have come to nothing.
            self.ended.insert(token);
            deeds.changes.push(Change::Expire { token });
            self.grant_next_of(cx, token, deeds);
        }
        while let Some(&(until, (owner, request))) = self.silent.first()
            && until <= cx.now
        {
            self.silent.pop_first();
            if let Some(waiting) = self.waiting.get_mut(&(owner, request))
                && waiting.granting.is_none()
                && !waiting.ending
                && !planted(PlantedBug::SilentWaitersStay)
            {
                waiting.ending = true;
                deeds.changes.push(Change::DropWaiter { owner, request });
            }
        }
        let due: Vec<u64> = self
            .revoked
            .iter()
            .filter(|&(_, &at)| at <= cx.now)
            .map(|(&token, _)| token)
            .collect();
        for token in due {
            match cx.holder(token) {
                Some(holder) => self.tell_revoked(cx.now, holder.owner, token, deeds),
                None => drop(self.revoked.remove(&token)),
            }
        }
    }

    fn tell_revoked(&mut self, now: Instant, owner: Life, token: u64, deeds: &mut Deeds) {
        self.revoked.insert(token, now + TELL_AGAIN);
        let tokens = [token].into();
        let answer = Answer::Gone {
            tokens,
            revoked: true,
        };
        deeds.replies.push((owner, answer));
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let times = self.due.first().map(|&(at, _)| at).into_iter();
        let times = times
            .chain(self.silent.first().map(|&(at, _)| at))
            .chain(self.revoked.values().copied());
        times.min()
    }
}
