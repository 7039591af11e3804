use super::*;
use crate::app::Idle;
use crate::sim::Sim;
use quorate_core::Duration;

/// A name that ends a script element, begins a comment, and breaks a line where only JavaScript sees one.
const NASTY: &str = "</script><b>\u{2028}<!--\"\\&'";

fn recorded() -> (Sim<Idle>, Vec<Violation>) {
    let mut sim = Sim::builder()
        .seed(5)
        .hosts(3)
        .config(|_, config| config.name(NASTY))
        .observer(Recording::new(1_000))
        .build_with(|_| Idle);
    sim.run_for(Duration::from_secs(2));
    let violation = Violation {
        what: NASTY.to_owned(),
        by: "test",
        at: Duration::from_secs(1),
    };
    (sim, vec![violation])
}

fn drawn() -> String {
    let (sim, violations) = recorded();
    let about = About {
        title: NASTY,
        seed: 5,
        trace_hash: sim.trace_hash(),
        schedule: NASTY,
        violations: &violations,
    };
    page(sim.observer().expect("the builder was given one"), &about)
}

/// What is between the tags of the element that holds the data.
fn data_of(page: &str) -> &str {
    let (_, rest) = page.split_once("id=\"data\">").expect("the page has data");
    rest.split_once("</script>").expect("the element ends").0
}

#[test]
fn every_part_has_its_place_and_none_is_left() {
    let page = drawn();
    for place in ["/*STYLE*/", "/*DATA*/", "/*SCRIPT*/"] {
        assert_eq!(VIEWER.matches(place).count(), 1, "{place}");
        assert!(!page.contains(place), "{place}");
    }
    assert!(page.contains(STYLE) && SCRIPT.iter().all(|part| page.contains(part)));
    assert!(page.trim_end().ends_with("</html>"));
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let page = drawn();
    for sign in [
        "http:",
        "https:",
        "//cdn",
        " src=",
        "@import",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
    ] {
        assert!(!page.contains(sign), "{sign}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn no_text_of_a_run_becomes_markup() {
    let page = drawn();
    let data = data_of(&page);
    assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
    assert!(data.ends_with('}'), "nothing in the data ends its element");
    assert!(data.contains(r#"\u003c/script\u003e\u003cb\u003e\u2028\u003c!--\"\\\u0026'"#));
    // The data, the script, and nothing else.
    assert_eq!(page.matches("</script>").count(), 2);
    // The viewer has no means to make markup of texts.
    for means in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ] {
        assert!(SCRIPT.iter().all(|part| !part.contains(means)), "{means}");
    }
    assert!(
        SCRIPT
            .iter()
            .all(|part| !part.contains("</script") && !part.contains("<!--"))
    );
}

#[test]
fn the_same_run_gives_the_same_page() {
    assert_eq!(drawn(), drawn());
}

#[test]
fn a_page_has_the_bands_of_locks_with_their_tokens() {
    use crate::app::Recorder;
    use quorate_core::{Event, LockEvent, LockRequest};
    let schedule = crate::Schedule {
        cluster_size: 3,
        ..crate::Schedule::calm(5, 3)
    };
    let builder = Sim::builder().schedule(schedule).observer(Recording::new(1_000));
    let mut sim = builder.build_with(|_| Recorder::default());
    sim.run_for(Duration::from_secs(5));
    let [a, b] = [NodeIndex(0), NodeIndex(1)];
    let request = LockRequest::new(NASTY).wait(Duration::from_secs(9));
    let first = sim.with(a, |cx| cx.lock(request.clone())).unwrap();
    sim.run_for(Duration::from_secs(1));
    sim.with(b, |cx| cx.lock(request)).unwrap();
    sim.run_for(Duration::from_secs(1));
    sim.with(a, |cx| cx.unlock(first)).unwrap();
    sim.run_for(Duration::from_secs(1));
    let tokens = [a, b].map(|node| {
        let events = sim.events(node).iter();
        let token = events.filter_map(|(_, event)| match event {
            Event::Lock(LockEvent::Granted { token, .. }) => Some(*token),
            _ => None,
        });
        token.last().expect("both were granted the lock")
    });
    let recording: &Recording = sim.observer().expect("the builder was given one");
    let bands = |believed: bool| {
        let bands = recording.locks.iter().filter(|band| band.believed == believed);
        bands.cloned().collect::<Vec<_>>()
    };
    let (believed, served) = (bands(true), bands(false));
    for bands in [&believed, &served] {
        let found: Vec<_> = bands.iter().map(|band| (band.node, band.token)).collect();
        assert_eq!(found, [(a, tokens[0]), (b, tokens[1])]);
        assert!(bands[0].to.is_some() && bands[1].to.is_none());
        assert!(bands[0].to <= Some(bands[1].from));
    }
    for (believed, served) in believed.iter().zip(&served) {
        assert!(served.from <= believed.from, "{served:?} holds {believed:?}");
        assert!(served.to.is_none() || believed.to <= served.to);
    }
    let page = page(recording, &About::default());
    let (_, bands) = data_of(&page)
        .split_once("\"locks\":[[")
        .expect("there are bands");
    let (bands, _) = bands.split_once("]],").expect("they end");
    assert_eq!(bands.split("],[").count(), 4, "{bands}");
    for token in tokens {
        assert_eq!(bands.matches(&format!("\"{token}\"")).count(), 2, "{bands}");
    }
    assert!(
        bands.contains("\\u003c/script"),
        "names of locks are data: {bands}"
    );
    // What draws them is part of the page.
    assert!(
        SCRIPT
            .iter()
            .any(|part| part.contains("drawLocks(ctx, lane, place, at, colours);"))
    );
}

#[test]
fn an_empty_recording_has_a_page_too() {
    let page = page(&Recording::new(0), &About::default());
    assert!(data_of(&page).contains("\"flights\":[]"));
}

#[test]
fn datagrams_are_named_by_their_second_byte() {
    for flavor in [0x70, 0x71, 0x7f] {
        let names: Vec<_> = (0..7).map(|n| KINDS[kind([flavor, n]) as usize]).collect();
        assert_eq!(
            names,
            ["other", "HELLO", "CHALLENGE", "M1", "M2", "sealed", "other"]
        );
    }
    assert_eq!(KINDS[kind([0x12, 1]) as usize], "other");
}

#[test]
fn json_has_its_commas_and_escapes() {
    let mut json = Json::new();
    json.open('{').key("a").open('[').number(1).maybe(None).close(']');
    json.key("b").list(["x\n\u{7f}", "é"], |json, text| {
        json.text(text);
    });
    json.key("c").open('{').close('}').close('}');
    assert_eq!(
        json.finish(),
        "{\"a\":[1,-1],\"b\":[\"x\\u000a\\u007f\",\"é\"],\"c\":{}}"
    );
}
