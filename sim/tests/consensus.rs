//! Groups: founding, opening, elections, seats, and what becomes of a group that loses its quorum.

use quorate_core::consensus::{Replica, Role as Part};
use quorate_core::{AbandonReason, ConsensusProblem, ConsensusStatus, FoundingRefusal, Group};
use quorate_sim::{Config, Duration, Event, FaultKind, Instant, Link, NodeIndex, Role, Sim, config};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A lease and the bound on drift.
const GRACE: Duration = Duration::from_millis(30_300);

/// Some voters of a cluster, each on a host of its own; whoever comes finds the others by the addresses of all.
struct Cluster {
    sim: Sim,
    size: u8,
    nodes: Vec<NodeIndex>,
    /// Adjusts the settings of everybody.
    adjust: fn(Config) -> Config,
}

impl Cluster {
    fn new(seed: u64, size: u8, count: usize) -> Self {
        Self::with(seed, size, count, |config| config)
    }

    fn with(seed: u64, size: u8, count: usize, adjust: fn(Config) -> Config) -> Self {
        let mut cluster = Self {
            sim: Sim::new(seed),
            size,
            nodes: Vec::new(),
            adjust,
        };
        for _ in 0..count {
            cluster.start();
        }
        cluster
    }

    /// With a group that is open.
    fn open(seed: u64, size: u8) -> Self {
        let mut cluster = Self::new(seed, size, usize::from(size));
        assert!(
            cluster.runs_until(secs(10), Self::is_open),
            "seed {seed}: no group"
        );
        cluster
    }

    fn settings(&self) -> Config {
        let next = self.sim.next_addr().to_string();
        let known = self.nodes.iter().map(|&node| self.sim.addr(node).to_string());
        let config = known.fold(config(), |config, addr| config.seed(addr));
        let config = if self.nodes.is_empty() {
            config.seed(next)
        } else {
            config
        };
        (self.adjust)(config.cluster_size(self.size))
    }

    fn start(&mut self) -> NodeIndex {
        let settings = self.settings();
        self.start_with(settings)
    }

    fn start_with(&mut self, settings: Config) -> NodeIndex {
        let node = self.sim.start(settings);
        self.nodes.push(node);
        node
    }

    /// Kills a process, and starts another in its place at once if `back`.
    fn kill(&mut self, node: NodeIndex) {
        self.sim.crash(node);
        self.nodes.retain(|&other| other != node);
    }

    /// Starts a process where another one was.
    fn start_again(&mut self, node: NodeIndex) -> NodeIndex {
        let settings = self.settings();
        let addr = self.sim.addr(node);
        let node = self.sim.start_at(addr, settings);
        self.nodes.push(node);
        node
    }

    /// Lets a process leave, and returns how long that took.
    fn leave(&mut self, node: NodeIndex) -> Duration {
        let begin = self.sim.now();
        self.sim.with(node, |cx| cx.leave());
        assert!(
            self.sim.run_until(secs(20), |sim| !sim.is_running(node)),
            "it goes"
        );
        self.nodes.retain(|&other| other != node);
        self.sim.now().saturating_since(begin)
    }

    fn runs_until(&mut self, limit: Duration, holds: fn(&Self) -> bool) -> bool {
        let end = self.sim.now() + limit;
        while !holds(self) {
            if self.sim.now() >= end {
                return false;
            }
            self.sim.run_for(ms(5));
        }
        true
    }

    fn replica(&self, node: NodeIndex) -> &Replica {
        self.sim.node_of(node).replica()
    }

    fn status(&self, node: NodeIndex) -> ConsensusStatus {
        let local = self.sim.now();
        self.sim.node_of(node).status(local).consensus
    }

    /// The leader that all voters know.
    fn leader(&self) -> Option<NodeIndex> {
        let first = *self.nodes.first()?;
        let known = (self.replica(first).group()?, self.replica(first).leader()?);
        let agree = |&node: &NodeIndex| {
            let replica = self.replica(node);
            replica.group() == Some(known.0) && replica.leader() == Some(known.1)
        };
        let leads = |&node: &NodeIndex| matches!(self.replica(node).role(), Some(Part::Leader(_)));
        let leader = self
            .nodes
            .iter()
            .copied()
            .find(|&node| self.sim.id(node) == known.1.node && leads(&node));
        leader.filter(|_| self.nodes.iter().all(agree))
    }

