//! Locks as users see them, on clusters of simulated hosts.

use quorate_core::{LockError, LockEvent, LockFilter, LockRequest, LostReason, Role};
use quorate_sim::{App, Cx, Duration, Event, Instant, NodeIndex, Schedule, Sim, config};

/// Asks for one lock, and gives it back a millisecond after it was granted.
#[derive(Default)]
struct Taker {
    held: Option<quorate_core::LockId>,
    events: Vec<(Instant, LockEvent)>,
}

impl App for Taker {
    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Lock(event) = event {
            if let LockEvent::Granted { id, .. } = event {
                self.held = Some(id);
                cx.set_timer_in(Duration::from_millis(1));
            }
            self.events.push((cx.true_time(), event));
        }
    }

    fn timeout(&mut self, cx: &mut Cx<'_>) {
        let held = self.held.take().expect("the timer is set for a lock");
        cx.unlock(held).expect("it is held");
    }
}

#[test]
fn all_who_wait_are_served_one_after_the_other() {
    let schedule = Schedule {
        cluster_size: 3,
        ..Schedule::calm(7, 3)
    };
    let mut sim = Sim::builder().schedule(schedule).build_with(|_| Taker::default());
    sim.run_for(Duration::from_secs(10));
    let request = LockRequest::new("a")
        .wait(Duration::from_secs(5))
        .ttl(Duration::from_secs(1));
    let nodes: Vec<_> = (0..3).map(NodeIndex).collect();
    for &node in &nodes {
        sim.with(node, |cx| cx.lock(request.clone())).unwrap();
    }
    sim.run_for(Duration::from_millis(50));
    let mut tokens = Vec::new();
    for &node in &nodes {
        match &sim.app(node).events[..] {
            [
                (granted, LockEvent::Granted { token, .. }),
                (released, LockEvent::Released { .. }),
            ] => {
                assert_eq!(released.saturating_since(*granted), Duration::from_millis(1));
                tokens.push((*granted, *token));
            }
            events => panic!("{events:?}"),
        }
    }
    tokens.sort_unstable();
    assert!(tokens.is_sorted_by_key(|&(_, token)| token), "{tokens:?}");
    for &node in &nodes {
        let machine = sim.node_of(node).replica().machine().expect("there is a group");
        assert_eq!(machine.table.locks().len(), 0);
    }
}

/// Three voters and an observer, which may take locks, too.
fn calm() -> Sim {
    calm_with(Duration::from_secs(2))
}

fn calm_with(max_ttl: Duration) -> Sim {
    calm_and_observed(max_ttl, 1)
}

/// Three voters, and observers who may ask.
fn calm_and_observed(max_ttl: Duration, observers: usize) -> Sim {
    let schedule = Schedule {
        cluster_size: 3,
        observers,
        allow_observers: true,
        max_ttl,
        ..Schedule::calm(7, 3 + observers)
    };
    let mut sim = Sim::builder().schedule(schedule).build();
    // With observers the first group waits for the grace.
    sim.run_for(Duration::from_secs(10) + max_ttl);
    sim
}

fn locks(sim: &Sim, node: NodeIndex) -> impl Iterator<Item = (Instant, &LockEvent)> + Clone {
    let events = sim.events(node).iter();
    events.filter_map(|(at, event)| match event {
        Event::Lock(event) => Some((*at, event)),
        _ => None,
    })
}

