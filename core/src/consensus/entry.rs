//! What the log holds.

use super::life::{Group, Life, Rules};
use super::seats::{SeatChange, Seats};
use crate::locks::Change;
use crate::planted::{PlantedBug, planted};

/// A position in the log; the first entry has 1.
pub type Index = u64;
/// A leader's reign inside one group; the founder's is 1.
pub type Term = u64;

/// Where a log ends: compared by term first, as elections do (Ongaro 2014, section 3.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The term of the entry.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

/// Tokens of a group begin at most here: room for 2^48 of them below 2^63.
pub(super) const MAX_TOKEN_BASE: u64 = (1 << 63) - (1 << 48);

/// The first entry of every log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The group that begins here.
    pub group: Group,
    /// Who is seated: the founder, and voters of its founding.
    pub seats: Seats,
    /// Tokens of this group are above it.
    pub token_base: u64,
}

impl Found {
    /// **SAFETY (found seats)** Returns whether this can be the beginning of a group: at least Q and at most N seats,
    /// the founder among them. And tokens must not run out.
    pub(super) fn is_valid(&self, rules: &Rules) -> bool {
        let count = self.seats.len();
        let too_many = count > rules.seats() && !planted(PlantedBug::FoundWithSurplusSeats);
        count >= rules.quorum()
            && !too_many
            && self.seats.contains(self.group.founder)
            && self.token_base <= MAX_TOKEN_BASE
    }
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Begins the group. Only ever the first entry.
    Found(Found),
    /// Nothing: a new leader commits it to learn what is committed (Ongaro 2014, section 6.4).
    Noop,
    /// Fills or empties one seat, from the moment at which it is appended.
    Seat(SeatChange),
    /// From here on tokens are granted.
    Open,
    /// From here on none are, until the next `Open`: another group was met.
    Close,
    /// Changes the table of locks.
    Lock(Change),
    /// Draws the next token for a life, which named the request.
    Draw {
        /// For whom.
        to: Life,
        /// Its number for the request.
        request: u64,
    },
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The term of the leader that appended it.
    pub term: Term,
    /// What it does.
    pub command: Command,
}
