//! A bounded record of a run, for pictures: see [`crate::html`].

mod kept;
mod locks;
#[cfg(test)]
mod tests;
mod text;

use crate::fault::FaultKind;
use crate::observe::{Command, Datagram, Fate, Observer, Provenance, Seen};
use crate::world::{NodeIndex, START, World, host_of};
use kept::Drops;
use locks::Leaders;
use quorate_core::{Config, DropReason, Duration, Event, Stats};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use kept::{
    Arrival, Band, Belief, Change, Class, Ending, Flight, Happening, Last, Life, LockBand, News, Pause, View,
};

/// Remembers the last part of a run: the datagrams and what became of them, what processes said and were told, whom
/// each one listed, and the faults. [`html::page`](crate::html::page) draws it.
///
/// Memory is bounded: of datagrams, of what befell messages, of other happenings, of changes of views, of pauses and of
/// faults it keeps the last `limit` each, with texts of at most some hundred bytes, and counts what it has left out.
/// Processes are all kept, as the [`World`] keeps them.
#[derive(Debug)]
pub struct Recording {
    pub(crate) lives: BTreeMap<NodeIndex, Life>,
    pub(crate) flights: Last<Flight>,
    pub(crate) happenings: Last<Happening>,
    /// Happenings of messages: where users are busy, they would soon leave no room for others.
    pub(crate) traffic: Last<Happening>,
    pub(crate) changes: Last<Change>,
    pub(crate) bands: Last<Band>,
    pub(crate) pauses: Last<Pause>,
    /// Who held which lock, as it believed itself and as its leaders took it to be.
    pub(crate) locks: Last<LockBand>,
    leaders: Leaders,
    pub(crate) hosts: usize,
    /// The time of the last thing seen.
    pub(crate) end: Duration,
    /// Datagrams that have not arrived yet: their number, and that of their flight.
    under_way: BTreeSet<(u64, u64)>,
}

impl Recording {
    /// Creates an empty recording that keeps the last `limit` things of each kind. 20,000 make a page of a few
    /// megabytes that a browser draws without effort.
    pub fn new(limit: usize) -> Self {
        Self {
            lives: BTreeMap::new(),
            flights: Last::new(limit),
            happenings: Last::new(limit),
            traffic: Last::new(limit),
            changes: Last::new(limit),
            bands: Last::new(limit),
            pauses: Last::new(limit),
            locks: Last::new(limit),
            leaders: Leaders::default(),
            hosts: 0,
            end: Duration::ZERO,
            under_way: BTreeSet::new(),
        }
    }

    /// Returns how many datagrams are kept, copies and replays included.
    pub fn datagrams(&self) -> usize {
        self.flights.items.len()
    }

    /// Returns how many happenings are kept: events, messages, commands, starts and ends, and what else is no datagram.
    pub fn happenings(&self) -> usize {
        self.happenings.items.len() + self.traffic.items.len()
    }

    /// Returns how many datagrams and happenings were left out.
    pub const fn left_out(&self) -> u64 {
        self.flights.left_out + self.happenings.left_out + self.traffic.left_out
    }

    /// Returns what a process is called on screen.
    fn label(&self, node: NodeIndex) -> String {
        self.lives
            .get(&node)
            .map_or_else(|| "?".to_owned(), |life| life.label.clone())
    }

    fn happen(
        &mut self,
        node: Option<NodeIndex>,
        class: Class,
        label: impl Into<String>,
        detail: impl Into<String>,
    ) {
        let kept = match class {
            Class::Message | Class::Outcome | Class::Failure => &mut self.traffic,
            _ => &mut self.happenings,
        };
        kept.push(Happening {
            at: self.end,
            node,
            class,
            label: text::short(label.into()),
            detail: text::short(detail.into()),
        });
    }

    fn started(&mut self, world: &World, node: NodeIndex, config: &Config) {
        let process = world.process(node);
        let starts = self.lives.values().filter(|life| life.host == process.host);
        let life = Life {
            host: process.host,
            label: text::label(process.host, starts.count()),
            name: config.name.clone(),
            id: process.id.to_string(),
            addr: process.addr.to_string(),
            role: config.role,
            member: process.member,
            started: self.end,
            leaving: None,
            ended: None,
            before: View::default(),
            now: View::default(),
            drops: Vec::new(),
        };
        let detail = text::started(node, &life, config);
        self.lives.insert(node, life);
        self.happen(Some(node), Class::Process, "started", detail);
    }

