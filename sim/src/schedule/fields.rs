//! The fields of schedules and faults, one by one: what printing, reading, checking and shrinking have in common.

use super::{Crypto, MAX_CHAOS, Schedule, time};
use crate::fault::{Corruption, Delay, Difference, DnsFault, FaultKind, Host, HostSet};
use quorate_core::Duration;
use std::fmt;
use std::ops::RangeInclusive;

/// The longest that a datagram is held up, or a process takes for one.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// The furthest that a clock is set, a leap year, and the same in milliseconds.
const MAX_SHIFT: Duration = Duration::from_millis(MAX_SHIFT_MS as u64);
const MAX_SHIFT_MS: i64 = 366 * 86_400_000;
/// The longest lease that may be allowed.
const MAX_TTL: Duration = Duration::from_secs(300);
/// The largest message that a node takes by default.
const MAX_PAYLOAD: i64 = 1 << 20;

/// One field, to be read or changed.
pub(super) enum Field<'a> {
    /// A number that is written in hexadecimal digits; all are allowed.
    Seed(&'a mut u64),
    Number(&'a mut dyn Integer, RangeInclusive<i64>),
    /// At most the second.
    Time(&'a mut Duration, Duration),
    Delay(&'a mut Delay),
    Flag(&'a mut bool),
    Choice(&'a mut dyn Choice),
    Host(&'a mut Host),
    Hosts(&'a mut HostSet),
}

/// A number of any type.
pub(super) trait Integer {
    fn get(&self) -> i64;
    /// Without effect if it is out of the type's range, which is never smaller than the field's.
    fn set(&mut self, value: i64);
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(impl Integer for $type {
            fn get(&self) -> i64 {
                i64::try_from(*self).unwrap_or(i64::MAX)
            }

            fn set(&mut self, value: i64) {
                *self = value.try_into().unwrap_or(*self);
            }
        })*
    };
}

integers!(u8 u16 u32 usize i32 i64);

/// One of several named values.
pub(super) trait Choice {
    fn name(&self) -> &'static str;
    fn names(&self) -> &'static [&'static str];
    /// Returns whether there is one of this name.
    fn choose(&mut self, name: &str) -> bool;
}

macro_rules! choices {
    ($($type:ident { $($variant:ident = $name:literal),+ })*) => {
        $(impl $type {
            /// All of them.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        impl Choice for $type {
            fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            fn names(&self) -> &'static [&'static str] {
                &[$($name),+]
            }

            fn choose(&mut self, name: &str) -> bool {
                let found = Self::ALL.iter().find(|choice| choice.name() == name);
                found.map(|&choice| *self = choice).is_some()
            }
        })*
    };
}

choices! {
    Crypto { Simulated = "simulated", Real = "real" }
    Corruption { Flip = "flip", Truncate = "truncate", Extend = "extend", Garbage = "garbage" }
    DnsFault {
        Error = "error", Timeout = "timeout", Stale = "stale", Partial = "partial", Empty = "empty", Wrong = "wrong"
    }
    Difference {
        ClusterSize = "cluster-size", MaxTtl = "max-ttl", Name = "name", Key = "key", Insecure = "insecure"
    }
}

impl Field<'_> {
    /// Returns whether a field of this name may be left out of a text.
    pub(super) fn is_optional(&self, name: &str) -> bool {
        match self {
            Self::Flag(_) => true,
            Self::Hosts(_) => matches!(name, "from" | "to"),
            _ => false,
        }
    }

    /// Says what the field may be, after "must be".
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Seed(_) => "a number of 64 bits such as 42 or 0x2a".to_owned(),
            Self::Number(_, range) => format!("{} to {}", range.start(), range.end()),
            Self::Time(_, max) => format!("a time from 0s to {} such as 1.5s or 200ms", time::write(*max)),
            Self::Delay(_) => format!(
                "constant:T, uniform:T-T, exponential:T, long-tail:T or bursts:T-T, with times from 0s to {}, the \
                 shorter one first",
                time::write(MAX_DELAY)
            ),
            Self::Flag(_) => "true or false".to_owned(),
            Self::Choice(choice) => format!("one of {}", choice.names().join(", ")),
            Self::Host(_) => "a host, 0 to 63".to_owned(),
            Self::Hosts(_) => "hosts such as 0,2 (0 to 63), * for all, or - for none".to_owned(),
        }
    }

    /// Returns whether the value is in the field's range.
    pub(super) fn is_allowed(&self) -> bool {
        match self {
            Self::Number(number, range) => range.contains(&number.get()),
            Self::Time(time, max) => **time <= *max,
            Self::Delay(delay) => match **delay {
                Delay::Constant(a) | Delay::Exponential(a) | Delay::LongTail(a) => a <= MAX_DELAY,
                Delay::Uniform(a, b) | Delay::Bursts(a, b) => a <= b && b <= MAX_DELAY,
            },
            Self::Host(host) => host.0 < super::MAX_HOSTS,
            Self::Seed(_) | Self::Flag(_) | Self::Choice(_) | Self::Hosts(_) => true,
        }
    }

    /// Sets the field to what a text says; returns whether it says something that is allowed.
    pub(super) fn read(&mut self, text: &str) -> bool {
        let understood = match self {
            Self::Seed(seed) => read_seed(text).map(|value| **seed = value).is_some(),
            Self::Number(number, range) => match text.parse() {
                Ok(value) if range.contains(&value) => {
                    number.set(value);
                    true
                }
                _ => false,
            },
            Self::Time(time, _) => time::read(text).map(|value| **time = value).is_some(),
            Self::Delay(delay) => read_delay(text).map(|value| **delay = value).is_some(),
            Self::Flag(flag) => text.parse().map(|value| **flag = value).is_ok(),
            Self::Choice(choice) => choice.choose(text),
            Self::Host(host) => text.parse().map(|value| host.0 = value).is_ok(),
            Self::Hosts(hosts) => text.parse().map(|value| **hosts = value).is_ok(),
        };
        understood && self.is_allowed()
    }

    /// Makes the value simpler: nearer to nothing, or with fewer digits. There are [`Self::WAYS`]; returns whether
    /// this one changed anything. Repeated, every way comes to an end.
    pub(super) fn simplify(&mut self, way: usize) -> bool {
        match (self, way) {
            (Self::Number(number, range), 0) => {
                let (old, nearest) = (number.get(), 0.clamp(*range.start(), *range.end()));
                number.set(nearest + (old - nearest) / 2);
                number.get() != old
            }
            (Self::Time(time, _), way) => simplify_time(time, way),
            (Self::Delay(delay), way) => match *delay {
                Delay::Constant(time) => simplify_time(time, way),
                Delay::Exponential(a) | Delay::LongTail(a) | Delay::Uniform(_, a) | Delay::Bursts(_, a) => {
                    **delay = Delay::Constant(*a);
                    way == 0
                }
            },
            (Self::Flag(flag), 0) => std::mem::take(*flag),
            _ => false,
        }
    }

    /// How many ways there are to simplify a field.
    pub(super) const WAYS: usize = 2;
}

/// Halves a time, or drops the digits after its first two.
pub(super) fn simplify_time(time: &mut Duration, way: usize) -> bool {
    let old = time.as_nanos() as u64;
    let new = match way {
        // Below a microsecond there is nothing to win.
        0 => old / 2 / 1_000 * 1_000,
        _ => {
            let place = 10_u64.pow(old.checked_ilog10().unwrap_or(0).saturating_sub(1));
            old / place * place
        }
    };
    *time = Duration::from_nanos(new);
    new != old
}

fn read_seed(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

fn read_delay(text: &str) -> Option<Delay> {
    let (shape, times) = text.split_once(':')?;
    let one = || time::read(times);
    let two = || {
        let (a, b) = times.split_once('-')?;
        Some((time::read(a)?, time::read(b)?))
    };
    match shape {
        "constant" => one().map(Delay::Constant),
        "uniform" => two().map(|(a, b)| Delay::Uniform(a, b)),
        "exponential" => one().map(Delay::Exponential),
        "long-tail" => one().map(Delay::LongTail),
        "bursts" => two().map(|(a, b)| Delay::Bursts(a, b)),
        _ => None,
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "{seed:#x}"),
            Self::Number(number, _) => write!(f, "{}", number.get()),
            Self::Time(time, _) => f.write_str(&time::write(**time)),
            Self::Delay(delay) => write_delay(f, delay),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Choice(choice) => f.write_str(choice.name()),
            Self::Host(host) => write!(f, "{}", host.0),
            Self::Hosts(hosts) => write!(f, "{hosts}"),
        }
    }
}

