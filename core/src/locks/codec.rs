//! Locks on the wire, in the log, and in a snapshot (docs/wire.md).
//!
//! Reading is bounds-checked, and allocates no more than what was received could fill.

#[cfg(test)]
pub(crate) mod tests;

use super::ask::{Answer, Ask, Denial, Wish};
use super::key::{Key, MAX_KEY_BYTES, MAX_METADATA_BYTES};
use super::list::{LockCursor, LockFilter, LockPage, LockRow};
use super::table::{Change, Holder, Lock, Owner, Place, Record, Request, Table, Waiter};
use crate::consensus::Life;
use crate::wire::Reader;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

const LIFE_LEN: usize = 20;
/// Bytes of a wish without its key and metadata: their lengths, units, capacity, priority, whether to wait, ttl.
const WISH_LEN: usize = 1 + 2 + 4 + 4 + 1 + 1 + 4;
/// The longest change: an acquire.
pub(crate) const MAX_CHANGE_BYTES: usize =
    1 + LIFE_LEN + 8 + 8 + WISH_LEN + MAX_KEY_BYTES + MAX_METADATA_BYTES;
/// Tokens or requests in one frame: at 12 bytes each they fit, with their leases.
pub(crate) const MAX_LIST: usize = 80;
/// Bytes of a row without its key and metadata: their lengths, capacity, waiting, owner, token, units, ttl, time left,
/// flags.
const ROW_LEN: usize = 1 + 2 + 4 + 4 + LIFE_LEN + 8 + 4 + 4 + 4 + 1;
/// Bytes of rows in a page: whatever row there is fits, and with it a cursor of its length.
pub(crate) const MAX_PAGE_BYTES: usize = ROW_LEN + MAX_KEY_BYTES + MAX_METADATA_BYTES;
/// Bytes of the frame of a page beside its rows, at most: head, number, count, and a cursor with the longest key.
const PAGE_LEN: usize = 36 + 1 + 8 + 1 + 1 + (1 + MAX_KEY_BYTES + 1 + 16);
const _: () = assert!(PAGE_LEN + MAX_PAGE_BYTES <= crate::wire::MAX_FRAME_BODY);

fn put_u64(buf: &mut Vec<u8>, number: u64) {
    buf.extend_from_slice(&number.to_be_bytes());
}

fn put_u32(buf: &mut Vec<u8>, number: u32) {
    buf.extend_from_slice(&number.to_be_bytes());
}

fn put_count(buf: &mut Vec<u8>, count: usize) {
    // Far below 2^32: the table's size is bounded.
    put_u32(buf, u32::try_from(count).unwrap_or(u32::MAX));
}

fn put_life(buf: &mut Vec<u8>, life: Life) {
    buf.extend_from_slice(&life.node.to_bytes());
    put_u32(buf, life.number);
}

fn read_life(reader: &mut Reader<'_>) -> Option<Life> {
    Some(Life {
        node: reader.node_id()?,
        number: reader.u32()?,
    })
}

fn put_key(buf: &mut Vec<u8>, key: &Key) {
    // A key has at most 255 bytes.
    buf.push(key.len() as u8);
    buf.extend_from_slice(key.as_bytes());
}

fn read_key(reader: &mut Reader<'_>) -> Option<Key> {
    Key::new(core::str::from_utf8(reader.short_bytes()?).ok()?)
}

fn put_metadata(buf: &mut Vec<u8>, metadata: &[u8]) {
    // Bounded by `MAX_METADATA_BYTES`.
    buf.extend_from_slice(&(metadata.len() as u16).to_be_bytes());
    buf.extend_from_slice(metadata);
}

fn read_metadata(reader: &mut Reader<'_>) -> Option<Bytes> {
    let metadata = reader.long_bytes()?;
    (metadata.len() <= MAX_METADATA_BYTES).then(|| Bytes::copy_from_slice(metadata))
}

