use super::record::{Rank, Record, State};
use super::*;
use crate::wire::Reader;
use harness::{Net, ms, secs};
use quickcheck::{Arbitrary, Gen, quickcheck};

mod detector;
mod harness;
#[cfg(feature = "planted-bugs")]
mod planted;
mod quarantine;
mod vectors;

impl Arbitrary for Record {
    fn arbitrary(g: &mut Gen) -> Self {
        let states = [State::Alive, State::Suspect, State::Failed, State::Left];
        let port = u16::arbitrary(g).max(1);
        Self {
            id: NodeId::from_bytes([7; 16]),
            addr: SocketAddr::from(([10, 0, 0, 1], port)),
            incarnation: u32::arbitrary(g) % 4,
            state: *g.choose(&states).unwrap(),
            role: *g.choose(&[Role::Voter, Role::Observer]).unwrap(),
            version: 1,
            replaced: bool::arbitrary(g),
            details: u32::arbitrary(g),
            accuser: NodeId::from_bytes([9; 16]),
            age: u16::arbitrary(g),
        }
    }
}

fn merge(records: &[Record]) -> Option<Rank> {
    records.iter().map(Record::rank).max()
}

quickcheck! {
    fn merging_in_any_order_gives_one_result(records: Vec<Record>, seed: u64) -> bool {
        // The table itself, not only the order: merge the same records in two orders into two nodes.
        let mut net = Net::new(2, seed);
        let (a, b) = (net.stranger(0), net.stranger(1));
        let mut backwards = records.clone();
        backwards.reverse();
        backwards.extend_from_slice(&records);
        for (node, list) in [(0, &records), (1, &backwards)] {
            for record in list {
                net.with(node, |m, cx| { m.learn(cx, &Record { age: 0, ..*record }, Source::Gossip(if node == 0 { a } else { b })); });
            }
        }
        let id = NodeId::from_bytes([7; 16]);
        let rank = |net: &mut Net, node| net.with(node, |m, cx| m.record_of(cx, id).map(|r| r.rank()));
        let (left, right) = (rank(&mut net, 0), rank(&mut net, 1));
        left == right && left == merge(&records)
    }

    fn records_round_trip(record: Record) -> bool {
        let mut buf = Vec::new();
        record.encode(&mut buf);
        buf.len() == record::RECORD_LEN && Record::decode(&mut Reader::new(&buf)) == Some(record)
    }

    fn any_bytes_are_survived(kind: u8, body: Vec<u8>) -> bool {
        let mut net = Net::new(2, 1);
        net.connect(0, 1);
        net.run(secs(1));
        let from = net.id(1);
        for kind in [kind % 16, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11] {
            net.with(0, |m, cx| { let _ = m.handle_frame(cx, from, kind, &body); });
        }
        true
    }
}

#[test]
fn precedence_is_that_of_the_design() {
    use State::{Alive, Failed, Left, Suspect};
    let beats = |a: (State, u32), b: (State, u32)| Rank::new(a.0, a.1) > Rank::new(b.0, b.1);
    assert!(beats((Left, 0), (Alive, u32::MAX)));
    assert!(beats((Failed, 3), (Suspect, 3)) && beats((Failed, 3), (Alive, 2)));
    assert!(beats((Suspect, 3), (Alive, 3)) && !beats((Suspect, 2), (Alive, 3)));
    assert!(beats((Alive, 4), (Failed, 3)) && !beats((Alive, 3), (Failed, 3)));
}

#[test]
fn two_nodes_join_with_name_and_metadata() {
    let mut net = Net::new(2, 1);
    net.connect(0, 1);
    net.run(secs(1));
    for (node, other) in [(0, 1), (1, 0)] {
        let id = net.id(other);
        let member = net.membership(node).get(id).cloned().unwrap();
        assert_eq!(member.name, std::format!("node {other}"));
        assert_eq!(&member.metadata[..], b"metadata");
        assert_eq!(member.addr, net.addr(other));
        assert_eq!(net.membership(node).voters_present(), 2);
        assert_eq!(net.membership(node).pending_exchanges(), 0);
        assert_eq!(net.membership(node).own_addr(), Some(net.addr(node)));
        assert!(matches!(net.events(node)[..], [Event::MemberJoined(_)]));
    }
}

