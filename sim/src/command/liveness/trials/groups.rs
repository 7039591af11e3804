//! Groups: how long until an open group whose leader all running voters know has granted a lock that nobody has.

use super::{Outcome, Trial, recovery};
use quorate_core::consensus::{Replica, Role};
use quorate_core::{Event, Group, LockEvent, LockRequest};
use quorate_sim::{App, Config, Cx, Duration, FaultKind, Host, Instant, Link, NodeIndex, Sim, config};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// For ever, as far as a trial goes.
pub(super) const FOR_GOOD: Duration = Duration::from_secs(6 * 3600);
/// Within which time who was killed is started again.
pub(super) const BACK_WITHIN_MS: u64 = 1_000;
/// How long a group may take to elect a leader that its quorum can agree on: ten of the longest election timeouts.
pub(super) fn election() -> Duration {
    config().election_timeout * 2 * 10
}

/// How long a group may take to be founded and to open, where voters have to find each other first.
pub(super) fn founding() -> Duration {
    let config = config();
    let grace = config.max_ttl + config.max_ttl * u32::from(config.drift_permille) / 1_000;
    recovery() + config.found_delay + config.found_wait + grace
}

/// How long a group that lost its quorum may take to be given up and replaced.
pub(super) fn refounding() -> Duration {
    config().max_ttl + config().heartbeat_timeout * 2 + founding()
}

/// How long one step of a rolling update may take: the old process waits for its replacement, and goes.
fn update_step() -> Duration {
    config().leave_wait + config().leave_timeout + recovery()
}

/// What must be left of the group that there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// All: it had a quorum, or all its seats.
    Kept,
    /// Nothing but that tokens go on rising.
    Gone,
    /// Either is right.
    Either,
}

/// An application that takes locks, gives each back at once, and remembers the last token.
#[derive(Debug, Default)]
struct Holder {
    asked: bool,
    token: Option<(Group, u64, Instant)>,
}

impl Holder {
    fn ask(&mut self, cx: &mut Cx<'_>) -> bool {
        // A lock of its own: what its like has left nobody waits for.
        let request = LockRequest::new(format!("at {:?}", cx.true_time()));
        self.token = None;
        self.asked = cx.lock(request).is_ok();
        self.asked
    }
}

impl App for Holder {
    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Lock(LockEvent::Granted { id, token, .. }) => {
                self.asked = false;
                let group = cx.node().replica().group();
                self.token = group.map(|group| (group, token, cx.true_time()));
                // It may be over already, which is told next.
                let _ = cx.unlock(id);
            }
            Event::Lock(LockEvent::Failed { .. }) => self.asked = false,
            _ => {}
        }
    }
}

