//! Electing one of many: a lock whose holder shows a value.

use super::{Lease, LockBuilder, LockGuard, LockWatch};
use crate::cluster::Cluster;
use crate::error::{AcquireError, LockQueryError, NotHeld, WithLockError};
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::ops::Deref;
use quorate_core::{Duration, LockError, LockRow, NodeId};

/// What the value is called in the metadata of the lock.
const VALUE: &str = "value";

impl Cluster {
    /// Names an election: a lock under this key, whose holder leads and shows a value that everybody can see.
    ///
    /// Campaign for ever by campaigning again after each loss:
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn lead(token: u64) {}
    /// use quorate::WithLockError;
    ///
    /// let election = cluster.elect("scheduler").value("10.0.0.7:8080");
    /// loop {
    ///     match election.clone().run(|lease| async move { lead(lease.token()).await }).await {
    ///         Ok(()) => break,
    ///         Err(WithLockError::Lost(reason)) => eprintln!("no leader any more: {reason:?}"),
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn elect(&self, key: impl Into<String>) -> Election {
        Election {
            cluster: self.clone(),
            lock: self.lock(key),
            value: String::new(),
        }
    }
}

/// An election, to stand in or to look at. Can be cloned and used again. Is a handle.
#[derive(Clone, Debug)]
#[must_use = "nobody campaigns before `campaign` or `run` is awaited"]
pub struct Election {
    cluster: Cluster,
    lock: LockBuilder,
    value: String,
}

impl Election {
    /// Sets what others see of this candidate when it leads: its address, say. At most 503 bytes. Default empty.
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }

    /// See [`LockBuilder::ttl`]: how soon a leader that died is replaced.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.lock = self.lock.ttl(ttl);
        self
    }

    /// Goes before all candidates with a lower priority. An elected leader stays all the same. Default 0.
    pub fn priority(mut self, priority: u8) -> Self {
        self.lock = self.lock.priority(priority);
        self
    }

    /// Campaigns until this process leads, without limit. Dropping the future ends the campaign and leaves nothing
    /// behind.
    ///
    /// # Errors
    /// Those of [`LockBuilder::acquire`].
    pub async fn campaign(self) -> Result<Leadership, AcquireError> {
        let Self { lock, value, .. } = self;
        let guard = lock.metadata(VALUE, value.clone()).acquire().await?;
        Ok(Leadership { guard, value })
    }

    /// Campaigns, and works while this process leads: [`LockBuilder::run`] for elections.
    ///
    /// # Errors
    /// Those of [`LockBuilder::run`].
    pub async fn run<F: Future>(self, work: impl FnOnce(Lease) -> F) -> Result<F::Output, WithLockError> {
        let Self { lock, value, .. } = self;
        lock.metadata(VALUE, value).run(work).await
    }

    /// Returns who leads. Cancel safe.
    ///
    /// # Errors
    /// Those of [`Cluster::lock_info`].
    pub async fn leader(&self) -> Result<Option<Leader>, LockQueryError> {
        let info = self.cluster.lock_info(&self.lock.request.key).await?;
        Ok(info.and_then(|info| info.holders.first().and_then(Leader::of)))
    }

    /// Observes who leads from now on. Cancel safe: a dropped future observes nothing.
    ///
    /// # Errors
    /// Those of [`Cluster::watch`].
    pub async fn observe(&self) -> Result<Leaders, LockQueryError> {
        Ok(Leaders {
            watch: self.cluster.watch(&self.lock.request.key).await?,
            last: None,
        })
    }
}

/// This process leads, until the leadership is given up, dropped or lost: a [`LockGuard`], to which it dereferences,
/// and what others see.
#[derive(Debug)]
#[must_use = "a leadership ends as soon as it is dropped"]
pub struct Leadership {
    guard: LockGuard,
    value: String,
}

impl Leadership {
    /// Returns what others see.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Lets another one lead: [`LockGuard::release`].
    ///
    /// # Errors
    /// [`NotHeld::Lost`] if this process did not lead any more.
    pub async fn step_down(self) -> Result<(), NotHeld> {
        self.guard.release().await
    }
}

impl Deref for Leadership {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        &self.guard
    }
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// Its node.
    pub node: NodeId,
    /// The token of its lock, higher than that of every leader before it.
    pub token: u64,
    /// What it shows.
    pub value: String,
}

impl Leader {
    /// Reads who leads from a row of the table; `None` if it is a candidate's.
    pub(crate) fn of(row: &LockRow) -> Option<Self> {
        let value = row.metadata().find(|&(name, _)| name == VALUE);
        Some(Self {
            node: row.owner.node,
            token: row.token?,
            value: value.map_or("", |(_, value)| value).to_owned(),
        })
    }
}

/// Who leads, from the moment of [`Election::observe`] on.
///
/// A leader is told of two round trips after it was elected. While the group cannot be reached (no quorum), what was
/// told is as old as that lasts. Leaders that followed each other faster, or faster than this is read, are left out:
/// what it gives is always the newest. Ends when the node leaves, or may not ask any more (an observer that has met a
/// cluster without `allow_observers`). Is a handle.
#[derive(Debug)]
pub struct Leaders {
    watch: LockWatch,
    last: Option<Option<Leader>>,
}

impl Leaders {
    /// Waits until who leads is another one than was told last, nobody (`Some(None)`) being one of them; the first call
    /// waits until it is known at all. `None` at the end. Cancel safe: a dropped future has taken nothing.
    pub async fn next(&mut self) -> Option<Option<Leader>> {
        let mut room = None;
        loop {
            let leader = match self.watch.next().await {
                Ok(info) => info.and_then(|info| info.holders.first().and_then(Leader::of)),
                Err(LockQueryError::Closed(_)) => return None,
                Err(LockQueryError::Failed(LockError::TooManyRequests)) => {
                    match room.take() {
                        // Refused since it listens: one of all those questions will end.
                        Some(listener) => listener.await,
                        None => room = Some(self.watch.room()),
                    }
                    continue;
                }
                // Nobody could tell: the next look may, if there can be one.
                Err(LockQueryError::Failed(error)) if error.retry_after().is_some() => continue,
                Err(LockQueryError::Failed(_)) => return None,
            };
            if self.last.as_ref() != Some(&leader) {
                self.last = Some(leader.clone());
                return Some(leader);
            }
        }
    }
}
