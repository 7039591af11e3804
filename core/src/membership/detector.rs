//! The failure detector: heartbeats among direct partners, SWIM with Lifeguard for everybody else.
//!
//! The first 24 voters by id (in time also the holders of seats) exchange echoed heartbeats each interval: what
//! consensus needs to know is known at first hand, and with a handful of nodes that is everybody. All other pairs are
//! covered by randomised probing, whose load does not depend on the size of the cluster (SWIM, sections 3 and 4.3).

use super::contact::{HELPERS, Inquiry, Probe, is_newer, missing_after};
use super::record::State;
use super::relay::Relays;
use super::suspicion::{self, MAX_HEALTH, Suspicion};
use super::timers::Timer;
use super::{Action, Membership};
use crate::event::LeaveReason;
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::status::MemberState;
use crate::time::Duration;
use crate::wire::{Reader, kind};
use alloc::vec::Vec;

/// Voters that are direct partners of each other: all that a cluster with seats can have (15, and 7 of a surge), and two
/// more. Each costs all others a datagram each way per interval; SWIM finds out about the rest nearly as fast.
const PARTNERS: usize = 24;
/// Members probed each period.
const TARGETS: usize = 3;
/// HEARTBEAT: answer at once.
pub(super) const FLAG_ECHO: u8 = 1;

/// What the detector keeps beside the contacts in the table.
#[derive(Debug, Default)]
pub(super) struct Detector {
    /// The direct partners, by id.
    pub(super) partners: Vec<NodeId>,
    /// The others, in the order in which they are probed. May name members that are gone.
    ring: Vec<NodeId>,
    position: usize,
    /// The last number of a probe or inquiry. One sequence for all members, so that an old echo never matches after a
    /// member was forgotten and found again.
    number: u32,
    /// Lifeguard's local health, 0 (well) to 8.
    pub(super) health: u8,
    pub(super) relays: Relays,
}

impl Detector {
    pub(super) fn number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1).max(1);
        self.number
    }

    pub(super) fn worsen(&mut self) {
        self.health = (self.health + 1).min(MAX_HEALTH);
    }

    fn improve(&mut self) {
        self.health = self.health.saturating_sub(1);
    }

    fn scaled(&self, timeout: Duration) -> Duration {
        timeout * (1 + u32::from(self.health))
    }

    pub(super) fn clear(&mut self) {
        *self = Self {
            number: self.number,
            health: self.health,
            ..Self::default()
        };
    }
}

pub(super) fn put_heartbeat(cx: &mut Context<'_>, to: NodeId, number: u32, echo: u32, flags: u8) {
    cx.send(to, kind::HEARTBEAT, |buf| {
        buf.extend_from_slice(&number.to_be_bytes());
        buf.extend_from_slice(&echo.to_be_bytes());
        buf.push(flags);
    });
}

impl Membership {
    /// Chooses the direct partners anew. To be called after every change of the set of live members.
    pub(super) fn choose_partners(&mut self, cx: &Context<'_>) {
        let inside = |id: NodeId| {
            self.table
                .voters()
                .iter()
                .take(PARTNERS)
                .any(|&voter| voter == id)
        };
        let mut chosen = core::mem::take(&mut self.scratch);
        chosen.clear();
        if inside(self.me) {
            let me = self.me;
            chosen.extend(self.table.voters().iter().take(PARTNERS).filter(|&&id| id != me));
        }
        if chosen != self.detector.partners {
            for i in 0..self.detector.partners.len() {
                let id = self.detector.partners[i];
                if chosen.binary_search(&id).is_err() {
                    self.end_partnership(cx, id);
                }
            }
            for &id in &chosen {
                if self.detector.partners.binary_search(&id).is_err()
                    && let Some(entry) = self.table.get_mut(id)
                {
                    entry.contact.partner = true;
                    entry.contact.since = cx.now;
                    entry.contact.accused = false;
                    entry.contact.excused = false;
                    entry.contact.probe = None;
                    entry.suspicion = None;
                    self.timers.disarm(Timer::Probe(id));
                    self.timers.disarm(Timer::Suspicion(id));
                    self.timers
                        .arm(Timer::Partner(id), cx.now + cx.config.suspect_timeout);
                }
            }
            core::mem::swap(&mut self.detector.partners, &mut chosen);
        }
        self.scratch = chosen;
        // The phase of each node is its own, so that a cluster started at once does not beat in step.
        let interval = cx.config.heartbeat_interval;
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        if self.detector.partners.is_empty() {
            self.timers.disarm(Timer::Heartbeat);
        } else if !self.timers.is_armed(Timer::Heartbeat) {
            let phase = Duration::from_nanos(self.rng.below(nanos));
            self.timers.arm(Timer::Heartbeat, cx.now + phase / 4);
        }
        if self.table.len() == self.detector.partners.len() {
            self.timers.disarm(Timer::Period);
        } else if !self.timers.is_armed(Timer::Period) {
            let phase = Duration::from_nanos(self.rng.below(nanos));
            self.timers.arm(Timer::Period, cx.now + phase);
        }
    }