/// Returns the rows.
pub(super) fn rows() -> Vec<Trial> {
    let mut rows = Vec::new();
    let mut row = |name: String, bound: Duration, run: Box<dyn Fn(u64) -> Outcome + Sync>| {
        rows.push(Trial {
            name: format!("group: {name}"),
            bound,
            run,
        });
    };
    for n in 1..=7 {
        row(
            format!("cold start, {n} of {n}"),
            founding(),
            Box::new(move |seed| cold_start(seed, n, 0, 0)),
        );
    }
    for n in 3..=7 {
        row(
            format!("cold start, {} of {n}", n - 1),
            founding(),
            Box::new(move |seed| cold_start(seed, n, 1, 0)),
        );
    }
    for (n, percent) in [(3, 10), (3, 30), (5, 10), (5, 30)] {
        row(
            format!("cold start, {n} of {n}, {percent} % loss"),
            founding(),
            Box::new(move |seed| cold_start(seed, n, 0, percent * 10)),
        );
    }
    for n in 3..=7 {
        row(
            format!("leader of {n} killed for good"),
            election(),
            Box::new(move |seed| kill(seed, n, Victims::Leader, 0)),
        );
    }
    for n in 1..=5 {
        let q = n / 2 + 1;
        let mut counts = vec![1, q - 1, q, n];
        counts.retain(|&count| count > 0);
        counts.sort_unstable();
        counts.dedup();
        for count in counts {
            row(
                format!("{count} of {n} killed, all back"),
                refounding(),
                Box::new(move |seed| kill(seed, n, Victims::Any(count), count)),
            );
        }
    }
    for (n, killed, back) in [
        // The group goes on with the seats that are left.
        (3, 1, 0),
        (4, 1, 0),
        (5, 1, 0),
        (5, 2, 0),
        (5, 2, 1),
        // Q of all are up again, and found another.
        (3, 2, 1),
        (3, 3, 2),
        (4, 2, 1),
        (4, 4, 3),
        (5, 3, 1),
        (5, 5, 3),
        (5, 5, 4),
    ] {
        row(
            format!("{killed} of {n} killed, {back} back"),
            refounding(),
            Box::new(move |seed| kill(seed, n, Victims::Any(killed), back)),
        );
    }
    for n in [3, 5] {
        let mut at = vec![Step::Stands, Step::HasVotes];
        at.extend((0..n).map(Step::Sent));
        at.extend([Step::Committed, Step::Grace]);
        for step in at {
            row(
                format!("founder of {n} killed {}, and back", step.name()),
                refounding(),
                Box::new(move |seed| founder_dies(seed, n, step)),
            );
        }
    }
    for n in [3, 5] {
        row(
            format!("all {n} isolated for 10 min"),
            recovery() + election(),
            Box::new(move |seed| isolation(seed, n)),
        );
    }
    for n in [3, 5] {
        for surge in [0, 1] {
            for slow in [false, true] {
                let pace = if slow { "slow" } else { "quick" };
                row(
                    format!("rolling update of {n}, surge {surge}, {pace}"),
                    update_step() * n as u32,
                    Box::new(move |seed| rolling_update(seed, n, surge, slow)),
                );
            }
        }
    }
    rows
}

/// A cluster under trial.
struct Trying {
    sim: Sim<Holder>,
    rng: ChaCha8Rng,
    /// The group that was open last, and the highest token.
    before: Option<(Group, u64)>,
}

/// The settings of a voter.
pub(super) fn voter(size: usize, surge: usize) -> Config {
    config()
        .cluster_size(size as u8)
        .surge(surge as u8)
        .seed("cluster.sim")
}

impl Trying {
    /// Voters on hosts of their own, which start within 300 ms and find each other by a name.
    fn new(seed: u64, size: usize, surge: usize) -> Self {
        let builder = Sim::builder().seed(seed).checkers(false).hosts(size);
        let builder = builder.config(move |_, _| voter(size, surge));
        Self {
            sim: builder.build_with(|_| Holder::default()),
            rng: ChaCha8Rng::seed_from_u64(seed),
            before: None,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn ms(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound * 1_000))
    }

    /// Draws so many of the running processes' hosts.
    fn some_hosts(&mut self, count: usize) -> Vec<Host> {
        let mut hosts: Vec<_> = self
            .running()
            .map(|index| self.sim.world().process(index).host)
            .collect();
        for i in (1..hosts.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            hosts.swap(i, j);
        }
        hosts.truncate(count);
        hosts
    }

    fn running(&self) -> impl Iterator<Item = NodeIndex> {
        self.sim.apps().map(|(index, _)| index)
    }

    fn leader(&self) -> Option<NodeIndex> {
        self.running().find(|&index| leads(replica(&self.sim, index)))
    }

    /// Runs until an open group whose leader all running voters know has granted a lock, and returns how long after
    /// `since` it did.
    fn recovered(&mut self, since: Instant, bound: Duration) -> Option<Duration> {
        let end = since + bound;
        loop {
            let left = end.saturating_since(self.sim.now());
            if left.is_zero() || !self.sim.run_until(left, |sim| serving(sim).is_some()) {
                return None;
            }
            let asker = self.running().next()?;
            let asked = self.sim.with_app(asker, Holder::ask);
            if !asked {
                self.sim.run_for(config().consensus_heartbeat);
                continue;
            }
            let left = end.saturating_since(self.sim.now());
            self.sim.run_until(left, |sim| !sim.app(asker).asked);
            if let Some((_, _, at)) = self.sim.app(asker).token {
                return Some(at.saturating_since(since));
            }
        }
    }

