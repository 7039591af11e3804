use super::*;
use crate::fault::{Delay, Host, HostSet};
use crate::schedule::{Crypto, Workload};
use quickcheck::{Arbitrary, Gen, quickcheck};

fn parse(text: &str) -> Result<Schedule, String> {
    text.parse().map_err(|error: ParseError| error.to_string())
}

/// A schedule with any values that are allowed, far stranger ones than are drawn.
#[derive(Clone, Debug)]
struct Strange(Schedule);

impl Arbitrary for Strange {
    fn arbitrary(g: &mut Gen) -> Self {
        let hosts = 1 + usize::arbitrary(g) % 64;
        let chaos = time(g, crate::schedule::MAX_CHAOS);
        let mut schedule = Schedule {
            chaos,
            ..Schedule::default()
        };
        schedule.each_field(&mut |name, field| match name {
            "hosts" | "chaos" | "observers" => {}
            _ => fill(g, field, hosts),
        });
        schedule.hosts = hosts;
        schedule.observers = usize::arbitrary(g) % hosts;
        for _ in 0..g.size() % 20 {
            let mut kind = *g.choose(&FaultKind::blanks()).unwrap();
            if kind == FaultKind::Surge {
                schedule.cluster_size = schedule.cluster_size.max(3);
                schedule.surge = schedule.surge.max(1);
            }
            kind.each_field(&mut |_, field| fill(g, field, hosts));
            let at = time(g, chaos);
            let lasting = time(g, chaos - at);
            schedule.faults.push(Fault { at, lasting, kind });
        }
        schedule.surge = schedule.surge.min(schedule.most_surge());
        schedule.max_ttl = schedule.max_ttl.max(Duration::from_secs(1));
        Self(schedule)
    }
}

fn time(g: &mut Gen, max: Duration) -> Duration {
    let nanos = u64::arbitrary(g) % (max.as_nanos() as u64 + 1);
    let unit = *g.choose(&[1, 1_000, 1_000_000, 500_000_000]).unwrap();
    Duration::from_nanos(nanos / unit * unit)
}

fn fill(g: &mut Gen, field: Field<'_>, hosts: usize) {
    match field {
        Field::Seed(seed) => *seed = u64::arbitrary(g),
        Field::Number(number, range) => {
            let span = (range.end() - range.start() + 1) as u64;
            let drawn = range.start() + (u64::arbitrary(g) % span) as i64;
            number.set(*g.choose(&[drawn, drawn, *range.start(), *range.end()]).unwrap());
        }
        Field::Time(value, max) => *value = time(g, max),
        Field::Delay(delay) => {
            let b = time(g, Duration::from_secs(60));
            let a = time(g, b);
            let delays = [
                Delay::Constant(a),
                Delay::Uniform(a, b),
                Delay::Exponential(a),
                Delay::LongTail(a),
                Delay::Bursts(a, b),
            ];
            *delay = *g.choose(&delays).unwrap();
        }
        Field::Flag(flag) => *flag = bool::arbitrary(g),
        Field::Choice(choice) => {
            let name = g.choose(choice.names()).unwrap();
            assert!(choice.choose(name));
        }
        Field::Host(host) => *host = Host(usize::arbitrary(g) % hosts),
        Field::Hosts(set) => {
            let some = HostSet::of((0..hosts).filter(|_| bool::arbitrary(g)));
            *set = *g.choose(&[some, some, HostSet::ALL, HostSet::NONE]).unwrap();
        }
    }
}

quickcheck! {
    fn what_is_drawn_reads_back(schedule: Schedule) -> bool {
        parse(&schedule.to_string()) == Ok(schedule)
    }

    fn whatever_is_allowed_reads_back(strange: Strange) -> bool {
        strange.0.validate() == Ok(()) && parse(&strange.0.to_string()) == Ok(strange.0)
    }

    fn a_line_reads_back(strange: Strange) -> bool {
        strange.0.faults.iter().all(|fault| fault.to_string().parse() == Ok(*fault))
    }

    fn any_text_is_survived(schedule: Schedule, changes: Vec<(usize, String)>) -> bool {
        let mut text: Vec<char> = schedule.to_string().chars().collect();
        for (at, other) in changes {
            let at = at % (text.len() + 1);
            text.splice(at..text.len().min(at + at % 3), other.chars());
        }
        let text: String = text.into_iter().collect();
        match text.parse::<Schedule>() {
            Ok(read) => read.validate().is_ok(),
            Err(error) => error.line >= 1 && error.column >= 1 && !error.what.is_empty(),
        }
    }
}

