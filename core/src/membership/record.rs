//! What the cluster says about one process: 64 bytes on the wire, and the order in which statements beat each other.

use crate::config::Role;
use crate::id::NodeId;
use crate::wire::{MAX_FRAME_BODY, Reader, is_shareable, put_addr};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Bytes of one record on the wire.
pub(super) const RECORD_LEN: usize = 64;
/// Records that fit into one frame, behind the head of a DIGEST (the longer of the two heads).
pub(super) const RECORDS_PER_FRAME: usize = (MAX_FRAME_BODY - super::exchange::PAGE_HEAD) / RECORD_LEN;

const FLAG_REPLACED: u8 = 1;

/// The states of a process, the weaker statement first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Alive = 0,
    Suspect = 1,
    Failed = 2,
    Left = 3,
}

impl State {
    pub(super) const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A statement about one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: NodeId,
    pub(super) addr: SocketAddr,
    pub(super) incarnation: u32,
    pub(super) state: State,
    pub(super) role: Role,
    /// The newest protocol version that the process speaks.
    pub(super) version: u8,
    /// With `Failed`: another process answers at its address.
    pub(super) replaced: bool,
    /// The version of its name and metadata, which are pulled apart from the record.
    pub(super) details: u32,
    /// With `Suspect`: whose probes went unanswered (the last such process that was heard of).
    pub(super) accuser: NodeId,
    /// With `Failed` and `Left`: seconds since the departure. Tombstones are handed on with their age, so that
    /// exchanging them cannot keep them alive for ever.
    pub(super) age: u16,
}

/// The place of a statement in the total order of precedence: the larger wins. `Left` is final; otherwise the higher
/// incarnation wins, and within one incarnation failed beats suspect beats alive (SWIM, section 4.2, with the
/// difference that a higher incarnation also revives the failed). Because the order is total, merging is
/// taking the maximum: commutative, associative and idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    left: bool,
    pub(super) incarnation: u32,
    state: State,
}

impl Rank {
    pub(super) const fn new(state: State, incarnation: u32) -> Self {
        match state {
            // All departures rank the same: there is nothing beyond the first.
            State::Left => Self {
                left: true,
                incarnation: 0,
                state,
            },
            _ => Self {
                left: false,
                incarnation,
                state,
            },
        }
    }
}

impl Record {
    pub(super) const fn rank(&self) -> Rank {
        Rank::new(self.state, self.incarnation)
    }

    pub(super) fn encode(&self, buf: &mut Vec<u8>) {
        buf.extend_from_slice(&self.id.to_bytes());
        put_addr(buf, self.addr);
        buf.extend_from_slice(&self.incarnation.to_be_bytes());
        let flags = if self.replaced { FLAG_REPLACED } else { 0 };
        buf.extend_from_slice(&[self.state as u8, encode_role(self.role), self.version, flags]);
        buf.extend_from_slice(&self.details.to_be_bytes());
        buf.extend_from_slice(&self.accuser.to_bytes());
        buf.extend_from_slice(&self.age.to_be_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let id = reader.node_id()?;
        let addr = reader.addr()?;
        let incarnation = reader.u32()?;
        let state = match reader.u8()? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Failed,
            3 => State::Left,
            _ => return None,
        };
        let record = Self {
            id,
            addr,
            incarnation,
            state,
            role: decode_role(reader.u8()?)?,
            version: reader.u8()?,
            replaced: reader.u8()? & FLAG_REPLACED != 0,
            details: reader.u32()?,
            accuser: reader.node_id()?,
            age: reader.u16()?,
        };
        // A live member that nobody can dial is no use to anybody.
        (is_reachable(addr) || !state.is_live()).then_some(record)
    }
}

/// Whether an address can be dialled at all.
pub(super) fn is_reachable(addr: SocketAddr) -> bool {
    addr.port() != 0 && is_shareable(addr.ip())
}

pub(super) const fn encode_role(role: Role) -> u8 {
    match role {
        Role::Voter => 0,
        Role::Observer => 1,
    }
}

pub(super) const fn decode_role(byte: u8) -> Option<Role> {
    match byte {
        0 => Some(Role::Voter),
        1 => Some(Role::Observer),
        _ => None,
    }
}

/// Writes a count and that many records; those beyond a frame's room are left out.
pub(super) fn encode_records<'a>(buf: &mut Vec<u8>, records: impl Iterator<Item = &'a Record>) {
    let count_at = buf.len();
    buf.push(0);
    let mut count = 0;
    for record in records.take(RECORDS_PER_FRAME) {
        record.encode(buf);
        count += 1;
    }
    // The position was pushed above.
    buf[count_at] = count;
}
