//! A node of the demo, with a small service on it.

use super::home::Home;
use super::stage::{Happened, Occurrence, Outbox};
use crate::args;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use anyhow::Context as _;
use core::net::SocketAddr;
use quorate_tokio::{Cluster, ClusterEvent, Config, Events, Messages, NodeId, StartError, os};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// A node on a runtime and a thread of its own, so that it can be stopped dead.
#[derive(Debug)]
pub(crate) struct DemoNode {
    pub(crate) name: &'static str,
    pub(crate) cluster: Cluster,
    pub(crate) unreachable: Unreachable,
    /// What runs there dies with the node.
    pub(crate) home: Home,
    stop: async_channel::Sender<()>,
    thread: JoinHandle<()>,
}

impl DemoNode {
    /// Starts a node, and on it a service that answers questions and tells the stage what it sees.
    pub(crate) async fn start(
        runtime: args::Runtime,
        name: &'static str,
        config: Config,
        stage: Outbox,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = async_channel::bounded(1);
        let (home, thread) = Home::open(runtime, name, stopped)?;
        let unreachable = Unreachable::default();
        let (at, cut) = (home.clone(), unreachable.clone());
        let starting = home.spawn(async move {
            let cluster = cut.start(config.name(name), &at)?;
            // They hear all there is: the node has not run yet.
            at.spawn(watch(cluster.id(), cluster.events(), stage.clone()));
            at.spawn(serve(name, cluster.id(), cluster.messages(), stage));
            Ok::<_, StartError>(cluster)
        });
        let cluster = starting
            .recv()
            .await
            .context("the node's thread has ended")?
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            cluster,
            unreachable,
            home,
            stop,
            thread,
        })
    }

    /// Stops the node dead.
    pub(crate) fn kill(self) {
        self.stop.close();
        // A panic of the thread is no worse than its death, which was asked for.
        let _ = self.thread.join();
    }

    /// Lets the node say goodbye, then stops it.
    pub(crate) async fn leave(self) {
        self.cluster.shutdown().await;
        self.kill();
    }
}

/// Addresses that nothing gets to from a node: how the demo cuts a node off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unreachable(Arc<Mutex<BTreeSet<SocketAddr>>>);

impl Unreachable {
    /// Whether this build can cut a node off at all.
    pub(crate) const POSSIBLE: bool = cfg!(feature = "testing");

    pub(crate) fn set(&self, addrs: BTreeSet<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addrs;
    }

    /// Starts a node whose datagrams do not get to these addresses.
    fn start(self, config: Config, home: &Home) -> Result<Cluster, StartError> {
        let (setup, udp) = os::prepare(config)?;
        #[cfg(feature = "testing")]
        let setup = setup.filter(quorate_tokio::Filter::new(move |to, _| {
            let addrs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            !addrs.contains(&to)
        }));
        home.launch(setup, udp)
    }
}

async fn watch(by: NodeId, mut events: Events, stage: Outbox) {
    while let Some(event) = events.next().await {
        let what = match event {
            ClusterEvent::MemberJoined(member) => Happened::Joined { peer: member.id },
            ClusterEvent::MemberLeft { member, reason } => Happened::Left {
                peer: member.id,
                reason,
            },
            ClusterEvent::QuorumChanged { has_quorum, present } => Happened::Quorum { has_quorum, present },
            // One line for an election is enough: that of the elected.
            ClusterEvent::LeaderChanged { leader, term } if leader == Some(by) => Happened::Leads { term },
            _ => continue,
        };
        tell(&stage, by, what).await;
    }
}

/// The service: answers every question with the length of its queue of jobs.
async fn serve(node: &'static str, by: NodeId, mut messages: Messages, stage: Outbox) {
    while let Some(message) = messages.next().await {
        let from = message.from;
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        if message.is_request() {
            tell(&stage, by, Happened::Question { from, text }).await;
            // A caller that gave up shows at the caller.
            let _ = message.reply(format!("{node} has 0 jobs waiting")).await;
        } else {
            tell(&stage, by, Happened::Message { from, text }).await;
        }
    }
}

pub(crate) async fn tell(stage: &Outbox, by: NodeId, what: Happened) {
    tell_of(stage, Instant::now(), by, what).await;
}

/// Tells of something that was so earlier already.
pub(crate) async fn tell_of(stage: &Outbox, at: Instant, by: NodeId, what: Happened) {
    // A stage that is gone listens to nobody any more.
    let _ = stage.send(Occurrence { at, by, what }).await;
}
