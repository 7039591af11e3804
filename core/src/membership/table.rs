//! Who is a member, and who was one.

use super::contact::Contact;
use super::record::{Rank, Record, State};
use super::suspicion::Suspicion;
use crate::config::Role;
use crate::id::NodeId;
use crate::id_map::IdMap;
use crate::planted::{PlantedBug, planted};
use crate::rng::scramble;
use crate::status::{Member, MemberState};
use crate::time::{Duration, Instant};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use bytes::Bytes;
use core::net::SocketAddr;

/// A live member and what the failure detector knows of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) member: Member,
    /// The newest version of its name and metadata that was heard of.
    pub(super) details: u32,
    /// The version of the name and metadata in `member`; 0 for none.
    pub(super) known: u32,
    /// The accuser last heard of.
    pub(super) accuser: NodeId,
    pub(super) contact: Contact,
    /// Set while it is suspected and no direct partner (those have deadlines of their own).
    pub(super) suspicion: Option<Suspicion>,
}

impl Entry {
    pub(super) fn new(record: &Record) -> Self {
        let state = match record.state {
            State::Alive => MemberState::Alive,
            _ => MemberState::Suspect,
        };
        Self {
            member: Member {
                id: record.id,
                addr: record.addr,
                name: String::new(),
                metadata: Bytes::new(),
                role: record.role,
                version: record.version,
                state,
                incarnation: record.incarnation,
            },
            details: record.details,
            known: 0,
            accuser: record.accuser,
            contact: Contact::default(),
            suspicion: None,
        }
    }

    pub(super) const fn state(&self) -> State {
        match self.member.state {
            MemberState::Alive => State::Alive,
            MemberState::Suspect => State::Suspect,
        }
    }

    pub(super) const fn rank(&self) -> Rank {
        Rank::new(self.state(), self.member.incarnation)
    }

    pub(super) const fn record(&self) -> Record {
        Record {
            id: self.member.id,
            addr: self.member.addr,
            incarnation: self.member.incarnation,
            state: self.state(),
            role: self.member.role,
            version: self.member.version,
            replaced: false,
            details: self.details,
            accuser: self.accuser,
            age: 0,
        }
    }
}

/// What remains of a member that left or failed, so that old news cannot bring it back.
#[derive(Debug)]
struct Tombstone {
    record: Record,
    expires: Instant,
}

/// All processes that this node knows of, itself excluded (but counted among the voters).
#[derive(Debug, Default)]
pub(super) struct Table {
    live: IdMap<NodeId, Entry>,
    by_addr: BTreeMap<SocketAddr, NodeId>,
    /// The live voters, this node included if it is one.
    voters: BTreeSet<NodeId>,
    tombstones: BTreeMap<NodeId, Tombstone>,
    expiry: BTreeSet<(Instant, NodeId)>,
    /// How long a departure is remembered.
    lifetime: Duration,
    /// Which members in which incarnations are live, as one number; see `mix`.
    hash: u64,
}

impl Table {
    /// Creates an empty table that remembers departures for so long.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            ..Self::default()
        }
    }

    /// How many other live members there are.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Entry> {
        self.live.get(&id)
    }

    /// Gives mutable access to everything but id, address, role and incarnation, which indexes depend on.
    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Entry> {
        self.live.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.live.values()
    }

    pub(super) fn at(&self, addr: SocketAddr) -> Option<NodeId> {
        self.by_addr.get(&addr).copied()
    }

    pub(super) const fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Counts this node itself as a voter.
    pub(super) fn add_voter(&mut self, id: NodeId) {
        self.voters.insert(id);
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let member = &entry.member;
        let id = member.id;
        self.remove(id);
        self.by_addr.insert(member.addr, id);
        self.hash ^= mix(id, member.incarnation);
        if member.role == Role::Voter {
            self.voters.insert(id);
        }
        if let Some(old) = self.tombstones.remove(&id) {
            self.expiry.remove(&(old.expires, id));
        }
        self.live.insert(id, entry);
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Option<Entry> {
        let entry = self.live.remove(&id)?;
        if self.by_addr.get(&entry.member.addr) == Some(&id) {
            self.by_addr.remove(&entry.member.addr);
        }
        self.hash ^= mix(id, entry.member.incarnation);
        self.voters.remove(&id);
        Some(entry)
    }

    pub(super) fn set_addr(&mut self, id: NodeId, addr: SocketAddr) {
        if let Some(entry) = self.live.get_mut(&id) {
            if self.by_addr.get(&entry.member.addr) == Some(&id) {
                self.by_addr.remove(&entry.member.addr);
            }
            entry.member.addr = addr;
            self.by_addr.insert(addr, id);
        }
    }

    pub(super) fn set_incarnation(&mut self, id: NodeId, incarnation: u32) {
        if let Some(entry) = self.live.get_mut(&id) {
            self.hash ^= mix(id, entry.member.incarnation) ^ mix(id, incarnation);
            entry.member.incarnation = incarnation;
        }
    }

    /// Remembers a departure for the rest of its time. Returns how many older tombstones made room for it.
    pub(super) fn bury(&mut self, now: Instant, record: Record, limit: usize) -> usize {
        let Some(rest) = self
            .lifetime
            .checked_sub(Duration::from_secs(u64::from(record.age)))
        else {
            return 0;
        };
        let rest = if planted(PlantedBug::TombstoneExpiresEarly) {
            rest.min(Duration::from_secs(2))
        } else {
            rest
        };
        let id = record.id;
        let expires = now + rest;
        if let Some(old) = self.tombstones.insert(id, Tombstone { record, expires }) {
            self.expiry.remove(&(old.expires, id));
        }
        self.expiry.insert((expires, id));
        let mut evicted = 0;
        while self.tombstones.len() > limit
            && let Some((_, oldest)) = self.expiry.pop_first()
        {
            self.tombstones.remove(&oldest);
            evicted += 1;
        }
        evicted
    }

    /// Returns the record of a departed member, with its present age.
    pub(super) fn tombstone(&self, now: Instant, id: NodeId) -> Option<Record> {
        let tombstone = self.tombstones.get(&id)?;
        let age = self.lifetime.saturating_sub(tombstone.expires - now).as_secs();
        Some(Record {
            age: u16::try_from(age).unwrap_or(u16::MAX),
            ..tombstone.record
        })
    }

    pub(super) fn tombstones(&self) -> impl Iterator<Item = &Record> {
        self.tombstones.values().map(|tombstone| &tombstone.record)
    }

    /// When the oldest tombstone is forgotten.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiry.first().map(|&(at, _)| at)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.expiry.first()
            && at <= now
        {
            self.expiry.pop_first();
            self.tombstones.remove(&id);
        }
    }

    /// Forgets who failed; who left stays away.
    pub(super) fn forget_failed(&mut self) {
        let expiry = &mut self.expiry;
        self.tombstones.retain(|&id, tombstone| {
            let keep = tombstone.record.state == State::Left;
            if !keep {
                expiry.remove(&(tombstone.expires, id));
            }
            keep
        });
    }
}

/// Spreads one member's incarnation over 64 bits. The sums over equal sets are equal; a chance collision only skips one
/// exchange that gossip makes up for.
pub(super) fn mix(id: NodeId, incarnation: u32) -> u64 {
    let id = u128::from_be_bytes(id.to_bytes());
    let high = scramble((id >> 64) as u64 ^ u64::from(incarnation));
    scramble((id as u64).wrapping_add(high))
}
