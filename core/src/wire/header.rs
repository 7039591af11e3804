//! The clear start of every datagram.

use super::HEADER_LEN;

/// What a cluster's datagrams are sealed with; the first byte of each of them, so that clusters of different
/// flavors drop each other's datagrams before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolFlavor {
    /// ChaCha20-Poly1305 under a pre-shared key.
    Secured = 0x71,
    /// The same, under a published constant key: readable by anybody.
    Insecure = 0x70,
    /// The simulator's checksum.
    #[cfg(feature = "simulation")]
    Simulated = 0x7f,
}

/// The kinds of datagram. HELLO to M2 never change between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello = 1,
    Challenge = 2,
    M1 = 3,
    M2 = 4,
    Sealed = 5,
}

impl Kind {
    pub(crate) const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Hello,
            2 => Self::Challenge,
            3 => Self::M1,
            4 => Self::M2,
            5 => Self::Sealed,
            _ => return None,
        })
    }
}

/// The 14 bytes before the sealed frames: flavor, kind, the receiver's session index, the sender's counter. All
/// of it is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) receiver: u32,
    pub(crate) counter: u64,
}

impl Header {
    pub(crate) fn encode(self, flavor: ProtocolFlavor) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = flavor as u8;
        out[1] = Kind::Sealed as u8;
        out[2..6].copy_from_slice(&self.receiver.to_be_bytes());
        out[6..].copy_from_slice(&self.counter.to_be_bytes());
        out
    }

    /// Reads the header of a sealed datagram whose first two bytes were already looked at.
    pub(crate) fn decode(datagram: &[u8]) -> Option<Self> {
        Some(Self {
            receiver: u32::from_be_bytes(datagram.get(2..6)?.try_into().ok()?),
            counter: u64::from_be_bytes(datagram.get(6..HEADER_LEN)?.try_into().ok()?),
        })
    }
}
