use super::*;
use crate::outbox::Outbox;
use crate::rng::Stream;
use crate::stats::Stats;
use alloc::vec;

struct Rig {
    discovery: Discovery,
    config: Config,
    outbox: Outbox,
    events: VecDeque<Event>,
    stats: Stats,
}

const fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 5000))
}

impl Rig {
    fn new(config: Config) -> Self {
        let rng = Rng::new(&[3; 32], Stream::Discovery);
        let discovery = Discovery::new(&config, rng, at(0));
        Self {
            discovery,
            config,
            outbox: Outbox::default(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    fn with<T>(&mut self, now: Instant, f: impl FnOnce(&mut Discovery, &mut Context<'_>) -> T) -> T {
        let mut cx = Context {
            now,
            config: &self.config,
            outbox: &mut self.outbox,
            events: &mut self.events,
            stats: &mut self.stats,
        };
        f(&mut self.discovery, &mut cx)
    }

    fn dials(&mut self) -> Vec<SocketAddr> {
        core::iter::from_fn(|| self.discovery.poll_dial()).collect()
    }
}

#[test]
fn a_name_is_asked_for_and_each_address_dialled_once() {
    let mut rig = Rig::new(Config::new("db.local"));
    let request = rig.discovery.poll_resolve().unwrap();
    assert_eq!((request.host.as_str(), request.port), ("db.local", 5000));
    let answer = [
        addr(1),
        addr(2),
        addr(1),
        "[::ffff:10.0.0.2]:0".parse().unwrap(),
        "0.0.0.0:1".parse().unwrap(),
    ];
    rig.with(at(1), |d, cx| d.resolved(cx, request.id, &answer));
    assert_eq!(rig.dials(), [addr(1), addr(2)]);
    rig.with(at(2), |d, cx| d.resolved(cx, request.id, &[addr(9)]));
    assert_eq!(rig.dials(), [], "an answer that nobody waits for is ignored");
}

#[test]
fn failed_and_empty_answers_keep_what_was_known() {
    let mut rig = Rig::new(Config::new("db.local"));
    let first = rig.discovery.poll_resolve().unwrap();
    rig.with(at(1), |d, cx| d.resolved(cx, first.id, &[addr(1)]));
    rig.dials();
    rig.with(at(1_500), |d, cx| d.handle_timeout(cx, true, |_| false));
    let second = rig.discovery.poll_resolve().unwrap();
    rig.with(at(1_501), |d, cx| d.resolved(cx, second.id, &[]));
    assert_eq!(
        rig.events.pop_front(),
        Some(Event::ResolveFailed {
            host: "db.local".into()
        })
    );
    assert!(rig.discovery.knows(addr(1)));
}

#[test]
fn an_unanswered_resolution_is_given_up_and_asked_again() {
    let mut rig = Rig::new(Config::new("db.local").refresh_interval(None));
    assert!(rig.discovery.poll_resolve().is_some());
    let due = rig.discovery.poll_timeout().unwrap();
    assert!(due <= at(200));
    rig.with(at(15_000), |d, cx| d.handle_timeout(cx, true, |_| false));
    assert_eq!(rig.events.len(), 1);
    let config = rig.config.clone();
    rig.discovery.refresh(&config, at(16_000));
    assert!(rig.discovery.poll_resolve().is_some());
}

#[test]
fn ready_waits_for_every_seed_and_for_exchanges() {
    let mut rig = Rig::new(Config::new("10.0.0.1").seed("10.0.0.2"));
    assert_eq!(rig.dials(), [addr(1), addr(2)]);
    rig.discovery.reached(addr(1));
    assert!(!rig.discovery.became_ready(at(300), false));
    rig.with(at(1_500), |d, cx| d.dial_failed(cx, addr(2)));
    assert!(!rig.discovery.became_ready(at(1_500), true));
    assert!(!rig.discovery.became_ready(at(9_999), true));
    assert!(
        rig.discovery.became_ready(at(10_000), true),
        "an exchange that does not end does not matter for ever"
    );
    assert!(!rig.discovery.became_ready(at(10_001), false), "only once");
}

#[test]
fn a_node_without_seeds_is_ready_after_the_delay_and_then_sleeps() {
    let mut rig = Rig::new(Config::default());
    assert_eq!(rig.discovery.poll_timeout(), Some(at(200)));
    rig.with(at(200), |d, cx| d.handle_timeout(cx, true, |_| false));
    assert!(rig.discovery.became_ready(at(200), false));
    let next = rig.discovery.poll_timeout();
    assert!(next > Some(at(200)), "{next:?}");
}

#[test]
fn silent_seeds_are_dialled_again_with_growing_pauses_but_live_ones_are_not() {
    let mut rig = Rig::new(Config::new("10.0.0.1").seed("10.0.0.2").refresh_interval(None));
    rig.dials();
    rig.discovery.reached(addr(2));
    rig.with(at(1_500), |d, cx| d.dial_failed(cx, addr(1)));
    let mut dialled = vec![];
    let mut now = at(1_500);
    while now < at(200_000) {
        now = rig.discovery.poll_timeout().unwrap().max(now);
        rig.with(now, |d, cx| d.handle_timeout(cx, false, |a| a == addr(2)));
        for found in rig.dials() {
            assert_eq!(found, addr(1));
            dialled.push(now);
            rig.with(now, |d, cx| d.dial_failed(cx, found));
        }
    }
    assert!(dialled.len() >= 4, "{dialled:?}");
    let pauses: Vec<_> = dialled.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(pauses.last() > pauses.first(), "{pauses:?}");
}

#[test]
fn ones_own_address_is_left_alone() {
    let mut rig = Rig::new(Config::new("10.0.0.1").refresh_interval(None));
    rig.dials();
    rig.discovery.dialed_self(at(10), addr(1));
    rig.with(at(60_000), |d, cx| d.handle_timeout(cx, true, |_| false));
    assert_eq!(rig.dials(), []);
    assert!(rig.discovery.became_ready(at(60_000), false));
}

#[cfg(feature = "planted-bugs")]
#[test]
fn planted_lookup_never_retried() {
    use crate::planted::{PlantedBug, without_and_with};
    let asked_again = || {
        let mut rig = Rig::new(Config::new("db.local"));
        let request = rig.discovery.poll_resolve().unwrap();
        rig.with(at(100), |d, cx| d.resolved(cx, request.id, &[]));
        rig.with(at(60_000), |d, cx| d.handle_timeout(cx, true, |_| false));
        rig.discovery.poll_resolve().is_some()
    };
    assert_eq!(
        without_and_with(PlantedBug::LookupNeverRetried, asked_again),
        (true, false)
    );
}