fn read_bool(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn put_list(buf: &mut Vec<u8>, numbers: &[u64]) {
    // Bounded by `MAX_LIST`.
    buf.push(numbers.len() as u8);
    numbers.iter().for_each(|&number| put_u64(buf, number));
}

fn read_list(reader: &mut Reader<'_>) -> Option<Vec<u64>> {
    let count = usize::from(reader.u8()?);
    if count > MAX_LIST || reader.rest().len() < count * 8 {
        return None;
    }
    (0..count).map(|_| reader.u64()).collect()
}

fn put_wish(buf: &mut Vec<u8>, wish: &Wish) {
    put_key(buf, &wish.key);
    put_u32(buf, wish.units);
    put_u32(buf, wish.capacity);
    buf.push(wish.priority);
    buf.push(u8::from(wish.wait));
    put_u32(buf, wish.ttl);
    put_metadata(buf, &wish.metadata);
}

fn read_wish(reader: &mut Reader<'_>) -> Option<Wish> {
    Some(Wish {
        key: read_key(reader)?,
        units: reader.u32()?,
        capacity: reader.u32()?,
        priority: reader.u8()?,
        wait: read_bool(reader)?,
        ttl: reader.u32()?,
        metadata: read_metadata(reader)?,
    })
}

const fn wish_len(wish: &Wish, key: usize) -> usize {
    WISH_LEN + key + wish.metadata.len()
}

/// Returns how many bytes [`put_change`] writes.
pub(crate) fn change_len(change: &Change) -> usize {
    1 + match change {
        Change::Acquire { wish, .. } => LIFE_LEN + 8 + 8 + wish_len(wish, wish.key.len()),
        Change::Grant { key, .. } => 1 + key.len() + LIFE_LEN + 8,
        Change::Release { .. } | Change::DropWaiter { .. } => LIFE_LEN + 8,
        Change::Raise { .. } => LIFE_LEN + 8 + 4,
        Change::Cancel { .. } => LIFE_LEN + 8 + 8,
        Change::Expire { .. } => 8,
        Change::Revoke { .. } => 16 + 8 + 1,
        Change::DropOwner { .. } | Change::ForgetOwner { .. } => 16,
    }
}

pub(crate) fn put_change(buf: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Acquire {
            owner,
            request,
            floor,
            wish,
        } => {
            buf.push(1);
            put_life(buf, *owner);
            put_u64(buf, *request);
            put_u64(buf, *floor);
            put_wish(buf, wish);
        }
        Change::Grant { key, owner, request } => {
            buf.push(2);
            put_key(buf, key);
            put_life(buf, *owner);
            put_u64(buf, *request);
        }
        Change::Release { owner, token } => {
            buf.push(3);
            put_life(buf, *owner);
            put_u64(buf, *token);
        }
        Change::Raise { owner, token, ttl } => {
            buf.push(4);
            put_life(buf, *owner);
            put_u64(buf, *token);
            put_u32(buf, *ttl);
        }
        Change::Cancel {
            owner,
            request,
            floor,
        } => {
            buf.push(5);
            put_life(buf, *owner);
            put_u64(buf, *request);
            put_u64(buf, *floor);
        }
        Change::Expire { token } => {
            buf.push(6);
            put_u64(buf, *token);
        }
        Change::Revoke { by, token, at_once } => {
            buf.push(7);
            buf.extend_from_slice(&by.to_bytes());
            put_u64(buf, *token);
            buf.push(u8::from(*at_once));
        }
        Change::DropWaiter { owner, request } => {
            buf.push(8);
            put_life(buf, *owner);
            put_u64(buf, *request);
        }
        Change::DropOwner { node } => {
            buf.push(9);
            buf.extend_from_slice(&node.to_bytes());
        }
        Change::ForgetOwner { node } => {
            buf.push(10);
            buf.extend_from_slice(&node.to_bytes());
        }
    }
}

pub(crate) fn read_change(reader: &mut Reader<'_>) -> Option<Change> {
    Some(match reader.u8()? {
        1 => Change::Acquire {
            owner: read_life(reader)?,
            request: reader.u64()?,
            floor: reader.u64()?,
            wish: Arc::new(read_wish(reader)?),
        },
        2 => Change::Grant {
            key: read_key(reader)?,
            owner: read_life(reader)?,
            request: reader.u64()?,
        },
        3 => Change::Release {
            owner: read_life(reader)?,
            token: reader.u64()?,
        },
        4 => Change::Raise {
            owner: read_life(reader)?,
            token: reader.u64()?,
            ttl: reader.u32()?,
        },
        5 => Change::Cancel {
            owner: read_life(reader)?,
            request: reader.u64()?,
            floor: reader.u64()?,
        },
        6 => Change::Expire { token: reader.u64()? },
        7 => Change::Revoke {
            by: reader.node_id()?,
            token: reader.u64()?,
            at_once: read_bool(reader)?,
        },
        8 => Change::DropWaiter {
            owner: read_life(reader)?,
            request: reader.u64()?,
        },
        9 => Change::DropOwner {
            node: reader.node_id()?,
        },
        10 => Change::ForgetOwner {
            node: reader.node_id()?,
        },
        // Who skipped an entry would disagree from there on with those who know it.
        _ => return None,
    })
}

