//! The git side of an observation: where the guest's `HEAD` is and every file of its `.git` but the objects.

use std::collections::BTreeSet;

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::index::entry::Mode;
use gix::index::extension::Tree;

use super::config::{self, GuestConfig};
use super::history::{self, History};
use super::index::{self, Rendering};
use super::{CopyMode, ObserveOptions, OverlayError};

/// What `HEAD` is in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestHead {
    /// On a branch, by its full name; the branch may have no commit yet.
    Branch(String),
    /// At a commit.
    Detached(ObjectId),
}

impl GuestHead {
    /// Short name of the branch.
    pub fn branch_name(&self) -> Option<String> {
        match self {
            Self::Branch(full) => Some(full.strip_prefix("refs/heads/").unwrap_or(full).to_owned()),
            Self::Detached(_) => None,
        }
    }

    /// Content of the `HEAD` file.
    pub fn render(&self) -> String {
        match self {
            Self::Branch(full) => format!("ref: {full}\n"),
            Self::Detached(id) => format!("{id}\n"),
        }
    }
}

/// `HEAD` and the commit it is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadAt {
    /// Where `HEAD` points.
    pub head: GuestHead,
    /// `None` before the first commit.
    pub commit: Option<ObjectId>,
}

/// Everything needed to make the guest's `.git`, except the objects themselves.
#[derive(Debug, Clone)]
pub struct GuestGit {
    /// `HEAD`.
    pub head: GuestHead,
    /// The commit there.
    pub commit: Option<ObjectId>,
    /// Commits whose parents the guest does not get, sorted: the content of `.git/shallow`.
    pub shallow: Vec<ObjectId>,
    /// The commit's parents, so that `git show` says what it says on the host, and what the index names
    /// beyond the commit's tree; missing objects that git does without are left out.
    pub objects: Vec<ObjectId>,
    /// Blobs of all stages of the index, sorted.
    pub blobs: Vec<ObjectId>,
    /// In a full copy: everything else that is reachable.
    pub history: Option<History>,
    /// Name of the set of all objects.
    pub object_set: [u8; 32],
    /// The configuration files.
    pub config: GuestConfig,
    /// `index`; `None` if the host has none.
    pub index: Option<Rendering>,
}

/// Decides where the guest's `HEAD` is.
///
/// # Errors
/// [`OverlayError`].
pub fn observe_head(repository: &gix::Repository, options: &ObserveOptions) -> Result<HeadAt, OverlayError> {
    let failed = |source| OverlayError::Git { action: "read HEAD", path: repository.git_dir().to_owned(), source };
    let head = repository.head().map_err(failed)?;
    let named = |name: &gix::refs::FullNameRef| match name.as_bstr().to_str() {
        Ok(name) => Ok(GuestHead::Branch(name.to_owned())),
        Err(_) => Err(OverlayError::InvalidBranch { name: name.as_bstr().to_string() }),
    };
    let commit = match &head.kind {
        gix::head::Kind::Unborn(_) => None,
        _ => Some(repository.head_commit().map_err(failed)?.id),
    };
    let head = match (&options.branch, &head.kind, commit) {
        (Some(branch), _, _) => GuestHead::Branch(branch_ref(branch)?),
        (None, gix::head::Kind::Symbolic(reference), _) => named(reference.name.as_ref())?,
        (None, gix::head::Kind::Unborn(name), _) => named(name.as_ref())?,
        (None, gix::head::Kind::Detached { .. }, Some(commit)) => GuestHead::Detached(commit),
        (None, gix::head::Kind::Detached { target, .. }, None) => GuestHead::Detached(*target),
    };
    if options.from.is_some() && options.branch.is_none() {
        return Err(OverlayError::FromWithoutBranch);
    }
    Ok(HeadAt { head, commit })
}

fn branch_ref(branch: &str) -> Result<String, OverlayError> {
    let full = format!("refs/heads/{branch}");
    match gix::validate::reference::branch_name(full.as_str().into()) {
        Ok(_) if !branch.starts_with('-') && branch != "HEAD" => Ok(full),
        _ => Err(OverlayError::InvalidBranch { name: branch.to_owned() }),
    }
}

/// The commit's tree, to look paths up.
pub enum HeadTree {
    /// No commit yet.
    Absent,
    /// The index says of itself that it is this tree: nothing is staged.
    SameAsIndex,
    /// As an index.
    Other(Box<gix::index::File>),
}

/// Reads it, unless the index has it already.
///
/// # Errors
/// [`OverlayError::Git`].
pub fn head_tree(
    repository: &gix::Repository,
    commit: Option<ObjectId>,
    index: &gix::index::State,
) -> Result<HeadTree, OverlayError> {
    let Some(commit) = commit else { return Ok(HeadTree::Absent) };
    let failed =
        |source| OverlayError::Git { action: "read the tree of HEAD", path: repository.git_dir().to_owned(), source };
    let tree = repository.find_commit(commit).and_then(|commit| Ok(commit.tree_id()?.detach())).map_err(failed)?;
    // git invalidates the tree it remembers for a directory with every change of an entry below it.
    if index.tree().is_some_and(|root| root.num_entries.is_some() && root.id == tree) {
        return Ok(HeadTree::SameAsIndex);
    }
    Ok(HeadTree::Other(Box::new(repository.index_from_tree(&tree).map_err(failed)?)))
}

