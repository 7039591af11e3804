//! One group, as far as anybody ever saw it: its leaders and votes, every entry of every log, what was decided.

mod append;
mod inherit;
mod leases;
mod queues;
#[cfg(test)]
pub(super) mod tests;

use super::super::ensure;
use super::view::{Key, Part, View};
use quorate_core::consensus::{Command, Found, Index, SeatChange, Seats, Term};
use quorate_core::locks::{Change, Table};
use quorate_core::{Duration, Group, Instant, Life};
use std::collections::BTreeMap;

pub(in crate::checkers) use leases::{End, Lease};
use queues::Queues;

/// What all members agree on, from the settings of the founder.
#[derive(Clone, Copy, Debug)]
pub(in crate::checkers) struct Rules {
    /// Whether it does without a quorum: it has one seat, and grants at once.
    pub(super) best_effort: bool,
    pub(super) seats: usize,
    pub(super) surge: usize,
    pub(super) observers: bool,
    /// The longest lease, and how long a group waits before it grants anything.
    pub(super) max_ttl: Duration,
    pub(in crate::checkers) grace: Duration,
}

impl Rules {
    pub(super) const fn quorum(&self) -> usize {
        self.seats / 2 + 1
    }

    pub(super) const fn founding_quorum(&self) -> usize {
        self.quorum() + self.surge
    }
}

/// A time, in truth and on the clock of the host concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) local: Instant,
}

/// A token, when it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) to: Life,
    pub(super) token: u64,
    pub(super) index: Index,
}

/// Something rare that a look at a replica has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rare {
    Elected,
    Opened { skipped: bool, again: bool },
    Closed,
    SeatEmptied,
    SeatFilled,
    SnapshotInstalled,
    Compacted,
    Truncated,
    LeaseExpired,
    WaiterDropped,
}

/// What a look at a replica has shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) grants: Vec<Grant>,
    /// Whether it granted a lock.
    pub(super) leased: bool,
    /// Who was given a seat.
    pub(super) filled: Vec<Life>,
    /// Whether anything was decided, or the group was founded.
    pub(super) decided: bool,
    /// Since when the host of the leader has had to count time right for the `Open` that it appended.
    pub(super) opened: Option<Instant>,
    pub(super) rare: Vec<Rare>,
}

/// An entry that somebody stored.
#[derive(Debug)]
struct Stored {
    command: Command,
    /// The term of the entry before it.
    before: Term,
    appended: Instant,
    holders: Vec<Life>,
}

/// The state machine after one decided entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    open: bool,
    decided: bool,
    counter: u64,
    /// Which of the decided seats are in force.
    seats: usize,
}

#[derive(Debug)]
struct Decided {
    term: Term,
    /// The term of whoever was first seen to know it: not before the one in which it was decided.
    known_in: Term,
    state: State,
}

/// How a life came to the group.
#[derive(Debug)]
struct Belongs {
    since: Moment,
    /// Whether it had asked anybody for a token before.
    asked: bool,
    /// When it learned last that the group was closed, and since when it leads in which term.
    closed: Option<Moment>,
    leads: Option<(Term, Moment)>,
}

#[derive(Debug)]
pub(in crate::checkers) struct Ledger {
    pub(in crate::checkers) group: Group,
    pub(super) found: Found,
    pub(in crate::checkers) rules: Rules,
    pub(in crate::checkers) created: Instant,
    /// Above which token it begins by the founder's wall clock, and by what its voters know.
    pub(super) wall_base: u64,
    pub(super) known: u64,
    leaders: BTreeMap<Term, Life>,
    votes: BTreeMap<(Term, Life), Life>,
    entries: BTreeMap<(Index, Term), Stored>,
    decided: Vec<Decided>,
    seats: Vec<Seats>,
    lives: BTreeMap<Life, Belongs>,
    /// When the newest decided entry was appended.
    pub(super) newest_entry: Instant,
    /// When the newest completed quorum round began.
    pub(super) newest_round: Instant,
    /// The first and the last token.
    pub(super) tokens: Option<(u64, u64)>,
    /// When it granted last.
    pub(super) granted: Instant,
    /// Every token, and whom it was granted.
    grants: BTreeMap<u64, Grant>,
    /// The locks after the last decided entry, and every one that was ever granted, by token.
    table: Table,
    leases: BTreeMap<u64, Lease>,
    queues: Queues,
    /// Whether the clock of who opened it was inside the bound all the time that it waited.
    pub(in crate::checkers) opened_in_time: bool,
}

