//! Locks: what each application is told of them, and what it may believe.
//!
//! A belief lasts, in true time, from when its application is told of the grant until the first of these: it is told of
//! the end, its process ends, or its host's clock reaches the end of the newest lease that it was told of, whether or not
//! anybody looks. The rules between beliefs are in [`beliefs`], those for when anything has to happen in [`waits`], and
//! those for the outcome of each request are here.

mod beliefs;
mod moved;
mod queries;
mod resource;
#[cfg(test)]
mod tests;
mod waits;

use super::truth::Shared;
use super::{Every, consensus, ensure, who};
use crate::coverage::{Situation, Tally};
use crate::observe::{Command, Observer, Seen};
use crate::world::{NodeIndex, Process, World};
use beliefs::{Belief, Judge};
use queries::Query;
use quorate_core::consensus::{Replica, Term};
use quorate_core::locks::Key;
use quorate_core::{
    DEFAULT_LOCK_TTL, Duration, Event, Group, Instant, Life, LockError, LockEvent, LockId, LockRequest,
    LostReason, Node, Role,
};
use resource::Resources;
use std::collections::{BTreeMap, BTreeSet};

/// How much later than it was due something may be told, on the clock of a host that nothing keeps from working.
const SLACK: Duration = Duration::from_millis(200);
/// For how long nothing may have kept it from that.
const WELL: Duration = Duration::from_secs(2);

/// A request that has no outcome.
#[derive(Debug)]
struct Asked {
    request: LockRequest,
    at: Instant,
    locally: Instant,
}

/// What one process asks for and has.
#[derive(Debug, Default)]
struct Client {
    open: BTreeMap<LockId, Asked>,
    held: BTreeMap<LockId, Belief>,
    /// What it has given back, and was not told of yet.
    ending: BTreeSet<LockId>,
    queries: BTreeMap<LockId, Query>,
    watches: BTreeSet<LockId>,
}

/// Follows every request for a lock.
#[derive(Debug)]
pub(super) struct Locks {
    truth: Shared,
    consensus: consensus::Shared,
    tally: Tally,
    clients: BTreeMap<NodeIndex, Client>,
    told: BTreeSet<(Group, u64)>,
    /// The highest token that anybody was told of for each key, and the highest of who had the key alone.
    begun: BTreeMap<Key, (Belief, Option<Belief>)>,
    resources: Resources,
    /// The highest token that was granted in each group when its leader was last looked at.
    looked: BTreeMap<Group, u64>,
    /// Whose datagram was read last, and by whom.
    heard: Option<(NodeIndex, NodeIndex)>,
    /// Whose turn it is to have a lock that is free, and since when.
    turns: BTreeMap<(Group, Key), (Life, u64, Instant)>,
    /// Without a quorum: what holders have yet to be told.
    unknown: moved::Unknown,
    /// When anything was asked or told of last.
    busy: Instant,
    look: Every,
}

impl Observer for Locks {
    fn name(&self) -> &'static str {
        "locks"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Settled { node } => self.on_settled(world, node),
            Seen::Arrived { node, datagram, .. } => {
                self.heard = datagram.sender.map(|sender| (node, sender));
                Ok(())
            }
            Seen::Woke { node, .. } => {
                self.heard = None;
                self.write(world, node)
            }
            Seen::Resumed { node } => {
                let consensus = self.consensus.borrow();
                let judge = Judge::new(world, &consensus);
                self.resources.write_late(&judge, node, &self.tally)
            }
            Seen::Event { node, event } => match event {
                Event::Lock(event) => {
                    self.busy = world.now();
                    self.on_event(world, node, event)
                }
                Event::LeaveDone => self.has_left(world, node),
                _ => Ok(()),
            },
            Seen::Command { node, command } => self.on_command(world, node, command),
            Seen::Stopped { node } => {
                self.clients.remove(&node);
                self.resources.gone(node);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, world: &World) -> Result<(), String> {
        self.overdue(world)?;
        self.leftovers(world)
    }
}

