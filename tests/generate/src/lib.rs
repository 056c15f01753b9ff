//! Generates `proto/src/gen/` from `proto/banger/**/*.proto`, without a `protoc` on the machine.
//!
//! Used twice: `cargo run -p banger-generate` writes the files, and the suite compares what is checked in
//! with what this would write. Its own crate, without banger-proto, so that it works when those files do not.

use std::path::{Path, PathBuf};

/// Every `.proto` of the project, relative to `proto/`, in the order the generator gets them.
pub const PROTO_FILES: &[&str] = &[
    "banger/v1/common.proto",
    "banger/v1/operation.proto",
    "banger/v1/vm.proto",
    "banger/v1/image.proto",
    "banger/v1/kernel.proto",
    "banger/v1/system.proto",
    "banger/guest/v1/seed.proto",
    "banger/guest/v1/control.proto",
    "banger/guest/v1/sync.proto",
    "banger/root/v1/root.proto",
];

/// The workspace root, found from this crate's manifest.
pub fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("tests/generate lies two levels below the root").to_path_buf()
}

/// Writes the Rust for [`PROTO_FILES`] into `out_dir`.
///
/// # Errors
/// Text naming the file and position for a syntax error, or the directory that cannot be written.
pub fn generate(root: &Path, out_dir: &Path) -> Result<(), String> {
    let include = root.join("proto");
    let descriptors = protox::compile(PROTO_FILES, [&include]).map_err(|error| format!("{error:?}"))?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .build_transport(false)
        // Most of what a transfer carries: parts of the frame it came in instead of copies.
        .bytes(".banger.guest.v1.Chunk.data")
        .bytes(".banger.guest.v1.FileData.data")
        .out_dir(out_dir)
        .client_mod_attribute("banger.v1", "#[cfg(feature = \"client\")]")
        .server_mod_attribute("banger.v1", "#[cfg(feature = \"server\")]")
        .compile_fds(descriptors)
        .map_err(|error| format!("writing generated code to {}: {error}", out_dir.display()))
}
