//! The file of remembered digests.
#![no_main]

use banger_sync::overlay::memory::Memory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Memory::parse(bytes.to_vec());
});
