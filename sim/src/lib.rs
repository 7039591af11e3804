//! A deterministic simulator for quorate: many unmodified nodes over a virtual network, in virtual time.
//!
//! A run is a function of its [`Schedule`] (or of a seed, from which one is drawn): the same schedule gives the same
//! datagrams, the same events and the same [`Sim::trace_hash`].
//!
//! [`run`] plays a whole schedule with the built-in [`Users`] and all [`checkers`]; [`check`] runs a test of yours for many
//! seeds; [`Sim`] lets a test do everything by hand. Your own logic is an [`App`], or async code against
//! a [`Cluster`] ([`run_program`], [`Sim::node`], [`block_on`]). `docs/simulator.md` tells the rest.
//!
//! ```
//! use quorate_sim::{Duration, Sim, config};
//!
//! let mut sim = Sim::new(42);
//! let a = sim.start(config());
//! let b = sim.start(config().seed(sim.addr(a).to_string()));
//! sim.run_for(Duration::from_secs(1));
//! assert_eq!(sim.node_of(b).members().next().map(|member| member.id), Some(sim.id(a)));
//! ```
#![forbid(unsafe_code)]

/// The examples of `docs/simulator.md`.
#[cfg(doctest)]
#[doc = include_str!("../../docs/simulator.md")]
struct Page;

mod app;
mod check;
pub mod checkers;
mod clock;
mod coverage;
mod dns;
pub mod explore;
mod fault;
pub mod html;
mod network;
mod observe;
mod program;
mod recording;
mod run;
mod schedule;
pub mod script;
mod sim;
mod trace;
mod witness;
mod workload;
mod world;

pub use app::{App, Cx, Idle, Recorder};
pub use check::{Outcome, check};
pub use coverage::only_beyond;
pub use fault::{Corruption, Delay, Difference, DnsFault, Fault, FaultKind, Host, HostSet};
pub use network::{Captured, Link};
pub use observe::{Command, Datagram, Fate, Observer, Provenance, Seen, Violation};
pub use program::{Env, Sleep, Start, Task};
#[doc(no_inline)]
pub use quorate::{self, Cluster, Filter, StartError};
#[doc(no_inline)]
pub use quorate_core::{
    self, Config, Duration, Event, Instant, LeaveReason, Member, Message, NodeId, ReplyTo, Role, Target,
};
#[cfg(feature = "planted-bugs")]
pub use quorate_core::{ParsePlantedBugError, Planted, PlantedBug, plant};
pub use recording::Recording;
pub use run::{Report, group_bound, recovery_bound, run, run_observed, run_program, run_program_observed};
pub use schedule::{
    Crypto, Draw, Invalid, Kinds, MAX_CHAOS, MAX_FAULTS, MAX_HOSTS, ParseError, Schedule, Shrunk, Workload,
    scenario, shrink,
};
pub use sim::{Builder, Sim, block_on};
pub use workload::Users;
pub use world::{NodeIndex, Process, World};

use quorate_core::Key;

/// Returns a config that suits a simulated node: a fixed key, and names that do not need DNS.
pub fn config() -> Config {
    Config::default().key(Key::from_bytes([7; 32]))
}
