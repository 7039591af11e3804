//! What runtimes on an operating system share.
//!
//! For the runtime crates; applications need nothing of this.

mod aead;
mod alarm;
mod clock;
mod udp;

use crate::error::StartError;
pub use aead::RingAead;
pub use alarm::{Alarm, MAX_SLEEP, Timer};
use alloc::boxed::Box;
use alloc::vec::Vec;
pub use clock::Clock;
use core::net::{IpAddr, SocketAddr};
use quorate_core::{Config, ConfigError};
use std::io;
use std::net::ToSocketAddrs as _;
pub use udp::Udp;
use zeroize::Zeroizing;

/// Checks the settings and prepares a node: its random seed, ring for sealing, and the bound socket.
///
/// # Errors
/// Settings that are wrong, an address that cannot be bound, or a system without randomness.
pub fn prepare(config: Config) -> Result<(crate::Setup, Udp), StartError> {
    config.validate()?;
    let addr: SocketAddr = config
        .bind
        .parse()
        .map_err(|_| ConfigError::one("bind", &config.bind, "ip:port, such as 0.0.0.0:5000 or [::]:5000"))?;
    let udp = Udp::bind(addr).map_err(|source| StartError::Bind { addr, source })?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| StartError::System {
        what: "random seed",
        source: error.into(),
    })?;
    Ok((crate::Setup::new(config, *seed).aead(Box::new(RingAead)), udp))
}

/// Resolves a host name with the system's resolver. Blocks, for many seconds at worst: call it on a thread for that.
///
/// # Errors
/// What the resolver says.
pub fn resolve_blocking(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect())
}
