//! Where members may be found.

use crate::wire::{canonical, is_shareable};
use alloc::string::String;
use core::net::{IpAddr, SocketAddr};

/// The port of a seed that names none.
pub const DEFAULT_PORT: u16 = 5000;

/// A parsed entry of `Config::seeds`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seed {
    /// A literal address.
    Addr(SocketAddr),
    /// A name to resolve, and the port to use with each of its addresses.
    Name {
        /// The name, without port.
        host: String,
        /// The port.
        port: u16,
    },
}

/// A seed is neither an address nor a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be host, host:port, a unicast address, or [IPv6]:port, not link-local, with a port of 1 to 65535"
)]
pub struct SeedError;

impl Seed {
    /// Reads `host`, `host:port`, an IPv4 or IPv6 address, `ipv4:port` or `[ipv6]:port`. Without a port it is 5000.
    ///
    /// # Errors
    /// [`SeedError`] if the text is none of these, or the port is 0 or too large.
    pub fn parse(text: &str) -> Result<Self, SeedError> {
        let addr = |addr: SocketAddr| {
            let addr = canonical(addr);
            if addr.port() != 0 && is_shareable(addr.ip()) {
                Ok(Self::Addr(addr))
            } else {
                Err(SeedError)
            }
        };
        if let Ok(found) = text.parse() {
            return addr(found);
        }
        if let Ok(ip) = text
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
        {
            return addr(SocketAddr::new(ip, DEFAULT_PORT));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| SeedError)?),
            None => (text, DEFAULT_PORT),
        };
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        if port == 0 || name.len() > 253 || !name.split('.').all(label) {
            return Err(SeedError);
        }
        // What looks like an IPv4 address but is none would only ever fail to resolve.
        if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(SeedError);
        }
        Ok(Self::Name {
            host: String::from(host),
            port,
        })
    }
}
