//! Looks at what is in the guest and decides about every path, before anything is changed.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read};

use rustix::fs::FileType;

use super::error::ReceiverError;
use super::home::{Home, Known};
use crate::bitmap;
use crate::diff::{ConflictReason, Decision, Observed, decide};
use crate::dir::{Dir, Stamp, Walker, is_absent};
use crate::entry::{Content, Entry, EntryKind};
use crate::parallel;
use crate::path::TreePath;

/// One wanted entry.
#[derive(Debug)]
pub struct Slot {
    /// What the host wants there.
    pub entry: Entry,
    /// What is to be done, or was done.
    pub state: SlotState,
    /// What was there when the plan was made.
    pub seen: Option<Stamp>,
}

/// How far a [`Slot`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Its content is needed.
    Needed,
    /// It is right.
    Right(Stamp),
    /// It stays as the guest made it; its content there, if it is a file or link.
    Conflict(ConflictReason, Option<Content>),
    /// The host has it no longer.
    Vanished,
}

/// What a batch may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Against {
    /// What we put there.
    #[default]
    Ours,
    /// Also what the guest made of it. A directory that is not empty still stays.
    All,
}

/// Decisions about all paths.
#[derive(Debug, Default)]
pub struct Plan {
    /// In path order.
    pub slots: Vec<Slot>,
    /// Ours, and to be taken away.
    pub removals: Vec<TreePath>,
    /// Not wanted any more but changed in the guest.
    pub kept: Vec<(TreePath, ConflictReason)>,
    /// What may be replaced.
    pub against: Against,
}

impl Plan {
    /// Decides about every entry of the manifest and every path of earlier runs.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn make(home: &Home, manifest: Vec<Entry>) -> Result<Self, ReceiverError> {
        refuse_files_as_directories(&manifest)?;
        let mut plan = Self::default();
        let decided = parallel::map(&manifest, || home.walker(), |walker, entry| decide_entry(home, walker, entry))?;
        let still_wanted = decided.iter().filter(|decided| decided.is_known).count();
        // Most of the time nothing is gone, and there are very many to ask about.
        if still_wanted < home.known.len() || !home.pending.is_empty() {
            let mut walker = home.walker()?;
            let wanted: HashSet<&TreePath> = manifest.iter().map(|entry| &entry.path).collect();
            let earlier = home.known.keys().chain(home.pending.keys());
            let gone: BTreeSet<&TreePath> = earlier.filter(|path| !wanted.contains(path)).collect();
            for path in gone {
                let (observed, _) = observe(&mut walker, path, home.known.get(path))?;
                match decide(None, &home.bases(path), observed) {
                    Decision::Remove => plan.removals.push(path.clone()),
                    Decision::Conflict(reason) => plan.kept.push((path.clone(), reason)),
                    Decision::Keep | Decision::Write => {}
                }
            }
        }
        let slot = |(entry, Decided { state, seen, .. })| Slot { entry, state, seen };
        plan.slots = manifest.into_iter().zip(decided).map(slot).collect();
        Ok(plan)
    }

    /// Decides about one batch. `upserts` and `removals` have no path in common.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn batch(
        home: &Home,
        upserts: Vec<Entry>,
        removals: Vec<TreePath>,
        against: Against,
    ) -> Result<Self, ReceiverError> {
        let mut walker = home.walker()?;
        let mut plan = Self { slots: Vec::with_capacity(upserts.len()), against, ..Self::default() };
        for path in removals {
            let (observed, _) = observe(&mut walker, &path, home.known.get(&path))?;
            match (decide(None, &home.bases(&path), observed), against) {
                (Decision::Remove, _) | (Decision::Conflict(_), Against::All) => plan.removals.push(path),
                (Decision::Conflict(reason), Against::Ours) => plan.kept.push((path, reason)),
                (Decision::Keep | Decision::Write, _) => {}
            }
        }
        let decided = parallel::map(&upserts, || home.walker(), |walker, entry| decide_entry(home, walker, entry))?;
        for (entry, Decided { mut state, seen, .. }) in upserts.into_iter().zip(decided) {
            if against == Against::All && matches!(state, SlotState::Conflict(..)) {
                state = SlotState::Needed;
            }
            plan.slots.push(Slot { entry, state, seen });
        }
        Ok(plan)
    }

    /// Whose content is needed, one bit an entry.
    pub fn needed(&self) -> Vec<u8> {
        bitmap::render(self.slots.iter().map(|slot| slot.state == SlotState::Needed))
    }

    /// The entries whose content is needed.
    pub fn writes(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter(|slot| slot.state == SlotState::Needed).map(|slot| &slot.entry)
    }
}

