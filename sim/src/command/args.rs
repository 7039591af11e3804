//! The command line.

#[cfg(test)]
mod tests;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_sim::{Draw, Duration, Kinds, MAX_HOSTS, PlantedBug};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The core of quorate under every fault, in virtual time.
///
/// Exit code: 0 if all is clean, 1 after a violation, 2 if the command could not do its work.
#[derive(Debug, Parser)]
#[command(name = "quorate-sim", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

// Negative numbers are values, so that `--minutes -1` is answered with the range of `--minutes`.
#[derive(Debug, Subcommand)]
#[command(allow_negative_numbers = true)]
pub(crate) enum Command {
    /// Run many seeds, each with the faults that are drawn from it, and check everything.
    #[command(
        after_help = "Example:\n  quorate-sim run --seeds 1000 --nodes 3-7 --minutes 2",
        allow_negative_numbers = true
    )]
    Run(Run),
    /// Run one seed or schedule again, and say what happened.
    #[command(
        after_help = "Examples:\n  quorate-sim repro 0x2a --nodes 3-7 --minutes 2\n  quorate-sim repro found.txt",
        allow_negative_numbers = true
    )]
    Repro(Repro),
    /// Look for the shortest schedule that shows the same violation.
    #[command(
        after_help = "Example:\n  quorate-sim shrink 0x2a -o found.txt",
        allow_negative_numbers = true
    )]
    Shrink(Shrink),
    /// Draw one run as a page that any browser opens.
    #[command(
        after_help = "Example:\n  quorate-sim show 0x2a -o run.html",
        allow_negative_numbers = true
    )]
    Show(Show),
    /// Count how often rare situations occur over many seeds; one that never does fails from 500 seeds on.
    #[command(
        after_help = "Example:\n  quorate-sim coverage --seeds 500",
        allow_negative_numbers = true
    )]
    Coverage(Run),
    /// Run schedules that were written by hand; without a name, list them.
    #[command(
        after_help = "Examples:\n  quorate-sim scenario all\n  quorate-sim scenario split-halves --text > mine.txt"
    )]
    Scenario(Scenario),
    /// Make the core wrong on purpose, and count the seeds until that is noticed.
    #[command(
        after_help = "Example:\n  quorate-sim plant all --budget 200 --repetitions 5",
        allow_negative_numbers = true
    )]
    Plant(Plant),
    /// Measure the simulator, and what a member sends as the cluster grows.
    #[command(
        after_help = "Example:\n  quorate-sim bench --case idle --case busy",
        allow_negative_numbers = true
    )]
    Bench(Bench),
    /// Measure how long the cluster takes to notice and to recover, over many seeds.
    #[command(
        after_help = "Example:\n  quorate-sim liveness --seeds 1000",
        allow_negative_numbers = true
    )]
    Liveness(Liveness),
    /// Visit every state that a few replicas can reach within bounds, and check all of them.
    #[command(
        after_help = "Examples:\n  quorate-sim explore\n  quorate-sim explore --config election\n  quorate-sim explore --break refill-without-round"
    )]
    Explore(Explore),
}

/// From what the schedule of a seed is drawn.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct DrawArgs {
    /// How many members: a number, or a range A-B from which it is drawn (within 1 to 64).
    #[arg(long, value_name = "N|A-B", default_value = "3-7", value_parser = Nodes::from_str)]
    pub(crate) nodes: Nodes,
    /// For how long faults and users are at work, in simulated minutes; fractions are fine (0 to 1440).
    #[arg(long, value_name = "M", default_value = "2", value_parser = Minutes::from_str)]
    pub(crate) minutes: Minutes,
    /// Which kinds of faults may occur: all, none, or names with commas between them.
    #[arg(long, value_name = "KINDS", default_value = "all", value_parser = Kinds::from_str)]
    pub(crate) faults: Kinds,
    /// Besides, lose this share of all datagrams all the time, in percent (0 to 100, in steps of 0.1).
    #[arg(long, value_name = "P", value_parser = Loss::from_str)]
    pub(crate) loss: Option<Loss>,
    /// Let more voters live than the settings allow for. Two groups may be at work then, and nothing holds between them.
    #[arg(long)]
    pub(crate) beyond: bool,
}

impl DrawArgs {
    pub(crate) fn draw(&self) -> Draw {
        Draw {
            hosts: self.nodes.first..=self.nodes.last,
            chaos: self.minutes.duration(),
            kinds: self.faults,
            loss: self.loss.map(|loss| loss.permille),
            beyond: self.beyond,
        }
    }
}

impl Default for DrawArgs {
    fn default() -> Self {
        Self {
            nodes: Nodes { first: 3, last: 7 },
            minutes: Minutes(2.0),
            faults: Kinds::ALL,
            loss: None,
            beyond: false,
        }
    }
}

