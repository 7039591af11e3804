//! The steps with locks.

use super::node::{Unreachable, tell, tell_of};
use super::stage::{Happened, Outbox, Stage, millis};
use super::steps::{NODES, broadcast, come_back, noticed};
use super::timeline::Line;
use crate::task::{Task, within};
use anyhow::{Context as _, bail, ensure};
use core::future::pending;
use core::time::Duration;
use quorate_tokio::{Lease, LeaveReason, LockBuilder, LockGuard, LostReason, NodeId};
use std::time::Instant;

/// The lock of all steps, so that its tokens have to rise over all that happens.
const KEY: &str = "jobs/nightly";

/// A lock that nobody holds when the leader dies.
const FREE_KEY: &str = "jobs/hourly";

/// How often each node takes the lock while all are well.
const TURNS: usize = 2;

/// How long it works under the lock.
const WORK: Duration = Duration::from_millis(50);

/// The lease of holders that die or are cut off. The default, 15 s, is a long time to look at a screen.
const SHORT_TTL: Duration = Duration::from_secs(2);

/// How often a holder that gets no answers looks how much of its lease is left.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn turns(stage: &mut Stage) -> anyhow::Result<()> {
    let mut tasks = Vec::new();
    for name in NODES {
        stage.say(name, Line::WaitsFor { key: KEY })?;
        let node = stage.node(name)?;
        let (by, lock, outbox) = (node.cluster.id(), node.cluster.lock(KEY), stage.outbox.clone());
        let task = node.home.spawn(async move {
            for _ in 0..TURNS {
                let (guard, _) = acquire(lock.clone(), KEY, None, by, &outbox).await?;
                smol::Timer::after(WORK).await;
                give_back(guard, KEY, by, &outbox).await?;
            }
            anyhow::Ok(())
        });
        tasks.push((name, task));
    }
    for (name, task) in tasks {
        finish(stage, task, &format!("{name} having had its {TURNS} turns")).await?;
    }
    let holdings = stage.check_holders(KEY)?;
    for name in NODES {
        let turns = holdings.turns(stage.node(name)?.cluster.id());
        ensure!(turns == TURNS, "{name} had the lock {turns} times, not {TURNS}");
    }
    Ok(())
}

pub(super) async fn partition(stage: &mut Stage) -> anyhow::Result<()> {
    let leader = stage.seated().await?;
    let [holder, next] = others(leader)?;
    if !Unreachable::POSSIBLE {
        return stage.say(holder, Line::Skipped);
    }
    let (guard, _) = take(stage, holder, KEY, Some(SHORT_TTL)).await?;
    let (former, token) = (guard.lease(), guard.token());
    stage.say(next, Line::WaitsFor { key: KEY })?;
    let waiting = ask(stage, next, KEY, Some(SHORT_TTL), Some(former))?;
    stage.cut_off(holder)?;
    let node = stage.node(holder)?;
    let losing = learn(guard, node.cluster.id(), stage.outbox.clone());
    let losing = node.home.spawn(losing);
    let (guard, _) = finish(stage, waiting, &format!("{next} getting the lock")).await?;
    let reason = finish(stage, losing, &format!("{holder} learning of its loss")).await?;
    ensure!(
        reason == LostReason::Expired,
        "{holder} lost the lock for another reason: {reason:?}"
    );

    let holdings = stage.check_holders(KEY)?;
    let [.., lost, got] = &holdings.list[..] else {
        bail!("the lock has not changed hands");
    };
    let known = lost.to.filter(|&known| lost.token == token && known < got.from);
    let known =
        known.with_context(|| format!("{holder} did not know of its loss when {next} got the lock"))?;
    stage.summary.lost_before_next_ms = Some(millis(got.from - known));

    stage.reconnect(holder)?;
    release(stage, next, guard, KEY).await?;
    stage.seated().await?;
    broadcast(stage, holder, "can you hear me?").await
}

pub(super) async fn holder(stage: &mut Stage) -> anyhow::Result<()> {
    let leader = stage.seated().await?;
    let [victim, next] = others(leader)?;
    let (guard, _) = take(stage, victim, KEY, Some(SHORT_TTL)).await?;
    stage.say(next, Line::WaitsFor { key: KEY })?;
    let waiting = ask(stage, next, KEY, Some(SHORT_TTL), None)?;
    // A renewal after this only makes it longer.
    let leased_until = Instant::now() + guard.remaining();
    stage.node(victim)?.home.spawn(async move {
        let _held = guard;
        pending::<()>().await;
    });
    let (id, died) = stage.kill(victim)?;
    let (guard, got) = finish(stage, waiting, &format!("{next} getting the lock")).await?;
    ensure!(
        got >= leased_until,
        "{next} got the lock {} ms before the lease of {victim} was over",
        millis(leased_until - got)
    );
    stage.summary.next_holder_ms = millis(got - died);
    release(stage, next, guard, KEY).await?;
    stage.check_holders(KEY)?;
    noticed(stage, id, LeaveReason::Failed, died).await?;
    come_back(stage, victim).await
}

