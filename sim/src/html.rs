//! A run as one page for a browser: `run.html`.
//!
//! The page has everything in it and loads nothing: its policy forbids that. Whatever came from the run (names, payloads,
//! texts) is data that the page shows as text, never markup.
//!
//! ```
//! use quorate_sim::{Duration, Recording, Sim, html};
//!
//! let mut sim = Sim::builder().seed(42).hosts(3).observer(Recording::new(20_000)).build();
//! sim.run_for(Duration::from_secs(5));
//! let recording = sim.observer::<Recording>().expect("it was given to the builder");
//! let about = html::About { title: "three members", seed: 42, trace_hash: sim.trace_hash(), ..html::About::default() };
//! let page = html::page(recording, &about);
//! assert!(page.starts_with("<!doctype html>"));
//! ```

mod json;
#[cfg(test)]
mod tests;

use crate::fault::{FaultKind, Host};
use crate::observe::{Fate, Provenance, Violation};
use crate::recording::{Belief, Change, Class, Ending, Flight, Life, News, Recording};
use crate::world::NodeIndex;
use json::Json;
use quorate_core::Role;

const VIEWER: &str = include_str!("html/viewer.html");
const STYLE: &str = include_str!("html/viewer.css");
/// One module, in parts.
const SCRIPT: [&str; 5] = [
    include_str!("html/model.js"),
    include_str!("html/lanes.js"),
    include_str!("html/picture.js"),
    include_str!("html/panel.js"),
    include_str!("html/viewer.js"),
];

/// What a page says about its run besides what was recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The heading.
    pub title: &'a str,
    /// The seed of the run.
    pub seed: u64,
    /// See [`Sim::trace_hash`](crate::Sim::trace_hash).
    pub trace_hash: u64,
    /// The schedule as text, to be shown and copied; empty if there is none.
    pub schedule: &'a str,
    /// What went wrong.
    pub violations: &'a [Violation],
}

/// Returns the page. The same recording gives the same page, byte for byte.
pub fn page(recording: &Recording, about: &About<'_>) -> String {
    let data = data(recording, about);
    let mut page = String::with_capacity(data.len() + 100_000);
    // The parts of the viewer name their places; the data comes last, and nothing looks for places in it.
    let (before, rest) = split(VIEWER, "/*STYLE*/");
    let (between, rest) = split(rest, "/*DATA*/");
    let (behind, after) = split(rest, "/*SCRIPT*/");
    page.push_str(before);
    page.push_str(STYLE);
    page.push_str(between);
    page.push_str(&data);
    page.push_str(behind);
    SCRIPT.iter().for_each(|part| page.push_str(part));
    page.push_str(after);
    page
}

/// A place that is missing is noticed by the first test.
fn split<'a>(text: &'a str, place: &str) -> (&'a str, &'a str) {
    text.split_once(place).unwrap_or((text, ""))
}

/// The data of the page: one JSON object. Times are in nanoseconds, at most 2^53; -1 stands for none.
fn data(recording: &Recording, about: &About<'_>) -> String {
    let mut json = Json::new();
    json.open('{');
    json.key("title").text(about.title);
    json.key("seed").text(&format!("{:#x}", about.seed));
    json.key("traceHash").text(&format!("{:016x}", about.trace_hash));
    json.key("schedule").text(about.schedule);
    json.key("end").time(recording.end);
    json.key("hosts").number(recording.hosts as u64);
    let names = [
        ("outcomes", &Ending::NAMES[..]),
        ("classes", &Class::NAMES[..]),
        ("kinds", &KINDS[..]),
        ("fates", &FATES[..]),
        ("provenances", &PROVENANCES[..]),
    ];
    for (key, names) in names {
        json.key(key).list(names, |json, name| {
            json.text(name);
        });
    }
    json.key("leftOut").open('{');
    json.key("datagrams").number(recording.flights.left_out());
    json.key("happenings").number(recording.happenings.left_out());
    json.key("happenings of messages")
        .number(recording.traffic.left_out());
    json.key("changes").number(recording.changes.left_out());
    json.key("faults").number(recording.bands.left_out());
    json.key("locks").number(recording.locks.left_out());
    json.close('}');
    json.key("violations").list(about.violations, violation);
    json.key("lives").list(&recording.lives, life);
    json.key("faults").list(recording.bands.iter(), |json, band| {
        json.open('[').time(band.began).maybe_time(band.ended);
        json.text(&band.kind.to_string());
        let hosts = (0..recording.hosts).map(Host);
        let touched = hosts.filter(|&host| touches(&band.kind, host));
        json.list(touched, |json, host| {
            json.number(host.0 as u64);
        });
        json.close(']');
    });
    json.key("pauses").list(recording.pauses.iter(), |json, pause| {
        json.open('[').number(pause.node.0 as u64);
        json.time(pause.from).maybe_time(pause.to).close(']');
    });
    json.key("locks").list(recording.locks.iter(), |json, band| {
        json.open('[').time(band.from).maybe_time(band.to);
        json.number(band.node.0 as u64).flag(band.believed);
        // A token has more digits than a number of JavaScript.
        json.text(&band.key).text(&band.token.to_string()).close(']');
    });
    json.key("changes").list(recording.changes.iter(), change);
    let happenings = recording.happenings.iter().chain(recording.traffic.iter());
    json.key("happenings").list(happenings, |json, it| {
        json.open('[').time(it.at).maybe(it.node.map(|node| node.0));
        json.number(it.class as u64).text(&it.label).text(&it.detail);
        json.close(']');
    });
    json.key("flights").list(recording.flights.iter(), flight);
    json.close('}');
    json.finish()
}

