//! What is known of a lock that is held, on this process's own clock.

use crate::cluster::shared::Shared;
use crate::cluster::slot::{OpKey, lock};
use crate::error::NotHeld;
use alloc::sync::Arc;
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Poll, ready};
use event_listener::{Event, EventListener};
use quorate_core::{Duration, Instant, LockId, LockKey, LostReason};
use std::sync::{Mutex, MutexGuard};

/// How long before the end of a lease work under it is stopped: a tenth of what is left of the lease when it is
/// granted or renewed, and at most this.
const MARGIN: Duration = Duration::from_secs(1);

/// A lock that is held, or was. For looking at it: a clone can be given to whoever does something under the lock. It
/// neither keeps the lock nor gives it back (that is [`LockGuard`](crate::LockGuard)), and is no handle.
///
/// All answers come from this process's own clock and cost no more than reading it. They are right also when the
/// driver has not run for a while: after a pause of the process or the machine, the first look says that the lock is
/// lost. **What is said holds for the moment at which it is said.** A resource that must never be written by two
/// compares [`Lease::token`] itself.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    id: LockId,
    key: LockKey,
    token: u64,
    /// The lock is held while the clock is below; 0 once it is over. Never later than the node's own belief.
    deadline: AtomicU64,
    /// When work under the lock is stopped: a little before the deadline.
    stop_at: AtomicU64,
    /// Whoever changes the deadline has this, so that a belief that is over never comes back.
    state: Mutex<State>,
    /// Notified when there may be a reason to stop or to hurry.
    changed: Event,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct State {
    over: Option<NotHeld>,
    at_risk: bool,
}

