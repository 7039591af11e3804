//! The wire format's shared pieces: the datagram header, frames, a bounds-checked reader and a writer.
//!
//! Everything is big-endian. `docs/wire.md` lists every frame; the bodies are encoded and decoded beside the part
//! that owns them.

mod frame;
mod header;
mod reader;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod vectors;

pub(crate) use frame::{Frame, FrameWriter, Frames, kind, put_addr, put_frame};
pub(crate) use header::{Header, Kind, ProtocolFlavor};
pub(crate) use reader::{Reader, canonical, is_shareable};

/// The largest UDP payload that is ever sent: what passes every IPv6 path and every common tunnel unfragmented.
pub const MAX_DATAGRAM: usize = 1200;
/// Bytes of clear header before the sealed frames of a datagram.
pub(crate) const HEADER_LEN: usize = 14;
/// Bytes of authentication tag behind the sealed frames.
pub(crate) const TAG_LEN: usize = 16;
/// Bytes before a frame's body: type and length.
pub(crate) const FRAME_HEADER_LEN: usize = 3;
/// The most bytes that a frame's body can have.
pub(crate) const MAX_FRAME_BODY: usize = MAX_DATAGRAM - HEADER_LEN - TAG_LEN - FRAME_HEADER_LEN;
/// The protocol versions that this build speaks, oldest and newest.
pub const PROTOCOL_VERSIONS: (u8, u8) = (1, 1);
