//! The processes of a benchmark, as their parent sees them.

use super::protocol::{Group, Order, Report, Slice, Usage};
use super::runtime;
use super::worker;
use crate::args::Runtime;
use anyhow::{Context as _, bail};
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

/// How long an order that only has to be taken note of may take, on a machine that is busy otherwise.
pub(crate) const PROMPT: Duration = Duration::from_secs(30);

/// How often it is looked how the group stands, while that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// What every process of a benchmark is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) runtime: Runtime,
    /// Worker threads; 0 runs everything on one thread.
    pub(crate) workers: u8,
    /// Whether each is only a thread of this process, with a runtime of its own.
    pub(crate) in_process: bool,
}

/// The way to a process, or to the thread that stands for one.
#[derive(Debug)]
enum Link {
    Process(process::Child, process::ChildStdin),
    Thread(async_channel::Sender<String>),
}

/// A process of a benchmark. Killed when dropped; and since it also ends with its standard input, it does not survive
/// a parent that is killed itself.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    link: Link,
    reports: Receiver<std::io::Result<String>>,
}

impl Child {
    /// Starts this executable once more, as a process that takes orders.
    pub(crate) fn spawn(name: impl Into<String>, shape: Shape) -> anyhow::Result<Self> {
        let name = name.into();
        if shape.in_process {
            return Ok(Self::thread(name, shape));
        }
        let Shape { runtime, workers, .. } = shape;
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
            link: Link::Process(process, orders),
            reports,
        })
    }

    /// Starts a thread that takes orders. It ends, and takes its node with it, when no more can come.
    fn thread(name: String, shape: Shape) -> Self {
        let (orders, inbox) = async_channel::unbounded();
        let (sender, reports) = mpsc::channel();
        let failures = sender.clone();
        std::thread::spawn(move || {
            let result = runtime::Runtime::block_on(shape.runtime, shape.workers, move |runtime| {
                worker::serve(runtime, inbox, move |report| {
                    Ok(sender.send(Ok(serde_json::to_string(report)?))?)
                })
            });
            if let Err(error) = result {
                // A parent that listens no more has no use for it.
                let _ = failures.send(Err(std::io::Error::other(format!("{error:#}"))));
            }
        });
        Self {
            name,
            link: Link::Thread(orders),
            reports,
        }
    }

    /// Gives an order without waiting for its report.
    pub(crate) fn send(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)?;
        let sent = match &mut self.link {
            Link::Process(_, orders) => writeln!(orders, "{line}"),
            Link::Thread(orders) => orders.try_send(line).map_err(std::io::Error::other),
        };
        match sent {
            Ok(()) => Ok(()),
            // As text: a broken pipe further up the chain would be taken for that of standard output.
            Err(error) => bail!("{}: cannot be given orders: {error}", self.describe()),
        }
    }

    /// Names the process, and says how it has ended if it has.
    fn describe(&mut self) -> String {
        let name = &self.name;
        match &mut self.link {
            Link::Process(process, _) => match process.try_wait() {
                Ok(Some(status)) => format!("process {name} (ended: {status})"),
                Ok(None) | Err(_) => format!("process {name}"),
            },
            Link::Thread(_) => format!("thread {name}"),
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

    pub(crate) fn slice(&mut self, order: &Order, patience: Duration) -> anyhow::Result<Slice> {
        match self.call(order, patience)? {
            Report::Slice(slice) => Ok(slice),
            other => self.unexpected(&other),
        }
    }

    pub(crate) fn usage(&mut self) -> anyhow::Result<Usage> {
        match self.call(&Order::Usage, PROMPT)? {
            Report::Usage(usage) => Ok(usage),
            other => self.unexpected(&other),
        }
    }

    /// Ends the process as a crash would. A thread cannot be killed, and its node lives on.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let Link::Process(process, _) = &mut self.link else {
            bail!("thread {} cannot be killed", self.name);
        };
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Stops the process dead (`SIGSTOP`), or lets it go on.
    #[cfg(unix)]
    pub(crate) fn pause(&self, paused: bool) -> anyhow::Result<()> {
        use rustix::process::{Pid, Signal, kill_process};
        let Link::Process(process, _) = &self.link else {
            bail!("thread {} cannot be stopped", self.name);
        };
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(Pid::from_child(process), signal)?)
    }

    #[cfg(not(unix))]
    pub(crate) fn pause(&self, _: bool) -> anyhow::Result<()> {
        bail!("process {} cannot be stopped on this system", self.name)
    }

    pub(crate) fn unexpected<T>(&self, report: &Report) -> anyhow::Result<T> {
        bail!("process {} answered with {report:?}", self.name)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and nothing to wait for either.
        let _ = self.kill();
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
    shape: Shape,
    /// How many processes were started so far: each has a name of its own.
    spawned: usize,
}

