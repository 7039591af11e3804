//! What a scenario needs from a runtime, and the runtimes that have it.

use core::net::SocketAddr;
use core::time::Duration;
use quorate::os::Clock;
use quorate::{Cluster, Config, Filter, Instant, StartError};
use quorate_sim::Env;

/// A runtime under test: all of its surroundings that a scenario may touch.
///
/// What is provided is right for a runtime on an operating system. A simulator has a clock and names of its own.
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

    /// Reads a steady clock.
    fn now() -> Instant {
        Clock::new().now()
    }

    /// Returns a seed that names this address by the name of its host.
    fn seed_by_name(addr: SocketAddr) -> String {
        format!("localhost:{}", addr.port())
    }

    /// Tests a scenario: runs it to its end, once. Where a run depends on a seed, one run is not enough.
    fn test<F: Future<Output = ()>>(scenario: impl Fn() -> F) {
        Self::block_on(scenario());
    }
}

/// tokio, with two workers.
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

/// async-std, with the nodes of `quorate-smol`. Those with a filter run on async-std's executor, all others where
/// `quorate-smol` puts them: on smol's.
#[derive(Debug)]
pub struct AsyncStd;

impl Runtime for AsyncStd {
    fn block_on<F: Future>(future: F) -> F::Output {
        async_std::task::block_on(future)
    }

    async fn start(config: Config) -> Result<Cluster, StartError> {
        quorate_smol::start(config).await
    }

    async fn start_filtered(config: Config, filter: Filter) -> Result<Cluster, StartError> {
        let (setup, udp) = quorate::os::prepare(config)?;
        let (cluster, driver) = quorate_smol::node(setup.filter(filter), udp)?;
        async_std::task::spawn(driver);
        Ok(cluster)
    }

    async fn sleep(duration: Duration) {
        async_std::task::sleep(duration).await;
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        async_std::task::spawn(future);
    }
}

/// The simulator: virtual time, real encryption, a network without faults beside those that scenarios make, and all of
/// its checkers. A test is run from several seeds.
#[derive(Debug)]
pub struct Simulated;

impl Runtime for Simulated {
    fn block_on<F: Future>(future: F) -> F::Output {
        quorate_sim::block_on(0, future)
    }

    async fn start(config: Config) -> Result<Cluster, StartError> {
        Env::current().start(config).await
    }

    async fn start_filtered(config: Config, filter: Filter) -> Result<Cluster, StartError> {
        Env::current().start_filtered(config, filter).await
    }

    async fn sleep(duration: Duration) {
        Env::current().sleep(duration).await;
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        // It goes on by itself.
        drop(Env::current().spawn(future));
    }

    fn now() -> Instant {
        Env::current().now()
    }

    fn seed_by_name(addr: SocketAddr) -> String {
        let name = Env::current().name_of(addr).expect("a host has the address");
        format!("{name}:{}", addr.port())
    }

    fn test<F: Future<Output = ()>>(scenario: impl Fn() -> F) {
        for seed in 0..8 {
            let _name = NameSeed(seed);
            // The same key in every process: it is a part of what is simulated.
            crate::SCENARIO.set(1);
            quorate_sim::block_on(seed, scenario());
        }
    }
}

/// Names the seed of a scenario that fails.
struct NameSeed(u64);

impl Drop for NameSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was seed {}", self.0);
        }
    }
}
