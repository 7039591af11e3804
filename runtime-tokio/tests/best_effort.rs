//! Locks of real nodes without a `cluster_size`.

use core::time::Duration;
use quorate_tokio::{Cluster, Config, start};

fn config() -> Config {
    Config::default().insecure().bind("127.0.0.1:0").local()
}

async fn follows(node: &Cluster, leader: &Cluster) -> bool {
    node.health()
        .await
        .is_ok_and(|health| health.leader == Some(leader.id()))
}

async fn soon() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// One of three decides alone; when it leaves another one takes over, and holders keep their locks.
#[tokio::test]
async fn another_one_takes_over_with_all_locks() {
    let story = async {
        let first = start(config()).await.unwrap();
        while !follows(&first, &first).await {
            soon().await;
        }
        let joins = || config().seed(first.local_addr().to_string());
        let (second, third) = (start(joins()).await.unwrap(), start(joins()).await.unwrap());
        for node in [&second, &third] {
            while !follows(node, &first).await {
                soon().await;
            }
        }
        while !second
            .health()
            .await
            .is_ok_and(|health| health.best_effort && health.can_lock())
        {
            soon().await;
        }

        let held = second.lock("held").acquire().await.unwrap();
        let lead = first.lock("lead").acquire().await.unwrap();
        assert!(third.try_lock("held").await.is_err());
        let waits = tokio::spawn({
            let third = third.clone();
            async move { third.lock("lead").acquire().await }
        });
        while second
            .lock_info("lead")
            .await
            .unwrap()
            .unwrap()
            .waiters
            .is_empty()
        {
            soon().await;
        }
        while second.member(third.id()).is_none() {
            soon().await;
        }
        // One of the two takes over: what they agree on then takes a way between them.
        second.send_to(third.id(), "there?").await.unwrap();
        first.shutdown().await;
        assert!(lead.check().is_err());
        let next = waits.await.unwrap().unwrap();
        assert!(held.check().is_ok() && next.check().is_ok());
        assert!(next.token() > lead.token());
        let token = held.token();
        held.release().await.unwrap();
        let again = third.lock("held").acquire().await.unwrap();
        assert!(again.token() > token);
        // One of the two, in the end: each may have begun to decide before it heard of the other.
        while !(follows(&second, &third).await && follows(&third, &third).await
            || follows(&second, &second).await && follows(&third, &second).await)
        {
            soon().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), story)
        .await
        .unwrap();
}
