use crate::checkers::testing::{
    A, B, C, Panel, cluster, datagram, event, member, objects, secs, with_member, with_stranger,
};
use crate::fault::{Difference, Host};
use crate::observe::{Command, Datagram, Seen};
use crate::sim::Sim;
use crate::world::NodeIndex;
use quorate_core::{Duration, Event, LeaveReason, NodeId, QuarantineReason};

#[test]
fn objects_to_impossible_members() {
    with_member(Event::MemberJoined, "says twice");
    let sim = cluster();
    let own = sim.node_of(B).member(sim.id(A)).expect("they know each other");
    event(Event::MemberJoined(own), "membership", "lists itself");
    with_member(
        |mut member| {
            member.id = NodeId::from_bytes([9; 16]);
            Event::MemberJoined(member)
        },
        "unknown process",
    );
    with_member(
        |mut member| {
            member.addr = "10.7.7.7:7".parse().expect("an address");
            Event::MemberUpdated(member)
        },
        "where it never was",
    );
    with_member(
        |mut member| {
            member.role = quorate_core::Role::Observer;
            Event::MemberUpdated(member)
        },
        "for a Observer",
    );
}

#[test]
fn objects_to_impossible_departures() {
    let left = |reason| move |member| Event::MemberLeft { member, reason };
    with_member(left(LeaveReason::Left), "nobody told to leave");
    with_member(left(LeaveReason::Replaced), "nobody else ever was");
    with_member(
        left(LeaveReason::Quarantined),
        "is in quarantine, which it is not",
    );
    with_member(
        left(LeaveReason::Failed),
        "everything that they wrote to each other",
    );
    with_member(
        |mut member| {
            member.id = NodeId::from_bytes([9; 16]);
            Event::MemberLeft {
                member,
                reason: LeaveReason::Failed,
            }
        },
        "does not list",
    );
}

#[test]
fn objects_to_who_comes_back_as_it_was_or_after_a_goodbye() {
    for (goodbye, what) in [(true, "said goodbye"), (false, "higher")] {
        let mut sim = cluster();
        let gone = member(&sim);
        if goodbye {
            sim.with(B, |cx| cx.leave());
        } else {
            sim.crash(B);
        }
        sim.run_for(secs(10));
        assert_eq!(sim.violations(), []);
        let back = Event::MemberJoined(gone);
        objects(
            &mut sim,
            &Seen::Event {
                node: A,
                event: &back,
            },
            "membership",
            what,
        );
    }
}

#[test]
fn objects_to_a_falling_incarnation() {
    let mut sim = cluster();
    let mut risen = member(&sim);
    let before = risen.clone();
    risen.incarnation = 5;
    sim.see(&Seen::Event {
        node: A,
        event: &Event::MemberUpdated(risen),
    });
    let fallen = Event::MemberUpdated(before);
    objects(
        &mut sim,
        &Seen::Event {
            node: A,
            event: &fallen,
        },
        "membership",
        "fell from 5 to 0",
    );
}

#[test]
fn objects_to_a_list_that_is_not_what_was_told() {
    let mut sim = cluster();
    let member = member(&sim);
    // The ghost of somebody who was replaced goes unnoticed by the rules for verdicts; the lists tell.
    sim.crash(B);
    sim.see(&Seen::Event {
        node: A,
        event: &Event::MemberLeft {
            member,
            reason: LeaveReason::Failed,
        },
    });
    sim.run_for(secs(1));
    assert!(
        sim.violations()[0].what.contains("has not said so") || sim.violations()[0].what.contains("counts")
    );
}

