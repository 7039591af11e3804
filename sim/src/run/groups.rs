//! What a cluster owes its users once everything is well: one group that is open, and grants tokens to whoever asks.

use super::{LOOK, recovery_bound};
use crate::app::App;
use crate::sim::Sim;
use crate::world::{NodeIndex, Process, World};
use quorate_core::{Config, Duration, Group, NodeId, Role};

/// How many foundings may fail, or elections, before one succeeds.
const TRIALS: u32 = 8;

/// Returns within which time after the last fault there must be an open group again.
///
/// First all find each other ([`recovery_bound`]). A group that has lost its quorum for good is then given up after
/// `max_ttl` without contact, and two heartbeat timeouts in which enough others are seen to be ready. A leader counts as
/// heard of for two election timeouts; each of up to `TRIALS` duels costs a founding's or an election's time, up to twice
/// the election timeout for each side. A founder waits `found_delay` and `found_wait`, and a group the grace. Seats change
/// `seat_timeout` after a failure, and whoever still leaves does so within `leave_wait` and `leave_timeout`.
pub fn group_bound(config: &Config) -> Duration {
    let grace = config.max_ttl + config.max_ttl * u32::from(config.drift_permille) / 1000;
    recovery_bound(config)
        + config.leave_wait
        + config.leave_timeout
        + config.max_ttl
        + 2 * config.heartbeat_timeout
        + (2 + 4 * TRIALS) * config.election_timeout
        + config.found_delay
        + config.found_wait
        + grace
        + config.seat_timeout
}

/// Returns within which time whoever waits for a lock gets it once there is an open group again, if nobody keeps it.
///
/// Who held it and is gone counts until its lease ends on the clock of a leader that knows nothing newer; those who
/// waited before are told, or dropped, within `waiter_ttl`, and each of those before the last is granted in the time of a
/// message. Requests whose users wait no longer end with a `ttl` of their own.
pub(super) fn lock_bound(config: &Config) -> Duration {
    let lease = config.max_ttl + config.max_ttl * u32::from(config.drift_permille) / 1000;
    lease + 2 * config.waiter_ttl + config.message_timeout
}

/// Waits until nothing is missing any more.
pub(super) fn recover<A: App>(sim: &mut Sim<A>, config: &Config) {
    let healed = sim.world().healed().unwrap_or(sim.world().now());
    let bound = group_bound(config);
    while sim.violations().is_empty() {
        let Some(what) = missing(sim) else {
            return;
        };
        let passed = sim.world().now().saturating_since(healed);
        if passed > bound {
            sim.violate("calm", format!("{passed:?} after the last fault, {what}"));
        }
        sim.run_for(LOOK);
    }
}

/// Returns the living voters, if there has to be a group of them: enough to found one, and not too many.
fn voters(world: &World) -> Option<Vec<(NodeIndex, &Process)>> {
    let live = |process: &Process| process.is_live() && process.member && process.config.role == Role::Voter;
    let voters: Vec<_> = world.processes().filter(|(_, process)| live(process)).collect();
    let config = &voters.first()?.1.config;
    let seats = usize::from(config.cluster_size);
    if seats == 0 {
        // One is enough, and there are never too many.
        return Some(voters);
    }
    let (fewest, most) = (
        seats / 2 + 1 + usize::from(config.surge),
        seats + usize::from(config.surge),
    );
    (fewest..=most).contains(&voters.len()).then_some(voters)
}

/// Returns the first thing that is missing to a group that works, if there has to be one.
pub(super) fn missing<A: App>(sim: &Sim<A>) -> Option<String> {
    let world = sim.world();
    let Some(voters) = voters(world) else {
        return side_by_side(world);
    };
    let (_, group) = match present(sim) {
        Ok(present) => present,
        Err(what) => return Some(what),
    };
    let leader = voters.iter().find_map(|&(index, process)| {
        let replica = process.node()?.replica();
        replica.leadership().map(|_| (index, replica))
    });
    let Some((leader, replica)) = leader else {
        return Some(format!("nobody leads the group {group}"));
    };
    if !replica.machine().is_some_and(|machine| machine.open) {
        return Some(format!("{leader} has not opened the group {group}"));
    }
    let seats = replica.seats()?;
    let seated = |process: &Process| {
        let node = process.node();
        node.is_some_and(|node| seats.contains(node.replica().life()))
    };
    let gone = seats.iter().find(|seat| {
        let process = world.find(seat.node).map(|index| world.process(index));
        !process.is_some_and(|process| process.ended.is_none() && seated(process))
    });
    if let Some(seat) = gone {
        return Some(format!("{seat}, which is gone, has a seat of the group {group}"));
    }
    let room = seats.len() < usize::from(voters[0].1.config.cluster_size);
    let without = voters.iter().find(|(_, process)| room && !seated(process));
    without.map(|(index, _)| format!("{index} has no seat of the group {group}, and there are empty ones"))
}

/// Where too many voters live two groups may have met. One of them yields: they do not stay side by side.
fn side_by_side(world: &World) -> Option<String> {
    let running = world
        .processes()
        .filter(|(_, process)| process.is_live() && process.member);
    let mut led = running.filter_map(|(index, process)| {
        let replica = process.node()?.replica();
        replica.leadership()?;
        Some((index, replica.group()?))
    });
    let (first, group) = led.next()?;
    let (second, other) = led.find(|&(_, other)| other != group)?;
    Some(format!(
        "{first} leads the group {group}, and {second} leads {other}"
    ))
}

/// Returns the leader and the group that all voters know.
///
/// # Errors
/// Somebody knows none, or another one.
pub(super) fn present<A: App>(sim: &Sim<A>) -> Result<(NodeId, Group), String> {
    let Some(voters) = voters(sim.world()) else {
        return Err("there are too few or too many voters".to_owned());
    };
    let mut known = None;
    for (index, process) in voters {
        let Some(replica) = process.node().map(quorate_core::Node::replica) else {
            continue;
        };
        let Some(group) = replica.group() else {
            return Err(format!("{index} belongs to no group"));
        };
        let Some(leader) = replica.leader() else {
            return Err(format!("{index} knows of no leader of the group {group}"));
        };
        let one = (leader.node, group);
        let first = *known.get_or_insert(one);
        if first != one {
            return Err(format!(
                "{index} follows {leader} in the group {group}, and others do not"
            ));
        }
    }
    known.ok_or_else(|| "there is no voter".to_owned())
}

/// Whether a process that draws a token now has to get one.
pub(super) fn grants_to<A: App>(sim: &Sim<A>, index: NodeIndex) -> bool {
    let world = sim.world();
    let Some(voters) = voters(world) else {
        return false;
    };
    let voter = world.process(index).config.role == Role::Voter;
    (voter || voters[0].1.config.allow_observers) && missing(sim).is_none()
}
