//! Reads the index and turns it into the one the guest gets.
//!
//! A sparse index is expanded; split, untracked-cache and file-system-monitor data are dropped, as they are
//! about this host. Stat data stay valid in the guest because files arrive with their times and the guest's
//! git compares only those and sizes; an entry whose stat data prove nothing is marked so that git reads it.

use std::path::Path;

use gix::bstr::{BString, ByteSlice};
use gix::index::entry::{Flags, Mode, Stat};
use gix::index::write::Options;
use gix::index::{File, State};

use super::OverlayError;
use super::scan::FreshStat;
use crate::entry::Mtime;

/// The guest's index file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestIndex {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// What its modification time must be: entries written at or after it are read again by git.
    pub mtime: Mtime,
}

/// Reads the index with all its directories expanded; an absent one is empty.
///
/// # Errors
/// [`OverlayError::Git`].
pub fn read(repository: &gix::Repository) -> Result<File, OverlayError> {
    let mut index = if exists(repository) {
        repository.open_index().map_err(|source| git_error("read the index", repository.git_dir(), source))?
    } else {
        File::from_state(State::new(repository.object_hash()), repository.index_path())
    };
    if index.is_sparse() {
        expand(repository, &mut index)?;
    }
    Ok(index)
}

/// True if the host has an index file at all.
pub fn exists(repository: &gix::Repository) -> bool {
    repository.index_path().exists()
}

fn expand(repository: &gix::Repository, index: &mut File) -> Result<(), OverlayError> {
    let failed = |source| git_error("expand the sparse index", repository.git_dir(), source);
    let mut expanded = State::new(repository.object_hash());
    expanded.set_timestamp(index.timestamp());
    for entry in index.entries() {
        let path = entry.path(index);
        if entry.mode != Mode::DIR {
            expanded.dangerously_push_entry(entry.stat, entry.id, entry.flags, entry.mode, path);
            continue;
        }
        let subtree = repository.index_from_tree(&entry.id).map_err(failed)?;
        for inner in subtree.entries() {
            let mut full: BString = path.trim_end_with(|c| c == '/').into();
            full.push(b'/');
            full.extend_from_slice(inner.path(&subtree));
            let flags = Flags::EXTENDED | Flags::SKIP_WORKTREE;
            expanded.dangerously_push_entry(Stat::default(), inner.id, flags, inner.mode, full.as_bstr());
        }
    }
    expanded.sort_entries();
    *index = File::from_state(expanded, index.path().to_owned());
    Ok(())
}

/// Takes over what reading the files showed.
pub fn apply_stats(index: &mut State, stats: &[(usize, FreshStat)]) {
    let entries = index.entries_mut();
    for (position, fresh) in stats {
        entries[*position].stat = match fresh {
            FreshStat::Clean(stat) => *stat,
            // Size 0 for a file that has content is git's own mark for "read it".
            FreshStat::Unknown => Stat::default(),
        };
    }
}

/// The file to write in the guest.
///
/// # Errors
/// [`OverlayError::Git`].
pub fn render(git_dir: &Path, index: &State) -> Result<GuestIndex, OverlayError> {
    let failed = |source| git_error("write the index", git_dir, source);
    let mut bytes = Vec::new();
    index.write_to(&mut bytes, Options::default()).map_err(failed)?;
    let mut hasher = gix::hash::hasher(index.object_hash());
    hasher.update(&bytes);
    let checksum = hasher.try_finalize().map_err(failed)?;
    bytes.extend_from_slice(checksum.as_slice());
    let timestamp = index.timestamp();
    let mtime = Mtime { seconds: timestamp.unix_seconds(), nanos: timestamp.nanoseconds() };
    Ok(GuestIndex { bytes, mtime })
}

fn git_error(action: &'static str, git_dir: &Path, source: gix::Error) -> OverlayError {
    OverlayError::Git { action, path: git_dir.to_owned(), source }
}
