//! Who is in the cluster: joining, failure detection, gossip, leaving, and finding each other again.
//!
//! Sessions come and go under this part; [`Membership::peer_up`] and [`Membership::peer_down`] tell it which are open,
//! and say nothing about who is a member. A process becomes a member when its JOIN arrives or when another member
//! speaks of it, and stops being one when it leaves, fails, is put in quarantine, or another process answers at its
//! address.

mod contact;
mod details;
mod detector;
mod exchange;
mod gossip;
mod heal;
mod join;
mod leave;
mod quarantine;
mod record;
mod relay;
mod suspicion;
mod table;
#[cfg(test)]
mod tests;
mod timers;

use crate::config::{Config, Role};
use crate::event::{Event, LeaveReason};
use crate::id::NodeId;
use crate::id_map::IdMap;
use crate::outbox::{BadFrame, Context};
use crate::planted::{PlantedBug, planted};
use crate::rng::{Rng, Stream};
use crate::stats::DropReason;
use crate::status::{Member, MemberState};
use crate::time::{Duration, Instant};
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use crate::wire::{PROTOCOL_VERSIONS, canonical, kind};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use record::{Record, State};
use table::{Entry, Table};
use timers::{Timer, Timers};

/// How late timers may run before silence stops being evidence against others.
const LATE: Duration = Duration::from_millis(100);
/// Actions that may wait to be taken.
const MAX_ACTIONS: usize = 64;

/// What membership asks of the facade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open a session to this address.
    Dial {
        addr: SocketAddr,
        /// Who is thought to be there.
        expect: Option<NodeId>,
    },
}

/// Where a record comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// News from this peer.
    Gossip(NodeId),
    /// A page of all that this peer knows; `relay` if others here may not know it.
    Digest { from: NodeId, relay: bool },
}

impl Source {
    const fn sender(self) -> NodeId {
        match self {
            Self::Gossip(from) | Self::Digest { from, .. } => from,
        }
    }

    const fn is_news(self) -> bool {
        match self {
            Self::Gossip(_) => true,
            Self::Digest { relay, .. } => relay,
        }
    }
}

/// An open session.
#[derive(Debug)]
struct Peer {
    addr: SocketAddr,
    /// As agreed in the handshake.
    role: Role,
    /// Where it sees this node, as far as it said.
    seen_as: Option<SocketAddr>,
    /// Our JOIN, until it is acknowledged.
    join: Option<join::Pending>,
    /// Whether its JOIN is still to come.
    awaited: bool,
}

/// The membership state machine.
#[derive(Debug)]
pub(crate) struct Membership {
    me: NodeId,
    incarnation: u32,
    role: Role,
    /// Where others reach this node, once that is known.
    addr: Option<SocketAddr>,
    rng: Rng,
    table: Table,
    peers: IdMap<NodeId, Peer>,
    /// The keys of `peers`, in an order that samples are drawn from.
    open: Vec<NodeId>,
    awaited: usize,
    join_number: u32,
    timers: Timers,
    news: gossip::News,
    detector: detector::Detector,
    exchanges: exchange::Exchanges,
    details: details::Wanted,
    lost: heal::Lost,
    leaving: Option<leave::Leaving>,
    /// Who is in quarantine. The session layer bounds them.
    quarantined: BTreeSet<NodeId>,
    actions: VecDeque<Action>,
    /// When this node last learned that anybody hears it.
    last_echo: Instant,
    scratch: Vec<NodeId>,
}

impl Membership {
    pub(crate) fn new(me: NodeId, config: &Config, seed: &[u8; 32], now: Instant) -> Self {
        let mut table = Table::new(config.tombstone_timeout);
        if config.role == Role::Voter {
            table.add_voter(me);
        }
        Self {
            me,
            incarnation: 0,
            role: config.role,
            addr: config.advertise.map(canonical),
            rng: Rng::new(seed, Stream::Membership),
            table,
            peers: IdMap::default(),
            open: Vec::new(),
            awaited: 0,
            join_number: 0,
            timers: Timers::default(),
            news: gossip::News::default(),
            detector: detector::Detector::default(),
            exchanges: exchange::Exchanges::default(),
            details: details::Wanted::default(),
            lost: heal::Lost::default(),
            leaving: None,
            quarantined: BTreeSet::new(),
            actions: VecDeque::new(),
            last_echo: now,
            scratch: Vec::new(),
        }
    }

