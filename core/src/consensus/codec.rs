//! Consensus on the wire, and the state machine in a snapshot (docs/wire.md).
//!
//! Reading is bounds-checked and canonical: lives in order, no more than [`MAX_SEATS`] of them, numbers below
//! [`MAX_NUMBER`]. It allocates no more than what the frame holds: at most 15 lives a list, at most one entry for each
//! [`ENTRY_HEAD`] bytes, at most one frame of a snapshot.

#[cfg(test)]
mod tests;

use super::entry::{Command, Entry, Found, Position};
use super::life::{Group, Life};
use super::machine::Machine;
use super::message::{Envelope, Message};
use super::seats::{SeatChange, Seats};
use crate::config::MAX_CLUSTER_SIZE;
use crate::id::NodeId;
use crate::locks::codec as locks;
use crate::wire::{MAX_FRAME_BODY, Reader, kind};
use alloc::vec::Vec;
use bytes::Bytes;

/// Terms, indexes, rounds and foundings end here, so that no sum with one can overflow. Nobody gets there.
const MAX_NUMBER: u64 = 1 << 62;
/// The most seats that a cluster can have.
const MAX_SEATS: usize = MAX_CLUSTER_SIZE as usize;

const LIFE_LEN: usize = 20;
const GROUP_LEN: usize = LIFE_LEN + 8;
/// Bytes of a body before what the message says: group, the sender's life, the addressee's.
const HEAD_LEN: usize = GROUP_LEN + 4 + 4;
/// Bytes of an entry before what its command says: term and command.
const ENTRY_HEAD: usize = 8 + 1;
/// Bytes of an APPEND without entries, and of a SNAPSHOT without data.
const APPEND_LEN: usize = HEAD_LEN + 8 + 16 + 8 + 8 + 1;
const SNAPSHOT_LEN: usize = HEAD_LEN + 8 + 16 + 4 + 4 + 8 + 2;

/// How many bytes of entries a message may carry.
pub(super) const MAX_ENTRY_BYTES: usize = 1000;
/// How many bytes of a snapshot a message may carry.
pub(super) const MAX_PIECE_BYTES: usize = 1024;

// What does not fit into a frame would never arrive.
const _: () = assert!(APPEND_LEN + MAX_ENTRY_BYTES <= MAX_FRAME_BODY);
const _: () = assert!(SNAPSHOT_LEN + MAX_PIECE_BYTES <= MAX_FRAME_BODY);
// The largest entries are a `Found` with all seats, and an acquire; one that is larger than a message's share would never be sent.
const _: () = assert!(ENTRY_HEAD + locks::MAX_CHANGE_BYTES <= MAX_ENTRY_BYTES);
const _: () = assert!(ENTRY_HEAD + GROUP_LEN + 8 + 1 + MAX_SEATS * LIFE_LEN <= MAX_ENTRY_BYTES);

const FOUND: u8 = 1;
const NOOP: u8 = 2;
const FILL: u8 = 3;
const EMPTY: u8 = 4;
const OPEN: u8 = 5;
const CLOSE: u8 = 6;
const DRAW: u8 = 7;
const LOCK: u8 = 8;

/// The layout of a snapshot that this build writes, and the only one that it reads.
const MACHINE_VERSION: u8 = 1;

/// Returns the state of the machine as a snapshot carries it.
pub(super) fn encode_machine(machine: &Machine) -> Bytes {
    let mut buf = Vec::new();
    buf.push(MACHINE_VERSION);
    put_found(&mut buf, &machine.found);
    put_seats(&mut buf, &machine.seats);
    buf.push(match machine.gate() {
        None => 0,
        Some(true) => OPEN,
        Some(false) => CLOSE,
    });
    put_u64(&mut buf, machine.counter);
    locks::put_table(&mut buf, &machine.table);
    buf.into()
}

/// Reads what [`encode_machine`] wrote; `None` if that is not what this is.
pub(super) fn decode_machine(data: &[u8]) -> Option<Machine> {
    let mut reader = Reader::new(data);
    if reader.u8()? != MACHINE_VERSION {
        return None;
    }
    let found = read_found(&mut reader)?;
    let seats = read_seats(&mut reader)?;
    let (open, decided) = match reader.u8()? {
        0 => (false, false),
        OPEN => (true, true),
        CLOSE => (false, true),
        _ => return None,
    };
    let counter = reader.u64().filter(|&counter| counter >= found.token_base)?;
    Some(Machine {
        found,
        seats,
        open,
        decided,
        counter,
        table: locks::read_table(&mut reader)?,
    })
}

