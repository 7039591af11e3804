//! The owner of a replica: everything that is a matter of time, of liveness, and of who is there.
//!
//! Nothing in here can make two groups decide side by side: the replica does what it is told only where that is safe.

mod announce;
mod conflict;
mod founding;
mod leading;
mod leaving;
mod locks;
mod orphan;
mod relay;
mod succession;
#[cfg(test)]
mod testing;
mod tokens;
mod view;

use super::codec;
use super::life::{Group, Life, Rules, millis};
use super::message::{Envelope, Message};
use super::replica::{Hints, Output, Replica, Role};
use crate::config::{Config, Role as Eligibility};
use crate::event::{AbandonReason, Event, FoundingRefusal, LeaveReason};
use crate::id::NodeId;
use crate::locks::{Client, ClientOutput};
use crate::outbox::{BadFrame, Context};
use crate::rng::{Rng, Stream};
use crate::status::Settings;
use crate::time::{Duration, Instant, WallTime, earliest};
use crate::wire::kind;
use alloc::collections::{BTreeMap, BTreeSet};
use announce::{Announcement, Sightings};
use founding::Standing;
use leading::Reign;
use leaving::Leaving;
use tokens::Draws;

/// What the rest of the node knows, as far as founding a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Whether all seeds were tried, and who answered was asked for its members.
    pub(crate) ready: bool,
    /// How many voters are there, this node included.
    pub(crate) voters: usize,
    /// Somebody who belongs to this cluster and cannot be talked to.
    pub(crate) quarantined: Option<NodeId>,
    /// Whether the leader of the group is a member, where [`Consensus::depends_on`] one.
    pub(crate) leader_present: bool,
}

/// Somebody that there is, or lately was, a session with.
#[derive(Debug)]
struct Peer {
    voter: bool,
    open: bool,
    said: Option<(Instant, Announcement)>,
    /// Whether its wall clock is far from this node's.
    skewed: bool,
}

/// What others were told of last: a change is an event, and is announced at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    group: Option<Group>,
    term: u64,
    leader: Option<Life>,
    leads: bool,
    committed: bool,
    gate: Option<bool>,
    fresh: bool,
    seated: bool,
}

/// The consensus part of a node.
#[derive(Debug)]
pub(crate) struct Consensus {
    replica: Replica,
    rng: Rng,
    started: Instant,
    wall: WallTime,
    around: Surroundings,
    peers: BTreeMap<NodeId, Peer>,
    /// Processes that are gone for good.
    dead: BTreeSet<NodeId>,
    sightings: Sightings,
    known: Known,
    /// The next announcement.
    announce_at: Instant,
    /// Where it begins among those to whom it goes in turns.
    turn: usize,
    /// When this life campaigns, or stands as a founder.
    election_at: Instant,
    /// When the leader was last heard of.
    leader_heard: Option<Instant>,
    /// A wait for the next `Open` began in the present call, or in the last one.
    wait_began: bool,
    /// The founder that this life has voted for, and when it was last heard of.
    bound: Option<(Life, Instant)>,
    standing: Option<Standing>,
    /// Whether it stood in vain: others have their turn before it stands again.
    stood: bool,
    refused: Option<FoundingRefusal>,
    reign: Option<Reign>,
    /// Until when the founding of the group has to be complete.
    found_by: Option<Instant>,
    /// How much longer, from when that was noticed to be over.
    found_more: Option<Duration>,
    /// Since when this life belongs to its group.
    joined: Instant,
    /// When a leader with a quorum behind it was last known of, or the group was joined.
    led: Instant,
    /// Since when enough others are ready for a new group.
    doomed_since: Option<Instant>,
    met: conflict::Met,
    leaving: Option<Leaving>,
    draws: Draws,
    client: Client,
    routes: relay::Routes,
    /// Who has gone and is known to the table of locks.
    gone: BTreeMap<NodeId, locks::Gone>,
    /// Something happened that may have made something else due.
    soon: bool,
    wake: Option<Instant>,
}

