//! Outgoing datagrams, grouped so that one system call can carry many.

use alloc::vec::Vec;
use core::net::SocketAddr;
use quorate_core::SendFailure;

/// The most datagrams of one batch.
const MAX_DATAGRAMS: usize = 64;
/// The most runs of one batch; their buffers are kept, so this bounds their memory (64 x 1,200 bytes each).
const MAX_RUNS: usize = 16;
/// The most bytes of one run: what one UDP datagram over IPv6 can carry, since the system treats a run as one until it
/// cuts it up.
const MAX_RUN_BYTES: usize = 65_535 - 40 - 8;

/// Datagrams to send. Those for one destination stay in order; those of the same size lie side by side, as
/// segmentation offload (GSO) wants them.
#[derive(Debug, Default)]
pub struct SendBatch {
    /// The first `len` are in use; the others keep their buffers for later.
    runs: Vec<Buffer>,
    len: usize,
    /// Runs before this one are gone.
    front: usize,
    datagrams: usize,
    failures: Vec<(SocketAddr, SendFailure)>,
}

#[derive(Debug)]
struct Buffer {
    to: SocketAddr,
    bytes: Vec<u8>,
    segment: usize,
    sent: usize,
}

/// Datagrams for one destination, one behind the other: all of `segment` bytes, but for the last one, which may be
/// shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run<'a> {
    /// The destination.
    pub to: SocketAddr,
    /// The datagrams.
    pub bytes: &'a [u8],
    /// The length of each.
    pub segment: usize,
}

impl<'a> Run<'a> {
    /// Returns the datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment.max(1))
    }
}

impl SendBatch {
    /// Returns whether nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.front == self.len
    }

    /// Returns the next datagrams, at most `max` of them (at least one), all for one destination.
    pub fn front(&self, max: usize) -> Option<Run<'_>> {
        let run = self.runs[..self.len].get(self.front)?;
        let rest = &run.bytes[run.sent..];
        let take = run.segment.saturating_mul(max.max(1)).min(rest.len());
        Some(Run {
            to: run.to,
            bytes: &rest[..take],
            segment: run.segment,
        })
    }

    /// Removes the first `bytes` bytes of the front: they were sent, or are given up.
    pub fn advance(&mut self, bytes: usize) {
        if let Some(run) = self.runs[..self.len].get_mut(self.front) {
            run.sent = run.sent.saturating_add(bytes).min(run.bytes.len());
            if run.sent == run.bytes.len() {
                self.front += 1;
            }
        }
    }

    /// Removes the whole run at the front and tells the node why.
    pub fn refuse(&mut self, failure: SendFailure) {
        if let Some(run) = self.runs[..self.len].get(self.front) {
            self.failures.push((run.to, failure));
            self.front += 1;
        }
    }

    /// Adds a datagram; the caller has asked [`SendBatch::is_full`] before.
    pub(crate) fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        if datagram.is_empty() {
            return;
        }
        self.datagrams += 1;
        // Only the destination's last run may grow, or its datagrams would overtake each other.
        let last = self.runs[..self.len].iter_mut().rev().find(|run| run.to == to);
        if let Some(run) = last
            && datagram.len() <= run.segment
            && run.bytes.len() % run.segment == 0
            && run.bytes.len() + datagram.len() <= MAX_RUN_BYTES
        {
            run.bytes.extend_from_slice(datagram);
            return;
        }
        if self.len == self.runs.len() {
            self.runs.push(Buffer {
                to,
                bytes: Vec::new(),
                segment: 0,
                sent: 0,
            });
        }
        let run = &mut self.runs[self.len];
        run.to = to;
        run.bytes.clear();
        run.bytes.extend_from_slice(datagram);
        run.segment = datagram.len();
        run.sent = 0;
        self.len += 1;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.datagrams >= MAX_DATAGRAMS || self.len >= MAX_RUNS
    }

    /// Makes an emptied batch usable again.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.front = 0;
        self.datagrams = 0;
    }

    pub(crate) fn take_failure(&mut self) -> Option<(SocketAddr, SendFailure)> {
        self.failures.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Empties the batch and returns each destination with the lengths of its datagrams, run by run.
    fn drain(batch: &mut SendBatch, max: usize) -> Vec<(u16, Vec<usize>)> {
        let mut out = Vec::new();
        while let Some(run) = batch.front(max) {
            out.push((run.to.port(), run.datagrams().map(<[u8]>::len).collect()));
            let len = run.bytes.len();
            batch.advance(len);
        }
        batch.clear();
        out
    }

    #[test]
    fn equal_sizes_for_one_destination_share_a_run_and_a_shorter_one_ends_it() {
        let mut batch = SendBatch::default();
        for (port, len) in [(1, 9), (2, 9), (1, 9), (1, 4), (1, 4), (2, 10), (2, 9), (1, 4)] {
            batch.push(addr(port), &[0; 16][..len]);
        }
        let expected = [
            (1, [9, 9, 4].to_vec()),
            (2, [9].to_vec()),
            (1, [4, 4].to_vec()),
            (2, [10, 9].to_vec()),
        ];
        assert_eq!(drain(&mut batch, 64), expected);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_run_is_cut_to_the_number_of_segments_that_the_system_takes() {
        let mut batch = SendBatch::default();
        for len in [5, 5, 5, 2] {
            batch.push(addr(1), &[0; 16][..len]);
        }
        assert_eq!(drain(&mut batch, 3), [(1, [5, 5, 5].to_vec()), (1, [2].to_vec())]);
        batch.push(addr(1), &[0; 5]);
        assert_eq!(drain(&mut batch, 0), [(1, [5].to_vec())]);
    }

    #[test]
    fn bounds_hold() {
        let mut batch = SendBatch::default();
        let mut pushed = 0;
        while !batch.is_full() {
            batch.push(addr(1), &[0; 1200]);
            pushed += 1;
        }
        assert_eq!(pushed, MAX_DATAGRAMS);
        let runs = drain(&mut batch, usize::MAX);
        assert!(
            runs.iter()
                .all(|(_, lens)| lens.iter().sum::<usize>() <= MAX_RUN_BYTES)
        );
        for port in 1.. {
            if batch.is_full() {
                assert_eq!(usize::from(port) - 1, MAX_RUNS);
                break;
            }
            batch.push(addr(port), &[0; 20]);
        }
    }

    #[test]
    fn a_refused_run_is_reported_once_and_the_others_go_on() {
        let mut batch = SendBatch::default();
        batch.push(addr(1), &[0; 4]);
        batch.push(addr(1), &[0; 4]);
        batch.push(addr(2), &[0; 4]);
        batch.refuse(SendFailure::Unreachable);
        assert_eq!(batch.take_failure(), Some((addr(1), SendFailure::Unreachable)));
        assert_eq!(batch.take_failure(), None);
        assert_eq!(drain(&mut batch, 9), [(2, [4].to_vec())]);
        batch.refuse(SendFailure::Other);
        assert_eq!(batch.take_failure(), None);
    }

    #[test]
    fn an_empty_datagram_is_never_sent() {
        let mut batch = SendBatch::default();
        batch.push(addr(1), &[]);
        assert!(batch.is_empty() && batch.front(1).is_none());
    }
}
