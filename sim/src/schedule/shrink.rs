//! Schedules made smaller, while what they show stays.

#[cfg(test)]
mod tests;

use super::fields::{Field, simplify_time};
use super::{Crypto, Schedule, Workload};
use crate::fault::{Fault, Host, HostSet};
use quorate_core::Duration;

/// What [`shrink`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest schedule that was found to fail.
    pub schedule: Schedule,
    /// How many schedules were tried for it.
    pub tried: usize,
}

/// Looks for a smaller schedule that still fails, by trying at most `budget` others; `schedule` itself is taken to
/// fail. The result does not depend on anything else.
///
/// Faults are dropped first (all, halves, quarters, down to single ones, as in Zeller's and Hildebrandt's delta
/// debugging), then the rest becomes smaller: the time, the cluster, the users, the faults that are left. With
/// enough budget, nothing that [`Schedule::simpler`] proposes fails any more.
///
/// # Panics
/// If the schedule is not valid ([`Schedule::validate`]).
pub fn shrink(schedule: Schedule, budget: usize, mut fails: impl FnMut(&Schedule) -> bool) -> Shrunk {
    schedule.expect_valid();
    let mut best = Shrunk { schedule, tried: 0 };
    // After a success the search goes on where it was, and comes round: what failed to help just before would most
    // likely fail again.
    let mut position = 0;
    'smaller: loop {
        let steps: Vec<Step> = best.schedule.steps().collect();
        let start = position.min(steps.len());
        for index in (start..steps.len()).chain(0..start) {
            let Some(smaller) = best.schedule.after(steps[index]) else {
                continue;
            };
            if best.tried == budget {
                return best;
            }
            best.tried += 1;
            if fails(&smaller) {
                best.schedule = smaller;
                position = index;
                continue 'smaller;
            }
        }
        return best;
    }
}

/// One way to make a schedule smaller.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Without these faults.
    Drop { from: usize, count: usize },
    /// Without the hosts from this one on.
    Hosts(usize),
    /// Without this host; those after it move up.
    Without(usize),
    /// With nothing after the last fault.
    Calm,
    /// With half of the chaos, and what fits into it.
    Half,
    /// With users that do less, down to nothing.
    Idle(fn(&mut Workload)),
    /// With a plainer cluster.
    Plain(fn(&mut Schedule)),
    /// With a shorter fault, in one of the ways of a field.
    Shorten { fault: usize, way: usize },
    /// With a fault that begins at a rounder time.
    Round { fault: usize },
    /// With a simpler field of a fault.
    Field { fault: usize, field: usize, way: usize },
}

impl Schedule {
    /// Returns schedules that are a little smaller or simpler than this one, those first that promise most. All are
    /// valid, and to follow them always comes to an end.
    ///
    /// # Panics
    /// If this one is not valid.
    pub fn simpler(&self) -> impl Iterator<Item = Self> + use<> {
        self.expect_valid();
        let schedule = self.clone();
        self.steps().filter_map(move |step| schedule.after(step))
    }

    fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        let faults = self.faults.len();
        let hosts = self.hosts;
        let chunks = std::iter::successors(Some(faults), |&size| (size > 1).then(|| size.div_ceil(2)))
            .filter(|&size| size > 0)
            .flat_map(move |count| {
                (0..faults.div_ceil(count)).map(move |i| {
                    let from = i * count;
                    let count = count.min(faults - from);
                    Step::Drop { from, count }
                })
            });
        let cluster = (1..hosts)
            .map(Step::Hosts)
            .chain((0..hosts).rev().map(Step::Without))
            .chain([Step::Calm, Step::Half])
            .chain(IDLE.iter().copied().map(Step::Idle))
            .chain(PLAIN.iter().copied().map(Step::Plain));
        let each = (0..faults).flat_map(|fault| {
            // No fault has more fields.
            let fields = (0..4)
                .flat_map(move |field| (0..Field::WAYS).map(move |way| Step::Field { fault, field, way }));
            (0..2)
                .map(move |way| Step::Shorten { fault, way })
                .chain([Step::Round { fault }])
                .chain(fields)
        });
        chunks.chain(cluster).chain(each)
    }

    /// Returns the schedule after a step; `None` if it would be the same, or not valid.
    fn after(&self, step: Step) -> Option<Self> {
        let mut next = self.clone();
        match step {
            Step::Drop { from, count } => drop(next.faults.drain(from..from + count)),
            Step::Hosts(count) => (count..self.hosts).rev().for_each(|host| next.remove_host(host)),
            Step::Without(host) => next.remove_host(host),
            Step::Calm => {
                let last = self.faults.iter().map(Fault::ends).max().unwrap_or_default();
                next.end_chaos(last.max(Duration::from_secs(1)).min(self.chaos));
            }
            Step::Half => {
                simplify_time(&mut next.chaos, 0);
                next.end_chaos(next.chaos);
            }
            Step::Idle(less) => less(&mut next.workload),
            Step::Plain(plainer) => plainer(&mut next),
            Step::Shorten { fault, way } => drop(simplify_time(&mut next.faults[fault].lasting, way)),
            Step::Round { fault } => drop(simplify_time(&mut next.faults[fault].at, 1)),
            Step::Field { fault, field, way } => {
                let mut number = 0;
                next.faults[fault].kind.each_field(&mut |_, mut value| {
                    if number == field {
                        value.simplify(way);
                    }
                    number += 1;
                });
            }
        }
        (next != *self && next.validate().is_ok()).then_some(next)
    }

    /// Removes a host, and the faults that are about it alone.
    fn remove_host(&mut self, host: usize) {
        let voters = self.hosts - self.observers;
        if host >= voters {
            self.observers -= 1;
        } else if usize::from(self.cluster_size) >= voters {
            // As many seats are free as before.
            self.cluster_size -= 1;
            self.surge = self.surge.min(self.most_surge());
        }
        self.hosts -= 1;
        let hosts = self.hosts;
        let without = |index: usize| index - usize::from(index > host);
        self.faults.retain_mut(|fault| {
            let mut about_others = true;
            fault.kind.each_field(&mut |_, field| match field {
                Field::Host(one) => {
                    about_others &= one.0 != host;
                    *one = Host(without(one.0));
                }
                Field::Hosts(set) if *set != HostSet::ALL => {
                    let others = set.hosts(hosts + 1).filter(|other| other.0 != host);
                    let others = HostSet::of(others.map(|other| without(other.0)));
                    about_others &= others != HostSet::NONE || *set == HostSet::NONE;
                    *set = others;
                }
                _ => {}
            });
            about_others
        });
    }

    /// Ends the chaos, what lasts longer, and leaves out what would begin later.
    fn end_chaos(&mut self, end: Duration) {
        self.chaos = end;
        self.faults.retain_mut(|fault| {
            fault.lasting = fault.lasting.min(end.saturating_sub(fault.at));
            fault.at < end
        });
    }
}

const IDLE: &[fn(&mut Workload)] = &[
    |users| *users = Workload::default(),
    |users| users.messages = 0,
    |users| users.requests = 0,
    |users| users.draws = 0,
    |users| users.locks = 0,
    |users| users.messages /= 2,
    |users| users.requests /= 2,
    |users| users.draws /= 2,
    |users| users.locks /= 2,
    |users| users.max_size = users.max_size.min(64),
    |users| users.max_size /= 2,
];

const PLAIN: &[fn(&mut Schedule)] = &[
    |run| run.crypto = Crypto::Simulated,
    |run| run.by_name = false,
    |run| {
        // Observers become voters, each with a seat.
        let observers = u8::try_from(std::mem::take(&mut run.observers)).unwrap_or(u8::MAX);
        if run.cluster_size > 0 {
            run.cluster_size = run.cluster_size.saturating_add(observers);
        }
    },
    |run| (run.cluster_size, run.surge) = (0, 0),
    |run| run.surge = 0,
    |run| run.allow_observers = false,
    |run| run.quick_seats = false,
    |run| run.max_ttl = Schedule::default().max_ttl,
    |run| run.small = false,
    |run| run.fast = false,
];

#[cfg(any(test, feature = "quickcheck"))]
impl quickcheck::Arbitrary for Schedule {
    /// Draws the schedule of a random seed, with up to 7 hosts and up to 2 minutes.
    fn arbitrary(g: &mut quickcheck::Gen) -> Self {
        let options = super::Draw {
            hosts: 1..=7,
            chaos: Duration::from_millis(u64::arbitrary(g) % 120_001),
            ..super::Draw::default()
        };
        Self::draw(u64::arbitrary(g), &options)
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.simpler())
    }
}
