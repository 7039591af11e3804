//! What starting, stopping, giving up and failing leave behind: nothing.

use crate::{Runtime, SOON, cluster, config, lists, poll_once, shutdown, soon, until};
use core::pin::pin;
use core::time::Duration;
use quorate::{Cluster, Config};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Set in a process that runs one scenario only.
const ALONE: &str = "QUORATE_TEST_ALONE";
/// How much more memory a process may have after a scenario: what allocators keep, and far less than a leak.
const GROWTH_KIB: u64 = 24 << 10;

/// Returns whether this process runs the named scenario alone, so that what it counts is its own. If not, such a
/// process is run to its end.
async fn alone<R: Runtime>(scenario: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", scenario, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("a child");
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{scenario} failed in its process: {status}");
            return false;
        }
        if begun.elapsed() > 2 * SOON {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{scenario} hangs in its process");
        }
        R::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns how many files this process has open; 0 where the system does not tell.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Returns the KiB of memory that this process may write to, touched or not; 0 where the system does not tell.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Returns the CPU time that this process has used, in ticks of 10 ms; 0 where the system does not tell.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before may hold anything, but it ends with the last parenthesis: user and system time are 12th and 13th
    // behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

fn quick() -> Config {
    config().local()
}

/// A hundred nodes that were started and stopped, one way and the other, leave no file open and no memory in use.
pub async fn a_hundred_starts_and_stops<R: Runtime>() {
    if !alone::<R>("a_hundred_starts_and_stops").await {
        return;
    }
    let mut before = (0, 0);
    for round in 0..55 {
        if round == 5 {
            before = (open_files(), memory());
        }
        let mut nodes = cluster::<R>(2, quick).await;
        let dropped = nodes.remove(0);
        // A handle that is kept for longer keeps nothing else.
        let (events, messages) = (dropped.events(), dropped.messages());
        drop((dropped, events, messages));
        shutdown::<R>(nodes).await;
    }
    until::<R>("all files are closed", || open_files() <= before.0).await;
    let after = memory();
    assert!(after <= before.1 + GROWTH_KIB, "{before:?}, then {after} KiB");
}

/// Requests that are given up at any moment leave nothing behind, here or there.
pub async fn requests_that_are_given_up<R: Runtime>() {
    if !alone::<R>("requests_that_are_given_up").await {
        return;
    }
    let nodes = cluster::<R>(2, || quick().max_message_size(4000_usize)).await;
    let (asking, to) = (&nodes[0], nodes[1].id());
    // It answers what asks for an answer, and forgets the rest, or answers with more than is allowed.
    let mut messages = nodes[1].messages();
    R::spawn(async move {
        while let Some(message) = messages.next().await {
            if message.payload.starts_with(b"please") {
                let payload = message.payload.clone();
                let _ = message.reply(payload).await;
            } else if message.payload.starts_with(b"much") {
                let _ = message.reply(vec![0; 5000]).await;
            }
        }
    });
    let begging = [b"little".repeat(300), b"much".repeat(500)];
    let long = Duration::from_secs(600);
    let mut before = 0;
    for n in 0..11_000_u32 {
        if n == 1000 {
            before = memory();
        }
        let mut request = pin!(asking.request(to, &begging[n as usize / 4 % 2], long));
        assert!(poll_once(request.as_mut()).await.is_pending());
        // Dropped in the queue, on its way, or when it has long been received.
        if n % 4 == 0 {
            asking.status().await.expect("it runs");
        }
        if n % 256 == 0 {
            R::sleep(Duration::from_millis(20)).await;
        }
    }
    let answer = soon::<R, _>("an answer", asking.request(to, "please", long)).await;
    assert_eq!(answer.expect("answered"), "please");
    let sent = soon::<R, _>("a delivery", asking.send_to(to, "a message")).await;
    assert_eq!(sent, Ok(()));
    let after = memory();
    assert!(after <= before + GROWTH_KIB, "{before}, then {after} KiB");
    shutdown::<R>(nodes).await;
}

/// Seeds that refuse every datagram, or that cannot be reached from this socket, cost next to nothing and stop nobody.
pub async fn dead_seeds<R: Runtime>() {
    if !alone::<R>("dead_seeds").await {
        return;
    }
    let closed: Vec<String> = (0..8)
        .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").expect("a port"))
        .collect::<Vec<_>>()
        .iter()
        .map(|socket| socket.local_addr().expect("its address").to_string())
        .collect();
    let lonely = || {
        closed
            .iter()
            .fold(quick().seed("[::1]:9"), |config, seed| config.seed(seed.clone()))
    };
    let nodes = cluster::<R>(2, lonely).await;
    let count = async |nodes: &[Cluster]| {
        let mut sum = 0;
        for node in nodes {
            sum += node.stats().await.expect("it runs").datagrams_sent;
        }
        sum
    };
    let (begun, used, datagrams) = (Instant::now(), ticks(), count(&nodes).await);
    R::sleep(Duration::from_secs(3)).await;
    let (used, datagrams) = (ticks() - used, count(&nodes).await - datagrams);
    let passed = begun.elapsed().as_millis();
    assert!(
        u128::from(used) * 10 < passed / 4,
        "{used}0 ms of CPU time in {passed} ms"
    );
    assert!(datagrams < 1000, "{datagrams} datagrams in {passed} ms");
    assert!(nodes.iter().all(|node| lists(node, &nodes)));
    shutdown::<R>(nodes).await;
}
