//! Settles a conflict for one of the sides. Only here does a session write to the host's tree, and only the one path
//! its owner named, if that still is what it was when the conflict was told.

use std::io::{self, Write as _};
use std::path::Path;

use banger_proto::failure::{Classified, Kind};

use crate::dir::{Dir, Replace, Walker, is_absent};
use crate::entry::{Entry, EntryKind};
use crate::overlay::{OverlayError, scan};
use crate::path::TreePath;

/// Why it is not settled.
#[derive(Debug, thiserror::Error)]
pub enum PreferError {
    /// Nothing to settle.
    #[error("{path} is not in conflict")]
    NoConflict {
        /// Where.
        path: TreePath,
    },
    /// Not now.
    #[error("the session cannot settle anything now: {why}")]
    NotNow {
        /// Why not.
        why: String,
    },
    /// The guest's answer.
    #[error("the guest keeps its version of {path}")]
    Kept {
        /// Where.
        path: TreePath,
    },
    /// Somebody edits it.
    #[error("{path} is being edited on the host, which would be lost")]
    HostChanged {
        /// Where.
        path: TreePath,
    },
    /// The host's tree cannot be read.
    #[error("cannot look at {path} on the host")]
    Observe {
        /// Where.
        path: TreePath,
        /// Why not.
        source: Box<OverlayError>,
    },
    /// The host's tree cannot be written.
    #[error("cannot write {path} on the host")]
    Write {
        /// Where.
        path: TreePath,
        /// Why not.
        source: io::Error,
    },
    /// Over.
    #[error("the session ended")]
    Ended,
}

impl Classified for PreferError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoConflict { .. } => Kind::NotFound,
            Self::NotNow { .. } | Self::Kept { .. } | Self::HostChanged { .. } => Kind::Conflict,
            Self::Observe { source, .. } => source.kind(),
            Self::Write { .. } | Self::Ended => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoConflict { .. } | Self::NotNow { .. } => {
                vec!["See what is with `banger vm workspace status`.".into()]
            }
            Self::Kept { .. } => vec!["A directory that is not empty is never replaced; move it away.".into()],
            Self::HostChanged { .. } => vec!["Finish the edit, then choose again.".into()],
            Self::Observe { source, .. } => source.hints(),
            Self::Write { .. } | Self::Ended => Vec::new(),
        }
    }
}

/// Puts the guest's version at `path` of the host's tree, which must have `expected` there.
pub fn take_over(
    root: &Path,
    path: &TreePath,
    expected: Option<&Entry>,
    guest: Option<&(Entry, Vec<u8>)>,
) -> Result<(), PreferError> {
    let seen = scan::look(root, std::slice::from_ref(path))
        .map_err(|source| PreferError::Observe { path: path.clone(), source: Box::new(source) })?;
    let now = seen.first().and_then(Option::as_ref);
    if now.map(Entry::content) != expected.map(Entry::content) {
        return Err(PreferError::HostChanged { path: path.clone() });
    }
    write(root, path, guest).map_err(|source| PreferError::Write { path: path.clone(), source })
}

fn write(root: &Path, path: &TreePath, guest: Option<&(Entry, Vec<u8>)>) -> io::Result<()> {
    let mut walker = Walker::new(Dir::open_root(root)?);
    let Some((entry, bytes)) = guest else {
        return match walker.parent(path) {
            Ok((dir, name)) => dir.remove_file(name),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        };
    };
    let (dir, name) = walker.ensure_parent(path)?;
    let temporary = [crate::receiver::home::TEMPORARY, b"prefer"].concat();
    dir.remove_file(&temporary)?;
    let placed = (|| {
        if entry.kind == EntryKind::Symlink {
            dir.symlink(bytes, &temporary)?;
        } else {
            let mode = if entry.kind == EntryKind::Executable { 0o755 } else { 0o644 };
            dir.create_file(&temporary, mode)?.write_all(bytes)?;
        }
        dir.rename(&temporary, name, Replace::Yes)
    })();
    // The first error counts.
    if placed.is_err() {
        let _ = dir.remove_file(&temporary);
    }
    placed
}