/// Two members that know each other, and checkers which have seen only that they started, and that the first one was
/// told of the second.
fn pair() -> (Sim, Panel) {
    let started = |seed| {
        let mut sim = Sim::builder().seed(seed).hosts(2).checkers(false).build();
        sim.run_for(secs(5));
        sim
    };
    // The second one leads: it would take its time to leave.
    let leads = |sim: &Sim, node| {
        let group = sim.node_of(node).status(sim.world().clock(Host(0))).consensus;
        group.leader == Some(sim.id(node))
    };
    let sim = (1..)
        .map(started)
        .find(|sim| leads(sim, B))
        .expect("either may lead");
    let mut panel = Panel::new(&sim);
    let joined = Event::MemberJoined(member(&sim));
    let seen = Seen::Event {
        node: A,
        event: &joined,
    };
    panel.tell(&sim, &seen);
    (sim, panel)
}

/// What the checker of members says to a verdict on somebody long listed who wrote for so many heartbeat intervals before,
/// and to whom was written, after nobody had written anything.
fn verdict_after_talk(intervals: u32) -> Result<(), String> {
    let (mut sim, mut panel) = pair();
    sim.run_for(secs(5));
    let mut there = datagram(&sim);
    for _ in 0..intervals {
        let back = Datagram {
            sender: Some(A),
            intended: Some(B),
            ..there
        };
        for (node, datagram) in [(A, &there), (B, &back)] {
            let seen = Seen::Arrived {
                node,
                datagram,
                again: false,
                opened: true,
            };
            panel.tell(&sim, &seen);
        }
        there.number += 1;
        sim.run_for(sim.world().process(A).config.heartbeat_interval);
    }
    let event = &Event::MemberLeft {
        member: member(&sim),
        reason: LeaveReason::Failed,
    };
    panel
        .one("membership")
        .observe(sim.world(), &Seen::Event { node: A, event })
}

#[test]
fn a_verdict_may_come_before_the_first_answer_can() {
    assert_eq!(verdict_after_talk(2), Ok(()));
    let objection = verdict_after_talk(3).expect_err("an echo was due");
    assert!(objection.contains("everything that they wrote"), "{objection}");
}

#[test]
fn objects_to_a_ghost_that_nobody_finds_out() {
    let (mut sim, mut panel) = pair();
    sim.crash(B);
    panel.tell(&sim, &Seen::Stopped { node: B });
    sim.run_for(secs(30));
    panel.objects(&sim, &Seen::Settled { node: A }, "membership", "still lists");
}

#[test]
fn objects_to_who_is_told_of_somebody_by_one_who_does_not_know_him() {
    let mut sim = cluster();
    sim.crash(C);
    sim.run_for(secs(60));
    // A newcomer hears of the dead one from the first process, which buried it long ago.
    let config = crate::config().cluster_size(3).seed(sim.addr(A).to_string());
    let mut dead = member(&sim);
    let newcomer = sim.start(config);
    sim.run_for(secs(5));
    assert_eq!(sim.violations(), []);
    (dead.id, dead.addr) = (sim.id(C), sim.addr(C));
    let event = Event::MemberJoined(dead);
    objects(
        &mut sim,
        &Seen::Event {
            node: newcomer,
            event: &event,
        },
        "membership",
        "did not list it",
    );
}

#[test]
fn objects_to_wrong_words_about_itself() {
    event(Event::Ready, "membership", "twice");
    event(Event::LeaveDone, "membership", "nobody told it to");
    let changed = |has_quorum, present| Event::QuorumChanged { has_quorum, present };
    event(changed(false, 1), "membership", "counts 1 voters");
    event(changed(true, 3), "membership", "twice in a row");
    event(changed(false, 3), "membership", "with 3 voters");
    let sim = cluster();
    let (id, addr) = (sim.id(B), sim.addr(B));
    event(Event::QuarantineEnded { id }, "membership", "never was");
    let reasons = vec![QuarantineReason::Setting {
        name: "surge",
        ours: 0,
        theirs: 1,
    }];
    event(
        Event::Quarantined { id, addr, reasons },
        "membership",
        "are the same",
    );
    let mut sim = cluster();
    sim.with(A, |cx| cx.leave());
    sim.run_for(secs(1));
    objects(
        &mut sim,
        &Seen::Event {
            node: A,
            event: &Event::Ready,
        },
        "membership",
        "after it has left",
    );
}

