//! Locks: asking for them, and what comes of it.

mod elect;
mod guard;
mod lease;
mod list;
mod watch;

use super::shared::{Command, Handle};
use super::slot::Wake;
use super::{Call, Cluster};
use crate::error::{AcquireError, Closed, NotHeld, WithLockError};
use alloc::string::String;
use alloc::sync::Arc;
use core::pin::pin;
pub use elect::{Election, Leader, Leaders, Leadership};
pub use guard::LockGuard;
pub use lease::Lease;
pub use list::{LockInfo, LockPages};
use quorate_core::{Duration, LockError, LockRequest, LostReason};
pub use watch::LockWatch;

pub(crate) use lease::Hold;

/// # Locks
///
/// A lock is a key of 1 to 255 bytes and needs no setting up. It is granted by the group that the voters form, to one
/// holder at a time, in the order of asking, and leased: a holder that dies frees it at the end of its lease. Every
/// grant has a higher token. Without `cluster_size` all of that is best effort: it holds while nobody who leads dies or
/// is cut off. `docs/locks.md` in the repository says how to use them well.
///
/// | to hold | ask with |
/// |---|---|
/// | alone | [`Cluster::lock`] |
/// | with other readers, or alone to write | [`Cluster::read`], [`Cluster::write`] |
/// | some units of a limited number | [`Cluster::semaphore`] |
/// | a role, with a value that others see | [`Cluster::elect`] |
impl Cluster {
    /// Names a lock that one can hold at a time. Nothing happens before one of the builder's methods is awaited.
    ///
    /// One guard holds it, not a process or a task: who asks again while holding it waits for itself.
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn store(token: u64, bytes: &[u8]) -> std::io::Result<()> { Ok(()) }
    /// use std::time::Duration;
    ///
    /// let guard = cluster
    ///     .lock("jobs/nightly")
    ///     .ttl(Duration::from_secs(10))
    ///     .wait(Duration::from_secs(30))
    ///     .acquire()
    ///     .await?;
    /// store(guard.token(), b"done").await?;
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self, key: impl Into<String>) -> LockBuilder {
        self.builder(LockRequest::new(key))
    }

    /// Takes a lock if it is free: the same as `lock(key).try_acquire()`.
    ///
    /// # Errors
    /// Those of [`LockBuilder::try_acquire`].
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// use quorate::{AcquireError, LockError};
    ///
    /// match cluster.try_lock("jobs/nightly").await {
    ///     Ok(guard) => println!("mine, under {}", guard.token()),
    ///     Err(AcquireError::Refused(LockError::Taken { token, .. })) => println!("held under {token}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn try_lock(&self, key: impl Into<String>) -> Result<LockGuard, AcquireError> {
        self.lock(key).try_acquire().await
    }

    /// Names a share of a lock that any number can read at a time. For [`Cluster::write`], not for [`Cluster::lock`],
    /// which is a lock of another kind: a key that is used as both is refused with [`LockError::OtherCapacity`].
    pub fn read(&self, key: impl Into<String>) -> LockBuilder {
        self.builder(LockRequest::read(key))
    }

    /// Names all of a lock that any number can [read](Cluster::read) at a time. Who waits to write goes before who asks
    /// to read later.
    pub fn write(&self, key: impl Into<String>) -> LockBuilder {
        self.builder(LockRequest::write(key))
    }

    /// Names one of `capacity` units of a lock; [`LockBuilder::units`] asks for more of them. All who use the key have
    /// to give the same capacity.
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let two_of_ten = cluster.semaphore("gpu", 10).units(2).acquire().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn semaphore(&self, key: impl Into<String>, capacity: u32) -> LockBuilder {
        LockBuilder {
            divisible: true,
            ..self.builder(LockRequest::units(key, 1, capacity))
        }
    }

    /// Works under a lock: the same as `lock(key).run(work)`.
    ///
    /// # Errors
    /// Those of [`LockBuilder::run`].
    pub async fn with_lock<F: Future>(
        &self,
        key: impl Into<String>,
        work: impl FnOnce(Lease) -> F,
    ) -> Result<F::Output, WithLockError> {
        self.lock(key).run(work).await
    }

    fn builder(&self, request: LockRequest) -> LockBuilder {
        LockBuilder {
            handle: Arc::clone(&self.handle),
            request: request.wait(Duration::MAX),
            divisible: false,
            wrong: None,
        }
    }
}

/// A lock to be asked for, in any way that [`Cluster`] names. Can be cloned and used again. Is a handle.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked for before `acquire`, `try_acquire` or `run` is awaited"]
pub struct LockBuilder {
    handle: Arc<Handle>,
    request: LockRequest,
    /// Whether it has units to choose from.
    divisible: bool,
    /// Why it will not be asked for.
    wrong: Option<LockError>,
}

