//! What the leader answers, and what follows from it.

use super::{Client, ClientOutput, Held, keepalive};
use crate::consensus::Group;
use crate::locks::ask::{Answer, Denial};
use crate::locks::outcome::{LockError, LockEvent, LostReason};
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant};

impl Client {
    /// Takes the answer of a group's leader.
    pub fn answered(&mut self, now: Instant, group: Group, answer: &Answer, out: &mut ClientOutput) {
        match *answer {
            // Who moves asks the present group for it again, and hears what that one knows of it; and tells it what is
            // over until it has heard that.
            Answer::Granted { .. } | Answer::Released { .. }
                if self.moves && self.leader.is_none_or(|(of, _)| of != group) => {}
            Answer::Granted {
                request,
                token,
                stamp,
                lease,
            } => self.granted(now, group, request, token, stamp, lease, out),
            // Who led before has no say any more about what the present group is asked.
            Answer::Queued { .. }
            | Answer::Denied { .. }
            | Answer::Unknown { .. }
            | Answer::Cancelled { .. }
                if self.leader.is_none_or(|(of, _)| of != group) => {}
            Answer::Queued { request } => {
                if let Some(want) = self.wants.get_mut(&request) {
                    want.queued = true;
                    want.send_at = now + keepalive(want.wish.ttl);
                }
            }
            Answer::Denied { request, why } => self.denied(now, request, why, out),
            Answer::Unknown { ref requests } => {
                for request in requests {
                    if let Some(want) = self.wants.get_mut(request) {
                        (want.queued, want.send_at) = (false, now);
                    }
                }
            }
            Answer::Renewed { stamp, ref leases } => {
                for &(token, lease) in leases {
                    self.renewed(now, group, token, stamp, lease, out);
                }
            }
            Answer::Gone { ref tokens, revoked } => {
                for &token in tokens {
                    let untold = |held: &Held| held.moved && planted(PlantedBug::MovedBeliefsUntold);
                    let same = |held: &Held| held.group == group && !untold(held);
                    let same = self.held.get(&token).is_some_and(same);
                    let mut key = None;
                    if let Some(held) = same.then(|| self.stop(token)).flatten() {
                        let reason = match (revoked, held.moved) {
                            (true, _) => LostReason::Revoked,
                            (false, true) => LostReason::Conflict,
                            (false, false) => LostReason::Expired,
                        };
                        let id = held.id;
                        key = Some(held.key);
                        out.events.push(LockEvent::Lost { id, token, reason });
                    }
                    // One that moved to another group is that group's to take.
                    if revoked && !self.held.contains_key(&token) {
                        // What was sent before, that the token is granted, may come later.
                        let before = self.refused.filter(|&(of, _)| of == group);
                        let highest = before.map_or(token, |(_, highest)| highest.max(token));
                        self.refused = Some((group, highest));
                        // Only now, as the belief is over.
                        self.let_go(now, token, key);
                    }
                }
            }
            Answer::Released { ref tokens } => {
                for token in tokens {
                    self.releases.remove(now, *token);
                    if planted(PlantedBug::BeliefOutlivesRelease)
                        && let Some(held) = self.stop(*token)
                    {
                        let id = held.id;
                        out.events.push(LockEvent::Released { id });
                    }
                }
            }
            Answer::Cancelled { request } => {
                if !self.cancels.remove(now, request) {
                    // The leader took this life for gone. It is not.
                    self.ask_anew(now, &[request]);
                }
            }
            Answer::Revoked { .. } | Answer::Page { .. } | Answer::Watched { .. } => {
                self.told(now, answer, out);
            }
            Answer::Elsewhere => {}
        }
        self.rearm();
    }

