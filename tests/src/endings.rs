//! How calls end when their node does.

use crate::{Runtime, cluster, config, shutdown, soon, until};
use core::time::Duration;
use quorate::{Bytes, Closed, DeliveryError, RequestError, SendFailed};

/// A thousand calls of every kind are under way at a shutdown, more are made meanwhile, and all of them end as
/// documented.
pub async fn a_shutdown_ends_all_calls<R: Runtime>() {
    #[derive(Debug, PartialEq)]
    enum End {
        Request(Result<Bytes, RequestError>),
        Send(Result<(), SendFailed>),
        All(Vec<DeliveryError>),
        Later(Closed),
    }

    // Nobody reads at the other two, so that nothing ends by itself.
    let long = || config().message_timeout(Duration::from_secs(600));
    let mut nodes = cluster::<R>(3, long).await;
    let node = nodes.remove(0);
    let peers = [nodes[0].id(), nodes[1].id()];
    let (ended, ends) = std::sync::mpsc::channel();
    let timeout = Duration::from_secs(600);
    for n in 0..1000_usize {
        let (node, ended, to) = (node.clone(), ended.clone(), peers[n % 2]);
        R::spawn(async move {
            let end = match n % 10 {
                0..6 => End::Request(node.request(to, "anybody?", timeout).await),
                // Fill the peers' queues, and wait behind what does not fit.
                6..8 => loop {
                    let sent = node.send_to(to, "read this").await;
                    if sent.is_err() {
                        break End::Send(sent);
                    }
                },
                8 => match node.request_all("anybody?", timeout).await {
                    Ok(answers) => End::All(answers.into_iter().filter_map(|a| a.result.err()).collect()),
                    Err(error) => End::Request(Err(error)),
                },
                _ => match node.request_each("anybody?", timeout).await {
                    Ok(mut answers) => {
                        let mut errors = Vec::new();
                        while let Some(answer) = answers.next().await {
                            errors.extend(answer.expect("one for each member").result.err());
                        }
                        End::All(errors)
                    }
                    Err(closed) => End::Later(closed),
                },
            };
            let _ = ended.send((n, end));
        });
    }
    R::sleep(Duration::from_secs(1)).await;
    assert_eq!(ends.try_recv().ok(), None, "something ended by itself");
    // Some calls are made while the node leaves, and race with its end.
    for _ in 0..8 {
        let (node, ended, to) = (node.clone(), ended.clone(), peers[0]);
        R::spawn(async move {
            for n in 1000.. {
                let end = node.request(to, "still there?", timeout).await;
                let over = end == Err(RequestError::Closed(Closed)) && node.status().await.is_err();
                let _ = ended.send((n, End::Request(end)));
                if over {
                    break;
                }
                R::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    drop(ended);
    soon::<R, _>("the shutdown", node.shutdown()).await;
    assert!(node.closed().await.is_ok());

    let mut count = [0; 3];
    let mut over = false;
    until::<R>("the end of every call", || {
        loop {
            match ends.try_recv() {
                Ok((_, End::Request(end))) => {
                    assert_eq!(end, Err(RequestError::Closed(Closed)));
                    count[0] += 1;
                }
                Ok((_, End::Send(end))) => {
                    assert_eq!(end, Err(SendFailed::Closed(Closed)));
                    count[1] += 1;
                }
                Ok((_, End::All(errors))) => {
                    assert_eq!(errors, [DeliveryError::Leaving; 2]);
                    count[2] += 1;
                }
                // It had not begun to ask.
                Ok((_, End::Later(Closed))) => count[2] += 1,
                Err(error) => {
                    over = error == std::sync::mpsc::TryRecvError::Disconnected;
                    return over;
                }
            }
        }
    })
    .await;
    // Whoever had not begun to ask all is told so as one request.
    assert!(over && count[1] == 200 && count[2] <= 200, "{count:?}");
    assert!(count[0] + count[2] >= 808, "{count:?}");
    let events = soon::<R, _>("the end of events", node.events().next()).await;
    assert!(events.is_none());
    assert_eq!(node.cast(peers[0], "too late").await, Err(Closed));
    shutdown::<R>(nodes).await;
}
