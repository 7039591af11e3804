//! Where a node of the demo lives.

use crate::args;
use crate::task::{Task, task};
use alloc::sync::Arc;
use quorate_tokio::{Cluster, Setup, StartError, os};
use std::io;
use std::thread::JoinHandle;

/// A runtime in a thread of its own. What was spawned there ends with it wherever it stands, like a process that is
/// killed: a node says no goodbye.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    Tokio(tokio::runtime::Handle),
    Smol(Arc<smol::Executor<'static>>),
}

impl Home {
    /// Opens one under a name. It ends when `stop` is closed, and for smol when this and its clones are dropped too.
    pub(crate) fn open(
        runtime: args::Runtime,
        name: &str,
        stop: async_channel::Receiver<()>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let thread = std::thread::Builder::new().name(name.into());
        match runtime {
            args::Runtime::Tokio => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let home = Self::Tokio(runtime.handle().clone());
                let thread = thread.spawn(move || {
                    let _ = runtime.block_on(stop.recv());
                    runtime.shutdown_background();
                })?;
                Ok((home, thread))
            }
            args::Runtime::Smol => {
                let executor = Arc::new(smol::Executor::new());
                let home = Self::Smol(Arc::clone(&executor));
                let thread = thread.spawn(move || {
                    let _ = smol::block_on(executor.run(stop.recv()));
                })?;
                Ok((home, thread))
            }
        }
    }

    /// Starts a node here. Called in a task of this home.
    pub(crate) fn launch(&self, setup: Setup, udp: os::Udp) -> Result<Cluster, StartError> {
        match self {
            Self::Tokio(handle) => {
                let (cluster, driver) = quorate_tokio::node(setup, udp)?;
                handle.spawn(driver);
                Ok(cluster)
            }
            Self::Smol(executor) => {
                let (cluster, driver) = quorate_smol::node(setup, udp)?;
                executor.spawn(driver).detach();
                Ok(cluster)
            }
        }
    }

    /// Starts a task here.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (work, result) = task(work);
        match self {
            Self::Tokio(handle) => drop(handle.spawn(work)),
            Self::Smol(executor) => executor.spawn(work).detach(),
        }
        result
    }
}
