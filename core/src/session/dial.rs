//! The initiator's side of a handshake, and the queue of addresses to dial.

use super::accept::prologue;
use super::message::{Answer, M1_CLEAR_LEN, M2_CLEAR_LEN, M2_LEN, M2_PAYLOAD_LEN, Opening, read_challenge};
use super::table::{Agreed, Session, reject_code};
use super::{Bucket, SessionEvent, Sessions, Timer, canonical};
use crate::crypto::Noise;
use crate::event::RejectReason;
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::time::{Duration, Instant};
use crate::wire::kind;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// How long each HELLO or M1 waits for its answer before it is sent again, or given up after the last one.
const DELAYS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(750),
];

#[derive(Debug)]
enum Phase {
    /// HELLO is out.
    Hello,
    /// M1 is out.
    M1 { noise: Noise, datagram: Vec<u8> },
}

/// What the caller wants to be told of a dial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    expected: Option<NodeId>,
    /// Dialled by the sessions themselves: a failure is nobody's business.
    silent: bool,
}

/// One address that is being dialled.
#[derive(Debug)]
struct Dial {
    wanted: Wanted,
    opening: Opening,
    /// The place of the key in the ring.
    key: usize,
    phase: Phase,
    /// How many times the present datagram was sent.
    tries: usize,
    wake: Instant,
}

/// Addresses that are being dialled, and those that wait for it.
#[derive(Debug)]
pub(super) struct Dialer {
    active: BTreeMap<SocketAddr, Dial>,
    waiting: BTreeMap<u64, SocketAddr>,
    wanted: BTreeMap<SocketAddr, (u64, Wanted)>,
    next: u64,
    rate: Bucket,
    /// The timer that is set for the next dial.
    pub(super) waiting_for_rate: Option<Instant>,
}

impl Dialer {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            active: BTreeMap::new(),
            waiting: BTreeMap::new(),
            wanted: BTreeMap::new(),
            next: 0,
            rate: Bucket::new(per_second),
            waiting_for_rate: None,
        }
    }

    #[cfg(feature = "simulation")]
    pub(super) fn dialling(&self) -> usize {
        self.active.len()
    }

    #[cfg(feature = "simulation")]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the random number of the dial to this address.
    pub(super) fn random_of(&self, addr: &SocketAddr) -> Option<[u8; 16]> {
        self.active.get(addr).map(|dial| dial.opening.random)
    }
}

impl Sessions {
    /// Dials an address as soon as limits allow. Ends with exactly one of `Up`, `Quarantined`, `Rejected`,
    /// `DialedSelf` or `DialFailed`, unless it is cancelled; an address that is being dialled already is not dialled
    /// twice. Returns `false` if too many wait, and counts it, or if who is expected there is quarantined: the
    /// quarantine dials it in time.
    pub(crate) fn dial(&mut self, cx: &mut Context<'_>, addr: SocketAddr, expected: Option<NodeId>) -> bool {
        if expected.is_some_and(|peer| self.is_quarantined(peer)) {
            return false;
        }
        let wanted = Wanted {
            expected,
            silent: false,
        };
        self.enqueue_dial(cx, addr, wanted)
    }

    /// Dials an address for the sessions' own sake.
    pub(super) fn dial_silently(&mut self, cx: &mut Context<'_>, addr: SocketAddr, expected: NodeId) {
        let expected = Some(expected);
        self.enqueue_dial(
            cx,
            addr,
            Wanted {
                expected,
                silent: true,
            },
        );
    }

    fn enqueue_dial(&mut self, cx: &mut Context<'_>, addr: SocketAddr, wanted: Wanted) -> bool {
        let addr = canonical(addr);
        let dialer = &mut self.dialer;
        let known = match dialer.active.get_mut(&addr) {
            Some(dial) => Some(&mut dial.wanted),
            None => dialer.wanted.get_mut(&addr).map(|(_, wanted)| wanted),
        };
        if let Some(known) = known {
            known.expected = wanted.expected.or(known.expected);
            known.silent &= wanted.silent;
            return true;
        }
        if dialer.waiting.len() >= cx.config.max_candidates {
            cx.stats.drop(DropReason::CandidatesFull);
            return false;
        }
        dialer.waiting.insert(dialer.next, addr);
        dialer.wanted.insert(addr, (dialer.next, wanted));
        dialer.next += 1;
        self.start_dials(cx);
        true
    }

