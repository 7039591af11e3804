use super::*;
use crate::fault::{Corruption, Delay, Difference, DnsFault, FaultKind, HostSet};
use crate::observe::Fate;
use crate::schedule::Schedule;
use crate::world::home_of;
use quorate_core::{LeaveReason, Target};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Counts what becomes of datagrams.
#[derive(Debug, Default)]
struct Tap {
    fates: BTreeMap<(&'static str, Option<Host>), u64>,
    latest: Duration,
    arrived: BTreeMap<&'static str, u64>,
    again: u64,
    paused: u64,
    latest_wake: Duration,
}

fn provenance(datagram: &Datagram) -> &'static str {
    match datagram.provenance {
        Provenance::Original => "original",
        Provenance::Duplicate => "duplicate",
        Provenance::Altered => "altered",
        Provenance::Replayed => "replayed",
        Provenance::Foreign => "foreign",
    }
}

impl Observer for Tap {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Sent { datagram, fate } => {
                let name = match fate {
                    Fate::Arrives(at) => {
                        self.latest = self.latest.max(at.saturating_since(world.now()));
                        "arrives"
                    }
                    Fate::Waits => "waits",
                    Fate::Lost => "lost",
                    Fate::Cut => "cut",
                    Fate::TooLong => "too long",
                };
                let host = datagram.sender.map(|sender| world.process(sender).host);
                *self.fates.entry((name, host)).or_default() += 1;
            }
            Seen::Arrived { datagram, again, .. } => {
                *self.arrived.entry(provenance(datagram)).or_default() += 1;
                self.again += u64::from(again);
            }
            Seen::Paused { .. } => self.paused += 1,
            Seen::Woke { late, .. } => self.latest_wake = self.latest_wake.max(late),
            _ => {}
        }
        Ok(())
    }
}

/// Four members that know each other, and a tap that has seen nothing yet.
fn whole() -> Sim {
    let mut schedule = Schedule::calm(7, 4);
    schedule.cluster_size = 4;
    let mut sim = Sim::builder().schedule(schedule).build();
    assert!(sim.run_until(secs(10), is_whole));
    sim.observers.push(Box::new(Tap::default()));
    sim
}

fn is_whole(sim: &Sim) -> bool {
    let members: Vec<_> = sim.apps().map(|(index, _)| index).collect();
    let knows = |&index: &NodeIndex| sim.node_of(index).members().count() + 1 == members.len();
    members.len() == sim.network.members && members.iter().all(knows)
}

fn tap(sim: &Sim) -> &Tap {
    sim.observer().expect("there is a tap")
}

fn fate(sim: &Sim, name: &'static str, host: usize) -> u64 {
    let fates = &tap(sim).fates;
    fates.get(&(name, Some(Host(host)))).copied().unwrap_or_default()
}

/// Lets a fault last for so long, and returns the simulation a moment before its end.
fn during(kind: FaultKind, lasting: Duration) -> Sim {
    let mut sim = whole();
    sim.inject(kind, lasting + Duration::from_millis(1));
    sim.run_for(lasting);
    sim
}

fn recovers(sim: &mut Sim) {
    assert!(sim.run_until(secs(90), is_whole), "{:?}", sim.world);
}

const ALL: HostSet = HostSet::ALL;

#[test]
fn loss_strikes_the_ways_that_it_names() {
    let (from, to) = (HostSet::of([1]), HostSet::of([0, 2, 3]));
    let mut sim = during(
        FaultKind::Loss {
            from,
            to,
            permille: 1000,
        },
        secs(20),
    );
    assert!(fate(&sim, "lost", 1) > 20 && fate(&sim, "arrives", 1) == 0);
    assert!(
        (0..4)
            .filter(|&host| host != 1)
            .all(|host| fate(&sim, "lost", host) == 0)
    );
    assert!(!is_whole(&sim));
    recovers(&mut sim);
}

#[test]
fn loss_in_bursts_loses_its_share_in_stretches() {
    let kind = FaultKind::BurstLoss {
        from: ALL,
        to: ALL,
        permille: 300,
        burst: 10,
    };
    let sim = during(kind, secs(600));
    let sum = |name| (0..4).map(|host| fate(&sim, name, host)).sum::<u64>();
    let permille = sum("lost") * 1_000 / (sum("lost") + sum("arrives"));
    assert!((200..400).contains(&permille), "{permille}");
}

