//! What they say.

use crate::{Mortal, Runtime, cluster, config, shutdown, soon, until, until_all_meet};
use core::time::Duration;
use quorate::{Bytes, Cluster, DeliveryError, Filter, RequestError, SendError, SendFailed};

/// Answers every request with its own payload.
pub(crate) fn echo<R: Runtime>(node: &Cluster) {
    let mut messages = node.messages();
    R::spawn(async move {
        while let Some(message) = messages.next().await {
            let payload = message.payload.clone();
            let _ = message.reply(payload).await;
        }
    });
}

/// A thousand messages arrive in the order in which they were sent.
pub async fn a_thousand_in_order<R: Runtime>() {
    let nodes = cluster::<R>(2, config).await;
    let (sender, to) = (nodes[0].clone(), nodes[1].id());
    let (done, sent) = std::sync::mpsc::sync_channel(1);
    R::spawn(async move {
        for n in 0..1000_u32 {
            sender.send_to(to, n.to_be_bytes()).await.expect("delivered");
        }
        let _ = done.send(());
    });
    let mut messages = nodes[1].messages();
    for n in 0..1000_u32 {
        let message = soon::<R, _>("the next message", messages.next())
            .await
            .expect("open");
        assert_eq!(message.payload, n.to_be_bytes()[..]);
    }
    until::<R>("the last delivery", || sent.try_recv().is_ok()).await;
    drop(messages);
    shutdown::<R>(nodes).await;
}

/// Requests are answered, by one and by all, and a second reply is refused.
pub async fn requests<R: Runtime>() {
    let nodes = cluster::<R>(3, config).await;
    echo::<R>(&nodes[1]);
    echo::<R>(&nodes[2]);
    let second = Duration::from_secs(20);
    let reply = nodes[0]
        .request(nodes[1].id(), "one", second)
        .await
        .expect("answered");
    assert_eq!(reply, "one");
    let answers = nodes[0].request_all("all", second).await.expect("asked");
    assert_eq!(answers.len(), 2);
    assert!(
        answers
            .iter()
            .all(|answer| answer.result.as_ref().is_ok_and(|reply| reply == "all"))
    );
    // A request that nobody reads runs into its own timeout, not into the configured one.
    let unread = nodes[1]
        .request(nodes[0].id(), "anybody?", Duration::from_millis(300))
        .await;
    assert_eq!(unread, Err(RequestError::Failed(DeliveryError::Timeout)));
    shutdown::<R>(nodes).await;
}

