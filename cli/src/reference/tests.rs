//! The checked-in reference is what the program says.

use std::path::Path;

#[test]
fn the_reference_in_docs_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let made = super::markdown();
    if std::env::var_os("BANGER_REGENERATE").is_some() {
        std::fs::write(&path, &made).expect("docs/ is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let command = "BANGER_REGENERATE=1 cargo nextest run --release -p banger the_reference_in_docs_is_fresh";
    assert!(found == made, "docs/cli.md is not what the program says; make it anew with `{command}`");
}

#[test]
fn every_command_is_described_with_a_runnable_example() {
    let text = super::markdown();
    for section in text.split("### `banger").skip(1) {
        let path = section.split('`').next().unwrap_or_default();
        let has = |words: &str| section.contains(&format!("    {words}banger{path}"));
        assert!(has("") || has("sudo "), "no example for `banger{path}`");
    }
}
