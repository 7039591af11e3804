//! Starting and stopping under smol.

use core::time::Duration;
use quorate_smol::{Config, DriverError, StartError, start};
use smol::future::{or, zip};

fn config() -> Config {
    Config::default()
        .insecure()
        .bind("127.0.0.1:0")
        .local()
        .heartbeat_timeout(Duration::from_secs(3))
        .seat_timeout(Duration::from_secs(3))
        .leave_timeout(Duration::from_millis(50))
}

#[test]
fn a_node_starts_and_leaves() {
    smol::block_on(async {
        let cluster = start(config()).await.unwrap();
        assert_ne!(cluster.local_addr().port(), 0);
        let other = cluster.clone();
        let done = async {
            zip(cluster.shutdown(), other.shutdown()).await;
            other.closed().await.is_ok()
        };
        let late = async {
            smol::Timer::after(Duration::from_secs(5)).await;
            false
        };
        assert!(or(done, late).await);
        assert!(cluster.status().await.is_err());
    });
}

#[test]
fn a_taken_port_names_the_field_and_the_address() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = smol::block_on(start(config().bind(addr.to_string()))).unwrap_err();
    assert!(matches!(&error, StartError::Bind { addr: named, .. } if *named == addr));
    assert!(
        error.to_string().starts_with(&format!("bind = {addr}: ")),
        "{error}"
    );
}

#[test]
fn a_driver_that_is_dropped_takes_its_node_along() {
    let (setup, udp) = quorate_smol::os::prepare(config()).unwrap();
    let (cluster, driver) = quorate_smol::node(setup, udp).unwrap();
    let addr = cluster.local_addr();
    let executor = smol::Executor::new();
    executor.spawn(driver).detach();
    let status = smol::block_on(executor.run(cluster.status()));
    assert_eq!(status.unwrap().id, cluster.id());
    drop(executor);
    smol::block_on(async {
        assert!(matches!(cluster.closed().await, Err(DriverError::Aborted)));
        assert!(cluster.status().await.is_err());
    });
    // Somebody else may have it for a moment.
    let free = || std::net::UdpSocket::bind(addr).is_ok();
    let mut tries = (0..250).inspect(|_| std::thread::sleep(Duration::from_millis(20)));
    assert!(free() || tries.any(|_| free()), "{addr} is still taken");
}
