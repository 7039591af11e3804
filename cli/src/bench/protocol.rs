//! What a benchmark and its processes say to each other: one JSON object a line, orders down, reports up.

use core::net::SocketAddr;
use quorate_tokio::NodeId;
use serde::{Deserialize, Serialize};

/// What a process is told to do. Each order is answered by exactly one report, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Start a node. Answered by `Started`.
    Start {
        /// Every byte of the shared key. It goes through a pipe and never onto a command line.
        key: Vec<u8>,
        /// Where; a free port of loopback if this does not say.
        bind: Option<SocketAddr>,
        seeds: Vec<SocketAddr>,
        cluster_size: u8,
    },
    /// Wait until this many other members are listed. Answered by `Done`.
    AwaitMembers { count: usize, timeout_ms: u64 },
    /// Lose this share of all outgoing datagrams, in thousandths, from now on. Answered by `Done`.
    Loss { permille: u32 },
    /// Ask a member again and again. Answered by `Slice`.
    Request { to: String, load: Load },
    /// Send to all members again and again. Answered by `Broadcasts`.
    Broadcast {
        size: usize,
        /// Broadcasts a second; 0 is as many as possible.
        paced: u32,
        millis: u64,
    },
    /// Tell what the node has used, sent and received so far. Answered by `Usage`.
    Usage,
    /// Open a bare socket that sends back what it receives. Answered by `Echo`.
    Echo,
    /// Ask a bare socket again and again. Answered by `Slice`.
    Ping { to: SocketAddr, load: Load },
    /// Tell how the group stands that grants locks. Answered by `Group`.
    Group,
    /// Take locks and give them back, again and again. Answered by `Pairs`.
    Pairs(Pairs),
    /// Take locks and keep them: of this key, or if there are several of keys that begin with it. Answered by `Done`.
    Acquire {
        key: String,
        count: usize,
        /// The length of the leases; that of the settings if this does not say.
        ttl_ms: Option<u64>,
    },
    /// Tell how many of the locks that were taken are held. Answered by `Held`.
    Held,
    /// Give back all locks that were taken. Answered by `Done`.
    Release,
    /// Leave the cluster. Answered by `Done`.
    Leave,
}

/// How hard to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Bytes of each question, and of each answer.
    pub(crate) size: usize,
    /// How many questions are open at any time.
    pub(crate) in_flight: usize,
    /// How long to measure, after a short warm-up.
    pub(crate) millis: u64,
}

/// Clients of one node that each take a lock, give it back, and take it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pairs {
    pub(crate) key: String,
    pub(crate) clients: usize,
    /// Whether each client has a key of its own, which begins with `key`.
    pub(crate) distinct: bool,
    /// How long to measure, after a short warm-up.
    pub(crate) millis: u64,
}

/// What became of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum Report {
    Done,
    Started { id: String, addr: SocketAddr },
    Slice(Slice),
    Broadcasts(Broadcasts),
    Usage(Usage),
    Echo { addr: SocketAddr },
    Group(Group),
    Pairs(PairsDone),
    Held { count: usize },
    Failed { error: String },
}

/// One uninterrupted stretch of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    pub(crate) per_second: f64,
    pub(crate) median_us: f64,
    pub(crate) p99_us: f64,
    /// Questions without an answer.
    pub(crate) errors: u64,
}

/// One stretch of taking locks and giving them back, by all clients of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairsDone {
    /// From asking to having given back: the filled buckets of a histogram, because nodes are summed up.
    pub(crate) times: Vec<(usize, u64)>,
    /// Pairs that were finished in the measured time, by client.
    pub(crate) finished: Vec<u64>,
    /// All pairs, whenever they were finished.
    pub(crate) pairs: u64,
    /// Locks that were asked for in vain, or lost.
    pub(crate) errors: u64,
}

/// How the group that grants locks stands, as a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) leader: Option<String>,
    pub(crate) seats: Vec<String>,
    /// Whether it grants anything.
    pub(crate) open: bool,
}

/// One stretch of broadcasting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Broadcasts {
    /// Messages: one for each broadcast and each member that it was for.
    pub(crate) sent: u64,
    /// Messages whose receipt was acknowledged.
    pub(crate) delivered: u64,
    /// Broadcasts that were finished in the measured time, a second.
    pub(crate) per_second: f64,
    /// From the call until the last member's acknowledgement.
    pub(crate) median_us: f64,
    pub(crate) p99_us: f64,
}

/// What a process has used since its start, and what its node has sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Processor time of the whole process, user and system.
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) rss_kib: Option<u64>,
    pub(crate) pss_kib: Option<u64>,
    pub(crate) datagrams_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) datagrams_received: u64,
    pub(crate) retransmits: u64,
    /// Messages that reached the application.
    pub(crate) messages: u64,
}

/// Reads an id that the other side wrote.
pub(crate) fn parse_id(text: &str) -> anyhow::Result<NodeId> {
    Ok(text.parse::<NodeId>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_survive_the_pipe() {
        let load = Load {
            size: 128,
            in_flight: 64,
            millis: 1000,
        };
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        let line = serde_json::to_string(&Order::Ping { to, load }).expect("JSON");
        assert_eq!(
            line,
            r#"{"order":"ping","to":"127.0.0.1:9","load":{"size":128,"in_flight":64,"millis":1000}}"#
        );
        assert!(matches!(serde_json::from_str(&line), Ok(Order::Ping { load: l, .. }) if l == load));
        let slice = Slice {
            per_second: 12.5,
            ..Slice::default()
        };
        let line = serde_json::to_string(&Report::Slice(slice)).expect("JSON");
        assert!(matches!(serde_json::from_str(&line), Ok(Report::Slice(s)) if s == slice));
    }
}