impl Peers {
    /// Starts this many nodes of a cluster of `cluster_size` and waits until they all list each other.
    pub(crate) fn start(count: u8, cluster_size: u8, shape: Shape) -> anyhow::Result<Self> {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| anyhow::anyhow!("no randomness from the system: {error}"))?;
        let mut cluster = Self {
            peers: Vec::new(),
            key,
            cluster_size,
            shape,
            spawned: 0,
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
    pub(crate) fn spawn(&mut self) -> anyhow::Result<Child> {
        self.spawned += 1;
        Child::spawn(format!("node-{}", self.spawned), self.shape)
    }

    /// The order that starts one more node: its seeds are all present ones, as a DNS name would tell them.
    pub(crate) fn start_order(&self) -> Order {
        Order::Start {
            key: self.key.clone(),
            bind: None,
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

    /// Puts a fresh process in the place of one that is gone, with a fresh node at the same address, as a supervisor does
    /// that restarts what has crashed.
    pub(crate) fn replace(&mut self, index: usize) -> anyhow::Result<()> {
        let gone = self.peers.remove(index);
        let addr = gone.addr;
        drop(gone);
        let child = self.spawn()?;
        let mut order = self.start_order();
        if let Order::Start { bind, .. } = &mut order {
            *bind = Some(addr);
        }
        self.peers.insert(index, Peer::start(child, &order)?);
        Ok(())
    }

    /// Waits until exactly these nodes have the seats of one group that grants locks, and agree who leads it. Returns the
    /// index of that one.
    pub(crate) fn await_group(&mut self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + PROMPT;
        loop {
            let views = self.views()?;
            if let Some(leader) = self.agreed(&views) {
                return Ok(leader);
            }
            anyhow::ensure!(Instant::now() < deadline, "the nodes did not agree: {views:?}");
            std::thread::sleep(LOOK);
        }
    }

    fn views(&mut self) -> anyhow::Result<Vec<Group>> {
        let ask = |peer: &mut Peer| match peer.child.call(&Order::Group, PROMPT)? {
            Report::Group(group) => Ok(group),
            other => peer.child.unexpected(&other),
        };
        self.peers.iter_mut().map(ask).collect()
    }

    fn agreed(&self, views: &[Group]) -> Option<usize> {
        let (first, others) = views.split_first()?;
        let seated = |peer: &Peer| first.seats.contains(&peer.id);
        let complete = first.open && first.seats.len() == self.peers.len() && self.peers.iter().all(seated);
        if !complete || others.iter().any(|view| view != first) {
            return None;
        }
        self.peers
            .iter()
            .position(|peer| first.leader.as_ref() == Some(&peer.id))
    }

    /// The order to wait until a cluster of this many nodes is complete.
    pub(crate) fn await_order(&self, nodes: usize) -> Order {
        Order::AwaitMembers {
            count: nodes.saturating_sub(1),
            timeout_ms: (PROMPT / 2).as_millis() as u64,
        }
    }
}