pub(super) async fn leader(stage: &mut Stage) -> anyhow::Result<()> {
    let victim = stage.seated().await?;
    let [holder, asker] = others(victim)?;
    let (held, _) = take(stage, holder, KEY, None).await?;
    let (id, died) = stage.kill(victim)?;
    let (free, granted) = take(stage, asker, FREE_KEY, None).await?;
    stage.summary.failover_ms = millis(granted - died);
    stage
        .until(|stage| {
            let leads = |what: &Happened| matches!(what, Happened::Leads { .. });
            let elected = stage.seen.iter().any(|seen| seen.at > died && leads(&seen.what));
            (!elected).then(|| "an election".into())
        })
        .await?;
    let token = held.check();
    let token = token.with_context(|| format!("{holder} lost the lock when the leader died"))?;
    stage.say(holder, Line::StillHolds { key: KEY, token })?;
    release(stage, asker, free, FREE_KEY).await?;
    release(stage, holder, held, KEY).await?;
    // Another one gets it, from the new leader.
    let (guard, _) = take(stage, asker, KEY, None).await?;
    release(stage, asker, guard, KEY).await?;
    stage.check_holders(KEY)?;
    noticed(stage, id, LeaveReason::Failed, died).await?;
    come_back(stage, victim).await
}

/// Returns the two nodes that do not lead.
fn others(leader: &str) -> anyhow::Result<[&'static str; 2]> {
    match NODES.map(|name| (name, name == leader)) {
        [(_, true), (a, _), (b, _)] | [(a, _), (_, true), (b, _)] | [(a, _), (b, _), (_, true)] => Ok([a, b]),
        _ => bail!("{leader} leads, which is none of the three"),
    }
}

/// Lets a node take a lock, and waits until it has it.
async fn take(
    stage: &mut Stage,
    name: &'static str,
    key: &'static str,
    ttl: Option<Duration>,
) -> anyhow::Result<(LockGuard, Instant)> {
    let asking = ask(stage, name, key, ttl, None)?;
    finish(stage, asking, &format!("{name} getting the lock {key:?}")).await
}

/// Lets a node ask for a lock. If it is granted while a former holder believes that it holds it, that is an error.
fn ask(
    stage: &Stage,
    name: &str,
    key: &'static str,
    ttl: Option<Duration>,
    former: Option<Lease>,
) -> anyhow::Result<Task<anyhow::Result<(LockGuard, Instant)>>> {
    let node = stage.node(name)?;
    let (by, outbox) = (node.cluster.id(), stage.outbox.clone());
    let lock = node.cluster.lock(key);
    let lock = match ttl {
        Some(ttl) => lock.ttl(ttl),
        None => lock,
    };
    Ok(node
        .home
        .spawn(async move { acquire(lock, key, former, by, &outbox).await }))
}

/// Takes a lock and tells of it. Returns it, and since when it is held.
async fn acquire(
    lock: LockBuilder,
    key: &'static str,
    former: Option<Lease>,
    by: NodeId,
    stage: &Outbox,
) -> anyhow::Result<(LockGuard, Instant)> {
    let guard = lock.acquire().await.context("the lock was not granted")?;
    let at = Instant::now();
    ensure!(
        !former.is_some_and(|former| former.is_held()),
        "the former holder of {key:?} believes still that it holds it"
    );
    let token = guard.token();
    tell_of(stage, at, by, Happened::Granted { key, token }).await;
    Ok((guard, at))
}

/// Gives a lock back and tells of it.
async fn give_back(guard: LockGuard, key: &'static str, by: NodeId, stage: &Outbox) -> anyhow::Result<()> {
    // Before it is done: the next one may be as fast as this one in telling.
    let token = guard.token();
    tell(stage, by, Happened::Released { key, token }).await;
    guard
        .release()
        .await
        .with_context(|| format!("{key:?} was not held until it was given back"))
}

async fn release(stage: &Stage, name: &str, guard: LockGuard, key: &'static str) -> anyhow::Result<()> {
    let by = stage.node(name)?.cluster.id();
    give_back(guard, key, by, &stage.outbox).await
}

/// Keeps a lock until it is lost, and tells since when its holder knows: since its lease is over by its own clock,
/// whenever the system finds the time to run this.
async fn learn(guard: LockGuard, by: NodeId, stage: Outbox) -> anyhow::Result<LostReason> {
    let (key, token) = (KEY, guard.token());
    let (mut until, mut warned) = (Instant::now(), false);
    loop {
        let left = guard.remaining();
        if !left.is_zero() {
            // The clock after the look: rather too late than too early.
            until = Instant::now() + left;
        }
        if !warned {
            if let Some(left) = within(LOOK, guard.at_risk()).await {
                tell(&stage, by, Happened::AtRisk { key, left }).await;
                warned = true;
            }
            continue;
        }
        if let Some(reason) = within(LOOK, guard.lost()).await {
            let at = until.min(Instant::now());
            tell_of(&stage, at, by, Happened::Lost { key, token, reason }).await;
            return Ok(reason);
        }
    }
}

/// Waits for the end of what a node does, and writes down meanwhile what is seen.
async fn finish<T>(stage: &mut Stage, task: Task<anyhow::Result<T>>, what: &str) -> anyhow::Result<T> {
    stage
        .until(|_| (task.is_empty() && !task.is_closed()).then(|| what.into()))
        .await?;
    task.recv()
        .await
        .with_context(|| format!("a task has died: {what}"))?
}
