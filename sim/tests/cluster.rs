//! Whole nodes over the virtual network: discovery, membership, the quorum gate, messages.

use bytes::Bytes;
use quorate_core::{
    Config, DeliveryError, DropReason, Event, Key, KeyRing, LeaveReason, Role, SendError, Target,
};
use quorate_sim::{Crypto, Duration, Link, NodeIndex, Sim, config};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Starts `count` nodes that share one name for all of them.
fn cluster(world: &mut Sim, count: usize, config: impl Fn() -> Config) -> Vec<NodeIndex> {
    let first = world.next_addr();
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(world.start(config().seed(first.to_string())));
    }
    nodes
}

fn sees(world: &Sim, node: NodeIndex, count: usize) -> bool {
    world.node_of(node).members().count() == count
}

fn all_see_each_other(world: &Sim, nodes: &[NodeIndex]) -> bool {
    nodes.iter().all(|&node| {
        let ids: Vec<_> = world.node_of(node).members().map(|member| member.id).collect();
        ids.len() == nodes.len() - 1 && nodes.iter().all(|&n| n == node || ids.contains(&world.id(n)))
    })
}

fn left(world: &Sim, observer: NodeIndex, subject: NodeIndex) -> Option<LeaveReason> {
    let id = world.id(subject);
    world.events(observer).iter().find_map(|(_, event)| match event {
        Event::MemberLeft { member, reason } if member.id == id => Some(*reason),
        _ => None,
    })
}

#[test]
fn nodes_find_each_other_by_name_by_address_and_by_gossip() {
    for crypto in [Crypto::Simulated, Crypto::Real] {
        let mut world = Sim::new(1);
        world.set_crypto(crypto);
        let first = world.next_addr();
        world.set_dns("db.local", &[first]);
        let a = world.start(config().seed("db.local"));
        let b = world.start(config().seed("db.local"));
        let c = world.start(config().seed(world.addr(b).to_string()));
        assert!(
            world.run_until(secs(5), |w| all_see_each_other(w, &[a, b, c])),
            "{crypto:?}"
        );
        for node in [a, b, c] {
            assert!(world.run_until(secs(5), |w| w.node_of(node).status(w.now()).ready));
        }
    }
}

#[test]
fn names_metadata_and_roles_travel() {
    let mut world = Sim::new(2);
    let a = world.start(config().name("alpha").metadata(*b"zone=1"));
    let seed = world.addr(a).to_string();
    let b = world.start(config().name("beta").seed(seed.clone()));
    let c = world.start(
        config()
            .name("gamma")
            .seed(seed)
            .role(Role::Observer)
            .metadata(vec![9; 512]),
    );
    world.run_for(secs(5));
    let look = |viewer, subject| world.node_of(viewer).member(world.id(subject)).expect("a member");
    for viewer in [b, c] {
        let member = look(viewer, a);
        assert_eq!(
            (member.name.as_str(), &member.metadata[..]),
            ("alpha", &b"zone=1"[..])
        );
    }
    assert_eq!(look(b, c).name, "gamma");
    assert_eq!(look(b, c).metadata.len(), 512);
    assert_eq!(look(b, c).role, Role::Observer);
    assert_eq!(look(b, c).addr, world.addr(c));
}

#[test]
fn a_crash_is_noticed_by_everybody_within_the_stated_time() {
    for seed in 0..20 {
        let mut world = Sim::new(seed);
        let nodes = cluster(&mut world, 5, config);
        assert!(world.run_until(secs(5), |w| all_see_each_other(w, &nodes)));
        world.run_for(secs(2));
        let crashed = nodes[4];
        world.crash(crashed);
        let rest = &nodes[..4];
        let timeout = config().heartbeat_timeout;
        assert!(
            world.run_until(timeout + secs(1), |w| rest.iter().all(|&n| sees(w, n, 3))),
            "seed {seed}"
        );
        for &node in rest {
            assert_eq!(left(&world, node, crashed), Some(LeaveReason::Failed));
        }
    }
}

