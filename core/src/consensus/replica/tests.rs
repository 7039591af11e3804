//! The protocol as texts: `tests/traces/*.txt`, in the language of `tests/script.rs`.
//!
//! `QUORATE_BLESS=1 cargo test -p quorate-core --all-features traces` writes them anew; read the difference.

mod full;
mod hostile;
mod late;
#[cfg(feature = "planted-bugs")]
mod planted;
mod script;
mod succession;
mod units;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/consensus/replica/tests/traces"
    ))
}

fn path(name: &str) -> PathBuf {
    folder().join(format!("{name}.txt"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn check(name: &str) {
    let expected = read(name);
    let happened = script::run(&expected);
    if std::env::var_os("QUORATE_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path(name), happened).unwrap();
        return;
    }
    let (mut written, mut seen) = (expected.lines(), happened.lines());
    for line in 1.. {
        match (written.next(), seen.next()) {
            (None, None) => break,
            (a, b) => assert!(
                a == b,
                "{name}.txt, line {line}:\n  written: {a:?}\n  happens: {b:?}"
            ),
        }
    }
}

macro_rules! traces {
    ($($name:ident,)+) => {
        mod traces {
            $(
                #[test]
                fn $name() {
                    super::check(stringify!($name));
                }
            )+
        }
        const TRACES: &[&str] = &[$(stringify!($name),)+];
    };
}

traces! {
    abandon,
    addressed,
    change_needs_own_term,
    change_needs_round,
    close,
    commit_own_term,
    compaction,
    duel,
    duplicates,
    election,
    five_with_surge,
    floors,
    floors_of_the_unseated,
    found_refused,
    founding,
    founding_needs,
    founding_with_one_missing,
    grace,
    learner,
    log_repair,
    no_skip,
    no_skip_observers,
    no_skip_surge,
    no_skip_unacknowledged,
    one,
    one_change,
    refill,
    removed,
    rounds_of_the_empty,
    rounds_of_the_empty_by_snapshot,
    seat_rolled_back,
    snapshot_pieces,
    surplus_voters,
    tokens_of_founders,
    transfer,
    votes,
}

#[test]
fn every_trace_is_checked() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().to_string()
        })
        .collect();
    let checked: Vec<&str> = TRACES.to_vec();
    assert_eq!(files, checked.iter().map(ToString::to_string).collect());
}
