//! Fuzz target: any bytes as a container image's layer. See the crate's `layer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bangerd_fuzz::layer(bytes);
});