    /// Starts what the limits allow.
    pub(super) fn start_dials(&mut self, cx: &mut Context<'_>) {
        while self.dialer.active.len() < cx.config.max_dials {
            let Some(first) = self.dialer.waiting.first_entry() else {
                return;
            };
            if !self.dialer.rate.take(cx.now) {
                if self.dialer.waiting_for_rate.is_none() {
                    let at = self.dialer.rate.next().max(cx.now + Duration::from_micros(1));
                    self.dialer.waiting_for_rate = Some(at);
                    self.timers.insert(at, Timer::NextDial);
                }
                return;
            }
            let addr = first.remove();
            let Some((_, wanted)) = self.dialer.wanted.remove(&addr) else {
                continue;
            };
            let opening = self.draw_opening(addr, 0);
            let dial = Dial {
                wanted,
                opening,
                key: 0,
                phase: Phase::Hello,
                tries: 0,
                wake: Instant::FAR_FUTURE,
            };
            self.dialer.active.insert(addr, dial);
            self.send_dial(cx, addr);
        }
    }

    fn draw_opening(&mut self, addr: SocketAddr, key: usize) -> Opening {
        let index = self.draw_index();
        self.reserved.insert(index, Some(addr));
        Opening {
            // Callers pass a place in the ring.
            key: self.keys[key].id,
            index,
            random: self.rng.bytes(),
        }
    }

    /// Sends the present datagram of a dial and sets its timer.
    fn send_dial(&mut self, cx: &mut Context<'_>, addr: SocketAddr) {
        let Some(mut dial) = self.dialer.active.remove(&addr) else {
            return;
        };
        let flavor = self.flavor;
        let mut datagram = self.buffer();
        match &dial.phase {
            // `dial.key` is kept below the length of the ring: `set_keys` restarts every dial.
            Phase::Hello => dial
                .opening
                .put_hello(&mut datagram, flavor, &self.keys[dial.key]),
            Phase::M1 { datagram: m1, .. } => datagram.extend_from_slice(m1),
        }
        self.queue(cx.stats, addr, datagram);
        self.timers.remove(dial.wake, Timer::Dial(addr));
        dial.wake = cx.now + DELAYS[dial.tries.min(DELAYS.len() - 1)];
        dial.tries += 1;
        self.timers.insert(dial.wake, Timer::Dial(addr));
        self.dialer.active.insert(addr, dial);
    }

    pub(super) fn wake_dial(&mut self, cx: &mut Context<'_>, addr: SocketAddr) {
        let Some(dial) = self.dialer.active.get(&addr) else {
            return;
        };
        if dial.tries < DELAYS.len() {
            self.send_dial(cx, addr);
            return;
        }
        // Whoever answered the HELLO has this key: another one would not help.
        if matches!(dial.phase, Phase::Hello) && dial.key + 1 < self.keys.len() {
            let key = dial.key + 1;
            self.restart_dial(cx, addr, key);
            return;
        }
        self.fail_dial(cx, addr);
    }

    fn fail_dial(&mut self, cx: &mut Context<'_>, addr: SocketAddr) {
        let ended = if planted(PlantedBug::FailedDialKeepsItsPlace) {
            self.dialer.active.get(&addr).map(|dial| dial.wanted)
        } else {
            self.end_dial(cx, addr)
        };
        if let Some(Wanted { expected, silent }) = ended
            && !silent
        {
            self.events.push_back(SessionEvent::DialFailed { addr, expected });
        }
    }

    /// Begins a dial again, with another key.
    fn restart_dial(&mut self, cx: &mut Context<'_>, addr: SocketAddr, key: usize) {
        let opening = self.draw_opening(addr, key);
        if let Some(dial) = self.dialer.active.get_mut(&addr) {
            self.reserved.remove(&dial.opening.index);
            dial.opening = opening;
            dial.key = key;
            dial.phase = Phase::Hello;
            dial.tries = 0;
        }
        self.send_dial(cx, addr);
    }

    /// Begins all dials again, after the ring has changed.
    pub(super) fn restart_dials(&mut self, cx: &mut Context<'_>) {
        let addrs: Vec<_> = self.dialer.active.keys().copied().collect();
        for addr in addrs {
            self.restart_dial(cx, addr, 0);
        }
    }

    /// Takes a dial off the list and starts the next one. The caller reports the outcome.
    fn end_dial_inner(&mut self, addr: SocketAddr) -> Option<Dial> {
        let dial = self.dialer.active.remove(&addr)?;
        self.reserved.remove(&dial.opening.index);
        self.timers.remove(dial.wake, Timer::Dial(addr));
        Some(dial)
    }

    pub(super) fn end_dial(&mut self, cx: &mut Context<'_>, addr: SocketAddr) -> Option<Wanted> {
        let dial = self.end_dial_inner(addr);
        self.start_dials(cx);
        dial.map(|dial| dial.wanted)
    }