/// The kinds of datagrams by their second byte, see `docs/wire.md`; the last one is for all other bytes.
const KINDS: [&str; 6] = ["HELLO", "CHALLENGE", "M1", "M2", "sealed", "other"];
const FATES: [&str; 5] = [
    "arrives",
    "waits behind a clog",
    "lost by chance",
    "the way is cut",
    "too long for the way",
];
const PROVENANCES: [&str; 5] = [
    "as sent",
    "a copy that the network made",
    "altered on the way",
    "recorded and sent again",
    "forged",
];

fn violation(json: &mut Json, violation: &Violation) {
    json.open('[').time(violation.at);
    json.text(violation.by).text(&violation.what).close(']');
}

fn life(json: &mut Json, (node, life): (&NodeIndex, &Life)) {
    json.open('{');
    json.key("node").number(node.0 as u64);
    json.key("host").number(life.host.0 as u64);
    json.key("label").text(&life.label);
    json.key("name").text(&life.name);
    json.key("id").text(&life.id);
    json.key("addr").text(&life.addr);
    json.key("observer").flag(life.role == Role::Observer);
    json.key("member").flag(life.member);
    json.key("started").time(life.started);
    json.key("leaving").maybe_time(life.leaving);
    json.key("ended").maybe_time(life.ended);
    // The view before the first change, as changes at the beginning.
    json.key("view").list(view(*node, life), change);
    json.close('}');
}

fn view(node: NodeIndex, life: &Life) -> Vec<Change> {
    let listed = life.before.listed.iter();
    let listed = listed.map(|(&about, &belief)| News::Listed(about, belief));
    let news = listed.chain([News::Quorum(life.before.quorum)]);
    let at = life.started;
    news.map(|news| Change { at, node, news }).collect()
}

/// Time, whose view, about whom (about oneself: the quorum), and what.
fn change(json: &mut Json, change: impl std::borrow::Borrow<Change>) {
    let change = change.borrow();
    let (about, what) = match change.news {
        News::Unlisted(about) => (about, 0),
        News::Listed(about, Belief::Alive) => (about, 1),
        News::Listed(about, Belief::Suspect) => (about, 2),
        News::Quorum(None) => (change.node, 0),
        News::Quorum(Some(true)) => (change.node, 1),
        News::Quorum(Some(false)) => (change.node, 2),
    };
    json.open('[').time(change.at).number(change.node.0 as u64);
    json.number(about.0 as u64).number(what).close(']');
}

fn flight(json: &mut Json, flight: &Flight) {
    let datagram = &flight.datagram;
    json.open('[').time(flight.sent);
    json.maybe_time(flight.arrival.as_ref().map(|arrival| arrival.at));
    json.maybe(flight.from.map(|host| host.0));
    json.maybe(flight.to.map(|host| host.0));
    json.number(kind(datagram.head)).number(flight.outcome() as u64);
    json.number(datagram.number).number(datagram.len as u64);
    json.maybe(datagram.sender.map(|node| node.0));
    let receiver = flight.arrival.as_ref().and_then(|arrival| arrival.node);
    json.maybe(receiver.map(|node| node.0));
    json.number(match datagram.provenance {
        Provenance::Original => 0,
        Provenance::Duplicate => 1,
        Provenance::Altered => 2,
        Provenance::Replayed => 3,
        Provenance::Foreign => 4,
    });
    json.number(match flight.fate {
        Fate::Arrives(_) => 0,
        Fate::Waits => 1,
        Fate::Lost => 2,
        Fate::Cut => 3,
        Fate::TooLong => 4,
    });
    json.text(&datagram.from.to_string())
        .text(&datagram.to.to_string());
    let note = flight.arrival.as_ref().filter(|arrival| arrival.node.is_some());
    json.text(&note.map_or_else(String::new, |arrival| {
        let mut notes = Vec::new();
        if arrival.again {
            notes.push("a copy had reached this process before".to_owned());
        }
        if !arrival.dropped.is_empty() {
            let names: Vec<_> = arrival.dropped.iter().map(|reason| reason.name()).collect();
            notes.push(format!("dropped: {}", names.join(", ")));
        } else if arrival.opened {
            notes.push("taken".to_owned());
        }
        notes.join("; ")
    }));
    json.close(']');
}

fn kind(head: [u8; 2]) -> u64 {
    match head {
        [0x70 | 0x71 | 0x7f, kind @ 1..=5] => u64::from(kind) - 1,
        _ => 5,
    }
}

/// Returns whether a fault is about a host, or about the ways from or to it.
fn touches(kind: &FaultKind, host: Host) -> bool {
    match *kind {
        FaultKind::Loss { from, to, .. }
        | FaultKind::BurstLoss { from, to, .. }
        | FaultKind::Duplicate { from, to, .. }
        | FaultKind::Delay { from, to, .. }
        | FaultKind::Reorder { from, to, .. }
        | FaultKind::Corrupt { from, to, .. }
        | FaultKind::OneWay { from, to }
        | FaultKind::Clog { from, to }
        | FaultKind::Mtu { from, to, .. } => from.contains(host) || to.contains(host),
        FaultKind::Rebind { host: of }
        | FaultKind::Crash { host: of }
        | FaultKind::Pause { host: of }
        | FaultKind::Slow { host: of, .. }
        | FaultKind::Leave { host: of }
        | FaultKind::Unread { host: of }
        | FaultKind::Drift { host: of, .. }
        | FaultKind::Jump { host: of, .. }
        | FaultKind::Freeze { host: of }
        | FaultKind::Wall { host: of, .. } => of == host,
        _ => true,
    }
}
