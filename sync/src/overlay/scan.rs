//! Reads every tracked file, on all cores.
//!
//! The index says which paths there are, never what is in them. What each file is found to be also tells
//! which stat data the guest's index may rely on.

use std::path::Path;

use gix::bstr::ByteSlice as _;
use gix::index::entry::{Flags, Mode, Stage, Stat, stat};
use rustix::fs::FileType;

use super::git::HeadTree;
use super::memory::{Cursor, Memory, Recorder};
use super::read::{BlobName, Found, Reading, read, recall};
use super::{CopyMode, OverlayError};
use crate::dir::{Dir, Walker, is_absent};
use crate::entry::{Entry, EntryKind, Reason};
use crate::parallel;
use crate::path::TreePath;

/// Everything about tracked paths.
#[derive(Debug, Default)]
pub struct Tracked {
    /// Those that are there.
    pub entries: Vec<Entry>,
    /// Those that are not.
    pub deleted: Vec<TreePath>,
    /// Directories where the index has a submodule.
    pub submodules: Vec<TreePath>,
    /// By position in the index: what the guest's index should say.
    pub stats: Vec<(usize, FreshStat)>,
}

/// What is known about an index entry after reading its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshStat {
    /// The file is what the index says: these stat data prove it.
    Clean(Stat),
    /// It may differ: only reading it can tell.
    Unknown,
}

struct Candidate<'a> {
    path: &'a [u8],
    position: usize,
    expected: Option<Expected>,
    in_head: bool,
    head_matches: bool,
    outside_sparse: bool,
}

#[derive(Clone, Copy)]
struct Expected {
    stat: Stat,
    mode: Mode,
    id: gix::ObjectId,
    racy: bool,
}

/// Strict: a difference anywhere only costs reading the file once more.
const STRICT: stat::Options = stat::Options { trust_ctime: true, check_stat: true, use_nsec: true, use_stdev: false };

/// Reads the files the index names.
///
/// # Errors
/// The first [`OverlayError`] in path order.
pub fn tracked(
    root: &Path,
    index: &gix::index::State,
    head: &HeadTree,
    remember: (&Memory, &mut Recorder),
    mode: CopyMode,
) -> Result<Tracked, OverlayError> {
    let (memory, recorder) = remember;
    let mut tracked = Tracked::default();
    let mut links = Walker::new(open_root(root)?);
    let mut candidates: Vec<Candidate<'_>> = Vec::with_capacity(index.entries().len());
    let timestamp = index.timestamp();
    for (position, entry) in index.entries().iter().enumerate() {
        let path: &[u8] = entry.path(index);
        if entry.mode.is_submodule() {
            let path = parse(path)?;
            if mode == CopyMode::Overlay {
                return Err(OverlayError::Submodule { path });
            }
            if is_directory(&mut links, &path)? {
                // With a conflict there are several entries.
                if tracked.submodules.last() != Some(&path) {
                    tracked.submodules.push(path);
                }
                continue;
            }
        }
        let stage_zero = entry.stage() == Stage::Unconflicted;
        if candidates.last().is_some_and(|last| last.path == path) {
            continue;
        }
        let expected = (stage_zero && !entry.flags.contains(Flags::INTENT_TO_ADD)).then_some(Expected {
            stat: entry.stat,
            mode: entry.mode,
            id: entry.id,
            racy: entry.stat.is_racy(timestamp, STRICT),
        });
        let (in_head, head_matches) = match head {
            HeadTree::SameAsIndex => (true, true),
            HeadTree::Absent => (false, false),
            HeadTree::Other(head) => match head.entry_by_path(path.as_bstr()) {
                Some(other) => (true, other.id == entry.id && other.mode == entry.mode),
                None => (false, false),
            },
        };
        candidates.push(Candidate {
            path,
            position,
            expected,
            in_head,
            head_matches,
            outside_sparse: entry.flags.contains(Flags::SKIP_WORKTREE),
        });
    }
    let readings = in_parallel((root, memory), &candidates, |reader, candidate| {
        let path = parse(candidate.path)?;
        let found = reader.read(&path, |stat| match &candidate.expected {
            Some(expected) if expected.racy || !expected.stat.matches(stat, STRICT) => BlobName::Raw,
            _ => BlobName::Skip,
        });
        Ok((path, found?))
    })?;
    tracked.entries.reserve(readings.len());
    tracked.stats.reserve(readings.len());
    for (candidate, (path, found)) in candidates.into_iter().zip(readings) {
        match found {
            Found::Absent if candidate.outside_sparse => {}
            Found::Absent => tracked.deleted.push(path),
            Found::Content(reading) => {
                let fresh = judge(candidate.expected.as_ref(), &reading);
                let reason = match fresh {
                    _ if !candidate.in_head => Reason::Added,
                    FreshStat::Clean(_) if candidate.head_matches => Reason::Tracked,
                    _ => Reason::Modified,
                };
                tracked.stats.push((candidate.position, fresh));
                recorder.push(candidate.path, &reading);
                tracked.entries.push(entry(path, &reading, reason));
            }
        }
    }
    Ok(tracked)
}

