mod creation;

use super::ledger::tests::{Fake, RULES, Watch, life};
use super::*;
use crate::checkers::testing::{A, B, C, cluster, secs};
use crate::fault::{FaultKind, Host};
use crate::schedule::Schedule;
use crate::sim::Sim;
use quorate_core::consensus::{Command as Entry, Position};
use quorate_core::{DrawId, Duration, Life};

fn key() -> Key {
    Key {
        life: life(1),
        group: Some(Group {
            founder: life(2),
            founding: 1,
        }),
        part: Part::Follower,
        term: 3,
        vote: Some(life(2)),
        commit: 4,
        applied: 4,
        last: Position { term: 3, index: 5 },
        base: Position::default(),
        asked: true,
        floor: 9,
    }
}

#[test]
fn what_one_process_may_not_do() {
    type Spoil = fn(&mut Key);
    let cases: [(Spoil, &str); 9] = [
        (|key| key.life = life(4), "goes on as"),
        (|key| key.floor = 8, "forgets that tokens up to 9 may be taken"),
        (|key| key.group = None, "in the same life"),
        (
            |key| {
                key.group = Some(Group {
                    founder: life(3),
                    founding: 1,
                })
            },
            "in the same life",
        ),
        (|key| key.term = 2, "goes back from term 3"),
        (|key| key.commit = 3, "goes back from term 3 and decided entry 4"),
        (|key| key.vote = Some(life(3)), "says now that it voted for"),
        (|key| key.vote = None, "says now that it voted for"),
        (|key| key.life.number = 1, ""),
    ];
    for (spoil, what) in cases {
        let mut after = key();
        spoil(&mut after);
        match check_life(&key(), &after, false) {
            Err(objection) => assert!(!what.is_empty() && objection.contains(what), "{objection}"),
            // A new life is free.
            Ok(()) => assert_eq!(what, ""),
        }
    }
    let mut older = key();
    older.life.number = 2;
    let objection = check_life(&older, &key(), false).unwrap_err();
    assert!(objection.contains("goes on as"), "{objection}");
    // A vote in a later term.
    let mut later = key();
    (later.term, later.vote) = (4, Some(life(3)));
    assert_eq!(check_life(&key(), &later, false), Ok(()));
}

const fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1_000)
}

/// A group of two that was founded and opened, and has granted its founder a token: the first one above `token_base`.
fn granting(founder: Life, token_base: u64, created: u64) -> Ledger {
    let other = life(9);
    let mut leader = Fake::of(founder, [founder, other].into_iter().collect(), token_base);
    let rules = Rules {
        grace: Duration::ZERO,
        ..RULES
    };
    let mut watch = Watch::new(&leader, rules, at(created));
    leader.append(Entry::Open);
    leader.append(Entry::Draw {
        to: founder,
        request: 1,
    });
    watch.look(&leader).unwrap();
    watch.look(&leader.followed_by(other)).unwrap();
    leader.commit(3);
    assert_eq!(watch.look(&leader).unwrap().grants.len(), 1);
    watch.ledger
}

#[test]
fn a_younger_group_ends_an_older_one() {
    let pair = |older: &Ledger, younger: &Ledger| between::check_pair(older, younger);
    let (mut older, younger) = (granting(life(1), 100, 1), granting(life(3), 200, 5));
    assert_eq!(pair(&older, &younger), Ok(()));
    older.newest_entry = at(6);
    let objection = pair(&older, &younger).unwrap_err();
    assert!(
        objection.contains("decides an entry that was appended after"),
        "{objection}"
    );
    older.newest_entry = at(5);
    older.newest_round = at(6);
    let objection = pair(&older, &younger).unwrap_err();
    assert!(
        objection.contains("completes a quorum round that began after"),
        "{objection}"
    );
}

#[test]
fn tokens_of_a_younger_group_are_higher() {
    let (older, mut younger) = (granting(life(1), 100, 1), granting(life(3), 100, 5));
    // The wall clock was set back, and nobody knew.
    assert_eq!(between::check_pair(&older, &younger), Ok(()));
    younger.known = 102;
    let objection = between::check_pair(&older, &younger).unwrap_err();
    assert!(
        objection.contains("is not above token 101 of the older group"),
        "{objection}"
    );
    (younger.known, younger.wall_base) = (0, 102);
    let objection = between::check_pair(&older, &younger).unwrap_err();
    assert!(
        objection.contains("is not above token 101 of the older group"),
        "{objection}"
    );
}

