//! What the lists of members come to: whoever is gone is found out, and in calm everybody lists everybody.

use super::super::truth::Truth;
use super::super::{ago, ensure, who, whom};
use super::{Membership, SLACK, compatible, fallen};
use crate::world::{NodeIndex, World};
use quorate_core::{Config, Duration, Member, MemberState, NodeId};
use std::collections::BTreeSet;

/// Within which time after the last trouble every member lists exactly the members.
const CONVERGED: Duration = Duration::from_secs(120);
/// After so long a calm nobody is under suspicion any more, and what everybody knows of each other is the same.
/// In halves of `heartbeat_timeout`.
const REST: u32 = 5;
impl Membership {
    /// At the end everybody lists exactly the live members, as they are.
    pub(super) fn look_at_the_end(&self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        let calm = world.now().saturating_since(truth.unrest);
        let is_live = |index: NodeIndex| {
            let process = world.process(index);
            process.member && process.is_live() && process.paused.is_none()
        };
        for (index, process) in world.processes().filter(|&(index, _)| is_live(index)) {
            let Some(node) = process.node() else { continue };
            let listed: BTreeSet<NodeId> = node.members().map(|member| member.id).collect();
            for (other, there) in world.processes() {
                let expected = other != index && is_live(other) && compatible(&process.config, &there.config);
                let listed = listed.contains(&there.id);
                ensure(!expected || listed, || {
                    format!(
                        "at the end {} does not list {}, which is a live member; calm since {:.1} s",
                        who(world, index),
                        who(world, other),
                        calm.as_secs_f64()
                    )
                })?;
                let is_there = there.ended.is_none() && there.leaving.is_none();
                ensure(!listed || is_there, || {
                    format!(
                        "at the end {} still lists {}, which is gone; calm since {:.1} s",
                        who(world, index),
                        who(world, other),
                        calm.as_secs_f64()
                    )
                })?;
            }
            if calm >= process.config.heartbeat_timeout * REST / 2 {
                for member in node.members() {
                    at_rest(world, index, &member)?;
                }
                let status = node.status(world.clock(process.host));
                for usage in &status.key_usage {
                    ensure(usage.sealing || usage.peers == 0, || {
                        format!(
                            "at the end {} peers of {} still use a key that does not seal",
                            usage.peers,
                            who(world, index)
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Whoever is gone has to be found out by everybody who lists it, within a time that does not depend on the network.
    pub(super) fn hunt_ghosts(&mut self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        let now = world.now();
        let mut over = Vec::new();
        for &(node, subject) in &self.ghosts {
            let process = world.process(node);
            if !process.is_live() {
                over.push((node, subject));
                continue;
            }
            let (Some(ended), Some(listed)) = (world.process(subject).ended, truth.listed(node, subject))
            else {
                continue;
            };
            let trouble = truth.trouble(node);
            let it = truth.node(node);
            let since = ended.max(listed.since).max(trouble);
            let bound = found_out_within(&process.config, it.listed, truth.are_partners(node, subject));
            ensure(since > now || now.saturating_since(since) <= bound, || {
                format!(
                    "{} still lists {}, which ended {}; it should have found out within {:.1} s",
                    who(world, node),
                    who(world, subject),
                    ago(now, ended),
                    bound.as_secs_f64()
                )
            })?;
        }
        for ghost in over {
            self.ghosts.remove(&ghost);
        }
        Ok(())
    }

    /// Compares what one node lists with what it told.
    pub(super) fn look_at_one(&mut self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        if truth.count() == 0 {
            return Ok(());
        }
        self.turn = (self.turn + 1) % truth.count();
        let index = NodeIndex(self.turn);
        let process = world.process(index);
        let left = self.told.get(self.turn).is_some_and(|told| told.left);
        let (Some(node), false) = (process.node(), left || process.paused.is_some()) else {
            return Ok(());
        };
        let local = world.clock(process.host);
        let leaving = self.told.get(self.turn).and_then(|told| told.leaving);
        let took = leaving.map_or(Duration::ZERO, |since| local.saturating_since(since));
        let longest = self
            .told
            .get(self.turn)
            .map_or(Duration::ZERO, |told| told.longest_leave(&process.config));
        let overdue = took > longest + SLACK && process.ended.is_none();
        ensure(
            !overdue || !truth.well_since(index, world.now() - took - SLACK),
            || {
                format!(
                    "{} was told to leave {:.3} s ago and has not left",
                    who(world, index),
                    took.as_secs_f64()
                )
            },
        )?;
        let it = truth.node(index);
        let mut count = 0;
        for member in node.members() {
            count += 1;
            let listed = world
                .find(member.id)
                .and_then(|subject| Some((subject, it.lists.get(&subject)?)))
                .filter(|(_, listed)| listed.present);
            let Some((subject, listed)) = listed else {
                return Err(format!(
                    "{} lists {} and has not said so",
                    who(world, index),
                    whom(world, member.id)
                ));
            };
            ensure(member.incarnation >= listed.incarnation, || {
                fallen(world, index, subject, listed.incarnation, member.incarnation)
            })?;
        }
        for member in node.members() {
            let last = self.told[self.turn].members.get(&member.id);
            let last = last.map(|last| (last.addr, &last.name, &last.metadata));
            ensure(
                last == Some((member.addr, &member.name, &member.metadata)),
                || {
                    format!(
                        "{} lists {} at {} as {:?}, and has not said so",
                        who(world, index),
                        whom(world, member.id),
                        member.addr,
                        member.name
                    )
                },
            )?;
        }
        ensure(count == it.listed, || {
            format!(
                "{} lists {count} members and has told of {}",
                who(world, index),
                it.listed
            )
        })?;
        self.converged(world, &truth, index, count)
    }

    /// In lasting calm every member lists exactly the members.
    fn converged(&self, world: &World, truth: &Truth, index: NodeIndex, count: usize) -> Result<(), String> {
        let calm = world.now().saturating_since(truth.unrest);
        let process = world.process(index);
        if calm < CONVERGED
            || truth.faults > 0
            || world.healed().is_none()
            || truth.observers
            || !process.is_live()
            || !process.member
        {
            return Ok(());
        }
        let expected = world
            .processes()
            .filter(|(other, there)| {
                *other != index
                    && there.is_live()
                    && there.member
                    && compatible(&process.config, &there.config)
            })
            .count();
        ensure(count == expected, || {
            format!(
                "{} lists {count} members, {:.0} s after the last trouble of any kind; there are {expected}",
                who(world, index),
                calm.as_secs_f64()
            )
        })
    }
}

/// Looks at a member as everybody must see it once all is calm.
fn at_rest(world: &World, node: NodeIndex, member: &Member) -> Result<(), String> {
    let Some(subject) = world.find(member.id) else {
        return Ok(());
    };
    let there = world.process(subject);
    let Some(it) = there.node().filter(|_| there.is_live() && there.paused.is_none()) else {
        return Ok(());
    };
    let own = it.status(world.clock(there.host)).incarnation;
    let says = |what: String| {
        format!(
            "at the end, in calm, {} takes {} for {what}",
            who(world, node),
            who(world, subject)
        )
    };
    ensure(member.state == MemberState::Alive, || says("suspect".to_owned()))?;
    ensure(member.incarnation == own, || {
        says(format!("incarnation {}; it is in {own}", member.incarnation))
    })?;
    let addr = there.config.advertise.unwrap_or(there.addr);
    ensure(member.addr == addr, || {
        says(format!("reachable at {}; it is at {addr}", member.addr))
    })?;
    let introduced = member.name == there.config.name && member.metadata == there.config.metadata;
    ensure(introduced, || {
        says("somebody of another name or metadata".to_owned())
    })
}

/// How long a process that is well may list another one that has ended.
fn found_out_within(config: &Config, listed: usize, partners: bool) -> Duration {
    let (interval, timeout) = (config.heartbeat_interval, config.heartbeat_timeout);
    // An echo that was under way counts for a timeout more, and late timers for another one.
    let direct = timeout * 4 + interval * 2;
    if partners {
        return direct;
    }
    let listed = u32::try_from(listed).unwrap_or(u32::MAX / 64);
    let rounds = interval * (listed / 3 + 1) * 4;
    let probes = (interval + config.probe_timeout) * 9 * 2;
    let spread = interval * (listed + 2).ilog2().saturating_add(1);
    // From the longest to the shortest suspicion, stretched by a bad health, and once more for late timers.
    direct + rounds + probes + config.suspect_timeout.max(spread) * 6 * 2
}