impl Consensus {
    pub(crate) fn new(me: NodeId, config: &Config, seed: &[u8; 32], now: Instant, wall: WallTime) -> Self {
        let rules = Rules::of(&Settings::of(config), config);
        let mut consensus = Self {
            replica: Replica::new(rules, me, config.role == Eligibility::Voter),
            rng: Rng::new(seed, Stream::Consensus),
            started: now,
            wall,
            around: Surroundings {
                ready: false,
                voters: 0,
                quarantined: None,
                leader_present: true,
            },
            peers: BTreeMap::new(),
            dead: BTreeSet::new(),
            sightings: Sightings::default(),
            known: Known::default(),
            announce_at: now,
            turn: 0,
            election_at: now,
            leader_heard: None,
            wait_began: false,
            bound: None,
            standing: None,
            stood: false,
            refused: None,
            reign: None,
            found_by: None,
            found_more: None,
            joined: now,
            led: now,
            doomed_since: None,
            met: conflict::Met::default(),
            leaving: None,
            draws: Draws::default(),
            client: Client::default(),
            routes: relay::Routes::default(),
            gone: BTreeMap::new(),
            soon: false,
            wake: None,
        };
        consensus.go_by(&Settings::of(config), config);
        consensus.rearm(now, config);
        consensus
    }

    /// An observer adopts the settings of the cluster. With those it may have to go without locks from now on.
    pub(crate) fn adopt(&mut self, cx: &mut Context<'_>, settings: &Settings) {
        self.go_by(settings, cx.config);
        if !self.may_draw(self.replica.life().node) {
            let mut out = ClientOutput::default();
            self.client.bar(cx.now, &mut out);
            locks::tell(cx, out.events);
            self.rearm(cx.now, cx.config);
        }
    }

    fn go_by(&mut self, settings: &Settings, config: &Config) {
        self.draws.adopt(settings);
        let rules = Rules::of(settings, config);
        let max_ttl = millis(settings.max_ttl);
        self.client
            .adopt(max_ttl, settings.drift_permille, rules.is_best_effort());
        if *self.replica.rules() != rules {
            self.replica.set_rules(rules);
        }
    }

    /// A session with a peer is open.
    pub(crate) fn peer_up(&mut self, cx: &mut Context<'_>, id: NodeId, role: Eligibility) {
        let peer = self.peers.entry(id).or_insert(Peer {
            voter: false,
            open: false,
            said: None,
            skewed: false,
        });
        peer.open = true;
        peer.voter = role == Eligibility::Voter;
        // It may wait for nothing else than to hear that there is a group.
        self.announce_to(cx, id);
        self.rearm(cx.now, cx.config);
    }

    /// The last session with a peer is gone.
    pub(crate) fn peer_down(&mut self, cx: &mut Context<'_>, id: NodeId) {
        self.owner_out_of_reach(cx.now, id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.open = false;
            if peer.said.is_none() {
                self.peers.remove(&id);
            }
            self.soon = true;
            self.rearm(cx.now, cx.config);
        }
    }

    /// A process is a member no longer.
    pub(crate) fn member_left(&mut self, cx: &mut Context<'_>, id: NodeId, reason: LeaveReason) {
        self.owner_gone(cx.now, id, reason);
        if !reason.is_final() {
            return;
        }
        let seats = self.replica.seats();
        if seats.is_some_and(|seats| seats.iter().any(|seat| seat.node == id)) {
            self.dead.insert(id);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.said = None;
        }
        self.soon = true;
        self.rearm(cx.now, cx.config);
    }

    /// A process is a member, perhaps again: what passed for replaced was only reached elsewhere.
    pub(crate) fn member_joined(&mut self, id: NodeId) {
        self.dead.remove(&id);
        self.gone.remove(&id);
    }

    /// Takes note of what the rest of the node knows.
    pub(crate) fn look(&mut self, cx: &mut Context<'_>, around: Surroundings) {
        if self.around != around {
            self.around = around;
            self.soon = true;
            self.rearm(cx.now, cx.config);
        }
    }

