use crate::schedule::Schedule;

fn counts(text: &str) -> std::collections::BTreeMap<&'static str, u64> {
    let schedule: Schedule = text.parse().expect("a schedule");
    crate::run(&schedule, true).coverage
}

#[test]
fn what_does_not_occur_is_there_with_zero() {
    let counts = counts("hosts 3\nchaos 10s");
    assert_eq!(counts.len(), super::COUNT);
    assert_eq!(counts["member-suspected"], 0);
    assert_eq!(counts["replayed-datagram-refused"], 0);
    assert_eq!(counts["ready"], 3);
}

#[test]
fn what_occurs_is_counted() {
    let cases = [
        (
            "5s +20s split left=0",
            &[
                "member-suspected",
                "false-death",
                "lost-everybody",
                "found-again-after-false-death",
            ][..],
        ),
        (
            "5s +20s split left=0\ncluster_size 3\nmessages 600",
            &["quorum-lost", "quorum-regained", "broadcast-held-by-quorum-gate"],
        ),
        (
            "5s +20s duplicate from=* to=* permille=500",
            &["duplicated-datagram-refused"],
        ),
        (
            "5s +20s corrupt from=* to=* permille=100 how=flip",
            &["altered-datagram-refused"],
        ),
        ("5s +20s replay count=50", &["replayed-datagram-refused"]),
        (
            "5s +20s reorder from=* to=* permille=500 by=50ms",
            &["overtaken-datagram-opened"],
        ),
        (
            "5s +20s loss from=* to=* permille=300\nmessages 600",
            &["retransmitted"],
        ),
        (
            "5s +20s mtu from=* to=* bytes=100\nmessages 600\nmax_size 1000",
            &["datagram-too-long-for-the-way"],
        ),
        ("5s +20s crash host=1", &["died-and-found-out"]),
        ("5s +1s crash host=1", &["replaced-at-its-address"]),
        ("5s +20s leave host=1", &["left-and-told"]),
        ("5s +5s blackout wall_back=0s", &["all-dead-and-back"]),
        ("5s rebind host=1", &["path-changed"]),
        (
            "5s +10s pause host=1",
            &["paused-over-the-failure-timeout", "late-timers"],
        ),
        (
            "5s +20s unread host=1\nsmall true\nmessages 600",
            &["back-pressure", "refused-queue-full"],
        ),
        ("5s +20s stranger differs=key", &["unknown-key"]),
        ("5s +20s stranger differs=name", &["other-cluster-met"]),
        ("5s +20s stranger differs=max-ttl", &["quarantined"]),
    ];
    for (text, names) in cases {
        let counts = counts(&format!("hosts 3\nchaos 40s\n{text}"));
        for &name in names {
            assert!(counts[name] > 0, "{text}: {name} was not counted");
        }
    }
}
