//! What becomes of what was said, where all is not well.

use crate::messages::echo;
use crate::{Runtime, SOON, cluster, config, poll_once, shutdown, soon, start, until, until_all_meet};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use quorate::{
    Bytes, Closed, Cluster, DeliveryError, Incoming, ReplyError, ReplyFailed, RequestError, SendError,
    SendFailed,
};

const MOMENT: Duration = Duration::from_millis(300);

/// Without a quorum, messages for all wait, and their callers are told when the time is over; one that nobody waits for
/// goes out when a quorum is there.
pub async fn without_a_quorum<R: Runtime>() {
    let three = || config().cluster_size(3).message_timeout(Duration::from_secs(20));
    let impatient = start::<R>(three().message_timeout(MOMENT)).await;
    let sent = soon::<R, _>("an end", impatient.broadcast("anybody?")).await;
    assert_eq!(sent, Err(SendFailed::Undelivered(DeliveryError::NoQuorum)));
    let asked = soon::<R, _>("an end", impatient.request_all("anybody?", MOMENT)).await;
    assert_eq!(asked, Err(RequestError::Failed(DeliveryError::NoQuorum)));
    let mut answers = impatient.request_each("anybody?", MOMENT).await.expect("it runs");
    let first = soon::<R, _>("an end", answers.next()).await;
    assert_eq!(first, Some(Err(RequestError::Failed(DeliveryError::NoQuorum))));
    assert_eq!(answers.next().await, None);

    let a = start::<R>(three()).await;
    for n in 0..3_u32 {
        a.cast_all(n.to_be_bytes()).await.expect("it runs");
    }
    let b = start::<R>(three().seed(a.local_addr().to_string())).await;
    let mut messages = b.messages();
    for n in 0..3_u32 {
        let message = soon::<R, _>("the message", messages.next()).await.expect("open");
        assert_eq!(
            (message.from, &message.payload[..]),
            (a.id(), &n.to_be_bytes()[..])
        );
    }
    drop((answers, messages));
    shutdown::<R>(vec![impatient, a, b]).await;
}

/// What nobody waits for arrives in order all the same, and readers of one node share what arrives.
pub async fn casts_and_readers<R: Runtime>() {
    let nodes = cluster::<R>(2, config).await;
    let (sender, to) = (&nodes[0], nodes[1].id());
    let mut readers = [nodes[1].messages(), nodes[1].messages()];
    assert!(readers[0].try_next().is_none());
    for n in 0..200_u32 {
        sender.cast(to, n.to_be_bytes()).await.expect("it runs");
    }
    sender.send_to(to, "the last").await.expect("delivered");
    let mut seen = Vec::new();
    loop {
        let reader = &mut readers[seen.len() % 2];
        let message = soon::<R, _>("the next message", reader.next())
            .await
            .expect("open");
        if message.payload == "the last" {
            break;
        }
        seen.push(message.payload);
    }
    let expected: Vec<Bytes> = (0..200_u32)
        .map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
        .collect();
    assert_eq!(seen, expected);
    drop(readers);
    shutdown::<R>(nodes).await;
}

/// Waits for a request and returns it, with the call that waits for its answer.
async fn asked<R: Runtime>(nodes: &[Cluster], timeout: Duration) -> (Incoming, Answer) {
    let (asking, to) = (nodes[0].clone(), nodes[1].id());
    let (done, outcome) = std::sync::mpsc::sync_channel(1);
    R::spawn(async move {
        let _ = done.send(asking.request(to, "?", timeout).await);
    });
    let mut messages = nodes[1].messages();
    let request = soon::<R, _>("the request", messages.next()).await.expect("open");
    (request, Answer(outcome))
}

struct Answer(std::sync::mpsc::Receiver<Result<Bytes, RequestError>>);

impl Answer {
    async fn end<R: Runtime>(self) -> Result<Bytes, RequestError> {
        let mut end = None;
        until::<R>("the end of a request", || {
            end = self.0.try_recv().ok();
            end.is_some()
        })
        .await;
        end.expect("it is there")
    }
}