#[test]
fn details_of_members_learnt_by_gossip_are_pulled() {
    let mut net = Net::new(3, 2);
    net.connect(0, 1);
    net.connect(1, 2);
    net.run(secs(3));
    let id = net.id(2);
    let member = net.membership(0).get(id).unwrap();
    assert_eq!((member.name.as_str(), member.addr), ("node 2", net.addr(2)));
    net.check();
}

#[test]
fn a_false_suspicion_is_refuted() {
    let mut net = Net::new(4, 5);
    net.form();
    let (accused, accuser) = (net.id(0), net.id(3));
    let record = Record {
        state: State::Suspect,
        accuser,
        ..net.membership(0).own_record()
    };
    net.with(1, |m, cx| {
        m.learn(cx, &record, Source::Gossip(accuser));
    });
    net.run(secs(5));
    assert_eq!(net.membership(0).own_incarnation(), 1);
    for n in 1..4 {
        let member = net.membership(n).get(accused).unwrap();
        assert_eq!((member.state, member.incarnation), (MemberState::Alive, 1));
        let left = net
            .events(n)
            .iter()
            .any(|e| matches!(e, Event::MemberLeft { .. }));
        assert!(!left, "nobody saw it leave");
    }
}

#[test]
fn hearsay_of_a_failure_does_not_beat_fresh_evidence() {
    let mut net = Net::new(4, 6);
    net.form();
    let id = net.id(0);
    let record = Record {
        state: State::Failed,
        ..net.membership(0).own_record()
    };
    let from = net.id(2);
    net.with(1, |m, cx| {
        m.learn(cx, &record, Source::Gossip(from));
    });
    net.run(secs(3));
    assert!(net.membership(1).get(id).is_some_and(|m| m.incarnation == 1));
    assert!(
        !net.events(1)
            .iter()
            .any(|e| matches!(e, Event::MemberLeft { .. }))
    );
    net.check();
}

#[test]
fn leaving_is_told_to_all_and_final() {
    let mut net = Net::new(5, 7);
    net.form();
    let id = net.id(2);
    net.with(2, |m, cx| m.leave(cx));
    net.run(ms(400));
    assert!(net.membership(2).left());
    assert_eq!(net.membership(2).poll_timeout(), None);
    for n in [0, 1, 3, 4] {
        assert!(net.membership(n).get(id).is_none());
        assert!(matches!(
            net.events(n).last(),
            Some(Event::MemberLeft {
                reason: LeaveReason::Left,
                ..
            })
        ));
        // Not even a higher incarnation brings it back.
        let ghost = Record {
            incarnation: 99,
            ..net.membership(2).own_record()
        };
        net.with(n, |m, cx| {
            m.learn(cx, &ghost, Source::Gossip(id));
        });
        assert!(net.membership(n).get(id).is_none());
    }
    net.check();
}

#[test]
fn leaving_alone_and_unheard_end_too() {
    let mut net = Net::new(3, 8);
    net.with(0, |m, cx| m.leave(cx));
    assert!(net.membership(0).left());
    net.connect(1, 2);
    net.run(secs(1));
    net.crash(2);
    net.with(1, |m, cx| m.leave(cx));
    assert!(!net.membership(1).left());
    net.run(ms(510));
    assert!(net.membership(1).left());
}

#[test]
fn a_leave_for_somebody_else_is_ignored() {
    let mut net = Net::new(3, 9);
    net.form();
    let (liar, victim) = (net.id(1), net.id(2));
    let mut body = victim.to_bytes().to_vec();
    body.extend_from_slice(&[0; 4]);
    let result = net.with(0, |m, cx| m.handle_frame(cx, liar, kind::LEAVE, &body));
    assert_eq!(result, Err(BadFrame));
    assert!(net.membership(0).get(victim).is_some() && net.membership(0).get(liar).is_some());
}

#[test]
fn a_long_isolated_node_brings_no_ghosts() {
    let mut net = Net::new(4, 11);
    net.form();
    let gone = net.id(3);
    net.pause(0, secs(7200));
    net.run(secs(10));
    net.with(3, |m, cx| m.leave(cx));
    net.run(secs(4000));
    assert!(net.membership(1).get(gone).is_none());
    net.resume(0);
    net.run(secs(60));
    assert!(net.membership(0).get(gone).is_none());
    for n in [1, 2] {
        assert!(net.membership(n).get(gone).is_none());
        let id = net.id(0);
        assert!(net.membership(n).get(id).is_some());
        assert!(
            !net.events(n)
                .iter()
                .skip(4)
                .any(|e| matches!(e, Event::MemberJoined(m) if m.id == gone))
        );
    }
    net.check();
}

