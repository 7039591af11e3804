//! Name resolutions under way.

use crate::io::ResolveFuture;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use quorate_core::{Duration, Instant, Node, ResolveId};

/// How many names are resolved at once; the others wait in the node.
const LOOKUPS: usize = 8;
/// How long one may take. A resolver that hangs must not block the others for good.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How many addresses of one name are used.
const ADDRESSES: usize = 256;

struct Lookup {
    id: ResolveId,
    port: u16,
    deadline: Instant,
    future: ResolveFuture,
}

/// The names that are being resolved.
#[derive(Default)]
pub(crate) struct Resolver(Vec<Lookup>);

impl Resolver {
    /// Starts what the node asks for and hands over what is there. Returns whether a place became free.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        resolve: impl Fn(String) -> ResolveFuture,
        node: &mut Node,
        mut found: impl FnMut(&[SocketAddr]),
    ) -> bool {
        while self.0.len() < LOOKUPS
            && let Some(request) = node.poll_resolve()
        {
            self.0.push(Lookup {
                id: request.id,
                port: request.port,
                deadline: now + LOOKUP_TIMEOUT,
                future: resolve(request.host),
            });
        }
        let before = self.0.len();
        self.0.retain_mut(|lookup| {
            let addrs = match lookup.future.as_mut().poll(cx) {
                Poll::Ready(Ok(ips)) => {
                    let addrs = ips
                        .into_iter()
                        .map(|ip| SocketAddr::new(ip.to_canonical(), lookup.port));
                    addrs.take(ADDRESSES).collect()
                }
                // The node tells of it, by name.
                Poll::Ready(Err(_)) => Vec::new(),
                Poll::Pending if now >= lookup.deadline => Vec::new(),
                Poll::Pending => return true,
            };
            found(&addrs);
            node.handle_resolved(now, lookup.id, &addrs);
            false
        });
        self.0.len() < before
    }

    /// Returns when the first one is given up.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|lookup| lookup.deadline).min()
    }
}
