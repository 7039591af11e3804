//! The async face of quorate: a [`Cluster`] to talk through, and the one task that drives the protocol.
//!
//! Applications do not start here but with the crate of their runtime, which re-exports all of this: `quorate-tokio`
//! for tokio, `quorate-smol` for smol and async-std. Each adds one function, `start`, that binds a socket, spawns the
//! [`Driver`] and returns the [`Cluster`].
//!
//! # How it works
//!
//! One task, the driver, owns the protocol's state machine ([`quorate_core::Node`]) and the socket (an [`Io`]). All
//! handles speak to it over bounded queues, so a [`Cluster`] is the same type under every runtime and can be used from
//! any thread, also from several executors at once. Nothing that an application does or forgets to do can hold up the
//! driver's heartbeats: what an application does not read waits in a bounded queue of its own.
//!
//! | queue | bound | when it is full |
//! |---|---|---|
//! | commands to the driver | 256 | the calling future waits; [`Cluster::cast`] waits, [`Incoming::reply_now`] refuses |
//! | received messages | 256, and `window_bytes` in bytes (or one message) | they wait in the node; senders are told to wait |
//! | events of one subscriber | 1,024 | the oldest are lost, and counted in [`ClusterEvent::Lagged`] |
//! | answers of one [`Answers`] stream | one for each member asked | never |
//! | what is given up: futures that are dropped, locks | what was begun | never |
//!
//! # Cancellation
//!
//! Futures do nothing before they are first polled. Dropping one early gives the operation up: a message that was not
//! transmitted yet is not sent, a request is forgotten; what was transmitted may still arrive. Each method says more
//! where there is more to say.
//!
//! # Features
//!
//! - `os`: what the runtime crates share ([`os`]). Off by default, so that a simulator does not need it.
//! - `testing`: a filter on outgoing datagrams, for tests of an application's behaviour under loss.
//! - `simulation`: for simulators only. The core's cheap seal, and a driver that is run step by step.
#![forbid(unsafe_code)]
#![warn(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::alloc_instead_of_core
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod cluster;
mod driver;
mod error;
mod io;
#[cfg(feature = "os")]
pub mod os;
mod payload;
#[cfg(feature = "testing")]
mod testing;

pub use cluster::{
    Answer, Answers, Cluster, ClusterEvent, Delivery, Election, Events, Health, Incoming, Leader, Leaders,
    Leadership, Lease, LockBuilder, LockGuard, LockInfo, LockPages, LockWatch, Messages,
};
pub use driver::{Driver, Setup};
pub use error::{
    AcquireError, Closed, DriverError, LockQueryError, NotHeld, ReadyError, ReplyFailed, RequestError,
    SendFailed, StartError, WithLockError,
};
pub use io::{Io, ResolveFuture, Run, SendBatch, SteadyClock};
pub use payload::IntoPayload;
#[cfg(feature = "testing")]
pub use testing::Filter;

pub use bytes::Bytes;
pub use quorate_core::{
    AbandonReason, Aead, AeadFailed, AeadProvider, Config, ConfigError, ConfigFault, ConsensusProblem,
    ConsensusRole, ConsensusStatus, DEFAULT_PORT, DeliveryError, DropReason, Duration, FoundingRefusal,
    Group, Instant, Key, KeyError, KeyId, KeyRing, KeyUsage, LeaveReason, Life, LockCounts, LockCursor,
    LockError, LockFilter, LockKey, LockPage, LockRow, LostReason, MAX_CLUSTER_SIZE, MAX_DATAGRAM,
    MAX_METADATA, MAX_NAME, Member, MemberState, NodeId, PROTOCOL_VERSIONS, ParseNodeIdError,
    QuarantineReason, Quarantined, RejectReason, Replication, ReplyError, Role, Security, Seed, SeedError,
    SendError, SendFailure, Settings, Stats, Status, WallTime,
};
