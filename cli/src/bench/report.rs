//! What a benchmark found, case by case.

use super::histogram::Spread;
use super::locks;
use super::protocol::Slice;
use crate::output::{Table, json_line, round};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// One finding. The field names are part of the command's interface: `docs/benchmarks.md` explains each.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "case", rename_all = "snake_case")]
pub(crate) enum Case {
    Request(Request),
    Broadcast(Broadcast),
    Join(Join),
    Skipped(Skipped),
    Idle(Idle),
    Virtual(Virtual),
    /// Says its case by itself.
    #[serde(untagged)]
    Locks(locks::Finding),
}

/// Requests to one member, beside bare sockets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Request {
    pub(crate) size: usize,
    pub(crate) in_flight: usize,
    /// Injected loss of each node's outgoing datagrams, in percent.
    pub(crate) loss: f64,
    pub(crate) median_us: f64,
    pub(crate) median_us_min: f64,
    pub(crate) median_us_max: f64,
    pub(crate) p99_us: f64,
    pub(crate) per_second: f64,
    pub(crate) per_second_min: f64,
    pub(crate) per_second_max: f64,
    pub(crate) errors: u64,
    pub(crate) floor_median_us: f64,
    pub(crate) floor_median_us_min: f64,
    pub(crate) floor_median_us_max: f64,
    pub(crate) floor_p99_us: f64,
    pub(crate) floor_per_second: f64,
    pub(crate) floor_per_second_min: f64,
    pub(crate) floor_per_second_max: f64,
    /// `median_us / floor_median_us`.
    pub(crate) ratio: f64,
    /// `floor_per_second / per_second`.
    pub(crate) rate_ratio: f64,
    /// The same requests without loss, measured in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loss_free_per_second: Option<f64>,
    /// `per_second / loss_free_per_second`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) of_loss_free: Option<f64>,
}

impl Request {
    /// Sums up slices that were taken in turns. `loss_free` is empty where nothing was lost on purpose.
    ///
    /// `None` if there are none.
    pub(crate) fn new(
        (size, in_flight, loss): (usize, usize, f64),
        slices: &[Slice],
        floor: &[Slice],
        loss_free: &[Slice],
    ) -> Option<Self> {
        let spread =
            |slices: &[Slice], of: fn(&Slice) -> f64, digits| Spread::of(slices.iter().map(of), digits);
        let median = spread(slices, |slice| slice.median_us, 1)?;
        let rate = spread(slices, |slice| slice.per_second, 0)?;
        let floor_median = spread(floor, |slice| slice.median_us, 1)?;
        let floor_rate = spread(floor, |slice| slice.per_second, 0)?;
        let loss_free = spread(loss_free, |slice| slice.per_second, 0).map(|rate| rate.median);
        Some(Self {
            size,
            in_flight,
            loss,
            median_us: median.median,
            median_us_min: median.min,
            median_us_max: median.max,
            p99_us: spread(slices, |slice| slice.p99_us, 1)?.median,
            per_second: rate.median,
            per_second_min: rate.min,
            per_second_max: rate.max,
            errors: slices.iter().map(|slice| slice.errors).sum(),
            floor_median_us: floor_median.median,
            floor_median_us_min: floor_median.min,
            floor_median_us_max: floor_median.max,
            floor_p99_us: spread(floor, |slice| slice.p99_us, 1)?.median,
            floor_per_second: floor_rate.median,
            floor_per_second_min: floor_rate.min,
            floor_per_second_max: floor_rate.max,
            ratio: round(median.median / floor_median.median, 2),
            rate_ratio: round(floor_rate.median / rate.median, 2),
            loss_free_per_second: loss_free,
            of_loss_free: loss_free.map(|free| round(rate.median / free, 2)),
        })
    }
}

/// Broadcasts from one member to all others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Broadcast {
    pub(crate) size: usize,
    /// Broadcasts a second that were asked for; 0 is as many as possible.
    pub(crate) paced: u32,
    /// Messages, one for each broadcast and receiver.
    pub(crate) sent: u64,
    /// Acknowledged messages.
    pub(crate) delivered: u64,
    /// `sent - delivered`.
    pub(crate) lost: u64,
    /// Messages that the receiving applications have read.
    pub(crate) received: u64,
    /// Pieces of messages that were sent more than once.
    pub(crate) retransmits: u64,
    /// Broadcasts a second.
    pub(crate) per_second: f64,
    pub(crate) per_second_min: f64,
    pub(crate) per_second_max: f64,
    /// From the call to the last acknowledgement.
    pub(crate) median_us: f64,
    pub(crate) p99_us: f64,
}