    /// As [`Self::recovered`], and looks whether what it came to is right.
    fn outcome(&mut self, since: Instant, bound: Duration, state: State) -> Outcome {
        let recovered = self.recovered(since, bound);
        let token = self
            .running()
            .filter_map(|index| self.sim.app(index).token)
            .map(|(group, token, at)| (at, group, token))
            .max();
        let (before, after) = (self.before, token.map(|(_, group, token)| (group, token)));
        let right = match (before, after) {
            (Some((old, highest)), Some((new, token))) => {
                let as_meant = match state {
                    State::Kept => old == new,
                    State::Gone => old != new,
                    State::Either => true,
                };
                as_meant && token > highest
            }
            _ => true,
        };
        Outcome {
            recovered,
            wrong: recovered.is_some() && !right,
            ..Outcome::default()
        }
    }

    /// Waits for the first group, takes locks, and lets some time pass that differs from seed to seed.
    fn settle(&mut self) -> Option<()> {
        let begin = self.sim.now();
        self.recovered(begin, founding())?;
        self.sim.run_for(Duration::from_secs(10));
        let moment = self.ms(1_000);
        self.sim.run_for(moment);
        let now = self.sim.now();
        self.recovered(now, election())?;
        self.before = self
            .running()
            .filter_map(|index| self.sim.app(index).token)
            .map(|(group, token, _)| (group, token))
            .max_by_key(|&(_, token)| token);
        Some(())
    }
}

fn replica(sim: &Sim<Holder>, index: NodeIndex) -> &Replica {
    sim.node_of(index).replica()
}

pub(super) fn leads(replica: &Replica) -> bool {
    matches!(replica.role(), Some(Role::Leader(_)))
}

/// Returns the leader that all running voters know, if it leads and has opened.
fn serving(sim: &Sim<Holder>) -> Option<NodeIndex> {
    let mut known = None;
    for (index, _) in sim.apps() {
        let replica = replica(sim, index);
        let here = Some((replica.group()?, replica.leader()?));
        if known.is_some() && known != here {
            return None;
        }
        known = here;
    }
    let (_, leader) = known?;
    let index = sim.world().find(leader.node)?;
    let open = || replica(sim, index).machine().is_some_and(|machine| machine.open);
    (sim.is_running(index) && leads(replica(sim, index)) && open()).then_some(index)
}

/// From the first start until there is a group.
fn cold_start(seed: u64, size: usize, missing: usize, loss: u16) -> Outcome {
    let mut trying = Trying::new(seed, size, 0);
    trying.sim.set_link(Link::default().loss(loss));
    for host in 0..missing {
        let host = Host((seed as usize + host) % size);
        trying.sim.inject(FaultKind::Crash { host }, FOR_GOOD);
    }
    let begin = trying.sim.now();
    // Who is not there yet cannot know a leader.
    let there = size - missing;
    trying
        .sim
        .run_until(Duration::from_secs(1), |sim| sim.apps().count() == there);
    trying.outcome(begin, founding(), State::Either)
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victims {
    Leader,
    Any(usize),
}

/// From the moment at which some are killed at once; so many of them are started again, each at a moment of its own.
fn kill(seed: u64, size: usize, victims: Victims, back: usize) -> Outcome {
    let mut trying = Trying::new(seed, size, 0);
    if trying.settle().is_none() {
        return Outcome::default();
    }
    let hosts = match victims {
        Victims::Leader => {
            let leader = trying.leader();
            let host = leader.map(|index| trying.sim.world().process(index).host);
            host.into_iter().collect()
        }
        Victims::Any(count) => trying.some_hosts(count),
    };
    let left = size - hosts.len();
    let killed = trying.sim.now();
    for (i, &host) in hosts.iter().enumerate() {
        let down = if i < back {
            trying.ms(BACK_WITHIN_MS)
        } else {
            FOR_GOOD
        };
        trying.sim.inject(FaultKind::Crash { host }, down);
    }
    // Those who are yet to come cannot know a leader.
    let there = left + back;
    let all = |sim: &Sim<Holder>| sim.apps().count() == there;
    trying.sim.run_until(Duration::from_millis(BACK_WITHIN_MS), all);
    let quorum = size / 2 + 1;
    let (bound, state) = match left >= quorum {
        true if back == 0 => (election(), State::Kept),
        true => (refounding(), State::Kept),
        false => (refounding(), State::Gone),
    };
    trying.outcome(killed, bound, state)
}

/// When the founder dies.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It stands, and has no votes.
    Stands,
    /// It has votes enough, and has not created the group.
    HasVotes,
    /// It has sent `Found` to so many others.
    Sent(usize),
    /// `Found` is committed, and the group is not open.
    Committed,
    /// Some time in the grace, one voter being missing.
    Grace,
}

