//! The one task that drives a node.

mod locks;
mod resolver;
#[cfg(feature = "simulation")]
mod simulation;
#[cfg(test)]
mod tests;
mod view;

use crate::cluster::{
    COMMAND_QUEUE, Cluster, Command, Handle, OpKey, Outcome, Parcel, Shared, SlotWriter, View,
};
use crate::error::DriverError;
use crate::io::{Io, SendBatch};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::future::poll_fn;
use core::mem;
use core::task::{Context, Poll};
use locks::Locks;
use quorate_core::{
    AeadProvider, Config, ConfigError, DeliveryError, Duration, Event, Instant, MAX_DATAGRAM, Node, NodeId,
    WallTime,
};
use resolver::Resolver;
use view::ViewKeeper;
use zeroize::Zeroizing;

/// Datagrams that are received before anything else gets its turn.
const RECEIVE_BOUND: usize = 256;
/// The same after a gap, when timers must not run before what arrived in the meantime was seen.
const CATCH_UP_BOUND: usize = 16_384;
/// Commands in a pass.
const COMMAND_BOUND: usize = 128;
/// Batches that are sent in a pass.
const SEND_BOUND: usize = 4;
/// Later than this is a gap: the process was paused, or the machine is overloaded. The core draws the same line.
const LATE: Duration = Duration::from_millis(100);
/// How long timers that are due wait for the socket to be empty. Well below `LATE`: a busy node would otherwise
/// acknowledge too late, and never suspect anybody.
const TIMER_PATIENCE: Duration = Duration::from_millis(10);
/// How long the socket is left alone after an error, and how many errors in a row are the end.
const RECEIVE_RETRY: Duration = Duration::from_millis(20);
const RECEIVE_FAILURES: u32 = 500;
/// How often in a row a socket may have something that is no datagram (ICMP errors), until it is left alone that long
/// too: it may go on for ever.
const RECEIVE_NOTHING: u32 = 64;
/// How long leaving may take beyond what the config allows, should the node never say that it is done.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

/// What a node is made of, besides an [`Io`].
pub struct Setup {
    config: Config,
    seed: Zeroizing<[u8; 32]>,
    aead: Option<Box<dyn AeadProvider>>,
    #[cfg(feature = "simulation")]
    simulated: bool,
    #[cfg(feature = "testing")]
    filter: Option<crate::Filter>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed is as secret as the keys that are drawn from it.
        f.debug_struct("Setup")
            .field("config", &self.config)
            .field("aead", &self.aead)
            .finish_non_exhaustive()
    }
}

impl Setup {
    /// Takes the settings and 32 bytes from which everything random is drawn. They must be fresh at every start: the
    /// node's id and its keys come from them.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            seed: Zeroizing::new(seed),
            aead: None,
            #[cfg(feature = "simulation")]
            simulated: false,
            #[cfg(feature = "testing")]
            filter: None,
        }
    }

    /// Seals with this implementation of ChaCha20-Poly1305 in place of the core's own.
    #[must_use]
    pub fn aead(mut self, aead: Box<dyn AeadProvider>) -> Self {
        self.aead = Some(aead);
        self
    }

    /// Seals with a checksum in place of the cryptography: [`Node::simulated`]. Exists only with the feature
    /// `simulation`.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub const fn simulated(mut self) -> Self {
        self.simulated = true;
        self
    }

    fn node(&mut self, now: Instant, wall: WallTime) -> Result<Node, ConfigError> {
        let config = mem::take(&mut self.config);
        #[cfg(feature = "simulation")]
        if self.simulated {
            return Node::simulated(config, *self.seed, now, wall);
        }
        match self.aead.take() {
            Some(aead) => Node::with_aead(config, *self.seed, now, wall, aead),
            None => Node::new(config, *self.seed, now, wall),
        }
    }

    /// Passes every outgoing datagram through a filter. Exists only with the feature `testing`.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn filter(mut self, filter: crate::Filter) -> Self {
        self.filter = Some(filter);
        self
    }
}

