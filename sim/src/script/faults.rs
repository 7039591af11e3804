//! Something is lost, late, sent again, or dies.

use super::stage::{AT_ONCE, Grant, NODES, Stage};
use super::{Done, Script, ensure, ms, secs};
use crate::fault::{FaultKind, HostSet};
use crate::world::NodeIndex;
use quorate_core::{Duration, Instant, LockError, LockEvent, LockRequest};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "locks-lost-grant",
        about: "The answer that grants a lock is lost, at once and from the queue.\nWho asks has the lock within a second, by the only token that was granted.",
        cluster_size: NODES as u8,
        play: lost_grant,
    },
    Script {
        name: "locks-lost-release",
        about: "The release of a lock is lost.\nWho waits has it within a second, not when the lease is over.",
        cluster_size: NODES as u8,
        play: lost_release,
    },
    Script {
        name: "locks-late-denial",
        about: "A member is told late that a lock was taken, when it has asked again and got it.\nIt keeps what it got.",
        cluster_size: NODES as u8,
        play: late_denial,
    },
    Script {
        name: "locks-gives-up-while-grant-is-late",
        about: "A member gives up waiting while the grant is on its way, and what it says arrives, or is lost.\nIt is never told that it has the lock, nothing is left, and the next one has it.",
        cluster_size: NODES as u8,
        play: |stage| {
            [false, true]
                .into_iter()
                .try_for_each(|lost| late_grant(stage, lost))
        },
    },
    Script {
        name: "locks-taken-while-grant-is-late",
        about: "A lock is taken from its holder, which hears of that before it hears that it has the lock.\nIt never believes in it, the next one has it, and then it has its turn.",
        cluster_size: NODES as u8,
        play: taken_while_late,
    },
    Script {
        name: "locks-holder-restarts-on-its-address",
        about: "A holder crashes; 200 ms later a new process runs at its address, and asks for the lock too.\nNobody has it before the lease is over; then who waits has it, and then the new process.",
        cluster_size: NODES as u8,
        play: restarted_holder,
    },
    Script {
        name: "locks-crashed-bystander",
        about: "A member crashes that neither holds nor waits.\nNobody notices: a minute later the holder has not been at risk, and hands over at once.",
        cluster_size: NODES as u8,
        play: bystander,
    },
    Script {
        name: "locks-holder-crashes-30-times",
        about: "A holder crashes and one other waits, thirty times; every third holder leads.\nEvery waiter has the lock when the lease is over and, if need be, another leader elected.",
        cluster_size: NODES as u8,
        play: crashing_holders,
    },
    Script {
        name: "locks-replayed-join-and-leave",
        about: "A member leaves, a new process at its address takes a lock, and somebody sends all datagrams of the first again.\nThe lock stays where it is, and so does the member.",
        cluster_size: NODES as u8,
        play: replayed,
    },
];

const KEY: &str = "the lock";
/// Asks are sent again after 200 ms, waiters say so each second.
const AGAIN: Duration = ms(1_300);

fn request() -> LockRequest {
    LockRequest::new(KEY).wait(secs(60))
}

/// Runs until a leader has decided on something that was asked of it just now, while nothing it sends to `deaf` arrives.
fn decide_unheard(
    stage: &mut Stage,
    leader: NodeIndex,
    deaf: NodeIndex,
    decided: impl FnMut(&Stage) -> bool,
) -> Done {
    stage.sim.cut_one_way(leader, deaf);
    stage.until("it is decided", AT_ONCE, decided)?;
    stage.sim.run_for(ms(5));
    stage.sim.heal();
    Ok(())
}

