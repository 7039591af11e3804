//! What is taken for authentic, and from whom.

mod openings;
#[cfg(test)]
mod tests;

use super::truth::{M2, SEALED, Shared};
use super::{Every, ensure, slot, who};
use crate::observe::{Datagram, Observer, Provenance, Seen};
use crate::world::{NodeIndex, Process, World};
use openings::Openings;
use quorate_core::{DropReason, Duration, Event, Instant};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How many counters a session tells apart, the newest one included: `WINDOW` of the core's replay window.
const WINDOW: u64 = 2048;
/// Whether a datagram comes so long after newer ones that nobody can tell whether it comes for the first time.
const fn is_behind(number: u64, newest: u64) -> bool {
    number + WINDOW <= newest
}

/// Of so many of the newest datagrams it is known which were opened.
const REMEMBERED: u64 = 1 << 16;
const WORDS: u64 = REMEMBERED / 64;
/// Handshakes are counted over this long.
const STORM: Duration = Duration::from_secs(10);
/// As many handshakes a node may complete in that time, and as many more for each process that ran meanwhile.
const HANDSHAKES: u64 = 60;
const HANDSHAKES_EACH: u64 = 40;
/// By when a session in use was re-keyed: 150 s by the side that did not begin it, and three attempts of 7 s.
const RENEWED: Duration = Duration::from_secs(171);
/// An unknown key is told of once in this time for each address, as `docs/wire.md` says.
const UNKNOWN_KEYS: Duration = Duration::from_secs(10);

/// Which of the newest datagrams, by number, something happened to.
#[derive(Debug, Default)]
struct Recent {
    words: Vec<u64>,
    newest: u64,
}

impl Recent {
    /// Marks a number. Returns whether it was marked before; `false` if it is too old to know.
    fn mark(&mut self, number: u64) -> bool {
        if self.words.is_empty() {
            self.words.resize(WORDS as usize, 0);
        }
        let (word, last) = (number / 64, self.newest / 64);
        if word + WORDS <= last {
            return false;
        }
        for passed in last + 1..=word.min(last + WORDS) {
            self.words[(passed % WORDS) as usize] = 0;
        }
        if word > last + WORDS {
            self.words.fill(0);
        }
        self.newest = self.newest.max(number);
        let place = &mut self.words[(word % WORDS) as usize];
        let old = *place;
        *place |= 1 << (number % 64);
        old == *place
    }
}

#[derive(Debug, Default)]
struct Side {
    opened: Recent,
    /// The counters of the node when it was looked at last.
    replayed: u64,
    bad_seals: u64,
    /// With whom it has a session, or had one: one bit for each process.
    may_seal: Vec<u64>,
    /// How many datagrams it may send to an address that nobody has, because authentic ones came from there.
    challenges: BTreeMap<SocketAddr, u32>,
    handshakes: u64,
    /// How many sessions were made in any way, and when that was looked at and had risen.
    renewals: u64,
    renewed: Instant,
    /// When it last told of an unknown key, by the address where that is used, on its own clock.
    unknown: BTreeMap<SocketAddr, Instant>,
}

impl Side {
    fn allow(&mut self, peer: NodeIndex) {
        *slot(&mut self.may_seal, peer.0 / 64) |= 1 << (peer.0 % 64);
    }

    fn is_allowed(&self, peer: NodeIndex) -> bool {
        self.may_seal
            .get(peer.0 / 64)
            .is_some_and(|bits| bits >> (peer.0 % 64) & 1 == 1)
    }
}

/// Follows sessions.
#[derive(Debug)]
pub(super) struct Session {
    truth: Shared,
    sides: Vec<Side>,
    storms: Every,
    ages: Every,
    openings: Openings,
}

