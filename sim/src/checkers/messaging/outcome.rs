//! What became of each command: one outcome for each target, in time, for a reason.

use super::super::{ensure, slot, who, whom};
use super::{Messaging, Op};
use crate::world::{NodeIndex, World};
use bytes::Bytes;
use quorate_core::{DeliveryError, Duration, Instant, NodeId};
use std::collections::VecDeque;

/// How late an outcome may come. Timers fire on time in the simulator.
const SLACK: Duration = Duration::from_millis(50);
/// With the way clear for so long, what was lost before has been sent again, and arrived. Retransmissions are at most 2 s
/// apart.
pub(super) const CLEAR: Duration = Duration::from_millis(4_500);

impl Messaging {
    pub(super) fn on_outcome(
        &mut self,
        world: &World,
        node: NodeIndex,
        op: Op,
        to: Option<NodeId>,
        error: Option<DeliveryError>,
        reply: Option<&Bytes>,
    ) -> Result<(), String> {
        let side = slot(&mut self.sides, node.0);
        let Some(pending) = side.ops.get_mut(&op) else {
            return Err(format!(
                "{} tells what became of {op:?}, which has ended, was cancelled, or never was",
                who(world, node)
            ));
        };
        let says = |what: &str| {
            let target = to.map_or_else(|| "nobody in particular".to_owned(), |id| whom(world, id));
            format!("{} tells of {op:?} to {target}: {what}", who(world, node))
        };
        let process = world.process(node);
        let local = world.clock(process.host);
        let Some(target) = to else {
            side.gated.retain(|&gated| gated != op);
            pending.open = Some(Vec::new());
            return match error {
                Some(DeliveryError::NoQuorum) if pending.to.is_none() => {
                    ensure(local >= pending.deadline, || {
                        says("no quorum, before its deadline")
                    })?;
                    ensure(!pending.had_quorum, || {
                        says("no quorum, though there was one since it was given")
                    })
                }
                Some(DeliveryError::Leaving) if process.leaving.is_some() => Ok(()),
                _ => Err(says("an outcome of nobody")),
            };
        };
        let place = pending
            .open
            .as_ref()
            .and_then(|open| open.iter().position(|&open| open == target));
        let Some(place) = place else {
            return Err(says("a second outcome, or one of somebody it was not sent to"));
        };
        if let Some(open) = &mut pending.open {
            open.swap_remove(place);
        }
        let Some(peer) = world.find(target) else {
            return Err(says("an outcome of nobody who ever ran"));
        };
        let (given, deadline, size) = (pending.given, pending.deadline, pending.payload.len());
        match error {
            None => {
                if let Some(reply) = reply {
                    let matches = pending
                        .replies
                        .iter()
                        .any(|(replier, given)| *replier == peer && given == reply);
                    // Of two requests that are alike, nobody can tell which one it answers.
                    let way = side.ways.get(&peer);
                    let blurred = way.is_some_and(|way| way.alike || way.blurred);
                    return ensure(matches || blurred, || {
                        says("a reply that the other's application did not give to this request")
                    });
                }
                let skipped = pending.skipped.contains(&peer);
                ensure(!skipped, || {
                    says(
                        "it is with the receiver; but that was handed something that was sent later, and never this",
                    )
                })?;
                let ways = side.way(peer);
                let found = ways.items.iter_mut().flatten().find(|item| item.op == op);
                if let Some(item) = found {
                    item.acknowledged = Some(world.now());
                }
                Ok(())
            }
            Some(DeliveryError::Timeout) => {
                ensure(local >= deadline, || {
                    says("its time is over, before its deadline")
                })?;
                self.explain_timeout(world, node, peer, op, given)
            }
            Some(DeliveryError::PeerDisconnected) => {
                let lost = side.way(peer).lost.is_some_and(|lost| lost >= given);
                ensure(lost, || says("its target is gone; nobody said that it went"))
            }
            Some(DeliveryError::OutcomeUnknown) => ensure(side.way(peer).forgotten, || {
                says("its target has forgotten; but it took this process for a member all the time")
            }),
            Some(DeliveryError::TooLarge) => {
                let max = world.process(peer).config.max_message_size;
                ensure(size > max, || {
                    says(&format!(
                        "too large; it has {size} bytes, and {max} are allowed there"
                    ))
                })
            }
            Some(DeliveryError::Leaving) => ensure(process.leaving.is_some(), || {
                says("this node leaves; nobody told it to")
            }),
            Some(DeliveryError::NoQuorum) => Err(says("no quorum, but it has a target")),
            Some(_) => Ok(()),
        }
    }

