//! A whole conversation with the receiver in a fresh root: no panic, and nothing beside the root.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let place = tempfile::tempdir().expect("a temporary directory");
    let _ = banger_sync::receiver::run(&place.path().join("root"), bytes, std::io::sink());
    assert!(std::fs::read_dir(place.path()).expect("readable").count() <= 1);
});
