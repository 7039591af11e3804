//! The command `quorate-sim`, as people and programs use it. All runs are tiny.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const TINY: &str = "--nodes 3 --minutes 0.05";

fn quorate_sim(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-sim"));
    let output = command
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output();
    output.expect("the command starts")
}

/// Runs a command that must end with this exit code; returns its last line, which is JSON.
fn json(line: &str, code: i32) -> Value {
    let output = quorate_sim(line);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line}\n{out}\n{err}");
    assert!(err.is_empty(), "{line}: {err}");
    let values: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    values.into_iter().next_back().expect("a last line")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A file of this test run, gone before it is written.
fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        fs::remove_file(&path).expect("an old file can be removed");
    }
    path
}

#[test]
fn a_summary_has_its_documented_shape() {
    let summary = json(&format!("run --seeds 5-8 {TINY} --faults loss,crash --json"), 0);
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["seeds"], 4);
    assert_eq!(summary["violations"], Value::Array(Vec::new()));
    for number in ["events", "events_per_second", "simulated_seconds", "wall_seconds"] {
        assert!(
            summary[number].as_f64().is_some_and(|n| n > 0.0),
            "{number}: {summary}"
        );
    }
    let hash = summary["trace_hash"].as_str().expect("a string");
    assert!(
        hash.len() == 16 && u64::from_str_radix(hash, 16).is_ok(),
        "{hash}"
    );
    let faults = summary["faults"].as_object().expect("counts");
    assert!(
        faults.contains_key("loss") && faults.contains_key("crash"),
        "{faults:?}"
    );
    for (name, count) in faults {
        assert!(
            matches!(&name[..], "loss" | "crash") || count == 0,
            "{name}: {count}"
        );
    }
    assert!(summary["coverage"].is_object());
    assert_eq!(summary["interrupted"], false);
}

#[test]
fn the_hash_depends_on_the_seeds_and_not_on_the_jobs() {
    let hash = |seeds: &str, jobs: u32| {
        let summary = json(&format!("run --seeds {seeds} {TINY} --jobs {jobs} --json"), 0);
        (
            summary["trace_hash"].clone(),
            summary["events"].clone(),
            summary["faults"].clone(),
        )
    };
    let one = hash("6", 1);
    assert_eq!(one, hash("6", 2));
    assert_eq!(one, hash("0-5", 5));
    assert_ne!(one.0, hash("1-6", 2).0);
}

#[test]
fn a_seed_is_reproduced() {
    let once = json(&format!("repro 0x2a {TINY} --json"), 0);
    assert_eq!(once, json(&format!("repro 42 {TINY} --json"), 0));
    assert_eq!((&once["event"], &once["seed"]), (&"repro".into(), &"42".into()));
    assert_eq!(once["violations"], Value::Array(Vec::new()));
    let large = json(&format!("repro 0xffffffffffffffff {TINY} --json"), 0);
    assert_eq!(large["seed"], u64::MAX.to_string());
    assert_ne!(once["trace_hash"], large["trace_hash"]);
}

#[test]
fn a_file_gives_the_same_run_as_its_seed() {
    let file = scratch("schedule.txt");
    let output = quorate_sim(&format!("repro 7 {TINY}"));
    let told = text(&output.stdout);
    // What is printed first is the schedule.
    let (schedule, _) = told.split_once("\n\n").expect("a schedule and what became of it");
    fs::write(&file, format!("# from seed 7\n{schedule}\n")).expect("a file is written");
    let of_file = json(&format!("repro {} --json", file.display()), 0);
    assert_eq!(of_file, json(&format!("repro 7 {TINY} --json"), 0));
}

#[test]
fn what_cannot_be_done_ends_with_2_and_says_why() {
    let broken = scratch("broken.txt");
    fs::write(&broken, "seed 1\nhosts 300\n").expect("a file is written");
    let broken = broken.display();
    for (line, needle) in [
        ("", "Usage"),
        ("nonsense", "nonsense"),
        ("run --seeds 9-1", "--seeds"),
        ("repro /does/not/exist", "/does/not/exist"),
        ("scenario no-such-thing", "no-such-thing"),
        ("repro calm --nodes 5", "--nodes"),
        ("liveness --row no-such-row", "no row"),
        (&format!("repro {broken}"), "line 2"),
        (
            "show calm -o /does/not/exist/run.html",
            "/does/not/exist/run.html",
        ),
    ] {
        let output = quorate_sim(line);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {err}");
        assert!(err.contains(needle), "{line}: {err}");
        assert!(!err.contains("panicked"), "{line}: {err}");
    }
}

