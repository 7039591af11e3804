//! One of many.

use super::{LONG, group, three_with_a_mortal, until_known};
use crate::{Runtime, poll_once, shutdown, soon, until};
use core::pin::pin;
use quorate::{LostReason, WithLockError};

/// One leads, everybody sees who, and the next follows.
pub async fn elections<R: Runtime>() {
    let nodes = group::<R>().await;
    let election = |i: usize| nodes[i].elect("boss").value(format!("node-{i}"));
    let mut leaders = soon::<R, _>("an observer", election(2).observe())
        .await
        .expect("observes");
    assert_eq!(soon::<R, _>("a first look", leaders.next()).await, Some(None));
    let first = soon::<R, _>("an election", election(0).campaign())
        .await
        .expect("elected");
    let seen = soon::<R, _>("a leader", leaders.next())
        .await
        .flatten()
        .expect("a leader");
    assert_eq!(
        (&*seen.value, seen.node, seen.token),
        ("node-0", nodes[0].id(), first.token())
    );
    let asked = soon::<R, _>("an answer", election(1).leader()).await;
    assert_eq!(asked, Ok(Some(seen)));
    first.step_down().await.expect("it led");
    let second = soon::<R, _>("an election", election(1).campaign())
        .await
        .expect("elected");
    let follows = async {
        // It may have been looked at between the two.
        loop {
            if let Some(leader) = leaders.next().await.expect("the node runs") {
                return leader;
            }
        }
    };
    let seen = soon::<R, _>("the next leader", follows).await;
    assert_eq!((&*seen.value, seen.token), ("node-1", second.token()));
    drop((second, leaders));
    shutdown::<R>(nodes).await;
}

/// An elected one works while it leads; candidates take turns by their urgency, and one that gives up is out.
pub async fn campaigns<R: Runtime>() {
    let nodes = group::<R>().await;
    let election = |i: usize| nodes[i].elect("boss").value(format!("node-{i}")).ttl(LONG);
    let first = soon::<R, _>("an election", election(0).campaign())
        .await
        .expect("elected");
    assert_eq!((first.value(), first.check()), ("node-0", Ok(first.token())));
    let (ended, ends) = std::sync::mpsc::channel();
    for (i, priority) in [(1, 0), (2, 7)] {
        let (candidate, ended) = (election(i).priority(priority), ended.clone());
        R::spawn(async move {
            let work = candidate.run(|lease| async move { (i, lease.token()) }).await;
            let _ = ended.send(work);
        });
        until_known::<R>(&nodes[0], "boss", (1, i)).await;
    }
    {
        let mut given_up = pin!(election(1).priority(9).campaign());
        assert!(poll_once(given_up.as_mut()).await.is_pending());
        until_known::<R>(&nodes[0], "boss", (1, 3)).await;
    }
    until_known::<R>(&nodes[0], "boss", (1, 2)).await;
    let leader = soon::<R, _>("an answer", election(2).leader()).await;
    assert_eq!(
        leader.map(|leader| leader.map(|leader| leader.value)),
        Ok(Some("node-0".into()))
    );
    let token = first.token();
    drop(first);
    let mut done: Vec<(usize, u64)> = Vec::new();
    until::<R>("both have led", || {
        done.extend(ends.try_iter().map(|end| end.expect("it led")));
        done.len() == 2
    })
    .await;
    assert_eq!(done.iter().map(|done| done.0).collect::<Vec<_>>(), [2, 1]);
    assert!(token < done[0].1 && done[0].1 < done[1].1, "{token}, {done:?}");
    until_known::<R>(&nodes[0], "boss", (0, 0)).await;
    assert_eq!(election(0).leader().await, Ok(None));
    shutdown::<R>(nodes).await;
}

/// A leader that is cut off stops leading before another one is elected, and everybody else sees that one.
pub async fn a_leader_that_is_cut_off<R: Runtime>() {
    let (nodes, third) = three_with_a_mortal::<R>().await;
    let mut leaders = soon::<R, _>("an observer", nodes[0].elect("boss").observe())
        .await
        .expect("observes");
    let cut = &third;
    let led = third
        .cluster
        .elect("boss")
        .value("third")
        .run(|lease| async move {
            cut.cut();
            core::future::pending::<()>().await;
            lease.token()
        });
    let lost = soon::<R, _>("the end of its work", led).await;
    assert_eq!(lost, Err(WithLockError::Lost(LostReason::Expired)));
    let second = nodes[1].elect("boss").value("second").ttl(LONG).campaign();
    let second = soon::<R, _>("an election", second).await.expect("elected");
    let seen = async {
        loop {
            if let Some(leader) = leaders.next().await.expect("the node runs")
                && leader.value == "second"
            {
                return leader.token;
            }
        }
    };
    assert_eq!(soon::<R, _>("the new leader", seen).await, second.token());
    second.step_down().await.expect("it led");
    third.die::<R>().await;
    drop(leaders);
    shutdown::<R>(nodes).await;
}
