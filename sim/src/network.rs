//! What lies between the nodes: ways, their faults, and the datagrams on them.

mod delay;
mod link;
#[cfg(test)]
mod tests;

pub use link::Link;

use crate::fault::{Corruption, FaultKind, Host};
use crate::observe::{Datagram, Fate, Provenance};
use quorate_core::{Duration, Instant};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;

pub(crate) use delay::below;

/// A datagram that was recorded on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// What the network knows of it.
    pub datagram: Datagram,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A datagram on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) at: Instant,
    /// Ties are broken by the order of sending.
    order: u64,
    pub(crate) datagram: Datagram,
    pub(crate) payload: Vec<u8>,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for InFlight {}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InFlight {
    /// The earliest comes first out of a max-heap.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The streams of randomness of the network: one for each purpose, so that none shifts another.
#[derive(Debug)]
pub(crate) struct Chances {
    pub(crate) loss: ChaCha8Rng,
    pub(crate) delay: ChaCha8Rng,
    pub(crate) duplicate: ChaCha8Rng,
    pub(crate) corrupt: ChaCha8Rng,
    pub(crate) replay: ChaCha8Rng,
}

/// A fault of the network that is going on, and what it remembers of each way.
#[derive(Debug)]
struct Active {
    number: usize,
    kind: FaultKind,
    /// Ways that are in a stretch of loss, or of long delays.
    bad: BTreeSet<(Option<Host>, Option<Host>)>,
}

/// The ends of a way, as far as they are hosts of the simulation.
type Way = (Option<Host>, Option<Host>);

/// The datagrams on their way, and what can happen to them there.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) link: Link,
    chances: Chances,
    active: Vec<Active>,
    /// Ordered pairs of addresses between which nothing passes.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    flying: BinaryHeap<InFlight>,
    /// What waits for a clog to end, by the number of the fault.
    clogged: BTreeMap<usize, Vec<InFlight>>,
    /// What was recorded, oldest first, and how much of it is kept.
    captured: VecDeque<Captured>,
    capture: usize,
    spare: Vec<Vec<u8>>,
    /// How many hosts are members: a ring closes over them.
    pub(crate) members: usize,
    order: u64,
    sent: u64,
    /// What became of the datagrams that were just sent.
    pub(crate) fates: Vec<(Datagram, Fate)>,
}

/// Most datagrams that may wait behind one clog; a queue in the network is bounded too.
const MAX_CLOGGED: usize = 4_096;

impl Network {
    pub(crate) fn new(chances: Chances) -> Self {
        Self {
            link: Link::default(),
            chances,
            active: Vec::new(),
            cut: BTreeSet::new(),
            flying: BinaryHeap::new(),
            clogged: BTreeMap::new(),
            captured: VecDeque::new(),
            capture: 0,
            spare: Vec::new(),
            members: 0,
            order: 0,
            sent: 0,
            fates: Vec::new(),
        }
    }

    pub(crate) fn cut(&mut self, from: SocketAddr, to: SocketAddr) {
        self.cut.insert((from, to));
    }

    pub(crate) fn open_all(&mut self) {
        self.cut.clear();
    }

    /// Records the last `count` datagrams from now on.
    pub(crate) fn capture(&mut self, count: usize) {
        self.capture = count;
        while self.captured.len() > count {
            self.captured.pop_front();
        }
    }

    pub(crate) const fn captured(&self) -> &VecDeque<Captured> {
        &self.captured
    }

    pub(crate) fn begin(&mut self, number: usize, kind: FaultKind) {
        self.active.push(Active {
            number,
            kind,
            bad: BTreeSet::new(),
        });
    }

    /// Ends a fault; what waited behind it arrives.
    pub(crate) fn end(&mut self, now: Instant, number: usize) {
        self.active.retain(|active| active.number != number);
        for mut waiting in self.clogged.remove(&number).unwrap_or_default() {
            waiting.at = now;
            self.flying.push(waiting);
        }
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.flying.peek().map(|datagram| datagram.at)
    }

