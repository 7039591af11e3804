use super::*;
use core::time::Duration;
use quorate_tokio::LostReason;

const KEY: &str = "jobs/nightly";

fn id(node: u128) -> NodeId {
    NodeId::from_bytes(node.to_be_bytes())
}

/// Occurrences at times given in milliseconds.
fn seen(told: &[(u64, u128, Happened)]) -> Vec<Occurrence> {
    let began = Instant::now();
    let told = told.iter().map(|(ms, node, what)| Occurrence {
        at: began + Duration::from_millis(*ms),
        by: id(*node),
        what: what.clone(),
    });
    told.collect()
}

fn granted(token: u64) -> Happened {
    Happened::Granted { key: KEY, token }
}

fn released(token: u64) -> Happened {
    Happened::Released { key: KEY, token }
}

#[test]
fn holders_are_put_in_order_whatever_ends_their_turns() {
    let reason = LostReason::Expired;
    let lost = Happened::Lost {
        key: KEY,
        token: 30,
        reason,
    };
    let seen = seen(&[
        (0, 1, granted(10)),
        (20, 2, granted(20)),
        // Told late.
        (10, 1, released(10)),
        (30, 2, released(20)),
        (40, 2, granted(30)),
        (45, 2, Happened::Killed),
        (50, 2, lost),
        (60, 1, granted(40)),
        (65, 3, Happened::Killed),
    ]);
    let holdings = Holdings::of(KEY, &seen).expect("nothing is wrong");
    assert_eq!(holdings.handovers, 2);
    assert_eq!((holdings.turns(id(1)), holdings.turns(id(2))), (2, 2));
    let ends: Vec<_> = holdings.list.iter().map(|holding| holding.to).collect();
    assert_eq!(ends, [Some(seen[2].at), Some(seen[3].at), Some(seen[5].at), None]);
    assert_eq!(
        Holdings::of("another", &seen).expect("nothing at all"),
        Holdings::default()
    );
}

#[test]
fn two_holders_at_a_time_are_an_error() {
    let overlap = seen(&[(0, 1, granted(10)), (20, 2, granted(20)), (21, 1, released(10))]);
    let error = Holdings::of(KEY, &overlap).expect_err("both held it");
    assert!(error.to_string().contains("10 and 20"), "{error}");
}

#[test]
fn a_token_that_does_not_rise_is_an_error() {
    for second in [9, 10] {
        let seen = seen(&[
            (0, 1, granted(10)),
            (10, 1, released(10)),
            (20, 2, granted(second)),
        ]);
        let error = Holdings::of(KEY, &seen).expect_err("it does not rise");
        assert!(error.to_string().contains("not higher than 10"), "{error}");
    }
}