pub(crate) fn put_ask(buf: &mut Vec<u8>, ask: &Ask) {
    match ask {
        Ask::Acquire {
            stamp,
            request,
            floor,
            wish,
        } => {
            buf.push(1);
            put_u64(buf, *stamp);
            put_u64(buf, *request);
            put_u64(buf, *floor);
            put_wish(buf, wish);
        }
        Ask::Wait { stamp, requests } => {
            buf.push(2);
            put_u64(buf, *stamp);
            put_list(buf, requests);
        }
        Ask::Renew { stamp, tokens } => {
            buf.push(3);
            put_u64(buf, *stamp);
            put_list(buf, tokens);
        }
        Ask::Raise { stamp, token, ttl } => {
            buf.push(4);
            put_u64(buf, *stamp);
            put_u64(buf, *token);
            put_u32(buf, *ttl);
        }
        Ask::Release { tokens } => {
            buf.push(5);
            put_list(buf, tokens);
        }
        Ask::Cancel { request, floor } => {
            buf.push(6);
            put_u64(buf, *request);
            put_u64(buf, *floor);
        }
        Ask::Revoke {
            request,
            token,
            at_once,
        } => {
            buf.push(7);
            put_u64(buf, *request);
            put_u64(buf, *token);
            buf.push(u8::from(*at_once));
        }
        Ask::List {
            request,
            filter,
            after,
        } => {
            buf.push(8);
            put_u64(buf, *request);
            put_filter(buf, filter);
            put_option(buf, after.as_ref(), put_cursor);
        }
    }
}

fn put_option<T>(buf: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    buf.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(buf, value);
    }
}

fn read_option<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Option<Option<T>> {
    if read_bool(reader)? {
        read(reader).map(Some)
    } else {
        Some(None)
    }
}

fn put_cursor(buf: &mut Vec<u8>, cursor: &LockCursor) {
    put_key(buf, &cursor.key);
    buf.push(u8::from(cursor.waits));
    put_u64(buf, cursor.place.0);
    put_u64(buf, cursor.place.1);
}

fn read_cursor(reader: &mut Reader<'_>) -> Option<LockCursor> {
    Some(LockCursor {
        key: read_key(reader)?,
        waits: read_bool(reader)?,
        place: (reader.u64()?, reader.u64()?),
    })
}

fn put_filter(buf: &mut Vec<u8>, filter: &LockFilter) {
    put_option(buf, filter.key.as_ref(), put_key);
    put_option(buf, filter.owner.as_ref(), |buf, owner| {
        buf.extend_from_slice(&owner.to_bytes());
    });
    buf.push(u8::from(filter.held) | u8::from(filter.contested) << 1);
    put_option(buf, filter.expires_within.as_ref(), |buf, &time| {
        put_u32(buf, time)
    });
    put_option(buf, filter.metadata.as_ref(), |buf, (name, value)| {
        put_key(buf, name);
        put_key(buf, value);
    });
}

fn read_filter(reader: &mut Reader<'_>) -> Option<LockFilter> {
    let key = read_option(reader, read_key)?;
    let owner = read_option(reader, Reader::node_id)?;
    let flags = reader.u8().filter(|flags| flags & !3 == 0)?;
    Some(LockFilter {
        key,
        owner,
        held: flags & 1 != 0,
        contested: flags & 2 != 0,
        expires_within: read_option(reader, Reader::u32)?,
        metadata: read_option(reader, |reader| Some((read_key(reader)?, read_key(reader)?)))?,
    })
}

