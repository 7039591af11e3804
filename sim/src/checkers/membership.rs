//! Who lists whom, and why.

mod lists;
#[cfg(test)]
mod tests;
mod verdict;

use super::truth::{Shared, Truth, isolation};
use super::{Every, ago, ensure, slot, who, whom};
use crate::observe::{Observer, Seen};
use crate::world::{NodeIndex, World, home_of};
use quorate_core::{Config, Duration, Event, Instant, LeaveReason, Member, NodeId, Role};
use std::collections::{BTreeMap, BTreeSet};
use verdict::{goodbye, told_by_somebody_who_knows, verdict};

/// How long leaving may take beyond its timeout, and timers may be late.
const SLACK: Duration = Duration::from_millis(150);

#[derive(Debug, Default)]
struct Told {
    /// What the application was told of the quorum last.
    quorum: Option<bool>,
    /// Something that counts for the quorum changed since the node was at rest.
    counted: bool,
    ready: bool,
    leaving: Option<Instant>,
    /// Whether it led a group when it was told to leave: without a quorum only such a one has to wait.
    led: bool,
    /// It was told to leave, and has been given nothing since.
    undisturbed: bool,
    /// What it is at was begun by a datagram, and not by a timer.
    handed: bool,
    left: bool,
    quarantined: BTreeSet<NodeId>,
    /// The members, as they were told of last.
    members: BTreeMap<NodeId, Member>,
    /// When it last took something for authentic, on its own clock.
    heard: Instant,
    /// When it started, on its own clock.
    started: Instant,
    /// When it forgot everybody last: who went until then may come back as it was.
    forgot: Instant,
    /// Whom it has to forget before it rests, for it has heard nobody for too long.
    forgets: Vec<NodeIndex>,
}

impl Told {
    /// How long leaving may take.
    fn longest_leave(&self, config: &Config) -> Duration {
        if config.cluster_size == 0 && !self.led {
            return config.leave_timeout;
        }
        config.longest_leave()
    }
}

/// Follows who is a member for whom.
#[derive(Debug)]
pub(super) struct Membership {
    truth: Shared,
    told: Vec<Told>,
    /// Who lists somebody who has ended.
    ghosts: BTreeSet<(NodeIndex, NodeIndex)>,
    hunt: Every,
    look: Every,
    /// Whose list is looked at next.
    turn: usize,
}

impl Observer for Membership {
    fn name(&self) -> &'static str {
        "membership"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Event { node, event } => self.on_event(world, node, event),
            Seen::Arrived { node, opened, .. } => {
                let told = slot(&mut self.told, node.0);
                (told.undisturbed, told.handed) = (false, true);
                if opened {
                    told.heard = world.clock(world.process(node).host);
                }
                Ok(())
            }
            Seen::Woke { node, .. } => {
                let told = slot(&mut self.told, node.0);
                (told.undisturbed, told.handed) = (false, false);
                self.on_woke(world, node);
                Ok(())
            }
            Seen::Settled { node } => self.on_settled(world, node),
            Seen::Started { node, .. } => {
                let now = world.clock(world.process(node).host);
                let told = slot(&mut self.told, node.0);
                (told.heard, told.started) = (now, now);
                Ok(())
            }
            Seen::Stopped { node } => {
                let truth = self.truth.borrow();
                for other in (0..truth.count()).map(NodeIndex) {
                    if truth.lists_since(other, node, world.now()) {
                        self.ghosts.insert((other, node));
                    }
                }
                Ok(())
            }
            Seen::Command {
                node,
                command: crate::observe::Command::Leave,
            } => {
                let now = world.clock(world.process(node).host);
                let process = world.process(node);
                let leads = process
                    .node()
                    .is_some_and(|it| it.status(now).consensus.leader == Some(process.id));
                let told = slot(&mut self.told, node.0);
                told.led |= leads && told.leaving.is_none();
                told.undisturbed = told.leaving.is_none();
                told.leaving.get_or_insert(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, world: &World) -> Result<(), String> {
        self.look_at_the_end(world)
    }
}

impl Membership {
    pub(super) const fn new(truth: Shared) -> Self {
        Self {
            truth,
            told: Vec::new(),
            ghosts: BTreeSet::new(),
            hunt: Every::new(Duration::from_millis(500)),
            look: Every::new(Duration::from_millis(100)),
            turn: 0,
        }
    }