/// Returns the type of the frame that carries this message.
pub(super) const fn kind_of(message: &Message) -> u8 {
    match message {
        Message::FoundRequest => kind::FOUND_REQUEST,
        Message::FoundVote { .. } => kind::FOUND_VOTE,
        Message::PreVote { .. } => kind::PRE_VOTE,
        Message::PreVoteReply { .. } => kind::PRE_VOTE_REPLY,
        Message::RequestVote { .. } => kind::REQUEST_VOTE,
        Message::Vote { .. } => kind::VOTE,
        Message::Append { .. } => kind::APPEND,
        Message::AppendReply { .. } => kind::APPEND_REPLY,
        Message::Snapshot { .. } => kind::SNAPSHOT,
        Message::SnapshotReply { .. } => kind::SNAPSHOT_REPLY,
        Message::TimeoutNow { .. } => kind::TIMEOUT_NOW,
        Message::Ask(_) => kind::ASK,
        Message::Answer(_) => kind::ANSWER,
        Message::Draw { .. } => kind::DRAW,
        Message::Drawn { .. } => kind::DRAWN,
    }
}

/// Appends the body of a frame. Which processes it is between, the session says.
pub(super) fn put_envelope(buf: &mut Vec<u8>, envelope: &Envelope) {
    put_group(buf, envelope.group);
    put_u32(buf, envelope.from.number);
    put_u32(buf, envelope.to.number);
    match &envelope.message {
        Message::FoundRequest => {}
        Message::FoundVote { floor } => put_u64(buf, *floor),
        Message::PreVote { term, last } | Message::RequestVote { term, last } => {
            put_u64(buf, *term);
            put_position(buf, *last);
        }
        Message::PreVoteReply { term, granted } | Message::Vote { term, granted } => {
            put_u64(buf, *term);
            buf.push(u8::from(*granted));
        }
        Message::Append {
            term,
            prev,
            entries,
            commit,
            round,
        } => {
            put_u64(buf, *term);
            put_position(buf, *prev);
            put_u64(buf, *commit);
            put_u64(buf, *round);
            // The count is bounded by `Log::slice`.
            buf.push(entries.len() as u8);
            for entry in entries {
                put_entry(buf, entry);
            }
        }
        Message::AppendReply {
            term,
            index,
            matched,
            round,
            virgin,
        } => {
            put_u64(buf, *term);
            put_u64(buf, *index);
            put_u64(buf, *round);
            buf.push(u8::from(*matched) | u8::from(*virgin) << 1);
        }
        Message::Snapshot {
            term,
            last,
            offset,
            total,
            data,
            round,
        } => {
            put_u64(buf, *term);
            put_position(buf, *last);
            put_u64(buf, *round);
            put_u32(buf, *offset);
            put_u32(buf, *total);
            // The length is bounded by `MAX_PIECE_BYTES`.
            buf.extend_from_slice(&(data.len() as u16).to_be_bytes());
            buf.extend_from_slice(data);
        }
        Message::SnapshotReply {
            term,
            last,
            received,
            round,
        } => {
            put_u64(buf, *term);
            put_position(buf, *last);
            put_u64(buf, *round);
            put_u32(buf, *received);
        }
        Message::TimeoutNow { term } => put_u64(buf, *term),
        Message::Ask(ask) => locks::put_ask(buf, ask),
        Message::Answer(answer) => locks::put_answer(buf, answer),
        Message::Draw { request } => put_u64(buf, *request),
        Message::Drawn { request, token } => {
            put_u64(buf, *request);
            buf.push(u8::from(token.is_some()));
            token.iter().for_each(|&token| put_u64(buf, token));
        }
    }
}

