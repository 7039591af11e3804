//! One message on its way out, and its pieces as frames.

use super::frame::{Begin, Chunk, Head};
use super::groups::Owner;
use super::lane::Sent;
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
use crate::wire::FrameWriter;
use alloc::collections::BTreeMap;
use bytes::Bytes;

/// The datagram has no room for the next frame.
#[derive(Debug)]
pub(super) struct NoRoom;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No piece was sent.
    Waiting,
    /// Some pieces were sent, the first under this number, and so many bytes are in them.
    Started { first: u64, offset: usize, all: bool },
    /// A request that is acknowledged as a whole and waits for its answer.
    Answer { first: u64 },
}

#[derive(Debug)]
pub(super) struct Outgoing {
    /// Who waits for the outcome: nobody for replies, and for messages that were cancelled or answered early.
    pub(super) owner: Option<Owner>,
    pub(super) head: Head,
    pub(super) payload: Bytes,
    pub(super) deadline: Instant,
    pub(super) phase: Phase,
}

impl Outgoing {
    /// Returns how many bytes are in pieces that were sent.
    pub(super) const fn sent_bytes(&self) -> usize {
        match self.phase {
            Phase::Started { offset, .. } => offset,
            Phase::Waiting | Phase::Answer { .. } => 0,
        }
    }

    /// Returns the number of the first chunk, once it was sent.
    pub(super) const fn first(&self) -> Option<u64> {
        match self.phase {
            Phase::Started { first, .. } | Phase::Answer { first } => Some(first),
            Phase::Waiting => None,
        }
    }

    /// Writes the piece of so many bytes at this offset.
    pub(super) fn write(
        &self,
        now: Instant,
        epoch: u64,
        sequence: u64,
        (offset, len): (usize, usize),
        last: bool,
        writer: &mut FrameWriter<'_>,
    ) -> Result<(), NoRoom> {
        let head = match self.head {
            Head::Request { .. } => Head::Request {
                remaining: u32::try_from((self.deadline - now).as_millis()).unwrap_or(u32::MAX),
            },
            head => head,
        };
        let chunk = Chunk {
            kind: self.head.kind(),
            epoch,
            sequence,
            begin: (offset == 0).then_some(Begin {
                head,
                // Messages are at most 16 MiB.
                total: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
            }),
            end: last,
            payload: self.payload.get(offset..offset + len).unwrap_or_default(),
        };
        if writer.room().is_none_or(|room| room < chunk.encoded_len()) {
            return Err(NoRoom);
        }
        if writer.frame(chunk.kind, |buf| chunk.encode(buf)) {
            Ok(())
        } else {
            Err(NoRoom)
        }
    }
}

/// Writes a chunk again.
pub(super) fn write_chunk(
    outgoing: &BTreeMap<u64, Outgoing>,
    now: Instant,
    epoch: u64,
    sequence: u64,
    sent: &Sent,
    writer: &mut FrameWriter<'_>,
) -> Result<(), NoRoom> {
    match outgoing.get(&sent.ticket) {
        Some(Outgoing {
            head: Head::Request { .. },
            ..
        }) if planted(PlantedBug::RequestNeverRetransmitted) => Ok(()),
        Some(message) => message.write(now, epoch, sequence, (sent.offset, sent.len), sent.last, writer),
        // Its message is gone, which drops its chunks too; there is nothing to send.
        None => Ok(()),
    }
}
