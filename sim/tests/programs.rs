//! Async code in the simulator.

use quorate_sim::quorate::AcquireError;
use quorate_sim::{
    Cluster, Draw, Duration, Env, Host, Instant, Recording, Report, Schedule, Sim, StartError, block_on,
    config, html, run_program, run_program_observed,
};
use std::cell::RefCell;
use std::rc::Rc;

fn three(seed: u64) -> Sim {
    Sim::builder()
        .seed(seed)
        .config(|_, config| config.cluster_size(3))
        .build()
}

#[test]
fn programs_find_each_other_and_take_a_lock_in_turn() {
    let log: Rc<RefCell<Vec<(Host, u64)>>> = Rc::default();
    let mut sim = three(1);
    for _ in 0..3 {
        let log = log.clone();
        sim.node(move |cluster, env| {
            let log = log.clone();
            async move {
                cluster.ready().await.unwrap();
                loop {
                    let guard = cluster.lock("a").acquire().await.unwrap();
                    log.borrow_mut().push((env.host().unwrap(), guard.token()));
                    env.sleep(Duration::from_secs(1)).await;
                    guard.release().await.unwrap();
                }
            }
        });
    }
    sim.run_for(Duration::from_secs(100));
    let log = log.borrow();
    assert!(log.len() > 30, "{}", log.len());
    assert!(log.windows(2).all(|pair| pair[0].1 < pair[1].1));
    assert!((0..3).all(|host| log.iter().any(|(of, _)| *of == Host(host))));
}

#[test]
fn messages_and_requests_pass() {
    let mut sim = three(2);
    for _ in 0..3 {
        sim.node(|cluster, env| async move {
            cluster.ready().await.unwrap();
            let mut messages = cluster.messages();
            env.spawn(async move {
                while let Some(message) = messages.next().await {
                    if message.is_request() {
                        message.reply("pong").await.unwrap();
                    }
                }
            });
            env.sleep(Duration::from_secs(5)).await;
            let answers = cluster.request_all("ping", Duration::from_secs(2)).await.unwrap();
            assert_eq!(answers.len(), 2);
            assert!(
                answers
                    .iter()
                    .all(|answer| answer.result.as_ref().unwrap() == "pong")
            );
            env.cover("answered");
            env.sleep(Duration::from_secs(5)).await;
            cluster.shutdown().await;
            env.cover("left");
        });
    }
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.coverage()["answered"], 3);
    assert_eq!(sim.coverage()["left"], 3);
    assert_eq!(sim.apps().count(), 0);
}

/// A program that uses everything, under whatever a seed draws.
fn busy(seed: u64) -> Report {
    let draw = Draw {
        hosts: 3..=5,
        chaos: Duration::from_secs(60),
        ..Draw::default()
    };
    let schedule = Schedule::draw(seed, &draw);
    run_program(&schedule, || busy_program)
}

async fn busy_program(cluster: Cluster, env: Env) {
    let mut messages = cluster.messages();
    let reader = env.clone();
    env.spawn(async move {
        while let Some(message) = messages.next().await {
            reader.cover("message");
            if message.is_request() {
                // It may be too late.
                let _ = message.reply("pong").await;
            }
        }
    });
    let (speaker, own) = (cluster.clone(), env.clone());
    env.spawn(async move {
        loop {
            own.sleep(Duration::from_millis(200 + own.random() % 2_000)).await;
            let done = match own.random() % 3 {
                0 => speaker.broadcast("news").await.is_err(),
                1 => speaker.request_all("ping", Duration::from_secs(3)).await.is_err(),
                _ => speaker.cast_all("gossip").await.is_err(),
            };
            if done && speaker.refresh().await.is_err() {
                return;
            }
        }
    });
    loop {
        let lock = cluster.lock("a").ttl(Duration::from_secs(3)).acquire();
        match env.timeout(Duration::from_secs(20), lock).await {
            Some(Ok(guard)) => {
                env.cover("held");
                let _ = env.timeout(Duration::from_millis(300), guard.lost()).await;
                if guard.check().is_ok() {
                    env.cover("still held");
                }
            }
            Some(Err(AcquireError::Closed(_))) => return,
            Some(Err(_)) | None => {}
        }
        env.sleep(Duration::from_millis(env.random() % 2_000)).await;
    }
}