/// Whoever is cut off from the leader alone asks through somebody else: one with a seat, and one without.
#[test]
fn a_client_without_a_way_to_the_leader_asks_through_others() {
    for cut_off in 0..4 {
        let mut sim = calm();
        let leads = |&node: &NodeIndex| sim.node_of(node).replica().leadership().is_some();
        let leader = (0..4).map(NodeIndex).find(leads).expect("there is one");
        let client = NodeIndex(cut_off);
        if client == leader {
            continue;
        }
        sim.cut(client, leader);
        sim.run_for(Duration::from_secs(1));
        let request = LockRequest::new("a")
            .wait(Duration::from_secs(5))
            .ttl(Duration::from_secs(2));
        let asked = sim.now();
        let id = sim.with(client, |cx| cx.lock(request.clone())).unwrap();
        sim.run_for(Duration::from_secs(30));
        let (granted, _) = locks(&sim, client)
            .find(|(_, event)| matches!(event, LockEvent::Granted { .. }))
            .expect("somebody passes it on");
        assert!(granted.saturating_since(asked) < Duration::from_secs(2));
        let renewed = locks(&sim, client).filter(|(_, event)| matches!(event, LockEvent::Renewed { .. }));
        assert!(renewed.count() > 10);
        let risky = |event: &LockEvent| matches!(event, LockEvent::AtRisk { .. } | LockEvent::Lost { .. });
        assert!(!locks(&sim, client).any(|(_, event)| risky(event)));
        sim.with(client, |cx| cx.unlock(id)).unwrap();
        sim.run_for(Duration::from_secs(1));
        let table = &sim.node_of(leader).replica().machine().expect("it leads").table;
        assert_eq!(table.locks().len(), 0);
        sim.heal();
        sim.run_for(Duration::from_secs(10));
        sim.finish();
        assert_eq!(sim.violations(), []);
    }
}

/// A holder says goodbye while nobody can decide that its lock is free. The next leader has heard of it before it led:
/// long after it knew of the holder, and before it did.
#[test]
fn a_goodbye_counts_though_its_leader_died_with_it() {
    for known in [Duration::from_secs(2), Duration::from_millis(5)] {
        goodbye_before_the_leader_died(known);
    }
}

fn goodbye_before_the_leader_died(known: Duration) {
    let mut sim = calm_with(Duration::from_secs(60));
    let leads = |&node: &NodeIndex| sim.node_of(node).replica().leadership().is_some();
    let leader = (0..4).map(NodeIndex).find(leads).expect("there is one");
    let observes = |&node: &NodeIndex| sim.world().process(node).config.role == Role::Observer;
    let holder = (0..4).map(NodeIndex).find(observes).expect("there is one");
    let others = (0..4)
        .map(NodeIndex)
        .filter(|&node| node != leader && node != holder);
    let others: Vec<_> = others.collect();
    let request = LockRequest::new("a")
        .wait(Duration::from_secs(60))
        .ttl(Duration::from_secs(30));
    sim.with(holder, |cx| cx.lock(request.clone())).unwrap();
    // Whoever queues tells the others of the holder, too.
    let long = known > Duration::from_secs(1);
    let queue = |sim: &mut Sim| {
        for &waiter in &others {
            sim.with(waiter, |cx| cx.lock(request.clone())).unwrap();
        }
    };
    if long {
        sim.run_for(Duration::from_millis(100));
        queue(&mut sim);
    }
    sim.run_for(known);
    let has = |(_, event): (_, &LockEvent)| matches!(event, LockEvent::Granted { .. });
    assert!(locks(&sim, holder).any(has));
    let machine = |node| sim.node_of(node).replica().machine().expect("there is a group");
    let knows = others.iter().all(|&node| machine(node).table.locks().len() > 0);
    assert_eq!(knows, long);
    sim.cut(leader, others[0]);
    sim.cut(leader, others[1]);
    let left = sim.now();
    sim.with(holder, |cx| cx.leave());
    sim.run_for(Duration::from_millis(200));
    sim.crash(leader);
    if !long {
        queue(&mut sim);
    }
    sim.run_for(Duration::from_secs(60));
    let granted = others.iter().flat_map(|&node| locks(&sim, node));
    let first = granted
        .filter(|(_, event)| matches!(event, LockEvent::Granted { .. }))
        .map(|(at, _)| at.saturating_since(left))
        .min()
        .expect("one of them has it");
    assert!(first < Duration::from_secs(10), "free after {first:?}");
    sim.finish();
    assert_eq!(sim.violations(), []);
}

