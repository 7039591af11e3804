//! The queues between driver and application.

use super::messages::{Inbox, Parcel};
use super::shared::{Command, Handle, Shared, View};
use super::{Answers, Call, Messages, OpKey, Outcome, Wake, slot};
use crate::error::RequestError;
use crate::io::SteadyClock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use quorate_core::{DeliveryError, Instant, NodeId};

/// A clock that stands still.
#[derive(Debug)]
struct Stopped;

impl SteadyClock for Stopped {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

fn handle() -> (Arc<Handle>, async_channel::Receiver<Command>) {
    let (sender, receiver) = async_channel::bounded(4);
    let shared = Arc::new(Shared::new(View::default(), 1000, Arc::new(Stopped)));
    (Arc::new(Handle::new(shared, sender)), receiver)
}

fn parcel(len: usize) -> Parcel {
    Parcel {
        from: NodeId::from_bytes([1; 16]),
        payload: Bytes::from(alloc::vec![0; len]),
        reply_to: None,
        remaining: None,
    }
}

fn fill(inbox: &Inbox, len: usize) -> usize {
    (0..)
        .take_while(|_| {
            inbox.has_room() && {
                inbox.put(parcel(len));
                true
            }
        })
        .count()
}

#[test]
fn the_inbox_is_bounded_in_count_and_bytes() {
    let (handle, _commands) = handle();
    let inbox = &handle.shared.inbox;
    assert_eq!(fill(inbox, 0), 256);
    let mut messages = Messages::new(Arc::clone(&handle));
    while messages.try_next().is_some() {}
    assert_eq!(
        fill(inbox, 300),
        4,
        "room is asked for before, so one may be over"
    );
    while messages.try_next().is_some() {}
    assert_eq!(fill(inbox, 5000), 1, "one message of any size has room");
}

#[test]
fn a_starved_driver_is_rung_once_when_half_of_the_inbox_is_free() {
    let (handle, _commands) = handle();
    let shared = &handle.shared;
    let mut messages = Messages::new(Arc::clone(&handle));
    assert_eq!(fill(&shared.inbox, 1), 256);
    for left in (0..256).rev() {
        shared.doorbell.answer(core::task::Waker::noop());
        let rang = |shared: &Shared| shared.doorbell.is_rung();
        assert!(messages.try_next().is_some());
        assert_eq!(rang(shared), left == 128, "{left} left");
    }
}

#[test]
fn readers_compete_and_read_what_is_left_after_the_end() {
    let (handle, _commands) = handle();
    let mut one = Messages::new(Arc::clone(&handle));
    let mut two = one.clone();
    for len in 1..=3 {
        handle.shared.inbox.put(parcel(len));
    }
    block_on(async {
        assert_eq!(one.next().await.map(|m| m.payload.len()), Some(1));
        assert_eq!(two.next().await.map(|m| m.payload.len()), Some(2));
        handle.shared.stop(Ok(()));
        assert_eq!(two.next().await.map(|m| m.payload.len()), Some(3));
        assert!(one.next().await.is_none() && two.next().await.is_none());
    });
}

#[test]
fn answers_end_after_an_error_and_say_it_once() {
    let (handle, _commands) = handle();
    let (writer, reader) = slot(Wake::Each);
    let mut answers = Answers::new(Call { reader, handle });
    let from = NodeId::from_bytes([1; 16]);
    block_on(async {
        writer.push(Outcome::Target(Some(from), Ok(Bytes::from_static(b"yes"))));
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(
            (answer.from, answer.result),
            (from, Ok(Bytes::from_static(b"yes")))
        );
        assert!(poll_once(answers.next()).await.is_none());
        writer.finish(Some(Outcome::Target(None, Err(DeliveryError::NoQuorum))));
        let error = RequestError::Failed(DeliveryError::NoQuorum);
        assert_eq!(answers.next().await, Some(Err(error)));
        assert_eq!(answers.next().await, None);
    });
}

#[test]
fn a_call_that_is_over_leaves_nothing_behind() {
    let (handle, _commands) = handle();
    let (writer, reader) = slot::<Outcome>(Wake::End);
    let call = Call {
        reader,
        handle: Arc::clone(&handle),
    };
    writer.finish(None);
    drop(call);
    assert_eq!(handle.shared.take_abandoned(), Vec::<OpKey>::new());
}

#[test]
fn only_the_unsafe_form_frees_at_once() {
    let (sender, commands) = async_channel::bounded(4);
    let shared = Arc::new(Shared::new(View::default(), 1000, Arc::new(Stopped)));
    let addr = core::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let config = quorate_core::Config::default();
    let cluster = super::Cluster::new(
        Handle::new(shared, sender),
        NodeId::from_bytes([1; 16]),
        addr,
        config,
    );
    let asked = |at_once: bool| {
        let command = commands.try_recv();
        matches!(command, Ok(Command::RevokeLock { token: 7, at_once: how, .. }) if how == at_once)
    };
    block_on(async {
        assert!(
            poll_once(core::pin::pin!(cluster.force_release(7)))
                .await
                .is_none()
        );
        assert!(asked(false));
        assert!(
            poll_once(core::pin::pin!(cluster.force_release_unsafely(7)))
                .await
                .is_none()
        );
        assert!(asked(true));
    });
}
