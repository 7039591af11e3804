//! X25519, ChaCha20-Poly1305 and BLAKE2s for snow. Each wipes its secrets.

use alloc::boxed::Box;
use blake2::{Blake2s256, Digest as _};
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

/// Gives snow the primitives, and 32 bytes of randomness once.
pub(super) struct Resolver(Zeroizing<[u8; 32]>);

impl Resolver {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*secret))
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw::new(&self.0)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::Blake2s).then(|| Box::<Blake2s>::default() as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly).then(|| Box::<ChaChaPoly>::default() as Box<dyn Cipher>)
    }
}

/// The randomness of one handshake: one ephemeral key. A second draw fails rather than repeat the first.
pub(super) struct OneDraw {
    secret: Zeroizing<[u8; 32]>,
    drawn: bool,
}

impl OneDraw {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self {
            secret: Zeroizing::new(*secret),
            drawn: false,
        }
    }
}

impl Random for OneDraw {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        if core::mem::replace(&mut self.drawn, true) || dest.len() != self.secret.len() {
            return Err(Error::Rng);
        }
        dest.copy_from_slice(&*self.secret);
        self.secret.zeroize();
        Ok(())
    }
}

/// RFC 7748.
#[derive(Default)]
struct X25519 {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl X25519 {
    fn take(&mut self, private: &[u8; 32]) {
        *self.private = *private;
        self.public = PublicKey::from(&StaticSecret::from(*private)).to_bytes();
    }
}

impl Dh for X25519 {
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
        let mut private = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *private)?;
        self.take(&private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let theirs: [u8; 32] = pubkey
            .get(..32)
            .and_then(|p| p.try_into().ok())
            .ok_or(Error::Dh)?;
        let shared = StaticSecret::from(*self.private).diffie_hellman(&PublicKey::from(theirs));
        // A point of small order would make the result independent of our key (RFC 7748, section 6.1).
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.get_mut(..32)
            .ok_or(Error::Dh)?
            .copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

/// The cipher of the handshake's payloads. Its nonce is Noise's: 4 zero bytes and the counter, little-endian.
#[derive(Default)]
struct ChaChaPoly(Option<ChaCha20Poly1305>);

fn noise_nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Some(ChaCha20Poly1305::new(key.into()));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (Some(cipher), Some((text, rest))) = (&self.0, out.split_at_mut_checked(plaintext.len())) else {
            return 0;
        };
        text.copy_from_slice(plaintext);
        let tag = cipher.encrypt_inout_detached(&noise_nonce(nonce).into(), authtext, text.into());
        let (Ok(tag), Some(place)) = (tag, rest.get_mut(..16)) else {
            return 0;
        };
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
        let cipher = self.0.as_ref().ok_or(Error::Decrypt)?;
        let (text, tag) = ciphertext.split_last_chunk::<16>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        out.copy_from_slice(text);
        cipher
            .decrypt_inout_detached(&noise_nonce(nonce).into(), authtext, out.into(), tag.into())
            .map(|()| text.len())
            .map_err(|_| Error::Decrypt)
    }
}

#[derive(Default)]
struct Blake2s(Blake2s256);

impl Hash for Blake2s {
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
        self.0 = Blake2s256::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = core::mem::take(&mut self.0).finalize();
        for (to, from) in out.iter_mut().zip(hash) {
            *to = from;
        }
    }
}
