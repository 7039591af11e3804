use super::super::steps::STEPS;
use super::*;
use alloc::rc::Rc;
use core::cell::RefCell;
use serde_json::{Value, json};
use std::io;

#[derive(Clone, Default)]
struct Page(Rc<RefCell<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(style: Style) -> String {
    let page = Page::default();
    let mut timeline = Timeline::new(style, Box::new(page.clone()));
    let at = timeline.began + Duration::from_millis(1234);
    let joined = Line::MemberJoined {
        peer: "node-2".into(),
    };
    let summary = Summary {
        runtime: "tokio",
        event: "summary",
        members: 3,
        messages_sent: 7,
        messages_delivered: 7,
        requests_sent: 3,
        requests_answered: 3,
        crash_detected_ms: 3012,
        leave_noticed_ms: 4,
        rejoined: true,
        handovers: 8,
        tokens_rising: true,
        lost_before_next_ms: Some(21),
        next_holder_ms: 2034,
        failover_ms: 812,
        elapsed_ms: 5678,
    };
    timeline.heading(1, &STEPS[0]).expect("a page takes everything");
    timeline
        .line(at, "node-1", &joined)
        .expect("a page takes everything");
    timeline.summary(&summary).expect("a page takes everything");
    String::from_utf8(page.0.take()).expect("UTF-8")
}

#[test]
fn programs_get_one_object_a_line_and_the_summary_last() {
    let text = written(Style::Json);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    assert_eq!(
        (&lines[0]["event"], &lines[0]["step"]),
        (&json!("step"), &json!("discovery"))
    );
    assert_eq!(
        lines[1],
        json!({"event": "member_joined", "peer": "node-2", "node": "node-1", "t_ms": 1234})
    );
    assert_eq!(
        lines[2],
        json!({"event": "summary", "runtime": "tokio", "members": 3, "messages_sent": 7, "messages_delivered": 7,
               "requests_sent": 3, "requests_answered": 3, "crash_detected_ms": 3012, "leave_noticed_ms": 4, "rejoined": true,
               "handovers": 8, "tokens_rising": true, "lost_before_next_ms": 21, "next_holder_ms": 2034,
               "failover_ms": 812, "elapsed_ms": 5678})
    );
    assert!(
        text.lines().all(|line| line.starts_with(r#"{"event":"#)),
        "{text}"
    );
}

#[test]
fn people_get_a_table_and_colours_only_where_wanted() {
    let plain = written(Style::Text { colour: false });
    assert!(
        plain.contains("node-1      1.234 s  sees node-2 join\n"),
        "{plain}"
    );
    assert!(plain.contains("\n1. Three nodes start."), "{plain}");
    assert!(plain.contains("All of it happened, in 5.6 s"), "{plain}");
    assert!(!plain.contains('\x1b'), "{plain}");
    let coloured = written(Style::Text { colour: true });
    assert!(coloured.contains("\x1b[36mnode-1"), "{coloured}");
}

#[test]
fn every_line_has_words() {
    let line = Line::Started {
        id: "0123456789abcdef0123456789abcdef".into(),
        addr: SocketAddr::from(([127, 0, 0, 1], 5000)),
        seeds: vec!["node-1", "node-3"],
    };
    let text = line.to_string();
    assert_eq!(
        text,
        "starts on 127.0.0.1:5000 as 01234567, and knows the address of node-1 and node-3"
    );
    let left = |reason| {
        let peer = "node-3".into();
        Line::MemberLeft { peer, reason }.to_string()
    };
    assert!(left("failed").contains("failed") && left("left").contains("has left"));
    let lost = |reason| {
        let (key, token) = ("jobs/nightly", 7);
        Line::Lost { key, token, reason }.to_string()
    };
    assert!(lost("expired").contains("its own clock") && !lost("other").contains("clock"));
}

#[test]
fn steps_have_names_of_their_own() {
    let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), STEPS.len());
}
