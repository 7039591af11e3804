//! Locks and threads that know of no runtime.

use crate::locks::{acquire, patient};
use crate::{Runtime, shutdown};

/// A guard gives its lock back in a thread that knows of no runtime.
pub async fn a_guard_dropped_outside_of_any_runtime<R: Runtime>() {
    let (nodes, guard) = patient::<R>().await;
    std::thread::spawn(move || drop(guard)).join().expect("no panic");
    drop(acquire::<R>(&nodes[1], "k").await);
    shutdown::<R>(nodes).await;
}
