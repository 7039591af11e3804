//! Several who want one lock.

use super::stage::{AT_ONCE, Contender, NODES, Stage};
use super::{Done, Script, ensure, ms, secs};
use crate::network::Link;
use quorate_core::{Duration, LockError, LockRequest};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "locks-two-at-once",
        about: "Two members ask for one lock at the same instant, and wait, thirty times.\nBoth are served, one after the other, with rising tokens.",
        cluster_size: NODES as u8,
        play: |stage| at_once(stage, 2),
    },
    Script {
        name: "locks-three-at-once",
        about: "Three members ask for one lock at the same instant, and wait, thirty times.\nAll are served, one after the other, with rising tokens.",
        cluster_size: NODES as u8,
        play: |stage| at_once(stage, NODES),
    },
    Script {
        name: "locks-try-at-once",
        about: "Three members ask for one lock at the same instant, and do not wait, thirty times.\nOne has it; the others are told by which token.",
        cluster_size: NODES as u8,
        play: try_at_once,
    },
    Script {
        name: "locks-crossing-requests",
        about: "Datagrams take so long that every request is sent again before its answer is there, and so they cross.\nEach request is granted once, no token is granted to nobody. Two who want what the other has are both told in time.",
        cluster_size: NODES as u8,
        play: crossing,
    },
    Script {
        name: "locks-two-tasks",
        about: "Two tasks of one process want one lock.\nThey exclude each other as if they were two processes.",
        cluster_size: NODES as u8,
        play: two_tasks,
    },
    Script {
        name: "locks-contention-5-percent-loss",
        about: "Three members want one lock all the time, for an hour in which one datagram of twenty is lost.\nEvery request has an outcome, none is lost, and nobody waits for longer than two others may keep the lock.",
        cluster_size: NODES as u8,
        play: |stage| contention(stage, secs(3_600)),
    },
];

const KEY: &str = "the lock";
const ROUNDS: usize = 30;

fn request() -> LockRequest {
    LockRequest::new(KEY).wait(secs(20))
}

fn at_once(stage: &mut Stage, count: usize) -> Done {
    for round in 0..ROUNDS {
        // Each time others, the leader among them or not.
        let nodes: Vec<_> = (0..count)
            .map(|nth| stage.running().nth((round + nth) % NODES))
            .collect::<Option<_>>()
            .ok_or("fewer than three run")?;
        let before = stage.counter()?;
        let grants = stage.all_at_once(&nodes, &request(), ms(round as u64), AT_ONCE)?;
        let used = stage.counter()? - before;
        ensure(used == grants.len() as u64, || {
            format!("{count} requests were granted {used} tokens")
        })?;
        stage.nothing_left(KEY, AT_ONCE)?;
    }
    Ok(())
}

fn try_at_once(stage: &mut Stage) -> Done {
    for round in 0..ROUNDS {
        let nodes: Vec<_> = stage.running().collect();
        let mut open = Vec::new();
        for nth in 0..NODES {
            let node = nodes[(round + nth) % NODES];
            open.push((node, stage.ask(node, LockRequest::new(KEY))?));
        }
        stage.sim.run_for(AT_ONCE);
        let granted: Vec<_> = open
            .iter()
            .filter_map(|&(node, id)| stage.grant(node, id))
            .collect();
        ensure(granted.len() == 1, || format!("{granted:?} have the lock"))?;
        let denied = open.iter().filter(|&&(node, id)| {
            let failure = stage.failure(node, id);
            matches!(failure, Some(LockError::Taken { token, waiting: 0, .. }) if token == granted[0].token)
        });
        let denied = denied.count();
        ensure(denied == NODES - 1, || {
            format!("{denied} are told that the lock is taken")
        })?;
        stage.give_back(granted[0].node, granted[0].id)?;
        stage.nothing_left(KEY, AT_ONCE)?;
    }
    Ok(())
}

