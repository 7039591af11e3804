//! Load on a cluster, from one of its own nodes.

use super::histogram::Histogram;
use super::protocol::{Broadcasts, Load, Slice};
use super::runtime::Runtime;
use crate::output::round;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use quorate_tokio::{Bytes, Cluster, NodeId, RequestError, SendFailed};
use std::time::Instant;

/// A request that is not answered by then counts as an error.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Broadcasts under way at once when they are sent flat out.
const BROADCAST_TASKS: usize = 64;
/// Broadcasts under way at once when they are paced: beyond it the pace is not kept, which shows in the rate.
const MAX_OUTSTANDING: usize = 1024;
/// How often a paced sender wakes up: the resolution of the runtimes' timers.
const TICK: Duration = Duration::from_millis(1);

/// The stretch of time in which answers count, after a warm-up of a tenth of it (between 20 and 200 ms).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    pub(crate) fn starting_now(millis: u64) -> Self {
        let begin = Instant::now() + Duration::from_millis((millis / 10).clamp(20, 200));
        Self {
            begin,
            end: begin + Duration::from_millis(millis),
        }
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }

    fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }
}

/// What happened in a window.
#[derive(Debug)]
pub(crate) struct Tally {
    window: Window,
    /// Of what began after the warm-up, and before the end; the first one if that was too late.
    pub(crate) times: Histogram,
    /// What was finished between the two, whenever it began.
    pub(crate) finished: u64,
    pub(crate) errors: u64,
}

impl Tally {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            times: Histogram::new(),
            finished: 0,
            errors: 0,
        }
    }

    /// Records one success that began then and ended now.
    pub(crate) fn record(&mut self, began: Instant, now: Instant) {
        if began >= self.window.begin {
            self.times
                .record(u64::try_from((now - began).as_nanos()).unwrap_or(u64::MAX));
        }
        if now >= self.window.begin && now < self.window.end {
            self.finished += 1;
        }
    }

    /// Whether nothing more is to begin. A window that the system slept through has nothing to sum up: it goes on until
    /// something has ended that began after the warm-up.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.window.is_over(now) && (self.times.len() > 0 || self.errors > 0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.times.merge(&other.times);
        self.finished += other.finished;
        self.errors += other.errors;
    }

    fn per_second(&self) -> f64 {
        round(self.finished as f64 / self.window.seconds(), 0)
    }

    fn micros(&self, permille: u64) -> f64 {
        self.times
            .percentile(permille)
            .map_or(f64::NAN, |nanos| nanos as f64 / 1000.0)
    }

    /// Sums up. Fails where nothing succeeded: there is no median of nothing.
    pub(crate) fn slice(&self) -> anyhow::Result<Slice> {
        anyhow::ensure!(
            self.times.len() > 0,
            "no answer in the measured time, and {} errors",
            self.errors
        );
        Ok(Slice {
            per_second: self.per_second(),
            median_us: self.micros(500),
            p99_us: self.micros(990),
            errors: self.errors,
        })
    }
}

/// Asks one member, with `in_flight` tasks that each wait for the answer before they ask again.
pub(crate) async fn requests(
    runtime: Runtime,
    cluster: &Cluster,
    to: NodeId,
    load: Load,
) -> anyhow::Result<Slice> {
    let window = Window::starting_now(load.millis);
    let payload = Bytes::from(vec![0x5a; load.size]);
    let tasks: Vec<_> = (0..load.in_flight)
        .map(|_| runtime.spawn(request_loop(cluster.clone(), to, payload.clone(), window)))
        .collect();
    let mut total = Tally::new(window);
    for task in tasks {
        total.merge(&task.recv().await?);
    }
    total.slice()
}

async fn request_loop(cluster: Cluster, to: NodeId, payload: Bytes, window: Window) -> Tally {
    let mut tally = Tally::new(window);
    let mut began = Instant::now();
    while !tally.is_over(began) {
        match cluster.request(to, payload.clone(), REQUEST_TIMEOUT).await {
            Ok(_) => tally.record(began, Instant::now()),
            Err(error) => {
                tally.errors += 1;
                // These are refused at once: going on would spin.
                if matches!(error, RequestError::Closed(_) | RequestError::Refused(_)) {
                    break;
                }
            }
        }
        began = Instant::now();
    }
    tally
}

/// Counts of messages, shared by the tasks that send them.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    delivered: AtomicU64,
}

/// Sends to all members, flat out or `paced` times a second.
pub(crate) async fn broadcasts(
    runtime: Runtime,
    cluster: &Cluster,
    size: usize,
    paced: u32,
    millis: u64,
) -> anyhow::Result<Broadcasts> {
    let window = Window::starting_now(millis);
    let payload = Bytes::from(vec![0x5a; size]);
    let counts = Arc::new(Counts::default());
    let total = match paced {
        0 => flat_out(runtime, cluster, &payload, window, &counts).await?,
        rate => at_pace(runtime, cluster, &payload, window, &counts, rate).await?,
    };
    let slice = total.slice()?;
    Ok(Broadcasts {
        sent: counts.sent.load(Ordering::Relaxed),
        delivered: counts.delivered.load(Ordering::Relaxed),
        per_second: slice.per_second,
        median_us: slice.median_us,
        p99_us: slice.p99_us,
    })
}