    pub(crate) fn take(&mut self) -> Option<InFlight> {
        self.flying.pop()
    }

    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < 1024 {
            self.spare.push(buffer);
        }
    }

    fn copy(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(payload);
        copy
    }

    /// Numbers a new datagram.
    pub(crate) const fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Sends a datagram. What becomes of it and of its copies is in `fates` afterwards.
    pub(crate) fn send(&mut self, now: Instant, way: Way, mut datagram: Datagram, original: &[u8]) {
        if self.capture > 0 {
            self.record(datagram, original);
        }
        if let Some(fate) = self.obstacle(way, &datagram) {
            self.fates.push((datagram, fate));
            return;
        }
        let mut payload = self.copy(original);
        self.corrupt(way, &mut payload);
        // Faults that overlap can undo each other: what counts is what arrives.
        if payload != original {
            datagram.provenance = Provenance::Altered;
            datagram.len = payload.len();
            datagram.head = head(&payload);
        }
        let copies = 1 + usize::from(self.duplicated(way));
        for number in 0..copies {
            let mut copy = datagram;
            if number > 0 && copy.provenance == Provenance::Original {
                copy.provenance = Provenance::Duplicate;
            }
            let bytes = if number + 1 < copies {
                self.copy(&payload)
            } else {
                std::mem::take(&mut payload)
            };
            let at = now + self.travel(way);
            self.launch(at, way, copy, bytes);
        }
    }

    /// Puts a recorded datagram on its way again.
    pub(crate) fn resend(&mut self, now: Instant, way: Way, datagram: Datagram, payload: &[u8]) {
        let bytes = self.copy(payload);
        let at = now + self.travel(way);
        self.launch(at, way, datagram, bytes);
    }

    /// Makes a datagram that is there at once.
    pub(crate) fn make(&mut self, now: Instant, datagram: Datagram, payload: &[u8]) -> InFlight {
        self.order += 1;
        InFlight {
            at: now,
            order: self.order,
            datagram,
            payload: self.copy(payload),
        }
    }

    fn launch(&mut self, at: Instant, way: Way, datagram: Datagram, payload: Vec<u8>) {
        self.order += 1;
        let flying = InFlight {
            at,
            order: self.order,
            datagram,
            payload,
        };
        let clog = self.active.iter().find(|active| match active.kind {
            FaultKind::Clog { from, to } => leads(way, from, to),
            _ => false,
        });
        let Some(number) = clog.map(|clog| clog.number) else {
            self.fates.push((datagram, Fate::Arrives(at)));
            self.flying.push(flying);
            return;
        };
        let queue = self.clogged.entry(number).or_default();
        let room = queue.len() < MAX_CLOGGED;
        self.fates
            .push((datagram, if room { Fate::Waits } else { Fate::Lost }));
        if room {
            queue.push(flying);
        }
    }

    fn record(&mut self, datagram: Datagram, payload: &[u8]) {
        let mut bytes = match self.captured.len() == self.capture {
            true => self.captured.pop_front().map_or_else(Vec::new, |old| old.payload),
            false => Vec::new(),
        };
        bytes.clear();
        bytes.extend_from_slice(payload);
        self.captured.push_back(Captured {
            datagram,
            payload: bytes,
        });
    }

    /// Draws one of the recorded datagrams.
    pub(crate) fn recall(&mut self) -> Option<Captured> {
        let count = self.captured.len() as u64;
        let i = (count > 0).then(|| below(&mut self.chances.replay, count))?;
        self.captured.get(usize::try_from(i).ok()?).cloned()
    }

    /// Draws where a replayed datagram goes.
    pub(crate) fn replay_to(&mut self, count: usize) -> usize {
        below(&mut self.chances.replay, count.max(1) as u64) as usize
    }

    /// Returns why a datagram does not get through.
    fn obstacle(&mut self, way: Way, datagram: &Datagram) -> Option<Fate> {
        if !self.cut.is_empty() && self.cut.contains(&(datagram.from, datagram.to)) {
            return Some(Fate::Cut);
        }
        let (members, rng) = (self.members, &mut self.chances.loss);
        for active in &mut self.active {
            let fate = match active.kind {
                FaultKind::OneWay { from, to } => leads(way, from, to).then_some(Fate::Cut),
                FaultKind::Split { left } => {
                    let side = |end: Option<Host>| end.is_some_and(|host| left.contains(host));
                    (side(way.0) != side(way.1)).then_some(Fate::Cut)
                }
                FaultKind::Bridge { left, over } => {
                    let side = |end: Option<Host>| end.is_some_and(|host| left.contains(host));
                    let bridged = way.0 == Some(over) || way.1 == Some(over);
                    (side(way.0) != side(way.1) && !bridged).then_some(Fate::Cut)
                }
                FaultKind::Ring => (!neighbours(way, members)).then_some(Fate::Cut),
                FaultKind::Mtu { from, to, bytes } => {
                    (leads(way, from, to) && datagram.len > usize::from(bytes)).then_some(Fate::TooLong)
                }
                FaultKind::Loss { from, to, permille } => {
                    (leads(way, from, to) && delay::permille(rng, permille)).then_some(Fate::Lost)
                }
                FaultKind::BurstLoss {
                    from,
                    to,
                    permille,
                    burst,
                } if leads(way, from, to) => {
                    lost_in_burst(rng, &mut active.bad, way, permille, burst).then_some(Fate::Lost)
                }
                _ => None,
            };
            if fate.is_some() {
                return fate;
            }
        }
        delay::permille(rng, self.link.loss_permille).then_some(Fate::Lost)
    }

    fn corrupt(&mut self, way: Way, payload: &mut Vec<u8>) {
        let rng = &mut self.chances.corrupt;
        for active in &self.active {
            let FaultKind::Corrupt {
                from,
                to,
                permille,
                how,
            } = active.kind
            else {
                continue;
            };
            if !leads(way, from, to) || !delay::permille(rng, permille) || payload.is_empty() {
                continue;
            }
            let place = below(rng, payload.len() as u64) as usize;
            match how {
                Corruption::Flip => payload[place] ^= 1 << below(rng, 8),
                Corruption::Truncate => payload.truncate(place),
                Corruption::Extend => payload.extend((0..=place % 64).map(|_| rng.next_u32() as u8)),
                // The first byte is another for sure.
                Corruption::Garbage => {
                    let first = payload[0];
                    rng.fill_bytes(payload);
                    payload[0] = first ^ (1 + below(rng, 255) as u8);
                }
            }
        }
    }

    fn duplicated(&mut self, way: Way) -> bool {
        let rng = &mut self.chances.duplicate;
        let by_fault = self.active.iter().any(|active| match active.kind {
            FaultKind::Duplicate { from, to, permille } => {
                leads(way, from, to) && delay::permille(rng, permille)
            }
            _ => false,
        });
        by_fault || delay::permille(rng, self.link.duplicate_permille)
    }

    /// Draws how long a datagram travels.
    fn travel(&mut self, way: Way) -> Duration {
        let rng = &mut self.chances.delay;
        let mut travel = None;
        let mut held = Duration::ZERO;
        for active in &mut self.active {
            match active.kind {
                FaultKind::Delay { from, to, delay } if leads(way, from, to) => {
                    let mut slow = active.bad.contains(&way);
                    let before = slow;
                    travel = Some(delay::draw(rng, delay, &mut slow));
                    if slow && !before {
                        active.bad.insert(way);
                    } else if before && !slow {
                        active.bad.remove(&way);
                    }
                }
                FaultKind::Reorder {
                    from,
                    to,
                    permille,
                    by,
                } if leads(way, from, to) && delay::permille(rng, permille) => {
                    held = delay::between(rng, Duration::ZERO, by);
                }
                _ => {}
            }
        }
        let travel = travel.unwrap_or_else(|| delay::between(rng, self.link.min_delay, self.link.max_delay));
        travel + held
    }
}

