//! Each planted bug takes away something that a trace shows.

use super::{read, script};
use crate::planted::{PlantedBug, without_and_with};

/// A bug, a trace, and lines in it that are there no more.
const ROWS: &[(PlantedBug, &str, &str)] = &[
    (
        PlantedBug::MajorityOfFilledSeats,
        "one_change",
        "settle\n  b: log 1:4\nround a\n  3\n",
    ),
    (
        PlantedBug::LifeSurvivesAbandon,
        "abandon",
        "  c: life c.1, group none",
    ),
    (
        PlantedBug::EarlierLivesAnswer,
        "addressed",
        "deliver\n  a>b Append\n  a>c Append\n",
    ),
    (
        PlantedBug::TwoSeatsAtOnce,
        "one_change",
        "round a\n  2\nempty a e\n  no\n",
    ),
    (
        PlantedBug::SeatsBeforeOwnTerm,
        "change_needs_own_term",
        "round b\n  1\nempty b e\n  no\n",
    ),
    (
        PlantedBug::RefillWithoutRound,
        "refill",
        "round a\n  1\nfill a d\n  no\n",
    ),
    (
        PlantedBug::FoundWithSurplusSeats,
        "surplus_voters",
        "leads, log 1:1, seats a b c\n",
    ),
    (
        PlantedBug::FoundWithSurplusSeats,
        "found_refused",
        "Found(a/1 seats a b c d base 0)\ndeliver\n  a>b Append\nforge",
    ),
    (
        PlantedBug::FoundOverOccupiedLog,
        "found_refused",
        "deliver\n  c>b Append\nforge a>c",
    ),
    (
        PlantedBug::VoteWithoutFound,
        "five_with_surge",
        "deliver b>d\n  b>d RequestVote\n#",
    ),
    (
        PlantedBug::RoundsByTheEmpty,
        "rounds_of_the_empty",
        "round b\n  1\n",
    ),
    (
        PlantedBug::RoundsByTheEmpty,
        "rounds_of_the_empty_by_snapshot",
        "round b\n  1\n",
    ),
    (
        PlantedBug::FoundCommittedByQuorum,
        "five_with_surge",
        "  commit: 0\n",
    ),
    (
        PlantedBug::GraceLeftOut,
        "founding_with_one_missing",
        "  in 30000 ms\nopen a\n  no\n",
    ),
    (
        PlantedBug::SkipCountedOnVotes,
        "no_skip_unacknowledged",
        "opens a\n  in 30000 ms\n",
    ),
    (
        PlantedBug::SkipWithNonVirginSeat,
        "no_skip",
        "opens a\n  in 30000 ms\n",
    ),
    (
        PlantedBug::SkipOnFilledSeats,
        "founding_with_one_missing",
        "opens a\n  in 30000 ms\ntick",
    ),
    (
        PlantedBug::SkipDespiteSurge,
        "no_skip_surge",
        "opens a\n  in 30000 ms\n",
    ),
    (
        PlantedBug::SkipDespiteObservers,
        "no_skip_observers",
        "opens a\n  in 30000 ms\n",
    ),
    (
        PlantedBug::VoteTwiceInATerm,
        "votes",
        "+ a>c [a/1] Vote term 2 no\n",
    ),
    (PlantedBug::PriorTermCommitted, "commit_own_term", "  commit: 1\n"),
    (PlantedBug::DuplicateAnswersCounted, "duplicates", "  commit: 1\n"),
    (
        PlantedBug::SnapshotLosesOpen,
        "snapshot_pieces",
        "b: group a/1, term 1, follows a, log 1:5, snapshot 1:5, entries from 6, commit 5, seats a, gate open",
    ),
    (
        PlantedBug::SnapshotLosesCounter,
        "snapshot_pieces",
        "gate open, floor 2^32+3\n    + b>a",
    ),
    (
        PlantedBug::RemovedNodeRaisesTerms,
        "removed",
        "precampaign c\ncampaign c\n",
    ),
    (
        PlantedBug::AbandonForgetsFloor,
        "abandon",
        "  floor: 2^32+20480002\n",
    ),
    (PlantedBug::TokenFloorIgnored, "abandon", "base 2^32+20480002)\n"),
    (
        PlantedBug::CloseWaitInherited,
        "close",
        "opens b\n  in 30000 ms\n",
    ),
];

#[test]
fn each_bug_takes_something_away() {
    for &(bug, trace, lines) in ROWS {
        let shows = || script::run(&read(trace)).contains(lines);
        assert_eq!(without_and_with(bug, shows), (true, false), "{bug} in {trace}");
    }
}
