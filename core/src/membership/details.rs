//! Names and metadata of members that were learnt by gossip: pulled in batches, until they are known.

use super::Membership;
use super::join::{Introduction, OWN_DETAILS};
use super::timers::Timer;
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};
use crate::wire::{FRAME_HEADER_LEN, MAX_FRAME_BODY, Reader, kind};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Members that one request names: bounds the answer to about 10 KB.
const PER_REQUEST: usize = 16;
/// Members asked for in one pass.
const PER_PASS: usize = 64;
/// Between two passes.
const PACE: Duration = Duration::from_millis(100);
/// Before a member's details are asked for the second time; twice as long before each further time, up to 16 s.
const RETRY: Duration = Duration::from_millis(500);
const DOUBLINGS: u8 = 5;
/// Each fifth time the member itself is asked, else the one that spoke of it: a thousand members that all ask each other
/// at the start would open a million sessions.
const ITSELF: u8 = 5;

/// Whose details are wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    by_id: BTreeMap<NodeId, (Instant, NodeId, u8)>,
    due: BTreeSet<(Instant, NodeId)>,
}

impl Wanted {
    fn set(&mut self, id: NodeId, at: Instant, from: NodeId, tries: u8) {
        self.forget(id);
        self.by_id.insert(id, (at, from, tries));
        self.due.insert((at, id));
    }

    pub(super) fn forget(&mut self, id: NodeId) {
        if let Some((at, ..)) = self.by_id.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.due.clear();
    }

    #[cfg(feature = "simulation")]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }
}

impl Membership {
    /// Asks for the details of a member in the next pass, the one who spoke of it first.
    pub(super) fn want_details(&mut self, cx: &Context<'_>, id: NodeId, from: NodeId) {
        if self
            .table
            .get(id)
            .is_some_and(|entry| entry.known < entry.details)
            && !self.details.by_id.contains_key(&id)
        {
            self.details.set(id, cx.now, from, 0);
            self.timers.arm_if_idle(Timer::Details, cx.now + PACE);
        }
    }

    pub(super) fn details_due(&mut self, cx: &mut Context<'_>) {
        let mut batches: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for _ in 0..PER_PASS {
            let Some(&(at, id)) = self.details.due.first() else {
                break;
            };
            if at > cx.now {
                break;
            }
            let Some(&(_, from, tries)) = self.details.by_id.get(&id) else {
                break;
            };
            if self.table.get(id).is_none() {
                self.details.forget(id);
                continue;
            }
            let tries = tries.saturating_add(1);
            let source = if tries.is_multiple_of(ITSELF) { id } else { from };
            let wait = RETRY * (1 << (tries - 1).min(DOUBLINGS));
            self.details.set(id, cx.now + wait, from, tries);
            batches.entry(source).or_default().push(id);
        }
        for (source, ids) in batches {
            for ids in ids.chunks(PER_REQUEST) {
                cx.send(source, kind::DETAILS_REQUEST, |buf| {
                    buf.push(ids.len() as u8);
                    for id in ids {
                        buf.extend_from_slice(&id.to_bytes());
                    }
                });
            }
        }
        if let Some(at) = self.details.next() {
            self.timers.arm(Timer::Details, at.max(cx.now + PACE));
        }
    }

    pub(super) fn handle_details_request(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let count = usize::from(reader.u8().ok_or(BadFrame)?);
        let mut frame = Vec::with_capacity(MAX_FRAME_BODY);
        for _ in 0..count.min(PER_REQUEST) {
            let id = reader.node_id().ok_or(BadFrame)?;
            let (version, name, metadata) = if id == self.me || planted(PlantedBug::DetailsOfAnother) {
                (
                    OWN_DETAILS,
                    cx.config.name.as_str(),
                    cx.config.metadata.as_slice(),
                )
            } else if let Some(entry) = self.table.get(id).filter(|entry| entry.known > 0) {
                (
                    entry.known,
                    entry.member.name.as_str(),
                    &entry.member.metadata[..],
                )
            } else {
                continue;
            };
            let start = frame.len();
            frame.extend_from_slice(&id.to_bytes());
            frame.extend_from_slice(&version.to_be_bytes());
            Introduction::write(&mut frame, name, metadata);
            if frame.len() > MAX_FRAME_BODY - FRAME_HEADER_LEN {
                // One entry is at most 599 bytes, so that what came before fits.
                cx.send(from, kind::DETAILS, |buf| buf.extend_from_slice(&frame[..start]));
                frame.drain(..start);
            }
        }
        if !frame.is_empty() {
            cx.send(from, kind::DETAILS, |buf| buf.extend_from_slice(&frame));
        }
        Ok(())
    }

    /// DETAILS is a list to the end of the frame: id, version, name, metadata.
    pub(super) fn handle_details(&mut self, cx: &mut Context<'_>, body: &[u8]) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        while !reader.is_empty() {
            let id = reader.node_id().ok_or(BadFrame)?;
            let version = reader.u32().ok_or(BadFrame)?;
            let introduction = Introduction::read(&mut reader).ok_or(BadFrame)?;
            let Some(entry) = self.table.get_mut(id) else {
                continue;
            };
            if version <= entry.known {
                continue;
            }
            let changed = introduction.apply(entry, version);
            if entry.known >= entry.details {
                self.details.forget(id);
            }
            if changed {
                self.announce_update(cx, id);
            }
        }
        Ok(())
    }
}
