//! Without a quorum: somebody leads by itself, goes, and another one takes over; two groups meet.

use super::stage::{AT_ONCE, Grant, NODES, Stage};
use super::{Done, Script, ensure, ms, secs};
use crate::fault::{FaultKind, HostSet};
use crate::world::NodeIndex;
use quorate_core::{Duration, Instant, LockEvent, LockRequest, LostReason};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "best-effort-three-at-once",
        about: "No cluster_size is set, and three members ask for one lock at the same time.\nEach has its turn, tokens rise, and one of them leads all the time.",
        cluster_size: 0,
        play: three_at_once,
    },
    Script {
        name: "best-effort-leader-dies",
        about: "No cluster_size is set, and who leads dies, while it holds a lock and others hold and wait for some.\nAnother takes over: holders keep what they have, queues their order, and the dead one's lock is free when its lease is over.",
        cluster_size: 0,
        play: leader_dies,
    },
    Script {
        name: "best-effort-leader-leaves",
        about: "No cluster_size is set, and who leads leaves politely, and then the next one.\nAnother takes over at once: who waits has the leaver's lock within a second, and nobody else loses anything.",
        cluster_size: 0,
        play: leader_leaves,
    },
    Script {
        name: "best-effort-grant-not-learned",
        about: "No cluster_size is set. Who takes over did not learn of the last grant.\nIts holder is told as soon as it asks the new leader, long before its lease is over, and another one has the lock.",
        cluster_size: 0,
        play: grant_not_learned,
    },
    Script {
        name: "best-effort-halves-meet",
        about: "No cluster_size is set. The leader is cut off, both sides grant the same lock, and they meet.\nThe side that took over stays: the other holder is told of the conflict, waits on there, and has its turn.",
        cluster_size: 0,
        play: halves_meet,
    },
    Script {
        name: "best-effort-leader-pauses",
        about: "No cluster_size is set, and who leads is stopped until another has taken over, while it holds a lock itself.\nIt finds its lock where it is, though it leads no more.",
        cluster_size: 0,
        play: leader_pauses,
    },
    Script {
        name: "best-effort-latecomer",
        about: "No cluster_size is set. A member starts that finds nobody at first, founds a group of its own, and takes a lock.\nWhen it meets the others nobody but itself loses anything, and tokens go on above its own.",
        cluster_size: 0,
        play: latecomer,
    },
];

const KEY: &str = "the lock";
/// Asks are sent again after 200 ms, waiters say so each second.
const AGAIN: Duration = ms(1_300);
/// Members tell each other of their groups at once, and again each half second.
const NEWS: Duration = ms(1_500);

fn request() -> LockRequest {
    LockRequest::new(KEY).wait(secs(120))
}

/// Why and when a lock was lost.
fn lost(stage: &Stage, grant: Grant) -> Option<(Instant, LostReason)> {
    let mut told = stage.told(grant.node).iter();
    told.find_map(|&(at, ref event)| match *event {
        LockEvent::Lost { id, reason, .. } if id == grant.id => Some((at, reason)),
        _ => None,
    })
}

/// Runs until all that run follow one leader, other than `before`.
fn taken_over(stage: &mut Stage, before: NodeIndex, within: Duration) -> Done<NodeIndex> {
    stage.until("another leads", within, |stage| {
        stage.followed().is_some_and(|leader| leader != before)
    })?;
    stage.leader()
}

fn keeps(stage: &Stage, grants: &[Grant]) -> Done {
    let gone = grants.iter().find(|&&grant| !stage.holds(grant));
    ensure(gone.is_none(), || format!("{gone:?} is lost"))
}

/// Nobody leads but one, and what is free is granted to all in turn.
fn works(stage: &mut Stage) -> Done {
    let leader = stage.followed().ok_or("they do not all follow one leader")?;
    let nodes: Vec<_> = stage.running().collect();
    let request = LockRequest::new("another lock").wait(secs(30));
    stage.all_at_once(&nodes, &request, ms(50), AT_ONCE)?;
    ensure(stage.followed() == Some(leader), || "another leads".to_owned())
}

fn three_at_once(stage: &mut Stage) -> Done {
    let leader = stage.leader()?;
    let nodes: Vec<_> = stage.running().collect();
    for _ in 0..3 {
        let grants = stage.all_at_once(&nodes, &request(), ms(500), AT_ONCE)?;
        ensure(grants.len() == NODES, || {
            format!("{} had their turn", grants.len())
        })?;
        stage.sim.run_for(secs(20));
    }
    ensure(stage.followed() == Some(leader), || "another leads".to_owned())
}

