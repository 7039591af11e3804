//! Nobody does more than it has to: wake-ups, datagrams, time.

#[cfg(test)]
mod tests;

use super::truth::{LATE, Shared};
use super::{Every, ensure, slot, who};
use crate::observe::{Command, Observer, Provenance, Seen};
use crate::world::{NodeIndex, World};
use quorate_core::{Duration, Instant, MAX_DATAGRAM, Stats};

/// Nobody may have more to do than this, however bad the times: a timer that sets itself to the past shows here.
const MAX_WAKES_PER_SECOND: u64 = 2_000;
/// How often a process may be woken without any time passing.
const MAX_WAKES_AT_ONCE: u32 = 200;
/// What a node may send in a second without a message to send, and how much more for each member it lists.
const MAX_SENT_PER_SECOND: u64 = 3_000;
const SENT_EACH: u64 = 100;
/// How many datagrams each kilobyte that was to be sent may cost in a second.
const SENT_PER_CHUNK: u64 = 16;
/// For how many seconds messages count: as long as they may be under way.
const MESSAGES_COUNT: u64 = 30;
/// How long a timer may be due that does not fire.
const STUCK: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Load {
    wakes: u64,
    sent: u64,
    /// Datagrams that it really sent and took in its whole life.
    sent_in_all: u64,
    /// Its next one has this number or a higher one.
    next: u64,
    taken_in_all: u64,
    /// How much more of both it counted when it was looked at first.
    base: Option<(u64, u64)>,
    /// Chunks given to it to send, those of long ago weighing less.
    chunks: u64,
    woken_at: Instant,
    woken: u32,
    /// Since when its timer is known to be due, and nothing has fired it or put it off.
    due_since: Option<Instant>,
    stats: Option<Box<Stats>>,
}

/// Follows what each process does in a second.
#[derive(Debug)]
pub(super) struct Bounds {
    truth: Shared,
    loads: Vec<Load>,
    second: Every,
}

