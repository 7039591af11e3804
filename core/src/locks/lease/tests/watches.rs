//! Tests of watches.

use super::*;

fn told(leader: &mut Leader) -> Vec<(u8, u64)> {
    let replies = leader.replies.drain(..).filter_map(|(to, answer)| match answer {
        Answer::Watched { version, .. } => Some((to.node.to_bytes()[0], version)),
        _ => None,
    });
    replies.collect()
}

fn watch(leader: &mut Leader, now: u64, from: u8, key: &str) {
    let (request, key) = (1, Key::new(key).unwrap());
    leader.ask(now, from, &Ask::Watch { request, key });
}

#[test]
fn each_change_is_told_to_those_who_watch_that_lock() {
    let mut leader = Leader::new(0);
    watch(&mut leader, 0, 7, "a");
    watch(&mut leader, 0, 8, "b");
    watch(&mut leader, 0, 9, "a");
    assert_eq!(told(&mut leader), [(7, 1), (8, 1), (9, 1)]);
    let mut seen = vec![1];
    let mut expect = |leader: &mut Leader| {
        let told = told(leader);
        let [(7, version), (9, same)] = told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(version, same);
        assert!(!seen.contains(&version) || version == 1);
        seen.push(version);
        version
    };
    leader.acquire(1000, 1, 1, wish("a"));
    leader.commit(1000);
    expect(&mut leader);
    leader.acquire(1100, 2, 1, wish("a"));
    leader.commit(1100);
    let before = expect(&mut leader);
    watch(&mut leader, 1200, 7, "a");
    assert_eq!(told(&mut leader), [(7, before)], "the same again");
    let token = leader.table.tokens().next().unwrap();
    leader.ask(1300, 1, &Ask::Release { tokens: vec![token] });
    leader.commit(1300);
    let told = told(&mut leader);
    assert_eq!(told.len(), 4, "free, then granted to who waited: {told:?}");
    leader.acquire(1400, 3, 1, wish("c"));
    leader.commit(1400);
    assert_eq!(leader.replies().len(), 1, "only the grant");
}

#[test]
fn who_is_silent_is_told_no_more() {
    let mut leader = Leader::new(0);
    watch(&mut leader, 0, 7, "a");
    watch(&mut leader, 1000, 8, "a");
    told(&mut leader);
    leader.acquire(3500, 1, 1, wish("a"));
    leader.commit(3500);
    let told = told(&mut leader);
    assert!(matches!(told[..], [(8, _)]), "{told:?}");
}

#[test]
fn that_a_lock_is_taken_is_told_before_its_holder_has_stopped() {
    let mut leader = Leader::new(0);
    leader.acquire(0, 1, 1, wish("a"));
    leader.commit(0);
    watch(&mut leader, 0, 7, "a");
    let before = told(&mut leader);
    let (request, token, at_once) = (9, 101, false);
    let revoke = Ask::Revoke {
        request,
        token,
        at_once,
    };
    leader.ask(100, 2, &revoke);
    leader.commit(100);
    let after = told(&mut leader);
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
}