/// As options. What has a default stands there only if it says something else, but for the size of the run.
impl fmt::Display for DrawArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--nodes {} --minutes {}", self.nodes, self.minutes.0)?;
        if self.faults != Kinds::ALL {
            write!(f, " --faults {}", self.faults)?;
        }
        if let Some(loss) = self.loss {
            write!(f, " --loss {loss}")?;
        }
        if self.beyond {
            f.write_str(" --beyond")?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Which seeds: the first N, or those from A to B, both included; decimal or 0x (1 to 10,000,000 of them).
    #[arg(long, value_name = "N|A-B", default_value = "1000", value_parser = Seeds::from_str)]
    pub(crate) seeds: Seeds,
    #[command(flatten)]
    pub(crate) draw: DrawArgs,
    /// Make the core wrong in this way, see `quorate-sim plant --help`.
    #[arg(long, value_name = "BUG", value_parser = PlantedBug::from_str)]
    pub(crate) plant: Option<PlantedBug>,
    #[command(flatten)]
    pub(crate) jobs: Jobs,
    /// Print JSON only: a line for each violation, and a summary as the last line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Jobs {
    /// How many runs at the same time (1 to 256). By default as many as there are cores. Results do not depend on it.
    #[arg(long, value_name = "J", value_parser = ranged::<u16>(1, 256))]
    jobs: Option<u16>,
}

impl Jobs {
    pub(crate) fn count(self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cores, usize::from)
    }
}

/// One run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Single {
    /// A seed (decimal or 0x), a file with a schedule, or the name of a scenario.
    #[arg(value_name = "SEED|FILE")]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) draw: DrawArgs,
    /// Make the core wrong in this way, see `quorate-sim plant --help`.
    #[arg(long, value_name = "BUG", value_parser = PlantedBug::from_str)]
    pub(crate) plant: Option<PlantedBug>,
}

#[derive(Debug, Args)]
pub(crate) struct Repro {
    #[command(flatten)]
    pub(crate) single: Single,
    /// Print one JSON line only.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Shrink {
    #[command(flatten)]
    pub(crate) single: Single,
    /// Write the schedule to this file; otherwise it is printed.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How many schedules to try at most (1 to 1,000,000).
    #[arg(long, value_name = "RUNS", default_value = "2000", value_parser = ranged::<u32>(1, 1_000_000))]
    pub(crate) budget: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) single: Single,
    /// The page.
    #[arg(short, long, value_name = "FILE", default_value = "run.html")]
    pub(crate) output: PathBuf,
    /// How many datagrams and how many events to keep, the last ones (100 to 1,000,000).
    #[arg(long, value_name = "N", default_value = "20000", value_parser = ranged::<u32>(100, 1_000_000))]
    pub(crate) events: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Scenario {
    /// The name of a scenario, or `all`.
    pub(crate) name: Option<String>,
    /// Print the schedule instead of running it.
    #[arg(long, requires = "name")]
    pub(crate) text: bool,
    /// Print one JSON line only.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Plant {
    /// The name of a bug, or `all`.
    #[arg(value_name = "NAME|all", value_parser = Bugs::from_str)]
    pub(crate) bugs: Bugs,
    /// Give up on a bug after so many seeds (1 to 1,000,000).
    #[arg(long, value_name = "SEEDS", default_value = "200", value_parser = ranged::<u32>(1, 1_000_000))]
    pub(crate) budget: u32,
    /// How often to look for each bug, each time from other seeds (1 to 1000). Seeds are reported as their median.
    #[arg(long, value_name = "R", default_value = "1", value_parser = ranged::<u32>(1, 1000))]
    pub(crate) repetitions: u32,
    #[command(flatten)]
    pub(crate) draw: DrawArgs,
    #[command(flatten)]
    pub(crate) jobs: Jobs,
    /// Print one JSON line only.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Only these cases; default all. May be given several times.
    #[arg(long = "case", value_enum, value_name = "CASE")]
    cases: Vec<BenchCase>,
    /// The largest cluster (3 to 1000); larger cases are left out.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = ranged::<u16>(3, 1000))]
    pub(crate) max_nodes: u16,
    /// How often each case is measured; the median counts (1 to 100).
    #[arg(long, value_name = "N", default_value = "5", value_parser = ranged::<u8>(1, 100))]
    pub(crate) windows: u8,
    /// How long each time, in milliseconds of wall time (1 to 60,000).
    #[arg(long, value_name = "MS", default_value = "500", value_parser = ranged::<u16>(1, 60_000))]
    pub(crate) window_ms: u16,
    /// Print one JSON line only.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Bench {
    pub(crate) fn wants(&self, case: BenchCase) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }
}

