//! What replicas tell each other.

use super::entry::{Entry, Index, Position, Term};
use super::life::{Group, Life};
use crate::locks::{Answer, Ask};
use alloc::vec::Vec;
use bytes::Bytes;

/// A message in its envelope.
///
/// **SAFETY (addressed lives)** It is for one life only, and about one group only: a life that has ended never
/// answers, and nothing is taken for what another group or another life said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The group that it is about; of a founding, the one that would begin.
    pub group: Group,
    /// Who sent it.
    pub from: Life,
    /// Whom it is for.
    pub to: Life,
    /// What it says.
    pub message: Message,
}

/// What replicas tell each other. Names after Ongaro, "Consensus: bridging theory and practice", 2014.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A founder asks for a vote, or reminds who has voted that it is still there.
    FoundRequest,
    /// A vote for that founder.
    FoundVote {
        /// The voter's floor: no token that it knows of is above.
        floor: u64,
    },
    /// Would you vote for me in this term? Changes nothing at either side (section 9.6).
    PreVote {
        /// The term that would begin.
        term: Term,
        /// Where the asker's log ends.
        last: Position,
    },
    /// The answer.
    PreVoteReply {
        /// The term that would begin, or the answerer's if it is higher.
        term: Term,
        /// Whether it would.
        granted: bool,
    },
    /// Asks for a vote (section 3.4).
    RequestVote {
        /// The candidate's term.
        term: Term,
        /// Where its log ends.
        last: Position,
    },
    /// The answer.
    Vote {
        /// The voter's term.
        term: Term,
        /// Whether it voted for the candidate.
        granted: bool,
    },
    /// Entries, the leader's sign of life, and a quorum round in one (section 3.5).
    Append {
        /// The leader's term.
        term: Term,
        /// What comes before the entries.
        prev: Position,
        /// The entries; often none.
        entries: Vec<Entry>,
        /// What the leader knows to be committed.
        commit: Index,
        /// The newest quorum round that the leader has begun.
        round: u64,
    },
    /// The answer to `Append` and, where complete, `Snapshot`.
    AppendReply {
        /// The follower's term.
        term: Term,
        /// How far its log is known to match the leader's; or where to look next, if the entries did not fit.
        index: Index,
        /// Whether the entries fitted.
        matched: bool,
        /// The round of the message that is answered; 0 from a life that does not hold the group's `Found`.
        round: u64,
        /// Whether this life, before it stored `Found`, had never stored an entry nor asked for a token.
        virgin: bool,
    },
    /// A piece of the state machine, for who lacks entries that the leader no longer has (section 5).
    Snapshot {
        /// The leader's term.
        term: Term,
        /// The last entry that it covers.
        last: Position,
        /// Where this piece begins, in bytes.
        offset: u32,
        /// How long the whole is, in bytes.
        total: u32,
        /// The piece.
        data: Bytes,
        /// The newest quorum round that the leader has begun.
        round: u64,
    },
    /// How much of a snapshot has arrived.
    SnapshotReply {
        /// The follower's term.
        term: Term,
        /// Which snapshot.
        last: Position,
        /// How many bytes have arrived without a gap.
        received: u32,
        /// The round of the message that is answered; 0 from a life that does not hold the group's `Found`.
        round: u64,
    },
    /// Asks the leader for something about locks.
    Ask(Ask),
    /// What it answers.
    Answer(Answer),
    /// Asks the leader for a token.
    Draw {
        /// The asker's number for the request.
        request: u64,
    },
    /// The answer, once it is committed.
    Drawn {
        /// The asker's number for the request.
        request: u64,
        /// The token; `None` if the group grants none now.
        token: Option<u64>,
    },
    /// Campaign at once: the leader leaves (section 3.10).
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
}

impl Message {
    /// The term inside the group that the message speaks of; founding messages have none.
    pub(super) const fn term(&self) -> Option<Term> {
        match *self {
            Self::FoundRequest
            | Self::FoundVote { .. }
            | Self::Ask(_)
            | Self::Answer(_)
            | Self::Draw { .. }
            | Self::Drawn { .. } => None,
            Self::PreVote { term, .. }
            | Self::PreVoteReply { term, .. }
            | Self::RequestVote { term, .. }
            | Self::Vote { term, .. }
            | Self::Append { term, .. }
            | Self::AppendReply { term, .. }
            | Self::Snapshot { term, .. }
            | Self::SnapshotReply { term, .. }
            | Self::TimeoutNow { term } => Some(term),
        }
    }
}
