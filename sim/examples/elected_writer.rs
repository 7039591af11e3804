//! A service in which one elected replica writes and all others serve reads, as async code against a [`Cluster`]: right, and
//! with a bug that the simulator finds, makes small, and draws.
//!
//! ```text
//! cargo run --release -p quorate-sim --example elected_writer
//! cargo run --release -p quorate-sim --example elected_writer -- --wrong
//! ```
//!
//! The store is a counter outside of the cluster that only goes up by one at a time: who writes has to have read the number
//! before. The right writer works under [`Election::run`](quorate_sim::quorate::Election::run), which drops its work when
//! the leadership may be lost, and shows its token with all that it asks of the store, which refuses whoever comes with
//! one lower than it has seen. The wrong one campaigns once, never looks again whether it leads, and shows no token.
//!
//! The same code runs on a real machine: `serve` needs a `Cluster`, and something to sleep with.

use quorate_sim::quorate::{Bytes, Cluster, Election, Lease, WithLockError};
use quorate_sim::{
    Draw, Duration, Env, Recording, Report, Schedule, html, run_program, run_program_observed, shrink,
};
use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::{env, fs};

/// How long a lease lasts: how long nobody writes after a writer has died.
const TTL: Duration = Duration::from_secs(5);
/// How long the store takes to answer, each way.
const WAY: Duration = Duration::from_millis(20);
/// How long the writer works on the next number.
const WORK: Duration = Duration::from_millis(100);
/// How often everybody asks another one for the number.
const PACE: Duration = Duration::from_millis(500);

/// What a store says to a writer whose token is lower than one that it has seen.
struct Refused;

/// The store: outside of the cluster, always there.
#[derive(Default)]
struct Store {
    number: Cell<u64>,
    highest: Cell<u64>,
}

impl Store {
    fn admit(&self, token: Option<u64>) -> Result<(), Refused> {
        // Without a token nobody can tell who is late.
        let Some(token) = token else { return Ok(()) };
        if token < self.highest.get() {
            return Err(Refused);
        }
        self.highest.set(token);
        Ok(())
    }

    async fn read(&self, env: &Env, token: Option<u64>) -> Result<u64, Refused> {
        env.sleep(WAY).await;
        self.admit(token)?;
        let number = self.number.get();
        env.sleep(WAY).await;
        Ok(number)
    }

    /// Writes the number that follows `old`.
    async fn write(&self, env: &Env, token: Option<u64>, old: u64) -> Result<(), Refused> {
        env.sleep(WAY).await;
        if self.admit(token).is_err() {
            env.cover("late writes refused");
            return Err(Refused);
        }
        if self.number.get() != old {
            env.fail(format!(
                "a write is lost: the store has {}, and is overwritten by one who had read {old}",
                self.number.get()
            ));
        }
        self.number.set(old + 1);
        env.cover("numbers written");
        env.sleep(WAY).await;
        Ok(())
    }
}

/// Writes number after number, and tells all others of each.
async fn write(cluster: &Cluster, env: &Env, store: &Store, token: Option<u64>) -> Result<(), Refused> {
    let mut number = store.read(env, token).await?;
    loop {
        env.sleep(WORK).await;
        store.write(env, token, number).await?;
        number += 1;
        // Nobody waits for them: a copy may be old, and says so by its number.
        if cluster.cast_all(number.to_be_bytes().to_vec()).await.is_err() {
            return Ok(());
        }
    }
}

/// Leads, as often as it is elected, while it is.
async fn lead(cluster: &Cluster, env: &Env, store: &Store) {
    let election: Election = cluster.elect("writer").ttl(TTL);
    loop {
        let work = |lease: Lease| async move {
            env.cover("elections won");
            // A store that refuses has seen somebody who was elected later.
            let _ = write(cluster, env, store, Some(lease.token())).await;
        };
        match election.clone().run(work).await {
            Ok(()) | Err(WithLockError::Lost(_)) => env.cover("leaderships ended"),
            Err(WithLockError::NotAcquired(_)) => env.sleep(PACE).await,
        }
        if cluster.refresh().await.is_err() {
            return;
        }
    }
}

/// Leads once it was elected, and for ever.
async fn lead_wrongly(cluster: &Cluster, env: &Env, store: &Store) {
    while let Err(_refused) = cluster
        .elect("writer")
        .ttl(TTL)
        .campaign()
        .await
        .map(std::mem::forget)
    {
        env.sleep(PACE).await;
        if cluster.refresh().await.is_err() {
            return;
        }
    }
    env.cover("elections won");
    let _ = write(cluster, env, store, None).await;
}

/// One replica: it keeps a copy of the number, answers whoever asks for it, and writes when it is elected.
async fn serve(cluster: Cluster, env: Env, store: Rc<Store>, wrong: bool) {
    let copy = Rc::new(Cell::new(0_u64));
    let (mut messages, known) = (cluster.messages(), Rc::clone(&copy));
    env.spawn(async move {
        while let Some(message) = messages.next().await {
            if message.is_request() {
                // Whoever asked may be gone.
                let _ = message.reply(known.get().to_be_bytes().to_vec()).await;
            } else if let Some(number) = number_of(&message.payload) {
                known.set(known.get().max(number));
            }
        }
    });
    let (client, asks, truth) = (cluster.clone(), env.clone(), Rc::clone(&store));
    env.spawn(async move {
        loop {
            asks.sleep(PACE).await;
            let members = client.members();
            let Some(member) = members.get(asks.random() as usize % members.len().max(1)) else {
                continue;
            };
            if let Ok(reply) = client.request(member.id, "get", PACE).await {
                asks.cover("reads served");
                if number_of(&reply).is_none_or(|number| number > truth.number.get()) {
                    asks.fail("a read shows a number that was never written");
                }
            } else if client.refresh().await.is_err() {
                return;
            }
        }
    });
    if wrong {
        lead_wrongly(&cluster, &env, &store).await;
    } else {
        lead(&cluster, &env, &store).await;
    }
}

