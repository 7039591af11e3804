//! Full exchange of records between two processes that meet: each asks the other for all it knows, and gets it in
//! acknowledged pages. Gossip alone would bring only news.

use super::record::{RECORDS_PER_FRAME, encode_records};
use super::suspicion::ceil_log2;
use super::table::mix;
use super::timers::Timer;
use super::{Action, Membership, Source, canonical};
use crate::id::NodeId;
use crate::outbox::{BadFrame, Context};
use crate::status::MemberState;
use crate::time::Duration;
#[cfg(feature = "simulation")]
use crate::usage::Usage;
use crate::wire::{Reader, kind, put_addr};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Bytes of a DIGEST before its records: flags, exchange, page, pages, count.
pub(super) const PAGE_HEAD: usize = 1 + 4 + 2 + 2 + 1;
/// Exchanges at a time, in each direction.
const MAX_EXCHANGES: usize = 4;
/// Peers whose records are wanted and whose turn has not come.
const MAX_QUEUED: usize = 256;
/// Pages under way to one peer.
const WINDOW: usize = 8;
const TRIES: u32 = 5;
const PULL_RETRY: Duration = Duration::from_secs(1);
const PUSH_RETRY: Duration = Duration::from_millis(400);

/// DIGEST: not a page, but the wish for pages.
const FLAG_REQUEST: u8 = 1;
/// DIGEST_ACK: not an acknowledgement, but "not now"; the address of another member follows.
const FLAG_BUSY: u8 = 1;

/// Receiving a peer's records.
#[derive(Debug)]
struct Pull {
    exchange: u32,
    /// Whether more is known here than the peer told: then what it tells is news to others.
    relay: bool,
    /// Requests without any page since.
    tries: u32,
    /// Whether a busy peer sent this node here: then it waits, and is not sent on in circles.
    redirected: bool,
    /// Another member that the peer named when it was busy.
    instead: Option<SocketAddr>,
    pages: u16,
    missing: u16,
    /// One bit for each page.
    got: Vec<u64>,
}

/// Sending records to a peer.
#[derive(Debug)]
struct Push {
    exchange: u32,
    /// Of whom to tell, fixed at the start; the records are the present ones when they are sent.
    ids: Vec<NodeId>,
    pages: u16,
    next: u16,
    unacknowledged: Vec<u16>,
    /// Rounds of retransmission without any acknowledgement.
    tries: u32,
}

/// All exchanges.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    pulls: BTreeMap<NodeId, Pull>,
    queued: VecDeque<NodeId>,
    pushes: BTreeMap<NodeId, Push>,
    number: u32,
}

impl Exchanges {
    #[cfg(feature = "simulation")]
    pub(super) fn usage(&self, usage: &mut Usage) {
        usage.row("exchanges from peers", self.pulls.len(), MAX_EXCHANGES);
        usage.row("exchanges to peers", self.pushes.len(), MAX_EXCHANGES);
        usage.row("exchanges waiting", self.queued.len(), MAX_QUEUED);
    }
}

impl Membership {
    /// How many peers' records are still to come: open sessions whose JOIN is awaited, and exchanges not complete.
    pub(crate) fn pending_exchanges(&self) -> usize {
        self.awaited + self.exchanges.pulls.len() + self.exchanges.queued.len()
    }

    /// Asks a peer for all that it knows, now or when its turn comes.
    pub(super) fn pull(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        if self.exchanges.pulls.contains_key(&peer) || self.exchanges.queued.contains(&peer) {
            return;
        }
        if self.exchanges.pulls.len() >= MAX_EXCHANGES {
            // Whoever has so many to ask hears of everybody from one of them.
            if self.exchanges.queued.len() < MAX_QUEUED {
                self.exchanges.queued.push_back(peer);
            }
            return;
        }
        self.exchanges.number = self.exchanges.number.wrapping_add(1);
        let pull = Pull {
            exchange: self.exchanges.number,
            relay: self.table.len() > 1,
            tries: 0,
            redirected: false,
            instead: None,
            pages: 0,
            missing: 0,
            got: Vec::new(),
        };
        self.exchanges.pulls.insert(peer, pull);
        self.pull_due(cx, peer);
    }

