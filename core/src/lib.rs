//! The quorate protocol as a pure, deterministic state machine.
//!
//! [`Node`] takes inbound datagrams, time and commands, and gives outbound datagrams and events. It does no I/O, reads
//! no clock and draws no randomness of its own: the same config, seed and inputs give byte-identical outputs.
//!
//! # How to drive a node
//!
//! 1. Build it: [`Node::new`] with a [`Config`], 32 fresh random bytes and the present [`Instant`].
//! 2. Give it what happened: [`Node::handle_datagram`], [`Node::handle_timeout`], [`Node::handle_resolved`], or a
//!    command such as [`Node::send`].
//! 3. Send what it wants sent: call [`Node::poll_transmit`] until it returns `None`.
//! 4. Resolve what it wants resolved: [`Node::poll_resolve`], and answer with [`Node::handle_resolved`].
//! 5. Read what happened: [`Node::poll_event`] until `None`, and [`Node::poll_message`] as fast as the application
//!    consumes messages (what is not polled stays in a bounded queue and is acknowledged to its sender as busy).
//! 6. Wait for a datagram, a command or [`Node::poll_timeout`], and go to 2.
#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::alloc_instead_of_core
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
mod crypto;
mod discovery;
mod error;
mod event;
mod id;
mod membership;
mod messaging;
mod node;
mod outbox;
mod rng;
mod session;
mod stats;
mod status;
mod time;
mod wire;

pub use config::*;
#[cfg(feature = "simulation")]
pub use crypto::SimulatedAead;
pub use crypto::{Aead, AeadFailed, AeadProvider, PureAead, aead_nonce};
pub use error::*;
pub use event::*;
pub use id::{NodeId, ParseNodeIdError};
pub use node::{Node, SendFailure, TimerKind, Transmit};
pub use stats::{DropReason, Stats};
pub use status::*;
pub use time::{Duration, Instant, WallTime};
pub use wire::{MAX_DATAGRAM, PROTOCOL_VERSIONS};