impl Step {
    fn name(self) -> String {
        match self {
            Self::Stands => "before votes".into(),
            Self::HasVotes => "after Q votes".into(),
            Self::Sent(count) => format!("when Found went to {count}"),
            Self::Committed => "after the commit".into(),
            Self::Grace => "in the grace".into(),
        }
    }
}

/// From the death of a founder, in the first of some runs in which it dies as it should.
fn founder_dies(seed: u64, size: usize, step: Step) -> Outcome {
    const TRIES: u64 = 50;
    let runs = (0..TRIES).map(|another| seed + another * 1_000_003);
    let outcome = runs.map(|seed| try_founder(seed, size, step)).find_map(|it| it);
    outcome.unwrap_or_default()
}

/// Returns `None` if the founder could not be killed where it should.
fn try_founder(seed: u64, size: usize, step: Step) -> Option<Outcome> {
    let mut trying = Trying::new(seed, size, 0);
    let quorum = size / 2 + 1;
    if matches!(step, Step::HasVotes | Step::Grace) {
        // With all votes it would not wait, and with all seats there would be no grace.
        let host = Host(seed as usize % size);
        trying.sim.inject(FaultKind::Crash { host }, FOR_GOOD);
    }
    let founder = match step {
        Step::Stands => trying.await_founder(|votes| votes == 0)?,
        Step::HasVotes => trying.await_founder(|votes| votes + 1 >= quorum)?,
        // The last vote is on its way: with it the group is created at once, and what it sends then is cut off.
        Step::Sent(count) => trying.await_founding(size, size - 1 - count)?,
        // One is deaf: with all answers the group would open at once.
        Step::Committed => trying.await_founding(size, 1)?,
        Step::Grace => trying.await_leader(|replica| replica.commit() > 0)?,
    };
    if let Step::Committed = step {
        let leads = trying.await_leader(|replica| replica.commit() > 0)?;
        let open = replica(&trying.sim, leads)
            .machine()
            .is_some_and(|machine| machine.open);
        if leads != founder || open {
            return None;
        }
    }
    if let Step::Grace = step {
        let max_ttl = config().max_ttl.as_millis() as u64;
        let after = trying.ms(max_ttl);
        trying.sim.run_for(after);
    }
    let host = trying.sim.world().process(founder).host;
    let killed = trying.sim.now();
    let down = trying.ms(BACK_WITHIN_MS);
    trying.sim.inject(FaultKind::Crash { host }, down);
    trying.sim.run_for(down);
    if let Step::Sent(_) | Step::Committed = step {
        trying.sim.heal();
    }
    Some(trying.outcome(killed, refounding(), State::Either))
}

