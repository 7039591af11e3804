//! A service on async-std, with `quorate-smol` as it is.
//!
//!     cargo run -p quorate-smol --example async_std
//!
//! The nodes run on smol's own thread; everything else here is async-std's, which its authors have discontinued in
//! favour of smol. A service that moves over can change one line at a time: both use the same timers and sockets
//! underneath.

use async_std::task;
use quorate_smol::{Cluster, Config, Key, start};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    task::block_on(async {
        let key = Key::from_bytes([7; 32]); // of course yours is from `openssl rand -hex 32`, and secret
        let config = Config::default()
            .bind("127.0.0.1:0")
            .key(key)
            .cluster_size(3)
            .local();
        let first = start(config.clone()).await?;
        let seed = first.local_addr().to_string();
        let mut nodes = vec![first];
        for _ in 1..3 {
            nodes.push(start(config.clone().seed(seed.clone())).await?);
        }
        let replicas: Vec<_> = nodes.iter().cloned().map(replica).map(task::spawn).collect();
        for replica in replicas {
            replica.await.map_err(|error| error as Box<dyn Error>)?;
        }
        for answer in nodes[0].request_all("ping", Duration::from_secs(5)).await? {
            println!("{} answers {:?}", answer.from, answer.result?);
        }
        for node in nodes {
            node.shutdown().await;
        }
        Ok(())
    })
}

/// Answers requests until its node leaves, and takes two turns at a lock meanwhile.
async fn replica(cluster: Cluster) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut messages = cluster.messages();
    task::spawn(async move {
        while let Some(message) = messages.next().await {
            let _ = message.reply("pong").await;
        }
    });
    cluster.ready().await?;
    for _ in 0..2 {
        let guard = cluster.lock("jobs/nightly").acquire().await?;
        println!("{} has the lock under token {}", cluster.id(), guard.token());
        task::sleep(Duration::from_millis(20)).await;
        guard.release().await?;
    }
    Ok(())
}