/// Returns how many bytes a row takes in a page.
pub(crate) fn row_len(row: &LockRow) -> usize {
    ROW_LEN + row.key.len() + row.metadata.len()
}

fn put_row(buf: &mut Vec<u8>, row: &LockRow) {
    put_key(buf, &row.key);
    put_u32(buf, row.capacity);
    put_u32(buf, row.waiting);
    put_life(buf, row.owner);
    // No token is 0.
    put_u64(buf, row.token.unwrap_or(0));
    put_u32(buf, row.units);
    put_u32(buf, row.ttl_ms);
    put_u32(buf, row.left_ms.unwrap_or(0));
    buf.push(u8::from(row.revoked));
    put_metadata(buf, &row.metadata);
}

fn read_row(reader: &mut Reader<'_>) -> Option<LockRow> {
    let key = read_key(reader)?;
    let (capacity, waiting) = (reader.u32()?, reader.u32()?);
    let owner = read_life(reader)?;
    let token = Some(reader.u64()?).filter(|&token| token > 0);
    let (units, ttl_ms, left_ms) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if token.is_none() && left_ms > 0 {
        return None;
    }
    Some(LockRow {
        key,
        capacity,
        waiting,
        owner,
        token,
        units,
        ttl_ms,
        left_ms: token.map(|_| left_ms),
        revoked: read_bool(reader)?,
        metadata: read_metadata(reader)?,
    })
}

fn put_page(buf: &mut Vec<u8>, page: &LockPage) {
    // A row takes 56 bytes or more of `MAX_PAGE_BYTES`.
    buf.push(page.rows.len() as u8);
    for row in &page.rows {
        put_row(buf, row);
    }
    put_option(buf, page.next.as_ref(), put_cursor);
}

fn read_page(reader: &mut Reader<'_>) -> Option<LockPage> {
    let count = usize::from(reader.u8()?);
    if reader.rest().len() < count * ROW_LEN {
        return None;
    }
    Some(LockPage {
        rows: (0..count).map(|_| read_row(reader)).collect::<Option<_>>()?,
        next: read_option(reader, read_cursor)?,
    })
}

pub(crate) fn read_ask(reader: &mut Reader<'_>) -> Option<Ask> {
    Some(match reader.u8()? {
        1 => Ask::Acquire {
            stamp: reader.u64()?,
            request: reader.u64()?,
            floor: reader.u64()?,
            wish: read_wish(reader)?,
        },
        2 => Ask::Wait {
            stamp: reader.u64()?,
            requests: read_list(reader)?,
        },
        3 => Ask::Renew {
            stamp: reader.u64()?,
            tokens: read_list(reader)?,
        },
        4 => Ask::Raise {
            stamp: reader.u64()?,
            token: reader.u64()?,
            ttl: reader.u32()?,
        },
        5 => Ask::Release {
            tokens: read_list(reader)?,
        },
        6 => Ask::Cancel {
            request: reader.u64()?,
            floor: reader.u64()?,
        },
        7 => Ask::Revoke {
            request: reader.u64()?,
            token: reader.u64()?,
            at_once: read_bool(reader)?,
        },
        8 => Ask::List {
            request: reader.u64()?,
            filter: read_filter(reader)?,
            after: read_option(reader, read_cursor)?,
        },
        _ => return None,
    })
}

fn put_denial(buf: &mut Vec<u8>, why: Denial) {
    match why {
        Denial::Taken { token, waiting } => {
            buf.push(1);
            put_u64(buf, token);
            put_u32(buf, waiting);
        }
        Denial::OtherCapacity(capacity) => {
            buf.push(2);
            put_u32(buf, capacity);
        }
        Denial::TooManyWaiters(limit) => {
            buf.push(3);
            put_u32(buf, limit);
        }
        Denial::TableFull => buf.push(4),
        Denial::TooManyRequests => buf.push(5),
        Denial::Invalid => buf.push(6),
        Denial::NotOpen => buf.push(7),
    }
}

fn read_denial(reader: &mut Reader<'_>) -> Option<Denial> {
    Some(match reader.u8()? {
        1 => Denial::Taken {
            token: reader.u64()?,
            waiting: reader.u32()?,
        },
        2 => Denial::OtherCapacity(reader.u32()?),
        3 => Denial::TooManyWaiters(reader.u32()?),
        4 => Denial::TableFull,
        5 => Denial::TooManyRequests,
        6 => Denial::Invalid,
        7 => Denial::NotOpen,
        _ => return None,
    })
}

