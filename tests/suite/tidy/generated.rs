//! What is generated and checked in is what the generator makes today.

use std::collections::BTreeMap;
use std::path::Path;

use super::sources::{expect_none, root};

#[test]
fn generated_protocol_code_is_fresh() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    banger_generate::generate(&root(), scratch.path()).expect("the .proto files compile");
    let (made, checked_in) = (texts(scratch.path()), texts(&root().join("proto/src/gen")));
    let mut violations: Vec<String> = Vec::new();
    for name in made.keys().chain(checked_in.keys()) {
        if made.get(name) != checked_in.get(name) {
            violations.push(format!("proto/src/gen/{name}"));
        }
    }
    violations.dedup();
    expect_none(&violations, "run `cargo run -p banger-generate`");
}

#[test]
fn every_proto_file_is_generated_from() {
    let mut on_disk: Vec<String> = Vec::new();
    let mut pending = vec![root().join("proto/banger")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                pending.push(entry);
            } else {
                let below = entry.strip_prefix(root().join("proto")).expect("below proto/");
                on_disk.push(below.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    on_disk.sort();
    let mut listed: Vec<&str> = banger_generate::PROTO_FILES.to_vec();
    listed.sort_unstable();
    assert_eq!(on_disk, listed, "keep PROTO_FILES in tests/generate/src/lib.rs complete");
}

fn texts(directory: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(directory)
        .expect("readable")
        .map(|entry| entry.expect("readable"))
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("generated code is text");
            (entry.file_name().into_string().expect("UTF-8"), text)
        })
        .collect()
}