    /// A message cannot time out that had a clear way for long enough, to somebody who takes it.
    fn explain_timeout(
        &self,
        world: &World,
        node: NodeIndex,
        peer: NodeIndex,
        op: Op,
        given: Instant,
    ) -> Result<(), String> {
        let truth = self.truth.borrow();
        let now = world.now();
        let since = now - CLEAR;
        let clear = given <= since
            && truth.clear_since(world, node, peer, since)
            && truth.lists_since(node, peer, since)
            && truth.lists_since(peer, node, since);
        if !clear {
            return Ok(());
        }
        let host = world.process(peer).host;
        let reads = !self.unread.values().any(|&unread| unread == host)
            && self.read_since.get(&host).is_none_or(|&at| at + CLEAR <= now);
        let Some(way) = self.sides.get(node.0).and_then(|side| side.ways.get(&peer)) else {
            return Ok(());
        };
        // The time of a request may be over by the receiver's clock, before it is read, and not yet by the sender's.
        let ran_out =
            matches!(op, Op::Request(_)) && self.read_since.get(&host).is_some_and(|&at| at > given);
        let mut items = way.items.iter().flatten();
        // Whoever does not take what it has got has no room for more.
        let lags = way.items.iter().flatten().any(|item| item.acknowledged.is_some());
        let waits = way.items.iter().map(VecDeque::len).sum::<usize>() > 8;
        let busy = world.process(peer).node().is_some_and(|it| it.stats().busy > 0);
        let missing = items.any(|item| item.op == op);
        ensure(
            !missing || !reads || ran_out || lags || waits || busy || way.blurred || way.alike,
            || {
                format!(
                    "{op:?} of {} to {} timed out, and was never handed over, while everything that they wrote to each other for {CLEAR:?} \
                 arrived",
                    who(world, node),
                    who(world, peer)
                )
            },
        )
    }

    pub(super) fn on_finished(&mut self, world: &World, node: NodeIndex, op: Op) -> Result<(), String> {
        let side = slot(&mut self.sides, node.0);
        let Some(pending) = side.forget(op) else {
            return Err(format!(
                "{} says that {op:?} has ended, which has ended before, was cancelled, or never was",
                who(world, node)
            ));
        };
        side.gated.retain(|&gated| gated != op);
        let open = pending.open.unwrap_or_default();
        ensure(open.is_empty() || pending.cancelled, || {
            format!(
                "{} says that {op:?} has ended, and did not tell what became of it at {}",
                who(world, node),
                open.first().map_or_else(String::new, |&id| whom(world, id))
            )
        })?;
        let process = world.process(node);
        let late = world.clock(process.host).saturating_since(pending.deadline);
        let well = self.truth.borrow().well_since(node, world.now() - late - SLACK);
        ensure(late <= SLACK || !well, || {
            format!(
                "{} says {:.3} s too late that {op:?} has ended",
                who(world, node),
                late.as_secs_f64()
            )
        })
    }

    /// Every command has its outcome by its deadline.
    pub(super) fn look_for_overdue(&self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        for (index, side) in self.sides.iter().enumerate() {
            let Some(&(deadline, op)) = side.due.first() else {
                continue;
            };
            let node = NodeIndex(index);
            let process = world.process(node);
            if process.ended.is_some() {
                continue;
            }
            let late = world.clock(process.host).saturating_since(deadline);
            let well = late > SLACK && truth.well_since(node, world.now() - late - SLACK);
            ensure(!well, || {
                format!(
                    "{} has not told what became of {op:?}, {:.3} s after its deadline",
                    who(world, node),
                    late.as_secs_f64()
                )
            })?;
        }
        Ok(())
    }
}
