//! The quorum gate: broadcasts wait here until enough voters are present.

use crate::config::Config;
use crate::error::{DeliveryError, SendError};
use crate::event::{Event, RequestId, SendId};
use crate::id::NodeId;
use crate::outbox::Context;
use crate::time::Instant;
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use alloc::collections::VecDeque;
use bytes::Bytes;

/// What waits for the gate, under the id that the application knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Send(SendId),
    Request(RequestId),
}

impl Command {
    /// The events of a command that failed as a whole.
    pub(super) fn failed(self, to: Option<NodeId>, error: DeliveryError) -> [Event; 2] {
        match self {
            Self::Send(id) => [
                Event::SendDone {
                    id,
                    to,
                    result: Err(error),
                },
                Event::SendFinished(id),
            ],
            Self::Request(id) => [Event::RequestFailed { id, to, error }, Event::RequestDone(id)],
        }
    }
}

/// A broadcast whose targets are fixed when the gate opens.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) command: Command,
    pub(super) payload: Bytes,
    pub(super) deadline: Instant,
}

/// The broadcasts that wait, oldest first; bounded in count by `send_queue_size` and in bytes by eight times
/// `window_bytes`, as the queue of one peer is.
#[derive(Debug, Default)]
pub(super) struct Gate {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Not later than the earliest deadline of those that wait.
    wake: Option<Instant>,
}

impl Gate {
    pub(super) fn hold(&mut self, config: &Config, waiting: Waiting) -> Result<(), SendError> {
        let limit = config.send_queue_size;
        if self.waiting.len() >= limit || self.bytes + waiting.payload.len() > config.window_bytes * 8 {
            return Err(SendError::QueueFull { limit });
        }
        self.bytes += waiting.payload.len();
        self.wake = Some(
            self.wake
                .map_or(waiting.deadline, |wake| wake.min(waiting.deadline)),
        );
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Takes the oldest broadcast once the gate is open.
    pub(super) fn release(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.payload.len();
        Some(waiting)
    }

    #[cfg(feature = "simulation")]
    pub(super) fn usage(&self, config: &Config, usage: &mut Usage) {
        let bytes = self.waiting.iter().map(|waiting| waiting.payload.len()).sum();
        usage.row("waiting broadcasts", self.waiting.len(), config.send_queue_size);
        usage.row("waiting broadcast bytes", bytes, config.window_bytes * 8);
    }

    pub(super) fn cancel(&mut self, command: Command) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.command != command);
        self.bytes = self.waiting.iter().map(|waiting| waiting.payload.len()).sum();
        self.waiting.len() < before
    }

    /// Fails what waited too long.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.wake.is_some_and(|wake| wake <= cx.now) {
            let now = cx.now;
            self.fail(cx, DeliveryError::NoQuorum, |waiting| waiting.deadline <= now);
        }
    }

    /// Fails everything.
    pub(super) fn close(&mut self, cx: &mut Context<'_>) {
        self.fail(cx, DeliveryError::Leaving, |_| true);
    }

    fn fail(&mut self, cx: &mut Context<'_>, error: DeliveryError, doomed: impl Fn(&Waiting) -> bool) {
        for waiting in core::mem::take(&mut self.waiting) {
            if !doomed(&waiting) {
                self.waiting.push_back(waiting);
                continue;
            }
            cx.events.extend(waiting.command.failed(None, error));
        }
        self.bytes = self.waiting.iter().map(|waiting| waiting.payload.len()).sum();
        self.wake = self.waiting.iter().map(|waiting| waiting.deadline).min();
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }
}
