//! The cryptographic seam: what seals datagrams, what the Noise handshake is computed with, and how keys are derived.

mod derive;
mod noise;
mod primitives;
#[cfg(feature = "simulation")]
mod simulated;
#[cfg(test)]
mod tests;

use crate::config::Security;
use crate::wire::ProtocolFlavor;
use alloc::boxed::Box;
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _};
use core::fmt::{self, Debug};

pub(crate) use derive::{derive, hash128, mac128, same};
pub(crate) use noise::{EPHEMERAL_LEN, MESSAGE_OVERHEAD, Noise, SplitKeys};
#[cfg(feature = "simulation")]
pub use simulated::SimulatedAead;

/// A sealed text was altered, or sealed under another key, counter or header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct AeadFailed;

/// One key of an AEAD (RFC 5116) that seals and opens in place. Should wipe its key when it is dropped,
/// where its implementation lets it (`ring` does not).
pub trait Aead: Send + Sync {
    /// Encrypts `text` and returns its tag, which covers `aad` too. The caller never repeats a counter.
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; 16];

    /// Decrypts `text` if the tag is right.
    ///
    /// # Errors
    /// [`AeadFailed`] if it is not; what `text` then holds is unspecified.
    fn open_in_place(
        &self,
        counter: u64,
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), AeadFailed>;
}

/// Makes AEADs from keys. All providers of one cluster compute the same function: ChaCha20-Poly1305 (RFC 8439) with
/// the nonce of [`aead_nonce`].
pub trait AeadProvider: Send + Sync + Debug {
    /// Creates the AEAD of one key.
    fn create(&self, key: &[u8; 32]) -> Box<dyn Aead>;
}

/// Returns the nonce of a counter: 4 zero bytes and the counter, big-endian.
pub const fn aead_nonce(counter: u64) -> [u8; 12] {
    let c = counter.to_be_bytes();
    [0, 0, 0, 0, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]
}

/// ChaCha20-Poly1305 in pure Rust: runs everywhere. Runtimes supply a faster one.
#[derive(Clone, Copy, Debug, Default)]
pub struct PureAead;

impl AeadProvider for PureAead {
    fn create(&self, key: &[u8; 32]) -> Box<dyn Aead> {
        Box::new(ChaCha20Poly1305::new(key.into()))
    }
}

impl Aead for ChaCha20Poly1305 {
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        // Fails only above 256 GiB of text; a datagram has 1,200 bytes. An all-zero tag would be refused by the peer.
        self.encrypt_inout_detached(&aead_nonce(counter).into(), aad, text.into())
            .map_or([0; 16], Into::into)
    }

    fn open_in_place(
        &self,
        counter: u64,
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), AeadFailed> {
        self.decrypt_inout_detached(&aead_nonce(counter).into(), aad, text.into(), tag.into())
            .map_err(|_| AeadFailed)
    }
}

/// What the handshake is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Primitives {
    /// X25519, ChaCha20-Poly1305, BLAKE2s.
    Real,
    /// Stand-ins without any strength, for the simulator.
    #[cfg(feature = "simulation")]
    Simulated,
}

/// All cryptography of a node.
pub(crate) struct Crypto {
    aead: Box<dyn AeadProvider>,
    primitives: Primitives,
}

impl Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto").field("aead", &self.aead).finish()
    }
}

impl Default for Crypto {
    fn default() -> Self {
        Self::with_aead(Box::new(PureAead))
    }
}

impl Crypto {
    /// The real thing, with datagrams sealed by this provider.
    pub(crate) fn with_aead(aead: Box<dyn AeadProvider>) -> Self {
        Self {
            aead,
            primitives: Primitives::Real,
        }
    }

    /// The simulator's: no strength, little work, the same outcomes.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated() -> Self {
        Self {
            aead: Box::new(SimulatedAead),
            primitives: Primitives::Simulated,
        }
    }

    /// Returns the first byte of every datagram.
    pub(crate) fn flavor(&self, security: &Security) -> ProtocolFlavor {
        match (self.primitives, security) {
            #[cfg(feature = "simulation")]
            (Primitives::Simulated, _) => ProtocolFlavor::Simulated,
            (Primitives::Real, Security::Keys(_)) => ProtocolFlavor::Secured,
            // `validate` refuses `Unset`; were it to come here, it must not pass for a secured cluster.
            (Primitives::Real, Security::Insecure | Security::Unset) => ProtocolFlavor::Insecure,
        }
    }

    /// Creates the AEAD of one direction of a session.
    pub(crate) fn aead(&self, key: &[u8; 32]) -> Box<dyn Aead> {
        self.aead.create(key)
    }

    /// Begins a handshake. `secret` is the ephemeral private key: 32 fresh bytes that are never used again.
    pub(crate) fn initiator(&self, secret: [u8; 32], psk: &[u8; 32], prologue: &[u8]) -> Option<Noise> {
        Noise::new(self.primitives, true, secret, psk, prologue)
    }

    /// Begins to answer a handshake. `secret` as for `initiator`.
    pub(crate) fn responder(&self, secret: [u8; 32], psk: &[u8; 32], prologue: &[u8]) -> Option<Noise> {
        Noise::new(self.primitives, false, secret, psk, prologue)
    }
}