fn crossing(stage: &mut Stage) -> Done {
    let quiet = stage.sim.link();
    let (one_way, leader) = (ms(150), stage.leader()?);
    stage.sim.set_link(quiet.delay(one_way, one_way));
    let nodes: Vec<_> = stage.running().collect();
    // An acquire has to be decided, and so has the release before it: four ways each, and one that is sent again.
    let bound = one_way * 8 + secs(1);
    for _ in 0..5 {
        let before = stage.counter()?;
        let grants = stage.all_at_once(&nodes, &request(), ms(10), bound)?;
        stage.nothing_left(KEY, bound)?;
        let used = stage.counter()? - before;
        ensure(used == grants.len() as u64, || {
            format!("three requests were granted {used} tokens")
        })?;
    }
    ensure(stage.leader()? == leader, || "another leads".to_owned())?;
    stage.sim.set_link(quiet);
    stage.sim.run_for(secs(1));
    let [a, b] = stage.followers()?;
    let (x, y) = (
        stage.take(a, LockRequest::new("x"))?,
        stage.take(b, LockRequest::new("y"))?,
    );
    let wait = secs(2);
    let crossed = [
        (a, stage.ask(a, LockRequest::new("y").wait(wait))?),
        (b, stage.ask(b, LockRequest::new("x").wait(wait))?),
    ];
    for (node, id) in crossed {
        let error = stage.failed(node, id, wait + AT_ONCE)?;
        ensure(error == LockError::Timeout, || format!("{node} is told: {error}"))?;
    }
    stage.sim.run_for(secs(60));
    for grant in [x, y] {
        ensure(stage.holds(grant), || format!("{grant:?} is lost"))?;
        stage.give_back(grant.node, grant.id)?;
    }
    stage.nothing_left("x", AT_ONCE)?;
    stage.nothing_left("y", AT_ONCE)
}

fn two_tasks(stage: &mut Stage) -> Done {
    for node in stage.running().collect::<Vec<_>>() {
        let first = stage.take(node, request())?;
        let second = stage.queue(node, request())?;
        let hasty = stage.ask(node, LockRequest::new(KEY))?;
        let error = stage.failed(node, hasty, AT_ONCE)?;
        let token = first.token;
        ensure(
            matches!(error, LockError::Taken { token: of, waiting: 1, .. } if of == token),
            || format!("who does not wait is told: {error}"),
        )?;
        stage.sim.run_for(secs(10));
        ensure(stage.grant(node, second).is_none(), || {
            "both tasks have the lock".to_owned()
        })?;
        ensure(stage.holds(first), || format!("{first:?} is lost"))?;
        stage.give_back(node, first.id)?;
        let then = stage.granted(node, second, AT_ONCE)?;
        ensure(then.token > first.token, || {
            format!("{then:?} comes after {first:?}")
        })?;
        stage.give_back(node, second)?;
        stage.nothing_left(KEY, AT_ONCE)?;
    }
    Ok(())
}

/// All three contend for one lock.
pub(super) fn contention(stage: &mut Stage, lasting: Duration) -> Done {
    let hold = ms(50);
    let until = stage.sim.now() + lasting;
    let nodes: Vec<_> = stage.running().collect();
    let waiter_ttl = stage.config().waiter_ttl;
    stage.sim.set_link(Link::default().loss(50));
    for &node in &nodes {
        stage.sim.with_app(node, |user, cx| {
            let contender = user.contender.insert(Contender::new(request(), hold, until));
            contender.ask(cx);
        });
    }
    stage.sim.run_for(lasting);
    stage.sim.set_link(Link::default());
    // Two others come first. Each keeps the lock for as long as it wants to, and if what it is told or says gets lost
    // again and again, until a lease from the queue is over.
    let bound = (stage.lease(waiter_ttl) + hold) * (NODES as u32 - 1) + secs(1);
    stage.until("every request has an outcome", bound, |stage| {
        let users = nodes
            .iter()
            .filter_map(|&node| stage.sim.app(node).contender.as_ref());
        users
            .clone()
            .all(|user| user.open.is_none() && user.held.is_none())
    })?;
    let users = nodes
        .iter()
        .filter_map(|&node| stage.sim.app(node).contender.clone());
    let users: Vec<_> = users.collect();
    for user in &users {
        ensure((user.failed, user.lost) == (0, 0), || {
            format!("{} requests failed, {} locks were lost", user.failed, user.lost)
        })?;
        ensure(user.longest <= bound, || {
            format!("somebody waited for {:?}; the bound is {bound:?}", user.longest)
        })?;
        // Each has its turn, and the three of them keep the lock for most of the time.
        let fair = lasting.as_millis() / (hold * NODES as u32 * 2).as_millis();
        ensure(u128::from(user.granted) >= fair, || {
            format!(
                "somebody had the lock {} times; at least {fair} were to be",
                user.granted
            )
        })?;
    }
    stage.nothing_left(KEY, secs(2))
}
