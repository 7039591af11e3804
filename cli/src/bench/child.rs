//! The processes of a benchmark, as their parent sees them.

use super::protocol::{Order, Report, Usage};
use crate::args::Runtime;
use anyhow::{Context as _, bail};
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

/// How long an order that only has to be taken note of may take, on a machine that is busy otherwise.
pub(crate) const PROMPT: Duration = Duration::from_secs(30);

/// A process of a benchmark. Killed when dropped; and since it also ends with its standard input, it does not survive
/// a parent that is killed itself.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: process::Child,
    orders: process::ChildStdin,
    reports: Receiver<std::io::Result<String>>,
}

impl Child {
    /// Starts this executable once more, as a process that takes orders.
    pub(crate) fn spawn(name: impl Into<String>, runtime: Runtime, workers: u8) -> anyhow::Result<Self> {
        let name = name.into();
        let program = std::env::current_exe().context("cannot find this executable to start it again")?;
        let mut process = Command::new(program)
            .args(["bench-node", "--runtime", runtime.name()])
            .args(["--workers", &workers.to_string()])
            // smol's executor has at least one thread of its own and reads their number here.
            .env("SMOL_THREADS", workers.max(1).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start process {name}"))?;
        let (Some(orders), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            unreachable!("both pipes were asked for");
        };
        let (sender, reports) = mpsc::channel();
        // Reading a pipe has no timeout; a thread of its own gives it one. It ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            name,
            process,
            orders,
            reports,
        })
    }

    /// Gives an order without waiting for its report.
    pub(crate) fn send(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        match self.orders.write_all(&line) {
            Ok(()) => Ok(()),
            // As text: a broken pipe further up the chain would be taken for that of standard output.
            Err(error) => bail!("{}: cannot be given orders: {error}", self.describe()),
        }
    }

    /// Names the process, and says how it has ended if it has.
    fn describe(&mut self) -> String {
        let name = &self.name;
        match self.process.try_wait() {
            Ok(Some(status)) => format!("process {name} (ended: {status})"),
            Ok(None) | Err(_) => format!("process {name}"),
        }
    }

    /// Waits for the next report.
    pub(crate) fn receive(&mut self, timeout: Duration) -> anyhow::Result<Report> {
        let line = match self.reports.recv_timeout(timeout) {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => bail!("{}: cannot read from it: {error}", self.describe()),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} did not report within {timeout:?}", self.describe())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{} said nothing more", self.describe()),
        };
        match serde_json::from_str(&line) {
            Ok(Report::Failed { error }) => bail!("process {}: {error}", self.name),
            Ok(report) => Ok(report),
            Err(error) => bail!("process {} said {line:?}: {error}", self.name),
        }
    }

    /// Gives an order and waits for its report.
    pub(crate) fn call(&mut self, order: &Order, timeout: Duration) -> anyhow::Result<Report> {
        self.send(order)?;
        self.receive(timeout)
    }

    /// Gives an order whose report has nothing to say.
    pub(crate) fn order(&mut self, order: &Order, timeout: Duration) -> anyhow::Result<()> {
        match self.call(order, timeout)? {
            Report::Done => Ok(()),
            other => self.unexpected(&other),
        }
    }

    pub(crate) fn usage(&mut self) -> anyhow::Result<Usage> {
        match self.call(&Order::Usage, PROMPT)? {
            Report::Usage(usage) => Ok(usage),
            other => self.unexpected(&other),
        }
    }

    pub(crate) fn unexpected<T>(&self, report: &Report) -> anyhow::Result<T> {
        bail!("process {} answered with {report:?}", self.name)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and nothing to wait for either.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that runs a node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) child: Child,
    pub(crate) id: String,
    pub(crate) addr: SocketAddr,
}

impl Peer {
    /// Starts a node in a process that has none yet.
    pub(crate) fn start(mut child: Child, start: &Order) -> anyhow::Result<Self> {
        match child.call(start, PROMPT)? {
            Report::Started { id, addr } => Ok(Self { child, id, addr }),
            other => child.unexpected(&other),
        }
    }
}

/// Nodes that all know each other, one for each process.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) peers: Vec<Peer>,
    key: Vec<u8>,
    cluster_size: u8,
    runtime: Runtime,
    workers: u8,
}

impl Peers {
    /// Starts this many nodes of a cluster of `cluster_size` and waits until they all list each other.
    pub(crate) fn start(count: u8, cluster_size: u8, runtime: Runtime, workers: u8) -> anyhow::Result<Self> {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| anyhow::anyhow!("no randomness from the system: {error}"))?;
        let mut cluster = Self {
            peers: Vec::new(),
            key,
            cluster_size,
            runtime,
            workers,
        };
        for _ in 0..count {
            let child = cluster.spawn()?;
            let peer = Peer::start(child, &cluster.start_order())?;
            cluster.peers.push(peer);
        }
        cluster.settle()?;
        Ok(cluster)
    }

    /// Starts one more process, without a node yet.
    pub(crate) fn spawn(&self) -> anyhow::Result<Child> {
        let name = format!("node-{}", self.peers.len() + 1);
        Child::spawn(name, self.runtime, self.workers)
    }

    /// The order that starts one more node: its seeds are all present ones, as a DNS name would tell them.
    pub(crate) fn start_order(&self) -> Order {
        Order::Start {
            key: self.key.clone(),
            seeds: self.peers.iter().map(|peer| peer.addr).collect(),
            cluster_size: self.cluster_size,
        }
    }

    /// Waits until all list each other.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        let order = self.await_order(self.peers.len());
        for peer in &mut self.peers {
            peer.child.send(&order)?;
        }
        for peer in &mut self.peers {
            match peer.child.receive(PROMPT)? {
                Report::Done => {}
                other => return peer.child.unexpected(&other),
            }
        }
        Ok(())
    }

    /// The order to wait until a cluster of this many nodes is complete.
    pub(crate) fn await_order(&self, nodes: usize) -> Order {
        Order::AwaitMembers {
            count: nodes.saturating_sub(1),
            timeout_ms: (PROMPT / 2).as_millis() as u64,
        }
    }
}