    fn is_open(&self) -> bool {
        let open = |&node: &NodeIndex| self.replica(node).machine().is_some_and(|machine| machine.open);
        self.leader().is_some() && self.nodes.iter().all(open)
    }

    fn is_seated(&self) -> bool {
        self.leader().is_some() && self.nodes.iter().all(|&node| self.replica(node).is_seated())
    }

    fn group(&self) -> Group {
        self.replica(self.nodes[0]).group().expect("a group")
    }

    /// Draws a token, which must be granted.
    fn token(&mut self) -> u64 {
        let asker = *self.nodes.last().expect("somebody runs");
        self.draw(asker).expect("a token")
    }

    fn draw(&mut self, asker: NodeIndex) -> Result<u64, String> {
        let id = self.sim.with(asker, |cx| cx.draw_token());
        let id = id.map_err(|error| error.to_string())?;
        let outcome = |sim: &Sim| {
            sim.events(asker)
                .iter()
                .rev()
                .find_map(|(_, event)| match *event {
                    Event::TokenDrawn { id: of, token, .. } if of == id => Some(Ok(token)),
                    Event::TokenFailed { id: of, error } if of == id => Some(Err(error.to_string())),
                    _ => None,
                })
        };
        self.sim.run_until(secs(10), |sim| outcome(sim).is_some());
        outcome(&self.sim).expect("every request has an outcome")
    }

    fn happened(&self, node: NodeIndex, what: impl Fn(&Event) -> bool) -> Option<Instant> {
        let events = self.sim.events(node).iter();
        events.rev().find(|(_, event)| what(event)).map(|&(at, _)| at)
    }
}

#[test]
fn who_start_together_open_within_seconds() {
    for size in 1..=7 {
        for seed in 0..20 {
            let mut cluster = Cluster::new(seed, size, usize::from(size));
            assert!(
                cluster.runs_until(secs(2), Cluster::is_open),
                "{size} voters, seed {seed}"
            );
            assert!(cluster.token() < cluster.token());
        }
    }
}

/// Nothing is waited for once the last of them has stored the group's beginning, not even the next heartbeat.
#[test]
fn a_new_group_opens_as_soon_as_all_have_stored_its_beginning() {
    for seed in 0..30 {
        let mut cluster = Cluster::new(seed, 3, 3);
        assert!(cluster.runs_until(secs(2), Cluster::is_seated), "seed {seed}");
        let seated = cluster.sim.now();
        assert!(cluster.runs_until(secs(2), Cluster::is_open), "seed {seed}");
        let waited = cluster.sim.now().saturating_since(seated);
        // A heartbeat is 100 ms; the way there and back takes less than 20.
        assert!(waited <= ms(40), "seed {seed}: {waited:?}");
    }
}

/// All stand still at once, as on a machine that does: whoever stored the group's beginning has not had the time to hear
/// that it is decided. It is not given up for that: a group with other lives than those it began with waits for the grace.
#[test]
fn a_pause_of_all_while_a_group_is_founded_costs_no_grace() {
    for seed in 0..10 {
        let local = || Cluster::with(seed, 3, 3, Config::local);
        let mut observed = local();
        let begin = observed.sim.now();
        let founded = |cluster: &Cluster| {
            let mut replicas = cluster.nodes.iter().map(|&node| cluster.replica(node));
            replicas.any(|replica| replica.group().is_some())
        };
        while !founded(&observed) {
            observed.sim.run_for(ms(1));
        }
        let founded = observed.sim.now() - begin;
        for early in 0..8 {
            for pause in [350, 450, 550] {
                let mut cluster = local();
                cluster.sim.run_for(founded + ms(4) - ms(early));
                for &node in &cluster.nodes {
                    cluster.sim.pause(node);
                }
                cluster.sim.run_for(ms(pause));
                for &node in &cluster.nodes {
                    cluster.sim.resume(node);
                }
                assert!(
                    cluster.runs_until(secs(5), Cluster::is_open),
                    "seed {seed}, {early} ms, {pause} ms"
                );
            }
        }
    }
}

