//! What a simulator does with a driver: it runs the pass step by step, and looks at the node after each.

use super::Driver;
use crate::io::Io;
use core::task::{Context, Poll};
use quorate_core::Node;

/// Exists only with the feature `simulation`.
impl<I: Io> Driver<I> {
    /// Does the next step of a pass: gives the node one thing or one batch of datagrams, or lets it send. `None`: the
    /// pass goes on with another call. `Pending`: it is over, and the task will be woken for the next one. `Ready`: the
    /// node has left; the driver is to be dropped.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        self.step(cx)
    }

    /// Returns the node.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Returns the node, to be given commands past all handles. Whoever does that wakes the driver afterwards.
    pub const fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }

    /// Returns what the driver runs on.
    pub const fn io_mut(&mut self) -> &mut I {
        &mut self.io
    }

    /// Tells the node to leave, as [`Cluster::shutdown`](crate::Cluster::shutdown) does.
    pub fn leave(&self) {
        self.shared.leave();
    }

    /// Returns how much is kept for handles: what is under way for them, and locks that they have.
    pub fn pending(&self) -> usize {
        self.ops.len() + self.locks.len()
    }

    /// Returns whether so much waits for the application that it is handed no more.
    pub fn is_full(&self) -> bool {
        self.shared.inbox.is_full()
    }

    /// Keeps received messages from the application, or stops doing so.
    pub fn set_unread(&mut self, unread: bool) {
        self.unread = unread;
        self.shared.doorbell.ring();
    }
}
