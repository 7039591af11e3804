//! Frames: type u8, length u16, body. A datagram carries as many as fit.

use super::reader::ip_bytes;
use super::{FRAME_HEADER_LEN, Reader};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// The frame types. The first ten are alan's; new ones take free numbers next to their family. An unknown type is
/// skipped and counted.
pub(crate) mod kind {
    pub(crate) const JOIN: u8 = 0x01;
    pub(crate) const LEAVE: u8 = 0x02;
    pub(crate) const HEARTBEAT: u8 = 0x03;
    pub(crate) const LEAVE_ACK: u8 = 0x04;
    pub(crate) const PROBE_REQUEST: u8 = 0x05;
    pub(crate) const PROBE_RESULT: u8 = 0x06;
    pub(crate) const GOSSIP: u8 = 0x07;
    pub(crate) const DIGEST: u8 = 0x08;
    pub(crate) const DIGEST_ACK: u8 = 0x09;
    pub(crate) const DETAILS_REQUEST: u8 = 0x0a;
    pub(crate) const DETAILS: u8 = 0x0b;

    pub(crate) const DATA: u8 = 0x10;
    pub(crate) const ACK: u8 = 0x11;
    pub(crate) const OPEN: u8 = 0x12;
    pub(crate) const OPENED: u8 = 0x13;
    pub(crate) const STALE: u8 = 0x14;
    pub(crate) const FLOOR: u8 = 0x15;
    pub(crate) const REFUSED: u8 = 0x16;
    pub(crate) const REQUEST: u8 = 0x20;
    pub(crate) const RESPONSE: u8 = 0x21;

    /// Frames of consensus; each is one message of `consensus::Message`.
    pub(crate) const FOUND_REQUEST: u8 = 0x40;
    pub(crate) const FOUND_VOTE: u8 = 0x41;
    pub(crate) const PRE_VOTE: u8 = 0x42;
    pub(crate) const PRE_VOTE_REPLY: u8 = 0x43;
    pub(crate) const REQUEST_VOTE: u8 = 0x44;
    pub(crate) const VOTE: u8 = 0x45;
    pub(crate) const APPEND: u8 = 0x46;
    pub(crate) const APPEND_REPLY: u8 = 0x47;
    pub(crate) const SNAPSHOT: u8 = 0x48;
    pub(crate) const SNAPSHOT_REPLY: u8 = 0x49;
    pub(crate) const TIMEOUT_NOW: u8 = 0x4a;
    pub(crate) const STATUS: u8 = 0x4b;
    pub(crate) const DRAW: u8 = 0x4c;
    pub(crate) const DRAWN: u8 = 0x4d;
    pub(crate) const ASK: u8 = 0x4e;
    pub(crate) const ANSWER: u8 = 0x4f;
    pub(crate) const RELAY: u8 = 0x50;
    pub(crate) const RELAYED: u8 = 0x51;

    /// Frames of the session itself.
    pub(crate) const REKEY_M1: u8 = 0x60;
    pub(crate) const REKEY_M2: u8 = 0x61;
    pub(crate) const CLOSE: u8 = 0x62;
    pub(crate) const REJECT: u8 = 0x63;
    pub(crate) const PATH_CHALLENGE: u8 = 0x64;
    pub(crate) const PATH_RESPONSE: u8 = 0x65;
    pub(crate) const KEEPALIVE: u8 = 0x66;
}

/// One frame of an opened datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) body: &'a [u8],
}

/// Iterates over the frames of an opened datagram. Ends early, with `malformed` set, where a length points past
/// the end.
#[derive(Clone, Debug)]
pub(crate) struct Frames<'a> {
    reader: Reader<'a>,
    malformed: bool,
}

impl<'a> Frames<'a> {
    pub(crate) const fn new(opened: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(opened),
            malformed: false,
        }
    }

    pub(crate) const fn malformed(&self) -> bool {
        self.malformed
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        if self.malformed || self.reader.is_empty() {
            return None;
        }
        let mut read = || {
            Some(Frame {
                kind: self.reader.u8()?,
                body: self.reader.long_bytes()?,
            })
        };
        let frame = read();
        self.malformed = frame.is_none();
        frame
    }
}

/// Writes frames into a datagram under construction and knows how much room is left.
#[derive(Debug)]
pub(crate) struct FrameWriter<'a> {
    buf: &'a mut Vec<u8>,
    /// The length that `buf` must not exceed.
    limit: usize,
}

impl<'a> FrameWriter<'a> {
    pub(crate) const fn new(buf: &'a mut Vec<u8>, limit: usize) -> Self {
        Self { buf, limit }
    }

    /// Returns how many bytes of body the next frame may have; `None` if not even an empty frame fits.
    pub(crate) fn room(&self) -> Option<usize> {
        self.limit.checked_sub(self.buf.len() + FRAME_HEADER_LEN)
    }

    /// Appends one frame whose body `write` appends to the buffer. A body that turns out larger than the room is
    /// taken back, and `false` is returned.
    pub(crate) fn frame(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.buf.len();
        put_frame(self.buf, kind, write);
        if self.buf.len() > self.limit {
            self.buf.truncate(start);
            return false;
        }
        true
    }

    /// Appends an already encoded frame, header included, if it fits.
    pub(crate) fn encoded(&mut self, frame: &[u8]) -> bool {
        let fits = self.buf.len() + frame.len() <= self.limit;
        if fits {
            self.buf.extend_from_slice(frame);
        }
        fits
    }
}

/// Appends one frame to `buf`.
pub(crate) fn put_frame(buf: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    buf.extend_from_slice(&[kind, 0, 0]);
    let start = buf.len();
    write(buf);
    // Every body is bounded by what its writer puts in, far below 64 KiB; a longer one would be cut by the limit
    // check of the datagram that it does not fit.
    let len = u16::try_from(buf.len() - start).unwrap_or(u16::MAX);
    buf[start - 2..start].copy_from_slice(&len.to_be_bytes());
}

/// Appends an address: 16 bytes of IPv6 (IPv4 in its mapped form) and the port.
pub(crate) fn put_addr(buf: &mut Vec<u8>, addr: SocketAddr) {
    buf.extend_from_slice(&ip_bytes(addr.ip()));
    buf.extend_from_slice(&addr.port().to_be_bytes());
}
