//! Groups: one leader a term, logs that match, decisions that stay, and no two groups that decide or grant side by side.
//!
//! After each input the replica of the process concerned is compared with what it was. What its rules can be checked by
//! is in the ledger of its group; what concerns several groups, or the truth about clocks and processes, is checked here.

mod beliefs;
pub(super) mod between;
pub(super) mod clocks;
mod contact;
mod learners;
pub(super) mod ledger;
#[cfg(test)]
mod tests;
mod view;

use super::truth;
use super::{ensure, slot, who, whom};
use crate::coverage::{Situation, Tally};
use crate::observe::{Command, Observer, Seen};
use crate::world::{NodeIndex, Process, World};
use beliefs::Beliefs;
use clocks::Clocks;
use learners::Learners;
use ledger::{Ledger, Moment, Rare, Rules, Shown};
use quorate_core::consensus::{Machine, Replica};
use quorate_core::{AbandonReason, Config, DrawError, Event, FoundingRefusal, Group, Instant, NodeId, Role};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use view::{Key, Part, View};

/// What was seen of the replica of one process.
#[derive(Debug)]
struct Watched {
    key: Key,
    /// The quorum rounds that are under way, and when each began. Of a leader, while there is more than one group.
    rounds: VecDeque<(u64, Instant)>,
    newest_round: Option<u64>,
    /// Whom it cannot talk to, and whether there was a reason not to found a group before this input.
    quarantined: BTreeSet<NodeId>,
    forbidden: bool,
    /// Since when it leads with the present seats, and what it waits for before it gives somebody a seat.
    leads_since: Instant,
    learners: Learners,
    /// The groups that it reported a conflict with.
    met: Vec<Group>,
}

/// Follows every replica.
#[derive(Debug)]
pub(super) struct Consensus {
    truth: truth::Shared,
    tally: Tally,
    watched: Vec<Option<Watched>>,
    groups: BTreeMap<Group, Ledger>,
    beliefs: Beliefs,
    clocks: Clocks,
    /// Whether there were ever more voters alive than may be, or without a quorum more than one group. From then on only
    /// the rules inside each group hold.
    broken: bool,
    /// Whether the groups of this run do without a quorum.
    best_effort: bool,
}

/// Another checker goes by what this one knows of groups.
pub(super) type Shared = Rc<RefCell<Consensus>>;

impl Observer for Shared {
    fn name(&self) -> &'static str {
        "consensus"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        self.borrow_mut().observe(world, seen)
    }

    fn finish(&mut self, world: &World) -> Result<(), String> {
        self.borrow().beliefs.finish(world)
    }
}

impl Consensus {
    pub(super) const fn groups(&self) -> &BTreeMap<Group, Ledger> {
        &self.groups
    }

