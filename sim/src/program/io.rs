//! What a driver needs from the world, in the simulator.

use super::clock::HostClock;
use super::hub::lock;
use crate::network::InFlight;
use quorate::{Filter, Io, ResolveFuture, SendBatch, SteadyClock};
use quorate_core::{Instant, WallTime};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// A name that is being resolved.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub(crate) host: String,
    state: Arc<Mutex<LookupState>>,
}

#[derive(Debug, Default)]
struct LookupState {
    addrs: Option<Vec<IpAddr>>,
    waker: Option<Waker>,
}

impl Lookup {
    /// Gives the answer; no addresses stand for a failure.
    pub(crate) fn answer(&self, addrs: &[SocketAddr]) {
        let mut state = lock(&self.state);
        state.addrs = Some(addrs.iter().map(SocketAddr::ip).collect());
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<io::Result<Vec<IpAddr>>> {
        let mut state = lock(&self.state);
        match state.addrs.take() {
            Some(addrs) if addrs.is_empty() => Poll::Ready(Err(io::ErrorKind::NotFound.into())),
            Some(addrs) => Poll::Ready(Ok(addrs)),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A datagram that the driver has sent; its bytes are in [`SimIo::sent`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    pub(crate) len: usize,
    /// A filter of the process itself has lost it.
    pub(crate) lost: bool,
}

/// The socket, the clock, the timer and the resolver of a simulated process. The simulator fills and empties it.
#[derive(Debug)]
pub(crate) struct SimIo {
    clock: HostClock,
    wall: WallTime,
    addr: SocketAddr,
    filter: Option<Filter>,
    /// What arrived and was not received yet.
    pub(crate) inbox: VecDeque<InFlight>,
    /// What was received in this step: at most one, so that everybody sees what came of it.
    pub(crate) received: Option<InFlight>,
    pub(crate) outbox: Vec<Sent>,
    /// The bytes of the outbox, one behind the other.
    pub(crate) sent: Vec<u8>,
    pub(crate) timer: Option<Instant>,
    pub(crate) lookups: Arc<Mutex<Vec<Lookup>>>,
}

impl SimIo {
    pub(crate) fn new(clock: HostClock, wall: WallTime, addr: SocketAddr, filter: Option<Filter>) -> Self {
        Self {
            clock,
            wall,
            addr,
            filter,
            inbox: VecDeque::new(),
            received: None,
            outbox: Vec::new(),
            sent: Vec::new(),
            timer: None,
            lookups: Arc::default(),
        }
    }

    /// Returns the names that are to be resolved since the last call.
    pub(crate) fn take_lookups(&self) -> Vec<Lookup> {
        std::mem::take(&mut *lock(&self.lookups))
    }
}

impl Io for SimIo {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn clock(&self) -> Arc<dyn SteadyClock> {
        Arc::new(self.clock.clone())
    }

    fn wall(&self) -> WallTime {
        self.wall
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        sink: &mut dyn FnMut(SocketAddr, &mut [u8]),
    ) -> Poll<io::Result<()>> {
        // The simulator wakes the driver with each arrival.
        let Some(mut flying) = self.inbox.pop_front() else {
            return Poll::Pending;
        };
        sink(flying.datagram.from, &mut flying.payload);
        self.received = Some(flying);
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, batch: &mut SendBatch) -> Poll<()> {
        while let Some(run) = batch.front(usize::MAX) {
            for datagram in run.datagrams() {
                let lost = self
                    .filter
                    .as_mut()
                    .is_some_and(|filter| !filter.passes(run.to, datagram));
                self.sent.extend_from_slice(datagram);
                self.outbox.push(Sent {
                    to: run.to,
                    len: datagram.len(),
                    lost,
                });
            }
            let len = run.bytes.len();
            batch.advance(len);
        }
        Poll::Ready(())
    }

    fn poll_sleep(&mut self, _: &mut Context<'_>, until: Instant) -> Poll<()> {
        if self.now() >= until {
            return Poll::Ready(());
        }
        self.timer = Some(until);
        Poll::Pending
    }

    fn resolve(&self, host: String) -> ResolveFuture {
        let lookup = Lookup {
            host,
            state: Arc::default(),
        };
        lock(&self.lookups).push(lookup.clone());
        Box::pin(std::future::poll_fn(move |cx| lookup.poll(cx)))
    }
}