impl Observer for Session {
    fn name(&self) -> &'static str {
        "session"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        self.openings.observe(world, seen)?;
        match *seen {
            Seen::Sent { datagram, .. }
                if datagram.head[1] == SEALED && datagram.provenance == Provenance::Original =>
            {
                self.on_sealed(world, datagram)
            }
            Seen::Arrived {
                node,
                datagram,
                opened: true,
                ..
            } => self.on_opened(world, node, datagram),
            Seen::Arrived {
                node,
                datagram,
                again,
                opened: false,
            } => self.on_refused(world, node, datagram, again),
            Seen::Event {
                node,
                event: &Event::UnknownKey { addr, .. },
            } => self.on_unknown_key(world, node, addr),
            Seen::Settled { .. } if self.storms.is_due(world.now()) => self.count_handshakes(world),
            Seen::Settled { .. } if self.ages.is_due(world.now()) => self.look_at_ages(world),
            _ => Ok(()),
        }
    }
}

impl Session {
    pub(super) fn new(truth: Shared) -> Self {
        Self {
            truth,
            sides: Vec::new(),
            storms: Every::new(STORM),
            ages: Every::new(Duration::from_secs(1)),
            openings: Openings::default(),
        }
    }

    fn on_opened(&mut self, world: &World, node: NodeIndex, datagram: &Datagram) -> Result<(), String> {
        let says = |what: String| {
            format!(
                "{} took datagram {} from {} for authentic and new, {what}",
                who(world, node),
                datagram.number,
                datagram.from
            )
        };
        ensure(datagram.head[1] == SEALED, || {
            says("which is not sealed".to_owned())
        })?;
        ensure(datagram.provenance != Provenance::Altered, || {
            says("which was altered on its way".to_owned())
        })?;
        let Some(sender) = datagram.sender else {
            return Err(says("which no process sent".to_owned()));
        };
        if let Some(intended) = datagram.intended.filter(|&intended| intended != node) {
            return Err(says(format!(
                "which {} sent to {}",
                who(world, sender),
                who(world, intended)
            )));
        }
        let (here, there) = (world.process(node), world.process(sender));
        ensure(!other_key(here, there), || {
            says(format!("which {} sealed with another key", who(world, sender)))
        })?;
        let side = slot(&mut self.sides, node.0);
        ensure(!side.opened.mark(datagram.number), || {
            says(format!("as it did before; {} sent it once", who(world, sender)))
        })?;
        side.allow(sender);
        if datagram.from != self.truth.borrow().node(sender).addr && side.challenges.len() < 1_024 {
            *side.challenges.entry(datagram.from).or_default() += 1;
        }
        Ok(())
    }

    fn on_refused(
        &mut self,
        world: &World,
        node: NodeIndex,
        datagram: &Datagram,
        again: bool,
    ) -> Result<(), String> {
        let side = slot(&mut self.sides, node.0);
        match (datagram.head[1], datagram.sender) {
            (M2, Some(sender)) => {
                side.allow(sender);
                return Ok(());
            }
            (SEALED, _) => {}
            _ => return Ok(()),
        }
        let Some(stats) = world.process(node).node().map(quorate_core::Node::stats) else {
            return Ok(());
        };
        let (replayed, bad_seals) = (
            stats.dropped(DropReason::Replayed),
            stats.dropped(DropReason::BadSeal),
        );
        let was_replayed = std::mem::replace(&mut side.replayed, replayed) < replayed;
        let was_bad = std::mem::replace(&mut side.bad_seals, bad_seals) < bad_seals;
        let (Some(sender), false) = (datagram.sender, datagram.provenance == Provenance::Altered) else {
            return Ok(());
        };
        ensure(!was_bad, || {
            format!(
                "{} dropped datagram {} of {} as forged, which arrived as it was sent",
                who(world, node),
                datagram.number,
                who(world, sender)
            )
        })?;
        if !was_replayed || again {
            return Ok(());
        }
        let newest = self.truth.borrow().way(sender, node).newest;
        ensure(is_behind(datagram.number, newest), || {
            format!(
                "{} dropped datagram {} of {} as replayed, which it had not seen; the newest one it had opened was {newest}",
                who(world, node),
                datagram.number,
                who(world, sender)
            )
        })
    }