    /// Handles one frame of kind 0x01 to 0x0f from a peer with an open session.
    pub(crate) fn handle_frame(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        kind: u8,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        if self.left() || from == self.me {
            return Ok(());
        }
        self.check_isolation(cx);
        match kind {
            kind::HEARTBEAT => self.handle_heartbeat(cx, from, body),
            kind::GOSSIP => self.handle_gossip(cx, from, body),
            kind::PROBE_REQUEST => self.handle_probe_request(cx, from, body),
            kind::PROBE_RESULT => self.handle_probe_result(cx, from, body),
            kind::JOIN => self.handle_join(cx, from, body),
            kind::LEAVE => self.handle_leave(cx, from, body),
            kind::LEAVE_ACK => {
                self.handle_leave_ack(from);
                Ok(())
            }
            kind::DIGEST => self.handle_digest(cx, from, body),
            kind::DIGEST_ACK => self.handle_digest_ack(cx, from, body),
            kind::DETAILS_REQUEST => self.handle_details_request(cx, from, body),
            kind::DETAILS => self.handle_details(cx, body),
            _ => {
                cx.stats.drop(DropReason::UnknownFrame);
                Ok(())
            }
        }
    }

    /// When `handle_timeout` wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What `PlantedBug::TimersStarvedByInput` does with each datagram.
    pub(crate) fn postpone_timers(&mut self, now: Instant) {
        self.timers.postpone(now + LATE * 3);
    }

    /// What `PlantedBug::AnswerTakenForMembers` does with each resolution.
    pub(crate) fn evict_unnamed(&mut self, cx: &mut Context<'_>, named: &[SocketAddr]) {
        let unnamed = |entry: &&Entry| !named.contains(&entry.member.addr);
        let evicted: Vec<NodeId> = self
            .table
            .iter()
            .filter(unnamed)
            .map(|entry| entry.member.id)
            .collect();
        for id in evicted {
            self.fail(cx, id, LeaveReason::Failed);
        }
    }