async fn flat_out(
    runtime: Runtime,
    cluster: &Cluster,
    payload: &Bytes,
    window: Window,
    counts: &Arc<Counts>,
) -> anyhow::Result<Tally> {
    let tasks: Vec<_> = (0..BROADCAST_TASKS)
        .map(|_| {
            let (cluster, payload, counts) = (cluster.clone(), payload.clone(), Arc::clone(counts));
            runtime.spawn(async move {
                let mut tally = Tally::new(window);
                let mut began = Instant::now();
                while !window.is_over(began)
                    && broadcast(&cluster, &payload, &counts, began, &mut tally).await
                {
                    began = Instant::now();
                }
                tally
            })
        })
        .collect();
    let mut total = Tally::new(window);
    for task in tasks {
        total.merge(&task.recv().await?);
    }
    Ok(total)
}

/// Sends at a steady pace whatever becomes of the earlier ones, as a service would whose work arrives by itself: a task
/// for each broadcast.
async fn at_pace(
    runtime: Runtime,
    cluster: &Cluster,
    payload: &Bytes,
    window: Window,
    counts: &Arc<Counts>,
    rate: u32,
) -> anyhow::Result<Tally> {
    let (permits, returned) = async_channel::bounded(MAX_OUTSTANDING);
    for _ in 0..MAX_OUTSTANDING {
        permits.try_send(())?;
    }
    // The sum is behind a lock that nobody else holds for long: tasks are too many for a tally of 30 KiB each.
    let total = Arc::new(std::sync::Mutex::new(Tally::new(window)));
    let first = Instant::now();
    let mut started: u64 = 0;
    loop {
        let now = Instant::now();
        if window.is_over(now) {
            break;
        }
        let due = ((now - first).as_secs_f64() * f64::from(rate)) as u64;
        while started < due && returned.try_recv().is_ok() {
            started += 1;
            let (cluster, payload, counts) = (cluster.clone(), payload.clone(), Arc::clone(counts));
            let (permits, total) = (permits.clone(), Arc::clone(&total));
            drop(runtime.spawn(async move {
                let began = Instant::now();
                let delivered = deliver(&cluster, &payload, &counts).await;
                if delivered.is_some_and(|all| all) {
                    lock(&total).record(began, Instant::now());
                }
                permits.send(()).await
            }));
        }
        runtime.sleep(TICK).await;
    }
    // Each broadcast ends by itself within `message_timeout`; then all permits are back.
    let deadline = Instant::now() + 2 * cluster.config().message_timeout;
    while returned.len() < MAX_OUTSTANDING && Instant::now() < deadline {
        runtime.sleep(TICK).await;
    }
    let empty = Tally::new(window);
    Ok(core::mem::replace(&mut *lock(&total), empty))
}

fn lock(tally: &std::sync::Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    // A count is right after each step, also where a task panicked between two.
    tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Broadcasts once and records it. Returns whether it makes sense to go on.
async fn broadcast(
    cluster: &Cluster,
    payload: &Bytes,
    counts: &Counts,
    began: Instant,
    tally: &mut Tally,
) -> bool {
    match deliver(cluster, payload, counts).await {
        Some(true) => tally.record(began, Instant::now()),
        Some(false) => tally.errors += 1,
        None => return false,
    }
    true
}

/// Broadcasts once. Returns whether all members acknowledged it, `None` if it was refused at once.
async fn deliver(cluster: &Cluster, payload: &Bytes, counts: &Counts) -> Option<bool> {
    let count = |counter: &AtomicU64, n: usize| counter.fetch_add(n as u64, Ordering::Relaxed);
    match cluster.broadcast(payload.clone()).await {
        Ok(deliveries) => {
            let delivered = deliveries
                .iter()
                .filter(|delivery| delivery.result.is_ok())
                .count();
            count(&counts.sent, deliveries.len());
            count(&counts.delivered, delivered);
            Some(delivered == deliveries.len())
        }
        Err(error) => {
            // It was meant for everybody and reached nobody.
            count(&counts.sent, cluster.member_count());
            matches!(error, SendFailed::Undelivered(_)).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts() {
        let window = Window::starting_now(1000);
        let at = |millis: i64| match millis {
            0.. => window.begin + Duration::from_millis(millis.unsigned_abs()),
            _ => window.begin - Duration::from_millis(millis.unsigned_abs()),
        };
        let mut tally = Tally::new(window);
        assert!(tally.slice().is_err());
        tally.record(at(-50), at(-10)); // all in the warm-up
        tally.record(at(-10), at(10)); // finished in the window: counts for the rate
        tally.record(at(10), at(30)); // both
        tally.record(at(990), at(1010)); // began in the window: counts for the times
        let slice = tally.slice().expect("there are two times");
        assert_eq!(slice.per_second, 2.0);
        assert!((slice.median_us - 20_000.0).abs() < 100.0, "{slice:?}");
        assert!(!window.is_over(at(999)) && window.is_over(at(1000)));
    }
}
