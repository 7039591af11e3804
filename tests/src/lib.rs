//! Scenarios, written once and run on every runtime.
//!
//! A scenario is an `async fn name<R: Runtime>()` that touches the world through `quorate` and [`Runtime`] only, so that
//! it runs in a simulation too. What is about the system itself (processes, threads, sockets, what is left open) is in
//! [`os`]. [`scenarios`] and [`scenarios_os`] list them, and [`run`] runs them as tests.
//!
//! They take the addresses that they are given, default timing, and generous bounds.

pub mod endings;
pub mod locks;
pub mod membership;
pub mod messages;
pub mod os;
pub mod outcomes;
mod runtime;
pub mod security;
mod suite;
#[cfg(test)]
mod tests;

use core::cell::Cell;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use quorate::{Cluster, Config, Filter, Key, NodeId, StartError};
pub use runtime::{AsyncStd, Runtime, Simulated, Smol, Tokio};
use std::sync::Arc;
pub use suite::{Scenario, run, scenarios, scenarios_os};

/// How long anything may take that should take a moment.
pub const SOON: Duration = Duration::from_secs(30);

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(10);

thread_local! {
    /// What tells the key of the scenario that runs on this thread from those of others.
    static SCENARIO: Cell<u128> = const { Cell::new(0) };
}

/// Returns the key of the clusters of a scenario. Every scenario and every process has its own: a port that one has left
/// may be the next one's at once, while somebody still looks there for who it was.
pub fn key() -> Key {
    let scenario = match SCENARIO.get() {
        0 => u128::from(std::process::id()) << 64,
        own => own,
    };
    let mut bytes = [7; 32];
    bytes[..16].copy_from_slice(&scenario.to_be_bytes());
    Key::from_bytes(bytes)
}

/// Returns a config for a node at an address of the runtime's choice: on an operating system a loopback port. Messages have
/// as long as everything else.
pub fn config() -> Config {
    Config::default()
        .bind("127.0.0.1:0")
        .key(key())
        .message_timeout(SOON)
}

/// Waits until the condition holds; panics, naming `what`, if it does not soon.
///
/// # Panics
/// After [`SOON`].
pub async fn until<R: Runtime>(what: &str, mut condition: impl FnMut() -> bool) {
    soon::<R, _>(what, async {
        while !condition() {
            R::sleep(LOOK).await;
        }
    })
    .await;
}

/// Waits until the condition, which has to be waited for itself, holds; panics, naming `what`, if it does not soon.
///
/// # Panics
/// After [`SOON`].
pub async fn until_async<R: Runtime>(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    soon::<R, _>(what, async {
        while !condition().await {
            R::sleep(LOOK).await;
        }
    })
    .await;
}

/// Ends as the future does; panics, naming `what`, if it does not soon.
///
/// # Panics
/// After [`SOON`].
pub async fn soon<R: Runtime, T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = within::<R, _>(SOON, future).await;
    ended.unwrap_or_else(|| panic!("not within {SOON:?}: {what}"))
}

/// Waits for a future, at most so long; then it is dropped.
pub async fn within<R: Runtime, T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut late) = (pin!(future), pin!(R::sleep(limit)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Polls once.
pub async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Starts a node. Where it is to have a port that another one had just now, somebody else may have been handed that
/// port meanwhile: it waits until it is free.
///
/// # Panics
/// If it cannot be started.
pub async fn start<R: Runtime>(config: Config) -> Cluster {
    start_with::<R>(async || R::start(config.clone()).await).await
}

async fn start_with<R: Runtime>(mut start: impl AsyncFnMut() -> Result<Cluster, StartError>) -> Cluster {
    let begun = R::now();
    loop {
        match start().await {
            Err(StartError::Bind { .. }) if R::now() - begun < SOON => R::sleep(LOOK).await,
            started => return started.expect("the node starts"),
        }
    }
}

/// Starts `count` nodes that find each other through the first one, and waits until all list all.
///
/// # Panics
/// If they do not soon.
pub async fn cluster<R: Runtime>(count: usize, config: impl Fn() -> Config) -> Vec<Cluster> {
    let first = start::<R>(config()).await;
    let seed = first.local_addr().to_string();
    let mut nodes = vec![first];
    for _ in 1..count {
        nodes.push(start::<R>(config().seed(seed.clone())).await);
    }
    until_all_meet::<R>(&nodes).await;
    nodes
}

/// Waits until each of the nodes lists exactly the others.
///
/// # Panics
/// If they do not soon.
pub async fn until_all_meet<R: Runtime>(nodes: &[Cluster]) {
    until::<R>("all list each other", || {
        nodes.iter().all(|node| lists(node, nodes))
    })
    .await;
}

/// Returns whether a node lists exactly the others.
pub fn lists(node: &Cluster, nodes: &[Cluster]) -> bool {
    let mut expected: Vec<NodeId> = nodes
        .iter()
        .map(Cluster::id)
        .filter(|id| *id != node.id())
        .collect();
    expected.sort();
    node.members().iter().map(|member| member.id).eq(expected)
}

/// Shuts all nodes down.
///
/// # Panics
/// If they do not stop soon, or not because they were asked to.
pub async fn shutdown<R: Runtime>(nodes: Vec<Cluster>) {
    for node in nodes {
        soon::<R, _>("a shutdown", node.shutdown()).await;
        let closed = soon::<R, _>("its end", node.closed()).await;
        closed.expect("it stopped because it was asked to");
    }
}

/// A node that can be made to die: nothing leaves it any more, not even a goodbye.
pub struct Mortal {
    /// The node.
    pub cluster: Cluster,
    dead: Arc<AtomicBool>,
}

impl Mortal {
    /// Starts one.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start<R: Runtime>(config: Config) -> Self {
        let dead = Arc::new(AtomicBool::new(false));
        let filter = || {
            let seen = dead.clone();
            Filter::new(move |_, _| !seen.load(Ordering::Relaxed))
        };
        let cluster = start_with::<R>(async || R::start_filtered(config.clone(), filter()).await).await;
        Self { cluster, dead }
    }

    /// Cuts it off: it hears everything, and nobody hears it.
    pub fn cut(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Lets it die, and frees its port.
    pub async fn die<R: Runtime>(self) {
        self.cut();
        soon::<R, _>("a shutdown", self.cluster.shutdown()).await;
    }
}
