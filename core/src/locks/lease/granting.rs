//! Who gets what next, and what entries brought about.

use super::{At, Deeds, Heard, Leases};
use crate::consensus::Life;
use crate::id::NodeId;
use crate::locks::ask::{Answer, Denial};
use crate::locks::change::{Change, Effect};
use crate::locks::key::Key;
use crate::planted::{PlantedBug, planted};
use alloc::collections::BTreeSet;

impl Leases {
    /// A process is gone and may be only cut off. If it holds and waits for nothing, it is forgotten.
    ///
    /// **SAFETY (failed owners)** Failure detection is an opinion, a lease is a promise: whatever it has stays, and so
    /// does what it gets before the entry is applied.
    pub(crate) fn owner_failed(&self, cx: &At<'_>, node: NodeId, deeds: &mut Deeds) {
        if cx.table.knows(node) && cx.table.is_idle(node) {
            deeds.changes.push(Change::ForgetOwner { node });
        }
    }

    /// A process has said goodbye, and believes in nothing any more.
    pub(crate) fn owner_left(&mut self, cx: &At<'_>, node: NodeId, deeds: &mut Deeds) {
        if !cx.table.knows(node) {
            return;
        }
        deeds.changes.push(Change::DropOwner { node });
        for token in cx.table.tokens() {
            let owned = cx.holder(token).is_some_and(|holder| holder.owner.node == node);
            if owned && self.ended.insert(token) {
                self.grant_next_of(cx, token, deeds);
            }
        }
    }

    /// The group grants from here on, or no longer.
    pub(crate) fn set_open(&mut self, cx: &At<'_>, open: bool, deeds: &mut Deeds) {
        let opens = open && !self.open;
        self.open = open;
        if opens && self.serves() {
            for (key, _) in cx.table.locks().filter(|(_, lock)| lock.waiting() > 0) {
                self.grant_next(cx, key, deeds);
            }
        }
    }

    pub(super) fn grant_next_of(&mut self, cx: &At<'_>, token: u64, deeds: &mut Deeds) {
        if let Some((key, _)) = cx.table.holder(token) {
            self.grant_next(cx, key, deeds);
        }
    }

    /// Appends grants for those who wait first, as far as they fit behind what was appended before.
    ///
    /// **SAFETY (queue grants)** A grant counts from the last sign of the waiter that was received before the grant is
    /// appended, in this term. Who gave none gets nothing.
    pub(super) fn grant_next(&mut self, cx: &At<'_>, key: &Key, deeds: &mut Deeds) {
        let Some(lock) = cx.table.lock(key).filter(|_| self.open) else {
            return;
        };
        let held = lock.holders().filter(|(token, _)| !self.ended.contains(token));
        let mut free = held.fold(lock.capacity(), |free, (_, holder)| {
            free.saturating_sub(holder.units)
        });
        for waiter in lock.queue() {
            let Some(waiting) = self.waiting.get_mut(&(waiter.owner, waiter.request)) else {
                return;
            };
            if waiting.ending {
                continue;
            }
            if free < waiter.wish.units {
                return;
            }
            free -= waiter.wish.units;
            if waiting.granting.is_some() {
                continue;
            }
            let there = waiting.heard.filter(|_| waiting.until > cx.now);
            let Some(heard) = there else { return };
            // A lease that is over on arrival would only keep others from it.
            let lease = cx.terms.first_lease(waiter.wish.ttl, true);
            if cx.terms.deadline(heard.at, lease) <= cx.now {
                return;
            }
            waiting.granting = Some(heard);
            deeds.changes.push(Change::Grant {
                key: key.clone(),
                owner: waiter.owner,
                request: waiter.request,
            });
        }
    }

    /// Takes what an entry of the leader's own term brought about.
    pub(crate) fn applied(&mut self, cx: &At<'_>, effect: &Effect, deeds: &mut Deeds) {
        self.tell_watchers(cx, effect, deeds);
        match *effect {
            Effect::Granted {
                owner,
                request,
                token,
                queued,
                ..
            } => {
                let waited = self.end_waiting(owner, request);
                let asked = self.asked.remove(&(owner, request)).map(|(heard, _)| heard);
                let heard = match waited {
                    Some(waiting) if planted(PlantedBug::GrantCountsFromLaterSigns) => waiting.heard,
                    Some(waiting) if queued => waiting.granting,
                    _ => asked,
                };
                self.granted(cx, owner, request, token, heard, deeds);
            }
            Effect::Queued {
                owner,
                request,
                ref key,
            } => {
                let heard = self.asked.remove(&(owner, request)).map(|(heard, _)| heard);
                self.wait(cx, owner, request, heard);
                deeds.replies.push((owner, Answer::Queued { request }));
                self.grant_next(cx, key, deeds);
            }
            Effect::Denied {
                owner,
                request,
                mut why,
            } => {
                self.asked.remove(&(owner, request));
                if let Denial::Taken { token, left, .. } = &mut why {
                    let until = self.deadline(*token).unwrap_or(cx.now);
                    *left = u32::try_from((until - cx.now).as_millis()).unwrap_or(u32::MAX);
                }
                deeds.replies.push((owner, Answer::Denied { request, why }));
            }
            Effect::NotGranted {
                owner,
                request,
                ref key,
            } => {
                if let Some(waiting) = self.waiting.get_mut(&(owner, request)) {
                    waiting.granting = None;
                    // It may have been silent for too long meanwhile.
                    self.silent.insert((waiting.until, (owner, request)));
                }
                self.grant_next(cx, key, deeds);
            }
            Effect::Freed {
                owner,
                ref key,
                token,
            } => {
                self.forget(token);
                let tokens = [token].into();
                deeds.replies.push((owner, Answer::Released { tokens }));
                self.grant_next(cx, key, deeds);
            }
            Effect::Raised { .. } => {}
            Effect::Ended {
                owner,
                request,
                ref key,
            } => {
                self.asked.remove(&(owner, request));
                self.end_waiting(owner, request);
                match key {
                    Some(key) => self.grant_next(cx, key, deeds),
                    None => deeds.replies.push((owner, Answer::Cancelled { request })),
                }
            }
            Effect::Revoked { owner, token } => {
                // Who took it at once hears of it when nobody has it any more.
                let (held, stays) = (true, cx.holder(token).is_some());
                let asked = self.revoking.remove(&token).unwrap_or_default();
                let (waits, told): (BTreeSet<_>, BTreeSet<_>) =
                    asked.into_iter().partition(|&(_, _, at_once)| at_once && stays);
                for (to, request, _) in told {
                    deeds.replies.push((to, Answer::Revoked { request, held }));
                }
                if !waits.is_empty() {
                    self.revoking.insert(token, waits);
                }
                self.tell_revoked(cx.now, owner, token, deeds);
            }
        }
    }

    fn granted(
        &mut self,
        cx: &At<'_>,
        owner: Life,
        request: u64,
        token: u64,
        heard: Option<Heard>,
        deeds: &mut Deeds,
    ) {
        let Some(holder) = cx.holder(token) else { return };
        let Some(heard) = heard else {
            // Asked for by nobody in this term: the next sign of the client is a renewal.
            return self.extend(token, cx.terms.deadline(cx.now, holder.ttl));
        };
        let lease = cx.terms.first_lease(holder.ttl, holder.queued);
        self.extend(token, cx.terms.deadline(heard.at, lease));
        let answer = Answer::Granted {
            request,
            token,
            stamp: heard.stamp,
            lease,
        };
        deeds.replies.push((owner, answer));
    }
}
