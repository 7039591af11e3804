//! The handle to a running node.

mod answers;
mod events;
mod health;
mod locks;
mod messages;
mod shared;
mod slot;
#[cfg(test)]
mod tests;

use crate::error::{Closed, DriverError, ReadyError, RequestError, SendFailed};
use crate::payload::IntoPayload;
use alloc::sync::Arc;
use alloc::vec::Vec;
pub use answers::{Answer, Answers, Delivery};
use bytes::Bytes;
use core::future::poll_fn;
use core::net::SocketAddr;
pub use events::{ClusterEvent, Events};
pub use health::Health;
pub use locks::{
    Election, Leader, Leaders, Leadership, Lease, LockBuilder, LockGuard, LockInfo, LockPages, LockWatch,
};
pub use messages::{Incoming, Messages};
use quorate_core::{Config, Duration, KeyRing, Member, NodeId, Security, Stats, Status, Target};
use slot::{Reader, Wake, Writer, slot};

pub(crate) use locks::Hold;
pub(crate) use messages::Parcel;
pub(crate) use shared::{COMMAND_QUEUE, Command, Handle, Outcome, Shared, View};
pub(crate) use slot::{OpKey, Writer as SlotWriter};

/// A handle to a node of a cluster: cheap to clone, usable from any thread and any executor.
///
/// The node runs in a task of its own. It leaves the cluster on [`Cluster::shutdown`], or when the last handle
/// (`Cluster`, [`Events`], [`Messages`], [`Incoming`], [`Answers`], [`LockGuard`] and what leads to one) is dropped. At
/// the end of a program, call `shutdown`: a runtime that stops does not wait for the goodbye of a dropped handle, and
/// the others would take this node for failed.
///
/// ```no_run
/// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// cluster.ready().await?;
/// println!("{} other members", cluster.member_count());
/// for delivery in cluster.broadcast(b"cache:drop:42").await? {
///     if let Err(error) = delivery.result {
///         eprintln!("{}: {error}", delivery.to);
///     }
/// }
/// for answer in cluster.request_all("status", Duration::from_secs(2)).await? {
///     println!("{}: {:?}", answer.from, answer.result);
/// }
/// cluster.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    handle: Arc<Handle>,
    facts: Arc<Facts>,
}

/// What never changes.
#[derive(Debug)]
struct Facts {
    id: NodeId,
    local_addr: SocketAddr,
    is_secure: bool,
    config: Config,
}

impl Cluster {
    pub(crate) fn new(handle: Handle, id: NodeId, local_addr: SocketAddr, mut config: Config) -> Self {
        let is_secure = matches!(config.security, Security::Keys(_));
        if is_secure {
            config.security = Security::Unset;
        }
        Self {
            handle: Arc::new(handle),
            facts: Arc::new(Facts {
                id,
                local_addr,
                is_secure,
                config,
            }),
        }
    }

    // What is known without asking.

    /// Returns this node's id.
    pub fn id(&self) -> NodeId {
        self.facts.id
    }

    /// Returns the address that the socket is bound to. Its address may be unspecified (`0.0.0.0`); its port is the
    /// real one, also where `bind` asked for port 0. Where others reach this node is told by [`Status::addr`].
    pub fn local_addr(&self) -> SocketAddr {
        self.facts.local_addr
    }

    /// Returns whether datagrams are sealed with a secret key.
    pub fn is_secure(&self) -> bool {
        self.facts.is_secure
    }

    /// Returns the settings that the node was started with, without the keys: `security` is `Unset` where there were
    /// any, so that no second copy of them stays in memory.
    pub fn config(&self) -> &Config {
        &self.facts.config
    }

    /// Returns the other members, in the order of their ids. Joins and leaves are seen at once, no later than by
    /// [`Cluster::events`]; `state` and `incarnation` may be half a second behind the first call after a pause. After
    /// the end: the members at the end.
    pub fn members(&self) -> Vec<Member> {
        self.handle.shared.members().members.values().cloned().collect()
    }

    /// Returns how many other members there are.
    pub fn member_count(&self) -> usize {
        self.handle.shared.view().members.len()
    }

    /// Returns one other member.
    pub fn member(&self, id: NodeId) -> Option<Member> {
        self.handle.shared.members().members.get(&id).cloned()
    }