impl LockBuilder {
    /// Sets the length of the lease, 1 s to `max_ttl`: for how long others wait if this process dies with the lock, and
    /// for how long it may be paused or cut off without losing it. Default `lock_ttl` of the settings (15 s, or a shorter
    /// `max_ttl`).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.request = self.request.ttl(ttl);
        self
    }

    /// Waits at most this long for the lock. Without it, `acquire` waits until it is dropped. Zero is over before any
    /// answer: [`LockBuilder::try_acquire`] takes what is free.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.request = self.request.wait(at_most);
        self
    }

    /// Goes before all who wait with a lower priority; those may then wait for ever. Default 0.
    pub fn priority(mut self, priority: u8) -> Self {
        self.request = self.request.priority(priority);
        self
    }

    /// Adds something that others see of the holder ([`Cluster::lock_info`]). At most 16 pairs and, with three bytes for
    /// each, 511 bytes in all; names have 1 to 255 bytes. A name that is given twice is there twice.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request = self.request.metadata(name, value);
        self
    }

    /// Asks for so many units of a [semaphore](Cluster::semaphore), 1 to its capacity. They are granted all at once.
    /// [`Cluster::lock`] has one unit: any other number is refused with [`LockError::Units`]. [`Cluster::read`] and
    /// [`Cluster::write`] have none to choose: [`LockError::NotDivisible`].
    pub fn units(mut self, units: u32) -> Self {
        let capacity = self.request.capacity;
        if self.divisible {
            self.request.units = units;
        } else if capacity != 1 {
            self.wrong = Some(LockError::NotDivisible);
        } else {
            self.wrong = (units != 1).then_some(LockError::Units { units, capacity });
        }
        self
    }

    /// Waits for the lock and takes it. Without [`LockBuilder::wait`] there is no limit to that, also where no quorum is
    /// there.
    ///
    /// Dropping the future gives the request up, wherever it stands, and leaves nothing behind: a grant that is on its
    /// way already is given back. A node can have 1,024 requests for locks open.
    ///
    /// # Errors
    /// [`AcquireError`]; nothing is held then. [`LockError::Timeout`] after the wait. At once, without waiting:
    /// [`LockError::TooManyWaiters`], [`LockError::TableFull`], [`LockError::TooManyRequests`],
    /// [`LockError::OtherCapacity`], and what is wrong with the request itself.
    pub async fn acquire(self) -> Result<LockGuard, AcquireError> {
        if let Some(error) = self.wrong {
            return Err(error.into());
        }
        // A lock that was granted when this is dropped is in the slot, and is given back with that.
        let command = |slot| Command::Lock(self.request, slot);
        let mut call = Call::begin(&self.handle, Wake::End, command).await?;
        match call.next().await {
            Some(Ok(Ok(hold))) => Ok(LockGuard::new(hold, self.handle)),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(Closed)) | None => Err(Closed.into()),
        }
    }

    /// Takes the lock if it is free, without waiting for others; at most `message_timeout` for the group's answer.
    /// Cancel safe as [`LockBuilder::acquire`] is.
    ///
    /// # Errors
    /// [`LockError::Taken`] names the token under which it is held; otherwise as for `acquire`, and
    /// [`LockError::NotOpen`] if the group grants nothing yet, and [`LockError::Timeout`] after `message_timeout` if there
    /// is none that answers ([`Cluster::health`] says why at once).
    pub async fn try_acquire(mut self) -> Result<LockGuard, AcquireError> {
        self.request.wait = None;
        self.acquire().await
    }

    /// Waits for the lock, works under it, and gives it back.
    ///
    /// The work is dropped before the lease can end: a tenth of the lease (at most 1 s) before that if it could not be
    /// renewed until then, at once if the lock is lost otherwise, and before its next step after a pause. A future can
    /// only be dropped between two steps: one that blocks its thread for longer than that runs on, so what it writes
    /// needs the token still. The lock is given back only after the work has come to its end, was dropped, or has
    /// panicked. Dropping the future drops the work, then gives the lock back.
    ///
    /// # Errors
    /// [`WithLockError::NotAcquired`] if the work was not begun, [`WithLockError::Lost`] if it did not come to its end
    /// while the lock was held.
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn store(token: u64, row: u32) {}
    /// let lock = cluster.lock("jobs/nightly").metadata("who", "me");
    /// let rows = lock
    ///     .run(|lease| async move {
    ///         for row in 0..10 {
    ///             store(lease.token(), row).await;
    ///         }
    ///         10
    ///     })
    ///     .await?;
    /// assert_eq!(rows, 10);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<F: Future>(self, work: impl FnOnce(Lease) -> F) -> Result<F::Output, WithLockError> {
        let guard = self.acquire().await?;
        let output = {
            let work = pin!(work(guard.lease()));
            guard.run(work).await
        };
        let released = guard.release().await;
        match (output, released) {
            (Some(output), Ok(())) => Ok(output),
            (_, Err(NotHeld::Lost(reason))) => Err(WithLockError::Lost(reason)),
            // It was stopped in good time.
            (_, Ok(()) | Err(NotHeld::Released)) => Err(WithLockError::Lost(LostReason::Expired)),
        }
    }
}
