//! Every async method, dropped at every moment: the cluster is as if it had completed, or had never been called.
//!
//! A future is begun, and the simulation goes on by n of its steps (a datagram, a timer, a turn of a driver), for n = 0, 1,
//! 2 and so on until the future is done; then it is dropped. Once it is polled after each step, and once only at the
//! beginning, so that an answer that nobody has read is dropped too.

use futures_lite::future::{block_on as at_once, poll_once};
use quorate_sim::quorate::{Cluster, Key, KeyRing, LockFilter, LockGuard, LockRow};
use quorate_sim::{Duration, Env, Idle, NodeIndex, Sim, config};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;

/// More steps than anything takes here that comes to an end by itself.
const MOST: usize = 400;
/// For how long a future is let go on that comes to no end by itself.
const ENOUGH: usize = 60;
const TTL: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

type Output = Box<dyn Any>;
type Op = Pin<Box<dyn Future<Output = Output>>>;

/// Three members that hold nothing.
struct Stage {
    sim: Sim<Idle>,
    clusters: Rc<[Cluster; 3]>,
    /// What the third one was sent, by text.
    received: Rc<RefCell<BTreeMap<String, u32>>>,
}

fn boxed(future: impl Future<Output = impl Any> + 'static) -> Op {
    Box::pin(async move { Box::new(future.await) as Output })
}

impl Stage {
    fn new() -> Self {
        let mut sim = Sim::builder().seed(1).build_with(|_| Idle);
        let received: Rc<RefCell<BTreeMap<String, u32>>> = Rc::default();
        let inbox = received.clone();
        let clusters = sim.block_on(async move {
            let env = Env::current();
            let base = || config().cluster_size(3).max_ttl(3 * SECOND);
            let first = env.start(base()).await.unwrap();
            let seed = first.local_addr().to_string();
            let second = env.start(base().seed(&seed)).await.unwrap();
            let third = env.start(base().seed(&seed)).await.unwrap();
            for cluster in [&first, &second, &third] {
                cluster.ready().await.unwrap();
            }
            // The group is open.
            drop(first.lock("a").acquire().await.unwrap());
            let mut messages = third.messages();
            env.spawn(async move {
                while let Some(message) = messages.next().await {
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    *inbox.borrow_mut().entry(text).or_default() += 1;
                    if message.is_request() {
                        let _ = message.reply("pong").await;
                    }
                }
            });
            [first, second, third]
        });
        Self {
            sim,
            clusters: Rc::new(clusters),
            received,
        }
    }

    /// Lets everything come to rest, and returns what there is then.
    fn rest(&mut self) -> Rest {
        self.sim.run_for(TTL + SECOND);
        let cluster = self.clusters[1].clone();
        let rows = self.sim.block_on(async move {
            let pages = cluster.locks(LockFilter::default());
            pages.all().await.expect("there is a quorum")
        });
        let process = |index| self.sim.world().process(NodeIndex(index));
        // What is left of a lease is another number each time.
        let fixed = |mut row: LockRow| {
            row.left_ms = None;
            row
        };
        Rest {
            rows: rows.into_iter().map(fixed).collect(),
            pending: [0, 1, 2].map(|index| process(index).pending()),
            held: [0, 1, 2].map(|index| {
                let usage = process(index).node().expect("it runs").usage();
                let counted = [
                    "open draws",
                    "waiting broadcasts",
                    "worst send queue bytes",
                    "worst reply bytes",
                ];
                let rows = usage
                    .rows()
                    .iter()
                    .filter(|row| counted.contains(&row.name) || row.name.contains("lock"));
                rows.map(|row| (row.name, row.used)).collect()
            }),
        }
    }
}