/// How far a pass is. Each step gives the node one thing, or one batch of datagrams.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Begin,
    /// So much was received, and so much may be; so often in a row there was nothing.
    Receive {
        received: usize,
        bound: usize,
        nothing: u32,
    },
    /// So many more commands may be taken.
    Commands(usize),
    Timers,
    HandOut,
}

/// A node with its [`Io`], to be [run](Driver::run) in a task of its own.
///
/// A pass of the driver: receive a bounded number of datagrams; take a bounded number of commands; run the timers, if
/// the socket is empty or they are more than 10 ms late; hand out messages, as far as there is room; send a bounded
/// number of datagrams. Events are handed out after each thing that the node was given. Where a bound was hit, the task
/// yields and goes on. After a gap of more than 100 ms
/// (a paused process, a suspended machine) the socket is emptied before the timers run, so that nobody is suspected
/// whose answers are already here.
pub struct Driver<I: Io> {
    node: Node,
    io: I,
    shared: Arc<Shared>,
    commands: async_channel::Receiver<Command>,
    resolver: Resolver,
    view: ViewKeeper,
    batch: SendBatch,
    datagram: Vec<u8>,
    stage: Stage,
    /// Whether the socket was empty when this pass looked last, and whether it leaves anything to the next one.
    drained: bool,
    more: bool,
    /// When the next pass should run at the latest.
    expected: Option<Instant>,
    receive_again: Option<Instant>,
    receive_failures: u32,
    /// Set by `leave`: when to stop waiting for its end.
    leaving: Option<Instant>,
    left: bool,
    #[cfg(feature = "simulation")]
    unread: bool,
    #[cfg(feature = "testing")]
    filter: Option<crate::Filter>,
    // Fields are dropped in this order: whoever learns that it is over finds the socket closed and the port free.
    farewell: Farewell,
    /// Where the outcomes of what is under way go.
    ops: BTreeMap<OpKey, SlotWriter<Outcome>>,
    locks: Locks,
}

impl<I: Io> fmt::Debug for Driver<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("id", &self.node.id())
            .finish_non_exhaustive()
    }
}

impl<I: Io> Driver<I> {
    /// Builds a node and the first handle to it. Nothing happens before [`Driver::run`] is polled.
    ///
    /// # Errors
    /// Everything that is wrong with the settings.
    pub fn new(setup: Setup, io: I) -> Result<(Cluster, Self), ConfigError> {
        let mut setup = setup;
        // `Cluster` takes the keys out of this copy.
        let copy = setup.config.clone();
        let (now, wall) = (io.now(), io.wall());
        let node = setup.node(now, wall)?;
        let view = View {
            has_quorum: node.has_quorum(),
            quorum_size: copy.quorum_size(),
            settled: node.is_settled(),
            ..View::default()
        };
        let keeper = ViewKeeper::new(&copy, &view, now);
        let shared = Arc::new(Shared::new(view, copy.window_bytes, io.clock()));
        let (sender, commands) = async_channel::bounded(COMMAND_QUEUE);
        let handle = Handle::new(Arc::clone(&shared), sender);
        let cluster = Cluster::new(handle, node.id(), io.local_addr(), copy);
        let driver = Self {
            farewell: Farewell {
                shared: Arc::clone(&shared),
                commands: commands.clone(),
                over: None,
            },
            ops: BTreeMap::new(),
            locks: Locks::new(Arc::clone(&shared)),
            node,
            io,
            shared,
            commands,
            resolver: Resolver::default(),
            view: keeper,
            batch: SendBatch::default(),
            datagram: Vec::with_capacity(MAX_DATAGRAM),
            stage: Stage::Begin,
            drained: false,
            more: false,
            expected: None,
            receive_again: None,
            receive_failures: 0,
            leaving: None,
            left: false,
            #[cfg(feature = "simulation")]
            unread: false,
            #[cfg(feature = "testing")]
            filter: setup.filter,
        };
        Ok((cluster, driver))
    }

    /// Runs the node until it has left the cluster. To be spawned; dropping it stops the node without a goodbye, and
    /// everybody who waits for it learns that.
    pub async fn run(mut self) {
        poll_fn(|cx| self.pass(cx)).await;
    }