fn write_delay(f: &mut fmt::Formatter<'_>, delay: &Delay) -> fmt::Result {
    match *delay {
        Delay::Constant(a) => write!(f, "constant:{}", time::write(a)),
        Delay::Uniform(a, b) => write!(f, "uniform:{}-{}", time::write(a), time::write(b)),
        Delay::Exponential(a) => write!(f, "exponential:{}", time::write(a)),
        Delay::LongTail(a) => write!(f, "long-tail:{}", time::write(a)),
        Delay::Bursts(a, b) => write!(f, "bursts:{}-{}", time::write(a), time::write(b)),
    }
}

impl Schedule {
    /// Visits every field but the faults, in the order of a text.
    pub(super) fn each_field(&mut self, visit: &mut dyn FnMut(&'static str, Field<'_>)) {
        visit("seed", Field::Seed(&mut self.seed));
        visit(
            "hosts",
            Field::Number(&mut self.hosts, 1..=super::MAX_HOSTS as i64),
        );
        visit(
            "observers",
            Field::Number(&mut self.observers, 0..=super::MAX_HOSTS as i64 - 1),
        );
        let most = i64::from(quorate_core::MAX_CLUSTER_SIZE);
        visit("cluster_size", Field::Number(&mut self.cluster_size, 0..=most));
        visit("surge", Field::Number(&mut self.surge, 0..=most / 2));
        visit("max_ttl", Field::Time(&mut self.max_ttl, MAX_TTL));
        visit("allow_observers", Field::Flag(&mut self.allow_observers));
        visit("quick_seats", Field::Flag(&mut self.quick_seats));
        visit("fast", Field::Flag(&mut self.fast));
        visit("small", Field::Flag(&mut self.small));
        visit("crypto", Field::Choice(&mut self.crypto));
        visit("by_name", Field::Flag(&mut self.by_name));
        visit("chaos", Field::Time(&mut self.chaos, MAX_CHAOS));
        visit("messages", Field::Number(&mut self.workload.messages, 0..=60_000));
        visit("requests", Field::Number(&mut self.workload.requests, 0..=60_000));
        visit("draws", Field::Number(&mut self.workload.draws, 0..=60_000));
        visit("locks", Field::Number(&mut self.workload.locks, 0..=60_000));
        visit(
            "max_size",
            Field::Number(&mut self.workload.max_size, 0..=MAX_PAYLOAD),
        );
    }
}

