//! What is searched: how a search begins, and its bounds.

mod locks;

use quorate_core::consensus::{Index, Term};

/// How the wall clock behaves from founding to founding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// Each founder's is ahead of that of the one before.
    Rises,
    /// It stands still.
    Stands,
}

/// The bounds of one search. What its script uses up does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    /// N.
    pub seats: u8,
    /// How many voters above N may be alive.
    pub surge: u8,
    /// Processes that are no voters. With any, observers may take locks.
    pub observers: u8,
    /// The highest term inside a group.
    pub terms: Term,
    /// How often somebody stands as a founder.
    pub stands: u8,
    /// On which hosts.
    pub founders: &'static [usize],
    /// On which hosts somebody stands for election.
    pub candidates: &'static [usize],
    /// How many processes crash, each followed by a fresh one.
    pub crashes: u8,
    /// On which hosts.
    pub crashers: &'static [usize],
    /// How often a life abandons its group.
    pub abandons: u8,
    /// How many tokens are asked for.
    pub draws: u8,
    /// From which hosts.
    pub askers: &'static [usize],
    /// How many changes of seats leaders begin.
    pub changes: u8,
    /// The last round of each leader.
    pub rounds: u64,
    /// How often the lock is asked for.
    pub locks: u8,
    /// From which hosts.
    pub owners: &'static [usize],
    /// How often it is given back, or no longer waited for.
    pub releases: u8,
    /// How many of the asks that arrive do so twice.
    pub copies: u8,
    /// How long a lease of the lock is, in ticks.
    pub ttl: u8,
    /// How long who waits may be silent, in ticks.
    pub waiter_ttl: u8,
    /// How far clocks are off, in thousandths.
    pub drift: u16,
    /// The last tick of the clock. A token that was drawn is believed in for one; the grace is as long as a lease.
    pub ticks: u8,
    /// The longest log.
    pub log: Index,
    /// From how many entries on logs are compacted.
    pub compact: usize,
    /// How the wall clock behaves.
    pub wall: Wall,
    /// Whether who restarts has the identity of before. A mistake.
    pub same_identity: bool,
    /// Whether what is for an earlier life reaches the present one, which ought to drop it.
    pub answers_for_earlier: bool,
    /// Whether a life may follow a second group. A mistake.
    pub second_groups: bool,
    /// Whether nothing is left out that makes no difference: to test that it makes none.
    pub plain: bool,
    /// What happens before the search.
    pub script: &'static [Beginning],
    /// How many steps are taken after the script.
    pub steps: usize,
    /// States after which the search gives up.
    pub limit: usize,
}

impl Config {
    /// Returns wider bounds of the same kind, which take minutes and may not be exhausted.
    #[must_use]
    pub fn larger(self) -> Self {
        let more = |count: u8| if count == 0 { 0 } else { count + 1 };
        Self {
            crashes: more(self.crashes),
            abandons: more(self.abandons),
            draws: more(self.draws),
            terms: if self.terms == 1 { 1 } else { self.terms + 1 },
            log: self.log + 2,
            steps: self.steps.saturating_add(8),
            limit: 20_000_000,
            ..self
        }
    }
}

/// What happens before the search, on which host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Stands as a founder.
    Stand(usize),
    /// Creates the group.
    Found(usize),
    /// Everything that was sent is read, until nothing is left.
    Settle,
    /// Starts a round.
    Beat(usize),
    /// Opens the group.
    Open(usize),
    /// Asks the one on the second host for a token.
    Ask(usize, usize),
    /// Empties the seat of the one on the second host.
    Empty(usize, usize),
    /// Takes the one on the second host as a learner.
    Learn(usize, usize),
    /// Crashes, and another process starts.
    Crash(usize),
    /// Asks the one on the second host for the lock.
    Lock(usize, usize),
    /// Gives the lock back to the one on the second host.
    Release(usize, usize),
    /// Stands for election.
    Campaign(usize),
    /// As a leader does what is due of locks.
    Due(usize),
    /// What was sent to the two is read, until nothing is left; nobody else hears anything.
    Between(usize, usize),
    /// The clock moves on.
    Tick,
}