    /// Does all that is due.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let Some(due) = self.timers.next().filter(|&due| due <= cx.now) else {
            return;
        };
        let late = cx.now - due > LATE && !planted(PlantedBug::LateTimersAccuse);
        if late {
            cx.stats.late_timeouts += 1;
            self.detector.worsen();
            self.excuse_partners(cx);
        }
        self.check_isolation(cx);
        // What is due now, and not what that arms for this very instant: the work of one call is bounded.
        for _ in 0..self.timers.len() {
            let Some(timer) = self.timers.pop_due(cx.now) else {
                break;
            };
            match timer {
                Timer::Heartbeat => self.heartbeat(cx),
                Timer::Period => self.period(cx),
                Timer::Gossip => self.gossip(cx),
                Timer::Heal => self.heal(cx),
                Timer::Compare => self.compare(cx),
                Timer::Tombstones => {
                    self.table.expire(cx.now);
                    self.arm_tombstones();
                }
                Timer::Leave => self.leave_due(cx),
                Timer::Details => self.details_due(cx),
                Timer::Join(peer) => self.join_due(cx, peer),
                Timer::Partner(peer) => self.partner_due(cx, peer),
                Timer::Probe(peer) => self.probe_due(cx, peer, late),
                Timer::Suspicion(peer) => self.suspicion_due(cx, peer, late),
                Timer::Relay(peer) => self.relay_due(cx, peer),
                Timer::Pull(peer) => self.pull_due(cx, peer),
                Timer::Push(peer) => self.push_due(cx, peer),
            }
        }
    }

    /// Takes the next thing for the facade to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The other members.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.table.iter().map(|entry| &entry.member)
    }

    /// The number of other members.
    pub(crate) fn member_count(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Member> {
        self.table.get(id).map(|entry| &entry.member)
    }

    /// Where to dial a member, or where a peer's session leads.
    pub(crate) fn address(&self, id: NodeId) -> Option<SocketAddr> {
        let member = self.table.get(id).map(|entry| entry.member.addr);
        member.or_else(|| self.peers.get(&id).map(|peer| peer.addr))
    }

    /// The live member at an address.
    pub(crate) fn member_at(&self, addr: SocketAddr) -> Option<NodeId> {
        self.table.at(canonical(addr))
    }

    /// How many voters live, suspects and this node included.
    pub(crate) fn voters_present(&self) -> usize {
        self.table.voters().len()
    }

    /// Where others reach this node, as far as it knows.
    pub(crate) const fn own_addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn usage(&self, config: &Config, usage: &mut Usage) {
        let (members, tombstones) = (config.max_members, config.max_tombstones);
        usage.row("members", self.table.len(), members);
        usage.row("tombstones", self.table.tombstones().count(), tombstones);
        usage.row("news", self.news.len(), gossip::most_news(config));
        usage.row("wanted details", self.details.len(), members);
        usage.row("actions", self.actions.len(), MAX_ACTIONS);
        self.lost.usage(usage);
        self.exchanges.usage(usage);
        self.detector.relays.usage(usage);
    }

    pub(crate) const fn own_incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Lifeguard's local health, 0 (well) to 8.
    pub(crate) const fn health(&self) -> u8 {
        self.detector.health
    }

    fn act(&mut self, action: Action) {
        // What does not fit is asked for again by the timer that asked for it.
        if self.actions.len() < MAX_ACTIONS && !self.actions.contains(&action) {
            self.actions.push_back(action);
        }
    }

    /// What this node says about itself.
    fn own_record(&self) -> Record {
        let unknown = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        Record {
            id: self.me,
            addr: self.addr.unwrap_or(unknown),
            incarnation: self.incarnation,
            state: State::Alive,
            role: self.role,
            version: PROTOCOL_VERSIONS.1,
            replaced: false,
            details: join::OWN_DETAILS,
            accuser: NodeId::MIN,
            age: 0,
        }
    }

    /// What is known about a process now.
    fn record_of(&self, cx: &Context<'_>, id: NodeId) -> Option<Record> {
        if id == self.me {
            // Without an address the record would be refused; JOIN carries it then.
            return self.addr.map(|_| self.own_record());
        }
        match self.table.get(id) {
            Some(entry) => Some(entry.record()),
            None => self.table.tombstone(cx.now, id),
        }
    }

    /// Merges one record. Returns what the sender has yet to learn about its subject.
    fn learn(&mut self, cx: &mut Context<'_>, record: &Record, source: Source) -> Option<Record> {
        if record.id == self.me {
            self.learn_of_self(cx, record, source.sender());
            return None;
        }
        if self.table.get(record.id).is_some() {
            return self.learn_of_member(cx, record, source);
        }
        if let Some(old) = self.table.tombstone(cx.now, record.id) {
            if record.rank() <= old.rank() {
                return record.state.is_live().then_some(old);
            }
        } else if !record.state.is_live() && u64::from(record.age) >= cx.config.tombstone_timeout.as_secs() {
            return None;
        }
        if record.state.is_live() {
            self.admit(cx, record, source);
        } else {
            self.bury(cx, *record);
            if source.is_news() {
                self.spread(cx, record.id);
            }
        }
        None
    }

    /// A record about somebody who is a member here.
    fn learn_of_member(&mut self, cx: &mut Context<'_>, record: &Record, source: Source) -> Option<Record> {
        let id = record.id;
        let entry = self.table.get_mut(id)?;
        let (ours, theirs) = (entry.rank(), record.rank());
        if record.details > entry.details {
            entry.details = record.details;
            self.want_details(cx, id, source.sender());
        }
        let entry = self.table.get_mut(id)?;
        let older = record.incarnation < entry.member.incarnation;
        if theirs < ours && !(older && planted(PlantedBug::OldIncarnationOverwritesNew)) {
            return older.then(|| entry.record());
        }
        if theirs == ours {
            if record.state == State::Suspect {
                self.confirm(cx, id, record.accuser);
            }
            return None;
        }
        match record.state {
            State::Left => {
                self.depart(cx, id, LeaveReason::Left, record.incarnation);
            }
            State::Failed if self.knows_better(cx, id) || matches!(source, Source::Digest { .. }) => {
                // Fresh evidence of one's own beats hearsay, and a list of the past is no news: where two halves of
                // a cluster meet again, each would bury its own living. The subject hears of it and refutes it for
                // all; if it does not, the suspicion ends the same way.
                let suspect = Record {
                    state: State::Suspect,
                    accuser: source.sender(),
                    ..*record
                };
                if suspect.rank() > ours {
                    self.update(cx, &suspect, Source::Gossip(source.sender()));
                    Self::tell(cx, id, record);
                }
            }
            State::Failed => {
                let reason = if record.replaced {
                    LeaveReason::Replaced
                } else {
                    LeaveReason::Failed
                };
                self.depart(cx, id, reason, record.incarnation);
            }
            State::Suspect | State::Alive => self.update(cx, record, source),
        }
        None
    }

    /// Takes over a live record that outranks what is known of a member.
    fn update(&mut self, cx: &mut Context<'_>, record: &Record, source: Source) {
        let id = record.id;
        self.table.set_incarnation(id, record.incarnation);
        let Some(entry) = self.table.get_mut(id) else {
            return;
        };
        let moved = record.state == State::Alive && entry.member.addr != record.addr;
        entry.accuser = record.accuser;
        entry.suspicion = None;
        if record.state == State::Alive {
            if planted(PlantedBug::RefutedMemberJoinsTwice) && entry.member.state == MemberState::Suspect {
                cx.events.push_back(Event::MemberJoined(entry.member.clone()));
            }
            entry.member.state = MemberState::Alive;
            self.timers.disarm(Timer::Suspicion(id));
        } else {
            entry.member.state = MemberState::Suspect;
            if !entry.contact.partner {
                self.begin_suspicion(cx, id, record.accuser);
            }
        }
        if moved {
            self.table.set_addr(id, record.addr);
            self.announce_update(cx, id);
        }
        if source.is_news() {
            self.spread(cx, id);
        }
    }

    /// Makes a process a member because another one spoke of it.
    fn admit(&mut self, cx: &mut Context<'_>, record: &Record, source: Source) {
        if self.is_quarantined(record.id) || !self.join_table(cx, Entry::new(record)) {
            return;
        }
        if record.state == State::Suspect
            && self
                .table
                .get(record.id)
                .is_some_and(|entry| !entry.contact.partner)
        {
            self.begin_suspicion(cx, record.id, record.accuser);
        }
        self.want_details(cx, record.id, source.sender());
        if source.is_news() {
            self.spread(cx, record.id);
        }
    }

    /// Adds a member and says so, unless there is no room.
    fn join_table(&mut self, cx: &mut Context<'_>, entry: Entry) -> bool {
        if self.table.len() >= cx.config.max_members {
            cx.stats.drop(DropReason::MembersFull);
            return false;
        }
        let id = entry.member.id;
        cx.events.push_back(Event::MemberJoined(entry.member.clone()));
        self.table.insert(entry);
        if let Some(known) = self.peers.get_mut(&id) {
            // Somebody else has introduced it: its own JOIN is not waited for any more.
            self.awaited -= usize::from(core::mem::take(&mut known.awaited));
        }
        self.lost.found(id);
        self.arm_compare(cx, cx.config.heal_interval);
        self.choose_partners(cx);
        // Whether its JOIN or hearsay is first to make it a member, perhaps again, is chance: both must learn what the
        // other heard while they were apart.
        if self.peers.contains_key(&id) && self.leaving.is_none() {
            self.pull(cx, id);
        }
        if self.table.get(id).is_some_and(|entry| !entry.contact.partner) {
            self.add_target(id);
        }
        true
    }

    fn announce_update(&self, cx: &mut Context<'_>, id: NodeId) {
        if let Some(entry) = self
            .table
            .get(id)
            .filter(|_| !planted(PlantedBug::UpdatesNotReported))
        {
            cx.events.push_back(Event::MemberUpdated(entry.member.clone()));
        }
    }

    /// This node's own verdict on a member.
    fn fail(&mut self, cx: &mut Context<'_>, id: NodeId, reason: LeaveReason) {
        let Some(entry) = self.table.get(id) else {
            return;
        };
        let incarnation = entry.member.incarnation;
        if planted(PlantedBug::LeaveHonouredForAnother) {
            for &peer in &self.open {
                Self::say_leave(cx, peer, id, incarnation);
            }
        }
        self.depart(cx, id, reason, incarnation);
        // If it lives after all, it hears of this by its open session, and comes back.
        if self.peers.contains_key(&id)
            && let Some(record) = self.table.tombstone(cx.now, id)
        {
            Self::tell(cx, id, &record);
        }
    }

    /// Ends a membership and passes the news on.
    fn depart(&mut self, cx: &mut Context<'_>, id: NodeId, reason: LeaveReason, incarnation: u32) {
        let Some(entry) = self.table.remove(id) else {
            return;
        };
        let record = Record {
            state: if reason == LeaveReason::Left {
                State::Left
            } else {
                State::Failed
            },
            incarnation,
            replaced: reason == LeaveReason::Replaced,
            accuser: NodeId::MIN,
            ..entry.record()
        };
        self.stop_watching(id);
        self.details.forget(id);
        if reason == LeaveReason::Failed {
            self.lose(cx, id, entry.member.addr);
        }
        if !(reason == LeaveReason::Replaced && planted(PlantedBug::ReplacedMemberNotReported)) {
            cx.events.push_back(Event::MemberLeft {
                member: entry.member,
                reason,
            });
        }
        self.bury(cx, record);
        self.choose_partners(cx);
        self.spread(cx, id);
    }

    fn bury(&mut self, cx: &mut Context<'_>, record: Record) {
        if record.state == State::Left {
            self.lost.found(record.id);
        }
        let evicted = self.table.bury(cx.now, record, cx.config.max_tombstones);
        for _ in 0..evicted {
            cx.stats.drop(DropReason::TombstoneEvicted);
        }
        self.arm_tombstones();
    }

    fn arm_tombstones(&mut self) {
        match self.table.next_expiry() {
            Some(at) => self.timers.arm(Timer::Tombstones, at),
            None => self.timers.disarm(Timer::Tombstones),
        }
    }

    /// Somebody says something about this node.
    fn learn_of_self(&mut self, cx: &mut Context<'_>, record: &Record, from: NodeId) {
        if planted(PlantedBug::SuspicionNeverRefuted) && record.state != State::Alive {
            return;
        }
        let outdated = record.incarnation < self.incarnation;
        if self.leaving.is_some() || record.state == State::Left || outdated {
            // An old rumour is answered with the present, a departure is final.
            if outdated && self.leaving.is_none() && record.state != State::Left {
                self.answer_rumour(cx, record, from);
            }
            return;
        }
        if record.state == State::Alive && record.incarnation == self.incarnation {
            return;
        }
        self.raise_incarnation(cx, record.incarnation);
        if record.state != State::Alive {
            cx.stats.refutations += 1;
            self.detector.worsen();
        }
        self.answer_rumour(cx, record, from);
    }

    fn answer_rumour(&mut self, cx: &mut Context<'_>, record: &Record, from: NodeId) {
        let own = self.record_of(cx, self.me);
        if let Some(own) = &own {
            Self::tell(cx, from, own);
        }
        if record.state == State::Failed || own.is_none() {
            // Name and metadata went with the tombstone; JOIN brings them back at once. Without a known address it is
            // the only way to speak of oneself.
            self.start_join(cx, from, 0);
        }
    }

    /// Takes an incarnation above `heard` and tells everybody.
    fn raise_incarnation(&mut self, cx: &Context<'_>, heard: u32) {
        self.incarnation = self.incarnation.max(heard).saturating_add(1);
        self.spread(cx, self.me);
    }
}