    fn on_event(&mut self, world: &World, node: NodeIndex, event: &Event) -> Result<(), String> {
        ensure(!slot(&mut self.told, node.0).left, || {
            format!("{} says {event:?} after it has left", who(world, node))
        })?;
        match event {
            Event::MemberJoined(member) => self.on_joined(world, node, member),
            Event::MemberUpdated(member) => self.on_updated(world, node, member),
            Event::MemberLeft { member, reason } => self.on_left(world, node, member, *reason),
            Event::QuorumChanged { has_quorum, present } => {
                self.on_quorum(world, node, *has_quorum, *present)
            }
            Event::Ready => {
                let again = std::mem::replace(&mut slot(&mut self.told, node.0).ready, true);
                ensure(!again, || {
                    format!("{} says twice that it is ready", who(world, node))
                })
            }
            Event::LeaveDone => self.on_leave_done(world, node),
            Event::Quarantined { id, .. } => self.on_quarantined(world, node, *id),
            Event::QuarantineEnded { id } => {
                let known = slot(&mut self.told, node.0).quarantined.remove(id);
                ensure(known, || {
                    format!(
                        "{} ends a quarantine of {} that never was",
                        who(world, node),
                        whom(world, *id)
                    )
                })
            }
            _ => Ok(()),
        }
    }

    fn on_joined(&mut self, world: &World, node: NodeIndex, member: &Member) -> Result<(), String> {
        let truth = self.truth.borrow();
        let (here, now) = (world.process(node), world.now());
        ensure(member.id != here.id, || {
            format!("{} lists itself", who(world, node))
        })?;
        let subject = world
            .find(member.id)
            .ok_or_else(|| format!("{} lists {}", who(world, node), whom(world, member.id)))?;
        let there = world.process(subject);
        plausible(world, &truth, node, subject, member)?;
        let held = self
            .told
            .get(node.0)
            .is_some_and(|told| told.quarantined.contains(&member.id));
        ensure(!held, || {
            format!(
                "{} lists {}, which it holds in quarantine",
                who(world, node),
                who(world, subject)
            )
        })?;
        ensure(
            may_meet(&truth, here.member, &here.config, there.member, &there.config),
            || {
                format!(
                    "{} lists {}, whose settings or keys are others",
                    who(world, node),
                    who(world, subject)
                )
            },
        )?;
        let old = truth.listed(node, subject).copied();
        ensure(!old.is_some_and(|old| old.present), || {
            format!(
                "{} says twice that {} joined, the first time {}",
                who(world, node),
                who(world, subject),
                old.map_or_else(String::new, |old| ago(now, old.since))
            )
        })?;
        // Whoever was alone for long may have forgotten everybody without a word.
        let uptime = world.clock(here.host);
        let told = slot(&mut self.told, node.0);
        if truth.node(node).listed == 0 && uptime.saturating_since(told.started) > isolation(here) {
            told.forgot = now;
        }
        let forgot = told.forgot;
        if let Some(old) = old
            && (old.left || old.until > forgot)
            && !old.set_aside
            && truth.longest(world) < here.config.tombstone_timeout
            && truth.count() <= here.config.max_tombstones
        {
            ensure(!old.left, || {
                format!(
                    "{} lets {} in again, which said goodbye",
                    who(world, node),
                    who(world, subject)
                )
            })?;
            ensure(member.incarnation > old.incarnation, || {
                format!(
                    "{} lets {} come back in incarnation {}; it went {} in incarnation {}, and had to come back in a higher \
                     one",
                    who(world, node),
                    who(world, subject),
                    member.incarnation,
                    ago(now, old.until),
                    old.incarnation
                )
            })?;
        }
        slot(&mut self.told, node.0)
            .members
            .insert(member.id, member.clone());
        let cause = truth.node(node).cause;
        told_by_somebody_who_knows(world, &truth, node, subject, cause)?;
        drop(truth);
        if there.ended.is_some() {
            self.ghosts.insert((node, subject));
        }
        slot(&mut self.told, node.0).counted = true;
        Ok(())
    }

