//! What the table keeps and shows.

use super::stage::{AT_ONCE, NODES, Stage};
use super::{Done, Script, ensure, ms, secs};
use crate::fault::FaultKind;
use crate::world::NodeIndex;
use quorate_core::{LockEvent, LockFilter, LockRequest, LockRow};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "locks-waiter-has-its-own-ttl",
        about: "Who holds a lock has a long lease, who waits for it a short one.\nThe waiter is told when it is its turn, has its own lease, and when it crashes that one is waited for.",
        cluster_size: NODES as u8,
        play: own_ttl,
    },
    Script {
        name: "locks-metadata-kept",
        about: "Who holds and who waits says something about itself.\nA listing shows it of both, of the waiter when it holds, and when another leads.",
        cluster_size: NODES as u8,
        play: metadata,
    },
    Script {
        name: "locks-no-shared-token",
        about: "All members take locks of all kinds, several at a time, and leaders die.\nNo token is granted twice, and each is higher than all before it.",
        cluster_size: NODES as u8,
        play: tokens,
    },
    Script {
        name: "locks-wildcard-filters",
        about: "Locks are listed by parts of their keys, of what their holders say, by owner, and by state.\nEach listing has exactly those that fit.",
        cluster_size: NODES as u8,
        play: filters,
    },
    Script {
        name: "locks-stable-pages",
        about: "Many locks are listed page by page, while others come and go between the pages and another leader is elected.\nEach lock that is there all the time is listed exactly once, in order.",
        cluster_size: NODES as u8,
        play: pages,
    },
];

const KEY: &str = "the lock";

fn request() -> LockRequest {
    LockRequest::new(KEY).wait(secs(60))
}

/// Lets the leader crash, and waits for the next one.
fn another_leads(stage: &mut Stage) -> Done {
    let leader = stage.leader()?;
    let host = stage.host(leader);
    stage.sim.inject(FaultKind::Crash { host }, secs(3));
    let bound = stage.election();
    stage.until("another leads", bound, |stage| {
        stage.leader().is_ok_and(|it| it != leader)
    })
}

fn own_ttl(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let (long, short) = (secs(30), secs(4));
    let first = stage.take(a, request().ttl(long))?;
    let waiter = stage.queue(b, request().ttl(short))?;
    stage.sim.run_for(secs(5));
    stage.give_back(a, first.id)?;
    let own = stage.granted(b, waiter, AT_ONCE)?;
    // Renewed at once, as what is granted from the queue is short.
    stage.sim.run_for(secs(10));
    let clock = stage.sim.world().clock(stage.host(b));
    let left = stage.believes_until(own).saturating_since(clock);
    ensure(stage.holds(own) && left <= short, || {
        format!("{own:?} counts for another {left:?}")
    })?;
    let rows = stage.list(leader, &LockFilter::new().key(KEY))?;
    let ttls: Vec<_> = rows.iter().map(|row| row.ttl_ms).collect();
    ensure(ttls == [4_000], || {
        format!("the listing has leases of {ttls:?} ms")
    })?;
    let next = stage.queue(leader, request().ttl(short))?;
    let host = stage.host(b);
    stage.sim.inject(FaultKind::Crash { host }, secs(1));
    let bound = stage.lease(short) + ms(1_300);
    stage.granted(leader, next, bound)?;
    stage.give_back(leader, next)?;
    stage.nothing_left(KEY, AT_ONCE)
}

/// What a row says of somebody, and whether it holds the lock.
fn says(row: &LockRow) -> (bool, Vec<(String, String)>) {
    let pairs = row.metadata();
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (row.token.is_some(), pairs.collect())
}

