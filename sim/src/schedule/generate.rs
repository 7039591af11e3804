//! Schedules drawn from a seed.
//!
//! In the style of swarm testing (Groce et al., "Swarm testing", 2012): each run leaves out each kind of fault with
//! probability 1/2, because the presence of one fault hides what another one would find. Every purpose has its own
//! stream of random numbers, and so has every single fault: to leave one out shifts nothing else.

mod draws;
mod moods;
mod random;
#[cfg(test)]
mod tests;

use super::{Crypto, Invalid, Kinds, MAX_CHAOS, MAX_FAULTS, MAX_HOSTS, Schedule, Workload};
use crate::fault::{Fault, FaultKind, HostSet};
use quorate_core::{Duration, MAX_CLUSTER_SIZE};
use random::Random;
use std::ops::RangeInclusive;

/// Longer than this nobody is on its way out.
const LEAVING: Duration = Duration::from_secs(15);

/// What the schedules that are drawn may look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// How many hosts, within 1 to 64. By default 3 to 7.
    pub hosts: RangeInclusive<usize>,
    /// For how long faults and users are at work, up to 24 h. By default 2 minutes.
    pub chaos: Duration,
    /// Which kinds of faults may occur. By default all. Of 4 kinds or fewer there are more of each.
    pub kinds: Kinds,
    /// How many of a thousand datagrams are lost all the time on every way, besides all faults; at most 1000.
    pub loss: Option<u16>,
    /// Whether there are more voters than the settings allow for, which breaks the assumption under which groups are
    /// founded: two may be at work at once, and nothing holds between them. By default not.
    pub beyond: bool,
}

impl Default for Draw {
    fn default() -> Self {
        Self {
            hosts: 3..=7,
            chaos: Duration::from_secs(120),
            kinds: Kinds::ALL,
            loss: None,
            beyond: false,
        }
    }
}