#[test]
fn a_polite_leaver_is_gone_at_once_and_its_node_is_done() {
    let mut world = Sim::new(3);
    let nodes = cluster(&mut world, 3, config);
    assert!(world.run_until(secs(5), |w| all_see_each_other(w, &nodes)));
    world.with(nodes[2], |node| node.leave());
    assert!(world.run_until(secs(1), |w| sees(w, nodes[0], 1) && sees(w, nodes[1], 1)));
    assert!(world.run_until(secs(1), |w| {
        w.events(nodes[2]).iter().any(|(_, e)| *e == Event::LeaveDone)
    }));
    assert_eq!(left(&world, nodes[0], nodes[2]), Some(LeaveReason::Left));
    assert_eq!(world.node_of(nodes[2]).poll_timeout(), None);
    let refused = world.with(nodes[2], |node| node.send(Target::All, Bytes::new(), None));
    assert_eq!(refused, Err(SendError::Leaving));
}

#[test]
fn a_restarted_process_is_a_new_member_at_the_same_and_at_another_address() {
    let mut world = Sim::new(4);
    let nodes = cluster(&mut world, 3, config);
    assert!(world.run_until(secs(5), |w| all_see_each_other(w, &nodes)));
    let (addr, seed) = (world.addr(nodes[2]), world.addr(nodes[0]).to_string());
    world.crash(nodes[2]);
    let again = world.start_at(addr, config().seed(seed.clone()));
    assert!(world.run_until(secs(5), |w| all_see_each_other(w, &[nodes[0], nodes[1], again])));
    assert_eq!(left(&world, nodes[0], nodes[2]), Some(LeaveReason::Replaced));
    world.crash(again);
    let elsewhere = world.start(config().seed(seed));
    assert!(world.run_until(secs(8), |w| all_see_each_other(
        w,
        &[nodes[0], nodes[1], elsewhere]
    )));
}

