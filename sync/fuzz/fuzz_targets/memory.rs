//! The file of remembered digests: as it is, and under a right checksum, which no mutation finds.
#![no_main]

use banger_sync::overlay::memory::{Cursor, Identity, MAGIC, Memory};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Memory::parse(bytes);
    let sealed = [MAGIC, blake3::hash(bytes).as_bytes(), bytes].concat();
    if let Some(memory) = Memory::parse(&sealed) {
        let mut cursor = Cursor::new(&memory);
        for length in 0..8 {
            let _ = cursor.get(bytes.get(2..2 + length).unwrap_or_default(), &Identity::default());
        }
    }
});
