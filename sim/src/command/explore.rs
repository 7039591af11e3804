//! `explore`: every state that a small system can reach.

use super::Verdict;
use super::args;
use super::batch::{interrupted, stop_on_interrupt};
use super::output::{Progress, Table, grouped, json_line};
use anyhow::Context as _;
use quorate_sim::explore::{Config, Report, config_for, configs, explore, rules};
use quorate_sim::{PlantedBug, plant};
use serde::Serialize;
use std::io::Write;

/// What became of one search, or of several. The field names are part of the command's interface.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    config: String,
    #[serde(rename = "break")]
    broken: Option<&'static str>,
    /// How many different states were reached, in all searches together.
    states: u64,
    /// How many steps the longest way to a state has, the config's script left out.
    depth: u64,
    /// Whether nothing is left inside the bounds.
    exhausted: bool,
    violation: Option<String>,
}

/// The steps to a violation, for programs.
#[derive(Serialize)]
struct Trace<'a> {
    event: &'static str,
    config: &'static str,
    steps: &'a [String],
}

/// Runs `explore`.
pub(crate) fn run(args: &args::Explore, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    stop_on_interrupt()?;
    match args.rule.as_deref() {
        None => {
            let name = args.config.as_deref().unwrap_or("ci");
            search(args, name, &chosen(name)?, None, out)
        }
        Some("all") => {
            anyhow::ensure!(
                args.config.is_none(),
                "--config: with --break all each rule has its own"
            );
            let mut verdict = Verdict::Clean;
            for rule in rules() {
                if search_without(args, rule, out)? != Verdict::Clean {
                    verdict = Verdict::Bad;
                }
                if interrupted() {
                    break;
                }
            }
            Ok(verdict)
        }
        Some(name) => search_without(args, name.parse().context("--break")?, out),
    }
}

fn search_without(args: &args::Explore, rule: PlantedBug, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let (name, configs) = match args.config.as_deref() {
        Some(name) => (name.to_owned(), chosen(name)?),
        None => {
            let config = config_for(rule).with_context(|| {
                let names: Vec<_> = rules().map(PlantedBug::name).collect();
                format!(
                    "--break: no search shows {rule}; those that one shows: {}",
                    names.join(" ")
                )
            })?;
            (config.name.to_owned(), vec![config])
        }
    };
    let configs: Vec<_> = configs.into_iter().map(|config| config.with(rule)).collect();
    search(args, &name, &configs, Some(rule), out)
}

/// Returns the configs that a name stands for.
fn chosen(name: &str) -> anyhow::Result<Vec<Config>> {
    match name {
        "ci" => Ok(configs().cloned().collect()),
        "large" => Ok(configs().cloned().map(Config::larger).collect()),
        // Leases are searched in parts, each named `locks` and something.
        "locks" => Ok(configs()
            .filter(|config| config.name.starts_with(name))
            .cloned()
            .collect()),
        _ => {
            let names: Vec<_> = configs().map(|config| config.name).collect();
            let found = configs().find(|config| config.name == name);
            let config = found.with_context(|| {
                format!(
                    "--config: there is no {name:?}; expected ci, large, locks, or one of {}",
                    names.join(" ")
                )
            })?;
            Ok(vec![config.clone()])
        }
    }
}

/// Searches one config after another, until something does not hold.
fn search(
    args: &args::Explore,
    name: &str,
    configs: &[Config],
    rule: Option<PlantedBug>,
    out: &mut dyn Write,
) -> anyhow::Result<Verdict> {
    let _planted = plant(rule);
    let mut summary = Summary {
        event: "explore",
        config: name.to_owned(),
        broken: rule.map(PlantedBug::name),
        states: 0,
        depth: 0,
        exhausted: true,
        violation: None,
    };
    let mut table = Table::with_text_from(4, &["config", "states", "depth", "seconds", ""]);
    let mut progress = Progress::new("searches", configs.len() as u64);
    for config in configs {
        progress.note(&format!("{}: {}", config.name, config.about));
        let started = std::time::Instant::now();
        let report = explore(config, interrupted);
        let seconds = started.elapsed().as_secs_f64();
        summary.states += report.states as u64;
        summary.depth = summary.depth.max(report.depth as u64);
        summary.exhausted &= report.exhausted;
        table.row(vec![
            config.name.to_owned(),
            grouped(report.states as f64),
            report.depth.to_string(),
            format!("{seconds:.1}"),
            outcome(&report),
        ]);
        if report.violation.is_some() {
            progress.clear();
            print_trace(args, config, &report, out)?;
            summary.violation = report.violation;
            break;
        }
        progress.step("");
        if interrupted() {
            break;
        }
    }
    progress.clear();
    match args.json {
        true => json_line(out, &summary)?,
        false => {
            if let Some(rule) = rule {
                writeln!(out, "without the rule: {} {}", rule.name(), rule.describe())?;
            }
            table.print(out)?;
            writeln!(out, "{} states in all", grouped(summary.states as f64))?;
        }
    }
    let as_hoped = match rule {
        Some(_) => summary.violation.is_some(),
        // A search that is larger than memory has a depth to show and no end.
        None => summary.violation.is_none() && (summary.exhausted || name == "large") && !interrupted(),
    };
    Ok(Verdict::bad_if(!as_hoped))
}

fn outcome(report: &Report) -> String {
    match (&report.violation, report.exhausted) {
        (Some(violation), _) => format!("VIOLATION: {violation}"),
        (None, true) => "exhausted".to_owned(),
        (None, false) => "given up at the limit of states".to_owned(),
    }
}

fn print_trace(
    args: &args::Explore,
    config: &Config,
    report: &Report,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if args.json {
        return json_line(
            out,
            &Trace {
                event: "trace",
                config: config.name,
                steps: &report.trace,
            },
        );
    }
    for (number, step) in (1..).zip(&report.trace) {
        writeln!(out, "{number:>4}  {step}")?;
    }
    Ok(())
}