#[test]
fn whole_runs_of_programs_are_clean() {
    let mut held = 0;
    for seed in 0..12 {
        let report = busy(seed);
        assert_eq!(report.violation, None, "seed {seed}");
        held += report.coverage.get("held").copied().unwrap_or_default();
    }
    assert!(held > 100, "{held}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(busy(3), busy(3));
}

#[test]
fn a_future_runs_beside_all_processes() {
    let tokens = block_on(1, async {
        let env = Env::current();
        let base = || config().cluster_size(3);
        let first = env.start(base()).await.unwrap();
        let seed = first.local_addr().to_string();
        let second = env.start(base().seed(&seed)).await.unwrap();
        let third = env.start(base().seed(&seed)).await.unwrap();
        let mut tokens = Vec::new();
        for cluster in [&first, &second, &third] {
            cluster.ready().await.unwrap();
            tokens.push(cluster.lock("a").acquire().await.unwrap().token());
        }
        // It is taken, and free once it has left.
        let bind = base().bind(first.local_addr().to_string());
        let error = env.start(bind.clone()).await.unwrap_err();
        assert!(matches!(error, StartError::Bind { .. }), "{error}");
        first.shutdown().await;
        let again = env
            .start(bind.seed(second.local_addr().to_string()))
            .await
            .unwrap();
        again.ready().await.unwrap();
        assert_eq!(again.local_addr().to_string(), seed);
        env.crash(again.id());
        assert!(again.closed().await.is_err());
        tokens
    });
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_future_that_nothing_can_wake_is_a_deadlock() {
    block_on(1, std::future::pending::<()>());
}

/// Runs something on one host for a while, with a seed that is run twice.
fn alone<F: Future<Output = ()> + 'static>(
    program: impl Fn(Cluster, Env) -> F + Copy + 'static,
) -> Option<String> {
    let schedule = Schedule {
        chaos: Duration::from_secs(5),
        ..Schedule::calm(16, 1)
    };
    let violation = run_program(&schedule, || program).violation?;
    assert_eq!(violation.by, "determinism", "{violation}");
    Some(violation.what)
}

#[test]
fn real_time_and_randomness_are_noticed() {
    let clean = alone(|_, env| async move {
        for _ in 0..20 {
            env.sleep(Duration::from_millis(env.random() % 100)).await;
        }
        env.cover("slept");
    });
    assert_eq!(clean, None);

    let clock = alone(|_, env| async move {
        let begun = std::time::Instant::now();
        env.sleep(Duration::from_secs(2)).await;
        env.sleep(begun.elapsed()).await;
    });
    let what = clock.expect("a real clock decided");
    assert!(what.contains(" s and 2."), "{what}");

    let map = alone(|_, env| async move {
        #[allow(clippy::disallowed_types, reason = "it is what must not be used")]
        let map: std::collections::HashMap<u64, ()> = (1..50).map(|n| (n, ())).collect();
        for number in map.keys() {
            env.sleep(Duration::from_millis(*number)).await;
        }
    });
    assert!(map.is_some_and(|what| what.contains("unordered map")));
}

#[test]
fn who_looks_at_a_run_sees_that_nothing_decided_it() {
    let schedule = Schedule {
        chaos: Duration::from_secs(5),
        ..Schedule::calm(16, 1)
    };
    let program = || {
        |_, env: Env| async move {
            let begun = std::time::Instant::now();
            env.sleep(Duration::from_secs(2)).await;
            env.sleep(begun.elapsed()).await;
        }
    };
    let (report, recording) = run_program_observed(&schedule, program, Recording::new(1_000));
    let violation = report.violation.expect("a real clock decided");
    assert_eq!(violation.by, "determinism", "{violation}");
    // It was there once.
    let about = html::About {
        title: "",
        seed: schedule.seed,
        trace_hash: report.trace_hash,
        schedule: "",
        violations: std::slice::from_ref(&violation),
    };
    assert!(html::page(&recording, &about).contains("the same seed gave two different runs"));
}

#[test]
fn a_waker_that_a_thread_calls_is_noticed() {
    let what = alone(|_, env| async move {
        let mut asked = false;
        std::future::poll_fn(|cx| {
            let waker = cx.waker().clone();
            if std::mem::replace(&mut asked, true) {
                return std::task::Poll::Ready(());
            }
            let thread = std::thread::spawn(move || waker.wake());
            thread
                .join()
                .map_or(std::task::Poll::Ready(()), |()| std::task::Poll::Pending)
        })
        .await;
        env.sleep(Duration::from_secs(1)).await;
    });
    assert!(what.is_some_and(|what| what.contains("another thread")));
}

#[test]
fn a_panic_names_its_task_and_process() {
    let schedule = Schedule {
        chaos: Duration::from_secs(5),
        ..Schedule::calm(1, 2)
    };
    let report = run_program(&schedule, || {
        |cluster, env: Env| async move {
            let own = env.clone();
            env.spawn(async move {
                let _node = cluster;
                own.sleep(Duration::from_secs(1)).await;
                assert_ne!(own.host(), Some(Host(1)), "on purpose");
            });
        }
    });
    let violation = report.violation.unwrap();
    assert_eq!(violation.by, "program");
    assert!(violation.what.contains("task 2 of process") && violation.what.contains("on host 1"));
    assert!(violation.what.contains("on purpose"), "{violation}");
}

#[test]
fn a_task_that_never_waits_lets_time_pass() {
    let mut sim = Sim::builder().seed(1).build();
    sim.node(|cluster, env| async move {
        let begun = env.now();
        let mut turns = 0;
        while env.now() - begun < Duration::from_millis(20) {
            futures_lite::future::yield_now().await;
            turns += 1;
        }
        assert!((15_000..25_000).contains(&turns), "{turns}");
        env.cover("over");
        drop(cluster);
    });
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.coverage()["over"], 1);

    let turns = block_on(1, async {
        let env = Env::current();
        let spins = env.clone();
        let task = env.spawn(async move {
            let mut turns = 0;
            while spins.now() < Instant::from_millis(1_010) {
                futures_lite::future::yield_now().await;
                turns += 1;
            }
            turns
        });
        env.sleep(Duration::from_millis(5)).await;
        assert_eq!(env.now(), Instant::from_millis(1_005));
        task.await
    });
    assert!((8_000..12_000).contains(&turns), "{turns}");
}

