//! Many runs at once, with results in the order of their seeds.

#[cfg(test)]
mod tests;

use super::args::Seeds;
use anyhow::Context as _;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

/// So many results of a worker wait for those of seeds that come before.
const QUEUE: usize = 64;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C lets the runs that are going on end, and no other begin. A second one ends the process at once.
pub(crate) fn stop_on_interrupt() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            // As a shell says it of a process that SIGINT has killed.
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")
}

/// Returns whether Ctrl-C was pressed.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Does `work` for each seed, on so many threads, and hands the results to `each` in the order of the seeds, until it
/// breaks. After Ctrl-C the rest is left out; what was handed over has no gaps.
pub(crate) fn in_order<T: Send>(
    seeds: Seeds,
    jobs: usize,
    work: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(u64, T) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        // Each worker has every `jobs`-th seed: whose result is next is known in advance, and none has to be put away.
        let queues: Vec<_> = (0..jobs)
            .map(|worker| {
                let (results, queue) = sync_channel(QUEUE);
                let work = &work;
                scope.spawn(move || {
                    for seed in seeds.iter().skip(worker).step_by(jobs) {
                        if interrupted() || results.send(work(seed)).is_err() {
                            return;
                        }
                    }
                });
                queue
            })
            .collect();
        for (seed, queue) in seeds.iter().zip(queues.iter().cycle()) {
            let Ok(result) = queue.recv() else {
                return Ok(());
            };
            if each(seed, result)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    })
}