    /// Arms the next comparison, `wait` ahead in a small cluster. It is the later the larger the cluster is, because what
    /// differs costs more there and gossip has more ways around.
    pub(super) fn arm_compare(&mut self, cx: &Context<'_>, wait: Duration) {
        let factor = ceil_log2(self.table.len() + 1).saturating_sub(4).max(1);
        self.timers.arm_if_idle(Timer::Compare, cx.now + wait * factor);
    }

    /// Asks a random member for what it knows: where that is the same, one number tells so. Gossip is sent a few times
    /// and then forgotten, so that two members that missed each other's news would never meet (Demers et al.,
    /// "Epidemic Algorithms for Replicated Database Maintenance", PODC 1987: rumours need anti-entropy as a backup).
    pub(super) fn compare(&mut self, cx: &mut Context<'_>) {
        if self.leaving.is_some() || self.table.len() == 0 {
            return;
        }
        let start = self.rng.below(self.open.len() as u64) as usize;
        let (tail, head) = self.open.split_at(start);
        let member = |id: &NodeId| self.table.get(*id).is_some();
        if let Some(peer) = head.iter().chain(tail).copied().find(member) {
            self.pull(cx, peer);
        }
        let wait = self.jittered(cx.config.heal_interval);
        self.arm_compare(cx, wait);
    }

    /// Sends a request, the first time or again.
    pub(super) fn pull_due(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        let hash = self.table.hash() ^ mix(self.me, self.incarnation);
        let Some(pull) = self.exchanges.pulls.get_mut(&peer) else {
            return;
        };
        if pull.tries == TRIES {
            self.end_pull(cx, peer);
            return;
        }
        pull.tries += 1;
        let exchange = pull.exchange;
        cx.send(peer, kind::DIGEST, |buf| {
            buf.push(FLAG_REQUEST);
            buf.extend_from_slice(&exchange.to_be_bytes());
            buf.extend_from_slice(&hash.to_be_bytes());
        });
        let wait = self.jittered(PULL_RETRY);
        self.timers.arm(Timer::Pull(peer), cx.now + wait);
    }

    fn end_pull(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        if self.exchanges.pulls.remove(&peer).is_some() {
            self.timers.disarm(Timer::Pull(peer));
            if let Some(next) = self.exchanges.queued.pop_front() {
                self.pull(cx, next);
            }
        }
    }

    /// A peer's session is gone, and with it its exchanges.
    pub(super) fn end_exchanges(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        self.exchanges.pushes.remove(&peer);
        self.timers.disarm(Timer::Push(peer));
        self.exchanges.queued.retain(|&queued| queued != peer);
        self.end_pull(cx, peer);
    }

    /// A session opened: perhaps to the member that a busy peer named.
    pub(super) fn redirected(&mut self, cx: &mut Context<'_>, peer: NodeId, addr: SocketAddr) {
        let waiting = |(&id, pull): (&NodeId, &Pull)| (pull.instead == Some(addr)).then_some(id);
        if let Some(busy) = self.exchanges.pulls.iter().find_map(waiting) {
            self.redirect(cx, busy, peer);
        }
    }

    /// Asks another member in place of a busy one.
    fn redirect(&mut self, cx: &mut Context<'_>, busy: NodeId, other: NodeId) {
        self.end_pull(cx, busy);
        self.pull(cx, other);
        if let Some(pull) = self.exchanges.pulls.get_mut(&other) {
            pull.redirected = true;
        }
    }

    /// The member that a busy peer named does not answer. The busy one is asked again when its timer says so.
    pub(super) fn redirect_failed(&mut self, addr: SocketAddr) {
        for pull in self.exchanges.pulls.values_mut() {
            if pull.instead == Some(addr) {
                pull.instead = None;
            }
        }
    }