#[test]
fn duels_under_loss_end() {
    for (size, loss) in [(2, 100), (3, 100), (3, 300), (5, 100), (5, 300)] {
        for seed in 0..10 {
            let mut cluster = Cluster::new(seed, size, 0);
            cluster.sim.set_link(Link::default().loss(loss));
            for _ in 0..size {
                cluster.start();
            }
            assert!(
                cluster.runs_until(secs(100), Cluster::is_open),
                "{size} voters, {loss} of 1,000 lost, seed {seed}"
            );
        }
    }
}

#[test]
fn with_one_missing_the_grace_is_waited_for() {
    for size in 3..=5 {
        let mut cluster = Cluster::new(u64::from(size), size, usize::from(size) - 1);
        assert!(cluster.runs_until(secs(10), |cluster| cluster.leader().is_some()));
        let begin = cluster.sim.now();
        let leader = cluster.leader().expect("it was just there");
        assert_eq!(cluster.status(leader).problem, Some(ConsensusProblem::Grace));
        assert_eq!(cluster.draw(leader), Err("the group is not open".into()));
        assert!(cluster.runs_until(secs(60), Cluster::is_open));
        let waited = cluster.sim.now().saturating_since(begin);
        assert!((GRACE - ms(200)..GRACE + ms(200)).contains(&waited), "{waited:?}");
    }
}

#[test]
fn fewer_than_a_quorum_found_nothing_and_say_so() {
    let mut cluster = Cluster::new(1, 5, 2);
    cluster.sim.run_for(secs(60));
    for &node in &cluster.nodes {
        let status = cluster.status(node);
        assert_eq!(status.group, None);
        assert_eq!(
            status.problem,
            Some(ConsensusProblem::TooFewVoters { ready: 2, needed: 3 })
        );
    }
}

#[test]
fn a_leader_that_dies_is_replaced_and_so_is_its_seat() {
    for seed in 0..10 {
        let mut cluster = Cluster::open(seed, 3);
        let (group, before) = (cluster.group(), cluster.token());
        let leader = cluster.leader().expect("it is open");
        cluster.kill(leader);
        assert!(
            cluster.runs_until(secs(3), |cluster| cluster.leader().is_some()),
            "seed {seed}"
        );
        let between = cluster.token();
        cluster.start();
        assert!(cluster.runs_until(secs(20), Cluster::is_seated), "seed {seed}");
        assert_eq!(cluster.group(), group);
        assert!(before < between && between < cluster.token());
    }
}

#[test]
fn who_starts_while_a_group_exists_founds_no_other() {
    let mut cluster = Cluster::open(3, 3);
    let group = cluster.group();
    let mut founded = 0;
    for _ in 0..10 {
        let old = cluster.nodes[1];
        cluster.kill(old);
        let new = cluster.start_again(old);
        cluster.sim.run_for(secs(3));
        founded += cluster.sim.node_of(new).stats().groups_founded;
        assert!(cluster.runs_until(secs(20), Cluster::is_seated));
    }
    assert_eq!((cluster.group(), founded), (group, 0));
}

#[test]
fn a_group_that_lost_its_quorum_for_good_is_founded_anew() {
    for (seed, elsewhere) in [
        (0, false),
        (1, false),
        (2, false),
        (0, true),
        (1, true),
        (2, true),
    ] {
        let mut cluster = Cluster::open(seed, 3);
        let (group, before) = (cluster.group(), cluster.token());
        let (b, c) = (cluster.nodes[1], cluster.nodes[2]);
        cluster.kill(b);
        cluster.kill(c);
        cluster.sim.run_for(secs(1));
        if elsewhere {
            cluster.start();
            cluster.start();
        } else {
            cluster.start_again(b);
            cluster.start_again(c);
        }
        assert!(cluster.runs_until(secs(80), Cluster::is_open), "seed {seed}");
        assert_ne!(cluster.group(), group);
        assert!(before < cluster.token(), "tokens rise across groups");
        let survivor = cluster.nodes[0];
        assert!(
            cluster
                .happened(survivor, |event| matches!(event, Event::GroupAbandoned { .. }))
                .is_some()
        );
    }
}

