//! The seats of a group.

use super::life::Life;
use alloc::vec::Vec;

/// The lives that are seated, in their order. Empty seats are those that are missing to N.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Seats(Vec<Life>);

/// One change of the seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeatChange {
    /// This life takes an empty seat.
    Fill(Life),
    /// This life's seat becomes empty.
    Empty(Life),
}

impl Seats {
    /// Returns how many seats are filled.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether no seat is filled.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether this life is seated.
    pub fn contains(&self, life: Life) -> bool {
        self.0.binary_search(&life).is_ok()
    }

    /// Returns who is seated, in order.
    pub fn iter(&self) -> impl Iterator<Item = Life> + '_ {
        self.0.iter().copied()
    }

    /// Applies a change. What is so already stays as it is.
    pub fn apply(&mut self, change: SeatChange) {
        match change {
            SeatChange::Fill(life) => {
                if let Err(place) = self.0.binary_search(&life) {
                    self.0.insert(place, life);
                }
            }
            SeatChange::Empty(life) => self.0.retain(|&seated| seated != life),
        }
    }
}

impl FromIterator<Life> for Seats {
    fn from_iter<I: IntoIterator<Item = Life>>(lives: I) -> Self {
        let mut seats: Vec<Life> = lives.into_iter().collect();
        seats.sort_unstable();
        seats.dedup();
        Self(seats)
    }
}
