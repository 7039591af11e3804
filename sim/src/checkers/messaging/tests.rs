use crate::checkers::testing::{A, B, C, Panel, cluster, objects, secs};
use crate::fault::FaultKind;
use crate::observe::{Command, Seen};
use crate::schedule::Schedule;
use crate::sim::Sim;
use bytes::Bytes;
use quorate_core::{
    DeliveryError, Duration, Event, Instant, LeaveReason, Message, SendError, SendId, Target,
};

#[test]
fn objects_to_what_was_never_sent_or_comes_twice() {
    let mut sim = cluster();
    let id = sim.id(B);
    sim.with(A, |cx| {
        cx.send(Target::Node(id), Bytes::from_static(b"one"), None)
    })
    .expect("a send");
    sim.run_for(secs(1));
    assert_eq!(sim.violations(), []);
    let (_, message) = sim.messages(B).last().cloned().expect("it arrived");
    let seen = Seen::Message {
        node: B,
        message: &message,
    };
    objects(&mut sim, &seen, "messaging", "never sent to it");
}

#[test]
fn objects_to_an_order_that_loses_what_was_acknowledged() {
    let mut sim = cluster();
    sim.set_reading(B, false);
    let id = sim.id(B);
    for text in ["one", "two"] {
        sim.with(A, |cx| cx.send(Target::Node(id), text, None))
            .expect("a send");
    }
    sim.run_for(secs(1));
    let message = Message {
        from: sim.id(A),
        payload: Bytes::from_static(b"two"),
        reply_to: None,
        deadline: None,
    };
    let seen = Seen::Message {
        node: B,
        message: &message,
    };
    objects(&mut sim, &seen, "messaging", "sent earlier and acknowledged");
    let mut sim = cluster();
    sim.set_reading(B, false);
    sim.with(A, |cx| cx.send(Target::Node(id), "one", None))
        .expect("a send");
    sim.run_for(secs(10));
    sim.finish();
    assert!(
        sim.violations()[0].what.contains("never got it"),
        "{:?}",
        sim.violations()
    );
}

/// A message that is under way, and cannot arrive.
fn under_way() -> (Sim, SendId) {
    let mut sim = cluster();
    sim.cut(A, B);
    let id = sim.id(B);
    let send = sim
        .with(A, |cx| cx.send(Target::Node(id), "one", None))
        .expect("a send");
    sim.run_for(Duration::from_millis(100));
    (sim, send)
}

#[test]
fn objects_to_wrong_outcomes() {
    let failed = |error| Err::<(), _>(error);
    for (result, what) in [
        (failed(DeliveryError::Timeout), "before its deadline"),
        (
            failed(DeliveryError::PeerDisconnected),
            "nobody said that it went",
        ),
        (failed(DeliveryError::OutcomeUnknown), "for a member all the time"),
        (failed(DeliveryError::TooLarge), "are allowed there"),
        (failed(DeliveryError::Leaving), "nobody told it to"),
        (failed(DeliveryError::NoQuorum), "it has a target"),
    ] {
        let (mut sim, id) = under_way();
        let to = Some(sim.id(B));
        let event = Event::SendDone { id, to, result };
        objects(
            &mut sim,
            &Seen::Event {
                node: A,
                event: &event,
            },
            "messaging",
            what,
        );
    }
    let (mut sim, id) = under_way();
    let to = Some(sim.id(C));
    let event = Event::SendDone {
        id,
        to,
        result: Ok(()),
    };
    objects(
        &mut sim,
        &Seen::Event {
            node: A,
            event: &event,
        },
        "messaging",
        "not sent to",
    );
    let (mut sim, id) = under_way();
    let event = Event::SendFinished(id);
    objects(
        &mut sim,
        &Seen::Event {
            node: A,
            event: &event,
        },
        "messaging",
        "did not tell",
    );
    let (mut sim, id) = under_way();
    sim.run_for(secs(20));
    assert_eq!(sim.violations(), []);
    let event = Event::SendFinished(id);
    objects(
        &mut sim,
        &Seen::Event {
            node: A,
            event: &event,
        },
        "messaging",
        "has ended before",
    );
}

#[test]
fn objects_to_wrong_refusals_and_to_replies_of_nobody() {
    let mut sim = cluster();
    let peer = sim.id(B);
    let command = Command::Send {
        to: Target::Node(peer),
        payload: Bytes::new(),
        deadline: None,
        result: Err(SendError::UnknownPeer(peer)),
    };
    let seen = Seen::Command {
        node: A,
        command: &command,
    };
    objects(&mut sim, &seen, "messaging", "that is not so");
    let mut sim = cluster();
    let request = sim
        .with(A, |cx| cx.request(Target::Node(peer), "ask", None))
        .expect("a request");
    let event = Event::Reply {
        id: request,
        from: peer,
        payload: Bytes::from_static(b"made up"),
    };
    objects(
        &mut sim,
        &Seen::Event {
            node: A,
            event: &event,
        },
        "messaging",
        "did not give",
    );
}

