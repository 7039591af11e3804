//! Stand-ins for the simulator: they accept and refuse what the real primitives do, as long as nobody tries to forge,
//! for a small part of the work. Nothing here protects anything.

use super::primitives::OneDraw;
use super::{Aead, AeadFailed, AeadProvider};
use alloc::boxed::Box;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};

/// Odd constants without structure (the fractional digits of pi).
const PI: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
    0x082e_fa98_ec4e_6c89,
];

/// Multiplies to 128 bits and folds: every bit of both depends on every bit of the result.
const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Reads 8 bytes at `at`; the caller knows that they are there.
fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// A keyed 64-bit checksum of any length, four lanes wide so that the multiplications overlap.
fn checksum(key: &[u64; 4], bytes: &[u8]) -> u64 {
    let mut lanes = *key;
    let mut chunks = bytes.chunks_exact(64);
    for chunk in &mut chunks {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = mix(word_at(chunk, i * 16) ^ *lane, word_at(chunk, i * 16 + 8) ^ PI[i]);
        }
    }
    let mut pairs = chunks.remainder().chunks_exact(16);
    let mut sum = mix(lanes[0] ^ lanes[1], lanes[2] ^ lanes[3].rotate_left(17)) ^ bytes.len() as u64;
    for pair in &mut pairs {
        sum = mix(word_at(pair, 0) ^ sum, word_at(pair, 8) ^ PI[1]);
    }
    let rest = pairs.remainder();
    let (head, tail) = rest.split_at(rest.len().min(8));
    // Rotated, because keys are made of these constants: equal ones would cancel out, and a factor of zero hides all.
    mix(
        word(head) ^ sum ^ PI[2],
        word(tail) ^ key[3].rotate_left(23) ^ PI[0],
    )
}

fn key_words(key: &[u8; 32]) -> [u64; 4] {
    core::array::from_fn(|i| word_at(key, i * 8) ^ PI[i])
}

/// The simulator's AEAD: a keyed checksum, and no encryption.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedAead;

struct Checksum([u64; 4]);

impl AeadProvider for SimulatedAead {
    fn create(&self, key: &[u8; 32]) -> Box<dyn Aead> {
        Box::new(Checksum(key_words(key)))
    }
}

impl Checksum {
    fn tag(&self, counter: u64, aad: &[u8], text: &[u8]) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let sum = checksum(&[a ^ counter, b, c, d], text);
        let sum = checksum(&[b ^ sum, c, d, a ^ counter], aad);
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&sum.to_le_bytes());
        tag[8..].copy_from_slice(&mix(sum ^ c, d ^ counter ^ PI[0]).to_le_bytes());
        tag
    }
}

impl Aead for Checksum {
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        self.tag(counter, aad, text)
    }

    fn open_in_place(
        &self,
        counter: u64,
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), AeadFailed> {
        if self.tag(counter, aad, text) == *tag {
            Ok(())
        } else {
            Err(AeadFailed)
        }
    }
}

/// Gives snow the stand-ins, under the names of what they stand for.
pub(super) struct Resolver([u8; 32]);

impl Resolver {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(*secret)
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw::new(&self.0)))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::<NoCurve>::default())
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::<NoHash>::default())
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(NoCipher(Checksum(PI))))
    }
}

/// The public key is the private one scrambled; the shared secret is the sum of both public keys, which commutes.
#[derive(Default)]
struct NoCurve {
    private: [u8; 32],
    public: [u8; 32],
}

impl NoCurve {
    fn take(&mut self, private: &[u8; 32]) {
        self.private = *private;
        let words = key_words(private);
        for (i, place) in self.public.chunks_exact_mut(8).enumerate() {
            place.copy_from_slice(&mix(words[i], PI[i]).to_le_bytes());
        }
    }
}

impl Dh for NoCurve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        if let Ok(private) = privkey.try_into() {
            self.take(private);
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut private = [0; 32];
        rng.try_fill_bytes(&mut private)?;
        self.take(&private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.private
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let theirs = pubkey.get(..32).ok_or(Error::Dh)?;
        let out = out.get_mut(..32).ok_or(Error::Dh)?;
        for ((to, a), b) in out.iter_mut().zip(&self.public).zip(theirs) {
            *to = a.wrapping_add(*b);
        }
        Ok(())
    }
}

struct NoCipher(Checksum);

impl Cipher for NoCipher {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Checksum(key_words(key));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let tag = self.0.tag(nonce, authtext, plaintext);
        let Some((text, rest)) = out.split_at_mut_checked(plaintext.len()) else {
            return 0;
        };
        let Some(place) = rest.get_mut(..16) else {
            return 0;
        };
        text.copy_from_slice(plaintext);
        place.copy_from_slice(&tag);
        plaintext.len() + 16
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (text, tag) = ciphertext.split_last_chunk::<16>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        if self.0.tag(nonce, authtext, text) != *tag {
            return Err(Error::Decrypt);
        }
        out.copy_from_slice(text);
        Ok(text.len())
    }
}

/// Depends on the order and the cut of what is put in; both sides of a handshake put in the same.
#[derive(Default)]
struct NoHash(u64);

impl Hash for NoHash {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = 0;
    }

    fn input(&mut self, data: &[u8]) {
        self.0 = checksum(&[self.0 ^ PI[0], PI[1], PI[2], PI[3]], data);
    }

    fn result(&mut self, out: &mut [u8]) {
        for (i, place) in out.chunks_mut(8).take(4).enumerate() {
            let word = mix(self.0 ^ PI[i], PI[3 - i] ^ i as u64).to_le_bytes();
            for (to, from) in place.iter_mut().zip(word) {
                *to = from;
            }
        }
        self.0 = 0;
    }
}
