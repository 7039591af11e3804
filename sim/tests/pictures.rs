//! Pages of whole runs: calm, under many faults, and with a violation. They are left in cargo's directory for tests
//! (`target/tmp/*.html`), to be looked at in a browser.

use quorate_core::{Event, Message, Target};
use quorate_sim::html::{About, page};
use quorate_sim::{
    App, Corruption, Cx, Delay, Difference, DnsFault, Duration, Fault, FaultKind, Host, HostSet, Recording,
    Schedule, Sim,
};

/// Sends messages and requests to all, and objects to a lost quorum if it was told to.
struct Talker {
    objects: bool,
}

impl App for Talker {
    fn start(&mut self, cx: &mut Cx<'_>) {
        cx.set_timer_in(Duration::from_secs(1));
    }

    fn timeout(&mut self, cx: &mut Cx<'_>) {
        let deadline = Some(cx.now() + Duration::from_secs(3));
        let size = usize::try_from(cx.random() % 3_000).unwrap_or_default();
        // A refusal is a part of the picture.
        let _ = cx.send(Target::All, vec![b'x'; size], deadline);
        let _ = cx.request(Target::All, "how are you? </script><b>", deadline);
        let pause = 1_500 + cx.random() % 1_000;
        cx.set_timer_in(Duration::from_millis(pause));
    }

    fn message(&mut self, cx: &mut Cx<'_>, message: Message) {
        if let Some(to) = message.reply_to {
            let _ = cx.reply(to, "well");
        }
    }

    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::QuorumChanged {
            has_quorum: false,
            present,
        } = event
            && self.objects
        {
            cx.fail(format!(
                "the quorum is lost: only {present} voters are left </script><b>"
            ));
        }
    }
}

fn schedule(seed: u64, hosts: usize, faults: &[(u64, u64, FaultKind)]) -> Schedule {
    let fault = |&(at, lasting, kind): &(u64, u64, FaultKind)| Fault {
        at: Duration::from_millis(at),
        lasting: Duration::from_millis(lasting),
        kind,
    };
    let faults: Vec<_> = faults.iter().map(fault).collect();
    Schedule {
        cluster_size: u8::try_from(hosts).unwrap_or(0),
        chaos: faults.iter().map(Fault::ends).max().unwrap_or_default(),
        faults,
        ..Schedule::calm(seed, hosts)
    }
}

/// Runs a schedule, and returns its page and how much was recorded.
fn picture(title: &str, schedule: &Schedule, seconds: u64, objects: bool) -> (String, usize) {
    let mut sim = Sim::builder()
        .schedule(schedule.clone())
        .config(|host, config| config.name(format!("node {}</script><b>", host.0)))
        .observer(Recording::new(20_000))
        .collect_violations()
        .build_with(move |_| Talker { objects });
    sim.run_for(Duration::from_secs(seconds));
    assert_eq!(!sim.violations().is_empty(), objects);
    let recording = sim.observer::<Recording>().expect("the builder was given one");
    let about = About {
        title,
        seed: schedule.seed,
        trace_hash: sim.trace_hash(),
        schedule: &schedule.to_string(),
        violations: sim.violations(),
    };
    let page = page(recording, &about);
    (page, recording.datagrams() + recording.happenings())
}

fn keep(name: &str, page: &str) {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(file, page).expect("cargo's directory for tests can be written to");
}

#[test]
fn three_calm_members() {
    let calm = schedule(1, 3, &[]);
    let (page, recorded) = picture("Three calm members", &calm, 5, false);
    assert!(recorded > 100, "{recorded}");
    assert_eq!(
        page,
        picture("Three calm members", &calm, 5, false).0,
        "the same run, the same page"
    );
    assert_ne!(
        page,
        picture("Three calm members", &schedule(2, 3, &[]), 5, false).0
    );
    keep("calm.html", &page);
}

#[test]
fn five_members_under_many_faults() {
    let (all, host) = (HostSet::ALL, |host| Host(host));
    let permille = 150;
    let faults = [
        (
            3_000,
            4_000,
            FaultKind::Loss {
                from: all,
                to: all,
                permille,
            },
        ),
        (
            5_000,
            3_000,
            FaultKind::Duplicate {
                from: all,
                to: all,
                permille,
            },
        ),
        (6_000, 6_000, FaultKind::Crash { host: host(1) }),
        (
            8_000,
            6_000,
            FaultKind::Delay {
                from: all,
                to: HostSet::of([2]),
                delay: Delay::LongTail(Duration::from_millis(20)),
            },
        ),
        (
            12_000,
            5_000,
            FaultKind::Split {
                left: HostSet::of([0, 1]),
            },
        ),
        (
            13_000,
            4_000,
            FaultKind::Dns {
                how: DnsFault::Timeout,
            },
        ),
        (
            19_000,
            3_000,
            FaultKind::Corrupt {
                from: all,
                to: all,
                permille,
                how: Corruption::Flip,
            },
        ),
        (20_000, 5_000, FaultKind::Pause { host: host(3) }),
        (
            21_000,
            4_000,
            FaultKind::Replay {
                count: 40,
                elsewhere: true,
                spoofed: false,
            },
        ),
        (
            26_000,
            3_000,
            FaultKind::Clog {
                from: HostSet::of([0]),
                to: all,
            },
        ),
        (27_000, 4_000, FaultKind::Leave { host: host(4) }),
        (
            30_000,
            4_000,
            FaultKind::Stranger {
                differs: Difference::ClusterSize,
            },
        ),
        (
            31_000,
            3_000,
            FaultKind::Drift {
                host: host(2),
                ppm: 50_000,
            },
        ),
        (
            34_000,
            3_000,
            FaultKind::OneWay {
                from: HostSet::of([4]),
                to: HostSet::of([0, 2]),
            },
        ),
        (
            35_000,
            4_000,
            FaultKind::Mtu {
                from: all,
                to: HostSet::of([1]),
                bytes: 1_199,
            },
        ),
        (37_000, 1_500, FaultKind::Rebind { host: host(0) }),
    ];
    let (page, recorded) = picture(
        "Five members under many faults",
        &schedule(7, 5, &faults),
        42,
        false,
    );
    assert!((5_000..40_000).contains(&recorded), "{recorded}");
    keep("faults.html", &page);
}

#[test]
fn a_violation() {
    let left = HostSet::of([0, 1]);
    let faults = [
        (4_000, 10_000, FaultKind::Split { left }),
        (6_000, 4_000, FaultKind::Crash { host: Host(3) }),
    ];
    let (page, _) = picture("A violation", &schedule(3, 4, &faults), 30, true);
    assert!(page.contains("the quorum is lost"));
    assert!(!page.contains("</script><b>"));
    keep("violation.html", &page);
}
