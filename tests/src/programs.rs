//! The programs under test: those `make build` leaves in the target directory.

use std::path::{Path, PathBuf};

/// Names of the programs a rootless session needs.
pub const NAMES: [&str; 3] = ["banger", "bangerd", "banger-guest"];

/// The workspace root.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

/// Where cargo builds: `$CARGO_TARGET_DIR`, else `target/` in the root.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace_root().join(directory),
        None => workspace_root().join("target"),
    }
}

/// The directory with the release programs.
///
/// # Panics
/// If one is missing: tests build nothing themselves.
pub fn release_directory() -> PathBuf {
    let directory = target_directory().join("release");
    for name in NAMES {
        let program = directory.join(name);
        assert!(program.is_file(), "{} is missing: run `make build` first", program.display());
    }
    directory
}
