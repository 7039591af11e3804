//! The frames of the session itself, except for re-keying.

use super::table::{PathProbe, reject_reason};
use super::{Opened, SessionEvent, Sessions};
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::time::Duration;
use crate::wire::{FRAME_HEADER_LEN, Frames, kind};
use core::net::SocketAddr;

/// How long a new address has time to echo its challenge before it may be challenged again.
const PATH_TIMEOUT: Duration = Duration::from_secs(1);
const PATH_TOKEN: usize = 8;
/// The size of a PATH_CHALLENGE.
const PATH_FRAME: usize = FRAME_HEADER_LEN + PATH_TOKEN;

impl Sessions {
    /// Takes a frame of the kinds 0x60 to 0x6f.
    pub(crate) fn handle_frame(
        &mut self,
        cx: &mut Context<'_>,
        opened: &Opened,
        kind: u8,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let local = opened.session;
        let Some(session) = self.table.get_mut(&local) else {
            // An earlier frame of this datagram ended the session.
            cx.stats.drop(DropReason::StaleFrame);
            return Ok(());
        };
        match kind {
            kind::REKEY_M1 => self.handle_rekey_m1(cx, local, body)?,
            kind::REKEY_M2 => self.handle_rekey_m2(cx, local, body)?,
            kind::CLOSE => self.handle_close(cx, opened),
            kind::REJECT => {
                let &[code, ..] = body else { return Err(BadFrame) };
                let reason = reject_reason(code).ok_or(BadFrame)?;
                let (peer, addr) = (opened.peer, session.addr);
                self.events
                    .push_back(SessionEvent::Rejected { peer, addr, reason });
                self.end_quarantine_at(cx.now, peer, addr);
                self.forget(cx.now, peer);
            }
            kind::PATH_CHALLENGE => {
                let token: [u8; PATH_TOKEN] = body.try_into().map_err(|_| BadFrame)?;
                // Back to where it came from: that is what is in question.
                self.transmit_frame(cx.stats, local, Some(opened.from), kind::PATH_RESPONSE, |buf| {
                    buf.extend_from_slice(&token);
                });
            }
            kind::PATH_RESPONSE => {
                let token: [u8; PATH_TOKEN] = body.try_into().map_err(|_| BadFrame)?;
                let proven = session.path.filter(|p| p.token == token && p.addr == opened.from);
                if let Some(path) = proven {
                    session.path = None;
                    session.addr = path.addr;
                    let current = self.peers.get(&opened.peer).is_some_and(|p| p.current == local);
                    if current && self.is_open(opened.peer) {
                        let (peer, addr) = (opened.peer, path.addr);
                        self.events.push_back(SessionEvent::Moved { peer, addr });
                    }
                }
            }
            kind::KEEPALIVE => {
                // Only the responder answers, so this ends after one answer.
                if !session.initiator {
                    self.transmit_frame(cx.stats, local, Some(opened.from), kind::KEEPALIVE, |_| {});
                }
            }
            _ => cx.stats.drop(DropReason::UnknownFrame),
        }
        Ok(())
    }

    /// CLOSE on the current session ends all of the peer's; on a replaced one it ends just that, because the peer may
    /// have sent it before it began the current one.
    fn handle_close(&mut self, cx: &mut Context<'_>, opened: &Opened) {
        let current = self
            .peers
            .get(&opened.peer)
            .is_some_and(|p| p.current == opened.session);
        if current {
            self.forget(cx.now, opened.peer);
        } else {
            self.remove_session(cx.now, opened.session);
        }
    }

    /// A datagram came from another address than the session's: asks that address to prove that it is the peer's.
    /// Only the newest datagram counts, or a delayed one would move the session back. What is sent there is never more
    /// than its cause: a PATH_CHALLENGE is answered with what it asks for alone.
    pub(super) fn probe_path(&mut self, cx: &mut Context<'_>, local: u32, from: SocketAddr, frames: &[u8]) {
        let token: [u8; PATH_TOKEN] = self.rng.bytes();
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        if session.addr == from || session.path.is_some() || frames.len() < PATH_FRAME {
            return;
        }
        if Frames::new(frames).any(|frame| frame.kind == kind::PATH_CHALLENGE) {
            return;
        }
        if planted(PlantedBug::PathFollowedWithoutProof) {
            session.addr = from;
            let peer = session.peer;
            self.events.push_back(SessionEvent::Moved { peer, addr: from });
            return;
        }
        session.path = Some(PathProbe {
            addr: from,
            token,
            until: cx.now + PATH_TIMEOUT,
        });
        self.arm(cx.now, local);
        self.transmit_frame(cx.stats, local, Some(from), kind::PATH_CHALLENGE, |buf| {
            buf.extend_from_slice(&token);
        });
    }
}
