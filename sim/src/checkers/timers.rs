//! Timers fire whatever else there is to do: who has partners writes to them.

#[cfg(test)]
mod tests;

use super::truth::{PARTNERS, Shared, Truth};
use super::{Every, ensure, who};
use crate::observe::{Observer, Seen};
use crate::world::{NodeIndex, World};
use quorate_core::Duration;

/// So many heartbeats may be missed.
const HEARTBEATS: u32 = 4;
/// A handshake pauses up to this long between its datagrams.
const PAUSE: Duration = Duration::from_secs(2);

/// Within this time, or four times `heartbeat_timeout`, a session is there again that one side has lost.
const REPAIRED: Duration = Duration::from_secs(15);

/// Follows when each process writes.
#[derive(Debug)]
pub(super) struct Timers {
    truth: Shared,
    look: Every,
}

impl Observer for Timers {
    fn name(&self) -> &'static str {
        "timers"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Settled { .. } if self.look.is_due(world.now()) => self.look(world),
            _ => Ok(()),
        }
    }
}

impl Timers {
    pub(super) const fn new(truth: Shared) -> Self {
        Self {
            truth,
            look: Every::new(Duration::from_millis(500)),
        }
    }

    /// Whoever sends what the other one cannot open has a session that the other one has not: both notice, and begin
    /// another one. That takes all of a handshake, which is longer than what they write besides: a way on which anything
    /// is lost proves nothing.
    fn opens(&self, world: &World, truth: &Truth, node: NodeIndex, from: NodeIndex) -> Result<(), String> {
        let since = world.now() - REPAIRED.max(truth.node(node).timeout * 4);
        let refused = truth
            .way(from, node)
            .refused
            .is_some_and(|refused| refused < since);
        let broken = refused
            && truth.way(from, node).lost < since
            && truth.way(node, from).lost < since
            && truth.well_since(node, since)
            && truth.well_since(from, since)
            && truth.lists_since(node, from, since)
            && truth.lists_since(from, node, since);
        ensure(!broken, || {
            format!(
                "{} has opened nothing that {} sent it for {:.3} s, though that arrives and both list each other",
                who(world, node),
                who(world, from),
                world.now().saturating_since(since).as_secs_f64()
            )
        })
    }

    fn look(&self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        let now = world.now();
        for node in (0..truth.count()).map(NodeIndex) {
            let it = truth.node(node);
            let bound = (it.interval * HEARTBEATS).max(PAUSE);
            let since = now - bound;
            if it.listed == 0 || !world.process(node).is_live() || !truth.well_since(node, since) {
                continue;
            }
            // A cluster that is small enough to look at each partner: the others are probed in turn.
            // One whose limits let it open few sessions at a time has to wait for its turn: also those that it finds where
            // somebody was have theirs.
            let config = &world.process(node).config;
            let limited = config.max_dials < truth.addresses() || config.dials_per_second < 50;
            let partners = it.voter && it.voters_listed < PARTNERS && !limited;
            let mut listed_long = false;
            for (&other, listed) in &it.lists {
                if !listed.present || listed.since > since {
                    continue;
                }
                listed_long = true;
                // What is sent to an address where nobody is now cannot be told apart.
                let there = world.process(other);
                if !partners || !listed.voter || !there.is_live() {
                    continue;
                }
                self.opens(world, &truth, node, other)?;
                // One that moved may be written to where it was, also before anything came from where it is.
                let found = !truth.node(other).moved && there.addr == truth.node(other).addr;
                let sent = truth.way(node, other).sent;
                ensure(!found || sent >= since, || {
                    format!(
                        "{} has not written to its partner {} for {:.3} s; a heartbeat is due every {:.3} s",
                        who(world, node),
                        who(world, other),
                        now.saturating_since(sent).as_secs_f64(),
                        it.interval.as_secs_f64()
                    )
                })?;
            }
            ensure(!listed_long || it.last_sent >= since, || {
                format!(
                    "{} has members and has sent nothing for {:.3} s",
                    who(world, node),
                    now.saturating_since(it.last_sent).as_secs_f64()
                )
            })?;
        }
        Ok(())
    }
}
