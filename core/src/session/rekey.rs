//! Re-keying: a new handshake inside a session. The frames prove that the peer is there, so neither HELLO nor
//! challenge is needed; the prologue ties the new handshake to the old session.

use super::Sessions;
use super::table::{Agreed, Session, Standing};
use crate::config::KeyId;
use crate::crypto::{EPHEMERAL_LEN, MESSAGE_OVERHEAD, Noise};
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::time::{Duration, Instant};
use crate::wire::{ProtocolFlavor, Reader, kind};
use alloc::vec::Vec;

/// How long each REKEY_M1 waits for its answer.
const DELAYS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(750),
];
/// How long after a fruitless attempt the next one follows.
const RETRY: Duration = Duration::from_secs(5);
/// The same where the session's key is still good, and only the sealing key has changed.
const ROTATE_RETRY: Duration = Duration::from_secs(30);
/// A peer's next attempt on one session is not answered sooner than this.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// The sealed payload of both messages: the sender's new session index.
const PAYLOAD_LEN: usize = 4;
const MESSAGE_LEN: usize = MESSAGE_OVERHEAD + PAYLOAD_LEN;
/// Key id and message.
const M1_LEN: usize = 8 + MESSAGE_LEN;
/// The index from REKEY_M1 and message.
const M2_LEN: usize = 4 + MESSAGE_LEN;

const _: () = assert!(M2_LEN <= M1_LEN);

/// A re-key that this side began.
pub(super) struct Rekey {
    noise: Noise,
    /// The new session's index here.
    pub(super) index: u32,
    /// The place of the key in the ring.
    key: usize,
    id: KeyId,
    body: Vec<u8>,
    tries: usize,
    pub(super) wake: Instant,
}

/// A re-key that the peer began, for as long as it may not have the answer.
pub(super) struct RekeyAnswer {
    ephemeral: [u8; EPHEMERAL_LEN],
    body: Vec<u8>,
    /// The new session's index here.
    pub(super) local: u32,
    at: Instant,
}

/// Ties the handshake to the session inside which it runs. `indexes` are those of the side that began it and of the
/// other.
fn prologue(flavor: ProtocolFlavor, key: KeyId, indexes: (u32, u32), hash: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(80);
    out.extend_from_slice(b"quorate v1 rekey");
    out.push(flavor as u8);
    out.extend_from_slice(&key.0);
    out.extend_from_slice(&indexes.0.to_be_bytes());
    out.extend_from_slice(&indexes.1.to_be_bytes());
    out.extend_from_slice(hash);
    out
}

impl Sessions {
    /// Begins or continues the re-key of a session, if it is due.
    pub(super) fn wake_rekey(&mut self, cx: &mut Context<'_>, local: u32) {
        let now = cx.now;
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        if session.standing != Standing::Current {
            return;
        }
        let Some(rekey) = &session.rekey else {
            if now < session.rekey_at {
                return;
            }
            if planted(PlantedBug::SessionsNeverRekeyed) {
                session.rekey_at = Instant::FAR_FUTURE;
                return;
            }
            if session.last_used() + self.limits.unused_after > now || session.close_at.is_some() {
                self.start_rekey(cx, local, 0);
            } else {
                // Looked at again soon: it may come into use before it expires.
                session.rekey_at = now + RETRY;
            }
            return;
        };
        if now < rekey.wake {
            return;
        }
        if rekey.tries < DELAYS.len() {
            self.send_rekey(cx, local);
            return;
        }
        let (next, index) = (rekey.key + 1, rekey.index);
        session.rekey = None;
        self.reserved.remove(&index);
        // Before its time a session is re-keyed only to switch keys: under another key that would be in vain.
        let limits = &self.limits;
        let after = if session.initiator {
            limits.rekey_after
        } else {
            limits.rekey_after_responder
        };
        let due = now >= session.created + after || session.counter >= limits.rekey_counter;
        if due && next < self.keys.len() {
            self.start_rekey(cx, local, next);
        } else {
            session.rekey_at = now
                + if due || session.close_at.is_some() {
                    RETRY
                } else {
                    ROTATE_RETRY
                };
        }
    }

    fn start_rekey(&mut self, cx: &mut Context<'_>, local: u32, key: usize) {
        let index = self.draw_index();
        let secret = self.secrets.draw();
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        session.rekey_at = cx.now + RETRY;
        let Some(shared) = self.keys.get(key) else {
            return;
        };
        let prologue = prologue(self.flavor, shared.id, (local, session.remote), &session.hash);
        let Some(mut noise) = self.crypto.initiator(secret, &shared.psk, &prologue) else {
            return;
        };
        let mut body = Vec::with_capacity(M1_LEN);
        body.extend_from_slice(&shared.id.0);
        if noise.write(&index.to_be_bytes(), &mut body).is_none() {
            return;
        }
        session.rekey = Some(Rekey {
            noise,
            index,
            key,
            id: shared.id,
            body,
            tries: 0,
            wake: cx.now,
        });
        self.reserved.insert(index, None);
        self.send_rekey(cx, local);
    }

