//! A cluster of three voters, and what scripts do with it and see of it.

use super::{Done, ensure, ms, secs};
use crate::app::{App, Cx};
use crate::fault::Host;
use crate::schedule::Schedule;
use crate::sim::Sim;
use crate::world::NodeIndex;
use quorate_core::locks::Table;
use quorate_core::{
    Config, Duration, Event, Instant, LockError, LockEvent, LockFilter, LockId, LockPage, LockRequest,
    LockRow,
};

/// How many voters there are.
pub(super) const NODES: usize = 3;

/// Within which time whatever nothing is in the way of is done: some deliveries and quorum rounds.
pub(super) const AT_ONCE: Duration = ms(100);

/// The users of one process: they remember what they are told of locks, and may contend for one.
#[derive(Debug, Default)]
pub(super) struct User {
    told: Vec<(Instant, LockEvent)>,
    pub(super) contender: Option<Contender>,
}

/// A user that asks for one lock again and again.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) request: LockRequest,
    pub(super) hold: Duration,
    /// In true time: from then on it asks no more.
    pub(super) until: Instant,
    /// What is open, and since when, in true time.
    pub(super) open: Option<(LockId, Instant)>,
    pub(super) held: Option<LockId>,
    pub(super) granted: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
    pub(super) longest: Duration,
}

impl Contender {
    pub(super) const fn new(request: LockRequest, hold: Duration, until: Instant) -> Self {
        Self {
            request,
            hold,
            until,
            open: None,
            held: None,
            granted: 0,
            failed: 0,
            lost: 0,
            longest: Duration::ZERO,
        }
    }

    pub(super) fn ask(&mut self, cx: &mut Cx<'_>) {
        if cx.true_time() < self.until {
            match cx.lock(self.request.clone()) {
                Ok(id) => self.open = Some((id, cx.true_time())),
                Err(error) => cx.fail(format!("a lock was refused: {error}")),
            }
        }
    }

    fn event(&mut self, cx: &mut Cx<'_>, event: &LockEvent) {
        match *event {
            LockEvent::Granted { id, .. } => {
                if let Some((of, since)) = self.open.take()
                    && of == id
                {
                    self.longest = self.longest.max(cx.true_time().saturating_since(since));
                }
                self.granted += 1;
                self.held = Some(id);
                cx.set_timer_in(self.hold);
            }
            LockEvent::Failed { .. } => {
                self.failed += 1;
                self.open = None;
                self.ask(cx);
            }
            LockEvent::Lost { .. } => {
                self.lost += 1;
                self.held = None;
                self.ask(cx);
            }
            LockEvent::Released { .. } => {
                self.held = None;
                self.ask(cx);
            }
            _ => {}
        }
    }
}

impl App for User {
    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Lock(event) = event else { return };
        match &mut self.contender {
            Some(contender) => contender.event(cx, &event),
            None => self.told.push((cx.true_time(), event)),
        }
    }

    fn timeout(&mut self, cx: &mut Cx<'_>) {
        if let Some(contender) = &self.contender
            && let Some(id) = contender.held
            && let Err(error) = cx.unlock(id)
        {
            cx.fail(format!("a lock that is held cannot be given back: {error}"));
        }
    }
}

/// A lock that somebody was told it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) node: NodeIndex,
    pub(super) id: LockId,
    /// In true time.
    pub(super) at: Instant,
    pub(super) token: u64,
    /// Until when it was first believed in, on the holder's clock.
    pub(super) until: Instant,
}

/// The cluster.
pub(super) struct Stage {
    pub(super) sim: Sim<User>,
}

impl Stage {
    pub(super) fn new(seed: u64, cluster_size: u8, checkers: bool) -> Self {
        let schedule = Schedule {
            cluster_size,
            ..Schedule::calm(seed, NODES)
        };
        let builder = Sim::builder()
            .schedule(schedule)
            .collect_violations()
            .checkers(checkers);
        Self {
            sim: builder.build_with(|_| User::default()),
        }
    }

