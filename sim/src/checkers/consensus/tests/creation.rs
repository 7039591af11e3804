//! What must hold when a group is founded.

use super::*;
use crate::checkers::consensus::Watched;
use crate::checkers::testing::member;
use quorate_core::consensus::Seats;

/// The checker of a cluster of three, as if none of them had a group yet, and the cluster.
struct Beginning {
    sim: Sim,
    checker: Consensus,
    wall_base: u64,
}

impl Beginning {
    fn new() -> Self {
        let sim = cluster();
        let truth = truth::Shared::default();
        let mut checker = Consensus::new(truth.clone(), Tally::default());
        for (node, process) in sim.world().processes() {
            let config = &process.config;
            checker.on_started(sim.world(), node, config);
            truth
                .borrow_mut()
                .observe(sim.world(), &Seen::Started { node, config });
        }
        let wall_base = between::wall_base(sim.world(), A);
        let mut it = Self {
            sim,
            checker,
            wall_base,
        };
        for node in [A, B, C] {
            let key = &mut it.watched(node).key;
            (key.group, key.floor) = (None, 0);
        }
        it
    }

    fn watched(&mut self, node: NodeIndex) -> &mut Watched {
        self.checker.watched[node.0].as_mut().unwrap()
    }

    /// The first process founds a group of these, whose tokens begin so far above its wall clock. Itself it knows of tokens
    /// up to so far above that.
    fn found(&mut self, seats: Seats, above: i64, known: i64) -> Result<(), String> {
        let base = |above| self.wall_base.checked_add_signed(above).unwrap();
        let founder = self.sim.node_of(A).replica().life();
        let leader = Fake::of(founder, seats, base(above));
        let before = Key {
            group: None,
            floor: base(known),
            ..leader.key
        };
        self.checker
            .create(self.sim.world(), A, &before, &leader.view(), None)
    }

    fn seats(&self) -> Seats {
        [A, B, C]
            .into_iter()
            .map(|node| self.sim.node_of(node).replica().life())
            .collect()
    }

    #[track_caller]
    fn objects(&mut self, above: i64, known: i64, what: &str) {
        let objection = self.found(self.seats(), above, known).unwrap_err();
        assert!(objection.contains(what), "{objection}");
    }
}

#[test]
fn a_group_founded_by_who_has_no_reason_not_to_is_left_alone() {
    let mut it = Beginning::new();
    assert_eq!(it.found(it.seats(), 5, 5), Ok(()));
}

#[test]
fn tokens_begin_above_the_wall_clock_and_every_floor() {
    Beginning::new().objects(-1, -1, "its founder's wall clock says");
    Beginning::new().objects(5, 6, "and its founder knows that those up to");
    let floor = |it: &mut Beginning, above| it.watched(B).key.floor = it.wall_base + above;
    let mut it = Beginning::new();
    floor(&mut it, 6);
    it.objects(5, 0, "and process 1 on host");
    let mut it = Beginning::new();
    floor(&mut it, 5);
    assert_eq!(it.found(it.seats(), 5, 0), Ok(()));
    // What the seat learned in a group that it has joined since was no floor when it voted.
    let mut it = Beginning::new();
    floor(&mut it, 6);
    it.watched(B).key.group = key().group;
    assert_eq!(it.found(it.seats(), 5, 0), Ok(()));
}

#[test]
fn nobody_founds_who_sees_a_reason_not_to() {
    let what = "sees more voters than may be alive, or other settings";
    let refuses = |before, now| {
        let mut it = Beginning::new();
        it.watched(A).forbidden = before;
        if now {
            let other = it.sim.id(C);
            it.watched(A).quarantined.insert(other);
        }
        it.found(it.seats(), 5, 0)
    };
    let objection = refuses(true, true).unwrap_err();
    assert!(objection.contains(what), "{objection}");
    // A reason that came or went with this input may not have been seen yet, or any more.
    assert_eq!(refuses(true, false), Ok(()));
    assert_eq!(refuses(false, true), Ok(()));
    // As many voters as may be, and one too many.
    for (others, refused) in [(&[B, C][..], false), (&[B, C, NodeIndex(3)], true)] {
        let mut it = Beginning::new();
        it.watched(A).forbidden = true;
        it.sim.start(crate::config().cluster_size(3));
        for &other in others {
            let mut listed = member(&it.sim);
            listed.id = it.sim.id(other);
            let event = &Event::MemberJoined(listed);
            let mut truth = it.checker.truth.borrow_mut();
            truth.observe(it.sim.world(), &Seen::Event { node: A, event });
        }
        let told = it.found(it.seats(), 5, 0);
        assert_eq!(told.is_err_and(|objection| objection.contains(what)), refused);
    }
}

#[test]
fn seats_are_of_voters_that_ran() {
    let mut it = Beginning::new();
    let founder = it.sim.node_of(A).replica().life();
    let seats = [founder, life(9)].into_iter().collect();
    let objection = it.found(seats, 5, 0).unwrap_err();
    assert!(objection.contains("which never was"), "{objection}");
}
