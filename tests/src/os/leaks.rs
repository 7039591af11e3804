//! What starting, stopping, giving up and failing leave behind: nothing.

use crate::{Runtime, SOON, cluster, config, lists, poll_once, shutdown, soon, until, until_all_meet};
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use quorate::{Cluster, Config, Filter};
use std::process::{Command, Stdio};
use std::sync::Arc;
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
        if begun.elapsed() > 10 * SOON {
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

/// Returns a figure that the system tells of this process, 0 where it does not: `VmData:` are the KiB of memory that the
/// process may write to, touched or not.
fn of_status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
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
    config()
        .local()
        .heartbeat_timeout(Duration::from_secs(3))
        .seat_timeout(Duration::from_secs(3))
}

/// Shared by every driver and every task of a test, so that it tells when they are gone. Counts what went well.
type Live = Arc<AtomicUsize>;

/// Starts a node whose driver counts as alive while it is there: it owns its filter.
async fn counted<R: Runtime>(config: Config, live: &Live) -> Cluster {
    let live = live.clone();
    let filter = Filter::new(move |_, _| Arc::strong_count(&live) > 0);
    R::start_filtered(config, filter).await.expect("the node starts")
}

/// Two nodes meet, one answers the other, and each goes its own way.
async fn a_pair<R: Runtime>(live: Live) {
    let first = counted::<R>(quick(), &live).await;
    let second = counted::<R>(quick().seed(first.local_addr().to_string()), &live).await;
    let nodes = [first, second];
    until_all_meet::<R>(&nodes).await;
    let [first, second] = nodes;
    let (mut messages, task) = (second.messages(), live.clone());
    R::spawn(async move {
        while let Some(message) = messages.next().await {
            let _ = message.reply("yes").await;
        }
        drop(task);
    });
    let asked = soon::<R, _>("an answer", first.request(second.id(), "you?", SOON)).await;
    assert_eq!(asked.expect("answered"), "yes");
    // A handle that is kept for longer keeps nothing else.
    let (events, messages) = (first.events(), first.messages());
    drop((first, events, messages));
    soon::<R, _>("a shutdown", second.shutdown()).await;
    live.fetch_add(1, Ordering::SeqCst);
}

/// A node alone grants itself locks, and goes with one that is held and one that is wanted.
async fn a_holder<R: Runtime>(live: Live, polite: bool) {
    let node = counted::<R>(quick().cluster_size(1), &live).await;
    let guard = soon::<R, _>("a lock", node.lock("k").acquire())
        .await
        .expect("granted");
    let (waits, task) = (node.lock("k").acquire(), live.clone());
    if polite {
        R::spawn(async move {
            assert!(waits.await.is_err(), "it is held until the end");
            drop(task);
        });
        soon::<R, _>("a shutdown", node.shutdown()).await;
        assert!(!guard.is_held());
    } else {
        drop((node, waits));
        assert!(guard.is_held());
    }
    live.fetch_add(1, Ordering::SeqCst);
}

/// Hundreds of clusters that were started and stopped, some at a time, one way and the other, leave no driver, task,
/// thread or file behind, and no memory in use.
pub async fn hundreds_of_clusters<R: Runtime>() {
    if !alone::<R>("hundreds_of_clusters").await {
        return;
    }
    let live = Live::default();
    let mut before = None;
    for round in 0..22 {
        for n in 0..10 {
            let live = live.clone();
            match n {
                0..4 => R::spawn(a_pair::<R>(live)),
                _ => R::spawn(a_holder::<R>(live, n % 2 == 0)),
            }
        }
        until::<R>("all drivers and tasks are gone", || Arc::strong_count(&live) == 1).await;
        if round == 1 {
            before = Some((open_files(), of_status("Threads:"), of_status("VmData:")));
        }
    }
    assert_eq!(live.load(Ordering::SeqCst), 220, "a task has panicked");
    let (files, threads, memory) = before.expect("two rounds to warm up");
    until::<R>("all files are closed", || open_files() <= files).await;
    until::<R>("all threads are gone", || of_status("Threads:") <= threads).await;
    let after = of_status("VmData:");
    assert!(after <= memory + GROWTH_KIB, "{memory}, then {after} KiB");
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
            before = of_status("VmData:");
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
    let after = of_status("VmData:");
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
