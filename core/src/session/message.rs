//! The datagrams that open a session: HELLO, CHALLENGE, M1 and M2. Their layouts never change between versions; what
//! a later version adds goes into the reserved bytes or behind the end, which is ignored.

use super::keys::SharedKey;
use crate::config::{KeyId, Role};
use crate::crypto::{mac128, same};
use crate::id::NodeId;
use crate::status::Settings;
use crate::time::Duration;
use crate::wire::{Kind, ProtocolFlavor, Reader, put_addr};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Flavor, kind, key id, initiator's index, random: what HELLO and M1 begin with.
const OPENING_LEN: usize = 2 + 8 + 4 + 16;
pub(super) const HELLO_LEN: usize = OPENING_LEN + 16;
pub(super) const CHALLENGE_LEN: usize = 2 + 4 + 16 + 16;
/// The clear bytes of M1: all that its prologue covers.
pub(super) const M1_CLEAR_LEN: usize = OPENING_LEN + 16;
const RESERVED: usize = 8;
/// Id, versions, cluster name, settings, role, reserved.
pub(super) const M1_PAYLOAD_LEN: usize = 16 + 2 + 16 + 9 + 1 + RESERVED;
/// The same, the responder's index, and the address at which it sees the initiator.
pub(super) const M2_PAYLOAD_LEN: usize = M1_PAYLOAD_LEN + 4 + 18;
const NOISE_OVERHEAD: usize = 32 + 16;
pub(super) const M1_LEN: usize = M1_CLEAR_LEN + NOISE_OVERHEAD + M1_PAYLOAD_LEN;
pub(super) const M2_CLEAR_LEN: usize = 2 + 4;
pub(super) const M2_LEN: usize = M2_CLEAR_LEN + NOISE_OVERHEAD + M2_PAYLOAD_LEN;

// No answer is larger than what it answers: nobody can use a node to amplify a flood.
const _: () = assert!(CHALLENGE_LEN <= HELLO_LEN && M2_LEN <= M1_LEN);

/// What HELLO and M1 have in common, in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) key: KeyId,
    /// The session index that the initiator wants to be answered at.
    pub(super) index: u32,
    pub(super) random: [u8; 16],
}

impl Opening {
    fn put(self, buf: &mut Vec<u8>, flavor: ProtocolFlavor, kind: Kind) {
        buf.extend_from_slice(&[flavor as u8, kind as u8]);
        buf.extend_from_slice(&self.key.0);
        buf.extend_from_slice(&self.index.to_be_bytes());
        buf.extend_from_slice(&self.random);
    }

    /// Reads the opening of a HELLO or M1 whose first two bytes were already looked at.
    pub(super) fn decode(datagram: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram.get(2..)?);
        Some(Self {
            key: KeyId(reader.array()?),
            index: reader.u32()?,
            random: reader.array()?,
        })
    }

    pub(super) fn put_hello(self, buf: &mut Vec<u8>, flavor: ProtocolFlavor, key: &SharedKey) {
        let start = buf.len();
        self.put(buf, flavor, Kind::Hello);
        let mac = mac128(&key.hello, &[&buf[start..]]);
        buf.extend_from_slice(&mac);
    }

    /// Puts M1 up to its Noise message.
    pub(super) fn put_m1(self, buf: &mut Vec<u8>, flavor: ProtocolFlavor, challenge: &[u8; 16]) {
        self.put(buf, flavor, Kind::M1);
        buf.extend_from_slice(challenge);
    }
}

/// Returns whether a HELLO comes from somebody who has this key.
pub(super) fn hello_is_genuine(datagram: &[u8], key: &SharedKey) -> bool {
    let Some((clear, mac)) = datagram.get(..HELLO_LEN).and_then(|d| d.split_last_chunk::<16>()) else {
        return false;
    };
    same(&mac128(&key.hello, &[clear]), mac)
}

