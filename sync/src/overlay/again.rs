//! Observes the same working tree again and again, for a watch.
//!
//! What a file contained is remembered in this process, and the git side is made anew only when the caller says
//! that something about it moved. An observation is as true as [`super::observe`]: every tracked file is looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use gix::bstr::ByteSlice as _;
use gix::index::entry::Mode;
use gix::worktree::stack::state::ignore;

use super::git::{self, GuestGit, HeadTree};
use super::memory::{Memory, Recorder};
use super::{CopyMode, ObserveOptions, Overlay, OverlayError, Source, index, read_worktree, repository, scan};
use crate::manifest::Manifest;
use crate::path::TreePath;

/// Whether the git side has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitSide {
    /// Something of it may be different.
    Read,
    /// Nothing moved since the last observation.
    Unmoved,
}

/// See the module.
pub struct Observer {
    root: PathBuf,
    options: ObserveOptions,
    memory: Memory,
    memory_file: Option<PathBuf>,
    seen: Option<Seen>,
}

/// What the last observation can hand to the next.
struct Seen {
    index: gix::index::File,
    git: Arc<GuestGit>,
    repository: gix::ThreadSafeRepository,
    directories: Vec<TreePath>,
}

impl Observer {
    /// For the working tree at `root`; `memory_file` as in [`super::observe_with`].
    pub fn new(root: &Path, options: &ObserveOptions, memory_file: Option<PathBuf>) -> Self {
        let memory = memory_file.as_deref().map(Memory::load).unwrap_or_default();
        Self { root: root.to_owned(), options: options.clone(), memory, memory_file, seen: None }
    }

    /// Reads the tree.
    ///
    /// # Errors
    /// [`OverlayError`].
    pub fn observe(&mut self, git_side: GitSide) -> Result<Overlay, OverlayError> {
        let began = SystemTime::now();
        let opened = repository::open(&self.root)?;
        let unmoved = match (git_side, self.seen.take()) {
            (GitSide::Unmoved, Some(seen)) => Some(seen),
            _ => None,
        };
        let repository = opened.repository.to_thread_local();
        let (index, head, unmoved_git) = match unmoved {
            Some(seen) => (seen.index, None, Some(seen.git)),
            None => (index::read(&repository)?, Some(git::observe_head(&repository, &self.options)?), None),
        };
        let head_tree = match &head {
            Some(head) => git::head_tree(&repository, head.commit, &index)?,
            // Only the reasons depend on it, and nobody asks a watch for those.
            None => HeadTree::SameAsIndex,
        };
        let mut recorder = Recorder::new(began);
        // A full copy is not followed; see [`crate::watch::WatchError::FullCopy`].
        let mode = CopyMode::Overlay;
        let (tracked, found) = if self.options.include_untracked {
            read_worktree(&opened, &index, &head_tree, (&self.memory, &mut recorder), mode)?
        } else {
            let tracked = scan::tracked(&opened.root, &index, &head_tree, (&self.memory, &mut recorder), mode)?;
            (tracked, super::untracked::Walked::default())
        };
        if let Some(file) = self.memory_file.take() {
            recorder.save(&file);
        }
        self.memory = recorder.into_memory(std::mem::take(&mut self.memory));
        let git = match (unmoved_git, head) {
            (Some(git), _) => git,
            (None, Some(head)) => {
                let mut fresh = index.clone();
                index::apply_stats(&mut fresh, &tracked.stats);
                let named = git::named_by(&repository, &fresh);
                let git = git::collect(&repository, head, (fresh, named), mode)?;
                // Whoever watches is about to send it.
                git.index.iter().for_each(index::Rendering::begin);
                Arc::new(git)
            }
            (None, None) => unreachable!("without a seen git side HEAD was observed"),
        };
        let mut entries = tracked.entries;
        if self.options.include_untracked {
            entries.extend(scan::untracked(&opened.root, found.files)?);
        }
        self.seen = Some(Seen {
            index,
            git: Arc::clone(&git),
            repository: opened.repository.clone(),
            directories: found.directories,
        });
        Ok(Overlay {
            root: opened.root,
            manifest: Manifest::new(entries),
            head_commit: git.commit.map(|id| id.to_string()),
            branch: git.head.branch_name(),
            skipped_untracked: 0,
            deleted: tracked.deleted,
            nested_repositories: found.nested,
            began,
            git,
            source: Source::Worktree,
            mode,
            modules: Vec::new(),
            repository: opened.repository,
        })
    }

    /// Directories in which something of the overlay is or could come to be, without the root, sorted.
    pub fn directories(&self) -> Vec<TreePath> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let mut directories: Vec<TreePath> = seen.directories.clone();
        let mut last: &[u8] = &[];
        for entry in seen.index.entries() {
            let path: &[u8] = entry.path(&seen.index);
            let mut parent = parent_of(path);
            if parent == last {
                continue;
            }
            last = parent;
            while !parent.is_empty() {
                directories.extend(TreePath::parse(parent));
                parent = parent_of(parent);
            }
        }
        directories.sort_unstable();
        directories.dedup();
        directories
    }

    /// True if the index names `path`.
    pub fn tracks(&self, path: &TreePath) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.index.entry_range(path.as_bytes().as_bstr()).is_some())
    }

    /// What the index names below the directory `path`.
    pub fn tracked_below(&self, path: &TreePath) -> Vec<TreePath> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let prefix = [path.as_bytes(), b"/"].concat();
        let Some(range) = seen.index.prefixed_entries_range(prefix.as_bstr()) else { return Vec::new() };
        let paths = seen.index.entries()[range].iter().map(|entry| TreePath::parse(entry.path(&seen.index)));
        let mut paths: Vec<TreePath> = paths.filter_map(Result::ok).collect();
        paths.dedup();
        paths
    }

    /// Those of `paths` that are part of the overlay if they exist: tracked, or asked for and not ignored.
    ///
    /// # Errors
    /// [`OverlayError::Git`].
    pub fn belonging(&self, paths: Vec<TreePath>) -> Result<Vec<TreePath>, OverlayError> {
        let Some(seen) = &self.seen else { return Ok(Vec::new()) };
        let (mut tracked, others): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| self.tracks(path));
        if others.is_empty() || !self.options.include_untracked {
            return Ok(tracked);
        }
        let repository = seen.repository.to_thread_local();
        let failed = |source| OverlayError::Git {
            action: "read the ignore rules",
            path: repository.git_dir().to_owned(),
            source,
        };
        let sources = ignore::Source::WorktreeThenIdMappingIfNotSkipped;
        let mut excludes = repository.excludes(&seen.index, None, sources).map_err(failed)?;
        for path in others {
            let platform = excludes.at_entry(path.as_bytes().as_bstr(), Some(Mode::FILE));
            if !platform.map_err(failed)?.is_excluded() {
                tracked.push(path);
            }
        }
        tracked.sort_unstable();
        Ok(tracked)
    }
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(&[], |slash| &path[..slash])
}
