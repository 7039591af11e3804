use super::*;
use serde_json::{Value, json};

fn slice(median_us: f64, per_second: f64) -> Slice {
    Slice {
        per_second,
        median_us,
        p99_us: 2.0 * median_us,
        errors: 1,
    }
}

fn request() -> Request {
    let slices = [
        slice(30.0, 30_000.0),
        slice(20.0, 50_000.0),
        slice(25.0, 40_000.0),
    ];
    let floor = [
        slice(10.0, 160_000.0),
        slice(8.0, 150_000.0),
        slice(9.96, 170_000.0),
    ];
    let loss_free = [slice(25.0, 50_000.0)];
    Request::new((128, 64, 5.0), &slices, &floor, &loss_free).expect("there are slices")
}

fn run(json: bool, cases: Vec<Case>) -> String {
    let mut out = Vec::new();
    let mut reporter = Reporter::new(Setup::new("messages", "tokio", 3, 5), json, &mut out);
    for case in cases {
        reporter.add(case).expect("a vector takes everything");
    }
    reporter.finish().expect("a vector takes everything");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_request_case_has_the_median_slice_and_the_ratios_of_what_it_shows() {
    let request = request();
    assert_eq!(
        (request.median_us, request.median_us_min, request.median_us_max),
        (25.0, 20.0, 30.0)
    );
    assert_eq!(
        (request.floor_median_us, request.p99_us, request.errors),
        (10.0, 50.0, 3)
    );
    assert_eq!((request.ratio, request.rate_ratio), (2.5, 4.0));
    assert_eq!(
        (request.loss_free_per_second, request.of_loss_free),
        (Some(50_000.0), Some(0.8))
    );
    assert_eq!(Request::new((128, 64, 0.0), &[], &[], &[]), None);
}

#[test]
fn json_is_one_object_for_each_case_and_a_summary_of_all() {
    let join = Join {
        nodes: 3,
        repeats: 5,
        median_ms: 2.5,
        min_ms: 2.0,
        max_ms: 9.0,
    };
    let text = run(true, vec![Case::Request(request()), Case::Join(join)]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let [first, second, summary] = &lines[..] else {
        panic!("{text}");
    };
    for (field, value) in [
        ("bench", json!("messages")),
        ("case", json!("request")),
        ("size", json!(128)),
        ("in_flight", json!(64)),
        ("loss", json!(5.0)),
        ("per_second", json!(40_000.0)),
        ("floor_per_second", json!(160_000.0)),
        ("ratio", json!(2.5)),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert_eq!(
        *second,
        json!({"bench": "messages", "case": "join", "nodes": 3, "repeats": 5, "median_ms": 2.5, "min_ms": 2.0,
               "max_ms": 9.0})
    );
    assert_eq!(
        (&summary["event"], &summary["runtime"]),
        (&json!("summary"), &json!("tokio"))
    );
    assert_eq!(summary["cases"], json!([first, second]));
}

#[test]
fn what_does_not_apply_is_left_out() {
    let request = Request {
        loss_free_per_second: None,
        of_loss_free: None,
        ..request()
    };
    let text = serde_json::to_string(&Case::Request(request)).expect("JSON");
    assert!(!text.contains("loss_free"), "{text}");
    let idle = Idle {
        nodes: 3,
        seconds: 10.0,
        memory: None,
        cpu_percent: None,
        cpu_percent_max: None,
        datagrams_per_second: 8.0,
        datagrams_per_second_max: 9.0,
        bytes_per_second: 700.0,
        bytes_per_second_max: 710.5,
    };
    let value = serde_json::to_value(Case::Idle(idle)).expect("JSON");
    assert_eq!(
        (&value["case"], &value["rss_kib"]),
        (&json!("idle"), &Value::Null)
    );
}

#[test]
fn tables_show_each_family_once_and_what_was_skipped() {
    let skipped = Skipped {
        what: "requests under loss".into(),
        why: "no",
    };
    let text = run(
        false,
        vec![
            Case::Request(request()),
            Case::Skipped(skipped),
            Case::Request(request()),
        ],
    );
    assert_eq!(text.matches("times floor").count(), 1, "{text}");
    assert_eq!(text.matches("128 B").count(), 2, "{text}");
    assert!(text.contains("not measured: requests under loss (no)"), "{text}");
    assert!(!text.contains("broadcast"), "{text}");
}
