//! What can go wrong, as data.

use quorate_core::Duration;
use std::fmt;
use std::str::FromStr;

/// A machine of the simulated cluster, counted from 0. Processes come and go on it; its address and its clock stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub usize);

/// A set of the first 64 hosts; all hosts, however many there are, if complete.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostSet(u64);

impl HostSet {
    /// Every host.
    pub const ALL: Self = Self(u64::MAX);
    /// No host.
    pub const NONE: Self = Self(0);

    /// Returns the set of these hosts; those beyond the first 64 are left out.
    pub fn of(hosts: impl IntoIterator<Item = usize>) -> Self {
        let bits = hosts.into_iter().filter(|&host| host < 64);
        Self(bits.fold(0, |set, host| set | 1 << host))
    }

    /// Returns whether a host belongs to the set.
    pub const fn contains(self, host: Host) -> bool {
        self.0 == u64::MAX || (host.0 < 64 && self.0 >> host.0 & 1 == 1)
    }

    /// Returns the hosts of the set among the first `count`.
    pub fn hosts(self, count: usize) -> impl Iterator<Item = Host> {
        (0..count).map(Host).filter(move |&host| self.contains(host))
    }

    /// Returns this set without the hosts from `count` on; one that then has all `count` hosts becomes [`Self::ALL`].
    #[must_use]
    pub fn limited(self, count: usize) -> Self {
        if count >= 64 || self == Self::ALL {
            return self;
        }
        let all = (1 << count) - 1;
        if self.0 & all == all {
            Self::ALL
        } else {
            Self(self.0 & all)
        }
    }
}

impl fmt::Display for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("*");
        }
        if *self == Self::NONE {
            return f.write_str("-");
        }
        for (i, host) in self.hosts(64).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}", host.0)?;
        }
        Ok(())
    }
}

impl fmt::Debug for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostSet({self})")
    }
}

impl FromStr for HostSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::ALL),
            "-" => return Ok(Self::NONE),
            _ => {}
        }
        let mut hosts = Vec::new();
        for part in text.split(',') {
            match part.parse() {
                Ok(host) if host < 64 => hosts.push(host),
                _ => return Err(format!("'{part}' is not a host: write 0 to 63, '*' or '-'")),
            }
        }
        Ok(Self::of(hosts))
    }
}

/// How long a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Always this long.
    Constant(Duration),
    /// Anything from the first to the second, equally likely.
    Uniform(Duration, Duration),
    /// Exponentially distributed with this mean; at most 20 times as long.
    Exponential(Duration),
    /// Mostly about this long, and for one datagram in a hundred up to a hundred times as long (Pareto, shape 1).
    LongTail(Duration),
    /// As the first, but for stretches of datagrams as the second: queues that fill and drain.
    Bursts(Duration, Duration),
}

/// What happens to the bytes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// One bit is another.
    Flip,
    /// The end is missing.
    Truncate,
    /// Bytes were added.
    Extend,
    /// All bytes are random.
    Garbage,
}

/// How name resolution fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFault {
    /// At once, with an error.
    Error,
    /// No answer for 10 s, then an error.
    Timeout,
    /// The addresses are those of the time at which the fault began.
    Stale,
    /// About half of the addresses are missing, others each time.
    Partial,
    /// The name exists and has no address.
    Empty,
    /// The addresses are those of nobody.
    Wrong,
}

/// In what the settings of a stranger differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Another `cluster_size`.
    ClusterSize,
    /// Another `max_ttl`.
    MaxTtl,
    /// Another `cluster_name`.
    Name,
    /// Another key.
    Key,
    /// No key at all.
    Insecure,
}