#[test]
fn a_partition_heals_without_the_halves_losing_their_own() {
    let mut net = Net::new(8, 12);
    net.form();
    net.partition(4);
    net.run(secs(20));
    assert!((0..8).all(|n| net.membership(n).members().count() == 3));
    let before: Vec<_> = (0..8).map(|n| net.events(n).len()).collect();
    net.partition(0);
    net.run(secs(60));
    for (n, &before) in before.iter().enumerate() {
        assert_eq!(net.membership(n).members().count(), 7, "node {n}");
        let since = &net.events(n)[before..];
        assert!(
            !since.iter().any(|e| matches!(e, Event::MemberLeft { .. })),
            "node {n}: {since:?}"
        );
    }
    net.check();
}

#[test]
fn a_process_at_the_address_of_another_replaces_it() {
    let mut net = Net::new(3, 13);
    net.form();
    let old = net.id(2);
    net.restart(2);
    net.connect(2, 0);
    net.run(secs(1));
    for n in [0, 1] {
        assert!(net.membership(n).get(old).is_none());
        let left = net
            .events(n)
            .iter()
            .find(|e| matches!(e, Event::MemberLeft { .. }));
        assert!(matches!(
            left,
            Some(Event::MemberLeft {
                reason: LeaveReason::Replaced,
                ..
            })
        ));
        assert_eq!(net.membership(n).voters_present(), 3);
    }
    net.check();
}

#[test]
fn a_hundred_nodes_converge_and_their_load_is_flat() {
    let load = |size: usize| {
        let mut net = Net::new(size, 15);
        net.form();
        assert!((0..size).all(|n| net.membership(n).members().count() == size - 1));
        assert!((0..size).all(|n| net.membership(n).members().all(|m| !m.name.is_empty())));
        net.run(secs(30));
        net.bytes = 0;
        net.run(secs(10));
        assert!((0..size).all(|n| net.stats(n).suspicions == 0));
        net.check();
        net.bytes / 10 / size
    };
    let (small, large) = (load(50), load(100));
    assert!(
        large < 6000 && large < small * 2,
        "{small} and {large} bytes a second for each node"
    );
}

#[test]
fn loss_of_one_in_ten_fails_nobody() {
    let mut net = Net::new(10, 16);
    net.loss = 100;
    net.form();
    net.run(secs(120));
    assert!((0..10).all(|n| net.membership(n).members().count() == 9));
    assert!((0..10).all(|n| {
        !net.events(n)
            .iter()
            .any(|e| matches!(e, Event::MemberLeft { .. }))
    }));
}

#[test]
fn members_are_bounded() {
    let mut net = Net::new(1, 17);
    net.config(0).max_members = 2;
    let from = NodeId::from_bytes([1; 16]);
    for n in 2..6u8 {
        let record = Record {
            id: NodeId::from_bytes([n; 16]),
            addr: SocketAddr::from(([10, 9, 9, n], 5000)),
            ..net.membership(0).own_record()
        };
        net.with(0, |m, cx| {
            m.learn(cx, &record, Source::Gossip(from));
        });
    }
    assert_eq!(net.membership(0).members().count(), 2);
    assert_eq!(net.stats(0).dropped(DropReason::MembersFull), 2);
}

#[test]
fn tombstones_grow_old_wherever_they_go() {
    let mut net = Net::new(2, 18);
    let from = net.id(1);
    let record = Record {
        id: NodeId::from_bytes([5; 16]),
        addr: net.addr(1),
        state: State::Left,
        age: 3000,
        ..net.membership(0).own_record()
    };
    net.with(0, |m, cx| {
        m.learn(cx, &record, Source::Gossip(from));
    });
    net.run(secs(599));
    assert_eq!(
        net.with(0, |m, cx| m.table.tombstone(cx.now, record.id).unwrap().age),
        3599
    );
    net.run(secs(2));
    assert!(
        net.with(0, |m, cx| m.table.tombstone(cx.now, record.id))
            .is_none()
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut net = Net::new(12, seed);
        net.loss = 50;
        net.form();
        net.crash(3);
        net.run(secs(10));
        let events: Vec<_> = (0..12).map(|n| net.events(n).to_vec()).collect();
        (net.bytes, events)
    };
    assert_eq!(history(19), history(19));
}

