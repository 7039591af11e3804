//! Who gives a lock back.

use super::lease::{Hold, Lease};
use crate::cluster::shared::{Command, Handle};
use crate::cluster::slot::{Wake, slot};
use crate::error::{Closed, NotHeld};
use alloc::sync::Arc;
use core::future::poll_fn;
use core::ops::Deref;
use quorate_core::{Duration, LockError, LostReason};

/// A lock that is held. It is renewed by itself until the guard is released or dropped; then the next one gets it.
///
/// What can be asked of it is at [`Lease`], to which this dereferences: [`token`](Lease::token),
/// [`check`](Lease::check), [`remaining`](Lease::remaining) and more.
///
/// **A lock can be lost while it is held**: when the process was paused for longer than the lease, the group could not
/// be reached for that long, somebody took it by force, or the node leaves. [`LockGuard::lost`] tells. Losing it is the
/// price of not waiting for ever for a holder that died; `docs/locks.md` says how to live with it.
///
/// Dropping the guard gives the lock back at once and waits for nothing. That works in any thread, without a runtime, in
/// a panic, and however busy the node is. A guard that is leaked (`mem::forget`) is renewed as long as the node runs.
///
/// Is a handle: the node does not leave while it exists.
///
/// ```no_run
/// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
/// let guard = cluster.lock("jobs/nightly").acquire().await?;
/// println!("held under token {} for {:?}", guard.token(), guard.remaining());
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a lock is given back as soon as its guard is dropped"]
pub struct LockGuard {
    hold: Hold,
    handle: Arc<Handle>,
}

impl LockGuard {
    pub(super) fn new(hold: Hold, handle: Arc<Handle>) -> Self {
        Self { hold, handle }
    }

    /// Returns a lease to look at the lock with, from other tasks or threads. It does not keep the lock.
    pub fn lease(&self) -> Lease {
        self.hold.0.clone()
    }

    /// Waits until the lock is lost, and says why. Never returns otherwise. Cancel safe.
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn work(token: u64) {}
    /// use futures_lite::future;
    ///
    /// let guard = cluster.lock("jobs/nightly").acquire().await?;
    /// let lost = async { Err(guard.lost().await) };
    /// let done = async { Ok(work(guard.token()).await) };
    /// // The work is dropped when the lock is lost.
    /// if let Err(reason) = future::or(lost, done).await {
    ///     eprintln!("stopped: {reason:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lost(&self) -> LostReason {
        match self.hold.0.ended().await {
            NotHeld::Lost(reason) => reason,
            // Only this guard gives it back, and it is borrowed.
            NotHeld::Released => core::future::pending().await,
        }
    }

    /// Changes the length of the lease, 1 s to `max_ttl`, and renews the lock. A shorter one counts at once. A longer one
    /// counts from the next renewal that the group answers; until then the old one does.
    ///
    /// Returns when the node has taken it over. Cancel safe: a dropped future has changed the length or not.
    ///
    /// # Errors
    /// [`LockError::Ttl`], and nothing changed; [`LockError::UnknownId`] if the lock is held no longer;
    /// [`LockError::Leaving`].
    pub async fn set_ttl(&self, ttl: Duration) -> Result<(), LockError> {
        let (writer, mut reader) = slot(Wake::End);
        let command = Command::SetLockTtl(self.hold.0.id(), ttl, writer);
        let sent = self.handle.submit(command).await;
        sent.map_err(|Closed| LockError::Leaving)?;
        match poll_fn(|cx| reader.poll_next(cx)).await {
            Some(Ok(result)) => result,
            Some(Err(Closed)) | None => Err(LockError::Leaving),
        }
    }

    /// Gives the lock back. It is held no longer when this returns, and returns at once.
    ///
    /// The group is told from then on until it has heard: the next holder has the lock a round trip later, or, if this
    /// node is cut off, at the end of the lease. A lock that this node asks for afterwards is asked for after that.
    ///
    /// # Errors
    /// [`NotHeld::Lost`] if it was lost already: what was done under it may not have been done alone. There is nothing
    /// to do about it but to know.
    #[expect(
        clippy::unused_async,
        reason = "it may have to wait one day, and must not become another kind of call then"
    )]
    pub async fn release(self) -> Result<(), NotHeld> {
        self.hold.release()
    }
}

impl Deref for LockGuard {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.hold.0
    }
}
