//! Everything that a node holds stays inside its bound.

#[cfg(test)]
mod tests;

use super::truth::{M1, Shared};
use super::{ensure, slot, who};
use crate::observe::{Observer, Seen};
use crate::world::{NodeIndex, World};
use quorate_core::{Duration, Instant, UsageRow};

/// To count everything that a node holds takes about as long as 100 inputs: it is done once in so many.
const INPUTS: u32 = 256;

/// How long a handshake that somebody began is kept, and how much longer nothing else explains.
const HALF_OPEN: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Held {
    /// How many inputs it was given since it was counted last.
    inputs: u32,
    /// When the last datagram arrived that begins a session, on its own clock.
    asked: Instant,
}

/// Counts what nodes hold, in their own containers.
#[derive(Debug)]
pub(super) struct Usage {
    truth: Shared,
    held: Vec<Held>,
}

impl Observer for Usage {
    fn name(&self) -> &'static str {
        "usage"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Settled { node } => {
                let inputs = &mut slot(&mut self.held, node.0).inputs;
                *inputs += 1;
                if *inputs < INPUTS {
                    return Ok(());
                }
                *inputs = 0;
                self.count(world, node)
            }
            Seen::Arrived { node, datagram, .. } if datagram.head[1] == M1 => {
                slot(&mut self.held, node.0).asked = world.clock(world.process(node).host);
                Ok(())
            }
            Seen::Stopped { node } => self.count(world, node),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, world: &World) -> Result<(), String> {
        let mut processes = world.processes().filter(|(_, process)| process.ended.is_none());
        processes.try_for_each(|(index, _)| self.count(world, index))
    }
}

impl Usage {
    pub(super) const fn new(truth: Shared) -> Self {
        Self {
            truth,
            held: Vec::new(),
        }
    }

    fn count(&self, world: &World, index: NodeIndex) -> Result<(), String> {
        let process = world.process(index);
        let Some(node) = process.node() else {
            return Ok(());
        };
        let usage = node.usage();
        within(world, index, usage.rows())?;
        let mut rows = usage.rows().iter();
        let half_open = rows.find(|row| row.name == "half-open sessions");
        let asked = self.held.get(index.0).map_or(Instant::ZERO, |held| held.asked);
        let passed = world.clock(process.host).saturating_since(asked);
        let over = passed > HALF_OPEN + SLACK && self.truth.borrow().well_since(index, world.now() - SLACK);
        let kept = half_open.map_or(0, |row| row.used);
        ensure(!over || kept == 0 || !process.is_live(), || {
            format!(
                "{} keeps {kept} half-open sessions, {:.3} s after anybody asked for one; they are over after {HALF_OPEN:?}",
                who(world, index),
                passed.as_secs_f64()
            )
        })
    }
}

fn within(world: &World, index: NodeIndex, rows: &[UsageRow]) -> Result<(), String> {
    rows.iter().try_for_each(|row| {
        ensure(row.used <= row.limit, || {
            format!(
                "{} holds more than it may, {}: {} of at most {}",
                who(world, index),
                row.name,
                row.used,
                row.limit
            )
        })
    })
}
