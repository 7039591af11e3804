//! Frames on their way out, kept per peer until a datagram has room for them.

use crate::config::Config;
use crate::event::Event;
use crate::id::NodeId;
use crate::stats::{DropReason, Stats};
use crate::time::Instant;
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use crate::wire::{FRAME_HEADER_LEN, FrameWriter, MAX_FRAME_BODY, put_frame};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// What every part is handed with each call: the time, the settings, and where its outputs go.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) events: &'a mut VecDeque<Event>,
    pub(crate) stats: &'a mut Stats,
}

impl Context<'_> {
    /// Queues one frame for a peer, or counts it as dropped where the peer's queue is full.
    pub(crate) fn send(&mut self, to: NodeId, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.outbox.push(to, self.config.outbox_bytes, kind, write) {
            self.stats.drop(DropReason::OutboxFull);
        }
    }
}

/// The body of a frame is not what its type says. The facade counts it; nothing of the frame took effect beyond what
/// came before the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFrame;

/// Emptied buffers that are kept for the next frames, and how large they may be.
const MAX_SPARE: usize = 64;
const MAX_SPARE_BYTES: usize = 4096;

/// The frames of one peer, encoded one behind the other; those before `taken` are gone already.
#[derive(Debug, Default)]
struct Queue {
    encoded: Vec<u8>,
    taken: usize,
    listed: bool,
}

/// The frames of all peers. Only who has some has a queue: most are emptied right after they were filled, and the few
/// buffers that go round stay in the cache.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queues: BTreeMap<NodeId, Queue>,
    ready: VecDeque<NodeId>,
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    fn push(&mut self, to: NodeId, limit: usize, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let queue = self.queues.entry(to).or_insert_with(|| Queue {
            encoded: self.spare.pop().unwrap_or_default(),
            ..Queue::default()
        });
        let start = queue.encoded.len();
        put_frame(&mut queue.encoded, kind, write);
        let too_long = queue.encoded.len() - start > FRAME_HEADER_LEN + MAX_FRAME_BODY;
        if too_long || queue.encoded.len() - queue.taken > limit {
            queue.encoded.truncate(start);
            if start == 0 {
                self.discard(to);
            }
            return false;
        }
        if !queue.listed {
            queue.listed = true;
            self.ready.push_back(to);
        }
        true
    }

    /// Takes the next peer that has frames. The caller writes them with `fill`, or gives them up with `discard`.
    pub(crate) fn next_peer(&mut self) -> Option<NodeId> {
        let peer = self.ready.pop_front()?;
        if let Some(queue) = self.queues.get_mut(&peer) {
            queue.listed = false;
        }
        Some(peer)
    }

    /// Moves frames of this peer into the datagram; a peer with frames left is listed again.
    pub(crate) fn fill(&mut self, peer: NodeId, writer: &mut FrameWriter<'_>) {
        let Some(queue) = self.queues.get_mut(&peer) else {
            return;
        };
        while let Some(head) = queue.encoded.get(queue.taken..queue.taken + FRAME_HEADER_LEN) {
            let len = FRAME_HEADER_LEN + usize::from(u16::from_be_bytes([head[1], head[2]]));
            if !writer.encoded(&queue.encoded[queue.taken..queue.taken + len]) {
                break;
            }
            queue.taken += len;
        }
        if queue.taken == queue.encoded.len() {
            self.discard(peer);
        } else if !queue.listed {
            queue.listed = true;
            self.ready.push_back(peer);
        }
    }

    /// Lists a peer again whose frames were held back.
    pub(crate) fn relist(&mut self, peer: NodeId) {
        if let Some(queue) = self.queues.get_mut(&peer)
            && !queue.listed
            && queue.taken < queue.encoded.len()
        {
            queue.listed = true;
            self.ready.push_back(peer);
        }
    }

    /// Returns for how many peers anything is kept.
    #[cfg(test)]
    pub(crate) fn peers(&self) -> usize {
        self.queues.len()
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn usage(&self, config: &Config, usage: &mut Usage) {
        let bytes = self
            .queues
            .values()
            .map(|queue| queue.encoded.len() - queue.taken);
        usage.row(
            "worst outbox bytes",
            bytes.max().unwrap_or(0),
            config.outbox_bytes,
        );
        usage.row(
            "outboxes",
            self.queues.len(),
            config.max_members + config.max_sessions,
        );
    }

    /// Gives up all frames of a peer and returns how many bytes they had.
    pub(crate) fn discard(&mut self, peer: NodeId) -> usize {
        let Some(queue) = self.queues.remove(&peer) else {
            return 0;
        };
        if queue.listed {
            self.ready.retain(|&listed| listed != peer);
        }
        let left = queue.encoded.len() - queue.taken;
        let mut buf = queue.encoded;
        if self.spare.len() < MAX_SPARE && buf.capacity() <= MAX_SPARE_BYTES {
            buf.clear();
            self.spare.push(buf);
        }
        left
    }
}
