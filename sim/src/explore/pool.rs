//! Values that are kept once each and named by their number.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher as _, Hash};

/// The same in each run, so that a search is a function of its config.
const HASHER: FixedState = FixedState::with_seed(0);

fn hash<T: Hash>(value: &T) -> u64 {
    HASHER.hash_one(value)
}

/// Every value that was ever seen, numbered in the order in which they came. Equal numbers mean equal values, without
/// any odds: the hash only finds the place.
#[derive(Debug)]
pub(super) struct Pool<T> {
    values: Vec<T>,
    /// Never iterated.
    places: HashTable<u32>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            places: HashTable::new(),
        }
    }
}

impl<T: Hash + Eq> Pool<T> {
    /// Returns the number of a value.
    pub(super) fn number(&mut self, value: T) -> u32 {
        let Self { values, places } = self;
        let hashed = hash(&value);
        let entry = places.entry(
            hashed,
            |&place| values[place as usize] == value,
            |&place| hash(&values[place as usize]),
        );
        match entry {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(vacant) => {
                let place = u32::try_from(values.len()).expect("memory ends long before 2^32 values");
                vacant.insert(place);
                values.push(value);
                place
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// What a pure function gave for arguments that it had before.
#[derive(Debug)]
pub(super) struct Memo<K>(HashTable<(K, u32)>);

impl<K> Default for Memo<K> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

impl<K: Hash + Eq> Memo<K> {
    pub(super) fn get(&self, key: &K) -> Option<u32> {
        let found = self.0.find(hash(key), |(have, _)| have == key);
        found.map(|&(_, value)| value)
    }

    /// Remembers a value for arguments that have none yet.
    pub(super) fn put(&mut self, key: K, value: u32) {
        self.0
            .insert_unique(hash(&key), (key, value), |(key, _)| hash(key));
    }
}
