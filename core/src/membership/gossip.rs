//! Passing news on: each piece goes to a few random peers each round, about 3 log2(n) times in all.
//!
//! Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", DSN 2002,
//! section 4.1: dissemination by infection, the least-sent news first.

use super::record::{RECORDS_PER_FRAME, Record, encode_records};
use super::suspicion::ceil_log2;
use super::timers::Timer;
use super::{Membership, Source};
use crate::config::Config;
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::wire::{Reader, kind};
use alloc::collections::{BTreeMap, BTreeSet};

/// Pages that one round may send to each peer: one unless there is a flood of news.
const MAX_PAGES: usize = 4;

/// Whom the news is about. The records themselves are read from the table when they are sent: always the newest.
#[derive(Debug, Default)]
pub(super) struct News {
    /// How often this was sent, and its place in `order`.
    pieces: BTreeMap<NodeId, (u32, u64)>,
    /// Least sent first, newest first among equals (the place counts down).
    order: BTreeSet<(u32, u64, NodeId)>,
    serial: u64,
}

impl News {
    /// Adds news about a process; older news about it is superseded.
    pub(super) fn add(&mut self, id: NodeId) {
        self.remove(id);
        self.serial += 1;
        let place = u64::MAX - self.serial;
        self.pieces.insert(id, (0, place));
        self.order.insert((0, place, id));
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        if let Some((sent, place)) = self.pieces.remove(&id) {
            self.order.remove(&(sent, place, id));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Drops what was sent most.
    fn remove_last(&mut self) {
        if let Some((.., id)) = self.order.pop_last() {
            self.pieces.remove(&id);
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.order.clear();
    }

    /// The next pieces to send.
    fn first(&self, count: usize) -> impl Iterator<Item = NodeId> {
        self.order.iter().take(count).map(|&(_, _, id)| id)
    }

    /// Counts `times` more sendings; news that was sent often enough is over.
    fn sent(&mut self, id: NodeId, times: u32, enough: u32) {
        let Some(piece) = self.pieces.get_mut(&id) else {
            return;
        };
        let (sent, place) = *piece;
        self.order.remove(&(sent, place, id));
        if sent + times >= enough {
            self.pieces.remove(&id);
        } else {
            piece.0 = sent + times;
            self.order.insert((sent + times, place, id));
        }
    }
}

/// About how many processes there may be news: all that are known, this one included. News of tombstones that made room
/// for others is met and dropped only by and by, and must not pile up meanwhile.
pub(super) const fn most_news(config: &Config) -> usize {
    config.max_members + config.max_tombstones + 1
}

impl Membership {
    /// Makes a process the subject of gossip.
    pub(super) fn spread(&mut self, cx: &Context<'_>, id: NodeId) {
        // With this one; the newest is what the others lack.
        if self.news.len() >= most_news(cx.config) {
            self.news.remove_last();
        }
        self.news.add(id);
        self.arm_gossip(cx);
    }

    /// Arms the gossip timer if there is something to say and somebody to say it to.
    pub(super) fn arm_gossip(&mut self, cx: &Context<'_>) {
        if !self.news.is_empty() && !self.open.is_empty() {
            let at = cx.now + cx.config.gossip_interval;
            self.timers.arm_if_idle(Timer::Gossip, at);
        }
    }

    /// One round of gossip.
    pub(super) fn gossip(&mut self, cx: &mut Context<'_>) {
        let peers = self.open.len().min(usize::from(cx.config.gossip_fanout));
        if peers == 0 {
            return;
        }
        // The first places of `open` become a uniform sample (a partial shuffle of Fisher and Yates).
        for i in 0..peers {
            let j = i + self.rng.below((self.open.len() - i) as u64) as usize;
            self.open.swap(i, j);
        }
        let enough = 3 * ceil_log2(self.table.len() + 2).max(1);
        let mut batch = core::mem::take(&mut self.scratch);
        batch.clear();
        batch.extend(self.news.first(RECORDS_PER_FRAME * MAX_PAGES));
        for ids in batch.chunks(RECORDS_PER_FRAME) {
            let mut page = [None; RECORDS_PER_FRAME];
            for (slot, &id) in page.iter_mut().zip(ids) {
                *slot = self.record_of(cx, id);
                if let Some(record) = slot {
                    let endless = planted(PlantedBug::DeadMembersGossipedForEver) && !record.state.is_live();
                    let enough = if endless { u32::MAX } else { enough };
                    self.news.sent(id, peers as u32, enough);
                } else {
                    self.news.remove(id);
                }
            }
            for &peer in &self.open[..peers] {
                cx.send(peer, kind::GOSSIP, |buf| {
                    encode_records(buf, page.iter().flatten())
                });
            }
        }
        self.scratch = batch;
        self.arm_gossip(cx);
    }

    /// Sends one record to one process.
    pub(super) fn tell(cx: &mut Context<'_>, to: NodeId, record: &Record) {
        cx.send(to, kind::GOSSIP, |buf| {
            encode_records(buf, core::iter::once(record))
        });
    }

    pub(super) fn handle_gossip(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        self.learn_all(cx, &mut reader, Source::Gossip(from))
    }

    /// Learns a counted list of records; what the sender has yet to learn about them is sent back.
    pub(super) fn learn_all(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Reader<'_>,
        source: Source,
    ) -> Result<(), BadFrame> {
        let count = reader.u8().ok_or(BadFrame)?;
        let mut corrections = [None; RECORDS_PER_FRAME];
        let mut corrected = 0;
        let mut result = Ok(());
        for _ in 0..count {
            let Some(record) = Record::decode(reader) else {
                result = Err(BadFrame);
                break;
            };
            if let Some(newer) = self.learn(cx, &record, source)
                && let Some(slot) = corrections.get_mut(corrected)
            {
                *slot = Some(newer);
                corrected += 1;
            }
        }
        if corrected > 0 {
            cx.send(source.sender(), kind::GOSSIP, |buf| {
                encode_records(buf, corrections.iter().flatten());
            });
        }
        result
    }
}
