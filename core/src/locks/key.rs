//! What a lock is called.

use alloc::borrow::ToOwned;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// The most metadata that a holder can leave with its lock, in bytes as they travel.
pub const MAX_METADATA_BYTES: usize = 512;

/// The name of a lock: 1 to 255 bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Creates a key; `None` if it is empty or longer than 255 bytes.
    pub fn new(key: &str) -> Option<Self> {
        (1..=MAX_KEY_BYTES)
            .contains(&key.len())
            .then(|| Self(Arc::from(key.to_owned())))
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}
