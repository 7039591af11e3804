//! What happened, line by line: as a table for people, as JSON for programs.

use super::Summary;
use super::steps::Step;
use crate::output::json_line;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use serde::Serialize;
use std::io::Write;
use std::time::Instant;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Text { colour: bool },
    Json,
}

/// Something that a node did or saw. The names of variants and fields are part of the command's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line {
    Started {
        id: String,
        addr: SocketAddr,
        seeds: Vec<&'static str>,
    },
    Lists {
        members: usize,
    },
    MemberJoined {
        peer: String,
    },
    MemberLeft {
        peer: String,
        reason: &'static str,
    },
    Quorum {
        has_quorum: bool,
        present: usize,
    },
    Broadcasts {
        text: &'static str,
    },
    SendsTo {
        to: &'static str,
        text: &'static str,
    },
    Delivered {
        to: usize,
    },
    Message {
        from: String,
        text: String,
    },
    Asks {
        whom: &'static str,
        text: &'static str,
    },
    Question {
        from: String,
        text: String,
    },
    Answer {
        from: String,
        text: String,
        micros: u64,
    },
    Leads {
        term: u64,
    },
    WaitsFor {
        key: &'static str,
    },
    Granted {
        key: &'static str,
        token: u64,
    },
    Released {
        key: &'static str,
        token: u64,
    },
    AtRisk {
        key: &'static str,
        left_ms: u64,
    },
    Lost {
        key: &'static str,
        token: u64,
        reason: &'static str,
    },
    StillHolds {
        key: &'static str,
        token: u64,
    },
    CutOff,
    Reconnected,
    /// This build cannot show it.
    Skipped,
    Killed,
    Leaves,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { id, addr, seeds } => {
                // Ids are 32 hexadecimal digits; eight tell them apart on a screen.
                let short = id.get(..8).unwrap_or(id);
                match &seeds[..] {
                    [] => write!(f, "starts on {addr} as {short}, and knows nobody"),
                    seeds => write!(
                        f,
                        "starts on {addr} as {short}, and knows the address of {}",
                        seeds.join(" and ")
                    ),
                }
            }
            Self::Lists { members } => write!(f, "lists {members} members, itself included"),
            Self::MemberJoined { peer } => write!(f, "sees {peer} join"),
            Self::MemberLeft { peer, reason } => match *reason {
                "failed" => write!(f, "notices that {peer} has failed: it answers no more"),
                "replaced" => write!(f, "notices that another process answers in place of {peer}"),
                _ => write!(f, "hears that {peer} has left"),
            },
            Self::Quorum {
                has_quorum: true,
                present,
            } => write!(f, "has a quorum: {present} of 3 are present"),
            Self::Quorum { present, .. } => write!(f, "has no quorum any more: {present} of 3 are present"),
            Self::Broadcasts { text } => write!(f, "sends {text:?} to everybody"),
            Self::SendsTo { to, text } => write!(f, "sends {text:?} to {to}"),
            Self::Delivered { to } => write!(f, "knows: delivered to {to} of {to}"),
            Self::Message { from, text } => write!(f, "reads {text:?} from {from}"),
            Self::Asks { whom, text } => write!(f, "asks {whom}: {text:?}"),
            Self::Question { from, text } => write!(f, "is asked {text:?} by {from}"),
            Self::Answer { from, text, micros } => {
                write!(f, "gets an answer from {from} after {micros} µs: {text:?}")
            }
            Self::Leads { term } => write!(f, "leads the group from now on (term {term})"),
            Self::WaitsFor { key } => write!(f, "waits for the lock {key:?}"),
            Self::Granted { key, token } => write!(f, "holds {key:?} under token {token}"),
            Self::Released { key, .. } => write!(f, "gives {key:?} back"),
            Self::AtRisk { key, left_ms } => {
                write!(f, "gets no answer: its lease of {key:?} ends in {left_ms} ms")
            }
            Self::Lost { key, reason, .. } => match *reason {
                "expired" => write!(
                    f,
                    "knows that it lost {key:?}: the lease is over by its own clock"
                ),
                _ => write!(f, "knows that it lost {key:?}"),
            },
            Self::StillHolds { key, token } => write!(f, "still holds {key:?} under token {token}"),
            Self::CutOff => f.write_str("is cut off: nothing reaches it, and nothing that it sends arrives"),
            Self::Reconnected => f.write_str("is connected again"),
            Self::Skipped => f.write_str("cannot be cut off: built without the feature `testing`"),
            Self::Killed => f.write_str("is killed: its socket is closed in the middle of its work"),
            Self::Leaves => f.write_str("says goodbye and stops"),
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    line: &'a Line,
    node: &'static str,
    t_ms: u64,
}