#[test]
fn nobody_reading_is_no_reason_to_complain() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-sim"));
    let child = command
        .args(["scenario", "all", "--text"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn scenarios_are_listed_printed_and_run() {
    let list = text(&quorate_sim("scenario").stdout);
    assert!(list.lines().any(|line| line.starts_with("calm ")), "{list}");
    let file = scratch("calm.txt");
    fs::write(&file, quorate_sim("scenario calm --text").stdout).expect("a file is written");
    let of_file = json(&format!("repro {} --json", file.display()), 0);
    let run = json("scenario calm --json", 0);
    assert_eq!(run["event"], "scenario");
    assert_eq!(run["scenarios"][0]["name"], "calm");
    assert_eq!(run["scenarios"][0]["trace_hash"], of_file["trace_hash"]);
}

#[test]
fn scripts_are_scenarios_without_a_text() {
    let list = text(&quorate_sim("scenario").stdout);
    let named = |line: &str| line.starts_with("locks-lost-grant ");
    assert!(list.lines().any(named), "{list}");
    let run = json("scenario locks-lost-grant --json", 0);
    assert_eq!(run["scenarios"][0]["name"], "locks-lost-grant");
    let print = quorate_sim("scenario locks-lost-grant --text");
    assert_eq!(print.status.code(), Some(2));
    assert!(text(&print.stderr).contains("it has no text"));
}

#[test]
fn a_page_is_written() {
    let page = scratch("run.html");
    let output = quorate_sim(&format!("show 3 {TINY} --faults none -o {}", page.display()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let html = fs::read_to_string(&page).expect("the page is there");
    assert!(html.starts_with("<!doctype html>") && html.contains("seed 0x3"));
}

#[test]
fn coverage_lists_its_counters() {
    let report = json(&format!("coverage --seeds 2 {TINY} --json"), 0);
    assert_eq!(
        (&report["event"], &report["seeds"]),
        (&"coverage".into(), &2.into())
    );
    let never = report["never"].as_array().expect("names");
    let counters = report["coverage"].as_object().expect("counts");
    assert!(
        never
            .iter()
            .all(|name| counters[name.as_str().expect("a name")] == 0)
    );
}

#[test]
fn a_bench_row_has_its_documented_shape() {
    let report = json(
        "bench --case growth --max-nodes 10 --windows 1 --window-ms 1 --json",
        0,
    );
    assert_eq!(report["event"], "bench");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 1);
    let row = rows[0].as_object().expect("a row");
    assert_eq!(
        (&row["name"], &row["nodes"], &row["checkers"]),
        (&"growth".into(), &10.into(), &false.into())
    );
    for number in [
        "events_per_second",
        "real_time_factor",
        "datagrams_per_node_second",
        "bytes_per_node_second",
    ] {
        assert!(row[number].as_f64().is_some_and(|n| n > 0.0), "{number}: {row:?}");
    }
    assert_eq!(row.len(), 7);
}

#[test]
fn a_liveness_row_has_its_documented_shape() {
    let report = json("liveness --seeds 3 --row whole --row rejoin --json", 0);
    assert_eq!(report["event"], "liveness");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert!(row["name"].is_string());
        assert_eq!((&row["seeds"], &row["never"]), (&3.into(), &0.into()), "{row}");
        let at = |name: &str| row[name].as_f64().expect("milliseconds");
        assert!(
            0.0 < at("median_ms") && at("median_ms") <= at("p99_ms") && at("p99_ms") <= at("p999_ms"),
            "{row}"
        );
        assert!(at("p999_ms") <= at("bound_ms"), "{row}");
    }
}

#[test]
fn a_planted_bug_is_reported_whether_caught_or_not() {
    // In one calm minute with one node there is nothing to catch.
    let line = "plant all --nodes 1 --minutes 0 --faults none --budget 1 --json";
    let report = json(line, 1);
    assert_eq!(report["event"], "planted");
    let rows = report["planted"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["caught"] == false), "{report}");
    for row in rows {
        assert!(
            row["name"].is_string() && row["seeds"].is_u64() && row["faults"].is_u64(),
            "{row}"
        );
    }
}

/// A mistake that a calm cluster with one cut shows at once.
const WRONG: &str = "--nodes 4 --minutes 0.5 --plant suspicion-never-refuted";

#[test]
fn a_violation_is_told_and_shown_again() {
    let summary = json(&format!("run --seeds 1 {WRONG} --json"), 1);
    assert_eq!(
        (&summary["event"], &summary["failed"]),
        (&"summary".into(), &1.into())
    );
    let told = &summary["violations"][0];
    assert_eq!(told["seed"], "0");
    assert!(told["at_s"].as_f64().is_some_and(|at| at > 0.0), "{told}");
    assert!(
        told["faults"].as_u64().is_some_and(|faults| faults <= 12),
        "{told}"
    );
    let repro = told["repro"].as_str().expect("a command");
    let line = repro
        .strip_prefix("cargo run --release -p quorate-sim -- ")
        .expect("a command to copy");
    let again = json(&format!("{line} --json"), 1);
    assert_eq!((&again["event"], &again["seed"]), (&"repro".into(), &"0".into()));
    assert_eq!(
        (&again["violations"][0]["what"], &again["violations"][0]["at_s"]),
        (&told["what"], &told["at_s"])
    );
    // For people the same, with a schedule to copy.
    let output = quorate_sim(&format!("run --seeds 1 {WRONG}"));
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert!(
        told.contains(repro) && told.contains("shortest schedule found"),
        "{told}"
    );
}

#[test]
fn a_shrunk_schedule_shows_the_same_and_is_clean_without_the_bug() {
    let file = scratch("shrunk.txt");
    let name = file.display();
    let output = quorate_sim(&format!("shrink 0 {WRONG} --budget 60 -o {name}"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let violated = json(&format!("repro {name} --plant suspicion-never-refuted --json"), 1);
    assert_eq!(violated["violations"].as_array().map(Vec::len), Some(1));
    let clean = json(&format!("repro {name} --json"), 0);
    assert_eq!(clean["violations"], Value::Array(Vec::new()));
}

#[test]
fn an_exhaustive_search_has_its_documented_shape() {
    let clean = json("explore --config five --json", 0);
    assert_eq!(
        (&clean["event"], &clean["config"]),
        (&"explore".into(), &"five".into())
    );
    assert!(
        clean["states"].as_u64().is_some_and(|states| states > 1000),
        "{clean}"
    );
    assert!(clean["depth"].as_u64().is_some_and(|depth| depth > 10), "{clean}");
    assert_eq!(clean["exhausted"], true);
    assert!(clean["violation"].is_null() && clean["break"].is_null());

    // With a rule left out a violation is what is hoped for, and none is a failure.
    let rule = "majority-of-filled-seats";
    let broken = json(&format!("explore --break {rule} --json"), 0);
    assert_eq!(
        (&broken["config"], &broken["break"]),
        (&"five".into(), &rule.into())
    );
    assert!(
        broken["violation"].is_string() && broken["exhausted"] == false,
        "{broken}"
    );
    let missed = json("explore --config five --break grace-left-out --json", 1);
    assert!(missed["violation"].is_null(), "{missed}");

    let trace = text(&quorate_sim(&format!("explore --break {rule}")).stdout);
    assert!(
        trace.contains("creates a group") && trace.contains("VIOLATION"),
        "{trace}"
    );
    for (line, hint) in [
        ("explore --config no-such", "expected ci, large, locks, or one of"),
        ("explore --break orphans-stay-for-ever", "no search shows"),
        ("explore --break no-such", "unknown planted bug"),
        ("explore --break all --config five", "each rule has its own"),
    ] {
        let output = quorate_sim(line);
        let err = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && err.contains(hint),
            "{line}: {err}"
        );
    }
}
