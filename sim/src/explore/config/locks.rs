//! Searches over leases: one lock, two who want it, and a clock. Each is about one part of a lease's life: what goes
//! wrong without a rule needs only one of them, and all at once would be too many states.

use super::Beginning::{
    Beat, Between, Campaign, Crash, Due, Empty, Found, Lock, Open, Release, Settle, Stand, Tick,
};
use super::{Config, NOTHING};

/// What most of them have in common: a lease of two ticks, and waiters who may be silent for one.
const LOCKS: Config = Config {
    ttl: 2,
    waiter_ttl: 1,
    rounds: 3,
    ..NOTHING
};

/// A group with two of three seats filled; the third host has a process without a seat. What one leader does about
/// leases is the same, and there are fewer orders in which entries can be stored. After two rounds.
macro_rules! two_of_three {
    ($($then:expr),*) => {
        &[
            Stand(0), Settle, Found(0), Settle, Open(0), Settle, Beat(0), Settle, Empty(0, 2), Settle, Crash(2),
            $($then),*
        ]
    };
}

/// A working group of three, and what happens in it.
macro_rules! working {
    ($($then:expr),*) => {
        &[Stand(0), Settle, Found(0), Settle, Open(0), Settle, $($then),*]
    };
}

/// All of them.
pub(super) const ALL: &[Config] = &[
    Config {
        name: "locks-grant",
        about: "one leader: a lock was asked for, and the grant may come late or never",
        script: two_of_three![Lock(2, 0)],
        locks: 1,
        owners: &[0],
        ticks: 2,
        log: 6,
        ..LOCKS
    },
    Config {
        name: "locks-renewal",
        about: "one leader: a lease is renewed, ends, and another begins",
        script: two_of_three![Lock(2, 0), Settle],
        locks: 1,
        owners: &[0],
        ticks: 2,
        log: 7,
        ..LOCKS
    },
    Config {
        name: "locks-release",
        about: "one leader: the lock is given back and taken by another, and what is asked arrives twice",
        script: two_of_three![Lock(2, 0), Settle],
        locks: 1,
        owners: &[0],
        releases: 1,
        copies: 1,
        rounds: 2,
        log: 8,
        ..LOCKS
    },
    Config {
        name: "locks-late-copy",
        about: "one leader: the lock is taken and given back, and what is asked arrives twice",
        script: two_of_three![Lock(2, 0)],
        releases: 1,
        copies: 1,
        rounds: 2,
        log: 7,
        ..LOCKS
    },
    Config {
        name: "locks-queue",
        about: "one leader: its own lock is given back, and somebody waits",
        script: two_of_three![Lock(0, 0), Settle, Lock(2, 0), Settle],
        owners: &[],
        releases: 1,
        ticks: 3,
        log: 9,
        steps: 12,
        ..LOCKS
    },
    Config {
        name: "locks-drift",
        about: "one leader whose clock is fast by half, a holder whose clock is slow by half",
        script: two_of_three![Lock(2, 0), Settle],
        locks: 1,
        owners: &[0],
        ttl: 3,
        drift: 500,
        ticks: 3,
        log: 7,
        rounds: 2,
        ..LOCKS
    },
    Config {
        name: "locks-election",
        about: "the lock is held, and another leader is elected",
        script: working![Lock(2, 0), Settle],
        terms: 2,
        candidates: &[1],
        ticks: 1,
        rounds: 1,
        log: 4,
        ..LOCKS
    },
    Config {
        name: "locks-deposed",
        about: "the lock is held, another leader serves, and the one before it does not know",
        script: working![Lock(2, 0), Settle, Campaign(1), Between(1, 2)],
        locks: 1,
        owners: &[1],
        terms: 2,
        candidates: &[],
        ticks: 2,
        rounds: 2,
        log: 6,
        steps: 10,
        ..LOCKS
    },
    Config {
        name: "locks-own-term",
        about: "a lease whose grant was lost has ended, another begins, and so does another leader",
        script: working![Lock(2, 0), Between(0, 1), Tick, Tick, Due(0)],
        locks: 1,
        owners: &[0],
        terms: 2,
        candidates: &[1],
        ticks: 2,
        rounds: 1,
        log: 6,
        steps: 15,
        ..LOCKS
    },
    Config {
        name: "locks-later-signs",
        about: "a lock was given back while somebody waits, and another leader is elected",
        script: working![Lock(0, 0), Settle, Lock(2, 0), Settle, Release(0, 0)],
        terms: 2,
        candidates: &[1],
        ticks: 2,
        rounds: 1,
        log: 7,
        steps: 13,
        ..LOCKS
    },
    Config {
        name: "locks-succession",
        about: "the holder's group loses its quorum, and restarted processes found another",
        script: working![Lock(2, 0), Settle],
        locks: 1,
        owners: &[0],
        stands: 1,
        founders: &[0],
        crashes: 2,
        crashers: &[0, 1],
        abandons: 1,
        ttl: 1,
        ticks: 1,
        rounds: 1,
        log: 4,
        ..LOCKS
    },
];
