//! What can be sent.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// Something that can be sent as a message: owned bytes and text are taken without a copy, borrowed ones are copied.
///
/// For large constants, [`Bytes::from_static`] avoids the copy.
pub trait IntoPayload {
    /// Converts into bytes.
    fn into_payload(self) -> Bytes;
}

macro_rules! owned {
    ($($ty:ty),*) => {$(
        impl IntoPayload for $ty {
            fn into_payload(self) -> Bytes {
                self.into()
            }
        }
    )*};
}

owned!(Bytes, BytesMut, Vec<u8>, Box<[u8]>, String);

impl IntoPayload for &Bytes {
    fn into_payload(self) -> Bytes {
        self.clone()
    }
}

impl IntoPayload for &[u8] {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoPayload for &[u8; N] {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoPayload for [u8; N] {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl IntoPayload for &Vec<u8> {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoPayload for &str {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoPayload for &String {
    fn into_payload(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}
