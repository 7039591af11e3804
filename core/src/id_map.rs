//! The map for what every datagram looks up: constant time, and still in the order of its keys.

use crate::id::NodeId;
use alloc::vec::Vec;
use hashbrown::HashTable;

/// A key that somebody drew at random, so that its own bits serve as a hash. Peers draw theirs themselves: one that
/// holds a key of the cluster could make lookups slow with chosen ids, which is the least of what it could do.
pub(crate) trait Id: Copy + Ord {
    /// Returns bits that differ where ids differ.
    fn bits(self) -> u64;
}

impl Id for NodeId {
    fn bits(self) -> u64 {
        let bytes = self.to_bytes();
        bytes
            .as_chunks()
            .0
            .iter()
            .fold(0, |bits, &half| bits ^ u64::from_be_bytes(half))
    }
}

impl Id for u32 {
    fn bits(self) -> u64 {
        u64::from(self)
    }
}

/// Spreads the bits of an id: the table takes its place from the low ones and tells neighbours apart by the high ones.
fn hash<K: Id>(key: K) -> u64 {
    let product = u128::from(key.bits() ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    (product >> 64) as u64 ^ product as u64
}

/// Values by id. A tree touches a handful of cache lines for each lookup, and with a hundred peers none of them is
/// still in the cache when the next datagram needs it; here it is the hash table's and the value's own.
#[derive(Debug)]
pub(crate) struct IdMap<K, V> {
    /// Without gaps, in no order.
    entries: Vec<Entry<K, V>>,
    /// The places of the entries by the hash of their keys. Never iterated.
    index: HashTable<u32>,
    /// The places of the entries by key.
    order: Vec<u32>,
}

/// The key lies at the beginning of the value.
#[derive(Debug)]
#[repr(C)]
struct Entry<K, V> {
    key: K,
    value: V,
}

impl<K, V> Default for IdMap<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            index: HashTable::new(),
            order: Vec::new(),
        }
    }
}

// Every place in `index` and `order` is one in `entries`, and each has each entry once: indexing does not fail.
impl<K: Id, V> IdMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn find(&self, key: &K) -> Option<usize> {
        let same = |&place: &u32| self.entries[place as usize].key == *key;
        self.index.find(hash(*key), same).map(|&place| place as usize)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_some()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.find(key).map(|place| &self.entries[place].value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).map(|place| &mut self.entries[place].value)
    }

    /// Returns where a key is in `order`, or where it belongs.
    fn rank(&self, key: &K) -> Result<usize, usize> {
        self.order
            .binary_search_by_key(key, |&place| self.entries[place as usize].key)
    }

    /// Adds a key that is not there yet. Takes time in proportion to the size.
    fn add(&mut self, key: K, value: V) -> usize {
        let place = self.entries.len();
        let rank = self.rank(&key).unwrap_or_else(|rank| rank);
        // Every map is bounded far below 2^32 by the config.
        self.order.insert(rank, place as u32);
        self.entries.push(Entry { key, value });
        let rehash = |&place: &u32| hash(self.entries[place as usize].key);
        self.index.insert_unique(hash(key), place as u32, rehash);
        place
    }

    /// Puts a value in and returns the one that the key had before. A new key takes time in proportion to the size.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(&key) {
            return Some(core::mem::replace(old, value));
        }
        self.add(key, value);
        None
    }

    /// Returns the value of a key; that of a new one is made, which takes time as `insert` does.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = self.find(&key).unwrap_or_else(|| self.add(key, make()));
        &mut self.entries[place].value
    }

    /// Takes a value out. Takes time in proportion to the size.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.order.remove(self.rank(key).ok()?);
        if let Ok(found) = self.index.find_entry(hash(*key), |&other| other == place) {
            found.remove();
        }
        let last = (self.entries.len() - 1) as u32;
        if place != last {
            // The last entry takes the free place.
            let moved = self.entries[last as usize].key;
            if let Ok(rank) = self.rank(&moved) {
                self.order[rank] = place;
            }
            if let Some(found) = self.index.find_mut(hash(moved), |&other| other == last) {
                *found = place;
            }
        }
        Some(self.entries.swap_remove(place as usize).value)
    }

    /// Iterates in the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.order.iter().map(|&place| &self.entries[place as usize]);
        entries.map(|Entry { key, value }| (key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
impl<K: Id, V> core::ops::Index<&K> for IdMap<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use quickcheck::quickcheck;

    quickcheck! {
        /// Few keys, so that they come again; their bits are alike, so that they meet in the table.
        fn behaves_like_a_tree(steps: Vec<(u8, u8, u16)>) -> bool {
            let (mut map, mut tree) = (IdMap::default(), BTreeMap::new());
            steps.into_iter().all(|(step, key, value)| {
                let key = u32::from(key % 64) << 26;
                let same = match step % 4 {
                    0 => map.insert(key, value) == tree.insert(key, value),
                    1 => map.remove(&key) == tree.remove(&key),
                    2 => map.get_or_insert_with(key, || value) == tree.entry(key).or_insert(value),
                    _ => map.get_mut(&key) == tree.get_mut(&key),
                };
                same && map.len() == tree.len()
                    && map.get(&key) == tree.get(&key)
                    && map.contains_key(&key) == tree.contains_key(&key)
                    && map.iter().eq(tree.iter())
                    && map.keys().eq(tree.keys())
                    && map.values().eq(tree.values())
            })
        }

        fn ids_that_share_a_half_are_told_apart(halves: Vec<u64>) -> bool {
            let id = |high: u64, low: u64| NodeId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
            let ids: Vec<_> = halves.iter().flat_map(|&half| [id(half, 0), id(0, half), id(half, half)]).collect();
            let mut map = IdMap::default();
            for (i, &id) in ids.iter().enumerate() {
                map.insert(id, i);
            }
            ids.iter().all(|id| map.get(id).is_some_and(|&i| ids[i] == *id))
        }
    }
}
