//! One timer of a runtime, set as seldom as possible.

use core::task::{Context, Poll, ready};
use quorate_core::{Duration, Instant};

/// The longest that a timer of a runtime is set for. Those timers stand still while the machine is suspended, the
/// [`Clock`](super::Clock) does not: after a resume, what is overdue is noticed within this time.
pub const MAX_SLEEP: Duration = Duration::from_secs(1);

/// A timer of a runtime.
pub trait Timer {
    /// Makes it go off that much later than now, instead of when it was to go off before.
    fn set_after(&mut self, after: Duration);

    /// Ready once it has gone off since it was set. Otherwise the task of `cx` is woken when it does.
    fn poll_gone_off(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// What [`Io::poll_sleep`](crate::Io::poll_sleep) needs on an operating system.
#[derive(Debug)]
pub struct Alarm<T> {
    timer: T,
    /// What the timer is set to. It may be earlier than what is waited for: setting it anew costs more than waking once
    /// for nothing.
    armed: Instant,
}

impl<T: Timer> Alarm<T> {
    /// Takes a timer, whatever it is set to.
    pub const fn new(timer: T) -> Self {
        Self {
            timer,
            armed: Instant::FAR_FUTURE,
        }
    }

    /// Ready once the clock has reached `until`.
    pub fn poll(&mut self, cx: &mut Context<'_>, until: Instant, clock: impl Fn() -> Instant) -> Poll<()> {
        loop {
            let now = clock();
            if now >= until {
                return Poll::Ready(());
            }
            let target = until.min(now + MAX_SLEEP);
            if target < self.armed {
                self.armed = target;
                self.timer.set_after(target.saturating_since(now));
            }
            ready!(self.timer.poll_gone_off(cx));
            self.armed = Instant::FAR_FUTURE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::cell::Cell;
    use core::task::Waker;

    /// Goes off when the test says so, and remembers what it was set to.
    #[derive(Default)]
    struct ByHand {
        set: Vec<u64>,
        gone_off: bool,
    }

    impl Timer for ByHand {
        fn set_after(&mut self, after: Duration) {
            self.set.push(u64::try_from(after.as_millis()).expect("short"));
        }

        fn poll_gone_off(&mut self, _: &mut Context<'_>) -> Poll<()> {
            if core::mem::take(&mut self.gone_off) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }
    }

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn it_is_set_only_where_it_would_be_late() {
        let now = Cell::new(at(0));
        let mut alarm = Alarm::new(ByHand::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = |alarm: &mut Alarm<ByHand>, until| alarm.poll(&mut cx, at(until), || now.get());
        assert_eq!(poll(&mut alarm, 0), Poll::Ready(()));
        assert_eq!(alarm.timer.set, []);
        assert_eq!(poll(&mut alarm, 100), Poll::Pending);
        // Later is no reason to set it anew, earlier is one.
        assert_eq!(poll(&mut alarm, 300), Poll::Pending);
        assert_eq!(poll(&mut alarm, 40), Poll::Pending);
        assert_eq!(alarm.timer.set, [100, 40]);
        // It wakes for what is not waited for any more, and is set for what is.
        now.set(at(40));
        alarm.timer.gone_off = true;
        assert_eq!(poll(&mut alarm, 300), Poll::Pending);
        assert_eq!(alarm.timer.set, [100, 40, 260]);
        // The clock decides: a timer that goes off too early is set again.
        now.set(at(299));
        alarm.timer.gone_off = true;
        assert_eq!(poll(&mut alarm, 300), Poll::Pending);
        now.set(at(300));
        assert_eq!(poll(&mut alarm, 300), Poll::Ready(()));
        assert_eq!(alarm.timer.set, [100, 40, 260, 1]);
    }

    #[test]
    fn after_a_suspension_it_looks_at_the_clock_soon() {
        let now = Cell::new(at(0));
        let mut alarm = Alarm::new(ByHand::default());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(alarm.poll(&mut cx, at(60_000), || now.get()), Poll::Pending);
        // The timer did not run for an hour, and goes off for the rest of its second.
        now.set(at(3_600_500));
        alarm.timer.gone_off = true;
        assert_eq!(alarm.poll(&mut cx, at(60_000), || now.get()), Poll::Ready(()));
        assert_eq!(alarm.timer.set, [1000]);
    }
}
