//! What the driver needs from the world.

mod batch;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
pub use batch::{Run, SendBatch};
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::pin::Pin;
use core::task::{Context, Poll};
use quorate_core::{Instant, WallTime};
use std::io;

/// The future of a name resolution.
pub type ResolveFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// A steady clock that any thread can read: a lock that is held looks at it wherever it is, also while the driver does not
/// run.
pub trait SteadyClock: fmt::Debug + Send + Sync {
    /// Returns the same as [`Io::now`].
    fn now(&self) -> Instant;
}

/// A socket, a clock, a timer and a resolver: everything that distinguishes one runtime from another, or a machine
/// from a simulation.
///
/// The driver calls the `poll_` methods from one task only, and always with that task's context. None of them may
/// block.
pub trait Io: Send + 'static {
    /// Reads the steady clock. Never goes back, and goes on while the machine is suspended. Called several times in a
    /// pass: must be cheap.
    fn now(&self) -> Instant;

    /// Returns the clock that [`Io::now`] reads, for other threads. Called once, at the start of the node.
    fn clock(&self) -> Arc<dyn SteadyClock>;

    /// Reads the wall clock. Called once, at the start of the node.
    fn wall(&self) -> WallTime;

    /// Returns the address that the socket is bound to.
    fn local_addr(&self) -> SocketAddr;

    /// Receives what there is, up to about one batch of the system (some 1,000 datagrams at the very most), and gives
    /// each datagram to `sink`, in place: the sink decrypts in the buffer that it is handed, and takes what
    /// [`Io::clock`] says then for the time at which it was received.
    ///
    /// `Ready(Ok)`: the sink was called, or something of no consequence happened (an ICMP error); there may be more. An
    /// empty datagram is one too. After 64 calls in a row that brought nothing, the driver waits 20 ms.
    /// `Pending`: nothing is there, and the task will be woken when there is. `Ready(Err)`: the socket failed; the
    /// driver tries again 20 ms later and gives up after 500 failures in a row.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(SocketAddr, &mut [u8]),
    ) -> Poll<io::Result<()>>;

    /// Sends the batch, removing from it what was sent ([`SendBatch::advance`]) and what cannot be sent
    /// ([`SendBatch::refuse`]).
    ///
    /// `Ready`: the batch is empty. `Pending`: the socket takes no more at present; the rest stays in the batch, and
    /// the task will be woken when the socket does. An error that concerns one destination is no error of the socket
    /// and never keeps the rest from being sent.
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut SendBatch) -> Poll<()>;

    /// Waits until [`Io::now`] has reached `until`. There is one timer: a call replaces what was asked for before.
    ///
    /// `Ready`: it has. `Pending`: the task will be woken then, or earlier. A timer of the system that stands still
    /// while the machine is suspended must be armed for at most a second at a time.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()>;

    /// Starts to resolve a host name, given without port. The future is dropped when it takes too long (10 s); at most
    /// 8 are alive at once.
    fn resolve(&self, host: String) -> ResolveFuture;
}