/// Reads the body of a frame between two processes; `None` if it is malformed. Bytes behind what is known of its type
/// are ignored.
pub(super) fn read_envelope(from: NodeId, to: NodeId, kind: u8, body: &[u8]) -> Option<Envelope> {
    let mut reader = Reader::new(body);
    let group = read_group(&mut reader)?;
    let mut life = |node| {
        Some(Life {
            node,
            number: reader.u32()?,
        })
    };
    let (from, to) = (life(from)?, life(to)?);
    Some(Envelope {
        group,
        from,
        to,
        message: read_message(kind, &mut reader)?,
    })
}

fn read_message(kind: u8, reader: &mut Reader<'_>) -> Option<Message> {
    Some(match kind {
        kind::FOUND_REQUEST => Message::FoundRequest,
        kind::FOUND_VOTE => Message::FoundVote { floor: reader.u64()? },
        kind::PRE_VOTE => Message::PreVote {
            term: read_number(reader)?,
            last: read_position(reader)?,
        },
        kind::PRE_VOTE_REPLY => Message::PreVoteReply {
            term: read_number(reader)?,
            granted: read_flags(reader, 1)? != 0,
        },
        kind::REQUEST_VOTE => Message::RequestVote {
            term: read_number(reader)?,
            last: read_position(reader)?,
        },
        kind::VOTE => Message::Vote {
            term: read_number(reader)?,
            granted: read_flags(reader, 1)? != 0,
        },
        kind::APPEND => {
            let (term, prev) = (read_number(reader)?, read_position(reader)?);
            let (commit, round) = (read_number(reader)?, read_number(reader)?);
            let count = reader.u8()?;
            let mut entries = Vec::with_capacity(usize::from(count).min(reader.rest().len() / ENTRY_HEAD));
            for _ in 0..count {
                entries.push(read_entry(reader)?);
            }
            Message::Append {
                term,
                prev,
                entries,
                commit,
                round,
            }
        }
        kind::APPEND_REPLY => {
            let (term, index) = (read_number(reader)?, read_number(reader)?);
            let round = read_number(reader)?;
            let flags = read_flags(reader, 1 | 2)?;
            Message::AppendReply {
                term,
                index,
                matched: flags & 1 != 0,
                round,
                virgin: flags & 2 != 0,
            }
        }
        kind::SNAPSHOT => {
            let (term, last) = (read_number(reader)?, read_position(reader)?);
            let round = read_number(reader)?;
            Message::Snapshot {
                term,
                last,
                offset: reader.u32()?,
                total: reader.u32()?,
                data: Bytes::copy_from_slice(reader.long_bytes()?),
                round,
            }
        }
        kind::SNAPSHOT_REPLY => {
            let (term, last) = (read_number(reader)?, read_position(reader)?);
            let round = read_number(reader)?;
            Message::SnapshotReply {
                term,
                last,
                received: reader.u32()?,
                round,
            }
        }
        kind::TIMEOUT_NOW => Message::TimeoutNow {
            term: read_number(reader)?,
        },
        kind::ASK => Message::Ask(locks::read_ask(reader)?),
        kind::ANSWER => Message::Answer(locks::read_answer(reader)?),
        kind::DRAW => Message::Draw {
            request: reader.u64()?,
        },
        kind::DRAWN => {
            let request = reader.u64()?;
            let token = match read_flags(reader, 1)? {
                0 => None,
                _ => Some(reader.u64()?),
            };
            Message::Drawn { request, token }
        }
        _ => return None,
    })
}

/// Returns how many bytes `put_entry` writes.
pub(super) fn entry_len(entry: &Entry) -> usize {
    ENTRY_HEAD
        + match &entry.command {
            Command::Found(found) => GROUP_LEN + 8 + 1 + found.seats.len() * LIFE_LEN,
            Command::Noop | Command::Open | Command::Close => 0,
            Command::Seat(_) => LIFE_LEN,
            Command::Lock(change) => locks::change_len(change),
            Command::Draw { .. } => LIFE_LEN + 8,
        }
}