#[test]
fn duplicates_delays_and_held_back_datagrams_still_arrive() {
    let ms = Duration::from_millis;
    let (from, to) = (ALL, ALL);
    let sim = during(
        FaultKind::Duplicate {
            from,
            to,
            permille: 1000,
        },
        secs(10),
    );
    assert!(tap(&sim).arrived["duplicate"] > 50 && tap(&sim).again > 50);
    let delay = Delay::Constant(ms(40));
    let sim = during(FaultKind::Delay { from, to, delay }, secs(10));
    assert_eq!(tap(&sim).latest, ms(40));
    let by = ms(300);
    let sim = during(
        FaultKind::Reorder {
            from,
            to,
            permille: 200,
            by,
        },
        secs(30),
    );
    assert!(tap(&sim).latest > ms(200) && tap(&sim).latest <= ms(301));
    assert!(is_whole(&sim));
}

#[test]
fn altered_datagrams_are_not_what_was_sent() {
    for how in [
        Corruption::Flip,
        Corruption::Truncate,
        Corruption::Extend,
        Corruption::Garbage,
    ] {
        let kind = FaultKind::Corrupt {
            from: ALL,
            to: ALL,
            permille: 1000,
            how,
        };
        let mut sim = during(kind, secs(10));
        assert!(!is_whole(&sim), "{how:?}");
        // Some were on their way already.
        let untouched = tap(&sim).arrived.get("original").copied().unwrap_or_default();
        assert!(
            tap(&sim).arrived["altered"] > 50 && untouched < 10,
            "{how:?}: {untouched}"
        );
        recovers(&mut sim);
    }
}

#[test]
fn cuts_have_their_shapes() {
    let lists = |sim: &Sim, of: usize| {
        let mut hosts: Vec<_> = sim
            .node_of(sim.world.at_home(Host(of)).unwrap())
            .members()
            .map(|member| sim.world.process(sim.world.find(member.id).unwrap()).host.0)
            .collect();
        hosts.sort_unstable();
        hosts
    };
    let left = HostSet::of([0, 1]);
    let mut sim = during(FaultKind::Split { left }, secs(20));
    assert_eq!(
        (0..4).map(|of| lists(&sim, of)).collect::<Vec<_>>(),
        [[1], [0], [3], [2]]
    );
    recovers(&mut sim);
    let sim = during(FaultKind::Bridge { left, over: Host(1) }, secs(20));
    assert!(fate(&sim, "cut", 1) == 0 && fate(&sim, "cut", 0) > 0 && fate(&sim, "cut", 2) > 0);
    let sim = during(FaultKind::Ring, secs(20));
    // Four in a ring: everybody misses the one opposite, whom the others still vouch for.
    assert!((0..4).all(|host| fate(&sim, "cut", host) > 0 && fate(&sim, "arrives", host) > 0));
    let (from, to) = (HostSet::of([2]), HostSet::of([0, 1, 3]));
    let sim = during(FaultKind::OneWay { from, to }, secs(20));
    assert!(fate(&sim, "arrives", 2) == 0 && fate(&sim, "arrives", 0) > 0 && fate(&sim, "cut", 0) == 0);
}

#[test]
fn what_is_clogged_arrives_in_the_end_and_what_is_too_long_never() {
    let (from, to) = (HostSet::of([0]), ALL);
    let mut sim = during(FaultKind::Clog { from, to }, secs(2));
    let waited = fate(&sim, "waits", 0);
    assert!(waited > 5 && fate(&sim, "arrives", 0) == 0);
    let before: u64 = tap(&sim).arrived.values().sum();
    sim.run_for(Duration::from_millis(1));
    assert!(tap(&sim).arrived.values().sum::<u64>() >= before + waited);
    let mut sim = whole();
    sim.inject(
        FaultKind::Mtu {
            from: ALL,
            to: ALL,
            bytes: 600,
        },
        secs(5),
    );
    let sender = sim.world.at_home(Host(0)).unwrap();
    sim.with(sender, |cx| cx.send(Target::All, vec![7; 5_000], None))
        .unwrap();
    sim.run_for(secs(4));
    assert!(fate(&sim, "too long", 0) > 0 && is_whole(&sim));
}

#[test]
fn what_was_recorded_comes_again() {
    let mut sim = whole();
    sim.capture(500);
    sim.run_for(secs(5));
    let (count, elsewhere, spoofed) = (50, false, true);
    sim.inject(
        FaultKind::Replay {
            count,
            elsewhere,
            spoofed,
        },
        secs(5),
    );
    sim.run_for(secs(6));
    assert_eq!(tap(&sim).arrived["replayed"], 50);
    assert!(tap(&sim).again >= 50);
}

