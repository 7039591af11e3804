//! What nodes tell each other of themselves, and what they have heard of leaders.

use super::Consensus;
use crate::config::Config;
use crate::consensus::codec::{
    put_group, put_life, put_position, put_seats, read_group, read_life, read_position, read_seats,
};
use crate::consensus::entry::Position;
use crate::consensus::life::{Group, Life};
use crate::consensus::seats::Seats;
use crate::event::Event;
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};
use crate::time::{Duration, Instant, WallTime};
use crate::wire::{Reader, kind};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// To how many voters, and to how many observers, an announcement goes.
const MOST: usize = 32;
/// Groups that are remembered. Two are one too many already.
const MAX_SIGHTINGS: usize = 8;

/// Wall clocks further apart are reported: tokens could go back across a total restart.
const MAX_SKEW: Duration = Duration::from_secs(3600);

const FRESH: u8 = 1;
const ORPHAN: u8 = 2;
const LEAVING: u8 = 4;
const GROUP: u8 = 8;
const SIGHTING: u8 = 16;
const OPEN: u8 = 1;
const DECIDED: u8 = 2;

/// A leader that a quorum of its seats followed at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) group: Group,
    pub(super) leader: Life,
    /// When the newest round began that a quorum has answered, as far as it is known here.
    pub(super) confirmed: Instant,
    pub(super) token_base: u64,
    /// Whether the group was opened last, or closed; `None` in its grace.
    pub(super) gate: Option<bool>,
    /// Whether a member of the group told of it. Only that is passed on: ages do not count the time on the way.
    at_first_hand: bool,
}

/// The group of a node, as it announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Belonging {
    pub(super) group: Group,
    pub(super) last: Position,
    pub(super) seats: Seats,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) life: Life,
    /// Its wall clock.
    wall: WallTime,
    pub(super) fresh: bool,
    pub(super) orphan: bool,
    pub(super) leaving: bool,
    pub(super) belongs: Option<Belonging>,
    sighting: Option<(Sighting, u32)>,
}

impl Announcement {
    /// Reads an announcement. The age of what it has heard counts from zero here; see [`Sightings::learn`].
    pub(super) fn read(from: NodeId, body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let life = Life {
            node: from,
            number: reader.u32()?,
        };
        let wall = WallTime::from_unix_micros(reader.u64()?);
        let flags = reader.u8()?;
        let belongs = if flags & GROUP == 0 {
            None
        } else {
            let group = read_group(&mut reader)?;
            let last = read_position(&mut reader)?;
            let seats = read_seats(&mut reader)?;
            Some(Belonging { group, last, seats })
        };
        let sighting = if flags & SIGHTING == 0 {
            None
        } else {
            let group = read_group(&mut reader)?;
            let leader = read_life(&mut reader)?;
            let age = reader.u32()?;
            let token_base = reader.u64()?;
            let gate = reader.u8()?;
            let sighting = Sighting {
                group,
                leader,
                confirmed: Instant::ZERO,
                token_base,
                gate: (gate & DECIDED != 0).then_some(gate & OPEN != 0),
                at_first_hand: false,
            };
            Some((sighting, age))
        };
        Some(Self {
            life,
            wall,
            fresh: flags & FRESH != 0,
            orphan: flags & ORPHAN != 0,
            leaving: flags & LEAVING != 0,
            belongs,
            sighting,
        })
    }

    fn put(&self, buf: &mut Vec<u8>) {
        let bits = [
            (self.fresh, FRESH),
            (self.orphan, ORPHAN),
            (self.leaving, LEAVING),
            (self.belongs.is_some(), GROUP),
            (self.sighting.is_some(), SIGHTING),
        ];
        let flags = bits
            .iter()
            .filter(|(on, _)| *on)
            .fold(0, |flags, (_, bit)| flags | bit);
        buf.extend_from_slice(&self.life.number.to_be_bytes());
        buf.extend_from_slice(&self.wall.as_unix_micros().to_be_bytes());
        buf.push(flags);
        if let Some(belongs) = &self.belongs {
            put_group(buf, belongs.group);
            put_position(buf, belongs.last);
            put_seats(buf, &belongs.seats);
        }
        if let Some((sighting, age)) = &self.sighting {
            put_group(buf, sighting.group);
            put_life(buf, sighting.leader);
            buf.extend_from_slice(&age.to_be_bytes());
            buf.extend_from_slice(&sighting.token_base.to_be_bytes());
            let gate = sighting
                .gate
                .map_or(0, |open| DECIDED | if open { OPEN } else { 0 });
            buf.push(gate);
        }
    }
}

/// Leaders that were heard of, each with the newest moment at which a quorum followed it.
#[derive(Debug, Default)]
pub(super) struct Sightings(BTreeMap<Group, Sighting>);

