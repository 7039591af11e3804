//! What applications believe: which tokens they were told of, and until when; and a resource that goes by tokens.

use super::between;
use super::clocks::Clocks;
use super::ledger::Ledger;
use crate::checkers::{ensure, who};
use crate::world::{NodeIndex, World};
use quorate_core::consensus::Index;
use quorate_core::{DrawId, Duration, Group, Instant, Life};
use std::collections::{BTreeMap, BTreeSet};

/// Longer than this after its deadline no request for a token is open.
const SLACK: Duration = Duration::from_secs(1);

type Groups = BTreeMap<Group, Ledger>;

/// What an application was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    pub(super) id: DrawId,
    pub(super) token: u64,
    pub(super) group: Group,
    pub(super) until: Instant,
}

#[derive(Debug)]
struct Belief {
    node: NodeIndex,
    life: Life,
    drawn: Drawn,
    asked: Instant,
}

/// A resource that remembers the highest token that came with a write, and refuses writes with lower ones.
#[derive(Debug, Default)]
struct Resource {
    highest: u64,
    /// The newest grant by which each group has written.
    written: BTreeMap<Group, Index>,
}

/// Follows every request for a token.
#[derive(Debug, Default)]
pub(super) struct Beliefs {
    /// The open requests, and when each was made.
    open: BTreeMap<(NodeIndex, DrawId), Instant>,
    told: BTreeSet<(Group, u64)>,
    held: Vec<Belief>,
    /// The last token of each process: it may write with it at any time.
    last: BTreeMap<NodeIndex, Drawn>,
    resource: Resource,
}

impl Beliefs {
    pub(super) fn asked(&mut self, node: NodeIndex, id: DrawId, now: Instant) {
        self.open.insert((node, id), now);
    }

    pub(super) fn failed(&mut self, world: &World, node: NodeIndex, id: DrawId) -> Result<(), String> {
        let asked = self.open.remove(&(node, id));
        ensure(asked.is_some(), || {
            format!(
                "{} is told of the outcome of {id:?}, which it did not ask for or knows already",
                who(world, node)
            )
        })
    }

    /// A process is told of its token.
    pub(super) fn drawn(
        &mut self,
        world: &World,
        node: NodeIndex,
        drawn: Drawn,
        groups: &Groups,
        clocks: &Clocks,
        broken: bool,
    ) -> Result<(), String> {
        let Some(&asked) = self.open.get(&(node, drawn.id)) else {
            return self.failed(world, node, drawn.id);
        };
        self.open.remove(&(node, drawn.id));
        let process = world.process(node);
        // An observer adopts the cluster's settings.
        let longest = groups
            .get(&drawn.group)
            .map_or(Duration::ZERO, |ledger| ledger.rules.max_ttl);
        let local = world.clock(process.host);
        let (token, group) = (drawn.token, drawn.group);
        let fits = drawn.until > local && drawn.until.saturating_since(local) <= longest;
        ensure(fits, || {
            format!(
                "{} may believe in token {token} until {:?}, and its clock shows {local:?}; the longest lease is {longest:?}",
                who(world, node),
                drawn.until
            )
        })?;
        let granted = groups.get(&group).and_then(|ledger| ledger.grant(token));
        let Some(grant) = granted.filter(|grant| grant.to.node == process.id) else {
            return Err(format!(
                "{} is told that it has token {token} of the group {group}, which was granted {}",
                who(world, node),
                granted.map_or("nobody".to_owned(), |grant| format!("to {}", grant.to))
            ));
        };
        ensure(self.told.insert((group, token)), || {
            format!("token {token} of the group {group} is told of twice")
        })?;
        // Its application may have told it to leave since.
        if process.leaving.is_some() {
            return Ok(());
        }
        let ledger = groups.get(&group);
        let younger = groups.values().find(|other| {
            ledger.is_some_and(|ledger| other.created > ledger.created)
                && other.tokens.is_some()
                && between::is_of_members(world, other.group)
                && other.opened_in_time
        });
        let bound = clocks.fine_since(process.host, asked) && process.member && !broken;
        if let Some(younger) = younger.filter(|_| bound) {
            return Err(format!(
                "{} is told of token {token} of the group {group}, and the younger group {} has granted already",
                who(world, node),
                younger.group
            ));
        }
        let life = grant.to;
        self.held.push(Belief {
            node,
            life,
            drawn,
            asked,
        });
        self.last.insert(node, drawn);
        self.write(world, node, drawn, groups, broken)
    }