#[test]
fn blanks_are_named_in_order() {
    let names = FaultKind::blanks().map(|kind| kind.name());
    assert_eq!(names, FaultKind::NAMES);
}

#[test]
fn a_text_for_people() {
    let text = "
        # Two hosts do not hear the third one.
        seed 42          # or 0x2a
        hosts 3
        crypto real
        chaos 2min
        messages 60

        1500ms +3s loss to=0,1 permille=300
        10s crash host=2 # gone
        0.5min +250us delay from=2 to=* delay=uniform:1ms-2.5ms
        20s +1s replay count=3 spoofed=true
    ";
    let schedule = parse(text).unwrap();
    assert_eq!(
        schedule.to_string(),
        "seed 0x2a\nhosts 3\nobservers 0\ncluster_size 0\nsurge 0\nmax_ttl 30s\nallow_observers false\n\
         quick_seats false\nfast false\nsmall false\ncrypto real\nby_name true\nchaos 120s\n\
         messages 60\nrequests 0\ndraws 0\nlocks 0\nmax_size 0\n\
         1.5s +3s loss from=* to=0,1 permille=300\n\
         10s crash host=2\n\
         30s +250us delay from=2 to=* delay=uniform:1ms-2.5ms\n\
         20s +1s replay count=3 elsewhere=false spoofed=true\n"
    );
    assert_eq!((schedule.seed, schedule.crypto), (42, Crypto::Real));
    let workload = Workload {
        messages: 60,
        ..Workload::default()
    };
    assert_eq!(schedule.workload, workload);
    assert_eq!(parse(""), Ok(Schedule::default()));
    assert_eq!(parse("seed 0xffffffffffffffff").unwrap().seed, u64::MAX);
}

