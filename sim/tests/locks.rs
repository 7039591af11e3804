//! Locks as users see them, on clusters of simulated hosts.

use quorate_core::{LockEvent, LockRequest};
use quorate_sim::{App, Cx, Duration, Event, Instant, NodeIndex, Schedule, Sim};

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
        let machine = sim.node(node).replica().machine().expect("there is a group");
        assert_eq!(machine.table.locks().len(), 0);
    }
}