    /// Returns the address of the dial that an answer is for.
    fn answered(&self, from: SocketAddr, datagram: &[u8]) -> Result<SocketAddr, DropReason> {
        let index = datagram.get(2..6).and_then(|i| i.try_into().ok());
        let index = u32::from_be_bytes(index.ok_or(DropReason::Malformed)?);
        let dialled = self.reserved.get(&index).copied().flatten();
        dialled.filter(|&addr| addr == from).ok_or(DropReason::Unexpected)
    }

    /// Answers a CHALLENGE with M1.
    pub(super) fn handle_challenge(
        &mut self,
        cx: &mut Context<'_>,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let addr = self.answered(from, datagram)?;
        let dial = self.dialer.active.get(&addr).ok_or(DropReason::Unexpected)?;
        if !matches!(dial.phase, Phase::Hello) {
            // The answer to a repeated HELLO.
            return Err(DropReason::Unexpected);
        }
        let opening = dial.opening;
        let key = self.keys.get(dial.key).ok_or(DropReason::Unexpected)?;
        let challenge = read_challenge(datagram, self.flavor, key, &opening.random);
        let challenge = challenge.ok_or(DropReason::BadHandshake)?;
        let mut m1 = Vec::with_capacity(super::message::M1_LEN);
        opening.put_m1(&mut m1, self.flavor, &challenge);
        let secret = self.secrets.draw();
        let noise = self
            .crypto
            .initiator(secret, &key.psk, &prologue(&m1[..M1_CLEAR_LEN]));
        let mut noise = noise.ok_or(DropReason::BadHandshake)?;
        let mut payload = Vec::new();
        self.hail().put(&mut payload);
        noise.write(&payload, &mut m1).ok_or(DropReason::BadHandshake)?;
        if let Some(dial) = self.dialer.active.get_mut(&addr) {
            dial.phase = Phase::M1 { noise, datagram: m1 };
            dial.tries = 0;
        }
        self.send_dial(cx, addr);
        Ok(())
    }

    /// Completes a dial.
    pub(super) fn handle_m2(
        &mut self,
        cx: &mut Context<'_>,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let addr = self.answered(from, datagram)?;
        let message = datagram.get(M2_CLEAR_LEN..M2_LEN).ok_or(DropReason::Malformed)?;
        let dial = self.dialer.active.get_mut(&addr).ok_or(DropReason::Unexpected)?;
        let Phase::M1 { noise, .. } = &mut dial.phase else {
            return Err(DropReason::Unexpected);
        };
        let mut payload = [0; M2_PAYLOAD_LEN];
        noise
            .read(message, &mut payload)
            .ok_or(DropReason::BadHandshake)?;
        let answer = Answer::decode(&payload);
        // From here on the handshake is complete, whatever comes of it.
        let dial = self.end_dial_inner(addr).ok_or(DropReason::Unexpected)?;
        let result = self.complete(cx, addr, dial, answer);
        self.start_dials(cx);
        result
    }

    fn complete(
        &mut self,
        cx: &mut Context<'_>,
        addr: SocketAddr,
        dial: Dial,
        answer: Option<Answer>,
    ) -> Result<(), DropReason> {
        let Wanted { expected, silent } = dial.wanted;
        let keys = match dial.phase {
            Phase::M1 { noise, .. } => noise.split(),
            Phase::Hello => None,
        };
        let (Some(keys), Some(answer)) = (keys, answer) else {
            if !silent {
                self.events.push_back(SessionEvent::DialFailed { addr, expected });
            }
            return Err(DropReason::BadHandshake);
        };
        if answer.hail.id == self.id {
            self.events.push_back(SessionEvent::DialedSelf { addr });
            return Ok(());
        }
        let (local, peer) = (dial.opening.index, answer.hail.id);
        let agreed = Agreed {
            local,
            remote: answer.index,
            addr,
            key: dial.opening.key,
            hail: answer.hail,
            initiator: true,
            parent: None,
        };
        let session = Session::new(&self.crypto, &self.limits, cx.now, &keys, agreed);
        self.insert_session(cx.now, session);
        if let Some(expected) = expected.filter(|&expected| expected != peer) {
            // Another process answers at the address of a quarantined one: that one is gone.
            self.end_quarantine_at(cx.now, expected, addr);
        }
        if answer.hail.cluster != self.cluster {
            let reason = RejectReason::OtherCluster;
            self.transmit_frame(cx.stats, local, None, kind::REJECT, |buf| {
                buf.push(reject_code(reason))
            });
            self.remove_session(cx.now, local);
            self.events
                .push_back(SessionEvent::Rejected { peer, addr, reason });
            return Err(DropReason::OtherCluster);
        }
        self.open(cx, local, expected, Some(answer.observed), !silent);
        Ok(())
    }
}
