//! What the fuzz targets do with their bytes. `daemon/tests/fuzzing.rs` includes this file, so that the same runs with
//! every compiler.

use std::fs::File;
use std::io::Read as _;

use bangerd::artifact::ext4::{Ext4Writer, Journal, Shape};
use bangerd::oci::flatten::{Flattener, Limits};
use bangerd::oci::layer::decompress;

/// Bytes as a container image's layer, on top of themselves: the second time every path is a lower layer's. Must end,
/// without a panic and within the limits. True if a filesystem came of it.
pub fn layer(bytes: &[u8]) -> bool {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("fs");
    let file = File::options().read(true).write(true).create_new(true).open(path).expect("our own directory");
    let shape = Shape { uuid: [7; 16], label: "fuzz", minimum_bytes: 16 << 20, spare_bytes: 0, journal: Journal::None };
    let mut writer = Ext4Writer::new(file, shape);
    let limits = Limits { entries: 10_000, content_bytes: 16 << 20 };
    let mut flattener = Flattener::new(&mut writer, limits);
    for _ in 0..2 {
        let Ok(stream) = decompress(bytes) else { return false };
        if flattener.apply(stream.take(64 << 20)).is_err() {
            return false;
        }
    }
    writer.finish().is_ok()
}