/// What there is when nothing is under way.
#[derive(Debug, PartialEq)]
struct Rest {
    rows: Vec<LockRow>,
    pending: [usize; 3],
    held: [Vec<(&'static str, usize)>; 3],
}

/// Begins the operation, drops it after each number of steps, and checks that nothing is left of it. Returns at how many
/// moments.
fn exhaust(name: &str, stage: &mut Stage, begin: impl Fn(&[Cluster; 3], &str) -> Op) -> usize {
    let before = stage.rest();
    let mut moments = 0;
    for reads in [true, false] {
        for steps in 0..MOST {
            let label = format!("{name} {reads} {steps}");
            let mut op = begin(&stage.clusters, &label);
            let mut output = at_once(poll_once(&mut op));
            let mut done = 0;
            while done < steps && output.is_none() {
                let end = stage.sim.now() + SECOND;
                stage.sim.step(end);
                done += 1;
                if reads {
                    output = at_once(poll_once(&mut op));
                }
            }
            moments += 1;
            let completed = output.is_some();
            drop(op);
            drop(output);
            assert_eq!(stage.rest(), before, "{label}, completed: {completed}");
            let twice = stage.received.borrow().iter().any(|(_, times)| *times > 1);
            assert!(!twice, "{label}: a message was delivered twice");
            if completed || steps >= ENOUGH {
                break;
            }
        }
    }
    // It works as before.
    let cluster = stage.clusters[0].clone();
    let token = stage
        .sim
        .block_on(async move { cluster.lock("after").acquire().await.unwrap().token() });
    assert!(token > 0 && moments > 1, "{name}");
    moments
}

fn hold(stage: &mut Stage, of: usize, key: &'static str) -> LockGuard {
    let cluster = stage.clusters[of].clone();
    stage
        .sim
        .block_on(async move { cluster.lock(key).ttl(TTL).acquire().await.unwrap() })
}

#[test]
fn questions_and_waits() {
    let mut stage = Stage::new();
    let stage = &mut stage;
    exhaust("status", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.status().await })
    });
    exhaust("stats", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.stats().await })
    });
    exhaust("health", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.health().await })
    });
    exhaust("refresh", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.refresh().await })
    });
    exhaust("closed", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.closed().await })
    });
    exhaust("set_keys", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move {
            c.set_keys(KeyRing::from_keys(vec![Key::from_bytes([7; 32])]).unwrap())
                .await
        })
    });
    exhaust("events", stage, |c, _| {
        let mut e = c[0].events();
        boxed(async move { e.next().await })
    });
    exhaust("messages", stage, |c, _| {
        let mut m = c[0].messages();
        boxed(async move { m.next().await.is_some() })
    });
    exhaust("locks", stage, |c, _| {
        let p = c[0].locks(LockFilter::default());
        boxed(p.all())
    });
    exhaust("pages", stage, |c, _| {
        let mut p = c[0].locks(LockFilter::default());
        boxed(async move { p.next().await })
    });
    exhaust("lock_info", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.lock_info("k").await })
    });
    exhaust("watch", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.watch("k").await })
    });
    exhaust("watch, next", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move {
            let mut watch = c.watch("k").await.unwrap();
            watch.next().await.unwrap();
            watch.next().await
        })
    });
    exhaust("leader", stage, |c, _| {
        let e = c[0].elect("k");
        boxed(async move { e.leader().await })
    });
    exhaust("observe", stage, |c, _| {
        let e = c[0].elect("k");
        boxed(async move {
            let mut leaders = e.observe().await.unwrap();
            leaders.next().await;
            leaders.next().await
        })
    });
}

#[test]
fn messages_and_requests() {
    let mut stage = Stage::new();
    let stage = &mut stage;
    let text = |label: &str| label.to_owned();
    exhaust("broadcast", stage, |c, l| {
        let (c, l) = (c[0].clone(), text(l));
        boxed(async move { c.broadcast(l).await })
    });
    exhaust("send_to", stage, |c, l| {
        let (c, to, l) = (c[0].clone(), c[2].id(), text(l));
        boxed(async move { c.send_to(to, l).await })
    });
    exhaust("cast", stage, |c, l| {
        let (c, to, l) = (c[0].clone(), c[2].id(), text(l));
        boxed(async move { c.cast(to, l).await })
    });
    exhaust("cast_all", stage, |c, l| {
        let (c, l) = (c[0].clone(), text(l));
        boxed(async move { c.cast_all(l).await })
    });
    exhaust("request", stage, |c, l| {
        let (c, to, l) = (c[0].clone(), c[2].id(), text(l));
        boxed(async move { c.request(to, l, SECOND).await })
    });
    exhaust("request_all", stage, |c, l| {
        let (c, l) = (c[0].clone(), text(l));
        boxed(async move { c.request_all(l, SECOND).await })
    });
    exhaust("request_each", stage, |c, l| {
        let (c, l) = (c[0].clone(), text(l));
        boxed(async move {
            let mut answers = c.request_each(l, SECOND).await.unwrap();
            while answers.next().await.is_some() {}
        })
    });
}

#[test]
fn locks_that_are_free() {
    let mut stage = Stage::new();
    let stage = &mut stage;
    exhaust("acquire", stage, |c, _| boxed(c[0].lock("k").ttl(TTL).acquire()));
    exhaust("acquire as leader or not", stage, |c, _| {
        boxed(c[1].lock("k").ttl(TTL).acquire())
    });
    exhaust("try_acquire", stage, |c, _| {
        boxed(c[0].lock("k").ttl(TTL).try_acquire())
    });
    exhaust("try_lock", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.try_lock("k").await })
    });
    exhaust("read", stage, |c, _| boxed(c[0].read("r").ttl(TTL).acquire()));
    exhaust("write", stage, |c, _| boxed(c[0].write("r").ttl(TTL).acquire()));
    exhaust("semaphore", stage, |c, _| {
        boxed(c[0].semaphore("s", 3).units(2).ttl(TTL).acquire())
    });
    exhaust("run", stage, |c, _| {
        boxed(c[0].lock("k").ttl(TTL).run(|_| futures_lite::future::yield_now()))
    });
    exhaust("with_lock", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.with_lock("k", |_| std::future::pending::<()>()).await })
    });
    exhaust("campaign", stage, |c, _| {
        boxed(c[0].elect("k").value("me").ttl(TTL).campaign())
    });
    exhaust("step_down", stage, |c, _| {
        let e = c[0].elect("k").ttl(TTL);
        boxed(async move { e.campaign().await.unwrap().step_down().await })
    });
    exhaust("elect, run", stage, |c, _| {
        boxed(c[0].elect("k").run(|_| std::future::pending::<()>()))
    });
    exhaust("set_ttl and release", stage, |c, _| {
        let l = c[0].lock("k").ttl(SECOND);
        boxed(async move {
            let guard = l.acquire().await.unwrap();
            guard.set_ttl(TTL).await.unwrap();
            guard.release().await
        })
    });
    exhaust("lost, ended and at_risk", stage, |c, _| {
        let l = c[0].lock("k").ttl(TTL);
        boxed(async move {
            let guard = l.acquire().await.unwrap();
            let lease = guard.lease();
            let lost = async {
                let _ = guard.lost().await;
            };
            let ended = async {
                let _ = lease.ended().await;
            };
            let at_risk = async {
                let _ = lease.at_risk().await;
            };
            futures_lite::future::or(lost, futures_lite::future::or(ended, at_risk)).await;
        })
    });
}

