//! The responder's side of a handshake: HELLO and M1.

use super::message::{
    Answer, HELLO_LEN, Hail, M1_CLEAR_LEN, M1_LEN, M1_PAYLOAD_LEN, Opening, hello_is_genuine, put_challenge,
};
use super::table::{Agreed, Session, StoredM2};
use super::{SessionEvent, Sessions, UNKNOWN_KEY_SHOWN};
use crate::config::KeyId;
use crate::crypto::{EPHEMERAL_LEN, derive};
use crate::event::Event;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::Kind;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// How often the stored M2 is sent again.
const MAX_RESENDS: u8 = 3;

impl Sessions {
    /// Answers a HELLO with a challenge, and forgets it.
    pub(super) fn handle_hello(
        &mut self,
        cx: &mut Context<'_>,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let opening = Opening::decode(datagram).filter(|_| datagram.len() >= HELLO_LEN);
        let opening = opening.ok_or(DropReason::Malformed)?;
        let Some(at) = self.find_key(opening.key) else {
            self.note_unknown_key(cx, from, opening.key);
            return Err(DropReason::UnknownKey);
        };
        if !hello_is_genuine(datagram, &self.keys[at]) {
            return Err(DropReason::BadHandshake);
        }
        if !self.challenges.take(cx.now) {
            return Err(DropReason::ChallengeRate);
        }
        let challenge = self.challenger.challenge(cx.now, from, &opening);
        let mut answer = self.buffer();
        // `at` was found in the ring just above.
        put_challenge(&mut answer, self.flavor, &self.keys[at], &opening, &challenge);
        self.queue(cx.stats, from, answer);
        Ok(())
    }

    /// Answers an M1 with M2 and stores a half-open session, if the challenge and M1 itself are genuine.
    pub(super) fn handle_m1(
        &mut self,
        cx: &mut Context<'_>,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let opening = Opening::decode(datagram).ok_or(DropReason::Malformed)?;
        let m1 = datagram.get(..M1_LEN).ok_or(DropReason::Malformed)?;
        let (clear, message) = m1.split_at(M1_CLEAR_LEN);
        let challenge = clear.last_chunk().ok_or(DropReason::Malformed)?;
        let ephemeral: [u8; EPHEMERAL_LEN] = *message.first_chunk().ok_or(DropReason::Malformed)?;
        let Some(at) = self.find_key(opening.key) else {
            self.note_unknown_key(cx, from, opening.key);
            return Err(DropReason::UnknownKey);
        };
        if !self.challenger.accepts(cx.now, from, &opening, challenge)
            && !planted(PlantedBug::ChallengeNotChecked)
        {
            return Err(DropReason::BadChallenge);
        }
        if let Some(&local) = self.half_open.get(&ephemeral) {
            self.resend_m2(cx, from, local);
            return Ok(());
        }
        let secret = self.secrets.draw();
        // `at` was found in the ring just above.
        let mut noise = self
            .crypto
            .responder(secret, &self.keys[at].psk, &prologue(clear))
            .ok_or(DropReason::BadHandshake)?;
        let mut payload = [0; M1_PAYLOAD_LEN];
        noise
            .read(message, &mut payload)
            .ok_or(DropReason::BadHandshake)?;
        let hail = Hail::decode(&payload).ok_or(DropReason::BadHandshake)?;
        if hail.id == self.id {
            return self.handle_own_m1(cx, &opening);
        }
        if self.half_open.len() >= cx.config.max_half_open {
            return Err(DropReason::HalfOpenFull);
        }
        let local = self.draw_index();
        let mut answer = Vec::new();
        Answer {
            hail: self.hail(),
            index: local,
            observed: from,
        }
        .put(&mut answer);
        let mut m2 = Vec::with_capacity(M1_LEN);
        m2.extend_from_slice(&[self.flavor as u8, Kind::M2 as u8]);
        m2.extend_from_slice(&opening.index.to_be_bytes());
        noise.write(&answer, &mut m2).ok_or(DropReason::BadHandshake)?;
        let keys = noise.split().ok_or(DropReason::BadHandshake)?;
        let agreed = Agreed {
            local,
            remote: opening.index,
            addr: from,
            key: opening.key,
            hail,
            initiator: false,
            parent: None,
        };
        let mut session = Session::new(&self.crypto, &self.limits, cx.now, &keys, agreed);
        self.transmit(cx.stats, from, |buf| buf.extend_from_slice(&m2));
        session.stored_m2 = Some(StoredM2 {
            ephemeral,
            datagram: m2,
            resends: 0,
        });
        self.half_open.insert(ephemeral, local);
        self.insert_session(cx.now, session);
        if planted(PlantedBug::PeerCountedBeforeSealed) {
            self.promote(cx, local, &[]);
        }
        Ok(())
    }

    fn resend_m2(&mut self, cx: &mut Context<'_>, from: SocketAddr, local: u32) {
        let Some(session) = self.table.get_mut(&local) else {
            return;
        };
        let Some(stored) = session.stored_m2.as_mut().filter(|s| s.resends < MAX_RESENDS) else {
            return;
        };
        // The challenge in this M1 was checked against `from`, and is part of what the first M1 was sealed over: it
        // is the same address.
        stored.resends += 1;
        let datagram = core::mem::take(&mut stored.datagram);
        self.transmit(cx.stats, from, |buf| buf.extend_from_slice(&datagram));
        if let Some(stored) = self.table.get_mut(&local).and_then(|s| s.stored_m2.as_mut()) {
            stored.datagram = datagram;
        }
    }

    /// An M1 of this process itself came back: either the address dialled is its own, or somebody plays it back.
    fn handle_own_m1(&mut self, cx: &mut Context<'_>, opening: &Opening) -> Result<(), DropReason> {
        let dialled = self.reserved.get(&opening.index).copied().flatten();
        let addr = dialled.filter(|addr| self.dialer.random_of(addr) == Some(opening.random));
        let addr = addr.ok_or(DropReason::Reflected)?;
        self.end_dial(cx, addr);
        self.events.push_back(SessionEvent::DialedSelf { addr });
        Ok(())
    }

    /// Reports that somebody uses a key that is not in the ring, once in 10 seconds for each address.
    pub(super) fn note_unknown_key(&mut self, cx: &mut Context<'_>, addr: SocketAddr, key: KeyId) {
        if !self.unknown_key_limit.take(cx.now, addr) && !planted(PlantedBug::UnknownKeysReportedEachTime) {
            return;
        }
        self.unknown_keys.retain(|&(_, known, _)| known != addr);
        if self.unknown_keys.len() >= super::MAX_UNKNOWN_KEYS {
            self.unknown_keys.pop_front();
        }
        self.unknown_keys.push_back((cx.now, addr, key));
        cx.events.push_back(Event::UnknownKey { addr, key });
    }

    /// Returns where unknown keys were seen in the last minute.
    pub(crate) fn unknown_keys(&self, now: Instant) -> Vec<(SocketAddr, KeyId)> {
        let recent = self
            .unknown_keys
            .iter()
            .filter(|(at, ..)| *at + UNKNOWN_KEY_SHOWN > now);
        recent.map(|&(_, addr, key)| (addr, key)).collect()
    }
}

/// What both sides mix into the handshake before its first message: all clear bytes of M1, the flavor and the
/// challenge among them.
pub(super) fn prologue(clear: &[u8]) -> [u8; 32] {
    derive(b"quorate handshake prologue      ", "quorate v1 m1", clear)
}