#[test]
fn after_a_total_restart_tokens_rise() {
    for size in 1..=5 {
        let mut cluster = Cluster::open(4, size);
        let before = cluster.token();
        for node in cluster.nodes.clone() {
            cluster.kill(node);
            cluster.start_again(node);
        }
        assert!(cluster.runs_until(secs(20), Cluster::is_open), "{size} voters");
        assert!(before < cluster.token());
    }
}

#[test]
fn restart_storms_are_recovered_from() {
    for seed in 0..3 {
        let mut cluster = Cluster::open(seed, 5);
        let mut before = cluster.token();
        for round in 0..15_usize {
            cluster.sim.run_for(ms(700 + 97 * seed * (round as u64 % 5)));
            for i in 0..2 {
                let node = cluster.nodes[(round + i) % 5];
                cluster.kill(node);
                cluster.start_again(node);
            }
        }
        assert!(cluster.runs_until(secs(150), Cluster::is_open), "seed {seed}");
        let after = cluster.token();
        assert!(before < after);
        before = after;
        assert!(cluster.runs_until(secs(30), Cluster::is_seated), "seed {seed}");
        assert!(before < cluster.token());
    }
}

#[test]
fn isolation_of_all_keeps_the_state() {
    let mut cluster = Cluster::open(6, 3);
    let (group, before) = (cluster.group(), cluster.token());
    let nodes = cluster.nodes.clone();
    for &node in &nodes {
        let others: Vec<_> = nodes.iter().copied().filter(|&other| other != node).collect();
        cluster.sim.partition(&[node], &others);
    }
    cluster.sim.run_for(secs(600));
    for &node in &nodes {
        let status = cluster.status(node);
        assert_eq!(
            status.problem,
            Some(ConsensusProblem::NoQuorum {
                answering: 1,
                needed: 2
            })
        );
        assert!(status.orphaned);
    }
    cluster.sim.heal();
    assert!(cluster.runs_until(secs(90), Cluster::is_open));
    assert_eq!(cluster.group(), group);
    let next = cluster.token();
    assert!(before < next && next < before + 10, "the counter went on");
}

#[test]
fn a_paused_leader_is_replaced_and_does_not_come_back_as_one() {
    let mut cluster = Cluster::open(2, 3);
    let (group, paused) = (cluster.group(), cluster.leader().expect("it is open"));
    let term = cluster.replica(paused).term();
    cluster.sim.pause(paused);
    cluster.sim.run_for(secs(5));
    cluster.sim.resume(paused);
    assert!(cluster.runs_until(secs(5), Cluster::is_open));
    let leader = cluster.leader().expect("it is open");
    assert_ne!(leader, paused);
    assert_eq!(cluster.group(), group);
    assert!(cluster.replica(leader).term() > term);
}

#[test]
fn who_was_cut_off_disturbs_no_term_when_it_comes_back() {
    let mut cluster = Cluster::open(5, 3);
    let leader = cluster.leader().expect("it is open");
    let cut = *cluster
        .nodes
        .iter()
        .find(|&&node| node != leader)
        .expect("three nodes");
    let others: Vec<_> = cluster
        .nodes
        .iter()
        .copied()
        .filter(|&node| node != cut)
        .collect();
    cluster.sim.partition(&[cut], &others);
    // Longer than its seat is kept for it: it comes back without one.
    cluster.sim.run_for(secs(20));
    let term = cluster.replica(leader).term();
    assert_eq!(
        cluster.replica(cut).term(),
        term,
        "it only asked whether it could be elected"
    );
    cluster.sim.heal();
    assert!(cluster.runs_until(secs(60), Cluster::is_seated));
    assert_eq!(
        (cluster.leader(), cluster.replica(leader).term()),
        (Some(leader), term)
    );
}

#[test]
fn a_leader_that_cannot_reach_its_followers_steps_down() {
    let mut cluster = Cluster::open(5, 3);
    let leader = cluster.leader().expect("it is open");
    let others: Vec<_> = cluster
        .nodes
        .iter()
        .copied()
        .filter(|&node| node != leader)
        .collect();
    cluster.sim.partition(&[leader], &others);
    cluster.sim.run_for(secs(2));
    assert!(!matches!(cluster.replica(leader).role(), Some(Part::Leader(_))));
}

