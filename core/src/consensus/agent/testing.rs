//! What the tests of an agent need around it.

use super::{Consensus, Surroundings};
use crate::config::Config;
use crate::outbox::{Context, Outbox};
use crate::stats::Stats;
use crate::time::Instant;
use alloc::collections::VecDeque;

/// Lets an agent act at this time. What it sends is lost.
pub(super) fn act<T>(config: &Config, now: Instant, act: impl FnOnce(&mut Context<'_>) -> T) -> T {
    let (mut outbox, mut events, mut stats) = (Outbox::default(), VecDeque::new(), Stats::default());
    act(&mut Context {
        now,
        config,
        outbox: &mut outbox,
        events: &mut events,
        stats: &mut stats,
    })
}

/// Lets time pass for an agent that is ready, in a cluster that has a leader.
pub(super) fn pass(one: &mut Consensus, cx: &mut Context<'_>) {
    let around = Surroundings {
        ready: true,
        voters: 1,
        quarantined: None,
        leader_present: true,
    };
    one.look(cx, around);
    for _ in 0..8 {
        one.handle_timeout(cx);
    }
}
