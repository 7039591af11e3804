//! Several memberships over a virtual network in virtual time, with sessions that open by themselves.

use super::super::*;
use crate::event::Event;
use crate::outbox::Outbox;
use crate::stats::Stats;
use crate::wire::{FrameWriter, Frames, MAX_DATAGRAM};
use alloc::collections::{BTreeMap, BTreeSet};

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

struct Host {
    id: NodeId,
    addr: SocketAddr,
    config: Config,
    membership: Membership,
    outbox: Outbox,
    events: VecDeque<Event>,
    seen: Vec<Event>,
    stats: Stats,
    up: bool,
    paused: bool,
    woken: Instant,
}

/// On its way: sender, receiver, bytes. Ids tell a restarted process from its predecessor.
type Datagram = (usize, NodeId, usize, NodeId, Vec<u8>);

pub(super) struct Net {
    now: Instant,
    hosts: Vec<Host>,
    by_addr: BTreeMap<SocketAddr, usize>,
    sessions: BTreeSet<(usize, NodeId)>,
    flying: BTreeMap<(Instant, u64), Datagram>,
    wakeups: BTreeSet<(Instant, usize)>,
    serial: u64,
    rng: Rng,
    /// Hosts below this index cannot reach the others.
    split: usize,
    cuts: BTreeSet<(usize, usize)>,
    /// Datagrams lost, in thousandths.
    pub(super) loss: u64,
    /// Bytes sent, headers of sealed datagrams included.
    pub(super) bytes: usize,
    /// How often anybody dialled anybody.
    pub(super) dials: usize,
}

