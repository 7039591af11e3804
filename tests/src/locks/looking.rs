//! Who holds what, and who waits for it.

use super::{LONG, acquire, group, group_of, patient, three, until_known};
use crate::{Runtime, poll_once, shutdown, soon, until_async, within};
use core::pin::pin;
use core::time::Duration;
use quorate::{Closed, LockCounts, LockError, LockFilter, LockQueryError, LockRow, LostReason};

/// Everybody sees who holds and waits, and can take a lock from its holder.
pub async fn listing_and_force<R: Runtime>() {
    let nodes = group::<R>().await;
    let named = nodes[0].lock("jobs/a").metadata("who", "zero");
    let guard = soon::<R, _>("a lock", named.acquire()).await.expect("granted");
    let other = acquire::<R>(&nodes[1], "jobs/b").await;
    let _third = acquire::<R>(&nodes[1], "other").await;
    for node in &nodes {
        let rows = soon::<R, _>("a list", node.locks(LockFilter::new().key("jobs/*")).all()).await;
        let rows = rows.expect("a list");
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (&*row.key, row.owner.node, row.token))
            .collect();
        let a = ("jobs/a", nodes[0].id(), Some(guard.token()));
        assert_eq!(seen, [a, ("jobs/b", nodes[1].id(), Some(other.token()))]);
        assert!(rows[0].metadata().eq([("who", "zero")]));
    }
    for unsafely in [false, true] {
        let guard = acquire::<R>(&nodes[0], "stuck").await;
        let token = guard.token();
        let taken = if unsafely {
            soon::<R, _>("an answer", nodes[2].force_release_unsafely(token)).await
        } else {
            soon::<R, _>("an answer", nodes[2].force_release(token)).await
        };
        assert_eq!(taken, Ok(true));
        let next = acquire::<R>(&nodes[1], "stuck").await;
        let reason = soon::<R, _>("the loss", guard.lost()).await;
        if !unsafely {
            assert_eq!(reason, LostReason::Revoked);
        }
        assert!(next.token() > token);
        let none = soon::<R, _>("an answer", nodes[0].force_release(u64::MAX >> 1)).await;
        assert_eq!(none, Ok(false));
        drop((guard, next));
    }
    drop((guard, other));
    shutdown::<R>(nodes).await;
}

/// A list has as many pages as it takes, in the order of the keys; what is there all the while is listed exactly once,
/// although others come and go.
pub async fn pages<R: Runtime>() {
    let nodes = group::<R>().await;
    let mut guards = Vec::new();
    for i in 0..40 {
        let lock = nodes[i % 3].lock(format!("jobs/{i:02}")).ttl(LONG);
        let lock = lock.metadata("what", "x".repeat(100));
        guards.push(soon::<R, _>("a lock", lock.acquire()).await.expect("granted"));
    }
    let mut pages = nodes[0].locks(LockFilter::new().key("jobs/*"));
    let (mut rows, mut count) = (Vec::new(), 0);
    while let Some(page) = soon::<R, _>("a page", pages.next()).await.expect("a page") {
        rows.extend(page);
        count += 1;
        // One behind the page, that comes and goes.
        drop(acquire::<R>(&nodes[count % 3], "jobs/99").await);
    }
    assert!(count >= 4, "{count} pages");
    let listed: Vec<_> = rows
        .iter()
        .filter(|row| &*row.key != "jobs/99")
        .map(|row| (row.key.to_string(), row.owner.node, row.token))
        .collect();
    let expected: Vec<_> = guards
        .iter()
        .enumerate()
        .map(|(i, guard)| (format!("jobs/{i:02}"), nodes[i % 3].id(), Some(guard.token())))
        .collect();
    assert_eq!(listed, expected);
    drop(guards);
    shutdown::<R>(nodes).await;
}

/// Each filter leaves out what it says.
pub async fn filters<R: Runtime>() {
    let named = core::cell::Cell::new(0);
    let nodes = group_of::<R>(|| {
        named.set(named.get() + 1);
        three().name(format!("replica-{}", named.get() - 1))
    })
    .await;
    let take = async |i: usize, key: &str, ttl, metadata: &str| {
        let lock = nodes[i].lock(key).ttl(ttl).metadata("who", metadata);
        soon::<R, _>("a lock", lock.acquire()).await.expect("granted")
    };
    let a = take(0, "jobs/a", LONG, "zero").await;
    let b = take(1, "jobs/b", Duration::from_secs(60), "one").await;
    let c = take(2, "other", LONG, "two").await;
    let mut waits = pin!(nodes[2].lock("jobs/b").metadata("who", "waits").acquire());
    assert!(poll_once(waits.as_mut()).await.is_pending());
    until_known::<R>(&nodes[0], "jobs/b", (1, 1)).await;
    let list = async |filter: LockFilter, owner: Option<&str>| {
        let mut pages = nodes[1].locks(filter);
        if let Some(owner) = owner {
            pages = pages.owner_name(owner);
        }
        let rows = soon::<R, _>("a list", pages.all()).await.expect("a list");
        let held = |row: &LockRow| if row.token.is_some() { "" } else { "?" };
        let keys: Vec<_> = rows
            .iter()
            .map(|row| format!("{}{}", row.key, held(row)))
            .collect();
        keys.join(" ")
    };
    let new = LockFilter::new;
    for (filter, owner, expected) in [
        (new(), None, "jobs/a jobs/b jobs/b? other"),
        (new().key("jobs/?"), None, "jobs/a jobs/b jobs/b?"),
        (new().key("other"), None, "other"),
        (new().key("nothing*"), None, ""),
        (new().held(), None, "jobs/a jobs/b other"),
        (new().contested(), None, "jobs/b jobs/b?"),
        (new().owner(nodes[2].id()), None, "jobs/b? other"),
        (new().owner(nodes[2].id()).held(), None, "other"),
        (new().expires_within(Duration::from_secs(90)), None, "jobs/b"),
        (new().metadata("who", "?ero"), None, "jobs/a"),
        (new().metadata("who", "w*"), None, "jobs/b?"),
        (new().metadata("whose", "*"), None, ""),
        (new(), Some("replica-[01]"), ""),
        (new(), Some("replica-?"), "jobs/a jobs/b jobs/b? other"),
        (new().held(), Some("*-1"), "jobs/b"),
    ] {
        assert_eq!(
            list(filter.clone(), owner).await,
            expected,
            "{filter:?}, {owner:?}"
        );
    }
    let wrong = nodes[0]
        .locks(new().metadata("who", "x".repeat(256).as_str()))
        .all();
    let error = soon::<R, _>("an answer", wrong)
        .await
        .expect_err("it is too long");
    assert!(matches!(
        error,
        LockQueryError::Failed(LockError::Pattern { len: 256, .. })
    ));
    drop(b);
    let b = soon::<R, _>("its turn", waits).await.expect("granted");
    drop((a, b, c));
    shutdown::<R>(nodes).await;
}

