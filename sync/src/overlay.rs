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
//! [`index`], [`config`], [`git`] and [`history`] prepare the guest's `.git`, [`module`] finds submodules. [`again`] observes the same tree many times.

pub mod again;
pub mod branch;
pub mod config;
mod error;
pub mod git;
pub mod history;
pub mod index;
pub mod memory;
pub mod module;
pub mod read;
pub mod repository;
pub mod scan;
pub mod untracked;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use error::OverlayError;
pub use git::{GuestGit, GuestHead};
pub use module::Module;

use memory::{Memory, Recorder};

use crate::digest::TreeDigest;
use crate::entry::Entry;
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
    /// How much of the repository.
    pub mode: CopyMode,
}

/// How much of a repository travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyMode {
    /// The working tree, and of the history what git needs to work.
    #[default]
    Overlay,
    /// Also the whole history of all branches and tags, and the submodules that are checked out.
    FullCopy,
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
    /// How much of the repository this is.
    pub mode: CopyMode,
    /// Submodules, outer ones before those inside; none in [`CopyMode::Overlay`].
    pub modules: Vec<Module>,
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

    /// Begins what only sending needs, meanwhile.
    pub(crate) fn begin_sending(&self) {
        let modules = self.modules.iter().filter_map(|module| module.git.as_ref()).map(|(git, _)| git);
        std::iter::once(&self.git)
            .chain(modules)
            .filter_map(|git| git.index.as_ref())
            .for_each(index::Rendering::begin);
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

/// [`observe`] that does not read again what `memory`, a file of the caller's for each working tree it is given,
/// says it read before; the files are brought up to date. See [`memory`].
///
/// # Errors
/// [`OverlayError`].
pub fn observe_with(
    path: &Path,
    options: &ObserveOptions,
    memory: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<Overlay, OverlayError> {
    let began = SystemTime::now();
    let opened = repository::open(path)?;
    if let Some(revision) = &options.from {
        let head = git::observe_head(&opened.repository.to_thread_local(), options)?;
        return branch::observe_commit(opened, head, revision, options.mode);
    }
    let mut collected = Collected::new(&memory, options.mode);
    let (repository, root) = (opened.repository.clone(), opened.root.clone());
    let git = collected.repository(&opened, options)?;
    Ok(Overlay {
        root,
        manifest: Manifest::new(collected.entries),
        head_commit: git.commit.map(|id| id.to_string()),
        branch: git.head.branch_name(),
        skipped_untracked: collected.skipped_untracked,
        deleted: collected.deleted,
        nested_repositories: collected.nested,
        began,
        git: Arc::new(git),
        source: Source::Worktree,
        repository,
        mode: options.mode,
        modules: collected.modules,
    })
}

/// What is found in a repository and its submodules.
struct Collected<'a> {
    memory: &'a dyn Fn(&Path) -> Option<PathBuf>,
    mode: CopyMode,
    /// Of the repository that is being read: empty, or those of its [`Module`].
    parts: Vec<TreePath>,
    entries: Vec<Entry>,
    skipped_untracked: u64,
    deleted: Vec<TreePath>,
    nested: Vec<TreePath>,
    modules: Vec<Module>,
}

impl<'a> Collected<'a> {
    fn new(memory: &'a dyn Fn(&Path) -> Option<PathBuf>, mode: CopyMode) -> Self {
        Self {
            memory,
            mode,
            parts: Vec::new(),
            entries: Vec::new(),
            skipped_untracked: 0,
            deleted: Vec::new(),
            nested: Vec::new(),
            modules: Vec::new(),
        }
    }

    /// Reads one repository, and then those inside it.
    fn repository(&mut self, opened: &repository::Opened, options: &ObserveOptions) -> Result<GuestGit, OverlayError> {
        let repository = opened.repository.to_thread_local();
        let head = git::observe_head(&repository, options)?;
        let memory_file = (self.memory)(&opened.root);
        let known = memory_file.as_deref().map(Memory::load).unwrap_or_default();
        let mut index = index::read(&repository)?;
        let head_tree = git::head_tree(&repository, head.commit, &index)?;
        let mut recorder = Recorder::new(SystemTime::now());
        // What the index names takes a core for a while, and the looks wait for the file system now and then.
        let (named, worktree) = std::thread::scope(|scope| {
            let naming = scope.spawn(|| git::named_by(&opened.repository.to_thread_local(), &index));
            let worktree = read_worktree(opened, &index, &head_tree, (&known, &mut recorder), self.mode);
            (naming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), worktree)
        });
        let (tracked, found) = worktree?;
        if let Some(file) = &memory_file {
            recorder.save(file);
        }
        index::apply_stats(&mut index, &tracked.stats);
        let mut git = git::collect(&repository, head, (index, named), self.mode)?;
        let here = self.place()?;
        let placed = |path: TreePath| module::below(here.as_ref(), path);
        let placed_entry = |entry: Entry| Ok(Entry { path: placed(entry.path)?, ..entry });
        // There are very many, and usually they are where they are to be.
        self.add(match here {
            None => tracked.entries,
            Some(_) => tracked.entries.into_iter().map(placed_entry).collect::<Result<_, OverlayError>>()?,
        });
        for path in tracked.deleted {
            self.deleted.push(placed(path)?);
        }
        for path in found.nested {
            self.nested.push(placed(path)?);
        }
        if options.include_untracked {
            let entries = scan::untracked(&opened.root, found.files)?;
            self.add(entries.into_iter().map(placed_entry).collect::<Result<_, OverlayError>>()?);
        } else {
            self.skipped_untracked += found.files.len() as u64;
        }
        let populated = self.submodules(opened, tracked.submodules, options)?;
        git.config.config.extend(module::configuration(&repository, &populated));
        Ok(git)
    }

    fn add(&mut self, mut entries: Vec<Entry>) {
        // Usually there is one repository, with very many.
        if self.entries.is_empty() {
            self.entries = entries;
        } else {
            self.entries.append(&mut entries);
        }
    }

    /// Reads the submodules of a repository; returns those that are checked out.
    fn submodules(
        &mut self,
        outer: &repository::Opened,
        paths: Vec<TreePath>,
        options: &ObserveOptions,
    ) -> Result<Vec<TreePath>, OverlayError> {
        let mut populated = Vec::new();
        for path in paths {
            self.parts.push(path.clone());
            let place = self.place()?.unwrap_or_else(|| path.clone());
            if self.parts.len() > module::DEPTH {
                return Err(OverlayError::TooDeep { path: place });
            }
            let position = self.modules.len();
            let parts = self.parts.clone();
            self.modules.push(Module { path: place, head_commit: None, parts, git: None });
            if let Some(opened) = module::open(&outer.root, &path)? {
                // A branch of the guest's own is one of the outermost repository.
                let options = ObserveOptions { branch: None, from: None, ..options.clone() };
                let git = self.repository(&opened, &options)?;
                let module = &mut self.modules[position];
                module.head_commit = git.commit.map(|id| id.to_string());
                module.git = Some((Arc::new(git), opened.repository));
                populated.push(path);
            }
            self.parts.pop();
        }
        Ok(populated)
    }

    /// Where the repository that is being read is in the tree.
    fn place(&self) -> Result<Option<TreePath>, OverlayError> {
        let mut place = None;
        for part in &self.parts {
            place = Some(module::below(place.as_ref(), part.clone())?);
        }
        Ok(place)
    }
}

fn read_worktree(
    opened: &repository::Opened,
    index: &gix::index::State,
    head_tree: &git::HeadTree,
    remember: (&Memory, &mut Recorder),
    mode: CopyMode,
) -> Result<(scan::Tracked, untracked::Walked), OverlayError> {
    // Both wait for the file system most of the time, so they are done at once.
    let (tracked, found) = std::thread::scope(|scope| {
        let walking = scope.spawn(|| untracked::walk(&opened.repository.to_thread_local(), &opened.root, index));
        let tracked = scan::tracked(&opened.root, index, head_tree, remember, mode);
        let found = walking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (tracked, found)
    });
    Ok((tracked?, found?))
}
