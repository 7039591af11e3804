//! What tests do to the network by hand.

use super::Sim;
use crate::app::App;
use crate::network::{Captured, Link, head};
use crate::observe::{Datagram, Fate, Provenance, Seen};
use crate::schedule::Crypto;
use crate::world::NodeIndex;
use quorate_core::SendFailure;
use std::collections::VecDeque;
use std::net::SocketAddr;

impl<A: App> Sim<A> {
    /// Tells a node that a datagram could not be sent.
    pub fn fail_send(&mut self, index: NodeIndex, to: SocketAddr, failure: SendFailure) {
        self.with(index, |cx| {
            cx.node_mut(|node, now| node.handle_send_error(now, to, failure));
        });
    }

    /// Returns the network's own condition where no fault says otherwise.
    pub const fn link(&self) -> Link {
        self.network.link
    }

    /// Changes how datagrams sent from now on travel where no fault says otherwise.
    pub fn set_link(&mut self, link: Link) {
        self.network.link = link;
    }

    /// Lets a name resolve to these addresses; to none makes resolution fail. `cluster.sim` always resolves to all hosts
    /// of the schedule with a running process, and `host-3.sim` to the fourth host.
    pub fn set_dns(&mut self, name: &str, addrs: &[SocketAddr]) {
        self.dns.set(name, addrs);
    }

    /// Chooses what nodes started from now on seal with.
    pub fn set_crypto(&mut self, crypto: Crypto) {
        self.crypto = crypto;
    }

    /// Cuts the way between two processes' addresses, in both directions.
    pub fn cut(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts the way from one process's address to another's, and leaves the way back open.
    pub fn cut_one_way(&mut self, from: NodeIndex, to: NodeIndex) {
        self.network.cut(self.addr(from), self.addr(to));
    }

    /// Cuts every way between the processes of one group and those of the other.
    pub fn partition(&mut self, left: &[NodeIndex], right: &[NodeIndex]) {
        for &a in left {
            for &b in right {
                self.cut(a, b);
            }
        }
    }

    /// Records the last `count` datagrams that are sent from now on.
    pub fn capture(&mut self, count: usize) {
        self.network.capture(count);
    }

    /// Returns what was recorded, oldest first.
    pub const fn captured(&self) -> &VecDeque<Captured> {
        self.network.captured()
    }

    /// Hands bytes to a process at once, as if they had come from `from`: somebody made them up.
    pub fn inject_datagram(&mut self, index: NodeIndex, from: SocketAddr, payload: &[u8]) {
        let datagram = Datagram {
            number: self.network.number(),
            sender: None,
            intended: None,
            from,
            to: self.addr(index),
            len: payload.len(),
            head: head(payload),
            provenance: Provenance::Foreign,
        };
        self.hand_over(datagram, payload);
    }

    /// Hands a recorded datagram to a process at once, as if it had come from `from`.
    pub fn replay(&mut self, index: NodeIndex, from: SocketAddr, recorded: &Captured) {
        let datagram = Datagram {
            from,
            to: self.addr(index),
            provenance: Provenance::Replayed,
            ..recorded.datagram
        };
        self.hand_over(datagram, &recorded.payload);
    }

    fn hand_over(&mut self, datagram: Datagram, payload: &[u8]) {
        let flying = self.network.make(self.world.now, datagram, payload);
        let fate = Fate::Arrives(self.world.now);
        self.see(&Seen::Sent {
            datagram: &datagram,
            fate,
        });
        self.arrive(flying);
    }
}
