//! Judging what a peer says about itself, and keeping apart who does not agree.

use super::message::{Hail, millis};
use super::{SessionEvent, Sessions, Timer};
use crate::config::Role;
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::stats::DropReason;
use crate::status::{self, QuarantineReason, Settings};
use crate::time::{Duration, Instant};
use crate::wire::{PROTOCOL_VERSIONS, kind};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// The most quarantined processes that are kept.
pub(super) const MAX_QUARANTINED: usize = 64;
/// How long one is kept after it was last met.
const KEPT: Duration = Duration::from_secs(30);
/// How often it is dialled again meanwhile.
const REDIAL: Duration = Duration::from_secs(10);

/// A process of this cluster that cannot be talked to.
#[derive(Debug)]
pub(super) struct Quarantine {
    addr: SocketAddr,
    reasons: Vec<QuarantineReason>,
    until: Instant,
    wake: Instant,
    voter: bool,
}

/// Returns the highest version that both ranges have.
fn common_version(ours: (u8, u8), theirs: (u8, u8)) -> Option<u8> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

/// Returns the settings that differ, in the precision of the wire.
fn differences(ours: &Settings, theirs: &Settings) -> impl Iterator<Item = QuarantineReason> {
    let values = |s: &Settings| {
        [
            ("cluster_size", u64::from(s.cluster_size)),
            ("max_ttl", u64::from(millis(s.max_ttl))),
            ("drift_permille", u64::from(s.drift_permille)),
            ("surge", u64::from(s.surge)),
            ("allow_observers", u64::from(s.allow_observers)),
        ]
    };
    let pairs = values(ours).into_iter().zip(values(theirs));
    pairs
        .filter(|(a, b)| a.1 != b.1)
        .map(|(a, b)| QuarantineReason::Setting {
            name: a.0,
            ours: a.1,
            theirs: b.1,
        })
}

impl Sessions {
    /// Returns the version to speak with a process of this cluster, or why not to.
    fn judge(&mut self, cx: &mut Context<'_>, hail: &Hail) -> Result<u8, Vec<QuarantineReason>> {
        let version = common_version(PROTOCOL_VERSIONS, hail.versions);
        let mut reasons = Vec::new();
        if version.is_none() {
            reasons.push(QuarantineReason::Version {
                ours: PROTOCOL_VERSIONS,
                theirs: hail.versions,
            });
        }
        if hail.role == Role::Voter {
            // An observer takes the settings of the first voter it meets, and again when it has lost all of them:
            // the cluster may have been started anew with others.
            if self.role == Role::Observer
                && version.is_some()
                && hail.settings.is_valid()
                && !(self.adopted && self.meets_voters(hail.id))
            {
                self.adopt(cx, hail.settings);
            }
            let unset = self.role == Role::Observer && !self.adopted && hail.settings.is_valid();
            if !unset {
                reasons.extend(differences(&self.settings, &hail.settings));
            }
        }
        match version {
            Some(version) if reasons.is_empty() => Ok(version),
            _ => Err(reasons),
        }
    }

