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
//!
//! Two nodes, a network without delay, and a clock that is turned by hand:
//!
//! ```
//! use core::net::SocketAddr;
//! use quorate_core::{Config, Duration, Instant, Key, Node, WallTime};
//!
//! let mut now = Instant::from_millis(1);
//! let addrs = [1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 5000)));
//! let config = || Config::default().key(Key::from_bytes([7; 32]));
//! // In earnest the seeds are fresh bytes from the operating system.
//! let mut nodes = [
//!     Node::new(config(), [1; 32], now, WallTime::default())?,
//!     Node::new(config().seed("10.0.0.1:5000"), [2; 32], now, WallTime::default())?,
//! ];
//! let mut datagram = Vec::new();
//! for _ in 0..1000 {
//!     for i in 0..2 {
//!         nodes[i].handle_timeout(now);
//!         while let Some(transmit) = nodes[i].poll_transmit(now, &mut datagram) {
//!             assert_eq!(transmit.to, addrs[1 - i]);
//!             nodes[1 - i].handle_datagram(now, addrs[i], &mut datagram);
//!         }
//!     }
//!     now += Duration::from_millis(1);
//! }
//! assert_eq!(nodes[0].members().map(|member| member.id).collect::<Vec<_>>(), [nodes[1].id()]);
//! # Ok::<_, quorate_core::ConfigError>(())
//! ```
//!
//! # What else to know
//!
//! - **Time.** [`Instant`] counts nanoseconds from an origin of the caller's choice and never goes back. Intervals are
//!   [`Duration`]s. Calls with an earlier instant than the last one are not worth a guess.
//! - **Bounds.** Everything that is kept is bounded by a field of [`Config`], whose documentation has ranges and
//!   defaults. What does not fit is dropped and counted in [`Stats`].
//! - **Errors.** Only commands can fail, at once and without effect ([`SendError`], [`ReplyError`]); later failures are
//!   events. Nothing that arrives from the network makes a call fail or panic.
//! - **The wire.** `docs/wire.md` in the repository has every byte, `docs/security.md` what the cryptography promises.
#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::alloc_instead_of_core
)]

extern crate alloc;
#[cfg(any(test, feature = "planted-bugs"))]
extern crate std;

mod config;
#[cfg(feature = "simulation")]
pub mod consensus;
#[cfg(not(feature = "simulation"))]
#[allow(dead_code, unreachable_pub, reason = "public with the feature `simulation`")]
mod consensus;
mod crypto;
mod deadlines;
mod discovery;
mod error;
mod event;
mod id;
mod id_map;
#[cfg(feature = "simulation")]
pub mod journal;
#[cfg(not(feature = "simulation"))]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "public with the feature `simulation`"
)]
mod journal;
#[cfg(feature = "simulation")]
pub mod locks;
#[cfg(not(feature = "simulation"))]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "public with the feature `simulation`"
)]
mod locks;
mod membership;
mod messaging;
mod node;
mod outbox;
mod planted;
mod rng;
mod session;
mod stats;
mod status;
mod time;
#[cfg(feature = "simulation")]
mod usage;
mod wire;

pub use config::*;
pub use consensus::{Group, Life};
#[cfg(feature = "simulation")]
pub use crypto::SimulatedAead;
pub use crypto::{Aead, AeadFailed, AeadProvider, PureAead, aead_nonce};
pub use error::*;
pub use event::*;
pub use id::{NodeId, ParseNodeIdError};
pub use locks::{
    Key as LockKey, LockCursor, LockError, LockEvent, LockFilter, LockId, LockPage, LockRequest, LockRow,
    LostReason, matches_pattern,
};
pub use node::{Node, SendFailure, TimerKind, Transmit};
#[cfg(feature = "planted-bugs")]
pub use planted::{ParsePlantedBugError, Planted, PlantedBug, plant, planted};
pub use stats::{DropReason, Stats};
pub use status::*;
pub use time::{Duration, Instant, WallTime};
#[cfg(feature = "simulation")]
pub use usage::{Usage, UsageRow};
pub use wire::{MAX_DATAGRAM, PROTOCOL_VERSIONS};
