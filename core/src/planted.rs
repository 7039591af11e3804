//! Classical mistakes, re-introduced at run time to measure whether the simulator catches them.
//!
//! Without the feature `planted-bugs`, which no released crate enables, [`planted`] is a constant `false` and the call
//! sites compile to nothing.

macro_rules! planted_bugs {
    ($($variant:ident $name:literal $about:literal)+) => {
        /// A mistake that can be planted with [`plant`]: at most one at a time, in the nodes that this thread drives.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public with the feature"))]
        #[cfg_attr(not(feature = "planted-bugs"), expect(dead_code, reason = "some are planted by the simulator itself"))]
        pub enum PlantedBug {
            $(#[doc = $about] $variant,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl PlantedBug {
            /// Every bug, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the bug's name in kebab case, as [`str::parse`] takes it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns the mistake in one line.
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$variant => $about,)+
                }
            }
        }
    };
}

planted_bugs! {
    ReplayWindowResetOnRekey "replay-window-reset-on-rekey"
    "A session that a re-key replaced forgets which counters it has received."
    WindowUpdatedBeforeAuthentication "window-updated-before-authentication"
    "The replay window moves to a counter before the datagram that names it is authenticated."
    HeaderNotAuthenticated "header-not-authenticated"
    "Neither the nonce nor the associated data covers the header: a changed counter passes for a new datagram."
    PeerCountedBeforeSealed "peer-counted-before-sealed"
    "M1 alone opens a session and makes its sender a member, before anything sealed came from it."
    ChallengeNotChecked "challenge-not-checked"
    "M1 is answered without looking at its challenge, so that an old one opens a session again."
    PathFollowedWithoutProof "path-followed-without-proof"
    "A peer is written to at the source of its newest datagram, without an echo from there."
    HalfOpenNeverExpires "half-open-never-expires"
    "A handshake that was never completed keeps its place for ever."
    FailedDialKeepsItsPlace "failed-dial-keeps-its-place"
    "An address that did not answer counts as being dialled for ever, and is not dialled again."
    RotationForgetsSessions "rotation-forgets-sessions"
    "A new key ring leaves open sessions under the key that they were made with."
    QuarantineForgotten "quarantine-forgotten"
    "A process in quarantine is let in when it is met again."

    LeaveHonouredForAnother "leave-honoured-for-another"
    "Who declares a member failed says LEAVE for it, and a LEAVE is believed from anybody."
    OldIncarnationOverwritesNew "old-incarnation-overwrites-new"
    "A statement about an older incarnation of a member replaces what is known of the newer one."
    SuspicionNeverRefuted "suspicion-never-refuted"
    "A process that hears that it is suspected or dead says nothing."
    DeadMembersGossipedForEver "dead-members-gossiped-for-ever"
    "News of a departed member is passed on without end."
    LateTimersAccuse "late-timers-accuse"
    "After a pause, silence that this node slept through counts against the others."
    TimersStarvedByInput "timers-starved-by-input"
    "Each datagram puts off all deadlines of the membership, so that a busy node neither beats nor suspects."
    PausedNodeBringsGhosts "paused-node-brings-ghosts"
    "A node that was isolated or paused for long goes on with the members that it knew."
    HealingForgets "healing-forgets"
    "A failed member is forgotten: its session is closed, and neither its address nor its seed is dialled again."
    TombstoneExpiresEarly "tombstone-expires-early"
    "Departures are remembered for two seconds instead of `tombstone_timeout`."
    ProbeNotRelayed "probe-not-relayed"
    "A helper answers that the target is silent, without having probed it."
    RefutedMemberJoinsTwice "refuted-member-joins-twice"
    "A member that refutes a suspicion is reported as joined once more."
    HearsayBeatsQuarantine "hearsay-beats-quarantine"
    "A process in quarantine is a member if anybody says so."
    ReplacedMemberNotReported "replaced-member-not-reported"
    "A member that was replaced at its address vanishes without an event."

    LookupNeverRetried "lookup-never-retried"
    "A name whose first resolution failed is never resolved again."
    AnswerTakenForMembers "answer-taken-for-members"
    "Members that a resolution does not name are evicted."

    GateNeverReleased "gate-never-released"
    "Broadcasts that wait for a quorum are not sent when it comes."
    QuorumNeverLost "quorum-never-lost"
    "A quorum that was reached once counts for ever."

    RequestRunTwice "request-run-twice"
    "A new session makes the receiver forget its epoch, and the sender sends unanswered requests again."
    LostFragmentBlocks "lost-fragment-blocks"
    "The receiver waits for ever for pieces of a message that its sender gave up."
    RequestNeverRetransmitted "request-never-retransmitted"
    "A lost piece of a request is not sent again."
    UnboundedReassembly "unbounded-reassembly"
    "Neither side limits what is held behind a missing piece."
    BackPressureIgnored "back-pressure-ignored"
    "Messages are taken, and more are asked for, while the application's queue is full."
    AcknowledgedButNotQueued "acknowledged-but-not-queued"
    "A message that finds the application's queue full is acknowledged and dropped."
    SmallMessagesOvertake "small-messages-overtake"
    "A message of one piece is delivered at once, ahead of earlier ones that are still missing."
    ReplyMatchedByOrder "reply-matched-by-order"
    "A reply is taken for the answer to the oldest open request."
    DeadlineIgnored "deadline-ignored"
    "Messages and requests are never given up while their target is a member."
    FullQueueDropsSilently "full-queue-drops-silently"
    "A command that finds the send queue full is accepted and forgotten."
    DepartureLeavesCommandsOpen "departure-leaves-commands-open"
    "Commands to a member that goes have no outcome."
    SessionsNeverRekeyed "sessions-never-rekeyed"
    "A session is used until it expires, instead of being re-keyed."
    UnknownKeysReportedEachTime "unknown-keys-reported-each-time"
    "Each datagram under an unknown key is an event."
    LeaveNotAwaited "leave-not-awaited"
    "A leaver is done before its goodbye is sent."
    LeaveWaitsForEver "leave-waits-for-ever"
    "A leaver whose goodbye nobody acknowledges is never done."
    DetailsOfAnother "details-of-another"
    "Who is asked for a member's name and metadata gives its own."
    UpdatesNotReported "updates-not-reported"
    "A change of a member's address, name or metadata is no event."
    GoodbyeCalledFailure "goodbye-called-failure"
    "A member that said goodbye is reported as failed."
    FullLastPieceCut "full-last-piece-cut"
    "A message whose last piece is full loses its last byte."
    LargestMessageRefused "largest-message-refused"
    "A message of exactly the largest size is refused."
    SentNotCounted "sent-not-counted"
    "Datagrams of handshakes are not counted as sent."

    MajorityOfFilledSeats "majority-of-filled-seats"
    "Elections, commits and rounds need a majority of the seats that happen to be filled."
    LifeSurvivesAbandon "life-survives-abandon"
    "A node that abandons its group goes on as the same life."
    EarlierLivesAnswer "earlier-lives-answer"
    "Frames for another life of the same process are taken."
    ForgottenProcessReturns "forgotten-process-returns"
    "A process that restarts has the identity of the one before it, and none of its memory."
    TwoSeatsAtOnce "two-seats-at-once"
    "A seat is changed while the change before is not committed."
    SeatsBeforeOwnTerm "seats-before-own-term"
    "A new leader changes seats before it has committed an entry of its own term."
    RefillWithoutRound "refill-without-round"
    "A seat is filled without asking whether the leader still has a quorum."
    FoundWithSurplusSeats "found-with-surplus-seats"
    "Every voter of a founding is seated, however many there are."
    FoundOverOccupiedLog "found-over-occupied-log"
    "A life that holds a group follows the next founder as well."
    VoteWithoutFound "vote-without-found"
    "A life that holds no group votes inside one."
    RoundsByTheEmpty "rounds-by-the-empty"
    "A life that has not stored the beginning of a group answers its quorum rounds."
    FoundCommittedByQuorum "found-committed-by-quorum"
    "With a surge, the beginning of a group is committed by Q seats."
    GraceLeftOut "grace-left-out"
    "A new group grants at once."
    SkipCountedOnVotes "skip-counted-on-votes"
    "The grace is skipped because all N have voted, before they have stored the beginning."
    SkipWithNonVirginSeat "skip-with-non-virgin-seat"
    "The grace is skipped although a seat has asked for a token before."
    SkipOnFilledSeats "skip-on-filled-seats"
    "The grace is skipped once all seats are filled, by whomever."
    SkipDespiteSurge "skip-despite-surge"
    "The grace is skipped although more than N voters may be alive."
    SkipDespiteObservers "skip-despite-observers"
    "The grace is skipped although observers may hold something."
    VoteTwiceInATerm "vote-twice-in-a-term"
    "A second candidate of the same term gets a vote as well."
    PriorTermCommitted "prior-term-committed"
    "An entry of an earlier term is committed by counting who has it."
    DuplicateAnswersCounted "duplicate-answers-counted"
    "An answer that arrives twice counts for two seats."
    SnapshotLosesOpen "snapshot-loses-open"
    "A snapshot does not say that the group is open."
    SnapshotLosesCounter "snapshot-loses-counter"
    "A snapshot begins the tokens anew."
    HearsayNeverAges "hearsay-never-ages"
    "What others say of a leader is as fresh as the moment at which it is heard."
    RemovedNodeRaisesTerms "removed-node-raises-terms"
    "A member without a seat campaigns for ever, and asks nobody before."
    AbandonForgetsFloor "abandon-forgets-floor"
    "A node that abandons its group forgets which tokens it knew of."
    TokenFloorIgnored "token-floor-ignored"
    "A founder goes by its own wall clock alone."
    CloseWaitInherited "close-wait-inherited"
    "A new leader counts the wait after another group was met from when it stored the entry."
    CloseLeftOut "close-left-out"
    "A group that has met another goes on granting."
    YieldBeforeClose "yield-before-close"
    "A group that yields to another does not wait until that one has stopped granting."
    SurplusVotersIgnored "surplus-voters-ignored"
    "A group is founded although more voters are seen than may be alive."
    OtherSettingsIgnored "other-settings-ignored"
    "A group is founded although a process with other settings is seen."
    ConfirmedLeaderIgnored "confirmed-leader-ignored"
    "A founder is voted for although a leader with a quorum is heard of."
    OrphansStayForEver "orphans-stay-for-ever"
    "A member whose group has lost its quorum for good never abandons it."
    DepartedKeepTheirSeats "departed-keep-their-seats"
    "The seat of a member that failed is never emptied."
    DeposedNeverStepsDown "deposed-never-steps-down"
    "A leader that no quorum answers goes on leading."

    DriftIgnored "drift-ignored"
    "The leader's deadlines leave no room for clocks that drift."
    HolderIgnoresDrift "holder-ignores-drift"
    "A holder counts the whole lease on its own clock."
    LeaseCountsFromArrival "lease-counts-from-arrival"
    "A holder counts its lease from when the answer arrives."
    LeaseCountsFromLatest "lease-counts-from-latest"
    "A holder counts its lease from when it asked last, not from the copy that is answered."
    HolderIgnoresLease "holder-ignores-lease"
    "A holder counts the lease that it wants, not the one that it is given."
    WholeLeaseFromTheQueue "whole-lease-from-the-queue"
    "Who is granted a lock from the queue has it for a whole lease, though it may be dead."
    NewLeaderCutsLeases "new-leader-cuts-leases"
    "A new leader takes a lease for no longer than a waiter's."
    DeadlineMovesBack "deadline-moves-back"
    "A renewal moves the leader's deadline to where a waiter's lease would end, though it was later."
    AnswersAfterTheEnd "answers-after-the-end"
    "A leader renews a lease of which it has appended the end."
    AnswersBeforeOwnTerm "answers-before-own-term"
    "A new leader answers clients before it has applied an entry of its own term."
    RenewalsWithoutRound "renewals-without-round"
    "A leader renews leases without asking whether it still leads."
    RenewalsExtendNothing "renewals-extend-nothing"
    "A leader answers renewals, and does not count them itself."
    RaisePromisedEarly "raise-promised-early"
    "A longer lease is promised before it is committed."
    RevokedLeasesGoOn "revoked-leases-go-on"
    "A lock that was taken from its holder is renewed."
    RevokeFreesAtOnce "revoke-frees-at-once"
    "A lock that is taken is free before its holder has stopped."
    ExpiryPutOffForEver "expiry-put-off-for-ever"
    "A lease whose deadline has passed is given more time, each time."
    SilentWaitersStay "silent-waiters-stay"
    "Who waits and is not heard of any more keeps its place."
    GrantCountsFromLaterSigns "grant-counts-from-later-signs"
    "A grant from the queue counts from signs that came after it was appended."
    StaleReleaseFrees "stale-release-frees"
    "The release of a token that is not held frees another one."
    LateAcquireGrantsAgain "late-acquire-grants-again"
    "A late copy of an acquire that is over is granted."
    RequestsLostInSnapshot "requests-lost-in-snapshot"
    "A snapshot has no memory of requests that are over."
    WokenButNotGranted "woken-but-not-granted"
    "Who waits first is taken from the queue, and gets nothing."
    RetransmissionRequeues "retransmission-requeues"
    "An acquire that is sent again moves to the end of the queue."
    QueueOvertaken "queue-overtaken"
    "Who asks for little that is free gets it before those who wait for more."
    LapsedBeliefRevives "lapsed-belief-revives"
    "A belief that is over goes on when a renewal is answered."
    BeliefOutlivesRelease "belief-outlives-release"
    "A holder believes until its release is answered."
    TakenGrantBelieved "taken-grant-believed"
    "A grant that comes after the lock was taken from its holder is believed."
    PageRepeatsItsCursor "page-repeats-its-cursor"
    "A page of a listing begins with the last row of the one before."
    RelayAnswersItself "relay-answers-itself"
    "Whoever passes renewals on to a leader answers them from its own table."
    BeliefOutlivesLeave "belief-outlives-leave"
    "A node that leaves goes on believing in its locks."
    AbandonKeepsBeliefs "abandon-keeps-beliefs"
    "A node that abandons its group goes on believing in its locks."
    SuccessionForgetsTable "succession-forgets-table"
    "Without a quorum, who takes over from a leader knows of no locks."
    OlderGroupStays "older-group-stays"
    "Without a quorum, two groups that meet both go on."
    MovedBeliefsUntold "moved-beliefs-untold"
    "A holder is not told that the group which took over does not know of its lock."
    FailedOwnersFreed "failed-owners-freed"
    "Locks of a process that counts as failed are free at once."
}

