//! The log: entries, and a snapshot in place of those that are applied and gone.

use super::codec::{encode_machine, entry_len};
use super::entry::{Entry, Index, Position, Term};
use super::machine::Machine;
use super::seats::Seats;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;

/// The state machine at one entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub last: Position,
    /// Who is seated there.
    pub seats: Seats,
    /// The state, as it travels.
    pub data: Bytes,
}

#[cfg(feature = "simulation")]
impl Snapshot {
    /// Returns the state.
    pub fn machine(&self) -> Option<Machine> {
        super::codec::decode_machine(&self.data)
    }
}

/// The log of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Log {
    /// The entry before the first that is kept.
    base: Position,
    entries: VecDeque<Entry>,
    /// Covers `base` and perhaps some of the entries.
    snapshot: Option<Snapshot>,
}

impl Log {
    /// Returns where the log ends.
    pub fn last(&self) -> Position {
        match self.entries.back() {
            Some(entry) => Position {
                term: entry.term,
                index: self.base.index + self.entries.len() as Index,
            },
            None => self.base,
        }
    }

    /// Returns whether nothing was ever stored.
    pub fn is_empty(&self) -> bool {
        self.last().index == 0
    }

    /// Returns the index of the first entry that is kept, whether there is one or not.
    pub const fn first_index(&self) -> Index {
        self.base.index + 1
    }

    /// Returns the entry before the first that is kept.
    pub const fn base(&self) -> Position {
        self.base
    }

    /// Returns an entry, if it is kept.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.checked_sub(self.first_index())?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Returns the term of an entry; `None` for one that is not known.
    pub fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// Returns the entries that are kept, with their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (Index, &Entry)> {
        (self.first_index()..).zip(&self.entries)
    }

    /// Returns how many entries are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn append(&mut self, entry: Entry) -> Index {
        self.entries.push_back(entry);
        self.last().index
    }

    /// Drops this entry and all behind it.
    pub(super) fn truncate_from(&mut self, index: Index) {
        let keep = index.saturating_sub(self.first_index());
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// Returns the snapshot, if there is one.
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Keeps the state at an applied entry, and drops all but `keep` of the entries that it covers.
    pub(super) fn compact(&mut self, snapshot: Snapshot, keep: usize) {
        let covered = snapshot.last.index.saturating_sub(self.base.index);
        let surplus = usize::try_from(covered)
            .unwrap_or(usize::MAX)
            .saturating_sub(keep);
        for _ in 0..surplus {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.base = Position {
                term: entry.term,
                index: self.base.index + 1,
            };
        }
        self.snapshot = Some(snapshot);
    }

    /// Replaces everything by a snapshot from the leader.
    pub(super) fn install(&mut self, snapshot: Snapshot) {
        self.base = snapshot.last;
        self.entries.clear();
        self.snapshot = Some(snapshot);
    }

    /// Returns the entries from an index on, at most `limit` of them and as many as `bytes` have room for.
    pub(super) fn slice(&self, from: Index, limit: usize, bytes: usize) -> Vec<Entry> {
        let skip = usize::try_from(from.saturating_sub(self.first_index())).unwrap_or(usize::MAX);
        let mut room = bytes;
        let fits = |entry: &&Entry| {
            let left = room.checked_sub(entry_len(entry));
            room = left.unwrap_or(0);
            left.is_some()
        };
        let entries = self.entries.iter().skip(skip).take(limit);
        entries.take_while(fits).cloned().collect()
    }
}

/// Takes the state machine at its last applied entry into a snapshot.
pub(super) fn snapshot_of(machine: &Machine, last: Position) -> Snapshot {
    Snapshot {
        last,
        seats: machine.seats.clone(),
        data: encode_machine(&machine.kept()),
    }
}