impl Draw {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, value: String, allowed: String| {
            Err(Invalid {
                fault: None,
                field,
                value,
                allowed,
            })
        };
        let (low, high) = (*self.hosts.start(), *self.hosts.end());
        if low < 1 || low > high || high > MAX_HOSTS {
            let allowed = format!("a range within 1-{MAX_HOSTS}, the smaller number first");
            return invalid("hosts", format!("{low}-{high}"), allowed);
        }
        if self.chaos > MAX_CHAOS {
            let time = super::time::write;
            return invalid("chaos", time(self.chaos), format!("at most {}", time(MAX_CHAOS)));
        }
        match self.loss {
            Some(loss) if loss > 1000 => invalid("loss", loss.to_string(), "0 to 1000 permille".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Schedule {
    /// Draws the schedule of a seed. The same seed and options give the same schedule; options that
    /// [`Draw::validate`] refuses are held to their ranges.
    ///
    /// A run leaves out each kind of fault with probability 1/2. One in 8 has a mood besides: crashes
    /// that come together at bad moments. One in 16 is calm and one in 16 a storm; the others
    /// have about a dozen faults in two minutes. All of them end before the chaos does, and never more voters live than
    /// there are seats, other than while a [`FaultKind::Surge`] lasts.
    pub fn draw(seed: u64, options: &Draw) -> Self {
        let high = (*options.hosts.end()).clamp(1, MAX_HOSTS);
        let low = (*options.hosts.start()).clamp(1, high);
        let hosts = Random::new(seed, "hosts", 0).between(low as u64, high as u64) as usize;
        let observers = draw_observers(seed, hosts);
        let mut schedule = Self {
            seed,
            hosts,
            observers,
            cluster_size: draw_cluster_size(seed, hosts - observers, options.beyond),
            surge: 0,
            max_ttl: draw_max_ttl(seed),
            allow_observers: Random::new(seed, "allow_observers", 0).one_in(2),
            quick_seats: Random::new(seed, "quick_seats", 0).one_in(3),
            fast: Random::new(seed, "fast", 0).one_in(2),
            small: Random::new(seed, "small", 0).one_in(4),
            crypto: match Random::new(seed, "crypto", 0).one_in(16) {
                true => Crypto::Real,
                false => Crypto::Simulated,
            },
            by_name: !Random::new(seed, "by_name", 0).one_in(4),
            chaos: options.chaos.min(MAX_CHAOS),
            workload: draw_workload(seed),
            faults: Vec::new(),
        };
        schedule.surge = draw_surge(seed, schedule.most_surge());
        schedule.faults = schedule.draw_faults(options);
        if let Some(permille) = options.loss {
            let (from, to) = (HostSet::ALL, HostSet::ALL);
            let permille = permille.min(1000);
            schedule.faults.push(Fault {
                at: Duration::ZERO,
                lasting: schedule.chaos,
                kind: FaultKind::Loss { from, to, permille },
            });
        }
        schedule.faults.sort_by_key(|fault| fault.at);
        schedule
    }

    fn draw_faults(&self, options: &Draw) -> Vec<Fault> {
        let allowed = options.kinds;
        let mut present = Kinds::NONE;
        for name in FaultKind::NAMES {
            if Random::new(self.seed, name, u64::MAX).one_in(2) {
                present = present | Kinds::one(name);
            }
        }
        if (present & allowed).is_empty() {
            present = allowed;
        }
        // In thousandths.
        let intensity = match Random::new(self.seed, "intensity", 0).below(16) {
            0 => 50,
            1 => 8000,
            _ => 1000,
        };
        // A run with few kinds would have little to show.
        let boost = 8 / allowed.len().clamp(1, 8) as u64;
        let moments = self.draw_moments();
        let mut faults = moods::draw(self);
        if options.beyond {
            for fault in moods::draw_apart(self) {
                if faults.iter().all(|other| !excludes(&fault, other)) {
                    faults.push(fault);
                }
            }
        }
        // The rare ones that need the most room come first, so that the others find their place beside them.
        for plan in draws::PLANS.iter().filter(|plan| present.contains(plan.name)) {
            for number in 0..self.draw_count(plan, intensity, boost) {
                let mut random = Random::new(self.seed, plan.name, number);
                let Some((lasting, kind)) = plan.draw(&mut random, self) else {
                    continue;
                };
                let at = self.draw_beginning(&mut random, lasting, &moments);
                let fault = Fault { at, lasting, kind };
                if faults.iter().all(|other| !excludes(&fault, other)) {
                    faults.push(fault);
                }
            }
        }
        // Only now, so that a kind that is not allowed makes no room for others.
        faults.retain(|fault| allowed.contains(fault.kind.name()));
        faults
    }

    /// Faults that come together find more than faults that come one by one.
    fn draw_moments(&self) -> Vec<Duration> {
        let mut random = Random::new(self.seed, "moments", 0);
        let end = self.chaos.as_millis() as u64;
        (0..2 + end / 60_000).map(|_| random.millis(0, end)).collect()
    }

    /// Draws how many faults of a kind there are, in proportion to the length of the run.
    fn draw_count(&self, plan: &draws::Plan, intensity: u64, boost: u64) -> u64 {
        let mut random = Random::new(self.seed, plan.name, u64::MAX - 1);
        let intensity = if plan.storms {
            intensity
        } else {
            intensity.min(1000)
        };
        // Of 2 minutes: thousandths times thousandths times milliseconds; twice, for the mean of a number from 0 on.
        let most = 2 * plan.mean * intensity * boost * (self.chaos.as_millis() as u64) / 120_000;
        let drawn = random.between(0, most);
        let count = drawn / 1_000_000 + u64::from(random.below(1_000_000) < drawn % 1_000_000);
        count.min((MAX_FAULTS / FaultKind::NAMES.len()) as u64 - 1)
    }

    fn draw_beginning(&self, random: &mut Random, lasting: Duration, moments: &[Duration]) -> Duration {
        let latest = self.chaos.saturating_sub(lasting);
        let anywhere = random.millis(0, latest.as_millis() as u64);
        let moment = random.choose(moments) + random.millis(0, 500);
        let together = random.one_in(3);
        // What is wrong from the start is what a cluster has to be born into.
        if random.one_in(16) {
            Duration::ZERO
        } else if together && moment <= latest {
            moment
        } else {
            anywhere
        }
    }
}

fn draw_observers(seed: u64, hosts: usize) -> usize {
    let mut random = Random::new(seed, "observers", 0);
    if random.one_in(4) {
        random.between(1, 2).min(hosts as u64 - 1) as usize
    } else {
        0
    }
}

/// As many seats as voters, or no gate at all; fewer seats beyond the assumption.
fn draw_cluster_size(seed: u64, voters: usize, beyond: bool) -> u8 {
    let gate = !Random::new(seed, "cluster_size", 0).one_in(8);
    if beyond && voters > 1 {
        return Random::new(seed, "beyond", 0).between(1, voters as u64 - 1) as u8;
    }
    u8::try_from(voters)
        .ok()
        .filter(|&size| gate && size <= MAX_CLUSTER_SIZE)
        .unwrap_or(0)
}

/// Mostly short: what a group waits for before it opens should not be most of the run.
fn draw_max_ttl(seed: u64) -> Duration {
    let mut random = Random::new(seed, "max_ttl", 0);
    match random.one_in(12) {
        true => Duration::from_secs(30),
        false => random.scaled_millis(1_000, 10_000),
    }
}

fn draw_surge(seed: u64, most: u8) -> u8 {
    let mut random = Random::new(seed, "surge-setting", 0);
    match random.one_in(2) {
        true => random.between(most.min(1).into(), most.into()) as u8,
        false => 0,
    }
}

fn draw_workload(seed: u64) -> Workload {
    let mut random = Random::new(seed, "workload", 0);
    let how_much = random.below(8);
    let mut tokens = Random::new(seed, "draws", 0);
    let mut draws = |low, high| tokens.scale(low, high) as u32;
    let mut locking = Random::new(seed, "locks", 0);
    let mut locks = |low, high| locking.scale(low, high) as u32;
    let large = random.choose(&[64, 256, 1100, 1100, 5000, 5000, 20_000, 100_000, 1 << 20]);
    match how_much {
        0 => Workload::default(),
        // Many, or large: both would only measure the machine.
        1 => Workload {
            messages: random.scale(600, 3000) as u32,
            requests: random.scale(300, 1500) as u32,
            draws: draws(600, 3000),
            locks: locks(300, 1200),
            max_size: large.min(20_000),
        },
        _ => Workload {
            messages: random.scale(10, 300) as u32,
            requests: random.scale(10, 300) as u32,
            draws: draws(20, 300),
            locks: locks(20, 300),
            max_size: large,
        },
    }
}

/// Returns whether two faults cannot be at the same time.
fn excludes(a: &Fault, b: &Fault) -> bool {
    let both = |kind| a.kind == kind && b.kind == kind;
    // Who leaves after a surge is alive until it has found somebody for its seat.
    let after = if both(FaultKind::Surge) {
        LEAVING
    } else {
        Duration::ZERO
    };
    a.at <= b.ends() + after
        && b.at <= a.ends() + after
        && (clash(&a.kind, &b.kind) || clash(&b.kind, &a.kind))
}

fn clash(a: &FaultKind, b: &FaultKind) -> bool {
    use FaultKind as K;
    // A process ends, or stands still, for one reason at a time; and so does a clock.
    if let (Some(a), Some(b)) = (stops(a), stops(b)) {
        return a.hosts(MAX_HOSTS).any(|host| b.contains(host));
    }
    match (a, b) {
        // Each step of a rotation has to reach all members before the next one: nobody sleeps through one.
        (K::Rotate, K::Rotate | K::Pause { .. } | K::Freeze { .. }) => true,
        // The clocks of those that start anew are its business.
        (K::Blackout { .. }, K::Wall { .. } | K::Surge) => true,
        // One process more, not two.
        (K::Surge, K::Surge) | (K::Dns { .. }, K::Dns { .. }) => true,
        (K::Slow { host: a, .. }, K::Slow { host: b, .. })
        | (K::Unread { host: a }, K::Unread { host: b })
        | (K::Wall { host: a, .. }, K::Wall { host: b, .. })
        | (
            K::Drift { host: a, .. } | K::Freeze { host: a },
            K::Drift { host: b, .. } | K::Freeze { host: b },
        ) => a == b,
        _ => false,
    }
}

/// Returns the hosts whose processes a fault ends or stops.
fn stops(kind: &FaultKind) -> Option<HostSet> {
    match *kind {
        FaultKind::Crash { host } | FaultKind::Leave { host } | FaultKind::Pause { host } => {
            Some(HostSet::of([host.0]))
        }
        FaultKind::Blackout { .. } | FaultKind::RollingUpdate => Some(HostSet::ALL),
        _ => None,
    }
}
