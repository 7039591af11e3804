//! The replicated table: keys, their holders and queues, and which requests are over. No clock, no randomness.

#[cfg(test)]
mod tests;
mod views;

use super::ask::{Denial, Wish};
use super::change::{Change, Effect};
use super::holders::Holders;
use super::key::{Key, MAX_KEY_BYTES, MAX_METADATA_BYTES};
use crate::consensus::Life;
use crate::id::NodeId;
use crate::planted::{PlantedBug, planted};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::cmp::Reverse;

/// Records of locks that were taken from their holders, of which the newest are kept.
const MAX_RECORDS: usize = 64;

/// Who holds a lock, or some units of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The life that holds it.
    pub owner: Life,
    /// Its request.
    pub request: u64,
    /// How much it holds.
    pub units: u32,
    /// The length of the lease in milliseconds.
    pub ttl: u32,
    /// Whether it was granted from the queue.
    pub queued: bool,
    /// Whether it was taken away, and the holder has not stopped yet.
    pub revoked: bool,
    /// What others are to see of it.
    pub metadata: Bytes,
}

/// Who waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// The life that waits.
    pub owner: Life,
    /// Its request.
    pub request: u64,
    /// What it wants.
    pub wish: Arc<Wish>,
}

/// A place in a queue: higher priorities first, then in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    priority: Reverse<u8>,
    pub(super) arrival: u64,
}

impl Place {
    pub(super) const fn new(priority: u8, arrival: u64) -> Self {
        Self {
            priority: Reverse(priority),
            arrival,
        }
    }

    /// Returns two numbers that are in the same order.
    pub(super) fn order(self) -> (u64, u64) {
        (u64::from(u8::MAX - self.priority.0), self.arrival)
    }
}

/// One lock that is held or waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lock {
    pub(super) capacity: u32,
    pub(super) holders: Holders,
    pub(super) queue: BTreeMap<Place, Waiter>,
}

impl Lock {
    /// Returns how much there is of it.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Returns the holders with their tokens, in the order in which they were granted.
    pub fn holders(&self) -> impl Iterator<Item = (u64, &Holder)> {
        self.holders.iter()
    }

    /// Returns who waits, the next first.
    pub fn queue(&self) -> impl Iterator<Item = &Waiter> {
        self.queue.values()
    }

    /// Returns when each came who waits, by a counter of its own.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = u64> {
        self.queue.keys().map(|place| place.arrival)
    }

    /// Returns how many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns how much of it is free.
    pub fn free(&self) -> u32 {
        // The sum of what is held is never more than the capacity.
        let held = self.holders.iter().map(|(_, holder)| holder.units);
        held.fold(self.capacity, u32::saturating_sub)
    }
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Request {
    /// Waits for this lock, at this place.
    Waits(Key, Place),
    /// Was granted this token, which its owner may have given back since.
    Granted(u64),
    /// Is over.
    Ended,
}

/// The requests of one life: those that wait or are held, and which others are over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Owner {
    pub(super) floor: u64,
    pub(super) requests: BTreeMap<u64, Request>,
}

impl Owner {
    /// What is over and below the floor need not be remembered; what waits or is held must be.
    fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.requests
                .retain(|&id, request| id >= floor || *request != Request::Ended);
        }
    }

    /// A request is over. Below the floor that goes without saying.
    fn end(&mut self, request: u64) {
        if request < self.floor {
            self.requests.remove(&request);
        } else {
            self.requests.insert(request, Request::Ended);
        }
    }
}

/// A lock was taken from its holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// By whom.
    pub by: NodeId,
    /// The lock.
    pub key: Key,
    /// The token that was taken.
    pub token: u64,
    /// Who held it.
    pub owner: Life,
    /// Whether it was free before its holder had stopped.
    pub at_once: bool,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Table {
    pub(super) locks: BTreeMap<Key, Lock>,
    /// Where each token is held.
    pub(super) tokens: BTreeMap<u64, Key>,
    pub(super) owners: BTreeMap<Life, Owner>,
    pub(super) records: VecDeque<Record>,
    /// Counts who ever waited.
    pub(super) arrivals: u64,
    /// Bytes of keys and metadata, with what is counted for each holder and waiter.
    pub(super) bytes: usize,
}