impl Ledger {
    /// Begins with the group's creation, at the founder.
    pub(super) fn new(view: &View<'_>, rules: Rules, now: Instant) -> Result<Self, String> {
        let (group, found) = (view.group, view.found);
        ensure(view.key.life == group.founder && view.key.leads(), || {
            format!(
                "{} belongs to the group {group}, which {} never founded",
                view.key.life, group.founder
            )
        })?;
        ensure(found.group == group, || {
            format!("the group {group} begins with the entry of {}", found.group)
        })?;
        let count = found.seats.len();
        ensure((rules.quorum()..=rules.seats).contains(&count), || {
            format!(
                "the group {group} is founded with {count} seats: must be {} to {}",
                rules.quorum(),
                rules.seats
            )
        })?;
        ensure(found.seats.contains(group.founder), || {
            format!("the founder of the group {group} has no seat in it")
        })?;
        Ok(Self {
            group,
            found: found.clone(),
            rules,
            created: now,
            wall_base: 0,
            known: 0,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            entries: BTreeMap::new(),
            decided: Vec::new(),
            seats: vec![found.seats.clone()],
            lives: BTreeMap::new(),
            newest_entry: Instant::ZERO,
            newest_round: Instant::ZERO,
            tokens: None,
            granted: Instant::ZERO,
            grants: BTreeMap::new(),
            table: Table::default(),
            leases: BTreeMap::new(),
            queues: Queues::default(),
            opened_in_time: true,
        })
    }

    /// Whether its beginning was decided.
    pub(super) fn is_founded(&self) -> bool {
        !self.decided.is_empty()
    }

    /// Whether it was ever closed.
    pub(super) fn was_closed(&self) -> bool {
        self.decided
            .iter()
            .any(|decided| decided.state.decided && !decided.state.open)
    }

    pub(super) fn grant(&self, token: u64) -> Option<&Grant> {
        self.grants.get(&token)
    }

    /// Looks at a replica that has changed. `before` is what it was, `Key::group` of which may be another.
    pub(super) fn look(&mut self, at: Moment, before: &Key, view: &View<'_>) -> Result<Shown, String> {
        let mut shown = Shown::default();
        let key = &view.key;
        let asked = before.life == key.life && before.asked;
        // What it was in this group.
        let before = Some(before).filter(|before| before.group == key.group && before.life == key.life);
        ensure(*view.found == self.found, || {
            format!("{} knows another beginning of the group {}", key.life, self.group)
        })?;
        self.lives.entry(key.life).or_insert(Belongs {
            since: at,
            asked,
            closed: None,
            leads: None,
        });
        self.take_vote(key)?;
        self.take_log(at, before, view, &mut shown)?;
        if key.leads() {
            self.take_leader(at, view, &mut shown)?;
        }
        self.take_commit(at, before, view, &mut shown)?;
        self.check_machine(before, view)?;
        self.check_counted(view)?;
        Ok(shown)
    }

    fn take_vote(&mut self, key: &Key) -> Result<(), String> {
        let Some(vote) = key.vote else { return Ok(()) };
        let first = *self.votes.entry((key.term, key.life)).or_insert(vote);
        ensure(first == vote, || {
            format!(
                "{} votes for {vote} in term {}, in which it has voted for {first}",
                key.life, key.term
            )
        })
    }

