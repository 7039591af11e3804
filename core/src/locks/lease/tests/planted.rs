//! Each planted bug of leases and of the table shows.

use super::*;
use crate::planted::plant;

/// Runs a story, and says whether it ends as it has to.
type Story = fn(&mut Leader) -> bool;

/// Each planted bug changes what it says.
#[test]
fn planted_bugs_show() {
    fn held(leader: &mut Leader) {
        leader.acquire(0, 1, 1, wish("a"));
        leader.acquire(0, 2, 1, wish("a"));
        leader.commit(0);
        leader.wait(1000, 2, 1);
        leader.replies();
    }
    fn gone(leader: &mut Leader) -> bool {
        let replies = leader.replies();
        let gone = |reply: &Reply| matches!(&reply.1, Answer::Gone { tokens, .. } if tokens == &[101]);
        replies.iter().any(gone)
    }
    fn raise(stamp: u64) -> Ask {
        let (token, ttl) = (101, 20_000);
        Ask::Raise { stamp, token, ttl }
    }
    let rows: &[(PlantedBug, Story)] = &[
        (PlantedBug::DriftIgnored, |leader| {
            leader.renew(4000, 1, 101);
            leader.deadline(101) == Some(14_100)
        }),
        (PlantedBug::WholeLeaseFromTheQueue, |leader| {
            leader.release(1500, 1, 101);
            leader.commit(1500);
            leader.deadline(102) == Some(4030)
        }),
        (PlantedBug::NewLeaderCutsLeases, |leader| {
            leader.serve(2000);
            leader.deadline(101) == Some(12_100)
        }),
        (PlantedBug::DeadlineMovesBack, |leader| {
            leader.renew(4000, 1, 101);
            leader.renew(3000, 1, 101);
            leader.deadline(101) == Some(14_100)
        }),
        (PlantedBug::AnswersAfterTheEnd, |leader| {
            leader.release(4000, 1, 101);
            leader.renew(4100, 1, 101);
            leader.round();
            gone(leader)
        }),
        (PlantedBug::RenewalsWithoutRound, |leader| {
            leader.renew(4000, 1, 101);
            leader.replies().is_empty()
        }),
        (PlantedBug::RenewalsExtendNothing, |leader| {
            leader.renew(4000, 1, 101);
            leader.deadline(101) == Some(14_100)
        }),
        (PlantedBug::RaisePromisedEarly, |leader| {
            leader.ask(1000, 1, &raise(1000));
            leader.round();
            leader.replies().is_empty()
        }),
        (PlantedBug::RevokedLeasesGoOn, |leader| {
            let (request, token, at_once) = (1, 101, false);
            let revoke = Ask::Revoke {
                request,
                token,
                at_once,
            };
            leader.ask(1000, 3, &revoke);
            leader.commit(1000);
            leader.replies();
            leader.renew(1100, 1, 101);
            leader.round();
            gone(leader)
        }),
        (PlantedBug::ExpiryPutOffForEver, |leader| {
            leader.timeout(10_101);
            leader.commit(10_101);
            leader.table.holder(101).is_none()
        }),
        (PlantedBug::SilentWaitersStay, |leader| {
            leader.timeout(4031);
            leader.commit(4031);
            leader.table.waits_for(life(2), 1).is_none()
        }),
        (PlantedBug::GrantCountsFromLaterSigns, |leader| {
            leader.release(1500, 1, 101);
            leader.wait(1600, 2, 1);
            leader.commit(1700);
            leader.deadline(102) == Some(4030)
        }),
        (PlantedBug::StaleReleaseFrees, |leader| {
            leader.release(1500, 1, 100);
            leader.commit(1500);
            leader.table.holder(101).is_some()
        }),
        (PlantedBug::RetransmissionRequeues, |leader| {
            leader.acquire(1000, 3, 1, wish("a"));
            leader.commit(1000);
            leader.acquire(1100, 2, 1, wish("a"));
            leader.commit(1100);
            let first = leader.table.waiters().next();
            first.is_some_and(|(_, waiter)| waiter.owner == life(2))
        }),
        (PlantedBug::RevokeFreesAtOnce, |leader| {
            let (request, token, at_once) = (1, 101, false);
            let revoke = Ask::Revoke {
                request,
                token,
                at_once,
            };
            leader.ask(1000, 3, &revoke);
            leader.commit(1000);
            leader.table.holder(101).is_some()
        }),
        (PlantedBug::WokenButNotGranted, |leader| {
            leader.release(1500, 1, 101);
            leader.commit(1500);
            leader.table.granted(life(2), 1) == Some(102)
        }),
        (PlantedBug::LateAcquireGrantsAgain, |leader| {
            leader.release(1500, 1, 101);
            leader.commit(1500);
            leader.release(1600, 2, 102);
            leader.commit(1600);
            let (owner, request, floor) = (life(1), 1, 0);
            let wish = Arc::new(wish("a"));
            leader.appended.push_back(Change::Acquire {
                owner,
                request,
                floor,
                wish,
            });
            leader.commit(1700);
            leader.table.tokens().count() == 0
        }),
        (PlantedBug::RequestsLostInSnapshot, |leader| {
            leader.release(1500, 1, 101);
            leader.commit(1500);
            leader.table.clone().kept().is_over(life(1), 1)
        }),
        (PlantedBug::QueueOvertaken, |leader| {
            let units = |units| Wish {
                units,
                capacity: 2,
                ..wish("s")
            };
            for (who, wanted) in [(1, 1), (2, 2), (3, 1)] {
                leader.acquire(0, who, 2, units(wanted));
                leader.commit(0);
            }
            leader.table.granted(life(3), 2).is_none()
        }),
    ];
    for &(bug, story) in rows {
        for planted in [None, Some(bug)] {
            let mut leader = Leader::new(0);
            held(&mut leader);
            // The story begins as it always does; only what follows is told with the bug.
            let guard = plant(planted);
            let right = story(&mut leader);
            drop(guard);
            assert_eq!(right, planted.is_none(), "{bug:?}");
        }
    }
}
