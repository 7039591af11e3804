//! What a node holds stays below what its config allows, and reaches it.

use super::*;
use crate::usage::{Usage, UsageRow};

fn small() -> Config {
    config()
        .max_members(4_usize)
        .max_tombstones(16_usize)
        .max_dials(1_usize)
        .max_candidates(8_usize)
        .max_half_open(8_usize)
        .max_message_size(2048_usize)
        .window_bytes(4096_usize)
        .window_messages(4_usize)
        .message_queue_size(4_usize)
        .send_queue_size(4_usize)
        .outbox_bytes(4096_usize)
}

/// Puts more on a small cluster than it takes, one of whose nodes never reads, while others crash and start again.
/// Returns the most that any node held of each thing.
fn pressed() -> Vec<UsageRow> {
    // Nobody is at the last two, which keeps dials under way and waiting.
    let seeds = || small().seed("10.0.0.1").seed("10.9.9.1").seed("10.9.9.2");
    let start = |n, seed| (addr(n), node(seeds(), seed));
    let mut nodes = vec![start(1, 1), start(2, 2), start(3, 3)];
    run(&mut nodes, at(2_000));
    let mut most: Vec<UsageRow> = Vec::new();
    for step in 0..100_u8 {
        let now = at(2_000 + u64::from(step) * 200);
        if step % 25 == 24 {
            nodes[2] = start(3, 100 + step);
        }
        let ids: Vec<_> = nodes.iter().map(|(_, node)| node.id()).collect();
        for i in 0..nodes.len() {
            for n in 0..12 {
                let to = Target::Node(ids[(i + 1) % ids.len()]);
                let payload = Bytes::from(vec![step; 150 * n + 1]);
                let node = &mut nodes[i].1;
                // Refused, most of them.
                let _ = node.send(now, to, payload.clone(), None);
                let _ = node.request(now, to, payload, None);
            }
        }
        run_from(&mut nodes, now, now + Duration::from_millis(199));
        for (i, (_, node)) in nodes.iter_mut().enumerate() {
            let usage = node.usage();
            if most.is_empty() {
                most.extend(usage.rows());
            }
            for (most, row) in most.iter_mut().zip(usage.rows()) {
                assert_eq!((most.name, most.limit), (row.name, row.limit));
                most.used = most.used.max(row.used);
            }
            while i != 1 && node.poll_message(now).is_some() {}
            while node.poll_event().is_some() {}
        }
    }
    most
}

#[test]
fn small_limits_are_reached_and_kept() {
    let rows = pressed();
    for row in &rows {
        assert!(row.used <= row.limit, "{row:?}");
    }
    let full = |name| rows.iter().any(|row| row.name == name && row.used == row.limit);
    for name in ["worst inbox messages", "dials"] {
        assert!(full(name), "{name}: {rows:?}");
    }
    let used = |name| rows.iter().any(|row| row.name == name && row.used > 0);
    for name in [
        "members",
        "tombstones",
        "sessions",
        "worst send queue",
        "worst messages under way",
        "dial candidates",
        "worst inbox bytes",
        "seed addresses",
    ] {
        assert!(used(name), "{name}: {rows:?}");
    }
}

#[test]
fn rows_have_names_of_their_own() {
    let usage = node(config(), 1).usage();
    let mut names: Vec<_> = usage.rows().iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), usage.rows().len());
    assert_eq!(usage.exceeded().next(), None);
}

#[test]
fn a_row_above_its_limit_is_found() {
    let mut usage = Usage::default();
    usage.row("kept", 2, 2);
    usage.row("broken", 3, 2);
    assert_eq!(
        usage.exceeded().map(|row| row.name).collect::<Vec<_>>(),
        ["broken"]
    );
}

#[cfg(feature = "planted-bugs")]
#[test]
fn ignored_back_pressure_shows() {
    use crate::planted::{PlantedBug, plant};
    let _planted = plant(Some(PlantedBug::BackPressureIgnored));
    let rows = pressed();
    let broken: Vec<_> = rows
        .iter()
        .filter(|row| row.used > row.limit)
        .map(|row| row.name)
        .collect();
    assert!(broken.contains(&"worst inbox messages"), "{broken:?}");
}