impl Table {
    /// Applies a change. `counter` is the group's token counter; grants nothing unless the group is `open`.
    pub fn apply(&mut self, change: &Change, open: bool, counter: &mut u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match change {
            &Change::Acquire {
                owner,
                request,
                floor,
                ref wish,
            } => effects.extend(self.acquire(owner, request, floor, wish, open, counter)),
            Change::Grant { key, owner, request } => {
                let granted = self.grant(key, *owner, *request, open, counter);
                effects.push(granted.unwrap_or_else(|| Effect::NotGranted {
                    owner: *owner,
                    request: *request,
                    key: key.clone(),
                }));
            }
            &Change::Release { owner, token } => {
                let owns = |holder: &Holder| holder.owner == owner;
                effects.extend(self.free(token, owns));
            }
            &Change::Raise { owner, token, ttl } => {
                if let Some(holder) = self.holder_mut(token).filter(|holder| holder.owner == owner) {
                    holder.ttl = holder.ttl.max(ttl);
                    effects.push(Effect::Raised { owner, token });
                }
            }
            &Change::Cancel {
                owner,
                request,
                floor,
            } => self.cancel(owner, request, floor, &mut effects),
            &Change::Expire { token } => effects.extend(self.free(token, |_| true)),
            &Change::Revoke { by, token, at_once } => self.revoke(by, token, at_once, &mut effects),
            &Change::DropWaiter { owner, request } => effects.extend(self.end_waiting(owner, request)),
            &Change::DropOwner { node } => self.drop_owner(node, &mut effects),
            &Change::ForgetOwner { node } => {
                if self.is_idle(node) {
                    self.owners.retain(|life, _| life.node != node);
                }
            }
        }
        effects
    }

    fn acquire(
        &mut self,
        owner: Life,
        request: u64,
        floor: u64,
        wish: &Arc<Wish>,
        open: bool,
        counter: &mut u64,
    ) -> Option<Effect> {
        let known = self.owners.entry(owner).or_default();
        known.raise_floor(floor);
        // A late copy of what is over, or is being served, changes nothing.
        let state = known.requests.get(&request);
        if planted(PlantedBug::RetransmissionRequeues)
            && let Some(Request::Waits(key, place)) = state
            && let Some(lock) = self.locks.get_mut(key)
            && let Some(waiter) = lock.queue.remove(place)
        {
            self.arrivals += 1;
            let place = Place::new(wish.priority, self.arrivals);
            let waits = Request::Waits(key.clone(), place);
            known.requests.insert(request, waits);
            lock.queue.insert(place, waiter);
            return None;
        }
        let over = match state {
            Some(state) => matches!(state, Request::Ended),
            None => request < known.floor,
        };
        let again = over && planted(PlantedBug::LateAcquireGrantsAgain);
        if over && !again {
            let key = None;
            return Some(Effect::Ended { owner, request, key });
        }
        if state.is_some() && !again {
            return None;
        }
        let denied = |why| Some(Effect::Denied { owner, request, why });
        if !open {
            return denied(Denial::NotOpen);
        }
        let lock = self.locks.get(&wish.key);
        let capacity = lock.map_or(wish.capacity, Lock::capacity);
        if capacity != wish.capacity || wish.units == 0 || wish.units > capacity {
            known.requests.insert(request, Request::Ended);
            let other = capacity != wish.capacity;
            return denied(if other {
                Denial::OtherCapacity(capacity)
            } else {
                Denial::Invalid
            });
        }
        let first = |lock: &Lock| lock.queue.is_empty() || planted(PlantedBug::QueueOvertaken);
        let fits = lock.is_none_or(|lock| first(lock) && lock.free() >= wish.units);
        if !fits && !wish.wait {
            known.requests.insert(request, Request::Ended);
            let holder = lock.and_then(|lock| lock.holders.first());
            let first = lock.and_then(|lock| lock.queue.first_key_value());
            let waits = first.map(|(_, waiter)| (0, waiter.owner.node));
            let (token, owner) = holder
                .map(|(token, holder)| (token, holder.owner.node))
                .or(waits)
                .unwrap_or((0, owner.node));
            return denied(Denial::Taken {
                token,
                owner,
                // Known to the leader.
                left: 0,
                waiting: lock.map_or(0, |lock| u32::try_from(lock.queue.len()).unwrap_or(u32::MAX)),
            });
        }
        if fits {
            return Some(self.give(owner, request, wish, false, counter));
        }
        self.arrivals = self.arrivals.saturating_add(1);
        let place = Place::new(wish.priority, self.arrivals);
        known
            .requests
            .insert(request, Request::Waits(wish.key.clone(), place));
        self.bytes += cost(&wish.key, &wish.metadata);
        let waiter = Waiter {
            owner,
            request,
            wish: wish.clone(),
        };
        let lock = self.locks.get_mut(&wish.key)?;
        lock.queue.insert(place, waiter);
        Some(Effect::Queued {
            owner,
            request,
            key: wish.key.clone(),
        })
    }