    fn take_leader(&mut self, at: Moment, view: &View<'_>, shown: &mut Shown) -> Result<(), String> {
        let (life, term) = (view.key.life, view.key.term);
        ensure(view.seats.contains(life), || {
            format!("{life} leads the group {} without a seat", self.group)
        })?;
        if let Some(&leader) = self.leaders.get(&term) {
            return ensure(leader == life, || {
                format!(
                    "{life} and {leader} both lead the group {} in term {term}",
                    self.group
                )
            });
        }
        self.leaders.insert(term, life);
        if let Some(belongs) = self.lives.get_mut(&life) {
            belongs.leads = Some((term, at));
        }
        if term == 1 && life == self.group.founder {
            return Ok(());
        }
        shown.rare.push(Rare::Elected);
        let voted = |&seat: &Life| self.votes.get(&(term, seat)) == Some(&life);
        let (votes, quorum) = (view.seats.iter().filter(voted).count(), self.rules.quorum());
        ensure(votes >= quorum, || {
            format!(
                "{life} leads in term {term} by the votes of {votes} seats: a quorum is {quorum}, whoever is seated"
            )
        })?;
        // What was decided in earlier terms is in the log of every later leader (Ongaro 2014, section 3.6.3).
        let must = self.decided.iter().rposition(|decided| decided.known_in < term);
        let Some(must) = must else { return Ok(()) };
        let (index, expected) = (must as Index + 1, self.decided[must].term);
        let has = view.key.base.index > index || view.term(index) == Some(expected);
        ensure(has, || {
            format!("{life} leads in term {term} without entry {index} of term {expected}, which was decided")
        })
    }

    fn take_commit(
        &mut self,
        at: Moment,
        before: Option<&Key>,
        view: &View<'_>,
        shown: &mut Shown,
    ) -> Result<(), String> {
        let key = &view.key;
        let known = before.map_or(0, |before| before.commit);
        ensure(key.commit <= key.last.index, || {
            format!(
                "{} takes entry {} for decided and has only {}",
                key.life, key.commit, key.last.index
            )
        })?;
        for index in known + 1..=key.commit {
            let Some(term) = view.term(index) else {
                // In a snapshot: its last entry stands for all. A leader may decide so much at once that some of it is
                // in the snapshot before anybody saw it decided: of one index and several terms it has the latest.
                if index > self.decided.len() as Index {
                    let known = self.entries.range((index, 0)..=(index, key.base.term));
                    let term = known.map(|(&(_, term), _)| term).next_back().ok_or_else(|| {
                        format!(
                            "the snapshot of {} covers entry {index}, which was never decided",
                            key.life
                        )
                    })?;
                    self.decide(at, index, term, view, shown)?;
                }
                continue;
            };
            if let Some(decided) = self.decided.get(index as usize - 1) {
                let expected = decided.term;
                ensure(term == expected, || {
                    format!(
                        "entry {index} was decided in its term {expected}, and {} takes that of term {term} for decided",
                        key.life
                    )
                })?;
                continue;
            }
            self.decide(at, index, term, view, shown)?;
        }
        Ok(())
    }