/// Whoever watches a lock hears of each change, also after its leader has gone.
#[test]
fn a_watch_goes_on_under_the_next_leader() {
    let mut sim = calm();
    let leads = |&node: &NodeIndex| sim.node_of(node).replica().leadership().is_some();
    let leader = (0..4).map(NodeIndex).find(leads).expect("there is one");
    let others: Vec<_> = (0..4).map(NodeIndex).filter(|&node| node != leader).collect();
    let (watcher, taker) = (others[0], others[1]);
    let watch = sim.with(watcher, |cx| cx.node_mut(|node, now| node.watch_lock(now, "a")));
    let id = watch.expect("it may be watched");
    let changes = |sim: &Sim| {
        let told = locks(sim, watcher).map(|(_, event)| event);
        assert!(told.clone().all(|event| *event == LockEvent::Changed { id }));
        told.count()
    };
    sim.run_for(Duration::from_millis(100));
    assert_eq!(changes(&sim), 1, "how it stands");
    let request = LockRequest::new("a")
        .wait(Duration::from_secs(9))
        .ttl(Duration::from_secs(2));
    let lock = sim.with(taker, |cx| cx.lock(request.clone())).unwrap();
    sim.run_for(Duration::from_millis(100));
    assert_eq!(changes(&sim), 2, "granted");
    sim.crash(leader);
    sim.run_for(Duration::from_secs(4));
    assert_eq!(changes(&sim), 2, "it stands as it stood");
    sim.with(taker, |cx| cx.unlock(lock)).unwrap();
    sim.run_for(Duration::from_millis(100));
    assert_eq!(changes(&sim), 3, "free");
    sim.with(watcher, |cx| cx.node_mut(|node, now| node.unlock(now, id)))
        .unwrap();
    sim.with(taker, |cx| cx.lock(request)).unwrap();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(changes(&sim), 3);
}

/// A grant that nobody has decided, as an ANSWER of the leader, or as one in its name that somebody passes on.
fn forged(sim: &Sim, leader: NodeIndex, client: NodeIndex, stamp: Instant, relayed: bool) -> Vec<u8> {
    let group = sim.node_of(leader).replica().group().expect("it leads one");
    let mut body = Vec::new();
    if relayed {
        body.extend(sim.id(leader).to_bytes());
        body.push(0x4f);
    }
    body.extend(group.founder.node.to_bytes());
    body.extend(group.founder.number.to_be_bytes());
    body.extend(group.founding.to_be_bytes());
    for life in [leader, client].map(|node| sim.node_of(node).replica().life()) {
        body.extend(life.number.to_be_bytes());
    }
    let (request, token, lease) = (1_u64, 1_u64 << 50, 1000_u32);
    body.push(1);
    body.extend([request, token, stamp.as_nanos()].map(u64::to_be_bytes).concat());
    body.extend(lease.to_be_bytes());
    let mut frame = vec![if relayed { 0x51 } else { 0x4f }];
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend(body);
    frame
}

/// Observers have no say, also not in what others are said to have said.
#[test]
fn nobody_takes_an_answer_from_an_observer() {
    for (relayed, observed) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut sim = calm();
        let leads = |&node: &NodeIndex| sim.node_of(node).replica().leadership().is_some();
        let leader = (0..4).map(NodeIndex).find(leads).expect("there is one");
        let seated = |&node: &NodeIndex| sim.node_of(node).replica().is_seated();
        let voters: Vec<_> = (0..4)
            .map(NodeIndex)
            .filter(seated)
            .filter(|&node| node != leader)
            .collect();
        let observer = (0..4)
            .map(NodeIndex)
            .find(|node| !seated(node))
            .expect("there is one");
        let (client, other) = (voters[0], voters[1]);
        let request = LockRequest::new("a").wait(Duration::from_secs(60));
        sim.with(other, |cx| cx.lock(request.clone())).unwrap();
        sim.run_for(Duration::from_millis(100));
        sim.with(client, |cx| cx.lock(request)).unwrap();
        sim.run_for(Duration::from_millis(100));
        let now = sim.with(client, |cx| cx.node_mut(|_, now| now));
        let frames = forged(&sim, leader, client, now, relayed);
        let by = sim.id(match (observed, relayed) {
            (true, _) => observer,
            (false, true) => other,
            (false, false) => leader,
        });
        let granted = sim.with(client, |cx| {
            cx.node_mut(|node, now| {
                node.handle_frames(now, by, &frames);
                // Checkers would object to what is granted by nobody.
                let mut events = std::iter::from_fn(|| node.poll_event());
                events.any(|event| matches!(event, Event::Lock(LockEvent::Granted { .. })))
            })
        });
        // From those who have a say it counts: it is what an answer looks like.
        assert_eq!(granted, !observed, "relayed {relayed}");
    }
}

