//! Looking at locks: which, in what order, and how many at a time.

#[cfg(test)]
mod tests;

use super::codec::{MAX_PAGE_BYTES, row_len};
use super::key::Key;
use super::outcome::LockError;
use super::table::Table;
use crate::consensus::Life;
use crate::id::NodeId;
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

/// Which locks are wanted, given to [`Node::list_locks`](crate::Node::list_locks). All that is set has to fit. A filter that
/// was given a pattern of a wrong length stays wrong, whatever is set afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct LockFilter {
    pub(crate) key: Option<Key>,
    pub(crate) owner: Option<NodeId>,
    pub(crate) held: bool,
    pub(crate) contested: bool,
    pub(crate) expires_within: Option<u32>,
    pub(crate) metadata: Option<(Key, Box<str>)>,
    /// What is wrong with it.
    pub(crate) wrong: Option<LockError>,
}

impl LockFilter {
    /// Wants all locks that are held or waited for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wants keys of this form, 1 to 255 bytes: `*` stands for any characters, `?` for one. With a pattern of another
    /// length the list is refused ([`LockError::Pattern`]).
    #[must_use]
    pub fn key(mut self, pattern: &str) -> Self {
        self.check("key", pattern, 1);
        self.key = Key::new(pattern);
        self
    }

    /// Wants what this process holds or waits for.
    #[must_use]
    pub const fn owner(mut self, owner: NodeId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Wants holders, not who waits.
    #[must_use]
    pub const fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Wants locks for which somebody waits.
    #[must_use]
    pub const fn contested(mut self) -> Self {
        self.contested = true;
        self
    }

    /// Wants leases that end within this time, unless they are renewed.
    #[must_use]
    pub fn expires_within(mut self, time: Duration) -> Self {
        self.expires_within = Some(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Wants holders and waiters with this metadata; in the value `*` and `?` stand for what they do in keys. The name
    /// has 1 to 255 bytes, the pattern of the value at most 255; otherwise the list is refused ([`LockError::Pattern`]).
    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.check("name of metadata", name, 1);
        self.check("value of metadata", value, 0);
        self.metadata = Key::new(name).map(|name| (name, value.into()));
        self
    }

    fn check(&mut self, field: &'static str, pattern: &str, least: usize) {
        let len = pattern.len();
        if !(least..=255).contains(&len) {
            self.wrong = Some(LockError::Pattern { field, len, least });
        }
    }

    fn fits(&self, row: &LockRow) -> bool {
        let key = self
            .key
            .as_ref()
            .is_none_or(|pattern| matches_pattern(pattern, &row.key));
        let owner = self.owner.is_none_or(|owner| row.owner.node == owner);
        let held = !self.held || row.token.is_some();
        let contested = !self.contested || row.waiting > 0;
        let expires = self
            .expires_within
            .is_none_or(|time| row.left_ms.is_some_and(|left| left <= time));
        let metadata = self.metadata.as_ref().is_none_or(|(name, value)| {
            let mut pairs = row.metadata();
            pairs.any(|(of, is)| of == &**name && matches_pattern(value, is))
        });
        key && owner && held && contested && expires && metadata
    }
}

/// Where a page ends: the next one begins behind it, whatever has happened between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockCursor {
    pub(crate) key: Key,
    /// Holders come before who waits.
    pub(crate) waits: bool,
    /// A token; or a place in the queue: the later, the lower the priority.
    pub(crate) place: (u64, u64),
}

/// Somebody who holds a lock, or waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LockRow {
    /// The lock.
    pub key: Key,
    /// How much there is of it.
    pub capacity: u32,
    /// How many wait for it.
    pub waiting: u32,
    /// Who holds it or waits.
    pub owner: Life,
    /// The token by which it is held; `None` of who waits.
    pub token: Option<u64>,
    /// How much of it is held or wanted.
    pub units: u32,
    /// The length of a lease, in milliseconds.
    pub ttl_ms: u32,
    /// How long the present lease lasts at most, in milliseconds; `None` of who waits.
    pub left_ms: Option<u32>,
    /// Whether it was taken from its holder, who has not stopped yet.
    pub revoked: bool,
    /// What its holder wants others to see, as it travels.
    pub(crate) metadata: Bytes,
}

