//! The key ring in the form that the handshake needs.

use crate::config::{Key, KeyId, KeyRing, Security};
use crate::crypto::{derive, mac128};
use crate::time::{Duration, Instant};
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use zeroize::{Zeroize as _, Zeroizing};

/// What is derived from one shared key: each use has a key of its own. Wiped when dropped.
pub(super) struct SharedKey {
    pub(super) id: KeyId,
    /// Goes into the Noise handshake.
    pub(super) psk: Zeroizing<[u8; 32]>,
    /// Authenticates HELLO.
    pub(super) hello: Zeroizing<[u8; 32]>,
    /// Authenticates CHALLENGE.
    pub(super) challenge: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedKey({})", self.id)
    }
}

impl SharedKey {
    fn new(key: &Key) -> Self {
        let derived = |label| Zeroizing::new(derive(key.expose(), label, &[]));
        Self {
            id: key.id(),
            psk: derived("quorate v1 psk"),
            hello: derived("quorate v1 hello mac"),
            challenge: derived("quorate v1 challenge mac"),
        }
    }
}

/// The key of clusters that run in the clear. Everybody knows it: it protects against accidents only.
const PUBLISHED_KEY: [u8; 32] = *b"quorate insecure: no secret here";

pub(super) fn derive_ring(ring: &KeyRing) -> Vec<SharedKey> {
    ring.keys().iter().map(SharedKey::new).collect()
}

/// Returns the keys of a config, the sealing one first; never none.
pub(super) fn initial_keys(security: &Security) -> Vec<SharedKey> {
    match security {
        Security::Keys(ring) => derive_ring(ring),
        Security::Insecure | Security::Unset => {
            alloc::vec![SharedKey::new(&Key::from_bytes(PUBLISHED_KEY))]
        }
    }
}

/// How long a challenge is given out under one secret; it is accepted for one more such time.
const ROTATION: Duration = Duration::from_secs(5);

/// Makes challenges without remembering them. The secret of each 5 seconds is derived from one that never leaves
/// this process.
pub(super) struct Challenger {
    root: Zeroizing<[u8; 32]>,
    epoch: u64,
    /// The secrets of `epoch` and of the one before.
    secrets: [[u8; 32]; 2],
}

impl Drop for Challenger {
    fn drop(&mut self) {
        self.secrets.zeroize();
    }
}

impl Challenger {
    pub(super) fn new(root: [u8; 32]) -> Self {
        let mut new = Self {
            root: Zeroizing::new(root),
            epoch: 0,
            secrets: [[0; 32]; 2],
        };
        new.enter(0);
        new
    }

    fn enter(&mut self, epoch: u64) {
        self.epoch = epoch;
        let secret = |epoch: u64| derive(&self.root, "quorate v1 challenge secret", &epoch.to_be_bytes());
        self.secrets = [secret(epoch), secret(epoch.wrapping_sub(1))];
    }

    fn at(&mut self, now: Instant) -> &[[u8; 32]; 2] {
        let epoch = now.as_nanos() / ROTATION.as_nanos() as u64;
        if epoch != self.epoch {
            self.enter(epoch);
        }
        &self.secrets
    }

    /// Returns the challenge for an opening (its clear bytes) from an address.
    pub(super) fn challenge(
        &mut self,
        now: Instant,
        from: SocketAddr,
        opening: &super::message::Opening,
    ) -> [u8; 16] {
        code(&self.at(now)[0], from, opening)
    }

    /// Returns whether this challenge was given to this address for this opening, at most 10 seconds ago.
    pub(super) fn accepts(
        &mut self,
        now: Instant,
        from: SocketAddr,
        opening: &super::message::Opening,
        challenge: &[u8; 16],
    ) -> bool {
        let secrets = self.at(now);
        secrets
            .iter()
            .any(|secret| crate::crypto::same(&code(secret, from, opening), challenge))
    }
}

fn code(secret: &[u8; 32], from: SocketAddr, opening: &super::message::Opening) -> [u8; 16] {
    let ip = match from.ip() {
        core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        core::net::IpAddr::V6(v6) => v6.octets(),
    };
    let port = from.port().to_be_bytes();
    mac128(
        secret,
        &[
            &ip,
            &port,
            &opening.key.0,
            &opening.index.to_be_bytes(),
            &opening.random,
        ],
    )
}
