//! The tree of another commit as an overlay: what a clean checkout of it would be.
//!
//! Contents come from the object database through the library's line-ending and ident conversion. A path
//! whose attributes name a configured filter is refused: a checkout would run a program for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::filter::plumbing::driver::apply::Delay;
use gix::filter::plumbing::pipeline::convert::to_worktree;
use gix::index::entry::{Mode, Stat, stat};
use gix::worktree::stack::state::attributes;

use super::git::{self, HeadAt};
use super::repository::Opened;
use super::{CopyMode, Overlay, OverlayError, Source, index};
use crate::entry::{Entry, EntryKind, Mtime, Reason};
use crate::manifest::Manifest;
use crate::path::TreePath;

/// The blobs of a commit's tree, ready to be converted again when they are sent.
pub struct CommitTree {
    repository: gix::ThreadSafeRepository,
    blobs: BTreeMap<TreePath, ObjectId>,
    index: gix::index::File,
}

/// Converts blobs for the worktree. Not shared between threads.
pub struct Checkout<'a> {
    tree: &'a CommitTree,
    repository: &'a gix::Repository,
    pipeline: gix::filter::plumbing::Pipeline,
    attributes: gix::AttributeStack<'a>,
}

/// Observes the commit `revision` names.
pub(super) fn observe_commit(
    opened: Opened,
    head: HeadAt,
    revision: &str,
    mode: CopyMode,
) -> Result<Overlay, OverlayError> {
    let repository = opened.repository.to_thread_local();
    let unknown = |source| OverlayError::UnknownRevision { revision: revision.to_owned(), source };
    let commit = repository.rev_parse_single(revision).and_then(|id| id.object()?.peel_to_commit()).map_err(unknown)?;
    let failed = |source| git_error(repository.git_dir(), source);
    let tree_id = commit.tree_id().map_err(failed)?.detach();
    let mut tree_index = repository.index_from_tree(&tree_id).map_err(failed)?;
    refuse_filters(&repository, &tree_index)?;
    let written = checkout_time(commit.time().map(|time| time.seconds).unwrap_or(0));
    let tree = CommitTree {
        repository: opened.repository.clone(),
        blobs: blobs(&tree_index, mode)?,
        index: tree_index.clone(),
    };
    let entries = tree.entries(&repository, written)?;
    let manifest = Manifest::new(entries);
    let stats: Vec<_> =
        tree_index.entries().iter().map(|entry| manifest.get(entry.path(&tree_index)).map(stat_of)).collect();
    for (entry, stat) in tree_index.entries_mut().iter_mut().zip(stats) {
        entry.stat = stat.unwrap_or_default();
    }
    let mut rendered = index::render(repository.git_dir(), &tree_index)?;
    // Later than every file, or git would read them all again.
    rendered.mtime = Mtime { seconds: written.seconds + 1, nanos: 0 };
    let at = HeadAt { head: head.head, commit: Some(commit.id) };
    let named = git::named_by(&repository, &tree_index);
    let git = git::assemble(&repository, at, (named, Some(rendered.into())), mode)?;
    Ok(Overlay {
        root: opened.root,
        manifest,
        head_commit: Some(commit.id.to_string()),
        branch: git.head.branch_name(),
        skipped_untracked: 0,
        deleted: Vec::new(),
        nested_repositories: Vec::new(),
        began: SystemTime::now(),
        git: Arc::new(git),
        source: Source::Objects(Arc::new(tree)),
        mode,
        modules: Vec::new(),
        repository: opened.repository,
    })
}

/// git writes `$Id: <name> $`, the library leaves the last space out. A file cannot contain its own name by
/// itself, so every occurrence is an expanded one.
fn space_after_ident(content: Vec<u8>, id: ObjectId) -> Vec<u8> {
    let expanded = format!("$Id: {id}$");
    if content.find(&expanded).is_none() {
        return content;
    }
    content.replace(&expanded, format!("$Id: {id} $"))
}

/// The commit's own time, but never so late that the index would not be later.
fn checkout_time(committed: i64) -> Mtime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    Mtime { seconds: committed.min(i64::try_from(now).unwrap_or(i64::MAX) - 2), nanos: 0 }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn stat_of(entry: &Entry) -> Stat {
    let time = stat::Time { secs: entry.mtime.seconds as u32, nsecs: entry.mtime.nanos };
    Stat { mtime: time, ctime: time, size: entry.size as u32, ..Stat::default() }
}

fn blobs(index: &gix::index::State, mode: CopyMode) -> Result<BTreeMap<TreePath, ObjectId>, OverlayError> {
    let mut blobs = BTreeMap::new();
    for entry in index.entries() {
        let path = TreePath::parse(entry.path(index)).map_err(|source| OverlayError::Path { source })?;
        if entry.mode.is_submodule() {
            return Err(match mode {
                CopyMode::Overlay => OverlayError::Submodule { path },
                CopyMode::FullCopy => OverlayError::SubmoduleOfCommit { path },
            });
        }
        blobs.insert(path, entry.id);
    }
    Ok(blobs)
}