fn number_of(bytes: &Bytes) -> Option<u64> {
    Some(u64::from_be_bytes(bytes[..].try_into().ok()?))
}

/// The service, with a store of its own.
fn service(wrong: bool) -> impl Fn(Cluster, Env) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + 'static {
    let store = Rc::<Store>::default();
    move |cluster, env| Box::pin(serve(cluster, env, Rc::clone(&store), wrong))
}

/// Draws a run of up to a minute on three to five hosts, all of them voters, with everything that can go wrong.
fn draw(seed: u64) -> Schedule {
    let options = Draw {
        hosts: 3..=5,
        chaos: Duration::from_secs(60),
        ..Draw::default()
    };
    let schedule = Schedule {
        // An election needs a quorum, and a lease of some seconds.
        cluster_size: 5,
        surge: 0,
        observers: 0,
        max_ttl: Duration::from_secs(10),
        ..Schedule::draw(seed, &options)
    };
    // It may have been drawn with a surge.
    schedule.without_invalid_faults()
}

fn run(schedule: &Schedule, wrong: bool) -> Report {
    run_program(schedule, || service(wrong))
}

/// Looks for a run in which somebody objects, among the first seeds; returns also how many are clean before it.
fn search(seeds: u64, wrong: bool) -> (u64, Option<(Schedule, Report)>) {
    for seed in 0..seeds {
        let schedule = draw(seed);
        let report = run(&schedule, wrong);
        if report.violation.is_some() {
            return (seed, Some((schedule, report)));
        }
    }
    (seeds, None)
}

/// Makes a run smaller in which somebody objects, and draws what is left of it; returns the page.
fn explain(schedule: Schedule, report: &Report) -> (Schedule, String) {
    let by = report.violation.as_ref().map(|violation| violation.by);
    // Without a quorum two may lead at once: that would be another bug.
    let same = |candidate: &Schedule| {
        candidate.cluster_size > 0 && run(candidate, true).violation.map(|violation| violation.by) == by
    };
    let small = shrink(schedule, 150, same).schedule;
    let (report, recording) = run_program_observed(&small, || service(true), Recording::new(20_000));
    let text = small.to_string();
    let violations: Vec<_> = report.violation.into_iter().collect();
    let about = html::About {
        title: "An elected writer that forgets its token",
        seed: small.seed,
        trace_hash: report.trace_hash,
        schedule: &text,
        violations: &violations,
    };
    let page = html::page(&recording, &about);
    (small, page)
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let (mut wrong, mut output) = (false, env::temp_dir().join("run.html"));
    while let Some(arg) = args.next() {
        match (arg.as_str(), arg == "-o") {
            ("--wrong", _) => wrong = true,
            (_, true) if args.len() > 0 => output = PathBuf::from(args.next().unwrap_or_default()),
            _ => {
                eprintln!("usage: elected_writer [--wrong] [-o run.html]");
                return ExitCode::from(2);
            }
        }
    }
    let seeds = if wrong { 200 } else { 50 };
    println!(
        "One elected replica of 3 to 5 writes, the others serve reads; up to {seeds} runs of a bad minute each. The writer is \
         the {} one.",
        if wrong { "wrong" } else { "right" }
    );
    let (clean, found) = search(seeds, wrong);
    match (wrong, found) {
        (false, None) => {
            println!("{clean} runs, and nothing went wrong in any of them, as was expected.");
            ExitCode::SUCCESS
        }
        (false, Some((schedule, report))) => {
            println!("FOUND, and not expected: {:?}\n{schedule}", report.violation);
            ExitCode::FAILURE
        }
        (true, None) => {
            println!("Nothing was found in {clean} runs, and something was expected.");
            ExitCode::FAILURE
        }
        (true, Some((schedule, report))) => {
            let seed = schedule.seed;
            let faults = schedule.faults.len();
            if let Some(violation) = &report.violation {
                println!("Seed {seed}, after {clean} clean runs: {violation}");
            }
            let (small, page) = explain(schedule, &report);
            println!(
                "It takes {} of its {faults} faults. The shortest schedule that was found:\n",
                small.faults.len()
            );
            small.to_string().lines().for_each(|line| println!("    {line}"));
            match fs::write(&output, page) {
                Ok(()) => println!("\nThe run, drawn: {}", output.display()),
                Err(error) => {
                    eprintln!("{}: {error}", output.display());
                    return ExitCode::FAILURE;
                }
            }
            println!("The bug was found, as was expected.");
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schedule_can_be_run_and_made_smaller() {
        for seed in 0..200 {
            assert_eq!(draw(seed).validate(), Ok(()), "seed {seed}");
        }
    }

    #[test]
    fn the_right_writer_loses_nothing() {
        let mut written = 0;
        for seed in 0..12 {
            let report = run(&draw(seed), false);
            assert_eq!(report.violation, None, "seed {seed}");
            written += report
                .coverage
                .get("numbers written")
                .copied()
                .unwrap_or_default();
        }
        assert!(written > 500, "{written}");
    }

    #[test]
    fn the_simulator_finds_the_wrong_one_and_draws_it() {
        let (_, found) = search(100, true);
        let (schedule, report) = found.expect("it is found");
        let violation = report.violation.clone().expect("somebody objects");
        assert!(
            violation.by == "program" && violation.what.contains("a write is lost"),
            "{violation}"
        );
        let (small, page) = explain(schedule.clone(), &report);
        assert!(small.faults.len() <= schedule.faults.len().min(2), "{small}");
        assert!(page.contains("a write is lost"));
    }
}