    fn end_partnership(&mut self, cx: &Context<'_>, id: NodeId) {
        self.timers.disarm(Timer::Partner(id));
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        entry.contact.partner = false;
        entry.contact.accused = false;
        if entry.member.state == MemberState::Suspect {
            let accuser = entry.accuser;
            self.begin_suspicion(cx, id, accuser);
        }
        self.add_target(id);
    }

    /// Adds a member to the round of probes, at a random place (SWIM, section 4.3).
    pub(super) fn add_target(&mut self, id: NodeId) {
        let place = self.rng.below(self.detector.ring.len() as u64 + 1) as usize;
        self.detector.ring.insert(place, id);
        if place < self.detector.position {
            self.detector.position += 1;
        }
    }

    /// Sends each direct partner its heartbeat. All in one pass: each goes in a datagram of its own anyway, and
    /// one timer is cheaper than 32.
    pub(super) fn heartbeat(&mut self, cx: &mut Context<'_>) {
        let missing_after = missing_after(cx.config);
        // At the latest: jitter only brings it forward.
        let next_pass = cx.now + cx.config.heartbeat_interval;
        let mut missing = 0;
        for i in 0..self.detector.partners.len() {
            let id = self.detector.partners[i];
            let number = self.detector.number();
            let Some(entry) = self.table.get_mut(id) else {
                continue;
            };
            entry.contact.probed(cx.now, number);
            put_heartbeat(cx, id, number, entry.contact.heard, 0);
            if entry.member.state == MemberState::Suspect {
                let record = entry.record();
                Self::tell(cx, id, &record);
            }
            // The deadline of a partner that answers moves on with every echo: it is armed only when it may come before
            // the next pass looks at it again.
            let deadline = entry.contact.silent_since() + cx.config.suspect_timeout;
            if deadline <= next_pass {
                self.timers.arm_if_idle(Timer::Partner(id), deadline);
            }
            let heard = entry
                .contact
                .heard_at()
                .map_or(entry.contact.since, |at| at.max(entry.contact.since));
            if cx.now - heard > missing_after {
                missing += 1;
                // A session that only one side still has is repaired by a new one, dialled by the side that hears nothing.
                // The other one must not dial for every lost echo.
                if entry.contact.is_mute(cx.now, cx.config) {
                    let addr = entry.member.addr;
                    self.act(Action::Dial {
                        addr,
                        expect: Some(id),
                    });
                }
                self.inquire(cx, id);
            }
        }
        if missing == 0 {
            self.detector.improve();
        } else if missing > 1 && missing == self.detector.partners.len() {
            // Rather this node than all of the others.
            self.detector.worsen();
        }
        let nanos = u64::try_from(cx.config.heartbeat_interval.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.rng.below(nanos / 16));
        self.timers
            .arm(Timer::Heartbeat, cx.now + (cx.config.heartbeat_interval - jitter));
    }