/// What is to become of one wanted entry, and what was there.
struct Decided {
    state: SlotState,
    seen: Option<Stamp>,
    /// We put something there.
    is_known: bool,
}

fn decide_entry(home: &Home, walker: &mut Walker, entry: &Entry) -> Result<Decided, ReceiverError> {
    if home.fresh {
        return Ok(Decided { state: SlotState::Needed, seen: None, is_known: false });
    }
    let known = home.known.get(&entry.path);
    let (observed, seen) = observe(walker, &entry.path, known)?;
    let state = match (decide(Some(entry.content()), &home.bases_beside(known, &entry.path), observed), seen) {
        (Decision::Keep, Some(stamp)) => SlotState::Right(keep(walker, entry, stamp)?),
        (Decision::Conflict(reason), _) => {
            let content = match observed {
                Observed::Present(content) => Some(content),
                _ => None,
            };
            SlotState::Conflict(reason, content)
        }
        (Decision::Keep | Decision::Write | Decision::Remove, _) => SlotState::Needed,
    };
    Ok(Decided { state, seen, is_known: known.is_some() })
}

/// The content is right; its time may have to follow the host's.
pub(super) fn keep(walker: &mut Walker, entry: &Entry, stamp: Stamp) -> Result<Stamp, ReceiverError> {
    if stamp.mtime == entry.mtime {
        return Ok(stamp);
    }
    let failed = || ReceiverError::at("set the time of", &entry.path);
    let (dir, name) = walker.parent(&entry.path).map_err(failed())?;
    dir.set_mtime(name, entry.mtime).map_err(failed())?;
    Ok(dir.stamp(name).map_err(failed())?.unwrap_or(stamp))
}

/// What is at `path`. Files that look as they did after the last run are not read again.
pub(super) fn observe(
    walker: &mut Walker,
    path: &TreePath,
    known: Option<&Known>,
) -> Result<(Observed, Option<Stamp>), ReceiverError> {
    let (dir, name) = match walker.parent(path) {
        Ok(found) => found,
        Err(error) if is_absent(&error) => return Ok((Observed::Absent, None)),
        Err(error) => return Err(ReceiverError::at("look at", path)(error)),
    };
    let Some(stamp) = dir.stamp(name).map_err(ReceiverError::at("look at", path))? else {
        return Ok((Observed::Absent, None));
    };
    let Some(kind) = stamp.kind() else {
        let directory = stamp.file_type() == FileType::Directory;
        return Ok((if directory { Observed::Directory } else { Observed::Special }, Some(stamp)));
    };
    if let Some(known) = known
        && known.entry.kind == kind
        && known.stamp == (Stamp { mode: known.stamp.mode, ..stamp })
    {
        return Ok((Observed::Present(known.entry.content()), Some(stamp)));
    }
    let digest = hash(dir, name, kind).map_err(ReceiverError::at("read", path))?;
    Ok((Observed::Present(Content { kind, digest }), Some(stamp)))
}

fn hash(dir: &Dir, name: &[u8], kind: EntryKind) -> io::Result<blake3::Hash> {
    if kind == EntryKind::Symlink {
        return Ok(blake3::hash(&dir.read_link(name)?));
    }
    let mut hasher = blake3::Hasher::new();
    let mut file = dir.open_file(name)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// True if the directory is `path` or one `path` is in.
fn is_at_or_around(directory: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b'/'))
}

/// A path cannot be a file and a directory at once. The manifest is sorted.
fn refuse_files_as_directories(manifest: &[Entry]) -> Result<(), ReceiverError> {
    let is_file = |path: &[u8]| manifest.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).is_ok();
    let mut checked: &[u8] = &[];
    for entry in manifest {
        let mut parent = entry.path.split().0;
        if parent == checked {
            continue;
        }
        let before = std::mem::replace(&mut checked, parent);
        // Those around the directory before were looked at then.
        while !parent.is_empty() && !is_at_or_around(parent, before) {
            if is_file(parent) {
                return Err(ReceiverError::Manifest { problem: "a path is both a file and a directory" });
            }
            parent = match parent.iter().rposition(|&byte| byte == b'/') {
                Some(slash) => &parent[..slash],
                None => &[],
            };
        }
    }
    Ok(())
}
