//! Each planted bug changes what happens.

use super::harness::{Net, ms, secs};
use super::*;
use crate::planted::{PlantedBug, without_and_with};

fn formed(size: usize) -> Net {
    let mut net = Net::new(size, 90);
    net.form();
    net
}

/// Lets a host hear from another what is said of a third.
fn hear(net: &mut Net, n: usize, from: usize, record: &Record) {
    let from = net.id(from);
    net.with(n, |m, cx| m.learn(cx, record, Source::Gossip(from)));
}

fn suspect(net: &Net, n: usize, accuser: usize) -> Record {
    Record {
        state: State::Suspect,
        accuser: net.id(accuser),
        ..net.membership(n).own_record()
    }
}

fn joins(net: &Net, n: usize, id: NodeId) -> usize {
    let joined = |event: &&Event| matches!(event, Event::MemberJoined(member) if member.id == id);
    net.events(n).iter().filter(joined).count()
}

fn departures(net: &Net, n: usize) -> usize {
    let left = |event: &&Event| matches!(event, Event::MemberLeft { .. });
    net.events(n).iter().filter(left).count()
}

#[test]
fn peer_counted_before_sealed() {
    let members = || {
        let mut net = Net::new(1, 90);
        let stranger = net.stranger(0);
        let addr = SocketAddr::from(([10, 9, 9, 9], 5000));
        net.with(0, |m, cx| m.peer_up(cx, stranger, addr, Role::Voter, None, None));
        net.membership(0).member_count()
    };
    assert_eq!(
        without_and_with(PlantedBug::PeerCountedBeforeSealed, members),
        (0, 1)
    );
}

#[test]
fn leave_honoured_for_another() {
    let believed = || {
        let mut net = formed(3);
        let victim = net.id(2);
        net.with(0, |m, cx| m.fail(cx, victim, LeaveReason::Failed));
        net.run(ms(100));
        net.events(1).iter().any(|event| {
            matches!(event, Event::MemberLeft { member, reason: LeaveReason::Left } if member.id == victim)
        })
    };
    assert_eq!(
        without_and_with(PlantedBug::LeaveHonouredForAnother, believed),
        (false, true)
    );
}

#[test]
fn old_incarnation_overwrites_new() {
    let known = || {
        let mut net = formed(3);
        let record = |incarnation| Record {
            incarnation,
            ..suspect(&net, 2, 1)
        };
        let (new, old) = (record(5), record(3));
        hear(&mut net, 0, 1, &new);
        hear(&mut net, 0, 1, &old);
        net.membership(0).get(net.id(2)).unwrap().incarnation
    };
    assert_eq!(
        without_and_with(PlantedBug::OldIncarnationOverwritesNew, known),
        (5, 3)
    );
}

#[test]
fn suspicion_never_refuted() {
    let state = || {
        let mut net = formed(3);
        let record = suspect(&net, 0, 2);
        hear(&mut net, 1, 2, &record);
        net.run(secs(5));
        net.membership(1).get(net.id(0)).unwrap().state
    };
    assert_eq!(
        without_and_with(PlantedBug::SuspicionNeverRefuted, state),
        (MemberState::Alive, MemberState::Suspect)
    );
}

#[test]
fn dead_members_gossiped_for_ever() {
    let over = || {
        let mut net = formed(4);
        net.crash(3);
        net.run(secs(120));
        net.membership(0).news.is_empty()
    };
    assert_eq!(
        without_and_with(PlantedBug::DeadMembersGossipedForEver, over),
        (true, false)
    );
}

#[test]
fn late_timers_accuse() {
    let lost = || {
        let mut net = formed(3);
        net.pause(0, secs(4));
        net.run(secs(4));
        net.resume(0);
        departures(&net, 0) > 0
    };
    assert_eq!(
        without_and_with(PlantedBug::LateTimersAccuse, lost),
        (false, true)
    );
}

