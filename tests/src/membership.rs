//! Who is there.

use crate::{Mortal, Runtime, cluster, config, lists, shutdown, soon, start, until, until_all_meet};
use core::time::Duration;
use quorate::{Cluster, ClusterEvent, Config, Events, LeaveReason, NodeId, Role};

/// Waits for the news that a member is gone.
async fn departure<R: Runtime>(events: &mut Events, id: NodeId) -> LeaveReason {
    soon::<R, _>("a departure", async {
        loop {
            match events.next().await {
                Some(ClusterEvent::MemberLeft { member, reason }) if member.id == id => return reason,
                Some(_) => {}
                None => panic!("the events ended"),
            }
        }
    })
    .await
}

/// Nodes find each other by name, by address, and through a third one.
pub async fn join_by_name_address_and_gossip<R: Runtime>() {
    let a = start::<R>(config().name("a")).await;
    let by_name = R::seed_by_name(a.local_addr());
    let b = start::<R>(config().name("b").metadata(*b"zone=2").seed(by_name)).await;
    let c = start::<R>(config().role(Role::Observer).seed(b.local_addr().to_string())).await;
    let nodes = [a, b, c];
    until_all_meet::<R>(&nodes).await;
    for node in &nodes {
        soon::<R, _>("readiness", node.ready()).await.expect("ready");
    }
    let details = || {
        nodes[2]
            .member(nodes[1].id())
            .is_some_and(|m| m.name == "b" && m.metadata == "zone=2")
    };
    until::<R>("name and metadata", details).await;
    until::<R>("the role", || {
        nodes[0]
            .member(nodes[2].id())
            .is_some_and(|m| m.role == Role::Observer)
    })
    .await;
    let found = nodes[0]
        .member_by_addr(nodes[1].local_addr())
        .map(|member| member.id);
    assert_eq!(found, Some(nodes[1].id()));
    shutdown::<R>(nodes.into()).await;
}

/// A crash is noticed, and is not a goodbye.
pub async fn crash<R: Runtime>() {
    let a = start::<R>(config()).await;
    let seed = a.local_addr().to_string();
    let b = start::<R>(config().seed(seed.clone())).await;
    let mortal = Mortal::start::<R>(config().seed(seed)).await;
    let id = mortal.cluster.id();
    let nodes = [a.clone(), b.clone(), mortal.cluster.clone()];
    until_all_meet::<R>(&nodes).await;
    let (mut ea, mut eb) = (a.events(), b.events());
    mortal.die::<R>().await;
    assert_eq!(departure::<R>(&mut ea, id).await, LeaveReason::Failed);
    assert_eq!(departure::<R>(&mut eb, id).await, LeaveReason::Failed);
    assert!(lists(&a, &[a.clone(), b.clone()]));
    shutdown::<R>(vec![a, b]).await;
}

/// A goodbye is noticed at once, and further calls on the one that left fail clearly.
pub async fn leave<R: Runtime>() {
    let mut nodes = cluster::<R>(3, config).await;
    let mut events = nodes[0].events();
    let gone = nodes.pop().expect("three nodes");
    soon::<R, _>("a shutdown", gone.shutdown()).await;
    soon::<R, _>("a second shutdown", gone.shutdown()).await;
    assert_eq!(departure::<R>(&mut events, gone.id()).await, LeaveReason::Left);
    until_all_meet::<R>(&nodes).await;
    assert!(gone.broadcast("too late").await.is_err());
    assert!(gone.ready().await.is_err());
    shutdown::<R>(nodes).await;
}

/// Dropping the last handle says goodbye too.
pub async fn dropping_every_handle_leaves<R: Runtime>() {
    let mut nodes = cluster::<R>(2, config).await;
    let mut events = nodes[0].events();
    let dropped = nodes.pop().expect("two nodes");
    let id = dropped.id();
    drop(dropped);
    assert_eq!(departure::<R>(&mut events, id).await, LeaveReason::Left);
    shutdown::<R>(nodes).await;
}

/// A restarted process is a new member, at its old address and at another one.
pub async fn rejoin<R: Runtime>() {
    let a = start::<R>(config()).await;
    let seed = a.local_addr().to_string();
    let mut mortal = Mortal::start::<R>(config().seed(seed.clone())).await;
    until_all_meet::<R>(&[a.clone(), mortal.cluster.clone()]).await;
    let addr = mortal.cluster.local_addr().to_string();
    for bind in [addr, "127.0.0.1:0".into()] {
        let mut events = a.events();
        let old = mortal.cluster.id();
        mortal.die::<R>().await;
        mortal = Mortal::start::<R>(config().bind(bind).seed(seed.clone())).await;
        assert_ne!(departure::<R>(&mut events, old).await, LeaveReason::Left);
        until_all_meet::<R>(&[a.clone(), mortal.cluster.clone()]).await;
    }
    shutdown::<R>(vec![a, mortal.cluster]).await;
}

