//! What holds between those who believe in a lock, and between them and who leads.

use crate::checkers::consensus::Consensus;
use crate::checkers::consensus::between::{is_of_members, tokens_must_rise};
use crate::checkers::consensus::ledger::{Lease, Ledger};
use crate::checkers::{ensure, who};
use crate::fault::Host;
use crate::world::{NodeIndex, World};
use quorate_core::consensus::{Replica, Term};
use quorate_core::locks::Key;
use quorate_core::{Duration, Group, Instant, Life, NodeId};

/// Leases are counted in milliseconds.
const ROUNDED: Duration = Duration::from_millis(1);

/// A lock that an application was told it has.
#[derive(Clone, Debug)]
pub(super) struct Belief {
    pub(super) node: NodeIndex,
    pub(super) key: Key,
    pub(super) units: u32,
    pub(super) capacity: u32,
    pub(super) token: u64,
    pub(super) group: Group,
    /// To whom it was granted: a process that abandons its group is another life from then on.
    pub(super) life: Life,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// The longest lease that its application wanted.
    pub(super) ttl: Duration,
    /// Until when the application may believe, on its host's clock.
    pub(super) until: Instant,
    /// What a shorter lease ended at when it was set: all that was still to be told then may tell of just that.
    pub(super) capped: Option<Instant>,
    /// The newest term of the group when its lease last became longer.
    pub(super) term: Term,
}

impl Belief {
    /// Whether nobody else may hold anything of it.
    pub(super) const fn is_alone(&self) -> bool {
        self.units == self.capacity
    }

    /// Whether its application still may believe in it: its process has not ended.
    pub(super) fn lasts(&self, world: &World) -> bool {
        world.clock(world.process(self.node).host) < self.until
    }
}

/// Applies the rules, by what is true and what the groups decided.
pub(super) struct Judge<'a> {
    pub(super) world: &'a World,
    consensus: &'a Consensus,
}

impl<'a> Judge<'a> {
    pub(super) const fn new(world: &'a World, consensus: &'a Consensus) -> Self {
        Self { world, consensus }
    }

