//! Changes of the table, as they stand in the log.

use super::{
    LIFE_LEN, put_key, put_life, put_u32, put_u64, put_wish, read_bool, read_key, read_life, read_wish,
    wish_len,
};
use crate::locks::change::Change;
use crate::wire::Reader;
use alloc::sync::Arc;
use alloc::vec::Vec;

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
