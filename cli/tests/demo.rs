//! The demo as its users see it: the built command, its output and its exit code.

use serde_json::Value;
use std::process::{Command, Output};

fn quorate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(args)
        .output()
        .expect("the command was built and can be started")
}

#[test]
fn all_of_the_demo_happens() {
    all_happens_on("tokio", &["demo", "--json"]);
}

#[test]
fn all_of_the_demo_happens_on_smol() {
    all_happens_on("smol", &["demo", "--json", "--runtime", "smol"]);
}

fn all_happens_on(runtime: &str, args: &[&str]) {
    let output = quorate(args);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{text}");
    let summary: Value = text
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .expect("the last line is JSON");
    let number = |field: &str| summary[field].as_u64().expect(field);
    assert_eq!(
        (&summary["event"], &summary["runtime"]),
        (&"summary".into(), &runtime.into())
    );
    assert_eq!(summary["rejoined"], true);
    assert_eq!(number("members"), 3);
    assert!(number("messages_sent") >= 5);
    assert_eq!(number("messages_sent"), number("messages_delivered"));
    assert!(number("requests_sent") >= 3);
    assert_eq!(number("requests_sent"), number("requests_answered"));
    // By the default settings a member has failed after three seconds of silence; a goodbye takes one datagram. A
    // machine that is busy with other tests takes longer.
    let (crash, leave) = (number("crash_detected_ms"), number("leave_noticed_ms"));
    assert!((2_000..12_000).contains(&crash), "crash noticed after {crash} ms");
    // A seat is emptied before its holder goes, which it awaits for ten seconds at most.
    assert!(leave < 15_000, "goodbye noticed after {leave} ms");
    // Three nodes have two turns each; then two of them, one after the other, in each of the steps that follow.
    let handovers = number("handovers");
    assert!((4..=11).contains(&handovers), "{handovers} hand-overs");
    assert_eq!(summary["tokens_rising"], true);
    // Without this feature no node can be cut off, and the demo says so.
    let cut = usize::from(cfg!(feature = "testing"));
    let lost_before = summary["lost_before_next_ms"].as_u64();
    assert_eq!(lost_before.is_some(), cut == 1, "{summary}");
    assert!(lost_before.is_none_or(|ms| (1..5_000).contains(&ms)), "{summary}");
    // The lease of a holder that dies has up to two seconds left; an election takes one to two.
    assert!(number("next_holder_ms") < 20_000, "{summary}");
    assert!(number("failover_ms") < 20_000, "{summary}");
    assert!(number("elapsed_ms") < 120_000, "{summary}");
    let count = |event: &str| lines(&text).filter(|line| line["event"] == event).count();
    assert_eq!(
        (count("killed"), count("cut_off"), count("lost")),
        (3, cut, cut),
        "{text}"
    );

    // The same from the lines themselves: whoever gets the lock has a higher token than all before.
    let tokens = |event| {
        lines(&text)
            .filter(move |line| line["event"] == event && line["key"] == "jobs/nightly")
            .map(|line| line["token"].as_u64().expect("a token"))
            .collect::<Vec<_>>()
    };
    let granted = tokens("granted");
    assert!(
        granted.len() == 10 + 2 * cut && granted.is_sorted_by(|a, b| a < b),
        "{text}"
    );
    assert_eq!(tokens("still_holds").len(), 1, "{text}");
    assert!(granted.contains(&tokens("still_holds")[0]), "{text}");
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
}

#[test]
fn the_command_says_what_is_wrong_with_its_arguments() {
    let output = quorate(&["bench", "messages", "--nodes", "99"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors.contains("--nodes") && errors.contains("from 2 to 15"),
        "{errors}"
    );
    assert!(output.stdout.is_empty());
    assert_eq!(quorate(&["bench"]).status.code(), Some(2));
    assert_eq!(quorate(&["frobnicate"]).status.code(), Some(2));
    assert!(String::from_utf8_lossy(&quorate(&["--version"]).stdout).starts_with("quorate "));
}
