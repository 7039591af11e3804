//! Tests of filters and pages.

use super::*;
use crate::locks::change::Change;
use crate::locks::{LockRequest, Wish};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;

fn life(name: u8) -> Life {
    Life::first(NodeId::from_bytes([name; 16]))
}

fn acquire(table: &mut Table, who: u8, request: u64, key: &str, priority: u8, pairs: &[(&str, &str)]) {
    let mut asked = LockRequest::new(key);
    for &(name, value) in pairs {
        asked = asked.metadata(name, value);
    }
    let (wish, _) = asked
        .check(Instant::ZERO, &crate::Config::default(), 30_000)
        .unwrap();
    let wish = Wish {
        priority,
        wait: true,
        ..wish
    };
    let change = Change::Acquire {
        owner: life(who),
        request,
        floor: 0,
        wish: Arc::new(wish),
    };
    let mut counter = 100 + table.tokens().max().unwrap_or(0);
    table.apply(&change, true, &mut counter);
}

/// Reads all pages, and says who was on them.
fn all(table: &Table, filter: &LockFilter) -> Vec<String> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = page(table, filter, after.as_ref(), Instant::ZERO, |token| {
            Some(Instant::from_millis(token))
        });
        rows.extend(page.rows.iter().map(|row| {
            let who = row.owner.node.to_bytes()[0];
            let how = if row.token.is_some() { "holds" } else { "waits for" };
            format!("{who} {how} {}", row.key)
        }));
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

fn sample() -> Table {
    let mut table = Table::default();
    acquire(&mut table, 1, 1, "jobs/a", 0, &[("on", "web-1")]);
    acquire(&mut table, 2, 1, "jobs/a", 0, &[]);
    acquire(&mut table, 3, 1, "jobs/a", 9, &[("on", "web-22")]);
    acquire(&mut table, 2, 2, "jobs/bb", 0, &[("on", "db")]);
    acquire(&mut table, 1, 2, "cron", 0, &[]);
    table
}

#[test]
fn filters_choose_by_everything_that_is_set() {
    let table = sample();
    let holders = ["1 holds cron", "1 holds jobs/a", "2 holds jobs/bb"];
    assert_eq!(
        all(&table, &LockFilter::new()),
        [
            "1 holds cron",
            "1 holds jobs/a",
            "3 waits for jobs/a",
            "2 waits for jobs/a",
            "2 holds jobs/bb"
        ]
    );
    assert_eq!(all(&table, &LockFilter::new().held()), holders);
    assert_eq!(all(&table, &LockFilter::new().held().key("jobs/*")), holders[1..]);
    assert_eq!(all(&table, &LockFilter::new().key("jobs/??")), holders[2..]);
    assert_eq!(all(&table, &LockFilter::new().held().contested()), holders[1..2]);
    assert_eq!(
        all(&table, &LockFilter::new().owner(life(2).node)),
        ["2 waits for jobs/a", "2 holds jobs/bb"]
    );
    assert_eq!(
        all(&table, &LockFilter::new().metadata("on", "web-*")),
        ["1 holds jobs/a", "3 waits for jobs/a"]
    );
    // A value that is empty is something else than any value.
    assert_eq!(all(&table, &LockFilter::new().metadata("on", "")), [""; 0]);
    let pattern = |filter: LockFilter| filter.wrong;
    let wrong = |field, len, least| Some(LockError::Pattern { field, len, least });
    assert_eq!(pattern(LockFilter::new().key("")), wrong("key", 0, 1));
    let long = "*".repeat(256);
    assert_eq!(pattern(LockFilter::new().key(&long)), wrong("key", 256, 1));
    let value = "value of metadata";
    assert_eq!(
        pattern(LockFilter::new().metadata("on", &long)),
        wrong(value, 256, 0)
    );
    assert_eq!(
        pattern(LockFilter::new().metadata("", "")),
        wrong("name of metadata", 0, 1)
    );
    // Tokens are 101, 202 and 303, and so are the milliseconds that are left.
    let soon = LockFilter::new().expires_within(Duration::from_millis(101));
    assert_eq!(all(&table, &soon), holders[1..2]);
    assert_eq!(all(&table, &LockFilter::new().key("none")), [""; 0]);
}