impl Observer for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Sent { datagram, .. } => {
                if let (Some(sender), Provenance::Original | Provenance::Altered) =
                    (datagram.sender, datagram.provenance)
                {
                    let load = slot(&mut self.loads, sender.0);
                    load.sent += 1;
                    // A copy that was altered shares the number of the original.
                    if datagram.number >= load.next {
                        load.next = datagram.number + 1;
                        load.sent_in_all += 1;
                    }
                    let fits = datagram.len > 0 && datagram.len <= MAX_DATAGRAM;
                    return ensure(fits || datagram.provenance != Provenance::Original, || {
                        format!(
                            "{} sent a datagram of {} bytes; at most {MAX_DATAGRAM} are allowed",
                            who(world, sender),
                            datagram.len
                        )
                    });
                }
                Ok(())
            }
            Seen::Arrived { node, .. } => {
                slot(&mut self.loads, node.0).taken_in_all += 1;
                Ok(())
            }
            Seen::Woke { node, late } => self.on_woke(world, node, late),
            Seen::Command { node, command } => {
                self.on_command(world, node, command);
                Ok(())
            }
            Seen::Settled { node } => {
                let load = slot(&mut self.loads, node.0);
                load.due_since = load.due_since.filter(|_| overdue(world, node).is_some());
                if self.second.is_due(world.now()) {
                    return self.each_second(world);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Bounds {
    pub(super) const fn new(truth: Shared) -> Self {
        Self {
            truth,
            loads: Vec::new(),
            second: Every::new(SECOND),
        }
    }

    fn on_woke(&mut self, world: &World, node: NodeIndex, late: Duration) -> Result<(), String> {
        let now = world.now();
        let load = slot(&mut self.loads, node.0);
        load.wakes += 1;
        load.due_since = None;
        load.woken = if load.woken_at == now { load.woken + 1 } else { 1 };
        load.woken_at = now;
        ensure(load.woken <= MAX_WAKES_AT_ONCE, || {
            format!(
                "{} is woken by its timer over and over without any time passing; it is due at {:?} on its own clock, which shows \
                 {:?}",
                who(world, node),
                world
                    .process(node)
                    .node()
                    .and_then(quorate_core::Node::poll_timeout),
                world.clock(world.process(node).host)
            )
        })?;
        if late <= LATE {
            return Ok(());
        }
        let truth = self.truth.borrow();
        let late = truth.lateness(now, node, late);
        ensure(late <= LATE || !truth.well_since(node, now - late - LATE), || {
            format!(
                "{} is woken {:.3} s late, and nothing kept it",
                who(world, node),
                late.as_secs_f64()
            )
        })
    }

    fn on_command(&mut self, world: &World, node: NodeIndex, command: &Command) {
        let (payload, targets) = match command {
            Command::Send { to, payload, .. } | Command::Request { to, payload, .. } => {
                let all = *to == quorate_core::Target::All;
                let members = world
                    .processes()
                    .filter(|(_, process)| process.ended.is_none())
                    .count();
                (payload, if all { members as u64 } else { 1 })
            }
            Command::Reply { payload, .. } => (payload, 1),
            _ => return,
        };
        slot(&mut self.loads, node.0).chunks += targets * (2 + payload.len() as u64 / 1_000);
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        let truth = self.truth.borrow();
        let now = world.now();
        let chunks: u64 = self.loads.iter().map(|load| load.chunks).sum();
        for (index, process) in world.processes() {
            let Some(node) = process.node().filter(|_| process.ended.is_none()) else {
                continue;
            };
            let load = slot(&mut self.loads, index.0);
            let wakes = std::mem::take(&mut load.wakes);
            let sent = std::mem::take(&mut load.sent);
            load.chunks = load.chunks * (MESSAGES_COUNT - 1) / MESSAGES_COUNT;
            let well = truth.well_since(index, now - SECOND * 2);
            // A clock that runs fast makes more seconds of one.
            ensure(!well || wakes <= MAX_WAKES_PER_SECOND + chunks, || {
                format!("{} was woken {wakes} times in a second", who(world, index))
            })?;
            let allowed =
                MAX_SENT_PER_SECOND + SENT_EACH * truth.node(index).listed as u64 + SENT_PER_CHUNK * chunks;
            ensure(!well || sent <= allowed, || {
                format!(
                    "{} sent {sent} datagrams in a second; {allowed} would be enough for what it has to say",
                    who(world, index)
                )
            })?;
            // What arrives may set a timer far into the past: how long ago it was due does not tell how long it waits.
            let late = overdue(world, index).filter(|_| well);
            load.due_since = late.map(|_| load.due_since.unwrap_or(now));
            let waits = load
                .due_since
                .map_or(Duration::ZERO, |since| now.saturating_since(since));
            ensure(waits < STUCK, || {
                format!(
                    "the timer of {} was due {:.3} s ago and does not fire",
                    who(world, index),
                    late.unwrap_or_default().as_secs_f64()
                )
            })?;
            let stats = node.stats();
            let fell = load.stats.as_ref().is_some_and(|before| fell(before, stats));
            ensure(!fell, || {
                format!("a counter of {} fell: {stats:?}", who(world, index))
            })?;
            let counted = (stats.datagrams_sent, stats.datagrams_received);
            // Before the first look nobody may have watched.
            let base = load.base.get_or_insert((
                counted.0.wrapping_sub(load.sent_in_all),
                counted.1.wrapping_sub(load.taken_in_all),
            ));
            let really = (
                load.sent_in_all.wrapping_add(base.0),
                load.taken_in_all.wrapping_add(base.1),
            );
            ensure(counted == really, || {
                format!(
                    "{} counts {counted:?} datagrams sent and received; there were {really:?}",
                    who(world, index)
                )
            })?;
            match &mut load.stats {
                Some(before) => (**before).clone_from(stats),
                None => load.stats = Some(Box::new(stats.clone())),
            }
        }
        Ok(())
    }
}

/// Returns how long ago the timer of a process was due, on its own clock, if it is.
fn overdue(world: &World, node: NodeIndex) -> Option<Duration> {
    let process = world.process(node);
    let due = process.node()?.poll_timeout()?;
    let local = world.clock(process.host);
    (due <= local).then(|| local.saturating_since(due))
}

/// Returns whether any counter is lower than before.
fn fell(before: &Stats, after: &Stats) -> bool {
    let counters = |stats: &Stats| {
        [
            stats.datagrams_received,
            stats.datagrams_opened,
            stats.datagrams_sent,
            stats.bytes_sent,
            stats.handshakes,
            stats.rekeys,
            stats.messages_sent,
            stats.messages_received,
            stats.retransmits,
            stats.suspicions,
            stats.refutations,
        ]
    };
    let reasons = quorate_core::DropReason::ALL.iter();
    counters(before)
        .iter()
        .zip(counters(after))
        .any(|(&before, after)| after < before)
        || reasons
            .copied()
            .any(|reason| after.dropped(reason) < before.dropped(reason))
}
