//! One of many.

use super::group;
use crate::{Runtime, shutdown, soon};

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
