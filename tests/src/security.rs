//! Who may be there.

use crate::{
    LOOK, Runtime, SOON, cluster, config, key, lists, shutdown, soon, start, until_all_meet, until_async,
};
use core::time::Duration;
use quorate::{Config, DropReason, Key, KeyRing, ReadyError};

/// Another key, no key: each side sees nothing of the other but a counter and a name.
pub async fn wrong_key_and_plaintext<R: Runtime>() {
    let nodes = cluster::<R>(2, config).await;
    let seed = nodes[0].local_addr().to_string();
    let base = || Config::new(seed.clone()).bind("127.0.0.1:0");
    let wrong = start::<R>(base().key(Key::from_bytes([8; 32]))).await;
    let open = start::<R>(base().insecure()).await;
    soon::<R, _>("readiness", open.ready()).await.expect("alone");
    until_async::<R>("both are counted", async || {
        let stats = nodes[0].stats().await.expect("running");
        stats.dropped(DropReason::UnknownKey) > 0 && stats.dropped(DropReason::OtherFlavor) > 0
    })
    .await;
    assert!(!open.is_secure() && !open.status().await.expect("running").secured && nodes[0].is_secure());
    assert!(lists(&nodes[0], &nodes) && wrong.members().is_empty() && open.members().is_empty());
    shutdown::<R>(nodes).await;
    shutdown::<R>(vec![wrong, open]).await;
}

/// The keys rotate under a running cluster; nobody is lost, and the one that missed it is named on both sides.
pub async fn key_rotation<R: Runtime>() {
    let nodes = cluster::<R>(3, config).await;
    let (old, new) = (key(), Key::from_bytes([8; 32]));
    for ring in [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]] {
        for node in &nodes {
            node.set_keys(KeyRing::from_keys(ring.clone()).expect("keys"))
                .await
                .expect("running");
        }
    }
    // Sessions change over within 30 s.
    let begun = R::now();
    for node in &nodes {
        loop {
            let usage = node.status().await.expect("running").key_usage;
            if usage
                .iter()
                .any(|usage| usage.key == new.id() && usage.peers == 2)
            {
                break;
            }
            assert!(R::now() - begun < 2 * SOON, "{usage:?}");
            R::sleep(LOOK).await;
        }
    }
    for node in &nodes {
        node.set_keys(KeyRing::new(new.clone())).await.expect("running");
    }
    R::sleep(Duration::from_secs(1)).await;
    assert!(nodes.iter().all(|node| lists(node, &nodes)));
    // A node that missed the rotation: it has the old key only, and its seed speaks the new one.
    let late = start::<R>(config().seed(nodes[0].local_addr().to_string())).await;
    until_async::<R>("the key that was missed is named", async || {
        let unknown = nodes[0].status().await.expect("running").unknown_keys;
        unknown
            .iter()
            .any(|(addr, key)| *addr == late.local_addr() && *key == old.id())
    })
    .await;
    assert!(late.members().is_empty());
    shutdown::<R>(vec![late]).await;
    shutdown::<R>(nodes).await;
}

/// A member that missed a rotation is told by its `ready`, and is let in with the right ring.
pub async fn a_missed_rotation<R: Runtime>() {
    // The two name each other as seeds, as the replicas of one service do; so the first port has to be known early.
    let first = start::<R>(config()).await;
    let addr = first.local_addr();
    let behind = start::<R>(config().seed(addr.to_string())).await;
    shutdown::<R>(vec![first]).await;
    let (old, new) = (key(), Key::from_bytes([8; 32]));
    let seed = behind.local_addr().to_string();
    let other = start::<R>(config().bind(addr.to_string()).key(new.clone()).seed(seed)).await;
    // It was ready with the first node, and has perhaps not been dialled by the second one yet.
    until_async::<R>("readiness fails", async || match behind.ready().await {
        Err(ReadyError::UnknownKey { addr: named, key }) => {
            assert_eq!((named, key), (addr, new.id()));
            true
        }
        ready => {
            assert_eq!(ready, Ok(()));
            false
        }
    })
    .await;
    behind
        .set_keys(KeyRing::from_keys([new, old]).expect("keys"))
        .await
        .expect("running");
    let nodes = vec![behind, other];
    until_all_meet::<R>(&nodes).await;
    soon::<R, _>("readiness", nodes[0].ready()).await.expect("ready");
    shutdown::<R>(nodes).await;
}

/// A node with other settings is quarantined: seen, named, and no member.
pub async fn quarantine<R: Runtime>() {
    let nodes = cluster::<R>(2, || config().cluster_size(3)).await;
    let other = start::<R>(config().cluster_size(5).seed(nodes[0].local_addr().to_string())).await;
    for (node, theirs) in [(&nodes[0], other.id()), (&other, nodes[0].id())] {
        until_async::<R>("the other is quarantined", async || {
            let quarantined = node.status().await.expect("running").quarantined;
            let Some(found) = quarantined.iter().find(|q| q.id == theirs) else {
                return false;
            };
            let text = found.reasons[0].to_string();
            assert!(text.contains("cluster_size"), "{text}");
            true
        })
        .await;
    }
    assert!(lists(&nodes[0], &nodes) && other.members().is_empty());
    // With the settings mended it is let in.
    shutdown::<R>(vec![other]).await;
    let mended = start::<R>(config().cluster_size(3).seed(nodes[0].local_addr().to_string())).await;
    let mut all = nodes;
    all.push(mended);
    until_all_meet::<R>(&all).await;
    shutdown::<R>(all).await;
}