#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: PlantedBug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub use switch::{ParsePlantedBugError, Planted, plant, planted};

#[cfg(feature = "planted-bugs")]
mod switch {
    use super::PlantedBug;
    use core::cell::Cell;
    use core::fmt;
    use core::marker::PhantomData;
    use core::str::FromStr;

    std::thread_local! {
        static PLANTED: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    /// Returns whether this bug is planted on this thread.
    ///
    /// For mistakes that are not the core's own: an adapter makes them.
    #[inline]
    pub fn planted(bug: PlantedBug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants a bug on this thread, or none, until the guard is dropped; then what was planted before is again.
    pub fn plant(bug: Option<PlantedBug>) -> Planted {
        Planted {
            before: PLANTED.replace(bug),
            this_thread: PhantomData,
        }
    }

    /// Keeps a bug planted; see [`plant`].
    #[derive(Debug)]
    #[must_use = "the bug is planted only while this lives"]
    pub struct Planted {
        before: Option<PlantedBug>,
        /// Dropped on another thread it would restore the wrong one.
        this_thread: PhantomData<*const ()>,
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(self.before);
        }
    }

    /// No planted bug has this name. Lists those that there are.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ParsePlantedBugError;

    impl fmt::Display for ParsePlantedBugError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("unknown planted bug; the names are:")?;
            PlantedBug::ALL.iter().try_for_each(|bug| write!(f, " {bug}"))
        }
    }

    impl core::error::Error for ParsePlantedBugError {}

    impl fmt::Display for PlantedBug {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.pad(self.name())
        }
    }

    impl FromStr for PlantedBug {
        type Err = ParsePlantedBugError;

        fn from_str(name: &str) -> Result<Self, Self::Err> {
            let found = Self::ALL.iter().copied().find(|bug| bug.name() == name);
            found.ok_or(ParsePlantedBugError)
        }
    }
}