/// Puts the answer to a HELLO. Its code covers the HELLO's random number, so that only who has the key and saw this
/// HELLO can make one.
pub(super) fn put_challenge(
    buf: &mut Vec<u8>,
    flavor: ProtocolFlavor,
    key: &SharedKey,
    opening: &Opening,
    challenge: &[u8; 16],
) {
    buf.extend_from_slice(&[flavor as u8, Kind::Challenge as u8]);
    buf.extend_from_slice(&opening.index.to_be_bytes());
    buf.extend_from_slice(challenge);
    buf.extend_from_slice(&challenge_code(
        key,
        flavor,
        opening.index,
        challenge,
        &opening.random,
    ));
}

/// Returns the challenge of a CHALLENGE that answers the HELLO of this random number.
pub(super) fn read_challenge(
    datagram: &[u8],
    flavor: ProtocolFlavor,
    key: &SharedKey,
    random: &[u8; 16],
) -> Option<[u8; 16]> {
    let mut reader = Reader::new(datagram.get(2..)?);
    let (index, challenge, code) = (reader.u32()?, reader.array()?, reader.array()?);
    same(&challenge_code(key, flavor, index, &challenge, random), &code).then_some(challenge)
}

fn challenge_code(
    key: &SharedKey,
    flavor: ProtocolFlavor,
    index: u32,
    challenge: &[u8; 16],
    random: &[u8; 16],
) -> [u8; 16] {
    let head = [flavor as u8, Kind::Challenge as u8];
    mac128(&key.challenge, &[&head, &index.to_be_bytes(), challenge, random])
}

/// What a process says about itself in M1 and M2, sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hail {
    pub(super) id: NodeId,
    /// The oldest and the newest protocol version.
    pub(super) versions: (u8, u8),
    pub(super) cluster: [u8; 16],
    /// What must agree; without meaning from an observer, which brings none.
    pub(super) settings: Settings,
    pub(super) role: Role,
}

impl Hail {
    pub(super) fn put(&self, buf: &mut Vec<u8>) {
        buf.extend_from_slice(&self.id.to_bytes());
        buf.extend_from_slice(&[self.versions.0, self.versions.1]);
        buf.extend_from_slice(&self.cluster);
        let settings = &self.settings;
        buf.push(settings.cluster_size);
        buf.extend_from_slice(&millis(settings.max_ttl).to_be_bytes());
        buf.extend_from_slice(&settings.drift_permille.to_be_bytes());
        buf.extend_from_slice(&[settings.surge, u8::from(settings.allow_observers)]);
        buf.push(match self.role {
            Role::Voter => 0,
            Role::Observer => 1,
        });
        buf.extend_from_slice(&[0; RESERVED]);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let hail = Self {
            id: reader.node_id()?,
            versions: (reader.u8()?, reader.u8()?),
            cluster: reader.array()?,
            settings: Settings {
                cluster_size: reader.u8()?,
                max_ttl: Duration::from_millis(reader.u32()?.into()),
                drift_permille: reader.u16()?,
                surge: reader.u8()?,
                allow_observers: reader.u8()? != 0,
            },
            role: match reader.u8()? {
                0 => Role::Voter,
                1 => Role::Observer,
                _ => return None,
            },
        };
        reader.take(RESERVED)?;
        Some(hail)
    }

    pub(super) fn decode(payload: &[u8; M1_PAYLOAD_LEN]) -> Option<Self> {
        Self::read(&mut Reader::new(payload))
    }
}

/// Returns a duration in whole milliseconds, the precision in which settings are compared.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The payload of M2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) hail: Hail,
    /// The session index that the responder wants to be written to at.
    pub(super) index: u32,
    /// Where the initiator's datagrams come from.
    pub(super) observed: SocketAddr,
}

impl Answer {
    pub(super) fn put(&self, buf: &mut Vec<u8>) {
        self.hail.put(buf);
        buf.extend_from_slice(&self.index.to_be_bytes());
        put_addr(buf, self.observed);
    }

    pub(super) fn decode(payload: &[u8; M2_PAYLOAD_LEN]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        Some(Self {
            hail: Hail::read(&mut reader)?,
            index: reader.u32()?,
            observed: reader.addr()?,
        })
    }
}