#[test]
fn pages_have_everybody_once_whatever_comes_and_goes_between() {
    let mut table = Table::default();
    let pair = ("note", "x".repeat(400));
    for who in 0..60 {
        let key = format!("lock-{:02}", who % 20);
        acquire(&mut table, who, 1, &key, who % 3, &[(pair.0, &pair.1)]);
    }
    let everybody = all(&table, &LockFilter::new());
    assert_eq!(everybody.len(), 60);
    let mut after = None;
    let mut seen = Vec::new();
    for round in 0.. {
        let page = page(&table, &LockFilter::new(), after.as_ref(), Instant::ZERO, |_| {
            None
        });
        assert!((1..=2).contains(&page.rows.len()));
        seen.extend(page.rows.iter().map(|row| row.owner.node.to_bytes()[0]));
        after = page.next;
        if after.is_none() {
            break;
        }
        // Somebody comes before and behind the page, and who was seen first goes.
        acquire(&mut table, 100, round, &format!("a-{round}"), 0, &[]);
        table.apply(
            &Change::DropOwner {
                node: life(seen[0]).node,
            },
            true,
            &mut 1000,
        );
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn a_beginning_that_is_known_is_gone_to_at_once() {
    let mut table = sample();
    for i in 0..2 * MAX_SEEN as u64 {
        acquire(&mut table, 3, 1 + i, &format!("b/{i}"), 0, &[]);
    }
    let seen = |pattern: &str| {
        let filter = LockFilter::new().key(pattern);
        let page = page(&table, &filter, None, Instant::ZERO, |_| None);
        let keys = page.rows.iter().map(|row| row.key.to_string());
        (keys.collect::<Vec<_>>(), page.next.is_some())
    };
    assert_eq!(seen("b/17"), (["b/17".to_string()].into(), false));
    let jobs = all(&sample(), &LockFilter::new().key("jobs/*")).len();
    let (keys, more) = seen("jobs/*");
    assert_eq!((keys.len(), more), (jobs, false));
    // Whatever ends a page, the next one goes on in the same range.
    assert_eq!(all(&table, &LockFilter::new().key("b/1?")).len(), 10);
    assert_eq!(all(&table, &LockFilter::new().key("*/17")).len(), 1);
    // A page may have nothing on it.
    let on_db = LockFilter::new().metadata("on", "db");
    assert_eq!(all(&table, &on_db), all(&sample(), &on_db));
    assert_eq!(all(&table, &on_db).len(), 1);
}

#[test]
fn patterns() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("a*", "abc", true),
        ("*c", "abc", true),
        ("a*c*e", "abcde", true),
        ("a*c*e", "abcd", false),
        ("?", "ä", true),
        ("?", "", false),
        ("a", "ab", false),
        ("**a", "bca", true),
    ] {
        assert_eq!(matches_pattern(pattern, text), fits, "{pattern} {text}");
    }
    // No blow-up.
    let text = "a".repeat(255);
    assert!(!matches_pattern(&("a*".repeat(100) + "b"), &text));
}

#[test]
fn metadata_that_is_anything_else_shows_nothing() {
    assert_eq!(pairs(&[]).count(), 0);
    assert_eq!(pairs(&[9, 1, b'a']).count(), 0);
    let shown: Vec<_> = pairs(&[2, 1, b'a', 0, 1, b'b', 7])
        .map(|pair| pair.1.to_string())
        .collect();
    assert_eq!(shown, ["b"]);
}

#[test]
fn who_waits_with_one_priority_is_listed_once_over_many_pages() {
    let mut table = Table::default();
    for who in 0..40 {
        acquire(&mut table, who, 1, "k", 0, &[]);
    }
    let how = |who| if who == 0 { "holds" } else { "waits for" };
    let expected: Vec<_> = (0..40).map(|who| format!("{who} {} k", how(who))).collect();
    assert_eq!(all(&table, &LockFilter::new()), expected);
}

#[test]
fn the_largest_row_fits_into_a_page() {
    let mut table = Table::default();
    acquire(&mut table, 1, 1, &"k".repeat(255), 0, &[("n", &"x".repeat(507))]);
    acquire(&mut table, 2, 1, "z", 0, &[]);
    assert_eq!(all(&table, &LockFilter::new()).len(), 2);
}

#[test]
fn any_pair_of_metadata_may_fit() {
    let mut table = Table::default();
    let pairs = [("on", "db"), ("zone", "eu"), ("zone", "us")];
    acquire(&mut table, 1, 1, "a", 0, &pairs);
    for (name, value, rows) in [
        ("on", "d*", 1),
        ("zone", "e?", 1),
        ("zone", "us", 1),
        ("zone", "db", 0),
    ] {
        let filter = LockFilter::new().metadata(name, value);
        assert_eq!(all(&table, &filter).len(), rows, "{name} {value}");
    }
}