    /// Nobody writes into a session before the other side has shown that it has its keys.
    fn on_sealed(&mut self, world: &World, datagram: &Datagram) -> Result<(), String> {
        let Some(sender) = datagram.sender else {
            return Ok(());
        };
        let side = slot(&mut self.sides, sender.0);
        if datagram.intended.is_some_and(|to| side.is_allowed(to)) {
            return Ok(());
        }
        let truth = self.truth.borrow();
        let owners = truth.owners(datagram.to);
        if owners.iter().any(|&owner| side.is_allowed(owner)) {
            return Ok(());
        }
        if let Some(credit) = side
            .challenges
            .get_mut(&datagram.to)
            .filter(|credit| **credit > 0)
        {
            *credit -= 1;
            return Ok(());
        }
        let whom = owners
            .last()
            .map_or_else(|| "nobody".to_owned(), |&to| who(world, to));
        Err(format!(
            "{} sent a sealed datagram to {} ({whom}), which never proved to it that it is there",
            who(world, sender),
            datagram.to
        ))
    }

    fn on_unknown_key(&mut self, world: &World, node: NodeIndex, addr: SocketAddr) -> Result<(), String> {
        let now = world.clock(world.process(node).host);
        let told = &mut slot(&mut self.sides, node.0).unknown;
        let last = told.insert(addr, now);
        ensure(
            last.is_none_or(|last| now.saturating_since(last) >= UNKNOWN_KEYS),
            || {
                format!(
                    "{} tells again of an unknown key at {addr}, within {UNKNOWN_KEYS:?}",
                    who(world, node)
                )
            },
        )
    }

    /// Whoever writes to another for long does so on a new session from time to time.
    fn look_at_ages(&mut self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        let now = world.now();
        let since = now - RENEWED;
        for (index, process) in world.processes() {
            let Some(node) = process.node().filter(|_| process.is_live()) else {
                continue;
            };
            let side = slot(&mut self.sides, index.0);
            let renewals = node.stats().handshakes + node.stats().rekeys;
            if renewals > side.renewals || side.renewed == Instant::ZERO {
                (side.renewals, side.renewed) = (renewals, now);
            }
            if side.renewed > since {
                continue;
            }
            let lists = &truth.node(index).lists;
            let old = lists.keys().find(|&&other| {
                truth.lists_since(index, other, since)
                    && truth.lists_since(other, index, since)
                    && truth.clear_since(world, index, other, since)
            });
            ensure(old.is_none(), || {
                format!(
                    "{} has written to others for {RENEWED:?} and made no session meanwhile",
                    who(world, index)
                )
            })?;
        }
        Ok(())
    }

    fn count_handshakes(&mut self, world: &World) -> Result<(), String> {
        let now = world.now();
        let recent = |process: &Process| process.ended.is_none_or(|at| now.saturating_since(at) < STORM);
        let count = world.processes().filter(|(_, process)| recent(process)).count() as u64;
        for (index, process) in world.processes() {
            let Some(node) = process.node().filter(|_| process.ended.is_none()) else {
                continue;
            };
            let side = slot(&mut self.sides, index.0);
            let handshakes = node.stats().handshakes;
            let made = handshakes - std::mem::replace(&mut side.handshakes, handshakes);
            ensure(made <= HANDSHAKES + HANDSHAKES_EACH * count, || {
                format!(
                    "{} completed {made} handshakes within {STORM:?}, among {count} processes",
                    who(world, index)
                )
            })?;
            side.challenges.clear();
        }
        Ok(())
    }
}

/// Returns whether two processes have no key in common. Those who are no members differ in their settings, or in their
/// keys alone.
fn other_key(a: &Process, b: &Process) -> bool {
    let settings = |process: &Process| {
        let config = &process.config;
        (config.cluster_name.clone(), config.cluster_size, config.max_ttl)
    };
    a.member != b.member && settings(a) == settings(b)
}
