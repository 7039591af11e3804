//! Where the demo plays: its nodes, what was seen of them so far, and the waiting for what should be seen.

use super::Summary;
use super::node::DemoNode;
use super::timeline::{Line, Timeline};
use alloc::collections::BTreeMap;
use anyhow::{Context as _, bail};
use core::net::SocketAddr;
use core::time::Duration;
use quorate_tokio::{Config, Key, LeaveReason, NodeId};
use std::time::Instant;

/// How long anything may take that the demo waits for: several times what it takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many occurrences may wait for the stage; nodes wait rather than lose one.
const OCCURRENCES: usize = 1024;

/// Where nodes tell what they see.
pub(crate) type Outbox = async_channel::Sender<Occurrence>;

/// Something that a node has seen.
#[derive(Clone, Debug)]
pub(crate) struct Occurrence {
    pub(crate) at: Instant,
    /// Who: a node that was started again is somebody else.
    pub(crate) by: NodeId,
    pub(crate) what: Happened,
}

/// What a node has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Joined { peer: NodeId },
    Left { peer: NodeId, reason: LeaveReason },
    Quorum { has_quorum: bool, present: usize },
    Message { from: NodeId, text: String },
    Question { from: NodeId, text: String },
}

/// The nodes and what is known about them.
pub(crate) struct Stage {
    pub(crate) timeline: Timeline,
    pub(crate) summary: Summary,
    pub(crate) nodes: BTreeMap<&'static str, DemoNode>,
    /// Everything that was seen, in the order in which it was told.
    pub(crate) seen: Vec<Occurrence>,
    /// The names of all nodes that ever ran.
    names: BTreeMap<NodeId, &'static str>,
    key: Key,
    inbox: async_channel::Receiver<Occurrence>,
    outbox: Outbox,
}

