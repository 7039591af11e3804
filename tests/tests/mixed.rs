//! Clusters whose members run on different runtimes, in one process.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use quorate::{Bytes, Cluster, ClusterEvent, Config, LeaveReason, LostReason, NotHeld};
use quorate_tests::{
    AsyncStd, Runtime, SOON, Smol, Tokio, config, lists, shutdown, soon, start, until, until_all_meet,
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const NAMES: [&str; 3] = ["tokio", "smol", "async-std"];

/// A lease that does not end within any test.
const LONG: Duration = Duration::from_secs(300);

/// Nobody is taken for dead, or stops leading, because one thread stands still for a moment, while others run on: each new
/// leader promises the lease of who died anew. And a group that is founded without the third to appear would grant nothing
/// for longer than any test takes.
fn three() -> Config {
    config()
        .local()
        .heartbeat_timeout(Duration::from_secs(3))
        .seat_timeout(Duration::from_secs(3))
        .election_timeout(Duration::from_secs(1))
        .cluster_size(3)
        .max_ttl(LONG)
        .waiter_ttl(SOON)
        .found_wait(SOON)
        .leave_wait(Duration::from_millis(200))
}

/// A node in a thread of its own, on its own runtime.
struct Replica {
    cluster: Cluster,
    /// The messages that it was sent.
    told: Receiver<Bytes>,
    stop: async_channel::Sender<()>,
    thread: JoinHandle<()>,
}

impl Replica {
    /// Starts one, which answers every request with the name of its runtime.
    fn start<R: Runtime>(name: &'static str, config: Config) -> Self {
        let (started, cluster) = channel();
        let (tell, told) = channel();
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let thread = std::thread::spawn(move || {
            R::block_on(async move {
                let cluster = start::<R>(config.name(name)).await;
                let mut messages = cluster.messages();
                R::spawn(async move {
                    while let Some(message) = messages.next().await {
                        if message.is_request() {
                            let _ = message.reply(name).await;
                        } else {
                            let _ = tell.send(message.payload);
                        }
                    }
                });
                started.send(cluster).expect("somebody waits for it");
                let _ = stopped.recv().await;
            });
        });
        let cluster = cluster.recv().expect("it starts");
        Self {
            cluster,
            told,
            stop,
            thread,
        }
    }

    /// Ends its runtime as it is.
    fn end(self) {
        self.stop.close();
        self.thread.join().expect("no panic");
    }
}

/// One node on each runtime, in the order of [`NAMES`].
async fn replicas() -> Vec<Replica> {
    let first = Replica::start::<Tokio>(NAMES[0], three());
    let seed = first.cluster.local_addr().to_string();
    let second = Replica::start::<Smol>(NAMES[1], three().seed(seed.clone()));
    let third = Replica::start::<AsyncStd>(NAMES[2], three().seed(seed));
    let replicas = vec![first, second, third];
    until_all_meet::<Smol>(&clusters(&replicas)).await;
    for replica in &replicas {
        let ready = soon::<Smol, _>("readiness", replica.cluster.ready()).await;
        ready.expect("ready");
    }
    replicas
}

fn clusters(replicas: &[Replica]) -> Vec<Cluster> {
    replicas.iter().map(|replica| replica.cluster.clone()).collect()
}

async fn end(replicas: Vec<Replica>) {
    shutdown::<Smol>(clusters(&replicas)).await;
    replicas.into_iter().for_each(Replica::end);
}

/// Everybody asks everybody, and hears who that is; messages arrive in order.
#[test]
fn they_find_each_other_and_talk() {
    Smol::block_on(async {
        let replicas = replicas().await;
        for (i, replica) in replicas.iter().enumerate() {
            let asked = replica
                .cluster
                .request_all("who are you?", Duration::from_secs(20));
            let mut names = Vec::new();
            for answer in soon::<Smol, _>("answers", asked).await.expect("asked") {
                let member = replica.cluster.member(answer.from).expect("a member");
                assert_eq!(answer.result, Ok(Bytes::from(member.name.clone())));
                names.push(member.name);
            }
            names.sort();
            let mut expected: Vec<_> = NAMES.iter().copied().filter(|name| *name != NAMES[i]).collect();
            expected.sort_unstable();
            assert_eq!(names, expected);
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let (sender, to) = (&replicas[from].cluster, &replicas[to]);
            let said: Vec<Bytes> = (0..300_u32)
                .map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
                .collect();
            for payload in said.clone() {
                sender.cast(to.cluster.id(), payload).await.expect("it runs");
            }
            let mut told: Vec<Bytes> = Vec::new();
            until::<Smol>("300 messages", || {
                told.extend(to.told.try_iter());
                told.len() == said.len()
            })
            .await;
            assert_eq!(told, said);
        }
        end(replicas).await;
    });
}

/// What a client of the lock has seen: its token and whose turn it was.
type Turns = Arc<Mutex<Vec<(u64, usize)>>>;

/// Takes five turns at a lock on its own runtime.
async fn turns<R: Runtime>(
    who: usize,
    cluster: Cluster,
    inside: Arc<AtomicUsize>,
    turns: Turns,
    done: Sender<usize>,
) {
    for _ in 0..5 {
        let guard = cluster.lock("one").acquire().await.expect("granted");
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else holds it");
        turns.lock().unwrap().push((guard.token(), who));
        R::sleep(Duration::from_millis(1)).await;
        inside.fetch_sub(1, Ordering::SeqCst);
        guard.release().await.expect("held");
    }
    done.send(who).expect("somebody waits for it");
}

/// They take a lock in turn, each on its own runtime, under rising tokens.
#[test]
fn they_take_turns_at_a_lock() {
    Smol::block_on(async {
        let replicas = replicas().await;
        let (inside, seen) = (Arc::new(AtomicUsize::new(0)), Turns::default());
        let (done, ends) = channel();
        let task = |who: usize| {
            (
                who,
                replicas[who].cluster.clone(),
                inside.clone(),
                seen.clone(),
                done.clone(),
            )
        };
        let (who, cluster, busy, list, ended) = task(0);
        let on_tokio =
            std::thread::spawn(move || Tokio::block_on(turns::<Tokio>(who, cluster, busy, list, ended)));
        let (who, cluster, busy, list, ended) = task(1);
        Smol::spawn(turns::<Smol>(who, cluster, busy, list, ended));
        let (who, cluster, busy, list, ended) = task(2);
        AsyncStd::spawn(turns::<AsyncStd>(who, cluster, busy, list, ended));
        let mut ended = Vec::new();
        until::<Smol>("15 turns", || {
            ended.extend(ends.try_iter());
            ended.len() == 3
        })
        .await;
        on_tokio.join().expect("no panic");
        let seen = seen.lock().unwrap().clone();
        assert!(seen.is_sorted_by(|a, b| a.0 < b.0), "{seen:?}");
        for who in 0..3 {
            assert_eq!(seen.iter().filter(|turn| turn.1 == who).count(), 5, "{seen:?}");
        }
        end(replicas).await;
    });
}

/// Whichever of them leaves with a lock that it holds: the others have it at once, and go on.
#[test]
fn any_of_them_may_leave() {
    for (leaving, name) in NAMES.into_iter().enumerate() {
        Smol::block_on(async move {
            let mut replicas = replicas().await;
            let gone = replicas.remove(leaving);
            let mut events = replicas[0].cluster.events();
            let guard = soon::<Smol, _>("a lock", gone.cluster.lock("k").ttl(LONG).acquire()).await;
            let guard = guard.expect("granted");
            soon::<Smol, _>("a shutdown", gone.cluster.shutdown()).await;
            assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Leaving)));
            let mut token = guard.token();
            for replica in &replicas {
                let next = soon::<Smol, _>("a lock", replica.cluster.lock("k").ttl(LONG).acquire()).await;
                let next = next.expect("granted");
                assert!(next.token() > token, "{name}");
                token = next.token();
            }
            let left = async {
                loop {
                    let event = events.next().await.expect("the node runs");
                    if let ClusterEvent::MemberLeft { member, reason } = event
                        && reason == LeaveReason::Left
                    {
                        return member.name;
                    }
                }
            };
            assert_eq!(soon::<Smol, _>("a goodbye", left).await, name);
            drop(guard);
            gone.end();
            end(replicas).await;
        });
    }
}

