//! Locks: how long until who waits has what another one had.

use super::groups::{BACK_WITHIN_MS, FOR_GOOD, election, founding, leads, refounding, voter};
use super::{Outcome, Trial};
use quorate_core::{Event, LockEvent, LockId, LockRequest};
use quorate_sim::{App, Cx, Duration, FaultKind, Instant, NodeIndex, Sim, config};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

const SIZE: usize = 3;
const KEY: &str = "the lock";
/// Whatever nothing is in the way of is done within this time, also if something has to be sent again.
const SOON: Duration = Duration::from_secs(2);
/// How many wait for one lock, and how long that may take in all.
const CROWD: u32 = 1_000;
const CROWD_TIME: Duration = Duration::from_secs(30);

/// An application that remembers what it is told of locks.
#[derive(Debug, Default)]
struct Taker {
    told: Vec<(Instant, LockEvent)>,
    /// Whether it gives back at once what it gets.
    passes_on: bool,
    granted: u32,
}

impl App for Taker {
    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Lock(event) = event else { return };
        if let LockEvent::Granted { id, .. } = event {
            self.granted += 1;
            if self.passes_on {
                // It may be over already, which is told next.
                let _ = cx.unlock(id);
            }
        }
        self.told.push((cx.true_time(), event));
    }
}

/// Returns the rows.
pub(super) fn rows() -> Vec<Trial> {
    let mut rows = Vec::new();
    let mut row =
        |name: String, bound: Duration, run: fn(u64, Duration, Duration) -> Outcome, ttl: Duration| {
            let name = format!("lock: {name}");
            rows.push(Trial::new(name, bound, move |seed| run(seed, bound, ttl)));
        };
    let any = quorate_core::DEFAULT_LOCK_TTL;
    row(
        "leader of 3 killed to next grant".into(),
        election() + SOON,
        leader_killed,
        any,
    );
    row(
        "leader of 3 killed to next grant, without a quorum".into(),
        takeover() + SOON,
        alone_leader_killed,
        any,
    );
    row(
        "cold start of 3 to first grant, without a quorum".into(),
        super::recovery() + config().found_delay + config().election_timeout * 2,
        alone_cold_start,
        any,
    );
    for ttl in [1, 5, 15].map(Duration::from_secs) {
        let name = format!("holder killed to next holder, ttl {} s", ttl.as_secs());
        row(name, lease(ttl) + SOON, holder_killed, ttl);
    }
    row("holder leaves to next holder".into(), SOON, holder_leaves, any);
    row(
        "leading holder leaves to next holder".into(),
        election() + SOON,
        leader_leaves,
        any,
    );
    row(
        "dead waiter at the head, from the release to next holder".into(),
        lease(config().waiter_ttl) + SOON,
        dead_waiter,
        any,
    );
    row(
        format!("{CROWD} waiters on one lock drained"),
        CROWD_TIME,
        crowd,
        any,
    );
    row(
        "2 of 3 killed and back while the third holds, to next holder".into(),
        refounding(),
        two_killed,
        any,
    );
    rows
}

/// Within which time a leader is replaced where there is no quorum: it counts as failed, hearsay of it is over, and the
/// next one is announced.
fn takeover() -> Duration {
    let config = config();
    config.heartbeat_timeout * 2 + config.election_timeout * 4 + config.heartbeat_interval * 4
}

/// How long a lease counts at a leader.
fn lease(ttl: Duration) -> Duration {
    ttl + ttl * u32::from(config().drift_permille) / 1_000
}

/// A cluster of three under trial.
struct Trying {
    sim: Sim<Taker>,
    rng: ChaCha8Rng,
    leader: NodeIndex,
    others: [NodeIndex; 2],
}

impl Trying {
    /// Voters that have an open group, at some moment between two heartbeats.
    fn new(seed: u64) -> Option<Self> {
        Self::of(seed, SIZE)
    }

    /// The same three with a `cluster_size` of their own.
    fn of(seed: u64, cluster_size: usize) -> Option<Self> {
        let mut sim = begin(seed, cluster_size);
        sim.run_for(Duration::from_millis(500));
        sim.run_until(founding(), |sim| leader(sim).is_some());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        sim.run_for(Duration::from_secs(5) + Duration::from_micros(rng.next_u64() % 1_000_000));
        let leader = leader(&sim)?;
        let others = sim
            .apps()
            .map(|(index, _)| index)
            .filter(|&index| index != leader);
        let others = others.collect::<Vec<_>>().try_into().ok()?;
        Some(Self {
            sim,
            rng,
            leader,
            others,
        })
    }

    fn ask(&mut self, node: NodeIndex, wait: Duration, ttl: Duration) -> Option<LockId> {
        let request = LockRequest::new(KEY).wait(wait).ttl(ttl);
        self.sim.with(node, |cx| cx.lock(request)).ok()
    }

    /// Runs until a request is granted; when that was.
    fn granted(&mut self, node: NodeIndex, id: LockId, within: Duration) -> Option<Instant> {
        self.sim.run_until(within, |sim| find(sim, node, id).is_some());
        find(&self.sim, node, id)
    }

