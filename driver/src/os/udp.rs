//! A UDP socket with batches: many datagrams in one system call, both ways (GSO and GRO where the system has them).

use crate::io::SendBatch;
use alloc::boxed::Box;
use core::array;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use quorate_core::SendFailure;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;

/// Buffers for one receive call.
const BUFFERS: usize = 8;
/// The largest UDP datagram, and so the largest bunch of datagrams that GRO hands over as one.
const BUFFER_LEN: usize = 65_536;
/// What the socket's own buffers are raised to, as far as the system allows: room for what arrives while the driver's
/// thread is busy elsewhere.
const SOCKET_BUFFER: usize = 4 << 20;

/// A non-blocking UDP socket and its receive buffers (512 KiB, of which untouched pages cost nothing).
///
/// Readiness is the runtime's business: it registers a [second handle](Udp::try_clone_socket) of the same socket.
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    local_addr: SocketAddr,
    buffers: Box<[u8]>,
    metas: [RecvMeta; BUFFERS],
    received: usize,
}

impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

impl Udp {
    /// Binds a socket. One for `[::]` takes IPv4 too.
    ///
    /// # Errors
    /// What the system says: the address is taken, not of this machine, or not allowed.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        // Best effort: the system's limit is what it is.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            local_addr: socket.local_addr()?,
            socket,
            state,
            buffers: alloc::vec![0; BUFFERS * BUFFER_LEN].into_boxed_slice(),
            metas: array::from_fn(|_| RecvMeta::default()),
            received: 0,
        })
    }

    /// Returns the address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns a second handle of the socket, for a runtime's reactor.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_clone_socket(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    /// Receives once into the buffers, from which [`Udp::deliver`] takes it.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there, and what the system says. An error that tells of the fate of an earlier
    /// datagram (ICMP) is none: the call then has received nothing.
    pub fn recv(&mut self) -> io::Result<()> {
        self.received = 0;
        let mut chunks = self.buffers.chunks_exact_mut(BUFFER_LEN);
        // There are exactly `BUFFERS` chunks; an empty slice would only receive less.
        let mut slices: [IoSliceMut<'_>; BUFFERS] =
            array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        match self
            .state
            .recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.metas)
        {
            Ok(count) => {
                self.received = count;
                Ok(())
            }
            Err(error) if is_late_news(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives what was received to `sink`, one datagram at a time.
    pub fn deliver(&mut self, sink: &mut dyn FnMut(SocketAddr, &mut [u8])) {
        let buffers = self.buffers.chunks_exact_mut(BUFFER_LEN);
        for (meta, buffer) in self.metas.iter().zip(buffers).take(self.received) {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let from = if from.is_ipv4() { from } else { meta.addr };
            let len = meta.len.min(buffer.len());
            // An empty datagram has a stride of 0, which would be no length to cut by. It is handed over to be counted:
            // the socket was not read in vain.
            if len == 0 || meta.stride == 0 {
                sink(from, &mut []);
                continue;
            }
            for datagram in buffer[..len].chunks_mut(meta.stride) {
                sink(from, datagram);
            }
        }
        self.received = 0;
    }

    /// Sends what is at the front of the batch with one system call, and takes it off: it is sent, or it is lost and
    /// the node is told. Returns at once if the batch is empty.
    ///
    /// # Errors
    /// `WouldBlock` only; then nothing was taken off.
    pub fn send_front(&self, batch: &mut SendBatch) -> io::Result<()> {
        // Falls to 1 at run time where the device turns out not to segment: to be read again each time.
        let max = self.state.max_gso_segments();
        let Some(run) = batch.front(max) else {
            return Ok(());
        };
        let len = run.bytes.len();
        let Some(to) = self.reachable(run.to) else {
            batch.refuse(SendFailure::Unreachable);
            return Ok(());
        };
        let transmit = quinn_udp::Transmit {
            destination: to,
            ecn: None,
            contents: run.bytes,
            segment_size: (len > run.segment).then_some(run.segment),
            src_ip: None,
        };
        match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
            Ok(()) => batch.advance(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // Segmentation was found not to work, and is off now: the same again, one by one.
            Err(_) if len > run.segment && self.state.max_gso_segments() < max => {}
            Err(error) if is_about_the_way(&error) => batch.refuse(SendFailure::Unreachable),
            Err(error) if quinn_udp::is_msg_size_err(&error) => batch.refuse(SendFailure::TooLarge),
            Err(_) => batch.refuse(SendFailure::Other),
        }
        Ok(())
    }

    /// Writes an address in the family of the socket. `None`: an IPv6 address, and the socket has IPv4 only.
    fn reachable(&self, to: SocketAddr) -> Option<SocketAddr> {
        match (self.local_addr, to.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(ip)) => {
                let mapped: Ipv6Addr = ip.to_ipv6_mapped();
                Some(SocketAddrV6::new(mapped, to.port(), 0, 0).into())
            }
            (SocketAddr::V4(_), IpAddr::V6(_)) => None,
            _ => Some(to),
        }
    }
}

/// Whether an error tells of an earlier datagram's fate (ICMP). The system reports each only once.
fn is_late_news(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkUnreachable
    )
}

