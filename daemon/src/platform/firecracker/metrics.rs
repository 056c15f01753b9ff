//! The file into which a VMM counts what it does: one JSON object a line, each minute and at its end.
//!
//! The VMM wants it to exist and only ever adds to it, so it is made here, and cut when it has grown: nobody else would.
//! Format: Firecracker's `docs/metrics.md`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Some four hours of counting.
const MOST_BYTES: u64 = 1 << 20;

/// Makes it anew and empty, for the owner alone.
///
/// # Errors
/// If it cannot be created.
pub fn make(path: &Path) -> io::Result<()> {
    // Anew: the VMM of before may have left a file that is not ours to share.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Empties it if it has grown beyond its bound; a VMM that does not append leaves a hole, which takes no room.
///
/// # Errors
/// If it exists and cannot be cut.
pub fn bound(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::symlink_metadata(path) {
        // What it takes, not how long it is: the latter never shrinks for a writer that keeps its place.
        Ok(found) if found.is_file() && found.blocks() * 512 > MOST_BYTES => {
            File::options().write(true).open(path)?.set_len(0)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn it_is_made_anew_and_never_grows_without_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.json");
        bound(&path).unwrap();
        make(&path).unwrap();
        let mut vmm = File::options().write(true).open(&path).unwrap();
        vmm.write_all(b"{}\n").unwrap();
        bound(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
        vmm.write_all(&vec![b' '; 2 << 20]).unwrap();
        vmm.sync_all().unwrap();
        bound(&path).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 0);
        make(&path).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 0);
    }
}