    /// Takes the lock.
    fn take(&mut self, node: NodeIndex, ttl: Duration) -> Option<LockId> {
        let id = self.ask(node, SOON, ttl)?;
        self.granted(node, id, SOON)?;
        Some(id)
    }

    /// Asks for the lock, and runs until the leader knows that.
    fn queue(&mut self, node: NodeIndex, wait: Duration, ttl: Duration) -> Option<LockId> {
        let before = waiting(&self.sim, self.leader);
        let id = self.ask(node, wait, ttl)?;
        let leader = self.leader;
        let queued = self.sim.run_until(SOON, |sim| waiting(sim, leader) > before);
        queued.then_some(id)
    }

    fn kill(&mut self, node: NodeIndex, down: Duration) {
        let host = self.sim.world().process(node).host;
        self.sim.inject(FaultKind::Crash { host }, down);
    }

    /// Lets some time pass, in which leases are renewed.
    fn wait_a_while(&mut self) {
        let moment = Duration::from_micros(self.rng.next_u64() % 10_000_000);
        self.sim.run_for(Duration::from_secs(1) + moment);
    }

    /// The true time at which the last belief of a process ends; its clock is right.
    fn believes_until(&self, node: NodeIndex) -> Instant {
        let held = self.sim.app(node).told.iter().rev();
        let mut until = held.filter_map(|(_, event)| match *event {
            LockEvent::Granted { until, .. } | LockEvent::Renewed { until, .. } => Some(until),
            _ => None,
        });
        let local = self.sim.world().clock(self.sim.world().process(node).host);
        let until = until.next().unwrap_or(local);
        self.sim.now() + until.saturating_since(local)
    }

    /// Waits for the next holder: from `since`, and not before nobody believes any more.
    fn outcome(
        mut self,
        next: (NodeIndex, LockId),
        since: Instant,
        free: Instant,
        bound: Duration,
    ) -> Outcome {
        let at = self.granted(next.0, next.1, bound);
        Outcome {
            recovered: at
                .map(|at| at.saturating_since(since))
                .filter(|&after| after <= bound),
            wrong: at.is_some_and(|at| at < free),
            ..Outcome::default()
        }
    }
}

/// Three voters that begin to start.
fn begin(seed: u64, cluster_size: usize) -> Sim<Taker> {
    let builder = Sim::builder().seed(seed).checkers(false).hosts(SIZE);
    let builder = builder.config(move |_, _| voter(cluster_size, 0).max_waiters(CROWD));
    builder.build_with(|_| Taker::default())
}

fn leader(sim: &Sim<Taker>) -> Option<NodeIndex> {
    let serves = |&index: &NodeIndex| {
        let replica = sim.node_of(index).replica();
        leads(replica) && replica.machine().is_some_and(|machine| machine.open)
    };
    sim.apps().map(|(index, _)| index).find(serves)
}

fn waiting(sim: &Sim<Taker>, leader: NodeIndex) -> usize {
    let machine = sim.node_of(leader).replica().machine();
    let lock = machine.and_then(|machine| machine.table.lock(KEY));
    lock.map_or(0, |lock| lock.waiting())
}

fn find(sim: &Sim<Taker>, node: NodeIndex, id: LockId) -> Option<Instant> {
    let mut told = sim.app(node).told.iter();
    told.find_map(|&(at, ref event)| match *event {
        LockEvent::Granted { id: of, .. } if of == id => Some(at),
        _ => None,
    })
}

/// From the death of the leader until somebody else has a lock that was free, and that it asked for at that moment.
fn leader_killed(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    next_leader(Trying::new(seed), seed, bound, ttl)
}

/// The same without a quorum.
fn alone_leader_killed(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    next_leader(Trying::of(seed, 0), seed, bound, ttl)
}

/// From when the first process starts until one of them has a lock that it asks for as soon as all run.
fn alone_cold_start(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    let run = || {
        let mut sim = begin(seed, 0);
        let since = sim.now();
        sim.run_until(bound, |sim| sim.apps().count() == SIZE);
        let asker = sim.apps().map(|(index, _)| index).nth(seed as usize % SIZE)?;
        let request = LockRequest::new(KEY).wait(bound).ttl(ttl);
        let id = sim.with(asker, |cx| cx.lock(request)).ok()?;
        sim.run_until(bound, |sim| find(sim, asker, id).is_some());
        let after = find(&sim, asker, id)?.saturating_since(since);
        Some(Outcome {
            recovered: Some(after).filter(|&after| after <= bound),
            ..Outcome::default()
        })
    };
    run().unwrap_or_default()
}

fn next_leader(trying: Option<Trying>, seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    let run = || {
        let mut trying = trying?;
        let (asker, killed) = (trying.others[seed as usize % 2], trying.sim.now());
        trying.kill(trying.leader, FOR_GOOD);
        let id = trying.ask(asker, bound, ttl)?;
        Some(trying.outcome((asker, id), killed, killed, bound))
    };
    run().unwrap_or_default()
}