    fn stopped(&mut self, node: NodeIndex) {
        let end = self.end;
        let Some(life) = self.lives.get_mut(&node) else {
            return;
        };
        life.ended = Some(end);
        let label = if life.leaving.is_some() { "gone" } else { "crashed" };
        self.lost_all(node);
        self.happen(Some(node), Class::Process, label, "");
    }

    fn sent(&mut self, world: &World, datagram: &Datagram, fate: Fate) {
        let lane = |node: NodeIndex| world.process(node).host;
        let from = match datagram.provenance {
            Provenance::Replayed | Provenance::Foreign => None,
            _ => datagram.sender.map(lane),
        };
        let home = host_of(datagram.to).filter(|host| host.0 < world.host_count());
        let flight = Flight {
            datagram: *datagram,
            from,
            to: world.at(datagram.to).map(lane).or(home),
            sent: self.end,
            fate,
            arrival: None,
        };
        if matches!(fate, Fate::Arrives(_) | Fate::Waits) {
            self.under_way
                .insert((datagram.number, self.flights.next_number()));
        }
        if let Some(old) = self.flights.push(flight) {
            self.under_way
                .remove(&(old.datagram.number, self.flights.left_out - 1));
        }
    }

    /// Finds the flight that this datagram ends. Copies that look the same arrive in the order of their times.
    fn land(&mut self, world: &World, datagram: &Datagram, arrival: Arrival) {
        let copies = self
            .under_way
            .range((datagram.number, 0)..=(datagram.number, u64::MAX));
        let due = |number: u64| {
            let flight = self.flights.get(number).filter(|f| f.datagram == *datagram)?;
            match flight.fate {
                Fate::Arrives(at) => Some(at.saturating_since(START)),
                _ => Some(Duration::MAX),
            }
        };
        let first = copies
            .filter_map(|&(_, number)| Some((due(number)?, number)))
            .min();
        let Some((_, number)) = first else { return };
        self.under_way.remove(&(datagram.number, number));
        if let Some(flight) = self.flights.get_mut(number) {
            if let Some(node) = arrival.node {
                flight.to = Some(world.process(node).host);
            }
            flight.arrival = Some(arrival);
        }
    }

    /// Returns for which reasons something was dropped since the last input was done with.
    fn dropped(&self, world: &World, node: NodeIndex) -> Vec<DropReason> {
        let (Some(life), Some(now)) = (self.lives.get(&node), world.process(node).node()) else {
            return Vec::new();
        };
        let before = |reason| {
            let counted = life.drops.iter().find(|&&(of, _)| of == reason);
            counted.map_or(0, |&(_, count)| count)
        };
        let risen = now
            .stats()
            .drops()
            .filter(|&(reason, count)| count > before(reason));
        risen.map(|(reason, _)| reason).collect()
    }

    /// Notes what has changed in a process's view.
    fn settled(&mut self, world: &World, node: NodeIndex) {
        let (Some(life), Some(there)) = (self.lives.get_mut(&node), world.process(node).node()) else {
            return;
        };
        remember(&mut life.drops, there.stats());
        let view = View::of(world, there);
        if view == life.now {
            return;
        }
        let old = std::mem::replace(&mut life.now, view.clone());
        let mut news = Vec::new();
        for (&about, &belief) in &view.listed {
            if old.listed.get(&about) != Some(&belief) {
                news.push(News::Listed(about, belief));
            }
        }
        let gone = old.listed.keys().filter(|about| !view.listed.contains_key(about));
        news.extend(gone.map(|&about| News::Unlisted(about)));
        if old.quorum != view.quorum {
            news.push(News::Quorum(view.quorum));
        }
        for news in news {
            let at = self.end;
            if let Some(old) = self.changes.push(Change { at, node, news })
                && let Some(life) = self.lives.get_mut(&old.node)
            {
                life.before.apply(old.news);
            }
        }
    }

