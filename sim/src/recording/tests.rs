use super::*;
use crate::observe::Command;
use crate::sim::Sim;
use crate::{Corruption, Host, HostSet, config};
use bytes::Bytes;
use quorate_core::Target;

const ALL: HostSet = HostSet::ALL;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Three members that know each other.
fn three(limit: usize) -> Sim {
    let mut sim = Sim::builder()
        .seed(3)
        .hosts(3)
        .observer(Recording::new(limit))
        .build();
    sim.run_for(secs(2));
    sim
}

fn of(sim: &Sim) -> &Recording {
    sim.observer().expect("the builder was given one")
}

fn outcomes(sim: &Sim) -> Vec<Ending> {
    of(sim).flights.iter().map(Flight::outcome).collect()
}

/// Returns how many datagrams had this outcome while a fault went on that makes it.
fn count_under(kind: FaultKind, outcome: Ending) -> usize {
    let mut sim = three(10_000);
    let before = outcomes(&sim).len();
    sim.inject(kind, secs(4));
    sim.run_for(secs(4));
    outcomes(&sim)[before..]
        .iter()
        .filter(|&&it| it == outcome)
        .count()
}

#[test]
fn the_last_things_are_kept_and_the_others_counted() {
    let (mut all, mut few) = (three(100_000), three(50));
    for sim in [&mut all, &mut few] {
        sim.inject(FaultKind::Crash { host: Host(1) }, secs(2));
        sim.run_for(secs(10));
    }
    assert_eq!(all.trace_hash(), few.trace_hash());
    let (whole, part) = (of(&all), of(&few));
    assert_eq!(whole.left_out(), 0);
    assert_eq!(part.datagrams(), 50);
    assert!(
        part.happenings.items.len() <= 50 && part.traffic.items.len() <= 50 && part.changes.items.len() <= 50
    );
    assert_eq!(
        part.flights.left_out() + 50,
        whole.datagrams() as u64,
        "what is not there was counted"
    );
    let numbers = |of: &Recording| of.flights.iter().map(|f| f.datagram.number).collect::<Vec<_>>();
    assert!(numbers(whole).ends_with(&numbers(part)), "the last ones are kept");
    assert!(part.under_way.len() <= 50);
    let fates = |of: &Recording| of.flights.iter().map(Flight::outcome).collect::<Vec<_>>();
    assert!(
        fates(whole).ends_with(&fates(part)),
        "what is left out confuses nothing"
    );
}

#[test]
fn busy_users_push_no_other_happenings_out() {
    let mut sim = three(100);
    for _ in 0..200 {
        let sent = sim.with(NodeIndex(0), |cx| cx.send(Target::All, "hello", None));
        assert!(sent.is_ok());
        sim.run_for(Duration::from_millis(20));
    }
    assert!(of(&sim).traffic.left_out() > 500);
    assert_eq!(of(&sim).happenings.left_out(), 0);
    let starts = of(&sim).happenings.iter().filter(|it| it.label == "started");
    assert_eq!(starts.count(), 3);
}

#[test]
fn a_limit_of_nothing_keeps_nothing() {
    let sim = three(0);
    assert_eq!((of(&sim).datagrams(), of(&sim).happenings()), (0, 0));
    assert!(of(&sim).left_out() > 50 && of(&sim).under_way.is_empty());
}

#[test]
fn views_with_and_without_what_was_left_out_are_the_same_at_the_end() {
    let views = |limit| {
        let mut sim = three(limit);
        sim.inject(
            FaultKind::Split {
                left: HostSet::of([0]),
            },
            secs(8),
        );
        sim.run_for(secs(20));
        let mut views: BTreeMap<_, _> = of(&sim)
            .lives
            .iter()
            .map(|(&n, life)| (n, life.before.clone()))
            .collect();
        for change in of(&sim).changes.iter() {
            views.entry(change.node).or_default().apply(change.news);
        }
        for (&node, life) in &of(&sim).lives {
            assert_eq!(views[&node], life.now);
            assert_eq!(life.now.listed.len(), sim.node_of(node).members().count());
        }
        (views, of(&sim).changes.left_out())
    };
    let (all, few) = (views(10_000), views(4));
    assert_eq!((all.1, all.0), (0, few.0));
    assert!(few.1 > 4, "suspicions, failures and reunions came and went");
}

#[test]
fn datagrams_have_the_fate_that_a_fault_gave_them() {
    let permille = 500;
    let (from, to) = (ALL, ALL);
    let how = Corruption::Flip;
    assert!(count_under(FaultKind::Loss { from, to, permille }, Ending::Lost) > 10);
    assert!(
        count_under(
            FaultKind::OneWay {
                from,
                to: HostSet::of([1])
            },
            Ending::Cut
        ) > 10
    );
    assert!(count_under(FaultKind::Mtu { from, to, bytes: 20 }, Ending::Cut) > 10);
    assert!(count_under(FaultKind::Duplicate { from, to, permille }, Ending::Duplicate) > 10);
    assert!(
        count_under(
            FaultKind::Corrupt {
                from,
                to,
                permille,
                how
            },
            Ending::Altered
        ) > 10
    );
    assert!(count_under(FaultKind::Crash { host: Host(2) }, Ending::Undelivered) > 10);
    assert_eq!(count_under(FaultKind::Freeze { host: Host(0) }, Ending::Lost), 0);
}

