//! `quorate demo`: three nodes on this machine, from finding each other to locks that outlive crashes and cuts.
//!
//! The story is a list of steps ([`steps::STEPS`]), each a function over the [`stage`]. A step makes something happen
//! and then waits until it was really seen, so the demo is also a test: it succeeds only if all of it happened.

mod holdings;
mod home;
mod locks;
mod node;
mod stage;
mod steps;
mod timeline;

use crate::args;
use crate::output::{colour_wanted, json_line};
use anyhow::Context as _;
use serde::Serialize;
use stage::Stage;
use std::io;
use timeline::{Style, Timeline};

/// What the whole demo came to. The field names are part of the command's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) event: &'static str,
    /// What the nodes ran on.
    pub(crate) runtime: &'static str,
    /// Members at the end, as every node of them sees it.
    pub(crate) members: usize,
    /// Messages, one for each receiver.
    pub(crate) messages_sent: u64,
    /// Those that reached the application of their receiver.
    pub(crate) messages_delivered: u64,
    /// Requests, one for each member asked.
    pub(crate) requests_sent: u64,
    pub(crate) requests_answered: u64,
    /// From the crash until the last of the others had noticed.
    pub(crate) crash_detected_ms: u64,
    /// From the goodbye until the last of the others had noticed.
    pub(crate) leave_noticed_ms: u64,
    /// Whether a crashed node came back as a new member.
    pub(crate) rejoined: bool,
    /// How often the lock passed from one process to another, after failures too.
    pub(crate) handovers: u64,
    /// Whether each holder had a higher token than the one before it.
    pub(crate) tokens_rising: bool,
    /// From the end of the lease on the clock of a holder that was cut off, when it knew, until the next one had the
    /// lock. `None` where this build cannot cut a node off (without the feature `testing`).
    pub(crate) lost_before_next_ms: Option<u64>,
    /// From the death of a holder until the next one had the lock.
    pub(crate) next_holder_ms: u64,
    /// From the death of the group's leader until a lock was granted again.
    pub(crate) failover_ms: u64,
    pub(crate) elapsed_ms: u64,
}

#[derive(Serialize)]
struct Failure<'a> {
    event: &'static str,
    step: &'a str,
    error: String,
}

/// Runs the demo. Fails if any part of the story did not happen.
pub(crate) fn run(args: &args::Demo) -> anyhow::Result<()> {
    let style = match (args.json, colour_wanted()) {
        (true, _) => Style::Json,
        (false, colour) => Style::Text { colour },
    };
    // The nodes have runtimes of their own; this only waits for them.
    smol::block_on(async {
        let mut stage = Stage::new(args.runtime, Timeline::new(style, Box::new(io::stdout())))?;
        for (index, step) in steps::STEPS.iter().enumerate() {
            stage.timeline.heading(index + 1, step)?;
            if let Err(error) = (step.run)(&mut stage).await {
                if args.json {
                    let failure = Failure {
                        event: "failed",
                        step: step.name,
                        error: format!("{error:#}"),
                    };
                    json_line(&mut io::stdout(), &failure)?;
                }
                return Err(error).with_context(|| format!("step {} ({})", index + 1, step.name));
            }
        }
        stage.finish().await
    })
}
