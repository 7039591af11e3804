//! Changing the key ring at run time.

use super::table::{IN_FLIGHT, Standing};
use super::{Sessions, keys};
use crate::config::KeyRing;
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::status::KeyUsage;
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

impl Sessions {
    /// Takes another ring. Handshakes under a removed key are refused from now on; sessions under one that does not
    /// seal any longer are re-keyed, spread over 30 seconds; those under a removed one end when they are replaced, or
    /// after 10 seconds. Without effect on an insecure cluster, which has only the published key.
    pub(crate) fn set_keys(&mut self, cx: &mut Context<'_>, ring: &KeyRing) {
        if self.flavor == crate::wire::ProtocolFlavor::Insecure {
            return;
        }
        self.keys = keys::derive_ring(ring);
        let half_open = self
            .table
            .values()
            .filter(|s| s.is_half_open() && self.find_key(s.key).is_none());
        let refused: Vec<_> = half_open.map(|s| s.local).collect();
        for local in refused {
            self.remove_session(cx.now, local);
        }
        self.restart_dials(cx);
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.hold_to_ring(cx.now, peer, true);
        }
    }

    /// Sets what the present ring asks of a peer's sessions: a re-key under the sealing key, an end under a removed
    /// one. `switch` is false where only removed keys count: while two members do not agree yet on which key seals, they
    /// would otherwise re-key to and fro.
    pub(super) fn hold_to_ring(&mut self, now: Instant, peer: NodeId, switch: bool) {
        if planted(PlantedBug::RotationForgetsSessions) {
            return;
        }
        let sealing = self.keys.first().map(|key| key.id);
        let locals = self
            .peers
            .get(&peer)
            .map(|p| p.sessions.clone())
            .unwrap_or_default();
        for local in locals {
            let Some(session) = self.table.get(&local) else {
                continue;
            };
            let (key, current) = (session.key, session.standing == Standing::Current);
            let removed = self.find_key(key).is_none();
            // What is about to end is replaced well before.
            let within = if removed {
                self.limits.removed_key / 2
            } else {
                self.limits.rotate_within
            };
            let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
            let jitter = Duration::from_nanos(self.rng.below(within));
            let Some(session) = self.table.get_mut(&local) else {
                continue;
            };
            let soon = now + IN_FLIGHT;
            session.close_at = match (removed, current) {
                (false, _) => None,
                (true, true) => Some(session.close_at.unwrap_or(now + self.limits.removed_key)),
                (true, false) => Some(session.close_at.map_or(soon, |at| at.min(soon))),
            };
            if let Some(rekey) = session.rekey.take() {
                // Its key may be gone, or no longer the one that seals.
                self.reserved.remove(&rekey.index);
                session.rekey_at = session.rekey_at.min(now + jitter);
            }
            if current && (removed || switch && Some(key) != sealing) {
                session.rekey_at = session.rekey_at.min(now + jitter);
            }
            self.arm(now, local);
        }
    }

    /// Returns how many peers use each key: all of the ring, the sealing one first, and removed ones still in use.
    pub(crate) fn key_usage(&self) -> Vec<KeyUsage> {
        let mut peers = BTreeMap::new();
        for session in self
            .peers
            .values()
            .filter_map(|peer| self.table.get(&peer.current))
        {
            *peers.entry(session.key).or_insert(0) += 1;
        }
        let ring = self.keys.iter().enumerate().map(|(i, key)| (key.id, i == 0));
        let mut usage: Vec<_> = ring
            .map(|(key, sealing)| KeyUsage {
                key,
                sealing,
                peers: peers.remove(&key).unwrap_or(0),
            })
            .collect();
        usage.extend(peers.into_iter().map(|(key, peers)| KeyUsage {
            key,
            sealing: false,
            peers,
        }));
        usage
    }
}