    fn on_updated(&mut self, world: &World, node: NodeIndex, member: &Member) -> Result<(), String> {
        let truth = self.truth.borrow();
        let listed = world
            .find(member.id)
            .and_then(|subject| Some((subject, truth.listed(node, subject).copied()?)))
            .filter(|(_, listed)| listed.present);
        let Some((subject, listed)) = listed else {
            return Err(format!(
                "{} says that {} changed, which it does not list",
                who(world, node),
                whom(world, member.id)
            ));
        };
        ensure(member.incarnation >= listed.incarnation, || {
            fallen(world, node, subject, listed.incarnation, member.incarnation)
        })?;
        plausible(world, &truth, node, subject, member)?;
        slot(&mut self.told, node.0)
            .members
            .insert(member.id, member.clone());
        Ok(())
    }

    fn on_left(
        &mut self,
        world: &World,
        node: NodeIndex,
        member: &Member,
        reason: LeaveReason,
    ) -> Result<(), String> {
        let truth = self.truth.borrow();
        let listed = world
            .find(member.id)
            .and_then(|subject| Some((subject, truth.listed(node, subject).copied()?)))
            .filter(|(_, listed)| listed.present);
        let Some((subject, listed)) = listed else {
            return Err(format!(
                "{} says that {} went ({reason:?}), which it does not list",
                who(world, node),
                whom(world, member.id)
            ));
        };
        let there = world.process(subject);
        ensure(member.incarnation >= listed.incarnation, || {
            fallen(world, node, subject, listed.incarnation, member.incarnation)
        })?;
        match reason {
            LeaveReason::Left => ensure(there.leaving.is_some(), || {
                format!(
                    "{} says that {} said goodbye, which nobody told to leave",
                    who(world, node),
                    who(world, subject)
                )
            })?,
            LeaveReason::Replaced => {
                // Somebody else may have seen it where it was before it moved, and found another one there.
                let mut addrs = [member.addr, home_of(there.host)].into_iter();
                let another = |addr| truth.owners(addr).iter().any(|&other| other != subject);
                ensure(addrs.any(another), || {
                    format!(
                        "{} says that {} was replaced at {}, where nobody else ever was",
                        who(world, node),
                        who(world, subject),
                        member.addr
                    )
                })?;
            }
            LeaveReason::Quarantined => {
                let held = self
                    .told
                    .get(node.0)
                    .is_some_and(|told| told.quarantined.contains(&member.id));
                ensure(held, || {
                    format!(
                        "{} says that {} is in quarantine, which it is not",
                        who(world, node),
                        who(world, subject)
                    )
                })?;
            }
            LeaveReason::Failed => {
                if self.told.get(node.0).is_some_and(|told| told.handed) {
                    goodbye(world, &truth, node, subject)?;
                }
                verdict(world, &truth, node, subject, &listed)?;
            }
        }
        let alone = truth.node(node).listed == 1;
        drop(truth);
        self.ghosts.remove(&(node, subject));
        let uptime = world.clock(world.process(node).host);
        let told = slot(&mut self.told, node.0);
        if alone && uptime.saturating_since(told.started) > isolation(world.process(node)) {
            told.forgot = world.now();
        }
        told.members.remove(&member.id);
        told.forgets.retain(|&other| other != subject);
        told.counted = true;
        Ok(())
    }