impl FaultKind {
    /// Returns one fault of each kind, in the order of [`Self::NAMES`], to be filled in.
    pub(super) const fn blanks() -> [Self; Self::NAMES.len()] {
        const ALL: HostSet = HostSet::ALL;
        const HOST: Host = Host(0);
        const ZERO: Duration = Duration::ZERO;
        [
            Self::Loss {
                from: ALL,
                to: ALL,
                permille: 0,
            },
            Self::BurstLoss {
                from: ALL,
                to: ALL,
                permille: 0,
                burst: 1,
            },
            Self::Duplicate {
                from: ALL,
                to: ALL,
                permille: 0,
            },
            Self::Delay {
                from: ALL,
                to: ALL,
                delay: Delay::Constant(ZERO),
            },
            Self::Reorder {
                from: ALL,
                to: ALL,
                permille: 0,
                by: ZERO,
            },
            Self::Corrupt {
                from: ALL,
                to: ALL,
                permille: 0,
                how: Corruption::Flip,
            },
            Self::OneWay { from: ALL, to: ALL },
            Self::Split { left: ALL },
            Self::Ring,
            Self::Bridge {
                left: ALL,
                over: HOST,
            },
            Self::Clog { from: ALL, to: ALL },
            Self::Mtu {
                from: ALL,
                to: ALL,
                bytes: 0,
            },
            Self::Replay {
                count: 0,
                elsewhere: false,
                spoofed: false,
            },
            Self::Rebind { host: HOST },
            Self::Crash { host: HOST },
            Self::Blackout { wall_back: ZERO },
            Self::Pause { host: HOST },
            Self::Slow {
                host: HOST,
                each: ZERO,
            },
            Self::Leave { host: HOST },
            Self::RollingUpdate,
            Self::Surge,
            Self::Stranger {
                differs: Difference::ClusterSize,
            },
            Self::Rotate,
            Self::Unread { host: HOST },
            Self::Drift { host: HOST, ppm: 0 },
            Self::Jump { host: HOST, by: ZERO },
            Self::Freeze { host: HOST },
            Self::Wall { host: HOST, by_ms: 0 },
            Self::Dns { how: DnsFault::Error },
        ]
    }

