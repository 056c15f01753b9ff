//! Reads every tracked file, on all cores.
//!
//! The index says which paths there are, never what is in them. What each file is found to be also tells
//! which stat data the guest's index may rely on.

use std::path::Path;

use gix::bstr::ByteSlice as _;
use gix::index::entry::{Flags, Mode, Stage, Stat, stat};
use rustix::fs::FileType;

use super::git::HeadTree;
use super::memory::{Cursor, Known, Memory, Recorder};
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
    /// By position in the index, where that says something else: what the guest's index should say.
    pub stats: Vec<(usize, FreshStat)>,
}

/// What is known about an index entry after reading its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FreshStat {
    /// The file is what the index says, and its stat data prove it.
    AsIndexed,
    /// The file is what the index says: these stat data prove it.
    Clean(Box<Stat>),
    /// It may differ: only reading it can tell.
    Unknown,
}

/// What came of one entry of the index. There are very many, so it is small.
enum Look {
    /// Another stage of the path before it, or outside the sparse checkout.
    Skipped,
    Deleted(TreePath),
    Submodule(TreePath),
    There {
        entry: Entry,
        fresh: FreshStat,
        known: Known,
    },
}

struct Expected<'a> {
    stat: &'a Stat,
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
    let entries = index.entries();
    if mode == CopyMode::Overlay
        && let Some(module) = entries.iter().find(|entry| entry.mode.is_submodule())
    {
        return Err(OverlayError::Submodule { path: parse(module.path(index))? });
    }
    let timestamp = index.timestamp();
    let start = || Reader::new(root, memory);
    let looks = parallel::map_parts(entries, start, |reader, position, indexed| {
        let name: &[u8] = indexed.path(index);
        if indexed.mode.is_submodule() {
            let path = parse(name)?;
            if is_directory(&mut reader.walker, &path)? {
                return Ok(Look::Submodule(path));
            }
        }
        if position > 0 && &**entries[position - 1].path(index) == name {
            return Ok(Look::Skipped);
        }
        let is_file = indexed.stage() == Stage::Unconflicted && !indexed.flags.contains(Flags::INTENT_TO_ADD);
        let expected = is_file.then(|| Expected {
            stat: &indexed.stat,
            mode: indexed.mode,
            id: indexed.id,
            racy: indexed.stat.is_racy(timestamp, STRICT),
        });
        let path = parse(name)?;
        let found = reader.read(&path, |stat| match &expected {
            Some(expected) if expected.racy || !expected.stat.matches(stat, STRICT) => BlobName::Raw,
            _ => BlobName::Skip,
        });
        let reading = match found? {
            Found::Content(reading) => reading,
            Found::Absent if indexed.flags.contains(Flags::SKIP_WORKTREE) => return Ok(Look::Skipped),
            Found::Absent => return Ok(Look::Deleted(path)),
        };
        let fresh = judge(expected.as_ref(), &reading);
        let reason = match in_head(head, name, indexed) {
            InHead::Absent => Reason::Added,
            InHead::Same if fresh != FreshStat::Unknown => Reason::Tracked,
            _ => Reason::Modified,
        };
        Ok(Look::There { entry: entry(path, &reading, reason), fresh, known: Known::of(reading) })
    })?;
    let there = looks.iter().flatten().filter_map(|look| match look {
        Look::There { entry, known, .. } => Some((entry.path.as_bytes(), known)),
        _ => None,
    });
    recorder.record(memory, there);
    let mut tracked = Tracked::default();
    tracked.entries.reserve(entries.len());
    for (position, look) in looks.into_iter().flatten().enumerate() {
        match look {
            Look::Skipped => {}
            Look::Deleted(path) => tracked.deleted.push(path),
            // With a conflict there are several entries.
            Look::Submodule(path) if tracked.submodules.last() == Some(&path) => {}
            Look::Submodule(path) => tracked.submodules.push(path),
            Look::There { entry, fresh, .. } => {
                tracked.entries.push(entry);
                if fresh != FreshStat::AsIndexed {
                    tracked.stats.push((position, fresh));
                }
            }
        }
    }
    Ok(tracked)
}

enum InHead {
    Absent,
    Same,
    Different,
}

fn in_head(head: &HeadTree, path: &[u8], indexed: &gix::index::Entry) -> InHead {
    let found = match head {
        HeadTree::SameAsIndex => return InHead::Same,
        HeadTree::Absent => None,
        HeadTree::Other(head) => head.entry_by_path(path.as_bstr()),
    };
    match found {
        None => InHead::Absent,
        Some(other) if other.id == indexed.id && other.mode == indexed.mode => InHead::Same,
        Some(_) => InHead::Different,
    }
}

/// Reads files found by walking; those gone meanwhile are left out.
///
/// # Errors
/// The first [`OverlayError`] in path order.
pub fn untracked(root: &Path, paths: Vec<TreePath>) -> Result<Vec<Entry>, OverlayError> {
    let readings = read_all(root, &paths)?;
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
    let readings = read_all(root, paths)?;
    let found = paths.iter().zip(readings).map(|(path, found)| match found {
        Found::Content(reading) => Some(entry(path.clone(), &reading, Reason::Modified)),
        Found::Absent => None,
    });
    Ok(found.collect())
}

fn read_all(root: &Path, paths: &[TreePath]) -> Result<Vec<Found>, OverlayError> {
    let memory = Memory::default();
    parallel::map(paths, || Reader::new(root, &memory), |reader, path| reader.read(path, |_| BlobName::Skip))
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

fn judge(expected: Option<&Expected<'_>>, reading: &Reading) -> FreshStat {
    let Some(expected) = expected else { return FreshStat::Unknown };
    let mode = match reading.kind {
        EntryKind::File => Mode::FILE,
        EntryKind::Executable => Mode::FILE_EXECUTABLE,
        EntryKind::Symlink => Mode::SYMLINK,
    };
    match reading.blob {
        // The stat data are the index's own and not racy: git would not look any further.
        None if mode == expected.mode => FreshStat::AsIndexed,
        Some(blob) if blob == expected.id && mode == expected.mode => FreshStat::Clean(Box::new(reading.stat)),
        _ => FreshStat::Unknown,
    }
}

/// One thread's way through the tree and the memory.
struct Reader<'a> {
    walker: Walker,
    cursor: Cursor<'a>,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(root: &Path, memory: &'a Memory) -> Result<Self, OverlayError> {
        Ok(Self { walker: Walker::for_looks(open_root(root)?), cursor: Cursor::new(memory), buffer: Vec::new() })
    }

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
            None => read((dir, name, stat), path, &mut self.buffer, blob),
        }
    }
}