    fn give(&mut self, owner: Life, request: u64, wish: &Wish, queued: bool, counter: &mut u64) -> Effect {
        // Never reached: a group's tokens begin at most at 2^63 - 2^48.
        *counter = counter.saturating_add(1);
        let token = *counter;
        let holder = Holder {
            owner,
            request,
            units: wish.units,
            ttl: wish.ttl,
            queued,
            revoked: false,
            metadata: wish.metadata.clone(),
        };
        let lock = self.locks.entry(wish.key.clone()).or_insert_with(|| Lock {
            capacity: wish.capacity,
            holders: Holders::default(),
            queue: BTreeMap::new(),
        });
        lock.holders.insert(token, holder);
        self.bytes += cost(&wish.key, &wish.metadata);
        self.tokens.insert(token, wish.key.clone());
        let known = self.owners.entry(owner).or_default();
        known.requests.insert(request, Request::Granted(token));
        Effect::Granted {
            owner,
            request,
            key: wish.key.clone(),
            token,
            queued,
        }
    }

    fn grant(
        &mut self,
        key: &Key,
        owner: Life,
        request: u64,
        open: bool,
        counter: &mut u64,
    ) -> Option<Effect> {
        let lock = self.locks.get_mut(key).filter(|_| open)?;
        let first = lock.queue.first_entry()?;
        let waiter = first.get();
        if (waiter.owner, waiter.request) != (owner, request) {
            return None;
        }
        let wish = waiter.wish.clone();
        if lock.free() < wish.units {
            return None;
        }
        lock.queue.pop_first();
        self.bytes = self.bytes.saturating_sub(cost(&wish.key, &wish.metadata));
        if planted(PlantedBug::WokenButNotGranted) {
            self.forget_if_idle(key);
            return None;
        }
        Some(self.give(owner, request, &wish, true, counter))
    }

    fn free(&mut self, token: u64, whose: impl FnOnce(&Holder) -> bool) -> Option<Effect> {
        let key = self.tokens.get(&token)?.clone();
        let lock = self.locks.get_mut(&key)?;
        let holder = lock.holders.get(token).filter(|&holder| whose(holder))?;
        let owner = holder.owner;
        self.bytes = self.bytes.saturating_sub(cost(&key, &holder.metadata));
        if let Some(known) = self.owners.get_mut(&owner) {
            known.end(holder.request);
        }
        lock.holders.remove(token);
        self.tokens.remove(&token);
        self.forget_if_idle(&key);
        Some(Effect::Freed { owner, key, token })
    }