#[test]
fn processes_end_and_come_back_as_new_ones_on_the_same_host() {
    let host = Host(2);
    for (kind, reason) in [
        (FaultKind::Crash { host }, LeaveReason::Failed),
        (FaultKind::Leave { host }, LeaveReason::Left),
    ] {
        let mut sim = whole();
        let old = sim.world.at_home(host).unwrap();
        sim.inject(kind, secs(8));
        sim.run_for(secs(7));
        assert!(sim.world.at_home(host).is_none() && !sim.is_running(old));
        let witness = sim.world.at_home(Host(0)).unwrap();
        let told = sim.events(witness).iter().any(|(_, event)| {
            matches!(event, Event::MemberLeft { member, reason: why } if member.id == sim.id(old) && *why == reason)
        });
        assert!(told, "{kind:?}");
        sim.run_for(secs(2));
        let new = sim.world.at_home(host).unwrap();
        assert!(new != old && sim.addr(new) == home_of(host) && sim.id(new) != sim.id(old));
        recovers(&mut sim);
    }
}

#[test]
fn a_blackout_takes_everybody_and_the_wall_clock_back() {
    let wall_back = secs(3600);
    let mut sim = during(FaultKind::Blackout { wall_back }, secs(3));
    assert!(sim.apps().count() == 0);
    sim.run_for(secs(1));
    assert!(sim.apps().count() == 4);
    assert!(
        sim.world
            .machines
            .iter()
            .all(|machine| machine.wall_off == -3_600_000_000)
    );
    recovers(&mut sim);
}

#[test]
fn rolling_updates_and_surges_leave_as_many_as_there_were() {
    let mut sim = during(FaultKind::RollingUpdate, secs(40));
    sim.run_for(secs(1));
    assert_eq!(sim.node_count(), 8);
    recovers(&mut sim);
    let mut sim = whole();
    sim.inject(FaultKind::Surge, secs(10));
    sim.run_for(secs(9));
    assert_eq!(sim.apps().count(), 5);
    recovers(&mut sim);
    assert_eq!((sim.node_count(), sim.apps().count()), (5, 4));
}

#[test]
fn strangers_stay_strangers() {
    use Difference::{ClusterSize, Insecure, Key, MaxTtl, Name};
    for differs in [ClusterSize, MaxTtl, Name, Key, Insecure] {
        let mut sim = during(FaultKind::Stranger { differs }, secs(10));
        assert!(is_whole(&sim) && sim.node_count() == 5, "{differs:?}");
        let quarantined = sim.events(NodeIndex(0)).iter();
        let quarantined = quarantined.filter(|(_, event)| matches!(event, Event::Quarantined { .. }));
        let expected = usize::from(matches!(differs, ClusterSize | MaxTtl));
        assert_eq!(quarantined.count(), expected, "{differs:?}");
        sim.run_for(secs(1));
        assert!(!sim.is_running(NodeIndex(4)));
    }
}

#[test]
fn keys_rotate_and_restarted_processes_have_the_new_ones() {
    let mut sim = whole();
    let old = sim.node_of(NodeIndex(0)).status(sim.now()).key_usage[0].key;
    sim.inject(FaultKind::Rotate, secs(120));
    sim.run_for(secs(130));
    assert!(is_whole(&sim));
    sim.inject(FaultKind::Crash { host: Host(1) }, secs(1));
    sim.run_for(secs(10));
    assert!(is_whole(&sim));
    for index in sim.apps().map(|(index, _)| index) {
        let usage = sim.node_of(index).status(sim.now()).key_usage;
        assert!(usage.len() == 1 && usage[0].key != old);
    }
}

#[test]
fn paused_slow_and_deaf_processes_lag_behind() {
    let host = Host(1);
    let mut sim = during(FaultKind::Pause { host }, secs(2));
    assert_eq!((tap(&sim).paused, fate(&sim, "arrives", 1)), (1, 0));
    sim.run_for(secs(1));
    assert!(fate(&sim, "arrives", 1) > 0 && is_whole(&sim));
    assert!(tap(&sim).latest_wake > secs(1));
    let each = Duration::from_millis(100);
    let sim = during(FaultKind::Slow { host, each }, secs(10));
    assert!(tap(&sim).latest_wake > Duration::from_millis(10));
    let mut sim = whole();
    let [a, b] = [Host(0), host].map(|host| sim.world.at_home(host).unwrap());
    let to = Target::Node(sim.id(b));
    sim.inject(FaultKind::Unread { host }, secs(3));
    sim.with(a, |cx| cx.send(to, "hello", None)).unwrap();
    sim.run_for(secs(2));
    assert!(sim.messages(b).is_empty());
    sim.run_for(secs(2));
    assert_eq!(sim.messages(b).len(), 1);
}

