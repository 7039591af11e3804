//! That no scenario is forgotten.

use std::fs;
use std::path::Path;

/// Collects the names of all scenarios: what is generic in the runtime and takes nothing.
fn scenarios(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            scenarios(&path, found);
        } else {
            let text = fs::read_to_string(&path).expect("a source");
            let names = text.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            found.extend(names.filter_map(|name| name.strip_suffix("<R: Runtime>() {").map(str::to_owned)));
        }
    }
}

#[test]
fn every_scenario_is_in_a_suite() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let suites = fs::read_to_string(root.join("lib.rs")).expect("the suites");
    let (_, suites) = suites.split_once("macro_rules! suite ").expect("the suites");
    let words: Vec<&str> = suites.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut found = Vec::new();
    scenarios(&root, &mut found);
    assert!(found.len() >= 40, "{}", found.len());
    found.retain(|name| !words.contains(&name.as_str()));
    assert!(found.is_empty(), "in no suite: {found:?}");
}
