//! The story, step by step.

use super::locks;
use super::stage::{Happened, Stage, millis};
use super::timeline::Line;
use anyhow::{Context as _, ensure};
use core::net::SocketAddr;
use core::pin::Pin;
use core::time::Duration;
use quorate_tokio::{LeaveReason, NodeId};
use std::time::Instant;

/// The three nodes.
pub(super) const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

type Play = for<'a> fn(&'a mut Stage) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// A step: a name for programs, a title for people, and what happens.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) run: Play,
}

/// All steps, in order. Each finds the stage as the one before has left it: complete, unless its title says otherwise.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "discovery",
        title: "Three nodes start. Each knows one address at most; they find each other and form a group.",
        run: |stage| Box::pin(discovery(stage)),
    },
    Step {
        name: "messages",
        title: "They send messages, and know what became of them.",
        run: |stage| Box::pin(messages(stage)),
    },
    Step {
        name: "requests",
        title: "They ask each other.",
        run: |stage| Box::pin(requests(stage)),
    },
    Step {
        name: "crash",
        title: "node-3 dies without a goodbye. The others notice; two of three are still a quorum.",
        run: |stage| Box::pin(crash(stage)),
    },
    Step {
        name: "return",
        title: "node-3 is started again. To the others it is a new process, with a new id.",
        run: |stage| Box::pin(come_back(stage, NODES[2])),
    },
    Step {
        name: "leave",
        title: "node-2 leaves politely. The others know at once.",
        run: |stage| Box::pin(leave(stage)),
    },
    Step {
        name: "reunion",
        title: "node-2 returns, and all three are together again.",
        run: |stage| Box::pin(reunion(stage)),
    },
    Step {
        name: "locks",
        title: "All three want one lock. They take turns, and each turn has a higher token.",
        run: |stage| Box::pin(locks::turns(stage)),
    },
    Step {
        name: "partition",
        title: "A holder is cut off. It knows that it lost the lock before the next one gets it.",
        run: |stage| Box::pin(locks::partition(stage)),
    },
    Step {
        name: "holder",
        title: "A holder dies. When its lease is over, the next one gets the lock.",
        run: |stage| Box::pin(locks::holder(stage)),
    },
    Step {
        name: "leader",
        title: "The leader of the group dies. The others elect another one; whoever holds a lock keeps it.",
        run: |stage| Box::pin(locks::leader(stage)),
    },
];

async fn discovery(stage: &mut Stage) -> anyhow::Result<()> {
    stage.start(NODES[0], &[]).await?;
    let seed = [stage.node(NODES[0])?.cluster.local_addr()];
    stage.start(NODES[1], &seed).await?;
    stage.start(NODES[2], &seed).await?;
    stage.seated().await?;
    for name in NODES {
        let members = stage.node(name)?.cluster.member_count() + 1;
        stage.say(name, Line::Lists { members })?;
    }
    Ok(())
}

async fn messages(stage: &mut Stage) -> anyhow::Result<()> {
    broadcast(stage, NODES[0], "cache:drop:42").await?;
    let (from, text) = (NODES[1], "job 7 is yours");
    let to = stage.node(NODES[2])?.cluster.id();
    let cluster = stage.node(from)?.cluster.clone();
    stage.say(from, Line::SendsTo { to: NODES[2], text })?;
    stage.summary.messages_sent += 1;
    cluster
        .send_to(to, text)
        .await
        .context("node-3 did not get its message")?;
    stage.say(from, Line::Delivered { to: 1 })?;
    receive(stage, &[NODES[2]], from, text).await
}

/// Sends to all and waits until all have read it.
pub(super) async fn broadcast(
    stage: &mut Stage,
    from: &'static str,
    text: &'static str,
) -> anyhow::Result<()> {
    let cluster = stage.node(from)?.cluster.clone();
    let others: Vec<_> = stage.nodes.keys().copied().filter(|&name| name != from).collect();
    stage.say(from, Line::Broadcasts { text })?;
    stage.summary.messages_sent += others.len() as u64;
    let deliveries = cluster
        .broadcast(text)
        .await
        .context("the broadcast was refused")?;
    for delivery in &deliveries {
        let name = stage.name(delivery.to);
        delivery
            .result
            .with_context(|| format!("{name} did not get the broadcast"))?;
    }
    ensure!(
        deliveries.len() == others.len(),
        "the broadcast went to {} members, not {}",
        deliveries.len(),
        others.len()
    );
    stage.say(from, Line::Delivered { to: deliveries.len() })?;
    receive(stage, &others, from, text).await
}

/// Waits until these nodes have read the message, and counts it.
async fn receive(stage: &mut Stage, nodes: &[&str], from: &str, text: &str) -> anyhow::Result<()> {
    let sender = stage.node(from)?.cluster.id();
    let is_it =
        |what: &Happened| matches!(what, Happened::Message { from, text: t } if *from == sender && t == text);
    stage
        .until(|stage| {
            let missing = nodes.iter().find(|node| stage.saw(node, is_it).is_none())?;
            Some(format!("{missing} reading {text:?}"))
        })
        .await?;
    stage.summary.messages_delivered += nodes.len() as u64;
    Ok(())
}

