//! Views of the node for people and for decisions of the application.

use crate::config::{Config, DRIFT_PERMILLE, KeyId, MAX_CLUSTER_SIZE, MAX_TTL, Role};
use crate::consensus::{Group, Life};
use crate::event::FoundingRefusal;
use crate::id::NodeId;
use crate::time::Duration;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::SocketAddr;

/// How sure this node is that a member lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It does not answer at present; still a member.
    Suspect,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Member {
    /// The process.
    pub id: NodeId,
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Its name for people; empty until it is known.
    pub name: String,
    /// Its application's bytes; empty until they are known.
    pub metadata: Bytes,
    /// Whether it counts for quorums.
    pub role: Role,
    /// The newest protocol version it speaks.
    pub version: u8,
    /// How sure this node is that it lives.
    pub state: MemberState,
    /// Its SWIM incarnation: rises when it refutes a suspicion.
    pub incarnation: u32,
}

/// The settings that must agree in a whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Settings {
    /// The expected number of voters; 0 if unset.
    pub cluster_size: u8,
    /// The longest lease.
    pub max_ttl: Duration,
    /// The bound on clock drift, in thousandths.
    pub drift_permille: u16,
    /// Voters above `cluster_size` that may be alive at once.
    pub surge: u8,
    /// Whether observers may take locks.
    pub allow_observers: bool,
}

impl Settings {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            cluster_size: config.cluster_size,
            max_ttl: config.max_ttl,
            drift_permille: config.drift_permille,
            surge: config.surge,
            allow_observers: config.allow_observers,
        }
    }

    /// Whether a cluster may have them: those of a process may say anything.
    pub(crate) fn is_valid(&self) -> bool {
        let quorum = match self.cluster_size {
            0 => 0,
            n => n / 2 + 1,
        };
        self.cluster_size <= MAX_CLUSTER_SIZE
            && self.surge <= self.cluster_size - quorum
            && MAX_TTL.contains(&self.max_ttl)
            && DRIFT_PERMILLE.contains(&self.drift_permille)
    }
}

/// One way in which a process of the same cluster cannot be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuarantineReason {
    /// A setting differs.
    Setting {
        /// The name of the setting.
        name: &'static str,
        /// This node's value (durations in milliseconds, switches as 0 and 1).
        ours: u64,
        /// The other's value.
        theirs: u64,
    },
    /// No protocol version is spoken by both.
    Version {
        /// This node's oldest and newest.
        ours: (u8, u8),
        /// The other's oldest and newest.
        theirs: (u8, u8),
    },
}

impl fmt::Display for QuarantineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, ours, theirs } => write!(f, "{name} is {ours} here and {theirs} there"),
            Self::Version { ours, theirs } => {
                write!(
                    f,
                    "protocol versions {}-{} here and {}-{} there",
                    ours.0, ours.1, theirs.0, theirs.1
                )
            }
        }
    }
}

/// A process of this cluster that cannot be talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// The process.
    pub id: NodeId,
    /// Its address.
    pub addr: SocketAddr,
    /// What differs.
    pub reasons: Vec<QuarantineReason>,
}

/// How many peers use one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUsage {
    /// The name of the key.
    pub key: KeyId,
    /// Whether this node seals with it.
    pub sealing: bool,
    /// Peers whose present session was made under it.
    pub peers: usize,
}

