//! Where the demo plays: its nodes, what was seen of them so far, and the waiting for what should be seen.

use super::Summary;
use super::holdings::Holdings;
use super::node::DemoNode;
use super::timeline::{Line, Timeline};
use crate::args;
use crate::task::within;
use alloc::collections::{BTreeMap, BTreeSet};
use anyhow::{Context as _, ensure};
use core::net::SocketAddr;
use core::time::Duration;
use quorate_tokio::{Config, ConsensusRole, Key, LeaveReason, LostReason, NodeId};
use std::time::Instant;

/// How long anything may take that the demo waits for: several times what it takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at what may change without a word.
const LOOK: Duration = Duration::from_millis(20);

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
    Joined {
        peer: NodeId,
    },
    Left {
        peer: NodeId,
        reason: LeaveReason,
    },
    Quorum {
        has_quorum: bool,
        present: usize,
    },
    Message {
        from: NodeId,
        text: String,
    },
    Question {
        from: NodeId,
        text: String,
    },
    Leads {
        term: u64,
    },
    Granted {
        key: &'static str,
        token: u64,
    },
    Released {
        key: &'static str,
        token: u64,
    },
    AtRisk {
        key: &'static str,
        left: Duration,
    },
    Lost {
        key: &'static str,
        token: u64,
        reason: LostReason,
    },
    Killed,
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
    runtime: args::Runtime,
    key: Key,
    inbox: async_channel::Receiver<Occurrence>,
    pub(crate) outbox: Outbox,
}

impl Stage {
    pub(crate) fn new(runtime: args::Runtime, timeline: Timeline) -> anyhow::Result<Self> {
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
            runtime,
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
        // By default the seat of a node that died is kept for another seven seconds. The demo need not wait for that.
        config.seat_timeout = config.heartbeat_timeout;
        let node = DemoNode::start(self.runtime, name, config, self.outbox.clone()).await?;
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

    /// Takes a node off the stage and stops it dead. Returns who it was and when that began: on a busy machine the others
    /// may have noticed by the time at which it is over.
    pub(crate) fn kill(&mut self, name: &'static str) -> anyhow::Result<(NodeId, Instant)> {
        let node = self.take(name)?;
        let by = node.cluster.id();
        self.write_down_all()?;
        let (at, what) = (Instant::now(), Happened::Killed);
        node.kill();
        self.write_down(Occurrence { at, by, what })?;
        Ok((by, at))
    }

    /// Lets no datagram through between this node and the others any more.
    pub(crate) fn cut_off(&mut self, name: &'static str) -> anyhow::Result<()> {
        let addr = self.node(name)?.cluster.local_addr();
        let (cut, others): (Vec<_>, Vec<_>) = self.nodes.values().partition(|node| node.name == name);
        for other in &others {
            other.unreachable.set([addr].into());
        }
        let addrs = others.iter().map(|other| other.cluster.local_addr());
        for node in cut {
            node.unreachable.set(addrs.clone().collect());
        }
        self.say(name, Line::CutOff)
    }

    /// Connects a node again that was cut off.
    pub(crate) fn reconnect(&mut self, name: &'static str) -> anyhow::Result<()> {
        for node in self.nodes.values() {
            node.unreachable.set(BTreeSet::new());
        }
        self.say(name, Line::Reconnected)
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
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.write_down_all()?;
            let Some(what) = missing(self) else {
                return Ok(());
            };
            ensure!(
                Instant::now() < deadline,
                "still missing after {} s: {what}",
                PATIENCE.as_secs()
            );
            // What a node knows may change without an event for it: look again soon in any case.
            if let Some(occurrence) = within(LOOK, self.inbox.recv()).await {
                self.write_down(occurrence?)?;
            }
        }
    }

    /// Waits until each node that runs knows all others and has a seat in the group, which has a leader and works.
    /// Returns the leader. The next node may die then.
    pub(crate) async fn seated(&mut self) -> anyhow::Result<&'static str> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.until(Self::incomplete).await?;
            let missing = match self.group().await? {
                Ok(leader) => return Ok(leader),
                Err(missing) => missing,
            };
            ensure!(
                Instant::now() < deadline,
                "still missing after {} s: {missing}",
                PATIENCE.as_secs()
            );
            smol::Timer::after(LOOK).await;
        }
    }

    /// Returns who leads the group of all who run, or in words what is missing.
    async fn group(&self) -> anyhow::Result<Result<&'static str, String>> {
        let running: BTreeSet<NodeId> = self.nodes.values().map(|node| node.cluster.id()).collect();
        let mut leaders = BTreeSet::new();
        for node in self.nodes.values() {
            let name = node.name;
            let status = node.cluster.status().await?;
            let group = status.consensus;
            let seated = matches!(group.role, ConsensusRole::Leader | ConsensusRole::Follower);
            let seats: BTreeSet<NodeId> = group.seats.iter().map(|life| life.node).collect();
            if !seated || seats != running || !group.open {
                return Ok(Err(format!("{name} having a seat in the group of all")));
            }
            leaders.extend(group.leader);
        }
        match (leaders.pop_first(), leaders.is_empty()) {
            (Some(leader), true) if running.contains(&leader) => Ok(Ok(self.name(leader))),
            _ => Ok(Err("one leader of the group".into())),
        }
    }

    /// Checks who held a lock and when, from the first lock to the last one, and counts.
    ///
    /// # Errors
    /// Two held it at a time, or a token was not higher than the one before it.
    pub(crate) fn check_holders(&mut self, key: &str) -> anyhow::Result<Holdings> {
        self.write_down_all()?;
        // False until it is proved.
        self.summary.tokens_rising = false;
        let holdings = Holdings::of(key, &self.seen)?;
        self.summary.tokens_rising = true;
        self.summary.handovers = holdings.handovers;
        Ok(holdings)
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
                    LeaveReason::Quarantined => "quarantined",
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
            &Happened::Leads { term } => Line::Leads { term },
            &Happened::Granted { key, token } => Line::Granted { key, token },
            &Happened::Released { key, token } => Line::Released { key, token },
            &Happened::AtRisk { key, left } => Line::AtRisk {
                key,
                left_ms: millis(left),
            },
            &Happened::Lost { key, token, reason } => Line::Lost {
                key,
                token,
                reason: match reason {
                    LostReason::Expired => "expired",
                    _ => "other",
                },
            },
            Happened::Killed => Line::Killed,
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
        let nodes = core::mem::take(&mut self.nodes);
        // All at once: a group of which only some leave keeps those whom it needs for a while.
        let goodbyes: Vec<_> = nodes
            .values()
            .map(|node| node.cluster.clone())
            .map(|cluster| smol::spawn(async move { cluster.shutdown().await }))
            .collect();
        for goodbye in goodbyes {
            goodbye.await;
        }
        nodes.into_values().for_each(DemoNode::kill);
        let elapsed = self.timeline.elapsed();
        let summary = Summary {
            event: "summary",
            runtime: self.runtime.name(),
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