/// Whether a failure to send says something about the way to this destination.
fn is_about_the_way(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, NetworkDown, PermissionDenied};
    is_late_news(error) || matches!(error.kind(), AddrNotAvailable | NetworkDown | PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::time::Duration;
    use std::time::Instant;

    fn loopback() -> Udp {
        Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn send_all(from: &Udp, batch: &mut SendBatch) {
        while !batch.is_empty() {
            match from.send_front(batch) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        batch.clear();
    }

    fn receive(udp: &mut Udp, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        let start = Instant::now();
        while out.len() < count && start.elapsed() < Duration::from_secs(5) {
            match udp.recv() {
                Ok(()) => udp.deliver(&mut |from, datagram| out.push((from, datagram.to_vec()))),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        out
    }

    #[test]
    fn batches_arrive_whole_and_in_order() {
        let (a, mut b) = (loopback(), loopback());
        let mut batch = SendBatch::default();
        let sent: Vec<Vec<u8>> = (0..60_u8)
            .map(|i| alloc::vec![i; if i % 20 == 19 { 77 } else { 1200 }])
            .collect();
        for datagram in &sent {
            batch.push(b.local_addr(), datagram);
        }
        send_all(&a, &mut batch);
        let received = receive(&mut b, sent.len());
        assert!(received.iter().all(|(from, _)| *from == a.local_addr()));
        assert!(received.into_iter().map(|(_, datagram)| datagram).eq(sent));
    }

    #[test]
    fn an_empty_datagram_and_a_dead_port_do_no_harm() {
        let (a, mut b) = (loopback(), loopback());
        let dead = loopback().local_addr();
        let mut batch = SendBatch::default();
        for _ in 0..3 {
            batch.push(dead, b"anybody there?");
            send_all(&a, &mut batch);
        }
        a.socket.send_to(&[], b.local_addr()).unwrap();
        batch.push(b.local_addr(), b"x");
        batch.push(b.local_addr(), b"y");
        send_all(&a, &mut batch);
        let received: Vec<_> = receive(&mut b, 3)
            .into_iter()
            .map(|(_, datagram)| datagram)
            .collect();
        assert_eq!(received, [&b""[..], b"x", b"y"]);
    }

    #[test]
    fn one_socket_for_both_families_shows_ipv4_as_ipv4() {
        // A machine without IPv6 has nothing to test here.
        let Ok(mut both) = Udp::bind("[::]:0".parse().unwrap()) else {
            return;
        };
        let mut four = loopback();
        let to = SocketAddr::from(([127, 0, 0, 1], both.local_addr().port()));
        let mut batch = SendBatch::default();
        batch.push(to, b"ping");
        send_all(&four, &mut batch);
        assert_eq!(receive(&mut both, 1), [(four.local_addr(), b"ping".to_vec())]);
        batch.push(four.local_addr(), b"pong");
        send_all(&both, &mut batch);
        assert_eq!(receive(&mut four, 1), [(to, b"pong".to_vec())]);
    }

    #[test]
    fn an_address_of_the_other_family_is_refused_not_fatal() {
        let four = loopback();
        let mut batch = SendBatch::default();
        batch.push("[::1]:9".parse().unwrap(), b"x");
        send_all(&four, &mut batch);
        assert!(matches!(
            batch.take_failure(),
            Some((_, SendFailure::Unreachable))
        ));
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let first = loopback();
        let error = Udp::bind(first.local_addr()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
