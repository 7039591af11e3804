//! Resources that are guarded by locks, and go by tokens: one for each key.

use super::beliefs::{Belief, Judge};
use crate::checkers::{ensure, who};
use crate::coverage::{Situation, Tally};
use crate::world::NodeIndex;
use quorate_core::Group;
use quorate_core::consensus::Index;
use quorate_core::locks::Key;
use std::collections::BTreeMap;

/// Remembers the highest token that came with a write, and refuses writes with lower ones.
#[derive(Debug, Default)]
struct Resource {
    highest: Option<Belief>,
    /// The newest grant by which each group has written.
    written: BTreeMap<Group, Index>,
}

/// All resources.
#[derive(Debug)]
pub(super) struct Resources {
    resources: BTreeMap<Key, Resource>,
    /// The last token of each process for each key: it may write with it at any time.
    last: BTreeMap<(NodeIndex, Key), Belief>,
}

impl Resources {
    pub(super) const fn new() -> Self {
        Self {
            resources: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    pub(super) fn gone(&mut self, node: NodeIndex) {
        self.last.retain(|&(of, _), _| of != node);
    }

    /// A process goes on after a pause. Its application is about to write, and looks neither at events nor at the clock:
    /// its lease may be over.
    pub(super) fn write_late(
        &mut self,
        judge: &Judge<'_>,
        node: NodeIndex,
        tally: &Tally,
    ) -> Result<(), String> {
        let of = self.last.iter().filter(|&(&(of, _), _)| of == node);
        let last: Vec<_> = of.map(|(_, belief)| belief.clone()).collect();
        last.iter()
            .try_for_each(|belief| self.take(judge, belief, false, tally))
    }

    /// A process that holds a lock writes.
    pub(super) fn write(&mut self, judge: &Judge<'_>, belief: &Belief, tally: &Tally) -> Result<(), String> {
        self.take(judge, belief, belief.lasts(judge.world), tally)
    }

    /// A process writes with its token. One that believes in its lock is not refused, and none is accepted after one with
    /// a later grant.
    fn take(
        &mut self,
        judge: &Judge<'_>,
        belief: &Belief,
        believes: bool,
        tally: &Tally,
    ) -> Result<(), String> {
        // Several who hold a lock together do not write one after the other.
        if !belief.is_alone() {
            return Ok(());
        }
        let world = judge.world;
        let resource = self.resources.entry(belief.key.clone()).or_default();
        if let Some(highest) = &resource.highest
            && belief.token < highest.token
        {
            tally.count(Situation::StaleWrite);
            let wrong = believes && judge.comes_too_late(belief, highest);
            return ensure(!wrong, || {
                format!(
                    "a write of {} to {} with token {} is refused, which it believes in: there was one with token {}",
                    who(world, belief.node),
                    belief.key,
                    belief.token,
                    highest.token
                )
            });
        }
        let newest = resource.written.get(&belief.group).copied().unwrap_or(0);
        let index = judge.lease(belief).map_or(0, |lease| lease.index);
        let wrong = index < newest || judge.is_overtaken(belief.group, resource.written.keys());
        ensure(!wrong, || {
            format!(
                "a resource takes a write of {} to {} with token {} of the group {}, after one with a later grant",
                who(world, belief.node),
                belief.key,
                belief.token,
                belief.group
            )
        })?;
        resource.highest = Some(belief.clone());
        resource.written.insert(belief.group, index);
        self.last
            .insert((belief.node, belief.key.clone()), belief.clone());
        Ok(())
    }
}
