//! Founding a group (docs/safety.md): votes of lives with empty logs, and the entry that begins it.

use super::{Hints, Incoming, Leadership, Output, Part, Replica, Role};
use crate::consensus::entry::{Command, Entry, Found, MAX_TOKEN_BASE, Position, Term};
use crate::consensus::life::{Group, Life};
use crate::consensus::log::Log;
use crate::consensus::machine::Machine;
use crate::consensus::message::{Envelope, Message};
use crate::consensus::seats::Seats;
use crate::planted::{PlantedBug, planted};
use crate::time::{Instant, WallTime};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// How a life stands with founding a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Founding {
    /// How often this life has stood.
    stood: u64,
    /// The votes for the present founding and the floors that came with them, the own one left out.
    votes: Option<BTreeMap<Life, u64>>,
}

/// Why a founder did not create its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoundError {
    /// It does not stand, or has too few votes.
    TooFewVotes,
    /// The wall clock, or a floor, is so far in the future that tokens would run out.
    TokensExhausted,
}

/// 2020-01-01 in microseconds since 1970.
const EPOCH_MICROS: u64 = 1_577_836_800_000_000;

impl Founding {
    pub(super) const fn new() -> Self {
        Self {
            stood: 0,
            votes: None,
        }
    }

    /// Names the group that takes over from another one: of a later generation, and none that this life ever founded.
    pub(super) fn next_after(&mut self, life: Life, group: Group) -> Group {
        self.votes = None;
        self.stood = self.stood.max(group.founding).saturating_add(1);
        Group {
            founder: life,
            founding: self.stood,
        }
    }

    /// Returns the number of the present founding, and who has voted for it.
    pub fn standing(&self) -> Option<(u64, impl Iterator<Item = Life> + '_)> {
        let votes = self.votes.as_ref()?;
        Some((self.stood, votes.keys().copied()))
    }
}

impl Replica {
    /// Whether this life may begin to follow a group, or found one: it holds none, and is no observer.
    pub(super) fn may_adopt(&self) -> bool {
        self.eligible && (self.part.is_none() || planted(PlantedBug::FoundOverOccupiedLog))
    }

    /// Stands as a founder. Returns whether it does: only an empty log may.
    pub fn stand(&mut self) -> bool {
        if !self.eligible || self.part.is_some() {
            return false;
        }
        self.founding.stood = self.founding.stood.saturating_add(1);
        self.founding.votes = Some(BTreeMap::new());
        true
    }

    /// Stops standing.
    pub fn withdraw(&mut self) {
        self.founding.votes = None;
    }

    /// Asks a life for its vote, or reminds it that its founder lives.
    pub fn request_founding(&self, to: Life, out: &mut Output) {
        if self.founding.votes.is_some() && to != self.life {
            self.send_to(self.own_group(), to, Message::FoundRequest, out);
        }
    }

    /// Takes back the vote of a life that was not heard of for too long.
    pub fn retract(&mut self, voter: Life) {
        if let Some(votes) = &mut self.founding.votes {
            votes.remove(&voter);
        }
    }

    const fn own_group(&self) -> Group {
        Group {
            founder: self.life,
            founding: self.founding.stood,
        }
    }

    /// **SAFETY (fresh voters)** Only a life with an empty log votes for a founder.
    pub(super) fn on_found_request(&mut self, group: Group, from: Life, hints: Hints, out: &mut Output) {
        if !self.eligible || self.part.is_some() || !hints.fresh || group.founder != from {
            return;
        }
        let floor = self.floor();
        self.withdraw();
        self.send_to(group, from, Message::FoundVote { floor }, out);
    }

    pub(super) fn on_found_vote(&mut self, group: Group, from: Life, floor: u64) {
        let expected = group == self.own_group();
        if let Some(votes) = &mut self.founding.votes
            && expected
        {
            votes.insert(from, floor);
        }
    }

    /// Creates the group, if Q + s lives have voted for this one, itself included. `wall` is the wall clock now.
    ///
    /// **SAFETY (found seats)** It seats this life and at most N - 1 of its voters.
    ///
    /// # Errors
    /// [`FoundError`]; nothing has changed.
    pub fn found(&mut self, now: Instant, wall: WallTime, out: &mut Output) -> Result<Group, FoundError> {
        let Some(votes) = self.founding.votes.as_ref().filter(|_| self.part.is_none()) else {
            return Err(FoundError::TooFewVotes);
        };
        if votes.len() + 1 < self.rules.founding_quorum() {
            return Err(FoundError::TooFewVotes);
        }
        let most = if planted(PlantedBug::FoundWithSurplusSeats) {
            usize::MAX
        } else {
            self.rules.seats()
        };
        let seats: Seats = core::iter::once(self.life)
            .chain(votes.keys().copied())
            .take(most)
            .collect();
        let token_base = self.token_base(wall, votes.values().copied())?;
        let found = Found {
            group: self.own_group(),
            seats,
            token_base,
        };
        let group = found.group;
        let entry = Entry {
            term: 1,
            command: Command::Found(found.clone()),
        };
        let mut part = Part::new(found, 1, !self.asked, now);
        part.log.append(entry);
        part.role = Role::Leader(Leadership::new(1, &part.seats, self.life, 0));
        // Others may commit it under another leader, and grant, without this life ever hearing of it.
        self.highest = self.highest.max(token_base);
        self.withdraw();
        self.incoming = None;
        self.part = Some(part);
        self.beat(now, out);
        self.advance(now, out);
        Ok(group)
    }

