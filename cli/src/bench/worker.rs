//! A process of a benchmark: takes orders on standard input, reports on standard output, ends with its input. A thread
//! can do the same with channels.

use super::protocol::{Order, Report, Usage, parse_id};
use super::runtime::{Loss, Runtime};
use super::{floor, load, locks, usage};
use crate::args::BenchNode;
use crate::output::json_line;
use alloc::sync::Arc;
use anyhow::{Context as _, bail};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use quorate_tokio::{Cluster, Config, Key, LockGuard};
use std::io;

/// Runs the process until its parent closes its standard input.
pub(crate) fn run(args: &BenchNode) -> anyhow::Result<()> {
    die_with_parent()?;
    let (sender, orders) = async_channel::unbounded();
    // Reading standard input blocks. The thread is left to itself at the end: it waits for a line that never comes.
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            if line.map_or(true, |line| sender.send_blocking(line).is_err()) {
                break;
            }
        }
        // A parent that is gone cannot be told anything, and waits for nothing: whatever is going on here, stop it.
        std::process::exit(0);
    });
    Runtime::block_on(args.runtime, args.workers, move |runtime| {
        serve(runtime, orders, |report| json_line(&mut io::stdout(), report))
    })
}

/// Lets the system kill this process when its parent is gone. The end of standard input says the same, but while this
/// process is stopped it cannot hear of it.
#[cfg(target_os = "linux")]
fn die_with_parent() -> anyhow::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> anyhow::Result<()> {
    Ok(())
}

/// Obeys orders until there will be no more, or a report cannot be delivered.
pub(crate) async fn serve(
    runtime: Runtime,
    orders: async_channel::Receiver<String>,
    deliver: impl Fn(&Report) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut worker = Worker {
        runtime,
        cluster: None,
        loss: Loss::default(),
        messages: Arc::default(),
        held: Vec::new(),
    };
    while let Ok(line) = orders.recv().await {
        let report = match worker.obey(&line).await {
            Ok(report) => report,
            Err(error) => Report::Failed {
                error: format!("{error:#}"),
            },
        };
        deliver(&report)?;
    }
    Ok(())
}

struct Worker {
    runtime: Runtime,
    cluster: Option<Cluster>,
    loss: Loss,
    /// Messages that reached this application; requests are not counted.
    messages: Arc<AtomicU64>,
    /// Locks that were taken to be kept.
    held: Vec<LockGuard>,
}

impl Worker {
    async fn obey(&mut self, line: &str) -> anyhow::Result<Report> {
        Ok(match serde_json::from_str(line).context("no such order")? {
            Order::Start {
                key,
                bind,
                seeds,
                cluster_size,
            } => {
                let mut config = Config::default()
                    .bind(bind.map_or("127.0.0.1:0".into(), |addr| addr.to_string()))
                    .cluster_name("quorate-bench")
                    .cluster_size(cluster_size)
                    .key(Key::from_slice(&key)?);
                config.seeds = seeds.iter().map(ToString::to_string).collect();
                let cluster = self.runtime.start(config, &self.loss).await?;
                drop(
                    self.runtime
                        .spawn(answer(cluster.clone(), Arc::clone(&self.messages))),
                );
                let (id, addr) = (cluster.id().to_string(), cluster.local_addr());
                self.cluster = Some(cluster);
                Report::Started { id, addr }
            }
            Order::AwaitMembers { count, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms);
                let cluster = self.cluster()?;
                let waiting = await_members(cluster, count);
                match self.runtime.timeout(timeout, waiting).await {
                    Some(result) => result?,
                    None => bail!(
                        "lists {} other members after {timeout:?}, not {count}",
                        cluster.member_count()
                    ),
                }
                Report::Done
            }
            Order::Loss { permille } => {
                anyhow::ensure!(
                    Loss::POSSIBLE,
                    "built without the feature `testing`: cannot lose datagrams"
                );
                self.loss.set(permille);
                Report::Done
            }
            Order::Request { to, load } => {
                let to = parse_id(&to)?;
                Report::Slice(load::requests(self.runtime, self.cluster()?, to, load).await?)
            }
            Order::Broadcast { size, paced, millis } => Report::Broadcasts(
                load::broadcasts(self.runtime, self.cluster()?, size, paced, millis).await?,
            ),
            Order::Usage => Report::Usage(self.usage().await?),
            Order::Echo => Report::Echo {
                addr: floor::echo().await?,
            },
            Order::Ping { to, load } => Report::Slice(floor::ping(to, load).await?),
            Order::Group => Report::Group(locks::group(self.cluster()?).await?),
            Order::Pairs(pairs) => Report::Pairs(locks::pairs(self.runtime, self.cluster()?, &pairs).await?),
            Order::Acquire { key, count, ttl_ms } => {
                let ttl = ttl_ms.map(Duration::from_millis);
                let mut taken = locks::acquire(self.runtime, self.cluster()?, &key, count, ttl).await?;
                self.held.append(&mut taken);
                Report::Done
            }
            Order::Held => Report::Held {
                count: self.held.iter().filter(|guard| guard.is_held()).count(),
            },
            Order::Release => {
                // What was lost is given back already.
                self.held.clear();
                Report::Done
            }
            Order::Leave => {
                self.cluster()?.shutdown().await;
                self.cluster = None;
                self.held.clear();
                Report::Done
            }
        })
    }

    fn cluster(&self) -> anyhow::Result<&Cluster> {
        self.cluster.as_ref().context("no node was started")
    }

    async fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = usage::of_this_process();
        if let Some(cluster) = &self.cluster {
            let stats = cluster.stats().await?;
            usage.datagrams_sent = stats.datagrams_sent;
            usage.bytes_sent = stats.bytes_sent;
            usage.datagrams_received = stats.datagrams_received;
            usage.retransmits = stats.retransmits;
        }
        usage.messages = self.messages.load(Ordering::Relaxed);
        Ok(usage)
    }
}

/// Answers every request with its own bytes, and counts messages. Ends with the node.
async fn answer(cluster: Cluster, received: Arc<AtomicU64>) {
    let mut messages = cluster.messages();
    // This handle would do no harm, but the node needs no more of them than one.
    drop(cluster);
    while let Some(message) = messages.next().await {
        if message.is_request() {
            let payload = message.payload.clone();
            // What the node refuses (the asker is gone) shows there.
            let _ = message.reply_now(payload);
        } else {
            received.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits until this many other members are listed.
async fn await_members(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    // Subscribed before the first look: nothing can happen unseen between the two.
    let mut events = cluster.events();
    while cluster.member_count() != count {
        events.next().await.context("the node has stopped")?;
    }
    Ok(())
}
