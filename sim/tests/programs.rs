//! Async code in the simulator.

use quorate_sim::quorate::AcquireError;
use quorate_sim::{
    Cluster, Draw, Duration, Env, Host, Report, Schedule, Sim, StartError, block_on, config, run_program,
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
