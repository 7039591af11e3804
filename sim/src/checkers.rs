//! What must never happen, whatever goes wrong.
//!
//! Each checker is an [`Observer`] that follows one part of the protocol by what really happened. They share what all
//! of them must know of that, the truth, which is told of each event last: a checker sees what was
//! true until then.
//!
//! A rule objects only where no correct node could have done otherwise, given what the network, the clocks and the
//! processes really did to it. Where that cannot be known, it is silent.

mod bounds;
mod consensus;
mod locks;
mod membership;
mod messaging;
mod session;
#[cfg(test)]
mod testing;
mod timers;
pub(crate) mod truth;
mod usage;

pub use crate::coverage::Coverage;
use crate::coverage::Tally;
use crate::observe::{Observer, Seen};
use crate::world::{NodeIndex, World};
use quorate_core::{Duration, Instant, NodeId};
use std::cell::RefCell;
use std::rc::Rc;
use truth::Shared;

/// Returns a new one of each checker.
pub fn all() -> Vec<Box<dyn Observer>> {
    let (truth, tally) = (Shared::default(), Tally::default());
    let consensus = consensus::Consensus::new(truth.clone(), tally.clone());
    let consensus: consensus::Shared = Rc::new(RefCell::new(consensus));
    vec![
        Box::new(membership::Membership::new(truth.clone())),
        Box::new(session::Session::new(truth.clone())),
        Box::new(messaging::Messaging::new(truth.clone())),
        Box::new(bounds::Bounds::new(truth.clone())),
        Box::new(timers::Timers::new(truth.clone())),
        Box::new(usage::Usage::new(truth.clone())),
        // It knows the groups before the next one asks.
        Box::new(consensus.clone()),
        Box::new(locks::Locks::new(truth.clone(), consensus, tally.clone())),
        Box::new(Coverage::new(tally)),
        // The last one: see above.
        Box::new(Teller(truth)),
    ]
}

/// Tells the truth what happens, and never objects.
struct Teller(Shared);

impl Observer for Teller {
    fn name(&self) -> &'static str {
        "truth"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        self.0.borrow_mut().observe(world, seen);
        Ok(())
    }
}

/// Something that is done every so often, in true time.
#[derive(Debug)]
struct Every {
    interval: Duration,
    next: Instant,
}

impl Every {
    const fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: Instant::ZERO,
        }
    }

    /// Returns whether it is time, and waits anew.
    #[inline]
    fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.interval;
        true
    }
}

/// Names a process to people.
fn who(world: &World, node: NodeIndex) -> String {
    let host = world.process(node).host;
    format!("process {} on host {}", node.0, host.0)
}

/// Names to people the process with this id.
fn whom(world: &World, id: NodeId) -> String {
    match world.find(id) {
        Some(node) => who(world, node),
        None => format!("an unknown process with the id {id:?}"),
    }
}

/// Says to people how long ago something was.
fn ago(now: Instant, then: Instant) -> String {
    format!("{:.3} s ago", now.saturating_since(then).as_secs_f64())
}

/// Objects unless something holds.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Gives the element at a place, growing the list with defaults until it is there.
fn slot<T: Default>(list: &mut Vec<T>, at: usize) -> &mut T {
    if list.len() <= at {
        list.resize_with(at + 1, T::default);
    }
    &mut list[at]
}
