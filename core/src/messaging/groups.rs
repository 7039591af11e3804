//! Commands with several targets: who has not had an outcome yet.

use crate::error::DeliveryError;
use crate::event::{Event, RequestId, SendId};
use crate::id::NodeId;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;

/// The command that a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Send(SendId),
    Request(RequestId),
}

/// What became of a command at one target.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The message is in the peer's queue.
    Delivered,
    /// The peer answered.
    Answered(Bytes),
    Failed(DeliveryError),
}

/// The targets of a command. One target, the usual case, allocates nothing.
#[derive(Debug)]
struct Group {
    open: usize,
    first: NodeId,
    others: Vec<NodeId>,
}

#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Owner, Group>);

impl Groups {
    /// Records a command. Without targets it is finished at once.
    pub(super) fn begin(&mut self, events: &mut VecDeque<Event>, owner: Owner, targets: &[NodeId]) {
        let Some((&first, others)) = targets.split_first() else {
            events.push_back(finished(owner));
            return;
        };
        let group = Group {
            open: targets.len(),
            first,
            others: others.to_vec(),
        };
        self.0.insert(owner, group);
    }

    /// Reports the outcome at one target, and the end of the command after the last. Each target has one outcome: the
    /// message that carries the owner is given up with it.
    pub(super) fn finish(
        &mut self,
        events: &mut VecDeque<Event>,
        owner: Owner,
        peer: NodeId,
        outcome: Outcome,
    ) {
        let Some(group) = self.0.get_mut(&owner) else {
            // It was cancelled.
            return;
        };
        events.push_back(match (owner, outcome) {
            (Owner::Send(id), outcome) => Event::SendDone {
                id,
                to: Some(peer),
                result: match outcome {
                    Outcome::Failed(error) => Err(error),
                    Outcome::Delivered | Outcome::Answered(_) => Ok(()),
                },
            },
            (Owner::Request(id), Outcome::Answered(payload)) => Event::Reply {
                id,
                from: peer,
                payload,
            },
            (Owner::Request(id), Outcome::Failed(error)) => Event::RequestFailed {
                id,
                to: Some(peer),
                error,
            },
            // A delivered request waits for its answer; nobody reports it here.
            (Owner::Request(_), Outcome::Delivered) => return,
        });
        group.open -= 1; // above zero while the group exists
        if group.open == 0 {
            self.0.remove(&owner);
            events.push_back(finished(owner));
        }
    }

    /// Forgets a command and returns its targets.
    pub(super) fn cancel(&mut self, owner: Owner) -> impl Iterator<Item = NodeId> + use<> {
        let group = self.0.remove(&owner);
        group
            .into_iter()
            .flat_map(|group| core::iter::once(group.first).chain(group.others))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const fn finished(owner: Owner) -> Event {
    match owner {
        Owner::Send(id) => Event::SendFinished(id),
        Owner::Request(id) => Event::RequestDone(id),
    }
}
