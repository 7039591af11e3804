//! Who wants to hear when a lock changes.
//!
//! What is told is a hint, and comes without a round: a leader that was replaced and does not know it tells nothing new,
//! and the client asks the next one. Whoever has to know asks for a list.

use super::{At, Deeds, Leases};
use crate::consensus::Life;
use crate::id::NodeId;
use crate::locks::ask::Answer;
use crate::locks::change::Effect;
use crate::locks::key::Key;
use crate::locks::table::Table;
use crate::rng::scramble;
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;

/// Watches that a leader keeps. Whoever finds no room is told when it asks again.
const MAX_WATCHES: usize = 4096;
/// How long after its last sign a watch is kept.
const KEPT: Duration = Duration::from_secs(3);

/// Who watches what: what it was told last, and when it gave its last sign.
pub(super) type Watches = BTreeMap<(Key, Life, u64), (u64, Instant)>;

impl Leases {
    /// Says how a lock stands now, and from here on when it changes. Answered also where nothing is new: silence would be
    /// taken for a leader that is cut off.
    pub(super) fn watch(&mut self, cx: &At<'_>, from: Life, request: u64, key: &Key, deeds: &mut Deeds) {
        let watch = (key.clone(), from, request);
        if !self.watches.contains_key(&watch) && self.watches.len() >= MAX_WATCHES {
            self.watches.retain(|_, (_, at)| cx.now - *at < KEPT);
        }
        let version = version(cx.table, key);
        if self.watches.contains_key(&watch) || self.watches.len() < MAX_WATCHES {
            self.watches.insert(watch, (version, cx.now));
        }
        deeds.replies.push((from, Answer::Watched { request, version }));
    }

    /// Tells those who watch the lock that a change concerns.
    pub(super) fn tell_watchers(&mut self, cx: &At<'_>, effect: &Effect, deeds: &mut Deeds) {
        if self.watches.is_empty() {
            return;
        }
        let key = match effect {
            Effect::Granted { key, .. } | Effect::Queued { key, .. } | Effect::Freed { key, .. } => key,
            Effect::Ended { key: Some(key), .. } => key,
            Effect::Revoked { token, .. } => match cx.table.holder(*token) {
                Some((key, _)) => key,
                None => return,
            },
            _ => return,
        };
        let now_at = version(cx.table, key);
        let nobody = Life::first(NodeId::from_bytes([0; 16]));
        let watches = self.watches.range_mut((key.clone(), nobody, 0)..);
        for ((_, owner, request), (told, at)) in watches.take_while(|((of, ..), _)| of == key) {
            if *told != now_at && cx.now - *at < KEPT {
                *told = now_at;
                let (request, version) = (*request, now_at);
                deeds.replies.push((*owner, Answer::Watched { request, version }));
            }
        }
    }
}

/// Returns a number that is another one after a lock was granted, freed, taken, or somebody began or ceased to wait for
/// it. It is the same at every leader, never 0, and 1 of a lock that nobody holds or waits for.
fn version(table: &Table, key: &Key) -> u64 {
    let Some(lock) = table.lock(key) else { return 1 };
    let holders = lock
        .holders()
        .map(|(token, holder)| token << 1 | u64::from(holder.revoked));
    let waiters = lock.arrivals().map(|arrival| !arrival);
    holders.chain(waiters).fold(1, |hash, word| scramble(hash ^ word)) | 2
}
