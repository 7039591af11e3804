//! Tasks whose results are waited for elsewhere, on whatever runtime they are.

use core::time::Duration;

/// Where the result of a task will be. Nothing comes if the task dies.
pub(crate) type Task<T> = async_channel::Receiver<T>;

/// Returns what to spawn, and where its result will be.
pub(crate) fn task<T>(work: impl Future<Output = T>) -> (impl Future<Output = ()>, Task<T>) {
    let (sender, receiver) = async_channel::bounded(1);
    let work = async move {
        // Whoever started it may not care how it ended.
        let _ = sender.send(work.await).await;
    };
    (work, receiver)
}

/// Waits for a future, but not longer than this; then it is dropped. Needs no runtime.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(limit).await;
        None
    };
    smol::future::or(async { Some(future.await) }, late).await
}