/// A watch tells how a lock stands after each change, until nobody is left.
pub async fn watching<R: Runtime>() {
    let (nodes, guard) = patient::<R>().await;
    let mut watch = soon::<R, _>("a watch", nodes[1].watch("k"))
        .await
        .expect("watches");
    let mut until_stands = async |expected: (Option<u64>, usize)| {
        let told = async {
            loop {
                let info = watch.next().await.expect("the node runs").unwrap_or_default();
                let holder = info.holders.first().and_then(|row| row.token);
                if (holder, info.waiters.len()) == expected {
                    return;
                }
            }
        };
        soon::<R, _>("news of a lock", told).await;
    };
    until_stands((Some(guard.token()), 0)).await;
    let mut waits = pin!(nodes[2].lock("k").ttl(LONG).acquire());
    assert!(poll_once(waits.as_mut()).await.is_pending());
    until_stands((Some(guard.token()), 1)).await;
    drop(guard);
    let next = soon::<R, _>("its turn", waits).await.expect("granted");
    until_stands((Some(next.token()), 0)).await;
    drop(next);
    until_stands((None, 0)).await;
    // It stays that way: at most the last change is told once more.
    let mut told = 0;
    while let Some(news) = within::<R, _>(Duration::from_millis(300), watch.next()).await {
        assert_eq!(news, Ok(None));
        told += 1;
        assert!(told < 3, "a watch that tells the same again and again");
    }
    soon::<R, _>("a shutdown", nodes[1].shutdown()).await;
    let over = soon::<R, _>("the end", watch.next()).await;
    assert_eq!(over, Err(LockQueryError::Closed(Closed)));
    assert!(
        LockQueryError::Failed(LockError::Key { len: 0 }) == nodes[0].watch("").await.map(drop).unwrap_err()
    );
    shutdown::<R>(nodes).await;
}

/// Status and counters agree with what was done.
pub async fn counts<R: Runtime>() {
    let (nodes, held) = patient::<R>().await;
    let mut waits = pin!(nodes[1].lock("k").acquire());
    assert!(poll_once(waits.as_mut()).await.is_pending());
    until_known::<R>(&nodes[1], "k", (1, 1)).await;
    let own = async |i: usize| {
        let group = nodes[i].status().await.expect("it runs").consensus;
        assert!(group.open && group.seats.len() == 3, "{group:?}");
        // None while it does not know who leads.
        group.problem.is_none().then_some(group.locks)
    };
    // Followers apply what was decided a little later.
    until_async::<R>("all have applied it", async || {
        let mut all = true;
        for i in 0..3 {
            let Some(counts) = own(i).await else {
                return false;
            };
            all &= (counts.locks, counts.held, counts.waiting) == (1, 1, 1) && counts.bytes > 64;
            assert_eq!(
                (counts.own_held, counts.own_waiting),
                (usize::from(i == 0), usize::from(i == 1))
            );
        }
        all
    })
    .await;
    for _ in 0..3 {
        drop(acquire::<R>(&nodes[2], "other").await);
        let _ = soon::<R, _>("an answer", nodes[2].try_lock("k"))
            .await
            .expect_err("taken");
    }
    drop(held);
    drop(soon::<R, _>("its turn", waits).await.expect("granted"));
    until_async::<R>("all have applied it", async || {
        own(0).await == Some(LockCounts::default()) && own(1).await == Some(LockCounts::default())
    })
    .await;
    let mut sums = Vec::new();
    for node in &nodes {
        let stats = node.stats().await.expect("it runs");
        sums.push((
            stats.locks_granted,
            stats.locks_released,
            stats.lock_requests_failed,
        ));
        assert_eq!(stats.locks_lost, 0);
    }
    assert_eq!(sums, [(1, 1, 0), (1, 1, 0), (3, 3, 3)]);
    shutdown::<R>(nodes).await;
}