impl Lease {
    pub(crate) fn new(id: LockId, key: LockKey, token: u64, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Inner {
            id,
            key,
            token,
            deadline: AtomicU64::new(0),
            stop_at: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Event::new(),
            shared,
        }))
    }

    /// Returns the key of the lock.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// Returns the fencing token: higher than that of every earlier holder of this key, below 2^63. A resource that
    /// remembers the highest token that it was shown, and refuses lower ones, cannot be written by a holder that has
    /// lost the lock without knowing it. Say it with everything that is done under the lock.
    pub fn token(&self) -> u64 {
        self.0.token
    }

    /// Returns how long the lock is held from now on, unless it is renewed (it is, by itself, every third of its
    /// ttl). Zero if it is held no longer.
    pub fn remaining(&self) -> Duration {
        match self.check() {
            Ok(_) => self.until().saturating_since(self.0.shared.now()),
            Err(_) => Duration::ZERO,
        }
    }

    /// Returns the token if the lock is held now.
    ///
    /// # Errors
    /// [`NotHeld`] if it is not; then it never will be again.
    pub fn check(&self) -> Result<u64, NotHeld> {
        // The deadline first: whatever happens until the clock is read counts against it.
        let until = self.until();
        if self.0.shared.now() < until {
            return Ok(self.0.token);
        }
        let state = lock(&self.0.state);
        match state.over {
            Some(over) => Err(over),
            // It was renewed in between.
            None if self.0.shared.now() < self.until() => Ok(self.0.token),
            None => {
                // The node has not noticed yet. It is told, so that no renewal that arrives now brings it back.
                let over = NotHeld::Lost(LostReason::Expired);
                self.finish(state, over);
                self.0.shared.give_up(OpKey::Lock(self.0.id));
                Err(over)
            }
        }
    }

    /// Returns whether the lock is held now.
    pub fn is_held(&self) -> bool {
        self.check().is_ok()
    }

    /// Waits until the lock is held no longer, and says why. Cancel safe; any number may wait.
    ///
    /// It is the driver that wakes whoever waits, at the end of the lease or when it learns of something worse. Who
    /// must not act too late after a pause calls [`Lease::check`] before acting.
    pub async fn ended(&self) -> NotHeld {
        self.wait(|lease| lease.check().err()).await
    }

    /// Waits until no renewal was answered for two thirds of the lease, or the lock is held no longer. Returns how long
    /// it is held still; at once while that is so. A renewal may be answered after all. Cancel safe.
    pub async fn at_risk(&self) -> Duration {
        self.wait(|lease| {
            let at_risk = lock(&lease.0.state).at_risk;
            (at_risk || !lease.is_held()).then(|| lease.remaining())
        })
        .await
    }

    /// Runs a future while the lease lasts, up to a little before its end. `None`: it was not finished by then.
    pub(super) async fn run<F: Future>(&self, mut work: Pin<&mut F>) -> Option<F::Output> {
        let mut listener: Option<EventListener> = None;
        poll_fn(|cx| {
            loop {
                let heard = listener.get_or_insert_with(|| self.0.changed.listen());
                // After the listener is there, and before each step of the work: also the first one after a pause.
                if self.0.shared.now().as_nanos() >= self.0.stop_at.load(Ordering::Acquire) {
                    return Poll::Ready(None);
                }
                if Pin::new(heard).poll(cx).is_pending() {
                    return Poll::Ready(Some(ready!(work.as_mut().poll(cx))));
                }
                listener = None;
            }
        })
        .await
    }

    async fn wait<T>(&self, found: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let listener = self.0.changed.listen();
            if let Some(found) = found(self) {
                return found;
            }
            listener.await;
        }
    }

    fn until(&self) -> Instant {
        Instant::from_nanos(self.0.deadline.load(Ordering::Acquire))
    }

    fn finish(&self, mut state: MutexGuard<'_, State>, over: NotHeld) {
        self.0.deadline.store(0, Ordering::Release);
        self.0.stop_at.store(0, Ordering::Release);
        state.over = Some(over);
        drop(state);
        self.0.changed.notify(usize::MAX);
    }

    /// Gives the lock back. The belief is over when this returns, and before the node hears of it.
    fn give_back(&self) {
        let state = lock(&self.0.state);
        if state.over.is_none() {
            self.finish(state, NotHeld::Released);
            self.0.shared.give_up(OpKey::Lock(self.0.id));
        }
    }

    // The driver's side.

    pub(crate) fn id(&self) -> LockId {
        self.0.id
    }

    pub(crate) fn lock_key(&self) -> &LockKey {
        &self.0.key
    }

    /// The lease was renewed: the node believes until then. Returns when work has to stop.
    pub(crate) fn extend(&self, now: Instant, until: Instant) -> Instant {
        let mut state = lock(&self.0.state);
        state.at_risk = false;
        self.set_end(&state, now, until)
    }

    /// The node may believe for less long from here on. Returns when work has to stop, if that is earlier now.
    pub(crate) fn shorten(&self, now: Instant, until: Instant) -> Option<Instant> {
        (until < self.until()).then(|| self.set_end(&lock(&self.0.state), now, until))
    }

    fn set_end(&self, state: &State, now: Instant, until: Instant) -> Instant {
        let stop_at = until - (until.saturating_since(now) / 10).min(MARGIN);
        if state.over.is_none() {
            self.0.deadline.store(until.as_nanos(), Ordering::Release);
            self.0.stop_at.store(stop_at.as_nanos(), Ordering::Release);
        }
        stop_at
    }

    pub(crate) fn set_at_risk(&self) {
        lock(&self.0.state).at_risk = true;
        self.wake();
    }

    /// Lets whoever waits look again.
    pub(crate) fn wake(&self) {
        self.0.changed.notify(usize::MAX);
    }

    /// The node believes in it no longer. Says why, unless it was given back.
    pub(crate) fn settle(&self, reason: LostReason) -> Option<LostReason> {
        let state = lock(&self.0.state);
        match state.over {
            Some(NotHeld::Lost(reason)) => Some(reason),
            Some(NotHeld::Released) => None,
            None => {
                self.finish(state, NotHeld::Lost(reason));
                Some(reason)
            }
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.0.key)
            .field("token", &self.0.token)
            .field("until", &self.until())
            .finish_non_exhaustive()
    }
}

/// A lock that is given back when this is dropped: in a guard, in a slot that nobody reads any more, or in a panic.
///
/// Not a handle, so that a grant that waits to be picked up keeps no node alive.
#[derive(Debug)]
pub(crate) struct Hold(pub(super) Lease);

impl Hold {
    pub(crate) fn new(lease: Lease) -> Self {
        Self(lease)
    }

    /// Gives the lock back, and says whether it was held until then.
    pub(super) fn release(self) -> Result<(), NotHeld> {
        let held = self.0.check();
        self.0.give_back();
        held.map(drop)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