/// From the death of a holder that does not lead.
fn holder_killed(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    let run = || {
        let mut trying = Trying::new(seed)?;
        let [holder, waiter] = trying.others;
        trying.take(holder, ttl)?;
        let id = trying.queue(waiter, FOR_GOOD, ttl)?;
        trying.wait_a_while();
        let (killed, free) = (trying.sim.now(), trying.believes_until(holder));
        trying.kill(holder, FOR_GOOD);
        Some(trying.outcome((waiter, id), killed, free, bound))
    };
    run().unwrap_or_default()
}

fn leaves(seed: u64, bound: Duration, ttl: Duration, leading: bool) -> Option<Outcome> {
    let mut trying = Trying::new(seed)?;
    let [other, waiter] = trying.others;
    let holder = if leading { trying.leader } else { other };
    trying.take(holder, ttl)?;
    let id = trying.queue(waiter, FOR_GOOD, ttl)?;
    trying.wait_a_while();
    let since = trying.sim.now();
    trying.sim.with(holder, |cx| cx.leave());
    Some(trying.outcome((waiter, id), since, since, bound))
}

/// From when a holder is told to leave.
fn holder_leaves(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    leaves(seed, bound, ttl, false).unwrap_or_default()
}

fn leader_leaves(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    leaves(seed, bound, ttl, true).unwrap_or_default()
}

/// From when a lock is given back for which a process waits first that has just died, until the second has it.
fn dead_waiter(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    let run = || {
        let mut trying = Trying::new(seed)?;
        let [dead, waiter] = trying.others;
        let held = trying.take(trying.leader, ttl)?;
        trying.queue(dead, FOR_GOOD, ttl)?;
        let id = trying.queue(waiter, FOR_GOOD, ttl)?;
        trying.wait_a_while();
        trying.kill(dead, FOR_GOOD);
        let since = trying.sim.now();
        trying.sim.with(trying.leader, |cx| cx.unlock(held)).ok()?;
        Some(trying.outcome((waiter, id), since, since, bound))
    };
    run().unwrap_or_default()
}

/// From when a lock is given back for which a thousand wait, until each of them has had it.
fn crowd(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    let run = || {
        let mut trying = Trying::new(seed)?;
        let held = trying.take(trying.leader, ttl)?;
        for nth in 0..CROWD {
            let node = trying.others[nth as usize % 2];
            trying.ask(node, FOR_GOOD, ttl)?;
        }
        let leader = trying.leader;
        let all = |sim: &Sim<Taker>| waiting(sim, leader) == CROWD as usize;
        if !trying.sim.run_until(bound, all) {
            return None;
        }
        for node in trying.others {
            trying.sim.with_app(node, |taker, _| taker.passes_on = true);
        }
        let since = trying.sim.now();
        trying.sim.with(leader, |cx| cx.unlock(held)).ok()?;
        let served = |sim: &Sim<Taker>| {
            let granted = sim.apps().map(|(_, taker)| taker.granted);
            // The first holder is among them.
            granted.sum::<u32>() > CROWD
        };
        let done = trying.sim.run_until(bound, served);
        let tokens: Vec<_> = trying.sim.apps().flat_map(|(_, taker)| tokens(taker)).collect();
        let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
        Some(Outcome {
            recovered: done.then(|| trying.sim.now().saturating_since(since)),
            wrong: distinct.len() != tokens.len(),
            ..Outcome::default()
        })
    };
    run().unwrap_or_default()
}

fn tokens(taker: &Taker) -> impl Iterator<Item = u64> {
    taker.told.iter().filter_map(|(_, event)| match *event {
        LockEvent::Granted { token, .. } => Some(token),
        _ => None,
    })
}

/// From the death of the two that do not hold the lock: the group is lost, and so is the lock, when its lease is over. One
/// of those who come back waits for it.
fn two_killed(seed: u64, bound: Duration, ttl: Duration) -> Outcome {
    let run = || {
        let mut trying = Trying::new(seed)?;
        let nodes = [trying.leader, trying.others[0], trying.others[1]];
        let holder = nodes[seed as usize % SIZE];
        trying.take(holder, ttl)?;
        trying.wait_a_while();
        let (killed, free) = (trying.sim.now(), trying.believes_until(holder));
        let victims: Vec<_> = nodes.into_iter().filter(|&node| node != holder).collect();
        for &victim in &victims {
            let down = Duration::from_micros(trying.rng.next_u64() % (BACK_WITHIN_MS * 1_000));
            trying.kill(victim, down);
        }
        let back = Duration::from_millis(BACK_WITHIN_MS);
        trying.sim.run_until(back, |sim| sim.apps().count() == SIZE);
        let running: Vec<_> = trying.sim.apps().map(|(index, _)| index).collect();
        let waiter = running.into_iter().find(|&index| index != holder)?;
        let id = trying.ask(waiter, FOR_GOOD, ttl)?;
        trying.granted(waiter, id, bound);
        // It may have been told before that its group is given up.
        let lost = trying.sim.app(holder).told.iter().find_map(|&(at, ref event)| {
            let over = matches!(event, LockEvent::Lost { .. });
            over.then_some(at)
        });
        let free = lost.map_or(free, |at| at.min(free));
        Some(trying.outcome((waiter, id), killed, free, bound))
    };
    run().unwrap_or_default()
}
