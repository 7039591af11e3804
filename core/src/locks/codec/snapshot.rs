//! The whole table, as it stands in a snapshot.

use super::{
    put_count, put_key, put_life, put_metadata, put_u32, put_u64, put_wish, read_bool, read_key, read_life,
    read_metadata, read_wish,
};
use crate::locks::holders::Holders;
use crate::locks::key::Key;
use crate::locks::table::{Holder, Lock, Owner, Place, Record, Request, Table, Waiter, cost};
use crate::wire::Reader;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Appends the table, for a snapshot.
pub(crate) fn put_table(buf: &mut Vec<u8>, table: &Table) {
    put_u64(buf, table.arrivals);
    put_count(buf, table.locks.len());
    for (key, lock) in &table.locks {
        put_key(buf, key);
        put_u32(buf, lock.capacity);
        put_count(buf, lock.holders.len());
        for (token, holder) in lock.holders.iter() {
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
        holders: Holders::default(),
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
        table.bytes += cost(key, &holder.metadata);
        let known = table.tokens.insert(token, key.clone());
        if known.is_some() || lock.holders.last_token().is_some_and(|last| last >= token) {
            return None;
        }
        lock.holders.insert(token, holder);
    }
    for _ in 0..reader.u32()? {
        let arrival = reader.u64()?;
        let (owner, request) = (read_life(reader)?, reader.u64()?);
        let wish = read_wish(reader)?;
        let place = Place::new(wish.priority, arrival);
        table.bytes += cost(key, &wish.metadata);
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