impl Locks {
    pub(super) const fn new(truth: Shared, consensus: consensus::Shared, tally: Tally) -> Self {
        Self {
            truth,
            consensus,
            tally,
            clients: BTreeMap::new(),
            told: BTreeSet::new(),
            begun: BTreeMap::new(),
            resources: Resources::new(),
            looked: BTreeMap::new(),
            heard: None,
            turns: BTreeMap::new(),
            unknown: moved::Unknown::new(),
            busy: Instant::ZERO,
            look: Every::new(Duration::from_millis(500)),
        }
    }

    fn on_command(&mut self, world: &World, node: NodeIndex, command: &Command) -> Result<(), String> {
        match command {
            Command::Lock { request, result } => {
                self.busy = world.now();
                self.on_asked(world, node, request, *result)
            }
            Command::Unlock { id, result: Ok(()) } => {
                let client = self.clients.entry(node).or_default();
                if client.watches.remove(id) {
                    // Nothing more is told of it.
                    return Ok(());
                }
                let wanted = client.open.contains_key(id) || client.queries.contains_key(id);
                let known = wanted || client.held.contains_key(id);
                client.ending.insert(*id);
                ensure(known, || {
                    format!("{} gives back {id:?}, which it does not have", who(world, node))
                })
            }
            Command::SetLockTtl {
                id,
                ttl,
                result: Ok(()),
            } => {
                let process = world.process(node);
                let client = self.clients.entry(node).or_default();
                if let Some(belief) = client.held.get_mut(id) {
                    self.tally.count(match *ttl > belief.ttl {
                        true => Situation::LockTtlRaised,
                        false => Situation::LockTtlLowered,
                    });
                    belief.ttl = belief.ttl.max(*ttl);
                    // A shorter lease counts at once.
                    let most = world.clock(process.host) + counted(*ttl, process.config.drift_permille);
                    belief.until = belief.until.min(most);
                    // Until that is passed, the lowest cap counts: nothing that was not told yet goes beyond it.
                    let caps = belief.capped.filter(|&cap| cap >= belief.until);
                    belief.capped = Some(caps.map_or(most, |cap| cap.min(most)));
                }
                Ok(())
            }
            Command::ListLocks { result: Ok(id) } => self.on_query(world, node, *id, None),
            Command::WatchLock { result: Ok(id) } => {
                let fresh = self.clients.entry(node).or_default().watches.insert(*id);
                ensure(fresh, || format!("{} has {id:?} twice", who(world, node)))
            }
            &Command::RevokeLock {
                at_once,
                result: Ok(id),
                ..
            } => self.on_query(world, node, id, Some(at_once)),
            _ => Ok(()),
        }
    }

    fn on_asked(
        &mut self,
        world: &World,
        node: NodeIndex,
        request: &LockRequest,
        result: Result<LockId, LockError>,
    ) -> Result<(), String> {
        let process = world.process(node);
        let config = &process.config;
        let Ok(id) = result else { return Ok(()) };
        let ttl = request.ttl.or(config.lock_ttl).unwrap_or(config.max_ttl);
        let allowed = Duration::from_secs(1)..=config.max_ttl;
        let fits = config.role == Role::Observer || allowed.contains(&ttl);
        ensure(fits && (1..=request.capacity).contains(&request.units), || {
            format!("{} may ask for {request:?}", who(world, node))
        })?;
        let asked = Asked {
            request: request.clone(),
            at: world.now(),
            locally: world.clock(process.host),
        };
        let before = self.clients.entry(node).or_default().open.insert(id, asked);
        ensure(before.is_none(), || {
            format!("{} has {id:?} twice", who(world, node))
        })
    }

