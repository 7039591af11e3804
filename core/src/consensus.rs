//! Consensus: a group of at most N seats that decides by Q of them, kept in memory only.
//!
//! A small Raft (Ongaro 2014) with pre-vote, check-quorum, changes of one seat at a time, snapshots, leadership transfer
//! and numbered quorum rounds, plus the rules that make it safe without a disk: seats hold lives, and a group is founded
//! by lives with empty logs. `docs/safety.md` has the argument; what it rests on is marked **SAFETY** here.

mod agent;
mod codec;
mod entry;
mod life;
mod log;
mod machine;
mod message;
mod replica;
mod seats;

pub(crate) use agent::{Consensus, Surroundings};
pub use life::{Group, Life};
#[cfg(feature = "simulation")]
pub use {
    entry::{Command, Entry, Found, Index, Position, Term},
    life::Rules,
    log::{Log, Snapshot},
    machine::{Machine, Outcome},
    message::{Envelope, Message},
    replica::{Drawn, FoundError, Founding, Hints, Leadership, Output, Progress, Replica, Role},
    seats::{SeatChange, Seats},
};