fn put_entry(buf: &mut Vec<u8>, entry: &Entry) {
    put_u64(buf, entry.term);
    match &entry.command {
        Command::Found(found) => {
            buf.push(FOUND);
            put_found(buf, found);
        }
        Command::Noop => buf.push(NOOP),
        Command::Seat(SeatChange::Fill(life)) => {
            buf.push(FILL);
            put_life(buf, *life);
        }
        Command::Seat(SeatChange::Empty(life)) => {
            buf.push(EMPTY);
            put_life(buf, *life);
        }
        Command::Open => buf.push(OPEN),
        Command::Close => buf.push(CLOSE),
        Command::Lock(change) => {
            buf.push(LOCK);
            locks::put_change(buf, change);
        }
        Command::Draw { to, request } => {
            buf.push(DRAW);
            put_life(buf, *to);
            put_u64(buf, *request);
        }
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Option<Entry> {
    let term = read_number(reader)?;
    let command = match reader.u8()? {
        FOUND => Command::Found(read_found(reader)?),
        NOOP => Command::Noop,
        FILL => Command::Seat(SeatChange::Fill(read_life(reader)?)),
        EMPTY => Command::Seat(SeatChange::Empty(read_life(reader)?)),
        OPEN => Command::Open,
        CLOSE => Command::Close,
        LOCK => Command::Lock(locks::read_change(reader)?),
        DRAW => Command::Draw {
            to: read_life(reader)?,
            request: reader.u64()?,
        },
        // Who skipped an entry would disagree from there on with those who know it.
        _ => return None,
    };
    Some(Entry { term, command })
}

fn put_found(buf: &mut Vec<u8>, found: &Found) {
    put_group(buf, found.group);
    put_u64(buf, found.token_base);
    put_seats(buf, &found.seats);
}

fn read_found(reader: &mut Reader<'_>) -> Option<Found> {
    let group = read_group(reader)?;
    let token_base = reader.u64()?;
    Some(Found {
        group,
        seats: read_seats(reader)?,
        token_base,
    })
}

pub(super) fn put_seats(buf: &mut Vec<u8>, seats: &Seats) {
    // N and the surge are far below 256.
    buf.push(seats.len() as u8);
    seats.iter().for_each(|seat| put_life(buf, seat));
}

/// Reads lives in strictly rising order, at least one and at most [`MAX_SEATS`].
pub(super) fn read_seats(reader: &mut Reader<'_>) -> Option<Seats> {
    let count = usize::from(reader.u8()?);
    if !(1..=MAX_SEATS).contains(&count) {
        return None;
    }
    let mut lives: Vec<Life> = Vec::with_capacity(count);
    for _ in 0..count {
        let life = read_life(reader)?;
        if lives.last().is_some_and(|&before| before >= life) {
            return None;
        }
        lives.push(life);
    }
    Some(lives.into_iter().collect())
}

pub(super) fn put_group(buf: &mut Vec<u8>, group: Group) {
    put_life(buf, group.founder);
    put_u64(buf, group.founding);
}

pub(super) fn read_group(reader: &mut Reader<'_>) -> Option<Group> {
    Some(Group {
        founder: read_life(reader)?,
        founding: read_number(reader)?,
    })
}

pub(super) fn put_life(buf: &mut Vec<u8>, life: Life) {
    buf.extend_from_slice(&life.node.to_bytes());
    put_u32(buf, life.number);
}

pub(super) fn read_life(reader: &mut Reader<'_>) -> Option<Life> {
    Some(Life {
        node: reader.node_id()?,
        number: reader.u32()?,
    })
}

pub(super) fn put_position(buf: &mut Vec<u8>, position: Position) {
    put_u64(buf, position.term);
    put_u64(buf, position.index);
}

pub(super) fn read_position(reader: &mut Reader<'_>) -> Option<Position> {
    Some(Position {
        term: read_number(reader)?,
        index: read_number(reader)?,
    })
}

fn put_u64(buf: &mut Vec<u8>, number: u64) {
    buf.extend_from_slice(&number.to_be_bytes());
}

fn put_u32(buf: &mut Vec<u8>, number: u32) {
    buf.extend_from_slice(&number.to_be_bytes());
}

fn read_number(reader: &mut Reader<'_>) -> Option<u64> {
    reader.u64().filter(|&number| number < MAX_NUMBER)
}

/// Reads flags of which only those in `known` may be set.
fn read_flags(reader: &mut Reader<'_>, known: u8) -> Option<u8> {
    reader.u8().filter(|flags| flags & !known == 0)
}
