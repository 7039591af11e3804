//! What can be seen of a replica.

use quorate_core::consensus::{Entry, Found, Index, Log, Machine, Position, Replica, Role, Seats, Term};
use quorate_core::{Group, Life};

/// What a replica does inside its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Part {
    /// It has no group.
    #[default]
    None,
    Follower,
    /// Asks for votes, or whether it would get them.
    Candidate,
    Leader,
}

/// What tells whether a replica has to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) life: Life,
    pub(super) group: Option<Group>,
    pub(super) part: Part,
    pub(super) term: Term,
    pub(super) vote: Option<Life>,
    pub(super) commit: Index,
    pub(super) applied: Index,
    pub(super) last: Position,
    pub(super) base: Position,
    /// Whether this life ever asked for a token.
    pub(super) asked: bool,
    pub(super) floor: u64,
}

/// The entries of a log, wherever they are.
pub(super) trait Entries {
    fn entry(&self, index: Index) -> Option<&Entry>;
}

impl Entries for Log {
    fn entry(&self, index: Index) -> Option<&Entry> {
        self.get(index)
    }
}

/// A replica that belongs to a group.
pub(super) struct View<'a> {
    pub(super) key: Key,
    pub(super) group: Group,
    pub(super) found: &'a Found,
    pub(super) seats: &'a Seats,
    pub(super) machine: &'a Machine,
    pub(super) log: &'a dyn Entries,
}

impl Key {
    pub(super) fn of(replica: &Replica) -> Self {
        Self {
            life: replica.life(),
            group: replica.group(),
            part: match replica.role() {
                None => Part::None,
                Some(Role::Follower { .. }) => Part::Follower,
                Some(Role::PreCandidate { .. } | Role::Candidate { .. }) => Part::Candidate,
                Some(Role::Leader(_)) => Part::Leader,
            },
            term: replica.term(),
            vote: replica.vote(),
            commit: replica.commit(),
            applied: replica.applied(),
            last: replica.last(),
            base: replica.log().map_or_else(Position::default, Log::base),
            asked: replica.has_asked(),
            floor: replica.floor(),
        }
    }

    pub(super) const fn leads(&self) -> bool {
        matches!(self.part, Part::Leader)
    }
}

impl<'a> View<'a> {
    /// Returns `None` if the replica belongs to no group.
    pub(super) fn of(key: Key, replica: &'a Replica) -> Option<Self> {
        Some(Self {
            key,
            group: replica.group()?,
            found: replica.beginning()?,
            seats: replica.seats()?,
            machine: replica.machine()?,
            log: replica.log()?,
        })
    }

    /// Returns the term of an entry, 0 before the first one; `None` for one that is not kept.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        if index == self.key.base.index {
            return Some(self.key.base.term);
        }
        self.log.entry(index).map(|entry| entry.term)
    }
}
