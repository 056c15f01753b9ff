//! What images and kernels have in common: how they are fetched, written and kept.
//!
//! [`shelf`] keeps finished artifacts and unfinished builds apart, [`bootstrap`] runs mmdebstrap,
//! [`tarball`] turns a tar stream into an [`ext4`] file without root and without unpacking.
//! Nothing here knows what a kernel or an image is; see [`crate::kernel`] and [`crate::image`].

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub mod bootstrap;
pub(crate) mod copy;
pub mod ext4;
pub(crate) mod extents;
pub mod shelf;
pub mod stamp;
pub mod tarball;

/// Whether something that exists already is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Use what is there.
    IfAbsent,
    /// Make it again; the old files stay for whoever uses them.
    Always,
}

/// True if anywhere in the chain the disk or a quota is full.
pub(crate) fn caused_by_full_disk(error: &(dyn Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
        {
            return true;
        }
        at = error.source();
    }
    false
}

/// The way out of a full disk, or none.
pub(crate) fn disk_full_hint(error: &(dyn Error + 'static)) -> Vec<String> {
    if caused_by_full_disk(error) {
        vec!["See what is full with `df -h`, and remove images you do not need with `banger image delete`.".to_owned()]
    } else {
        Vec::new()
    }
}

/// Listings do not fail: what cannot be read is logged and left out.
pub(crate) fn or_log<T>(found: Result<Vec<T>, shelf::ShelfError>, what: &str) -> Vec<T> {
    found.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn Error, "cannot list the {what}");
        Vec::new()
    })
}

/// Bytes a file really occupies; 0 if it is not there.
pub(crate) fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.blocks() * 512)
}

/// Now, in milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
