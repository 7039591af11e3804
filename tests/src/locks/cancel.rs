//! Whoever gives up leaves nothing behind.

use super::{acquire, group, until_known};
use crate::{Runtime, shutdown, within};
use core::time::Duration;

/// Whoever stops waiting, at whatever moment, does not get the lock.
pub async fn a_dropped_acquire_leaves_nothing<R: Runtime>() {
    let nodes = group::<R>().await;
    let held = acquire::<R>(&nodes[0], "k").await;
    for (i, node) in nodes.iter().cycle().take(9).enumerate() {
        let limit = Duration::from_millis(3 * i as u64);
        let granted = within::<R, _>(limit, node.lock("k").acquire()).await;
        assert!(granted.is_none(), "it is held");
    }
    until_known::<R>(&nodes[1], "k", (1, 0)).await;
    assert_eq!(held.release().await, Ok(()));
    // Free, and given up at any moment: before it is granted, after, or while the grant is on its way.
    for (i, node) in nodes.iter().cycle().take(30).enumerate() {
        let limit = Duration::from_micros(100 * i as u64);
        drop(within::<R, _>(limit, node.lock("k").acquire()).await);
    }
    until_known::<R>(&nodes[2], "k", (0, 0)).await;
    shutdown::<R>(nodes).await;
}
