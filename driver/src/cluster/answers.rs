//! What became of a message or request, member by member.

use super::{Call, Outcome};
use crate::error::RequestError;
use bytes::Bytes;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use futures_core::Stream;
use quorate_core::{DeliveryError, NodeId};

/// What became of a broadcast for one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The member.
    pub to: NodeId,
    /// Delivered into its queue, or why not.
    pub result: Result<(), DeliveryError>,
}

/// What one member answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The member.
    pub from: NodeId,
    /// Its reply, or why there is none.
    pub result: Result<Bytes, DeliveryError>,
}

/// The answers to a request to all members, one by one. Ends when every member has answered or will not any more; an
/// error is the last item. Dropping it cancels what is outstanding.
///
/// Is a handle: the node does not leave while it exists.
#[derive(Debug)]
pub struct Answers {
    call: Call<Outcome>,
    over: bool,
}

impl Answers {
    pub(super) fn new(call: Call<Outcome>) -> Self {
        Self { call, over: false }
    }

    /// Waits for the next answer; `None` at the end.
    ///
    /// Cancel safe: a dropped future has taken nothing.
    ///
    /// # Errors
    /// Those of [`Cluster::request_all`](crate::Cluster::request_all), as the last item.
    pub async fn next(&mut self) -> Option<Result<Answer, RequestError>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Answer, RequestError>>> {
        while !self.over {
            let error = match ready!(self.call.reader.poll_next(cx)) {
                Some(Ok(Outcome::Target(Some(from), result))) => {
                    return Poll::Ready(Some(Ok(Answer { from, result })));
                }
                Some(Ok(Outcome::Target(None, Ok(_)))) => continue,
                Some(Ok(Outcome::Target(None, Err(error)))) => error.into(),
                Some(Ok(Outcome::Refused(error))) => error.into(),
                Some(Err(closed)) => RequestError::Closed(closed),
                None => break,
            };
            self.over = true;
            return Poll::Ready(Some(Err(error)));
        }
        self.over = true;
        Poll::Ready(None)
    }
}

impl Stream for Answers {
    type Item = Result<Answer, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}