/// How long hearsay of a leader holds: two election timeouts, and what announcements need to come round.
pub(super) fn window(config: &Config) -> Duration {
    config.election_timeout * 4 + config.heartbeat_interval * 2
}

impl Sightings {
    /// Takes what somebody has heard so long ago. Ages only grow: here they go on growing on this node's own clock.
    fn learn(&mut self, now: Instant, config: &Config, sighting: Sighting, age: Duration) {
        let age = if planted(PlantedBug::HearsayNeverAges) {
            Duration::ZERO
        } else {
            // Rounded down where it was measured.
            age + Duration::from_millis(1)
        };
        if age >= window(config) || now.as_nanos() < age.as_nanos() as u64 {
            return;
        }
        let sighting = Sighting {
            confirmed: now - age,
            ..sighting
        };
        let room = self.0.len() < MAX_SIGHTINGS;
        match self.0.get_mut(&sighting.group) {
            Some(known) if sighting.confirmed > known.confirmed => {
                let at_first_hand = known.at_first_hand || sighting.at_first_hand;
                *known = Sighting {
                    at_first_hand,
                    ..sighting
                };
            }
            Some(_) => {}
            None if room => {
                self.0.insert(sighting.group, sighting);
            }
            None => {}
        }
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant, config: &Config) {
        self.0
            .retain(|_, sighting| now - sighting.confirmed < window(config));
    }

    /// Returns the leaders that were confirmed lately.
    pub(super) fn live<'a>(&'a self, now: Instant, config: &'a Config) -> impl Iterator<Item = &'a Sighting> {
        self.0
            .values()
            .filter(move |sighting| now - sighting.confirmed < window(config))
    }

