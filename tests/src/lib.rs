//! Scenarios, written once and run on every runtime.
//!
//! A scenario is an `async fn name<R: Runtime>()` that touches the world through `quorate` and [`Runtime`] only, so that
//! it runs in a simulation too. What is about the system itself (processes, threads, sockets, what is left open) is in
//! [`os`]. [`suite!`] and [`suite_os!`] make tests of them.
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
#[cfg(test)]
mod tests;

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use quorate::{Cluster, Config, Filter, Key, NodeId, StartError};
pub use runtime::{AsyncStd, Runtime, Simulated, Smol, Tokio};
use std::sync::Arc;

/// How long anything may take that should take a moment.
pub const SOON: Duration = Duration::from_secs(30);

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Returns a config for a node at an address of the runtime's choice: on an operating system a loopback port.
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

/// Makes a test of every scenario that runs on any runtime, also in a simulation.
#[macro_export]
macro_rules! suite {
    ($runtime:ty) => {
        $crate::tests!($runtime:
            membership { join_by_name_address_and_gossip, crash, leave, dropping_every_handle_leaves, rejoin, quorum,
                twenty_nodes, bad_configs, an_unresolvable_name, several_clusters_in_one_process }
            security { wrong_key_and_plaintext, key_rotation, a_missed_rotation, quarantine }
            messages { a_thousand_in_order, requests, a_mebibyte_at_five_percent_loss, too_large,
                a_request_to_a_peer_that_goes, a_consumer_that_stops_reading }
            outcomes { without_a_quorum, casts_and_readers, replies, answers_one_by_one, refusals }
            endings { a_shutdown_ends_all_calls }
            locks { hand_over_with_rising_tokens, a_refused_try_names_the_holder, units_and_readers, the_urgent_go_first,
                wrong_requests, limits, no_quorum_no_locks, health_says_whether_locks_come }
            locks::cancel { a_dropped_acquire_leaves_nothing, an_acquire_dropped_at_any_poll, work_dropped_at_any_poll,
                questions_dropped_at_any_poll }
            locks::elections { elections, campaigns, a_leader_that_is_cut_off }
            locks::guards { a_cut_off_holder_has_lost_it_before_the_next_gets_it, work_is_stopped_when_the_lock_is_lost,
                whoever_leaves_hands_over_at_once, a_panic_hands_over, a_panic_of_the_work_hands_over, leases_are_renewed,
                a_lease_gets_shorter_and_longer, a_lock_at_risk, a_dead_holder, a_guard_keeps_its_node,
                everybody_leaves_with_locks }
            locks::looking { listing_and_force, pages, filters, watching, counts }
        );
    };
}

/// Makes a test of every scenario that needs an operating system.
#[macro_export]
macro_rules! suite_os {
    ($runtime:ty) => {
        $crate::tests!($runtime:
            os::children { child, a_stopped_process_accuses_nobody, a_killed_process }
            os::leaks { hundreds_of_clusters, requests_that_are_given_up, dead_seeds }
            os::sockets { join_over_ipv6, bad_addresses }
            os::threads { a_guard_dropped_outside_of_any_runtime, a_thread_without_a_runtime }
        );
    };
}

/// Makes a test of each scenario that is named.
#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    ($runtime:ty: $($($module:ident)::+ { $($scenario:ident),+ })+) => {
        $($crate::tests!(@module $runtime; { $($module::)+ }; $($scenario)+);)+
    };
    (@module $runtime:ty; $module:tt; $($scenario:ident)+) => {
        $($crate::tests!(@test $runtime; $module; $scenario);)+
    };
    (@test $runtime:ty; { $($module:ident::)+ }; $scenario:ident) => {
        #[test]
        fn $scenario() {
            <$runtime as $crate::Runtime>::test($crate::$($module::)+$scenario::<$runtime>);
        }
    };
}
