//! Reading untrusted bytes: every step is bounds-checked and answers `None` past the end.

use crate::id::NodeId;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A cursor over received bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn node_id(&mut self) -> Option<NodeId> {
        self.array().map(NodeId::from_bytes)
    }

    /// Reads a length byte and that many bytes.
    pub(crate) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// Reads a 16-bit length and that many bytes.
    pub(crate) fn long_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Reads an address as `put_addr` writes it: 16 bytes of IPv6 (IPv4 in its mapped form) and the port. The
    /// result is canonical: a mapped address comes back as IPv4.
    pub(crate) fn addr(&mut self) -> Option<SocketAddr> {
        let ip = Ipv6Addr::from(self.array::<16>()?);
        let port = self.u16()?;
        Some(SocketAddr::new(IpAddr::V6(ip).to_canonical(), port))
    }

    /// Returns what was not read yet.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the one form in which an address is kept and compared: IPv4 not mapped into IPv6, and of IPv6 only what
/// travels in a frame, without flow label and scope.
pub(crate) const fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Returns whether an address means the same to every member. A link-local one only means something together with an
/// interface of one machine.
pub(crate) fn is_shareable(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !local && !ip.is_unspecified() && !ip.is_multicast()
}

/// Returns the 16 bytes of an address, IPv4 in its mapped form.
pub(super) fn ip_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4).octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
