//! ChaCha20-Poly1305 by ring: several times faster than the core's portable one.

use alloc::boxed::Box;
use core::fmt;
use quorate_core::{Aead, AeadFailed, AeadProvider};
use ring::aead;

/// Seals with ring.
#[derive(Clone, Copy, Debug)]
pub struct RingAead;

struct RingKey(aead::LessSafeKey);

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingKey")
    }
}

impl AeadProvider for RingAead {
    fn create(&self, key: &[u8; 32]) -> Box<dyn Aead> {
        // Fails only for a key of another length than 32 bytes.
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).expect("the key has 32 bytes");
        Box::new(RingKey(aead::LessSafeKey::new(key)))
    }
}

/// Four zero bytes, then the counter, big-endian: as the core's own does, and Noise except for the byte order.
fn nonce(counter: u64) -> aead::Nonce {
    let mut nonce = [0; aead::NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    aead::Nonce::assume_unique_for_key(nonce)
}

impl Aead for RingKey {
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce(counter), aead::Aad::from(aad), text);
        // Fails only for a text of more than 256 GiB.
        let tag = sealed.expect("a datagram is short");
        let mut out = [0; 16];
        out.copy_from_slice(tag.as_ref());
        out
    }

    fn open_in_place(
        &self,
        counter: u64,
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), AeadFailed> {
        self.0
            .open_in_place_separate_tag(nonce(counter), aead::Aad::from(aad), (*tag).into(), text, 0..)
            .map(drop)
            .map_err(|_| AeadFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
    use quickcheck::quickcheck;

    /// The same by another implementation.
    fn reference(key: [u8; 32], counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let cipher = chacha20poly1305::ChaCha20Poly1305::new(&key.into());
        let tag = cipher.encrypt_inout_detached(&nonce.into(), aad, text.into());
        tag.expect("short").into()
    }

    fn key(bytes: u128) -> [u8; 32] {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&bytes.to_be_bytes());
        key[16..].copy_from_slice(&bytes.to_le_bytes());
        key
    }

    quickcheck! {
        fn ring_agrees_with_the_reference(seed: u128, counter: u64, aad: Vec<u8>, text: Vec<u8>) -> bool {
            let ring = RingAead.create(&key(seed));
            let (mut ours, mut theirs) = (text.clone(), text.clone());
            let tag = ring.seal_in_place(counter, &aad, &mut ours);
            let same = tag == reference(key(seed), counter, &aad, &mut theirs) && ours == theirs;
            same && ring.open_in_place(counter, &aad, &mut ours, &tag).is_ok() && ours == text
        }

        fn anything_altered_is_refused(seed: u128, counter: u64, aad: Vec<u8>, text: Vec<u8>, bit: u8) -> bool {
            let ring = RingAead.create(&key(seed));
            let mut sealed = text.clone();
            let tag = ring.seal_in_place(counter, &aad, &mut sealed);
            let mut other_tag = tag;
            other_tag[usize::from(bit) % 16] ^= 1 << (bit % 8);
            let mut other_aad = aad.clone();
            other_aad.push(bit);
            [
                ring.open_in_place(counter, &aad, &mut sealed.clone(), &other_tag),
                ring.open_in_place(counter ^ 1 << (bit % 64), &aad, &mut sealed.clone(), &tag),
                ring.open_in_place(counter, &other_aad, &mut sealed.clone(), &tag),
            ]
            .iter()
            .all(Result::is_err)
        }
    }
}
