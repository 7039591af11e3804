//! Keyed BLAKE2s (RFC 7693): derivation of keys and short authentication codes. Every use has a label of its own.

use blake2::digest::consts::U16;
use blake2::digest::{Digest as _, KeyInit as _, Mac as _};
use blake2::{Blake2s256, Blake2sMac, Blake2sMac256};
use subtle::ConstantTimeEq as _;

/// Derives a key from a key, a label that names the purpose, and a context.
pub(crate) fn derive(key: &[u8; 32], label: &str, context: &[u8]) -> [u8; 32] {
    let mut mac = Blake2sMac256::new(key.into());
    // The length byte keeps (label, context) pairs apart that read the same in a row.
    mac.update(&[label.len() as u8]);
    mac.update(label.as_bytes());
    mac.update(context);
    mac.finalize().into_bytes().into()
}

/// Returns a 16-byte code over the parts, one behind the other. The caller's parts have fixed lengths.
pub(crate) fn mac128(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Blake2sMac::<U16>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Returns the first 16 bytes of an unkeyed hash, for names that need no secrecy.
pub(crate) fn hash128(label: &str, text: &[u8]) -> [u8; 16] {
    let mut hash = Blake2s256::default();
    hash.update([label.len() as u8]);
    hash.update(label);
    hash.update(text);
    let mut out = [0; 16];
    out.copy_from_slice(&hash.finalize()[..16]);
    out
}

/// Compares in a time that does not depend on where the difference is.
pub(crate) fn same(a: &[u8; 16], b: &[u8; 16]) -> bool {
    a.ct_eq(b).into()
}