    pub(super) fn handle_digest(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let flags = reader.u8().ok_or(BadFrame)?;
        let exchange = reader.u32().ok_or(BadFrame)?;
        if flags & FLAG_REQUEST != 0 {
            let hash = reader.u64().ok_or(BadFrame)?;
            self.push(cx, from, exchange, hash);
            return Ok(());
        }
        let page = reader.u16().ok_or(BadFrame)?;
        let pages = reader.u16().ok_or(BadFrame)?;
        if page >= pages {
            return Err(BadFrame);
        }
        // Also what is not wanted any more is acknowledged, so that it ends.
        cx.send(from, kind::DIGEST_ACK, |buf| {
            buf.push(0);
            buf.extend_from_slice(&exchange.to_be_bytes());
            buf.extend_from_slice(&page.to_be_bytes());
        });
        let Some(pull) = self
            .exchanges
            .pulls
            .get_mut(&from)
            .filter(|pull| pull.exchange == exchange)
        else {
            return Ok(());
        };
        if pull.pages != pages {
            pull.pages = pages;
            pull.missing = pages;
            pull.got.clear();
            pull.got.resize(usize::from(pages).div_ceil(64), 0);
        }
        pull.tries = 0;
        // The page is below the number of pages, for which there are bits.
        let (word, bit) = (&mut pull.got[usize::from(page / 64)], 1 << (page % 64));
        if *word & bit != 0 {
            return Ok(());
        }
        *word |= bit;
        pull.missing -= 1;
        let (done, relay) = (pull.missing == 0, pull.relay);
        let wait = self.jittered(PULL_RETRY);
        self.timers.arm(Timer::Pull(from), cx.now + wait);
        let result = self.learn_all(cx, &mut reader, Source::Digest { from, relay });
        if done {
            self.end_pull(cx, from);
        }
        result
    }

    /// Begins to tell a peer everything, or sends it elsewhere.
    fn push(&mut self, cx: &mut Context<'_>, peer: NodeId, exchange: u32, hash: u64) {
        if self
            .exchanges
            .pushes
            .get(&peer)
            .is_some_and(|push| push.exchange == exchange)
        {
            return;
        }
        self.exchanges.pushes.remove(&peer);
        if hash == self.table.hash() ^ mix(self.me, self.incarnation) {
            // It knows the same: one empty page ends the exchange.
            cx.send(peer, kind::DIGEST, |buf| {
                put_page(buf, exchange, 0, 1, [].into_iter())
            });
            return;
        }
        if self.exchanges.pushes.len() >= MAX_EXCHANGES {
            let addr = self.somebody_else(peer);
            cx.send(peer, kind::DIGEST_ACK, |buf| {
                buf.push(FLAG_BUSY);
                buf.extend_from_slice(&exchange.to_be_bytes());
                buf.extend_from_slice(&0u16.to_be_bytes());
                put_addr(buf, addr);
            });
            return;
        }
        let living = self
            .table
            .iter()
            .map(|entry| entry.member.id)
            .filter(|&id| id != peer);
        let mut ids: Vec<NodeId> = living.collect();
        // The peer's own tombstone went to it when it introduced itself.
        ids.extend(
            self.table
                .tombstones()
                .map(|record| record.id)
                .filter(|&id| id != peer),
        );
        let pages = u16::try_from(ids.len().div_ceil(RECORDS_PER_FRAME).max(1)).unwrap_or(u16::MAX);
        let push = Push {
            exchange,
            ids,
            pages,
            next: 0,
            unacknowledged: Vec::with_capacity(WINDOW),
            tries: 0,
        };
        self.exchanges.pushes.insert(peer, push);
        self.fill_window(cx, peer);
        self.timers.arm(Timer::Push(peer), cx.now + PUSH_RETRY);
    }

