//! What the sender is told: what arrived, and how much more there is room for.

use super::Receiver;
use crate::messaging::Limits;
use crate::messaging::frame::{Ack, LaneId, Opened, Refused, Room, Stale};
use crate::messaging::outgoing::NoRoom;
use crate::planted::{PlantedBug, planted};
use crate::wire::{FrameWriter, kind};

impl Receiver {
    pub(super) fn room(&self, limits: &Limits) -> Room {
        if planted(PlantedBug::BackPressureIgnored) {
            return Room::UNLIMITED;
        }
        let messages = limits.queue_messages.saturating_sub(self.queue.len());
        Room {
            busy: false,
            messages: u16::try_from(messages).unwrap_or(u16::MAX),
            bytes: u32::try_from(limits.window_bytes.saturating_sub(self.queue_bytes)).unwrap_or(u32::MAX),
        }
    }

    /// Writes what the sender should hear of, also what could wait.
    pub(in crate::messaging) fn fill(
        &mut self,
        limits: &Limits,
        writer: &mut FrameWriter<'_>,
    ) -> Result<(), NoRoom> {
        for lane in LaneId::ALL {
            self.fill_ack(limits, lane, writer)?;
            if let Some(sequence) = self.lanes[lane as usize].refused {
                let refused = Refused {
                    lane,
                    epoch: self.epoch,
                    sequence,
                };
                if !writer.frame(kind::REFUSED, |buf| refused.encode(buf)) {
                    return Err(NoRoom);
                }
                self.lanes[lane as usize].refused = None;
            }
        }
        if self.opened_due {
            let opened = Opened {
                generation: self.generation,
                epoch: self.epoch,
            };
            if !writer.frame(kind::OPENED, |buf| opened.encode(buf)) {
                return Err(NoRoom);
            }
            self.opened_due = false;
        }
        if let Some(epoch) = self.stale_due {
            if !writer.frame(kind::STALE, |buf| Stale { epoch }.encode(buf)) {
                return Err(NoRoom);
            }
            self.stale_due = None;
        }
        Ok(())
    }

    fn fill_ack(&mut self, limits: &Limits, id: LaneId, writer: &mut FrameWriter<'_>) -> Result<(), NoRoom> {
        let lane = &self.lanes[id as usize];
        if lane.ack.is_none() {
            return Ok(());
        }
        let mut room = Room::UNLIMITED;
        if id == LaneId::Ordered {
            room = self.room(limits);
            // Once told to wait, the sender waits until half of the queue is free: no stop and go for each message.
            let half_full =
                self.queue.len() > limits.queue_messages / 2 || self.queue_bytes > limits.window_bytes / 2;
            room.busy = self.is_busy(limits) || (self.told_busy && half_full);
        }
        let ack = Ack {
            lane: id,
            epoch: self.epoch,
            cumulative: lane.base,
            room,
            ranges: lane.ranges(),
        };
        if !writer.frame(kind::ACK, |buf| ack.encode(buf)) {
            return Err(NoRoom);
        }
        if id == LaneId::Ordered {
            self.told_busy = room.busy;
        }
        let lane = &mut self.lanes[id as usize];
        lane.ack = None;
        lane.unacknowledged = 0;
        Ok(())
    }
}