    /// A process believes in none of its tokens any more.
    pub(super) fn ended(&mut self, node: NodeIndex) {
        self.held.retain(|belief| belief.node != node);
        // A process that is no more has no requests either; one that goes on is asked for them in the end.
    }

    /// A process has crashed or left: its requests have no outcome.
    pub(super) fn gone(&mut self, node: NodeIndex) {
        self.ended(node);
        self.last.remove(&node);
        self.open.retain(|&(of, _), _| of != node);
    }

    /// A process goes on after a pause. Its application is about to write, and looks neither at events nor at the clock.
    pub(super) fn resumed(
        &mut self,
        world: &World,
        node: NodeIndex,
        groups: &Groups,
        broken: bool,
    ) -> Result<(), String> {
        match self.last.get(&node).copied() {
            Some(drawn) => self.write(world, node, drawn, groups, broken),
            None => Ok(()),
        }
    }

    /// A holder writes to the resource, which must not take a write of an earlier grant after one of a later grant.
    fn write(
        &mut self,
        world: &World,
        node: NodeIndex,
        drawn: Drawn,
        groups: &Groups,
        broken: bool,
    ) -> Result<(), String> {
        let resource = &mut self.resource;
        let Some(ledger) = groups.get(&drawn.group) else {
            return Ok(());
        };
        let Some(grant) = ledger.grant(drawn.token) else {
            return Ok(());
        };
        if drawn.token < resource.highest || !between::is_of_members(world, drawn.group) {
            return Ok(());
        }
        resource.highest = drawn.token;
        let newest = resource.written.get(&drawn.group).copied().unwrap_or(0);
        let later = resource.written.keys().find(|&&other| {
            groups.get(&other).is_some_and(|other| {
                other.created > ledger.created && between::tokens_must_rise(ledger, other)
            })
        });
        ensure(grant.index >= newest && (broken || later.is_none()), || {
            format!(
                "a resource takes a write of {} with token {} of the group {}, after one with a later grant",
                who(world, node),
                drawn.token,
                drawn.group
            )
        })?;
        resource.written.insert(drawn.group, grant.index);
        Ok(())
    }

    /// A group grants: nobody believes in a token of another one.
    pub(super) fn check_against(
        &mut self,
        world: &World,
        groups: &Groups,
        clocks: &Clocks,
        grants: Group,
    ) -> Result<(), String> {
        self.held.retain(|belief| {
            let process = world.process(belief.node);
            let same = process
                .node()
                .is_some_and(|node| node.replica().life() == belief.life);
            same && world.clock(process.host) < belief.drawn.until
        });
        if groups.get(&grants).is_none_or(|ledger| !ledger.opened_in_time) {
            return Ok(());
        }
        let other = self.held.iter().find(|belief| {
            let process = world.process(belief.node);
            belief.drawn.group != grants
                && process.member
                && between::is_of_members(world, belief.drawn.group)
                && clocks.fine_since(process.host, belief.asked)
        });
        match other {
            None => Ok(()),
            Some(belief) => Err(format!(
                "the group {grants} grants a token, and {} still believes in token {} of the group {}",
                who(world, belief.node),
                belief.drawn.token,
                belief.drawn.group
            )),
        }
    }

    /// A process has left: every request has its outcome.
    pub(super) fn has_left(&self, world: &World, node: NodeIndex) -> Result<(), String> {
        let open = self.open.keys().find(|&&(of, _)| of == node);
        ensure(open.is_none(), || {
            format!("{} has left, and {open:?} has no outcome", who(world, node))
        })
    }

    pub(super) fn finish(&self, world: &World) -> Result<(), String> {
        let late = self.open.iter().find(|&(&(node, _), &asked)| {
            let process = world.process(node);
            let over = world.now().saturating_since(asked) > process.config.message_timeout + SLACK;
            over && process.node().is_some() && process.ended.is_none()
        });
        match late {
            None => Ok(()),
            Some((&(node, id), _)) => Err(format!("{id:?} of {} has no outcome", who(world, node))),
        }
    }
}
