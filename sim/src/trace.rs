//! A running hash over everything that a run does.

use std::hash::Hasher;

/// Folds bytes into 64 bits: enough to tell two runs apart, not made to resist anybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceHash(u64);

impl TraceHash {
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn number(&mut self, value: u64) {
        // The 128-bit product, folded, mixes every bit of both factors into every bit of the result.
        let product = u128::from(self.0 ^ value) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64 ^ value.rotate_left(32);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for &word in words {
            self.number(u64::from_le_bytes(word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.number(u64::from_le_bytes(word));
        }
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}

/// What derives `Hash` is folded in field by field, in the order of declaration.
impl Hasher for TraceHash {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }

    fn write_u8(&mut self, value: u8) {
        self.number(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.number(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.number(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.number(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.number(value as u64);
    }

    fn finish(&self) -> u64 {
        self.value()
    }
}

#[cfg(test)]
mod tests {
    use super::TraceHash;

    #[test]
    fn order_length_and_content_count() {
        let hash = |parts: &[&[u8]]| {
            let mut hash = TraceHash::new();
            parts.iter().for_each(|part| hash.bytes(part));
            hash.value()
        };
        let all = [
            hash(&[]),
            hash(&[b""]),
            hash(&[b"ab"]),
            hash(&[b"a", b"b"]),
            hash(&[b"b", b"a"]),
            hash(&[b"ab\0"]),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }
}
