//! Reads the index and turns it into the one the guest gets.
//!
//! A sparse index is expanded; split, untracked-cache and file-system-monitor data are dropped, as they are
//! about this host. Stat data stay valid in the guest because files arrive with their times and the guest's
//! git compares only those and sizes; an entry whose stat data prove nothing is marked so that git reads it.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::thread;

use gix::bstr::{BString, ByteSlice};
use gix::config::tree::Index;
use gix::index::entry::{Flags, Mode, Stat};
use gix::index::write::Options;
use gix::index::{File, State};
use sha1::{Digest as _, Sha1};

use super::OverlayError;
use super::scan::FreshStat;
use crate::entry::Mtime;

/// What an entry usually takes.
const ENTRY_BYTES: usize = 112;

/// The guest's index file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestIndex {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// What its modification time must be: entries written at or after it are read again by git.
    pub mtime: Mtime,
}

/// A [`GuestIndex`] that is made when it is asked for: it takes a tenth of an observation, and only a guest that gets the
/// tree needs it.
#[derive(Clone)]
pub struct Rendering(Arc<LazyLock<Rendered, Finish>>);

/// Shared, as it is kept.
pub type Rendered = Result<Arc<GuestIndex>, Arc<OverlayError>>;

type Finish = Box<dyn FnOnce() -> Rendered + Send>;

impl Rendering {
    /// Of `index`, not begun.
    pub fn of(git_dir: &Path, index: File) -> Self {
        let git_dir = git_dir.to_owned();
        Self::after(move || render(&git_dir, &index).map(Arc::new).map_err(Arc::new))
    }

    fn after(finish: impl FnOnce() -> Rendered + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(finish))))
    }

    /// Renders meanwhile, for a caller that will ask soon.
    pub fn begin(&self) {
        let rendering = self.clone();
        thread::spawn(move || rendering.finish());
    }

    /// Renders it, or waits for it.
    ///
    /// # Errors
    /// As [`render`].
    pub fn finish(&self) -> Rendered {
        Rendered::clone(&self.0)
    }
}

impl From<GuestIndex> for Rendering {
    fn from(index: GuestIndex) -> Self {
        Self::after(move || Ok(Arc::new(index)))
    }
}

impl std::fmt::Debug for Rendering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rendering").finish_non_exhaustive()
    }
}

/// Reads the index with all its directories expanded; an absent one is empty. Like git, it does not ask for the checksum:
/// what is wrong in the index shows as a difference to the working tree, and it takes a fifth of an observation.
///
/// # Errors
/// [`OverlayError::Git`].
pub fn read(repository: &gix::Repository) -> Result<File, OverlayError> {
    let mut index = if exists(repository) {
        let failed = |source| git_error("read the index", repository.git_dir(), source);
        let mut trusting = repository.clone();
        trusting.config_snapshot_mut().set_value(&Index::SKIP_HASH, "true").map_err(failed)?;
        trusting.open_index().map_err(failed)?
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
            FreshStat::AsIndexed => continue,
            FreshStat::Clean(stat) => **stat,
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
    let mut bytes = Vec::with_capacity(index.entries().len() * ENTRY_BYTES);
    index.write_to(&mut bytes, Options::default()).map_err(failed)?;
    // Against accidents, so without the search for forged content that object names need and that takes twice as long.
    let checksum = Sha1::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    let timestamp = index.timestamp();
    let mtime = Mtime { seconds: timestamp.unix_seconds(), nanos: timestamp.nanoseconds() };
    Ok(GuestIndex { bytes, mtime })
}

fn git_error(action: &'static str, git_dir: &Path, source: gix::Error) -> OverlayError {
    OverlayError::Git { action, path: git_dir.to_owned(), source }
}
