//! The benchmarks as their users see them. The figures are not judged here, only that there are some.

use serde_json::Value;
use std::process::Command;

fn lines(args: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(args)
        .output()
        .expect("the command was built and can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

/// Checks the form of a report and returns its only case.
fn only_case(lines: &[Value]) -> &Value {
    let [case, summary] = lines else {
        panic!("{lines:?}");
    };
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["cases"], Value::from(vec![case.clone()]));
    case
}

#[test]
fn a_node_joins_on_either_runtime() {
    for runtime in ["tokio", "smol"] {
        let args = [
            "bench",
            "messages",
            "--seconds",
            "1",
            "--case",
            "join",
            "--runtime",
            runtime,
            "--json",
        ];
        let lines = lines(&args);
        let case = only_case(&lines);
        assert_eq!(
            (&case["bench"], &case["case"]),
            (&"messages".into(), &"join".into())
        );
        let number = |field: &str| case[field].as_f64().expect(field);
        assert!(number("repeats") >= 5.0, "{case}");
        assert!(
            0.0 < number("min_ms") && number("min_ms") <= number("median_ms"),
            "{case}"
        );
        assert!(number("median_ms") <= number("max_ms"), "{case}");
    }
}

fn number(case: &Value, field: &str) -> f64 {
    case[field]
        .as_f64()
        .unwrap_or_else(|| panic!("no {field}: {case}"))
}

/// Checks the form of a report on locks and returns its cases.
fn lock_cases(lines: &[Value]) -> &[Value] {
    let (summary, cases) = lines.split_last().expect("a summary");
    assert_eq!(
        (&summary["event"], &summary["bench"]),
        (&"summary".into(), &"locks".into())
    );
    assert_eq!(summary["cases"], Value::from(cases.to_vec()));
    assert!(cases.iter().all(|case| case["bench"] == "locks"), "{cases:?}");
    cases
}

#[test]
fn locks_are_measured_in_one_process_on_either_runtime() {
    let names = [
        "pair_follower",
        "distinct_64",
        "contended_8_spread",
        "holder_leaves",
        "cold_start",
    ];
    for runtime in ["tokio", "smol"] {
        let mut args = vec!["bench", "locks", "--in-process", "--json", "--runtime", runtime];
        // So long that each slice of it has room for some answers, however busy the machine is.
        args.extend(["--seconds", "4", "--repeats", "1", "--case", "leader_killed"]);
        args.extend(names.iter().flat_map(|&name| ["--case", name]));
        let lines = lines(&args);
        assert_eq!(lines.last().expect("a summary")["in_process"], true);
        let cases = lock_cases(&lines);
        let (skipped, measured): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case["case"] == "skipped");
        assert_eq!(skipped.len(), 1, "{runtime}: {cases:?}");
        assert_eq!(skipped[0]["what"], "leader_killed");
        let found: Vec<_> = measured.iter().map(|case| &case["case"]).collect();
        assert_eq!(found, names, "{runtime}");
        for case in &measured {
            assert!(number(case, "p99_us") >= number(case, "median_us"), "{case}");
            assert!(number(case, "median_us") > 0.0, "{case}");
        }
        for case in &measured[..3] {
            assert!(
                number(case, "per_second") > 0.0 && number(case, "floor_median_us") > 0.0,
                "{case}"
            );
            assert!(
                number(case, "ratio") > 0.0 && number(case, "rate_ratio") > 0.0,
                "{case}"
            );
        }
        assert!(
            (1.0..=8.0).contains(&number(measured[2], "max_share")),
            "{}",
            measured[2]
        );
    }
}

#[test]
fn processes_are_stopped_and_killed_on_either_runtime() {
    let names = ["leader_killed", "leader_stopped", "holder_killed"];
    for runtime in ["tokio", "smol"] {
        let mut args = vec!["bench", "locks", "--repeats", "2", "--json", "--runtime", runtime];
        args.extend(names.iter().flat_map(|&name| ["--case", name]));
        let lines = lines(&args);
        assert_eq!(lines.last().expect("a summary")["runtime"], runtime);
        let cases = lock_cases(&lines);
        let found: Vec<_> = cases.iter().map(|case| &case["case"]).collect();
        assert_eq!(found, names, "{runtime}");
        for (case, repeats) in cases.iter().zip([2.0, 1.0, 1.0]) {
            assert_eq!(number(case, "repeats"), repeats, "{case}");
            assert!(
                number(case, "min_ms") > 0.0 && number(case, "max_ms") >= number(case, "min_ms"),
                "{case}"
            );
        }
        assert_eq!(number(&cases[2], "ttl_ms"), 1000.0);
    }
}

#[test]
fn virtual_nodes_are_counted() {
    let lines = lines(&["bench", "idle", "--virtual", "5", "--seconds", "5", "--json"]);
    let case = only_case(&lines);
    assert_eq!((&case["case"], &case["nodes"]), (&"virtual".into(), &5.into()));
    let number = |field: &str| case[field].as_f64().expect(field);
    assert!(
        number("datagrams_per_second") > 0.0 && number("speed") > 0.0,
        "{case}"
    );
    assert!(
        number("bytes_per_second_max") >= number("bytes_per_second"),
        "{case}"
    );
}

/// Also where one of them is stopped, and cannot notice anything.
#[test]
#[cfg(target_os = "linux")]
fn no_process_outlives_the_command() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["bench", "locks", "--repeats", "1000", "--json"])
        .args([
            "--case",
            "pair_leader",
            "--case",
            "leader_stopped",
            "--seconds",
            "1",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command was built and can be started");
    let output = command.stdout.take().expect("piped");
    let mut first = String::new();
    BufReader::new(output).read_line(&mut first).expect("a line");
    let parent = format!("PPid:\t{}\n", command.id());
    let children = || -> Vec<(String, String)> {
        let all = std::fs::read_dir("/proc").expect("Linux has it").flatten();
        let status = |entry: std::fs::DirEntry| {
            let text = std::fs::read_to_string(entry.path().join("status")).ok()?;
            text.contains(&parent)
                .then(|| (entry.file_name().to_string_lossy().into_owned(), text))
        };
        all.filter_map(status).collect()
    };
    let stopped = |children: &[(String, String)]| children.iter().any(|(_, text)| text.contains("State:\tT"));
    let mut seen = children();
    while !stopped(&seen) {
        std::thread::sleep(core::time::Duration::from_millis(5));
        seen = children();
        assert!(command.try_wait().expect("a child").is_none(), "it ended");
    }
    command.kill().expect("it runs");
    command.wait().expect("a child");
    // They have another parent now; the number of a process is not used again at once.
    let lives = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        text.contains("Name:\tquorate") && !text.contains("State:\tZ")
    };
    // Far longer than it takes, so that a failure is not a test that hangs.
    for _ in 0..6000 {
        seen.retain(|(pid, _)| lives(pid));
        if seen.is_empty() {
            return;
        }
        std::thread::sleep(core::time::Duration::from_millis(5));
    }
    let pids: Vec<_> = seen.iter().map(|(pid, _)| pid).collect();
    panic!("these live on: {pids:?}");
}