impl Net {
    pub(super) fn new(size: usize, seed: u64) -> Self {
        let mut net = Self {
            now: Instant::from_millis(1_000_000),
            hosts: Vec::new(),
            by_addr: BTreeMap::new(),
            sessions: BTreeSet::new(),
            flying: BTreeMap::new(),
            wakeups: BTreeSet::new(),
            serial: 0,
            rng: Rng::new(&[seed as u8; 32], Stream::Discovery),
            split: 0,
            cuts: BTreeSet::new(),
            loss: 0,
            bytes: 0,
            dials: 0,
        };
        for n in 0..size {
            let addr = SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 5000));
            net.by_addr.insert(addr, n);
            let host = net.host(n, addr);
            net.hosts.push(host);
        }
        net
    }

    /// Makes a host that has not spoken yet an observer.
    pub(super) fn observer(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        host.config.role = Role::Observer;
        host.membership = Membership::new(host.id, &host.config, &self.rng.bytes(), self.now);
    }

    fn host(&mut self, n: usize, addr: SocketAddr) -> Host {
        let config = Config::default()
            .name(std::format!("node {n}"))
            .metadata(*b"metadata");
        let id = NodeId::from_bytes(self.rng.bytes());
        let membership = Membership::new(id, &config, &self.rng.bytes(), self.now);
        Host {
            id,
            addr,
            config,
            membership,
            outbox: Outbox::default(),
            events: VecDeque::new(),
            seen: Vec::new(),
            stats: Stats::default(),
            up: true,
            paused: false,
            woken: Instant::FAR_FUTURE,
        }
    }

    pub(super) fn id(&self, n: usize) -> NodeId {
        self.hosts[n].id
    }

    pub(super) fn addr(&self, n: usize) -> SocketAddr {
        self.hosts[n].addr
    }

    pub(super) fn config(&mut self, n: usize) -> &mut Config {
        &mut self.hosts[n].config
    }

    pub(super) fn membership(&self, n: usize) -> &Membership {
        &self.hosts[n].membership
    }

    pub(super) fn stats(&self, n: usize) -> &Stats {
        &self.hosts[n].stats
    }

    pub(super) fn events(&self, n: usize) -> &[Event] {
        &self.hosts[n].seen
    }

    /// An id that no host has.
    pub(super) fn stranger(&mut self, _: usize) -> NodeId {
        NodeId::from_bytes(self.rng.bytes())
    }

    /// Calls a membership without letting its output out.
    fn call<T>(&mut self, n: usize, f: impl FnOnce(&mut Membership, &mut Context<'_>) -> T) -> T {
        let host = &mut self.hosts[n];
        let mut cx = Context {
            now: self.now,
            config: &host.config,
            outbox: &mut host.outbox,
            events: &mut host.events,
            stats: &mut host.stats,
        };
        let result = f(&mut host.membership, &mut cx);
        host.seen.extend(host.events.drain(..));
        result
    }

    pub(super) fn with<T>(&mut self, n: usize, f: impl FnOnce(&mut Membership, &mut Context<'_>) -> T) -> T {
        let result = self.call(n, f);
        self.drain(n);
        result
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        let sides = (a < self.split) == (b < self.split);
        let open = !self.cuts.contains(&(a.min(b), a.max(b)));
        sides && open && self.hosts[a].up && self.hosts[b].up
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        let addr = self.hosts[b].addr;
        self.dial(a, addr, None);
        self.drain(a);
    }

    fn dial(&mut self, a: usize, addr: SocketAddr, expected: Option<NodeId>) {
        self.dials += 1;
        let b = self.by_addr.get(&addr).copied();
        let Some(b) = b.filter(|&b| self.reaches(a, b) && !self.hosts[b].paused) else {
            self.call(a, |m, cx| m.dial_failed(cx, addr));
            return;
        };
        if a == b {
            self.call(a, |m, cx| m.dialed_self(cx, addr));
            return;
        }
        let (a_id, a_addr, b_id) = (self.hosts[a].id, self.hosts[a].addr, self.hosts[b].id);
        self.sessions.insert((a, b_id));
        self.sessions.insert((b, a_id));
        let (a_role, b_role) = (self.hosts[a].config.role, self.hosts[b].config.role);
        self.call(a, |m, cx| {
            m.peer_up(cx, b_id, addr, b_role, Some(a_addr), expected)
        });
        self.call(b, |m, cx| m.peer_up(cx, a_id, a_addr, a_role, None, None));
        self.drain(b);
    }

    /// Sends what a host wants sent, dials whom it wants dialled.
    fn drain(&mut self, n: usize) {
        loop {
            if let Some(Action::Dial { addr, expect }) = self.hosts[n].membership.poll_action() {
                self.dial(n, addr, expect);
                continue;
            }
            let Some(peer) = self.hosts[n].outbox.next_peer() else {
                break;
            };
            if !self.sessions.contains(&(n, peer)) {
                match self.hosts[n].membership.address(peer) {
                    Some(addr) => self.dial(n, addr, Some(peer)),
                    None => self.hosts[n].stats.drop(DropReason::NoRoute),
                }
            }
            if !self.sessions.contains(&(n, peer)) {
                self.hosts[n].outbox.discard(peer);
                continue;
            }
            let mut datagram = Vec::new();
            self.hosts[n]
                .outbox
                .fill(peer, &mut FrameWriter::new(&mut datagram, MAX_DATAGRAM - 30));
            self.bytes += datagram.len() + 30;
            if let Some(to) = self.hosts.iter().position(|host| host.id == peer)
                && !datagram.is_empty()
                && self.reaches(n, to)
                && self.rng.below(1000) >= self.loss
            {
                self.serial += 1;
                let at = self.now + Duration::from_micros(200 + self.rng.below(2000));
                self.flying
                    .insert((at, self.serial), (n, self.hosts[n].id, to, peer, datagram));
            }
        }
        self.rearm(n);
    }

    fn rearm(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        self.wakeups.remove(&(host.woken, n));
        if host.up
            && !host.paused
            && let Some(at) = host.membership.poll_timeout()
        {
            host.woken = at;
            self.wakeups.insert((at, n));
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let datagram = self.flying.first_key_value().map(|(&(at, _), _)| at);
            let wakeup = self.wakeups.first().map(|&(at, _)| at);
            let Some(next) = crate::time::earliest(datagram, wakeup).filter(|&at| at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if datagram == Some(next) {
                let (_, (from, from_id, to, to_id, bytes)) = self.flying.pop_first().unwrap();
                if self.hosts[to].id == to_id && self.reaches(from, to) && !self.hosts[to].paused {
                    for frame in Frames::new(&bytes) {
                        let result =
                            self.call(to, |m, cx| m.handle_frame(cx, from_id, frame.kind, frame.body));
                        assert_eq!(result, Ok(()), "{frame:?}");
                    }
                    self.drain(to);
                }
            } else {
                let (_, n) = self.wakeups.pop_first().unwrap();
                self.with(n, |m, cx| m.handle_timeout(cx));
            }
        }
        self.now = end;
    }

    /// Connects everybody to the first host and lets them converge.
    pub(super) fn form(&mut self) {
        for n in 1..self.hosts.len() {
            self.connect(n, 0);
            self.run(ms(20));
        }
        self.run(secs(10));
    }

    pub(super) fn crash(&mut self, n: usize) {
        self.hosts[n].up = false;
        self.rearm(n);
    }

    pub(super) fn restart(&mut self, n: usize) {
        self.crash(n);
        let addr = self.hosts[n].addr;
        self.sessions.retain(|&(host, _)| host != n);
        self.hosts[n] = self.host(n, addr);
    }

    pub(super) fn pause(&mut self, n: usize, _: Duration) {
        self.hosts[n].paused = true;
        self.rearm(n);
    }

    pub(super) fn resume(&mut self, n: usize) {
        self.hosts[n].paused = false;
        self.with(n, |m, cx| m.handle_timeout(cx));
    }

    pub(super) fn partition(&mut self, split: usize) {
        self.split = split;
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.cuts.insert((a.min(b), a.max(b)));
    }

    /// Joined and left alternate strictly for each id.
    pub(super) fn check(&self) {
        for host in &self.hosts {
            let mut members = BTreeSet::new();
            for event in &host.seen {
                match event {
                    Event::MemberJoined(member) => assert!(members.insert(member.id)),
                    Event::MemberLeft { member, .. } => assert!(members.remove(&member.id)),
                    Event::MemberUpdated(member) => assert!(members.contains(&member.id)),
                    _ => {}
                }
            }
            let now: BTreeSet<_> = host.membership.members().map(|member| member.id).collect();
            assert_eq!(members, now);
        }
    }
}
