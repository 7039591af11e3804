//! Three nodes take turns at one lock, and write to a store that checks fencing tokens.
//!
//!     cargo run -p quorate-tokio --example fenced
//!
//! The nodes of this example live in one process, so that it needs nothing else; each would be a replica of your
//! service. The store stands for whatever they share: a database, files, another service.

use quorate_tokio::{Cluster, Config, Key, start};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the replicas share. It remembers the highest token that it has seen, and refuses lower ones.
#[derive(Default)]
struct Store {
    highest: u64,
    value: String,
}

impl Store {
    fn write(&mut self, token: u64, value: String) -> Result<(), String> {
        if token < self.highest {
            return Err(format!("token {token} is stale: {} was here", self.highest));
        }
        self.highest = token;
        self.value = value;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
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
    for node in &nodes {
        node.ready().await?;
    }

    let store = Arc::new(Mutex::new(Store::default()));
    let tasks = nodes.iter().enumerate();
    let tasks: Vec<_> = tasks
        .map(|(i, node)| tokio::spawn(replica(i, node.clone(), Arc::clone(&store))))
        .collect();
    for task in tasks {
        task.await?.map_err(|error| error as Box<dyn Error>)?;
    }

    // Somebody who was paused with an old token comes too late.
    let late = store.lock().unwrap().write(1, "from the past".to_owned());
    println!("late: {}", late.unwrap_err());
    // All at once: one after the other, the second would wait for somebody to take its seat.
    let leaving = nodes
        .into_iter()
        .map(|node| tokio::spawn(async move { node.shutdown().await }));
    for left in leaving.collect::<Vec<_>>() {
        left.await?;
    }
    Ok(())
}

async fn replica(
    i: usize,
    node: Cluster,
    store: Arc<Mutex<Store>>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    for turn in 1..=2 {
        let guard = node.lock("store").ttl(Duration::from_secs(5)).acquire().await?;
        let token = guard.token();
        store
            .lock()
            .unwrap()
            .write(token, format!("turn {turn} of replica {i}"))?;
        println!("replica {i} wrote under token {token}");
        guard.release().await?;
    }
    Ok(())
}