#[test]
fn paused_node_brings_ghosts() {
    let ghosts = || {
        let mut net = formed(4);
        let gone = net.id(3);
        net.pause(0, secs(7200));
        net.run(secs(10));
        net.with(3, |m, cx| m.leave(cx));
        net.run(secs(4000));
        net.resume(0);
        net.run(secs(60));
        (1..3).any(|n| joins(&net, n, gone) > 1)
    };
    assert_eq!(
        without_and_with(PlantedBug::PausedNodeBringsGhosts, ghosts),
        (false, true)
    );
}

#[test]
fn tombstone_expires_early() {
    let remembered = || {
        let mut net = formed(3);
        let id = net.id(2);
        net.with(2, |m, cx| m.leave(cx));
        net.run(secs(5));
        net.with(0, |m, cx| m.table.tombstone(cx.now, id).is_some())
    };
    assert_eq!(
        without_and_with(PlantedBug::TombstoneExpiresEarly, remembered),
        (true, false)
    );
}

#[test]
fn probe_not_relayed() {
    let condemned = || {
        let mut net = formed(5);
        net.cut(0, 1);
        net.run(secs(30));
        departures(&net, 0) > 0
    };
    assert_eq!(
        without_and_with(PlantedBug::ProbeNotRelayed, condemned),
        (false, true)
    );
}

#[test]
fn refuted_member_joins_twice() {
    let reported = || {
        let mut net = formed(3);
        let record = suspect(&net, 0, 2);
        hear(&mut net, 1, 2, &record);
        net.run(secs(5));
        joins(&net, 1, net.id(0))
    };
    assert_eq!(
        without_and_with(PlantedBug::RefutedMemberJoinsTwice, reported),
        (1, 2)
    );
}

#[test]
fn replaced_member_not_reported() {
    let reported = || {
        let mut net = formed(3);
        let old = net.id(2);
        net.restart(2);
        net.connect(2, 0);
        net.run(secs(1));
        assert!(net.membership(0).get(old).is_none());
        departures(&net, 0)
    };
    assert_eq!(
        without_and_with(PlantedBug::ReplacedMemberNotReported, reported),
        (1, 0)
    );
}

#[test]
fn leave_not_awaited() {
    let left_at_once = || {
        let mut net = formed(2);
        net.with(0, |m, cx| m.leave(cx));
        net.membership(0).left()
    };
    assert_eq!(
        without_and_with(PlantedBug::LeaveNotAwaited, left_at_once),
        (false, true)
    );
}

#[test]
fn goodbye_called_failure() {
    let as_failed = || {
        let mut net = formed(2);
        net.with(0, |m, cx| m.leave(cx));
        net.run(ms(100));
        let failed = |event: &Event| {
            matches!(
                event,
                Event::MemberLeft {
                    reason: LeaveReason::Failed,
                    ..
                }
            )
        };
        net.events(1).iter().any(failed)
    };
    assert_eq!(
        without_and_with(PlantedBug::GoodbyeCalledFailure, as_failed),
        (false, true)
    );
}

#[test]
fn updates_not_reported() {
    let told = || {
        let mut net = formed(2);
        let (other, addr) = (net.id(1), SocketAddr::from(([10, 9, 9, 9], 5000)));
        net.with(0, |m, cx| m.peer_moved(cx, other, addr));
        let moved = |event: &Event| matches!(event, Event::MemberUpdated(member) if member.addr == addr);
        net.events(0).iter().any(moved)
    };
    assert_eq!(
        without_and_with(PlantedBug::UpdatesNotReported, told),
        (true, false)
    );
}

#[test]
fn hearsay_beats_quarantine() {
    let listed = || {
        let mut net = formed(2);
        let record = Record {
            id: net.stranger(0),
            ..net.membership(1).own_record()
        };
        net.with(0, |m, cx| m.quarantined(cx, record.id));
        hear(&mut net, 0, 1, &record);
        joins(&net, 0, record.id)
    };
    assert_eq!(
        without_and_with(PlantedBug::HearsayBeatsQuarantine, listed),
        (0, 1)
    );
}
