//! quorate for smol. Works inside async-std too, and under any other executor: the driver runs on smol's global
//! executor, a thread (or `SMOL_THREADS` of them) of its own. `docs/runtimes.md` in the repository compares runtimes.
//!
//! ```no_run
//! use quorate_smol::{Config, Key};
//! use std::time::Duration;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     smol::block_on(async {
//!         let key = Key::parse(&std::fs::read_to_string("/etc/orders/key")?)?;
//!         let config = Config::new("orders.svc.local:5000").key(key).cluster_size(3);
//!         let cluster = quorate_smol::start(config).await?;
//!         cluster.ready().await?;
//!
//!         let mut messages = cluster.messages();
//!         smol::spawn(async move {
//!             while let Some(message) = messages.next().await {
//!                 if message.is_request() {
//!                     let _ = message.reply("pong").await;
//!                 }
//!             }
//!         })
//!         .detach();
//!
//!         for answer in cluster.request_all("ping", Duration::from_secs(1)).await? {
//!             println!("{}: {:?}", answer.from, answer.result);
//!         }
//!         cluster.shutdown().await;
//!         Ok(())
//!     })
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
use smol::{Async, Timer};
use std::io;
use std::net::UdpSocket;

/// Starts a node on smol's global executor and returns the handle to it.
///
/// Returns as soon as the socket is bound; [`Cluster::ready`] waits for the cluster. Cancel safe: a dropped future has
/// started nothing.
///
/// # Errors
/// [`StartError`] says which setting is wrong, or what the system refused.
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
    smol::spawn(driver).detach();
    Ok(cluster)
}

/// Makes a node and the future that drives it, for an executor of one's own: what [`start`] does without spawning.
///
/// The node runs only while the future is polled. Dropping it is the death of the node: nobody is told goodbye, and
/// [`Cluster::closed`] says [`DriverError::Aborted`].
///
/// ```no_run
/// # use quorate_smol::*;
/// # fn spawn(driver: impl Future<Output = ()> + Send + 'static) {}
/// # async fn example(config: Config) -> Result<(), StartError> {
/// let (setup, udp) = os::prepare(config)?;
/// let (cluster, driver) = quorate_smol::node(setup, udp)?;
/// spawn(driver);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`start`].
pub fn node(
    setup: Setup,
    udp: Udp,
) -> Result<(Cluster, impl Future<Output = ()> + Send + 'static), StartError> {
    let io = SmolIo::new(udp).map_err(|source| StartError::System {
        what: "socket",
        source,
    })?;
    let (cluster, driver) = Driver::new(setup, io)?;
    Ok((cluster, driver.run()))
}

/// The driver's view of smol.
struct SmolIo {
    clock: Clock,
    udp: Udp,
    socket: Async<UdpSocket>,
    /// Whether the socket was ready when it was last asked. The reactor keeps no account of that.
    readable: bool,
    writable: bool,
    alarm: Alarm<SmolTimer>,
}

impl SmolIo {
    fn new(udp: Udp) -> io::Result<Self> {
        Ok(Self {
            clock: Clock::new(),
            socket: Async::new_nonblocking(udp.try_clone_socket()?)?,
            udp,
            readable: true,
            writable: true,
            alarm: Alarm::new(SmolTimer(Timer::never())),
        })
    }
}

impl Io for SmolIo {
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
            if !self.readable {
                ready!(self.socket.poll_readable(cx))?;
                self.readable = true;
            }
            match self.udp.recv() {
                Ok(()) => {
                    self.udp.deliver(sink);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut SendBatch) -> Poll<()> {
        while !batch.is_empty() {
            if !self.writable {
                // An error of the reactor is left to the next attempt to send.
                let _ = ready!(self.socket.poll_writable(cx));
                self.writable = true;
            }
            // It fails only with `WouldBlock`.
            self.writable = self.udp.send_front(batch).is_ok();
        }
        Poll::Ready(())
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        self.alarm.poll(cx, until, || self.clock.now())
    }

    fn resolve(&self, host: String) -> ResolveFuture {
        Box::pin(smol::unblock(move || os::resolve_blocking(&host)))
    }
}

struct SmolTimer(Timer);

impl os::Timer for SmolTimer {
    fn set_after(&mut self, after: Duration) {
        self.0.set_after(after);
    }

    fn poll_gone_off(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

/// The examples of the page about runtimes.
#[cfg(doctest)]
#[doc = include_str!("../../docs/runtimes.md")]
struct Runtimes;