    /// The settings of all members.
    pub(super) fn config(&self) -> &Config {
        &self.sim.world().process(NodeIndex(0)).config
    }

    /// How long a lease counts at the leader, at most.
    pub(super) fn lease(&self, ttl: Duration) -> Duration {
        ttl + ttl * u32::from(self.config().drift_permille) / 1_000 + ms(10)
    }

    /// Within which time a leader that was lost is replaced: four of the longest election timeouts.
    pub(super) fn election(&self) -> Duration {
        self.config().election_timeout * 2 * 4
    }

    /// Within which time a leader is replaced that is gone for good, where there is no quorum: it has to be taken for
    /// failed, not to be heard of by hearsay either, and then everybody has to be told.
    pub(super) fn takeover(&self) -> Duration {
        let config = self.config();
        config.heartbeat_timeout * 2 + config.election_timeout * 4 + config.heartbeat_interval * 4
    }

    /// Returns whom all that run follow, if that is one leader who serves.
    pub(super) fn followed(&self) -> Option<NodeIndex> {
        let leader = self.leader().ok()?;
        let id = self.sim.id(leader);
        let follows = |node| {
            let replica = self.sim.node_of(node).replica();
            replica.leader().is_some_and(|life| life.node == id)
        };
        self.running().all(follows).then_some(leader)
    }

    /// Waits until all voters run, follow one leader, and all of them have seats in an open group.
    pub(super) fn settle(&mut self) -> Done {
        self.sim.run_for(ms(500));
        self.until("there is an open group of all", secs(60), |stage| {
            let leader = stage.leader().ok();
            let replicas = stage.running().map(|node| stage.sim.node_of(node).replica());
            let settled = replicas
                .filter(|replica| {
                    let leader = leader.map(|leader| stage.sim.id(leader));
                    let seated = replica.is_seated() || replica.rules().is_best_effort();
                    seated && replica.leader().map(|life| life.node) == leader
                })
                .count();
            leader.is_some() && settled == NODES
        })
    }

    /// Runs until something holds.
    pub(super) fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Done {
        let end = self.sim.now() + within;
        while !holds(self) {
            if !self.sim.step(end) && !holds(self) {
                return Err(format!("after {within:?} it does not hold that {what}"));
            }
        }
        Ok(())
    }

    pub(super) fn running(&self) -> impl Iterator<Item = NodeIndex> {
        self.sim.apps().map(|(index, _)| index)
    }

    /// Returns who leads an open group and answers.
    pub(super) fn leader(&self) -> Done<NodeIndex> {
        let serves = |node: &NodeIndex| {
            let replica = self.sim.node_of(*node).replica();
            let open = replica.machine().is_some_and(|machine| machine.open);
            let answers = |it: &quorate_core::consensus::Leadership| it.leases().serves();
            open && replica.leadership().is_some_and(answers)
        };
        self.running()
            .find(serves)
            .ok_or_else(|| "nobody leads".to_owned())
    }

    /// Returns the other two.
    pub(super) fn followers(&self) -> Done<[NodeIndex; 2]> {
        let leader = self.leader()?;
        let mut others = self.running().filter(|&node| node != leader);
        match (others.next(), others.next()) {
            (Some(a), Some(b)) => Ok([a, b]),
            _ => Err("fewer than three run".to_owned()),
        }
    }

    pub(super) fn host(&self, node: NodeIndex) -> Host {
        self.sim.world().process(node).host
    }

    /// Returns the process that runs on a host.
    pub(super) fn on(&self, host: Host) -> Done<NodeIndex> {
        let mut running = self.running();
        let found = running.find(|&node| self.host(node) == host);
        found.ok_or_else(|| format!("nothing runs on host {}", host.0))
    }

    /// Returns the table of a replica.
    pub(super) fn table(&self, node: NodeIndex) -> Done<&Table> {
        let machine = self.sim.node_of(node).replica().machine();
        machine
            .map(|machine| &machine.table)
            .ok_or_else(|| format!("{node} has no table"))
    }

