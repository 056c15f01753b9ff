//! Fuzz target: any bytes as a container image's layer, on top of a small one. Must end, without a panic and
//! within the limits. The stable counterpart with a fixed corpus is `daemon/src/oci/tests/mutation.rs`.
#![no_main]

use std::fs::File;

use bangerd::artifact::ext4::{Ext4Writer, Journal, Shape};
use bangerd::oci::flatten::{Flattener, Limits};
use bangerd::oci::layer::decompress;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("fs");
    let file = File::options().read(true).write(true).create_new(true).open(path).expect("our own directory");
    let shape =
        Shape { uuid: [7; 16], label: "fuzz", minimum_bytes: 16 << 20, spare_bytes: 0, journal: Journal::None };
    let mut writer = Ext4Writer::new(file, shape);
    let limits = Limits { entries: 10_000, content_bytes: 16 << 20 };
    let mut flattener = Flattener::new(&mut writer, limits);
    // The same bytes twice: the second time every path of the first is a lower layer's.
    for _ in 0..2 {
        let Ok(stream) = decompress(data) else { return };
        if flattener.apply(std::io::Read::take(stream, 64 << 20)).is_err() {
            return;
        }
    }
    let _ = writer.finish();
});
