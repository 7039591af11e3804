//! What can be seen of a run, by checkers and others.

use crate::fault::FaultKind;
use crate::world::{NodeIndex, World};
pub use quorate_core::journal::Command;
use quorate_core::{Config, Duration, Event, Instant, Message};
use std::net::SocketAddr;

/// Sees everything that happens in a run, at its true time. A checker is an observer that objects.
///
/// Observers never influence a run: with and without them it has the same trace.
pub trait Observer: std::any::Any {
    /// A short name, for messages.
    fn name(&self) -> &'static str;

    /// Something happened.
    ///
    /// # Errors
    /// What must not happen, in one sentence for people.
    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String>;

    /// The run is over, and everything had the time to recover.
    ///
    /// # Errors
    /// What must not be, in one sentence for people.
    fn finish(&mut self, world: &World) -> Result<(), String> {
        let _ = world;
        Ok(())
    }
}

/// How a datagram came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// As its sender sent it.
    Original,
    /// A copy that the network made.
    Duplicate,
    /// Its bytes were changed on the way.
    Altered,
    /// Recorded, and sent again by somebody.
    Replayed,
    /// Made by somebody who is no process of this run.
    Foreign,
}

/// A datagram, as the network knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Copies and replays share the number of the original.
    pub number: u64,
    /// The process that sent the original; `None` if no process did.
    pub sender: Option<NodeIndex>,
    /// The process that was at the destination when the original was sent.
    pub intended: Option<NodeIndex>,
    /// The source address.
    pub from: SocketAddr,
    /// The destination address.
    pub to: SocketAddr,
    /// Its length in bytes.
    pub len: usize,
    /// The first two bytes: version or flavor and kind, see `docs/wire.md`.
    pub head: [u8; 2],
    /// How it came to be.
    pub provenance: Provenance,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Arrives(Instant),
    /// It waits until a fault ends.
    Waits,
    /// It is lost by chance.
    Lost,
    /// The way is cut.
    Cut,
    /// It is too long for the way.
    TooLong,
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A process started.
    Started {
        /// Which.
        node: NodeIndex,
        /// Its settings.
        config: &'a Config,
    },
    /// A process ended: it crashed, or has left.
    Stopped {
        /// Which.
        node: NodeIndex,
    },
    /// A process stands still from now on.
    Paused {
        /// Which.
        node: NodeIndex,
    },
    /// A process goes on.
    Resumed {
        /// Which.
        node: NodeIndex,
    },
    /// A fault begins.
    FaultBegan {
        /// Faults are numbered in the order in which they begin.
        number: usize,
        /// What it is.
        kind: FaultKind,
    },
    /// A fault is over.
    FaultEnded {
        /// Which.
        number: usize,
    },
    /// All faults are over.
    Healed,
    /// A datagram was sent, or made on the way.
    Sent {
        /// The datagram.
        datagram: &'a Datagram,
        /// What becomes of it.
        fate: Fate,
    },
    /// A datagram arrived where nobody listens, or nobody has room for it.
    Undelivered {
        /// The datagram.
        datagram: &'a Datagram,
    },
    /// A process took a datagram.
    Arrived {
        /// Which process.
        node: NodeIndex,
        /// The datagram.
        datagram: &'a Datagram,
        /// Whether a copy of it had reached this process before.
        again: bool,
        /// Whether the process took it for authentic and new.
        opened: bool,
    },
    /// A process was woken by its timer.
    Woke {
        /// Which.
        node: NodeIndex,
        /// How late, on its own clock.
        late: Duration,
    },
    /// A process told its application of something.
    Event {
        /// Which.
        node: NodeIndex,
        /// What.
        event: &'a Event,
    },
    /// An application took a message.
    Message {
        /// Of which process.
        node: NodeIndex,
        /// The message.
        message: &'a Message,
    },
    /// An application gave a command.
    Command {
        /// To which process.
        node: NodeIndex,
        /// The command.
        command: &'a Command,
    },
    /// A process has been given an input, and all that it wanted done was done.
    Settled {
        /// Which.
        node: NodeIndex,
    },
}

/// Something that must not happen did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What, in one sentence.
    pub what: String,
    /// Who objects: the name of a checker, `app`, or `panic`.
    pub by: &'static str,
    /// When, in true time from the beginning of the run.
    pub at: Duration,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} (at {:.3} s)",
            self.by,
            self.what,
            self.at.as_secs_f64()
        )
    }
}
