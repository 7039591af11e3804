//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use core::fmt::Display;
use core::str::FromStr;

/// Replicas of one service find each other, talk over encrypted UDP and agree. No server to run.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch three nodes find each other, talk, crash, come back, and take turns at a lock (about 15 seconds).
    Demo(Demo),
    /// Measure messages, locks, joining, and what an idle node costs, on this machine.
    #[command(subcommand)]
    Bench(Bench),
    /// One process of a benchmark; obeys its parent over standard input and output.
    #[command(name = "bench-node", hide = true)]
    BenchNode(BenchNode),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The runtime that the nodes run on.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) runtime: Runtime,
    /// Print one JSON object per line, the last one a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Requests, broadcasts and joining over real UDP on loopback, beside the floor: the same with bare sockets.
    Messages(Messages),
    /// Locks on real nodes on loopback, beside the floor: taking and giving back, disputes, failures, and what they cost.
    Locks(Locks),
    /// Memory, CPU and traffic of nodes that have nothing to do.
    Idle(Idle),
}

// So that `--seconds -1` is answered with the range of `--seconds`.
#[derive(Clone, Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Messages {
    /// Nodes in the cluster, each a process of its own (2 to 15).
    #[arg(long, value_name = "N", default_value = "3", value_parser = ranged::<u8>(2, 15))]
    pub(crate) nodes: u8,
    /// How long each case measures, not counting its floor (1 to 600).
    #[arg(long, value_name = "S", default_value = "5", value_parser = ranged::<u32>(1, 600))]
    pub(crate) seconds: u32,
    /// The runtime that the nodes run on. The floor always uses tokio's sockets.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) runtime: Runtime,
    /// Worker threads of each process; 0 runs everything on one thread (0 to 64).
    #[arg(long, value_name = "N", default_value = "0", value_parser = ranged::<u8>(0, 64))]
    pub(crate) workers: u8,
    /// Only these cases; default all. May be given several times.
    #[arg(long = "case", value_enum, value_name = "CASE")]
    pub(crate) cases: Vec<MessageCase>,
    /// Print one JSON object per line: one for each case, and a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Messages {
    pub(crate) fn wants(&self, case: MessageCase) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }
}

/// The families of cases of `bench messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MessageCase {
    Request,
    Broadcast,
    Join,
}

// So that `--seconds -1` is answered with the range of `--seconds`.
#[derive(Clone, Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Locks {
    /// Nodes in the cluster, each a process of its own (3 to 15; fewer cannot lose one and go on).
    #[arg(long, value_name = "N", default_value = "3", value_parser = ranged::<u8>(3, 15))]
    pub(crate) nodes: u8,
    /// How long each case measures that is measured by time, not counting its floor (1 to 600).
    #[arg(long, value_name = "S", default_value = "5", value_parser = ranged::<u32>(1, 600))]
    pub(crate) seconds: u32,
    /// How often the leader is killed; the other cases that are measured by repeating take a quarter (1 to 1000).
    #[arg(long, value_name = "N", default_value = "20", value_parser = ranged::<u16>(1, 1000))]
    pub(crate) repeats: u16,
    /// The runtime that the nodes run on. The floor always uses tokio's sockets.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) runtime: Runtime,
    /// Worker threads of each process; 0 runs everything on one thread (0 to 64).
    #[arg(long, value_name = "N", default_value = "0", value_parser = ranged::<u8>(0, 64))]
    pub(crate) workers: u8,
    /// Run all nodes in this process, each in a thread of its own. Leaves out the cases that need processes.
    #[arg(long)]
    pub(crate) in_process: bool,
    /// Only these cases; default all. May be given several times.
    #[arg(long = "case", value_enum, value_name = "CASE")]
    pub(crate) cases: Vec<LockCase>,
    /// Print one JSON object per line: one for each case, and a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Locks {
    pub(crate) fn wants(&self, case: LockCase) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }
}

/// The cases of `bench locks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum LockCase {
    PairLeader,
    PairFollower,
    #[value(name = "distinct_64")]
    Distinct64,
    #[value(name = "contended_8_leader")]
    Contended8Leader,
    #[value(name = "contended_8_spread")]
    Contended8Spread,
    LeaderKilled,
    LeaderStopped,
    HolderKilled,
    HolderLeaves,
    #[value(name = "held_10000")]
    Held10000,
    ColdStart,
    Idle,
}

impl LockCase {
    /// The value as it stands on the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PairLeader => "pair_leader",
            Self::PairFollower => "pair_follower",
            Self::Distinct64 => "distinct_64",
            Self::Contended8Leader => "contended_8_leader",
            Self::Contended8Spread => "contended_8_spread",
            Self::LeaderKilled => "leader_killed",
            Self::LeaderStopped => "leader_stopped",
            Self::HolderKilled => "holder_killed",
            Self::HolderLeaves => "holder_leaves",
            Self::Held10000 => "held_10000",
            Self::ColdStart => "cold_start",
            Self::Idle => "idle",
        }
    }

    /// Whether it takes a process for each node: to stop or to kill it, or to tell what one node costs.
    pub(crate) const fn needs_processes(self) -> bool {
        matches!(
            self,
            Self::LeaderKilled | Self::LeaderStopped | Self::HolderKilled | Self::Held10000 | Self::Idle
        )
    }
}