pub(crate) fn put_answer(buf: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Granted {
            request,
            token,
            stamp,
            lease,
        } => {
            buf.push(1);
            put_u64(buf, *request);
            put_u64(buf, *token);
            put_u64(buf, *stamp);
            put_u32(buf, *lease);
        }
        Answer::Queued { request } => {
            buf.push(2);
            put_u64(buf, *request);
        }
        Answer::Denied { request, why } => {
            buf.push(3);
            put_u64(buf, *request);
            put_denial(buf, *why);
        }
        Answer::Unknown { requests } => {
            buf.push(4);
            put_list(buf, requests);
        }
        Answer::Renewed { stamp, leases } => {
            buf.push(5);
            put_u64(buf, *stamp);
            // Bounded by `MAX_LIST`.
            buf.push(leases.len() as u8);
            for &(token, lease) in leases {
                put_u64(buf, token);
                put_u32(buf, lease);
            }
        }
        Answer::Gone { tokens, revoked } => {
            buf.push(6);
            put_list(buf, tokens);
            buf.push(u8::from(*revoked));
        }
        Answer::Released { tokens } => {
            buf.push(7);
            put_list(buf, tokens);
        }
        Answer::Cancelled { request } => {
            buf.push(8);
            put_u64(buf, *request);
        }
        Answer::Revoked { request, held } => {
            buf.push(9);
            put_u64(buf, *request);
            buf.push(u8::from(*held));
        }
        Answer::Elsewhere => buf.push(10),
        Answer::Page { request, page } => {
            buf.push(11);
            put_u64(buf, *request);
            put_page(buf, page);
        }
    }
}

pub(crate) fn read_answer(reader: &mut Reader<'_>) -> Option<Answer> {
    Some(match reader.u8()? {
        1 => Answer::Granted {
            request: reader.u64()?,
            token: reader.u64()?,
            stamp: reader.u64()?,
            lease: reader.u32()?,
        },
        2 => Answer::Queued {
            request: reader.u64()?,
        },
        3 => Answer::Denied {
            request: reader.u64()?,
            why: read_denial(reader)?,
        },
        4 => Answer::Unknown {
            requests: read_list(reader)?,
        },
        5 => {
            let stamp = reader.u64()?;
            let count = usize::from(reader.u8()?);
            if count > MAX_LIST || reader.rest().len() < count * 12 {
                return None;
            }
            let leases: Option<Vec<_>> = (0..count).map(|_| Some((reader.u64()?, reader.u32()?))).collect();
            Answer::Renewed {
                stamp,
                leases: leases?,
            }
        }
        6 => Answer::Gone {
            tokens: read_list(reader)?,
            revoked: read_bool(reader)?,
        },
        7 => Answer::Released {
            tokens: read_list(reader)?,
        },
        8 => Answer::Cancelled {
            request: reader.u64()?,
        },
        9 => Answer::Revoked {
            request: reader.u64()?,
            held: read_bool(reader)?,
        },
        10 => Answer::Elsewhere,
        11 => Answer::Page {
            request: reader.u64()?,
            page: read_page(reader)?,
        },
        _ => return None,
    })
}

