//! What a follower or learner does: storing entries and snapshots.

use super::founding::{answered, nothing_yet};
use super::{Incoming, Output, Part, Replica};
use crate::consensus::codec::decode_machine;
use crate::consensus::entry::{Command, Entry, Index, Position};
use crate::consensus::life::Life;
use crate::consensus::log::Snapshot;
use crate::consensus::message::{Envelope, Message};
use crate::time::Instant;
use bytes::Bytes;

/// The longest state machine that is taken, in bytes.
pub(super) const MAX_SNAPSHOT: u32 = 16 << 20;

impl Replica {
    pub(super) fn on_append(&mut self, now: Instant, from: Life, message: &Message, out: &mut Output) {
        let Message::Append {
            term,
            prev,
            entries,
            commit,
            round,
        } = message
        else {
            return;
        };
        let Some(part) = &mut self.part else { return };
        let virgin = part.virgin;
        let reply = |part: &Part, index, matched, round| Message::AppendReply {
            term: part.term,
            index,
            matched,
            round,
            virgin,
        };
        if *term < part.term {
            // Tells a leader of the past that it is one.
            let message = reply(part, part.log.last().index, false, 0);
            return self.send(from, message, out);
        }
        part.follow(*term, Some(from));
        if let Err(index) = part.fits(*prev) {
            let message = reply(part, index, false, *round);
            return self.send(from, message, out);
        }
        let mut index = prev.index;
        for entry in entries {
            index += 1;
            part.store(now, index, entry);
        }
        // What lies behind the last entry of this message may be of another leader.
        part.commit = part.commit.max((*commit).min(index));
        let commit = part.commit;
        part.incoming.take_if(|incoming| incoming.last.index <= commit);
        let message = reply(part, index, true, *round);
        self.send(from, message, out);
        self.apply(now, out);
    }

    pub(super) fn on_snapshot(&mut self, now: Instant, from: Life, message: &Message, out: &mut Output) {
        let Message::Snapshot {
            term,
            last,
            offset,
            total,
            data,
            round,
        } = message
        else {
            return;
        };
        let Some(part) = &mut self.part else { return };
        if *term < part.term {
            let message = Message::AppendReply {
                term: part.term,
                index: part.log.last().index,
                matched: false,
                round: 0,
                virgin: part.virgin,
            };
            return self.send(from, message, out);
        }
        part.follow(*term, Some(from));
        if last.index > part.commit {
            let received = collect(&mut part.incoming, *last, *offset, *total, data);
            let Some(data) = complete(&mut part.incoming) else {
                let message = Message::SnapshotReply {
                    term: *term,
                    last: *last,
                    received,
                    round: *round,
                };
                return self.send(from, message, out);
            };
            if !part.install(now, *last, data) {
                return;
            }
        }
        let message = Message::AppendReply {
            term: *term,
            index: last.index,
            matched: true,
            round: *round,
            virgin: part.virgin,
        };
        self.send(from, message, out);
        let Some(part) = &self.part else { return };
        self.highest = self.highest.max(part.machine.counter);
    }

    /// The pieces of a snapshot for a life that knows nothing of the group yet. It answers no round before the last one.
    pub(super) fn on_first_snapshot(&mut self, now: Instant, envelope: &Envelope, out: &mut Output) {
        let Message::Snapshot {
            term,
            last,
            offset,
            total,
            ref data,
            round,
        } = envelope.message
        else {
            return;
        };
        let (group, from) = (envelope.group, envelope.from);
        let (_, mut incoming) = self.incoming.take().filter(|&(of, _)| of == group).unzip();
        let received = collect(&mut incoming, last, offset, total, data);
        let Some(data) = complete(&mut incoming) else {
            self.incoming = incoming.map(|incoming| (group, incoming));
            let message = Message::SnapshotReply {
                term,
                last,
                received,
                round: answered(round),
            };
            return self.send_to(group, from, message, out);
        };
        let machine = decode_machine(&data)
            .filter(|machine| machine.found.group == group && machine.found.is_valid(&self.rules));
        let Some(machine) = machine else {
            return self.send_to(group, from, nothing_yet(term, round), out);
        };
        self.withdraw();
        self.part = Some(Part::new(machine.found, term, !self.asked, now));
        if let Some(part) = &mut self.part {
            part.incoming = Some(Incoming::whole(last, &data));
        }
        let whole = Envelope {
            message: Message::Snapshot {
                term,
                last,
                offset: total,
                total,
                data: Bytes::new(),
                round,
            },
            ..*envelope
        };
        self.on_snapshot(now, from, &whole.message, out);
    }
}

/// Adds a piece to those that have arrived. Returns how much there is of this snapshot.
fn collect(incoming: &mut Option<Incoming>, last: Position, offset: u32, total: u32, data: &[u8]) -> u32 {
    if total > MAX_SNAPSHOT {
        return 0;
    }
    if incoming
        .as_ref()
        .is_none_or(|have| have.last != last || have.total != total)
    {
        *incoming = Some(Incoming::new(last, total));
    }
    incoming.as_mut().map_or(0, |incoming| incoming.add(offset, data))
}

/// Takes a snapshot of which everything has arrived.
fn complete(incoming: &mut Option<Incoming>) -> Option<Bytes> {
    incoming
        .take_if(|incoming| incoming.is_complete())
        .map(|incoming| incoming.data.into())
}

impl Part {
    /// Whether the log has the entry that comes before new ones. If not, returns where the leader should look next.
    fn fits(&self, prev: Position) -> Result<(), Index> {
        let last = self.log.last().index;
        if prev.index > last {
            return Err(last);
        }
        // What is compacted is committed, and the same everywhere.
        let Some(term) = self.log.term(prev.index) else {
            return Ok(());
        };
        if term == prev.term {
            return Ok(());
        }
        // All entries of that term may be another leader's; what is committed is not.
        let same = |&index: &Index| self.log.term(index) == Some(term);
        let first = (self.commit + 1..=prev.index).rev().take_while(same).last();
        Err(first.map_or(self.commit, |first| first - 1).max(self.commit))
    }

    /// Stores one entry of the leader in its place.
    fn store(&mut self, now: Instant, index: Index, entry: &Entry) {
        if index < self.log.first_index() || self.log.term(index) == Some(entry.term) {
            return;
        }
        // An entry that differs from a committed one does not come from a leader of this group.
        if index <= self.commit {
            return;
        }
        if index <= self.log.last().index {
            self.truncate_from(index);
        }
        if entry.command == Command::Close {
            self.waits_from = now;
        }
        self.append(entry.clone());
    }

    /// Replaces log and state machine. Returns whether the snapshot makes sense.
    fn install(&mut self, now: Instant, last: Position, data: Bytes) -> bool {
        let Some(machine) = decode_machine(&data).filter(|machine| machine.found == self.found) else {
            return false;
        };
        let kept = self.log.term(last.index) == Some(last.term);
        if machine.gate() == Some(false) {
            self.waits_from = now;
        }
        let snapshot = Snapshot {
            last,
            seats: machine.seats.clone(),
            data,
        };
        if kept {
            // The entries behind it are still good.
            self.log.compact(snapshot, 0);
        } else {
            self.log.install(snapshot);
        }
        (self.commit, self.applied) = (last.index, last.index);
        self.machine = machine;
        self.recount_seats();
        true
    }
}

impl Incoming {
    fn whole(last: Position, data: &[u8]) -> Self {
        Self {
            last,
            total: data.len() as u32,
            data: data.to_vec(),
        }
    }
}