fn leader_dies(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let ttl = secs(15);
    let own = stage.take(leader, request().ttl(ttl))?;
    let next = stage.queue(b, request())?;
    let last = stage.queue(a, request())?;
    let kept = stage.take(a, LockRequest::new("kept").ttl(ttl))?;
    let waiter = stage.queue(b, LockRequest::new("kept").wait(secs(120)))?;
    stage.sim.run_for(secs(7));
    let (host, died, counter) = (stage.host(leader), stage.sim.now(), stage.counter()?);
    stage.sim.inject(FaultKind::Crash { host }, secs(600));
    let bound = stage.takeover();
    taken_over(stage, leader, bound)?;
    ensure(stage.counter()? > counter, || {
        "tokens do not go on above those that were granted".to_owned()
    })?;
    // A lease from its beginning, counted by the new leader from when it took over.
    let free = died + bound + stage.lease(ttl) + AGAIN;
    let first = stage.granted(b, next, free.saturating_since(stage.sim.now()))?;
    keeps(stage, &[kept, first])?;
    ensure(stage.grant(a, last).is_none(), || {
        "two have the leader's lock".to_owned()
    })?;
    ensure(first.token > own.token, || {
        format!("{first:?} comes after {own:?}")
    })?;
    stage.give_back(b, next)?;
    stage.granted(a, last, AT_ONCE)?;
    stage.sim.run_for(secs(30));
    keeps(stage, &[kept])?;
    stage.give_back(a, kept.id)?;
    stage.granted(b, waiter, AT_ONCE)?;
    stage.give_back(a, last)?;
    works(stage)
}

fn leader_leaves(stage: &mut Stage) -> Done {
    for _ in 0..NODES - 1 {
        let leader = stage.leader()?;
        let others: Vec<_> = stage.running().filter(|&node| node != leader).collect();
        let (a, last) = (others[0], *others.last().ok_or("nobody is left")?);
        stage.take(leader, request())?;
        let next = stage.queue(last, request())?;
        let kept = stage.take(a, LockRequest::new("kept"))?;
        stage.sim.run_for(secs(20));
        let host = stage.host(leader);
        stage.sim.inject(FaultKind::Leave { host }, secs(600));
        let got = stage.granted(last, next, secs(1))?;
        taken_over(stage, leader, NEWS)?;
        stage.sim.run_for(secs(40));
        keeps(stage, &[kept, got])?;
        let risk = others.iter().flat_map(|&node| stage.told(node));
        let risk = risk
            .filter(|(_, event)| matches!(event, LockEvent::AtRisk { .. }))
            .count();
        ensure(risk == 0, || format!("{risk} leases were at risk"))?;
        stage.give_back(a, kept.id)?;
        stage.give_back(last, got.id)?;
        stage.nothing_left(KEY, AT_ONCE)?;
    }
    Ok(())
}

/// Returns the followers: who takes over when the leader goes, and the other one.
fn heirs(stage: &Stage) -> Done<[NodeIndex; 2]> {
    let mut followers = stage.followers()?;
    followers.sort_by_key(|&node| stage.sim.id(node));
    Ok(followers)
}

fn grant_not_learned(stage: &mut Stage) -> Done {
    let (leader, [heir, other]) = (stage.leader()?, heirs(stage)?);
    let kept = stage.take(other, LockRequest::new("kept"))?;
    stage.sim.run_for(secs(1));
    stage.sim.cut_one_way(leader, heir);
    let granted = stage.take(other, request().ttl(secs(30)))?;
    let host = stage.host(leader);
    stage.sim.inject(FaultKind::Crash { host }, secs(600));
    stage.sim.heal();
    let bound = stage.takeover();
    let next = taken_over(stage, leader, bound)?;
    ensure(next == heir, || format!("{next} takes over in place of {heir}"))?;
    stage.until("its holder is told", NEWS, |stage| lost(stage, granted).is_some())?;
    let why = lost(stage, granted).map(|(_, why)| why);
    ensure(why == Some(LostReason::Conflict), || {
        format!("it is told {why:?}")
    })?;
    let again = stage.take(heir, request())?;
    ensure(again.token > granted.token, || {
        format!("{again:?} comes after {granted:?}")
    })?;
    keeps(stage, &[kept])?;
    stage.give_back(heir, again.id)?;
    stage.give_back(other, kept.id)?;
    works(stage)
}