    pub(super) const fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// Whether there were ever more voters alive than may be.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether there was ever more than one group, and they do without a quorum: what they grant is then only the best
    /// that each can do.
    pub(super) const fn is_split(&self) -> bool {
        self.broken && self.best_effort
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Settled { node } => self.look(world, node),
            Seen::Started { node, config } => {
                self.on_started(world, node, config);
                Ok(())
            }
            Seen::Stopped { node } => {
                self.on_stopped(world, node);
                Ok(())
            }
            Seen::Event { node, event } => self.on_event(world, node, event),
            Seen::Command { node, command } => {
                match command {
                    Command::DrawToken { result: Ok(id) } => self.beliefs.asked(node, *id, world.now()),
                    Command::Leave => self.beliefs.ended(node),
                    _ => {}
                }
                Ok(())
            }
            Seen::Resumed { node } => self.beliefs.resumed(world, node, &self.groups, self.broken),
            Seen::FaultBegan { number, kind } => {
                self.clocks.began(world.now(), number, kind);
                Ok(())
            }
            Seen::FaultEnded { number } => {
                self.clocks.ended(world.now(), number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn new(truth: truth::Shared, tally: Tally) -> Self {
        Self {
            truth,
            tally,
            watched: Vec::new(),
            groups: BTreeMap::new(),
            beliefs: Beliefs::default(),
            clocks: Clocks::default(),
            broken: false,
            best_effort: false,
        }
    }

    fn on_started(&mut self, world: &World, node: NodeIndex, config: &Config) {
        if node == NodeIndex(0) {
            self.clocks.promise(config.drift_permille);
        }
        // A stranger may be the first that starts.
        if world.process(node).member {
            self.best_effort = config.cluster_size == 0;
        }
        let votes = |process: &Process| process.member && process.config.role == Role::Voter;
        let alive = world
            .processes()
            .filter(|(_, process)| process.ended.is_none() && votes(process));
        let allowed = usize::from(config.cluster_size) + usize::from(config.surge);
        let counts = votes(world.process(node)) && config.cluster_size > 0;
        if counts && alive.count() > allowed && !self.broken {
            self.broken = true;
            self.tally.count(Situation::AssumptionBroken);
        }
        let Some(replica) = world.process(node).node().map(|node| node.replica()) else {
            return;
        };
        *slot(&mut self.watched, node.0) = Some(Watched {
            key: Key::of(replica),
            rounds: VecDeque::new(),
            newest_round: None,
            quarantined: BTreeSet::new(),
            forbidden: false,
            leads_since: Instant::ZERO,
            learners: Learners::default(),
            met: Vec::new(),
        });
    }

    fn on_stopped(&mut self, world: &World, node: NodeIndex) {
        self.beliefs.gone(node);
        let id = world.process(node).id;
        let dies = self.groups.values().any(|ledger| {
            ledger.group.founder.node == id && !ledger.is_founded() && ledger.created < world.now()
        });
        if dies {
            self.tally.count(Situation::FounderDied);
        }
    }

    /// Compares the replica of a process with what it was.
    fn look(&mut self, world: &World, node: NodeIndex) -> Result<(), String> {
        let Some(replica) = world.process(node).node().map(|node| node.replica()) else {
            return Ok(());
        };
        let Some(watched) = self.watched.get_mut(node.0).and_then(Option::as_mut) else {
            return Ok(());
        };
        let key = Key::of(replica);
        let before = watched.key;
        if key != before {
            watched.key = key;
            if key.leads() && !(before.leads() && before.term == key.term) {
                watched.leads_since = world.now();
                watched.learners = Learners::default();
                (watched.rounds, watched.newest_round) = (VecDeque::new(), None);
            }
            let told = self.changed(world, node, &before, key, replica);
            told.map_err(|what| format!("{what}; seen at {}", who(world, node)))?;
        }
        if key.leads() && self.groups.len() > 1 {
            self.follow_rounds(world, node, key, replica)?;
        }
        if let (Some(leadership), Some(seats)) = (replica.leadership(), replica.seats())
            && let Some(watched) = self.watched[node.0].as_mut()
        {
            watched
                .learners
                .look(leadership, seats, || replica.completed_round());
        }
        self.check_contact(world, node, &before, replica)
            .map_err(|what| format!("{what}; seen at {}", who(world, node)))?;
        let (present, quarantined) = {
            let truth = self.truth.borrow();
            let voter = world.process(node).config.role == Role::Voter;
            let listed = truth.node(node).voters_listed;
            (listed + usize::from(voter), self.watched[node.0].as_ref())
        };
        let config = &world.process(node).config;
        let allowed = usize::from(config.cluster_size) + usize::from(config.surge);
        let surplus = config.cluster_size > 0 && present > allowed;
        let forbidden = surplus || quarantined.is_some_and(|watched| !watched.quarantined.is_empty());
        if let Some(watched) = self.watched[node.0].as_mut() {
            watched.forbidden = forbidden;
        }
        Ok(())
    }

    fn check_contact(
        &self,
        world: &World,
        node: NodeIndex,
        before: &Key,
        replica: &Replica,
    ) -> Result<(), String> {
        let (Some(watched), Some(seats)) = (self.watched[node.0].as_ref(), replica.seats()) else {
            return Ok(());
        };
        let (truth, quorum) = (self.truth.borrow(), replica.rules().quorum());
        match watched.key.part {
            Part::Leader => {
                if let Some(leadership) = replica.leadership().filter(|_| !replica.rules().is_best_effort()) {
                    contact::check_rounds(world, &self.watched, watched, leadership)?;
                }
                contact::check_leader(world, &truth, node, watched, seats, quorum)
            }
            Part::Candidate => {
                contact::check_candidate(world, &truth, node, (before, &watched.key), seats, quorum)
            }
            _ => Ok(()),
        }
    }

    fn changed(
        &mut self,
        world: &World,
        node: NodeIndex,
        before: &Key,
        key: Key,
        replica: &Replica,
    ) -> Result<(), String> {
        let process = world.process(node);
        let moves = process.config.cluster_size == 0;
        check_life(before, &key, moves)?;
        let Some(view) = View::of(key, replica) else {
            return Ok(());
        };
        ensure(process.config.role == Role::Voter, || {
            format!("an observer belongs to the group {}", view.group)
        })?;
        let at = Moment {
            now: world.now(),
            local: world.clock(process.host),
        };
        if !self.groups.contains_key(&view.group) {
            let snapshot = replica.log().and_then(|log| log.snapshot());
            let inherited = snapshot.and_then(|snapshot| snapshot.machine());
            self.create(world, node, before, &view, inherited)?;
        }
        let Some(ledger) = self.groups.get_mut(&view.group) else {
            return Ok(());
        };
        let shown = ledger.look(at, before, &view)?;
        if let Some(watched) = self.watched[node.0].as_mut() {
            // Who answered until now may have lost its seat.
            let seats_change = |rare: &Rare| matches!(rare, Rare::SeatEmptied | Rare::SeatFilled);
            if shown.rare.iter().any(seats_change) {
                watched.leads_since = world.now();
            }
            let learners = &watched.learners;
            shown
                .filled
                .iter()
                .try_for_each(|&life| learners.check_filled(life))?;
        }
        self.follow_up(world, node, view.group, &shown)
    }

    /// What follows from a look at a replica for others than its group.
    fn follow_up(
        &mut self,
        world: &World,
        node: NodeIndex,
        group: Group,
        shown: &Shown,
    ) -> Result<(), String> {
        for life in &shown.filled {
            let observer = world
                .find(life.node)
                .is_some_and(|node| world.process(node).config.role == Role::Observer);
            ensure(!observer, || {
                format!("a seat of the group {group} is given to {life}, an observer")
            })?;
        }
        for &rare in &shown.rare {
            self.tally.count(match rare {
                Rare::Elected => Situation::Elected,
                Rare::Opened { again: true, .. } => Situation::OpenedAgain,
                Rare::Opened { skipped: true, .. } => Situation::GraceSkipped,
                Rare::Opened { .. } => Situation::GraceWaited,
                Rare::Closed => Situation::GroupClosed,
                Rare::SeatEmptied => Situation::SeatEmptied,
                Rare::SeatFilled => Situation::SeatFilled,
                Rare::SnapshotInstalled => Situation::SnapshotInstalled,
                Rare::Compacted => Situation::LogCompacted,
                Rare::Truncated => Situation::LogTruncated,
                Rare::LeaseExpired => Situation::LeaseExpired,
                Rare::WaiterDropped => Situation::WaiterDropped,
            });
        }
        if let Some(since) = shown.opened {
            let fine = since == Instant::ZERO || self.clocks.fine_since(world.process(node).host, since);
            if let Some(ledger) = self.groups.get_mut(&group) {
                ledger.opened_in_time &= fine;
            }
        }
        if shown.decided && !self.broken {
            between::check(world, &self.groups, group)?;
        }
        let grants = shown.leased || !shown.grants.is_empty();
        if grants && !self.broken && between::is_of_members(world, group) {
            self.beliefs
                .check_against(world, &self.groups, &self.clocks, group)?;
        }
        Ok(())
    }

    /// A group is founded.
    fn create(
        &mut self,
        world: &World,
        node: NodeIndex,
        before: &Key,
        view: &View<'_>,
        inherited: Option<Machine>,
    ) -> Result<(), String> {
        let known = before.floor;
        let config = &world.process(node).config;
        let rules = Rules {
            best_effort: config.cluster_size == 0,
            seats: usize::from(config.cluster_size).max(1),
            surge: usize::from(config.surge),
            observers: config.allow_observers,
            max_ttl: config.max_ttl,
            grace: config.max_ttl + config.max_ttl * u32::from(config.drift_permille) / 1000,
        };
        let mut ledger = Ledger::new(view, rules, world.now())?;
        ledger.wall_base = between::wall_base(world, node);
        ensure(ledger.found.token_base >= ledger.wall_base, || {
            format!(
                "the tokens of the group {} begin at {}: its founder's wall clock says {}",
                view.group, ledger.found.token_base, ledger.wall_base
            )
        })?;
        ensure(ledger.found.token_base >= known, || {
            format!(
                "the tokens of the group {} begin at {}, and its founder knows that those up to {known} may be taken",
                view.group, ledger.found.token_base
            )
        })?;
        ledger.known = known;
        let predecessor = before
            .group
            .filter(|_| rules.best_effort && before.life == view.key.life);
        if let Some(predecessor) = predecessor {
            self.tally.count(Situation::GroupTakenOver);
            let inherited =
                inherited.ok_or_else(|| format!("nothing is known of the locks of {predecessor}"))?;
            let predecessor = self.groups.get(&predecessor);
            let predecessor = predecessor.ok_or_else(|| format!("{} takes over from nothing", view.group))?;
            ledger.inherit(predecessor, before.commit, &inherited)?;
        }
        self.broken |=
            rules.best_effort && between::is_of_members(world, view.group) && !self.groups.is_empty();
        self.tally.count(Situation::GroupFounded);
        if ledger.found.seats.len() < rules.seats {
            self.tally.count(Situation::FoundedShort);
        }
        // Whoever is in two minds may see the group that it has just founded.
        let forbidden = |index: NodeIndex| {
            let truth = self.truth.borrow();
            let watched = self.watched[index.0].as_ref();
            let present = truth.node(index).voters_listed + 1;
            let (before, quarantined) = watched.map_or((false, false), |watched| {
                (watched.forbidden, !watched.quarantined.is_empty())
            });
            let surplus = !rules.best_effort && present > rules.seats + rules.surge;
            before && (surplus || quarantined)
        };
        ensure(predecessor.is_some() || !forbidden(node), || {
            format!(
                "the group {} is founded by somebody who sees more voters than may be alive, or other settings",
                view.group
            )
        })?;
        for seat in view.found.seats.iter() {
            let Some(other) = world.find(seat.node) else {
                return Err(format!("the group {} names {seat}, which never was", view.group));
            };
            ensure(world.process(other).config.role == Role::Voter, || {
                format!("the group {} names {seat}, an observer", view.group)
            })?;
            let Some(key) = self.watched.get(other.0).and_then(Option::as_ref).map(|w| w.key) else {
                continue;
            };
            let alive = world.process(other).ended.is_none();
            // What it learned of the new group itself, or of another one since, does not count.
            let fresh = alive && key.life == seat && key.group.is_none();
            let floor = if fresh { key.floor } else { 0 };
            ledger.known = ledger.known.max(floor);
            ensure(view.found.token_base >= floor, || {
                format!(
                    "the tokens of the group {} begin at {}, and {} knows that those up to {floor} may be taken",
                    view.group,
                    view.found.token_base,
                    whom(world, seat.node)
                )
            })?;
        }
        if ledger.found.token_base > ledger.wall_base {
            self.tally.count(Situation::TokenByFloor);
        }
        self.groups.insert(view.group, ledger);
        Ok(())
    }

    fn follow_rounds(
        &mut self,
        world: &World,
        node: NodeIndex,
        key: Key,
        replica: &Replica,
    ) -> Result<(), String> {
        let (Some(group), Some(leadership)) = (key.group, replica.leadership()) else {
            return Ok(());
        };
        let Some(watched) = self.watched[node.0].as_mut() else {
            return Ok(());
        };
        let newest = leadership.round();
        // When a round began that was under way already, nobody knows.
        let begun = watched.newest_round.replace(newest);
        if begun.is_some_and(|begun| begun < newest) {
            watched.rounds.push_back((newest, world.now()));
        }
        let completed = replica.completed_round();
        let mut began = None;
        while watched
            .rounds
            .front()
            .is_some_and(|&(round, _)| round <= completed)
        {
            began = watched.rounds.pop_front();
        }
        let (Some((_, began)), Some(ledger)) = (began, self.groups.get_mut(&group)) else {
            return Ok(());
        };
        ledger.newest_round = ledger.newest_round.max(began);
        if self.broken {
            return Ok(());
        }
        between::check(world, &self.groups, group)
    }

    fn on_event(&mut self, world: &World, node: NodeIndex, event: &Event) -> Result<(), String> {
        match event {
            Event::TokenDrawn { .. } | Event::GroupAbandoned { .. } | Event::Lock(_) => {
                // What the replica did in this input comes before what is told of it.
                self.look(world, node)?;
            }
            Event::Quarantined { id, .. } => self.quarantine(node, *id, true),
            Event::QuarantineEnded { id } => self.quarantine(node, *id, false),
            Event::ConflictDetected { ours, theirs } => {
                self.tally.count(Situation::Conflict);
                if let Some(watched) = self.watched[node.0].as_mut() {
                    watched.met.push(*theirs);
                }
                return ensure(ours != theirs && self.groups.contains_key(theirs), || {
                    format!(
                        "{} reports a conflict between {ours} and {theirs}, which is no other group",
                        who(world, node)
                    )
                });
            }
            Event::FoundingRefused { reason } => self.tally.count(match reason {
                FoundingRefusal::TooManyVoters { .. } => Situation::RefusedForVoters,
                _ => Situation::RefusedForSettings,
            }),
            _ => {}
        }
        match event {
            Event::TokenDrawn {
                id,
                token,
                group,
                until,
            } => {
                self.tally.count(Situation::TokenDrawn);
                let broken = self.broken;
                let (groups, clocks) = (&self.groups, &self.clocks);
                let belief = beliefs::Drawn {
                    id: *id,
                    token: *token,
                    group: *group,
                    until: *until,
                };
                self.beliefs.drawn(world, node, belief, groups, clocks, broken)
            }
            Event::TokenFailed { id, error } => {
                self.tally.count(match error {
                    DrawError::Closed => Situation::TokenDenied,
                    DrawError::Abandoned => Situation::TokenAbandoned,
                    _ => Situation::TokenTimedOut,
                });
                self.beliefs.failed(world, node, *id)
            }
            Event::GroupAbandoned { group, reason } => {
                self.tally.count(match reason {
                    AbandonReason::NotFounded => Situation::AbandonedUnfounded,
                    AbandonReason::QuorumLost => Situation::AbandonedForLoss,
                    AbandonReason::Superseded => Situation::AbandonedForAnother,
                    _ => Situation::AbandonedForConflict,
                });
                self.beliefs.ended(node);
                self.check_yield(world, node, *group, *reason)
            }
            Event::LeaveDone => self.beliefs.has_left(world, node),
            _ => Ok(()),
        }
    }

    fn quarantine(&mut self, node: NodeIndex, id: NodeId, begins: bool) {
        if let Some(watched) = self.watched[node.0].as_mut() {
            if begins {
                watched.quarantined.insert(id);
            } else {
                watched.quarantined.remove(&id);
            }
        }
    }

    /// A group that yields to another has seen that one stop granting.
    fn check_yield(
        &self,
        world: &World,
        node: NodeIndex,
        group: Group,
        reason: AbandonReason,
    ) -> Result<(), String> {
        // Without a quorum nobody waits for anything.
        if reason != AbandonReason::Conflict || self.best_effort {
            return Ok(());
        }
        let met = self.watched[node.0]
            .as_ref()
            .map_or(&[][..], |watched| &watched.met);
        let closed = met
            .iter()
            .filter_map(|other| self.groups.get(other))
            .any(Ledger::was_closed);
        ensure(closed, || {
            format!(
                "{} gives up the group {group} for another one, and none that it met has stopped granting",
                who(world, node)
            )
        })
    }
}

/// What one process may do from one input to the next. Without a quorum a life moves from group to group.
fn check_life(before: &Key, key: &Key, moves: bool) -> Result<(), String> {
    let (old, new) = (before.life, key.life);
    ensure(new >= old && new.node == old.node, || {
        format!("{old} goes on as {new}")
    })?;
    ensure(key.floor >= before.floor, || {
        format!(
            "{new} forgets that tokens up to {} may be taken: its floor is {}",
            before.floor, key.floor
        )
    })?;
    if new != old || (moves && before.group != key.group) {
        return Ok(());
    }
    ensure(before.group.is_none() || before.group == key.group, || {
        let name = |group: Option<Group>| group.map_or("none".to_owned(), |group| group.to_string());
        format!(
            "{old} belonged to the group {} and belongs to {} in the same life",
            name(before.group),
            name(key.group)
        )
    })?;
    ensure(key.term >= before.term && key.commit >= before.commit, || {
        format!(
            "{old} goes back from term {} and decided entry {} to term {} and entry {}",
            before.term, before.commit, key.term, key.commit
        )
    })?;
    let changed = key.term == before.term && before.vote.is_some() && key.vote != before.vote;
    ensure(!changed, || {
        format!(
            "{old} voted for {:?} in term {} and says now that it voted for {:?}",
            before.vote, key.term, key.vote
        )
    })
}