    fn ledger(&self, group: Group) -> Option<&'a Ledger> {
        self.consensus.groups().get(&group)
    }

    pub(super) fn newest_term(&self, group: Group) -> Term {
        self.ledger(group).map_or(0, Ledger::newest_term)
    }

    /// Finds what was granted to a process; of several groups that gave it the same token, the youngest.
    pub(super) fn grant(&self, to: NodeId, key: &Key, token: u64) -> Option<(&'a Ledger, &'a Lease)> {
        let groups = self.consensus.groups().values();
        let granted = groups.filter_map(|ledger| Some((ledger, ledger.lease(token)?)));
        let own = granted.filter(|(_, lease)| lease.owner.node == to && lease.key == *key);
        own.max_by_key(|(ledger, _)| ledger.created)
    }

    pub(super) fn lease(&self, belief: &Belief) -> Option<&'a Lease> {
        self.ledger(belief.group)?.lease(belief.token)
    }

    /// Whether a clock was inside the bound for as long before `then` as any lease lasts, and since.
    fn is_right(&self, host: Host, group: Group, then: Instant, asked: Instant) -> bool {
        let longest = self
            .ledger(group)
            .map_or(Duration::ZERO, |ledger| ledger.rules.grace * 6 / 5);
        let since = (then - longest).max(asked);
        self.consensus.clocks().fine_since(host, since)
    }

    /// Whether there are, or were, several groups without a quorum.
    pub(super) const fn is_split(&self) -> bool {
        self.consensus.is_split()
    }

    /// Whether leases promise anything about a belief: the clock of its host, and of the leader that took the lease for
    /// over, were inside the bound; nobody took the lock without waiting for its holder; and no other group without a
    /// quorum may have granted it.
    pub(super) fn counts(&self, belief: &Belief) -> bool {
        let (world, group) = (self.world, belief.group);
        let host = world.process(belief.node).host;
        let ended = self.lease(belief).and_then(|lease| lease.end);
        let by = ended.and_then(|end| Some((end.at, world.find(end.expired_by?.node)?)));
        !self.consensus.is_split()
            && ended.is_none_or(|end| !end.forced)
            && self.is_right(host, group, world.now(), belief.asked)
            && by.is_none_or(|(at, by)| self.is_right(world.process(by).host, group, at, Instant::ZERO))
    }

    /// Whether the groups of two beliefs promise anything about each other: they are one, or all that the older one
    /// granted is over when the younger one grants.
    pub(super) fn are_related(&self, a: &Belief, b: &Belief) -> bool {
        if a.group == b.group {
            return true;
        }
        let (Some(a), Some(b)) = (self.ledger(a.group), self.ledger(b.group)) else {
            return false;
        };
        let younger = if a.created < b.created { b } else { a };
        !self.consensus.is_broken()
            && younger.opened_in_time
            && [a, b]
                .iter()
                .all(|ledger| is_of_members(self.world, ledger.group))
    }

    /// Whether the later of two grants has to have the higher token.
    fn must_rise(&self, earlier: &Belief, later: &Belief) -> bool {
        let ledgers = (self.ledger(earlier.group), self.ledger(later.group));
        earlier.group == later.group
            || matches!(ledgers, (Some(a), Some(b)) if a.created < b.created && tokens_must_rise(a, b))
    }

    /// Whether a group that is younger than this one has written to a resource, though its tokens have to be higher.
    pub(super) fn is_overtaken<'g>(
        &self,
        group: Group,
        mut written: impl Iterator<Item = &'g Group>,
    ) -> bool {
        let Some(own) = self.ledger(group).filter(|_| !self.consensus.is_broken()) else {
            return false;
        };
        let overtakes = |other: &Ledger| {
            let members = [own, other]
                .iter()
                .all(|ledger| is_of_members(self.world, ledger.group));
            other.created > own.created && members && tokens_must_rise(own, other)
        };
        written.any(|&other| self.ledger(other).is_some_and(overtakes))
    }

    /// Whether a belief that begins, or is used, after one with a higher token is wrong.
    pub(super) fn comes_too_late(&self, belief: &Belief, after: &Belief) -> bool {
        let younger = self.ledger(belief.group).zip(self.ledger(after.group));
        let younger = younger.is_some_and(|(own, other)| own.created > other.created);
        // A younger group whose tokens are lower: somebody must have known of the others.
        let order = !younger || self.must_rise(after, belief);
        belief.token <= after.token && self.counts(belief) && self.are_related(belief, after) && order
    }

    /// **Exclusive** Those who believe in a lock at the same time hold no more units than it has.
    pub(super) fn check_alone<'b>(
        &self,
        belief: &Belief,
        others: impl Iterator<Item = &'b Belief>,
    ) -> Result<(), String> {
        if !self.counts(belief) {
            return Ok(());
        }
        let others = others.filter(|other| other.key == belief.key && other.lasts(self.world));
        let others: Vec<_> = others
            .filter(|other| self.are_related(belief, other) && self.counts(other))
            .collect();
        let units = |belief: &Belief| u64::from(belief.units);
        let held = others.iter().map(|other| units(other)).sum::<u64>() + units(belief);
        let capacity = others.iter().map(|other| other.capacity).min();
        let capacity = capacity.map_or(belief.capacity, |least| least.min(belief.capacity));
        ensure(held <= u64::from(capacity), || {
            let names: Vec<_> = others
                .iter()
                .map(|other| format!("{} by token {}", who(self.world, other.node), other.token))
                .collect();
            format!(
                "{} believes in {} by token {}, and so does {}: {held} units of {capacity}",
                who(self.world, belief.node),
                belief.key,
                belief.token,
                names.join(", and ")
            )
        })
    }

    /// **Tokens** Of one key they rise, in the order in which those begin to believe who have it alone.
    pub(super) fn check_order(
        &self,
        belief: &Belief,
        begun: Option<&(Belief, Option<Belief>)>,
    ) -> Result<(), String> {
        let Some((any, alone)) = begun else { return Ok(()) };
        let before = if belief.is_alone() {
            Some(any)
        } else {
            alone.as_ref()
        };
        let wrong = before.filter(|before| self.comes_too_late(belief, before));
        ensure(wrong.is_none(), || {
            format!(
                "{} begins to believe in {} by token {}, after somebody did by token {}",
                who(self.world, belief.node),
                belief.key,
                belief.token,
                wrong.map_or(0, |before| before.token)
            )
        })
    }

    /// **Abandon** Before a process goes on as another life, it is told that all is over that the one before had.
    pub(super) fn check_life<'b>(
        &self,
        node: NodeIndex,
        mut held: impl Iterator<Item = &'b Belief>,
    ) -> Result<(), String> {
        let life = self.world.process(node).node().map(|node| node.replica().life());
        let old = held.find(|belief| Some(belief.life) != life && belief.lasts(self.world));
        ensure(old.is_none(), || {
            format!(
                "{} has abandoned its group, and still believes in a lock of it: {old:?}",
                who(self.world, node)
            )
        })
    }

    /// **First lease** What a leader has just granted from the queue it takes for over as soon as its holder would be
    /// silent for too long, until that has asked again. `heard` is whose datagram it has just read, which may have been
    /// that.
    pub(super) fn check_first(
        &self,
        leader: NodeIndex,
        replica: &Replica,
        above: u64,
        heard: Option<NodeIndex>,
    ) -> Result<(), String> {
        let found = replica.group().and_then(|group| self.ledger(group));
        let (Some(ledger), Some(leadership)) = (found, replica.leadership()) else {
            return Ok(());
        };
        let process = self.world.process(leader);
        let local = self.world.clock(process.host);
        let config = &process.config;
        for (token, lease) in ledger.leases_above(above) {
            let to = self.world.find(lease.owner.node);
            let here = lease.queued && lease.since == self.world.now() && lease.term == replica.term();
            if !here || to == heard || to == Some(leader) {
                continue;
            }
            let first = config.waiter_ttl;
            let most = local + first + first * u32::from(config.drift_permille) / 1_000 + ROUNDED;
            let deadline = leadership.leases().deadline(token);
            ensure(deadline.is_none_or(|deadline| deadline <= most), || {
                format!(
                    "{} has granted {} by token {token} from the queue, and waits for its holder until {deadline:?}; at most \
                     until {most:?} if that is gone",
                    who(self.world, leader),
                    lease.key
                )
            })?;
        }
        Ok(())
    }

    /// **Inside the service's view** Whoever leads knows of every belief that its group granted, and does not take the
    /// lease for over before the belief is.
    pub(super) fn check_served<'b>(
        &self,
        leader: NodeIndex,
        replica: &Replica,
        beliefs: impl Iterator<Item = &'b Belief>,
    ) -> Result<(), String> {
        let (Some(group), Some(leadership)) = (replica.group(), replica.leadership()) else {
            return Ok(());
        };
        let newest = self.newest_term(group) == replica.term();
        for belief in beliefs.filter(|belief| newest && belief.group == group && belief.lasts(self.world)) {
            let clock = |node: NodeIndex| {
                let host = self.world.process(node).host;
                self.world.machines[host.0].clock
            };
            let now = self.world.now();
            let host = self.world.process(leader).host;
            if !self.counts(belief) || !self.is_right(host, group, now, Instant::ZERO) {
                continue;
            }
            let deadline = leadership.leases().deadline(belief.token);
            let served = deadline.map_or(Some(Instant::ZERO), |at| clock(leader).due(at));
            let believed = clock(belief.node).due(belief.until);
            let inside = matches!((believed, served), (Some(believed), Some(served)) if believed <= served);
            ensure(inside, || {
                format!(
                    "{} believes in {} by token {} until {believed:?}, and {} takes the lease for over at {:?}",
                    who(self.world, belief.node),
                    belief.key,
                    belief.token,
                    who(self.world, leader),
                    served.filter(|_| deadline.is_some())
                )
            })?;
        }
        Ok(())
    }
}
