//! What clients ask.

use super::{At, Deeds, Heard, Leases, MAX_OPEN, MIN_TTL, Question};
use crate::consensus::Life;
use crate::locks::ask::{Answer, Ask, Denial, Wish};
use crate::locks::change::Change;
use crate::locks::key::MAX_METADATA_BYTES;
use crate::locks::table::{Holder, Lock, MAX_COST, Table, cost};
use crate::planted::{PlantedBug, planted};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Leases {
    /// Returns whether a request was asked before.
    pub(crate) fn knows(&self, table: &Table, from: Life, request: u64) -> bool {
        self.asked.contains_key(&(from, request))
            || table.granted(from, request).is_some()
            || table.waits_for(from, request).is_some()
            || table.is_over(from, request)
    }

    /// Takes what a client asks. `round` is the newest round that was begun.
    pub(crate) fn ask(&mut self, cx: &At<'_>, from: Life, ask: &Ask, round: u64, deeds: &mut Deeds) {
        let heard = |stamp| Heard { stamp, at: cx.now };
        match *ask {
            Ask::Acquire {
                stamp,
                request,
                floor,
                ref wish,
            } => {
                if !self.again(cx, from, request, heard(stamp), round, deeds) && request >= floor {
                    self.acquire(cx, from, request, floor, wish, heard(stamp), deeds);
                }
            }
            Ask::Wait { stamp, ref requests } => {
                let mut unknown = Vec::new();
                for &request in requests {
                    if !self.again(cx, from, request, heard(stamp), round, deeds) {
                        unknown.push(request);
                    }
                }
                if !unknown.is_empty() {
                    deeds.replies.push((from, Answer::Unknown { requests: unknown }));
                }
            }
            Ask::Renew { stamp, ref tokens } => {
                let mut leases = Vec::with_capacity(tokens.len());
                for &token in tokens {
                    leases.push((token, self.renew(cx, from, token, heard(stamp))));
                }
                self.renewed(from, stamp, leases, None, round, deeds);
            }
            Ask::Raise { stamp, token, ttl } => {
                let lease = self.renew(cx, from, token, heard(stamp));
                let agreed = ttl <= lease || lease == 0 || ttl > cx.terms.max_ttl;
                if !agreed {
                    let owner = from;
                    deeds.changes.push(Change::Raise { owner, token, ttl });
                }
                // SAFETY (raise): what is not committed yet is not promised.
                if planted(PlantedBug::RaisePromisedEarly) {
                    self.renewed(from, stamp, [(token, ttl)].into(), None, round, deeds);
                } else if agreed {
                    self.renewed(from, stamp, [(token, lease)].into(), None, round, deeds);
                }
            }
            Ask::Release { ref tokens } => self.release(cx, from, tokens, deeds),
            Ask::Cancel { request, floor } => self.cancel(cx, from, request, floor, deeds),
            Ask::Revoke {
                request,
                token,
                at_once,
            } => {
                self.revoke(cx, from, request, token, at_once, deeds);
                let question = Question::Revoke { request, token };
                if cx.holder(token).is_none_or(|holder| holder.revoked && !at_once) {
                    self.answer_after(round, from, question, deeds);
                }
            }
            Ask::List {
                request,
                ref filter,
                ref after,
            } => {
                let question = Question::List {
                    request,
                    at: cx.now,
                    filter: filter.clone(),
                    after: after.clone(),
                };
                self.answer_after(round, from, question, deeds);
            }
            Ask::Watch { request, ref key } => self.watch(cx, from, request, key, deeds),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    fn acquire(
        &mut self,
        cx: &At<'_>,
        from: Life,
        request: u64,
        floor: u64,
        wish: &Wish,
        heard: Heard,
        deeds: &mut Deeds,
    ) {
        if let Some(why) = self.refuses(cx, from, request, floor, wish) {
            return deeds.replies.push((from, Answer::Denied { request, why }));
        }
        let wish = Arc::new(wish.clone());
        // The first of several copies counts: the lease is no longer than what its sender expects.
        self.asked.insert((from, request), (heard, wish.clone()));
        deeds.changes.push(Change::Acquire {
            owner: from,
            request,
            floor,
            wish,
        });
    }

    /// Says why a wish is not even appended.
    fn refuses(&self, cx: &At<'_>, from: Life, request: u64, floor: u64, wish: &Wish) -> Option<Denial> {
        let (table, terms) = (cx.table, cx.terms);
        let units = (1..=wish.capacity).contains(&wish.units);
        if !units || wish.metadata.len() > MAX_METADATA_BYTES {
            return Some(Denial::Invalid);
        }
        if !(MIN_TTL..=terms.max_ttl).contains(&wish.ttl) {
            return Some(Denial::Ttl(terms.max_ttl));
        }
        if is_too_far(cx, from, request, floor) {
            return Some(Denial::TooManyRequests);
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let lock = table.lock(&wish.key);
        // Mostly there is so much room that nobody has to look at what is under way.
        let waiting = lock.map_or(0, Lock::waiting);
        let crowded = count(waiting + self.asked.len()) >= terms.max_waiters;
        if wish.wait && crowded && count(self.may_wait(lock, wish)) > terms.max_waiters {
            return Some(Denial::TooManyWaiters(terms.max_waiters));
        }
        let crowded = count(table.locks().len() + self.asked.len()) >= terms.max_locks;
        if lock.is_none() && crowded && count(self.may_be_locks(table, wish)) > terms.max_locks {
            return Some(Denial::TableFull);
        }
        let crowded = count(table.bytes() + (self.asked.len() + 1) * MAX_COST) > terms.max_bytes;
        let full = crowded && count(self.may_be_bytes(table, wish)) > terms.max_bytes;
        full.then_some(Denial::TableFull)
    }

    /// Returns how many wait for a lock, at most, once all that was asked before and this wish are applied.
    fn may_wait(&self, lock: Option<&Lock>, wish: &Wish) -> usize {
        // Who asks for another capacity is denied, unless the lock is gone by then.
        let lock = lock.filter(|lock| lock.capacity() == wish.capacity);
        let waiting = lock.map_or(0, Lock::waiting);
        let same = |other: &&Arc<Wish>| (&other.key, other.capacity) == (&wish.key, wish.capacity);
        let before = self.asked.values().map(|(_, other)| other).filter(same);
        let (mut units, mut tries) = (alloc::vec![wish.units], 0);
        for other in before {
            units.push(other.units);
            tries += usize::from(!other.wait);
        }
        // Where somebody waits nobody goes first.
        let free = if waiting == 0 {
            lock.map_or(wish.capacity, Lock::free)
        } else {
            0
        };
        // In whatever order they come, no fewer have it at once than if the largest came first.
        units.sort_unstable_by(|a, b| b.cmp(a));
        let left = units.iter().scan(free, |left, &units| {
            *left = left.checked_sub(units)?;
            Some(*left)
        });
        let at_once = left.count();
        // Those may all be tries.
        waiting + units.len() - tries - at_once.saturating_sub(tries)
    }

    /// Returns how many locks there are, at most, once all that was asked before and this wish are applied.
    fn may_be_locks(&self, table: &Table, wish: &Wish) -> usize {
        let keys = self.asked.values().map(|(_, other)| &other.key);
        let keys = keys.chain([&wish.key]).filter(|key| table.lock(key).is_none());
        table.locks().len() + keys.collect::<BTreeSet<_>>().len()
    }

    /// Returns how much room the table takes, at most, once all that was asked before and this wish are applied.
    fn may_be_bytes(&self, table: &Table, wish: &Wish) -> usize {
        let wishes = self.asked.values().map(|(_, other)| &**other).chain([wish]);
        let bytes = wishes.map(|wish| cost(&wish.key, &wish.metadata));
        table.bytes() + bytes.sum::<usize>()
    }

    /// A request that the leader may know already. Returns whether it does.
    fn again(
        &mut self,
        cx: &At<'_>,
        from: Life,
        request: u64,
        heard: Heard,
        round: u64,
        deeds: &mut Deeds,
    ) -> bool {
        if self.asked.contains_key(&(from, request)) {
            return true;
        }
        if let Some(key) = cx.table.waits_for(from, request) {
            if planted(PlantedBug::RetransmissionRequeues) {
                self.wait(cx, from, request, Some(heard));
                return false;
            }
            self.wait(cx, from, request, Some(heard));
            self.grant_next(cx, key, deeds);
            deeds.replies.push((from, Answer::Queued { request }));
            return true;
        }
        // SAFETY (retransmission): an acquire that finds its grant is a renewal.
        if let Some(token) = cx.table.granted(from, request) {
            let lease = self.renew(cx, from, token, heard);
            let leases = [(token, lease)].into();
            self.renewed(from, heard.stamp, leases, Some(request), round, deeds);
            return true;
        }
        if cx.table.is_over(from, request) {
            deeds.replies.push((from, Answer::Cancelled { request }));
            return true;
        }
        false
    }

    /// **SAFETY (renewal)** Extends a lease at once, and says by how much, in milliseconds; 0 if it is over. What is
    /// answered after a round that began later.
    fn renew(&mut self, cx: &At<'_>, from: Life, token: u64, heard: Heard) -> u32 {
        let may_hold = self.may_hold(cx, from, token);
        let Some(holder) = cx.holder(token).filter(|_| may_hold) else {
            return 0;
        };
        let short = planted(PlantedBug::DeadlineMovesBack);
        let counted = cx.terms.first_lease(holder.ttl, short);
        if !planted(PlantedBug::RenewalsExtendNothing) {
            self.extend(token, cx.terms.deadline(heard.at, counted));
        }
        holder.ttl
    }

    fn renewed(
        &mut self,
        to: Life,
        stamp: u64,
        leases: Vec<(u64, u32)>,
        request: Option<u64>,
        round: u64,
        deeds: &mut Deeds,
    ) {
        let question = Question::Renew {
            stamp,
            leases,
            request,
        };
        self.answer_after(round, to, question, deeds);
    }

    /// Takes a lock from its holder. Asked again while that is not decided, it changes nothing.
    fn revoke(
        &mut self,
        cx: &At<'_>,
        from: Life,
        request: u64,
        token: u64,
        at_once: bool,
        deeds: &mut Deeds,
    ) {
        let held = |holder: &Holder| at_once || !holder.revoked;
        if !cx.holder(token).is_some_and(held) || self.ended.contains(&token) {
            return;
        }
        let by = from.node;
        deeds.changes.push(Change::Revoke { by, token, at_once });
        self.revoking
            .entry(token)
            .or_default()
            .insert((from, request, at_once));
        if at_once {
            self.ended.insert(token);
            self.grant_next_of(cx, token, deeds);
        }
    }

    fn release(&mut self, cx: &At<'_>, from: Life, tokens: &[u64], deeds: &mut Deeds) {
        let mut over = Vec::new();
        for &token in tokens {
            match cx.holder(token) {
                Some(holder) if holder.owner == from => {
                    if self.ended.insert(token) {
                        deeds.changes.push(Change::Release { owner: from, token });
                        self.grant_next_of(cx, token, deeds);
                    }
                }
                _ => over.push(token),
            }
        }
        if planted(PlantedBug::StaleReleaseFrees)
            && let Some(&stale) = over.first()
            && let Some(token) = cx.table.tokens().find(|&token| token > stale)
            && let Some(holder) = cx.holder(token)
        {
            let owner = holder.owner;
            deeds.changes.push(Change::Release { owner, token });
        }
        if !over.is_empty() {
            deeds.replies.push((from, Answer::Released { tokens: over }));
        }
    }

    fn cancel(&mut self, cx: &At<'_>, from: Life, request: u64, floor: u64, deeds: &mut Deeds) {
        let over = cx.table.is_over(from, request) && !self.asked.contains_key(&(from, request));
        // What is too far above was not appended either, and would be remembered for nothing.
        if over || is_too_far(cx, from, request, floor) {
            return deeds.replies.push((from, Answer::Cancelled { request }));
        }
        if let Some(waiting) = self.waiting.get_mut(&(from, request)) {
            if waiting.ending {
                return;
            }
            waiting.ending = true;
        }
        if let Some(token) = cx.table.granted(from, request) {
            self.ended.insert(token);
        }
        deeds.changes.push(Change::Cancel {
            owner: from,
            request,
            floor,
        });
    }
}

/// Whether a request is so far above its owner's floor that the table will not remember it.
fn is_too_far(cx: &At<'_>, owner: Life, request: u64, floor: u64) -> bool {
    request >= floor.max(cx.table.floor_of(owner)).saturating_add(MAX_OPEN)
}