#[test]
fn an_error_says_where_and_what_is_allowed() {
    let cases = [
        ("hosts", "line 1, column 1: hosts has no value: must be 1 to 64"),
        ("\n hosts 0", "line 2, column 8: hosts is 0: must be 1 to 64"),
        (
            "hosts 3 4",
            "line 1, column 9: hosts has one value; '4' is too much",
        ),
        ("hosts 3\n# x\nhosts 3", "line 3, column 1: hosts is given twice"),
        ("hosts -1", "line 1, column 7: hosts is -1: must be 1 to 64"),
        (
            "hosts 99999999999999999999",
            "line 1, column 7: hosts is 99999999999999999999: must be 1 to 64",
        ),
        (
            "hosts 2\nobservers 2",
            "line 2, column 1: observers is 2: must be 0 to 1, fewer than hosts",
        ),
        (
            "seed 0xg",
            "line 1, column 6: seed is 0xg: must be a number of 64 bits such as 42 or 0x2a",
        ),
        (
            "seed 0x+1",
            "line 1, column 6: seed is 0x+1: must be a number of 64 bits such as 42 or 0x2a",
        ),
        (
            "crypto none",
            "line 1, column 8: crypto is none: must be one of simulated, real",
        ),
        ("fast yes", "line 1, column 6: fast is yes: must be true or false"),
        (
            "chaos 25h",
            "line 1, column 7: chaos is 25h: must be a time from 0s to 86400s such as 1.5s or 200ms",
        ),
        (
            "cluster_size 16",
            "line 1, column 14: cluster_size is 16: must be 0 to 15",
        ),
        (
            "max_size 1048577",
            "line 1, column 10: max_size is 1048577: must be 0 to 1048576",
        ),
        (
            "host 3",
            "line 1, column 1: 'host' is neither a time, where a fault begins, nor a setting: must be one of seed, \
             hosts, observers, cluster_size, surge, max_ttl, allow_observers, quick_seats, fast, small, crypto, by_name, chaos, messages, requests, draws, locks, max_size",
        ),
        (
            "1 crash host=0",
            "line 1, column 1: the beginning is 1: must be a time from 0s to 86400s such as 1.5s or 200ms",
        ),
        (
            "1s +x crash host=0",
            "line 1, column 4: the length is x: must be a time from 0s to 86400s such as 1.5s or 200ms",
        ),
        (
            "1s +2s loss permille=1300",
            "line 1, column 13: permille is 1300: must be 0 to 1000",
        ),
        (
            "1s +2s burst-loss permille=901",
            "line 1, column 19: permille is 901: must be 0 to 900",
        ),
        (
            "1s +2s loss",
            "line 1, column 8: loss needs permille=, which must be 0 to 1000",
        ),
        (
            "1s +2s loss permille=1 permille=1",
            "line 1, column 24: permille is given twice",
        ),
        (
            "1s +2s loss permille 1",
            "line 1, column 13: 'permille' must be a name, '=' and a value, without spaces",
        ),
        (
            "1s +2s loss permil=1",
            "line 1, column 13: loss has no 'permil': must be one of from, to, permille",
        ),
        (
            "1s +2s ring left=1",
            "line 1, column 13: ring has no 'left': it has none",
        ),
        (
            "1s split",
            "line 1, column 4: split needs left=, which must be hosts such as 0,2 (0 to 63), * for all, or - for none",
        ),
        (
            "1s split left=0,,1",
            "line 1, column 10: left is 0,,1: must be hosts such as 0,2 (0 to 63), * for all, or - for none",
        ),
        (
            "1s split left=0,3",
            "line 1, column 1: left is 0,3: must be among the 3 hosts, counted from 0",
        ),
        (
            "\n1s crash host=64",
            "line 2, column 10: host is 64: must be a host, 0 to 63",
        ),
        (
            "\n1s crash host=3",
            "line 2, column 1: host is 3: must be among the 3 hosts, counted from 0",
        ),
        (
            "1s dns how=never",
            "line 1, column 8: how is never: must be one of error, timeout, stale, partial, empty, wrong",
        ),
        (
            "1s delay delay=uniform:2s-1s",
            "line 1, column 10: delay is uniform:2s-1s: must be constant:T, uniform:T-T, exponential:T, long-tail:T or \
             bursts:T-T, with times from 0s to 60s, the shorter one first",
        ),
        (
            "1s drift host=0 ppm=-900000",
            "line 1, column 17: ppm is -900000: must be -899999 to 10000000",
        ),
        (
            "50s +11s ring",
            "line 1, column 1: the end is 61s: must be no later than the end of chaos, 60s",
        ),
        (
            "cluster_size 2\n1s surge",
            "line 2, column 1: surge is 0: must be at least 1 where a process more than there are seats runs",
        ),
        (
            "cluster_size 4\nsurge 2",
            "line 2, column 1: surge is 2: must be 0 to 1, the seats that a quorum can do without",
        ),
        (
            "max_ttl 999ms",
            "line 1, column 1: max_ttl is 999ms: must be at least 1s",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
    let unknown = parse("\u{e9}t\u{e9} 1\n").unwrap_err();
    assert!(
        unknown.starts_with("line 1, column 1: '\u{e9}t\u{e9}' is neither"),
        "{unknown}"
    );
    let unknown = parse("1s \u{e9}\u{e9} x").unwrap_err();
    assert!(
        unknown.starts_with("line 1, column 4: '\u{e9}\u{e9}' is no kind of fault: must be one of loss, "),
        "{unknown}"
    );
    let wide = "1s crash \u{e9}=1".parse::<Fault>().unwrap_err();
    assert_eq!(
        wide.to_string(),
        "line 1, column 10: crash has no '\u{e9}': must be one of host"
    );
}

#[test]
fn memory_is_bounded() {
    let text = "1s ring\n".repeat(MAX_FAULTS);
    assert_eq!(parse(&text).map(|schedule| schedule.faults.len()), Ok(MAX_FAULTS));
    let error = parse(&(text + "1s ring\n")).unwrap_err();
    assert_eq!(error, "line 20001, column 1: a schedule has at most 20000 faults");
}

#[test]
fn the_page_about_it_is_right() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/simulator.md")).unwrap();
    let (_, example) = page.split_once("```schedule\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let schedule = parse(example).unwrap();
    assert_eq!((schedule.seed, schedule.hosts, schedule.faults.len()), (42, 5, 4));
    let row = |name: &str| page.lines().find(|line| line.starts_with(&format!("| `{name}`")));
    for mut kind in FaultKind::blanks() {
        let row = row(kind.name()).unwrap_or_else(|| panic!("{kind} has a row"));
        kind.each_field(&mut |name, field| {
            assert!(row.contains(&format!("`{name}`")), "{row} names {name}");
            if let Field::Choice(choice) = field {
                let missing = choice
                    .names()
                    .iter()
                    .find(|name| !row.contains(&format!("`{name}`")));
                assert_eq!(missing, None, "{row}");
            }
        });
    }
    Schedule::default().each_field(&mut |name, _| {
        assert!(
            row(name).is_some() || matches!(name, "requests" | "draws" | "locks"),
            "{name}"
        )
    });
}