/// The families of cases of `bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchCase {
    /// 5 nodes that have nothing to do, with checkers and without.
    Idle,
    /// 5 nodes with users and all faults, with checkers and without.
    Busy,
    /// Membership of 100 and of 1,000 nodes.
    Membership,
    /// What a member sends in clusters of 10 to 1,000.
    Growth,
}

#[derive(Debug, Args)]
pub(crate) struct Explore {
    /// What to search: `ci` (the default: every config), `large` (the same with wider bounds), or the name of one config,
    /// see docs/simulator.md.
    #[arg(long, value_name = "NAME")]
    pub(crate) config: Option<String>,
    /// Leave a rule out, by the name of its planted bug, in the config where that shows; or `all`, one after another.
    /// Then a violation has to be found.
    #[arg(long = "break", value_name = "RULE|all")]
    pub(crate) rule: Option<String>,
    /// Print JSON only: the steps to a violation, and a summary as the last line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Liveness {
    /// How many seeds for each row (1 to 1,000,000). The 99.9th percentile needs 1,000.
    #[arg(long, value_name = "N", default_value = "300", value_parser = ranged::<u32>(1, 1_000_000))]
    pub(crate) seeds: u32,
    /// Only rows with this text in their name. May be given several times.
    #[arg(long = "row", value_name = "TEXT")]
    rows: Vec<String>,
    #[command(flatten)]
    pub(crate) jobs: Jobs,
    /// Print one JSON line only.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Liveness {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|text| name.contains(text.as_str()))
    }
}

/// Seeds from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

const MAX_SEEDS: u64 = 10_000_000;

impl Seeds {
    /// The number of seeds from `first` on.
    pub(crate) const fn from(first: u64, count: u64) -> Self {
        let last = first.saturating_add(count - 1);
        Self { first, last }
    }

    pub(crate) const fn count(self) -> u64 {
        self.last - self.first + 1
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("expected a number from 1 to {MAX_SEEDS}, or A-B with at most as many seeds");
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (parse_seed(first), parse_seed(last)),
            None => (Some(0), parse_seed(text).and_then(|count| count.checked_sub(1))),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last && last - first < MAX_SEEDS => {
                Ok(Self { first, last })
            }
            _ => Err(expected()),
        }
    }
}

/// Parses a 64-bit number, decimal or after `0x`.
pub(crate) fn parse_seed(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // A sign is no digit, though `from_str_radix` takes one.
    let plain = digits.chars().all(|c| c.is_digit(radix));
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

/// From the smallest to the largest cluster, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if 1 <= first && first <= last && last <= MAX_HOSTS => {
                Ok(Self { first, last })
            }
            _ => Err(format!(
                "expected a number from 1 to {MAX_HOSTS}, or A-B within that range"
            )),
        }
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Simulated minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Minutes(pub(crate) f64);

impl Minutes {
    fn duration(self) -> Duration {
        // Milliseconds: finer than anybody means, and exact for what people write.
        Duration::from_millis((self.0 * 60_000.0).round() as u64)
    }
}

impl FromStr for Minutes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(minutes) if (0.0..=1440.0).contains(&minutes) => Ok(Self(minutes)),
            _ => Err("expected a number from 0 to 1440".to_owned()),
        }
    }
}

/// A share of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) permille: u16,
}

impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let permille = text.parse::<f64>().map(|percent| percent * 10.0);
        match permille {
            Ok(permille)
                if (0.0..=1000.0).contains(&permille) && (permille - permille.round()).abs() < 1e-6 =>
            {
                Ok(Self {
                    permille: permille.round() as u16,
                })
            }
            _ => Err("expected a percentage from 0 to 100, in steps of 0.1".to_owned()),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.permille) / 10.0)
    }
}

/// What one run is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Seed(u64),
    /// A file, or else a scenario of this name.
    Named(PathBuf),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(parse_seed(text).map_or_else(|| Self::Named(text.into()), Self::Seed))
    }
}

/// Which bugs to plant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bugs(pub(crate) Vec<PlantedBug>);

impl FromStr for Bugs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(PlantedBug::ALL.to_vec())),
            name => match name.parse() {
                Ok(bug) => Ok(Self(vec![bug])),
                Err(error) => Err(format!("{error}; or all")),
            },
        }
    }
}

/// Parses a whole number within bounds. Unlike clap's own range it names the bounds also where the text is no number
/// at all.
fn ranged<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + fmt::Display + Copy + Send + Sync + 'static,
{
    move |text| match text.parse::<T>() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(format!("expected a whole number from {min} to {max}")),
    }
}