/// The state of a node at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// This process.
    pub id: NodeId,
    /// The cluster's name.
    pub cluster_name: String,
    /// Whether datagrams are sealed with a secret key.
    pub secured: bool,
    /// Whether this node counts for quorums.
    pub role: Role,
    /// Where others reach this node, if that is known yet.
    pub addr: Option<SocketAddr>,
    /// The settings in force: this node's own, or for an observer the cluster's, once it has met it.
    pub settings: Settings,
    /// Whether discovery has tried every seed.
    pub ready: bool,
    /// Whether `leave` was called.
    pub leaving: bool,
    /// Other members that answer.
    pub members_alive: usize,
    /// Other members that do not answer at present.
    pub members_suspect: usize,
    /// Live voters, this node included if it is one.
    pub voters_present: usize,
    /// Voters needed for a quorum; 0 if the gate is disabled.
    pub quorum_size: usize,
    /// Whether the quorum gate is open.
    pub has_quorum: bool,
    /// Open sessions.
    pub sessions: usize,
    /// Processes that cannot be talked to.
    pub quarantined: Vec<Quarantined>,
    /// Which keys the peers use.
    pub key_usage: Vec<KeyUsage>,
    /// Addresses from which an unknown key was seen in the last minute, with its name.
    pub unknown_keys: Vec<(SocketAddr, KeyId)>,
    /// Lifeguard's local health: 0 is well, 8 is worst. Scales this node's own probe timeouts.
    pub health: u8,
    /// This node's SWIM incarnation.
    pub incarnation: u32,
    /// How the group that takes decisions stands.
    pub consensus: ConsensusStatus,
}

/// What a node is for its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsensusRole {
    /// Belongs to none: an observer, or a voter that looks for a group.
    None,
    /// Collects votes for founding one.
    Founder,
    /// Follows the leader without a seat.
    Learner,
    /// Has a seat.
    Follower,
    /// Has a seat and stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// How far the log of a peer is, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Replication {
    /// The peer.
    pub life: Life,
    /// Whether it has a seat.
    pub seated: bool,
    /// Up to which entry it has the log.
    pub matched: u64,
    /// How long ago it last answered.
    pub silent_for: Duration,
}

/// How the group that takes decisions stands, as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsensusStatus {
    /// Whether the group decides without a quorum, as `cluster_size` is not set: its locks are best effort. One member
    /// leads by itself, and when it goes another one takes over, with what it knows of them.
    pub best_effort: bool,
    /// The present life of this node.
    pub life: Life,
    /// What it is for its group.
    pub role: ConsensusRole,
    /// The group.
    pub group: Option<Group>,
    /// The term, 0 without a group.
    pub term: u64,
    /// Who leads, as far as it is known.
    pub leader: Option<NodeId>,
    /// The last entry of the log.
    pub last: u64,
    /// The last entry that is known to be committed.
    pub commit: u64,
    /// The last entry that is applied.
    pub applied: u64,
    /// Who is seated.
    pub seats: Vec<Life>,
    /// Whether the group grants anything.
    pub open: bool,
    /// How long until it does, where this node leads and only waits for that.
    pub grace_left: Option<Duration>,
    /// How far the others are, where this node leads.
    pub peers: Vec<Replication>,
    /// Whether the group has lost its quorum for so long that this node is ready to found another.
    pub orphaned: bool,
    /// Locks, as far as entries are applied here.
    pub locks: LockCounts,
    /// Why nothing can be decided now; `None` if it can, as far as this node knows.
    pub problem: Option<ConsensusProblem>,
}

/// How many locks there are in the group's table, and what this node has of them. Voters have a copy of the table;
/// observers have none, and count none but their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct LockCounts {
    /// Locks that are held or waited for.
    pub locks: usize,
    /// Tokens by which they are held.
    pub held: usize,
    /// Requests that wait for them.
    pub waiting: usize,
    /// Bytes of keys and metadata of all who hold and wait, and 64 for each of them.
    pub bytes: usize,
    /// Locks that this node believes to hold.
    pub own_held: usize,
    /// Requests for locks that this node has open.
    pub own_waiting: usize,
}

/// Why nothing can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsensusProblem {
    /// Fewer voters than needed are ready to found a group.
    TooFewVoters {
        /// How many are, this node included.
        ready: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A group must not be founded.
    Refused(FoundingRefusal),
    /// A group is being founded, or an election is under way.
    InProgress,
    /// Too few seats of the group answer; in a node's health also: too few voters are seen.
    NoQuorum {
        /// How many have answered lately, this node included.
        answering: usize,
        /// How many it takes.
        needed: usize,
    },
    /// The group waits until what an earlier one granted is over.
    Grace,
}
