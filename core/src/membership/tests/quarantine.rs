//! What others say of a process in quarantine.

use super::harness::Net;
use super::*;

/// Lets the first host hear of somebody who is no member.
fn hear(net: &mut Net, id: NodeId, state: State) {
    let from = net.id(1);
    let record = Record {
        id,
        state,
        addr: SocketAddr::from(([10, 9, 9, 9], 5000)),
        ..net.membership(1).own_record()
    };
    net.with(0, |m, cx| m.learn(cx, &record, Source::Gossip(from)));
}

/// What the first host told of somebody.
fn told(net: &Net, id: NodeId) -> Vec<Option<LeaveReason>> {
    let of = |event: &Event| match event {
        Event::MemberJoined(member) if member.id == id => Some(None),
        Event::MemberLeft { member, reason } if member.id == id => Some(Some(*reason)),
        _ => None,
    };
    net.events(0).iter().filter_map(of).collect()
}

#[test]
fn nobodys_word_makes_it_a_member() {
    let mut net = Net::new(2, 90);
    net.form();
    let stranger = net.stranger(0);
    net.with(0, |m, cx| m.quarantined(cx, stranger));
    hear(&mut net, stranger, State::Alive);
    hear(&mut net, stranger, State::Suspect);
    assert_eq!(told(&net, stranger), []);
    assert_eq!(net.membership(0).member_count(), 1);
    // The same word counts once it agrees.
    net.with(0, |m, _| m.quarantine_ended(stranger));
    hear(&mut net, stranger, State::Alive);
    assert_eq!(told(&net, stranger), [None]);
}

#[test]
fn who_was_a_member_by_hearsay_is_none_any_more() {
    let mut net = Net::new(2, 90);
    net.form();
    let (stranger, other) = (net.stranger(0), net.id(1));
    hear(&mut net, stranger, State::Alive);
    assert_eq!(net.membership(0).voters_present(), 3);
    net.with(0, |m, cx| m.quarantined(cx, stranger));
    assert_eq!(told(&net, stranger), [None, Some(LeaveReason::Quarantined)]);
    assert_eq!(net.membership(0).voters_present(), 2);
    // It is nobody's partner, and nobody is told that it died: it comes back as it was.
    assert_eq!(net.membership(0).detector.partners, [other]);
    let remembered = net.with(0, |m, cx| m.table.tombstone(cx.now, stranger));
    assert_eq!(remembered, None);
    net.with(0, |m, _| m.quarantine_ended(stranger));
    hear(&mut net, stranger, State::Alive);
    assert_eq!(told(&net, stranger).last(), Some(&None));
}

#[test]
fn it_can_be_put_in_quarantine_twice_and_without_being_known() {
    let mut net = Net::new(2, 90);
    net.form();
    let stranger = net.stranger(0);
    for _ in 0..2 {
        net.with(0, |m, cx| m.quarantined(cx, stranger));
        net.with(0, |m, cx| m.quarantined(cx, stranger));
        net.with(0, |m, _| m.quarantine_ended(stranger));
    }
    assert_eq!(told(&net, stranger), []);
}