    fn on_event(&mut self, world: &World, node: NodeIndex, event: &LockEvent) -> Result<(), String> {
        match *event {
            LockEvent::Granted {
                id,
                ref key,
                token,
                until,
            } => self.granted(world, node, id, key, token, until),
            LockEvent::Renewed { id, until } => self.renewed(world, node, id, until),
            LockEvent::Changed { id } => {
                let client = self.clients.get(&node);
                let known = client.is_some_and(|client| client.watches.contains(&id));
                ensure(known, || {
                    format!("{} is told of {id:?}, which it does not watch", who(world, node))
                })
            }
            LockEvent::Failed { id, error } if self.asks(node, id) => {
                self.query_failed(world, node, id, error)
            }
            LockEvent::Failed { id, error } => self.failed(world, node, id, error),
            LockEvent::Listed { id, ref page } => self.listed(world, node, id, page),
            LockEvent::Taken { id, taken } => self.taken(world, node, id, taken),
            LockEvent::AtRisk { id, until } => {
                self.tally.count(Situation::LockAtRisk);
                let same = self.belief(world, node, id)?.until >= until;
                ensure(same, || {
                    format!(
                        "{} is told that {id:?} is lost later than it is",
                        who(world, node)
                    )
                })
            }
            LockEvent::Lost { id, token, reason } => {
                self.tally.count(match reason {
                    LostReason::Expired => Situation::LockLost,
                    LostReason::Revoked => Situation::LockRevoked,
                    LostReason::Leaving => Situation::LockLeft,
                    _ => Situation::LockAbandoned,
                });
                let belief = self.ended(world, node, id)?;
                // It may have been over when it was given back.
                let local = world.clock(world.process(node).host);
                let ending = self.clients.get_mut(&node).map(|client| &mut client.ending);
                if reason == LostReason::Expired && ending.is_some_and(|ending| ending.remove(&id)) {
                    ensure(belief.until <= local, || {
                        format!(
                            "{} gave back {id:?} and is told that it was lost, though it had it until {:?}",
                            who(world, node),
                            belief.until
                        )
                    })?;
                }
                ensure(belief.token == token, || {
                    format!(
                        "{} loses {id:?} with token {token}, and has it with token {}",
                        who(world, node),
                        belief.token
                    )
                })
            }
            LockEvent::Released { id } => {
                self.tally.count(Situation::LockReleased);
                self.ended(world, node, id)?;
                self.was_given_back(world, node, id)
            }
            _ => Ok(()),
        }
    }

    fn belief(&mut self, world: &World, node: NodeIndex, id: LockId) -> Result<&mut Belief, String> {
        let held = self
            .clients
            .get_mut(&node)
            .and_then(|client| client.held.get_mut(&id));
        held.ok_or_else(|| format!("{} is told of {id:?}, which it does not hold", who(world, node)))
    }

    fn ended(&mut self, world: &World, node: NodeIndex, id: LockId) -> Result<Belief, String> {
        self.belief(world, node, id)?;
        let client = self.clients.entry(node).or_default();
        client
            .held
            .remove(&id)
            .ok_or_else(|| format!("{} is told of {id:?}", who(world, node)))
    }

    fn was_given_back(&mut self, world: &World, node: NodeIndex, id: LockId) -> Result<(), String> {
        let client = self.clients.entry(node).or_default();
        ensure(client.ending.remove(&id), || {
            format!(
                "{} is told that it gave back {id:?}, and did not",
                who(world, node)
            )
        })
    }

    /// Takes a request that has its outcome now.
    fn outcome(&mut self, world: &World, node: NodeIndex, id: LockId) -> Result<Asked, String> {
        let client = self.clients.get_mut(&node);
        client.and_then(|client| client.open.remove(&id)).ok_or_else(|| {
            format!(
                "{} is told of the outcome of {id:?}, which it did not ask for or knows already",
                who(world, node)
            )
        })
    }

    fn failed(&mut self, world: &World, node: NodeIndex, id: LockId, error: LockError) -> Result<(), String> {
        let asked = self.outcome(world, node, id)?;
        let (process, request) = (world.process(node), &asked.request);
        let waits = request.wait.is_some();
        let fits = match error {
            LockError::Taken { .. } => {
                self.tally.count(Situation::LockTaken);
                !waits
            }
            LockError::NotOpen => {
                self.tally.count(Situation::LockNotOpen);
                !waits
            }
            LockError::TooManyWaiters(_) => {
                self.tally.count(Situation::LockTooManyWaiters);
                waits
            }
            LockError::OtherCapacity(capacity) => {
                self.tally.count(Situation::LockOtherCapacity);
                capacity != request.capacity
            }
            LockError::Timeout => {
                self.tally.count(Situation::LockTimedOut);
                return self.timed_out(world, node, id, &asked);
            }
            LockError::Cancelled => {
                self.tally.count(Situation::LockCancelled);
                return self.was_given_back(world, node, id);
            }
            LockError::Leaving => process.leaving.is_some(),
            // Before an observer has adopted the cluster's settings it cannot know what they allow.
            LockError::Ttl { ttl_ms, max_ms } => {
                let asked = request.ttl.is_none_or(|ttl| ttl.as_millis() == ttl_ms);
                process.config.role == Role::Observer && asked && ttl_ms > max_ms.into()
            }
            LockError::TableFull | LockError::TooManyRequests => true,
            LockError::Observer => is_barred(process),
            _ => false,
        };
        ensure(fits, || {
            format!("{} asked for {request:?}, which fails: {error}", who(world, node))
        })
    }