fn metadata(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let says_of = |holds: bool, name: &str| {
        let pairs = [("name", name), ("why", "maintenance of π")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (holds, pairs.to_vec())
    };
    let request = |name: &str| {
        request()
            .metadata("name", name)
            .metadata("why", "maintenance of π")
    };
    let first = stage.take(a, request("alpha"))?;
    let waiter = stage.queue(b, request("beta"))?;
    let check = |stage: &mut Stage, asks: NodeIndex, expected: &[(bool, Vec<(String, String)>)]| {
        let rows = stage.list(asks, &LockFilter::new())?;
        let shown: Vec<_> = rows.iter().map(says).collect();
        ensure(shown == expected, || {
            format!("the listing says {shown:?} in place of {expected:?}")
        })
    };
    for node in [leader, a, b] {
        check(stage, node, &[says_of(true, "alpha"), says_of(false, "beta")])?;
    }
    stage.give_back(a, first.id)?;
    stage.granted(b, waiter, AT_ONCE)?;
    check(stage, a, &[says_of(true, "beta")])?;
    another_leads(stage)?;
    check(stage, a, &[says_of(true, "beta")])?;
    stage.give_back(b, waiter)?;
    stage.nothing_left(KEY, secs(2))
}

fn tokens(stage: &mut Stage) -> Done {
    const ROUNDS: u64 = 40;
    let (mut all, mut highest) = (BTreeSet::new(), 0);
    for round in 0..ROUNDS {
        if round % 10 == 9 {
            another_leads(stage)?;
            stage.sim.run_for(secs(4));
            stage.settle()?;
        }
        let mut open = Vec::new();
        for node in stage.running().collect::<Vec<_>>() {
            let requests = [
                LockRequest::new("one"),
                LockRequest::read("many").wait(secs(5)),
                LockRequest::units("some", 2, 4).wait(secs(5)),
                LockRequest::new(format!("own {}", stage.host(node).0)),
            ];
            for request in requests {
                open.push((node, stage.ask(node, request)?));
            }
        }
        stage.sim.run_for(AT_ONCE);
        let granted: Vec<_> = open
            .iter()
            .filter_map(|&(node, id)| stage.grant(node, id))
            .collect();
        // Of one lock one has it, of three readers all, of four units two twice, and all their own.
        ensure(granted.len() == 1 + 3 + 2 + 3, || {
            format!("{} are granted", granted.len())
        })?;
        for grant in &granted {
            ensure(all.insert(grant.token), || {
                format!("the token of {grant:?} was granted before")
            })?;
            ensure(grant.token > highest, || {
                format!("{grant:?} comes after the token {highest}")
            })?;
        }
        highest = granted.iter().map(|grant| grant.token).max().unwrap_or(highest);
        for &(node, id) in &open {
            if stage.failure(node, id).is_none() {
                stage.give_back(node, id)?;
            }
        }
        stage.sim.run_for(AT_ONCE);
        // Units that were given back while somebody waited for them were granted once more.
        highest = highest.max(stage.counter()?);
    }
    Ok(())
}

fn filters(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let held = [
        (a, "jobs/1", "worker-1", 20),
        (a, "jobs/2", "worker-2", 20),
        (a, "jobs/10", "worker-10", 20),
        (b, "mail", "courier*", 20),
        (b, "jobs", "worker-1", 2),
    ];
    for (node, key, name, ttl) in held {
        let request = LockRequest::new(key).ttl(secs(ttl));
        stage.take(node, request.metadata("name", name))?;
    }
    stage.queue(b, LockRequest::new("jobs/1").wait(secs(30)).ttl(secs(20)))?;
    let filter = LockFilter::new;
    let (all, waits) = (
        ["jobs", "jobs/1", "jobs/1", "jobs/10", "jobs/2", "mail"],
        ["jobs/1"],
    );
    let cases: [(LockFilter, &[&str]); 17] = [
        (filter(), &all),
        (filter().key("*"), &all),
        (filter().key("jobs/*"), &all[1..5]),
        (filter().key("jobs*"), &all[..5]),
        (filter().key("jobs/?"), &["jobs/1", "jobs/1", "jobs/2"]),
        (filter().key("*/1*"), &["jobs/1", "jobs/1", "jobs/10"]),
        (filter().key("m?il"), &["mail"]),
        (filter().key("jobs/"), &[]),
        (filter().held(), &["jobs", "jobs/1", "jobs/10", "jobs/2", "mail"]),
        (filter().contested(), &["jobs/1", "jobs/1"]),
        (filter().contested().held(), &waits),
        (filter().owner(stage.sim.id(b)), &["jobs", "jobs/1", "mail"]),
        (filter().owner(stage.sim.id(leader)), &[]),
        (
            filter().metadata("name", "worker-*"),
            &["jobs", "jobs/1", "jobs/10", "jobs/2"],
        ),
        (filter().metadata("name", "worker-1?").key("jobs/*"), &["jobs/10"]),
        (filter().metadata("names", "*"), &[]),
        (filter().expires_within(secs(3)), &["jobs"]),
    ];
    for (filter, expected) in cases {
        let rows = stage.list(leader, &filter)?;
        let keys: Vec<&str> = rows.iter().map(|row| &*row.key).collect();
        ensure(keys == expected, || {
            format!("{filter:?} fits {keys:?} in place of {expected:?}")
        })?;
    }
    for node in [a, b] {
        let ids = stage.told(node).iter().filter_map(|(_, event)| match *event {
            LockEvent::Granted { id, .. } => Some(id),
            _ => None,
        });
        for id in ids.collect::<Vec<_>>() {
            stage.give_back(node, id)?;
        }
    }
    stage.until("the waiter is served", AT_ONCE, |stage| {
        let granted = |(_, event): &(_, LockEvent)| matches!(event, LockEvent::Granted { .. });
        stage.told(b).iter().filter(|told| granted(told)).count() == 3
    })?;
    let last = stage.told(b).iter().rev().find_map(|(_, event)| match *event {
        LockEvent::Granted { id, .. } => Some(id),
        _ => None,
    });
    stage.give_back(b, last.ok_or("nothing was granted")?)?;
    stage.nothing_left("jobs/1", AT_ONCE)
}

fn pages(stage: &mut Stage) -> Done {
    const LOCKS: usize = 300;
    let [a, b] = stage.followers()?;
    let key = |nth: usize| format!("lock {nth:04}");
    let mut mine = Vec::new();
    // Every other key stays all the time.
    for nth in (0..LOCKS).step_by(2) {
        mine.push(stage.ask(a, LockRequest::new(key(nth)).metadata("what", "stays".repeat(10)))?);
    }
    let count = mine.len();
    stage.until("all are granted", secs(5), |stage| stage.told(a).len() >= count)?;
    let mut moving = BTreeMap::new();
    let mut turn = |stage: &mut Stage, page: usize| -> Done {
        for nth in (1..LOCKS).step_by(2).filter(|nth| nth / 2 % 3 == page % 3) {
            if let Some(id) = moving.remove(&nth) {
                stage.give_back(b, id)?;
            } else {
                moving.insert(nth, stage.ask(b, LockRequest::new(key(nth)))?);
            }
        }
        stage.sim.run_for(AT_ONCE);
        Ok(())
    };
    let (mut keys, mut after, mut count) = (Vec::new(), None, 0);
    loop {
        turn(stage, count)?;
        if count == 2 {
            another_leads(stage)?;
        }
        let page = stage.page(b, LockFilter::new().key("lock *"), after)?;
        count += 1;
        keys.extend(page.rows.iter().map(|row| row.key.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure(count > 4, || format!("there are only {count} pages"))?;
    ensure(keys.is_sorted_by(|a, b| a < b), || {
        format!("the keys are out of order, or there twice: {keys:?}")
    })?;
    let listed: BTreeSet<_> = keys.into_iter().collect();
    let missing = (0..LOCKS).step_by(2).map(key).find(|key| !listed.contains(key));
    ensure(missing.is_none(), || {
        format!("{missing:?} was there all the time, and is not listed")
    })?;
    for id in mine {
        stage.give_back(a, id)?;
    }
    for id in moving.into_values() {
        stage.give_back(b, id)?;
    }
    stage.nothing_left(&key(0), secs(2))
}