    /// Handles one frame of kind 0x40 to 0x51 from a peer with an open session.
    pub(crate) fn handle_frame(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        kind: u8,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let voter = self.peers.get(&from).is_some_and(|peer| peer.voter);
        if kind == kind::STATUS {
            let announcement = Announcement::read(from, body).ok_or(BadFrame)?;
            self.heard(cx, announcement);
        } else if kind == kind::RELAY {
            self.on_relay(cx, from, body)?;
        } else if kind == kind::RELAYED {
            // SAFETY (observers): nothing that they say counts, nor what they say that others said.
            if voter {
                self.on_relayed(cx, from, body)?;
            }
        } else {
            let me = self.replica.life();
            let envelope = codec::read_envelope(from, me.node, kind, body).ok_or(BadFrame)?;
            let client = matches!(envelope.message, Message::Draw { .. } | Message::Ask(_));
            // SAFETY (observers): they hold no seat, and nothing that they say counts. They may ask.
            if voter || client {
                self.receive(cx, &envelope);
            }
        }
        self.after(cx);
        Ok(())
    }

    fn receive(&mut self, cx: &mut Context<'_>, envelope: &Envelope) {
        match envelope.message {
            Message::Draw { .. } | Message::Ask(_) if !self.may_draw(envelope.from.node) => return,
            Message::Answer(_) => self.client.heard_from(envelope.from),
            _ => {}
        }
        self.take(cx, envelope);
    }

    fn take(&mut self, cx: &mut Context<'_>, envelope: &Envelope) {
        let now = cx.now;
        let asks = matches!(envelope.message, Message::Draw { .. } | Message::Ask(_));
        if (asks && self.hands_over()) || self.is_outranked(now, cx.config, envelope) {
            return;
        }
        let founding = envelope.message == Message::FoundRequest;
        let hints = Hints {
            fresh: founding && self.would_vote_for(cx, envelope.from),
            leader_heard: self
                .leader_heard
                .is_some_and(|at| now - at < cx.config.election_timeout),
        };
        let before = self.replica.term();
        let mut out = Output::default();
        self.replica.receive(now, envelope, hints, &mut out);
        if self.replica.group() == Some(envelope.group) {
            match envelope.message {
                Message::Append { .. } | Message::Snapshot { .. }
                    if self.replica.leader() == Some(envelope.from) =>
                {
                    (self.leader_heard, self.led) = (Some(now), now);
                    self.election_at = now + self.election_timeout(cx.config);
                }
                Message::AppendReply { term, .. } | Message::SnapshotReply { term, .. } if term >= before => {
                    self.answered(now, envelope.from);
                    self.soon |= self.hands_over();
                }
                _ => {}
            }
        }
        for sent in &out.sends {
            match sent.message {
                Message::FoundVote { .. } => {
                    self.standing = None;
                    self.bound = Some((sent.to, now));
                }
                Message::Vote { granted: true, .. } => {
                    self.election_at = now + self.election_timeout(cx.config);
                }
                _ => {}
            }
        }
        if let Message::FoundVote { .. } = envelope.message {
            self.voted(now, envelope);
        }
        self.carry_out(cx, out);
    }