    fn on_quorum(
        &mut self,
        world: &World,
        node: NodeIndex,
        has_quorum: bool,
        present: usize,
    ) -> Result<(), String> {
        let (count, before) = {
            let truth = self.truth.borrow();
            let it = truth.node(node);
            (
                it.voters_listed + usize::from(it.voter),
                self.quorum_before(world, node),
            )
        };
        slot(&mut self.told, node.0).quorum = Some(has_quorum);
        ensure(present == count, || {
            format!(
                "{} counts {present} voters for its quorum; the joined and left events make it {count}",
                who(world, node)
            )
        })?;
        ensure(has_quorum != before, || {
            format!(
                "{} says twice in a row that has_quorum is {has_quorum}",
                who(world, node)
            )
        })?;
        let config = &world.process(node).config;
        ensure(
            config.role == Role::Observer || has_quorum == (present >= config.quorum_size()),
            || {
                format!(
                    "{} says has_quorum is {has_quorum} with {present} voters; it needs {}",
                    who(world, node),
                    config.quorum_size()
                )
            },
        )
    }

    /// What the application has to take for true.
    fn quorum_before(&self, world: &World, node: NodeIndex) -> bool {
        let config = &world.process(node).config;
        let told = self.told.get(node.0).and_then(|told| told.quorum);
        told.unwrap_or_else(|| usize::from(config.role == Role::Voter) >= config.quorum_size())
    }

    fn on_leave_done(&mut self, world: &World, node: NodeIndex) -> Result<(), String> {
        let process = world.process(node);
        let now = world.clock(process.host);
        let told = slot(&mut self.told, node.0);
        told.left = true;
        let leaving = told
            .leaving
            .ok_or_else(|| format!("{} says that it has left; nobody told it to", who(world, node)))?;
        let took = now.saturating_since(leaving);
        let truth = self.truth.borrow();
        let since = world.now() - took;
        let alone = truth.node(node).listed == 0;
        ensure(!told.undisturbed || alone, || {
            format!(
                "{} says that it has left, before anybody could hear its goodbye",
                who(world, node)
            )
        })?;
        let well = truth.well_since(node, since);
        let config = &process.config;
        // A way there and back takes less than that where nothing is late.
        // What a seat waits for its replacement comes before the goodbye.
        let longest = told.longest_leave(config);
        let waited = longest - config.leave_timeout;
        let prompt = took < waited + config.probe_timeout.max(config.leave_timeout / 2);
        // Sessions that were opened from both sides at once take a moment to become one.
        let known = truth.node(node).interval * 2;
        let heard = || {
            truth.node(node).lists.iter().all(|(&other, listed)| {
                if listed.present {
                    listed.since + known < since && truth.heard_goodbye(world, node, other, since)
                } else {
                    // Who went meanwhile may be the one whose answer it waited for.
                    listed.until < since
                }
            })
        };
        ensure(prompt || !well || !heard(), || {
            format!(
                "{} took {:.3} s to leave, though all members had its goodbye at once: it takes no notice of what they answer",
                who(world, node),
                took.as_secs_f64()
            )
        })?;
        ensure(!well || took <= longest + SLACK, || {
            format!(
                "{} took {:.3} s to leave; its settings allow {:.3} s",
                who(world, node),
                took.as_secs_f64(),
                longest.as_secs_f64()
            )
        })
    }

    fn on_quarantined(&mut self, world: &World, node: NodeIndex, id: NodeId) -> Result<(), String> {
        slot(&mut self.told, node.0).quarantined.insert(id);
        let subject = world
            .find(id)
            .ok_or_else(|| format!("{} quarantines {}", who(world, node), whom(world, id)))?;
        let (here, there) = (world.process(node), world.process(subject));
        let observer = here.config.role == Role::Observer || there.config.role == Role::Observer;
        ensure(observer || !same_settings(&here.config, &there.config), || {
            format!(
                "{} quarantines {}, whose settings are the same",
                who(world, node),
                who(world, subject)
            )
        })
    }

