//! Messages and requests from other members.

use super::shared::{Command, Handle};
use super::slot::{Wake, slot};
use crate::error::{Closed, ReplyFailed};
use crate::payload::IntoPayload;
use alloc::boxed::Box;
use alloc::sync::Arc;
use bytes::Bytes;
use core::future::poll_fn;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll, ready};
use futures_core::Stream;
use quorate_core::{Duration, NodeId, ReplyTo};

/// How many messages may wait between the driver and the application. More wait in the node, for each sender apart.
const INBOX: usize = 256;

/// A message as it waits: without a handle, or a forgotten queue would keep the node alive.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) from: NodeId,
    pub(crate) payload: Bytes,
    pub(crate) reply_to: Option<ReplyTo>,
    pub(crate) remaining: Option<Duration>,
}

/// The queue between the driver and all [`Messages`] of a node.
#[derive(Debug)]
pub(crate) struct Inbox {
    sender: async_channel::Sender<Parcel>,
    receiver: async_channel::Receiver<Parcel>,
    bytes: AtomicUsize,
    max_bytes: usize,
    /// The driver has found the queue full and waits to be told of room.
    starved: AtomicBool,
}

impl Inbox {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let (sender, receiver) = async_channel::bounded(INBOX);
        Self {
            sender,
            receiver,
            bytes: AtomicUsize::new(0),
            max_bytes,
            starved: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.sender.len() >= INBOX || self.bytes.load(Ordering::SeqCst) >= self.max_bytes
    }

    /// Returns whether one more message may be put in. After a `false` the driver is rung when half of the queue, and
    /// any bytes, are free again.
    pub(crate) fn has_room(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        self.starved.store(true, Ordering::SeqCst);
        // A reader that took the last message before it could see the flag rings for nobody.
        !self.is_full()
    }

    pub(crate) fn put(&self, parcel: Parcel) {
        let len = parcel.payload.len();
        self.bytes.fetch_add(len, Ordering::SeqCst);
        // The driver alone puts messages in, and only after `has_room`; closed means that nobody will read.
        if self.sender.try_send(parcel).is_err() {
            self.bytes.fetch_sub(len, Ordering::SeqCst);
        }
    }

    pub(crate) fn close(&self) {
        self.sender.close();
    }

    /// Accounts for a message that was taken out. Returns whether the driver waits for that.
    fn taken(&self, parcel: &Parcel) -> bool {
        let len = parcel.payload.len();
        let left = self.bytes.fetch_sub(len, Ordering::SeqCst) - len;
        let half = self.receiver.len() <= INBOX / 2 && left < self.max_bytes;
        half && self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst)
    }
}

/// Messages and requests that other members sent to this node.
///
/// All of a node's `Messages` draw on one queue and compete: each message goes to one of them. Messages of one sender
/// come out in the order in which they were sent. What nobody reads waits, up to 256 messages here and
/// `message_queue_size` per sender in the node; then senders are told to wait, and nobody else is held up.
///
/// Ends when the node has left the cluster. Is a handle: the node does not leave while it exists.
#[derive(Debug)]
pub struct Messages {
    receiver: Pin<Box<async_channel::Receiver<Parcel>>>,
    handle: Arc<Handle>,
}

impl Messages {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self {
            receiver: Box::pin(handle.shared.inbox.receiver.clone()),
            handle,
        }
    }

    /// Waits for the next message; `None` once the node has left and everything was read.
    ///
    /// Cancel safe: a dropped future has taken nothing.
    pub async fn next(&mut self) -> Option<Incoming> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Takes the next message if there is one.
    pub fn try_next(&mut self) -> Option<Incoming> {
        self.receiver.try_recv().ok().map(|parcel| self.open(parcel))
    }

    fn open(&self, parcel: Parcel) -> Incoming {
        if self.handle.shared.inbox.taken(&parcel) {
            self.handle.shared.doorbell.ring();
        }
        Incoming {
            from: parcel.from,
            payload: parcel.payload,
            remaining: parcel.remaining,
            open: parcel.reply_to.map(|to| Open {
                to,
                answered: false,
                handle: Arc::clone(&self.handle),
            }),
            _handle: Arc::clone(&self.handle),
        }
    }
}

impl Clone for Messages {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.handle))
    }
}

impl Stream for Messages {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let parcel = ready!(self.receiver.as_mut().poll_next(cx));
        Poll::Ready(parcel.map(|parcel| self.open(parcel)))
    }
}

/// A message or request from a member. Is a handle: the node does not leave while it exists.
///
/// A request that is dropped without a reply stays unanswered: its caller is not told and waits until its timeout. It
/// holds up nobody else. One that is kept and not answered does: it takes a place among those of its sender
/// (`send_queue_size` + `window_messages`) until it is answered, dropped or out of time. Beyond those, the sender's
/// requests are refused there, or, where their callers have given up, wait here with all that it sends after them. A
/// caller that gives up does not end the request here.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The sender.
    pub from: NodeId,
    /// The payload.
    pub payload: Bytes,
    /// For how long the sender still waited for a reply when the driver handed the request over; `None` if this is no
    /// request.
    pub remaining: Option<Duration>,
    open: Option<Open>,
    _handle: Arc<Handle>,
}

/// A request that waits for its reply. Apart from [`Incoming`], so that fields can be moved out of that.
#[derive(Debug)]
struct Open {
    to: ReplyTo,
    /// The driver has the reply.
    answered: bool,
    handle: Arc<Handle>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.answered {
            self.handle.shared.ignore(self.to);
        }
    }
}

impl Incoming {
    /// Returns whether the sender waits for a reply.
    pub const fn is_request(&self) -> bool {
        self.open.is_some()
    }

    /// Answers the request, waiting until this node has taken the reply over (not until it has arrived).
    ///
    /// Cancel safe in that the reply is either taken over whole or not at all; in the latter case, and after an error,
    /// the request stays unanswered: see [`Incoming`].
    ///
    /// # Errors
    /// [`ReplyFailed::NotARequest`], [`ReplyFailed::Closed`], or [`ReplyFailed::Refused`] if the reply is too large,
    /// comes too late, or if 256 replies, or 1 MiB (`max_message_size` if that is more), are on their way to this peer
    /// already.
    pub async fn reply(self, payload: impl IntoPayload) -> Result<(), ReplyFailed> {
        let mut open = self.open.ok_or(ReplyFailed::NotARequest)?;
        let (writer, mut reader) = slot(Wake::End);
        let command = Command::Reply(open.to, payload.into_payload(), Some(writer));
        open.handle.submit(command).await?;
        open.answered = true;
        match poll_fn(|cx| reader.poll_next(cx)).await {
            Some(Ok(result)) => result.map_err(ReplyFailed::Refused),
            Some(Err(_)) | None => Err(ReplyFailed::Closed(Closed)),
        }
    }

    /// Answers the request without waiting for anything; cheaper than [`Incoming::reply`] where many are answered.
    /// What the node would refuse afterwards is not reported.
    ///
    /// # Errors
    /// [`ReplyFailed::NotARequest`], [`ReplyFailed::Closed`], or [`ReplyFailed::Busy`] if 256 commands wait for the
    /// driver.
    pub fn reply_now(self, payload: impl IntoPayload) -> Result<(), ReplyFailed> {
        let mut open = self.open.ok_or(ReplyFailed::NotARequest)?;
        let command = Command::Reply(open.to, payload.into_payload(), None);
        open.answered = open.handle.try_submit(command)?;
        match open.answered {
            true => Ok(()),
            false => Err(ReplyFailed::Busy),
        }
    }
}
