//! Changing the seats, one at a time (Ongaro 2014, chapter 4, with empty seats counted as absent).

use super::{Output, Part, Progress, Replica, Role};
use crate::consensus::entry::Command;
use crate::consensus::life::Life;
use crate::consensus::seats::SeatChange;
use crate::planted::{PlantedBug, planted};

impl Replica {
    /// Sends the log to a life that has no seat, so that it can take one. Without effect unless this life leads and
    /// knows what is committed.
    pub fn add_learner(&mut self, life: Life, out: &mut Output) {
        let me = self.life;
        let Some(part) = self.part.as_mut().filter(|part| part.knows_what_is_committed()) else {
            return;
        };
        let last = part.log.last().index;
        if let Role::Leader(leadership) = &mut part.role
            && life != me
            && !leadership.peers.contains_key(&life)
        {
            leadership.peers.insert(life, Progress::new(last));
            self.send_append(life, out);
        }
    }

    /// Stops sending the log to a life that has no seat.
    pub fn remove_learner(&mut self, life: Life) {
        if let Some(Part {
            role: Role::Leader(leadership),
            seats,
            ..
        }) = &mut self.part
            && !seats.contains(life)
        {
            leadership.peers.remove(&life);
        }
    }

    /// Fills an empty seat with a learner. Returns whether the change was appended; `false` may be tried again later.
    ///
    /// **SAFETY (refill)** A quorum of the present seats has answered a round that began after the learner was known to
    /// have caught up. Else a leader that lost its quorum could fill its seats with restarted processes, and revive a
    /// group that another has replaced.
    pub fn fill_seat(&mut self, life: Life) -> bool {
        let Some(since) = self
            .leadership()
            .and_then(|leadership| leadership.peer(life)?.caught_up())
        else {
            return false;
        };
        let completed = self.completed_round();
        let confirmed = completed >= since || planted(PlantedBug::RefillWithoutRound);
        let full = self
            .seats()
            .is_none_or(|seats| seats.len() >= self.rules.seats() || seats.contains(life));
        confirmed && !full && self.change_seat(SeatChange::Fill(life))
    }

    /// Empties the seat of a life that left, was replaced, or failed. Returns whether the change was appended; `false`
    /// may be tried again later. Never empties below Q filled seats, nor this life's own.
    pub fn empty_seat(&mut self, life: Life, out: &mut Output) -> bool {
        let enough = self
            .seats()
            .is_some_and(|seats| seats.contains(life) && seats.len() > self.rules.quorum());
        if life == self.life || !enough || !self.change_seat(SeatChange::Empty(life)) {
            return false;
        }
        // So that it knows: it is told once, and all of it, also where it has answered nothing in this term yet.
        self.stop_probing(life);
        self.send_appends(life, out);
        self.remove_learner(life);
        true
    }

    /// **SAFETY (one change)** Before a change is appended the leader has committed an entry of its own term (Ongaro,
    /// "bug in single-server membership changes", raft-dev 2015), the change before is committed, and a quorum of the
    /// present seats has answered.
    fn change_seat(&mut self, change: SeatChange) -> bool {
        let Some(part) = &self.part else { return false };
        let own = part.knows_what_is_committed() || planted(PlantedBug::SeatsBeforeOwnTerm);
        let settled = part.seats_since <= part.commit || planted(PlantedBug::TwoSeatsAtOnce);
        let answered = self.completed_round() > 0 || planted(PlantedBug::RefillWithoutRound);
        own && settled && answered && self.propose(Command::Seat(change)).is_some()
    }
}