#[test]
fn objects_at_the_end_to_who_is_missing() {
    let mut sim = cluster();
    sim.cut(A, B);
    sim.cut(A, C);
    sim.run_for(secs(10));
    sim.finish();
    assert!(sim.violations()[0].what.contains("does not list"));
}

#[test]
fn objects_to_a_member_of_another_cluster_or_key() {
    for differs in [Difference::Key, Difference::Name] {
        let mut sim = with_stranger(differs);
        let stranger = NodeIndex(3);
        let mut listed = member(&sim);
        (listed.id, listed.addr) = (sim.id(stranger), sim.addr(stranger));
        let event = Event::MemberJoined(listed);
        let seen = Seen::Event {
            node: A,
            event: &event,
        };
        objects(&mut sim, &seen, "membership", "whose settings or keys are others");
    }
}

#[test]
fn objects_to_a_member_in_quarantine() {
    let mut sim = with_stranger(Difference::MaxTtl);
    let stranger = NodeIndex(3);
    let mut listed = member(&sim);
    (listed.id, listed.addr) = (sim.id(stranger), sim.addr(stranger));
    let event = Event::MemberJoined(listed);
    let seen = Seen::Event {
        node: A,
        event: &event,
    };
    objects(&mut sim, &seen, "membership", "which it holds in quarantine");
}

#[test]
fn objects_to_a_verdict_of_one_who_slept() {
    let mut sim = cluster();
    sim.pause(A);
    sim.run_for(secs(1));
    sim.resume(A);
    assert_eq!(sim.violations(), []);
    fails(&mut sim, "nobody had the time to answer");
}

#[test]
fn objects_to_a_verdict_on_one_whom_all_others_reach() {
    let mut sim = cluster();
    sim.cut(A, B);
    sim.run_for(secs(4));
    assert_eq!(sim.violations(), []);
    fails(&mut sim, "while all 1 others reach both of them");
}

/// The first process says that the second one failed, and somebody objects.
fn fails(sim: &mut Sim, what: &str) {
    let event = Event::MemberLeft {
        member: member(sim),
        reason: LeaveReason::Failed,
    };
    let seen = Seen::Event {
        node: A,
        event: &event,
    };
    objects(sim, &seen, "membership", what);
}

#[test]
fn objects_to_who_remembers_others_after_a_quarter_of_an_hour_alone() {
    let (mut sim, mut panel) = pair();
    sim.cut(A, B);
    sim.run_for(secs(15 * 60 + 61));
    let late = Duration::ZERO;
    panel.tell(&sim, &Seen::Woke { node: A, late });
    panel.objects(
        &sim,
        &Seen::Settled { node: A },
        "membership",
        "heard nobody for far too long",
    );
}

#[test]
fn objects_to_who_takes_long_to_leave() {
    let (mut sim, mut panel) = pair();
    let command = &Command::Leave;
    panel.tell(&sim, &Seen::Command { node: A, command });
    let late = Duration::ZERO;
    panel.tell(&sim, &Seen::Woke { node: A, late });
    sim.run_for(secs(1));
    let event = &Event::LeaveDone;
    panel.objects(
        &sim,
        &Seen::Event { node: A, event },
        "membership",
        "took 1.000 s to leave",
    );
}

#[test]
fn objects_to_a_change_that_is_not_told() {
    let mut sim = cluster();
    let mut member = member(&sim);
    member.name = "somebody else".into();
    let event = Event::MemberUpdated(member);
    sim.see(&Seen::Event {
        node: A,
        event: &event,
    });
    sim.run_for(secs(2));
    assert!(
        sim.violations()[0].what.contains("has not said so"),
        "{:?}",
        sim.violations()
    );
}

#[test]
fn objects_to_a_quorum_of_which_nothing_was_told() {
    let mut sim = cluster();
    let mut panel = Panel::new(&sim);
    let joined = &Event::MemberJoined(member(&sim));
    panel.tell(
        &sim,
        &Seen::Event {
            node: A,
            event: joined,
        },
    );
    sim.run_for(secs(1));
    panel.objects(
        &sim,
        &Seen::Settled { node: A },
        "membership",
        "said last that has_quorum is false",
    );
}

