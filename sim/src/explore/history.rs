//! What really happened, as nobody in the system can see it, and what must hold of it.

use super::process::{Deed, Grant, Process, Tick, entry_name, group_name, name};
use quorate_core::consensus::{Entry, Group, Index, Life, Replica, Term};

/// What of a search's bounds is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Spent {
    /// How often somebody stood as a founder.
    pub(super) stands: u8,
    pub(super) crashes: u8,
    pub(super) abandons: u8,
    pub(super) draws: u8,
    /// Changes of seats that were asked for.
    pub(super) changes: u8,
    /// How often the lock was asked for, and given back.
    pub(super) locks: u8,
    pub(super) releases: u8,
    /// Asks of clients that were read and may be read again.
    pub(super) copies: u8,
}

/// The reign of one leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reign {
    term: Term,
    leader: Life,
    /// The last entry that it appended.
    last: Index,
    /// The last round that it began.
    round: u64,
}

/// What happened to one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Past {
    group: Group,
    reigns: Vec<Reign>,
    /// Every entry that a leader committed, and the term of the leader. `None` where it was compacted at once.
    committed: Vec<(Option<Entry>, Term)>,
    grants: Vec<Grant>,
    /// How far the reigns of each older group were when this one's `Found` was created: behind it they may append, but
    /// neither commit that nor complete a round.
    before: Vec<Vec<Reign>>,
    /// Which older group completed a round that began after this one's `Found` was created.
    round_after: Option<Group>,
}

/// The clock, what is used up, and the past of all groups, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    pub(super) now: Tick,
    /// How many processes were ever started.
    pub(super) started: u8,
    pub(super) spent: Spent,
    /// The highest token of the lock that anybody ever believed in.
    believed: u64,
    pasts: Vec<Past>,
}

impl History {
    /// Nothing has happened but that so many processes were started.
    pub(super) fn new(started: u8) -> Self {
        Self {
            started,
            ..Self::default()
        }
    }

    /// How many groups were founded.
    pub(super) fn foundings(&self) -> u8 {
        self.pasts.len() as u8
    }

    /// Writes down what a process did.
    ///
    /// # Errors
    /// What must hold and does not.
    pub(super) fn record(&mut self, process: &Process, deed: &Deed) -> Result<(), String> {
        let replica = &process.replica;
        for &token in &deed.began {
            if token <= self.believed {
                return Err(format!(
                    "{} begins to believe in token {token} after somebody believed in token {}",
                    name(process.life()),
                    self.believed
                ));
            }
            self.believed = token;
        }
        let Some(group) = replica.group() else {
            return Ok(());
        };
        if deed.founded {
            let before = self.pasts.iter().map(|past| past.reigns.clone()).collect();
            self.pasts.push(Past {
                group,
                reigns: Vec::new(),
                committed: Vec::new(),
                grants: Vec::new(),
                before,
                round_after: None,
            });
        }
        let Some(place) = self.pasts.iter().position(|past| past.group == group) else {
            return Err(format!(
                "{} belongs to {}, which nobody founded",
                name(process.life()),
                group_name(group)
            ));
        };
        let seats = replica.seats().map_or(0, |seats| seats.len());
        let most = replica.rules().seats();
        if seats > most {
            return Err(format!(
                "{seats} seats of {} are filled, of {most}",
                group_name(group)
            ));
        }
        let past = &mut self.pasts[place];
        past.reign(replica)?;
        past.commit(replica)?;
        past.leader_has_what_is_committed(replica)?;
        self.rounds(place, replica);
        self.grant(place, &deed.grants)?;
        self.older_groups_are_over()
    }

    /// Remembers that a leader completed a round which it began after a younger group was created.
    fn rounds(&mut self, place: usize, replica: &Replica) {
        let completed = replica.completed_round();
        let group = self.pasts[place].group;
        for younger in &mut self.pasts[place + 1..] {
            let reign = younger.before[place]
                .iter()
                .find(|reign| reign.term == replica.term());
            if completed > reign.map_or(0, |reign| reign.round) {
                younger.round_after.get_or_insert(group);
            }
        }
    }

