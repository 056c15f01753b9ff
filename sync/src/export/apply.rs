//! Puts the guest's changes onto a clean working tree: all of them, or none.
//!
//! Contents wait beside the repository until everything has arrived and every precondition holds: nothing uncommitted
//! or untracked, and each file still what the guest's copy started from. Only then is anything written
//! ([`placing`](super::placing)). Links are never followed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gix::index::entry::Mode;

use super::placing::Placing;
use super::{Change, ExportError, Item};
use crate::dir::{Dir, Walker};
use crate::entry::{EntryKind, Reason};
use crate::overlay::{CopyMode, ObserveOptions, index, observe, repository};
use crate::path::TreePath;

/// Changes and where their contents wait.
pub struct Staging {
    place: tempfile::TempDir,
    changes: Vec<Change>,
    open: Option<File>,
}

impl Staging {
    /// In the repository's own directory, where nobody looks.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(worktree: &Path) -> Result<Self, ExportError> {
        let opened = open(worktree)?;
        let place = tempfile::Builder::new()
            .prefix("banger-apply-")
            .tempdir_in(opened.repository.to_thread_local().git_dir())
            .map_err(|source| ExportError::Keep { source })?;
        Ok(Self { place, changes: Vec::new(), open: None })
    }

    /// Takes what [`super::export`] hands over.
    ///
    /// # Errors
    /// The disk.
    pub fn take(&mut self, item: Item<'_>) -> io::Result<()> {
        match item {
            Item::Change(change) => {
                self.open = match change.kind {
                    Some(_) => Some(File::create(self.path(self.changes.len()))?),
                    None => None,
                };
                self.changes.push(change);
                Ok(())
            }
            Item::Content(bytes) => match &mut self.open {
                Some(file) => file.write_all(bytes),
                None => Err(io::Error::other("content without a file")),
            },
            Item::Patch(_) | Item::Pack(_) => Ok(()),
        }
    }

    /// What arrived.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Writes everything into the working tree.
    ///
    /// # Errors
    /// [`ExportError`]; the working tree is as it was, unless it is [`ExportError::HalfWritten`] or
    /// [`ExportError::Leftovers`].
    pub fn apply(mut self, worktree: &Path) -> Result<PathBuf, ExportError> {
        self.open = None;
        for (number, change) in self.changes.iter().enumerate() {
            let Some(expected) = change.digest else { continue };
            let bytes = fs::read(self.path(number)).map_err(|source| ExportError::Keep { source })?;
            if blake3::hash(&bytes) != expected || bytes.len() as u64 != change.size {
                return Err(ExportError::Content { path: change.path.clone() });
            }
        }
        let root = self.check(worktree)?;
        Placing::into_root(&root)?.place(&self.changes, |number| fs::read(self.path(number)))?;
        Ok(root)
    }

    /// Refuses wherever somebody's work could be lost.
    fn check(&self, worktree: &Path) -> Result<PathBuf, ExportError> {
        let host = |source| ExportError::Host { repository: worktree.to_owned(), source: Box::new(source) };
        // With the files of submodules: those of a full copy come back as well.
        let options = ObserveOptions { include_untracked: true, mode: CopyMode::FullCopy, ..ObserveOptions::default() };
        let overlay = observe(worktree, &options).map_err(host)?;
        let root = overlay.root.clone();
        let unclean = |what: String| Err(ExportError::NotClean { root: root.clone(), what });
        if let Some(path) = overlay.deleted.first() {
            return unclean(format!("{path} is deleted"));
        }
        if let Some(entry) = overlay.manifest.entries.iter().find(|entry| entry.reason != Reason::Tracked) {
            let what = match entry.reason {
                Reason::Added => "added",
                Reason::Untracked => "not tracked",
                Reason::Modified | Reason::Tracked => "modified",
            };
            return unclean(format!("{} is {what}", entry.path));
        }
        let opened = open(worktree)?;
        let mut indexes = Vec::new();
        for module in overlay.modules.iter().filter_map(|module| Some((&module.path, &module.git.as_ref()?.1))).rev() {
            let prefix = [module.0.as_bytes(), b"/"].concat();
            indexes.push((prefix, index::read(&module.1.to_thread_local()).map_err(host)?));
        }
        // Those inside come first; every path is somebody's in the end.
        indexes.push((Vec::new(), index::read(&opened.repository.to_thread_local()).map_err(host)?));
        for change in &self.changes {
            let here = indexes.iter().find_map(|(prefix, index)| {
                let path = change.path.as_bytes().strip_prefix(&prefix[..])?;
                Some(index.entry_by_path(path.into()))
            });
            let here = here.flatten();
            let same = match (here, change.old) {
                (None, None) => overlay_has_nothing(&root, &change.path),
                (Some(entry), Some((kind, blob))) => entry.id == blob && entry.mode == mode_of(kind),
                _ => false,
            };
            if !same {
                return Err(ExportError::Moving { path: change.path.clone() });
            }
        }
        Ok(root)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.place.path().join(number.to_string())
    }
}

/// An ignored file is not tracked either, and must not be overwritten.
fn overlay_has_nothing(root: &Path, path: &TreePath) -> bool {
    let Ok(root) = Dir::open_root(root) else { return false };
    match Walker::new(root).parent(path) {
        Ok((dir, name)) => {
            matches!(dir.stamp(name), Ok(None)) || dir.open_dir(name).is_ok_and(|dir| dir.names().is_ok())
        }
        Err(error) => crate::dir::is_absent(&error),
    }
}

fn open(worktree: &Path) -> Result<repository::Opened, ExportError> {
    repository::open(worktree)
        .map_err(|source| ExportError::Host { repository: worktree.to_owned(), source: Box::new(source) })
}

fn mode_of(kind: EntryKind) -> Mode {
    match kind {
        EntryKind::File => Mode::FILE,
        EntryKind::Executable => Mode::FILE_EXECUTABLE,
        EntryKind::Symlink => Mode::SYMLINK,
    }
}
