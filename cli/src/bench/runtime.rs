//! The few things that a benchmark's process needs from its runtime.

use crate::args;
use crate::task::{self, Task};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use quorate_tokio::{Cluster, Config, StartError};

/// The runtime that this process runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Runtime {
    Tokio,
    Smol,
}

impl Runtime {
    /// Runs a future to its end on a fresh runtime.
    ///
    /// Tokio without workers is its current-thread runtime: the socket, the node and the tasks that use it share one
    /// thread, so nothing has to be handed from thread to thread. For a service that mostly waits for its peers this is
    /// the fastest shape, and on a machine that is shared with the peers (as here) by far.
    pub(crate) fn block_on<F, T>(
        chosen: args::Runtime,
        workers: u8,
        main: impl FnOnce(Self) -> F,
    ) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        match (chosen, workers) {
            (args::Runtime::Smol, _) => {
                // On the executor like the node, not on this thread beside it.
                smol::block_on(smol::spawn(main(Self::Smol)))
            }
            (args::Runtime::Tokio, 0) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(main(Self::Tokio))
            }
            (args::Runtime::Tokio, workers) => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(workers.into())
                    .enable_all()
                    .build()?;
                // On a worker like the node: `block_on` would keep it on this thread.
                runtime.block_on(async { tokio::spawn(main(Self::Tokio)).await? })
            }
        }
    }

    /// Starts a task and returns where its result will be.
    pub(crate) fn spawn<T: Send + 'static>(self, task: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (task, result) = task::task(task);
        match self {
            Self::Tokio => drop(tokio::spawn(task)),
            Self::Smol => smol::spawn(task).detach(),
        }
        result
    }

    pub(crate) async fn sleep(self, duration: Duration) {
        match self {
            Self::Tokio => tokio::time::sleep(duration).await,
            Self::Smol => drop(smol::Timer::after(duration).await),
        }
    }

    /// Waits for a future, but not longer than this. `None` when the time was over first.
    pub(crate) async fn timeout<T>(self, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.sleep(duration).await;
            None
        };
        smol::future::or(async { Some(future.await) }, late).await
    }

    /// Starts a node whose outgoing datagrams are lost at the given rate.
    pub(crate) async fn start(self, config: Config, loss: &Loss) -> Result<Cluster, StartError> {
        #[cfg(feature = "testing")]
        {
            let filter = loss.filter();
            match self {
                Self::Tokio => quorate_tokio::start_filtered(config, filter).await,
                Self::Smol => quorate_smol::start_filtered(config, filter).await,
            }
        }
        #[cfg(not(feature = "testing"))]
        {
            let _ = loss;
            match self {
                Self::Tokio => quorate_tokio::start(config).await,
                Self::Smol => quorate_smol::start(config).await,
            }
        }
    }
}

/// The share of outgoing datagrams that is lost, in thousandths; may change at any time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loss(Arc<AtomicU32>);

impl Loss {
    /// Whether this build can lose datagrams at all.
    pub(crate) const POSSIBLE: bool = cfg!(feature = "testing");

    pub(crate) fn set(&self, permille: u32) {
        self.0.store(permille, Ordering::Relaxed);
    }

    #[cfg(feature = "testing")]
    fn filter(&self) -> quorate_tokio::Filter {
        let rate = Arc::clone(&self.0);
        // xorshift64*: any generator will do. A fixed seed makes the losses the same ones in every run.
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        quorate_tokio::Filter::new(move |_, _| {
            let permille = rate.load(Ordering::Relaxed);
            if permille == 0 {
                return true;
            }
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % 1000 >= u64::from(permille)
        })
    }
}