    /// The founding lemma: once a group has committed its `Found`, no older one commits an entry that was appended, or
    /// completes a round that was begun, after that `Found` was created.
    fn older_groups_are_over(&self) -> Result<(), String> {
        let founded = self.pasts.iter().filter(|past| !past.committed.is_empty());
        for younger in founded {
            for (older, before) in self.pasts.iter().zip(&younger.before) {
                let known = (1..)
                    .zip(&older.committed)
                    .filter_map(|(index, (entry, _))| Some((index, entry.as_ref()?)));
                let late = known.into_iter().find(|(index, entry)| {
                    let reign = before.iter().find(|reign| reign.term == entry.term);
                    reign.is_none_or(|reign| *index > reign.last)
                });
                if let Some((index, entry)) = late {
                    return Err(format!(
                        "{} committed entry {index}, {}, which was appended after the committed Found of {} was created",
                        group_name(older.group),
                        entry_name(entry),
                        group_name(younger.group)
                    ));
                }
            }
            if let Some(older) = younger.round_after {
                return Err(format!(
                    "{} completed a round that began after the committed Found of {} was created",
                    group_name(older),
                    group_name(younger.group)
                ));
            }
        }
        Ok(())
    }

    /// Tokens rise from group to group, and inside a group each is given for one request.
    fn grant(&mut self, place: usize, grants: &[Grant]) -> Result<(), String> {
        for grant in grants {
            let token = grant.token;
            let (older, rest) = self.pasts.split_at(place);
            let past = &rest[0];
            let mut below = older.iter().flat_map(|past| &past.grants);
            let mut above = rest[1..].iter().flat_map(|past| &past.grants);
            if let Some(other) = below
                .find(|other| other.token >= token)
                .or_else(|| above.find(|other| other.token <= token))
            {
                return Err(format!(
                    "{} granted token {token}, and another group {}: they do not rise with the groups",
                    group_name(past.group),
                    other.token
                ));
            }
            let again = past.grants.iter().find(|other| other.token == token);
            if let Some(other) = again.filter(|other| (other.to, other.request) != (grant.to, grant.request))
            {
                return Err(format!(
                    "{} granted token {token} to {} and to {}",
                    group_name(past.group),
                    name(other.to),
                    name(grant.to)
                ));
            }
            let twice = |other: &&Grant| (other.to, other.request) == (grant.to, grant.request);
            if again.is_none()
                && let Some(other) = past.grants.iter().find(twice)
            {
                return Err(format!(
                    "{} granted tokens {} and {token} for one request of {}",
                    group_name(past.group),
                    other.token,
                    name(grant.to)
                ));
            }
            if again.is_none() {
                self.pasts[place].grants.push(*grant);
            }
        }
        Ok(())
    }
}

impl Past {
    /// At most one leader in each term.
    fn reign(&mut self, replica: &Replica) -> Result<(), String> {
        let Some(leadership) = replica.leadership() else {
            return Ok(());
        };
        let (term, leader) = (replica.term(), replica.life());
        let (last, round) = (replica.last().index, leadership.round());
        match self.reigns.iter_mut().find(|reign| reign.term == term) {
            Some(reign) if reign.leader != leader => {
                return Err(format!(
                    "{} and {} both lead {} in term {term}",
                    name(reign.leader),
                    name(leader),
                    group_name(self.group)
                ));
            }
            Some(reign) => (reign.last, reign.round) = (reign.last.max(last), reign.round.max(round)),
            None => self.reigns.push(Reign {
                term,
                leader,
                last,
                round,
            }),
        }
        Ok(())
    }

