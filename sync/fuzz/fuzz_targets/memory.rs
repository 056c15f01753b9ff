//! The file of remembered digests: as it is, and under a right checksum, which no mutation finds.
#![no_main]

use banger_sync::overlay::memory::{Cursor, Identity, MAGIC, Memory};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Memory::parse(bytes);
    let look = |sealed: &[u8]| {
        let Some(memory) = Memory::parse(sealed) else { return };
        let mut cursor = Cursor::new(&memory);
        for length in 0..8 {
            let _ = cursor.get(bytes.get(2..2 + length).unwrap_or_default(), &Identity::default());
        }
        for entry in [0, 1, 7, u32::MAX] {
            let _ = cursor.raw(entry);
        }
    };
    // As a table, with nothing after it.
    let sealed = |table: &[u8], parts: &[u8]| {
        let length = u32::try_from(table.len()).unwrap_or(0).to_le_bytes();
        [&MAGIC[..], &length, blake3::hash(table).as_bytes(), table, parts].concat()
    };
    look(&sealed(bytes, &[]));
    // As the only part, of as many entries as the first byte says.
    let length = u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
    let entries = u32::from(bytes.first().copied().unwrap_or(0)).to_le_bytes();
    let table = [&length[..], &entries, blake3::hash(bytes).as_bytes(), &0_u16.to_le_bytes()].concat();
    look(&sealed(&table, bytes));
});
