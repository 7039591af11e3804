//! The test vectors of `docs/wire.md`, read from the document itself: it and the code cannot drift apart.
//!
//! Only tests come here, so that the crate can be built from its published package, which has no `docs/`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

const DOCUMENT: &str = include_str!("../../../docs/wire.md");
/// The families of vectors. Each has one test that knows all of its names.
const FAMILIES: [&str; 8] = [
    "kdf",
    "aead",
    "handshake",
    "membership",
    "messaging",
    "consensus",
    "status",
    "relay",
];

/// Reads all vectors: the lines of each block that begins with `# vectors`. A line is `name = hex`, or begins with a
/// space and continues the one before.
fn document() -> BTreeMap<&'static str, Vec<u8>> {
    let mut all = BTreeMap::new();
    for block in DOCUMENT.split("```text\n# vectors\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let mut name = "";
        for line in block.lines() {
            let digits = match line.split_once(" =") {
                Some((new, digits)) => {
                    name = new;
                    assert_eq!(all.insert(name, Vec::new()), None, "{name} is there twice");
                    digits
                }
                None => line,
            };
            let digits = digits.trim().as_bytes();
            assert!(digits.len().is_multiple_of(2), "{name}: half a byte in a line");
            let bytes = digits.chunks(2).map(|pair| {
                let text = core::str::from_utf8(pair).unwrap();
                u8::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{name}: {text}"))
            });
            all.get_mut(name).unwrap().extend(bytes);
        }
    }
    all
}

/// Compares what the code gives with what the document says of a family: all of it, and nothing else.
pub(crate) fn check(family: &str, computed: &[(&str, Vec<u8>)]) {
    assert!(FAMILIES.contains(&family));
    let mut documented = document();
    documented.retain(|name, _| name.split('.').next() == Some(family));
    let computed: BTreeMap<_, _> = computed.iter().cloned().collect();
    if computed != documented {
        panic!(
            "docs/wire.md differs from the code, which gives:\n{}",
            show(&computed)
        );
    }
}

/// Returns one vector of the document.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    document()
        .remove(name)
        .unwrap_or_else(|| panic!("{name} is not in docs/wire.md"))
}

/// Writes vectors as the document has them.
fn show(vectors: &BTreeMap<&str, Vec<u8>>) -> String {
    let mut text = String::new();
    for (name, bytes) in vectors {
        let _ = write!(text, "{name} =");
        for line in bytes.chunks(48) {
            text.push_str(if bytes.len() > 36 { "\n  " } else { " " });
            for byte in line {
                let _ = write!(text, "{byte:02x}");
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn every_vector_belongs_to_a_family() {
    let names: Vec<_> = document().into_keys().collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(FAMILIES.contains(&name.split('.').next().unwrap()), "{name}");
    }
}
