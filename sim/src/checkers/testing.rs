//! What the tests of checkers have in common: every rule objects to what breaks it.

use super::all;
use crate::fault::{Difference, Fault, FaultKind};
use crate::observe::{Datagram, Observer, Provenance, Seen};
use crate::schedule::Schedule;
use crate::sim::Sim;
use crate::world::NodeIndex;
use quorate_core::{Duration, Event, Member};

pub(super) const A: NodeIndex = NodeIndex(0);
pub(super) const B: NodeIndex = NodeIndex(1);
pub(super) const C: NodeIndex = NodeIndex(2);

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Three members that know each other, and all checkers content.
pub(super) fn cluster() -> Sim {
    let schedule = Schedule {
        cluster_size: 3,
        ..Schedule::calm(7, 3)
    };
    let mut sim = Sim::builder().schedule(schedule).collect_violations().build();
    sim.run_for(secs(10));
    assert_eq!(sim.violations(), []);
    assert!((0..3).all(|i| sim.node_of(NodeIndex(i)).members().count() == 2));
    sim
}

/// The same, and beside them a process that does not belong to them: the fourth one.
pub(super) fn with_stranger(differs: Difference) -> Sim {
    let stranger = Fault {
        at: secs(1),
        lasting: secs(60),
        kind: FaultKind::Stranger { differs },
    };
    let schedule = Schedule {
        cluster_size: 3,
        chaos: secs(61),
        faults: vec![stranger],
        ..Schedule::calm(7, 3)
    };
    let mut sim = Sim::builder().schedule(schedule).collect_violations().build();
    sim.run_for(secs(10));
    assert_eq!(sim.violations(), []);
    sim
}

/// Shows the checkers something that did not happen, and expects one of them to object.
pub(super) fn objects(sim: &mut Sim, seen: &Seen<'_>, by: &str, what: &str) {
    sim.see(seen);
    let violation = sim
        .violations()
        .first()
        .unwrap_or_else(|| panic!("nobody objects to {seen:?}"));
    assert_eq!(violation.by, by, "{violation}");
    assert!(violation.what.contains(what), "{violation}");
}

pub(super) fn event(event: Event, by: &str, what: &str) {
    objects(
        &mut cluster(),
        &Seen::Event {
            node: A,
            event: &event,
        },
        by,
        what,
    );
}

/// What the first process knows of the second.
pub(super) fn member(sim: &Sim) -> Member {
    sim.node_of(A).member(sim.id(B)).expect("they know each other")
}

pub(super) fn with_member(make: impl FnOnce(Member) -> Event, what: &str) {
    let event_of = member(&cluster());
    event(make(event_of), "membership", what);
}

/// A datagram from the second process to the first, of a kind that the first can take.
pub(super) fn datagram(sim: &Sim) -> Datagram {
    Datagram {
        number: 1 << 40,
        sender: Some(B),
        intended: Some(A),
        from: sim.addr(B),
        to: sim.addr(A),
        len: 100,
        head: [0x7f, 5],
        provenance: Provenance::Original,
    }
}

/// Checkers without a simulation behind them: they see only what a test shows them.
pub(super) struct Panel(Vec<Box<dyn Observer>>);

impl Panel {
    /// All checkers, which have seen that everybody started.
    pub(super) fn new(sim: &Sim) -> Self {
        let mut panel = Self(all());
        for (node, process) in sim.world().processes() {
            let config = &process.config;
            panel.tell(sim, &Seen::Started { node, config });
        }
        panel
    }

    /// Shows all of them something to which nobody may object.
    pub(super) fn tell(&mut self, sim: &Sim, seen: &Seen<'_>) {
        for checker in &mut self.0 {
            let told = checker.observe(sim.world(), seen);
            assert_eq!(told, Ok(()), "{}", checker.name());
        }
    }

    /// Shows one of them something to which it must object.
    pub(super) fn objects(&mut self, sim: &Sim, seen: &Seen<'_>, by: &str, what: &str) {
        let told = self.one(by).observe(sim.world(), seen);
        expect(told, what);
    }

    pub(super) fn objects_at_the_end(&mut self, sim: &Sim, by: &str, what: &str) {
        let told = self.one(by).finish(sim.world());
        expect(told, what);
    }

    pub(super) fn one(&mut self, name: &str) -> &mut dyn Observer {
        let mut found = self.0.iter_mut().filter(|checker| checker.name() == name);
        &mut **found.next().expect("there is a checker of this name")
    }
}

fn expect(told: Result<(), String>, what: &str) {
    let objection = told.expect_err("it must object");
    assert!(objection.contains(what), "{objection}");
}