async fn requests(stage: &mut Stage) -> anyhow::Result<()> {
    let (asker, asked) = (NODES[0], NODES[1]);
    let to = stage.node(asked)?.cluster.id();
    let cluster = stage.node(asker)?.cluster.clone();
    stage.say(
        asker,
        Line::Asks {
            whom: asked,
            text: "status?",
        },
    )?;
    stage.summary.requests_sent += 1;
    let began = Instant::now();
    let answer = cluster.request(to, "status?", REQUEST_TIMEOUT).await;
    let answer = answer.with_context(|| format!("{asked} did not answer"))?;
    answered(stage, asker, asked, &answer, began)?;

    let asker = NODES[2];
    let cluster = stage.node(asker)?.cluster.clone();
    let others = stage.nodes.len() - 1;
    stage.say(
        asker,
        Line::Asks {
            whom: "everybody",
            text: "status?",
        },
    )?;
    stage.summary.requests_sent += others as u64;
    let began = Instant::now();
    let answers = cluster.request_all("status?", REQUEST_TIMEOUT).await?;
    ensure!(
        answers.len() == others,
        "{} members were asked, not {others}",
        answers.len()
    );
    for answer in answers {
        let name = stage.name(answer.from);
        let text = answer.result.with_context(|| format!("{name} did not answer"))?;
        answered(stage, asker, name, &text, began)?;
    }
    // What the asked ones have seen belongs into this step.
    let question = |what: &Happened| matches!(what, Happened::Question { .. });
    stage
        .until(|stage| {
            let silent = NODES[..2]
                .iter()
                .find(|node| stage.saw(node, question).is_none())?;
            Some(format!("{silent} being asked"))
        })
        .await
}

fn answered(
    stage: &mut Stage,
    asker: &'static str,
    from: &str,
    answer: &[u8],
    began: Instant,
) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(answer).into_owned();
    ensure!(text.starts_with(from), "{from} answered {text:?}");
    stage.summary.requests_answered += 1;
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let from = from.into();
    stage.say(asker, Line::Answer { from, text, micros })
}

async fn crash(stage: &mut Stage) -> anyhow::Result<()> {
    let victim = NODES[2];
    let (id, began) = stage.kill(victim)?;
    stage.summary.crash_detected_ms = noticed(stage, id, LeaveReason::Failed, began).await?;
    for node in stage.nodes.values() {
        ensure!(node.cluster.has_quorum(), "{} has lost the quorum", node.name);
    }
    // And to prove it:
    broadcast(stage, NODES[0], "two of three are enough").await
}

async fn leave(stage: &mut Stage) -> anyhow::Result<()> {
    let leaver = NODES[1];
    let node = stage.take(leaver)?;
    let id = node.cluster.id();
    stage.say(leaver, Line::Leaves)?;
    let began = Instant::now();
    node.leave().await;
    stage.summary.leave_noticed_ms = noticed(stage, id, LeaveReason::Left, began).await?;
    Ok(())
}

/// Waits until everybody has noticed that a member is gone, and why. Returns how long the last one took, in
/// milliseconds.
pub(super) async fn noticed(
    stage: &mut Stage,
    gone: NodeId,
    why: LeaveReason,
    began: Instant,
) -> anyhow::Result<u64> {
    let is_it = |what: &Happened| matches!(what, Happened::Left { peer, .. } if *peer == gone);
    stage
        .until(|stage| {
            let missing = stage.nodes.keys().find(|node| stage.saw(node, is_it).is_none())?;
            Some(format!("{missing} noticing that {} is gone", stage.name(gone)))
        })
        .await?;
    let mut last = began;
    for &node in stage.nodes.keys() {
        let right = |what: &Happened| {
            *what
                == Happened::Left {
                    peer: gone,
                    reason: why,
                }
        };
        let at = stage.saw(node, right);
        let at = at.with_context(|| format!("{node} took {why:?} for something else"))?;
        last = last.max(at);
    }
    stage.until(Stage::incomplete).await?;
    Ok(millis(last.saturating_duration_since(began)))
}

/// Starts a node again that ran before, and waits until it takes part in everything.
pub(super) async fn come_back(stage: &mut Stage, name: &'static str) -> anyhow::Result<()> {
    let seeds: Vec<SocketAddr> = stage
        .nodes
        .values()
        .map(|node| node.cluster.local_addr())
        .collect();
    let others: Vec<_> = stage.nodes.keys().copied().collect();
    let id = stage.start(name, &seeds).await?;
    let is_it = |what: &Happened| *what == Happened::Joined { peer: id };
    stage
        .until(|stage| {
            let missing = others.iter().find(|node| stage.saw(node, is_it).is_none());
            let missing = missing.map(|node| format!("{node} noticing that {name} is back"));
            missing.or_else(|| stage.incomplete())
        })
        .await?;
    stage.seated().await?;
    stage.summary.rejoined = true;
    stage.summary.members = stage.nodes.len();
    Ok(())
}

async fn reunion(stage: &mut Stage) -> anyhow::Result<()> {
    // Until it is true again.
    stage.summary.rejoined = false;
    come_back(stage, NODES[1]).await?;
    broadcast(stage, NODES[1], "here I am again").await
}
