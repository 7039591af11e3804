//! The replicated state machine: what committed entries do. No clock, no randomness.

use super::entry::{Command, Entry, Found};
use super::life::Life;
use super::seats::Seats;
use crate::locks::{Effect, Table};
use crate::planted::{PlantedBug, planted};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// What a group has agreed on, up to the last entry that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// How the group began.
    pub found: Found,
    /// Who is seated.
    pub seats: Seats,
    /// Whether tokens are granted.
    pub open: bool,
    /// Whether it was ever opened or closed.
    pub decided: bool,
    /// The last token that was granted; `token_base` before the first.
    pub counter: u64,
    /// The locks.
    pub table: Table,
}

/// What applying an entry brought about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing to tell.
    None,
    /// A token was drawn; `None` if the group is not open.
    Drawn {
        /// For whom.
        to: Life,
        /// Its number for the request.
        request: u64,
        /// The token.
        token: Option<u64>,
    },
    /// Tokens are granted from here on.
    Opened,
    /// And no longer.
    Closed,
    /// Locks changed.
    Locks(Vec<Effect>),
}

impl Machine {
    pub(super) fn new(found: &Found) -> Self {
        Self {
            found: found.clone(),
            seats: found.seats.clone(),
            open: false,
            decided: false,
            counter: found.token_base,
            table: Table::default(),
        }
    }

    pub(super) fn apply(&mut self, entry: &Entry) -> Outcome {
        match entry.command {
            Command::Found(_) | Command::Noop => Outcome::None,
            Command::Seat(change) => {
                self.seats.apply(change);
                Outcome::None
            }
            Command::Open => {
                (self.open, self.decided) = (true, true);
                Outcome::Opened
            }
            Command::Close => {
                (self.open, self.decided) = (false, true);
                Outcome::Closed
            }
            Command::Lock(ref change) => {
                let Self {
                    table, counter, open, ..
                } = self;
                Outcome::Locks(table.apply(change, *open, counter))
            }
            Command::Draw { to, request } => {
                let token = self.open.then(|| {
                    // Never reached: the base is at most 2^63 - 2^48.
                    self.counter = self.counter.saturating_add(1);
                    self.counter
                });
                Outcome::Drawn { to, request, token }
            }
        }
    }

    /// Returns whether the last of `Open` and `Close` was `Open`; `None` before either.
    pub fn gate(&self) -> Option<bool> {
        self.decided.then_some(self.open)
    }

    /// Returns this state as a snapshot keeps it: all of it, unless a planted bug leaves something out.
    pub(super) fn kept(&self) -> Cow<'_, Self> {
        let bugs = [
            PlantedBug::SnapshotLosesOpen,
            PlantedBug::SnapshotLosesCounter,
            PlantedBug::RequestsLostInSnapshot,
        ];
        if !bugs.into_iter().any(planted) {
            return Cow::Borrowed(self);
        }
        let mut kept = self.clone();
        if planted(PlantedBug::SnapshotLosesOpen) {
            (kept.open, kept.decided) = (false, false);
        }
        if planted(PlantedBug::SnapshotLosesCounter) {
            kept.counter = kept.found.token_base;
        }
        kept.table = kept.table.kept();
        Cow::Owned(kept)
    }
}