/// A reply that cannot be taken says why, and its caller learns what it can.
pub async fn replies<R: Runtime>() {
    let nodes = cluster::<R>(2, || config().max_message_size(1000_usize)).await;
    let (request, answer) = asked::<R>(&nodes, SOON).await;
    assert!(request.is_request() && request.remaining.is_some_and(|left| left <= SOON));
    assert_eq!(request.reply_now("at once"), Ok(()));
    assert_eq!(answer.end::<R>().await, Ok("at once".into()));

    let (request, answer) = asked::<R>(&nodes, Duration::from_secs(5)).await;
    let large = request.reply(vec![0; 1001]).await;
    let (size, max) = (1001, 1000);
    assert_eq!(
        large,
        Err(ReplyFailed::Refused(ReplyError::TooLarge { size, max }))
    );
    assert_eq!(
        answer.end::<R>().await,
        Err(RequestError::Failed(DeliveryError::Timeout))
    );

    // Long enough to be read in time, however busy the machine is.
    let limit = Duration::from_secs(2);
    let (request, answer) = asked::<R>(&nodes, limit).await;
    assert_eq!(
        answer.end::<R>().await,
        Err(RequestError::Failed(DeliveryError::Timeout))
    );
    // The other side counts its own time, from when it has received the request.
    R::sleep(2 * limit).await;
    let late = soon::<R, _>("a refusal", request.reply("too late")).await;
    assert_eq!(late, Err(ReplyFailed::Refused(ReplyError::NotOpen)));

    let mut messages = nodes[1].messages();
    nodes[0]
        .send_to(nodes[1].id(), "a message")
        .await
        .expect("delivered");
    let message = soon::<R, _>("the message", messages.next()).await.expect("open");
    assert!(!message.is_request() && message.remaining.is_none());
    assert_eq!(message.reply("why?").await, Err(ReplyFailed::NotARequest));

    let (request, _) = asked::<R>(&nodes, SOON).await;
    drop(messages);
    soon::<R, _>("a shutdown", nodes[1].shutdown()).await;
    assert_eq!(request.reply_now("too late"), Err(ReplyFailed::Closed(Closed)));
    shutdown::<R>(nodes).await;
}

/// Answers of many come one by one; a call that is dropped waits for none of them.
pub async fn answers_one_by_one<R: Runtime>() {
    let nodes = cluster::<R>(4, config).await;
    for node in &nodes[1..3] {
        echo::<R>(node);
    }
    let mut silent = nodes[3].messages();
    let mut answers = nodes[0].request_each("all", SOON * 10).await.expect("it runs");
    let mut from = Vec::new();
    for _ in 0..2 {
        let answer = soon::<R, _>("an answer", answers.next()).await;
        let answer = answer.expect("two answer").expect("no error");
        assert_eq!(answer.result, Ok("all".into()));
        from.push(answer.from);
    }
    let mut expected = vec![nodes[1].id(), nodes[2].id()];
    from.sort();
    expected.sort();
    assert_eq!(from, expected);
    assert!(poll_once(pin!(answers.next())).await.is_pending());
    let kept = soon::<R, _>("the request", silent.next()).await.expect("open");
    drop(answers);
    // Nobody waits for it any more, and that holds up nothing.
    let _ = kept.reply("too late").await;
    let sent = soon::<R, _>("a delivery", nodes[0].send_to(nodes[3].id(), "on with it")).await;
    assert_eq!(sent, Ok(()));
    drop(silent);
    shutdown::<R>(nodes).await;
}

/// Queues that are full, messages that are too large for the other side, members that are not there: each is told.
pub async fn refusals<R: Runtime>() {
    let limit = 8;
    let a = start::<R>(config().send_queue_size(limit)).await;
    let b = start::<R>(
        config()
            .max_message_size(1000_usize)
            .seed(a.local_addr().to_string()),
    )
    .await;
    let nodes = vec![a, b];
    until_all_meet::<R>(&nodes).await;
    let (node, to) = (&nodes[0], nodes[1].id());
    let large = soon::<R, _>("an end", node.send_to(to, vec![0; 1001])).await;
    assert_eq!(large, Err(SendFailed::Undelivered(DeliveryError::TooLarge)));
    let large = soon::<R, _>("an end", node.request(to, vec![0; 1001], SOON)).await;
    assert_eq!(large, Err(RequestError::Failed(DeliveryError::TooLarge)));
    let own = soon::<R, _>("an end", node.request(node.id(), "myself", SOON)).await;
    assert_eq!(own, Err(RequestError::Refused(SendError::UnknownPeer(node.id()))));

    // Nobody reads over there: the queues fill up, that of this side last.
    let mut waiting = Vec::new();
    let full = loop {
        let mut request = Box::pin(node.request(to, "read this", 10 * SOON));
        // Refused at once, if at all: as soon as the driver has taken it up.
        let refused = poll_once(request.as_mut()).await;
        node.status().await.expect("it runs");
        if let Poll::Ready(end) = refused {
            break end;
        }
        if let Poll::Ready(end) = poll_once(request.as_mut()).await {
            break end;
        }
        waiting.push(request);
        assert!(waiting.len() < 2000, "nothing is ever full");
    };
    assert_eq!(full, Err(RequestError::Refused(SendError::QueueFull { limit })));
    assert!(waiting.len() >= limit);
    drop(waiting);
    until_all_meet::<R>(&nodes).await;
    echo::<R>(&nodes[1]);
    let again = soon::<R, _>("an answer", node.request(to, "again", SOON)).await;
    assert_eq!(again, Ok("again".into()));
    shutdown::<R>(nodes).await;
}