    fn granted(
        &mut self,
        world: &World,
        node: NodeIndex,
        id: LockId,
        key: &Key,
        token: u64,
        until: Instant,
    ) -> Result<(), String> {
        let asked = self.outcome(world, node, id)?;
        let (process, request) = (world.process(node), &asked.request);
        let local = world.clock(process.host);
        let ttl = request
            .ttl
            .or(process.config.lock_ttl)
            .unwrap_or(DEFAULT_LOCK_TTL);
        let fits = until > local && until.saturating_since(local) <= ttl;
        ensure(fits && **key == *request.key, || {
            format!(
                "{} may believe in {key} by token {token} until {until:?}, and its clock shows {local:?}; it asked for {request:?}",
                who(world, node)
            )
        })?;
        let consensus = self.consensus.borrow();
        let judge = Judge::new(world, &consensus);
        let Some((ledger, granted)) = judge.grant(process.id, key, token) else {
            return Err(format!(
                "{} is told that it has {key} by token {token}, which it was not granted",
                who(world, node)
            ));
        };
        ensure(
            (granted.units, granted.capacity) == (request.units, request.capacity),
            || {
                format!(
                    "{} is granted {} of {} of {key}, and asked for {request:?}",
                    who(world, node),
                    granted.units,
                    granted.capacity
                )
            },
        )?;
        let group = ledger.group;
        ensure(self.told.insert((group, token)), || {
            format!("token {token} of the group {group} is told of twice")
        })?;
        self.tally.count(match granted.queued {
            false => Situation::LockGranted,
            true => Situation::LockGrantedLater,
        });
        // The lease counts from when that was sent which is answered here: after the grant was decided.
        let whole = local + counted(ttl, process.config.drift_permille);
        let age = whole.saturating_since(until);
        if world.now() - age > granted.since {
            self.tally.count(Situation::LockFoundAgain);
        }
        let belief = Belief {
            node,
            key: key.clone(),
            units: request.units,
            capacity: request.capacity,
            token,
            group,
            life: granted.owner,
            asked: asked.at,
            ttl,
            until,
            capped: None,
            term: ledger.newest_term(),
        };
        let others = self.clients.values().flat_map(|client| client.held.values());
        judge.check_alone(&belief, others)?;
        judge.check_order(&belief, self.begun.get(key))?;
        self.resources.write(&judge, &belief, &self.tally)?;
        let alone = belief.is_alone().then(|| belief.clone());
        match self.begun.get_mut(key) {
            Some((any, exclusive)) => {
                if any.token < token {
                    *any = belief.clone();
                }
                if exclusive.as_ref().is_none_or(|exclusive| exclusive.token < token) && alone.is_some() {
                    *exclusive = alone;
                }
            }
            None => drop(self.begun.insert(key.clone(), (belief.clone(), alone))),
        }
        self.clients.entry(node).or_default().held.insert(id, belief);
        Ok(())
    }

    fn renewed(&mut self, world: &World, node: NodeIndex, id: LockId, until: Instant) -> Result<(), String> {
        let local = world.clock(world.process(node).host);
        let consensus = self.consensus.clone();
        let consensus = consensus.borrow();
        let belief = self.belief(world, node, id)?;
        let same = until == belief.until && belief.capped == Some(until);
        let later = until > belief.until || same;
        let fits = belief.until > local && later && until.saturating_since(local) <= belief.ttl;
        ensure(fits, || {
            format!(
                "{} may believe in {} until {until:?} in place of {:?}, and its clock shows {local:?}; the longest ttl it wanted is {:?}",
                who(world, node),
                belief.key,
                belief.until,
                belief.ttl
            )
        })?;
        belief.until = until;
        let judge = Judge::new(world, &consensus);
        let term: Term = judge.newest_term(belief.group);
        let before = std::mem::replace(&mut belief.term, term);
        let belief = belief.clone();
        if before < term {
            self.tally.count(Situation::LockRenewedByOther);
        }
        let others = self.clients.values().flat_map(|client| client.held.values());
        let others = others.filter(|other| other.token != belief.token || other.group != belief.group);
        judge.check_alone(&belief, others)?;
        self.resources.write(&judge, &belief, &self.tally)
    }