    pub(super) fn get(&self, group: Group) -> Option<&Sighting> {
        self.0.get(&group)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

pub(super) const fn most_sightings() -> usize {
    MAX_SIGHTINGS
}

impl Consensus {
    /// Takes what a peer says of itself.
    pub(super) fn heard(&mut self, cx: &mut Context<'_>, announcement: Announcement) {
        let (now, from) = (cx.now, announcement.life.node);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let changed = peer.said.as_ref().is_none_or(|(_, before)| {
            let of = |said: &Announcement| {
                (
                    said.life,
                    said.fresh,
                    said.orphan,
                    said.leaving,
                    said.belongs.is_some(),
                )
            };
            of(before) != of(&announcement)
        });
        if let Some((sighting, age)) = announcement.sighting {
            let belongs = announcement.belongs.as_ref().map(|belongs| belongs.group);
            let sighting = Sighting {
                at_first_hand: belongs == Some(sighting.group),
                ..sighting
            };
            self.sightings
                .learn(now, cx.config, sighting, Duration::from_millis(age.into()));
            if self.replica.rules().is_best_effort() {
                self.replica.know_of_tokens(sighting.token_base);
            }
            if Some(sighting.group) == self.replica.group()
                && let Some(known) = self.sightings.get(sighting.group)
            {
                self.led = self.led.max(known.confirmed);
            }
        }
        if peer
            .said
            .as_ref()
            .is_some_and(|(_, before)| before.life > announcement.life)
        {
            return;
        }
        let ours = self.wall.after(now - self.started).as_unix_micros();
        let apart = Duration::from_micros(announcement.wall.as_unix_micros().abs_diff(ours));
        let skewed = apart > MAX_SKEW;
        if skewed && !peer.skewed {
            cx.events.push_back(Event::ClockSkewed { id: from, by: apart });
        }
        peer.skewed = skewed;
        peer.said = Some((now, announcement));
        self.soon |= changed;
    }

    /// Tells everybody.
    pub(super) fn announce(&mut self, cx: &mut Context<'_>) {
        self.announce_at = cx.now + cx.config.heartbeat_interval;
        let to: Vec<NodeId> = self.recipients(true).chain(self.recipients(false)).collect();
        self.turn = self.turn.wrapping_add(MOST);
        if to.is_empty() {
            return;
        }
        let announcement = self.announcement(cx.now, cx.config);
        for peer in to {
            cx.send(peer, kind::STATUS, |buf| announcement.put(buf));
        }
    }

    /// Whom it goes to of voters or observers: all if they are not too many, else others each time. Who has a seat is
    /// always among them.
    fn recipients(&self, voters: bool) -> impl Iterator<Item = NodeId> {
        let open = self
            .peers
            .iter()
            .filter(move |(_, peer)| peer.open && peer.voter == voters);
        let seated = |id: NodeId| {
            self.replica
                .seats()
                .is_some_and(|seats| seats.iter().any(|seat| seat.node == id))
        };
        let (mut first, others): (Vec<NodeId>, Vec<NodeId>) =
            open.map(|(&id, _)| id).partition(|&id| seated(id));
        let start = self.turn.checked_rem(others.len()).unwrap_or(0);
        first.extend(others.iter().cycle().skip(start).take(others.len()));
        first.into_iter().take(MOST)
    }

    /// Tells one peer.
    pub(super) fn announce_to(&self, cx: &mut Context<'_>, peer: NodeId) {
        let announcement = self.announcement(cx.now, cx.config);
        cx.send(peer, kind::STATUS, |buf| announcement.put(buf));
    }

    fn announcement(&self, now: Instant, config: &Config) -> Announcement {
        let belongs = self.replica.group().map(|group| Belonging {
            group,
            last: self.replica.last(),
            seats: self.replica.seats().cloned().unwrap_or_default(),
        });
        let sighting = self.best_sighting(now, config);
        Announcement {
            life: self.replica.life(),
            wall: self.wall.after(now - self.started),
            fresh: self.is_fresh(now, config),
            orphan: self.is_orphan(now, config),
            leaving: self.leaving.is_some(),
            belongs,
            sighting: sighting.map(|sighting| {
                let age = (now - sighting.confirmed).as_millis();
                (sighting, u32::try_from(age).unwrap_or(u32::MAX))
            }),
        }
    }

    /// The leader that is worth telling of: this node itself, that of its own group, or the one heard of last.
    fn best_sighting(&self, now: Instant, config: &Config) -> Option<Sighting> {
        if let Some(own) = self.own_sighting(now, config) {
            return Some(own);
        }
        let group = self.replica.group();
        let live = || self.sightings.live(now, config);
        let own = live().find(|sighting| Some(sighting.group) == group);
        own.or_else(|| self.foremost(live().filter(|sighting| sighting.at_first_hand)))
            .copied()
    }

    /// What this node says of itself as a leader.
    pub(super) fn own_sighting(&self, now: Instant, config: &Config) -> Option<Sighting> {
        let confirmed = self.reign.as_ref()?.confirmed?;
        let machine = self.replica.machine()?;
        let knows = self.replica.leadership()?.term_start() <= self.replica.commit();
        (knows && now - confirmed < window(config)).then_some(Sighting {
            group: machine.found.group,
            leader: self.replica.life(),
            confirmed,
            token_base: machine.found.token_base,
            gate: machine.gate(),
            at_first_hand: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_round_trip() {
        let life = |n: u8| Life {
            node: NodeId::from_bytes([n; 16]),
            number: u32::from(n),
        };
        let group = Group {
            founder: life(1),
            founding: 7,
        };
        let full = Announcement {
            life: life(2),
            wall: WallTime::from_unix_micros(1 << 50),
            fresh: false,
            orphan: true,
            leaving: true,
            belongs: Some(Belonging {
                group,
                last: Position { term: 3, index: 9 },
                seats: [life(1), life(2)].into_iter().collect(),
            }),
            sighting: Some((
                Sighting {
                    group,
                    leader: life(1),
                    confirmed: Instant::ZERO,
                    token_base: 1 << 40,
                    gate: Some(false),
                    at_first_hand: false,
                },
                123,
            )),
        };
        let bare = Announcement {
            fresh: true,
            orphan: false,
            leaving: false,
            belongs: None,
            sighting: None,
            ..full.clone()
        };
        let mut vectors = Vec::new();
        for (name, announcement) in [("status.full", full), ("status.bare", bare)] {
            let mut buf = Vec::new();
            announcement.put(&mut buf);
            vectors.push((name, buf.clone()));
            let me = announcement.life.node;
            assert!(buf.len() <= 419);
            assert_eq!(Announcement::read(me, &buf).as_ref(), Some(&announcement));
            for cut in 0..buf.len() {
                assert_eq!(Announcement::read(me, &buf[..cut]), None, "cut at {cut}");
            }
        }
        crate::wire::vectors::check("status", &vectors);
    }

    #[test]
    fn ages_grow_and_the_newest_counts() {
        let config = Config::default();
        let mut sightings = Sightings::default();
        let founder = Life::first(NodeId::from_bytes([1; 16]));
        let sighting = Sighting {
            group: Group { founder, founding: 1 },
            leader: founder,
            confirmed: Instant::ZERO,
            token_base: 0,
            gate: None,
            at_first_hand: true,
        };
        let at = Instant::from_millis;
        let ms = Duration::from_millis;
        sightings.learn(at(10_000), &config, sighting, ms(500));
        sightings.learn(at(10_100), &config, sighting, ms(900));
        assert_eq!(
            sightings.get(sighting.group).map(|s| s.confirmed),
            Some(at(9_499))
        );
        let until = at(9_499) + window(&config);
        assert_eq!(sightings.live(until - ms(1), &config).count(), 1);
        assert_eq!(sightings.live(until, &config).count(), 0);
        sightings.learn(at(20_000), &config, sighting, window(&config));
        sightings.expire(at(20_000), &config);
        assert_eq!(sightings.len(), 0);
    }
}
