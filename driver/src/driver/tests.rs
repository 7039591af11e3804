//! The driver against a scripted [`Io`], in virtual time.

mod locks;

use super::*;
use crate::cluster::Cluster;
use crate::error::Closed;
use crate::io::ResolveFuture;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Weak;
use alloc::task::Wake;
use core::net::SocketAddr;
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::Waker;
use futures_lite::future::{block_on, poll_once, zip};
use quorate_core::{NodeId, WallTime};
use std::io;
use std::sync::{Mutex, MutexGuard};

const PEER: &str = "127.0.0.1:4000";

/// What the test and the Io share.
#[derive(Default)]
struct World {
    now: Instant,
    inbound: VecDeque<Vec<u8>>,
    receive_error: Option<io::ErrorKind>,
    receive_calls: usize,
    /// The socket is never empty, but what it has is no datagram.
    nothing: bool,
    /// The socket is never empty, and each datagram takes so long.
    flood: Option<Duration>,
    sleeping: Option<Instant>,
    /// Sleeping takes no time: the clock jumps to where it should end.
    jump: bool,
    /// What somebody else does in the middle of a pass: when the driver looks at the clock again after it has found the
    /// socket empty.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
    due: Option<Box<dyn FnOnce() + Send>>,
    /// The process is stopped for so long before it gets a datagram.
    stopped: Duration,
    /// When the clock was read last on behalf of somebody else than the Io.
    read_at: Option<Instant>,
}

#[derive(Clone, Default)]
struct FakeIo(Arc<Mutex<World>>);

impl FakeIo {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// The clock of an Io, which it does not keep open.
struct FakeClock(Weak<Mutex<World>>);

impl fmt::Debug for FakeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeClock")
    }
}

impl crate::SteadyClock for FakeClock {
    fn now(&self) -> Instant {
        let world = self.0.upgrade().expect("the test has it still");
        let mut world = world.lock().unwrap();
        world.read_at = Some(world.now);
        world.now
    }
}

impl Io for FakeIo {
    fn now(&self) -> Instant {
        let due = self.world().due.take();
        if let Some(meanwhile) = due {
            meanwhile();
        }
        self.world().now
    }

    fn clock(&self) -> Arc<dyn crate::SteadyClock> {
        Arc::new(FakeClock(Arc::downgrade(&self.0)))
    }

    fn wall(&self) -> WallTime {
        WallTime::from_unix_micros(1_700_000_000_000_000)
    }

    fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 5000))
    }

    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        sink: &mut dyn FnMut(SocketAddr, &mut [u8]),
    ) -> Poll<io::Result<()>> {
        let mut world = self.world();
        world.receive_calls += 1;
        if let Some(kind) = world.receive_error {
            return Poll::Ready(Err(kind.into()));
        }
        if let Some(cost) = world.flood {
            world.now += cost;
            world.inbound.push_back([0xff; 40].to_vec());
        }
        let Some(mut datagram) = world.inbound.pop_front() else {
            if world.nothing {
                return Poll::Ready(Ok(()));
            }
            world.due = world.meanwhile.take();
            return Poll::Pending;
        };
        let stopped = world.stopped;
        world.now += stopped;
        world.read_at = None;
        drop(world);
        sink(PEER.parse().unwrap(), &mut datagram);
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, batch: &mut SendBatch) -> Poll<()> {
        while let Some(run) = batch.front(usize::MAX) {
            let len = run.bytes.len();
            batch.advance(len);
        }
        Poll::Ready(())
    }

    fn poll_sleep(&mut self, _: &mut Context<'_>, until: Instant) -> Poll<()> {
        let mut world = self.world();
        world.sleeping = Some(until);
        if world.jump {
            world.now = world.now.max(until);
        }
        if world.now >= until {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn resolve(&self, _: String) -> ResolveFuture {
        Box::pin(core::future::pending())
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn node() -> (Cluster, Driver<FakeIo>, FakeIo) {
    let io = FakeIo::default();
    let setup = Setup::new(Config::default().insecure(), [7; 32]);
    let (cluster, driver) = Driver::new(setup, io.clone()).unwrap();
    (cluster, driver, io)
}

fn pass(driver: &mut Driver<FakeIo>) -> (Poll<()>, usize) {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let result = driver.pass(&mut Context::from_waker(&waker));
    (result, wakes.count())
}

#[test]
fn a_flood_holds_up_neither_timers_nor_commands() {
    let io = FakeIo::default();
    // A seed that never answers is dialled again and again.
    let config = Config::new(PEER).insecure().local();
    let (cluster, mut driver) = Driver::new(Setup::new(config, [7; 32]), io.clone()).unwrap();
    assert!(pass(&mut driver).0.is_pending());
    io.world().flood = Some(Duration::from_micros(20));
    let mut latest = Duration::ZERO;
    for _ in 0..2000 {
        assert!(pass(&mut driver).0.is_pending());
        let due = driver.node.poll_timeout().unwrap();
        latest = latest.max(io.now().saturating_since(due));
    }
    assert!(latest < LATE / 2, "timers ran {latest:?} late");
    let mut asked = pin!(cluster.stats());
    assert!(block_on(poll_once(&mut asked)).is_none());
    assert!(pass(&mut driver).0.is_pending());
    assert!(block_on(poll_once(&mut asked)).is_some());
}

#[test]
fn a_flood_is_taken_in_bounded_bites() {
    let (_cluster, mut driver, io) = node();
    io.world().inbound = (0..1000).map(|_| [0xff; 40].to_vec()).collect();
    let (result, wakes) = pass(&mut driver);
    assert!(result.is_pending());
    assert!(wakes > 0, "a bound was hit: the task must go on");
    let left = io.world().inbound.len();
    assert!((700..1000).contains(&left), "{left} left");
    while !io.world().inbound.is_empty() {
        assert!(pass(&mut driver).0.is_pending());
    }
    // Whatever timers the node has, they are not what made it go on.
    assert!(io.world().receive_calls <= 1000 + 16);
}

#[test]
fn after_a_gap_everything_is_received_before_the_timers_run() {
    let (_cluster, mut driver, io) = node();
    assert!(pass(&mut driver).0.is_pending());
    driver.expected = Some(io.now() + Duration::from_millis(10));
    io.world().now = Instant::from_millis(500);
    io.world().inbound = (0..5000).map(|_| [0xff; 40].to_vec()).collect();
    assert!(pass(&mut driver).0.is_pending());
    assert!(io.world().inbound.is_empty());
}

/// A leader counts a lease from when it heard of it: not from before, if it was stopped meanwhile.
#[test]
fn what_is_received_is_not_older_than_the_clock_that_goes_with_it() {
    let (_cluster, mut driver, io) = node();
    assert!(pass(&mut driver).0.is_pending());
    io.world().stopped = Duration::from_millis(400);
    io.world().inbound.push_back([0xff; 40].to_vec());
    assert!(pass(&mut driver).0.is_pending());
    let now = io.now();
    assert_eq!(io.world().read_at, Some(now));
    assert!(now >= Instant::from_millis(400));
}

#[test]
fn a_failing_socket_is_tried_again_and_given_up_in_the_end() {
    let (cluster, mut driver, io) = node();
    io.world().receive_error = Some(io::ErrorKind::Other);
    assert!(pass(&mut driver).0.is_pending());
    let until = io.world().sleeping.expect("it waits");
    assert!(until <= io.now() + RECEIVE_RETRY);

    // Good again: the count begins anew.
    io.world().receive_error = None;
    io.world().now = until;
    assert!(pass(&mut driver).0.is_pending());
    assert_eq!(driver.receive_failures, 0);

    io.world().receive_error = Some(io::ErrorKind::Other);
    io.world().jump = true;
    io.world().receive_calls = 0;
    let (_, result) = block_on(zip(driver.run(), cluster.closed()));
    assert!(matches!(result, Err(DriverError::Socket(_))));
    assert_eq!(io.world().receive_calls, RECEIVE_FAILURES as usize);
    assert!(io.now() >= Instant::from_millis(20 * 498));
}

#[test]
fn everybody_who_waits_learns_that_the_driver_was_dropped() {
    let (cluster, mut driver, _io) = node();
    let mut events = cluster.events();
    let mut messages = cluster.messages();
    assert!(pass(&mut driver).0.is_pending());
    block_on(async {
        let mut status = pin!(cluster.status());
        let mut send = pin!(cluster.send_to(NodeId::from_bytes([1; 16]), b"x"));
        assert!(poll_once(&mut status).await.is_none());
        assert!(poll_once(&mut send).await.is_none());
        drop(driver);
        assert_eq!(status.await, Err(Closed));
        assert_eq!(send.await, Err(crate::SendFailed::Closed(Closed)));
        assert!(events.next().await.is_none());
        assert!(messages.next().await.is_none());
        assert!(cluster.events().next().await.is_none());
        assert!(matches!(cluster.closed().await, Err(DriverError::Aborted)));
        assert_eq!(cluster.wait_for_quorum().await, Err(Closed));
        assert!(matches!(cluster.ready().await, Err(crate::ReadyError::Closed(_))));
        assert_eq!(cluster.cast_all("x").await, Err(Closed));
        cluster.shutdown().await;
    });
}

#[test]
fn shutdown_ends_the_driver_in_bounded_time_for_all_who_call_it() {
    let (cluster, driver, io) = node();
    io.world().jump = true;
    let other = cluster.clone();
    block_on(zip(driver.run(), zip(cluster.shutdown(), other.shutdown())));
    let bound = cluster.config().longest_leave() + LEAVE_GRACE;
    assert!(io.now() <= Instant::ZERO + bound);
    block_on(cluster.closed()).expect("it was asked to");
    assert!(!cluster.has_quorum());
}

#[test]
fn the_node_leaves_with_its_last_handle_of_any_kind() {
    let (cluster, driver, io) = node();
    io.world().jump = true;
    let (events, messages) = (cluster.events(), cluster.messages());
    drop(cluster);
    drop(events);
    assert!(!driver.shared.wants_leave());
    drop(messages);
    assert!(driver.shared.wants_leave());
    block_on(driver.run());
}

#[test]
fn a_command_rings_and_many_ring_once() {
    let (cluster, mut driver, io) = node();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    io.world().jump = false;
    assert!(driver.pass(&mut Context::from_waker(&waker)).is_pending());
    let before = wakes.count();
    for _ in 0..10 {
        block_on(cluster.refresh()).unwrap();
    }
    assert_eq!(wakes.count() - before, 1);
    assert!(driver.pass(&mut Context::from_waker(&waker)).is_pending());
    block_on(cluster.refresh()).unwrap();
    assert!(wakes.count() - before >= 2);
}

#[test]
fn a_full_command_queue_makes_callers_wait_and_loses_nothing() {
    let (cluster, mut driver, _io) = node();
    block_on(async {
        for _ in 0..COMMAND_QUEUE {
            cluster.refresh().await.unwrap();
        }
        let mut one_more = pin!(cluster.refresh());
        assert!(poll_once(&mut one_more).await.is_none());
        let (result, wakes) = pass(&mut driver);
        assert!(
            result.is_pending() && wakes > 0,
            "only part of the commands were taken"
        );
        assert_eq!(driver.commands.len(), COMMAND_QUEUE - COMMAND_BOUND);
        assert_eq!(poll_once(&mut one_more).await, Some(Ok(())));
    });
}

#[test]
fn a_call_that_is_dropped_in_the_queue_never_reaches_the_node() {
    let (cluster, mut driver, _io) = node();
    block_on(async {
        let call = cluster.request(NodeId::from_bytes([1; 16]), b"x", Duration::from_secs(1));
        assert!(poll_once(pin!(call)).await.is_none());
    });
    assert_eq!(driver.commands.len(), 1);
    assert!(pass(&mut driver).0.is_pending());
    assert!(driver.ops.is_empty() && driver.commands.is_empty());
}

#[test]
fn handles_and_futures_may_cross_threads() {
    fn sync<T: Send + Sync + 'static>() {}
    fn send<T: Send>(_: T) {}
    sync::<Cluster>();
    sync::<crate::Events>();
    sync::<crate::Incoming>();
    let (cluster, driver, _io) = node();
    send(cluster.broadcast(b"x"));
    send(cluster.request_all(b"x", Duration::ZERO));
    send(cluster.request_each(b"x", Duration::ZERO));
    send(cluster.ready());
    send(cluster.messages().next());
    send(cluster.shutdown());
    send(driver.run());
}

#[test]
fn the_handle_keeps_no_key() {
    let key = quorate_core::Key::from_bytes([9; 32]);
    let setup = Setup::new(Config::default().key(key), [7; 32]);
    let (cluster, _driver) = Driver::new(setup, FakeIo::default()).unwrap();
    assert!(cluster.is_secure());
    assert!(matches!(cluster.config().security, quorate_core::Security::Unset));
}

#[test]
fn a_setup_does_not_show_its_secrets() {
    let config = Config::default().key(quorate_core::Key::from_bytes([0xab; 32]));
    let shown = std::format!("{:?}", Setup::new(config, [0xcd; 32]));
    assert!(!shown.contains("171") && !shown.contains("205"), "{shown}");
}

#[test]
fn a_slow_subscriber_loses_the_oldest_events_and_nobody_else_does() {
    let (cluster, mut driver, _io) = node();
    assert!(pass(&mut driver).0.is_pending());
    let (mut slow, mut quick, gone) = (cluster.events(), cluster.events(), cluster.events());
    drop(gone);
    let id = |i: u128| NodeId::from_bytes(i.to_be_bytes());
    let event = |i| crate::ClusterEvent::QuarantineEnded { id: id(i) };
    block_on(async {
        for i in 0..5000 {
            let happened = Event::QuarantineEnded { id: id(i) };
            driver
                .view
                .tell(&driver.node, &driver.shared, Instant::ZERO, happened);
            assert_eq!(poll_once(quick.next()).await, Some(Some(event(i))));
        }
        assert!(poll_once(quick.next()).await.is_none());
        let mut late = cluster.events();
        assert_eq!(slow.next().await, Some(crate::ClusterEvent::Lagged(5000 - 1024)));
        for i in 5000 - 1024..5000 {
            assert_eq!(slow.next().await, Some(event(i)));
        }
        assert!(poll_once(slow.next()).await.is_none());
        assert!(poll_once(late.next()).await.is_none());
        drop(driver);
        for events in [&mut slow, &mut quick, &mut late] {
            assert_eq!(events.next().await, None);
        }
    });
}

#[test]
fn a_socket_that_is_never_empty_and_brings_nothing_is_left_alone_for_a_while() {
    let (cluster, mut driver, io) = node();
    io.world().nothing = true;
    let (result, wakes) = pass(&mut driver);
    assert!(result.is_pending());
    assert_eq!(wakes, 0, "it would spin");
    let calls = io.world().receive_calls;
    assert!(calls <= RECEIVE_BOUND, "{calls}");
    let until = io.world().sleeping.expect("it waits");
    assert!(until <= io.now() + RECEIVE_RETRY);
    assert!(pass(&mut driver).0.is_pending());
    assert_eq!(io.world().receive_calls, calls);

    // What comes in between is received, and it is no failure however long it lasts.
    io.world().inbound = (0..3).map(|_| [0xff; 40].to_vec()).collect();
    io.world().now = until;
    assert!(pass(&mut driver).0.is_pending());
    assert!(io.world().inbound.is_empty());
    io.world().jump = true;
    for _ in 0..2 * RECEIVE_FAILURES {
        assert!(pass(&mut driver).0.is_pending());
    }
    drop(cluster);
}

/// Notes how many hold the Io at the moment when it is woken.
struct Holders(FakeIo, AtomicUsize);

impl Wake for Holders {
    fn wake(self: Arc<Self>) {
        self.1.store(Arc::strong_count(&self.0.0), Ordering::SeqCst);
    }
}

#[test]
fn whoever_learns_that_it_is_over_finds_the_socket_closed() {
    for polite in [true, false] {
        let (cluster, mut driver, io) = node();
        io.world().jump = true;
        assert!(pass(&mut driver).0.is_pending());
        let mut closed = pin!(cluster.closed());
        let holders = Arc::new(Holders(io.clone(), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&holders));
        let mut cx = Context::from_waker(&waker);
        // Joins and the like wake it too: it listens again, as a task would.
        while closed.as_mut().poll(&mut cx).is_pending() && polite && !driver.left {
            driver.shared.leave();
            assert!(pass(&mut driver).0.is_pending() || driver.left);
        }
        drop(driver);
        assert_eq!(holders.1.load(Ordering::SeqCst), 2, "the test's own two");
        assert!(closed.as_mut().poll(&mut cx).is_ready());
    }
}
