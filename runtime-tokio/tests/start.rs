//! Starting and stopping under tokio.

use core::task::{Context, Poll, Waker};
use core::time::Duration;
use quorate_tokio::{Config, Role, StartError, start};

fn config() -> Config {
    Config::default()
        .insecure()
        .bind("127.0.0.1:0")
        .local()
        .leave_timeout(Duration::from_millis(50))
}

#[tokio::test]
async fn a_node_starts_and_leaves() {
    let cluster = start(config()).await.unwrap();
    assert_ne!(cluster.local_addr().port(), 0);
    assert!(!cluster.is_secure());
    let other = cluster.clone();
    tokio::time::timeout(Duration::from_secs(5), async {
        tokio::join!(cluster.shutdown(), other.shutdown());
        other.closed().await.unwrap();
    })
    .await
    .unwrap();
    assert!(cluster.status().await.is_err());
}

#[tokio::test]
async fn dropping_the_last_handle_frees_the_port() {
    let cluster = start(config()).await.unwrap();
    let addr = cluster.local_addr();
    drop(cluster);
    for _ in 0..250 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if std::net::UdpSocket::bind(addr).is_ok() {
            return;
        }
    }
    panic!("{addr} is still taken");
}

#[tokio::test]
async fn a_taken_port_names_the_field_and_the_address() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = start(config().bind(addr.to_string())).await.unwrap_err();
    assert!(matches!(&error, StartError::Bind { addr: named, .. } if *named == addr));
    assert!(
        error.to_string().starts_with(&format!("bind = {addr}: ")),
        "{error}"
    );
}

#[tokio::test]
async fn all_wrong_settings_are_named_at_once() {
    let error = start(Config::default().bind("nowhere").role(Role::Observer).surge(1)).await;
    let text = error.unwrap_err().to_string();
    for field in ["security", "bind", "surge"] {
        assert!(text.contains(field), "{text}");
    }
}

#[test]
fn outside_of_tokio_is_an_error_not_a_panic() {
    let mut future = Box::pin(start(config()));
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(StartError::NoRuntime("tokio")))));
}

#[test]
fn a_runtime_that_ends_takes_its_nodes_along() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(start(config())).unwrap();
    runtime.shutdown_timeout(Duration::from_secs(5));
    let mut closed = Box::pin(cluster.closed());
    let polled = closed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(_))));
}
