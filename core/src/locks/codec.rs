//! Locks on the wire, in the log, and in a snapshot (docs/wire.md).
//!
//! Reading is bounds-checked, and allocates no more than what was received could fill.

mod change;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use change::{change_len, put_change, read_change};
pub(crate) use snapshot::{put_table, read_table};

use super::ask::{Answer, Ask, Denial, Wish};
use super::key::{Key, MAX_KEY_BYTES, MAX_METADATA_BYTES};
use super::list::{LockCursor, LockFilter, LockPage, LockRow};
use crate::consensus::Life;
use crate::wire::Reader;
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
        Ask::Watch { request, key } => {
            buf.push(9);
            put_u64(buf, *request);
            put_key(buf, key);
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
        // A filter with a longer one is refused.
        buf.push(value.len() as u8);
        buf.extend_from_slice(value.as_bytes());
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
        metadata: read_option(reader, |reader| {
            let name = read_key(reader)?;
            let value = core::str::from_utf8(reader.short_bytes()?).ok()?;
            Some((name, value.into()))
        })?,
        wrong: None,
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
    // A row takes 53 bytes or more of `MAX_PAGE_BYTES`.
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
        9 => Ask::Watch {
            request: reader.u64()?,
            key: read_key(reader)?,
        },
        _ => return None,
    })
}

fn put_denial(buf: &mut Vec<u8>, why: Denial) {
    match why {
        Denial::Taken {
            token,
            owner,
            left,
            waiting,
        } => {
            buf.push(1);
            put_u64(buf, token);
            buf.extend_from_slice(&owner.to_bytes());
            put_u32(buf, left);
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
        Denial::Ttl(longest) => {
            buf.push(8);
            put_u32(buf, longest);
        }
    }
}

fn read_denial(reader: &mut Reader<'_>) -> Option<Denial> {
    Some(match reader.u8()? {
        1 => Denial::Taken {
            token: reader.u64()?,
            owner: reader.node_id()?,
            left: reader.u32()?,
            waiting: reader.u32()?,
        },
        2 => Denial::OtherCapacity(reader.u32()?),
        3 => Denial::TooManyWaiters(reader.u32()?),
        4 => Denial::TableFull,
        5 => Denial::TooManyRequests,
        6 => Denial::Invalid,
        7 => Denial::NotOpen,
        8 => Denial::Ttl(reader.u32()?),
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
        Answer::Watched { request, version } => {
            buf.push(12);
            put_u64(buf, *request);
            put_u64(buf, *version);
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
        12 => Answer::Watched {
            request: reader.u64()?,
            version: reader.u64()?,
        },
        _ => return None,
    })
}
