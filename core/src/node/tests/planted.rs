//! Each planted bug changes what happens.

use super::*;
use crate::planted::{PlantedBug, without_and_with};

/// Nodes at consecutive addresses that know each other after three seconds.
fn cluster(size: u8, config: impl Fn() -> Config) -> Vec<(SocketAddr, Node)> {
    let start = |n| {
        let config = config();
        let config = if n == 1 { config } else { config.seed("10.0.0.1") };
        (addr(n), node(config, n))
    };
    let mut nodes: Vec<_> = (1..=size).map(start).collect();
    run(&mut nodes, at(3_000));
    assert!(
        nodes
            .iter()
            .all(|(_, node)| node.members().count() == usize::from(size) - 1)
    );
    nodes
}

#[test]
fn timers_starved_by_input() {
    let noticed = || {
        let mut nodes = cluster(3, config);
        nodes.truncate(2);
        let to = nodes[0].1.id();
        for step in 0..200 {
            let now = 3_000 + step * 100;
            let message = nodes[1].1.send(at(now), Target::Node(to), Bytes::new(), None);
            assert!(message.is_ok());
            run_from(&mut nodes, at(now), at(now + 99));
            while nodes[0].1.poll_message(at(now + 99)).is_some() {}
        }
        nodes[0].1.members().count() == 1
    };
    assert_eq!(
        without_and_with(PlantedBug::TimersStarvedByInput, noticed),
        (true, false)
    );
}

#[test]
fn healing_forgets() {
    let reunited = || {
        let mut nodes = cluster(2, config);
        run_from(&mut nodes[..1], at(3_000), at(20_000));
        run_from(&mut nodes[1..], at(3_000), at(20_000));
        assert!(nodes.iter().all(|(_, node)| node.members().count() == 0));
        run_from(&mut nodes, at(20_000), at(200_000));
        nodes[0].1.members().count()
    };
    assert_eq!(without_and_with(PlantedBug::HealingForgets, reunited), (1, 0));
}

#[test]
fn answer_taken_for_members() {
    let members = || {
        let mut nodes = cluster(2, config);
        nodes[0].1.handle_resolved(at(3_000), ResolveId(0), &[]);
        nodes[0].1.members().count()
    };
    assert_eq!(
        without_and_with(PlantedBug::AnswerTakenForMembers, members),
        (1, 0)
    );
}

#[test]
fn gate_never_released() {
    let outcome = || {
        let config = || config().cluster_size(3);
        let mut nodes = vec![
            (addr(1), node(config(), 1)),
            (addr(2), node(config().seed("10.0.0.1"), 2)),
        ];
        let id = nodes[0].1.send(at(0), Target::All, Bytes::new(), None).unwrap();
        run(&mut nodes, at(6_000));
        let done = |event: Event| match event {
            Event::SendDone { id: of, result, .. } if of == id => Some(result),
            _ => None,
        };
        core::iter::from_fn(|| nodes[0].1.poll_event()).find_map(done)
    };
    assert_eq!(
        without_and_with(PlantedBug::GateNeverReleased, outcome),
        (Some(Ok(())), Some(Err(DeliveryError::NoQuorum)))
    );
}

#[test]
fn quorum_never_lost() {
    let kept = || {
        let mut nodes = cluster(2, || config().cluster_size(3));
        assert!(nodes[0].1.has_quorum());
        nodes.truncate(1);
        run_from(&mut nodes, at(3_000), at(20_000));
        nodes[0].1.has_quorum()
    };
    assert_eq!(without_and_with(PlantedBug::QuorumNeverLost, kept), (false, true));
}
