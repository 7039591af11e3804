//! Who held a lock, and when: what the nodes have told, put in order and checked.

use super::stage::{Happened, Occurrence};
use anyhow::ensure;
use quorate_tokio::NodeId;
use std::time::Instant;

/// A lock in the hands of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) by: NodeId,
    pub(crate) token: u64,
    /// No later than the holder's first act under the lock.
    pub(crate) from: Instant,
    /// No earlier than its last one: it gave the lock back, knew that it was lost, or was dead. `None`: it holds it still.
    pub(crate) to: Option<Instant>,
}

/// All who held a lock, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) list: Vec<Holding>,
    /// How often the next one was another process.
    pub(crate) handovers: u64,
}

impl Holdings {
    /// Puts in order what was seen of a lock.
    ///
    /// # Errors
    /// Two held it at a time, or a token was not higher than the one before it.
    pub(crate) fn of(key: &str, seen: &[Occurrence]) -> anyhow::Result<Self> {
        // Each node tells in its own time.
        let mut seen: Vec<_> = seen.iter().collect();
        seen.sort_by_key(|seen| seen.at);
        let mut all = Self::default();
        for &Occurrence { at, by, ref what } in seen {
            match *what {
                Happened::Granted { key: of, token } if of == key => all.begin(by, token, at)?,
                Happened::Released { key: of, token } | Happened::Lost { key: of, token, .. }
                    if of == key =>
                {
                    all.end(at, |holding| holding.by == by && holding.token == token);
                }
                Happened::Killed => all.end(at, |holding| holding.by == by),
                _ => {}
            }
        }
        Ok(all)
    }

    /// Returns how often a process held the lock.
    pub(crate) fn turns(&self, by: NodeId) -> usize {
        self.list.iter().filter(|holding| holding.by == by).count()
    }

    fn begin(&mut self, by: NodeId, token: u64, from: Instant) -> anyhow::Result<()> {
        if let Some(former) = self.list.last() {
            ensure!(
                former.to.is_some(),
                "two hold the lock at a time, under the tokens {} and {token}",
                former.token
            );
            ensure!(
                former.token < token,
                "token {token} is not higher than {}, the one before it",
                former.token
            );
            self.handovers += u64::from(former.by != by);
        }
        let to = None;
        self.list.push(Holding { by, token, from, to });
        Ok(())
    }

    fn end(&mut self, at: Instant, is_it: impl Fn(&Holding) -> bool) {
        if let Some(last) = self.list.last_mut()
            && last.to.is_none()
            && is_it(last)
        {
            last.to = Some(at);
        }
    }
}

#[cfg(test)]
mod tests;
