//! How a platform words its failures. Never decides anything.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};

use super::PlatformError;

/// A failure without a cause below it.
pub fn plain(kind: Kind, attempt: impl Into<String>) -> PlatformError {
    PlatformError { attempt: attempt.into(), kind, hints: Vec::new(), source: None, left_behind: Vec::new() }
}

/// A failure caused by an error that knows its own class.
pub fn classified<E: Classified + Send + Sync + 'static>(attempt: impl Into<String>, source: E) -> PlatformError {
    PlatformError {
        attempt: attempt.into(),
        kind: source.kind(),
        hints: source.hints(),
        source: Some(Box::new(source)),
        left_behind: Vec::new(),
    }
}

/// A failed system call on a path. A full filesystem is named, with the way to look at it.
pub fn on_path(attempt: &str, path: &Path, source: io::Error) -> PlatformError {
    let attempt = format!("{attempt} {}", path.display());
    if is_full(&source) {
        return PlatformError { source: Some(Box::new(source)), ..full(attempt, path) };
    }
    plain(Kind::Failed, attempt).because(source)
}

/// The filesystem below `path` has no room left for `attempt`.
pub fn full(attempt: impl Into<String>, path: &Path) -> PlatformError {
    let filesystem = mount_point(path);
    PlatformError {
        attempt: format!("{}: the filesystem at {} is full", attempt.into(), filesystem.display()),
        kind: Kind::HostNotReady,
        hints: vec![format!("See what is used with `df -h {}` and make room.", filesystem.display())],
        source: None,
        left_behind: Vec::new(),
    }
}

/// No space, or no quota.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl PlatformError {
    /// Adds a way out.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Sets the cause.
    pub(super) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// The highest directory above `path` on the same device.
fn mount_point(path: &Path) -> PathBuf {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let mut ancestors = path.ancestors().skip_while(|path| device(path).is_none());
    let Some(mut highest) = ancestors.next() else { return path.to_owned() };
    let wanted = device(highest);
    for above in ancestors {
        if device(above) != wanted {
            break;
        }
        highest = above;
    }
    highest.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_filesystem_is_named_by_its_mount_point() {
        let error = on_path("cannot write", Path::new("/proc/self/none/x"), rustix::io::Errno::NOSPC.into());
        assert_eq!(error.kind, Kind::HostNotReady);
        assert!(error.attempt.contains("the filesystem at /proc is full"), "{}", error.attempt);
        assert!(error.hints[0].contains("`df -h /proc`"), "{:?}", error.hints);
    }

    #[test]
    fn an_ordinary_error_stays_ordinary() {
        let error = on_path("cannot write", Path::new("/x"), rustix::io::Errno::ACCESS.into());
        assert_eq!((error.kind, error.attempt.as_str()), (Kind::Failed, "cannot write /x"));
    }
}
