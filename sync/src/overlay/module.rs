//! The submodules of a full copy: each checked-out one is observed like the repository around it, and becomes part of
//! its tree.
//!
//! Only what lies in the working tree counts: a submodule without a repository of its own is an empty directory in the
//! guest, and nothing is fetched or checked out for it. `.gitmodules` says names and URLs, and nothing else of it is
//! used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::bstr::{BStr, ByteSlice};
use rustix::fs::FileType;

use super::config::{push_value, without_credentials};
use super::{GuestGit, OverlayError, repository};
use crate::dir::{Dir, Walker, is_absent};
use crate::path::TreePath;

/// Submodules within submodules within ….
pub(super) const DEPTH: usize = 32;

/// One submodule of an observed tree.
#[derive(Clone)]
pub struct Module {
    /// Where it is in the tree.
    pub path: TreePath,
    /// The commit it is at; `None` if there is none, or it is not checked out.
    pub head_commit: Option<String>,
    /// Its path within the repository it is in, and before it those of the repositories around it.
    pub(crate) parts: Vec<TreePath>,
    /// `None`: not checked out.
    pub(crate) git: Option<(Arc<GuestGit>, gix::ThreadSafeRepository)>,
}

impl Module {
    /// True if it is checked out: its files are part of the tree.
    pub fn is_populated(&self) -> bool {
        self.git.is_some()
    }
}

/// `path` of a repository inside another, seen from there.
pub(crate) fn below(outer: Option<&TreePath>, path: TreePath) -> Result<TreePath, OverlayError> {
    let Some(outer) = outer else { return Ok(path) };
    let joined = [outer.as_bytes(), b"/", path.as_bytes()].concat();
    TreePath::parse(&joined).map_err(|source| OverlayError::Path { source })
}

/// Opens the submodule at `path` of the working tree `root`; `None` if it is not checked out.
pub(super) fn open(root: &Path, path: &TreePath) -> Result<Option<repository::Opened>, OverlayError> {
    use std::os::unix::ffi::OsStrExt as _;
    let failed = |source| OverlayError::Io { action: "look at", path: path.as_bytes().to_vec(), source };
    let mut walker = Walker::new(Dir::open_root(root).map_err(failed)?);
    let (dir, name) = match walker.parent(path) {
        Ok(found) => found,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let inner = dir.open_dir(name).map_err(failed)?;
    let git = inner.stamp(b".git").map_err(failed)?.map(|stamp| stamp.file_type());
    if !matches!(git, Some(FileType::RegularFile | FileType::Directory)) {
        return Ok(None);
    }
    let place: PathBuf = root.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let opened = repository::open(&place)?;
    // A directory that only looks like a repository belongs to the one around it.
    let here = place.canonicalize().is_ok_and(|place| place == opened.root);
    here.then_some(opened).ok_or_else(|| OverlayError::SubmoduleElsewhere { path: path.clone() }).map(Some)
}

/// Lines for the outer repository's configuration: that its git looks after these submodules, and whence they come.
pub(super) fn configuration(repository: &gix::Repository, populated: &[TreePath]) -> Vec<u8> {
    let mut out = Vec::new();
    // Without names git still works in and around them; only `git submodule` does not.
    let Ok(Some(modules)) = repository.open_modules_file() else { return out };
    for path in populated {
        let Some(name) = modules.name_by_path(path.as_bytes().as_bstr()) else { continue };
        let Some(header) = header(name) else { continue };
        out.extend_from_slice(&header);
        push_value(&mut out, "active", b"true".as_bstr());
        let url = modules.url(name).ok().map(|url| url.to_bstring());
        if let Some(url) = url.and_then(|url| without_credentials(url.as_bstr())) {
            push_value(&mut out, "url", url.as_bstr());
        }
    }
    out
}

fn header(name: &BStr) -> Option<Vec<u8>> {
    let mut out = b"[submodule \"".to_vec();
    for &byte in name.iter() {
        match byte {
            b'\n' | b'\r' | 0 => return None,
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(b"\"]\n");
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_section() {
        assert_eq!(header(b"a/b".as_bstr()).unwrap(), b"[submodule \"a/b\"]\n");
        assert_eq!(header(b"a\"]\\".as_bstr()).unwrap(), b"[submodule \"a\\\"]\\\\\"]\n");
        assert_eq!(header(b"a\n[core]".as_bstr()), None);
    }
}