fn lost_grant(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let before = stage.counter()?;
    let id = stage.ask(a, request())?;
    decide_unheard(stage, leader, a, |stage| {
        stage.tokens(KEY).is_ok_and(|it| it.len() == 1)
    })?;
    ensure(stage.told(a).is_empty(), || "the grant was not lost".to_owned())?;
    let first = stage.granted(a, id, AGAIN)?;
    let next = stage.queue(b, request())?;
    stage.give_back(a, first.id)?;
    let passed_on = |stage: &Stage| {
        stage
            .tokens(KEY)
            .is_ok_and(|it| it.iter().all(|&it| it > first.token))
    };
    decide_unheard(stage, leader, b, |stage| {
        passed_on(stage) && stage.waiting(KEY) == 0
    })?;
    ensure(stage.told(b).is_empty(), || "the grant was not lost".to_owned())?;
    let second = stage.granted(b, next, AGAIN)?;
    let expected = [before + 1, before + 2];
    let tokens = [first.token, second.token];
    ensure(tokens == expected && stage.counter()? == expected[1], || {
        format!("{tokens:?} are held in place of {expected:?}")
    })?;
    stage.sim.run_for(secs(30));
    ensure(stage.holds(second), || format!("{second:?} is lost"))?;
    stage.give_back(b, next)?;
    stage.nothing_left(KEY, AT_ONCE)
}

fn lost_release(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let first = stage.take(a, request())?;
    let next = stage.queue(b, request())?;
    stage.sim.cut_one_way(a, leader);
    stage.give_back(a, first.id)?;
    stage.sim.run_for(ms(5));
    stage.sim.heal();
    let unheard = stage.tokens(KEY)?;
    ensure(unheard == [first.token], || "the release was not lost".to_owned())?;
    ensure(!stage.holds(first), || {
        "who gives a lock back still has it".to_owned()
    })?;
    stage.granted(b, next, AGAIN)?;
    stage.give_back(b, next)?;
    stage.nothing_left(KEY, AT_ONCE)
}

fn late_denial(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let holder = stage.take(a, request())?;
    let before = stage.sim.node_of(leader).replica().last().index;
    let hasty = stage.ask(b, LockRequest::new(KEY))?;
    // The answer leaves when a follower has said that it has the entry: only what is sent from then on is late.
    stage.until("a follower has the entry", AT_ONCE, |stage| {
        let last = |node| stage.sim.node_of(node).replica().last().index;
        last(a) > before || last(b) > before
    })?;
    let (quiet, late) = (stage.sim.link(), ms(500));
    stage.sim.set_link(quiet.delay(late, late));
    stage.until("it is decided", AT_ONCE, |stage| {
        stage.sim.node_of(leader).replica().applied() > before
    })?;
    stage.sim.set_link(quiet);
    let denied_at = stage.sim.now();
    stage.give_back(a, holder.id)?;
    let again = stage.ask(b, request())?;
    let got = stage.granted(b, again, AT_ONCE)?;
    ensure(stage.failure(b, hasty).is_none(), || {
        "the denial was not late".to_owned()
    })?;
    let error = stage.failed(b, hasty, late + AT_ONCE)?;
    ensure(matches!(error, LockError::Taken { .. }), || {
        format!("who does not wait is told: {error}")
    })?;
    let left = (denied_at + late).saturating_since(stage.sim.now());
    stage.sim.run_for(left + secs(30));
    let kept = stage.holds(got) && stage.tokens(KEY)? == [got.token];
    ensure(kept, || format!("{got:?} is lost by a denial of another request"))?;
    stage.give_back(b, again)?;
    stage.nothing_left(KEY, AT_ONCE)
}

fn late_grant(stage: &mut Stage, cancel_is_lost: bool) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let holder = stage.take(a, request())?;
    let late = stage.queue(b, request())?;
    let next = stage.queue(leader, request())?;
    let (from, to) = (stage.host(leader).0, stage.host(b).0);
    let clog = FaultKind::Clog {
        from: HostSet::of([from]),
        to: HostSet::of([to]),
    };
    stage.sim.inject(clog, ms(300));
    stage.give_back(a, holder.id)?;
    stage.until("the lock is granted to who will not want it", AT_ONCE, |stage| {
        stage
            .tokens(KEY)
            .is_ok_and(|it| it.iter().any(|&it| it > holder.token))
    })?;
    if cancel_is_lost {
        stage.sim.cut_one_way(b, leader);
    }
    stage.give_back(b, late)?;
    let got = if cancel_is_lost {
        // It says so again when it learns of the grant.
        stage.sim.run_for(ms(250));
        ensure(stage.grant(leader, next).is_none(), || {
            "what was said was not lost".to_owned()
        })?;
        stage.sim.heal();
        stage.granted(leader, next, AGAIN)?
    } else {
        stage.granted(leader, next, AT_ONCE)?
    };
    stage.sim.run_for(secs(5));
    let told = stage.told(b).iter().filter(|(_, event)| match *event {
        LockEvent::Granted { id, .. } => id == late,
        _ => false,
    });
    let told = told.count();
    ensure(told == 0, || {
        "who gave up is told that it has the lock".to_owned()
    })?;
    let error = stage.failure(b, late);
    ensure(error == Some(LockError::Cancelled), || {
        format!("who gave up is told {error:?}")
    })?;
    ensure(stage.holds(got), || format!("{got:?} is lost"))?;
    stage.give_back(leader, next)?;
    stage.nothing_left(KEY, AT_ONCE)
}