impl Stage {
    pub(crate) fn new(timeline: Timeline) -> anyhow::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| anyhow::anyhow!("no randomness from the system: {error}"))?;
        let (outbox, inbox) = async_channel::bounded(OCCURRENCES);
        Ok(Self {
            timeline,
            summary: Summary::default(),
            nodes: BTreeMap::new(),
            seen: Vec::new(),
            names: BTreeMap::new(),
            key: Key::from_bytes(key),
            inbox,
            outbox,
        })
    }

    /// Starts a node with these seeds, in a cluster of three.
    pub(crate) async fn start(&mut self, name: &'static str, seeds: &[SocketAddr]) -> anyhow::Result<NodeId> {
        let mut config = Config::default()
            .bind("127.0.0.1:0")
            .cluster_name("quorate-demo")
            .cluster_size(3)
            .key(self.key.clone());
        config.seeds = seeds.iter().map(ToString::to_string).collect();
        let node = DemoNode::start(name, config, self.outbox.clone()).await?;
        let (id, addr) = (node.cluster.id(), node.cluster.local_addr());
        self.names.insert(id, name);
        self.nodes.insert(name, node);
        let seeds = seeds.iter().filter_map(|&addr| self.name_at(addr)).collect();
        self.say(
            name,
            Line::Started {
                id: id.to_string(),
                addr,
                seeds,
            },
        )?;
        Ok(id)
    }

    /// Takes a node off the stage.
    pub(crate) fn take(&mut self, name: &str) -> anyhow::Result<DemoNode> {
        self.nodes
            .remove(name)
            .with_context(|| format!("{name} is not running"))
    }

    pub(crate) fn node(&self, name: &str) -> anyhow::Result<&DemoNode> {
        self.nodes
            .get(name)
            .with_context(|| format!("{name} is not running"))
    }

    /// Returns what a process is called.
    pub(crate) fn name(&self, id: NodeId) -> &'static str {
        self.names.get(&id).copied().unwrap_or("somebody")
    }

    fn name_at(&self, addr: SocketAddr) -> Option<&'static str> {
        let node = self
            .nodes
            .values()
            .find(|node| node.cluster.local_addr() == addr)?;
        Some(node.name)
    }

    /// Writes into the timeline what a node did, after everything that was seen before.
    pub(crate) fn say(&mut self, node: &'static str, line: Line) -> anyhow::Result<()> {
        self.write_down_all()?;
        self.timeline.line(Instant::now(), node, &line)
    }

    fn write_down_all(&mut self) -> anyhow::Result<()> {
        while let Ok(occurrence) = self.inbox.try_recv() {
            self.write_down(occurrence)?;
        }
        Ok(())
    }

    /// Waits until nothing is missing any more, and writes down what the nodes see meanwhile.
    ///
    /// `missing` names in words what was not seen yet.
    pub(crate) async fn until(&mut self, missing: impl Fn(&Self) -> Option<String>) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.write_down_all()?;
            let Some(what) = missing(self) else {
                return Ok(());
            };
            // What a node knows may change without an event for it: look again soon in any case.
            let look = (tokio::time::Instant::now() + Duration::from_millis(20)).min(deadline);
            match tokio::time::timeout_at(look, self.inbox.recv()).await {
                Ok(occurrence) => self.write_down(occurrence?)?,
                Err(_) if look == deadline => bail!("still missing after {} s: {what}", PATIENCE.as_secs()),
                Err(_) => {}
            }
        }
    }

    fn write_down(&mut self, occurrence: Occurrence) -> anyhow::Result<()> {
        let line = match &occurrence.what {
            Happened::Joined { peer } => Line::MemberJoined {
                peer: self.name(*peer).into(),
            },
            Happened::Left { peer, reason } => Line::MemberLeft {
                peer: self.name(*peer).into(),
                reason: match reason {
                    LeaveReason::Left => "left",
                    LeaveReason::Failed => "failed",
                    LeaveReason::Replaced => "replaced",
                },
            },
            &Happened::Quorum { has_quorum, present } => Line::Quorum { has_quorum, present },
            Happened::Message { from, text } => Line::Message {
                from: self.name(*from).into(),
                text: text.clone(),
            },
            Happened::Question { from, text } => Line::Question {
                from: self.name(*from).into(),
                text: text.clone(),
            },
        };
        self.timeline
            .line(occurrence.at, self.name(occurrence.by), &line)?;
        self.seen.push(occurrence);
        Ok(())
    }

    /// Returns when a node that runs now saw something for the first time.
    pub(crate) fn saw(&self, node: &str, what: impl Fn(&Happened) -> bool) -> Option<Instant> {
        let by = self.nodes.get(node)?.cluster.id();
        let mut matching = self.seen.iter().filter(|seen| seen.by == by && what(&seen.what));
        matching.next().map(|seen| seen.at)
    }

    /// Names a node that does not list exactly all others, was not told of one of them, or has no quorum.
    pub(crate) fn incomplete(&self) -> Option<String> {
        let others = self.nodes.len().saturating_sub(1);
        self.nodes.values().find_map(|node| {
            let name = node.name;
            let count = node.cluster.member_count();
            if count != others {
                return Some(format!("{name} listing {others} other members: it lists {count}"));
            }
            let quorum = |what: &Happened| matches!(what, Happened::Quorum { has_quorum: true, .. });
            if !node.cluster.has_quorum() || self.saw(name, quorum).is_none() {
                return Some(format!("{name} having a quorum"));
            }
            let ids = self.nodes.values().map(|node| node.cluster.id());
            let unseen = ids.filter(|&id| id != node.cluster.id()).find(|&id| {
                self.saw(name, |what| *what == Happened::Joined { peer: id })
                    .is_none()
            });
            unseen.map(|id| format!("{name} seeing {} join", self.name(id)))
        })
    }

    /// Ends the demo: everybody says goodbye, then the summary.
    pub(crate) async fn finish(mut self) -> anyhow::Result<()> {
        for node in core::mem::take(&mut self.nodes).into_values() {
            node.leave().await;
        }
        let elapsed = self.timeline.elapsed();
        let summary = Summary {
            event: "summary",
            elapsed_ms: millis(elapsed),
            ..self.summary
        };
        self.timeline.summary(&summary)
    }
}

/// Whole milliseconds, rounded up: what took any time at all did not take none.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