/// One kind of fault, with its particulars. [`FaultKind::name`] is what the command line calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Datagrams are lost, each by itself: so many of a thousand.
    Loss {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
        /// How many of a thousand.
        permille: u16,
    },
    /// Datagrams are lost in stretches (Gilbert's model): so many of a thousand in all.
    BurstLoss {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
        /// How many of a thousand, at most 900.
        permille: u16,
        /// The mean length of a stretch, in datagrams.
        burst: u16,
    },
    /// Datagrams arrive twice.
    Duplicate {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
        /// How many of a thousand.
        permille: u16,
    },
    /// Datagrams travel longer.
    Delay {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
        /// How long.
        delay: Delay,
    },
    /// Some datagrams are held back, so that others overtake them.
    Reorder {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
        /// How many of a thousand.
        permille: u16,
        /// For how long, at most.
        by: Duration,
    },
    /// The bytes of datagrams are changed on the way.
    Corrupt {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
        /// How many of a thousand.
        permille: u16,
        /// How.
        how: Corruption,
    },
    /// Nothing passes from these to those.
    OneWay {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
    },
    /// Nothing passes between these and all others. One host is isolated, or the cluster is split.
    Split {
        /// One side.
        left: HostSet,
    },
    /// Each host reaches only its two neighbours: every host sees a majority of three, and no two the same.
    Ring,
    /// The cluster is split in two, and one host is on both sides.
    Bridge {
        /// One side.
        left: HostSet,
        /// The host that reaches everybody.
        over: Host,
    },
    /// Datagrams wait, and all of them arrive when it ends.
    Clog {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
    },
    /// Datagrams longer than this are lost. Nothing of the protocol passes below 1,200.
    Mtu {
        /// Sent by these.
        from: HostSet,
        /// Sent to these.
        to: HostSet,
        /// In bytes.
        bytes: u16,
    },
    /// Somebody who recorded datagrams sends some of them again, over the whole time.
    Replay {
        /// How many.
        count: u16,
        /// To other hosts than the first time.
        elsewhere: bool,
        /// With the source address of the first time; otherwise from an address of his own.
        spoofed: bool,
    },
    /// The network gives a host another address, as a translator of addresses does that was restarted.
    Rebind {
        /// Which host.
        host: Host,
    },
    /// The process of a host ends without a goodbye; a new one starts when it is over.
    Crash {
        /// Which host.
        host: Host,
    },
    /// All processes end at once, and new ones start with their wall clocks set back.
    Blackout {
        /// How far back.
        wall_back: Duration,
    },
    /// The process of a host stands still while the world goes on.
    Pause {
        /// Which host.
        host: Host,
    },
    /// The process of a host takes so long for each datagram and timer.
    Slow {
        /// Which host.
        host: Host,
        /// How long.
        each: Duration,
    },
    /// The process of a host leaves; a new one starts when it is over.
    Leave {
        /// Which host.
        host: Host,
    },
    /// One host after the other leaves and comes back, evenly over the time.
    RollingUpdate,
    /// One process more than there are hosts runs for a while, then leaves.
    Surge,
    /// A process with other settings runs for a while on a host of its own.
    Stranger {
        /// Which settings.
        differs: Difference,
    },
    /// All members change to another key, in the three steps of a rotation, evenly over the time.
    Rotate,
    /// The application of a host does not take its messages.
    Unread {
        /// Which host.
        host: Host,
    },
    /// The steady clock of a host is too fast, or too slow: millionths.
    Drift {
        /// Which host.
        host: Host,
        /// Millionths; negative is slow; above -900,000.
        ppm: i32,
    },
    /// The steady clock of a host jumps ahead, once.
    Jump {
        /// Which host.
        host: Host,
        /// How far.
        by: Duration,
    },
    /// The steady clock of a host stands still, while its process takes datagrams.
    Freeze {
        /// Which host.
        host: Host,
    },
    /// The wall clock of a host is off, for processes started meanwhile.
    Wall {
        /// Which host.
        host: Host,
        /// By how many milliseconds; negative is in the past.
        by_ms: i64,
    },
    /// Names do not resolve as they should.
    Dns {
        /// How.
        how: DnsFault,
    },
}

impl FaultKind {
    /// The names of all kinds, in the order of their declaration.
    pub const NAMES: &'static [&'static str] = &[
        "loss",
        "burst-loss",
        "duplicate",
        "delay",
        "reorder",
        "corrupt",
        "one-way",
        "split",
        "ring",
        "bridge",
        "clog",
        "mtu",
        "replay",
        "rebind",
        "crash",
        "blackout",
        "pause",
        "slow",
        "leave",
        "rolling-update",
        "surge",
        "stranger",
        "rotate",
        "unread",
        "drift",
        "jump",
        "freeze",
        "wall",
        "dns",
    ];

    /// Returns the name of the kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loss { .. } => "loss",
            Self::BurstLoss { .. } => "burst-loss",
            Self::Duplicate { .. } => "duplicate",
            Self::Delay { .. } => "delay",
            Self::Reorder { .. } => "reorder",
            Self::Corrupt { .. } => "corrupt",
            Self::OneWay { .. } => "one-way",
            Self::Split { .. } => "split",
            Self::Ring => "ring",
            Self::Bridge { .. } => "bridge",
            Self::Clog { .. } => "clog",
            Self::Mtu { .. } => "mtu",
            Self::Replay { .. } => "replay",
            Self::Rebind { .. } => "rebind",
            Self::Crash { .. } => "crash",
            Self::Blackout { .. } => "blackout",
            Self::Pause { .. } => "pause",
            Self::Slow { .. } => "slow",
            Self::Leave { .. } => "leave",
            Self::RollingUpdate => "rolling-update",
            Self::Surge => "surge",
            Self::Stranger { .. } => "stranger",
            Self::Rotate => "rotate",
            Self::Unread { .. } => "unread",
            Self::Drift { .. } => "drift",
            Self::Jump { .. } => "jump",
            Self::Freeze { .. } => "freeze",
            Self::Wall { .. } => "wall",
            Self::Dns { .. } => "dns",
        }
    }
}

/// A fault in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins, from the beginning of the run.
    pub at: Duration,
    /// How long it lasts; without meaning for a fault of an instant.
    pub lasting: Duration,
    /// What it is.
    pub kind: FaultKind,
}
