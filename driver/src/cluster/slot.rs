//! Where the outcome of one command is put: one small allocation, written by the driver, read by one future.

use crate::error::Closed;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::mem;
use core::task::{Context, Poll, Waker};
use quorate_core::{LockId, RequestId, SendId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex that nobody panics under; were it poisoned, its data would still be whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a dropped future or lock leaves behind in the node, to be given up there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OpKey {
    Send(SendId),
    Request(RequestId),
    Lock(LockId),
}

/// When the reader is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// For each item.
    Each,
    /// Once everything is there.
    End,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Finished,
    Broken,
    Dropped,
}

#[derive(Debug)]
struct State<T> {
    // Nearly every slot sees one item: it needs no allocation of its own.
    first: Option<T>,
    rest: VecDeque<T>,
    phase: Phase,
    wake: Wake,
    waker: Option<Waker>,
    key: Option<OpKey>,
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Writer<T>(Arc<Mutex<State<T>>>);

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Reader<T>(Arc<Mutex<State<T>>>);

pub(crate) fn slot<T>(wake: Wake) -> (Writer<T>, Reader<T>) {
    let state = Arc::new(Mutex::new(State {
        first: None,
        rest: VecDeque::new(),
        phase: Phase::Open,
        wake,
        waker: None,
        key: None,
    }));
    (Writer(Arc::clone(&state)), Reader(state))
}

impl<T> Writer<T> {
    /// Adds an item.
    pub(crate) fn push(&self, item: T) {
        let mut state = lock(&self.0);
        if state.first.is_none() && state.rest.is_empty() {
            state.first = Some(item);
        } else {
            state.rest.push_back(item);
        }
        if state.wake == Wake::Each {
            wake(state);
        }
    }

    /// Adds an item unless two wait to be read: where the reader only has to know that there was something.
    pub(crate) fn signal(&self, item: T) {
        if lock(&self.0).rest.is_empty() {
            self.push(item);
        }
    }

    /// Adds the last item, if any, and ends the slot.
    pub(crate) fn finish(self, last: Option<T>) {
        if let Some(item) = last {
            self.push(item);
        }
        self.end(Phase::Finished);
    }

    /// Names what the reader leaves behind if it is dropped. Returns false if it is gone already.
    pub(crate) fn started(&self, key: OpKey) -> bool {
        let mut state = lock(&self.0);
        state.key = Some(key);
        state.phase != Phase::Dropped
    }

    /// Returns whether nobody waits any longer.
    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.0).phase == Phase::Dropped
    }

    fn end(&self, phase: Phase) {
        let mut state = lock(&self.0);
        if state.phase == Phase::Open {
            state.phase = phase;
            wake(state);
        }
    }
}

/// Wakes the reader after the lock is released, so that it does not run into it.
fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.end(Phase::Broken);
    }
}

impl<T> Reader<T> {
    /// Gives the items one by one, then `None`. `Closed` if the driver stopped first.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Closed>>> {
        let mut state = lock(&self.0);
        let wait = state.phase == Phase::Open && state.wake == Wake::End;
        if !wait {
            let item = match state.first.take() {
                Some(item) => Some(item),
                None => state.rest.pop_front(),
            };
            if let Some(item) = item {
                return Poll::Ready(Some(Ok(item)));
            }
        }
        match state.phase {
            Phase::Open | Phase::Dropped => {
                match &mut state.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Phase::Finished => Poll::Ready(None),
            Phase::Broken => {
                // Said once; afterwards the stream is at its end.
                state.phase = Phase::Finished;
                Poll::Ready(Some(Err(Closed)))
            }
        }
    }

    /// Stops waiting. Returns what the node should give up.
    pub(crate) fn abandon(&mut self) -> Option<OpKey> {
        let mut state = lock(&self.0);
        if state.phase != Phase::Open {
            return None;
        }
        state.phase = Phase::Dropped;
        state.waker = None;
        let key = state.key;
        // Dropping a lock wakes the driver, which must not happen in here.
        let unread = (state.first.take(), mem::take(&mut state.rest));
        drop(state);
        drop(unread);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<T>(reader: &mut Reader<T>) -> Poll<Option<Result<T, Closed>>> {
        reader.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_collecting_slot_shows_nothing_before_its_end() {
        let (writer, mut reader) = slot(Wake::End);
        writer.push(1);
        assert_eq!(poll(&mut reader), Poll::Pending);
        writer.push(2);
        writer.finish(Some(3));
        for i in 1..=3 {
            assert_eq!(poll(&mut reader), Poll::Ready(Some(Ok(i))));
        }
        assert_eq!(poll(&mut reader), Poll::Ready(None));
    }

    #[test]
    fn a_streaming_slot_shows_each_item_in_order() {
        let (writer, mut reader) = slot(Wake::Each);
        writer.push(1);
        writer.push(2);
        assert_eq!(poll(&mut reader), Poll::Ready(Some(Ok(1))));
        writer.push(3);
        assert_eq!(poll(&mut reader), Poll::Ready(Some(Ok(2))));
        assert_eq!(poll(&mut reader), Poll::Ready(Some(Ok(3))));
        assert_eq!(poll(&mut reader), Poll::Pending);
        writer.finish(None);
        assert_eq!(poll(&mut reader), Poll::Ready(None));
    }

    #[test]
    fn a_dropped_writer_says_closed_once() {
        let (writer, mut reader) = slot::<u8>(Wake::End);
        drop(writer);
        assert_eq!(poll(&mut reader), Poll::Ready(Some(Err(Closed))));
        assert_eq!(poll(&mut reader), Poll::Ready(None));
    }

    #[test]
    fn an_abandoned_slot_names_what_was_started_and_nothing_that_is_over() {
        let (writer, mut reader) = slot::<u8>(Wake::End);
        assert!(!writer.is_abandoned());
        assert_eq!(reader.abandon(), None);
        assert!(writer.is_abandoned());
        assert_eq!(reader.abandon(), None);

        let (writer, mut reader) = slot::<u8>(Wake::End);
        writer.finish(None);
        assert_eq!(reader.abandon(), None);
    }
}