/// Appends the table, for a snapshot.
pub(crate) fn put_table(buf: &mut Vec<u8>, table: &Table) {
    put_u64(buf, table.arrivals);
    put_count(buf, table.locks.len());
    for (key, lock) in &table.locks {
        put_key(buf, key);
        put_u32(buf, lock.capacity);
        put_count(buf, lock.holders.len());
        for (&token, holder) in &lock.holders {
            put_u64(buf, token);
            put_life(buf, holder.owner);
            put_u64(buf, holder.request);
            put_u32(buf, holder.units);
            put_u32(buf, holder.ttl);
            buf.push(u8::from(holder.queued) | u8::from(holder.revoked) << 1);
            put_metadata(buf, &holder.metadata);
        }
        put_count(buf, lock.queue.len());
        for (place, waiter) in &lock.queue {
            put_u64(buf, place.arrival);
            put_life(buf, waiter.owner);
            put_u64(buf, waiter.request);
            put_wish(buf, &waiter.wish);
        }
    }
    put_count(buf, table.owners.len());
    for (&owner, known) in &table.owners {
        put_life(buf, owner);
        put_u64(buf, known.floor);
        // Who waits is in the queues.
        let rest = known.requests.iter().filter_map(|(&id, request)| match request {
            Request::Granted(token) => Some((id, *token)),
            Request::Ended => Some((id, 0)),
            Request::Waits(..) => None,
        });
        put_count(buf, rest.clone().count());
        for (id, token) in rest {
            put_u64(buf, id);
            put_u64(buf, token);
        }
    }
    put_count(buf, table.records.len());
    for record in &table.records {
        buf.extend_from_slice(&record.by.to_bytes());
        put_key(buf, &record.key);
        put_u64(buf, record.token);
        put_life(buf, record.owner);
        buf.push(u8::from(record.at_once));
    }
}

/// Reads a table; `None` if it is not one. Everything comes in order, so that one table has one form.
pub(crate) fn read_table(reader: &mut Reader<'_>) -> Option<Table> {
    let mut table = Table {
        arrivals: reader.u64()?,
        ..Table::default()
    };
    for _ in 0..reader.u32()? {
        let key = read_key(reader)?;
        if table.locks.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        let lock = read_lock(reader, &key, &mut table)?;
        table.locks.insert(key, lock);
    }
    let mut last = None;
    for _ in 0..reader.u32()? {
        let life = read_life(reader)?;
        if last.replace(life).is_some_and(|last| last >= life) {
            return None;
        }
        let owner: &mut Owner = table.owners.entry(life).or_default();
        owner.floor = reader.u64()?;
        let mut last = None;
        for _ in 0..reader.u32()? {
            let (id, token) = (reader.u64()?, reader.u64()?);
            if last.replace(id).is_some_and(|last| last >= id) {
                return None;
            }
            let request = match token {
                0 => Request::Ended,
                token => Request::Granted(token),
            };
            if owner.requests.insert(id, request).is_some() {
                return None;
            }
        }
    }
    for _ in 0..reader.u32()? {
        table.records.push_back(Record {
            by: reader.node_id()?,
            key: read_key(reader)?,
            token: reader.u64()?,
            owner: read_life(reader)?,
            at_once: read_bool(reader)?,
        });
    }
    Some(table)
}

fn read_lock(reader: &mut Reader<'_>, key: &Key, table: &mut Table) -> Option<Lock> {
    let mut lock = Lock {
        capacity: reader.u32()?,
        holders: BTreeMap::new(),
        queue: BTreeMap::new(),
    };
    for _ in 0..reader.u32()? {
        let token = reader.u64()?;
        let (owner, request) = (read_life(reader)?, reader.u64()?);
        let (units, ttl) = (reader.u32()?, reader.u32()?);
        let flags = reader.u8().filter(|flags| flags & !3 == 0)?;
        let holder = Holder {
            owner,
            request,
            units,
            ttl,
            queued: flags & 1 != 0,
            revoked: flags & 2 != 0,
            metadata: read_metadata(reader)?,
        };
        table.bytes += key.len() + holder.metadata.len();
        let known = table.tokens.insert(token, key.clone());
        if known.is_some()
            || lock
                .holders
                .last_key_value()
                .is_some_and(|(&last, _)| last >= token)
        {
            return None;
        }
        lock.holders.insert(token, holder);
    }
    for _ in 0..reader.u32()? {
        let arrival = reader.u64()?;
        let (owner, request) = (read_life(reader)?, reader.u64()?);
        let wish = read_wish(reader)?;
        let place = Place::new(wish.priority, arrival);
        table.bytes += key.len() + wish.metadata.len();
        let waits = Request::Waits(key.clone(), place);
        let known = table.owners.entry(owner).or_default();
        let known = known.requests.insert(request, waits);
        if known.is_some()
            || lock
                .queue
                .last_key_value()
                .is_some_and(|(&last, _)| last >= place)
        {
            return None;
        }
        let waiter = Waiter {
            owner,
            request,
            wish: Arc::new(wish),
        };
        lock.queue.insert(place, waiter);
    }
    Some(lock)
}