#[test]
fn clocks_go_wrong_and_right_again() {
    let host = Host(3);
    let off = |sim: &Sim| sim.world.clock(host).as_nanos() as i128 - sim.now().as_nanos() as i128;
    let mut sim = during(FaultKind::Drift { host, ppm: -20_000 }, secs(10));
    assert_eq!(off(&sim) / 1_000_000, -200);
    sim.run_for(secs(10));
    assert_eq!(off(&sim) / 1_000_000, -200, "it is right again, and stays behind");
    let sim = during(FaultKind::Jump { host, by: secs(5) }, secs(1));
    assert_eq!(off(&sim), 5_000_000_000);
    let mut sim = during(FaultKind::Freeze { host }, secs(10));
    assert_eq!(off(&sim), -10_000_000_000);
    recovers(&mut sim);
    let mut sim = during(FaultKind::Wall { host, by_ms: -7 }, secs(1));
    assert_eq!((off(&sim), sim.world.machines[3].wall_off), (0, -7_000));
    sim.run_for(secs(1));
    assert_eq!(sim.world.machines[3].wall_off, 0);
}

#[test]
fn an_address_changes_and_is_followed() {
    let mut sim = whole();
    let moved = sim.world.at_home(Host(1)).unwrap();
    sim.inject(FaultKind::Rebind { host: Host(1) }, secs(1));
    assert_ne!(sim.addr(moved), home_of(Host(1)));
    sim.run_for(secs(20));
    assert!(is_whole(&sim));
}

#[test]
fn names_fail_and_newcomers_wait_for_them() {
    let mut sim = Sim::builder().schedule(Schedule::calm(3, 3)).build();
    let how = DnsFault::Error;
    sim.inject(FaultKind::Dns { how }, secs(20));
    sim.run_for(secs(19));
    assert!(
        sim.apps()
            .all(|(index, _)| sim.node_of(index).members().count() == 0)
    );
    recovers(&mut sim);
}

#[test]
fn healing_ends_everything_that_goes_on_and_what_was_to_come() {
    let mut schedule = Schedule {
        chaos: secs(1_500),
        ..Schedule::calm(5, 4)
    };
    let host = Host(0);
    for (at, kind) in [
        (5, FaultKind::Pause { host }),
        (6, FaultKind::Ring),
        (500, FaultKind::Crash { host }),
    ] {
        let lasting = secs(1_000);
        schedule.faults.push(crate::fault::Fault {
            at: secs(at),
            lasting,
            kind,
        });
    }
    let mut sim = Sim::builder().schedule(schedule).build();
    sim.run_for(secs(10));
    assert!(sim.world.healed().is_none());
    sim.heal();
    assert_eq!(sim.world.healed(), Some(sim.now()));
    recovers(&mut sim);
    sim.run_for(secs(600));
    assert!(is_whole(&sim) && sim.faults().len() == 2);
}

#[test]
#[should_panic(expected = "seed 0x2a: app: enough")]
fn a_violation_panics_with_the_seed() {
    let mut sim = Sim::new(42);
    let node = sim.start(crate::config());
    sim.with(node, |cx| cx.fail("enough"));
}

#[test]
fn a_collected_violation_stops_the_run() {
    let mut sim = Sim::builder().hosts(2).collect_violations().build();
    sim.run_for(secs(1));
    sim.with(NodeIndex(0), |cx| cx.fail("enough"));
    let handled = sim.handled();
    sim.run_for(secs(10));
    assert_eq!((sim.handled(), sim.violations().len()), (handled, 1));
    assert_eq!(sim.violations()[0].to_string(), "app: enough (at 1.000 s)");
}

#[test]
fn who_was_kept_down_from_the_beginning_starts_when_that_is_over() {
    let mut schedule = Schedule {
        chaos: secs(5),
        ..Schedule::calm(6, 3)
    };
    let (at, lasting, kind) = (Duration::ZERO, secs(5), FaultKind::Crash { host: Host(1) });
    schedule.faults.push(crate::fault::Fault { at, lasting, kind });
    let mut sim = Sim::builder().schedule(schedule).build();
    sim.run_for(secs(4));
    assert_eq!(sim.apps().count(), 2);
    recovers(&mut sim);
    assert_eq!(sim.node_count(), 3);
}
