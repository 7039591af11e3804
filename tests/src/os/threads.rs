//! Locks and threads that know of no runtime.

use crate::locks::{acquire, patient};
use crate::messages::echo;
use crate::{Runtime, SOON, shutdown, until};

/// A guard gives its lock back in a thread that knows of no runtime.
pub async fn a_guard_dropped_outside_of_any_runtime<R: Runtime>() {
    let (nodes, guard) = patient::<R>().await;
    std::thread::spawn(move || drop(guard)).join().expect("no panic");
    drop(acquire::<R>(&nodes[1], "k").await);
    shutdown::<R>(nodes).await;
}

/// A handle needs no runtime: a thread that knows of none asks, listens and takes locks with it.
pub async fn a_thread_without_a_runtime<R: Runtime>() {
    let (nodes, guard) = patient::<R>().await;
    echo::<R>(&nodes[1]);
    let (node, to) = (nodes[2].clone(), nodes[1].id());
    let (done, token) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || {
        smol::future::block_on(async {
            let mut events = node.events();
            let answer = node.request(to, "over there?", SOON).await;
            assert_eq!(answer.expect("answered"), "over there?");
            let guard = node.lock("k").acquire().await.expect("granted");
            let _ = done.send(guard.token());
            guard.release().await.expect("held");
            node.shutdown().await;
            while events.next().await.is_some() {}
        });
    });
    let first = guard.token();
    drop(guard);
    until::<R>("its end", || thread.is_finished()).await;
    thread.join().expect("no panic");
    assert!(token.recv().expect("a token") > first);
    shutdown::<R>(nodes).await;
}
