//! Who held which lock: as it believed itself, and as those who led its group took it to be.

use super::{LockBand, Recording};
use crate::world::{NodeIndex, World};
use quorate_core::consensus::Index;
use quorate_core::{Group, LockEvent, LockId};
use std::collections::BTreeMap;

/// What is known of those who led, and of beliefs that go on.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// The newest entry that anybody had applied who led the group.
    applied: BTreeMap<Group, Index>,
    /// The locks of which bands go on as a leader sees them, by group and token.
    served: BTreeMap<(Group, u64), u64>,
    /// Those of beliefs.
    believed: BTreeMap<(NodeIndex, LockId), u64>,
}

impl Recording {
    /// An application was told something of a lock.
    pub(super) fn believes(&mut self, node: NodeIndex, event: &LockEvent) {
        match *event {
            LockEvent::Granted {
                id, ref key, token, ..
            } => {
                let number = self.had(key, token, node, true);
                self.leaders.believed.insert((node, id), number);
            }
            LockEvent::Lost { id, .. } | LockEvent::Released { id } => {
                let number = self.leaders.believed.remove(&(node, id));
                self.has_no_more(number);
            }
            _ => {}
        }
    }

    /// A process is no more, and believes in nothing.
    pub(super) fn lost_all(&mut self, node: NodeIndex) {
        let mut over = Vec::new();
        self.leaders.believed.retain(|&(of, _), &mut number| {
            if of == node {
                over.push(number);
            }
            of != node
        });
        over.into_iter().for_each(|number| self.has_no_more(Some(number)));
    }

    /// Notes what has changed in the table of a leader.
    pub(super) fn leads(&mut self, world: &World, node: NodeIndex) {
        let replica = world.process(node).node().map(|node| node.replica());
        let led = replica.and_then(|it| Some((it.applied(), it.group()?, it.machine()?, it.leadership()?)));
        let Some((applied, group, machine, leadership)) = led else {
            return;
        };
        let newest = self.leaders.applied.entry(group).or_default();
        if !leadership.leases().serves() || *newest >= applied {
            return;
        }
        *newest = applied;
        let table = &machine.table;
        // A group that grants has waited until nothing of any other counts.
        let gone = |&(of, token): &(Group, u64)| match of == group {
            true => table.holder(token).is_none(),
            false => machine.open,
        };
        let mut over = Vec::new();
        self.leaders.served.retain(|at, &mut number| {
            let gone = gone(at);
            if gone {
                over.push(number);
            }
            !gone
        });
        over.into_iter().for_each(|number| self.has_no_more(Some(number)));
        for token in table.tokens() {
            if let Some((key, holder)) = table.holder(token)
                && !self.leaders.served.contains_key(&(group, token))
                && let Some(owner) = world.find(holder.owner.node)
            {
                let number = self.had(key, token, owner, false);
                self.leaders.served.insert((group, token), number);
            }
        }
    }

    /// Begins a band; returns its number.
    fn had(&mut self, key: &str, token: u64, node: NodeIndex, believed: bool) -> u64 {
        let number = self.locks.next_number();
        self.locks.push(LockBand {
            key: key.to_owned(),
            token,
            node,
            believed,
            from: self.end,
            to: None,
        });
        number
    }

    fn has_no_more(&mut self, number: Option<u64>) {
        let end = self.end;
        if let Some(band) = number.and_then(|number| self.locks.get_mut(number)) {
            band.to = Some(end);
        }
    }
}
