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
