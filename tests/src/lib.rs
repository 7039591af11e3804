//! Scenarios on real sockets, written once and run on every runtime.
//!
//! They use loopback addresses, ports that the system hands out, default timing and generous bounds.

pub mod children;
pub mod lifecycle;
pub mod locks;
pub mod membership;
pub mod messages;
pub mod security;

use core::future::Future;
use core::time::Duration;
use quorate::{Cluster, Config, Filter, Key, NodeId, StartError};
use std::time::Instant;

/// A runtime under test.
pub trait Runtime: 'static {
    /// Runs a future to its end on this runtime.
    fn block_on<F: Future>(future: F) -> F::Output;
    /// Starts a node.
    fn start(config: Config) -> impl Future<Output = Result<Cluster, StartError>> + Send;
    /// Starts a node whose outgoing datagrams pass a filter.
    fn start_filtered(
        config: Config,
        filter: Filter,
    ) -> impl Future<Output = Result<Cluster, StartError>> + Send;
    /// Waits.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send;
    /// Runs a future beside the present one.
    fn spawn(future: impl Future<Output = ()> + Send + 'static);
}

/// tokio.
#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(future)
    }

    async fn start(config: Config) -> Result<Cluster, StartError> {
        quorate_tokio::start(config).await
    }

    async fn start_filtered(config: Config, filter: Filter) -> Result<Cluster, StartError> {
        quorate_tokio::start_filtered(config, filter).await
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(future);
    }
}

/// smol.
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
    fn block_on<F: Future>(future: F) -> F::Output {
        smol::block_on(future)
    }

    async fn start(config: Config) -> Result<Cluster, StartError> {
        quorate_smol::start(config).await
    }

    async fn start_filtered(config: Config, filter: Filter) -> Result<Cluster, StartError> {
        quorate_smol::start_filtered(config, filter).await
    }

    async fn sleep(duration: Duration) {
        smol::Timer::after(duration).await;
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(future).detach();
    }
}

/// How long anything may take that should take a moment.
pub const SOON: Duration = Duration::from_secs(30);

/// Returns a config for a node on a loopback port of the system's choice.
pub fn config() -> Config {
    Config::default()
        .bind("127.0.0.1:0")
        .key(Key::from_bytes([7; 32]))
}

/// Waits until the condition holds; panics, naming `what`, if it does not soon.
///
/// # Panics
/// After [`SOON`].
pub async fn until<R: Runtime>(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        R::sleep(Duration::from_millis(10)).await;
    }
}

/// Ends as the future does; panics, naming `what`, if it does not soon.
///
/// # Panics
/// After [`SOON`].
pub async fn soon<R: Runtime, T>(what: &str, future: impl Future<Output = T>) -> T {
    let mut future = core::pin::pin!(future);
    let mut limit = core::pin::pin!(R::sleep(SOON));
    core::future::poll_fn(|cx| {
        if let core::task::Poll::Ready(value) = future.as_mut().poll(cx) {
            return core::task::Poll::Ready(value);
        }
        assert!(
            limit.as_mut().poll(cx).is_pending(),
            "not within {SOON:?}: {what}"
        );
        core::task::Poll::Pending
    })
    .await
}

/// Starts a node. Where it is to have a port that another one had just now, somebody else may have been handed that
/// port meanwhile: it waits until it is free.
///
/// # Panics
/// If it cannot be started.
pub async fn start<R: Runtime>(config: Config) -> Cluster {
    start_filtered::<R>(config, || Filter::new(|_, _| true)).await
}

async fn start_filtered<R: Runtime>(config: Config, filter: impl Fn() -> Filter) -> Cluster {
    let begun = Instant::now();
    loop {
        match R::start_filtered(config.clone(), filter()).await {
            Err(StartError::Bind { .. }) if begun.elapsed() < SOON => {
                R::sleep(Duration::from_millis(50)).await
            }
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
pub async fn shutdown<R: Runtime>(nodes: Vec<Cluster>) {
    for node in nodes {
        soon::<R, _>("a shutdown", node.shutdown()).await;
    }
}

/// A node that can be made to die: nothing leaves it any more, not even a goodbye.
pub struct Mortal {
    /// The node.
    pub cluster: Cluster,
    dead: std::sync::Arc<core::sync::atomic::AtomicBool>,
}

impl Mortal {
    /// Starts one.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start<R: Runtime>(config: Config) -> Self {
        let dead = std::sync::Arc::new(core::sync::atomic::AtomicBool::new(false));
        let filter = || {
            let seen = dead.clone();
            Filter::new(move |_, _| !seen.load(core::sync::atomic::Ordering::Relaxed))
        };
        let cluster = start_filtered::<R>(config, filter).await;
        Self { cluster, dead }
    }

    /// Cuts it off: it hears everything, and nobody hears it.
    pub fn cut(&self) {
        self.dead.store(true, core::sync::atomic::Ordering::Relaxed);
    }

    /// Lets it die, and frees its port.
    pub async fn die<R: Runtime>(self) {
        self.cut();
        soon::<R, _>("a shutdown", self.cluster.shutdown()).await;
    }
}

/// Makes a test of every scenario, on one runtime.
#[macro_export]
macro_rules! suite {
    ($runtime:ty) => {
        $crate::suite!($runtime:
            membership { join_by_name_address_and_gossip, join_over_ipv6, crash, leave, dropping_every_handle_leaves,
                rejoin, quorum, twenty_nodes, bad_configs, an_unresolvable_name, several_clusters_in_one_process }
            security { wrong_key_and_plaintext, key_rotation, a_missed_rotation, quarantine }
            messages { a_thousand_in_order, requests, a_mebibyte_at_five_percent_loss, too_large,
                a_request_to_a_peer_that_goes, a_consumer_that_stops_reading }
            lifecycle { a_shutdown_ends_all_calls, a_hundred_starts_and_stops, requests_that_are_given_up, dead_seeds }
            locks { hand_over_with_rising_tokens, a_dropped_acquire_leaves_nothing, a_refused_try_names_the_holder,
                a_cut_off_holder_has_lost_it_before_the_next_gets_it, work_is_stopped_when_the_lock_is_lost,
                whoever_leaves_hands_over_at_once, a_guard_dropped_outside_of_any_runtime, a_panic_hands_over,
                units_and_readers, listing_and_force, elections, health_says_whether_locks_come }
            children { child, a_stopped_process_accuses_nobody, a_killed_process }
        );
    };
    ($runtime:ty: $($module:ident { $($scenario:ident),+ })+) => {
        $($(
            #[test]
            fn $scenario() {
                <$runtime as $crate::Runtime>::block_on($crate::$module::$scenario::<$runtime>());
            }
        )+)+
    };
}