    /// Returns the tokens by which a lock is held, as the leader knows.
    pub(super) fn tokens(&self, key: &str) -> Done<Vec<u64>> {
        let lock = self.table(self.leader()?)?.lock(key);
        let tokens = lock.into_iter().flat_map(|lock| lock.holders());
        Ok(tokens.map(|(token, _)| token).collect())
    }

    pub(super) fn waiting(&self, key: &str) -> usize {
        let leader = self.leader().and_then(|leader| self.table(leader));
        leader.map_or(0, |table| table.lock(key).map_or(0, |lock| lock.waiting()))
    }

    /// Returns the group's token counter, as the leader knows.
    pub(super) fn counter(&self) -> Done<u64> {
        let machine = self.sim.node_of(self.leader()?).replica().machine();
        machine
            .map(|machine| machine.counter)
            .ok_or_else(|| "the leader has no table".to_owned())
    }

    pub(super) fn ask(&mut self, node: NodeIndex, request: LockRequest) -> Done<LockId> {
        let what = format!("{request:?}");
        let asked = self.sim.with(node, |cx| cx.lock(request));
        asked.map_err(|error| format!("{what} is refused: {error}"))
    }

    pub(super) fn give_back(&mut self, node: NodeIndex, id: LockId) -> Done {
        let done = self.sim.with(node, |cx| cx.unlock(id));
        done.map_err(|error| format!("{node} cannot give back {id:?}: {error}"))
    }

    /// Returns what a process was told of locks since it started.
    pub(super) fn told(&self, node: NodeIndex) -> &[(Instant, LockEvent)] {
        &self.sim.app(node).told
    }

    pub(super) fn grant(&self, node: NodeIndex, id: LockId) -> Option<Grant> {
        self.told(node)
            .iter()
            .rev()
            .find_map(|&(at, ref event)| match *event {
                LockEvent::Granted {
                    id: of, token, until, ..
                } if of == id => Some(Grant {
                    node,
                    id,
                    at,
                    token,
                    until,
                }),
                _ => None,
            })
    }

    pub(super) fn failure(&self, node: NodeIndex, id: LockId) -> Option<LockError> {
        self.told(node).iter().rev().find_map(|(_, event)| match *event {
            LockEvent::Failed { id: of, error } if of == id => Some(error),
            _ => None,
        })
    }

    /// Returns whether a process was told that it has this lock, and not yet that it has it no longer.
    pub(super) fn holds(&self, grant: Grant) -> bool {
        let ended = self.told(grant.node).iter().any(|(_, event)| {
            matches!(*event, LockEvent::Lost { id, .. } | LockEvent::Released { id } if id == grant.id)
        });
        !ended
    }

    /// Returns until when a process may believe in a lock, on its clock: the newest that it was told.
    pub(super) fn believes_until(&self, grant: Grant) -> Instant {
        let renewed = self
            .told(grant.node)
            .iter()
            .filter_map(|(_, event)| match *event {
                LockEvent::Renewed { id, until } if id == grant.id => Some(until),
                _ => None,
            });
        renewed.fold(grant.until, Instant::max)
    }

    /// Runs until a request is granted.
    pub(super) fn granted(&mut self, node: NodeIndex, id: LockId, within: Duration) -> Done<Grant> {
        let what = format!("{node} is granted {id:?}");
        self.until(&what, within, |stage| stage.grant(node, id).is_some())?;
        self.grant(node, id).ok_or(what)
    }

    /// Runs until a request fails.
    pub(super) fn failed(&mut self, node: NodeIndex, id: LockId, within: Duration) -> Done<LockError> {
        let what = format!("the request {id:?} of {node} fails");
        self.until(&what, within, |stage| stage.failure(node, id).is_some())?;
        self.failure(node, id).ok_or(what)
    }