// So that `--seconds -1` is answered with the range of `--seconds`.
#[derive(Clone, Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Idle {
    /// Nodes in the cluster, each a process of its own with a real socket (2 to 15).
    #[arg(long, value_name = "N", default_value = "3", value_parser = ranged::<u8>(2, 15))]
    pub(crate) nodes: u8,
    /// Instead: this many nodes in one process and in virtual time (2 to 1000).
    #[arg(long = "virtual", value_name = "N", conflicts_with_all = ["nodes", "runtime"],
          value_parser = ranged::<u16>(2, 1000))]
    pub(crate) virtual_nodes: Option<u16>,
    /// How long to measure once the cluster has settled; virtual seconds with --virtual (1 to 3600).
    #[arg(long, value_name = "S", default_value = "10", value_parser = ranged::<u32>(1, 3600))]
    pub(crate) seconds: u32,
    /// The runtime that the nodes run on.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) runtime: Runtime,
    /// Print one JSON object per line: one for each case, and a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchNode {
    #[arg(long, value_enum, default_value_t)]
    pub(crate) runtime: Runtime,
    #[arg(long, default_value = "0", value_parser = ranged::<u8>(0, 64))]
    pub(crate) workers: u8,
}

/// The runtimes that have an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    #[default]
    Tokio,
    Smol,
}

impl Runtime {
    /// The value as it stands on the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
        }
    }
}

/// Parses a whole number within bounds. Unlike clap's own range it names the bounds also where the text is no number
/// at all.
fn ranged<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| match text.parse::<T>() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(format!("expected a whole number from {min} to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(core::iter::once("quorate").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let Ok(Cli {
            command: Command::Bench(Bench::Messages(args)),
        }) = parse("bench messages")
        else {
            panic!("bench messages");
        };
        assert_eq!((args.nodes, args.seconds, args.runtime), (3, 5, Runtime::Tokio));
        assert!(args.wants(MessageCase::Join) && !args.json);
        let Ok(Cli {
            command: Command::Bench(Bench::Messages(args)),
        }) = parse("bench messages --case join --case request --runtime smol --json")
        else {
            panic!("bench messages");
        };
        assert!(args.wants(MessageCase::Join) && !args.wants(MessageCase::Broadcast) && args.json);
        assert_eq!(args.runtime, Runtime::Smol);
    }

    #[test]
    fn bad_values_name_the_flag_and_its_range() {
        for (line, flag, range) in [
            ("bench messages --nodes 1", "--nodes", "from 2 to 15"),
            ("bench messages --nodes three", "--nodes", "from 2 to 15"),
            ("bench messages --nodes 300", "--nodes", "from 2 to 15"),
            ("bench messages --seconds 0", "--seconds", "from 1 to 600"),
            ("bench messages --seconds -1", "--seconds", "from 1 to 600"),
            ("bench messages --workers 65", "--workers", "from 0 to 64"),
            ("bench locks --nodes 2", "--nodes", "from 3 to 15"),
            ("bench locks --seconds 0", "--seconds", "from 1 to 600"),
            ("bench locks --repeats 0", "--repeats", "from 1 to 1000"),
            (
                "bench locks --case pair-leader",
                "--case",
                "pair_leader, pair_follower, distinct_64",
            ),
            ("bench idle --virtual -1", "--virtual", "from 2 to 1000"),
            ("bench idle --virtual 1001", "--virtual", "from 2 to 1000"),
            ("bench idle --seconds 1.5", "--seconds", "from 1 to 3600"),
            ("bench messages --runtime glib", "--runtime", "tokio, smol"),
            ("demo --runtime glib", "--runtime", "tokio, smol"),
            ("bench messages --case lock", "--case", "request, broadcast, join"),
        ] {
            let error = parse(line).expect_err(line);
            let text = error.to_string();
            assert!(text.contains(flag) && text.contains(range), "{line}: {text}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn cases_of_locks_have_one_name_everywhere() {
        let Ok(Cli {
            command: Command::Bench(Bench::Locks(args)),
        }) = parse("bench locks")
        else {
            panic!("bench locks");
        };
        assert_eq!((args.nodes, args.seconds, args.repeats), (3, 5, 20));
        assert!(!args.in_process && !args.json);
        for &case in LockCase::value_variants() {
            assert!(args.wants(case));
            let Ok(Cli {
                command: Command::Bench(Bench::Locks(args)),
            }) = parse(&format!("bench locks --in-process --case {}", case.name()))
            else {
                panic!("{case:?}");
            };
            assert_eq!(args.cases, [case]);
        }
    }

    #[test]
    fn virtual_and_real_nodes_exclude_each_other() {
        let error = parse("bench idle --virtual 100 --nodes 3").expect_err("conflict");
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
        assert_eq!(error.exit_code(), 2);
        assert!(parse("bench idle --virtual 100 --json").is_ok());
    }

    #[test]
    fn the_child_is_hidden() {
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains("bench-node") && help.contains("demo"), "{help}");
    }
}
