//! One thing breaks at a time, and is repaired within the time that is stated for it.

use quorate_core::{Config, Event, LeaveReason, Role};
use quorate_sim::{Duration, Link, NodeIndex, Sim, config};
use std::net::SocketAddr;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn cluster(world: &mut Sim, count: usize, config: impl Fn() -> Config) -> Vec<NodeIndex> {
    let first = world.next_addr();
    let nodes = (0..count).map(|_| world.start(config().seed(first.to_string())));
    nodes.collect()
}

fn whole(world: &Sim, nodes: &[NodeIndex]) -> bool {
    nodes.iter().all(|&node| {
        let ids: Vec<_> = world.node_of(node).members().map(|member| member.id).collect();
        ids.len() == nodes.len() - 1 && nodes.iter().all(|&n| n == node || ids.contains(&world.id(n)))
    })
}

fn departures(world: &Sim, nodes: &[NodeIndex]) -> usize {
    let events = nodes.iter().flat_map(|&n| world.events(n));
    events
        .filter(|(_, event)| matches!(event, Event::MemberLeft { .. }))
        .count()
}

fn handshakes(world: &Sim, nodes: &[NodeIndex]) -> u64 {
    nodes.iter().map(|&n| world.node_of(n).stats().handshakes).sum()
}

#[test]
fn a_process_that_lost_its_keys_is_back_within_two_seconds() {
    for seed in 0..30 {
        let mut world = Sim::new(seed);
        let nodes = cluster(&mut world, 3, config);
        assert!(world.run_until(secs(5), |w| whole(w, &nodes)), "seed {seed}");
        world.run_for(secs(3));
        let (old, addr) = (nodes[2], world.addr(nodes[2]));
        world.crash(old);
        // Nobody told it where the others are: they find it, because they still write to it.
        let new = world.start_at(addr, config());
        let now = [nodes[0], nodes[1], new];
        assert!(world.run_until(secs(2), |w| whole(w, &now)), "seed {seed}");
        let replaced = |n| {
            world.events(n).iter().any(|(_, event)| {
                matches!(event, Event::MemberLeft { member, reason: LeaveReason::Replaced } if member.id == world.id(old))
            })
        };
        assert!(replaced(nodes[0]) && replaced(nodes[1]), "seed {seed}");
    }
}

#[test]
fn a_node_behind_another_address_goes_on_without_being_missed() {
    for seed in 0..30 {
        let mut world = Sim::new(seed);
        let nodes = cluster(&mut world, 4, config);
        assert!(world.run_until(secs(5), |w| whole(w, &nodes)), "seed {seed}");
        for hop in 1..4 {
            world.run_for(secs(5));
            let addr = SocketAddr::from(([10, 7, 0, hop], 4000));
            world.rebind(nodes[3], addr);
            let moved = world.run_until(secs(3), |w| {
                let seen = |&n: &NodeIndex| w.node_of(n).member(w.id(nodes[3])).map(|m| m.addr);
                nodes[..3].iter().all(|n| seen(n) == Some(addr))
            });
            assert!(moved, "seed {seed}, hop {hop}");
        }
        world.run_for(secs(10));
        assert!(whole(&world, &nodes), "seed {seed}");
        assert_eq!(departures(&world, &nodes), 0, "seed {seed}");
        assert_eq!(
            world.node_of(nodes[3]).status(world.now()).addr,
            Some(world.addr(nodes[3])),
            "seed {seed}: it knows where it is"
        );
    }
}

#[test]
fn a_node_that_stood_still_until_all_its_sessions_expired_comes_back() {
    for (seed, pause) in [(1, 4), (2, 20), (3, 200), (4, 1_000), (5, 4_000)] {
        let mut world = Sim::new(seed);
        let nodes = cluster(&mut world, 3, config);
        assert!(world.run_until(secs(5), |w| whole(w, &nodes)));
        world.run_for(secs(1));
        world.pause(nodes[1]);
        world.run_for(secs(pause));
        world.resume(nodes[1]);
        assert!(world.run_until(secs(60), |w| whole(w, &nodes)), "after {pause} s");
        world.run_for(secs(30));
        assert!(whole(&world, &nodes), "after {pause} s");
    }
}

#[test]
fn sessions_outlive_their_keys_under_loss() {
    for seed in 0..4 {
        let mut world = Sim::new(seed);
        world.set_link(Link::default().loss(50).duplicates(100));
        let nodes = cluster(&mut world, 4, config);
        assert!(world.run_until(secs(20), |w| whole(w, &nodes)), "seed {seed}");
        let before = handshakes(&world, &nodes);
        world.run_for(secs(1_200));
        assert!(whole(&world, &nodes), "seed {seed}");
        assert_eq!(departures(&world, &nodes), 0, "seed {seed}: taken for dead");
        let rekeys: u64 = nodes.iter().map(|&n| world.node_of(n).stats().rekeys).sum();
        // Six pairs, each re-keyed after at most 150 s unless it was dialled meanwhile, counted on both sides.
        assert!(rekeys >= 6 * 2 * 4, "seed {seed}: {rekeys} re-keys");
        // Lost echoes alone are no reason to dial.
        let anew = handshakes(&world, &nodes) - before;
        assert!(anew < 120, "seed {seed}: {anew} handshakes");
    }
}