#[test]
fn objects_to_who_stays_alone_in_lasting_calm() {
    let mut sim = Sim::builder().seed(1).hosts(2).checkers(false).build();
    sim.run_for(secs(1));
    let mut panel = Panel::new(&sim);
    sim.heal();
    // Nobody sees that what they send is lost.
    sim.cut(A, B);
    sim.run_for(secs(200));
    panel.objects(
        &sim,
        &Seen::Settled { node: A },
        "membership",
        "lists 0 members, 200 s",
    );
}

fn calm_pair() -> (Sim, Panel) {
    let (mut sim, panel) = pair();
    sim.run_for(secs(10));
    (sim, panel)
}

#[test]
fn objects_at_the_end_to_wrong_details() {
    let (mut sim, mut panel) = calm_pair();
    let elsewhere = "10.9.9.9:9".parse().expect("an address");
    sim.rebind(B, elsewhere);
    panel.objects_at_the_end(&sim, "membership", "it is at 10.9.9.9:9");
    let (mut sim, mut panel) = calm_pair();
    sim.cut(A, B);
    sim.run_for(Duration::from_millis(2_300));
    panel.objects_at_the_end(&sim, "membership", "for suspect");
    let (mut sim, mut panel) = calm_pair();
    let key = |byte| quorate_core::Key::from_bytes([byte; 32]);
    let ring = quorate_core::KeyRing::from_keys([key(9), key(7)]).expect("two keys");
    sim.with(A, |cx| cx.node_mut(|node, now| node.set_keys(now, ring)));
    panel.objects_at_the_end(&sim, "membership", "use a key that does not seal");
}

#[test]
fn objects_to_who_takes_no_notice_of_acknowledgements() {
    let (mut sim, mut panel) = pair();
    let here = sim.node_of(B).member(sim.id(A)).expect("they know each other");
    let joined = &Event::MemberJoined(here.clone());
    panel.tell(
        &sim,
        &Seen::Event {
            node: B,
            event: joined,
        },
    );
    sim.run_for(secs(2));
    let command = &Command::Leave;
    panel.tell(&sim, &Seen::Command { node: A, command });
    sim.with(A, |cx| cx.leave());
    sim.run_for(Duration::from_millis(5));
    assert!(!sim.is_running(A), "it was acknowledged at once");
    let datagram = &Datagram {
        sender: Some(A),
        intended: Some(B),
        from: sim.addr(A),
        to: sim.addr(B),
        ..datagram(&sim)
    };
    panel.tell(
        &sim,
        &Seen::Arrived {
            node: B,
            datagram,
            again: false,
            opened: true,
        },
    );
    let left = &Event::MemberLeft {
        member: here,
        reason: LeaveReason::Left,
    };
    panel.tell(&sim, &Seen::Event { node: B, event: left });
    let late = Duration::ZERO;
    panel.tell(&sim, &Seen::Woke { node: A, late });
    sim.run_for(Duration::from_millis(400));
    let event = &Event::LeaveDone;
    panel.objects(
        &sim,
        &Seen::Event { node: A, event },
        "membership",
        "takes no notice",
    );
}

#[test]
fn objects_to_who_leaves_without_a_goodbye_or_not_at_all() {
    let leave = Seen::Command {
        node: A,
        command: &Command::Leave,
    };
    let mut sim = cluster();
    sim.see(&leave);
    let done = Seen::Event {
        node: A,
        event: &Event::LeaveDone,
    };
    objects(&mut sim, &done, "membership", "before anybody could hear");
    let mut sim = cluster();
    sim.see(&leave);
    sim.run_for(secs(30));
    assert!(
        sim.violations()[0].what.contains("has not left"),
        "{:?}",
        sim.violations()
    );
}
