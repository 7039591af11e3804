//! A deterministic simulator for quorate: many unmodified nodes over a virtual network, in virtual time.
//!
//! A run is a function of its seed: the same seed gives the same datagrams, the same events and the same
//! [`World::trace_hash`].
//!
//! ```
//! use quorate_sim::{Duration, World, config};
//!
//! let mut world = World::new(42);
//! let a = world.start(config());
//! let b = world.start(config().seed(world.addr(a).to_string()));
//! world.run_for(Duration::from_secs(1));
//! assert_eq!(world.node(b).members().next().map(|member| member.id), Some(world.id(a)));
//! ```
#![forbid(unsafe_code)]

mod network;
mod trace;
mod world;

pub use network::Link;
pub use quorate_core::{Duration, Instant};
#[cfg(feature = "planted-bugs")]
pub use quorate_core::{ParsePlantedBugError, Planted, PlantedBug, plant};
pub use world::{Captured, Crypto, NodeIndex, World};

use quorate_core::{Config, Key};

/// Returns a config that suits a simulated node: a fixed key, and names that do not need DNS.
pub fn config() -> Config {
    Config::default().key(Key::from_bytes([7; 32]))
}
