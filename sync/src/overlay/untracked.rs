//! Finds files that are neither tracked nor ignored, by walking the whole working tree.
//!
//! The library's own directory walk skips directories whose tracked files are all excluded from a sparse
//! checkout, and with them the user's new files there; that would be lost work, so the walk is ours and only
//! the ignore rules are the library's.

use std::collections::HashSet;
use std::path::Path;

use gix::index::entry::Mode;
use gix::index::{Entry, State};
use gix::worktree::stack::state::ignore;
use rustix::fs::FileType;

use super::OverlayError;
use crate::dir::{Dir, is_absent};
use crate::path::TreePath;

/// Tracked files of a directory from which on the rules are asked about it first, which takes about as long as looking
/// into a few directories.
const MANY: usize = 256;

/// What a walk found.
#[derive(Debug, Default)]
pub struct Walked {
    /// Files and links, sorted.
    pub files: Vec<TreePath>,
    /// Repositories inside this one that are not part of it.
    pub nested: Vec<TreePath>,
    /// Directories that were looked into, without the root.
    pub directories: Vec<TreePath>,
}

struct Walk<'a> {
    excludes: gix::AttributeStack<'a>,
    git_dir: &'a Path,
    index: &'a State,
    /// What is in them is theirs.
    submodules: HashSet<&'a [u8]>,
    found: Walked,
}

/// Walks `root`.
///
/// # Errors
/// [`OverlayError`].
pub fn walk(repository: &gix::Repository, root: &Path, index: &State) -> Result<Walked, OverlayError> {
    let excludes = repository
        .excludes(index, None, ignore::Source::WorktreeThenIdMappingIfNotSkipped)
        .map_err(|source| git_error(repository.git_dir(), source))?;
    let entries = index.entries();
    let submodules =
        entries.iter().filter(|entry| entry.mode == Mode::COMMIT).map(|entry| &**entry.path(index)).collect();
    let git_dir = repository.git_dir();
    let mut walk = Walk { excludes, git_dir, index, submodules, found: Walked::default() };
    let dir = Dir::open_root(root).map_err(|source| io_error(b".", source))?;
    walk.directory(&dir, &mut Vec::new(), entries)?;
    walk.found.files.sort();
    walk.found.nested.sort();
    Ok(walk.found)
}

impl<'a> Walk<'a> {
    /// `path` is the directory's own path and is left as it was; `tracked` is what the index has below it.
    fn directory(&mut self, dir: &Dir, path: &mut Vec<u8>, mut tracked: &'a [Entry]) -> Result<(), OverlayError> {
        let mut names = dir.names().map_err(|source| io_error(path, source))?;
        // In the index's order: one pass over both tells what is tracked. The ignore files of one directory are read once.
        names.iter_mut().filter(|(_, kind)| *kind == FileType::Directory).for_each(|(name, _)| name.push(b'/'));
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let length = path.len();
        for (name, kind) in names {
            if matches!(&name[..], b".git" | b".git/") {
                continue;
            }
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let before = tracked.iter().take_while(|entry| self.path(entry) < &path[..]).count();
            tracked = &tracked[before..];
            let outcome = match kind {
                FileType::Directory => {
                    let below = tracked.partition_point(|entry| self.path(entry).starts_with(path));
                    let (below, rest) = tracked.split_at(below);
                    tracked = rest;
                    path.pop();
                    self.subdirectory(dir, &name[..name.len() - 1], path, below)
                }
                FileType::RegularFile | FileType::Symlink => {
                    let is_tracked = tracked.first().is_some_and(|entry| self.path(entry) == path);
                    if is_tracked { Ok(()) } else { self.file(path) }
                }
                // Like git: what it cannot track it does not mention.
                _ => Ok(()),
            };
            path.truncate(length);
            outcome?;
        }
        Ok(())
    }

    fn subdirectory(
        &mut self,
        parent: &Dir,
        name: &[u8],
        path: &mut Vec<u8>,
        tracked: &'a [Entry],
    ) -> Result<(), OverlayError> {
        if self.submodules.contains(&path[..]) {
            return Ok(());
        }
        // Nothing below an excluded directory can be included again (gitignore(5)), whatever is tracked there.
        let is_worth_asking = tracked.is_empty() || tracked.len() > MANY;
        if is_worth_asking && self.is_excluded(path, Mode::DIR)? {
            return Ok(());
        }
        let dir = match parent.open_dir(name) {
            Ok(dir) => dir,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(source) => return Err(io_error(path, source)),
        };
        if tracked.is_empty() && is_repository(&dir) {
            self.found.nested.push(parse(path)?);
            return Ok(());
        }
        self.found.directories.push(parse(path)?);
        self.directory(&dir, path, tracked)
    }

    fn file(&mut self, path: &[u8]) -> Result<(), OverlayError> {
        if !self.is_excluded(path, Mode::FILE)? {
            self.found.files.push(parse(path)?);
        }
        Ok(())
    }

    fn path(&self, entry: &'a Entry) -> &'a [u8] {
        entry.path(self.index)
    }

    fn is_excluded(&mut self, path: &[u8], mode: Mode) -> Result<bool, OverlayError> {
        use gix::bstr::ByteSlice;
        let platform =
            self.excludes.at_entry(path.as_bstr(), Some(mode)).map_err(|source| git_error(self.git_dir, source))?;
        Ok(platform.is_excluded())
    }
}

/// A directory with a plausible `.git` of its own.
fn is_repository(dir: &Dir) -> bool {
    match dir.stamp(b".git") {
        Ok(Some(stamp)) if stamp.file_type() == FileType::RegularFile => {
            let mut start = [0_u8; 8];
            let read = dir.open_file(b".git").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
            read.is_ok() && start == *b"gitdir: "
        }
        Ok(Some(stamp)) if stamp.file_type() == FileType::Directory => dir.open_dir(b".git").is_ok_and(|git| {
            [&b"HEAD"[..], b"objects", b"refs"].iter().all(|name| matches!(git.stamp(name), Ok(Some(_))))
        }),
        _ => false,
    }
}

fn parse(path: &[u8]) -> Result<TreePath, OverlayError> {
    TreePath::parse(path).map_err(|source| OverlayError::Path { source })
}

fn io_error(path: &[u8], source: std::io::Error) -> OverlayError {
    OverlayError::Io { action: "read the directory", path: path.to_vec(), source }
}

fn git_error(git_dir: &Path, source: gix::Error) -> OverlayError {
    OverlayError::Git { action: "read the ignore rules", path: git_dir.to_owned(), source }
}
