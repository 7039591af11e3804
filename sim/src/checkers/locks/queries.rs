//! What is asked of the table without wanting a lock: who holds and waits, and that a lock is taken from its holder.

use super::beliefs::Judge;
use super::{Client, Locks, SLACK, WELL, is_barred};
use crate::checkers::{ensure, who};
use crate::coverage::Situation;
use crate::world::{NodeIndex, World};
use quorate_core::{Instant, LockError, LockId, LockPage, LockRow};

/// A question that has no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    /// When it was asked.
    at: Instant,
    /// When it has to be answered, on the clock of who asked.
    deadline: Instant,
    /// Of a lock that is taken: whether it is to be free at once. `None` of a listing.
    revokes: Option<bool>,
}

impl Locks {
    pub(super) fn on_query(
        &mut self,
        world: &World,
        node: NodeIndex,
        id: LockId,
        revokes: Option<bool>,
    ) -> Result<(), String> {
        let process = world.process(node);
        let query = Query {
            at: world.now(),
            deadline: world.clock(process.host) + process.config.message_timeout,
            revokes,
        };
        self.busy = world.now();
        let client = self.clients.entry(node).or_default();
        let known = client.open.contains_key(&id) || client.held.contains_key(&id);
        let again = client.queries.insert(id, query).is_some();
        ensure(!known && !again, || {
            format!("{} has {id:?} twice", who(world, node))
        })
    }

    pub(super) fn asks(&self, node: NodeIndex, id: LockId) -> bool {
        let client = self.clients.get(&node);
        client.is_some_and(|client| client.queries.contains_key(&id))
    }

    /// Takes a question that has its answer now.
    fn answered(&mut self, world: &World, node: NodeIndex, id: LockId) -> Result<Query, String> {
        let client = self.clients.get_mut(&node);
        client
            .and_then(|client| client.queries.remove(&id))
            .ok_or_else(|| format!("{} is answered {id:?}, which it did not ask", who(world, node)))
    }

    pub(super) fn query_failed(
        &mut self,
        world: &World,
        node: NodeIndex,
        id: LockId,
        error: LockError,
    ) -> Result<(), String> {
        let query = self.answered(world, node, id)?;
        let process = world.process(node);
        let local = world.clock(process.host);
        let fits = match error {
            LockError::Leaving => process.leaving.is_some(),
            LockError::Timeout => local >= query.deadline,
            LockError::Observer => is_barred(process),
            LockError::Cancelled => {
                let client = self.clients.get_mut(&node);
                return ensure(client.is_some_and(|client| client.ending.remove(&id)), || {
                    format!(
                        "{} has not given up {query:?}, which is cancelled",
                        who(world, node)
                    )
                });
            }
            _ => false,
        };
        self.tally.count(Situation::LockQueryTimedOut);
        ensure(fits, || {
            format!(
                "{} asked {query:?}, and is told at {local:?} on its clock: {error}",
                who(world, node)
            )
        })
    }

    pub(super) fn queries_overdue(
        &self,
        world: &World,
        node: NodeIndex,
        client: &Client,
    ) -> Result<(), String> {
        let local = world.clock(world.process(node).host);
        let mut queries = client.queries.values();
        let late = queries.find(|query| query.deadline + SLACK < local);
        let well = late.is_some() && self.truth.borrow().well_since(node, world.now() - WELL);
        ensure(!well, || {
            format!(
                "{} asked {late:?}, and has no answer in its time",
                who(world, node)
            )
        })
    }

    pub(super) fn taken(
        &mut self,
        world: &World,
        node: NodeIndex,
        id: LockId,
        taken: bool,
    ) -> Result<(), String> {
        let query = self.answered(world, node, id)?;
        let Some(at_once) = query.revokes else {
            return Err(format!(
                "{} asked for a listing, not for a lock",
                who(world, node)
            ));
        };
        self.tally.count(match (taken, at_once) {
            (false, _) => Situation::LockNotTaken,
            (true, false) => Situation::LockTakenPolitely,
            (true, true) => Situation::LockTakenAtOnce,
        });
        Ok(())
    }

    /// **Linearizable** Whoever is listed as a holder had been granted the lock, and its lease had not ended before anybody
    /// asked. Rows are in order, and none is there twice.
    pub(super) fn listed(
        &mut self,
        world: &World,
        node: NodeIndex,
        id: LockId,
        page: &LockPage,
    ) -> Result<(), String> {
        self.tally.count(Situation::LocksListed);
        let query = self.answered(world, node, id)?;
        ensure(query.revokes.is_none(), || {
            format!("{} is told of locks, and did not ask", who(world, node))
        })?;
        let consensus = self.consensus.borrow();
        let judge = Judge::new(world, &consensus);
        for row in &page.rows {
            let Some(token) = row.token else { continue };
            let Some((_, lease)) = judge.grant(row.owner.node, &row.key, token) else {
                return Err(format!(
                    "{} is told of {row:?}, which was not granted",
                    who(world, node)
                ));
            };
            let stale = lease
                .end
                .filter(|end| end.decided < query.at && !judge.is_split());
            ensure(stale.is_none() && lease.owner == row.owner, || {
                format!(
                    "{} asked {query:?} and is told of {row:?}, which had ended: {stale:?}",
                    who(world, node)
                )
            })?;
        }
        // Holders come before who waits, and in the order of their grants.
        let place = |row: &LockRow| (row.key.clone(), row.token.is_none(), row.token);
        let sorted = page.rows.windows(2).all(|rows| {
            let (a, b) = (place(&rows[0]), place(&rows[1]));
            a < b || (a == b && rows[0].token.is_none())
        });
        ensure(sorted, || {
            format!(
                "{} is told of locks out of order: {:?}",
                who(world, node),
                page.rows
            )
        })
    }
}