#[test]
fn a_polite_leader_hands_over_at_once() {
    for seed in 0..5 {
        let mut cluster = Cluster::open(seed, 3);
        let (group, leader) = (cluster.group(), cluster.leader().expect("it is open"));
        cluster.sim.run_for(secs(1));
        let took = cluster.leave(leader);
        assert!(
            took < ms(400),
            "seed {seed}: less than an election timeout: {took:?}"
        );
        assert!(
            cluster.leader().is_some(),
            "seed {seed}: never without one for long"
        );
        assert_eq!(cluster.group(), group);
    }
}

#[test]
fn of_the_last_quorum_nobody_leaves_before_it_is_replaced() {
    let mut cluster = Cluster::open(8, 3);
    let group = cluster.group();
    let dead = cluster.nodes[0];
    cluster.kill(dead);
    cluster.sim.run_for(secs(15));
    // Two of three seats are left. Who leaves waits for a replacement in vain.
    let leaver = cluster.nodes[0];
    cluster.sim.with(leaver, |cx| cx.leave());
    cluster.sim.run_for(secs(5));
    assert!(cluster.sim.is_running(leaver), "it waits");
    let new = cluster.start();
    assert!(
        cluster.sim.run_until(secs(4), |sim| !sim.is_running(leaver)),
        "and goes when it can"
    );
    assert!(cluster.replica(new).is_seated());
    cluster.nodes.retain(|&node| node != leaver);
    assert!(cluster.runs_until(secs(5), |cluster| cluster.leader().is_some()));
    assert_eq!(cluster.group(), group);
    let leaver = cluster.nodes[0];
    let took = cluster.leave(leaver);
    assert!(
        (secs(10)..secs(11)).contains(&took),
        "leave_wait, and the goodbye: {took:?}"
    );
}

#[test]
fn several_who_leave_at_once_leave_a_quorum() {
    for seed in 0..5 {
        let mut cluster = Cluster::open(seed, 5);
        let group = cluster.group();
        let leavers: Vec<_> = cluster.nodes[..3].to_vec();
        for &node in &leavers {
            cluster.sim.with(node, |cx| cx.leave());
        }
        cluster.sim.run_for(secs(3));
        let gone = leavers
            .iter()
            .filter(|&&node| !cluster.sim.is_running(node))
            .count();
        assert_eq!(gone, 2, "seed {seed}: the third is needed");
        cluster.start();
        cluster.start();
        cluster.sim.run_for(secs(3));
        assert!(
            leavers.iter().all(|&node| !cluster.sim.is_running(node)),
            "seed {seed}"
        );
        cluster.nodes.retain(|node| !leavers.contains(node));
        assert!(cluster.runs_until(secs(5), Cluster::is_seated), "seed {seed}");
        assert_eq!(cluster.group(), group);
    }
}

#[test]
fn a_total_polite_stop_does_not_wait() {
    for size in 1..=5 {
        let mut cluster = Cluster::open(3, size);
        let begin = cluster.sim.now();
        for node in cluster.nodes.clone() {
            cluster.sim.with(node, |cx| cx.leave());
        }
        let none = |sim: &Sim| sim.apps().count() == 0;
        assert!(cluster.sim.run_until(secs(20), none));
        let took = cluster.sim.now().saturating_since(begin);
        assert!(took < secs(2), "{size} voters: {took:?}");
    }
}

#[test]
fn rolling_updates_keep_the_group() {
    for (size, surge, slow) in [
        (3, 0, false),
        (3, 0, true),
        (3, 1, false),
        (3, 1, true),
        (5, 0, false),
        (5, 1, true),
    ] {
        let adjust = if surge == 0 {
            |config: Config| config
        } else {
            |config: Config| config.surge(1)
        };
        let mut cluster = Cluster::with(7, size, usize::from(size), adjust);
        assert!(cluster.runs_until(secs(60), Cluster::is_open));
        let (group, mut before) = (cluster.group(), cluster.token());
        for old in cluster.nodes.clone() {
            if surge > 0 {
                let new = cluster.start();
                cluster
                    .sim
                    .run_until(secs(20), |sim| !slow || sim.node_of(new).is_settled());
            }
            cluster.leave(old);
            if surge == 0 {
                let new = cluster.start();
                cluster
                    .sim
                    .run_until(secs(20), |sim| !slow || sim.node_of(new).is_settled());
            }
        }
        assert!(
            cluster.runs_until(secs(20), Cluster::is_seated),
            "{size}, {surge}, {slow}"
        );
        assert_eq!(cluster.group(), group, "{size}, {surge}, {slow}");
        let after = cluster.token();
        assert!(before < after);
        before = after;
        assert!(before < cluster.token());
    }
}

