//! Addresses as the system has them.

use crate::{Runtime, cluster, config, shutdown, start};
use quorate::StartError;
use std::net::UdpSocket;

/// IPv6, where the machine has it.
pub async fn join_over_ipv6<R: Runtime>() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 on this machine; skipped");
        return;
    }
    let nodes = cluster::<R>(2, || config().bind("[::1]:0")).await;
    assert!(nodes[0].members()[0].addr.is_ipv6());
    shutdown::<R>(nodes).await;
}

/// An address that cannot be had is named.
pub async fn bad_addresses<R: Runtime>() {
    let taken = start::<R>(config()).await;
    let addr = taken.local_addr();
    match R::start(config().bind(addr.to_string())).await {
        Err(StartError::Bind { addr: named, .. }) => assert_eq!(named, addr),
        other => panic!("{other:?}"),
    }
    let foreign = R::start(config().bind("203.0.113.1:5000"))
        .await
        .expect_err("not of this machine");
    assert!(
        foreign.to_string().starts_with("bind = 203.0.113.1:5000"),
        "{foreign}"
    );
    shutdown::<R>(vec![taken]).await;
}