    /// Takes note of an entry that nobody was seen to know as decided before.
    fn decide(
        &mut self,
        at: Moment,
        index: Index,
        term: Term,
        view: &View<'_>,
        shown: &mut Shown,
    ) -> Result<(), String> {
        let Some(stored) = self.entries.get(&(index, term)) else {
            return Err(format!(
                "entry {index} of term {term} is decided, and nobody has it"
            ));
        };
        // Seats change when the change is appended: a later one may have taken somebody's seat since.
        let later = (index + 1..=view.key.last.index).filter_map(|later| view.log.entry(later));
        let emptied: Vec<Life> = later
            .filter_map(|entry| match entry.command {
                Command::Seat(SeatChange::Empty(life)) => Some(life),
                _ => None,
            })
            .collect();
        let counts = |life: &&Life| view.seats.contains(**life) || emptied.contains(life);
        let (seated, quorum) = (stored.holders.iter().filter(counts).count(), self.rules.quorum());
        ensure(seated >= quorum, || {
            format!(
                "entry {index} of term {term} is decided by {seated} seats: a quorum is {quorum}, whoever is seated"
            )
        })?;
        let named = stored
            .holders
            .iter()
            .filter(|&&life| self.found.seats.contains(life));
        let (named, needed) = (named.count(), self.rules.founding_quorum());
        ensure(index > 1 || named >= needed, || {
            format!(
                "the group {} is founded by {named} of the lives that it names: it takes {needed}",
                self.group
            )
        })?;
        let mut state = self.decided.last().map_or(
            State {
                open: false,
                decided: false,
                counter: self.found.token_base,
                seats: 0,
            },
            |last| last.state,
        );
        let appended = stored.appended;
        match stored.command {
            Command::Found(_) | Command::Noop => {}
            Command::Seat(change) => {
                let mut seats = self.seats[state.seats].clone();
                seats.apply(change);
                self.seats.push(seats);
                state.seats = self.seats.len() - 1;
            }
            Command::Open => (state.open, state.decided) = (true, true),
            Command::Close => (state.open, state.decided) = (false, true),
            Command::Draw { to, .. } if state.open => {
                state.counter += 1;
                let token = state.counter;
                let grant = Grant { to, token, index };
                self.tokens = Some((self.tokens.map_or(token, |(first, _)| first), token));
                self.grants.insert(token, grant);
                self.granted = at.now;
                shown.grants.push(grant);
            }
            Command::Draw { .. } => {}
            Command::Lock(ref change) => {
                let leader = self.leaders.get(&term).copied();
                let end = End {
                    at: appended,
                    decided: at.now,
                    expired_by: leader.filter(|_| matches!(change, Change::Expire { .. })),
                    forced: matches!(change, Change::Revoke { at_once: true, .. }),
                };
                let gate = (state.open, &mut state.counter);
                let change = change.clone();
                self.take_change((index, term), &change, end, gate, shown)?;
            }
        }
        self.newest_entry = self.newest_entry.max(appended);
        self.decided.push(Decided {
            term,
            known_in: view.key.term,
            state,
        });
        shown.decided = true;
        Ok(())
    }

    /// The state machine says what follows from the decided entries.
    fn check_machine(&self, before: Option<&Key>, view: &View<'_>) -> Result<(), String> {
        let applied = view.key.applied;
        let machine = view.machine;
        if before.is_some_and(|before| before.applied == applied) {
            return Ok(());
        }
        let Some(decided) = (applied as usize)
            .checked_sub(1)
            .and_then(|at| self.decided.get(at))
        else {
            return ensure(applied == 0, || {
                format!(
                    "{} has applied entry {applied}, which is not decided",
                    view.key.life
                )
            });
        };
        let State {
            open,
            decided: spoken,
            counter,
            seats,
        } = decided.state;
        let same = (machine.open, machine.decided, machine.counter) == (open, spoken, counter)
            && machine.seats == self.seats[seats];
        ensure(same, || {
            format!(
                "the state of {} after entry {applied} does not follow from the log: open {}, decided {}, counter {}, \
                 {} seats, in place of {open}, {spoken}, {counter}, {}",
                view.key.life,
                machine.open,
                machine.decided,
                machine.counter,
                machine.seats.len(),
                self.seats[seats].len()
            )
        })?;
        // What the locks were after earlier entries is not kept.
        ensure(
            applied as usize != self.decided.len() || machine.table == self.table,
            || {
                format!(
                    "the locks of {} after entry {applied} do not follow from the log",
                    view.key.life
                )
            },
        )
    }

    fn check_counted(&self, view: &View<'_>) -> Result<(), String> {
        let unseated = view.key.part == Part::Candidate && !view.seats.contains(view.key.life);
        ensure(!unseated, || {
            format!(
                "{} stands for election in the group {} without a seat",
                view.key.life, self.group
            )
        })
    }
}