/// One more node joins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Join {
    pub(crate) nodes: u8,
    pub(crate) repeats: usize,
    /// From the start of the node until all nodes list each other.
    pub(crate) median_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) max_ms: f64,
}

/// Something that this build or machine cannot measure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) why: &'static str,
}

/// Real nodes with nothing to do. Each figure is of one node: the mean of all, and the worst.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Idle {
    pub(crate) nodes: u8,
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) memory: Option<Memory>,
    /// Processor time, in percent of one core.
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) cpu_percent_max: Option<f64>,
    pub(crate) datagrams_per_second: f64,
    pub(crate) datagrams_per_second_max: f64,
    /// Bytes of UDP payload sent.
    pub(crate) bytes_per_second: f64,
    pub(crate) bytes_per_second_max: f64,
}

/// The memory of a whole process, and of the same process before it had a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    pub(crate) rss_kib_max: u64,
    pub(crate) pss_kib: Option<u64>,
    pub(crate) pss_kib_max: Option<u64>,
    pub(crate) rss_without_node_kib: u64,
}

/// Nodes in virtual time with nothing to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Virtual {
    pub(crate) nodes: u16,
    pub(crate) seconds: f64,
    pub(crate) datagrams_per_second: f64,
    pub(crate) datagrams_per_second_max: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) bytes_per_second_max: f64,
    /// Simulated seconds in a second of the wall clock.
    pub(crate) speed: f64,
}

/// The circumstances under which all cases of a run were measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) bench: &'static str,
    pub(crate) version: &'static str,
    pub(crate) runtime: &'static str,
    pub(crate) nodes: u16,
    pub(crate) seconds: u32,
    /// Whether all nodes share one process.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub(crate) in_process: bool,
    pub(crate) cpus: usize,
}

impl Setup {
    pub(crate) fn new(bench: &'static str, runtime: &'static str, nodes: u16, seconds: u32) -> Self {
        Self {
            bench,
            version: env!("CARGO_PKG_VERSION"),
            runtime,
            nodes,
            seconds,
            in_process: false,
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }
}

#[derive(Serialize)]
struct CaseLine<'a> {
    bench: &'static str,
    #[serde(flatten)]
    case: &'a Case,
}

#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    #[serde(flatten)]
    setup: &'a Setup,
    cases: &'a [CaseLine<'a>],
}

/// Collects the findings of a run: as JSON lines at once, or as tables at the end.
pub(crate) struct Reporter<'a> {
    setup: Setup,
    json: bool,
    cases: Vec<Case>,
    out: &'a mut dyn Write,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(setup: Setup, json: bool, out: &'a mut dyn Write) -> Self {
        Self {
            setup,
            json,
            cases: Vec::new(),
            out,
        }
    }

    /// Tells a person who watches what is going on. Never part of the report.
    pub(crate) fn progress(&self, what: &str) {
        if !self.json && io::stderr().is_terminal() {
            eprintln!("measuring {what} ...");
        }
    }

    pub(crate) fn add(&mut self, case: Case) -> anyhow::Result<()> {
        if self.json {
            let line = CaseLine {
                bench: self.setup.bench,
                case: &case,
            };
            json_line(self.out, &line)?;
        }
        self.cases.push(case);
        Ok(())
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        if !self.json {
            return self.tables();
        }
        let bench = self.setup.bench;
        let cases: Vec<_> = self.cases.iter().map(|case| CaseLine { bench, case }).collect();
        let summary = Summary {
            event: "summary",
            setup: &self.setup,
            cases: &cases,
        };
        json_line(self.out, &summary)
    }

    fn tables(self) -> anyhow::Result<()> {
        let Setup {
            bench,
            version,
            runtime,
            nodes,
            seconds,
            in_process,
            cpus,
        } = &self.setup;
        let place = if *in_process { " in one process" } else { "" };
        writeln!(
            self.out,
            "quorate {version}, bench {bench}: {nodes} nodes{place}, {runtime}, {seconds} s a case, {cpus} processors"
        )?;
        for family in Family::ALL {
            let mut table = Table::new(family.header());
            let rows: Vec<_> = self.cases.iter().filter_map(|case| family.row(case)).collect();
            if rows.is_empty() {
                continue;
            }
            rows.into_iter().for_each(|row| table.row(row));
            writeln!(self.out)?;
            table.print(self.out)?;
        }
        for case in &self.cases {
            if let Case::Skipped(Skipped { what, why }) = case {
                writeln!(self.out, "\nnot measured: {what} ({why})")?;
            }
        }
        Ok(self.out.flush()?)
    }
}

