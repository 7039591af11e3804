//! What is appended to logs, and what a leader may append.

use super::{Ledger, Moment, Rare, Shown, Stored};
use crate::checkers::consensus::view::{Key, View};
use crate::checkers::ensure;
use quorate_core::consensus::{Command, Index, SeatChange, Term};
use quorate_core::{Instant, Life};

impl Ledger {
    /// Takes what is new in a log.
    pub(super) fn take_log(
        &mut self,
        at: Moment,
        before: Option<&Key>,
        view: &View<'_>,
        shown: &mut Shown,
    ) -> Result<(), String> {
        let key = &view.key;
        let (last, base) = (key.last.index, key.base.index);
        let was = before.map_or((0, 0), |before| (before.base.index, before.last.index));
        if base > was.0 {
            // Entries that it had, or those of a snapshot.
            let installed = base > was.1 || last == base;
            shown.rare.push(if installed {
                Rare::SnapshotInstalled
            } else {
                Rare::Compacted
            });
            if installed && view.machine.decided && !view.machine.open {
                self.note_closed(key.life, at);
            }
        }
        if before.is_some_and(|before| before.last == key.last) {
            return Ok(());
        }
        // Down to the last entry that it was seen to have: what comes before that it had then.
        let holds = |index: Index| {
            let stored = view.term(index).and_then(|term| self.entries.get(&(index, term)));
            stored.is_some_and(|stored| stored.holders.contains(&key.life))
        };
        let known = (base + 1..=last)
            .rev()
            .find(|&index| holds(index))
            .unwrap_or(base);
        if before.is_some_and(|before| before.last.index > known && known < last) {
            shown.rare.push(Rare::Truncated);
        }
        for index in known + 1..=last {
            self.take_entry(at, index, view, shown)?;
        }
        Ok(())
    }

    fn take_entry(
        &mut self,
        at: Moment,
        index: Index,
        view: &View<'_>,
        shown: &mut Shown,
    ) -> Result<(), String> {
        let key = &view.key;
        let Some(entry) = view.log.entry(index) else {
            return Err(format!(
                "the log of {} lacks entry {index} in its middle",
                key.life
            ));
        };
        let term = entry.term;
        let before = if index == 1 { Some(0) } else { view.term(index - 1) };
        let Some(before) = before.filter(|&before| before <= term && term <= key.term) else {
            return Err(format!(
                "the terms in the log of {} are out of order at entry {index}",
                key.life
            ));
        };
        let begins = matches!(entry.command, Command::Found(_));
        ensure(begins == (index == 1), || {
            format!("entry {index} of {} is {:?}", key.life, entry.command)
        })?;
        let new = !self.entries.contains_key(&(index, term));
        let stored = self.entries.entry((index, term)).or_insert_with(|| Stored {
            command: entry.command.clone(),
            before,
            appended: at.now,
            holders: Vec::new(),
        });
        ensure(stored.command == entry.command && stored.before == before, || {
            format!(
                "entry {index} of term {term} is {:?} after term {before} in the log of {}, and {:?} after term {} elsewhere",
                entry.command, key.life, stored.command, stored.before
            )
        })?;
        if !stored.holders.contains(&key.life) {
            stored.holders.push(key.life);
        }
        if entry.command == Command::Close {
            self.note_closed(key.life, at);
        }
        if new && key.leads() && term == key.term {
            self.check_appended(at, index, &entry.command, view, shown)?;
        }
        Ok(())
    }

    fn note_closed(&mut self, life: Life, at: Moment) {
        if let Some(belongs) = self.lives.get_mut(&life) {
            belongs.closed = Some(at);
        }
    }

    /// Whether a leader may append this now.
    fn check_appended(
        &self,
        at: Moment,
        index: Index,
        command: &Command,
        view: &View<'_>,
        shown: &mut Shown,
    ) -> Result<(), String> {
        match command {
            Command::Seat(change) => {
                match *change {
                    SeatChange::Fill(life) => {
                        shown.rare.push(Rare::SeatFilled);
                        shown.filled.push(life);
                    }
                    SeatChange::Empty(_) => shown.rare.push(Rare::SeatEmptied),
                }
                self.check_seat_change(index, view)
            }
            Command::Open => self.check_open(at, index, view, shown),
            Command::Close => {
                shown.rare.push(Rare::Closed);
                Ok(())
            }
            Command::Found(_) | Command::Noop | Command::Draw { .. } | Command::Lock(_) => Ok(()),
        }
    }

