//! Locks in a search: how clocks look to those who take and grant them, and what an owner's client does.

use super::process::{Belief, Deed, Process, Tick};
use bytes::Bytes;
use quorate_core::consensus::{Group, Life, Output};
use quorate_core::locks::{Answer, ClientOutput, Key, LockError, LockEvent, LostReason, Wish};
use quorate_core::{Duration, Instant};

/// How long a tick is in true time.
const TICK: Duration = Duration::from_secs(1);

/// A whole number of ticks as settings have it, in milliseconds.
pub(super) const fn millis(ticks: u8) -> u32 {
    ticks as u32 * TICK.as_millis() as u32
}

/// The clock that a replica goes by, at a moment of this tick: as fast as the bound on drift allows, so that a leader's
/// deadlines pass as early as they may. The moment above makes up for what deadlines are rounded up by.
pub(super) fn leaders_clock(tick: Tick, drift_permille: u16) -> Instant {
    clock(tick, 1000 + u64::from(drift_permille)) + Duration::from_micros(u64::from(tick))
}

/// The clock that a client goes by: as slow as the bound allows, so that it believes as long as it may. That both may
/// be on one host makes nothing too bad: a client's stamps mean nothing to a replica.
pub(super) fn holders_clock(tick: Tick, drift_permille: u16) -> Instant {
    clock(tick, 1000 - u64::from(drift_permille))
}

fn clock(tick: Tick, permille: u64) -> Instant {
    Instant::from_nanos(TICK.as_nanos() as u64 / 1000 * permille * u64::from(tick))
}

/// What an owner decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// The lock.
    Lock,
    /// Nothing new: it does what is due, and says again what was not answered.
    Same,
    /// To give it back, or to wait no longer.
    Release,
}

impl Process {
    fn drift(&self) -> u16 {
        self.replica.rules().terms.drift_permille
    }

    /// A replica's clock.
    pub(super) fn leaders_clock(&self, now: Tick) -> Instant {
        leaders_clock(now, self.drift())
    }

    fn holders_clock(&self, now: Tick) -> Instant {
        holders_clock(now, self.drift())
    }

    /// The client acts, and asks this leader.
    pub(super) fn use_client(
        &mut self,
        now: Tick,
        wanted: Wanted,
        leader: (Group, Life),
        out: &mut Output,
        deed: &mut Deed,
    ) {
        let (clock, at) = (self.holders_clock(now), self.leaders_clock(now));
        let mut said = ClientOutput::default();
        self.client.set_leader(clock, Some(leader));
        match (wanted, self.lock) {
            (Wanted::Lock, None) => {
                let wish = wish(self.replica.rules().terms.max_ttl);
                self.lock = self.client.acquire(clock, wish, None).ok();
            }
            (Wanted::Release, Some(lock)) => {
                // What is not known any more needs no release.
                let _unknown = self.client.release(clock, lock, &mut said);
            }
            _ => {}
        }
        self.client.handle_timeout(clock, &mut said);
        self.hear(&said.events);
        self.note_beliefs(now, leader.0, deed);
        for ask in said.asks {
            self.replica.ask_locks(at, leader.0, leader.1, ask, out);
        }
    }

    /// Gives answers to the client.
    pub(super) fn take_answers(&mut self, now: Tick, out: &mut Output, deed: &mut Deed) {
        let clock = self.holders_clock(now);
        for (group, answer) in out.answers.drain(..) {
            let mut said = ClientOutput::default();
            self.client.answered(clock, group, &answer, &mut said);
            self.hear(&said.events);
            self.note_beliefs(now, group, deed);
        }
    }

    /// The life ends, and what it believes in before.
    pub(super) fn end_life(&mut self, now: Tick) {
        let mut said = ClientOutput::default();
        let clock = self.holders_clock(now);
        self.client.end_life(clock, LostReason::Abandoned, &mut said);
        self.hear(&said.events);
        let held: Vec<u64> = self.client.held().map(|(_, _, token, _)| token).collect();
        self.beliefs.retain(|belief| held.contains(&belief.token));
    }