    /// Visits every field, in the order of a text.
    pub(super) fn each_field(&mut self, visit: &mut dyn FnMut(&'static str, Field<'_>)) {
        // Most faults of the network have these three.
        if let Self::Loss { from, to, .. }
        | Self::BurstLoss { from, to, .. }
        | Self::Duplicate { from, to, .. }
        | Self::Delay { from, to, .. }
        | Self::Reorder { from, to, .. }
        | Self::Corrupt { from, to, .. }
        | Self::OneWay { from, to }
        | Self::Clog { from, to }
        | Self::Mtu { from, to, .. } = self
        {
            visit("from", Field::Hosts(from));
            visit("to", Field::Hosts(to));
        }
        match self {
            Self::Loss { permille, .. } | Self::Duplicate { permille, .. } => {
                visit("permille", Field::Number(permille, 0..=1000));
            }
            Self::BurstLoss { permille, burst, .. } => {
                visit("permille", Field::Number(permille, 0..=900));
                visit("burst", Field::Number(burst, 1..=10_000));
            }
            Self::Delay { delay, .. } => visit("delay", Field::Delay(delay)),
            Self::Reorder { permille, by, .. } => {
                visit("permille", Field::Number(permille, 0..=1000));
                visit("by", Field::Time(by, MAX_DELAY));
            }
            Self::Corrupt { permille, how, .. } => {
                visit("permille", Field::Number(permille, 0..=1000));
                visit("how", Field::Choice(how));
            }
            Self::Split { left } => visit("left", Field::Hosts(left)),
            Self::Bridge { left, over } => {
                visit("left", Field::Hosts(left));
                visit("over", Field::Host(over));
            }
            Self::Mtu { bytes, .. } => visit("bytes", Field::Number(bytes, 0..=65_535)),
            Self::Replay {
                count,
                elsewhere,
                spoofed,
            } => {
                visit("count", Field::Number(count, 0..=10_000));
                visit("elsewhere", Field::Flag(elsewhere));
                visit("spoofed", Field::Flag(spoofed));
            }
            Self::Rebind { host }
            | Self::Crash { host }
            | Self::Pause { host }
            | Self::Leave { host }
            | Self::Unread { host }
            | Self::Freeze { host } => visit("host", Field::Host(host)),
            Self::Blackout { wall_back } => visit("wall_back", Field::Time(wall_back, MAX_SHIFT)),
            Self::Slow { host, each } => {
                visit("host", Field::Host(host));
                visit("each", Field::Time(each, MAX_DELAY));
            }
            Self::Stranger { differs } => visit("differs", Field::Choice(differs)),
            Self::Drift { host, ppm } => {
                visit("host", Field::Host(host));
                visit("ppm", Field::Number(ppm, -899_999..=10_000_000));
            }
            Self::Jump { host, by } => {
                visit("host", Field::Host(host));
                visit("by", Field::Time(by, MAX_SHIFT));
            }
            Self::Wall { host, by_ms } => {
                visit("host", Field::Host(host));
                visit("by_ms", Field::Number(by_ms, -MAX_SHIFT_MS..=MAX_SHIFT_MS));
            }
            Self::Dns { how } => visit("how", Field::Choice(how)),
            Self::OneWay { .. }
            | Self::Clog { .. }
            | Self::Ring
            | Self::RollingUpdate
            | Self::Surge
            | Self::Rotate => {}
        }
    }
}
