//! Looking at locks, and taking them from their holders.

use crate::cluster::Cluster;
use crate::cluster::shared::Command;
use crate::error::LockQueryError;
use alloc::string::String;
use alloc::vec::Vec;
use quorate_core::{LockCursor, LockError, LockFilter, LockKey, LockPage, LockRow, matches_pattern};

impl Cluster {
    /// Lists who holds locks and who waits for them: all that fit a filter, page by page.
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// use quorate::LockFilter;
    ///
    /// for row in cluster.locks(LockFilter::new().key("jobs/*").held()).all().await? {
    ///     println!("{}: {} since token {:?}", row.key, row.owner, row.token);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn locks(&self, filter: LockFilter) -> LockPages {
        LockPages {
            cluster: self.clone(),
            filter,
            owner: None,
            next: Some(None),
        }
    }

    /// Returns who holds a lock and who waits for it; `None` if nobody does. As it stood at some moment between the call
    /// and the answer, up to about ten holders and waiters; more take several answers. Cancel safe.
    ///
    /// # Errors
    /// [`LockQueryError`]; [`LockError::Key`] if it can be no key, [`LockError::Timeout`] if the group does not answer
    /// within `message_timeout` (for each of the answers), [`LockError::Observer`] if observers may take no locks,
    /// [`LockError::TooManyRequests`] beyond 1,024 questions of this node at a time.
    pub async fn lock_info(&self, key: &str) -> Result<Option<LockInfo>, LockQueryError> {
        let key = LockKey::new(key).ok_or(LockError::Key { len: key.len() })?;
        let mut pages = self.locks(LockFilter::new().key(&key));
        let mut info: Option<LockInfo> = None;
        while let Some(rows) = pages.next().await? {
            // The key of a lock may have a `*` in it, which the filter takes for something else.
            for row in rows.into_iter().filter(|row| row.key == key) {
                let info = info.get_or_insert_with(|| LockInfo {
                    capacity: row.capacity,
                    ..LockInfo::default()
                });
                if row.token.is_some() {
                    info.holders.push(row);
                } else {
                    info.waiters.push(row);
                }
            }
        }
        Ok(info)
    }

    /// Takes a lock from whoever holds it under this token. Its holder is told
    /// ([`LostReason::Revoked`](quorate_core::LostReason::Revoked)) and the next one gets the lock when it has said that
    /// it stopped; if it is not heard of, at the end of its lease. Returns whether the token was taken from somebody, now or
    /// by an earlier call (the table keeps a record of the last 64); `false` if nobody held it.
    ///
    /// Safe: nobody believes in the lock beside another. For a holder that hangs, or a leaked guard. Cancel safe in that
    /// a dropped future has taken the lock or not.
    ///
    /// # Errors
    /// [`LockQueryError`], which says whether it may have been taken all the same; [`LockError::Timeout`] if the group
    /// does not answer within `message_timeout`, otherwise as for [`Cluster::lock_info`].
    pub async fn force_release(&self, token: u64) -> Result<bool, LockQueryError> {
        self.revoke(token, false).await
    }

    /// Takes a lock from whoever holds it under this token and gives it to the next one **at once**, whether its holder
    /// has stopped or not.
    ///
    /// **Not safe: two may believe that they hold the lock** until the former holder hears of it, at the latest at the
    /// end of its lease. Only a resource that checks tokens is protected. For a holder of which is known that it is dead
    /// and whose long lease nobody wants to wait for. The table keeps a record of it. Cancel safe as
    /// [`Cluster::force_release`] is.
    ///
    /// # Errors
    /// Those of [`Cluster::force_release`].
    pub async fn force_release_unsafely(&self, token: u64) -> Result<bool, LockQueryError> {
        self.revoke(token, true).await
    }

    async fn revoke(&self, token: u64, at_once: bool) -> Result<bool, LockQueryError> {
        let taken = self
            .ask(|slot| Command::RevokeLock { token, at_once, slot })
            .await?;
        Ok(taken?)
    }
}

/// Everything about one lock.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LockInfo {
    /// How much there is of it: 1 for [`Cluster::lock`], `u32::MAX` for reading and writing.
    pub capacity: u32,
    /// Who holds it, by token. Nobody, if it is only waited for: after a change of leader, until who waits is heard of.
    pub holders: Vec<LockRow>,
    /// Who waits for it, the next first.
    pub waiters: Vec<LockRow>,
}

/// A list of locks, page by page, in the order of the keys: each one's holders by token, then who waits, the next first.
///
/// A page has about ten rows, as everything stood at one moment, and costs a round trip to the leader and one to its
/// quorum. Between pages locks come and go; each that was there all the while is listed exactly once. Is a handle.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `next` or `all` is awaited"]
pub struct LockPages {
    cluster: Cluster,
    filter: LockFilter,
    owner: Option<String>,
    /// Behind what the next page begins, if there is one; the first begins behind nothing.
    next: Option<Option<LockCursor>>,
}

impl LockPages {
    /// Wants only what members hold and wait for whose name (`name` of their settings) has this form: `*` stands for any
    /// characters, `?` for one. Who is no member any more has no name, and is left out. Looked at by this node, in each page:
    /// it has no limit of length.
    pub fn owner_name(mut self, pattern: impl Into<String>) -> Self {
        self.owner = Some(pattern.into());
        self
    }

    fn fits(&self, row: &LockRow) -> bool {
        let Some(pattern) = &self.owner else { return true };
        let owner = row.owner.node;
        if owner == self.cluster.id() {
            return matches_pattern(pattern, &self.cluster.config().name);
        }
        let member = self.cluster.member(owner);
        member.is_some_and(|member| matches_pattern(pattern, &member.name))
    }

    /// Waits for the next page, at most `message_timeout`; `None` at the end. A page may be empty where the filter leaves
    /// much out. Cancel safe: a dropped future has taken nothing. After an error the same page can be asked for again.
    ///
    /// # Errors
    /// Those of [`Cluster::lock_info`], and [`LockError::Pattern`] if a pattern of the filter has a length that it may not
    /// have ([`LockFilter`]).
    pub async fn next(&mut self) -> Result<Option<Vec<LockRow>>, LockQueryError> {
        let Some(after) = self.next.clone() else {
            return Ok(None);
        };
        let filter = self.filter.clone();
        let page: Result<LockPage, LockError> = self
            .cluster
            .ask(|slot| Command::ListLocks(filter, after, slot))
            .await?;
        let mut page = page?;
        self.next = page.next.map(Some);
        page.rows.retain(|row| self.fits(row));
        Ok(Some(page.rows))
    }

    /// Collects all pages that are left. `max_locks` and `max_waiters` bound how many rows those can be. Cancel safe: a
    /// dropped future has changed nothing.
    ///
    /// # Errors
    /// [`LockQueryError`]; what was collected is gone then.
    pub async fn all(mut self) -> Result<Vec<LockRow>, LockQueryError> {
        let mut rows = Vec::new();
        while let Some(mut page) = self.next().await? {
            rows.append(&mut page);
        }
        Ok(rows)
    }
}
