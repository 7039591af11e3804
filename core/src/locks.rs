//! Locks: one table of keys with holders and queues, the leases that its holders count on, and who asks for them.
//!
//! The [`Table`] is replicated, and has no clock. The leader's [`Leases`] have: they say until when each holder may
//! believe, and which waiters are there. A client counts from when it *sent* what the leader answers, the leader from
//! when it received it, and each takes the other's clock for as wrong as the bound allows; so the client always stops
//! believing first (Gray and Cheriton, "Leases", 1989). `docs/safety.md` has the argument.

mod ask;
mod change;
mod client;
pub(crate) mod codec;
mod holders;
mod key;
mod lease;
mod list;
mod outcome;
mod request;
mod table;

pub use ask::{Answer, Ask, Denial, Wish};
pub use change::{Change, Effect};
pub use client::{Client, ClientOutput};
pub use key::{Key, MAX_KEY_BYTES, MAX_METADATA_BYTES};
pub(crate) use lease::{At, Deeds};
pub use lease::{Leases, Reply, Terms};
pub use list::{LockCursor, LockFilter, LockPage, LockRow, matches_pattern};
pub use outcome::{LockError, LockEvent, LockId, LostReason};
pub use request::LockRequest;
pub use table::{Holder, Lock, Place, Record, Table, Waiter};