#[test]
fn many_joiners_at_one_seed_all_get_the_whole_picture() {
    let mut net = Net::new(60, 20);
    net.loss = 50;
    for n in 1..60 {
        net.connect(n, 0);
    }
    net.run(secs(15));
    for n in 0..60 {
        assert_eq!(net.membership(n).members().count(), 59, "node {n}");
        assert_eq!(net.membership(n).pending_exchanges(), 0, "node {n}");
    }
    net.check();
}

#[test]
fn observers_are_probed_and_never_counted() {
    let mut net = Net::new(6, 21);
    for n in 4..6 {
        net.observer(n);
    }
    net.form();
    for n in 0..6 {
        assert_eq!(net.membership(n).voters_present(), 4);
        assert_eq!(net.membership(n).partners().len(), if n < 4 { 3 } else { 0 });
    }
    let id = net.id(5);
    net.crash(5);
    net.run(secs(8));
    assert!((0..5).all(|n| net.membership(n).get(id).is_none()));
    net.check();
}

#[test]
fn a_moved_peer_keeps_its_membership_and_learns_its_address() {
    let mut net = Net::new(3, 22);
    net.form();
    let (id, addr) = (net.id(2), SocketAddr::from(([10, 0, 7, 7], 5000)));
    net.with(0, |m, cx| m.peer_moved(cx, id, addr));
    net.run(secs(3));
    assert_eq!(net.membership(2).own_addr(), Some(addr));
    for n in [0, 1] {
        assert_eq!(net.membership(n).address(id), Some(addr), "node {n}");
        assert_eq!(net.membership(n).member_at(addr), Some(id));
    }
    net.check();
}

#[test]
fn who_has_not_noticed_the_move_of_another_does_not_spread_where_it_was() {
    let mut net = Net::new(4, 22);
    net.form();
    let (id, addr) = (net.id(3), SocketAddr::from(([10, 0, 7, 7], 5000)));
    net.with(0, |m, cx| m.peer_moved(cx, id, addr));
    net.run(ms(5));
    assert_eq!(net.membership(3).own_addr(), Some(addr));
    // The other two see it where it was, and hear of the raised incarnation from itself.
    for n in [1, 2] {
        let there = net.id(n);
        net.with(3, |m, cx| m.start_join(cx, there, 0));
    }
    net.run(secs(20));
    for n in 0..3 {
        assert_eq!(net.membership(n).address(id), Some(addr), "node {n}");
    }
    net.check();
}

#[test]
fn a_lonely_node_sleeps() {
    let net = Net::new(1, 23);
    assert_eq!(net.membership(0).poll_timeout(), None);
}

#[test]
fn partitions_of_many_shapes_heal_within_a_minute() {
    for seed in 0..12u64 {
        let size = 3 + seed as usize % 9;
        let mut net = Net::new(size, 100 + seed);
        net.loss = (seed % 4) * 50;
        net.form();
        net.partition(size / 2);
        net.run(secs(20 + seed * 30));
        net.partition(0);
        net.run(secs(60));
        assert!(
            (0..size).all(|n| net.membership(n).members().count() == size - 1),
            "seed {seed}"
        );
        net.check();
    }
}

#[test]
fn a_failed_peer_is_looked_for_until_it_is_a_member_again() {
    for seed in 0..20 {
        let mut net = Net::new(2, seed);
        net.form();
        net.partition(1);
        net.run(secs(10));
        net.partition(0);
        // Sessions open again at some time, but all that is said on them at first is lost.
        net.loss = 1000;
        net.run(secs(90));
        net.loss = 0;
        net.run(secs(60));
        for (a, b) in [(0, 1), (1, 0)] {
            assert!(net.membership(a).get(net.id(b)).is_some(), "seed {seed}: {a}");
        }
    }
}

#[test]
fn a_join_that_is_refused_for_a_false_death_is_said_again_until_it_is_heard() {
    for seed in 0..20 {
        let mut net = Net::new(2, seed);
        net.form();
        net.partition(1);
        net.run(secs(10));
        net.partition(0);
        net.loss = 300;
        net.connect(0, 1);
        net.run(secs(8));
        let back = |a: usize, b: usize| net.membership(a).get(net.id(b)).is_some();
        assert!(back(0, 1) && back(1, 0), "seed {seed}");
    }
}