/// Collects the rest.
///
/// # Errors
/// [`OverlayError::Git`].
pub fn collect(
    repository: &gix::Repository,
    head: HeadAt,
    (index, named): (gix::index::File, Named),
    mode: CopyMode,
) -> Result<GuestGit, OverlayError> {
    let rendering = index::exists(repository).then(|| Rendering::of(repository.git_dir(), index));
    assemble(repository, head, (named, rendering), mode)
}

/// [`collect`] with an index that need not exist on the host.
///
/// # Errors
/// [`OverlayError::Git`].
pub fn assemble(
    repository: &gix::Repository,
    at: HeadAt,
    (named, rendered): (Named, Option<Rendering>),
    mode: CopyMode,
) -> Result<GuestGit, OverlayError> {
    let failed =
        |source| OverlayError::Git { action: "read the commit", path: repository.git_dir().to_owned(), source };
    let Named { blobs, trees: mut objects } = named;
    let mut shallow = Vec::new();
    let history = match mode {
        CopyMode::Overlay => None,
        CopyMode::FullCopy => Some(history::observe(repository, at.commit)?),
    };
    if history.is_some() {
        let ends = repository.shallow_commits().map_err(failed)?;
        shallow.extend(ends.iter().flat_map(|commits| commits.iter().copied()));
        shallow.sort_unstable();
    } else if let Some(id) = at.commit {
        let parents = parents(repository, id).map_err(failed)?;
        if can_send(repository, &parents) {
            for parent in &parents {
                if !self::parents(repository, *parent).map_err(failed)?.is_empty() {
                    shallow.push(*parent);
                }
            }
            objects.extend(parents);
        } else {
            shallow.push(id);
        }
        shallow.sort_unstable();
        shallow.dedup();
    }
    // Collected first: hashing all at once takes a fraction of the time.
    let mut names: Vec<u8> =
        Vec::with_capacity((blobs.len() + objects.len() + 1) * repository.object_hash().len_in_bytes());
    names.extend_from_slice(at.commit.as_ref().map_or(&[][..], |id| id.as_slice()));
    blobs.iter().chain(&objects).for_each(|id| names.extend_from_slice(id.as_slice()));
    if let Some(history) = &history {
        names.extend_from_slice(b"with the history of");
        history.tips.iter().for_each(|id| names.extend_from_slice(id.as_slice()));
    }
    Ok(GuestGit {
        head: at.head,
        commit: at.commit,
        shallow,
        objects,
        blobs,
        history,
        object_set: *blake3::hash(&names).as_bytes(),
        config: config::collect(repository),
        index: rendered,
    })
}

fn parents(repository: &gix::Repository, commit: ObjectId) -> Result<Vec<ObjectId>, gix::Error> {
    let commit = repository.find_commit(commit)?;
    Ok(commit.parent_ids().map(gix::Id::detach).collect())
}

/// A shallow clone ends somewhere, and a partial one may lack anything that is not checked out.
fn can_send(repository: &gix::Repository, parents: &[ObjectId]) -> bool {
    let partial = repository.config_snapshot().string("extensions.partialClone").is_some();
    !partial && parents.iter().all(|id| repository.has_object(id))
}

/// The first bytes of a name, in the order of names.
fn start(id: &ObjectId) -> u64 {
    id.as_slice().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The objects an index names, both lists sorted.
#[derive(Debug, Default)]
pub struct Named {
    /// Of all stages.
    blobs: Vec<ObjectId>,
    /// Those it remembers.
    trees: Vec<ObjectId>,
}

/// Looks them up; with a large index that takes long enough to do it beside something else.
pub fn named_by(repository: &gix::Repository, index: &gix::index::State) -> Named {
    let empty_blob = ObjectId::empty_blob(repository.object_hash());
    let mut blobs: Vec<ObjectId> =
        index.entries().iter().filter(|entry| entry.mode != Mode::COMMIT).map(|entry| entry.id).collect();
    // Names are as good as random: the first bytes nearly always decide.
    blobs.sort_unstable_by(|one, other| start(one).cmp(&start(other)).then_with(|| one.cmp(other)));
    blobs.dedup();
    // git knows the empty blob without having it.
    blobs.retain(|id| *id != empty_blob || repository.has_object(id));
    let mut remembered = BTreeSet::new();
    let mut trees: Vec<&Tree> = index.tree().into_iter().collect();
    while let Some(tree) = trees.pop() {
        // Remembered trees of commits that are gone need not exist; git makes them again.
        if tree.num_entries.is_some() && repository.has_object(tree.id) {
            remembered.insert(tree.id);
        }
        trees.extend(&tree.children);
    }
    Named { blobs, trees: remembered.into_iter().collect() }
}
