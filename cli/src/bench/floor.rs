//! The floor: what the same exchange costs over bare sockets, without anything that this library does.
//!
//! Tokio's `UdpSocket` on the runtime shape of the measured processes; no encryption, no acknowledgement, no order.

use super::child::{Child, PROMPT, Shape};
use super::load::{Tally, Window};
use super::protocol::{Load, Order, Report, Slice};
use crate::args::Runtime;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::time::Instant;
use tokio::net::UdpSocket;

/// As large as any datagram that the floor sends.
const BUFFER: usize = 64 << 10;

/// Two processes with nothing but a socket each.
pub(crate) struct Floor {
    _echo: Child,
    addr: SocketAddr,
    pinger: Child,
}

impl Floor {
    /// Starts both, shaped as the measured processes are, but always on tokio.
    pub(crate) fn start(shape: Shape) -> anyhow::Result<Self> {
        let runtime = Runtime::Tokio;
        let shape = Shape { runtime, ..shape };
        let mut echo = Child::spawn("floor-echo", shape)?;
        let addr = match echo.call(&Order::Echo, PROMPT)? {
            Report::Echo { addr } => addr,
            other => return echo.unexpected(&other),
        };
        Ok(Self {
            _echo: echo,
            addr,
            pinger: Child::spawn("floor-pinger", shape)?,
        })
    }

    pub(crate) fn measure(&mut self, load: Load, patience: Duration) -> anyhow::Result<Slice> {
        self.pinger.slice(&Order::Ping { to: self.addr, load }, patience)
    }
}

/// Opens a socket that sends back what it receives, for as long as the process lives.
pub(crate) async fn echo() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
    let addr = socket.local_addr()?;
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER];
        loop {
            // An error concerns one datagram at most (a sender that is gone): the next one may be fine.
            if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..len], from).await;
            }
        }
    });
    Ok(addr)
}

/// Keeps `in_flight` datagrams under way to an echo, from one task.
///
/// Nothing is sent again: what is in flight fits the socket buffers of loopback many times over, so nothing is lost
/// there. Should something be lost all the same, fewer are in flight; when all are, the parent's patience ends.
pub(crate) async fn ping(to: SocketAddr, load: Load) -> anyhow::Result<Slice> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
    socket.connect(to).await?;
    let mut tally = Tally::new(Window::starting_now(load.millis));
    // A datagram begins with the number of its place in `began`.
    let mut buffer = vec![0x5a; load.size.max(4)];
    let mut began = vec![Instant::now(); load.in_flight];
    for (place, began) in began.iter_mut().enumerate() {
        buffer[..4].copy_from_slice(&(place as u32).to_be_bytes());
        *began = Instant::now();
        socket.send(&buffer).await?;
    }
    loop {
        let len = socket.recv(&mut buffer).await?;
        anyhow::ensure!(len == buffer.len(), "the echo sent back {len} bytes");
        let place = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        let now = Instant::now();
        let Some(began) = began.get_mut(place as usize) else {
            anyhow::bail!("the echo sent back something else");
        };
        tally.record(*began, now);
        if tally.is_over(now) {
            return tally.slice();
        }
        *began = now;
        socket.send(&buffer).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_sockets_answer() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let slice = runtime.expect("a runtime").block_on(async {
            let to = echo().await?;
            ping(
                to,
                Load {
                    size: 128,
                    in_flight: 8,
                    millis: 1000,
                },
            )
            .await
        });
        let slice = slice.expect("loopback works");
        assert!(
            slice.per_second > 0.0 && slice.median_us > 0.5 && slice.p99_us >= slice.median_us,
            "{slice:?}"
        );
    }
}
