//! A cache with invalidation, with a bug that the simulator finds, and without it.
//!
//! Every process keeps values of a database in memory. Who writes a value tells all others to forget theirs. That looks
//! right, and passes every test on a quiet network; run this example to see what it comes to on a bad one:
//!
//! ```text
//! cargo run --release -p quorate-sim --example cache
//! ```
//!
//! The application is a state machine without I/O ([`App`]): it is told what happens, and acts through its [`Cx`]. The
//! simulator runs one on each host of a drawn [`Schedule`], lets the network and the processes fail in every way that it
//! knows, heals everything, and asks whether anybody still holds an old value.

use quorate_sim::{App, Cx, Draw, Duration, Event, Instant, Message, NodeId, Schedule, Sim, Target};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const KEYS: u64 = 8;
/// How often a process does something; the database takes as long to answer.
const PACE: Duration = Duration::from_millis(50);
/// The word to forget every key.
const EVERYTHING: &[u8] = b"everything";
const CHAOS: Duration = Duration::from_secs(60);

/// The database: elsewhere, always there, always right. The value of a key is the number of its last write.
type Database = Rc<RefCell<BTreeMap<u64, u64>>>;

/// How careful a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    /// It forgets a key when it is told to, and tells everybody once.
    Naive,
    /// It also throws away what it fetched before its key was written.
    LateFetches,
    /// It also makes up for words that were lost: whoever comes (back) is told to forget everything, whoever could not
    /// be told something is told again, and when somebody goes, everything is forgotten that he could have spoken of.
    LostWords,
}

/// One process's cache.
struct Cache {
    database: Database,
    care: Care,
    cached: BTreeMap<u64, u64>,
    /// The key that is being fetched, and the value that is on its way from the database.
    fetching: Option<(u64, u64)>,
    /// Whether that key was written meanwhile.
    spoiled: bool,
    /// Whom to tell once more to forget everything.
    owed: BTreeSet<NodeId>,
    owed_to_all: bool,
}

impl Cache {
    const fn new(database: Database, care: Care) -> Self {
        Self {
            database,
            care,
            cached: BTreeMap::new(),
            fetching: None,
            spoiled: false,
            owed: BTreeSet::new(),
            owed_to_all: false,
        }
    }

    /// Reads or writes something.
    fn act(&mut self, cx: &mut Cx<'_>) {
        let key = cx.random() % KEYS;
        if cx.random().is_multiple_of(10) {
            *self.database.borrow_mut().entry(key).or_default() += 1;
            self.forget(Some(key));
            self.owed_to_all |= !tell(cx, Target::All, &key.to_be_bytes());
        } else if !self.cached.contains_key(&key) {
            // The database looks now, and its answer takes its time.
            let value = self.database.borrow().get(&key).copied().unwrap_or_default();
            self.fetching = Some((key, value));
            self.spoiled = false;
        }
    }

    /// Forgets a key, or everything.
    fn forget(&mut self, key: Option<u64>) {
        match key {
            Some(key) => drop(self.cached.remove(&key)),
            None => self.cached.clear(),
        }
        self.spoiled |= self
            .fetching
            .is_some_and(|(fetched, _)| key.is_none_or(|key| key == fetched));
    }

    /// Makes up for what could not be said.
    fn repeat(&mut self, cx: &mut Cx<'_>) {
        if self.owed_to_all && tell(cx, Target::All, EVERYTHING) {
            self.owed_to_all = false;
        }
        self.owed
            .retain(|&peer| !tell(cx, Target::Node(peer), EVERYTHING));
    }
}

/// Tells somebody to forget something; returns whether that is under way.
fn tell(cx: &mut Cx<'_>, to: Target, what: &[u8]) -> bool {
    let patience = Some(cx.now() + Duration::from_secs(600));
    cx.send(to, what.to_vec(), patience).is_ok()
}

impl App for Cache {
    fn start(&mut self, cx: &mut Cx<'_>) {
        cx.set_timer_in(PACE);
    }

    fn timeout(&mut self, cx: &mut Cx<'_>) {
        if let Some((key, value)) = self.fetching.take() {
            if !self.spoiled || self.care == Care::Naive {
                self.cached.insert(key, value);
            }
        } else if cx.true_time() < Instant::ZERO + CHAOS {
            self.act(cx);
        }
        self.repeat(cx);
        cx.set_timer_in(PACE);
    }

    fn event(&mut self, _: &mut Cx<'_>, event: Event) {
        if self.care != Care::LostWords {
            return;
        }
        match event {
            Event::MemberJoined(member) => drop(self.owed.insert(member.id)),
            Event::MemberLeft { member, .. } => {
                self.owed.remove(&member.id);
                self.forget(None);
            }
            Event::SendDone {
                to, result: Err(_), ..
            } => match to {
                Some(peer) => drop(self.owed.insert(peer)),
                None => self.owed_to_all = true,
            },
            _ => {}
        }
    }

    fn message(&mut self, cx: &mut Cx<'_>, message: Message) {
        match <[u8; 8]>::try_from(&message.payload[..]) {
            Ok(key) => self.forget(Some(u64::from_be_bytes(key))),
            Err(_) if message.payload == EVERYTHING => self.forget(None),
            Err(_) => cx.fail("an invalidation of neither a key nor everything"),
        }
    }
}

/// Runs one seed: chaos, healing, some time for what is under way; then nobody may hold an old value.
fn run(seed: u64, care: Care) -> Result<(), String> {
    let options = Draw {
        chaos: CHAOS,
        ..Draw::default()
    };
    let database = Database::default();
    let theirs = Rc::clone(&database);
    let mut sim = Sim::builder()
        .schedule(Schedule::draw(seed, &options))
        .build_with(move |_| Cache::new(Rc::clone(&theirs), care));
    sim.run_for(CHAOS);
    sim.heal();
    sim.run_for(Duration::from_secs(90));
    let database = database.borrow();
    for (node, cache) in sim.apps() {
        for (key, value) in &cache.cached {
            let last = database.get(key).copied().unwrap_or_default();
            if *value != last {
                return Err(format!(
                    "{node} holds write {value} of key {key}; the last was {last}"
                ));
            }
        }
    }
    Ok(())
}

/// How many of the first seeds show an old value, and what the first of them says.
fn survey(seeds: u64, care: Care) -> (usize, Option<String>) {
    let found: Vec<_> = (0..seeds)
        .filter_map(|seed| Some(format!("seed {seed:#x}: {}", run(seed, care).err()?)))
        .collect();
    (found.len(), found.into_iter().next())
}

fn main() {
    const SEEDS: u64 = 50;
    for care in [Care::Naive, Care::LateFetches, Care::LostWords] {
        let (count, first) = survey(SEEDS, care);
        println!("{care:?}: {count} of {SEEDS} seeds end with an old value in a cache");
        if let Some(first) = first {
            println!("    {first}");
        }
    }
}

// In a project of yours this is all that a test needs.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_careful_cache_never_keeps_an_old_value() {
        quorate_sim::check(|seed| run(seed, Care::LostWords));
    }

    #[test]
    fn the_simulator_finds_both_bugs() {
        for care in [Care::Naive, Care::LateFetches] {
            let found = (0..100).any(|seed| run(seed, care).is_err());
            assert!(found, "{care:?}");
        }
    }
}