    fn send_rekey(&mut self, cx: &mut Context<'_>, local: u32) {
        let rekey = self
            .table
            .get_mut(&local)
            .and_then(|session| session.rekey.as_mut());
        let Some(rekey) = rekey else {
            return;
        };
        rekey.wake = cx.now + DELAYS[rekey.tries.min(DELAYS.len() - 1)];
        rekey.tries += 1;
        let body = rekey.body.clone();
        self.transmit_frame(cx.stats, local, None, kind::REKEY_M1, |buf| {
            buf.extend_from_slice(&body)
        });
    }

    /// Answers a re-key with a new, half-open session.
    pub(super) fn handle_rekey_m1(
        &mut self,
        cx: &mut Context<'_>,
        local: u32,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let id = KeyId(reader.array().ok_or(BadFrame)?);
        let message = reader.take(MESSAGE_LEN).ok_or(BadFrame)?;
        let ephemeral: [u8; EPHEMERAL_LEN] = *message.first_chunk().ok_or(BadFrame)?;
        let session = self.table.get(&local).ok_or(BadFrame)?;
        if let Some(answer) = &session.answering {
            if answer.ephemeral == ephemeral {
                let body = answer.body.clone();
                self.transmit_frame(cx.stats, local, None, kind::REKEY_M2, |buf| {
                    buf.extend_from_slice(&body)
                });
                return Ok(());
            }
            if answer.at + MIN_INTERVAL > cx.now {
                cx.stats.drop(DropReason::StaleFrame);
                return Ok(());
            }
        }
        let (addr, hail, remote, hash) = (session.addr, session.hail, session.remote, session.hash);
        let Some(at) = self.find_key(id) else {
            cx.stats.drop(DropReason::UnknownKey);
            self.note_unknown_key(cx, addr, id);
            return Ok(());
        };
        let secret = self.secrets.draw();
        let new = self.draw_index();
        let prologue = prologue(self.flavor, id, (remote, local), &hash);
        // `at` was found in the ring just above.
        let noise = self.crypto.responder(secret, &self.keys[at].psk, &prologue);
        let mut noise = noise.ok_or(BadFrame)?;
        let mut payload = [0; PAYLOAD_LEN];
        noise.read(message, &mut payload).ok_or(BadFrame)?;
        let mut answer = Vec::with_capacity(M2_LEN);
        answer.extend_from_slice(&payload);
        noise.write(&new.to_be_bytes(), &mut answer).ok_or(BadFrame)?;
        let keys = noise.split().ok_or(BadFrame)?;
        let agreed = Agreed {
            local: new,
            remote: u32::from_be_bytes(payload),
            addr,
            key: id,
            hail,
            initiator: false,
            parent: Some(local),
        };
        let child = Session::new(&self.crypto, &self.limits, cx.now, &keys, agreed);
        self.insert_session(cx.now, child);
        let stored = RekeyAnswer {
            ephemeral,
            body: answer.clone(),
            local: new,
            at: cx.now,
        };
        let old = self
            .table
            .get_mut(&local)
            .and_then(|session| session.answering.replace(stored));
        if let Some(old) = old
            && self
                .table
                .get(&old.local)
                .is_some_and(|child| child.is_half_open())
        {
            self.remove_session(cx.now, old.local);
        }
        self.transmit_frame(cx.stats, local, None, kind::REKEY_M2, |buf| {
            buf.extend_from_slice(&answer)
        });
        Ok(())
    }

    /// Completes a re-key of this side.
    pub(super) fn handle_rekey_m2(
        &mut self,
        cx: &mut Context<'_>,
        local: u32,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let index = reader.u32().ok_or(BadFrame)?;
        let message = reader.take(MESSAGE_LEN).ok_or(BadFrame)?;
        let session = self.table.get_mut(&local).ok_or(BadFrame)?;
        let Some(rekey) = session.rekey.as_mut().filter(|rekey| rekey.index == index) else {
            cx.stats.drop(DropReason::StaleFrame);
            return Ok(());
        };
        let mut payload = [0; PAYLOAD_LEN];
        rekey.noise.read(message, &mut payload).ok_or(BadFrame)?;
        let (addr, hail) = (session.addr, session.hail);
        let rekey = session.rekey.take().ok_or(BadFrame)?;
        self.reserved.remove(&index);
        let keys = rekey.noise.split().ok_or(BadFrame)?;
        let agreed = Agreed {
            local: index,
            remote: u32::from_be_bytes(payload),
            addr,
            key: rekey.id,
            hail,
            initiator: true,
            parent: Some(local),
        };
        let child = Session::new(&self.crypto, &self.limits, cx.now, &keys, agreed);
        self.insert_session(cx.now, child);
        self.replace_parent(cx, index);
        Ok(())
    }

    /// Makes the outcome of a re-key the current session. Returns whether it lives on.
    pub(super) fn replace_parent(&mut self, cx: &mut Context<'_>, local: u32) -> bool {
        let peer = self.table.get(&local).map(|session| session.peer);
        let Some((peer, quarantined)) = peer.and_then(|id| self.peers.get(&id).map(|p| (id, p.quarantined)))
        else {
            // The peer was closed meanwhile.
            self.remove_session(cx.now, local);
            return false;
        };
        cx.stats.rekeys += 1;
        self.install(cx, local, quarantined);
        // A ring that was changed while the handshake was under way.
        self.hold_to_ring(cx.now, peer, false);
        true
    }
}
