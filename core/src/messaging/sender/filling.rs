//! What goes into the next datagram.

use super::{Link, Sender};
use crate::messaging::Limits;
use crate::messaging::frame::{Floor, Head, LaneId, MAX_CHUNK, Open};
use crate::messaging::lane::Lane;
use crate::messaging::outgoing::{NoRoom, Phase, write_chunk};
use crate::planted::{PlantedBug, planted};
use crate::stats::Stats;
use crate::time::Instant;
use crate::wire::{FrameWriter, kind};

impl Sender {
    /// Writes what can be sent now. `generation` is drawn from when a channel has to be opened.
    pub(in crate::messaging) fn fill(
        &mut self,
        now: Instant,
        stats: &mut Stats,
        limits: &Limits,
        generation: &mut u64,
        writer: &mut FrameWriter<'_>,
    ) -> Result<(), NoRoom> {
        if self.link == Link::Closed && self.has_messages() {
            *generation += 1;
            self.link = Link::Opening {
                generation: *generation,
                sent: None,
                tries: 0,
            };
        }
        match self.link {
            Link::Closed | Link::Opening { sent: Some(_), .. } => Ok(()),
            Link::Opening {
                generation,
                sent: None,
                tries,
            } => {
                if !self.has_messages() {
                    return Ok(());
                }
                if !writer.frame(kind::OPEN, |buf| Open { generation }.encode(buf)) {
                    return Err(NoRoom);
                }
                self.link = Link::Opening {
                    generation,
                    sent: Some(now),
                    tries: tries.saturating_add(1),
                };
                Ok(())
            }
            Link::Open { epoch, .. } => {
                let mut result = Ok(());
                for lane in LaneId::ALL {
                    if result.is_ok() {
                        result = self.fill_lane(now, stats, limits, epoch, lane, writer);
                    }
                    self.lanes[lane as usize].update_probe(now, &self.rtt);
                }
                result
            }
        }
    }

    fn fill_lane(
        &mut self,
        now: Instant,
        stats: &mut Stats,
        limits: &Limits,
        epoch: u64,
        id: LaneId,
        writer: &mut FrameWriter<'_>,
    ) -> Result<(), NoRoom> {
        let lane = &mut self.lanes[id as usize];
        if let Some(floor) = lane.floor_to_send() {
            let frame = Floor {
                lane: id,
                epoch,
                floor,
            };
            if !writer.frame(kind::FLOOR, |buf| frame.encode(buf)) {
                return Err(NoRoom);
            }
            lane.floor_was_sent(now);
        }
        if lane.probe_due() {
            if let Some((sequence, sent)) = lane.peek_oldest(|ticket| self.outgoing.contains_key(&ticket)) {
                write_chunk(&self.outgoing, now, epoch, sequence, &sent, writer)?;
                stats.retransmits += 1;
                lane.sent_again(now, sequence);
            } else if lane.has_chunks() {
                // The peer holds the rest of messages that were given up: nothing to send, but it must be asked.
                let (lane, floor) = (id, lane.floor());
                let frame = Floor { lane, epoch, floor };
                if !writer.frame(kind::FLOOR, |buf| frame.encode(buf)) {
                    return Err(NoRoom);
                }
            } else {
                // With nothing under way, the next message itself asks, whatever the peer said about its room.
                self.send_new(now, stats, limits, epoch, id, true, writer)?;
            }
            self.lanes[id as usize].probe_sent();
        }
        let lane = &mut self.lanes[id as usize];
        while let Some((sequence, sent)) = lane.peek_lost() {
            write_chunk(&self.outgoing, now, epoch, sequence, &sent, writer)?;
            stats.retransmits += 1;
            lane.lost_sent(now, sequence);
        }
        while self.send_new(now, stats, limits, epoch, id, false, writer)? {}
        Ok(())
    }

    /// Writes the next new chunk; `false` if there is none, or no room for it at the peer or under way.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of them differ in type; a struct would only rename them"
    )]
    fn send_new(
        &mut self,
        now: Instant,
        stats: &mut Stats,
        limits: &Limits,
        epoch: u64,
        id: LaneId,
        probe: bool,
        writer: &mut FrameWriter<'_>,
    ) -> Result<bool, NoRoom> {
        let lane = &mut self.lanes[id as usize];
        if !probe && !lane.has_room() {
            return Ok(false);
        }
        let ticket = match lane.sending {
            Some(ticket) => ticket,
            None => loop {
                match lane.waiting.front() {
                    None => return Ok(false),
                    Some(ticket) if self.outgoing.contains_key(ticket) => break *ticket,
                    Some(_) => lane.waiting.pop_front(),
                };
            },
        };
        let Some(message) = self.outgoing.get_mut(&ticket) else {
            // `sending` is cleared whenever its message is dropped.
            lane.sending = None;
            return Ok(false);
        };
        let (offset, len) = (message.sent_bytes(), message.payload.len());
        let begins = message.phase == Phase::Waiting;
        if begins && !probe && !may_start(lane, limits, id, len) {
            return Ok(false);
        }
        let sequence = lane.next();
        let sent_len = (len - offset).min(MAX_CHUNK);
        let last = offset + sent_len == len;
        message.write(now, epoch, sequence, (offset, sent_len), last, writer)?;
        if begins {
            lane.waiting.pop_front();
            lane.waiting_messages -= 1;
            lane.waiting_bytes -= len;
            lane.started_messages += 1;
            lane.started_bytes += len;
            if matches!(message.head, Head::Request { .. }) {
                self.asked.insert(sequence, ticket);
            }
            stats.messages_sent += 1;
        }
        message.phase = Phase::Started {
            first: message.first().unwrap_or(sequence),
            offset: offset + sent_len,
            all: last,
        };
        lane.sending = (!last).then_some(ticket);
        lane.first_sent(now, ticket, offset, sent_len, last);
        Ok(true)
    }
}

/// Returns whether a message of this size may be begun: our window, and the room that the peer spoke of.
fn may_start(lane: &Lane, limits: &Limits, id: LaneId, len: usize) -> bool {
    if id == LaneId::Unordered {
        return true; // bounded when it was queued
    }
    if planted(PlantedBug::UnboundedReassembly) {
        return true;
    }
    let messages = limits.window_messages.min(usize::from(lane.room.messages));
    let peer_bytes = usize::try_from(lane.room.bytes).unwrap_or(usize::MAX);
    let bytes = limits.window_bytes.min(peer_bytes);
    lane.started_messages < messages && lane.started_bytes.saturating_add(len) <= bytes
}