fn taken_while_late(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let before = stage.sim.node_of(leader).replica().last().index;
    let id = stage.ask(a, request())?;
    // The grant leaves when a follower has said that it has the entry: only what is sent from then on is late.
    stage.until("a follower has the entry", AT_ONCE, |stage| {
        let last = |node| stage.sim.node_of(node).replica().last().index;
        last(a) > before || last(b) > before
    })?;
    let (quiet, late) = (stage.sim.link(), ms(150));
    stage.sim.set_link(quiet.delay(late, late));
    stage.until("it is decided", AT_ONCE, |stage| {
        stage.sim.node_of(leader).replica().applied() > before
    })?;
    stage.sim.set_link(quiet);
    let token = stage.tokens(KEY)?.first().copied().ok_or("nothing was granted")?;
    let asked = stage.sim.with(leader, |cx| cx.revoke_lock(token, false));
    asked.map_err(|error| format!("{leader} may not take a lock: {error}"))?;
    stage.nothing_left(KEY, AT_ONCE)?;
    ensure(stage.grant(a, id).is_none(), || {
        "the grant was not late".to_owned()
    })?;
    let next = stage.take(b, request())?;
    stage.sim.run_for(secs(5));
    ensure(stage.grant(a, id).is_none() && stage.holds(next), || {
        format!("{next:?} is not the only one who believes in the lock")
    })?;
    stage.give_back(b, next.id)?;
    stage.granted(a, id, AGAIN)?;
    stage.give_back(a, id)?;
    stage.nothing_left(KEY, AT_ONCE)
}

/// Returns the true time at which a belief ends. Clocks run as they should here.
fn ends(stage: &Stage, grant: Grant) -> Instant {
    let local = stage.sim.world().clock(stage.host(grant.node));
    stage.sim.now() + stage.believes_until(grant).saturating_since(local)
}

fn restarted_holder(stage: &mut Stage) -> Done {
    let ttl = secs(5);
    let [a, b] = stage.followers()?;
    let holder = stage.take(a, request().ttl(ttl))?;
    let waiter = stage.queue(b, request())?;
    stage.sim.run_for(secs(20));
    let (host, until) = (stage.host(a), ends(stage, holder));
    let crashed = stage.sim.now();
    stage.sim.inject(FaultKind::Crash { host }, ms(200));
    stage.sim.run_for(ms(300));
    let new = stage.on(host)?;
    let mine = stage.ask(new, request())?;
    let bound = stage.lease(ttl) + AGAIN;
    let next = stage.granted(b, waiter, bound)?;
    ensure(next.at >= until, || {
        format!("{next:?} while the lease of who crashed counts until {until:?}")
    })?;
    ensure(next.at <= crashed + bound, || {
        format!("{next:?} later than {bound:?} after the crash")
    })?;
    ensure(stage.grant(new, mine).is_none(), || {
        "a new process has what the one before it had".to_owned()
    })?;
    stage.give_back(b, waiter)?;
    let last = stage.granted(new, mine, AGAIN)?;
    let tokens = [holder.token, next.token, last.token];
    ensure(tokens.is_sorted_by(|a, b| a < b), || {
        format!("the tokens {tokens:?} do not rise")
    })?;
    stage.give_back(new, mine)?;
    stage.nothing_left(KEY, AT_ONCE)
}