/// Reads files found by walking; those gone meanwhile are left out.
///
/// # Errors
/// The first [`OverlayError`] in path order.
pub fn untracked(root: &Path, paths: Vec<TreePath>) -> Result<Vec<Entry>, OverlayError> {
    let memory = Memory::default();
    let readings = in_parallel((root, &memory), &paths, |reader, path| reader.read(path, |_| BlobName::Skip))?;
    let found = paths.into_iter().zip(readings).filter_map(|(path, found)| match found {
        Found::Content(reading) => Some(entry(path, &reading, Reason::Untracked)),
        Found::Absent => None,
    });
    Ok(found.collect())
}

/// Reads `paths` as they are now, whatever they are to git; `None` where there is no file or link.
///
/// # Errors
/// The first [`OverlayError`] in path order.
pub fn look(root: &Path, paths: &[TreePath]) -> Result<Vec<Option<Entry>>, OverlayError> {
    let memory = Memory::default();
    let readings = in_parallel((root, &memory), paths, |reader, path| reader.read(path, |_| BlobName::Skip))?;
    let found = paths.iter().zip(readings).map(|(path, found)| match found {
        Found::Content(reading) => Some(entry(path.clone(), &reading, Reason::Modified)),
        Found::Absent => None,
    });
    Ok(found.collect())
}

fn is_directory(walker: &mut Walker, path: &TreePath) -> Result<bool, OverlayError> {
    let failed = |source| OverlayError::Io { action: "look at", path: path.as_bytes().to_vec(), source };
    let (dir, name) = match walker.parent(path) {
        Ok(found) => found,
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    Ok(dir.stamp(name).map_err(failed)?.is_some_and(|stamp| stamp.file_type() == FileType::Directory))
}

fn parse(path: &[u8]) -> Result<TreePath, OverlayError> {
    TreePath::parse(path).map_err(|source| OverlayError::Path { source })
}

fn open_root(root: &Path) -> Result<Dir, OverlayError> {
    Dir::open_root(root).map_err(|source| OverlayError::Io { action: "open", path: b".".to_vec(), source })
}

fn entry(path: TreePath, reading: &Reading, reason: Reason) -> Entry {
    Entry { path, kind: reading.kind, size: reading.size, digest: reading.digest, reason, mtime: reading.mtime }
}

fn judge(expected: Option<&Expected>, reading: &Reading) -> FreshStat {
    let Some(expected) = expected else { return FreshStat::Unknown };
    let mode = match reading.kind {
        EntryKind::File => Mode::FILE,
        EntryKind::Executable => Mode::FILE_EXECUTABLE,
        EntryKind::Symlink => Mode::SYMLINK,
    };
    match reading.blob {
        // The stat data are the index's own and not racy: git would not look any further.
        None if mode == expected.mode => FreshStat::Clean(expected.stat),
        Some(blob) if blob == expected.id && mode == expected.mode => FreshStat::Clean(reading.stat),
        _ => FreshStat::Unknown,
    }
}

/// One thread's way through the tree and the memory.
struct Reader<'a> {
    walker: Walker,
    cursor: Cursor<'a>,
}

impl Reader<'_> {
    fn read(&mut self, path: &TreePath, blob: impl Fn(&Stat) -> BlobName) -> Result<Found, OverlayError> {
        let io = |action| move |source| OverlayError::Io { action, path: path.as_bytes().to_vec(), source };
        let (dir, name) = match self.walker.parent(path) {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(Found::Absent),
            Err(source) => return Err(io("open the directory of")(source)),
        };
        let Some(stat) = dir.stat(name).map_err(io("look at"))? else { return Ok(Found::Absent) };
        match recall(&stat, |identity| self.cursor.get(path.as_bytes(), identity), &blob) {
            Some(reading) => Ok(Found::Content(reading)),
            None => read(dir, name, path, blob),
        }
    }
}

/// Runs `work` over neighbouring items on each core; results come back in order.
fn in_parallel<T: Sync, R: Send>(
    (root, memory): (&Path, &Memory),
    items: &[T],
    work: impl Fn(&mut Reader<'_>, &T) -> Result<R, OverlayError> + Sync,
) -> Result<Vec<R>, OverlayError> {
    let start = || Ok(Reader { walker: Walker::new(open_root(root)?), cursor: Cursor::new(memory) });
    parallel::map(items, start, work)
}
