//! Without a quorum: what a group that takes over from another one begins with.

use super::{Decided, Lease, Ledger, State, Stored};
use crate::checkers::ensure;
use quorate_core::consensus::{Command, Index, Machine};

impl Ledger {
    /// Begins with the state that the founder has from the group before, of which it knew everything up to `known`.
    ///
    /// # Errors
    /// **Succession** Somebody has a lock that the group before did not grant, or a lock that the founder knew of is missing.
    pub(in crate::checkers::consensus) fn inherit(
        &mut self,
        before: &Self,
        known: Index,
        state: &Machine,
    ) -> Result<(), String> {
        let named = |what: &str| format!("the group {} takes over from {} {what}", self.group, before.group);
        let missing = before
            .leases
            .iter()
            .find(|(token, lease)| {
                lease.index <= known && lease.end.is_none() && state.table.holder(**token).is_none()
            })
            .map(|(_, lease)| lease);
        ensure(missing.is_none(), || {
            named(&format!("without a lock that its founder knew of: {missing:?}"))
        })?;
        ensure(state.counter > before.token_of_founder(known), || {
            named("and its tokens do not begin above those that its founder knew of")
        })?;
        let last = before.decided.last().map_or(0, |decided| decided.state.counter);
        for (key, lock) in state.table.locks() {
            for (token, holder) in lock.holders() {
                // What a leader decided just before it founds the next group nobody has seen.
                let since = match before.leases.get(&token) {
                    Some(lease) => lease.since,
                    None if token > last => before.created,
                    None => return Err(named(&format!("with token {token}, which that never granted"))),
                };
                let lease = Lease {
                    owner: holder.owner,
                    key: key.clone(),
                    units: holder.units,
                    capacity: lock.capacity(),
                    queued: holder.queued,
                    index: 1,
                    term: 1,
                    since,
                    end: None,
                };
                self.leases.insert(token, lease);
            }
        }
        self.table = state.table.clone();
        self.queues.inherit(&state.table);
        let stored = Stored {
            command: Command::Found(self.found.clone()),
            before: 0,
            appended: self.created,
            holders: vec![self.group.founder],
        };
        self.entries.insert((1, 1), stored);
        self.decided.push(Decided {
            term: 1,
            known_in: 1,
            state: State {
                open: true,
                decided: true,
                counter: state.counter,
                seats: 0,
            },
        });
        Ok(())
    }

    /// The highest token up to an entry.
    fn token_of_founder(&self, known: Index) -> u64 {
        let decided = usize::try_from(known).ok().and_then(|known| known.checked_sub(1));
        let state = decided
            .and_then(|at| self.decided.get(at))
            .map(|decided| decided.state);
        state.map_or(self.found.token_base, |state| state.counter)
    }
}