/// The checker of a cluster of three, which has seen everything, and the cluster.
struct Watched(Sim);

impl Watched {
    /// Three members with an open group.
    fn new() -> Self {
        let mut sim = cluster();
        sim.run_for(secs(40));
        assert_eq!(sim.violations(), []);
        let open = |node: NodeIndex| {
            sim.node_of(node)
                .replica()
                .machine()
                .is_some_and(|machine| machine.open)
        };
        assert!([A, B, C].into_iter().all(open));
        Self(sim)
    }

    fn group(&self) -> Group {
        self.0.node_of(A).replica().group().unwrap()
    }

    /// Draws a token in earnest; its number, and what the process was told.
    fn draw(&mut self, node: NodeIndex) -> (DrawId, u64, Instant) {
        let id = self.0.with(node, |cx| cx.draw_token()).unwrap();
        self.0.run_for(secs(1));
        let told = self.0.events(node).iter().find_map(|(_, event)| match event {
            Event::TokenDrawn {
                id: of, token, until, ..
            } if *of == id => Some((id, *token, *until)),
            _ => None,
        });
        told.expect("a token")
    }

    #[track_caller]
    fn objects(&mut self, seen: &Seen<'_>, what: &str) {
        self.0.see(seen);
        // Others may object as well to what cannot be.
        let mut violations = self.0.violations().iter();
        let violation = violations.find(|violation| violation.by == "consensus");
        let violation = violation.expect("it must object");
        assert!(violation.what.contains(what), "{violation}");
    }

    #[track_caller]
    fn event_objects(mut self, node: NodeIndex, event: Event, what: &str) {
        self.objects(&Seen::Event { node, event: &event }, what);
    }

    /// Pretends that a process asked for a token.
    fn asked(&mut self, node: NodeIndex, id: DrawId) {
        let command = Command::DrawToken { result: Ok(id) };
        self.0.see(&Seen::Command {
            node,
            command: &command,
        });
        assert_eq!(self.0.violations(), []);
    }
}

#[test]
fn outcomes_that_nobody_asked_for_or_twice() {
    let mut watched = Watched::new();
    let (id, token, until) = watched.draw(A);
    let group = watched.group();
    let drawn = Event::TokenDrawn {
        id,
        token,
        group,
        until,
    };
    watched.event_objects(A, drawn, "which it did not ask for or knows already");
    let mut watched = Watched::new();
    let (id, ..) = watched.draw(A);
    let error = DrawError::Closed;
    watched.event_objects(
        A,
        Event::TokenFailed { id, error },
        "which it did not ask for or knows already",
    );
}

#[test]
fn a_token_that_nobody_granted_or_somebody_else_has() {
    let mut watched = Watched::new();
    let (id, token, until) = watched.draw(A);
    let group = watched.group();
    watched.asked(B, id);
    let drawn = Event::TokenDrawn {
        id,
        token,
        group,
        until,
    };
    watched.event_objects(B, drawn.clone(), "was granted to");
    let mut watched = Watched::new();
    watched.draw(A);
    watched.asked(A, id);
    let drawn = Event::TokenDrawn {
        id,
        token: token + 1,
        group,
        until,
    };
    watched.event_objects(A, drawn, "was granted nobody");
}

#[test]
fn a_token_that_is_told_of_twice_or_believed_in_too_long() {
    let mut watched = Watched::new();
    let (id, token, until) = watched.draw(A);
    let group = watched.group();
    watched.asked(A, id);
    let drawn = Event::TokenDrawn {
        id,
        token,
        group,
        until,
    };
    watched.event_objects(A, drawn, "is told of twice");
    for (until, what) in [
        (until + secs(60), "the longest lease"),
        (at(1), "the longest lease"),
    ] {
        let mut watched = Watched::new();
        let (id, token, _) = watched.draw(A);
        watched.asked(A, id);
        let drawn = Event::TokenDrawn {
            id,
            token,
            group,
            until,
        };
        watched.event_objects(A, drawn, what);
    }
}

