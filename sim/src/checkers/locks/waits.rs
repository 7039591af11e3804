//! Nobody waits for ever: every request has its outcome in time, a free lock goes to whose turn it is, and in the end
//! nothing is left.

use super::{Asked, Locks, SLACK, WELL, serving};
use crate::checkers::{ensure, who};
use crate::world::{NodeIndex, World};
use quorate_core::consensus::Replica;
use quorate_core::{Duration, Instant, LockId};

/// How much longer than all leases and waits anything is left of them: releases are sent again so late.
const CLEARED: Duration = Duration::from_secs(10);

impl Asked {
    /// Until when it may be open, on its host's clock.
    fn deadline(&self, world: &World, node: NodeIndex) -> Instant {
        let config = &world.process(node).config;
        self.locally + self.request.wait.unwrap_or(config.message_timeout)
    }
}

impl Locks {
    /// Whoever gives up waiting has waited as long as it wanted, and not much longer.
    pub(super) fn timed_out(
        &self,
        world: &World,
        node: NodeIndex,
        id: LockId,
        asked: &Asked,
    ) -> Result<(), String> {
        let process = world.process(node);
        let (local, deadline) = (world.clock(process.host), asked.deadline(world, node));
        let late = local.saturating_since(deadline);
        let well = self.truth.borrow().well_since(node, world.now() - WELL);
        ensure(local >= deadline && (late <= SLACK || !well), || {
            format!(
                "{} gives up {id:?} at {local:?} on its clock: it was to wait until {deadline:?}",
                who(world, node)
            )
        })
    }

    /// **Nobody waits for ever** While all is well, a lock that is free does not stay so: whose turn it is gets it, or is
    /// dropped when it is silent.
    pub(super) fn check_turns(
        &mut self,
        world: &World,
        leader: NodeIndex,
        replica: &Replica,
    ) -> Result<(), String> {
        let (Some(group), Some(machine)) = (replica.group(), replica.machine()) else {
            return Ok(());
        };
        let now = world.now();
        let locks = machine.table.locks().filter(|_| machine.open);
        let free = locks.filter_map(|(key, lock)| {
            let next = lock
                .queue()
                .next()
                .filter(|next| next.wish.units <= lock.free())?;
            Some((key.clone(), next.owner, next.request))
        });
        let free: Vec<_> = free.collect();
        let before = std::mem::take(&mut self.turns);
        let (mut others, config) = (before, &world.process(leader).config);
        let calm = world.healed().is_some() && self.truth.borrow().unrest + config.waiter_ttl < now;
        let most = 2 * config.waiter_ttl;
        let mut late = None;
        for (key, owner, request) in free {
            let at = (group, key);
            let same = others
                .get(&at)
                .filter(|&&(of, number, _)| (of, number) == (owner, request));
            let since = same.map_or(now, |&(_, _, since)| since);
            // Bad times do not count.
            let since = if calm { since } else { now };
            if since + most < now {
                late.get_or_insert((at.1.clone(), owner, since));
            }
            others.insert(at.clone(), (owner, request, since));
            self.turns.insert(at, (owner, request, since));
        }
        others.retain(|(of, _), _| *of != group);
        self.turns.append(&mut others);
        ensure(late.is_none(), || {
            format!(
                "{} leads, nobody holds what {late:?} waits for first, and it does not get it",
                who(world, leader)
            )
        })
    }

    /// Every request that is open has time left.
    pub(super) fn overdue(&self, world: &World) -> Result<(), String> {
        for (&node, client) in &self.clients {
            let local = world.clock(world.process(node).host);
            let late = client
                .open
                .iter()
                .find(|(_, asked)| asked.deadline(world, node) + SLACK < local);
            if let Some((id, _)) = late {
                let well = self.truth.borrow().well_since(node, world.now() - WELL);
                ensure(!well, || {
                    format!("{id:?} of {} has no outcome in its time", who(world, node))
                })?;
            }
            self.queries_overdue(world, node, client)?;
        }
        Ok(())
    }

    /// Who has left has nothing open any more.
    pub(super) fn has_left(&self, world: &World, node: NodeIndex) -> Result<(), String> {
        let Some(client) = self.clients.get(&node) else {
            return Ok(());
        };
        let open = client.open.keys().chain(client.queries.keys());
        let left = open.chain(client.held.keys()).next();
        ensure(left.is_none(), || {
            format!("{} has left, and {left:?} has no outcome", who(world, node))
        })
    }

    /// Nothing is left of locks that nobody holds and nobody waits for.
    pub(super) fn leftovers(&self, world: &World) -> Result<(), String> {
        let used = self.clients.values();
        if used
            .into_iter()
            .any(|client| !client.open.is_empty() || !client.held.is_empty())
        {
            return Ok(());
        }
        let since = self.truth.borrow().unrest.max(self.busy);
        for (index, process) in world.processes().filter(|(_, process)| process.is_live()) {
            let Some((replica, machine)) = serving(process).and_then(|it| Some((it, it.machine()?))) else {
                continue;
            };
            let over = since + replica.rules().grace + process.config.waiter_ttl + CLEARED < world.now();
            let left = machine.table.locks().next();
            ensure(!over || left.is_none(), || {
                format!(
                    "{} keeps {left:?}, which nobody holds or waits for",
                    who(world, index)
                )
            })?;
        }
        Ok(())
    }
}
