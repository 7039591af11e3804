//! Counters. Nothing is lost silently: what is dropped is counted here by reason.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why something was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// Every reason, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the reason's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }

        const REASONS: usize = DropReason::ALL.len();
    };
}

drop_reasons! {
    /// A datagram too short, too long, or of no known kind.
    Malformed,
    /// A datagram of another flavor: secured meets insecure.
    OtherFlavor,
    /// A HELLO under a key that is not in the ring.
    UnknownKey,
    /// A handshake datagram whose authentication failed.
    BadHandshake,
    /// A challenge that is not (or no longer) this node's.
    BadChallenge,
    /// More handshake openings than `challenges_per_second`.
    ChallengeRate,
    /// More half-open handshakes than `max_half_open`.
    HalfOpenFull,
    /// A sealed datagram for a session that does not exist.
    UnknownSession,
    /// A sealed datagram whose authentication failed.
    BadSeal,
    /// A sealed datagram whose counter was seen before or is too old.
    Replayed,
    /// A sealed datagram of a session past its limit of age or count.
    SessionExpired,
    /// A handshake answer that nothing waits for.
    Unexpected,
    /// A datagram of this node's own.
    Reflected,
    /// A process of a cluster with another name.
    OtherCluster,
    /// A frame of an unknown type, skipped.
    UnknownFrame,
    /// A frame whose body is not what its type says, or a frame cut off by the end of its datagram.
    MalformedFrame,
    /// A frame from a process that is quarantined.
    Quarantined,
    /// A frame that belongs to state that no longer exists.
    StaleFrame,
    /// Something received beyond the window or the room that the sender was given.
    BeyondWindow,
    /// A message that was received before.
    DuplicateMessage,
    /// A received request whose time was over before the application took it.
    ExpiredRequest,
    /// An acknowledged message that the application had not taken when its sender went, beyond what is kept of those.
    OrphanedMessage,
    /// Word to a caller that its reply is lost, where too many of those were under way.
    ReplyDropped,
    /// A message from a process that is no member.
    NotAMember,
    /// An outgoing frame beyond `outbox_bytes`.
    OutboxFull,
    /// A handshake datagram beyond what may wait to be sent.
    TransmitFull,
    /// An outgoing frame for a peer that cannot be reached.
    NoRoute,
    /// A new member beyond `max_members`.
    MembersFull,
    /// An address to dial beyond `max_candidates`.
    CandidatesFull,
    /// A session that was closed to make room for a new one.
    SessionEvicted,
    /// A record of a departed member that was forgotten to make room.
    TombstoneEvicted,
    /// An outgoing datagram that the system refused to send.
    SendError,
}

/// Counters since the start of the node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams handed to the node.
    pub datagrams_received: u64,
    /// Bytes of those.
    pub bytes_received: u64,
    /// Sealed datagrams among them that were authentic and new. One that was altered, or received before, never counts.
    pub datagrams_opened: u64,
    /// Datagrams handed out by the node.
    pub datagrams_sent: u64,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// Handshakes completed, as either side.
    pub handshakes: u64,
    /// Sessions re-keyed.
    pub rekeys: u64,
    /// Messages, requests and replies handed to peers for the first time.
    pub messages_sent: u64,
    /// Messages, requests and replies received completely.
    pub messages_received: u64,
    /// Messages, requests and replies that this node refused to send, for each member whose queue was full, or once for
    /// all: whoever asked was given an error, unless it did not want to know.
    pub messages_refused: u64,
    /// Pieces of messages sent again.
    pub retransmits: u64,
    /// Answers to a peer that its message has to wait, because the application reads too slowly.
    pub busy: u64,
    /// Members that were suspected by this node itself.
    pub suspicions: u64,
    /// Times this node learned that it was suspected or declared failed, and refuted it.
    pub refutations: u64,
    /// Times the timers ran over 100 ms late.
    pub late_timeouts: u64,
    /// Groups that this node has founded.
    pub groups_founded: u64,
    /// Groups that this node has abandoned.
    pub groups_abandoned: u64,
    /// Other groups with a quorum that were met.
    pub conflicts: u64,
    /// Locks that this node was granted.
    pub locks_granted: u64,
    /// Times a lease of this node went on.
    pub locks_renewed: u64,
    /// Locks that this node gave back.
    pub locks_released: u64,
    /// Locks that this node lost: to the end of a lease, to somebody who took it, or with its group. One that was given
    /// back, but taken up by the node only after the end of the lease, is among them.
    pub locks_lost: u64,
    /// Times no renewal was answered for two thirds of a lease.
    pub locks_at_risk: u64,
    /// Requests for locks that were refused, not granted in time, or given up; lists and forced releases that were not
    /// answered, or given up.
    pub lock_requests_failed: u64,
    drops: Drops,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Drops([u64; REASONS]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; REASONS])
    }
}

impl Stats {
    /// Returns how many things were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        // The array has one place for each variant.
        self.drops.0[reason as usize]
    }

    /// Returns the reasons that occurred, with their counts.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.dropped(reason)))
            .filter(|&(_, count)| count > 0)
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.drops.0[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut stats = Stats::default();
        for (i, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, i);
            stats.drop(reason);
        }
        assert!(stats.drops().all(|(_, count)| count == 1));
        assert_eq!(stats.drops().count(), REASONS);
        assert_eq!(DropReason::Replayed.name(), "Replayed");
    }
}