    /// Takes a lock that nobody has.
    pub(super) fn take(&mut self, node: NodeIndex, request: LockRequest) -> Done<Grant> {
        let id = self.ask(node, request)?;
        self.granted(node, id, AT_ONCE)
    }

    /// Asks for a lock that somebody has, and runs until the leader has put the request into the queue.
    pub(super) fn queue(&mut self, node: NodeIndex, request: LockRequest) -> Done<LockId> {
        let key = request.key.clone();
        let before = self.waiting(&key);
        let id = self.ask(node, request)?;
        let what = format!("{node} waits for {key}");
        self.until(&what, AT_ONCE, |stage| stage.waiting(&key) > before)?;
        Ok(id)
    }

    /// Runs until nothing is left of a lock.
    pub(super) fn nothing_left(&mut self, key: &str, within: Duration) -> Done {
        let what = format!("nothing is left of {key}");
        self.until(&what, within, |stage| {
            let table = stage.leader().and_then(|leader| stage.table(leader));
            table.is_ok_and(|table| table.lock(key).is_none())
        })
    }

    /// Lets these ask at the same instant, and each keep what it gets for `hold`. Returns the grants in their order; no
    /// two overlap, tokens rise, and each is there within `bound`, counted from when nothing is in its way.
    pub(super) fn all_at_once(
        &mut self,
        nodes: &[NodeIndex],
        request: &LockRequest,
        hold: Duration,
        bound: Duration,
    ) -> Done<Vec<Grant>> {
        let mut open = Vec::new();
        for &node in nodes {
            open.push((node, self.ask(node, request.clone())?));
        }
        let mut grants: Vec<Grant> = Vec::new();
        while !open.is_empty() {
            let waiting = open.clone();
            let any = |stage: &Self| waiting.iter().any(|&(node, id)| stage.grant(node, id).is_some());
            self.until("one of those who wait is served", bound, any)?;
            let served = waiting.iter().filter_map(|&(node, id)| self.grant(node, id));
            let served: Vec<_> = served.collect();
            ensure(served.len() == 1, || format!("{served:?} have the lock"))?;
            let grant = served[0];
            self.sim.run_for(hold);
            let others = waiting
                .iter()
                .filter(|&&(_, id)| id != grant.id || nodes.len() == 1);
            let other = others.filter(|&&(node, _)| node != grant.node);
            let early = other.filter_map(|&(node, id)| self.grant(node, id)).next();
            ensure(early.is_none(), || {
                format!("{early:?} is granted while {grant:?} is held")
            })?;
            ensure(self.holds(grant), || format!("{grant:?} is lost"))?;
            if let Some(last) = grants.last() {
                ensure(last.token < grant.token, || {
                    format!("{grant:?} comes after {last:?}")
                })?;
            }
            grants.push(grant);
            self.give_back(grant.node, grant.id)?;
            open.retain(|&(node, id)| (node, id) != (grant.node, grant.id));
        }
        Ok(grants)
    }

    /// Asks for one page.
    pub(super) fn page(
        &mut self,
        node: NodeIndex,
        filter: LockFilter,
        after: Option<quorate_core::LockCursor>,
    ) -> Done<LockPage> {
        let asked = self.sim.with(node, |cx| cx.list_locks(filter, after));
        let id = asked.map_err(|error| format!("{node} may not list locks: {error}"))?;
        let find = |stage: &Self| {
            let mut told = stage.told(node).iter();
            told.find_map(|(_, event)| match event {
                LockEvent::Listed { id: of, page } if *of == id => Some(page.clone()),
                _ => None,
            })
        };
        let what = format!("{node} is told which locks there are");
        self.until(&what, secs(2), |stage| find(stage).is_some())?;
        find(self).ok_or(what)
    }

    /// Asks for all pages.
    pub(super) fn list(&mut self, node: NodeIndex, filter: &LockFilter) -> Done<Vec<LockRow>> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(node, filter.clone(), after)?;
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }
}
