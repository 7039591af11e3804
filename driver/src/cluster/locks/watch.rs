//! Hearing of changes of a lock.

use super::LockInfo;
use crate::cluster::shared::Command;
use crate::cluster::slot::Wake;
use crate::cluster::{Call, Cluster};
use crate::error::{Closed, LockQueryError};
use event_listener::EventListener;
use quorate_core::{LockError, LockKey};

impl Cluster {
    /// Watches a lock from now on: who holds it and who waits for it.
    ///
    /// Cancel safe: a dropped future watches nothing.
    ///
    /// # Errors
    /// [`LockQueryError`]; [`LockError::Key`] if it can be no key, [`LockError::TooManyRequests`] beyond 1,024 watches of
    /// this node, [`LockError::Observer`] if observers may take no locks.
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut watch = cluster.watch("jobs/nightly").await?;
    /// while let Some(info) = watch.next().await? {
    ///     match info.holders.first() {
    ///         Some(holder) => println!("held by {} under token {:?}", holder.owner, holder.token),
    ///         None => println!("only waited for, as after a change of leader"),
    ///     }
    /// }
    /// println!("nobody holds it, and nobody waits for it");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn watch(&self, key: &str) -> Result<LockWatch, LockQueryError> {
        let key = LockKey::new(key).ok_or(LockError::Key { len: key.len() })?;
        let command = |slot| Command::WatchLock(key.clone(), slot);
        let mut watch = LockWatch {
            call: Call::begin(&self.handle, Wake::Each, command).await?,
            cluster: self.clone(),
            key,
            changed: false,
        };
        watch.heard().await?;
        Ok(watch)
    }
}

/// Tells how a lock stands whenever it has changed, from the moment of [`Cluster::watch`] on. Dropping it ends the watch.
/// Is a handle.
#[derive(Debug)]
pub struct LockWatch {
    call: Call<Result<(), LockError>>,
    cluster: Cluster,
    key: LockKey,
    /// Something has changed since it was looked at.
    changed: bool,
}

impl LockWatch {
    /// Waits until the lock has changed since the last call, and says how it stands: `None` if nobody holds it or waits
    /// for it. The first call says how it stands as soon as the group answers.
    ///
    /// What is told was so at some moment during the call ([`Cluster::lock_info`]). Changes that followed each other
    /// quickly are told as one, and a change may be told that is none to look at. Without a quorum there is no news.
    /// Cancel safe: a dropped future has taken nothing.
    ///
    /// # Errors
    /// [`LockQueryError::Closed`] when the node leaves. [`LockQueryError::Failed`] as for [`Cluster::lock_info`]; the change
    /// is told by the next call.
    pub async fn next(&mut self) -> Result<Option<LockInfo>, LockQueryError> {
        if !self.changed {
            self.heard().await?;
            self.changed = true;
        }
        let info = self.cluster.lock_info(&self.key).await?;
        self.changed = false;
        Ok(info)
    }

    /// Completes after a list or a forced release of this node has ended.
    pub(super) fn room(&self) -> EventListener {
        self.cluster.handle.shared.room.listen()
    }

    async fn heard(&mut self) -> Result<(), LockQueryError> {
        match self.call.next().await {
            Some(Ok(heard)) => Ok(heard?),
            Some(Err(Closed)) | None => Err(Closed.into()),
        }
    }
}