    /// Returns where the tokens of a group begin that this life founds now: above the floors of those who voted for it,
    /// and its own.
    pub(super) fn token_base(
        &self,
        wall: WallTime,
        floors: impl Iterator<Item = u64>,
    ) -> Result<u64, FoundError> {
        let micros = wall.as_unix_micros().saturating_sub(EPOCH_MICROS);
        let mut base = micros.checked_mul(1 << 12).ok_or(FoundError::TokensExhausted)?;
        if !planted(PlantedBug::TokenFloorIgnored) {
            base = floors.chain([self.floor()]).fold(base, u64::max);
        }
        if self.rules.is_best_effort() {
            // Two may found one at the same instant, and know the same: nobody takes a token of the one for the other's.
            base = base.saturating_add(self.life.node.short().into());
        }
        if base > MAX_TOKEN_BASE {
            return Err(FoundError::TokensExhausted);
        }
        Ok(base)
    }

    /// Begins to follow a group, with the first entries of its log or a snapshot.
    ///
    /// **SAFETY (empty log)** Only an empty log accepts a `Found`; of a founding, only from the founder.
    pub(super) fn adopt(&mut self, now: Instant, envelope: &Envelope, out: &mut Output) {
        let Envelope { group, from, .. } = *envelope;
        match &envelope.message {
            Message::Append {
                term,
                prev,
                entries,
                round,
                ..
            } => {
                let Some(Entry {
                    command: Command::Found(found),
                    ..
                }) = entries.first().filter(|_| prev.index == 0)
                else {
                    // The leader takes this life for one that has entries. It has none.
                    return self.send_to(group, from, nothing_yet(*term, *round), out);
                };
                let by_founder = *term > 1 || from == group.founder;
                if found.group != group || !found.is_valid(&self.rules) || !by_founder {
                    return;
                }
                self.withdraw();
                self.incoming = None;
                self.part = Some(Part::new(found.clone(), *term, !self.asked, now));
                self.on_append(now, from, &envelope.message, out);
            }
            Message::Snapshot { .. } => self.on_first_snapshot(now, envelope, out),
            _ => {}
        }
    }
}

/// The answer of an empty log to a leader that expects one.
pub(super) fn nothing_yet(term: Term, round: u64) -> Message {
    Message::AppendReply {
        term,
        index: 0,
        matched: false,
        round: answered(round),
        virgin: false,
    }
}

/// The round that an empty log answers when it is asked for this one.
///
/// **SAFETY (rounds)** None: who does not hold the group's `Found` may follow another one next.
pub(super) fn answered(round: u64) -> u64 {
    if planted(PlantedBug::RoundsByTheEmpty) {
        round
    } else {
        0
    }
}

impl Part {
    /// The part of a life that knows how the group began, and nothing else.
    pub(super) fn new(found: Found, term: Term, virgin: bool, now: Instant) -> Self {
        Self {
            group: found.group,
            virgin,
            term,
            vote: None,
            log: Log::default(),
            seats: found.seats.clone(),
            seats_since: 1,
            commit: 0,
            applied: 0,
            machine: Machine::new(&found),
            waits_from: now,
            incoming: None,
            role: Role::Follower { leader: None },
            found,
        }
    }
}

/// The pieces of a snapshot, before anything else of the group is known.
impl Incoming {
    pub(super) const fn new(last: Position, total: u32) -> Self {
        Self {
            last,
            total,
            data: Vec::new(),
        }
    }

    /// Adds a piece, if it comes next. Returns how much there is.
    pub(super) fn add(&mut self, offset: u32, data: &[u8]) -> u32 {
        let have = self.data.len() as u32;
        if offset == have && have as usize + data.len() <= self.total as usize {
            self.data.extend_from_slice(data);
        }
        self.data.len() as u32
    }

    pub(super) fn is_complete(&self) -> bool {
        self.data.len() == self.total as usize
    }
}