    #[expect(clippy::too_many_arguments, reason = "one answer, in one place")]
    fn granted(
        &mut self,
        now: Instant,
        group: Group,
        request: u64,
        token: u64,
        stamp: u64,
        lease: u32,
        out: &mut ClientOutput,
    ) {
        if self.held.contains_key(&token) {
            return self.renewed(now, group, token, stamp, lease, out);
        }
        if self.releases.contains(token) {
            return;
        }
        if self
            .refused
            .is_some_and(|(of, highest)| of == group && token <= highest)
            && !planted(PlantedBug::TakenGrantBelieved)
        {
            // **SAFETY (belief ends first)** It was, or may have been, given back: others may hold it.
            self.let_go(now, token, self.key_of(request));
            return self.ask_anew(now, &[request]);
        }
        let Some(want) = self.wants.get(&request) else {
            // Nobody wants it any more.
            return self.let_go(now, token, self.key_of(request));
        };
        let stamp = Instant::from_nanos(stamp);
        let stamp = if planted(PlantedBug::LeaseCountsFromLatest) {
            want.since
        } else {
            stamp
        };
        if stamp < want.since || stamp > now {
            return;
        }
        let (stamp, lease) = counted(now, stamp, lease, want.wish.ttl);
        let until = self.until(stamp, lease);
        if until <= now {
            // The lease was over before it arrived. The next sign of this client renews it.
            return;
        }
        let Some(want) = self.wants.remove(&request) else {
            return;
        };
        let held = Held {
            id: want.id,
            key: want.wish.key.clone(),
            group,
            since: want.since,
            ttl: want.wish.ttl,
            until,
            renew_at: now,
            risk_at: two_thirds_after(stamp, lease),
            at_risk: false,
            raising: false,
            moved: false,
        };
        out.events.push(LockEvent::Granted {
            id: held.id,
            key: held.key.clone(),
            token,
            until,
        });
        // One that was granted from the queue is short: it is renewed at once.
        let short = lease < held.ttl;
        let renew_at = if short { now } else { held.third_after(stamp) };
        self.due.insert((held.attention(), token));
        self.tokens.insert(held.id, token);
        self.held.insert(token, held);
        self.change(token, |held| held.renew_at = renew_at);
    }

    /// **SAFETY (stamps)** A lease counts from when that was sent which the leader answers, and for no longer than it
    /// says; a belief that is over never comes back.
    fn renewed(
        &mut self,
        now: Instant,
        group: Group,
        token: u64,
        stamp: u64,
        lease: u32,
        out: &mut ClientOutput,
    ) {
        let Some(held) = self.held.get(&token) else { return };
        let stamp = Instant::from_nanos(stamp);
        let over = held.until <= now && !planted(PlantedBug::LapsedBeliefRevives);
        if held.group != group || stamp < held.since || stamp > now || over {
            return;
        }
        let (id, reaches) = (held.id, lease >= held.ttl);
        let (stamp, lease) = counted(now, stamp, lease, held.ttl);
        let until = self.until(stamp, lease);
        if until <= held.until {
            return;
        }
        self.change(token, |held| {
            (held.until, held.at_risk, held.moved) = (until, false, false);
            held.risk_at = two_thirds_after(stamp, lease);
            held.raising &= !reaches;
            held.renew_at = if held.raising {
                held.renew_at
            } else {
                held.third_after(stamp)
            };
        });
        out.events.push(LockEvent::Renewed { id, until });
    }

    fn denied(&mut self, now: Instant, request: u64, why: Denial, out: &mut ClientOutput) {
        let Some(want) = self.wants.get_mut(&request) else {
            return;
        };
        // A node that keeps to its limits has too many open only until the group hears that some are over.
        let later = matches!(why, Denial::NotOpen | Denial::TooManyRequests);
        if later && want.wish.wait {
            want.send_at = now + want.again;
            return;
        }
        let (id, wish) = (want.id, &want.wish);
        let error = match why {
            Denial::Taken {
                token,
                owner,
                left,
                waiting,
            } => LockError::Taken {
                token,
                owner,
                left: Duration::from_millis(left.into()),
                waiting,
            },
            Denial::OtherCapacity(capacity) => LockError::OtherCapacity(capacity),
            Denial::TooManyWaiters(limit) => LockError::TooManyWaiters(limit),
            Denial::TableFull => LockError::TableFull,
            Denial::TooManyRequests => LockError::TooManyRequests,
            Denial::Invalid => LockError::Units {
                units: wish.units,
                capacity: wish.capacity,
            },
            Denial::NotOpen => LockError::NotOpen,
            Denial::Ttl(max_ms) => LockError::Ttl {
                ttl_ms: wish.ttl.into(),
                max_ms,
            },
        };
        if want.copies > 1 {
            // Another copy may be granted yet.
            self.give_up(now, request);
        }
        self.wants.remove(&request);
        out.events.push(LockEvent::Failed { id, error });
    }
}

/// From when a holder counts, and how much.
fn counted(now: Instant, stamp: Instant, lease: u32, ttl: u32) -> (Instant, u32) {
    let stamp = if planted(PlantedBug::LeaseCountsFromArrival) {
        now
    } else {
        stamp
    };
    let lease = if planted(PlantedBug::HolderIgnoresLease) {
        ttl
    } else {
        lease.min(ttl)
    };
    (stamp, lease)
}

/// When a lease that counts from this stamp is at risk.
pub(super) fn two_thirds_after(stamp: Instant, lease: u32) -> Instant {
    stamp + Duration::from_millis(u64::from(lease / 3 * 2))
}