    /// A direct partner's deadline has come, or would have if nothing had been heard since it was armed.
    pub(super) fn partner_due(&mut self, cx: &mut Context<'_>, id: NodeId) {
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        let since = entry.contact.silent_since();
        let silence = cx.now - since;
        if silence >= cx.config.heartbeat_timeout {
            self.fail(cx, id, LeaveReason::Failed);
            return;
        }
        if silence < cx.config.suspect_timeout {
            // It answered meanwhile. If its new deadline does not come before the next heartbeats, those arm it.
            entry.contact.accused = false;
            let deadline = since + cx.config.suspect_timeout;
            if self
                .timers
                .at(Timer::Heartbeat)
                .is_none_or(|pass| deadline <= pass)
            {
                self.timers.arm(Timer::Partner(id), deadline);
            }
            return;
        }
        self.timers
            .arm(Timer::Partner(id), since + cx.config.heartbeat_timeout);
        if !entry.contact.accused {
            entry.contact.accused = true;
            self.accuse(cx, id);
        }
    }

    /// Probes the next members of the round.
    pub(super) fn period(&mut self, cx: &mut Context<'_>) {
        self.timers
            .arm(Timer::Period, cx.now + cx.config.heartbeat_interval);
        let targets = TARGETS.min(self.table.len() - self.detector.partners.len());
        let mut probed = 0;
        let mut rounds = 0;
        while probed < targets {
            let Some(&id) = self.detector.ring.get(self.detector.position) else {
                // A new round in a new order. A second one within this call means that all targets have a probe.
                rounds += 1;
                if rounds > 1 {
                    break;
                }
                self.detector.ring.clear();
                self.detector.position = 0;
                let others = self.table.iter().filter(|entry| !entry.contact.partner);
                self.detector.ring.extend(others.map(|entry| entry.member.id));
                self.rng.shuffle(&mut self.detector.ring);
                continue;
            };
            self.detector.position += 1;
            probed += usize::from(self.probe(cx, id));
        }
    }

    /// Starts a probe, unless there is one or the member has other deadlines.
    fn probe(&mut self, cx: &mut Context<'_>, id: NodeId) -> bool {
        let Some(entry) = self.table.get_mut(id) else {
            return false;
        };
        if entry.contact.partner || entry.contact.probe.is_some() {
            return false;
        }
        let number = self.detector.number();
        entry.contact.probed(cx.now, number);
        entry.contact.probe = Some(Probe {
            number,
            indirect: false,
            excused: false,
        });
        put_heartbeat(cx, id, number, entry.contact.heard, FLAG_ECHO);
        if entry.member.state == MemberState::Suspect {
            let record = entry.record();
            Self::tell(cx, id, &record);
        }
        let timeout = self.detector.scaled(cx.config.probe_timeout);
        self.timers.arm(Timer::Probe(id), cx.now + timeout);
        true
    }

    /// A probe was not answered: ask helpers, or suspect the member if they were asked.
    pub(super) fn probe_due(&mut self, cx: &mut Context<'_>, id: NodeId, late: bool) {
        let rest = cx
            .config
            .heartbeat_interval
            .saturating_sub(cx.config.probe_timeout);
        let indirect_timeout = self.detector.scaled(rest.max(cx.config.probe_timeout));
        let direct_timeout = self.detector.scaled(cx.config.probe_timeout);
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        let Some(probe) = &mut entry.contact.probe else {
            return;
        };
        if late && !probe.excused {
            probe.excused = true;
            let timeout = if probe.indirect {
                indirect_timeout
            } else {
                direct_timeout
            };
            self.timers.arm(Timer::Probe(id), cx.now + timeout);
            return;
        }
        if !probe.indirect {
            probe.indirect = true;
            if entry.contact.is_mute(cx.now, cx.config) {
                let addr = entry.member.addr;
                self.act(Action::Dial {
                    addr,
                    expect: Some(id),
                });
            }
            self.inquire(cx, id);
            self.timers.arm(Timer::Probe(id), cx.now + indirect_timeout);
            return;
        }
        entry.contact.probe = None;
        let inquiry = entry.contact.inquiry.take();
        // Helpers that do not even say "no answer" hint at a fault on this side (Lifeguard, section IV-A).
        if inquiry.is_none_or(|inquiry| inquiry.silent.iter().any(Option::is_some)) {
            self.detector.worsen();
        }
        self.accuse(cx, id);
    }

