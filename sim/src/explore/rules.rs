//! Which config shows that a rule is needed.

use super::config::{Config, configs};
use quorate_core::PlantedBug::{self, *};

/// A rule, by the planted bug that leaves it out, and the config within whose bounds that shows.
const RULES: &[(PlantedBug, &str)] = &[
    (MajorityOfFilledSeats, "five"),
    (LifeSurvivesAbandon, "abandoning"),
    (ForgottenProcessReturns, "founding"),
    (TwoSeatsAtOnce, "seats"),
    (RefillWithoutRound, "refill"),
    (FoundWithSurplusSeats, "founding"),
    (FoundOverOccupiedLog, "duel"),
    (VoteWithoutFound, "founding"),
    (FoundCommittedByQuorum, "surge-refill"),
    (GraceLeftOut, "succession"),
    (SkipCountedOnVotes, "succession"),
    (SkipWithNonVirginSeat, "unseated"),
    (SkipOnFilledSeats, "late-seat"),
    (SkipDespiteSurge, "surge-succession"),
    (SkipDespiteObservers, "observers"),
    (VoteTwiceInATerm, "election"),
    (PriorTermCommitted, "earlier-terms"),
    (DuplicateAnswersCounted, "election"),
    (SnapshotLosesOpen, "snapshots"),
    (SnapshotLosesCounter, "snapshots"),
    (AbandonForgetsFloor, "still-clock"),
    (TokenFloorIgnored, "still-clock"),
    (DriftIgnored, "locks-drift"),
    (HolderIgnoresDrift, "locks-drift"),
    (LeaseCountsFromArrival, "locks-grant"),
    (LeaseCountsFromLatest, "locks-grant"),
    (HolderIgnoresLease, "locks-queue"),
    (NewLeaderCutsLeases, "locks-election"),
    (AnswersAfterTheEnd, "locks-grant"),
    (AnswersBeforeOwnTerm, "locks-own-term"),
    (RenewalsWithoutRound, "locks-deposed"),
    (RenewalsExtendNothing, "locks-renewal"),
    (GrantCountsFromLaterSigns, "locks-later-signs"),
    (StaleReleaseFrees, "locks-release"),
    (LapsedBeliefRevives, "locks-renewal"),
    (BeliefOutlivesRelease, "locks-release"),
    (AbandonKeepsBeliefs, "locks-succession"),
];

/// Every rule that a search shows to be needed.
pub fn rules() -> impl Iterator<Item = PlantedBug> {
    RULES.iter().map(|&(bug, _)| bug)
}

/// Returns the config within whose bounds a search finds what goes wrong without a rule. `None` for bugs that no
/// search can show: see docs/simulator.md.
pub fn config_for(bug: PlantedBug) -> Option<Config> {
    let &(_, name) = RULES.iter().find(|&&(rule, _)| rule == bug)?;
    configs().find(|config| config.name == name).cloned()
}

impl Config {
    /// Returns the same bounds for a search without a rule: a process that comes back under its old identity is a matter of
    /// the search, and for some rules it must not drop what only correct replicas ignore. The bug itself has to be
    /// planted besides.
    #[must_use]
    pub fn with(mut self, bug: PlantedBug) -> Self {
        self.same_identity = bug == ForgottenProcessReturns;
        self.second_groups = bug == FoundOverOccupiedLog;
        self.answers_for_earlier = bug == EarlierLivesAnswer;
        self
    }
}