    fn check_seat_change(&self, index: Index, view: &View<'_>) -> Result<(), String> {
        let (key, rules) = (&view.key, &self.rules);
        let leader = key.life;
        let filled = view.seats.len();
        ensure((rules.quorum()..=rules.seats).contains(&filled), || {
            format!(
                "{leader} changes seats so that {filled} are filled: must be {} to {}",
                rules.quorum(),
                rules.seats
            )
        })?;
        let is_seat = |&at: &Index| matches!(view.log.entry(at), Some(entry) if matches!(entry.command, Command::Seat(_)));
        let pending = (key.commit + 1..index).find(is_seat);
        ensure(pending.is_none(), || {
            format!(
                "{leader} changes a seat while the change before, entry {}, is not decided",
                pending.unwrap_or(0)
            )
        })?;
        let own: Option<Term> = view.term(key.commit);
        ensure(own == Some(key.term), || {
            format!(
                "{leader} changes a seat in term {} before it has decided an entry of its own",
                key.term
            )
        })
    }

    /// A group opens when what any other one granted is over, or where nobody alive can hold anything.
    fn check_open(&self, at: Moment, index: Index, view: &View<'_>, shown: &mut Shown) -> Result<(), String> {
        let Some(belongs) = self.lives.get(&view.key.life) else {
            return Ok(());
        };
        let closed = self.gate_before(index, view);
        let again = closed.is_some();
        let since = match (closed, belongs.closed, belongs.leads) {
            (Some(false), Some(closed), Some((_, leads))) if leads.now > closed.now => leads,
            (Some(false), Some(closed), _) => closed,
            _ => belongs.since,
        };
        let waited = at.local.saturating_since(since.local);
        if waited >= self.rules.grace {
            shown.rare.push(Rare::Opened {
                skipped: false,
                again,
            });
            shown.opened = Some(since.now);
            return Ok(());
        }
        shown.rare.push(Rare::Opened { skipped: true, again });
        shown.opened = Some(Instant::ZERO);
        if self.rules.best_effort {
            return Ok(());
        }
        let why = if again {
            Some("it was closed".to_owned())
        } else {
            self.no_skip()
        };
        match why {
            None => Ok(()),
            Some(why) => Err(format!(
                "{} opens the group {} after {:.3} s in place of {:.3} s, though {why}",
                view.key.life,
                self.group,
                waited.as_secs_f64(),
                self.rules.grace.as_secs_f64()
            )),
        }
    }

    /// What the log says about granting before this entry: `None` if nothing.
    fn gate_before(&self, index: Index, view: &View<'_>) -> Option<bool> {
        let kept = (view.key.base.index + 1..index).rev();
        let spoken = kept.filter_map(|at| match view.log.entry(at)?.command {
            Command::Open => Some(true),
            Command::Close => Some(false),
            _ => None,
        });
        spoken.chain(self.gate_of_base(view)).next()
    }

    fn gate_of_base(&self, view: &View<'_>) -> Option<bool> {
        let at = (view.key.base.index as usize).checked_sub(1)?;
        let state = self.decided.get(at)?.state;
        state.decided.then_some(state.open)
    }

    /// Why the grace may not be skipped; `None` if it may.
    fn no_skip(&self) -> Option<String> {
        let rules = &self.rules;
        if rules.surge > 0 {
            return Some("a surge is allowed for".to_owned());
        }
        if rules.observers {
            return Some("observers may hold something".to_owned());
        }
        let named = self.found.seats.len();
        if named < rules.seats {
            return Some(format!("it names only {named} of {} seats", rules.seats));
        }
        self.found
            .seats
            .iter()
            .find_map(|seat| match self.lives.get(&seat) {
                None => Some(format!("{seat} has not stored its beginning")),
                Some(belongs) if belongs.asked => Some(format!("{seat} had asked for a token before")),
                Some(_) => None,
            })
    }
}