/// Returns the first two bytes, as far as there are two.
pub(crate) fn head(payload: &[u8]) -> [u8; 2] {
    [
        payload.first().copied().unwrap_or_default(),
        payload.get(1).copied().unwrap_or_default(),
    ]
}

/// Returns whether a way leads from one of these hosts to one of those. Somebody who is no host is in no set but that of
/// all.
fn leads(way: Way, from: crate::fault::HostSet, to: crate::fault::HostSet) -> bool {
    let within = |set: crate::fault::HostSet, end: Option<Host>| match end {
        Some(host) => set.contains(host),
        None => set == crate::fault::HostSet::ALL,
    };
    within(from, way.0) && within(to, way.1)
}

/// Returns whether two hosts stand next to each other in the ring of all members; those beyond stand next to nobody.
fn neighbours(way: Way, members: usize) -> bool {
    let (Some(Host(a)), Some(Host(b))) = way else {
        return false;
    };
    if a >= members || b >= members {
        return false;
    }
    let apart = a.abs_diff(b);
    apart <= 1 || apart == members - 1
}

/// Moves the two-state chain of a way by one datagram (Gilbert 1960, "Capacity of a burst-noise channel", with all lost
/// in the bad state), and returns whether this one is lost.
fn lost_in_burst(rng: &mut ChaCha8Rng, bad: &mut BTreeSet<Way>, way: Way, permille: u16, burst: u16) -> bool {
    let (permille, burst) = (u64::from(permille.min(900)), u64::from(burst.max(1)));
    let is_bad = bad.contains(&way);
    // Bad stretches end with 1/burst; good ones with so much that the bad share is `permille`.
    let change = if is_bad {
        below(rng, burst) == 0
    } else {
        below(rng, (1_000 - permille) * burst) < permille
    };
    match (is_bad, change) {
        (false, true) => {
            bad.insert(way);
            true
        }
        (true, true) => {
            bad.remove(&way);
            false
        }
        _ => is_bad,
    }
}
