//! Shared keys.

use alloc::vec::Vec;
use blake2::digest::Digest as _;
use core::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// A 32-byte key that every member of a cluster shares. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// Names a key without telling anything about it: the first 8 bytes of its hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What is wrong with a key or a key file. Never contains any of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has another length than 32 bytes.
    #[error("key: {0} bytes, must be exactly 32")]
    Length(usize),
    /// The text is neither 64 hexadecimal digits nor 44 characters of base64.
    #[error("key (line {line}): must be 64 hexadecimal digits or 44 characters of base64")]
    Text {
        /// The line of the key file, from 1.
        line: usize,
    },
    /// The key file holds no key.
    #[error("keys: none given, at least one is needed")]
    Empty,
    /// The ring holds too many keys.
    #[error("keys: {0} given, at most 8 are allowed")]
    TooMany(usize),
}

impl Key {
    /// Creates a key from 32 secret bytes. Draw them from the operating system's generator, never from a password.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Creates a key from a slice.
    ///
    /// # Errors
    /// [`KeyError::Length`] if it is not exactly 32 bytes long.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| KeyError::Length(bytes.len()))
    }

    /// Reads 64 hexadecimal digits or 44 characters of base64, white space around them ignored.
    ///
    /// # Errors
    /// [`KeyError::Text`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim().as_bytes();
        let key = match text.len() {
            64 => hex(text),
            44 => base64(text),
            _ => None,
        };
        key.map(Self).ok_or(KeyError::Text { line: 1 })
    }

    /// Returns the name of this key.
    pub fn id(&self) -> KeyId {
        let mut hash = blake2::Blake2s256::default();
        hash.update(b"quorate key id v1");
        hash.update(self.0);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        KeyId(id)
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

fn hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(*out)
}

fn base64(text: &[u8]) -> Option<[u8; 32]> {
    let digits = text.strip_suffix(b"=")?;
    let mut out = Zeroizing::new([0; 32]);
    let (mut bits, mut held, mut at) = (0_u32, 0_u32, 0);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            *out.get_mut(at)? = (bits >> held & 0xff) as u8;
            at += 1;
        }
    }
    // 43 digits are 258 bits: the two left over must be zero, or two texts would name one key.
    (at == 32 && bits & ((1 << held) - 1) == 0).then_some(*out)
}

/// The keys that a node accepts, 1 to 8; the first one seals what it sends.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing(Vec<Key>);

impl KeyRing {
    /// Creates a ring of one key.
    pub fn new(key: Key) -> Self {
        Self(alloc::vec![key])
    }

    /// Creates a ring; the first key seals. A key that is given twice counts once.
    ///
    /// # Errors
    /// [`KeyError::Empty`] without a key, [`KeyError::TooMany`] above 8.
    pub fn from_keys(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        let mut ring: Vec<Key> = Vec::new();
        for key in keys {
            if !ring.contains(&key) {
                ring.push(key);
            }
        }
        match ring.len() {
            0 => Err(KeyError::Empty),
            1..=8 => Ok(Self(ring)),
            n => Err(KeyError::TooMany(n)),
        }
    }

    /// Reads a key file: one key a line, the first one seals; empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`KeyError::Text`] with the number of a line that holds no key, and what [`KeyRing::from_keys`] says.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = keys.map(|(line, text)| Key::parse(text).map_err(|_| KeyError::Text { line }));
        Self::from_keys(keys.collect::<Result<Vec<_>, _>>()?)
    }

    /// Returns the keys, the sealing one first.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// Returns the key that seals.
    pub fn sealing(&self) -> &Key {
        // Every constructor puts in at least one key, and nothing removes any.
        &self.0[0]
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