    fn event(&mut self, world: &World, node: NodeIndex, event: &Event) {
        let (class, label, detail) = text::event(event, |id| self.of(world, id));
        self.happen(Some(node), class, label, detail);
        if let Event::Lock(event) = event {
            self.believes(node, event);
        }
    }

    fn command(&mut self, world: &World, node: NodeIndex, command: &Command) {
        if *command == Command::Leave
            && let Some(life) = self.lives.get_mut(&node)
        {
            life.leaving.get_or_insert(self.end);
        }
        let (class, label, detail) = text::command(command, |id| self.of(world, id));
        self.happen(Some(node), class, label, detail);
    }

    /// Returns what to call whoever has this id.
    fn of(&self, world: &World, id: quorate_core::NodeId) -> String {
        world
            .find(id)
            .map_or_else(|| format!("{id:?}"), |node| self.label(node))
    }

    fn paused(&mut self, node: NodeIndex) {
        let (from, to) = (self.end, None);
        self.pauses.push(Pause { node, from, to });
        self.happen(Some(node), Class::Process, "paused", "");
    }

    fn resumed(&mut self, node: NodeIndex) {
        let open = |pause: &&mut Pause| pause.node == node && pause.to.is_none();
        if let Some(pause) = self.pauses.items.iter_mut().rev().find(open) {
            pause.to = Some(self.end);
        }
        self.happen(Some(node), Class::Process, "goes on", "");
    }

    fn fault_began(&mut self, number: usize, kind: FaultKind) {
        let (began, ended) = (self.end, None);
        self.happen(
            None,
            Class::Fault,
            format!("{} begins", kind.name()),
            kind.to_string(),
        );
        self.bands.push(Band {
            number,
            kind,
            began,
            ended,
        });
    }

    fn fault_ended(&mut self, number: usize) {
        let Some(band) = self
            .bands
            .items
            .iter_mut()
            .rev()
            .find(|band| band.number == number)
        else {
            return;
        };
        band.ended = Some(self.end);
        let kind = band.kind;
        self.happen(
            None,
            Class::Fault,
            format!("{} ends", kind.name()),
            kind.to_string(),
        );
    }
}

/// Keeps a copy of the counters without a new allocation, once every reason has occurred.
fn remember(drops: &mut Drops, stats: &Stats) {
    drops.clear();
    drops.extend(stats.drops());
}

impl Observer for Recording {
    fn name(&self) -> &'static str {
        "recording"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        self.end = world.elapsed();
        self.hosts = world.host_count();
        match *seen {
            Seen::Started { node, config } => self.started(world, node, config),
            Seen::Stopped { node } => self.stopped(node),
            Seen::Paused { node } => self.paused(node),
            Seen::Resumed { node } => self.resumed(node),
            Seen::FaultBegan { number, kind } => self.fault_began(number, kind),
            Seen::FaultEnded { number } => self.fault_ended(number),
            Seen::Healed => self.happen(None, Class::Fault, "healed", "all faults are over"),
            Seen::Sent { datagram, fate } => self.sent(world, datagram, fate),
            Seen::Undelivered { datagram } => {
                let arrival = Arrival {
                    at: self.end,
                    node: None,
                    again: false,
                    opened: false,
                    dropped: Vec::new(),
                };
                self.land(world, datagram, arrival);
            }
            Seen::Arrived {
                node,
                datagram,
                again,
                opened,
            } => {
                let arrival = Arrival {
                    at: self.end,
                    node: Some(node),
                    again,
                    opened,
                    dropped: self.dropped(world, node),
                };
                self.land(world, datagram, arrival);
            }
            Seen::Event { node, event } => self.event(world, node, event),
            Seen::Message { node, message } => {
                let (label, detail) = text::message(message, |id| self.of(world, id));
                self.happen(Some(node), Class::Message, label, detail);
            }
            Seen::Command { node, command } => self.command(world, node, command),
            Seen::Settled { node } => {
                self.settled(world, node);
                self.leads(world, node);
            }
            // Timers fire far more often than anything is to be seen of it.
            Seen::Woke { .. } => {}
        }
        Ok(())
    }
}
