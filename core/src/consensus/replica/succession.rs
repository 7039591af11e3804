//! Without a quorum: a group that takes over from another one, with what is known of its locks.

use super::{FoundError, Output, Part, Replica, Role};
use crate::consensus::entry::{Found, Position};
use crate::consensus::life::Group;
use crate::consensus::log::snapshot_of;
use crate::planted::{PlantedBug, planted};
use crate::time::{Instant, WallTime};

impl Replica {
    /// Founds the group that takes over from this one, with this life as its leader: the same locks, holders and queues,
    /// tokens above all that the former leader can have granted, and every lease from its beginning. `wall` is the wall
    /// clock now. Only without a quorum.
    ///
    /// What the former leader granted and did not tell this life is not in it. Those who believe in such a lock are
    /// told when they renew it.
    ///
    /// # Errors
    /// [`FoundError`]; nothing has changed.
    pub fn succeed(&mut self, now: Instant, wall: WallTime, out: &mut Output) -> Result<Group, FoundError> {
        let Some(part) = self.part.as_mut().filter(|_| self.rules.is_best_effort()) else {
            return Err(FoundError::TooFewVotes);
        };
        // A leader decides alone: it may have answered for all that it has sent.
        part.commit = part.log.last().index;
        self.apply(now, out);
        let token_base = self.token_base(wall, core::iter::empty())?;
        let Some(before) = self.part.take() else {
            return Err(FoundError::TooFewVotes);
        };
        let group = self.founding.next_after(self.life, before.group);
        let found = Found {
            group,
            seats: core::iter::once(self.life).collect(),
            token_base,
        };
        let mut part = Part::new(found, 1, before.virgin, now);
        if !planted(PlantedBug::SuccessionForgetsTable) {
            part.machine.table = before.machine.table;
        }
        (part.machine.open, part.machine.decided) = (true, true);
        // The first entry cannot say all that; whoever follows gets the snapshot that stands for it.
        let last = Position { term: 1, index: 1 };
        part.log.install(snapshot_of(&part.machine, last));
        (part.commit, part.applied) = (last.index, last.index);
        part.role = Role::Follower { leader: None };
        self.highest = self.highest.max(token_base);
        self.incoming = None;
        self.part = Some(part);
        self.lead(now, out);
        Ok(group)
    }

    /// Takes note of where the tokens of some group begin: those of a group that this life founds begin above.
    pub(crate) fn know_of_tokens(&mut self, token_base: u64) {
        self.highest = self.highest.max(token_base);
    }
}