#[test]
fn with_a_surge_one_vote_more_is_needed_and_the_grace_is_never_skipped() {
    let mut cluster = Cluster::with(2, 3, 2, |config| config.surge(1));
    cluster.sim.run_for(secs(40));
    for &node in &cluster.nodes {
        let needs = ConsensusProblem::TooFewVoters { ready: 2, needed: 3 };
        assert_eq!(cluster.status(node).problem, Some(needs));
    }
    cluster.start();
    assert!(cluster.runs_until(secs(5), |cluster| cluster.leader().is_some()));
    cluster.sim.run_for(secs(25));
    assert!(!cluster.is_open());
    assert!(cluster.runs_until(secs(10), Cluster::is_open));
}

#[test]
fn too_many_voters_found_nothing() {
    let mut cluster = Cluster::new(2, 3, 4);
    cluster.sim.run_for(secs(30));
    for &node in &cluster.nodes {
        let refusal = FoundingRefusal::TooManyVoters { seen: 4, allowed: 3 };
        assert_eq!(
            cluster.status(node).problem,
            Some(ConsensusProblem::Refused(refusal))
        );
        let said = Event::FoundingRefused { reason: refusal };
        let times = cluster
            .sim
            .events(node)
            .iter()
            .filter(|(_, event)| *event == said);
        assert_eq!(times.count(), 1, "it is said once");
        assert_eq!(cluster.replica(node).group(), None);
    }
    let surplus = cluster.nodes[0];
    cluster.leave(surplus);
    assert!(cluster.runs_until(secs(5), Cluster::is_open));
}

#[test]
fn other_settings_keep_a_group_from_being_founded() {
    let mut cluster = Cluster::new(9, 3, 0);
    let stranger = cluster.sim.start(config().cluster_size(5));
    let addr = cluster.sim.addr(stranger).to_string();
    for _ in 0..3 {
        let settings = cluster.settings().seed(addr.clone());
        cluster.start_with(settings);
    }
    cluster.sim.run_for(secs(20));
    let id = cluster.sim.id(stranger);
    let refusal = FoundingRefusal::OtherSettings { id };
    for &node in &cluster.nodes {
        assert_eq!(
            cluster.status(node).problem,
            Some(ConsensusProblem::Refused(refusal))
        );
        assert_eq!(cluster.replica(node).group(), None);
    }
    cluster.sim.crash(stranger);
    assert!(cluster.runs_until(secs(120), Cluster::is_open));
}

#[test]
fn observers_draw_tokens_only_where_that_is_allowed() {
    for allowed in [false, true] {
        let adjust = if allowed {
            |config: Config| config.allow_observers(true)
        } else {
            |config: Config| config
        };
        let mut cluster = Cluster::with(4, 3, 3, adjust);
        let settings = cluster.settings().role(Role::Observer);
        let observer = cluster.sim.start(settings);
        assert!(cluster.runs_until(secs(10), |cluster| cluster.leader().is_some()));
        cluster.sim.run_for(secs(5));
        assert_eq!(
            cluster.is_open(),
            !allowed,
            "where observers may hold something, the grace is not skipped"
        );
        cluster.sim.run_for(secs(40));
        assert!(cluster.is_open());
        let before = cluster.token();
        let drawn = cluster.draw(observer);
        match allowed {
            true => assert!(drawn.expect("a token") > before),
            false => assert!(drawn.expect_err("denied").contains("allow_observers")),
        }
        assert_eq!(cluster.replica(observer).group(), None);
    }
}

