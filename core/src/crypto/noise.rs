//! The handshake: Noise `NNpsk0` (Perrin, "The Noise Protocol Framework", revision 34, section 9), computed by snow
//! from primitives of our own.

use super::{Primitives, primitives};
use alloc::boxed::Box;
use core::fmt;
use snow::params::NoiseParams;
use snow::resolvers::CryptoResolver;
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize as _, Zeroizing};

const NAME: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Bytes of the ephemeral public key that begins each message.
pub(crate) const EPHEMERAL_LEN: usize = 32;
/// Bytes that a message has on top of its payload: the ephemeral public key and the tag.
pub(crate) const MESSAGE_OVERHEAD: usize = EPHEMERAL_LEN + 16;

/// A handshake under way.
pub(crate) struct Noise(Box<HandshakeState>);

/// What a complete handshake leaves behind. Wiped when dropped.
pub(crate) struct SplitKeys {
    /// Seals what the initiator sends.
    pub(crate) initiator: Zeroizing<[u8; 32]>,
    /// Seals what the responder sends.
    pub(crate) responder: Zeroizing<[u8; 32]>,
    /// Names this handshake: equal on both sides and on no other handshake.
    pub(crate) hash: [u8; 32],
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noise")
    }
}

impl Noise {
    pub(super) fn new(
        primitives: Primitives,
        initiator: bool,
        mut secret: [u8; 32],
        psk: &[u8; 32],
        prologue: &[u8],
    ) -> Option<Self> {
        let resolver: Box<dyn CryptoResolver + Send> = match primitives {
            Primitives::Real => Box::new(primitives::Resolver::new(&secret)),
            #[cfg(feature = "simulation")]
            Primitives::Simulated => Box::new(super::simulated::Resolver::new(&secret)),
        };
        secret.zeroize();
        let params: NoiseParams = NAME.parse().ok()?;
        let builder = Builder::with_resolver(params, resolver)
            .psk(0, psk)
            .ok()?
            .prologue(prologue)
            .ok()?;
        let state = if initiator {
            builder.build_initiator()
        } else {
            builder.build_responder()
        };
        Some(Self(Box::new(state.ok()?)))
    }

    /// Appends the next message to `out`.
    pub(crate) fn write(&mut self, payload: &[u8], out: &mut alloc::vec::Vec<u8>) -> Option<()> {
        let start = out.len();
        out.resize(start + payload.len() + MESSAGE_OVERHEAD, 0);
        let written = self.0.write_message(payload, &mut out[start..]);
        self.forget_psk();
        if written.is_err() {
            out.truncate(start);
        }
        written.ok().map(|_| ())
    }

    /// Reads the next message into `payload`, which must be exactly as long as the payload is.
    pub(crate) fn read(&mut self, message: &[u8], payload: &mut [u8]) -> Option<()> {
        if message.len() != payload.len() + MESSAGE_OVERHEAD {
            return None;
        }
        let read = self.0.read_message(message, payload).ok()?;
        self.forget_psk();
        (read == payload.len()).then_some(())
    }

    /// Overwrites snow's copy of the shared key: only the first message of the pattern needs it.
    fn forget_psk(&mut self) {
        // Refused only for another length than 32.
        let _ = self.0.set_psk(0, &[0; 32]);
    }

    /// Returns the keys, if both messages went through.
    pub(crate) fn split(mut self) -> Option<SplitKeys> {
        if !self.0.is_handshake_finished() {
            return None;
        }
        let hash = self.0.get_handshake_hash().try_into().ok()?;
        let (initiator, responder) = self.0.dangerously_get_raw_split();
        Some(SplitKeys {
            initiator: Zeroizing::new(initiator),
            responder: Zeroizing::new(responder),
            hash,
        })
    }
}
