//! Makes the guest's commits a branch of the host's repository, through library code and without touching the
//! working tree.
//!
//! The pack is indexed in a directory of its own and every object the branch can reach is looked at there: damaged,
//! incomplete or dangerous ones never get into the repository. Then pack and index move, and the branch is made or
//! moved forward; it never moves otherwise.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::{CommitRef, Find as _, FindExt as _, Kind as ObjectKind, TreeRefIter};
use gix::refs::transaction::PreviousValue;

use super::{ExportError, Item};
use crate::overlay::repository;

/// Largest object that is unpacked in memory.
const OBJECT_LIMIT: usize = 1 << 30;
/// Commits looked at before a branch counts as not continued.
const ANCESTORS: usize = 1 << 20;

/// A pack on its way.
pub struct Incoming {
    file: fs::File,
    bytes: u64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branched {
    /// Full name of the branch.
    pub name: String,
    /// Where it is now.
    pub commit: ObjectId,
    /// Where it was.
    pub before: Option<ObjectId>,
}

impl Incoming {
    /// Waits in an unnamed file.
    ///
    /// # Errors
    /// The disk.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, bytes: 0 })
    }

    /// Takes what [`super::export`] hands over.
    ///
    /// # Errors
    /// The disk.
    pub fn take(&mut self, item: &Item<'_>) -> io::Result<()> {
        let Item::Pack(bytes) = item else { return Ok(()) };
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Checks everything and makes or moves the branch.
    ///
    /// # Errors
    /// [`ExportError`]; the repository is as it was.
    pub fn make_branch(mut self, worktree: &Path, name: &str, head: ObjectId) -> Result<Branched, ExportError> {
        let opened = repository::open(worktree)
            .map_err(|source| ExportError::Host { repository: worktree.to_owned(), source: Box::new(source) })?;
        let repository = opened.repository.to_thread_local();
        let full = branch_ref(name)?;
        let before = existing(&repository, &full)?;
        if is_checked_out(&repository, &full) {
            return Err(ExportError::CheckedOut { name: name.to_owned() });
        }
        if self.bytes == 0 {
            if !repository.has_object(head) {
                return Err(ExportError::NoCommits);
            }
        } else {
            self.bring_in(&repository, head, before.map(|old| (old, name)))?;
        }
        let git = git_error("make the branch", &repository);
        let constraint = match before {
            None => PreviousValue::MustNotExist,
            Some(old) if is_ancestor(&repository.objects, old, head) => {
                PreviousValue::MustExistAndMatch(gix::refs::Target::Object(old))
            }
            Some(_) => return Err(ExportError::NotForward { name: name.to_owned() }),
        };
        repository.reference(full.as_str(), head, constraint, "banger: export from a VM").map_err(git)?;
        Ok(Branched { name: full, commit: head, before })
    }

    fn bring_in(
        &mut self,
        repository: &gix::Repository,
        head: ObjectId,
        before: Option<(ObjectId, &str)>,
    ) -> Result<(), ExportError> {
        let keep = |source| ExportError::Keep { source };
        let objects = repository.objects.store_ref().path().to_owned();
        let quarantine = tempfile::Builder::new().prefix("banger-incoming-").tempdir_in(&objects).map_err(keep)?;
        let packs = quarantine.path().join("pack");
        fs::create_dir_all(&packs).map_err(keep)?;
        fs::create_dir_all(quarantine.path().join("info")).map_err(keep)?;
        self.file.seek(SeekFrom::Start(0)).map_err(keep)?;
        let options = gix_pack::bundle::write::Options {
            alloc_limit_bytes: Some(OBJECT_LIMIT),
            ..gix_pack::bundle::write::Options::default()
        };
        let written = gix_pack::Bundle::write_to_directory(
            &mut BufReader::new(&mut self.file),
            Some(&packs),
            &mut gix::progress::Discard,
            &AtomicBool::new(false),
            None::<gix::odb::Handle>,
            repository.object_hash(),
            options,
        )
        .map_err(|error| ExportError::Objects { problem: error.to_string() })?;
        let arrived = gix::odb::at(quarantine.path(), repository.object_hash()).map_err(keep)?;
        check(repository, &arrived, head)?;
        if let Some((old, name)) = before
            && !reaches(repository, &arrived, head, old)
        {
            return Err(ExportError::NotForward { name: name.to_owned() });
        }
        let target = objects.join("pack");
        fs::create_dir_all(&target).map_err(keep)?;
        // The pack before its index: nobody looks for one without the other.
        for path in [written.data_path, written.index_path].into_iter().flatten() {
            if let Some(file_name) = path.file_name() {
                fs::rename(&path, target.join(file_name)).map_err(keep)?;
            }
        }
        Ok(())
    }
}

fn branch_ref(name: &str) -> Result<String, ExportError> {
    let full = format!("refs/heads/{name}");
    match gix::validate::reference::branch_name(full.as_str().into()) {
        Ok(_) if !name.starts_with('-') && name != "HEAD" => Ok(full),
        _ => Err(ExportError::InvalidBranch { name: name.to_owned() }),
    }
}

fn existing(repository: &gix::Repository, full: &str) -> Result<Option<ObjectId>, ExportError> {
    let failed = git_error("look up the branch", repository);
    match repository.try_find_reference(full).map_err(failed)? {
        Some(reference) => Ok(reference.try_id().map(gix::Id::detach)),
        None => Ok(None),
    }
}

/// In this working tree or a linked one: moving it would make files there look changed.
fn is_checked_out(repository: &gix::Repository, full: &str) -> bool {
    let common = repository.common_dir();
    let linked = fs::read_dir(common.join("worktrees")).into_iter().flatten();
    let heads = linked.filter_map(|entry| Some(entry.ok()?.path().join("HEAD")));
    heads
        .chain([common.join("HEAD"), repository.git_dir().join("HEAD")])
        .filter_map(|path| fs::read_to_string(path).ok())
        .any(|head| head.trim_end().strip_prefix("ref: ") == Some(full))
}

/// Looks at everything that can be reached and that the repository does not have.
fn check(repository: &gix::Repository, arrived: &gix::odb::Handle, head: ObjectId) -> Result<(), ExportError> {
    let refused = |problem: String| Err(ExportError::Objects { problem });
    let kind = repository.object_hash();
    let mut seen: HashSet<ObjectId> = HashSet::new();
    let mut pending = vec![(head, ObjectKind::Commit)];
    let mut buffer = Vec::new();
    while let Some((id, expected)) = pending.pop() {
        if !seen.insert(id) || repository.has_object(id) {
            continue;
        }
        let object = match arrived.try_find(&id, &mut buffer) {
            Ok(Some(object)) => object,
            Ok(None) => return refused(format!("{id} is missing")),
            Err(error) => return refused(format!("{id} cannot be read: {error}")),
        };
        if object.kind != expected {
            return refused(format!("{id} is a {}, not a {expected}", object.kind));
        }
        match object.kind {
            ObjectKind::Commit => {
                let Ok(commit) = CommitRef::from_bytes(object.data, kind) else {
                    return refused(format!("the commit {id} is malformed"));
                };
                pending.push((commit.tree(), ObjectKind::Tree));
                pending.extend(commit.parents().map(|parent| (parent, ObjectKind::Commit)));
            }
            ObjectKind::Tree => {
                for entry in TreeRefIter::from_bytes(object.data, kind) {
                    let Ok(entry) = entry else { return refused(format!("the tree {id} is malformed")) };
                    let mode = entry.mode.is_link().then_some(gix::validate::path::component::Mode::Symlink);
                    let options = gix::validate::path::component::Options::default();
                    if let Err(error) = gix::validate::path::component(entry.filename, mode, options) {
                        return refused(format!("the tree {id} has the name {:?}: {error}", entry.filename.as_bstr()));
                    }
                    match entry.mode.kind() {
                        gix::objs::tree::EntryKind::Tree => pending.push((entry.oid.to_owned(), ObjectKind::Tree)),
                        gix::objs::tree::EntryKind::Commit => {}
                        _ => pending.push((entry.oid.to_owned(), ObjectKind::Blob)),
                    }
                }
            }
            ObjectKind::Blob | ObjectKind::Tag => {}
        }
    }
    Ok(())
}

fn is_ancestor(objects: &impl gix::objs::Find, old: ObjectId, new: ObjectId) -> bool {
    walk(new, old, |id, parents| {
        let mut buffer = Vec::new();
        if let Ok(commit) = objects.find_commit_iter(&id, &mut buffer) {
            parents.extend(commit.parent_ids());
        }
    })
}

/// The same while the new commits are not in the repository yet.
fn reaches(repository: &gix::Repository, arrived: &gix::odb::Handle, new: ObjectId, old: ObjectId) -> bool {
    walk(new, old, |id, parents| {
        let mut buffer = Vec::new();
        if let Ok(commit) = arrived.find_commit_iter(&id, &mut buffer) {
            parents.extend(commit.parent_ids());
        } else if let Ok(commit) = repository.objects.find_commit_iter(&id, &mut buffer) {
            parents.extend(commit.parent_ids());
        }
    })
}

fn walk(from: ObjectId, to: ObjectId, mut parents: impl FnMut(ObjectId, &mut Vec<ObjectId>)) -> bool {
    let mut seen = HashSet::new();
    let mut pending = vec![from];
    while let Some(id) = pending.pop() {
        if id == to {
            return true;
        }
        if seen.len() < ANCESTORS && seen.insert(id) {
            parents(id, &mut pending);
        }
    }
    false
}

fn git_error(action: &'static str, repository: &gix::Repository) -> impl Fn(gix::Error) -> ExportError + use<> {
    let place: PathBuf = repository.git_dir().to_owned();
    move |source| ExportError::Git { action, repository: place.clone(), source }
}