    /// Returns the other member that is reached at this address. Looks at all of them.
    pub fn member_by_addr(&self, addr: SocketAddr) -> Option<Member> {
        let view = self.handle.shared.members();
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        view.members.values().find(|member| member.addr == addr).cloned()
    }

    /// Returns whether a quorum is present: `quorum_size` live voters, this node included if it is one. Always true
    /// where `cluster_size` is unset. False after the end.
    pub fn has_quorum(&self) -> bool {
        self.handle.shared.view().has_quorum
    }

    /// Returns how many voters make a quorum, 0 where `cluster_size` is unset. An observer adopts the cluster's value
    /// when it meets it.
    pub fn quorum_size(&self) -> usize {
        self.handle.shared.view().quorum_size
    }

    // Questions to the driver.

    /// Returns the state of the node: everything that [`Cluster::health`] sums up, and more. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn status(&self) -> Result<Status, Closed> {
        self.ask(Command::Status).await
    }

    /// Returns the counters since the start (what others call metrics). Cancel safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn stats(&self) -> Result<Stats, Closed> {
        self.ask(Command::Stats).await
    }

    async fn ask<T>(&self, question: impl FnOnce(Writer<T>) -> Command) -> Result<T, Closed> {
        let mut call = Call::begin(&self.handle, Wake::End, question).await?;
        call.next().await.unwrap_or(Err(Closed))
    }

    // Waiting.

    /// Waits until this node plays its part: discovery has tried every seed, those that answered were asked for their
    /// members, and with `cluster_size` set a voter has its seat, or is ready to take one while all are held.
    ///
    /// Without `cluster_size` a node whose seeds all stay silent is ready too, and alone; that takes as long as the
    /// slowest seed, some seconds at most. With it there is no limit: until a quorum of voters runs, no voter is ready.
    /// Start the voters of a new cluster side by side, none after the readiness of another. Cancel safe.
    ///
    /// The group may grant locks a moment later only, and `max_ttl` later if it was founded without one of its voters, or
    /// with `surge` or `allow_observers`: `acquire` waits for that, `try_acquire` says
    /// [`LockError::NotOpen`](quorate_core::LockError::NotOpen), and [`Health::can_lock`](crate::Health::can_lock) tells
    /// when.
    ///
    /// # Errors
    /// [`ReadyError::UnknownKey`] if no member was found and a seed uses a key that this node does not have (which shows
    /// only if that one dials this node as well);
    /// [`ReadyError::Closed`].
    pub async fn ready(&self) -> Result<(), ReadyError> {
        self.handle.shared.wait(View::readiness).await
    }

    /// Waits until a quorum is present; at once where `cluster_size` is unset. There is no limit to the wait. Cancel
    /// safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn wait_for_quorum(&self) -> Result<(), Closed> {
        let check = |view: &View| match &view.stopped {
            Some(_) => Some(Err(Closed)),
            None => view.has_quorum.then_some(Ok(())),
        };
        self.handle.shared.wait(check).await
    }

    /// Waits until the driver has stopped: after [`Cluster::shutdown`] of any clone, or because it had to. The socket is
    /// closed then, and its port free. Cancel safe.
    ///
    /// # Errors
    /// [`DriverError`] if it stopped without having been asked to.
    pub async fn closed(&self) -> Result<(), DriverError> {
        self.handle.shared.wait(|view| view.stopped.clone()).await
    }

    // Listening.

    /// Subscribes to membership, quorum and warnings from now on.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.handle))
    }

    /// Returns a reader of the messages and requests that others send to this node. All readers of a node compete.
    pub fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.handle))
    }

    // Speaking.

    /// Sends a message to every other member and returns what became of it for each, in the order of the outcomes.
    ///
    /// Waits first until a quorum is present, where `cluster_size` is set; the targets are fixed then. Delivered means:
    /// in the receiving node's queue. Takes at most `message_timeout`. Dropping the future gives the message up where
    /// it was not transmitted yet.
    ///
    /// # Errors
    /// [`SendFailed::Refused`] if it is too large or too many wait already for the quorum (or for the only member; where
    /// too many wait for one of several, its [`Delivery`] says so), [`SendFailed::Undelivered`] with
    /// [`NoQuorum`](crate::DeliveryError::NoQuorum) if the quorum was not reached in time, [`SendFailed::Closed`].
    pub async fn broadcast(&self, payload: impl IntoPayload) -> Result<Vec<Delivery>, SendFailed> {
        let payload = payload.into_payload();
        let command = |slot| Command::Send(Target::All, payload, Some(slot));
        let mut call = Call::begin(&self.handle, Wake::End, command).await?;
        let mut deliveries = Vec::new();
        while let Some(outcome) = call.next().await {
            match outcome? {
                Outcome::Target(Some(to), result) => deliveries.push(Delivery {
                    to,
                    result: result.map(drop),
                }),
                Outcome::Target(None, result) => result.map(drop)?,
                Outcome::Refused(error) => return Err(error.into()),
            }
        }
        Ok(deliveries)
    }

    /// Sends a message to one member and waits until it is in that node's queue. Does not wait for a quorum. Takes at
    /// most `message_timeout`. Dropping the future gives the message up if it was not transmitted yet.
    ///
    /// # Errors
    /// [`SendFailed::Refused`] if the member is unknown, the message too large, or too many wait already;
    /// [`SendFailed::Undelivered`] if it was not acknowledged; [`SendFailed::Closed`].
    pub async fn send_to(&self, id: NodeId, payload: impl IntoPayload) -> Result<(), SendFailed> {
        let payload = payload.into_payload();
        let command = |slot| Command::Send(Target::Node(id), payload, Some(slot));
        let mut call = Call::begin(&self.handle, Wake::End, command).await?;
        match call.next().await {
            Some(Ok(Outcome::Target(_, result))) => Ok(result.map(drop)?),
            Some(Ok(Outcome::Refused(error))) => Err(error.into()),
            Some(Err(Closed)) | None => Err(SendFailed::Closed(Closed)),
        }
    }

    /// Hands a message for one member to the driver and does not wait for its outcome, which nobody learns: the
    /// cheapest way to send. It is retransmitted and kept in order like any other; one that is refused (too large, an
    /// unknown member, too many wait already) is gone, and counted in [`Stats::messages_refused`].
    ///
    /// Waits only while 256 commands are queued already. Cancel safe: a dropped future has sent nothing.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn cast(&self, id: NodeId, payload: impl IntoPayload) -> Result<(), Closed> {
        let payload = payload.into_payload();
        self.handle
            .submit(Command::Send(Target::Node(id), payload, None))
            .await
    }

    /// Hands a message for every other member to the driver, as [`Cluster::cast`] does for one. It waits in the node
    /// for a quorum where `cluster_size` is set. Each member that too many wait for already goes without, and is counted
    /// in [`Stats::messages_refused`].
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn cast_all(&self, payload: impl IntoPayload) -> Result<(), Closed> {
        let payload = payload.into_payload();
        self.handle
            .submit(Command::Send(Target::All, payload, None))
            .await
    }

    /// Asks one member and waits for its reply, at most `timeout` (counted from when the driver takes the request up).
    /// Does not wait for a quorum. The other side runs the request at most once. Dropping the future cancels it: it is
    /// not sent if it was not yet, and its reply is ignored.
    ///
    /// # Errors
    /// [`RequestError::Refused`] if the member is unknown, the request too large, or too many wait already;
    /// [`RequestError::Failed`] if no reply came; [`RequestError::Closed`].
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// if let Some(member) = cluster.members().first() {
    ///     let reply = cluster.request(member.id, b"ping", Duration::from_secs(1)).await?;
    ///     assert_eq!(reply, "pong");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request(
        &self,
        id: NodeId,
        payload: impl IntoPayload,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let payload = payload.into_payload();
        let command = |slot| Command::Request(Target::Node(id), payload, timeout, slot);
        let mut call = Call::begin(&self.handle, Wake::End, command).await?;
        match call.next().await {
            Some(Ok(Outcome::Target(_, result))) => Ok(result?),
            Some(Ok(Outcome::Refused(error))) => Err(error.into()),
            Some(Err(Closed)) | None => Err(RequestError::Closed(Closed)),
        }
    }

    /// Asks every other member and returns what each answered, in the order of the answers. Ends before the timeout
    /// when all have answered, left or failed. The members are fixed when the quorum gate is open; without other
    /// members the result is empty at once. Dropping the future cancels the request.
    ///
    /// Holds up to one answer of `max_message_size` for each member; [`Cluster::request_each`] gives them one by one.
    ///
    /// # Errors
    /// [`RequestError::Refused`] if the request is too large or too many wait already for the quorum (or for the only
    /// member; where too many wait for one of several, its answer says so); [`RequestError::Failed`] with
    /// [`NoQuorum`](crate::DeliveryError::NoQuorum) if the quorum was not reached in time; [`RequestError::Closed`].
    pub async fn request_all(
        &self,
        payload: impl IntoPayload,
        timeout: Duration,
    ) -> Result<Vec<Answer>, RequestError> {
        let payload = payload.into_payload();
        let command = |slot| Command::Request(Target::All, payload, timeout, slot);
        let call = Call::begin(&self.handle, Wake::End, command).await?;
        let mut answers = Answers::new(call);
        let mut out = Vec::new();
        while let Some(answer) = answers.next().await {
            out.push(answer?);
        }
        Ok(out)
    }

    /// Asks every other member, as [`Cluster::request_all`] does, and gives each answer when it is there. Dropping
    /// the stream cancels what is outstanding. A dropped future has asked nobody.
    ///
    /// # Errors
    /// [`Closed`]; everything else is told by the stream.
    ///
    /// ```no_run
    /// # async fn example(cluster: quorate::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let mut answers = cluster.request_each(b"who has 42?", Duration::from_secs(1)).await?;
    /// while let Some(answer) = answers.next().await {
    ///     let answer = answer?;
    ///     if answer.result.is_ok_and(|reply| reply == "I") {
    ///         println!("{} has it", answer.from);
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request_each(
        &self,
        payload: impl IntoPayload,
        timeout: Duration,
    ) -> Result<Answers, Closed> {
        let payload = payload.into_payload();
        let command = |slot| Command::Request(Target::All, payload, timeout, slot);
        let call = Call::begin(&self.handle, Wake::Each, command).await?;
        Ok(Answers::new(call))
    }

    // Steering.

    /// Resolves the seed names again, now. Returns when the driver has been told, not when it is done. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn refresh(&self) -> Result<(), Closed> {
        self.handle.submit(Command::Refresh).await
    }

    /// Replaces the keys: the first one seals from now on, all are accepted. Sessions change over within 30 s; those
    /// under a key that is gone are closed. Returns when the keys are in force here. Cancel safe: the keys are replaced
    /// or not, never in part. Without effect on an [insecure](Cluster::is_secure) cluster, which has none.
    ///
    /// Rotate in three steps, each in the whole cluster before the next: add the new key behind the old one, move it to
    /// the front, remove the old one.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn set_keys(&self, keys: KeyRing) -> Result<(), Closed> {
        self.ask(|slot| Command::SetKeys(keys, slot)).await
    }

    /// Leaves the cluster: hands leadership over, waits for a replacement where its group would end without
    /// it (at most `leave_wait`), says goodbye, and waits until others have heard it, at most `leave_timeout` and a
    /// second.
    /// Calling it again, also at the same time, waits for the same end.
    ///
    /// Everything that is under way ends at once, and every later call on any handle ends with [`Closed`]. What is
    /// under way for one member, or still waits for a quorum, ends with `Closed` too. What is under way for all members
    /// ends with what is known: [`Leaving`](crate::DeliveryError::Leaving) stands for each member whose outcome is
    /// missing. Locks that are held are lost ([`Leaving`](crate::LostReason::Leaving)), and free for others at once:
    /// whoever must not be interrupted releases them first. Messages that were received can still be read, and answered
    /// until the node has left; [`Messages`] and [`Events`] end when it has.
    ///
    /// Cancel safe: once polled, the node leaves also if the future is dropped.
    pub async fn shutdown(&self) {
        self.handle.shared.leave();
        // Only `closed` tells why it stopped.
        let _ = self.closed().await;
    }
}

/// A command under way. Dropping it gives the command up.
#[derive(Debug)]
struct Call<T> {
    reader: Reader<T>,
    handle: Arc<Handle>,
}

impl<T> Call<T> {
    /// Gives a command to the driver, whose outcomes appear in the call.
    async fn begin(
        handle: &Arc<Handle>,
        wake: Wake,
        command: impl FnOnce(Writer<T>) -> Command,
    ) -> Result<Self, Closed> {
        let (writer, reader) = slot(wake);
        let handle = Arc::clone(handle);
        let call = Self { reader, handle };
        call.handle.submit(command(writer)).await?;
        Ok(call)
    }

    async fn next(&mut self) -> Option<Result<T, Closed>> {
        poll_fn(|cx| self.reader.poll_next(cx)).await
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        self.handle.shared.abandon(&mut self.reader);
    }
}