/// All hosts.
const ANYWHERE: &[usize] = &[0, 1, 2, 3, 4];

/// Nothing may happen.
pub(super) const NOTHING: Config = Config {
    name: "",
    about: "",
    seats: 3,
    surge: 0,
    observers: 0,
    terms: 1,
    stands: 0,
    founders: ANYWHERE,
    candidates: ANYWHERE,
    crashes: 0,
    crashers: ANYWHERE,
    abandons: 0,
    draws: 0,
    askers: ANYWHERE,
    changes: 0,
    rounds: 1,
    locks: 0,
    owners: ANYWHERE,
    releases: 0,
    copies: 0,
    ttl: 1,
    waiter_ttl: 1,
    drift: 0,
    ticks: 0,
    log: 64,
    compact: 1024,
    wall: Wall::Rises,
    same_identity: false,
    answers_for_earlier: false,
    second_groups: false,
    plain: false,
    script: &[],
    steps: usize::MAX,
    limit: 40_000_000,
};

use Beginning::{Ask, Beat, Crash, Empty, Found, Learn, Open, Settle, Stand, Tick};

/// A group of the first three hosts that grants.
const WORKING: &[Beginning] = &[Stand(0), Settle, Found(0), Settle, Open(0), Settle];

/// A working group of which the third host holds a token.
const HELD: &[Beginning] = &[
    Stand(0),
    Settle,
    Found(0),
    Settle,
    Open(0),
    Settle,
    Ask(2, 0),
    Settle,
];
const HELD_LATER: &[Beginning] = &[
    Stand(0),
    Settle,
    Found(0),
    Settle,
    Tick,
    Open(0),
    Settle,
    Ask(2, 0),
    Settle,
];

/// A group with two of three seats filled, of which the third host holds a token without having a seat.
const HELD_UNSEATED: &[Beginning] = &[
    Stand(0),
    Settle,
    Found(0),
    Settle,
    Open(0),
    Settle,
    Beat(0),
    Settle,
    Empty(0, 2),
    Settle,
    Crash(2),
    Ask(2, 0),
    Settle,
];

/// A group that grants, with two of three seats filled. The third host has a fresh process.
const TWO_OF_THREE: &[Beginning] = &[
    Stand(0),
    Settle,
    Found(0),
    Settle,
    Open(0),
    Settle,
    Beat(0),
    Settle,
    Empty(0, 2),
    Settle,
    Crash(2),
];

