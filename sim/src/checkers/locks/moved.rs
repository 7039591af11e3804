//! Without a quorum: what becomes of beliefs when another group takes over.

use super::{Locks, serving};
use crate::checkers::truth::Truth;
use crate::checkers::{ensure, who};
use crate::world::{NodeIndex, World};
use quorate_core::{Duration, Group, Instant, LockId};
use std::collections::BTreeMap;

/// Within which time a holder is told that the leader it follows does not know of its lock: it asks at once, and again at
/// least each second.
const TOLD: Duration = Duration::from_secs(3);

/// Which beliefs a leader does not know of, and since when nothing is in the way of telling.
pub(super) type Unknown = BTreeMap<(NodeIndex, LockId), (Group, Instant)>;

impl Locks {
    /// **Told** Who believes in a lock that the leader of its group does not know of is told.
    pub(super) fn check_told(&mut self, world: &World) -> Result<(), String> {
        let consensus = self.consensus.borrow();
        if !consensus.is_split() {
            return Ok(());
        }
        let truth = self.truth.borrow();
        let now = world.now();
        let mut unknown = Unknown::new();
        for (&node, client) in &self.clients {
            let Some((leader, group)) = followed(world, node) else {
                continue;
            };
            let table = serving(world.process(leader)).and_then(|replica| replica.machine());
            let Some(machine) = table.filter(|_| reach_each_other(&truth, node, leader, now - TOLD)) else {
                continue;
            };
            for (&id, belief) in client.held.iter().filter(|(_, belief)| belief.lasts(world)) {
                let knows = machine
                    .table
                    .holder(belief.token)
                    .is_some_and(|(_, holder)| holder.owner == belief.life);
                let lease = consensus
                    .groups()
                    .get(&group)
                    .and_then(|ledger| ledger.lease(belief.token));
                // What somebody took at once its holder may hear of only when it renews.
                let forced = lease.and_then(|lease| lease.end).is_some_and(|end| end.forced);
                if belief.group == group || knows || forced {
                    continue;
                }
                let before = self.unknown.get(&(node, id)).filter(|&&(of, _)| of == group);
                let since = before.map_or(now, |&(_, since)| since);
                ensure(now - since <= TOLD, || {
                    format!(
                        "{} believes in {} by token {}, and is not told that {} does not know of it",
                        who(world, node),
                        belief.key,
                        belief.token,
                        who(world, leader)
                    )
                })?;
                unknown.insert((node, id), (group, since));
            }
        }
        drop((consensus, truth));
        self.unknown = unknown;
        Ok(())
    }
}

/// Returns whom a process follows, and in which group.
fn followed(world: &World, node: NodeIndex) -> Option<(NodeIndex, Group)> {
    let replica = world.process(node).node()?.replica();
    let (leader, group) = (world.find(replica.leader()?.node)?, replica.group()?);
    let same = world.process(leader).node()?.replica().group() == Some(group);
    same.then_some((leader, group))
}

/// Whether both worked in time, and all that they sent to each other arrived.
fn reach_each_other(truth: &Truth, a: NodeIndex, b: NodeIndex, since: Instant) -> bool {
    let well = [a, b].into_iter().all(|node| truth.well_since(node, since));
    let ways = [(a, b), (b, a)];
    well && (a == b
        || ways
            .into_iter()
            .all(|(from, to)| truth.way(from, to).lost < since))
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use crate::sim::Sim;
    use quorate_core::{LockRequest, PlantedBug};

    /// A leader dies, and who takes over did not learn of its last grant.
    fn objection() -> Option<String> {
        let builder = Sim::builder().schedule(Schedule::calm(0, 3)).collect_violations();
        let mut sim = builder.build();
        sim.run_for(Duration::from_secs(20));
        let nodes: Vec<_> = sim.apps().map(|(index, _)| index).collect();
        let (leaders, mut others): (Vec<_>, Vec<_>) = nodes
            .into_iter()
            .partition(|&node| sim.node_of(node).replica().leadership().is_some());
        others.sort_by_key(|&node| sim.id(node));
        sim.cut_one_way(leaders[0], others[0]);
        let request = LockRequest::new("k").ttl(Duration::from_secs(30));
        sim.with(others[1], |cx| cx.lock(request)).unwrap();
        sim.run_for(Duration::from_millis(20));
        sim.crash(leaders[0]);
        sim.heal();
        sim.run_for(Duration::from_secs(25));
        let first = sim.violations().first()?;
        Some(format!("{}: {}", first.by, first.what))
    }

    #[test]
    fn who_believes_in_what_the_next_leader_does_not_know_is_told() {
        assert_eq!(objection(), None);
        let _planted = quorate_core::plant(Some(PlantedBug::MovedBeliefsUntold));
        let told = objection().unwrap();
        assert!(
            told.starts_with("locks: ") && told.contains("is not told that"),
            "{told}"
        );
    }
}
