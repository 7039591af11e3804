//! What a recording keeps.

use crate::fault::{FaultKind, Host};
use crate::observe::{Datagram, Fate, Provenance};
use crate::world::{NodeIndex, World};
use quorate_core::{DropReason, Duration, MemberState, Role};
use std::collections::{BTreeMap, VecDeque};

/// The last things of a kind, numbered from 0 in the order in which they came.
#[derive(Debug)]
pub(crate) struct Last<T> {
    limit: usize,
    pub(super) items: VecDeque<T>,
    pub(super) left_out: u64,
}

impl<T> Last<T> {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            items: VecDeque::new(),
            left_out: 0,
        }
    }

    /// Adds an item; returns the one that had to go for it.
    pub(super) fn push(&mut self, item: T) -> Option<T> {
        self.items.push_back(item);
        if self.items.len() <= self.limit {
            return None;
        }
        self.left_out += 1;
        self.items.pop_front()
    }

    /// Returns the number that the next item gets.
    pub(super) fn next_number(&self) -> u64 {
        self.left_out + self.items.len() as u64
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let at = usize::try_from(number.checked_sub(self.left_out)?).ok()?;
        self.items.get(at)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = usize::try_from(number.checked_sub(self.left_out)?).ok()?;
        self.items.get_mut(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    pub(crate) const fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// A process from its start to its end.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) host: Host,
    /// What it is called on screen: its host, and a letter for each start there, as in `2b`.
    pub(crate) label: String,
    /// The name in its settings.
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) addr: String,
    pub(crate) role: Role,
    /// Whether it is meant to belong to the cluster.
    pub(crate) member: bool,
    pub(crate) started: Duration,
    pub(crate) leaving: Option<Duration>,
    pub(crate) ended: Option<Duration>,
    /// Its view before the first change that is kept.
    pub(crate) before: View,
    /// Its view now.
    pub(super) now: View,
    /// What it had dropped when its last input was done with.
    pub(super) drops: Drops,
}

/// So much was dropped for each reason.
pub(super) type Drops = Vec<(DropReason, u64)>;

/// Whom a process lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) listed: BTreeMap<NodeIndex, Belief>,
    /// Whether it has a quorum; `None` without a quorum gate.
    pub(crate) quorum: Option<bool>,
}

impl View {
    pub(super) fn of(world: &World, node: &quorate_core::Node) -> Self {
        let known = |member: quorate_core::Member| {
            let belief = match member.state {
                MemberState::Alive => Belief::Alive,
                MemberState::Suspect => Belief::Suspect,
            };
            Some((world.find(member.id)?, belief))
        };
        Self {
            listed: node.members().filter_map(known).collect(),
            quorum: (node.quorum_size() > 0).then(|| node.has_quorum()),
        }
    }

    pub(super) fn apply(&mut self, news: News) {
        match news {
            News::Listed(about, belief) => {
                self.listed.insert(about, belief);
            }
            News::Unlisted(about) => {
                self.listed.remove(&about);
            }
            News::Quorum(quorum) => self.quorum = quorum,
        }
    }
}

/// What a process believes of another that it lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belief {
    Alive,
    Suspect,
}

/// How a view changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Listed(NodeIndex, Belief),
    Unlisted(NodeIndex),
    Quorum(Option<bool>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) at: Duration,
    pub(crate) node: NodeIndex,
    pub(crate) news: News,
}

/// A fault and its time.
#[derive(Debug)]
pub(crate) struct Band {
    pub(super) number: usize,
    pub(crate) kind: FaultKind,
    pub(crate) began: Duration,
    pub(crate) ended: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) node: NodeIndex,
    pub(crate) from: Duration,
    pub(crate) to: Option<Duration>,
}

/// For how long somebody had a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LockBand {
    pub(crate) key: String,
    pub(crate) token: u64,
    /// Who had it.
    pub(crate) node: NodeIndex,
    /// What its application believed, or else what those who led its group did.
    pub(crate) believed: bool,
    pub(crate) from: Duration,
    pub(crate) to: Option<Duration>,
}

/// A datagram on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) datagram: Datagram,
    /// Where it was sent; `None` is outside of all hosts, where somebody replays and forges.
    pub(crate) from: Option<Host>,
    pub(crate) to: Option<Host>,
    pub(crate) sent: Duration,
    pub(crate) fate: Fate,
    pub(crate) arrival: Option<Arrival>,
}

/// How a flight ended.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    /// The process that took it; `None` if nobody did.
    pub(crate) node: Option<NodeIndex>,
    pub(crate) again: bool,
    pub(crate) opened: bool,
    /// For which reasons the process dropped it, or something in it.
    pub(crate) dropped: Vec<DropReason>,
}

/// What a flight is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Delivered,
    Refused,
    Lost,
    Cut,
    Undelivered,
    UnderWay,
    Duplicate,
    Altered,
    Replayed,
    Foreign,
}

impl Ending {
    /// In the order of their declaration.
    pub(crate) const NAMES: [&'static str; 10] = [
        "delivered",
        "refused",
        "lost",
        "cut",
        "undelivered",
        "under way",
        "duplicate",
        "altered",
        "replayed",
        "foreign",
    ];
}

impl Flight {
    /// What did not arrive is shown as that; what did, as how it came to be.
    pub(crate) fn outcome(&self) -> Ending {
        match (self.fate, &self.arrival) {
            (Fate::Lost, _) => Ending::Lost,
            (Fate::Cut | Fate::TooLong, _) => Ending::Cut,
            (Fate::Arrives(_) | Fate::Waits, None) => Ending::UnderWay,
            (_, Some(Arrival { node: None, .. })) => Ending::Undelivered,
            (_, Some(arrival)) => match self.datagram.provenance {
                Provenance::Duplicate => Ending::Duplicate,
                Provenance::Altered => Ending::Altered,
                Provenance::Replayed => Ending::Replayed,
                Provenance::Foreign => Ending::Foreign,
                Provenance::Original if arrival.refused() => Ending::Refused,
                Provenance::Original => Ending::Delivered,
            },
        }
    }
}

impl Arrival {
    /// The reasons up to this one drop a whole datagram, the others a part of it.
    fn refused(&self) -> bool {
        self.dropped
            .iter()
            .any(|&reason| reason <= DropReason::OtherCluster)
    }
}

/// Something that a process said or was told, or that befell all.
#[derive(Debug)]
pub(crate) struct Happening {
    pub(crate) at: Duration,
    /// `None` if it concerns all.
    pub(crate) node: Option<NodeIndex>,
    pub(crate) class: Class,
    /// A few words.
    pub(crate) label: String,
    /// All that is to be said, if that is more.
    pub(crate) detail: String,
}

/// What a happening is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Process,
    Joined,
    Left,
    Quorum,
    Message,
    Outcome,
    Failure,
    Trouble,
    Fault,
}

impl Class {
    /// In the order of their declaration.
    pub(crate) const NAMES: [&'static str; 9] = [
        "process", "joined", "left", "quorum", "message", "outcome", "failure", "trouble", "fault",
    ];
}
