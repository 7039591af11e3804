//! What runs on a node: the application, without I/O.

use bytes::Bytes;
use quorate_core::{
    DrawError, DrawId, Duration, Event, Instant, LockCursor, LockError, LockFilter, LockId, LockRequest,
    Message, Node, NodeId, ReplyError, ReplyTo, RequestId, SendError, SendId, Target,
};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

/// An application on one process: a state machine that is told what happens, and acts through its [`Cx`].
///
/// A process that crashes loses its `App`; the one that is started in its place gets a new one. All methods have
/// defaults that do nothing.
pub trait App {
    /// The process has started.
    fn start(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    /// The node says that something happened.
    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        let _ = (cx, event);
    }

    /// A message or a request has arrived. A request is answered with [`Cx::reply`], now or later.
    fn message(&mut self, cx: &mut Cx<'_>, message: Message) {
        let _ = (cx, message);
    }

    /// The time that was set with [`Cx::set_timer`] has come.
    fn timeout(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }
}

/// An application that remembers everything it was told.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The events, with their true times.
    pub events: Vec<(Instant, Event)>,
    /// The messages, with their true times.
    pub messages: Vec<(Instant, Message)>,
}

impl App for Recorder {
    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.events.push((cx.true_time(), event));
    }

    fn message(&mut self, cx: &mut Cx<'_>, message: Message) {
        self.messages.push((cx.true_time(), message));
    }
}

/// An application that does nothing, and answers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle;

impl App for Idle {}

/// What an application can do: give commands to its node, set its timer, draw randomness, and object.
pub struct Cx<'a> {
    pub(crate) node: &'a mut Node,
    pub(crate) now: Instant,
    pub(crate) true_time: Instant,
    pub(crate) timer: &'a mut Option<Instant>,
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) said: &'a mut Said,
}

/// What an application did during one call.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) failure: Option<String>,
    pub(crate) covered: Vec<&'static str>,
}

impl Said {
    pub(crate) const fn is_empty(&self) -> bool {
        self.failure.is_none() && self.covered.is_empty()
    }
}

impl Cx<'_> {
    /// Returns the time on this host's steady clock, which may be wrong.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Returns the true time, which no application knows in earnest. For bookkeeping of tests.
    pub const fn true_time(&self) -> Instant {
        self.true_time
    }

    /// Returns the id of this process.
    pub fn id(&self) -> NodeId {
        self.node.id()
    }

    /// Returns the node, to look at: members, quorum, status, counters.
    pub const fn node(&self) -> &Node {
        self.node
    }

    /// Sends a message, see [`Node::send`].
    ///
    /// # Errors
    /// As [`Node::send`].
    pub fn send(
        &mut self,
        to: Target,
        payload: impl Into<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<SendId, SendError> {
        self.node.send(self.now, to, payload.into(), deadline)
    }

    /// Sends a request, see [`Node::request`].
    ///
    /// # Errors
    /// As [`Node::request`].
    pub fn request(
        &mut self,
        to: Target,
        payload: impl Into<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<RequestId, SendError> {
        self.node.request(self.now, to, payload.into(), deadline)
    }

    /// Answers a request, see [`Node::reply`].
    ///
    /// # Errors
    /// As [`Node::reply`].
    pub fn reply(&mut self, to: ReplyTo, payload: impl Into<Bytes>) -> Result<(), ReplyError> {
        self.node.reply(self.now, to, payload.into())
    }

    /// Closes a request without an answer, see [`Node::ignore`].
    pub fn ignore(&mut self, to: ReplyTo) {
        self.node.ignore(self.now, to);
    }

    /// Forgets a message, see [`Node::cancel_send`].
    pub fn cancel_send(&mut self, id: SendId) {
        self.node.cancel_send(id);
    }

    /// Forgets a request, see [`Node::cancel_request`].
    pub fn cancel_request(&mut self, id: RequestId) {
        self.node.cancel_request(id);
    }

    /// Asks the group for a token, which is higher than all before. Exactly one of [`Event::TokenDrawn`] and
    /// [`Event::TokenFailed`] follows. A lock brings a token with it; this is one without a lock.
    ///
    /// # Errors
    /// [`DrawError`]; nothing was asked for.
    pub fn draw_token(&mut self) -> Result<DrawId, DrawError> {
        self.node.draw_token(self.now)
    }

    /// Asks for a lock, see [`Node::lock`].
    ///
    /// # Errors
    /// As [`Node::lock`].
    pub fn lock(&mut self, request: LockRequest) -> Result<LockId, LockError> {
        self.node.lock(self.now, request)
    }

    /// Gives a lock back, or gives up waiting for it, see [`Node::unlock`].
    ///
    /// # Errors
    /// As [`Node::unlock`].
    pub fn unlock(&mut self, id: LockId) -> Result<(), LockError> {
        self.node.unlock(self.now, id)
    }

    /// Changes the length of a lock's leases, see [`Node::set_lock_ttl`].
    ///
    /// # Errors
    /// As [`Node::set_lock_ttl`].
    pub fn set_lock_ttl(&mut self, id: LockId, ttl: Duration) -> Result<(), LockError> {
        self.node.set_lock_ttl(self.now, id, ttl)
    }

    /// Asks who holds and waits for locks, see [`Node::list_locks`].
    ///
    /// # Errors
    /// As [`Node::list_locks`].
    pub fn list_locks(&mut self, filter: LockFilter, after: Option<LockCursor>) -> Result<LockId, LockError> {
        self.node.list_locks(self.now, filter, after)
    }

    /// Takes a lock from whoever holds it by this token, see [`Node::revoke_lock`].
    ///
    /// # Errors
    /// As [`Node::revoke_lock`].
    pub fn revoke_lock(&mut self, token: u64, at_once: bool) -> Result<LockId, LockError> {
        self.node.revoke_lock(self.now, token, at_once)
    }

    /// Leaves the cluster, see [`Node::leave`].
    pub fn leave(&mut self) {
        self.node.leave(self.now);
    }

    /// Resolves the seed names again, see [`Node::refresh`].
    pub fn refresh(&mut self) {
        self.node.refresh(self.now);
    }

    /// Gives anything else to the node, with the time on its clock.
    pub fn node_mut<T>(&mut self, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        act(self.node, self.now)
    }

    /// Asks for [`App::timeout`] at this time of the host's clock, instead of any earlier wish; `None` takes it back.
    pub const fn set_timer(&mut self, at: Option<Instant>) {
        *self.timer = at;
    }

    /// Asks for [`App::timeout`] after this long, instead of any earlier wish.
    pub fn set_timer_in(&mut self, after: Duration) {
        *self.timer = Some(self.now + after);
    }

    /// Draws 64 bits from this process's own stream.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Reports that something is wrong that the application itself noticed: a violation.
    pub fn fail(&mut self, what: impl Into<String>) {
        self.said.failure.get_or_insert_with(|| what.into());
    }

    /// Counts that something rare happened, see [`Sim::coverage`](crate::Sim::coverage).
    pub fn cover(&mut self, name: &'static str) {
        self.said.covered.push(name);
    }
}

impl std::fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