impl Trying {
    /// Runs until somebody stands as a founder with so many votes of others.
    fn await_founder(&mut self, enough: impl Fn(usize) -> bool) -> Option<NodeIndex> {
        let stands = |sim: &Sim<Holder>| {
            let votes = |index| {
                let founding = replica(sim, index).founding();
                founding.standing().map(|(_, votes)| votes.count())
            };
            let mut all = sim.apps().map(|(index, _)| index);
            all.find(|&index| votes(index).is_some_and(&enough))
        };
        let found = self.sim.run_until(recovery(), |sim| stands(sim).is_some());
        found.then(|| stands(&self.sim)).flatten()
    }

    /// Runs until somebody leads.
    fn await_leader(&mut self, holds: impl Fn(&Replica) -> bool) -> Option<NodeIndex> {
        let right = |sim: &Sim<Holder>| {
            let mut all = sim.apps().map(|(index, _)| index);
            all.find(|&index| leads(replica(sim, index)) && holds(replica(sim, index)))
        };
        let found = self.sim.run_until(founding(), |sim| right(sim).is_some());
        found.then(|| right(&self.sim)).flatten()
    }

    /// Runs until a group of all voters is created, and sees to it that so many of the others hear nothing of it.
    fn await_founding(&mut self, size: usize, deaf: usize) -> Option<NodeIndex> {
        let founder = self.await_founder(|votes| votes + 2 == size)?;
        let others: Vec<_> = self.running().filter(|&index| index != founder).collect();
        for &other in others.iter().take(deaf) {
            self.sim.cut_one_way(founder, other);
        }
        let at_once = config().consensus_heartbeat;
        let created = |sim: &Sim<Holder>| leads(replica(sim, founder));
        let as_meant = self.sim.run_until(at_once, created)
            && replica(&self.sim, founder)
                .seats()
                .is_some_and(|seats| seats.len() == size);
        as_meant.then_some(founder)
    }
}

/// From the end of a time in which nobody reached anybody.
fn isolation(seed: u64, size: usize) -> Outcome {
    const CUT: Duration = Duration::from_secs(600);
    let mut trying = Trying::new(seed, size, 0);
    if trying.settle().is_none() {
        return Outcome::default();
    }
    let all: Vec<_> = trying.running().collect();
    for (i, &a) in all.iter().enumerate() {
        for &b in &all[i + 1..] {
            trying.sim.cut(a, b);
        }
    }
    trying.sim.run_for(CUT);
    // Who still had a leader was not isolated.
    let as_meant = trying.leader().is_none();
    let healed = trying.sim.now();
    trying.sim.heal();
    let outcome = trying.outcome(healed, recovery() + election(), State::Kept);
    Outcome {
        recovered: outcome.recovered.filter(|_| as_meant),
        ..outcome
    }
}

/// From the beginning of an update in which one process after the other is replaced, until all new ones are served.
fn rolling_update(seed: u64, size: usize, surge: usize, slow: bool) -> Outcome {
    let mut trying = Trying::new(seed, size, surge);
    if trying.settle().is_none() {
        return Outcome::default();
    }
    let begin = trying.sim.now();
    let old: Vec<_> = trying.running().collect();
    // With a surge the first new process has a host more, and each other one the host of who went before.
    let mut free = None;
    for index in old {
        let addr = trying.sim.addr(index);
        let settings = voter(size, surge);
        let first = (surge > 0).then(|| match free {
            Some(addr) => trying.sim.start_at(addr, settings.clone()),
            None => trying.sim.start(settings.clone()),
        });
        trying.await_settled(first.filter(|_| slow));
        trying.sim.with(index, |cx| cx.leave());
        let gone = trying.sim.run_until(update_step(), |sim| !sim.is_running(index));
        if !gone {
            return Outcome::default();
        }
        free = Some(addr);
        let new = (surge == 0).then(|| trying.sim.start_at(addr, settings));
        trying.await_settled(new.filter(|_| slow));
    }
    trying.outcome(begin, update_step() * size as u32, State::Kept)
}

impl Trying {
    /// Runs until a voter is of use to its group, as those ask who update slowly.
    fn await_settled(&mut self, index: Option<NodeIndex>) {
        if let Some(index) = index {
            self.sim
                .run_until(update_step(), |sim| sim.node_of(index).is_settled());
        }
    }
}