#[test]
fn a_request_without_an_outcome() {
    let mut watched = Watched::new();
    let (id, ..) = watched.draw(A);
    watched.asked(A, id);
    let left = Event::LeaveDone;
    watched.event_objects(A, left, "has no outcome");
    let mut watched = Watched::new();
    let (id, ..) = watched.draw(A);
    watched.asked(A, id);
    watched.0.run_for(secs(10));
    watched.0.finish();
    let violation = watched.0.violations().first().unwrap();
    assert!(violation.what.contains("has no outcome"), "{violation}");
}

#[test]
fn a_group_that_yields_before_the_other_one_is_closed() {
    let watched = Watched::new();
    let group = watched.group();
    let reason = AbandonReason::Conflict;
    watched.event_objects(
        B,
        Event::GroupAbandoned { group, reason },
        "none that it met has stopped granting",
    );
    let watched = Watched::new();
    let conflict = Event::ConflictDetected {
        ours: group,
        theirs: group,
    };
    watched.event_objects(B, conflict, "which is no other group");
}

/// What one process was told, and two groups that both grant: one of that process, and a younger one of another process.
struct Believing {
    sim: Sim,
    beliefs: Beliefs,
    clocks: Clocks,
    drawn: beliefs::Drawn,
    older: Ledger,
    younger: Ledger,
}

impl Believing {
    fn new() -> Self {
        let mut watched = Watched::new();
        let (id, ..) = watched.draw(A);
        let sim = watched.0;
        let founder = |node: NodeIndex| sim.node_of(node).replica().life();
        let (older, younger) = (granting(founder(A), 100, 1), granting(founder(B), 200, 5));
        let drawn = beliefs::Drawn {
            id,
            token: 101,
            group: older.group,
            until: sim.world().clock(Host(0)) + secs(5),
        };
        let (mut beliefs, clocks) = (Beliefs::default(), Clocks::default());
        beliefs.asked(A, id, sim.now());
        Self {
            sim,
            beliefs,
            clocks,
            drawn,
            older,
            younger,
        }
    }

    /// The process is told of its token while the younger group is there, or before.
    fn told(self, both: bool, broken: bool) -> (Self, Result<(), String>) {
        let Self {
            sim,
            mut beliefs,
            clocks,
            drawn,
            older,
            younger,
        } = self;
        let mut groups = BTreeMap::from([(older.group, older)]);
        let name = younger.group;
        let mut absent = Some(younger);
        if both {
            groups.extend(absent.take().map(|ledger| (name, ledger)));
        }
        let told = beliefs.drawn(sim.world(), A, drawn, &groups, &clocks, broken);
        let older = groups.remove(&drawn.group).unwrap();
        let younger = absent.or_else(|| groups.remove(&name)).unwrap();
        let all = Self {
            sim,
            beliefs,
            clocks,
            drawn,
            older,
            younger,
        };
        (all, told)
    }

    /// The younger group grants.
    fn granted(self) -> Result<(), String> {
        let (mut beliefs, name) = (self.beliefs, self.younger.group);
        let groups = BTreeMap::from([(self.older.group, self.older), (name, self.younger)]);
        beliefs.check_against(self.sim.world(), &groups, &self.clocks, name)
    }
}

#[test]
fn a_group_grants_while_a_token_of_another_is_believed_in() {
    let believing = || {
        let (believing, told) = Believing::new().told(false, false);
        assert_eq!(told, Ok(()));
        believing
    };
    let objection = believing().granted().unwrap_err();
    assert!(objection.contains("still believes in token 101"), "{objection}");
    // The belief is over, was ended, or nobody can count on the clock.
    let mut over = believing();
    over.sim.run_for(secs(6));
    assert_eq!(over.granted(), Ok(()));
    let mut ended = believing();
    ended.beliefs.ended(A);
    assert_eq!(ended.granted(), Ok(()));
    let mut frozen = believing();
    let freeze = FaultKind::Freeze {
        host: frozen.sim.world().process(A).host,
    };
    frozen.clocks.began(frozen.sim.now(), 0, freeze);
    assert_eq!(frozen.granted(), Ok(()));
    let mut fast = believing();
    fast.younger.opened_in_time = false;
    assert_eq!(fast.granted(), Ok(()));
}

#[test]
fn a_token_that_comes_after_a_younger_group_has_granted() {
    let (_, told) = Believing::new().told(true, false);
    let objection = told.unwrap_err();
    assert!(objection.contains("has granted already"), "{objection}");
    // Where too many voters live nothing holds between groups.
    assert_eq!(Believing::new().told(true, true).1, Ok(()));
}

