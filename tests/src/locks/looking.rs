//! Who holds what, and who waits for it.

use super::{acquire, group};
use crate::{Runtime, shutdown, soon};
use quorate::{LockFilter, LostReason};

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