#[test]
fn what_waits_is_under_way_until_it_arrives() {
    let mut sim = three(10_000);
    let waits = |sim: &Sim| outcomes(sim).iter().filter(|&&it| it == Ending::UnderWay).count();
    assert!(waits(&sim) < 4);
    sim.inject(FaultKind::Clog { from: ALL, to: ALL }, secs(2));
    sim.run_for(Duration::from_millis(1_900));
    assert!(waits(&sim) > 10);
    sim.run_for(Duration::from_millis(200));
    assert!(waits(&sim) < 4);
    let late = |f: &&Flight| f.arrival.as_ref().is_some_and(|a| a.at - f.sent > secs(1));
    assert!(of(&sim).flights.iter().filter(late).count() > 3);
}

#[test]
fn forged_and_replayed_datagrams_come_from_outside_and_are_refused() {
    let mut sim = three(10_000);
    sim.capture(10);
    sim.run_for(secs(2));
    let (victim, old) = (NodeIndex(0), sim.captured()[0].clone());
    let from = "203.0.113.9:1".parse().expect("an address");
    sim.replay(victim, from, &old);
    sim.inject_datagram(victim, from, b"not of quorate");
    let last: Vec<_> = of(&sim).flights.iter().filter(|f| f.from.is_none()).collect();
    let shown: Vec<_> = last.iter().map(|f| f.outcome()).collect();
    assert_eq!(shown, [Ending::Replayed, Ending::Foreign]);
    let dropped = |f: &Flight| f.arrival.as_ref().map(|arrival| arrival.dropped.clone());
    assert_eq!(dropped(last[1]), Some(vec![DropReason::Malformed]));
}

#[test]
fn a_restart_is_a_new_life_and_a_goodbye_is_no_crash() {
    let mut sim = three(10_000);
    sim.inject(FaultKind::Crash { host: Host(1) }, secs(1));
    sim.run_for(secs(2));
    sim.inject(FaultKind::Leave { host: Host(2) }, secs(2));
    sim.inject(FaultKind::Pause { host: Host(0) }, secs(1));
    sim.run_for(secs(5));
    let labels = |host| {
        let lives = of(&sim).lives.values().filter(|life| life.host == Host(host));
        lives
            .map(|life| (life.label.clone(), life.ended.is_some(), life.leaving.is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        labels(1),
        [("1a".into(), true, false), ("1b".into(), false, false)]
    );
    assert_eq!(
        labels(2),
        [("2a".into(), true, true), ("2b".into(), false, false)]
    );
    let said: Vec<_> = of(&sim).happenings.iter().map(|it| it.label.as_str()).collect();
    for label in [
        "started",
        "crashed",
        "leaves",
        "has left",
        "gone",
        "paused",
        "goes on",
        "−2a left",
        "+1b",
    ] {
        assert!(said.contains(&label), "{label} is not in {said:?}");
    }
    let pauses: Vec<_> = of(&sim)
        .pauses
        .iter()
        .map(|p| p.to.map(|to| to - p.from))
        .collect();
    assert_eq!(pauses, [Some(secs(1))]);
    let bands: Vec<_> = of(&sim)
        .bands
        .iter()
        .map(|b| b.ended.map(|end| end - b.began))
        .collect();
    assert_eq!(bands, [Some(secs(1)), Some(secs(2)), Some(secs(1))]);
}

#[test]
fn texts_name_processes_and_are_short() {
    let mut sim = Sim::builder().hosts(0).observer(Recording::new(1_000)).build();
    let a = sim.start(config());
    let b = sim.start(config().seed(sim.addr(a).to_string()));
    sim.run_for(secs(1));
    let payload = vec![0xff; 100_000];
    let to = Target::Node(sim.id(b));
    assert!(sim.with(a, |cx| cx.send(to, payload, None)).is_ok());
    sim.run_for(secs(1));
    let find = |label: &str| of(&sim).traffic.iter().find(|it| it.label == label);
    let sent = find("send to 1a").expect("the command was seen");
    assert!(sent.detail.contains("100000 bytes \"\\xff"), "{}", sent.detail);
    assert!(find("sent to 1a").is_some_and(|it| it.class == Class::Outcome));
    assert!(find("message of 0a").is_some_and(|it| it.node == Some(b)));
    assert!(of(&sim).happenings.iter().all(|it| it.detail.len() <= 410));
    let long = text::short("é".repeat(1_000));
    assert!(long.len() <= 410 && long.ends_with('…'));
    let all = Command::Send {
        to: Target::All,
        payload: Bytes::new(),
        deadline: None,
        result: Err(quorate_core::SendError::Leaving),
    };
    let (class, label, _) = text::command(&all, |_| unreachable!("all have no name"));
    assert_eq!((class, label.as_str()), (Class::Failure, "send to all: refused"));
    assert_eq!(text::label(Host(3), 25), "3z");
    assert_eq!(text::label(Host(3), 26), "3.27");
}