/// The cases that share a table.
#[derive(Clone, Copy)]
enum Family {
    Request,
    Broadcast,
    Join,
    Locks(locks::Family),
    Idle,
    Virtual,
}

impl Family {
    const ALL: [Self; 8] = [
        Self::Request,
        Self::Broadcast,
        Self::Join,
        Self::Locks(locks::Family::Rate),
        Self::Locks(locks::Family::Recovery),
        Self::Locks(locks::Family::Held),
        Self::Idle,
        Self::Virtual,
    ];

    const fn header(self) -> &'static [&'static str] {
        match self {
            Self::Request => &[
                "request",
                "in flight",
                "loss %",
                "median µs",
                "p99 µs",
                "per second",
                "floor µs",
                "floor per second",
                "times floor",
                "floor rate / rate",
                "of loss-free",
            ],
            Self::Broadcast => &[
                "broadcast",
                "paced",
                "sent",
                "delivered",
                "lost",
                "resent",
                "median µs",
                "p99 µs",
                "per second",
            ],
            Self::Join => &["join", "repeats", "median ms", "min ms", "max ms"],
            Self::Locks(family) => family.header(),
            Self::Idle => &[
                "idle",
                "RSS KiB",
                "PSS KiB",
                "RSS without node",
                "CPU %",
                "datagrams/s",
                "most",
                "bytes/s",
                "most",
            ],
            Self::Virtual => &[
                "idle, virtual",
                "datagrams/s",
                "most",
                "bytes/s",
                "most",
                "simulated s/s",
            ],
        }
    }

    fn row(self, case: &Case) -> Option<Vec<String>> {
        let or_dash = |value: Option<f64>| value.map_or("-".into(), |value| value.to_string());
        let kib = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
        Some(match (self, case) {
            (Self::Request, Case::Request(r)) => vec![
                format!("{} B", r.size),
                r.in_flight.to_string(),
                r.loss.to_string(),
                r.median_us.to_string(),
                r.p99_us.to_string(),
                r.per_second.to_string(),
                r.floor_median_us.to_string(),
                r.floor_per_second.to_string(),
                r.ratio.to_string(),
                r.rate_ratio.to_string(),
                or_dash(r.of_loss_free),
            ],
            (Self::Broadcast, Case::Broadcast(b)) => vec![
                format!("{} B", b.size),
                match b.paced {
                    0 => "no".into(),
                    rate => format!("{rate}/s"),
                },
                b.sent.to_string(),
                b.delivered.to_string(),
                b.lost.to_string(),
                b.retransmits.to_string(),
                b.median_us.to_string(),
                b.p99_us.to_string(),
                b.per_second.to_string(),
            ],
            (Self::Join, Case::Join(j)) => vec![
                format!("node {}", j.nodes),
                j.repeats.to_string(),
                j.median_ms.to_string(),
                j.min_ms.to_string(),
                j.max_ms.to_string(),
            ],
            (Self::Locks(family), Case::Locks(finding)) => return family.row(finding),
            (Self::Idle, Case::Idle(i)) => vec![
                format!("{} nodes", i.nodes),
                kib(i.memory.map(|memory| memory.rss_kib)),
                kib(i.memory.and_then(|memory| memory.pss_kib)),
                kib(i.memory.map(|memory| memory.rss_without_node_kib)),
                or_dash(i.cpu_percent),
                i.datagrams_per_second.to_string(),
                i.datagrams_per_second_max.to_string(),
                i.bytes_per_second.to_string(),
                i.bytes_per_second_max.to_string(),
            ],
            (Self::Virtual, Case::Virtual(v)) => vec![
                format!("{} nodes", v.nodes),
                v.datagrams_per_second.to_string(),
                v.datagrams_per_second_max.to_string(),
                v.bytes_per_second.to_string(),
                v.bytes_per_second_max.to_string(),
                v.speed.to_string(),
            ],
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