/// Refuses if an attribute names a filter that the configuration defines.
fn refuse_filters(repository: &gix::Repository, index: &gix::index::State) -> Result<(), OverlayError> {
    let failed = |source| git_error(repository.git_dir(), source);
    let drivers: BTreeSet<String> = repository
        .config_snapshot()
        .plumbing()
        .sections_by_name("filter")
        .into_iter()
        .flatten()
        .filter_map(|section| Some(section.header().subsection_name()?.to_string()))
        .collect();
    if drivers.is_empty() {
        return Ok(());
    }
    let mut stack = repository.attributes_only(index, attributes::Source::IdMapping).map_err(failed)?;
    let mut outcome = stack.selected_attribute_matches(["filter"]);
    for entry in index.entries() {
        let path: &BStr = entry.path(index);
        let platform = stack.at_entry(path, Some(entry.mode)).map_err(failed)?;
        platform.matching_attributes(&mut outcome);
        for found in outcome.iter_selected() {
            if let gix::attrs::StateRef::Value(value) = found.assignment.state
                && let Ok(driver) = value.as_bstr().to_str()
                && drivers.contains(driver)
            {
                let path = TreePath::parse(path).map_err(|source| OverlayError::Path { source })?;
                return Err(OverlayError::NeedsFilter { path, driver: driver.to_owned() });
            }
        }
    }
    Ok(())
}

impl CommitTree {
    fn entries(&self, repository: &gix::Repository, mtime: Mtime) -> Result<Vec<Entry>, OverlayError> {
        let mut checkout = self.checkout(repository)?;
        let mut entries = Vec::with_capacity(self.blobs.len());
        for index_entry in self.index.entries() {
            let kind = match index_entry.mode {
                Mode::FILE_EXECUTABLE => EntryKind::Executable,
                Mode::SYMLINK => EntryKind::Symlink,
                _ => EntryKind::File,
            };
            let path =
                TreePath::parse(index_entry.path(&self.index)).map_err(|source| OverlayError::Path { source })?;
            let content = checkout.content(&path, kind)?;
            entries.push(Entry {
                path,
                kind,
                size: content.len() as u64,
                digest: blake3::hash(&content),
                reason: Reason::Tracked,
                mtime,
            });
        }
        Ok(entries)
    }

    /// The repository the blobs are in.
    pub fn repository(&self) -> gix::Repository {
        self.repository.to_thread_local()
    }

    /// Prepares to convert.
    ///
    /// # Errors
    /// [`OverlayError::Git`].
    pub fn checkout<'a>(&'a self, repository: &'a gix::Repository) -> Result<Checkout<'a>, OverlayError> {
        let failed = |source| git_error(repository.git_dir(), source);
        let attributes = || repository.attributes_only(&self.index, attributes::Source::IdMapping).map_err(failed);
        let (mut pipeline, _) =
            gix::filter::Pipeline::new(repository, attributes()?.detach()).map_err(failed)?.into_parts();
        // Refused already, and never run even if the configuration changed since.
        pipeline.options_mut().drivers.clear();
        Ok(Checkout { tree: self, repository, pipeline, attributes: attributes()? })
    }
}

impl Checkout<'_> {
    /// The bytes a checkout would write at `path`.
    ///
    /// # Errors
    /// [`OverlayError::Git`], also if the blob is missing.
    pub fn content(&mut self, path: &TreePath, kind: EntryKind) -> Result<Vec<u8>, OverlayError> {
        let failed = |source| git_error(self.repository.git_dir(), source);
        let id = self.tree.blobs.get(path).copied().unwrap_or(ObjectId::empty_blob(gix::hash::Kind::Sha1));
        let mut blob = self.repository.find_blob(id).map_err(failed)?;
        let raw = blob.take_data();
        if kind == EntryKind::Symlink {
            return Ok(raw);
        }
        let name = path.as_bytes().as_bstr();
        let platform = self.attributes.at_entry(name, None).map_err(failed)?;
        let options = to_worktree::Options { can_delay: Delay::Forbid, ..to_worktree::Options::default() };
        let mut matching = |_: &BStr, outcome: &mut gix::attrs::search::Outcome| {
            platform.matching_attributes(outcome);
        };
        let mut converted = self.pipeline.convert_to_worktree(&raw, name, &mut matching, options).map_err(failed)?;
        let mut content = Vec::with_capacity(raw.len());
        converted.read_to_end(&mut content).map_err(|source| OverlayError::Io {
            action: "convert",
            path: path.as_bytes().to_vec(),
            source,
        })?;
        Ok(space_after_ident(content, id))
    }
}

fn git_error(git_dir: &Path, source: gix::Error) -> OverlayError {
    OverlayError::Git { action: "read the commit", path: git_dir.to_owned(), source }
}