/// Who never rests, in words.
const RESTLESS: &str = "wakes itself, or is woken, again and again";

#[test]
fn a_task_that_never_rests_is_noticed() {
    let schedule = Schedule {
        chaos: Duration::from_secs(5),
        ..Schedule::calm(1, 2)
    };
    let spins = || async {
        loop {
            futures_lite::future::yield_now().await;
        }
    };
    let report = run_program(&schedule, move || {
        move |cluster, env: Env| async move {
            env.sleep(Duration::from_secs(1)).await;
            if env.host() == Some(Host(1)) {
                env.spawn(async move {
                    let _node = cluster;
                    spins().await;
                });
            } else {
                std::future::pending::<()>().await;
            }
        }
    });
    let violation = report.violation.expect("it never rests");
    assert_eq!(violation.by, "program");
    assert!(violation.what.contains("task 2 of process") && violation.what.contains("on host 1"));
    assert!(violation.what.contains(RESTLESS), "{violation}");

    // Also where its node is gone, and where there never was one.
    let report = run_program(&schedule, move || {
        move |cluster: Cluster, _| async move {
            cluster.shutdown().await;
            spins().await;
        }
    });
    assert!(
        report
            .violation
            .is_some_and(|violation| violation.what.contains(RESTLESS))
    );
    let beside = std::panic::catch_unwind(|| block_on(1, spins()));
    let what = beside.unwrap_err().downcast::<String>().unwrap();
    assert!(
        what.contains("task 1 of nobody") && what.contains(RESTLESS),
        "{what}"
    );
}

#[test]
fn who_works_much_and_rests_in_between_goes_on() {
    let mut sim = Sim::builder().seed(1).build();
    sim.node(|cluster, env| async move {
        for _ in 0..400 {
            for _ in 0..5_000 {
                futures_lite::future::yield_now().await;
            }
            env.sleep(Duration::from_millis(1)).await;
        }
        env.cover("over");
        drop(cluster);
    });
    sim.run_for(Duration::from_secs(10));
    assert_eq!(sim.coverage()["over"], 1);
}

#[test]
fn channels_races_and_cancelled_tasks_work() {
    let (order, elapsed) = block_on(1, async {
        let env = Env::current();
        let begun = env.now();
        let (sender, receiver) = async_channel::bounded(1);
        for number in 0..3_u64 {
            let (sender, own) = (sender.clone(), env.clone());
            env.spawn(async move {
                own.sleep(Duration::from_millis(10 * (3 - number))).await;
                sender.send(number).await.unwrap();
            });
        }
        drop(sender);
        let slow = env.spawn(std::future::pending::<()>());
        slow.cancel();
        let mut order = Vec::new();
        while let Ok(number) = receiver.recv().await {
            order.push(number);
        }
        let long = env.sleep(Duration::from_secs(100));
        let short = env.sleep(Duration::from_secs(1));
        futures_lite::future::race(long, short).await;
        assert_eq!(env.spawn(async { 42 }).await, 42);
        let never = env.timeout(Duration::from_secs(2), std::future::pending::<()>());
        assert_eq!(never.await, None);
        (order, env.now() - begun)
    });
    assert_eq!(order, [2, 1, 0]);
    assert_eq!(elapsed, Duration::from_millis(3_030));
}

#[test]
fn a_program_survives_pauses_slow_hosts_and_jumps_of_its_clock() {
    use quorate_sim::FaultKind;
    let mut sim = three(5);
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            sim.node(|cluster, env| async move {
                let mut seen = 0;
                loop {
                    let guard = cluster
                        .lock("a")
                        .ttl(Duration::from_secs(5))
                        .acquire()
                        .await
                        .unwrap();
                    env.sleep(Duration::from_millis(100)).await;
                    if guard.check().is_err() {
                        env.cover("lost");
                    }
                    seen += 1;
                    if seen == 10 {
                        env.cover("ten times");
                    }
                }
            })
        })
        .collect();
    sim.run_for(Duration::from_secs(10));
    for host in (0..3).map(Host) {
        sim.inject(FaultKind::Pause { host }, Duration::from_secs(7));
        sim.run_for(Duration::from_secs(10));
        sim.inject(
            FaultKind::Slow {
                host,
                each: Duration::from_millis(30),
            },
            Duration::from_secs(5),
        );
        sim.run_for(Duration::from_secs(10));
        sim.inject(
            FaultKind::Jump {
                host,
                by: Duration::from_secs(8),
            },
            Duration::ZERO,
        );
        sim.run_for(Duration::from_secs(10));
    }
    assert_eq!(sim.coverage()["ten times"], 3);
    assert!(sim.coverage()["lost"] > 0);
    assert!(nodes.iter().all(|&node| sim.is_running(node)));
}