/// Whoever does not wait is told who is in the way, and for how long; and when to ask again.
#[test]
fn a_refusal_names_the_holder_and_the_time_left() {
    let mut sim = calm();
    let (holder, other, third) = (NodeIndex(0), NodeIndex(1), NodeIndex(2));
    let ttl = Duration::from_secs(2);
    let request = LockRequest::new("a").ttl(ttl);
    sim.with(holder, |cx| cx.lock(request.clone())).unwrap();
    sim.run_for(Duration::from_millis(100));
    sim.with(third, |cx| cx.lock(request.clone().wait(Duration::from_secs(60))))
        .unwrap();
    sim.run_for(Duration::from_millis(100));
    sim.with(other, |cx| cx.lock(request)).unwrap();
    sim.run_for(Duration::from_millis(100));
    let granted = locks(&sim, holder).find_map(|(_, event)| match event {
        LockEvent::Granted { token, .. } => Some(*token),
        _ => None,
    });
    let refused = locks(&sim, other).find_map(|(_, event)| match event {
        LockEvent::Failed { error, .. } => Some(*error),
        _ => None,
    });
    let Some(LockError::Taken {
        token,
        owner,
        left,
        waiting,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!((Some(token), owner, waiting), (granted, sim.id(holder), 1));
    // The leader counts a little longer than the holder may.
    assert!(left > ttl / 2 && left < ttl * 5 / 4, "{left:?}");
    assert_eq!(
        refused.and_then(|error| error.retry_after()),
        Some(Duration::from_millis(100))
    );
}

/// What a node says about its locks adds up.
#[test]
fn locks_are_counted() {
    let mut sim = calm();
    let seated = |&node: &NodeIndex| sim.node_of(node).replica().is_seated();
    let voters: Vec<_> = (0..4).map(NodeIndex).filter(seated).collect();
    let (holder, waiter) = (voters[0], voters[1]);
    let counts = |sim: &Sim, node: NodeIndex| {
        let now = sim.world().clock(sim.world().process(node).host);
        sim.node_of(node).status(now).consensus.locks
    };
    let none = counts(&sim, holder);
    assert_eq!((none.locks, none.held, none.waiting, none.bytes), (0, 0, 0, 0));
    let request = LockRequest::new("a").metadata("who", "me");
    let held = sim.with(holder, |cx| cx.lock(request.clone())).unwrap();
    let other = sim.with(holder, |cx| cx.lock(LockRequest::new("bcd"))).unwrap();
    sim.run_for(Duration::from_millis(100));
    let wait = Duration::from_secs(5);
    sim.with(waiter, |cx| cx.lock(request.wait(wait))).unwrap();
    // Followers know of it a heartbeat later.
    sim.run_for(Duration::from_secs(1));
    for node in [holder, waiter] {
        let counts = counts(&sim, node);
        assert_eq!((counts.locks, counts.held, counts.waiting), (2, 2, 1));
        // Keys: one of 1 and one of 3 bytes. Metadata: twice "who" and "me", and a length each.
        let metadata = 2 * (1 + "who".len() + 2 + "me".len());
        let keys = "a".len() + "bcd".len();
        assert!(
            (3 * 64 + keys + metadata - 4..=3 * 64 + keys + metadata + 8).contains(&counts.bytes),
            "{counts:?}"
        );
        let own = if node == holder { (2, 0) } else { (0, 1) };
        assert_eq!((counts.own_held, counts.own_waiting), own);
    }
    sim.run_for(wait);
    for id in [held, other] {
        sim.with(holder, |cx| cx.unlock(id)).unwrap();
    }
    sim.run_for(Duration::from_secs(1));
    assert_eq!(counts(&sim, waiter), none);
    let (mine, its) = (sim.node_of(holder).stats(), sim.node_of(waiter).stats());
    assert_eq!(
        (
            mine.locks_granted,
            mine.locks_released,
            mine.locks_lost,
            mine.lock_requests_failed
        ),
        (2, 2, 0, 0)
    );
    assert!(mine.locks_renewed > 4, "{}", mine.locks_renewed);
    assert_eq!((its.locks_granted, its.lock_requests_failed), (0, 1));
}

/// Who has asked for a lock and is gone is forgotten in the end, also where nobody is left who has seen it go.
#[test]
fn the_table_forgets_who_is_gone() {
    let max_ttl = Duration::from_secs(20);
    let mut sim = calm_and_observed(max_ttl, 1);
    let seated = |&node: &NodeIndex| sim.node_of(node).replica().is_seated();
    let voters: Vec<_> = (0..4).map(NodeIndex).filter(seated).collect();
    let gone = (0..4)
        .map(NodeIndex)
        .find(|node| !seated(node))
        .expect("there is an observer");
    let id = sim.with(gone, |cx| cx.lock(LockRequest::new("a"))).unwrap();
    sim.run_for(Duration::from_millis(100));
    sim.with(gone, |cx| cx.unlock(id)).unwrap();
    sim.run_for(Duration::from_secs(1));
    let name = sim.id(gone);
    let known = |sim: &Sim, node: NodeIndex| {
        let machine = sim.node_of(node).replica().machine().expect("it is in the group");
        machine.table.owners().any(|owner| owner == name)
    };
    assert!(voters.iter().all(|&node| known(&sim, node)));
    sim.crash(gone);
    sim.run_for(Duration::from_secs(15));
    // A rolling update: nobody who comes has ever seen it.
    let mut new = Vec::new();
    for &node in &voters {
        let (addr, config) = (sim.addr(node), sim.world().process(node).config.clone());
        let config = config.key(quorate_core::Key::from_bytes([7; 32]));
        sim.with(node, |cx| cx.leave());
        let left = sim.run_until(Duration::from_secs(10), |sim| !sim.is_running(node));
        assert!(left);
        let node = sim.start_at(addr, config);
        let seated = |sim: &Sim| sim.node_of(node).replica().is_seated();
        assert!(sim.run_until(Duration::from_secs(10), seated));
        new.push(node);
    }
    assert!(new.iter().all(|&node| known(&sim, node)));
    sim.run_for(3 * max_ttl);
    assert!(!new.iter().any(|&node| known(&sim, node)));
}

/// A process dies whose session with the leader lasts on for minutes, and somebody else says goodbye meanwhile.
#[test]
fn who_died_is_forgotten_though_its_session_lasts() {
    let max_ttl = Duration::from_secs(20);
    let mut sim = calm_and_observed(max_ttl, 2);
    let seated = |node: &NodeIndex| sim.node_of(*node).replica().is_seated();
    let (voters, observers): (Vec<_>, Vec<_>) = (0..5).map(NodeIndex).partition(seated);
    for &observer in &observers {
        let id = sim.with(observer, |cx| cx.lock(LockRequest::new("a"))).unwrap();
        sim.run_for(Duration::from_millis(100));
        sim.with(observer, |cx| cx.unlock(id)).unwrap();
        sim.run_for(Duration::from_secs(1));
    }
    let known = |sim: &Sim, node: NodeIndex| {
        let name = sim.id(node);
        voters.iter().any(|&voter| {
            let machine = sim
                .node_of(voter)
                .replica()
                .machine()
                .expect("it is in the group");
            machine.table.owners().any(|owner| owner == name)
        })
    };
    let (died, left) = (observers[0], observers[1]);
    assert!(known(&sim, died) && known(&sim, left));
    sim.crash(died);
    sim.run_for(Duration::from_secs(10));
    sim.with(left, |cx| cx.leave());
    sim.run_for(Duration::from_secs(10));
    assert!(!known(&sim, left), "at once");
    assert!(known(&sim, died), "it may be only cut off");
    sim.run_for(Duration::from_secs(180) + max_ttl * 5);
    assert!(!known(&sim, died));
}

/// A leader hears of a goodbye before what the leaver asked for is decided, and only by way of somebody else.
#[test]
fn a_goodbye_counts_for_what_is_not_decided_yet() {
    let max_ttl = Duration::from_secs(60);
    let mut sim = calm_and_observed(max_ttl, 2);
    let leads = |node: &NodeIndex| sim.node_of(*node).replica().leadership().is_some();
    let leader = (0..5).map(NodeIndex).find(leads).expect("there is one");
    let observes = |node: &NodeIndex| sim.world().process(*node).config.role == Role::Observer;
    let (observers, voters): (Vec<_>, Vec<_>) = (0..5).map(NodeIndex).partition(observes);
    let (holder, other) = (observers[0], observers[1]);
    let request = LockRequest::new("a")
        .wait(Duration::from_secs(60))
        .ttl(Duration::from_secs(30));
    // Nothing is decided for a moment.
    for &voter in voters.iter().filter(|&&voter| voter != leader) {
        sim.cut(leader, voter);
    }
    sim.with(holder, |cx| cx.lock(request.clone())).unwrap();
    sim.run_for(Duration::from_millis(20));
    sim.cut(holder, leader);
    let left = sim.now();
    sim.with(holder, |cx| cx.leave());
    let gone = sim.id(holder);
    let heard = |sim: &Sim| sim.node_of(leader).members().all(|member| member.id != gone);
    assert!(sim.run_until(Duration::from_secs(1), heard));
    sim.heal();
    sim.run_for(Duration::from_millis(100));
    assert!(sim.node_of(leader).replica().leadership().is_some());
    sim.with(other, |cx| cx.lock(request)).unwrap();
    sim.run_for(Duration::from_secs(60));
    let (granted, _) = locks(&sim, other)
        .find(|(_, event)| matches!(event, LockEvent::Granted { .. }))
        .expect("it is free");
    let after = granted.saturating_since(left);
    assert!(after < Duration::from_secs(10), "free after {after:?}");
    sim.finish();
    assert_eq!(sim.violations(), []);
}

/// Nobody leads for longer than a lease lasts. Who leads then promises it anew, and hears that nobody has the lock.
#[test]
fn what_was_given_back_while_nobody_led_is_free_afterwards() {
    let mut sim = calm_with(Duration::from_secs(30));
    let lock = || LockRequest::new("k").ttl(Duration::from_secs(20));
    let nodes: Vec<NodeIndex> = (0..4).map(NodeIndex).collect();
    let held = sim.with(nodes[3], |cx| cx.lock(lock())).unwrap();
    sim.run_for(Duration::from_secs(1));
    assert!(locks(&sim, nodes[3]).any(|(_, event)| matches!(event, LockEvent::Granted { .. })));
    for &node in &nodes {
        let others: Vec<_> = nodes.iter().copied().filter(|&other| other != node).collect();
        sim.partition(&[node], &others);
    }
    sim.with(nodes[3], |cx| cx.unlock(held)).unwrap();
    sim.run_for(Duration::from_secs(25));
    let leads = |&node: &NodeIndex| sim.node_of(node).replica().leadership().is_some();
    assert!(!nodes.iter().any(leads));
    sim.heal();
    let healed = sim.now();
    let wish = || lock().wait(Duration::from_secs(60));
    sim.with(nodes[0], |cx| cx.lock(wish())).unwrap();
    sim.run_for(Duration::from_secs(60));
    let mut granted = locks(&sim, nodes[0]).filter(|(_, event)| matches!(event, LockEvent::Granted { .. }));
    let (at, _) = granted.next().expect("it is free");
    assert!(
        at < healed + Duration::from_secs(15),
        "only {:?} later",
        at - healed
    );
}

/// A lock is granted, its client never hears of that, and everybody is cut off. The client gives up, and nobody leads for
/// longer than the lease.
#[test]
fn what_was_given_up_while_nobody_led_is_free_afterwards() {
    let mut sim = calm_with(Duration::from_secs(30));
    let lock = || LockRequest::new("k").ttl(Duration::from_secs(20));
    let nodes: Vec<NodeIndex> = (0..4).map(NodeIndex).collect();
    let leads = |sim: &Sim, node: NodeIndex| sim.node_of(node).replica().leadership().is_some();
    let leader = nodes.iter().copied().find(|&node| leads(&sim, node));
    let leader = leader.expect("there is one");
    let client = nodes.iter().copied().find(|&node| node != leader).unwrap();
    sim.cut_one_way(leader, client);
    let wanted = sim.with(client, |cx| cx.lock(lock())).unwrap();
    let stored = |sim: &Sim, node: &NodeIndex| {
        let machine = sim.node_of(*node).replica().machine();
        machine.is_some_and(|machine| machine.table.tokens().count() == 1)
    };
    let others: Vec<NodeIndex> = nodes.iter().copied().filter(|&node| node != client).collect();
    let limit = Duration::from_millis(300);
    assert!(sim.run_until(limit, |sim| others.iter().all(|node| stored(sim, node))));
    for &node in &nodes {
        let others: Vec<_> = nodes.iter().copied().filter(|&other| other != node).collect();
        sim.partition(&[node], &others);
    }
    sim.run_for(Duration::from_secs(1));
    let heard = locks(&sim, client).any(|(_, event)| matches!(event, LockEvent::Granted { .. }));
    assert!(!heard, "the answer is lost");
    sim.with(client, |cx| cx.unlock(wanted)).unwrap();
    sim.run_for(Duration::from_secs(25));
    assert!(!nodes.iter().any(|&node| leads(&sim, node)));
    sim.heal();
    let healed = sim.now();
    let wish = || lock().wait(Duration::from_secs(60));
    sim.with(leader, |cx| cx.lock(wish())).unwrap();
    sim.run_for(Duration::from_secs(60));
    let mut granted = locks(&sim, leader).filter(|(_, event)| matches!(event, LockEvent::Granted { .. }));
    let (at, _) = granted.next().expect("it is free");
    assert!(
        at < healed + Duration::from_secs(15),
        "only {:?} later",
        at - healed
    );
}

/// All voters are stopped, and started again with `allow_observers` off. An observer that waits is told so, and
/// one that watches has reason to look, and to hear it.
#[test]
fn an_observer_that_may_take_no_locks_any_more_is_told_so() {
    let mut sim = Sim::new(3);
    let voter = |allowed| {
        let seeds = (1..=3).map(|host| format!("10.0.0.{host}:5000"));
        let config = config().cluster_size(3).max_ttl(Duration::from_secs(2));
        seeds.fold(config.allow_observers(allowed), |config, addr| config.seed(addr))
    };
    let voters: Vec<NodeIndex> = (0..3).map(|_| sim.start(voter(true))).collect();
    let observer = sim.start(voter(true).role(Role::Observer));
    sim.run_for(Duration::from_secs(15));
    let lock = |key: &str| LockRequest::new(key).ttl(Duration::from_secs(2));
    sim.with(voters[0], |cx| cx.lock(lock("taken"))).unwrap();
    sim.run_for(Duration::from_secs(1));
    let held = sim.with(observer, |cx| cx.lock(lock("held"))).unwrap();
    let waits = lock("taken").wait(Duration::from_secs(999));
    let waits = sim.with(observer, |cx| cx.lock(waits)).unwrap();
    let watch = sim.with(observer, |cx| {
        cx.node_mut(|node, now| node.watch_lock(now, "taken"))
    });
    sim.run_for(Duration::from_secs(1));
    for &node in &voters {
        sim.crash(node);
    }
    sim.run_for(Duration::from_secs(5));
    let stopped = sim.now();
    for &node in &voters {
        sim.start_at(sim.addr(node), voter(false));
    }
    sim.run_for(Duration::from_secs(60));
    let ends: Vec<_> = locks(&sim, observer)
        .filter_map(|(_, event)| match *event {
            LockEvent::Lost { id, reason, .. } => Some((id, Err(reason))),
            LockEvent::Failed { id, error } => Some((id, Ok(error))),
            _ => None,
        })
        .collect();
    assert_eq!(
        ends,
        [(held, Err(LostReason::Expired)), (waits, Ok(LockError::Observer))]
    );
    let look = |&(at, event): &(Instant, &LockEvent)| {
        at > stopped && matches!(event, LockEvent::Changed { id } if Ok(*id) == watch)
    };
    assert!(locks(&sim, observer).any(|told| look(&told)));
    let looks = sim.with(observer, |cx| cx.list_locks(LockFilter::new(), None));
    assert_eq!(looks, Err(LockError::Observer));
    assert_eq!(sim.violations(), []);
}

/// A voter without a seat holds a lock, its leader dies, and the one way that is cut is that to the next leader.
#[test]
fn who_has_no_seat_keeps_its_lock_without_a_way_to_the_next_leader() {
    let mut tried = 0;
    for (seed, cut) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
        let schedule = Schedule {
            cluster_size: 3,
            surge: 1,
            max_ttl: Duration::from_secs(10),
            ..Schedule::calm(seed, 4)
        };
        let mut sim = Sim::builder().schedule(schedule).build();
        sim.run_for(Duration::from_secs(20));
        let leads = |sim: &Sim, node: NodeIndex| sim.node_of(node).replica().leadership().is_some();
        let all = || (0..4).map(NodeIndex);
        let leader = all().find(|&node| leads(&sim, node)).expect("there is one");
        let outside = all().find(|&node| !sim.node_of(node).replica().is_seated());
        let outside = outside.expect("there are three seats");
        let others: Vec<_> = all().filter(|&node| node != leader && node != outside).collect();
        let request = LockRequest::new("a").wait(Duration::from_secs(5));
        sim.with(outside, |cx| cx.lock(request)).unwrap();
        sim.run_for(Duration::from_secs(1));
        sim.cut(outside, others[cut]);
        sim.crash(leader);
        sim.run_for(Duration::from_secs(30));
        if !leads(&sim, others[cut]) {
            continue;
        }
        tried += 1;
        let asked = sim.now();
        let request = LockRequest::new("b").wait(Duration::from_secs(5));
        sim.with(outside, |cx| cx.lock(request)).unwrap();
        sim.run_for(Duration::from_secs(2));
        let granted =
            |(at, event): &(_, &LockEvent)| *at > asked && matches!(event, LockEvent::Granted { .. });
        assert!(locks(&sim, outside).any(|event| granted(&event)));
        let lost = |event: &LockEvent| matches!(event, LockEvent::Lost { .. });
        assert!(!locks(&sim, outside).any(|(_, event)| lost(event)));
        sim.heal();
        sim.run_for(Duration::from_secs(10));
        sim.finish();
        assert_eq!(sim.violations(), []);
    }
    assert!(tried > 0);
}

/// Without a quorum a leader goes to a younger group of which only a newcomer has heard, and which is gone already.
#[test]
fn who_follows_a_leader_that_went_to_a_lost_group_takes_over() {
    let mut sim = Sim::new(5);
    let founder = sim.start(config());
    sim.run_for(Duration::from_secs(5));
    let leader = sim.start(config());
    let ways = [founder, leader].map(|node| sim.addr(node).to_string());
    sim.run_for(Duration::from_secs(5));
    let follower = sim.start(config().seed(&ways[1]));
    sim.run_for(Duration::from_secs(5));
    let newcomer = sim.start(config().seed(&ways[0]).seed(&ways[1]));
    let group = |sim: &Sim, node| sim.node_of(node).replica().group();
    let (young, old) = (group(&sim, founder), group(&sim, leader));
    assert!(young.is_some() && old.is_some() && young != old && group(&sim, follower) == old);
    sim.cut(newcomer, leader);
    sim.cut(newcomer, follower);
    let met = sim.run_until(Duration::from_secs(5), |sim| {
        let usage = sim.node_of(newcomer).usage();
        usage
            .rows()
            .iter()
            .any(|row| row.name == "sightings" && row.used > 0)
    });
    assert!(met && group(&sim, newcomer).is_none());
    sim.crash(founder);
    sim.heal();
    sim.cut(newcomer, follower);
    let gone = sim.run_until(Duration::from_secs(3), |sim| group(sim, leader).is_none());
    assert!(gone && group(&sim, follower) == old);
    sim.run_for(Duration::from_secs(15));
    for node in [leader, follower, newcomer] {
        let request = LockRequest::new("a").wait(Duration::from_secs(60));
        let id = sim.with(node, |cx| cx.lock(request)).unwrap();
        sim.run_for(Duration::from_secs(5));
        assert!(locks(&sim, node).any(|(_, event)| matches!(event, LockEvent::Granted { .. })));
        sim.with(node, |cx| cx.unlock(id)).unwrap();
    }
    sim.heal();
    sim.run_for(Duration::from_secs(10));
    sim.finish();
    assert_eq!(sim.violations(), []);
}
