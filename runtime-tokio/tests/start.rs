//! Starting and stopping under tokio.

use core::task::{Context, Poll, Waker};
use core::time::Duration;
use quorate_tokio::{Config, Role, StartError, start};

fn config() -> Config {
    Config::default()
        .insecure()
        .bind("127.0.0.1:0")
        .local()
        .heartbeat_timeout(Duration::from_secs(3))
        .seat_timeout(Duration::from_secs(3))
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

/// Checks that everything ends that waits for a node of this runtime when the runtime is shut down.
fn everything_ends_with(runtime: tokio::runtime::Runtime) {
    use quorate_tokio::{Closed, DriverError, ReadyError, RequestError, SendFailed};

    // Calls are made elsewhere, and the other node lives elsewhere.
    let elsewhere = tokio::runtime::Runtime::new().unwrap();
    let peer = elsewhere.block_on(start(config())).unwrap();
    // One seed is the peer; the other one stays silent, so that the node is not ready for a while.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let meeting = config()
        .seed(peer.local_addr().to_string())
        .seed(silent.local_addr().unwrap().to_string());
    let cluster = runtime.block_on(start(meeting)).unwrap();
    // This one waits for a quorum that never comes.
    let waiting = config().cluster_size(5).message_timeout(Duration::from_secs(600));
    let gated = runtime.block_on(start(waiting)).unwrap();
    runtime.block_on(async {
        for _ in 0..3000 {
            if cluster.member_count() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the two never meet");
    });

    let (to, long) = (peer.id(), Duration::from_secs(600));
    let mut tasks = Vec::new();
    macro_rules! wait {
        ($name:literal, $clone:ident of $node:ident, $call:expr, $end:pat) => {
            let $clone = $node.clone();
            tasks.push(elsewhere.spawn(async move {
                let end = $call;
                assert!(matches!(end, $end), "{}: {end:?}", $name);
            }));
        };
    }
    for _ in 0..50 {
        wait!("request", node of cluster, node.request(to, "?", long).await, Err(RequestError::Closed(Closed)));
    }
    wait!("request_all", node of cluster, node.request_all("?", long).await, Err(RequestError::Closed(Closed)));
    wait!("request_each", node of cluster, {
        match node.request_each("?", long).await {
            Ok(mut answers) => (answers.next().await, answers.next().await),
            // It had not begun to ask.
            Err(closed) => (Some(Err(RequestError::Closed(closed))), None),
        }
    }, (Some(Err(RequestError::Closed(Closed))), None));
    wait!("broadcast", node of gated, node.broadcast("!").await, Err(SendFailed::Closed(Closed)));
    wait!("quorum", node of gated, node.wait_for_quorum().await, Err(Closed));
    wait!("ready", node of cluster, loop {
        // The node may have become ready before its runtime went.
        let end = node.ready().await;
        if end.is_err() {
            break end;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }, Err(ReadyError::Closed(Closed)));
    wait!("messages", node of cluster, {
        let mut messages = node.messages();
        (messages.next().await, messages.next().await)
    }, (None, None));
    wait!("events", node of cluster, {
        let mut events = node.events();
        while events.next().await.is_some() {}
    }, ());
    wait!("closed", node of cluster, node.closed().await, Err(DriverError::Aborted));
    // Questions race with the end, and may wait for a place in the queue.
    for _ in 0..4 {
        wait!("status", node of cluster, loop {
            let end = node.status().await;
            if end.is_err() {
                break end;
            }
        }, Err(Closed));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        tasks.iter().all(|task| !task.is_finished()),
        "something ended by itself"
    );

    runtime.shutdown_background();
    elsewhere.block_on(async {
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(30), task)
                .await
                .expect("it ends")
                .unwrap();
        }
        assert!(matches!(cluster.closed().await, Err(DriverError::Aborted)));
        cluster.shutdown().await;
        assert!(cluster.send_to(to, "!").await.is_err());
        peer.shutdown().await;
    });
}

#[test]
fn a_runtime_that_ends_ends_all_that_is_waited_for_elsewhere() {
    everything_ends_with(tokio::runtime::Runtime::new().unwrap());
}

#[test]
fn so_does_a_runtime_that_has_nobody_to_run_it() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    everything_ends_with(builder.enable_all().build().unwrap());
}

#[test]
fn a_guard_that_outlives_its_runtime_is_lost() {
    use quorate_tokio::{LostReason, NotHeld};

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let guard = runtime.block_on(async {
        let cluster = start(config().cluster_size(1)).await.unwrap();
        let asked = cluster.lock("k").acquire();
        let guard = tokio::time::timeout(Duration::from_secs(30), asked).await;
        guard.expect("soon").unwrap()
    });
    assert!(guard.is_held());
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Leaving)));
    drop(guard);
}
