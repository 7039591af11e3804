//! The bodies of the messaging frames.

use crate::outbox::BadFrame;
use crate::wire::{Reader, kind};
use alloc::vec::Vec;

/// The most payload bytes of one chunk. A full chunk leaves room for an acknowledgement in the same datagram.
pub(super) const MAX_CHUNK: usize = 1100;
/// The most ranges in one acknowledgement.
pub(super) const MAX_RANGES: usize = 16;
/// Sequence numbers end here, so that no sum with one can overflow. Nobody gets there.
const MAX_SEQUENCE: u64 = 1 << 62;
/// The bytes of a chunk before its head and payload: epoch, sequence, flags.
const CHUNK_LEN: usize = 17;

const BEGIN: u8 = 1;
const END: u8 = 2;

/// Which of a channel's two sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneId {
    /// Messages and requests, delivered in order.
    Ordered = 0,
    /// Replies, delivered as they come.
    Unordered = 1,
}

impl LaneId {
    pub(super) const ALL: [Self; 2] = [Self::Ordered, Self::Unordered];

    fn decode(reader: &mut Reader<'_>) -> Result<Self, BadFrame> {
        match reader.u8() {
            Some(0) => Ok(Self::Ordered),
            Some(1) => Ok(Self::Unordered),
            _ => Err(BadFrame),
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyStatus {
    /// Here is the reply.
    Ok = 0,
    /// There was a reply, but no room to keep it.
    Lost = 1,
}

/// What a message is, said by its first chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Data,
    Request {
        /// How many milliseconds the sender still waits for the reply.
        remaining: u32,
    },
    Response {
        /// The request: the epoch and number of its first chunk.
        epoch: u64,
        sequence: u64,
        status: ReplyStatus,
    },
}

impl Head {
    pub(super) const fn kind(self) -> u8 {
        match self {
            Self::Data => kind::DATA,
            Self::Request { .. } => kind::REQUEST,
            Self::Response { .. } => kind::RESPONSE,
        }
    }

    pub(super) const fn lane(self) -> LaneId {
        match self {
            Self::Data | Self::Request { .. } => LaneId::Ordered,
            Self::Response { .. } => LaneId::Unordered,
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Data => 0,
            Self::Request { .. } => 4,
            Self::Response { .. } => 17,
        }
    }
}

/// The start of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) head: Head,
    /// The size of the whole message.
    pub(super) total: u32,
}

/// A piece of a message: DATA, REQUEST or RESPONSE.
///
/// Epoch u64, sequence u64, flags u8 (1 begin, 2 end); if begin: what the kind demands (REQUEST: remaining
/// milliseconds u32; RESPONSE: request epoch u64, request sequence u64, status u8), and if not also end: total size
/// u32; then payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub(super) kind: u8,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) begin: Option<Begin>,
    pub(super) end: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Chunk<'a> {
    pub(super) fn decode(kind: u8, body: &'a [u8]) -> Result<Self, BadFrame> {
        Self::read(kind, Reader::new(body)).ok_or(BadFrame)
    }

    fn read(kind: u8, mut reader: Reader<'a>) -> Option<Self> {
        let epoch = reader.u64()?;
        let sequence = read_sequence(&mut reader)?;
        let flags = reader.u8()?;
        if flags & !(BEGIN | END) != 0 {
            return None;
        }
        let end = flags & END != 0;
        let begin = if flags & BEGIN == 0 {
            None
        } else {
            let head = read_head(kind, &mut reader)?;
            let announced = if end { None } else { Some(reader.u32()?) };
            let here = u32::try_from(reader.rest().len()).ok()?;
            let total = announced.unwrap_or(here);
            if !end && total <= here {
                return None;
            }
            Some(Begin { head, total })
        };
        let payload = reader.rest();
        // Only a whole message may be empty, and only the last piece of one may be short of payload.
        let pointless = payload.is_empty() && !(end && begin.is_some());
        (!pointless).then_some(Self {
            kind,
            epoch,
            sequence,
            begin,
            end,
            payload,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        let begin = if self.begin.is_some() { BEGIN } else { 0 };
        let end = if self.end { END } else { 0 };
        out.push(begin | end);
        if let Some(begin) = self.begin {
            match begin.head {
                Head::Data => {}
                Head::Request { remaining } => out.extend_from_slice(&remaining.to_be_bytes()),
                Head::Response {
                    epoch,
                    sequence,
                    status,
                } => {
                    out.extend_from_slice(&epoch.to_be_bytes());
                    out.extend_from_slice(&sequence.to_be_bytes());
                    out.push(status as u8);
                }
            }
            if !self.end {
                out.extend_from_slice(&begin.total.to_be_bytes());
            }
        }
        out.extend_from_slice(self.payload);
    }

    /// Returns how many bytes `encode` writes.
    pub(super) fn encoded_len(&self) -> usize {
        let head = self
            .begin
            .map_or(0, |begin| begin.head.len() + if self.end { 0 } else { 4 });
        CHUNK_LEN + head + self.payload.len()
    }
}

fn read_head(kind: u8, reader: &mut Reader<'_>) -> Option<Head> {
    Some(match kind {
        kind::DATA => Head::Data,
        kind::REQUEST => Head::Request {
            remaining: reader.u32()?,
        },
        kind::RESPONSE => Head::Response {
            epoch: reader.u64()?,
            sequence: read_sequence(reader)?,
            status: match reader.u8()? {
                0 => ReplyStatus::Ok,
                1 => ReplyStatus::Lost,
                _ => return None,
            },
        },
        _ => return None,
    })
}

fn read_sequence(reader: &mut Reader<'_>) -> Option<u64> {
    reader.u64().filter(|&sequence| sequence < MAX_SEQUENCE)
}

/// What has arrived (RFC 9260, section 3.3.4): everything below `cumulative` is in the consumer's queue or the
/// message being assembled for it, and so much is held behind gaps.
///
/// Lane u8, epoch u64, cumulative u64; in the ordered lane flags u8 (1 busy), room in messages u16, room in bytes u32;
/// then up to 16 ranges: gap u16 (numbers missing since the end of the one before), length u16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) lane: LaneId,
    pub(super) epoch: u64,
    pub(super) cumulative: u64,
    pub(super) room: Room,
    pub(super) ranges: Ranges,
}

/// What the consumer's queue can still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Wait for word that there is room.
    pub(super) busy: bool,
    pub(super) messages: u16,
    pub(super) bytes: u32,
}