    /// A node that has heard nobody for so long has to forget everybody when its timers run.
    fn on_woke(&mut self, world: &World, node: NodeIndex) {
        let local = world.clock(world.process(node).host);
        let told = slot(&mut self.told, node.0);
        if local.saturating_since(told.heard) <= isolation(world.process(node)) + Duration::from_secs(60) {
            return;
        }
        told.heard = local;
        if told.leaving.is_some() {
            return;
        }
        let truth = self.truth.borrow();
        let lists = truth.node(node).lists.iter();
        told.forgets = lists
            .filter(|(_, l)| l.present)
            .map(|(&subject, _)| subject)
            .collect();
    }

    fn on_settled(&mut self, world: &World, node: NodeIndex) -> Result<(), String> {
        let told = slot(&mut self.told, node.0);
        if !told.forgets.is_empty() || told.counted {
            self.on_rest(world, node)?;
        }
        let now = world.now();
        if self.hunt.is_due(now) {
            self.hunt_ghosts(world)?;
        }
        if self.look.is_due(now) {
            self.look_at_one(world)?;
        }
        Ok(())
    }

    fn on_rest(&mut self, world: &World, node: NodeIndex) -> Result<(), String> {
        let before = self.quorum_before(world, node);
        let told = &mut self.told[node.0];
        if let Some(&subject) = told.forgets.first() {
            return Err(format!(
                "{} has heard nobody for far too long, and still takes {} for a member",
                who(world, node),
                who(world, subject)
            ));
        }
        told.counted = false;
        let process = world.process(node);
        let (Some(there), false) = (process.node(), told.left) else {
            return Ok(());
        };
        let truth = self.truth.borrow();
        let it = truth.node(node);
        let present = it.voters_listed + usize::from(it.voter);
        ensure(before == (present >= there.quorum_size()), || {
            format!(
                "{} lists {present} voters with itself and needs {}, and said last that has_quorum is {before}",
                who(world, node),
                there.quorum_size()
            )
        })
    }
}

/// Says that an incarnation fell.
fn fallen(world: &World, node: NodeIndex, subject: NodeIndex, before: u32, after: u32) -> String {
    format!(
        "for {} the incarnation of {} fell from {before} to {after}",
        who(world, node),
        who(world, subject)
    )
}

/// What is said of a member must have been true of it at some time.
fn plausible(
    world: &World,
    truth: &Truth,
    node: NodeIndex,
    subject: NodeIndex,
    member: &Member,
) -> Result<(), String> {
    let config = &world.process(subject).config;
    ensure(member.role == config.role, || {
        format!(
            "{} takes {} for a {:?}, which it is not",
            who(world, node),
            who(world, subject),
            member.role
        )
    })?;
    let known = truth.owners(member.addr).contains(&subject) || config.advertise == Some(member.addr);
    ensure(known, || {
        format!(
            "{} lists {} at {}, where it never was",
            who(world, node),
            who(world, subject),
            member.addr
        )
    })
}

/// Returns whether the settings that must agree do.
fn same_settings(a: &Config, b: &Config) -> bool {
    let settings = |config: &Config| {
        (
            config.cluster_size,
            config.max_ttl.as_millis(),
            config.drift_permille,
            config.surge,
            config.allow_observers,
        )
    };
    settings(a) == settings(b)
}

/// Returns whether two processes are meant to find each other.
fn compatible(a: &Config, b: &Config) -> bool {
    let observer = a.role == Role::Observer || b.role == Role::Observer;
    a.cluster_name == b.cluster_name && (observer || same_settings(a, b))
}

/// Returns whether a process may list another: never across clusters or keys; across settings only where observers are,
/// which adopt those of the first voter they meet.
fn may_meet(truth: &Truth, here: bool, a: &Config, there: bool, b: &Config) -> bool {
    if a.cluster_name != b.cluster_name {
        return false;
    }
    let same = same_settings(a, b);
    // A stranger with the same settings and the same name has other keys.
    if same { here == there } else { truth.observers }
}