/// Every way in which a group begins, is led, ends and is followed by another.
const CONSENSUS: &[Config] = &[
    Config {
        name: "founding",
        about: "from nothing: two founders, a crash, an election",
        script: &[Stand(0)],
        stands: 1,
        crashes: 1,
        terms: 2,
        ..NOTHING
    },
    Config {
        name: "abandoning",
        about: "from nothing: two founders, an abandonment, an election",
        script: &[Stand(0)],
        stands: 1,
        abandons: 1,
        terms: 2,
        ..NOTHING
    },
    Config {
        name: "duel",
        about: "from nothing: two founders at once, and an election",
        script: &[Stand(0), Stand(1)],
        terms: 2,
        ..NOTHING
    },
    Config {
        name: "election",
        about: "inside one group: candidates, a token, lost and late messages",
        script: WORKING,
        terms: 3,
        draws: 1,
        askers: &[0],
        log: 5,
        ..NOTHING
    },
    Config {
        name: "earlier-terms",
        about: "inside one group: entries of earlier terms (Ongaro 2014, figure 3.7)",
        script: WORKING,
        terms: 4,
        draws: 1,
        askers: &[0],
        log: 4,
        candidates: &[0, 1],
        ..NOTHING
    },
    Config {
        name: "succession",
        about: "a working group loses its quorum, and restarted processes found another",
        script: HELD,
        stands: 1,
        crashes: 3,
        draws: 1,
        ticks: 1,
        log: 4,
        askers: &[0],
        ..NOTHING
    },
    Config {
        name: "unseated",
        about: "the same, and a process without a seat has asked for a token",
        script: HELD_UNSEATED,
        stands: 1,
        crashes: 2,
        draws: 1,
        ticks: 1,
        log: 5,
        askers: &[0],
        ..NOTHING
    },
    Config {
        name: "late-seat",
        about: "the same, and the new group seats it",
        script: HELD_UNSEATED,
        stands: 1,
        crashes: 2,
        draws: 1,
        askers: &[0],
        changes: 1,
        rounds: 2,
        log: 5,
        founders: &[0, 1],
        crashers: &[0, 1],
        steps: 18,
        ..NOTHING
    },
    Config {
        name: "refill",
        about: "a working group fills seats with restarted processes while they found another",
        script: TWO_OF_THREE,
        stands: 1,
        crashes: 3,
        changes: 1,
        rounds: 2,
        log: 5,
        founders: &[1],
        crashers: &[1, 2],
        steps: 20,
        ..NOTHING
    },
    Config {
        name: "seats",
        about: "two changes of seats, and an election; four may be alive",
        surge: 1,
        script: &[
            Stand(0),
            Settle,
            Found(0),
            Settle,
            Beat(0),
            Settle,
            Learn(0, 3),
            Settle,
        ],
        terms: 2,
        changes: 2,
        rounds: 3,
        log: 3,
        candidates: &[1],
        steps: 12,
        ..NOTHING
    },
    Config {
        name: "five",
        about: "five may be alive, three of five seats are filled, and the others found another group",
        seats: 5,
        script: &[
            Stand(0),
            Settle,
            Found(0),
            Settle,
            Open(0),
            Settle,
            Beat(0),
            Settle,
            Empty(0, 4),
            Settle,
            Beat(0),
            Settle,
            Empty(0, 3),
            Settle,
            Crash(4),
            Crash(3),
        ],
        stands: 1,
        crashes: 1,
        draws: 1,
        askers: &[0],
        log: 5,
        ..NOTHING
    },
    Config {
        name: "surge",
        about: "four may be alive: three votes and three copies make a group",
        surge: 1,
        script: &[Stand(0)],
        stands: 1,
        crashes: 1,
        ..NOTHING
    },
    Config {
        name: "surge-succession",
        about: "four may be alive: a working group loses its quorum, and others found another",
        surge: 1,
        script: HELD_LATER,
        stands: 1,
        crashes: 2,
        draws: 1,
        ticks: 1,
        log: 4,
        askers: &[0],
        ..NOTHING
    },
    Config {
        name: "surge-refill",
        about: "four may be alive: a working group fills a seat while others found another",
        surge: 1,
        script: &[
            Stand(0),
            Settle,
            Found(0),
            Settle,
            Tick,
            Open(0),
            Settle,
            Beat(0),
            Settle,
            Empty(0, 2),
            Settle,
            Crash(2),
        ],
        stands: 1,
        crashes: 1,
        draws: 1,
        askers: &[0],
        changes: 1,
        rounds: 2,
        log: 6,
        steps: 13,
        ..NOTHING
    },
    Config {
        name: "observers",
        about: "an observer holds a token of a group whose members restart",
        observers: 1,
        script: &[
            Stand(0),
            Settle,
            Found(0),
            Settle,
            Tick,
            Open(0),
            Settle,
            Ask(3, 0),
            Settle,
        ],
        stands: 1,
        crashes: 3,
        draws: 1,
        askers: &[0],
        ticks: 1,
        log: 4,
        ..NOTHING
    },
    Config {
        name: "still-clock",
        about: "a group is abandoned and founded anew while the wall clock stands still",
        script: WORKING,
        stands: 1,
        abandons: 3,
        draws: 2,
        askers: &[0],
        ticks: 1,
        log: 3,
        wall: Wall::Stands,
        ..NOTHING
    },
    Config {
        name: "snapshots",
        about: "a seat is filled by a snapshot, and its process is elected",
        script: TWO_OF_THREE,
        compact: 2,
        draws: 2,
        askers: &[0],
        changes: 1,
        rounds: 2,
        log: 7,
        ..NOTHING
    },
];

/// All configs.
pub fn configs() -> impl Iterator<Item = &'static Config> {
    CONSENSUS.iter().chain(locks::ALL)
}