#[test]
fn two_groups_that_meet_become_one() {
    for seed in 0..5 {
        // The assumption is broken: six voters where there may be three.
        let mut cluster = Cluster::new(seed, 3, 0);
        let left: Vec<_> = (0..3).map(|_| cluster.start()).collect();
        let first = cluster.sim.next_addr().to_string();
        let right: Vec<_> = (0..3)
            .map(|_| cluster.start_with(config().cluster_size(3).seed(first.clone())))
            .collect();
        cluster.sim.partition(&left, &right);
        cluster.nodes = left.clone();
        assert!(cluster.runs_until(secs(10), Cluster::is_open));
        let ours = (cluster.group(), cluster.token());
        cluster.nodes = right.clone();
        assert!(cluster.runs_until(secs(10), Cluster::is_open));
        let theirs = (cluster.group(), cluster.token());
        assert_ne!(ours.0, theirs.0);
        cluster.sim.heal();
        // Somebody has to know of the other side.
        let bridge = cluster
            .settings()
            .seed(cluster.sim.addr(left[0]).to_string())
            .role(Role::Observer);
        cluster.sim.start(bridge);
        cluster.nodes = left.iter().chain(&right).copied().collect();
        let told = |cluster: &Cluster| {
            let conflict = |event: &Event| matches!(event, Event::ConflictDetected { .. });
            cluster
                .nodes
                .iter()
                .all(|&node| cluster.happened(node, conflict).is_some())
        };
        assert!(cluster.runs_until(secs(60), told), "seed {seed}: all are told");
        assert!(
            cluster.runs_until(secs(60), |cluster| cluster.leader().is_some()),
            "seed {seed}: one yields"
        );
        let closed = cluster.sim.now();
        assert!(!cluster.is_open(), "seed {seed}: nothing is granted at first");
        let reasons = |node: NodeIndex| {
            let events = cluster.sim.events(node).iter();
            let mut reasons = events.filter_map(|(_, event)| match event {
                Event::GroupAbandoned { reason, .. } => Some(*reason),
                _ => None,
            });
            (reasons.next(), reasons.next())
        };
        let yielded: Vec<_> = cluster.nodes.iter().map(|&node| reasons(node)).collect();
        // Once two have gone, the third has no quorum any more.
        let conflict = yielded
            .iter()
            .filter(|&&it| it == (Some(AbandonReason::Conflict), None))
            .count();
        let alone = yielded
            .iter()
            .filter(|&&it| it == (Some(AbandonReason::Superseded), None))
            .count();
        assert!(conflict >= 2 && conflict + alone == 3, "seed {seed}: {yielded:?}");
        assert!(cluster.runs_until(secs(60), Cluster::is_open), "seed {seed}");
        assert!(
            cluster.sim.now().saturating_since(closed) > GRACE - secs(5),
            "seed {seed}"
        );
        let survivor = if cluster.group() == ours.0 { ours } else { theirs };
        assert_eq!(cluster.group(), survivor.0);
        assert!(cluster.token() > survivor.1, "seed {seed}");
    }
}

#[test]
fn a_dead_founder_is_followed_by_another() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 3, 3);
        let founder = |sim: &Sim| {
            let mut all = sim.apps().map(|(node, _)| node);
            all.find(|&node| sim.node_of(node).replica().founding().standing().is_some())
        };
        assert!(
            cluster.sim.run_until(secs(5), |sim| founder(sim).is_some()),
            "seed {seed}"
        );
        let dead = founder(&cluster.sim).expect("it was just there");
        cluster.kill(dead);
        cluster.start_again(dead);
        assert!(cluster.runs_until(secs(10), Cluster::is_open), "seed {seed}");
        assert!(cluster.token() < cluster.token());
    }
}

#[test]
fn a_blackout_with_wall_clocks_that_stay_right_founds_one_group() {
    let builder = Sim::builder().seed(3).hosts(3);
    let mut sim = builder.config(|_, config| config.cluster_size(3)).build();
    let led = |sim: &Sim| {
        sim.apps().count() == 3
            && sim
                .apps()
                .all(|(node, _)| sim.node_of(node).replica().leader().is_some())
    };
    assert!(sim.run_until(secs(10), led));
    sim.inject(
        FaultKind::Blackout {
            wall_back: Duration::ZERO,
        },
        secs(1),
    );
    sim.run_for(secs(1));
    assert!(sim.run_until(secs(10), led));
    let groups: Vec<_> = sim
        .apps()
        .map(|(node, _)| sim.node_of(node).replica().group())
        .collect();
    assert!(groups.iter().all(|group| *group == groups[0]), "{groups:?}");
}