    /// Returns the voters with which a session is open, and whether each is lost, and its settings.
    fn voters(&self) -> impl Iterator<Item = (NodeId, bool, Settings)> + '_ {
        self.peers
            .iter()
            .filter(|(_, peer)| !peer.quarantined)
            .filter_map(|(&id, peer)| {
                let hail = self.table.get(&peer.current)?.hail;
                (hail.role == Role::Voter).then_some((id, peer.lost, hail.settings))
            })
    }

    /// Returns whether a session with a living voter other than this one is open. The session of a dead one stays in
    /// the table for minutes: it must not keep out the voters of another cluster for so long.
    fn meets_voters(&self, except: NodeId) -> bool {
        self.voters().any(|(id, lost, _)| id != except && !lost)
    }

    /// Takes over settings. A lost voter that has others would come back on its old session without being judged: it
    /// has to begin a new one.
    fn adopt(&mut self, cx: &mut Context<'_>, settings: Settings) {
        self.settings = settings;
        self.adopted = true;
        let others = self
            .voters()
            .filter(|(.., theirs)| differences(&settings, theirs).next().is_some());
        let others: Vec<NodeId> = others.map(|(id, ..)| id).collect();
        for id in others {
            self.dismiss(cx, id, kind::CLOSE, None);
        }
    }

    /// Judges the peer of a completed handshake within this cluster, and reports it. `dialled` is set where somebody
    /// waits for the outcome of a dial. Returns whether the session lives on.
    pub(super) fn open(
        &mut self,
        cx: &mut Context<'_>,
        local: u32,
        expected: Option<NodeId>,
        observed: Option<SocketAddr>,
        dialled: bool,
    ) -> bool {
        let Some(session) = self.table.get(&local) else {
            return false;
        };
        let (hail, addr, initiator) = (session.hail, session.addr, session.initiator);
        let peer = hail.id;
        cx.stats.handshakes += 1;
        let was_open = self.is_open(peer);
        let forgotten = planted(PlantedBug::QuarantineForgotten) && self.quarantine.contains_key(&peer);
        let verdict = if forgotten {
            Ok(PROTOCOL_VERSIONS.1)
        } else {
            self.judge(cx, &hail)
        };
        match verdict {
            Ok(version) => {
                if self.quarantine.contains_key(&peer) {
                    self.end_quarantine_entry(peer);
                }
                self.install(cx, local, false);
                self.forget_others_at(cx.now, addr, peer);
                self.events.push_back(SessionEvent::Up {
                    peer,
                    addr,
                    expected,
                    role: hail.role,
                    version,
                    settings: hail.settings,
                    observed,
                    initiator,
                    replaced_session: was_open,
                });
                true
            }
            Err(reasons) => {
                if was_open {
                    self.events.push_back(SessionEvent::Down { peer });
                    // Its other sessions are quarantined with it, not reported down a second time.
                    if let Some(entry) = self.peers.get_mut(&peer) {
                        entry.quarantined = true;
                    }
                }
                if !self.quarantine.contains_key(&peer) && self.quarantine.len() >= MAX_QUARANTINED {
                    cx.stats.drop(DropReason::Quarantined);
                    if dialled {
                        self.events.push_back(SessionEvent::DialFailed { addr, expected });
                    }
                    self.install(cx, local, true);
                    self.dismiss(cx, peer, kind::CLOSE, None);
                    return false;
                }
                self.install(cx, local, true);
                self.put_quarantine(cx.now, peer, (addr, hail.role), expected, reasons, dialled);
                true
            }
        }
    }

    fn put_quarantine(
        &mut self,
        now: Instant,
        peer: NodeId,
        (addr, role): (SocketAddr, Role),
        expected: Option<NodeId>,
        reasons: Vec<QuarantineReason>,
        dialled: bool,
    ) {
        let old = self.quarantine.remove(&peer);
        if let Some(old) = &old {
            self.timers.remove(old.wake, Timer::Quarantine(peer));
        }
        let wake = now + REDIAL;
        let changed = old.is_none_or(|old| old.addr != addr || old.reasons != reasons);
        if changed || dialled {
            let reasons = reasons.clone();
            self.events.push_back(SessionEvent::Quarantined {
                peer,
                addr,
                expected,
                reasons,
            });
        }
        self.timers.insert(wake, Timer::Quarantine(peer));
        self.quarantine.insert(
            peer,
            Quarantine {
                addr,
                reasons,
                until: now + KEPT,
                wake,
                voter: role == Role::Voter,
            },
        );
    }

    pub(super) fn wake_quarantine(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        let Some(entry) = self.quarantine.get_mut(&peer) else {
            return;
        };
        if cx.now >= entry.until {
            self.end_quarantine_entry(peer);
            self.dismiss(cx, peer, kind::CLOSE, None);
            return;
        }
        entry.wake = (cx.now + REDIAL).min(entry.until);
        let (addr, wake) = (entry.addr, entry.wake);
        self.timers.insert(wake, Timer::Quarantine(peer));
        self.dial_silently(cx, addr, peer);
    }

    /// Takes a process out of quarantine and says so.
    fn end_quarantine_entry(&mut self, peer: NodeId) {
        if let Some(entry) = self.quarantine.remove(&peer) {
            self.timers.remove(entry.wake, Timer::Quarantine(peer));
            self.events.push_back(SessionEvent::QuarantineEnded { peer });
        }
    }

    /// A quarantined process said goodbye, or was seen to be replaced at its address.
    pub(super) fn end_quarantine_at(&mut self, now: Instant, peer: NodeId, addr: SocketAddr) {
        if self.quarantine.get(&peer).is_some_and(|entry| entry.addr == addr) {
            self.end_quarantine_entry(peer);
            self.forget(now, peer);
        }
    }

    /// Returns one of the quarantined voters, if there are any. Observers block nothing.
    pub(crate) fn quarantined_voter(&self) -> Option<NodeId> {
        let voter = self.quarantine.iter().find(|(_, entry)| entry.voter);
        voter.map(|(&id, _)| id)
    }

    /// Returns the quarantined processes.
    pub(crate) fn quarantined(&self) -> Vec<status::Quarantined> {
        let entries = self.quarantine.iter().map(|(&id, entry)| status::Quarantined {
            id,
            addr: entry.addr,
            reasons: entry.reasons.clone(),
        });
        entries.collect()
    }

    /// Returns whether a process is quarantined.
    pub(crate) fn is_quarantined(&self, peer: NodeId) -> bool {
        self.quarantine.contains_key(&peer)
    }
}