#[test]
fn locks_that_somebody_else_holds() {
    let mut stage = Stage::new();
    let stage = &mut stage;
    // It never changes hands while others ask for it, and give up.
    let guard = hold(stage, 1, "k");
    exhaust("contended acquire", stage, |c, _| {
        boxed(c[0].lock("k").ttl(TTL).acquire())
    });
    exhaust("contended acquire for a time", stage, |c, _| {
        boxed(c[0].lock("k").wait(SECOND / 50).acquire())
    });
    exhaust("contended try", stage, |c, _| boxed(c[0].lock("k").try_acquire()));
    exhaust("contended run", stage, |c, _| {
        boxed(c[2].lock("k").run(|_| std::future::ready(())))
    });
    exhaust("contended campaign", stage, |c, _| {
        boxed(c[2].elect("k").campaign())
    });
    exhaust("force_release of nothing", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.force_release(1).await })
    });
    exhaust("force_release_unsafely of nothing", stage, |c, _| {
        let c = c[0].clone();
        boxed(async move { c.force_release_unsafely(1).await })
    });
    assert!(guard.is_held());
}

/// A lock is free the sooner or later, wherever its release, or the drop of its guard, is interrupted; and a lock that
/// is handed over to somebody who gives up at that moment goes on to the next.
#[test]
fn a_lock_that_is_handed_over_to_somebody_who_gives_up() {
    for steps in 0..60 {
        for reads in [true, false] {
            let mut stage = Stage::new();
            let guard = hold(&mut stage, 1, "k");
            let mut waits = boxed(stage.clusters[0].lock("k").ttl(TTL).acquire());
            assert!(at_once(poll_once(&mut waits)).is_none());
            stage.sim.run_for(SECOND);
            let mut next = boxed(stage.clusters[2].lock("k").ttl(TTL).acquire());
            assert!(at_once(poll_once(&mut next)).is_none());
            stage.sim.run_for(SECOND);
            drop(guard);
            let mut got = None;
            for _ in 0..steps {
                let end = stage.sim.now() + SECOND;
                stage.sim.step(end);
                if reads && got.is_none() {
                    got = at_once(poll_once(&mut waits));
                }
            }
            drop(got);
            drop(waits);
            let served = stage.sim.block_on(async move {
                let env = Env::current();
                env.timeout(SECOND, next).await
            });
            assert!(served.is_some(), "after {steps} steps, read: {reads}");
            drop(served);
            assert_eq!(stage.rest().rows, []);
        }
    }
}

#[test]
fn to_leave_cannot_be_taken_back() {
    for steps in 0..40 {
        let mut stage = Stage::new();
        let guard = hold(&mut stage, 0, "k");
        let leaving = stage.clusters[0].clone();
        let mut op = boxed(async move { leaving.shutdown().await });
        let mut done = at_once(poll_once(&mut op)).is_some();
        for _ in 0..steps {
            let end = stage.sim.now() + SECOND;
            stage.sim.step(end);
            done = done || at_once(poll_once(&mut op)).is_some();
        }
        drop(op);
        stage.sim.run_for(30 * SECOND);
        assert!(!stage.sim.is_running(NodeIndex(0)), "after {steps} steps");
        assert!(!guard.is_held());
        let next = hold(&mut stage, 1, "k");
        assert!(next.token() > guard.token());
    }
}

/// A request that is taken is answered, or open no more.
#[test]
fn replies() {
    let mut stage = Stage::new();
    let stage = &mut stage;
    exhaust("reply", stage, |c, l| {
        let (asks, to, l, mut messages) = (c[1].clone(), c[0].id(), l.to_owned(), c[0].messages());
        boxed(async move {
            let answer = asks.request(to, l, SECOND);
            let serve = async {
                while let Some(message) = messages.next().await {
                    // It may be one that nobody waits for any more.
                    let _ = message.reply("yes").await;
                }
                std::future::pending().await
            };
            futures_lite::future::or(async { answer.await.is_ok() }, serve).await
        })
    });
}