impl Room {
    pub(super) const UNLIMITED: Self = Self {
        busy: false,
        messages: u16::MAX,
        bytes: u32::MAX,
    };
}

/// Received numbers behind a gap: pairs of a gap and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Ranges {
    pairs: [(u16, u16); MAX_RANGES],
    len: usize,
}

impl Ranges {
    /// Appends a range; `false` if there is no place for another.
    pub(super) fn push(&mut self, gap: u16, len: u16) -> bool {
        let free = self.pairs.get_mut(self.len);
        self.len += usize::from(free.is_some());
        free.map(|place| *place = (gap, len)).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.pairs.iter().take(self.len).copied()
    }
}

impl Ack {
    pub(super) fn decode(body: &[u8]) -> Result<Self, BadFrame> {
        let mut reader = Reader::new(body);
        let lane = LaneId::decode(&mut reader)?;
        Self::read(lane, reader).ok_or(BadFrame)
    }

    fn read(lane: LaneId, mut reader: Reader<'_>) -> Option<Self> {
        let mut ack = Self {
            lane,
            epoch: reader.u64()?,
            cumulative: read_sequence(&mut reader)?,
            room: Room::UNLIMITED,
            ranges: Ranges::default(),
        };
        if lane == LaneId::Ordered {
            ack.room = Room {
                busy: match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
                messages: reader.u16()?,
                bytes: reader.u32()?,
            };
        }
        while !reader.is_empty() {
            if !ack.ranges.push(reader.u16()?, reader.u16()?) {
                return None;
            }
        }
        Some(ack)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.lane as u8);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.cumulative.to_be_bytes());
        if self.lane == LaneId::Ordered {
            out.push(u8::from(self.room.busy));
            out.extend_from_slice(&self.room.messages.to_be_bytes());
            out.extend_from_slice(&self.room.bytes.to_be_bytes());
        }
        for (gap, len) in self.ranges.iter() {
            out.extend_from_slice(&gap.to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// The sender asks for an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) generation: u64,
}

impl Open {
    pub(super) fn decode(body: &[u8]) -> Result<Self, BadFrame> {
        let generation = u64::from_be_bytes(body.try_into().map_err(|_| BadFrame)?);
        Ok(Self { generation })
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.generation.to_be_bytes());
    }
}

/// The receiver's epoch for a generation of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) generation: u64,
    pub(super) epoch: u64,
}

impl Opened {
    pub(super) fn decode(body: &[u8]) -> Result<Self, BadFrame> {
        let (generation, epoch) = body.split_at_checked(8).ok_or(BadFrame)?;
        Ok(Self {
            generation: Open::decode(generation)?.generation,
            epoch: Open::decode(epoch)?.generation,
        })
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
    }
}

/// The receiver knows nothing of this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) epoch: u64,
}

impl Stale {
    pub(super) fn decode(body: &[u8]) -> Result<Self, BadFrame> {
        let epoch = u64::from_be_bytes(body.try_into().map_err(|_| BadFrame)?);
        Ok(Self { epoch })
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_be_bytes());
    }
}

/// The message whose first chunk has this number is larger than this node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) lane: LaneId,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
}

impl Refused {
    pub(super) fn decode(body: &[u8]) -> Result<Self, BadFrame> {
        let (lane, epoch, sequence) = decode_place(body)?;
        Ok(Self {
            lane,
            epoch,
            sequence,
        })
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        encode_place(out, self.lane, self.epoch, self.sequence);
    }
}

/// Reads a lane, an epoch and a number.
fn decode_place(body: &[u8]) -> Result<(LaneId, u64, u64), BadFrame> {
    let mut reader = Reader::new(body);
    let lane = LaneId::decode(&mut reader)?;
    let epoch = reader.u64().ok_or(BadFrame)?;
    let sequence = read_sequence(&mut reader).ok_or(BadFrame)?;
    if reader.is_empty() {
        Ok((lane, epoch, sequence))
    } else {
        Err(BadFrame)
    }
}

fn encode_place(out: &mut Vec<u8>, lane: LaneId, epoch: u64, sequence: u64) {
    out.push(lane as u8);
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
}

/// The sender gave up on what is missing below `floor` (RFC 3758, FORWARD TSN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) lane: LaneId,
    pub(super) epoch: u64,
    pub(super) floor: u64,
}

impl Floor {
    pub(super) fn decode(body: &[u8]) -> Result<Self, BadFrame> {
        let (lane, epoch, floor) = decode_place(body)?;
        Ok(Self { lane, epoch, floor })
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        encode_place(out, self.lane, self.epoch, self.floor);
    }
}