/// Runs a scenario as it is and with a bug planted, and returns what it observed each time.
#[cfg(all(test, feature = "planted-bugs"))]
pub(crate) fn without_and_with<T>(bug: PlantedBug, scenario: impl Fn() -> T) -> (T, T) {
    let without = scenario();
    let _planted = plant(Some(bug));
    (without, scenario())
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString as _;

    #[test]
    fn nothing_is_planted_until_it_is_asked_for() {
        let any = || PlantedBug::ALL.iter().any(|&bug| planted(bug));
        assert!(!any());
        {
            let _outer = plant(Some(PlantedBug::LateTimersAccuse));
            assert!(planted(PlantedBug::LateTimersAccuse) && !planted(PlantedBug::DeadlineIgnored));
            {
                let _inner = plant(None);
                assert!(!any());
            }
            assert!(planted(PlantedBug::LateTimersAccuse));
            let elsewhere = std::thread::spawn(|| planted(PlantedBug::LateTimersAccuse));
            assert!(!elsewhere.join().unwrap());
        }
        assert!(!any());
    }

    #[test]
    fn names_are_distinct_and_read_back() {
        let names: BTreeSet<_> = PlantedBug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), PlantedBug::ALL.len());
        for &bug in PlantedBug::ALL {
            assert_eq!(bug.to_string().parse(), Ok(bug));
            assert!(bug.name().bytes().all(|b| b == b'-' || b.is_ascii_lowercase()));
            assert!(bug.describe().ends_with('.') && !bug.describe().contains('\n'));
        }
        let error = "no-such-bug".parse::<PlantedBug>().unwrap_err().to_string();
        assert!(
            error.contains("replay-window-reset-on-rekey")
                && error.contains("departure-leaves-commands-open")
        );
    }
}