    fn on_settled(&mut self, world: &World, node: NodeIndex) -> Result<(), String> {
        if let Some(client) = self.clients.get(&node) {
            ensure(client.ending.is_empty(), || {
                format!(
                    "{} gave back {:?}, and is not told so",
                    who(world, node),
                    client.ending.first()
                )
            })?;
            let local = world.clock(world.process(node).host);
            let over = client.held.values().find(|belief| belief.until + SLACK < local);
            if let Some(belief) = over {
                let well = self.truth.borrow().well_since(node, world.now() - WELL);
                ensure(!well, || {
                    format!(
                        "{} is not told that its lease of {} is over since {:?}",
                        who(world, node),
                        belief.key,
                        belief.until
                    )
                })?;
            }
            let consensus = self.consensus.borrow();
            Judge::new(world, &consensus).check_life(node, client.held.values())?;
        }
        let look = self.look.is_due(world.now());
        if let Some(replica) = serving(world.process(node)) {
            let consensus = self.consensus.clone();
            let consensus = consensus.borrow();
            let judge = Judge::new(world, &consensus);
            let beliefs = self.clients.values().flat_map(|client| client.held.values());
            judge.check_served(node, replica, beliefs)?;
            self.look_at_grants(&judge, node, replica)?;
        }
        if look {
            self.overdue(world)?;
            self.check_told(world)?;
            let leaders = world
                .processes()
                // Who has left leads no more, whatever it thought last.
                .filter(|(_, process)| process.ended.is_none())
                .filter_map(|(index, process)| Some((index, serving(process)?)));
            leaders
                .into_iter()
                .try_for_each(|(index, replica)| self.check_turns(world, index, replica))?;
        }
        Ok(())
    }

    fn look_at_grants(
        &mut self,
        judge: &Judge<'_>,
        node: NodeIndex,
        replica: &Replica,
    ) -> Result<(), String> {
        let (Some(group), Some(machine)) = (replica.group(), replica.machine()) else {
            return Ok(());
        };
        let looked = self.looked.entry(group).or_default();
        if machine.counter == *looked {
            return Ok(());
        }
        let above = std::mem::replace(looked, machine.counter);
        let heard = self.heard.filter(|&(by, _)| by == node).map(|(_, whom)| whom);
        judge.check_first(node, replica, above, heard)
    }

    /// Who believes in a lock uses it: at some moments, and also when it has not looked for long.
    fn write(&mut self, world: &World, node: NodeIndex) -> Result<(), String> {
        let Some(client) = self.clients.get(&node) else {
            return Ok(());
        };
        let consensus = self.consensus.borrow();
        let judge = Judge::new(world, &consensus);
        let mut held = client.held.values();
        held.try_for_each(|belief| self.resources.write(&judge, belief, &self.tally))
    }
}

/// Returns the replica of a process that leads and answers.
fn serving(process: &Process) -> Option<&Replica> {
    let replica = process.node()?.replica();
    replica.leadership()?.leases().serves().then_some(replica)
}

/// For how long a client believes in a lease, on its clock, from when it asked for it.
fn counted(ttl: Duration, drift_permille: u16) -> Duration {
    Duration::from_nanos(ttl.as_millis() as u64 * 1000 * (1000 - u64::from(drift_permille)))
}

/// Whether the cluster, perhaps started anew since it was asked, takes nothing from a process.
fn is_barred(process: &Process) -> bool {
    let allowed = |node: &Node| node.replica().rules().allow_observers;
    process.config.role == Role::Observer && !process.node().is_some_and(allowed)
}