    /// Asks helpers to probe a member.
    fn inquire(&mut self, cx: &mut Context<'_>, target: NodeId) {
        let number = self.detector.number();
        let mut silent = [None; HELPERS];
        let mut found = 0;
        // A bounded walk through a random order: with many suspects among the peers, fewer helpers are found.
        for i in 0..self.open.len().min(4 * HELPERS) {
            let j = i + self.rng.below((self.open.len() - i) as u64) as usize;
            self.open.swap(i, j);
            let helper = self.open[i];
            let alive = |entry: &super::table::Entry| entry.member.state == MemberState::Alive;
            if helper == target || !self.table.get(helper).is_some_and(alive) {
                continue;
            }
            cx.send(helper, kind::PROBE_REQUEST, |buf| {
                buf.extend_from_slice(&number.to_be_bytes());
                buf.extend_from_slice(&target.to_bytes());
            });
            silent[found] = Some(helper);
            found += 1;
            if found == HELPERS {
                break;
            }
        }
        if let Some(entry) = self.table.get_mut(target) {
            entry.contact.inquiry = (found > 0).then_some(Inquiry { number, silent });
        }
    }

    pub(super) fn handle_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let number = reader.u32().ok_or(BadFrame)?;
        let echo = reader.u32().ok_or(BadFrame)?;
        let at_once = reader.u8().ok_or(BadFrame)? & FLAG_ECHO != 0;
        let Some(entry) = self.table.get_mut(from) else {
            // The echo says that this process runs, not that it thinks anything of the other.
            if number != 0 {
                put_heartbeat(cx, from, 0, number, 0);
            }
            self.meet_stranger(cx, from);
            return Ok(());
        };
        entry.contact.wrote = Some(cx.now);
        if number != 0 {
            let contact = &mut entry.contact;
            if contact.heard == 0 || is_newer(number, contact.heard) {
                contact.heard = number;
            }
            // Number 0 asks for nothing, so that echoes are never echoed.
            if at_once || !contact.partner {
                put_heartbeat(cx, from, 0, number, 0);
            }
        }
        if entry.contact.take_echo(cx.now, echo, cx.config.heartbeat_timeout) {
            self.echoed(cx, from, echo);
        }
        Ok(())
    }

    /// A probe came back.
    fn echoed(&mut self, cx: &mut Context<'_>, id: NodeId, number: u32) {
        self.last_echo = cx.now;
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        if core::mem::take(&mut entry.contact.accused) {
            self.timers
                .arm(Timer::Partner(id), cx.now + cx.config.suspect_timeout);
        }
        if entry
            .contact
            .probe
            .is_some_and(|probe| !is_newer(probe.number, number))
        {
            entry.contact.probe = None;
            self.timers.disarm(Timer::Probe(id));
            self.detector.improve();
        }
        self.answer_askers(cx, id, number);
    }

    /// Suspects a member on this node's own evidence.
    fn accuse(&mut self, cx: &mut Context<'_>, id: NodeId) {
        let me = self.me;
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        cx.stats.suspicions += 1;
        if entry.member.state == MemberState::Alive {
            entry.member.state = MemberState::Suspect;
            entry.accuser = me;
            if !entry.contact.partner {
                self.begin_suspicion(cx, id, me);
            }
            self.spread(cx, id);
        } else {
            self.confirm(cx, id, me);
        }
        // Its subject must hear of it, to refute it.
        if let Some(entry) = self.table.get(id) {
            let record = entry.record();
            Self::tell(cx, id, &record);
        }
    }

    /// Sets the deadline of a suspicion that is new here.
    pub(super) fn begin_suspicion(&mut self, cx: &Context<'_>, id: NodeId, accuser: NodeId) {
        let members = self.table.len() + 1;
        let suspicion = Suspicion::new(cx.now, accuser, suspicion::shortest(cx.config, members), members);
        if let Some(entry) = self.table.get_mut(id) {
            entry.suspicion = Some(suspicion);
            let lasts = suspicion.lasts(self.detector.health);
            self.timers.arm(Timer::Suspicion(id), cx.now + lasts);
        }
    }

    /// Adds an accuser to a suspicion. A new one shortens it and is worth passing on.
    pub(super) fn confirm(&mut self, cx: &Context<'_>, id: NodeId, accuser: NodeId) {
        let health = self.detector.health;
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        let Some(suspicion) = &mut entry.suspicion else {
            return;
        };
        if suspicion.confirm(accuser) {
            entry.accuser = accuser;
            let at = suspicion.began + suspicion.lasts(health);
            self.timers.arm(Timer::Suspicion(id), at);
            self.spread(cx, id);
        }
    }

    /// A suspicion was not refuted in time.
    pub(super) fn suspicion_due(&mut self, cx: &mut Context<'_>, id: NodeId, late: bool) {
        let health = self.detector.health;
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        let heard = entry.contact.heard_at().max(entry.contact.indirect);
        let Some(suspicion) = &mut entry.suspicion else {
            return;
        };
        let lasts = suspicion.lasts(health);
        // Whoever answered since is not dead, only has not heard of the suspicion yet.
        let answered = heard.is_some_and(|at| at >= suspicion.began);
        let excuse = late && !suspicion.excused;
        if answered || excuse {
            suspicion.excused = !answered;
            suspicion.began = cx.now;
            self.timers.arm(Timer::Suspicion(id), cx.now + lasts);
            let record = entry.record();
            Self::tell(cx, id, &record);
            return;
        }
        self.fail(cx, id, LeaveReason::Failed);
    }

    /// The timers ran late: whatever this node heard nothing from may have spoken. Partners are all given one more
    /// timeout, once until they are heard; probes and suspicions as they come up.
    pub(super) fn excuse_partners(&mut self, cx: &Context<'_>) {
        for i in 0..self.detector.partners.len() {
            let id = self.detector.partners[i];
            if let Some(entry) = self.table.get_mut(id)
                && !core::mem::replace(&mut entry.contact.excused, true)
            {
                entry.contact.since = cx.now;
                self.timers
                    .arm(Timer::Partner(id), cx.now + cx.config.suspect_timeout);
            }
        }
    }

    /// Whether this node has itself heard from a member lately, so that hearsay of its death is not believed.
    pub(super) fn knows_better(&self, cx: &Context<'_>, id: NodeId) -> bool {
        let heard = self.table.get(id).and_then(|entry| entry.contact.heard_at());
        heard.is_some_and(|at| cx.now - at < cx.config.suspect_timeout)
    }

    /// Disarms what the detector holds for a member that is one no longer.
    pub(super) fn stop_watching(&mut self, id: NodeId) {
        self.timers.disarm(Timer::Partner(id));
        self.timers.disarm(Timer::Probe(id));
        self.timers.disarm(Timer::Suspicion(id));
    }

    /// Returns the direct partners, by id.
    #[cfg(test)]
    pub(crate) fn partners(&self) -> &[NodeId] {
        &self.detector.partners
    }

    /// Reacts to a process that behaves like a member and is none here.
    fn meet_stranger(&mut self, cx: &mut Context<'_>, from: NodeId) {
        match self.table.tombstone(cx.now, from) {
            // Left is final.
            Some(record) if record.state == State::Left => {}
            Some(record) => Self::tell(cx, from, &record),
            None => self.solicit(cx, from),
        }
    }
}