#[test]
fn a_resource_goes_by_tokens() {
    let mut believing = Believing::new();
    // A younger group whose tokens are lower than the older one's, though somebody knew of those.
    believing.younger = granting(believing.younger.group.founder, 50, 5);
    believing.younger.known = 102;
    let (mut beliefs, sim) = (believing.beliefs, believing.sim);
    let (older, younger) = (believing.older.group, believing.younger.group);
    let mut groups = BTreeMap::from([(older, believing.older), (younger, believing.younger)]);
    let lower = beliefs::Drawn {
        token: 51,
        group: younger,
        ..believing.drawn
    };
    let clocks = Clocks::default();
    beliefs.asked(B, lower.id, sim.now());
    let absent = groups.remove(&older).unwrap();
    let until = sim.world().clock(sim.world().process(B).host) + secs(5);
    let lower = beliefs::Drawn { until, ..lower };
    beliefs
        .drawn(sim.world(), B, lower, &groups, &clocks, false)
        .unwrap();
    groups.insert(older, absent);
    // The holder of the older group writes after that of the younger one, and is not refused.
    beliefs.asked(A, believing.drawn.id, sim.now());
    let younger_granted = beliefs.drawn(sim.world(), A, believing.drawn, &groups, &clocks, true);
    assert_eq!(younger_granted, Ok(()), "nothing holds between groups");
    let objection = beliefs.resumed(sim.world(), A, &groups, false).unwrap_err();
    assert!(objection.contains("after one with a later grant"), "{objection}");
}

#[test]
fn a_seat_that_is_given_before_a_quorum_has_answered() {
    let learners = |caught_up, completed| Learners::of(life(4), caught_up, completed);
    assert_eq!(learners(5, 5).check_filled(life(4)), Ok(()));
    let objection = learners(5, 4).check_filled(life(4)).unwrap_err();
    assert!(
        objection.contains("it had caught up before round 5"),
        "{objection}"
    );
    let objection = learners(5, 9).check_filled(life(3)).unwrap_err();
    assert!(objection.contains("never seen to have caught up"), "{objection}");
}

#[test]
fn clocks_count_as_wrong_while_they_are_and_since() {
    let mut clocks = Clocks::default();
    clocks.promise(10);
    let drift = |ppm| FaultKind::Drift { host: Host(1), ppm };
    clocks.began(at(1), 0, drift(10_000));
    assert!(clocks.fine_since(Host(1), at(0)));
    clocks.began(at(2), 1, drift(-10_001));
    assert!(!clocks.fine_since(Host(1), at(9)) && clocks.fine_since(Host(0), at(0)));
    clocks.ended(at(5), 1);
    assert!(!clocks.fine_since(Host(1), at(5)) && clocks.fine_since(Host(1), at(6)));
    let jump = FaultKind::Jump {
        host: Host(1),
        by: secs(1),
    };
    clocks.began(at(8), 2, jump);
    assert!(!clocks.fine_since(Host(1), at(6)) && clocks.fine_since(Host(1), at(9)));
}

#[test]
fn clocks_that_drift_from_the_start_are_held_to_the_bound() {
    let right = |ppm| {
        let mut sim = Sim::builder()
            .schedule(Schedule {
                cluster_size: 3,
                chaos: secs(60),
                faults: vec![crate::fault::Fault {
                    at: Duration::ZERO,
                    lasting: secs(60),
                    kind: FaultKind::Drift { host: Host(1), ppm },
                }],
                ..Schedule::calm(7, 3)
            })
            .build();
        sim.run_for(secs(10));
        let checker = sim.observer::<Shared>().expect("it is there").borrow();
        checker.clocks().fine_since(Host(1), at(5))
    };
    assert!(right(10_000) && right(-10_000));
    assert!(!right(10_001) && !right(-10_001));
}

#[test]
fn more_voters_than_there_may_be_are_noticed() {
    let schedule = |cluster_size| Schedule {
        cluster_size,
        max_ttl: secs(1),
        chaos: secs(10),
        ..Schedule::calm(3, 4)
    };
    for (cluster_size, broken) in [(4, 0), (3, 1)] {
        let report = crate::run(&schedule(cluster_size), true);
        assert_eq!(report.violation, None);
        assert_eq!(report.coverage["more-voters-alive-than-may-be"], broken);
    }
}