/// The runtime of one ends while its node holds a lock: the others notice, and have the lock when its lease is over.
#[test]
fn one_of_them_may_die_with_its_runtime() {
    Smol::block_on(async {
        let mut replicas = replicas().await;
        let dead = replicas.remove(0);
        let mut events = replicas[0].cluster.events();
        let short = dead.cluster.lock("k").ttl(Duration::from_secs(4));
        let guard = soon::<Smol, _>("a lock", short.acquire()).await.expect("granted");
        let (cluster, token) = (dead.cluster.clone(), guard.token());
        dead.end();
        assert!(cluster.closed().await.is_err(), "it was not asked to leave");
        assert_eq!(guard.check(), Err(NotHeld::Lost(LostReason::Leaving)));
        let next = soon::<Smol, _>("a lock", replicas[1].cluster.lock("k").acquire()).await;
        assert!(next.expect("granted").token() > token);
        let reason = soon::<Smol, _>("its death", async {
            loop {
                if let Some(ClusterEvent::MemberLeft { reason, .. }) = events.next().await {
                    return reason;
                }
            }
        })
        .await;
        assert_eq!(reason, LeaveReason::Failed);
        drop((guard, cluster, events));
        let rest = clusters(&replicas);
        until::<Smol>("two are left", || rest.iter().all(|node| lists(node, &rest))).await;
        drop(rest);
        end(replicas).await;
    });
}

/// A handle is the same everywhere: a lock of a node on one runtime is taken in a task of the second and given back on
/// the third.
#[test]
fn handles_cross_runtimes() {
    Smol::block_on(async {
        let replicas = replicas().await;
        let (sender, guards) = async_channel::bounded(1);
        let (done, ends) = channel();
        let cluster = replicas[0].cluster.clone();
        let asking = std::thread::spawn(move || {
            AsyncStd::block_on(async move {
                let guard = cluster.lock("k").ttl(LONG).acquire().await.expect("granted");
                sender.send(guard).await.expect("somebody waits for it");
            });
        });
        Smol::spawn(async move {
            let guard = guards.recv().await.expect("a guard");
            assert!(guard.is_held());
            let _ = done.send(guard.release().await);
        });
        asking.join().expect("no panic");
        let next = soon::<Smol, _>("a lock", replicas[2].cluster.lock("k").acquire()).await;
        drop(next.expect("granted"));
        assert_eq!(ends.recv(), Ok(Ok(())));
        end(replicas).await;
    });
}