#[test]
fn joined_and_left_alternate_for_each_member() {
    let mut world = Sim::new(5);
    world.set_link(Link::default().loss(200));
    let nodes = cluster(&mut world, 5, config);
    world.run_for(secs(30));
    world.partition(&nodes[..2], &nodes[2..]);
    world.run_for(secs(20));
    world.heal();
    world.set_link(Link::default());
    assert!(world.run_until(secs(60), |w| all_see_each_other(w, &nodes)));
    for &node in &nodes {
        for &subject in &nodes {
            let id = world.id(subject);
            let mut present = false;
            for (_, event) in world.events(node) {
                match event {
                    Event::MemberJoined(member) if member.id == id => {
                        assert!(!present, "joined twice");
                        present = true;
                    }
                    Event::MemberLeft { member, .. } if member.id == id => {
                        assert!(present, "left twice");
                        present = false;
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn two_halves_that_forgot_each_other_meet_again() {
    for seeded in [true, false] {
        let mut world = Sim::new(6);
        let nodes = cluster(&mut world, 4, || config().refresh_interval(None));
        assert!(world.run_until(secs(5), |w| all_see_each_other(w, &nodes)));
        // Without the seed's address in either half, only the memory of failed members can heal.
        let (left, right) = if seeded {
            nodes.split_at(2)
        } else {
            nodes.split_at(1)
        };
        world.partition(left, right);
        world.run_for(secs(600));
        assert!(nodes.iter().all(|&n| world.node_of(n).members().count() < 3));
        world.heal();
        assert!(
            world.run_until(secs(120), |w| all_see_each_other(w, &nodes)),
            "seeded {seeded}"
        );
    }
}

#[test]
fn a_paused_process_does_not_accuse_the_others() {
    let mut world = Sim::new(7);
    let nodes = cluster(&mut world, 5, config);
    assert!(world.run_until(secs(5), |w| all_see_each_other(w, &nodes)));
    world.run_for(secs(1));
    let from = world.events(nodes[0]).len();
    world.pause(nodes[0]);
    world.run_for(secs(10));
    world.resume(nodes[0]);
    world.run_for(secs(20));
    let accused = world.events(nodes[0])[from..]
        .iter()
        .find(|(_, e)| matches!(e, Event::MemberLeft { .. }));
    assert_eq!(accused, None, "the paused node declared others dead");
    for &node in &nodes[1..] {
        let wrong = world
            .events(node)
            .iter()
            .find(|(_, e)| matches!(e, Event::MemberLeft { member, .. } if member.id != world.id(nodes[0])));
        assert_eq!(wrong, None);
    }
    assert!(all_see_each_other(&world, &nodes));
}

#[test]
fn the_quorum_gate_opens_and_closes_and_broadcasts_wait_for_it() {
    let mut world = Sim::new(8);
    let three = || config().cluster_size(3);
    let a = world.start(three());
    world.run_for(secs(1));
    let sent = world
        .with(a, |node| node.send(Target::All, Bytes::from("hi"), None))
        .unwrap();
    let late = Some(world.now() + secs(1));
    let lost = world
        .with(a, |node| node.send(Target::All, Bytes::from("no"), late))
        .unwrap();
    world.run_for(secs(2));
    let failed = Event::SendDone {
        id: lost,
        to: None,
        result: Err(DeliveryError::NoQuorum),
    };
    assert!(world.events(a).iter().any(|(_, e)| *e == failed));
    assert!(!world.node_of(a).has_quorum());
    let b = world.start(three().seed(world.addr(a).to_string()));
    assert!(world.run_until(secs(2), |w| w.node_of(a).has_quorum()
        && w.node_of(b).has_quorum()));
    world.run_for(secs(1));
    let done = Event::SendDone {
        id: sent,
        to: Some(world.id(b)),
        result: Ok(()),
    };
    assert!(world.events(a).iter().any(|(_, e)| *e == done));
    assert_eq!(&world.messages(b)[0].1.payload[..], b"hi");
    world.crash(b);
    assert!(world.run_until(secs(5), |w| !w.node_of(a).has_quorum()));
    let changes = world
        .events(a)
        .iter()
        .filter(|(_, e)| matches!(e, Event::QuorumChanged { .. }))
        .count();
    assert_eq!(changes, 2);
}

#[test]
fn observers_are_not_counted_and_one_voter_is_its_own_quorum() {
    let mut world = Sim::new(9);
    let a = world.start(config().cluster_size(3));
    let seed = world.addr(a).to_string();
    let b = world.start(config().seed(seed).role(Role::Observer));
    world.run_for(secs(3));
    assert!(sees(&world, a, 1) && sees(&world, b, 1));
    assert!(!world.node_of(a).has_quorum());
    assert!(
        !world.node_of(b).has_quorum(),
        "an observer adopts the cluster's size"
    );
    let alone = world.start(config().cluster_size(1));
    assert!(world.node_of(alone).has_quorum());
}

#[test]
fn other_settings_are_quarantined_on_both_sides_and_other_names_ignored() {
    let mut world = Sim::new(10);
    let a = world.start(config().cluster_size(3));
    let seed = world.addr(a).to_string();
    let b = world.start(config().cluster_size(5).seed(seed.clone()));
    let c = world.start(config().cluster_name("other").seed(seed.clone()));
    let d = world.start(config().cluster_size(3).seed(seed));
    world.run_for(secs(15));
    for (node, other) in [(a, b), (b, a)] {
        let status = world.node_of(node).status(world.now());
        assert_eq!(status.quarantined.len(), 1, "{status:?}");
        assert_eq!(status.quarantined[0].id, world.id(other));
        assert!(
            status.quarantined[0].reasons[0]
                .to_string()
                .contains("cluster_size")
        );
    }
    assert!(sees(&world, a, 1) && sees(&world, d, 1) && sees(&world, b, 0) && sees(&world, c, 0));
    assert!(
        world
            .events(c)
            .iter()
            .any(|(_, e)| matches!(e, Event::Rejected { .. }))
    );
    assert!(world.node_of(a).stats().dropped(DropReason::OtherCluster) > 0);
}

#[test]
fn wrong_keys_and_plaintext_are_kept_out_and_named() {
    let mut world = Sim::new(11);
    world.set_crypto(Crypto::Real);
    let a = world.start(config());
    let seed = world.addr(a).to_string();
    let b = world.start(Config::new(seed.clone()).key(Key::from_bytes([8; 32])));
    let c = world.start(Config::new(seed).insecure());
    world.run_for(secs(5));
    assert!(sees(&world, a, 0) && sees(&world, b, 0) && sees(&world, c, 0));
    let stats = world.node_of(a).stats();
    assert!(stats.dropped(DropReason::UnknownKey) > 0);
    assert!(stats.dropped(DropReason::OtherFlavor) > 0);
    assert!(
        world
            .events(a)
            .iter()
            .any(|(_, e)| matches!(e, Event::UnknownKey { .. }))
    );
    assert!(!world.node_of(c).status(world.now()).secured);
}

#[test]
fn keys_rotate_without_losing_anybody_and_the_one_left_behind_is_named() {
    let mut world = Sim::new(12);
    let nodes = cluster(&mut world, 4, config);
    assert!(world.run_until(secs(5), |w| all_see_each_other(w, &nodes)));
    let (old, new) = (Key::from_bytes([7; 32]), Key::from_bytes([8; 32]));
    let rings = [
        vec![old.clone(), new.clone()],
        vec![new.clone(), old],
        vec![new.clone()],
    ];
    for ring in rings {
        for &node in &nodes[..3] {
            let ring = KeyRing::from_keys(ring.clone()).unwrap();
            world.with(node, |n| n.node_mut(|node, now| node.set_keys(now, ring)));
        }
        world.run_for(secs(45));
    }
    for &node in &nodes[..3] {
        assert!(sees(&world, node, 2));
        let ups = world.events(node).iter().filter(
            |(_, e)| matches!(e, Event::MemberLeft { member, .. } if member.id != world.id(nodes[3])),
        );
        assert_eq!(ups.count(), 0);
        let usage = world.node_of(node).status(world.now()).key_usage;
        assert_eq!(usage.len(), 1);
        assert_eq!(
            (usage[0].key, usage[0].sealing, usage[0].peers),
            (new.id(), true, 2)
        );
    }
    assert!(
        sees(&world, nodes[3], 0),
        "the node that missed the rotation is out"
    );
    assert!(
        world
            .events(nodes[0])
            .iter()
            .any(|(_, e)| matches!(e, Event::UnknownKey { .. }))
    );
}

#[test]
fn a_node_that_missed_a_rotation_learns_it_before_it_is_ready() {
    let mut world = Sim::new(17);
    let here = world.next_addr();
    let other = world.start(config().key(Key::from_bytes([8; 32])).seed("10.0.0.2"));
    world.run_for(secs(3));
    let behind = world.start(config().seed(here.to_string()));
    assert!(world.run_until(secs(5), |w| {
        w.events(behind).iter().any(|(_, e)| *e == Event::Ready)
    }));
    let seen = world.node_of(behind).status(world.now()).unknown_keys;
    assert_eq!(seen, [(here, Key::from_bytes([8; 32]).id())]);
    let seen = world.node_of(other).status(world.now()).unknown_keys;
    assert_eq!(seen, [(world.addr(behind), Key::from_bytes([7; 32]).id())]);
}

#[test]
fn twenty_nodes_under_loss_converge_and_talk() {
    let mut world = Sim::new(13);
    world.set_link(Link::default().loss(50).duplicates(50));
    let nodes = cluster(&mut world, 20, config);
    assert!(world.run_until(secs(20), |w| all_see_each_other(w, &nodes)));
    let id = world
        .with(nodes[0], |n| n.send(Target::All, Bytes::from("x"), None))
        .unwrap();
    world.run_for(secs(6));
    let ok = world
        .events(nodes[0])
        .iter()
        .filter(|(_, e)| matches!(e, Event::SendDone { id: i, result: Ok(()), .. } if *i == id));
    assert_eq!(ok.count(), 19);
    for &node in &nodes[1..] {
        assert_eq!(world.messages(node).len(), 1);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = Sim::new(seed);
        world.set_crypto(if seed % 2 == 0 {
            Crypto::Real
        } else {
            Crypto::Simulated
        });
        world.set_link(Link::default().loss(100).duplicates(50));
        let nodes = cluster(&mut world, 5, || config().cluster_size(5));
        for round in 0..20_u8 {
            world.run_for(Duration::from_millis(500));
            for &node in &nodes[..4] {
                let payload = Bytes::from(vec![round; 3000]);
                let _ = world.with(node, |n| n.request(Target::All, payload, None));
            }
        }
        world.crash(nodes[4]);
        world.run_for(secs(10));
        world.trace_hash()
    };
    for seed in [100, 101] {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(100), run(102));
}

/// A whole cluster that is shut down goes at once: whoever hears the goodbyes of the others first waits for nobody.
#[test]
fn all_who_leave_together_go_at_once() {
    for seed in 0..40 {
        for hosts in [3, 5] {
            let schedule = quorate_sim::Schedule {
                cluster_size: hosts as u8,
                ..quorate_sim::Schedule::calm(seed, hosts)
            };
            let mut sim = Sim::builder().schedule(schedule).build();
            sim.run_for(Duration::from_secs(10));
            for node in (0..hosts).map(NodeIndex) {
                sim.with(node, |cx| cx.leave());
                sim.run_for(Duration::from_micros(seed * 50));
            }
            let left = |sim: &Sim| (0..hosts).map(NodeIndex).all(|node| !sim.is_running(node));
            assert!(
                sim.run_until(Duration::from_secs(1), left),
                "seed {seed}, {hosts} hosts"
            );
        }
    }
}
