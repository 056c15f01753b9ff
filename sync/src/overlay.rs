//! Observes a git working tree: what is in it, byte for byte, and the git metadata a guest needs.
//!
//! [`observe_with`] remembers digests between observations ([`memory`]), as reading every file takes longest.
//!
//! Reads with library code only. Nothing the repository or its configuration names is ever executed: no hook,
//! filter, file-system monitor, text converter, and no git. The index is not believed about the working tree:
//! every file is looked at, and read unless an earlier reading of exactly that file is remembered, so
//! assume-unchanged and skip-worktree hide nothing.
//!
//! [`repository`] opens and refuses, [`scan`] reads tracked files, [`untracked`] walks for the rest,
//! [`read`] reads one file that may be changing, [`branch`] makes the tree of another commit,
//! [`index`], [`config`] and [`git`] prepare the guest's `.git`. [`again`] observes the same tree many times.

pub mod again;
pub mod branch;
pub mod config;
mod error;
pub mod git;
pub mod index;
pub mod memory;
pub mod read;
pub mod repository;
pub mod scan;
pub mod untracked;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use error::OverlayError;
pub use git::{GuestGit, GuestHead};

use memory::{Memory, Recorder};

use crate::digest::TreeDigest;
use crate::manifest::Manifest;
use crate::path::TreePath;

/// What to observe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObserveOptions {
    /// Also files that are neither tracked nor ignored.
    pub include_untracked: bool,
    /// Name of the branch the guest is on, instead of the host's.
    pub branch: Option<String>,
    /// Where that branch starts, with that commit's files instead of the working tree's.
    pub from: Option<String>,
}

/// Where the bytes of the manifest's entries are.
#[derive(Clone)]
pub(crate) enum Source {
    /// In the working tree.
    Worktree,
    /// In the object database, to be converted as a checkout would.
    Objects(Arc<branch::CommitTree>),
}

/// One observation. Cheap to share, never changes.
#[derive(Clone)]
pub struct Overlay {
    /// The working tree's root.
    pub root: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// The commit the guest will be at, in hexadecimal; `None` before the first commit.
    pub head_commit: Option<String>,
    /// Short name of the branch the guest will be on; `None` if detached.
    pub branch: Option<String>,
    /// Untracked, not ignored, and not asked for.
    pub skipped_untracked: u64,
    /// Tracked files that are not there.
    pub deleted: Vec<TreePath>,
    /// Untracked directories that are repositories of their own; never part of the overlay.
    pub nested_repositories: Vec<TreePath>,
    /// When it began.
    pub(crate) began: SystemTime,
    pub(crate) git: Arc<GuestGit>,
    pub(crate) source: Source,
    pub(crate) repository: gix::ThreadSafeRepository,
}

impl Overlay {
    /// Identifies the content.
    pub fn tree_digest(&self) -> TreeDigest {
        self.manifest.tree_digest()
    }
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay")
            .field("root", &self.root)
            .field("entries", &self.manifest.entries.len())
            .field("head_commit", &self.head_commit)
            .field("branch", &self.branch)
            .finish_non_exhaustive()
    }
}

/// Reads the working tree `path` is in. Blocks for as long as reading every file takes.
///
/// # Errors
/// [`OverlayError`].
pub fn observe(path: &Path, options: &ObserveOptions) -> Result<Overlay, OverlayError> {
    observe_with(path, options, |_| None)
}

/// [`observe`] that does not read again what `memory`, a file of the caller's for the working tree it is given,
/// says it read before; the file is brought up to date. See [`memory`].
///
/// # Errors
/// [`OverlayError`].
pub fn observe_with(
    path: &Path,
    options: &ObserveOptions,
    memory: impl FnOnce(&Path) -> Option<PathBuf>,
) -> Result<Overlay, OverlayError> {
    let began = SystemTime::now();
    let opened = repository::open(path)?;
    let repository = opened.repository.to_thread_local();
    let head = git::observe_head(&repository, options)?;
    if let Some(revision) = &options.from {
        return branch::observe_commit(opened, head, revision);
    }
    let mut index = index::read(&repository)?;
    let head_tree = git::head_tree(&repository, head.commit, &index)?;
    let memory_file = memory(&opened.root);
    let known = memory_file.as_deref().map(Memory::load).unwrap_or_default();
    let mut recorder = Recorder::new(began);
    let (tracked, found) = read_worktree(&opened, &index, &head_tree, (&known, &mut recorder))?;
    if let Some(file) = &memory_file {
        recorder.save(file, &known);
    }
    let mut entries = tracked.entries;
    let mut skipped_untracked = 0;
    if options.include_untracked {
        entries.extend(scan::untracked(&opened.root, found.files)?);
    } else {
        skipped_untracked = found.files.len() as u64;
    }
    index::apply_stats(&mut index, &tracked.stats);
    let git = git::collect(&repository, head, &index)?;
    Ok(Overlay {
        root: opened.root,
        manifest: Manifest::new(entries),
        head_commit: git.commit.map(|id| id.to_string()),
        branch: git.head.branch_name(),
        skipped_untracked,
        deleted: tracked.deleted,
        nested_repositories: found.nested,
        began,
        git: Arc::new(git),
        source: Source::Worktree,
        repository: opened.repository,
    })
}

fn read_worktree(
    opened: &repository::Opened,
    index: &gix::index::State,
    head_tree: &git::HeadTree,
    remember: (&Memory, &mut Recorder),
) -> Result<(scan::Tracked, untracked::Walked), OverlayError> {
    // Both wait for the file system most of the time, so they are done at once.
    let (tracked, found) = std::thread::scope(|scope| {
        let walking = scope.spawn(|| untracked::walk(&opened.repository.to_thread_local(), &opened.root, index));
        let tracked = scan::tracked(&opened.root, index, head_tree, remember);
        let found = walking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (tracked, found)
    });
    Ok((tracked?, found?))
}