    /// Sends what the replica wants sent, and tells of tokens.
    fn carry_out(&mut self, cx: &mut Context<'_>, out: Output) {
        for envelope in &out.sends {
            let kind = codec::kind_of(&envelope.message);
            cx.send(envelope.to.node, kind, |buf| codec::put_envelope(buf, envelope));
            self.send_around(cx, envelope);
        }
        for drawn in out.drawn {
            self.drawn(cx, drawn);
        }
        let mut told = ClientOutput::default();
        for (group, answer) in &out.answers {
            self.client.answered(cx.now, *group, answer, &mut told);
        }
        locks::tell(cx, told.events);
        if self.replica.wants_round()
            && let Some(reign) = &mut self.reign
        {
            // At the end of this pass: many renewals share one round.
            reign.beat_at = cx.now;
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.wake.is_none_or(|wake| wake > cx.now) {
            return;
        }
        self.soon = false;
        // **SAFETY (grace)** The clock was read before the call in which the entry was made, maybe long before: by the
        // reading for this call the entry was there.
        if core::mem::take(&mut self.wait_began) {
            self.replica.wait_from(cx.now);
        }
        self.sightings.expire(cx.now, cx.config);
        self.peers.retain(|_, peer| {
            let window = cx.config.heartbeat_timeout;
            peer.said.take_if(|(at, _)| cx.now - *at >= window);
            peer.open || peer.said.is_some()
        });
        if self.replica.rules().is_best_effort() {
            self.meet_others(cx);
        }
        match self.replica.role() {
            None => self.found(cx),
            Some(Role::Leader(_)) => self.lead(cx),
            Some(_) => self.follow(cx),
        }
        if !self.replica.rules().is_best_effort() {
            self.settle_conflicts(cx);
            self.consider_abandoning(cx);
        }
        self.draws_due(cx);
        self.client_due(cx);
        self.leases_due(cx);
        self.leave_due(cx);
        self.flush(cx);
        self.after(cx);
        if self.announce_at <= cx.now {
            self.forget_others();
            self.announce(cx);
        }
        self.rearm(cx.now, cx.config);
    }

    /// A follower whose leader is silent campaigns; without a quorum, one whose leader is gone takes over.
    fn follow(&mut self, cx: &mut Context<'_>) {
        if self.is_undecided_for_too_long(cx.now) {
            return self.abandon(cx, AbandonReason::NotFounded);
        }
        if self.replica.rules().is_best_effort() {
            return self.take_over(cx);
        }
        if self.election_at > cx.now {
            return;
        }
        self.election_at = cx.now + self.election_timeout(cx.config);
        let mut out = Output::default();
        self.replica.pre_campaign(cx.now, &mut out);
        self.carry_out(cx, out);
    }

    /// Whether the beginning of the group was not decided in time. Half of that time begins only where the other half was
    /// noticed to be over: who stood still has not heard yet what the others had to say.
    fn is_undecided_for_too_long(&mut self, now: Instant) -> bool {
        if self.found_by.is_none_or(|by| by > now) {
            return false;
        }
        let more = self.found_more.take();
        self.found_by = more.map_or(self.found_by, |more| Some(now + more));
        more.is_none()
    }

    /// Tells the peers of a leader what is new, once for all that came in at the same time.
    fn flush(&mut self, cx: &mut Context<'_>) {
        let mut out = Output::default();
        self.replica.flush(cx.now, &mut out);
        self.carry_out(cx, out);
    }

    /// Gives the group up, and goes on as a new life. What it granted ends first.
    fn abandon(&mut self, cx: &mut Context<'_>, reason: AbandonReason) {
        let Some(group) = self.replica.group() else { return };
        self.draws.forget(cx);
        // Without a quorum they move to the next group.
        if !self.replica.rules().is_best_effort() {
            self.end_beliefs(cx, reason);
        }
        cx.events.push_back(Event::GroupAbandoned { group, reason });
        cx.stats.groups_abandoned += 1;
        self.replica.abandon();
        self.bound = None;
        self.election_at = cx.now + self.election_timeout(cx.config);
        self.after(cx);
    }

    /// Notices what has changed, and tells of it.
    fn after(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let known = Known {
            group: self.replica.group(),
            term: self.replica.term(),
            leader: self.replica.leader(),
            leads: self.replica.leadership().is_some(),
            committed: self.replica.commit() > 0,
            gate: self.replica.machine().and_then(|machine| machine.gate()),
            fresh: self.is_fresh(now, cx.config),
            seated: self.replica.is_seated(),
        };
        let before = core::mem::replace(&mut self.known, known);
        if before.group != known.group {
            (self.joined, self.led) = (now, now);
            self.dead.clear();
            self.standing = None;
            self.leader_heard = None;
            self.doomed_since = None;
            self.met = conflict::Met::default();
            self.found_more = known.group.map(|_| self.election_timeout(cx.config));
            self.found_by = self.found_more.map(|more| now + more);
            self.election_at = now + self.election_timeout(cx.config);
        }
        if known.committed {
            self.found_by = None;
        }
        if known.fresh && !before.fresh {
            self.stood = false;
            self.election_at = now + self.election_timeout(cx.config);
        }
        if known.leads && (!before.leads || before.term != known.term || before.group != known.group) {
            self.begin_reign(now, cx.config);
        } else if !known.leads {
            self.reign = None;
        }
        if (before.leader, before.term) != (known.leader, known.term) && before.leader != known.leader {
            cx.events.push_back(Event::LeaderChanged {
                leader: known.leader.map(|leader| leader.node),
                term: known.term,
            });
        }
        let told = |known: &Known| (known.group, known.leads, known.committed, known.gate, known.fresh);
        if told(&before) != told(&known) {
            // Who waits for it should not wait for the next regular announcement.
            self.announce_at = self.announce_at.min(now);
        }
        if before != known {
            self.soon = true;
        }
        self.rearm(now, cx.config);
    }

    /// Forgets when those were heard of who have no part in the group any more.
    fn forget_others(&mut self) {
        let Some(seats) = self.replica.seats() else { return };
        self.dead.retain(|&id| seats.iter().any(|seat| seat.node == id));
        if let (Some(reign), Some(leadership)) = (&mut self.reign, self.replica.leadership()) {
            reign.forget_others(leadership);
        }
    }

    /// Draws an election timeout: one to two times the configured one.
    fn election_timeout(&mut self, config: &Config) -> Duration {
        let base = config.election_timeout;
        base + Duration::from_nanos(self.rng.below(base.as_nanos() as u64))
    }

    /// Works out when something is due next.
    fn rearm(&mut self, now: Instant, config: &Config) {
        let soon = self.soon || self.replica.has_unsent();
        let mut wake = Some(if soon { now } else { self.announce_at });
        wake = earliest(wake, self.found_by);
        wake = earliest(wake, self.draws.next());
        wake = earliest(wake, self.client.poll_timeout());
        wake = earliest(wake, self.leases_timeout());
        wake = earliest(wake, self.owners_due());
        if self.known.gate != Some(true) {
            wake = earliest(wake, self.replica.opens_at().map(|at| at.max(now)));
        }
        wake = earliest(wake, self.leaving.as_ref().map(Leaving::next));
        let role = match self.replica.role() {
            None => self.founding_due(now, config),
            Some(Role::Leader(_)) => self.reign.as_ref().map(|reign| reign.beat_at),
            // Without a quorum nobody is elected.
            Some(_) if self.replica.rules().is_best_effort() => None,
            Some(_) => self.replica.is_seated().then_some(self.election_at),
        };
        self.wake = earliest(wake, role);
    }

    /// When `handle_timeout` wants to be called.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Returns the replica.
    #[cfg(feature = "simulation")]
    pub(crate) const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Returns what a peer said lately.
    fn said(&self, now: Instant, config: &Config, id: NodeId) -> Option<&Announcement> {
        let (at, said) = self.peers.get(&id)?.said.as_ref()?;
        (now - *at < config.heartbeat_timeout).then_some(said)
    }

    /// Returns what all voters said lately, each of itself.
    fn voters_said<'a>(
        &'a self,
        now: Instant,
        config: &'a Config,
    ) -> impl Iterator<Item = (&'a Peer, &'a Announcement)> {
        self.peers
            .values()
            .filter(|peer| peer.voter)
            .filter_map(move |peer| {
                let (at, said) = peer.said.as_ref()?;
                (now - *at < config.heartbeat_timeout).then_some((peer, said))
            })
    }
}