impl LockRow {
    /// Returns what its holder wants others to see.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.metadata)
    }
}

/// Reads metadata as `LockRequest` writes it; ends where it is anything else.
fn pairs(metadata: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut reader = crate::wire::Reader::new(metadata);
    let count = reader.u8().unwrap_or(0);
    (0..count).map_while(move |_| {
        let name = core::str::from_utf8(reader.short_bytes()?).ok()?;
        let value = core::str::from_utf8(reader.long_bytes()?).ok()?;
        Some((name, value))
    })
}

/// Returns whether a text has the form of a pattern. Each `*` is tried once for each place: no pattern is slow.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The last `*`, and up to where it reaches.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, reached)) = star {
            star = Some((at, reached + 1));
            (p, t) = (at + 1, reached + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Returns what all that has the form of a pattern begins with.
fn literal_prefix(pattern: &str) -> &str {
    pattern.split(['*', '?']).next().unwrap_or("")
}

/// One page of locks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct LockPage {
    /// Who holds and waits, in the order of the keys; holders by token, then waiters, the first first.
    pub rows: Vec<LockRow>,
    /// Behind what the next page begins; `None` if there is nothing more.
    pub next: Option<LockCursor>,
}

/// Rows that are looked at for one page: a filter that nothing fits must not keep a leader busy.
const MAX_SEEN: usize = 4096;

/// Reads a page, as many rows as one frame has room for.
pub(super) fn page(
    table: &Table,
    filter: &LockFilter,
    after: Option<&LockCursor>,
    now: Instant,
    deadline: impl Fn(u64) -> Option<Instant>,
) -> LockPage {
    let mut page = LockPage::default();
    let mut room = MAX_PAGE_BYTES;
    let mut last: Option<LockCursor> = None;
    let prefix = filter.key.as_deref().map_or("", literal_prefix);
    let from = after.map_or(prefix, |after| prefix.max(&*after.key));
    let locks = table
        .locks
        .range::<str, _>((Bound::Included(from), Bound::Unbounded));
    // Whoever asks for one key must not look at all.
    let locks = locks.take_while(|(key, _)| key.starts_with(prefix));
    let rows = locks.flat_map(|(key, lock)| {
        let waiting = u32::try_from(lock.waiting()).unwrap_or(u32::MAX);
        let at = |waits, place| LockCursor {
            key: key.clone(),
            waits,
            place,
        };
        let row = LockRow {
            key: key.clone(),
            capacity: lock.capacity,
            waiting,
            owner: Life::first(NodeId::from_bytes([0; 16])),
            token: None,
            units: 0,
            ttl_ms: 0,
            left_ms: None,
            revoked: false,
            metadata: Bytes::new(),
        };
        let waits = row.clone();
        let deadline = &deadline;
        let holders = lock.holders.iter().map(move |(token, holder)| {
            let left = deadline(token).map_or(Duration::ZERO, |until| until - now);
            let row = LockRow {
                owner: holder.owner,
                token: Some(token),
                units: holder.units,
                ttl_ms: holder.ttl,
                left_ms: Some(u32::try_from(left.as_millis()).unwrap_or(u32::MAX)),
                revoked: holder.revoked,
                metadata: holder.metadata.clone(),
                ..row.clone()
            };
            (at(false, (token, 0)), row)
        });
        let waiters = lock.queue.iter().map(move |(place, waiter)| {
            let row = LockRow {
                owner: waiter.owner,
                units: waiter.wish.units,
                ttl_ms: waiter.wish.ttl,
                metadata: waiter.wish.metadata.clone(),
                ..waits.clone()
            };
            (at(true, place.order()), row)
        });
        holders.chain(waiters)
    });
    let rows = rows.filter(|(at, _)| {
        after.is_none_or(|after| at > after || (at == after && planted(PlantedBug::PageRepeatsItsCursor)))
    });
    for (seen, (at, row)) in rows.enumerate() {
        let fits = filter.fits(&row);
        let len = row_len(&row);
        if seen >= MAX_SEEN || (fits && len > room) {
            page.next = last;
            break;
        }
        last = Some(at);
        if fits {
            room -= len;
            page.rows.push(row);
        }
    }
    page
}
