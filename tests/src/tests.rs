//! That no scenario is forgotten.

use std::fs;
use std::path::Path;

/// Collects the names of all scenarios: what is generic in the runtime and takes nothing.
fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
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
    let mut found = Vec::new();
    sources(&root, &mut found);
    let mut listed: Vec<_> = crate::scenarios::<crate::Smol>();
    listed.extend(crate::scenarios_os::<crate::Smol>());
    let mut listed: Vec<_> = listed.iter().map(|scenario| scenario.name).collect();
    found.sort();
    listed.sort_unstable();
    assert_eq!(found, listed);
}