    fn pass(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(over) = self.step(cx) {
                return over;
            }
        }
    }

    /// Does the next step of a pass. `None`: the pass is not over.
    fn step(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        match self.stage {
            Stage::Begin => {
                // First of all: what is put into a queue from here on rings again.
                self.shared.doorbell.answer(cx.waker());
                let now = self.io.now();
                let gap = self
                    .expected
                    .is_some_and(|expected| now.saturating_since(expected) > LATE);
                let bound = if gap { CATCH_UP_BOUND } else { RECEIVE_BOUND };
                self.more = false;
                self.drained = self.receive_again.is_some_and(|at| now < at);
                self.stage = if self.drained {
                    Stage::Commands(COMMAND_BOUND)
                } else {
                    self.receive_again = None;
                    Stage::Receive {
                        received: 0,
                        bound,
                        nothing: 0,
                    }
                };
            }
            Stage::Receive {
                received,
                bound,
                nothing,
            } => self.receive(cx, received, bound, nothing),
            Stage::Commands(left) => {
                if left == COMMAND_BOUND {
                    self.give_up_abandoned();
                }
                self.take_command(left);
            }
            Stage::Timers => {
                self.begin_to_leave();
                self.run_timers();
                self.more |= self.resolve(cx);
                self.stage = Stage::HandOut;
            }
            Stage::HandOut => {
                self.more |= self.hand_out_messages();
                self.more |= self.send(cx);
                self.stage = Stage::Begin;
            }
        }
        self.hand_out_events();
        matches!(self.stage, Stage::Begin).then(|| self.end_pass(cx))
    }

    fn end_pass(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.view.publish(&self.node, &self.shared, self.io.now());
        let late = self.leaving.is_some_and(|deadline| self.io.now() >= deadline);
        if late || (self.left && !self.more) {
            self.farewell.over.get_or_insert(Ok(()));
        }
        if self.farewell.over.is_some() {
            return Poll::Ready(());
        }
        self.sleep(cx);
        Poll::Pending
    }

    /// Receives one batch.
    fn receive(&mut self, cx: &mut Context<'_>, before: usize, bound: usize, nothing: u32) {
        let now = self.io.now();
        let mut received = before;
        let (node, shared) = (&mut self.node, &self.shared);
        let result = self.io.poll_recv(cx, &mut |from, datagram| {
            received += 1;
            // SAFETY (renewal): a leader counts leases from when it hears of them. The clock from before would be too
            // early where this process was stopped meanwhile, and the leader would end a lease before its holder does.
            node.handle_datagram(shared.now(), from, datagram);
        });
        self.drained = match result {
            Poll::Pending => {
                self.receive_failures = 0;
                true
            }
            Poll::Ready(Ok(())) => {
                self.receive_failures = 0;
                let nothing = if received == before { nothing + 1 } else { 0 };
                if nothing >= RECEIVE_NOTHING {
                    self.receive_again = Some(now + RECEIVE_RETRY);
                }
                self.stage = Stage::Receive {
                    // Counts also what brought nothing, or that could go on for ever.
                    received: received + 1,
                    bound,
                    nothing,
                };
                nothing >= RECEIVE_NOTHING
            }
            Poll::Ready(Err(error)) => {
                self.receive_failures += 1;
                self.receive_again = Some(now + RECEIVE_RETRY);
                if self.receive_failures >= RECEIVE_FAILURES {
                    self.farewell.over = Some(Err(DriverError::Socket(Arc::new(error))));
                }
                true
            }
        };
        if self.drained || received + 1 >= bound {
            self.more |= !self.drained;
            self.stage = Stage::Commands(COMMAND_BOUND);
        }
    }

    fn take_command(&mut self, left: usize) {
        match self.commands.try_recv() {
            Ok(command) => {
                // What was given up before this was asked for is there by now, and comes first: also if all of it
                // happened while this pass was under way.
                self.give_up_abandoned();
                self.handle_command(self.io.now(), command);
                self.more |= left == 1;
                self.stage = match left {
                    1 => Stage::Timers,
                    left => Stage::Commands(left - 1),
                };
            }
            Err(_) => self.stage = Stage::Timers,
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Send(to, payload, None) => {
                // Nobody wants to know.
                let _ = self.node.send(now, to, payload, None);
            }
            Command::Send(to, payload, Some(slot)) => {
                if !slot.is_abandoned() {
                    let result = self.node.send(now, to, payload, None);
                    self.begin(result.map(OpKey::Send), slot);
                }
            }
            Command::Request(to, payload, timeout, slot) => {
                if !slot.is_abandoned() {
                    let result = self.node.request(now, to, payload, Some(now + timeout));
                    self.begin(result.map(OpKey::Request), slot);
                }
            }
            Command::Reply(to, payload, slot) => {
                let result = self.node.reply(now, to, payload);
                if result.is_err() {
                    // One that is too large would leave the request open, with nobody left to answer it.
                    self.node.ignore(now, to);
                }
                if let Some(slot) = slot {
                    slot.finish(Some(result));
                }
            }
            Command::Status(slot) => slot.finish(Some(self.node.status(now))),
            Command::Stats(slot) => slot.finish(Some(self.node.stats().clone())),
            Command::Refresh => self.node.refresh(now),
            Command::SetKeys(keys, slot) => {
                self.node.set_keys(now, keys);
                slot.finish(Some(()));
            }
            Command::Lock(request, slot) => self.locks.ask(&mut self.node, now, request, slot),
            Command::SetLockTtl(id, ttl, slot) => {
                let result = self.locks.set_ttl(&mut self.node, now, id, ttl);
                slot.finish(Some(result));
            }
            Command::ListLocks(filter, after, slot) => {
                self.locks.list(&mut self.node, now, filter, after, slot);
            }
            Command::RevokeLock { token, at_once, slot } => {
                self.locks.revoke(&mut self.node, now, token, at_once, slot);
            }
            Command::WatchLock(key, slot) => self.locks.watch(&mut self.node, now, &key, slot),
        }
    }

    fn begin(&mut self, started: Result<OpKey, quorate_core::SendError>, slot: SlotWriter<Outcome>) {
        match started {
            Ok(key) if slot.started(key) => {
                self.ops.insert(key, slot);
            }
            Ok(key) => self.cancel(key),
            Err(error) => slot.finish(Some(Outcome::Refused(error))),
        }
    }

    fn cancel(&mut self, key: OpKey) {
        match key {
            OpKey::Send(id) => self.node.cancel_send(id),
            OpKey::Request(id) => self.node.cancel_request(id),
            OpKey::Lock(id) => self.locks.give_up(&mut self.node, self.io.now(), id),
        }
    }

    fn give_up_abandoned(&mut self) {
        for key in self.shared.take_abandoned() {
            if matches!(key, OpKey::Lock(_)) || self.ops.remove(&key).is_some() {
                self.cancel(key);
            }
        }
        let ignored = self.shared.take_ignored();
        if !ignored.is_empty() {
            let now = self.io.now();
            for to in ignored {
                self.node.ignore(now, to);
            }
        }
    }

    fn begin_to_leave(&mut self) {
        if self.leaving.is_none() && self.shared.wants_leave() {
            let now = self.io.now();
            self.node.leave(now);
            self.leaving = Some(now + self.node.config().longest_leave() + LEAVE_GRACE);
        }
    }

    /// Timers wait for an empty socket, lest an answer that is already there come too late; but not for ever.
    fn run_timers(&mut self) {
        let now = self.io.now();
        if let Some(due) = self.node.poll_timeout()
            && due <= now
            && (self.drained || now.saturating_since(due) > TIMER_PATIENCE)
        {
            self.node.handle_timeout(now);
        }
        self.locks.handle_timeout(now);
    }

    /// Returns whether something was resolved, so that others may get their turn.
    fn resolve(&mut self, cx: &mut Context<'_>) -> bool {
        let (node, io, view) = (&mut self.node, &self.io, &mut self.view);
        self.resolver.poll(
            cx,
            io.now(),
            |host| io.resolve(host),
            node,
            |addrs| view.note_seeds(addrs),
        )
    }

    fn hand_out_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::SendDone { id, to, result } => {
                    self.outcome(OpKey::Send(id), to, result.map(|()| Bytes::new()));
                }
                Event::Reply { id, from, payload } => {
                    self.outcome(OpKey::Request(id), Some(from), Ok(payload));
                }
                Event::RequestFailed { id, to, error } => self.outcome(OpKey::Request(id), to, Err(error)),
                Event::SendFinished(id) => self.finish(OpKey::Send(id)),
                Event::RequestDone(id) => self.finish(OpKey::Request(id)),
                Event::LeaveDone => self.left = true,
                Event::Lock(event) => self.locks.handle(&mut self.node, self.io.now(), event),
                event => self.view.tell(&self.node, &self.shared, self.io.now(), event),
            }
        }
    }

    fn outcome(&mut self, key: OpKey, to: Option<NodeId>, result: Result<Bytes, DeliveryError>) {
        if let Some(slot) = self.ops.get(&key) {
            slot.push(Outcome::Target(to, result));
            if to.is_none() {
                // Without targets there is nothing to wait for.
                self.finish(key);
            }
        }
    }

    fn finish(&mut self, key: OpKey) {
        if let Some(slot) = self.ops.remove(&key) {
            slot.finish(None);
        }
    }

    /// Returns whether there may be more.
    fn hand_out_messages(&mut self) -> bool {
        #[cfg(feature = "simulation")]
        if self.unread {
            return false;
        }
        for _ in 0..RECEIVE_BOUND {
            if !self.shared.inbox.has_room() {
                return false;
            }
            let now = self.io.now();
            let Some(message) = self.node.poll_message(now) else {
                return false;
            };
            self.shared.inbox.put(Parcel {
                from: message.from,
                payload: message.payload,
                reply_to: message.reply_to,
                remaining: message.deadline.map(|deadline| deadline.saturating_since(now)),
            });
        }
        true
    }

    /// Returns whether there may be more. What the socket does not take waits, and so does everything behind it, in
    /// the node's bounded queues; receiving and timers go on.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..SEND_BOUND {
            let mut dry = false;
            if self.batch.is_empty() {
                dry = self.fill_batch();
                if self.batch.is_empty() {
                    return false;
                }
            }
            let sent = self.io.poll_send(cx, &mut self.batch);
            let mut failed = false;
            while let Some((to, failure)) = self.batch.take_failure() {
                self.node.handle_send_error(self.io.now(), to, failure);
                failed = true;
            }
            if sent.is_pending() || dry {
                return failed;
            }
        }
        true
    }

    /// Returns whether the node has nothing more to send.
    fn fill_batch(&mut self) -> bool {
        self.batch.clear();
        let now = self.io.now();
        while !self.batch.is_full() {
            self.datagram.clear();
            let Some(transmit) = self.node.poll_transmit(now, &mut self.datagram) else {
                return true;
            };
            #[cfg(feature = "testing")]
            if let Some(filter) = &mut self.filter
                && !filter.passes(transmit.to, &self.datagram)
            {
                continue;
            }
            self.batch.push(transmit.to, &self.datagram);
        }
        false
    }

    fn sleep(&mut self, cx: &mut Context<'_>) {
        if self.more {
            self.expected = Some(self.io.now());
            cx.waker().wake_by_ref();
            return;
        }
        let deadlines = [
            self.node.poll_timeout(),
            self.resolver.poll_timeout(),
            self.locks.poll_timeout(),
            self.receive_again,
            self.leaving,
        ];
        self.expected = deadlines.into_iter().flatten().min();
        if let Some(until) = self.expected
            && self.io.poll_sleep(cx, until).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }
}

/// Tells everybody who waits that it is over, when it is dropped.
struct Farewell {
    shared: Arc<Shared>,
    commands: async_channel::Receiver<Command>,
    /// Set when the driver ends by itself, and not because it is dropped.
    over: Option<Result<(), DriverError>>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.commands.close();
        self.shared
            .stop(self.over.take().unwrap_or(Err(DriverError::Aborted)));
        // A queue lives as long as its senders do, and with it whoever waits for a slot in it.
        while self.commands.try_recv().is_ok() {}
    }
}