    /// Forgets the lock once it is over.
    fn hear(&mut self, events: &[LockEvent]) {
        // A search in which the limits refuse whoever asks would show nothing.
        let refused = |event: &LockEvent| match event {
            LockEvent::Failed { error, .. } => {
                matches!(error, LockError::TableFull | LockError::TooManyWaiters(_))
            }
            _ => false,
        };
        assert!(!events.iter().any(refused), "a limit is in the way: {events:?}");
        let over = |event: &LockEvent| match *event {
            LockEvent::Failed { id, .. } | LockEvent::Lost { id, .. } | LockEvent::Released { id } => {
                Some(id)
            }
            _ => None,
        };
        if events.iter().any(|event| over(event) == self.lock) {
            self.lock = None;
        }
    }

    /// Writes down what the client believes in, as everybody does who asks it: by its clock, whatever timers have
    /// fired. What it did not believe in before, `group` has granted.
    fn note_beliefs(&mut self, now: Tick, group: Group, deed: &mut Deed) {
        let drift = self.drift();
        let over = |until: Instant| (now..).find(|&tick| holders_clock(tick, drift) >= until);
        let held: Vec<(u64, Tick)> = self
            .client
            .held()
            .filter_map(|(_, _, token, until)| Some((token, over(until)?)))
            .filter(|&(_, until)| until > now)
            .collect();
        let exclusive = |belief: &Belief| belief.exclusive;
        self.beliefs
            .retain(|belief| !exclusive(belief) || held.iter().any(|&(token, _)| token == belief.token));
        for (token, until) in held {
            match self.beliefs.iter_mut().find(|belief| belief.token == token) {
                Some(belief) => belief.until = until,
                None => {
                    deed.began.push(token);
                    self.beliefs.push(Belief {
                        group,
                        token,
                        until,
                        exclusive: true,
                    });
                }
            }
        }
    }

    /// Whether an owner has anything to say to a leader.
    pub(super) fn uses_locks(&self) -> bool {
        self.client.poll_timeout().is_some()
    }

    /// Whether something of locks is due at this leader.
    pub(super) fn locks_are_due(&self, now: Tick) -> bool {
        let clock = self.leaders_clock(now);
        self.replica.locks_timeout().is_some_and(|at| at <= clock)
    }

    /// The group that granted what it holds.
    pub(super) fn believed_group(&self) -> Option<Group> {
        let mut locks = self.beliefs.iter().filter(|belief| belief.exclusive);
        locks.next().map(|belief| belief.group)
    }

    /// Whether it leads a group and may answer clients.
    pub(super) fn serves(&self, group: Group) -> bool {
        let leadership = self.replica.leadership();
        self.replica.group() == Some(group)
            && leadership.is_some_and(|leadership| leadership.leases().serves())
    }

    /// How long this leader waits for the holder of a token, whether it knows that it does: until its deadline has
    /// passed, on the fastest clock, nobody else can hold the lock.
    ///
    /// # Errors
    /// If the holder believes for longer.
    pub(super) fn outlasts(&self, holder: &Self) -> Result<(), String> {
        let Some(leadership) = self.replica.leadership() else {
            return Ok(());
        };
        let beliefs = holder.beliefs.iter().filter(|belief| belief.exclusive);
        for belief in beliefs.filter(|belief| Some(belief.group) == self.replica.group()) {
            let deadline = leadership.leases().deadline(belief.token);
            let last = self.leaders_clock(belief.until - 1);
            if deadline.is_none_or(|deadline| deadline <= last) {
                return Err(format!(
                    "{} believes in token {} before tick {}, for which its leader {} does not wait",
                    super::process::name(holder.life()),
                    belief.token,
                    belief.until,
                    super::process::name(self.life()),
                ));
            }
        }
        Ok(())
    }
}

fn wish(ttl: u32) -> Wish {
    Wish {
        key: Key::new("lock").expect("a key"),
        units: 1,
        capacity: 1,
        priority: 0,
        wait: true,
        ttl,
        metadata: Bytes::new(),
    }
}

/// The token that an answer grants, and for which request.
pub(super) fn granted(answer: &Answer) -> Option<(u64, u64)> {
    match *answer {
        Answer::Granted { token, request, .. } => Some((token, request)),
        _ => None,
    }
}