#[test]
fn objects_to_an_outcome_that_never_comes() {
    let mut sim = Sim::builder().seed(1).hosts(2).checkers(false).build();
    sim.run_for(secs(5));
    let peer = sim.id(B);
    let id = sim
        .with(A, |cx| cx.send(Target::Node(peer), "one", None))
        .expect("a send");
    let mut panel = Panel::new(&sim);
    let command = Command::Send {
        to: Target::Node(peer),
        payload: Bytes::from_static(b"one"),
        deadline: None,
        result: Ok(id),
    };
    panel.tell(
        &sim,
        &Seen::Command {
            node: A,
            command: &command,
        },
    );
    sim.run_for(secs(7));
    panel.objects(&sim, &Seen::Settled { node: A }, "messaging", "has not told");
}

/// A message of which nobody knows whether it arrived: what its sender is told last, once its target has stopped. Whether
/// that had forgotten the sender before, `forgot` says.
fn unknown_after_a_stop(forgot: bool) -> Result<(), String> {
    let (mut sim, id) = under_way();
    let (here, there) = (sim.id(A), sim.id(B));
    let mut panel = Panel::new(&sim);
    let command = &send_command(Target::Node(there), id, clock(&sim) + secs(5));
    panel.tell(&sim, &Seen::Command { node: A, command });
    if forgot {
        let event = &Event::MemberLeft {
            member: sim.node_of(B).member(here).expect("they know each other"),
            reason: LeaveReason::Failed,
        };
        let seen = &Seen::Event { node: B, event };
        panel.one("messaging").observe(sim.world(), seen)?;
    }
    sim.crash(B);
    panel.tell(&sim, &Seen::Stopped { node: B });
    let event = &Event::SendDone {
        id,
        to: Some(there),
        result: Err(DeliveryError::OutcomeUnknown),
    };
    let seen = &Seen::Event { node: A, event };
    panel.one("messaging").observe(sim.world(), seen)
}

#[test]
fn the_word_of_one_who_stopped_since_counts() {
    assert_eq!(unknown_after_a_stop(true), Ok(()));
    let objection = unknown_after_a_stop(false).expect_err("it never forgot");
    assert!(objection.contains("for a member all the time"), "{objection}");
}

/// A name for a message that was never sent, and of which nothing will be told.
fn never_sent(sim: &mut Sim) -> SendId {
    let to = Target::Node(sim.id(B));
    sim.with(A, |cx| {
        cx.node_mut(|node, now| {
            let id = node.send(now, to, Bytes::new(), None).expect("there is room");
            node.cancel_send(id);
            id
        })
    })
}

/// The time on the first process's clock.
fn clock(sim: &Sim) -> Instant {
    sim.world().clock(sim.world().process(A).host)
}

fn send_command(to: Target, id: SendId, deadline: Instant) -> Command {
    Command::Send {
        to,
        payload: Bytes::from_static(b"one"),
        deadline: Some(deadline),
        result: Ok(id),
    }
}

#[test]
fn objects_to_a_timeout_on_a_clear_way() {
    let mut sim = cluster();
    let id = never_sent(&mut sim);
    let to = sim.id(B);
    let deadline = clock(&sim) + secs(5);
    let command = &send_command(Target::Node(to), id, deadline);
    sim.see(&Seen::Command { node: A, command });
    sim.run_for(secs(5));
    assert_eq!(sim.violations(), []);
    let event = Event::SendDone {
        id,
        to: Some(to),
        result: Err(DeliveryError::Timeout),
    };
    let seen = Seen::Event {
        node: A,
        event: &event,
    };
    objects(&mut sim, &seen, "messaging", "was never handed over");
}

/// A request lies where nobody reads until its time is over there. Its sender's clock stands still meanwhile, so that it
/// hears of that long after somebody reads again.
#[test]
fn what_ran_out_before_it_was_read_may_time_out_later() {
    let mut sim = cluster();
    let [sender, reader] = [A, B].map(|index| sim.world().process(index).host);
    sim.inject(FaultKind::Unread { host: reader }, secs(10));
    let (to, deadline) = (sim.id(B), clock(&sim) + secs(8));
    sim.with(A, |cx| cx.request(Target::Node(to), "one", Some(deadline)))
        .expect("a request");
    sim.run_for(secs(1));
    sim.inject(FaultKind::Freeze { host: sender }, secs(20));
    sim.run_for(secs(30));
    let timed_out = |(_, event): &(Instant, Event)| {
        let failed = DeliveryError::Timeout;
        matches!(event, Event::RequestFailed { error, .. } if *error == failed)
    };
    assert!(sim.events(A).iter().any(timed_out));
    assert_eq!(sim.violations(), []);
}

