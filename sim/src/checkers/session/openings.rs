//! Who may be answered that wants to open a session: only who was given a challenge at his address, a short while ago.

use crate::checkers::truth::{M1, M2};
use crate::checkers::{ensure, who};
use crate::observe::{Datagram, Seen};
use crate::world::{NodeIndex, World};
use quorate_core::{Duration, Instant};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A challenge is worth two turns of its secret, of 5 s each (`ROTATION` in the core).
const CHALLENGE_LIFE: Duration = Duration::from_secs(10);
/// So many of the newest M1 are remembered.
const REMEMBERED: usize = 4_096;

/// Follows M1 and their answers.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// By number: where each M1 came from, and what the clock of its receiver showed when it was sent.
    sent: BTreeMap<u64, (SocketAddr, Option<Instant>)>,
    /// Who must not answer the M1 that it was just handed, and to where, and why.
    refuses: Option<(NodeIndex, SocketAddr, String)>,
}

impl Openings {
    pub(super) fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Sent { datagram, .. } if datagram.head[1] == M1 => self.remember(world, datagram),
            Seen::Sent { datagram, .. } if datagram.head[1] == M2 => {
                let (Some((node, to, why)), Some(sender)) = (&self.refuses, datagram.sender) else {
                    return Ok(());
                };
                return ensure(*node != sender || *to != datagram.to, || {
                    format!("{} answers an M1 {why}", who(world, sender))
                });
            }
            Seen::Arrived { node, datagram, .. } if datagram.head[1] == M1 => {
                self.refuses = self
                    .fault(world, node, datagram)
                    .map(|why| (node, datagram.from, why));
            }
            Seen::Settled { .. } => self.refuses = None,
            _ => {}
        }
        Ok(())
    }

    fn remember(&mut self, world: &World, datagram: &Datagram) {
        let receiver = datagram.intended.map(|node| world.process(node).host);
        let then = receiver.map(|host| world.clock(host));
        self.sent.entry(datagram.number).or_insert((datagram.from, then));
        if self.sent.len() > REMEMBERED {
            self.sent.pop_first();
        }
    }

    /// Returns what is wrong with an M1, if anything is.
    fn fault(&self, world: &World, node: NodeIndex, datagram: &Datagram) -> Option<String> {
        let &(from, then) = self.sent.get(&datagram.number)?;
        if from != datagram.from {
            return Some(format!("from {}, whose challenge went to {from}", datagram.from));
        }
        let then = then.filter(|_| datagram.intended == Some(node))?;
        let age = world.clock(world.process(node).host).saturating_since(then);
        (age > CHALLENGE_LIFE).then(|| format!("that was sent {:.3} s ago", age.as_secs_f64()))
    }
}