/// A large message arrives whole although one datagram in twenty is lost on the way.
pub async fn a_mebibyte_at_five_percent_loss<R: Runtime>() {
    let lossy = |seed| R::start_filtered(config(), Filter::loss(50, seed));
    let a = lossy(1).await.expect("started");
    let b = R::start_filtered(config().seed(a.local_addr().to_string()), Filter::loss(50, 2))
        .await
        .expect("started");
    let nodes = vec![a, b];
    until_all_meet::<R>(&nodes).await;
    let payload: Vec<u8> = (0..1_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let payload = Bytes::from(payload);
    let mut messages = nodes[1].messages();
    soon::<R, _>("delivery", nodes[0].send_to(nodes[1].id(), &payload))
        .await
        .expect("delivered");
    let message = soon::<R, _>("the message", messages.next()).await.expect("open");
    assert!(message.payload == payload, "altered on the way");
    drop((message, messages));
    shutdown::<R>(nodes).await;
}

/// A message over the limit is refused with the limit in the error.
pub async fn too_large<R: Runtime>() {
    let nodes = cluster::<R>(2, || config().max_message_size(1000_usize)).await;
    let sent = nodes[0].send_to(nodes[1].id(), vec![0; 1001]).await;
    assert_eq!(
        sent,
        Err(SendFailed::Refused(SendError::TooLarge {
            size: 1001,
            max: 1000
        }))
    );
    assert!(nodes[0].send_to(nodes[1].id(), vec![0; 1000]).await.is_ok());
    let stranger = nodes[0].send_to(nodes[0].id(), "to myself").await;
    assert_eq!(
        stranger,
        Err(SendFailed::Refused(SendError::UnknownPeer(nodes[0].id())))
    );
    shutdown::<R>(nodes).await;
}

/// A request ends early when the one that was asked leaves or dies.
pub async fn a_request_to_a_peer_that_goes<R: Runtime>() {
    let a = crate::start::<R>(config()).await;
    let seed = a.local_addr().to_string();
    for polite in [true, false] {
        let mortal = Mortal::start::<R>(config().seed(seed.clone())).await;
        until_all_meet::<R>(&[a.clone(), mortal.cluster.clone()]).await;
        let id = mortal.cluster.id();
        let mut inbox = mortal.cluster.messages();
        let asking = a.clone();
        let (done, outcome) = std::sync::mpsc::sync_channel(1);
        R::spawn(async move {
            let _ = done.send(asking.request(id, "still there?", Duration::from_secs(600)).await);
        });
        let request = soon::<R, _>("the request", inbox.next()).await.expect("open");
        if polite {
            mortal.cluster.shutdown().await;
        } else {
            mortal.die::<R>().await;
        }
        let mut result = None;
        until::<R>("an outcome", || {
            result = outcome.try_recv().ok();
            result.is_some()
        })
        .await;
        assert_eq!(
            result,
            Some(Err(RequestError::Failed(DeliveryError::PeerDisconnected)))
        );
        drop((request, inbox));
    }
    shutdown::<R>(vec![a]).await;
}

/// A consumer that stops reading holds up its senders, and nothing else.
pub async fn a_consumer_that_stops_reading<R: Runtime>() {
    let nodes = cluster::<R>(3, || {
        config()
            .message_queue_size(16_usize)
            .send_queue_size(64_usize)
            .message_timeout(Duration::from_secs(5))
    })
    .await;
    echo::<R>(&nodes[2]);
    let (sender, stuck) = (nodes[0].clone(), nodes[1].id());
    let (report, outcomes) = std::sync::mpsc::sync_channel(2000);
    for n in 0..2000_u32 {
        let (sender, report) = (sender.clone(), report.clone());
        R::spawn(async move {
            let _ = report.send(sender.send_to(stuck, n.to_be_bytes()).await);
        });
    }
    drop(report);
    // Other peers are served all the while, and nobody is taken for dead.
    let begun = R::now();
    while R::now() - begun < Duration::from_secs(5) {
        let reply = nodes[0]
            .request(nodes[2].id(), "and you?", Duration::from_secs(20))
            .await;
        assert_eq!(reply.expect("answered"), "and you?");
        R::sleep(Duration::from_millis(50)).await;
    }
    assert!(nodes.iter().all(|node| crate::lists(node, &nodes)));
    let mut results = Vec::new();
    until::<R>("2,000 outcomes", || {
        results.extend(outcomes.try_iter());
        results.len() == 2000
    })
    .await;
    let delivered = results.iter().filter(|result| result.is_ok()).count();
    // The driver's and the core's queues take some; the rest is told, not lost.
    assert!((16..1000).contains(&delivered), "{delivered}");
    let late = SendFailed::Undelivered(DeliveryError::Timeout);
    let full = SendFailed::Refused(SendError::QueueFull { limit: 64 });
    let told = |result: &&Result<(), SendFailed>| **result == Err(late) || **result == Err(full);
    assert_eq!(
        results.iter().filter(told).count() + delivered,
        2000,
        "{results:?}"
    );
    let mut messages = nodes[1].messages();
    for _ in 0..delivered {
        soon::<R, _>("a message that was delivered", messages.next())
            .await
            .expect("open");
    }
    let after = soon::<R, _>("a message after the jam", nodes[0].send_to(stuck, "again")).await;
    assert_eq!(after, Ok(()));
    drop(messages);
    shutdown::<R>(nodes).await;
}