/// The quorum gate opens when enough are there, and a broadcast waits for it.
pub async fn quorum<R: Runtime>() {
    let three = || config().cluster_size(3);
    let a = start::<R>(three()).await;
    assert_eq!((a.quorum_size(), a.has_quorum()), (2, false));
    let waiting = a.clone();
    let (done, outcome) = std::sync::mpsc::sync_channel(1);
    R::spawn(async move {
        waiting.wait_for_quorum().await.expect("a quorum");
        let _ = done.send(());
    });
    R::sleep(Duration::from_millis(300)).await;
    assert!(outcome.try_recv().is_err(), "one of three is no quorum");
    let b = start::<R>(three().seed(a.local_addr().to_string())).await;
    until::<R>("a quorum", || outcome.try_recv().is_ok()).await;
    let deliveries = soon::<R, _>("a broadcast", a.broadcast("hello"))
        .await
        .expect("sent");
    assert_eq!(deliveries.len(), 1);
    assert_eq!((deliveries[0].to, deliveries[0].result), (b.id(), Ok(())));
    shutdown::<R>(vec![b]).await;
    until::<R>("the gate closes", || !a.has_quorum()).await;
    shutdown::<R>(vec![a]).await;
}

/// Twenty nodes in one process.
pub async fn twenty_nodes<R: Runtime>() {
    let nodes = cluster::<R>(20, config).await;
    let deliveries = soon::<R, _>("a broadcast", nodes[7].broadcast("to all"))
        .await
        .expect("sent");
    assert_eq!(deliveries.len(), 19);
    assert!(
        deliveries.iter().all(|delivery| delivery.result.is_ok()),
        "{deliveries:?}"
    );
    let mut messages: Vec<_> = nodes.iter().map(Cluster::messages).collect();
    for (i, messages) in messages.iter_mut().enumerate().filter(|(i, _)| *i != 7) {
        let message = soon::<R, _>("the message", messages.next()).await.expect("open");
        assert_eq!(message.payload, "to all", "node {i}");
    }
    drop(messages);
    shutdown::<R>(nodes).await;
}

/// What cannot be started says which fields are wrong.
pub async fn bad_configs<R: Runtime>() {
    let wrong = Config::default()
        .bind("somewhere")
        .role(Role::Observer)
        .surge(1)
        .max_message_size(0_usize);
    let text = R::start(wrong).await.expect_err("wrong").to_string();
    for part in ["security", "bind", "somewhere", "surge", "max_message_size"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A name that does not resolve is a warning, not an error.
pub async fn an_unresolvable_name<R: Runtime>() {
    let node = start::<R>(config()).await;
    let lonely = start::<R>(
        config()
            .seed("does-not-exist.invalid")
            .seed(node.local_addr().to_string()),
    )
    .await;
    let mut events = lonely.events();
    lonely.refresh().await.expect("running");
    let warned = soon::<R, _>("a warning", async {
        loop {
            match events.next().await {
                Some(ClusterEvent::ResolveFailed { host }) => return host,
                Some(_) => {}
                None => panic!("the events ended"),
            }
        }
    })
    .await;
    assert_eq!(warned, "does-not-exist.invalid");
    until_all_meet::<R>(&[node.clone(), lonely.clone()]).await;
    soon::<R, _>("readiness", lonely.ready())
        .await
        .expect("ready without that name");
    shutdown::<R>(vec![node, lonely]).await;
}

/// Many clusters in one process do not see each other unless they share a name.
pub async fn several_clusters_in_one_process<R: Runtime>() {
    let first = cluster::<R>(2, || config().cluster_name("first")).await;
    let seed = first[0].local_addr().to_string();
    let second = cluster::<R>(2, || config().cluster_name("second").seed(seed.clone())).await;
    R::sleep(Duration::from_secs(1)).await;
    assert!(first.iter().all(|node| lists(node, &first)));
    assert!(second.iter().all(|node| lists(node, &second)));
    shutdown::<R>(first).await;
    shutdown::<R>(second).await;
}
