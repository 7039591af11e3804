//! Nodes in processes of their own, to stop and kill.

use crate::{Runtime, SCENARIO, config, start, until};
use core::time::Duration;
use quorate::ClusterEvent;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

/// The environment variables that tell a child its seed, and whose key it has.
const SEED: &str = "QUORATE_TEST_CHILD_SEED";
const SCENARIO_OF: &str = "QUORATE_TEST_CHILD_SCENARIO";

/// The child's side: a node that prints what it sees until it is killed. Does nothing in a normal test run.
pub async fn child<R: Runtime>() {
    let Ok(seed) = std::env::var(SEED) else { return };
    let scenario = std::env::var(SCENARIO_OF).expect("both are set");
    SCENARIO.set(scenario.parse().expect("a number"));
    // It is stopped for longer than this. Whoever stops it may stand still for a while, too, and is not to be accused.
    let patience = Duration::from_secs(6);
    let node = start::<R>(config().heartbeat_timeout(patience).seed(seed)).await;
    let mut events = node.events();
    println!("CHILD started {}", node.id());
    // Whom it met before it began to listen.
    for member in node.members() {
        println!("CHILD joined {}", member.id);
    }
    while let Some(event) = events.next().await {
        match event {
            ClusterEvent::MemberJoined(member) => println!("CHILD joined {}", member.id),
            ClusterEvent::MemberLeft { member, reason } => println!("CHILD left {} {reason:?}", member.id),
            _ => {}
        }
    }
}

/// A child process, killed at the latest when it is dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this very test program again, to run only the child's side.
    fn start(seed: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(SEED, seed)
            .env(SCENARIO_OF, SCENARIO.get().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .expect("a child");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            let found = |line: String| line.find("CHILD ").map(|at| line[at + 6..].to_owned());
            for line in output.lines().map_while(Result::ok).filter_map(found) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the child is alive");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is stopped for 10 s and continued declares nobody dead, and finds its way back.
pub async fn a_stopped_process_accuses_nobody<R: Runtime>() {
    let nodes = crate::cluster::<R>(3, config).await;
    let process = Process::start(&nodes[0].local_addr().to_string());
    until::<R>("the child", || nodes.iter().all(|node| node.member_count() == 3)).await;
    let mut met = BTreeSet::new();
    until::<R>("the child to have met all", || {
        let lines = process.lines.try_iter();
        met.extend(lines.filter(|line| line.starts_with("joined")));
        met.len() == 3
    })
    .await;
    process.signal(Signal::STOP);
    until::<R>("the silence is noticed", || {
        nodes.iter().all(|node| node.member_count() == 2)
    })
    .await;
    R::sleep(Duration::from_secs(5)).await;
    process.signal(Signal::CONT);
    until::<R>("the child's return", || {
        nodes.iter().all(|node| node.member_count() == 3)
    })
    .await;
    R::sleep(Duration::from_secs(4)).await;
    let after: Vec<String> = process.lines.try_iter().collect();
    assert!(
        !after.iter().any(|line| line.starts_with("left")),
        "the stopped process accused others: {after:?}"
    );
    crate::shutdown::<R>(nodes).await;
}

/// A killed process is noticed by all, and its successor is let in.
pub async fn a_killed_process<R: Runtime>() {
    let nodes = crate::cluster::<R>(2, config).await;
    for _ in 0..2 {
        let process = Process::start(&nodes[0].local_addr().to_string());
        until::<R>("the child", || nodes.iter().all(|node| node.member_count() == 2)).await;
        drop(process);
        until::<R>("its death", || nodes.iter().all(|node| node.member_count() == 1)).await;
    }
    crate::shutdown::<R>(nodes).await;
}
