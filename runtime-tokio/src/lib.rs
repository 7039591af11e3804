//! quorate for tokio.
//!
//! ```no_run
//! use quorate_tokio::{Config, Key};
//! use std::time::Duration;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let key = Key::parse(&std::fs::read_to_string("/etc/orders/key")?)?;
//!     let config = Config::new("orders.svc.local:5000").key(key).cluster_size(3);
//!     let cluster = quorate_tokio::start(config).await?;
//!     cluster.ready().await?;
//!
//!     let mut messages = cluster.messages();
//!     tokio::spawn(async move {
//!         while let Some(message) = messages.next().await {
//!             if message.is_request() {
//!                 let _ = message.reply("pong").await;
//!             }
//!         }
//!     });
//!
//!     for answer in cluster.request_all("ping", Duration::from_secs(1)).await? {
//!         println!("{}: {:?}", answer.from, answer.result);
//!     }
//!     cluster.shutdown().await;
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use quorate::os::{Alarm, Clock, Udp};
pub use quorate::*;
use std::io;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::time::Sleep;

/// Starts a node in a task of the current runtime and returns the handle to it.
///
/// Returns as soon as the socket is bound; [`Cluster::ready`] waits for the cluster. Cancel safe: a dropped future has
/// started nothing.
///
/// # Errors
/// [`StartError`] says which setting is wrong, or what the system refused. [`StartError::NoRuntime`] outside of tokio.
///
/// # Panics
/// Tokio panics if the runtime was built without I/O or without time (`enable_all` turns both on).
pub async fn start(config: Config) -> Result<Cluster, StartError> {
    let (setup, udp) = os::prepare(config)?;
    launch(setup, udp)
}

/// Starts a node all of whose outgoing datagrams pass a filter. Exists only with the feature `testing`.
///
/// # Errors
/// Those of [`start`].
#[cfg(feature = "testing")]
pub async fn start_filtered(config: Config, filter: Filter) -> Result<Cluster, StartError> {
    let (setup, udp) = os::prepare(config)?;
    launch(setup.filter(filter), udp)
}

fn launch(setup: Setup, udp: Udp) -> Result<Cluster, StartError> {
    let (cluster, driver) = node(setup, udp)?;
    tokio::spawn(driver);
    Ok(cluster)
}

/// Makes a node and the future that drives it, for an executor of one's own: what [`start`] does without spawning.
///
/// The node runs only while the future is polled. Dropping it is the death of the node: nobody is told goodbye, and
/// [`Cluster::closed`] says [`DriverError::Aborted`].
///
/// ```no_run
/// # use quorate_tokio::*;
/// # fn spawn(driver: impl Future<Output = ()> + Send + 'static) {}
/// # async fn example(config: Config) -> Result<(), StartError> {
/// let (setup, udp) = os::prepare(config)?;
/// let (cluster, driver) = quorate_tokio::node(setup, udp)?;
/// spawn(driver);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`start`].
///
/// # Panics
/// Those of [`start`].
pub fn node(
    setup: Setup,
    udp: Udp,
) -> Result<(Cluster, impl Future<Output = ()> + Send + 'static), StartError> {
    Handle::try_current().map_err(|_| StartError::NoRuntime("tokio"))?;
    let io = TokioIo::new(udp).map_err(|source| StartError::System {
        what: "socket",
        source,
    })?;
    let (cluster, driver) = Driver::new(setup, io)?;
    // A pass is bounded by itself. Tokio's own budget would make a socket look empty before it is, and timers run before
    // what arrived during a pause was seen.
    Ok((cluster, tokio::task::unconstrained(driver.run())))
}

/// The driver's view of tokio.
struct TokioIo {
    clock: Clock,
    udp: Udp,
    socket: UdpSocket,
    alarm: Alarm<TokioTimer>,
}

impl TokioIo {
    fn new(udp: Udp) -> io::Result<Self> {
        Ok(Self {
            clock: Clock::new(),
            socket: UdpSocket::from_std(udp.try_clone_socket()?)?,
            udp,
            alarm: Alarm::new(TokioTimer(Box::pin(tokio::time::sleep(Duration::ZERO)))),
        })
    }
}

impl Io for TokioIo {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn clock(&self) -> Arc<dyn SteadyClock> {
        Arc::new(self.clock)
    }

    fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    fn local_addr(&self) -> SocketAddr {
        self.udp.local_addr()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(SocketAddr, &mut [u8]),
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            // Only inside of `try_io` does tokio learn that there is nothing left.
            match self.socket.try_io(Interest::READABLE, || self.udp.recv()) {
                Ok(()) => {
                    self.udp.deliver(sink);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut SendBatch) -> Poll<()> {
        while !batch.is_empty() {
            if ready!(self.socket.poll_send_ready(cx)).is_err() {
                // The reactor is gone, and the runtime with it.
                return Poll::Pending;
            }
            // It fails only with `WouldBlock`, and then the readiness is awaited again.
            let _ = self
                .socket
                .try_io(Interest::WRITABLE, || self.udp.send_front(batch));
        }
        Poll::Ready(())
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        self.alarm.poll(cx, until, || self.clock.now())
    }

    fn resolve(&self, host: String) -> ResolveFuture {
        Box::pin(async move {
            let addrs = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(addrs.map(|addr| addr.ip()).collect())
        })
    }
}

struct TokioTimer(Pin<Box<Sleep>>);

impl os::Timer for TokioTimer {
    fn set_after(&mut self, after: Duration) {
        self.0.as_mut().reset(tokio::time::Instant::now() + after);
    }

    fn poll_gone_off(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// The example on the repository's front page, which is compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The examples of the page about locks.
#[cfg(doctest)]
#[doc = include_str!("../../docs/locks.md")]
struct Locks;

/// The examples for those who come from raftlock.
#[cfg(doctest)]
#[doc = include_str!("../../docs/from-raftlock.md")]
struct FromRaftlock;

/// The examples of the page for operators.
#[cfg(doctest)]
#[doc = include_str!("../../docs/operations.md")]
struct Operations;