fn bystander(stage: &mut Stage) -> Done {
    let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
    let holder = stage.take(a, request().ttl(secs(2)))?;
    let waiter = stage.queue(leader, request().ttl(secs(2)))?;
    let host = stage.host(b);
    stage.sim.inject(FaultKind::Crash { host }, secs(600));
    stage.sim.run_for(secs(55));
    let risk = stage
        .told(a)
        .iter()
        .any(|(_, event)| matches!(event, LockEvent::AtRisk { .. }));
    ensure(stage.holds(holder) && !risk, || {
        format!("{holder:?} is lost or at risk")
    })?;
    stage.give_back(a, holder.id)?;
    stage.granted(leader, waiter, AT_ONCE)?;
    stage.give_back(leader, waiter)?;
    stage.nothing_left(KEY, AT_ONCE)
}

fn crashing_holders(stage: &mut Stage) -> Done {
    const ROUNDS: usize = 30;
    let ttl = secs(2);
    for round in 0..ROUNDS {
        let (leader, [a, b]) = (stage.leader()?, stage.followers()?);
        let leads = round % 3 == 0;
        let (holder, waiter) = if leads {
            (leader, a)
        } else {
            (a, [leader, b][round % 2])
        };
        let held = stage.take(holder, request().ttl(ttl))?;
        let next = stage.queue(waiter, request().ttl(ttl))?;
        // At any moment between two renewals.
        stage.sim.run_for(ms(1_000 + round as u64 * 97));
        let host = stage.host(holder);
        let until = ends(stage, held);
        stage.sim.inject(FaultKind::Crash { host }, secs(1));
        let election = if leads { stage.election() } else { Duration::ZERO };
        let bound = stage.lease(ttl) + election + AGAIN;
        let got = stage
            .granted(waiter, next, bound)
            .map_err(|what| format!("in round {round}, {what}"))?;
        ensure(got.at >= until, || {
            format!("{got:?} while the lease of who crashed counts until {until:?}")
        })?;
        stage.give_back(waiter, next)?;
        stage.nothing_left(KEY, AGAIN)?;
        stage.settle()?;
    }
    Ok(())
}

fn replayed(stage: &mut Stage) -> Done {
    let [a, b] = stage.followers()?;
    let host = stage.host(a);
    stage.sim.capture(100_000);
    // Its JOIN and its seat, a lock, and its LEAVE.
    stage.sim.inject(FaultKind::Crash { host }, secs(1));
    stage.sim.run_for(secs(2));
    stage.settle()?;
    let first = stage.on(host)?;
    stage.take(first, request())?;
    stage.sim.run_for(secs(20));
    stage.sim.inject(FaultKind::Leave { host }, secs(20));
    stage.until("it has left", secs(15), |stage| !stage.sim.is_running(first))?;
    stage.nothing_left(KEY, AT_ONCE)?;
    stage.sim.run_for(secs(20));
    stage.settle()?;
    let second = stage.on(host)?;
    let mine = stage.take(second, request())?;
    let old: Vec<_> = stage
        .sim
        .captured()
        .iter()
        .filter(|captured| captured.datagram.sender == Some(first))
        .cloned()
        .collect();
    ensure(old.len() > 100, || {
        format!("{} datagrams were recorded", old.len())
    })?;
    for _ in 0..2 {
        for captured in &old {
            let (from, to) = (captured.datagram.from, captured.datagram.to);
            if let Some(at) = stage.sim.world().at(to) {
                stage.sim.replay(at, from, captured);
            }
        }
        stage.sim.run_for(secs(30));
        let kept = stage.holds(mine) && stage.tokens(KEY)? == [mine.token];
        ensure(kept, || format!("{mine:?} is lost by what was sent again"))?;
        let hasty = stage.ask(b, LockRequest::new(KEY))?;
        let error = stage.failed(b, hasty, AT_ONCE)?;
        ensure(matches!(error, LockError::Taken { .. }), || {
            format!("who does not wait is told: {error}")
        })?;
        for node in stage.running().collect::<Vec<_>>() {
            let members = stage.sim.node_of(node).members().count();
            ensure(members == NODES - 1, || format!("{node} lists {members} others"))?;
        }
    }
    stage.give_back(second, mine.id)?;
    stage.nothing_left(KEY, AT_ONCE)
}