fn halves_meet(stage: &mut Stage) -> Done {
    let (old, [a, b]) = (stage.leader()?, stage.followers()?);
    let own = stage.take(old, LockRequest::new("its own").ttl(secs(30)))?;
    let kept = stage.take(b, LockRequest::new("kept"))?;
    stage.sim.run_for(secs(5));
    stage.sim.partition(&[old], &[a, b]);
    let bound = stage.takeover();
    stage.until("another leads on the other side", bound, |stage| {
        let leads = |&node: &NodeIndex| stage.sim.node_of(node).replica().leadership().is_some();
        [a, b].iter().any(leads)
    })?;
    stage.sim.run_for(NEWS);
    let before = stage.sim.now();
    let ours = stage.take(old, request().ttl(secs(30)))?;
    let theirs = stage.take(a, request().ttl(secs(30)))?;
    let waits = stage.ask(old, request())?;
    stage.sim.run_for(secs(1));
    keeps(stage, &[own, kept, ours, theirs])?;
    stage.sim.heal();
    let whole = stage.config().heal_interval * 2 + NEWS;
    taken_over(stage, old, whole)?;
    stage.until("the other holder is told", NEWS, |stage| {
        lost(stage, ours).is_some()
    })?;
    let told = lost(stage, ours);
    ensure(
        told.is_some_and(|(at, why)| at > before && why == LostReason::Conflict),
        || format!("it is told {told:?}"),
    )?;
    stage.sim.run_for(secs(10));
    keeps(stage, &[kept, theirs])?;
    ensure(stage.grant(old, waits).is_none(), || {
        "who waits has the lock as well".to_owned()
    })?;
    stage.give_back(a, theirs.id)?;
    let turn = stage.granted(old, waits, AGAIN)?;
    ensure(turn.token > theirs.token.max(ours.token), || {
        format!("{turn:?} comes after {ours:?} and {theirs:?}")
    })?;
    stage.give_back(old, waits)?;
    stage.give_back(b, kept.id)?;
    works(stage)
}

fn leader_pauses(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let own = stage.take(leader, request().ttl(secs(30)))?;
    let waiter = stage.queue(b, request())?;
    let kept = stage.take(a, LockRequest::new("kept"))?;
    stage.sim.run_for(secs(1));
    stage.sim.pause(leader);
    let bound = stage.takeover();
    stage.until("another leads", bound, |stage| {
        let leads = |&node: &NodeIndex| stage.sim.node_of(node).replica().leadership().is_some();
        [a, b].iter().any(leads)
    })?;
    stage.sim.resume(leader);
    let whole = stage.config().heal_interval * 2 + NEWS;
    taken_over(stage, leader, whole)?;
    stage.sim.run_for(secs(60));
    keeps(stage, &[own, kept])?;
    stage.give_back(leader, own.id)?;
    stage.granted(b, waiter, AGAIN)?;
    stage.give_back(b, waiter)?;
    stage.give_back(a, kept.id)?;
    works(stage)
}

fn latecomer(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let held = stage.take(a, request())?;
    let waiter = stage.queue(leader, request())?;
    // The last one starts anew, where nobody reaches it.
    let host = stage.host(b);
    stage.sim.inject(FaultKind::Crash { host }, ms(200));
    let left = HostSet::of([host.0]);
    stage.sim.inject(FaultKind::Split { left }, secs(40));
    stage.sim.run_for(secs(30));
    let new = stage.on(host)?;
    let mine = stage.take(new, request().ttl(secs(30)))?;
    ensure(mine.token != held.token, || {
        "two groups grant the same token".to_owned()
    })?;
    stage.sim.run_for(secs(11));
    let whole = stage.config().heal_interval * 2 + NEWS;
    stage.until("all follow one leader", whole, |stage| stage.followed().is_some())?;
    stage.until("it is told", NEWS, |stage| lost(stage, mine).is_some())?;
    ensure(stage.followed() == Some(leader), || {
        "the one that came late leads".to_owned()
    })?;
    stage.sim.run_for(secs(20));
    keeps(stage, &[held])?;
    stage.give_back(a, held.id)?;
    let next = stage.granted(leader, waiter, AGAIN)?;
    ensure(next.token > mine.token.max(held.token), || {
        format!("{next:?} comes after {mine:?} and {held:?}")
    })?;
    stage.give_back(leader, waiter)?;
    works(stage)
}