/// One of three is cut off, and all of them are needed. The first one sends something to all meanwhile, which ends so
/// long after they have met again. Returns when they have, on the first one's clock.
fn reunited(at: Option<Instant>) -> (Sim, Instant) {
    let schedule = Schedule {
        cluster_size: 5,
        ..Schedule::calm(7, 3)
    };
    let mut sim = Sim::builder().schedule(schedule).collect_violations().build();
    sim.run_for(secs(10));
    sim.partition(&[A, B], &[C]);
    sim.run_for(secs(20));
    assert!(!sim.node_of(A).has_quorum());
    let deadline = at.map_or(clock(&sim) + secs(60), |at| at + Duration::from_micros(20));
    sim.with(A, |cx| cx.send(Target::All, "one", Some(deadline)))
        .expect("it waits");
    sim.run_for(secs(10));
    sim.heal();
    assert!(sim.run_until(secs(30), |sim| sim.node_of(A).has_quorum()));
    let met = clock(&sim);
    sim.run_for(secs(5));
    (sim, met)
}

/// What waits for a quorum is under way to nobody: its way may have been clear for as long as it likes.
#[test]
fn what_gets_a_quorum_too_late_may_time_out() {
    let (_, met) = reunited(None);
    let (sim, again) = reunited(Some(met));
    assert_eq!(again, met);
    let timed_out = |(_, event): &&(Instant, Event)| {
        matches!(
            event,
            Event::SendDone {
                to: Some(_),
                result: Err(DeliveryError::Timeout),
                ..
            }
        )
    };
    assert_eq!(sim.events(A).iter().filter(timed_out).count(), 2);
    assert_eq!(sim.violations(), []);
}

#[test]
fn objects_to_a_late_end() {
    let mut sim = cluster();
    let id = never_sent(&mut sim);
    let mut panel = Panel::new(&sim);
    sim.run_for(secs(1));
    let (to, deadline) = (sim.id(B), clock(&sim));
    let command = &send_command(Target::Node(to), id, deadline);
    panel.tell(&sim, &Seen::Command { node: A, command });
    let event = &Event::SendDone {
        id,
        to: Some(to),
        result: Err(DeliveryError::Timeout),
    };
    panel.tell(&sim, &Seen::Event { node: A, event });
    sim.run_for(secs(2));
    let event = &Event::SendFinished(id);
    panel.objects(
        &sim,
        &Seen::Event { node: A, event },
        "messaging",
        "2.000 s too late",
    );
}

#[test]
fn objects_to_a_lack_of_quorum_that_is_none() {
    let failed = |id| Event::SendDone {
        id,
        to: None,
        result: Err(DeliveryError::NoQuorum),
    };
    let mut sim = cluster();
    let id = never_sent(&mut sim);
    let command = &send_command(Target::All, id, clock(&sim));
    sim.see(&Seen::Command { node: A, command });
    let event = &failed(id);
    let seen = Seen::Event { node: A, event };
    objects(&mut sim, &seen, "messaging", "though there was one");

    let mut sim = cluster();
    sim.partition(&[A], &[B, C]);
    sim.run_for(secs(10));
    assert!(!sim.node_of(A).has_quorum());
    let id = sim
        .with(A, |cx| cx.send(Target::All, "one", None))
        .expect("it waits");
    let event = &failed(id);
    let seen = Seen::Event { node: A, event };
    objects(&mut sim, &seen, "messaging", "no quorum, before its deadline");
}

/// A request that the second process was handed, and has not answered.
fn asked() -> (Sim, Message) {
    let mut sim = cluster();
    let to = Target::Node(sim.id(B));
    sim.with(A, |cx| cx.request(to, "ask", None)).expect("a request");
    sim.run_for(secs(1));
    assert_eq!(sim.violations(), []);
    let (_, message) = sim.messages(B).last().cloned().expect("it arrived");
    (sim, message)
}

#[test]
fn objects_to_a_second_reply() {
    let (mut sim, message) = asked();
    let to = message.reply_to.expect("a request");
    sim.with(B, |cx| cx.reply(to, "answer")).expect("the first reply");
    assert_eq!(sim.violations(), []);
    let command = &Command::Reply {
        to,
        payload: Bytes::new(),
        result: Ok(()),
    };
    let seen = Seen::Command { node: B, command };
    objects(&mut sim, &seen, "messaging", "not open");
}

#[test]
fn objects_to_a_request_after_its_deadline_or_twice() {
    for (deadline, what) in [
        (Instant::ZERO, "after its deadline"),
        (Instant::FAR_FUTURE, "twice"),
    ] {
        let (mut sim, mut message) = asked();
        sim.set_reading(B, false);
        let to = Target::Node(sim.id(B));
        sim.with(A, |cx| cx.request(to, "ask", None))
            .expect("another one");
        message.deadline = Some(deadline);
        let seen = Seen::Message {
            node: B,
            message: &message,
        };
        objects(&mut sim, &seen, "messaging", what);
    }
}