    fn forget_if_idle(&mut self, key: &Key) {
        let idle = |lock: &Lock| lock.holders.is_empty() && lock.queue.is_empty();
        if self.locks.get(key).is_some_and(idle) {
            self.locks.remove(key);
        }
    }

    fn cancel(&mut self, owner: Life, request: u64, floor: u64, effects: &mut Vec<Effect>) {
        let known = self.owners.entry(owner).or_default();
        known.raise_floor(floor);
        match known.requests.get(&request) {
            Some(Request::Waits(..)) => effects.extend(self.end_waiting(owner, request)),
            Some(&Request::Granted(token)) => effects.extend(self.free(token, |_| true)),
            Some(Request::Ended) => {}
            // Its acquire may still be on its way: it must not be granted when it arrives.
            None => known.end(request),
        }
        effects.push(Effect::Ended {
            owner,
            request,
            key: None,
        });
    }

    fn end_waiting(&mut self, owner: Life, request: u64) -> Option<Effect> {
        let known = self.owners.get_mut(&owner)?;
        let Request::Waits(key, place) = known.requests.get(&request)? else {
            return None;
        };
        let (key, place) = (key.clone(), *place);
        known.end(request);
        let waiter = self.locks.get_mut(&key)?.queue.remove(&place)?;
        self.bytes = self.bytes.saturating_sub(cost(&key, &waiter.wish.metadata));
        self.forget_if_idle(&key);
        Some(Effect::Ended {
            owner,
            request,
            key: Some(key),
        })
    }

    fn revoke(&mut self, by: NodeId, token: u64, at_once: bool, effects: &mut Vec<Effect>) {
        let Some(key) = self.tokens.get(&token).cloned() else {
            return;
        };
        let Some(holder) = self.holder_mut(token) else {
            return;
        };
        let (owner, before) = (holder.owner, holder.revoked);
        holder.revoked = true;
        if !before || at_once {
            let record = Record {
                by,
                key,
                token,
                owner,
                at_once,
            };
            if self.records.len() >= MAX_RECORDS {
                self.records.pop_front();
            }
            self.records.push_back(record);
        }
        effects.push(Effect::Revoked { owner, token });
        if at_once || planted(PlantedBug::RevokeFreesAtOnce) {
            effects.extend(self.free(token, |_| true));
        }
    }

    fn drop_owner(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        let lives: Vec<Life> = self.owners_of(node).collect();
        for owner in lives {
            let held = self.tokens_of(owner);
            for token in held {
                effects.extend(self.free(token, |_| true));
            }
            let waits: Vec<u64> = self
                .owners
                .get(&owner)
                .map_or_else(Vec::new, |known| known.requests.keys().copied().collect());
            for request in waits {
                effects.extend(self.end_waiting(owner, request));
            }
            self.owners.remove(&owner);
        }
    }

    /// Returns the lives of a process that the table knows.
    fn owners_of(&self, node: NodeId) -> impl Iterator<Item = Life> {
        let first = Life::first(node);
        let range = self.owners.range(first..);
        range
            .map(|(&life, _)| life)
            .take_while(move |life| life.node == node)
    }

    fn holder_mut(&mut self, token: u64) -> Option<&mut Holder> {
        let key = self.tokens.get(&token)?;
        self.locks.get_mut(key)?.holders.get_mut(token)
    }
}

/// Counted for each holder and waiter beside its key and metadata: without it, readers of one key would cost nothing.
const OVERHEAD: usize = 64;

/// The most that [`cost`] can be.
pub(super) const MAX_COST: usize = OVERHEAD + MAX_KEY_BYTES + MAX_METADATA_BYTES;

/// Returns what somebody who holds or waits adds to the size of the table.
pub(super) fn cost(key: &Key, metadata: &[u8]) -> usize {
    OVERHEAD + key.len() + metadata.len()
}