    /// Returns the address of a random live member that is not this one; unspecified if there is none.
    fn somebody_else(&mut self, than: NodeId) -> SocketAddr {
        let alive = |id: &NodeId| {
            let entry = self.table.get(*id).filter(|_| *id != than)?;
            (entry.member.state == MemberState::Alive).then_some(entry.member.addr)
        };
        let start = self.rng.below(self.open.len() as u64) as usize;
        let (tail, head) = self.open.split_at(start);
        let found = head.iter().chain(tail).find_map(alive);
        found.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0))
    }

    fn fill_window(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        while let Some(push) = self.exchanges.pushes.get_mut(&peer)
            && push.unacknowledged.len() < WINDOW
            && push.next < push.pages
        {
            let page = push.next;
            push.next += 1;
            push.unacknowledged.push(page);
            self.send_page(cx, peer, page);
        }
    }

    fn send_page(&self, cx: &mut Context<'_>, peer: NodeId, page: u16) {
        let Some(push) = self.exchanges.pushes.get(&peer) else {
            return;
        };
        let mut records = [None; RECORDS_PER_FRAME];
        let ids = push.ids.iter().skip(usize::from(page) * RECORDS_PER_FRAME);
        for (slot, &id) in records.iter_mut().zip(ids) {
            *slot = self.record_of(cx, id);
        }
        let (exchange, pages) = (push.exchange, push.pages);
        cx.send(peer, kind::DIGEST, |buf| {
            put_page(buf, exchange, page, pages, records.iter().flatten());
        });
    }

    /// Sends again what was not acknowledged.
    pub(super) fn push_due(&mut self, cx: &mut Context<'_>, peer: NodeId) {
        let Some(push) = self.exchanges.pushes.get_mut(&peer) else {
            return;
        };
        push.tries += 1;
        if push.tries > TRIES {
            self.exchanges.pushes.remove(&peer);
            return;
        }
        for page in push.unacknowledged.clone() {
            self.send_page(cx, peer, page);
        }
        self.timers.arm(Timer::Push(peer), cx.now + PUSH_RETRY);
    }

    pub(super) fn handle_digest_ack(
        &mut self,
        cx: &mut Context<'_>,
        from: NodeId,
        body: &[u8],
    ) -> Result<(), BadFrame> {
        let mut reader = Reader::new(body);
        let flags = reader.u8().ok_or(BadFrame)?;
        let exchange = reader.u32().ok_or(BadFrame)?;
        let page = reader.u16().ok_or(BadFrame)?;
        if flags & FLAG_BUSY != 0 {
            let instead = canonical(reader.addr().ok_or(BadFrame)?);
            self.busy(cx, from, exchange, instead);
            return Ok(());
        }
        let Some(push) = self
            .exchanges
            .pushes
            .get_mut(&from)
            .filter(|push| push.exchange == exchange)
        else {
            return Ok(());
        };
        push.tries = 0;
        push.unacknowledged.retain(|&sent| sent != page);
        if push.unacknowledged.is_empty() && push.next == push.pages {
            self.exchanges.pushes.remove(&from);
            self.timers.disarm(Timer::Push(from));
        } else {
            self.fill_window(cx, from);
        }
        Ok(())
    }

    /// A peer has too many to tell at present and names another member.
    fn busy(&mut self, cx: &mut Context<'_>, from: NodeId, exchange: u32, instead: SocketAddr) {
        let Some(pull) = self
            .exchanges
            .pulls
            .get_mut(&from)
            .filter(|pull| pull.exchange == exchange)
        else {
            return;
        };
        // "Busy" is an answer: the request is repeated by its timer, as long as answers come.
        pull.tries = 0;
        if pull.redirected || !super::record::is_reachable(instead) || Some(instead) == self.addr {
            return;
        }
        let open = self.peers.iter().find(|(_, peer)| peer.addr == instead);
        if let Some(id) = open.map(|(&id, _)| id) {
            self.redirect(cx, from, id);
        } else {
            pull.instead = Some(instead);
            let dial = Action::Dial {
                addr: instead,
                expect: None,
            };
            self.act(dial);
        }
    }
}

fn put_page<'a>(
    buf: &mut Vec<u8>,
    exchange: u32,
    page: u16,
    pages: u16,
    records: impl Iterator<Item = &'a super::record::Record>,
) {
    buf.push(0);
    buf.extend_from_slice(&exchange.to_be_bytes());
    buf.extend_from_slice(&page.to_be_bytes());
    buf.extend_from_slice(&pages.to_be_bytes());
    encode_records(buf, records);
}