#[test]
fn sessions_that_nobody_needs_expire_quietly_and_are_opened_again() {
    let mut world = Sim::new(7);
    // Observers probe each other at random: with many of them most sessions are unused for long.
    let mut nodes = cluster(&mut world, 2, config);
    let first = world.addr(nodes[0]).to_string();
    for _ in 0..30 {
        nodes.push(world.start(config().role(Role::Observer).seed(first.clone())));
    }
    assert!(world.run_until(secs(20), |w| whole(w, &nodes)));
    let before = handshakes(&world, &nodes);
    world.run_for(secs(600));
    assert!(whole(&world, &nodes));
    assert_eq!(departures(&world, &nodes), 0);
    let a_node_second = (handshakes(&world, &nodes) - before) / (600 / 10) / nodes.len() as u64;
    assert!(a_node_second < 10, "{a_node_second} handshakes in ten seconds");
}

#[test]
fn small_limits_cause_no_storm() {
    let make: [(usize, fn() -> Config); 3] = [
        (80, || config().max_sessions(64_usize)),
        (8, || config().max_members(4_usize)),
        (12, || config().max_dials(1_usize).dials_per_second(1_u32)),
    ];
    for (count, config) in make {
        let mut world = Sim::new(5);
        let nodes = cluster(&mut world, count, config);
        world.run_for(secs(40));
        let (shakes, left) = (handshakes(&world, &nodes), departures(&world, &nodes));
        world.run_for(secs(20));
        let shakes = handshakes(&world, &nodes) - shakes;
        // A refused node tries again, and a small table of sessions changes: no more than one is
        // counted for each of the six probes a second.
        assert!(
            shakes < 20 * 6 * count as u64,
            "{count} nodes: {shakes} handshakes in 20 s"
        );
        assert_eq!(departures(&world, &nodes) - left, 0, "{count} nodes");
    }
}

#[test]
fn two_nodes_with_a_common_member_find_each_other() {
    for seed in 0..30 {
        let mut world = Sim::new(seed);
        let nodes = cluster(&mut world, 8, config);
        let (hub, away) = (nodes[0], nodes[1]);
        assert!(world.run_until(secs(10), |w| whole(w, &nodes)), "seed {seed}");
        // Sessions to the dead stay open for a while and swallow gossip.
        nodes[2..].iter().for_each(|&node| world.crash(node));
        world.cut(hub, away);
        let apart = |w: &Sim| [hub, away].iter().all(|&n| w.node_of(n).members().count() == 0);
        assert!(world.run_until(secs(30), apart), "seed {seed}");
        // The newcomer knows nobody but the hub, and hears of nobody else there.
        let new = world.start(config().seed(world.addr(hub).to_string()));
        assert!(world.run_until(secs(5), |w| whole(w, &[hub, new])), "seed {seed}");
        // Its arrival is no news any more when the other returns.
        world.run_for(secs(3));
        world.heal();
        let all = [hub, away, new];
        // The lost are dialled one at a time, seven addresses in turn.
        assert!(world.run_until(secs(90), |w| whole(w, &all)), "seed {seed}");
    }
}

#[test]
fn a_way_that_is_slower_than_probes_wait_causes_no_storm() {
    let mut world = Sim::new(3);
    let nodes = cluster(&mut world, 3, || config().local());
    let seed = world.addr(nodes[0]).to_string();
    let observer = world.start(config().local().role(Role::Observer).seed(seed));
    let nodes = [nodes, vec![observer]].concat();
    assert!(world.run_until(secs(5), |w| whole(w, &nodes)));
    world.run_for(secs(5));
    let shakes = handshakes(&world, &nodes);
    // There and back takes longer than `probe_timeout`, which is 50 ms.
    let delay = Duration::from_millis(29);
    world.set_link(Link {
        min_delay: delay,
        max_delay: delay,
        ..Link::default()
    });
    world.run_for(secs(20));
    assert_eq!(handshakes(&world, &nodes) - shakes, 0);
}

#[test]
fn one_at_the_address_of_a_dead_member_is_left_alone() {
    for seed in 0..10 {
        let mut world = Sim::new(seed);
        // All that have a session are told how the group is, members or not.
        let config = || config().cluster_size(3);
        let nodes = cluster(&mut world, 3, config);
        assert!(world.run_until(secs(5), |w| whole(w, &nodes)), "seed {seed}");
        let addr = world.addr(nodes[2]);
        world.crash(nodes[2]);
        // Long enough to be found dead: it is not replaced, and its sessions are still there.
        world.run_for(secs(10));
        let new = world.start_at(addr, config());
        let now = [nodes[0], nodes[1], new];
        assert!(world.run_until(secs(60), |w| whole(w, &now)), "seed {seed}");
        world.run_for(secs(5));
        let shakes = handshakes(&world, &now);
        world.run_for(secs(60));
        assert_eq!(handshakes(&world, &now) - shakes, 0, "seed {seed}");
    }
}
