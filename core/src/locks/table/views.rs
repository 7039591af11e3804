//! What can be seen of the table.

use super::{Holder, Lock, Record, Request, Table, Waiter};
use crate::consensus::Life;
use crate::id::NodeId;
use crate::locks::key::Key;
use crate::planted::{PlantedBug, planted};
use alloc::vec::Vec;

impl Table {
    /// Returns the tokens that a life holds.
    pub fn tokens_of(&self, owner: Life) -> Vec<u64> {
        let held = self.tokens.iter().filter(|&(&token, key)| {
            let lock = self.locks.get(key);
            lock.and_then(|lock| lock.holders.get(token))
                .is_some_and(|holder| holder.owner == owner)
        });
        held.map(|(&token, _)| token).collect()
    }

    /// Returns who holds a token.
    pub fn holder(&self, token: u64) -> Option<(&Key, &Holder)> {
        let key = self.tokens.get(&token)?;
        Some((key, self.locks.get(key)?.holders.get(token)?))
    }

    /// Returns a lock that is held or waited for.
    pub fn lock(&self, key: &str) -> Option<&Lock> {
        self.locks.get(key)
    }

    /// Returns all locks that are held or waited for, in the order of their keys.
    pub fn locks(&self) -> impl ExactSizeIterator<Item = (&Key, &Lock)> {
        self.locks.iter()
    }

    /// Returns the processes that it has anything to do with, by life.
    pub fn owners(&self) -> impl Iterator<Item = NodeId> {
        self.owners.keys().map(|life| life.node)
    }

    /// Returns whether it has anything to do with a process.
    pub fn knows(&self, node: NodeId) -> bool {
        self.owners_of(node).next().is_some()
    }

    /// Returns all tokens that are held.
    pub fn tokens(&self) -> impl Iterator<Item = u64> {
        self.tokens.keys().copied()
    }

    /// Returns everybody who waits, with the lock.
    pub fn waiters(&self) -> impl Iterator<Item = (&Key, &Waiter)> {
        self.locks
            .iter()
            .flat_map(|(key, lock)| lock.queue.values().map(move |waiter| (key, waiter)))
    }

    /// Returns the token that a request was granted and that is still held.
    pub fn granted(&self, owner: Life, request: u64) -> Option<u64> {
        match self.owners.get(&owner)?.requests.get(&request)? {
            &Request::Granted(token) => Some(token),
            Request::Waits(..) | Request::Ended => None,
        }
    }

    /// Returns for which lock a request waits.
    pub fn waits_for(&self, owner: Life, request: u64) -> Option<&Key> {
        match self.owners.get(&owner)?.requests.get(&request)? {
            Request::Waits(key, _) => Some(key),
            Request::Granted(_) | Request::Ended => None,
        }
    }

    /// Returns whether a request is over: it will never be granted.
    pub fn is_over(&self, owner: Life, request: u64) -> bool {
        self.owners.get(&owner).is_some_and(|known| {
            let state = known.requests.get(&request);
            matches!(state, Some(Request::Ended)) || (state.is_none() && request < known.floor)
        })
    }

    /// Returns below which number a life says that its requests are over.
    pub fn floor_of(&self, owner: Life) -> u64 {
        self.owners.get(&owner).map_or(0, |known| known.floor)
    }

    /// Returns whether a process neither holds nor waits for anything.
    pub fn is_idle(&self, node: NodeId) -> bool {
        let holds = |(_, lock): (&Key, &Lock)| {
            let owners = lock.holders.iter().map(|(_, holder)| holder.owner.node);
            let waiters = lock.queue.values().map(|waiter| waiter.owner.node);
            owners.chain(waiters).any(|owner| owner == node)
        };
        !self.locks.iter().any(holds)
    }

    /// Returns the table as a snapshot keeps it.
    pub(crate) fn kept(mut self) -> Self {
        if planted(PlantedBug::RequestsLostInSnapshot) {
            for known in self.owners.values_mut() {
                known.floor = 0;
                known
                    .requests
                    .retain(|_, request| !matches!(request, Request::Ended));
            }
        }
        self
    }

    /// Returns the bytes of keys and metadata of all who hold and wait, and 64 for each of them.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the locks that were taken from their holders last, the oldest first.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }
}
