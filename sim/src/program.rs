//! Programs: async code against a `Cluster`, on the driver that drives real nodes.
//!
//! A process that runs a program has one queue of tasks, the driver being the first of them. A task that is woken waits
//! in the [`Hub`], in one line with the tasks of all processes, and is polled before anything else happens: all of them
//! are at rest whenever time passes.

mod clock;
mod env;
mod hub;
mod io;
mod tasks;

pub(crate) use clock::HostClock;
pub(crate) use env::{Birth as Asked, Context, Request};
pub use env::{Env, Sleep, Start, Task};
pub(crate) use hub::{DRIVER, Hub, Turn, Wakeup};
pub(crate) use io::{Lookup, SimIo};
use quorate::Cluster;
use std::pin::Pin;
use std::rc::Rc;
pub(crate) use tasks::{Spawned, TURNS, Tasks};

/// The future of a task.
pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What runs on a host: each process that starts there runs it anew.
pub(crate) type Program = Rc<dyn Fn(Cluster, Env) -> TaskFuture>;

pub(crate) fn program<F>(program: impl Fn(Cluster, Env) -> F + 'static) -> Program
where
    F: Future<Output = ()> + 'static,
{
    Rc::new(move |cluster, env| Box::pin(program(cluster, env)))
}
