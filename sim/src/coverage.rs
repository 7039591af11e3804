//! Rare situations, counted: one that never occurs is one that was never tested.

#[cfg(test)]
mod tests;

use crate::fault::FaultKind;
use crate::observe::{Command, Datagram, Fate, Observer, Provenance, Seen};
use crate::world::{NodeIndex, World};
use quorate_core::{
    DeliveryError, DropReason, Duration, Event, Instant, LeaveReason, Node, RejectReason, SendError,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The second byte of datagrams that open a session, and of sealed ones.
const HELLO: u8 = 1;
const SEALED: u8 = 5;
/// A message longer than that takes more than one datagram.
const ONE_DATAGRAM: usize = 1_100;
/// Two openings this close to each other cross on their way.
const CROSSING: Duration = Duration::from_millis(1);

macro_rules! situations {
    ($($name:ident $text:literal,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Situation { $($name,)+ }

        /// The names of all situations that are counted.
        const NAMES: &[&str] = &[$($text,)+];
    };
}

situations! {
    CrossingHandshakes "simultaneous-handshakes",
    Rekey "re-key",
    RotationDone "key-rotation-completed",
    ReplayRefused "replayed-datagram-refused",
    DuplicateRefused "duplicated-datagram-refused",
    AlteredRefused "altered-datagram-refused",
    FirstComeLate "overtaken-datagram-opened",
    UnknownSession "unknown-session",
    SessionExpired "session-expired",
    BadChallenge "challenge-refused",
    Unexpected "unexpected-handshake-answer",
    OtherFlavor "insecure-met-secured",
    UnknownKey "unknown-key",
    OtherCluster "other-cluster-met",
    Rejected "rejected",
    Quarantined "quarantined",
    QuarantineEnded "quarantine-ended",
    PathChange "path-changed",
    Suspected "member-suspected",
    Refuted "suspicion-refuted",
    FalseDeath "false-death",
    DeathFound "died-and-found-out",
    LeftAndTold "left-and-told",
    Replaced "replaced-at-its-address",
    Rejoined "rejoined-in-higher-incarnation",
    AllDead "all-dead-and-back",
    LostEverybody "lost-everybody",
    Healed "found-again-after-false-death",
    ResolveFailed "dns-failed",
    ResolvedAgain "dns-failed-and-member-joined-later",
    Ready "ready",
    Fragmented "message-of-many-datagrams",
    Retransmitted "retransmitted",
    Expired "message-timed-out",
    RequestExpired "request-expired-before-it-was-taken",
    Disconnected "message-failed-peer-gone",
    OutcomeUnknown "outcome-unknown",
    ReplyLost "reply-lost",
    QueueFull "refused-queue-full",
    UnknownPeer "refused-unknown-peer",
    RefusedLeaving "refused-leaving",
    Busy "back-pressure",
    DuplicateMessage "duplicated-message-refused",
    StaleFrame "stale-frame",
    Orphaned "message-of-one-who-has-gone",
    Cancelled "cancelled",
    HeldByGate "broadcast-held-by-quorum-gate",
    NoQuorum "broadcast-failed-for-lack-of-quorum",
    QuorumLost "quorum-lost",
    QuorumRegained "quorum-regained",
    LateTimers "late-timers",
    LongPause "paused-over-the-failure-timeout",
    WildDrift "clock-drift-beyond-the-bound",
    LongJump "clock-jump-over-the-failure-timeout",
    SocketFull "arrived-where-nobody-listens",
    TooLong "datagram-too-long-for-the-way",
    SendToLeaver "failed-because-this-node-left",
    GroupTakenOver "group-taken-over",
    GroupFounded "group-founded",
    FoundedShort "group-founded-with-empty-seats",
    FounderDied "founder-died-before-its-group-was-decided",
    GraceSkipped "grace-skipped",
    GraceWaited "grace-waited",
    Elected "leader-elected",
    SeatEmptied "seat-emptied",
    SeatFilled "seat-filled",
    SnapshotInstalled "snapshot-installed",
    LogCompacted "log-compacted",
    LogTruncated "log-truncated",
    AbandonedUnfounded "group-abandoned-unfounded",
    AbandonedForLoss "group-abandoned-quorum-lost",
    AbandonedForAnother "group-abandoned-for-another",
    TokenDrawn "token-drawn",
    TokenDenied "token-denied-group-not-open",
    TokenTimedOut "token-timed-out",
    TokenAbandoned "token-request-ended-with-its-group",
    TokenByFloor "tokens-begin-above-the-wall-clock",
    LockGranted "lock-granted-at-once",
    LockGrantedLater "lock-granted-from-the-queue",
    LockFoundAgain "repeated-acquire-found-its-grant",
    LockTaken "lock-denied-taken",
    LockOtherCapacity "lock-denied-other-capacity",
    LockTooManyWaiters "lock-denied-too-many-waiters",
    LockNotOpen "lock-denied-group-not-open",
    LockTimedOut "lock-request-timed-out",
    LockCancelled "lock-request-cancelled",
    LockReleased "lock-released",
    LockLost "lock-lost-by-expiry",
    LockRevoked "lock-lost-because-somebody-took-it",
    LockTakenPolitely "lock-taken-from-its-holder",
    LockTakenAtOnce "lock-taken-at-once",
    LockNotTaken "lock-to-be-taken-was-free",
    LocksListed "locks-listed",
    LockQueryTimedOut "lock-listing-or-taking-timed-out",
    LockTtlRaised "lock-lease-made-longer",
    LockTtlLowered "lock-lease-made-shorter",
    LockAbandoned "lock-lost-with-its-group",
    LockLeft "lock-lost-by-leaving",
    LockAtRisk "lock-at-risk",
    LockRenewedByOther "lock-renewed-by-another-leader",
    LeaseExpired "lease-expired-at-the-leader",
    WaiterDropped "silent-waiter-dropped",
    StaleWrite "stale-write-refused",
    RefusedForSettings "founding-refused-other-settings",
    Conflict "groups-in-conflict",
    AssumptionBroken "more-voters-alive-than-may-be",
    RefusedForVoters "founding-refused-too-many-voters",
    GroupClosed "group-closed",
    OpenedAgain "group-opened-again",
    AbandonedForConflict "group-abandoned-in-conflict",
}

const COUNT: usize = NAMES.len();

/// What occurs only where more voters live than may be: from here to the end of the list.
const ONLY_BEYOND: Situation = Situation::AssumptionBroken;

/// Returns whether a situation of this name occurs only where more voters live than may be ([`Draw::beyond`]).
///
/// [`Draw::beyond`]: crate::Draw::beyond
pub fn only_beyond(name: &str) -> bool {
    NAMES[ONLY_BEYOND as usize..].contains(&name)
}

#[derive(Clone, Debug, Default)]
struct Seat {
    /// Whom it took for dead, or gone, that was not.
    buried: BTreeMap<NodeIndex, u32>,
    members: usize,
    had_quorum: Option<bool>,
    dns_failed: bool,
    paused: Option<Instant>,
    newest: BTreeMap<NodeIndex, u64>,
    hellos: BTreeMap<NodeIndex, Instant>,
}

/// The counters, shared with the checker that looks closest at groups.
#[derive(Clone, Debug)]
pub(crate) struct Tally(Rc<[Cell<u64>; COUNT]>);

impl Default for Tally {
    fn default() -> Self {
        Self(Rc::new([const { Cell::new(0) }; COUNT]))
    }
}

impl Tally {
    pub(crate) fn count(&self, what: Situation) {
        self.add(what, 1);
    }

    fn add(&self, what: Situation, times: u64) {
        let counter = &self.0[what as usize];
        counter.set(counter.get() + times);
    }
}

/// Counts rare situations.
#[derive(Debug, Default)]
pub struct Coverage {
    tally: Tally,
    seats: Vec<Seat>,
    live: usize,
    all_dead: bool,
    rotating: Vec<usize>,
}

impl Coverage {
    /// Returns how often each one occurred, also those that did not.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.tally.0.iter().map(Cell::get);
        NAMES.iter().copied().zip(counts).collect()
    }

    pub(crate) fn new(tally: Tally) -> Self {
        Self {
            tally,
            ..Self::default()
        }
    }

    fn count(&self, what: Situation) {
        self.tally.count(what);
    }

    fn add(&self, what: Situation, times: u64) {
        self.tally.add(what, times);
    }

    fn seat(&mut self, node: NodeIndex) -> &mut Seat {
        if self.seats.len() <= node.0 {
            self.seats.resize_with(node.0 + 1, Seat::default);
        }
        &mut self.seats[node.0]
    }

    fn on_sent(&mut self, world: &World, datagram: &Datagram, fate: Fate) {
        if fate == Fate::TooLong {
            self.count(Situation::TooLong);
        }
        if datagram.head[1] == HELLO
            && datagram.provenance == Provenance::Original
            && let (Some(from), Some(to)) = (datagram.sender, datagram.intended)
        {
            let now = world.now();
            self.seat(from).hellos.insert(to, now);
            let back = self.seat(to).hellos.get(&from);
            if back.is_some_and(|&at| now.saturating_since(at) < CROSSING) {
                self.count(Situation::CrossingHandshakes);
            }
        }
    }

    fn on_arrived(&mut self, node: NodeIndex, datagram: &Datagram, opened: bool) {
        let Some(sender) = datagram.sender.filter(|_| datagram.head[1] == SEALED) else {
            return;
        };
        if opened {
            if datagram.provenance != Provenance::Original {
                return;
            }
            let newest = self.seat(node).newest.entry(sender).or_default();
            let overtaken = datagram.number < *newest;
            *newest = datagram.number.max(*newest);
            if overtaken {
                self.count(Situation::FirstComeLate);
            }
            return;
        }
        match datagram.provenance {
            Provenance::Altered => self.count(Situation::AlteredRefused),
            Provenance::Replayed => self.count(Situation::ReplayRefused),
            Provenance::Duplicate => self.count(Situation::DuplicateRefused),
            Provenance::Original | Provenance::Foreign => {}
        }
    }

    fn on_event(&mut self, world: &World, node: NodeIndex, event: &Event) {
        match event {
            Event::MemberJoined(member) => {
                let subject = world.find(member.id);
                let seat = self.seat(node);
                seat.members += 1;
                let dns_failed = std::mem::take(&mut seat.dns_failed);
                let before = subject.and_then(|subject| seat.buried.remove(&subject));
                if dns_failed {
                    self.count(Situation::ResolvedAgain);
                }
                if let Some(before) = before {
                    self.count(Situation::Healed);
                    if member.incarnation > before {
                        self.count(Situation::Rejoined);
                    }
                }
            }
            Event::MemberUpdated(_) => {}
            Event::MemberLeft { member, reason } => {
                let subject = world.find(member.id);
                let lives = subject.is_some_and(|subject| world.process(subject).is_live());
                let seat = self.seat(node);
                seat.members = seat.members.saturating_sub(1);
                if let Some(subject) = subject.filter(|_| lives) {
                    seat.buried.insert(subject, member.incarnation);
                }
                if seat.members == 0 {
                    self.count(Situation::LostEverybody);
                }
                self.count(match (reason, lives) {
                    (LeaveReason::Left, _) => Situation::LeftAndTold,
                    (LeaveReason::Replaced, _) => Situation::Replaced,
                    // Counted when it is put there.
                    (LeaveReason::Quarantined, _) => return,
                    (LeaveReason::Failed, true) => Situation::FalseDeath,
                    (LeaveReason::Failed, false) => Situation::DeathFound,
                });
            }
            Event::QuorumChanged { has_quorum, .. } => {
                let before = self.seat(node).had_quorum.replace(*has_quorum);
                match (before, has_quorum) {
                    (_, false) => self.count(Situation::QuorumLost),
                    (Some(false), true) => self.count(Situation::QuorumRegained),
                    (_, true) => {}
                }
            }
            Event::Ready => self.count(Situation::Ready),
            Event::SendDone {
                result: Err(error), ..
            }
            | Event::RequestFailed { error, .. } => {
                self.on_failure(*error);
            }
            Event::ResolveFailed { .. } => {
                self.seat(node).dns_failed = true;
                self.count(Situation::ResolveFailed);
            }
            Event::Quarantined { .. } => self.count(Situation::Quarantined),
            Event::QuarantineEnded { .. } => self.count(Situation::QuarantineEnded),
            Event::UnknownKey { .. } => self.count(Situation::UnknownKey),
            Event::Rejected { reason, .. } => {
                self.count(Situation::Rejected);
                if *reason == RejectReason::OtherCluster {
                    self.count(Situation::OtherCluster);
                }
            }
            _ => {}
        }
    }

    fn on_failure(&mut self, error: DeliveryError) {
        match error {
            DeliveryError::Timeout => self.count(Situation::Expired),
            DeliveryError::PeerDisconnected => self.count(Situation::Disconnected),
            DeliveryError::OutcomeUnknown => self.count(Situation::OutcomeUnknown),
            DeliveryError::ReplyLost => self.count(Situation::ReplyLost),
            DeliveryError::QueueFull => self.count(Situation::QueueFull),
            DeliveryError::NoQuorum => self.count(Situation::NoQuorum),
            DeliveryError::Leaving => self.count(Situation::SendToLeaver),
            _ => {}
        }
    }

    fn on_command(&mut self, world: &World, node: NodeIndex, command: &Command) {
        match command {
            Command::Send {
                to,
                payload,
                result: Ok(_),
                ..
            } => self.on_given(world, node, *to, payload.len()),
            Command::Request {
                to,
                payload,
                result: Ok(_),
                ..
            } => {
                self.on_given(world, node, *to, payload.len());
            }
            Command::Send {
                result: Err(error), ..
            }
            | Command::Request {
                result: Err(error), ..
            } => match error {
                SendError::QueueFull { .. } => self.count(Situation::QueueFull),
                SendError::UnknownPeer(_) => self.count(Situation::UnknownPeer),
                SendError::Leaving => self.count(Situation::RefusedLeaving),
                _ => {}
            },
            Command::CancelSend(_) | Command::CancelRequest(_) => self.count(Situation::Cancelled),
            Command::Reply { .. }
            | Command::Ignore(_)
            | Command::DrawToken { .. }
            | Command::Lock { .. }
            | Command::Unlock { .. }
            | Command::SetLockTtl { .. }
            | Command::ListLocks { .. }
            | Command::RevokeLock { .. }
            | Command::WatchLock { .. }
            | Command::Leave => {}
        }
    }

    fn on_given(&mut self, world: &World, node: NodeIndex, to: quorate_core::Target, len: usize) {
        if len > ONE_DATAGRAM {
            self.count(Situation::Fragmented);
        }
        let gated = world.process(node).node().is_some_and(|node| !node.has_quorum());
        if to == quorate_core::Target::All && gated {
            self.count(Situation::HeldByGate);
        }
    }

    fn on_fault(&mut self, world: &World, number: usize, kind: FaultKind) {
        let config = world.processes().next().map(|(_, process)| &process.config);
        let Some(config) = config else { return };
        match kind {
            FaultKind::Rotate => self.rotating.push(number),
            FaultKind::Rebind { .. } => self.count(Situation::PathChange),
            FaultKind::Drift { ppm, .. } if ppm.unsigned_abs() > u32::from(config.drift_permille) * 1_000 => {
                self.count(Situation::WildDrift);
            }
            FaultKind::Jump { by, .. } if by > config.heartbeat_timeout => self.count(Situation::LongJump),
            _ => {}
        }
    }

    /// Adds up what a node has counted itself.
    fn collect(&mut self, node: &Node) {
        let stats = node.stats();
        self.add(Situation::Rekey, stats.rekeys);
        self.add(Situation::Suspected, stats.suspicions);
        self.add(Situation::Refuted, stats.refutations);
        self.add(Situation::LateTimers, stats.late_timeouts);
        self.add(Situation::Retransmitted, stats.retransmits);
        self.add(Situation::Busy, stats.busy);
        for (reason, situation) in [
            (DropReason::UnknownSession, Situation::UnknownSession),
            (DropReason::SessionExpired, Situation::SessionExpired),
            (DropReason::BadChallenge, Situation::BadChallenge),
            (DropReason::Unexpected, Situation::Unexpected),
            (DropReason::OtherFlavor, Situation::OtherFlavor),
            (DropReason::ExpiredRequest, Situation::RequestExpired),
            (DropReason::DuplicateMessage, Situation::DuplicateMessage),
            (DropReason::StaleFrame, Situation::StaleFrame),
            (DropReason::OrphanedMessage, Situation::Orphaned),
        ] {
            self.add(situation, stats.dropped(reason));
        }
    }
}

impl Observer for Coverage {
    fn name(&self) -> &'static str {
        "coverage"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Sent { datagram, fate } => self.on_sent(world, datagram, fate),
            Seen::Arrived {
                node,
                datagram,
                opened,
                ..
            } => self.on_arrived(node, datagram, opened),
            Seen::Undelivered { .. } => self.count(Situation::SocketFull),
            Seen::Event { node, event } => self.on_event(world, node, event),
            Seen::Command { node, command } => self.on_command(world, node, command),
            Seen::Started { .. } => {
                self.live += 1;
                if std::mem::take(&mut self.all_dead) {
                    self.count(Situation::AllDead);
                }
            }
            Seen::Stopped { node } => {
                self.live = self.live.saturating_sub(1);
                self.all_dead = self.live == 0;
                // A process that crashed is still there to be looked at.
                if let Some(node) = world.process(node).node() {
                    self.collect(node);
                }
            }
            Seen::Paused { node } => self.seat(node).paused = Some(world.now()),
            Seen::Resumed { node } => {
                let since = self.seat(node).paused.take();
                let timeout = world.process(node).config.heartbeat_timeout;
                if since.is_some_and(|since| world.now().saturating_since(since) > timeout) {
                    self.count(Situation::LongPause);
                }
            }
            Seen::FaultBegan { number, kind } => self.on_fault(world, number, kind),
            Seen::FaultEnded { number } => {
                if let Some(at) = self.rotating.iter().position(|&rotating| rotating == number) {
                    self.rotating.swap_remove(at);
                    self.count(Situation::RotationDone);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, world: &World) -> Result<(), String> {
        for (_, process) in world.processes().filter(|(_, process)| process.ended.is_none()) {
            if let Some(node) = process.node() {
                self.collect(node);
            }
        }
        Ok(())
    }
}
