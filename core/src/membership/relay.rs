//! Probing on behalf of others, and what helpers answer (SWIM, section 3.1; the explicit "no answer" is Lifeguard's,
//! section IV-A).

use super::Membership;
use super::contact::is_newer;
use super::detector::{FLAG_ECHO, put_heartbeat};
use super::timers::Timer;
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::time::Instant;
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use crate::wire::{Reader, kind};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Probes under way on behalf of others, over all targets.
const MAX_RELAYS: usize = 256;
/// PROBE_RESULT: the target answered.
const FLAG_ALIVE: u8 = 1;

/// A probe on behalf of somebody else.
#[derive(Debug)]
struct Relay {
    asker: NodeId,
    /// The asker's number.
    inquiry: u32,
    /// Our number to the target.
    probe: u32,
    deadline: Instant,
}

/// All probes on behalf of others, by target.
#[derive(Debug, Default)]
pub(super) struct Relays {
    by_target: BTreeMap<NodeId, Vec<Relay>>,
    count: usize,
}

impl Relays {
    #[cfg(feature = "simulation")]
    pub(super) fn usage(&self, usage: &mut Usage) {
        let relays = self.by_target.values().map(Vec::len).sum();
        usage.row("relayed probes", relays, MAX_RELAYS);
    }
}

impl Membership {
    /// A target's echo arrived: tell those who asked.
    pub(super) fn answer_askers(&mut self, cx: &mut Context<'_>, id: NodeId, number: u32) {
        if self.detector.relays.by_target.is_empty() {
            return;
        }
        if let Some(relays) = self.detector.relays.by_target.get_mut(&id) {
            let before = relays.len();
            relays.retain(|relay| {
                let answered = !is_newer(relay.probe, number);
                if answered {
                    put_result(cx, relay.asker, relay.inquiry, id, FLAG_ALIVE);
                }
                !answered
            });
            self.detector.relays.count -= before - relays.len();
            if relays.is_empty() {
                self.detector.relays.by_target.remove(&id);
                self.timers.disarm(Timer::Relay(id));
            }
        }
    }

    pub(super) fn handle_probe_request(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let inquiry = reader.u32().ok_or(BadFrame)?;
        let target = reader.node_id().ok_or(BadFrame)?;
        let room = self.detector.relays.count < MAX_RELAYS && !planted(PlantedBug::ProbeNotRelayed);
        let Some(entry) = self.table.get_mut(target).filter(|_| room) else {
            put_result(cx, from, inquiry, target, 0);
            return Ok(());
        };
        let probe = self.detector.number();
        entry.contact.probed(cx.now, probe);
        put_heartbeat(cx, target, probe, entry.contact.heard, FLAG_ECHO);
        // Early enough that "no answer" arrives before the asker stops waiting.
        let deadline = cx.now + cx.config.probe_timeout * 4 / 5;
        self.detector.relays.count += 1;
        self.detector
            .relays
            .by_target
            .entry(target)
            .or_default()
            .push(Relay {
                asker: from,
                inquiry,
                probe,
                deadline,
            });
        self.timers.arm_if_idle(Timer::Relay(target), deadline);
        Ok(())
    }

    /// A target did not answer a probe on behalf of somebody else.
    pub(super) fn relay_due(&mut self, cx: &mut Context<'_>, target: NodeId) {
        let Some(relays) = self.detector.relays.by_target.get_mut(&target) else {
            return;
        };
        let before = relays.len();
        relays.retain(|relay| {
            let over = relay.deadline <= cx.now;
            if over {
                put_result(cx, relay.asker, relay.inquiry, target, 0);
            }
            !over
        });
        self.detector.relays.count -= before - relays.len();
        match relays.first() {
            Some(relay) => self.timers.arm(Timer::Relay(target), relay.deadline),
            None => {
                self.detector.relays.by_target.remove(&target);
            }
        }
    }

    pub(super) fn handle_probe_result(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let number = reader.u32().ok_or(BadFrame)?;
        let target = reader.node_id().ok_or(BadFrame)?;
        let alive = reader.u8().ok_or(BadFrame)? & FLAG_ALIVE != 0;
        let Some(entry) = self.table.get_mut(target) else {
            return Ok(());
        };
        // Only the last inquiry counts, and each helper that was asked once.
        let Some(inquiry) = entry
            .contact
            .inquiry
            .as_mut()
            .filter(|inquiry| inquiry.number == number)
        else {
            return Ok(());
        };
        let Some(slot) = inquiry.silent.iter_mut().find(|slot| **slot == Some(from)) else {
            return Ok(());
        };
        *slot = None;
        if alive {
            entry.contact.vouched(cx.now);
            if entry.contact.probe.take().is_some() {
                self.timers.disarm(Timer::Probe(target));
            }
        }
        Ok(())
    }
}

fn put_result(cx: &mut Context<'_>, to: NodeId, inquiry: u32, target: NodeId, flags: u8) {
    cx.send(to, kind::PROBE_RESULT, |buf| {
        buf.extend_from_slice(&inquiry.to_be_bytes());
        buf.extend_from_slice(&target.to_bytes());
        buf.push(flags);
    });
}
