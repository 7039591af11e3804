//! Named schedules, written by hand. Each text in `sim/scenarios/` says what it shows, and what must hold.

#[cfg(test)]
mod tests;

use super::Schedule;

/// A named schedule, written by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name, such as `split-halves`.
    pub name: &'static str,
    /// What it shows and what must hold, for people: lines without a line break at the end.
    pub about: String,
    /// The schedule.
    pub schedule: Schedule,
}

macro_rules! texts {
    ($($name:literal,)+) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".txt")))),+]
    };
}

const TEXTS: &[(&str, &str)] = texts![
    "calm",
    "split-halves",
    "isolate-one",
    "ring-of-majorities",
    "bridge",
    "one-way-deaf",
    "one-way-mute",
    "clogged-link",
    "mtu-1100",
    "mtu-of-nothing",
    "lossy-30",
    "burst-loss",
    "reorder-and-duplicate",
    "corruption",
    "late-replay",
    "rolling-update",
    "rolling-update-slow",
    "lost-quorum",
    "lost-quorum-without-one",
    "total-restart",
    "split-brain-attempt",
    "surge",
    "stranger-of-each-kind",
    "rotation-under-loss",
    "crash-everyone-in-turn",
    "instant-restart",
    "blackout-wall-back",
    "wall-clocks-behind",
    "paused-node-returns",
    "ghost",
    "frozen-clock",
    "fast-clock",
    "jumping-clock",
    "nat-rebind",
    "moved-unseen",
    "dns-dead-from-start",
    "dns-empty-after-split",
    "dns-in-all-its-moods",
    "slow-reader",
    "slow-process",
    "flapping",
    "long-delay",
    "answers-come-late",
    "observers",
    "observer-meets-stranger-first",
    "quarantine-by-hearsay",
    "stranger-starts-first",
    "leader-hands-over-slowly",
    "paused-then-clock-jumps",
    "paused-without-a-direct-way",
    "large-messages",
];

/// Returns all scenarios, from the plainest to the strangest.
pub fn all() -> impl Iterator<Item = Scenario> {
    TEXTS.iter().map(|&(name, text)| read(name, text))
}

/// Returns the scenario of this name.
pub fn find(name: &str) -> Option<Scenario> {
    let &(name, text) = TEXTS.iter().find(|(known, _)| *known == name)?;
    Some(read(name, text))
}

fn read(name: &'static str, text: &str) -> Scenario {
    // The comment at the top is what the scenario is about.
    let about = text
        .lines()
        .map_while(|line| line.strip_prefix('#'))
        .map(str::trim);
    Scenario {
        name,
        about: about.collect::<Vec<_>>().join("\n"),
        schedule: text.parse().expect("a test reads every one of them"),
    }
}