    /// What is committed once is committed for good, and the same for all.
    fn commit(&mut self, replica: &Replica) -> Result<(), String> {
        let Some(log) = replica.log() else { return Ok(()) };
        let commit = replica.commit() as usize;
        while self.committed.len() < commit {
            let entry = log.get(self.committed.len() as Index + 1);
            self.committed.push((entry.cloned(), replica.term()));
        }
        for (index, entry) in log.iter().take_while(|&(index, _)| index as usize <= commit) {
            if let (Some(committed), _) = &self.committed[index as usize - 1]
                && committed != entry
            {
                return Err(format!(
                    "entry {index} of {} was committed as {}, and by {} as {}",
                    group_name(self.group),
                    entry_name(committed),
                    name(replica.life()),
                    entry_name(entry)
                ));
            }
        }
        Ok(())
    }

    /// A leader has all that leaders of earlier terms committed.
    fn leader_has_what_is_committed(&self, replica: &Replica) -> Result<(), String> {
        let (Some(log), Some(_)) = (replica.log(), replica.leadership()) else {
            return Ok(());
        };
        for (index, (entry, term)) in (1..).zip(&self.committed) {
            let Some(entry) = entry else { continue };
            if *term < replica.term() && index > log.base().index && log.get(index) != Some(entry) {
                return Err(format!(
                    "{} leads {} in term {} without entry {index}, {}, which was committed before",
                    name(replica.life()),
                    group_name(self.group),
                    replica.term(),
                    entry_name(entry)
                ));
            }
        }
        Ok(())
    }
}

/// What must hold of each two processes.
///
/// # Errors
/// What does not.
pub(super) fn agree(a: &Process, b: &Process) -> Result<(), String> {
    logs_match(&a.replica, &b.replica)?;
    let locks = a.beliefs().iter().chain(b.beliefs());
    let locks: Vec<u64> = locks
        .filter_map(|belief| belief.exclusive.then_some(belief.token))
        .collect();
    if let [one, other, ..] = locks[..] {
        return Err(format!(
            "{} and {} believe at the same time that they hold the lock, by tokens {one} and {other}",
            name(a.life()),
            name(b.life())
        ));
    }
    let beliefs = a.beliefs().iter().chain(b.beliefs());
    let mut groups = beliefs.map(|belief| (belief.group, belief.token));
    let Some((group, token)) = groups.next() else {
        return Ok(());
    };
    match groups.find(|&(other, _)| other != group) {
        Some((other, its)) => Err(format!(
            "{} and {} believe at the same time in token {token} of {} and token {its} of {}",
            name(a.life()),
            name(b.life()),
            group_name(group),
            group_name(other)
        )),
        None => Ok(()),
    }
}

/// Log matching: entries of the same index and term are the same, and so is all before them. Where equally much is
/// applied, the machines are equal.
fn logs_match(a: &Replica, b: &Replica) -> Result<(), String> {
    let (Some(left), Some(right)) = (a.log(), b.log()) else {
        return Ok(());
    };
    if a.group() != b.group() {
        return Ok(());
    }
    let group = a.group().map_or_else(String::new, group_name);
    let (lives, ends) = (
        (name(a.life()), name(b.life())),
        left.last().index.min(right.last().index),
    );
    let first = left.first_index().max(right.first_index());
    let mut met = false;
    for index in (first..=ends).rev() {
        met |= left.term(index) == right.term(index);
        if met && left.get(index) != right.get(index) {
            return Err(format!(
                "entry {index} of {group} is {} in the log of {} and {} in that of {}, though later terms agree",
                left.get(index).map_or_else(String::new, entry_name),
                lives.0,
                right.get(index).map_or_else(String::new, entry_name),
                lives.1
            ));
        }
    }
    if a.commit() == b.commit() && a.machine() != b.machine() {
        return Err(format!(
            "{} and {} have applied {} entries of {group} each, and do not agree on what came of them",
            lives.0,
            lives.1,
            a.commit()
        ));
    }
    Ok(())
}