#[derive(Serialize)]
struct JsonStep {
    event: &'static str,
    step: &'static str,
    title: &'static str,
    t_ms: u64,
}

/// Writes the story while it happens.
pub(crate) struct Timeline {
    style: Style,
    began: Instant,
    out: Box<dyn Write>,
}

impl Timeline {
    pub(crate) fn new(style: Style, out: Box<dyn Write>) -> Self {
        Self {
            style,
            began: Instant::now(),
            out,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Begins a step.
    pub(crate) fn heading(&mut self, number: usize, step: &Step) -> anyhow::Result<()> {
        let Style::Text { colour } = self.style else {
            let line = JsonStep {
                event: "step",
                step: step.name,
                title: step.title,
                t_ms: self.since_start(Instant::now()),
            };
            return json_line(&mut *self.out, &line);
        };
        if number == 1 {
            writeln!(self.out, "node        time  what happened")?;
        }
        let title = format!("{number}. {}", step.title);
        writeln!(self.out, "\n{}", paint(colour, "1", &title))?;
        Ok(self.out.flush()?)
    }

    /// Writes one thing that a node did or saw.
    pub(crate) fn line(&mut self, at: Instant, node: &'static str, line: &Line) -> anyhow::Result<()> {
        let t_ms = self.since_start(at);
        let Style::Text { colour } = self.style else {
            return json_line(&mut *self.out, &JsonLine { line, node, t_ms });
        };
        // The nodes of the demo are told apart by cyan, yellow and magenta.
        let code = match node.as_bytes().last() {
            Some(b'1') => "36",
            Some(b'2') => "33",
            _ => "35",
        };
        let node = paint(colour, code, &format!("{node:<7}"));
        let time = paint(colour, "2", &format!("{:>6}.{:03} s", t_ms / 1000, t_ms % 1000));
        writeln!(self.out, "{node}{time}  {line}")?;
        Ok(self.out.flush()?)
    }

    /// Ends the story.
    pub(crate) fn summary(&mut self, summary: &Summary) -> anyhow::Result<()> {
        let Style::Text { colour } = self.style else {
            return json_line(&mut *self.out, summary);
        };
        let Summary {
            members,
            messages_sent,
            messages_delivered,
            requests_sent,
            requests_answered,
            crash_detected_ms,
            leave_noticed_ms,
            handovers,
            lost_before_next_ms,
            next_holder_ms,
            failover_ms,
            elapsed_ms,
            ..
        } = summary;
        let title = format!(
            "All of it happened, in {}.{} s:",
            elapsed_ms / 1000,
            elapsed_ms % 1000 / 100
        );
        writeln!(self.out, "\n{}", paint(colour, "1;32", &title))?;
        writeln!(self.out, "  {members} members at the end")?;
        writeln!(
            self.out,
            "  {messages_sent} messages sent, {messages_delivered} delivered"
        )?;
        writeln!(
            self.out,
            "  {requests_sent} requests sent, {requests_answered} answered"
        )?;
        writeln!(self.out, "  the crash was noticed after {crash_detected_ms} ms")?;
        writeln!(self.out, "  the goodbye was noticed after {leave_noticed_ms} ms")?;
        writeln!(
            self.out,
            "  the lock changed hands {handovers} times, each time with a higher token"
        )?;
        if let Some(before) = lost_before_next_ms {
            writeln!(
                self.out,
                "  the holder that was cut off knew {before} ms before the next one had the lock"
            )?;
        }
        writeln!(
            self.out,
            "  the next one had the lock {next_holder_ms} ms after its holder died"
        )?;
        writeln!(
            self.out,
            "  locks were granted again {failover_ms} ms after the leader died"
        )?;
        Ok(self.out.flush()?)
    }

    fn since_start(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.began).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

/// Wraps text into an ANSI colour, if colours are wanted.
fn paint(colour: bool, code: &str, text: &str) -> String {
    match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests;
