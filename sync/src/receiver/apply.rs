//! Changes the tree according to a plan: removals first, then files as they arrive.
//!
//! A file is written under a temporary name in its own directory, checked, given its time and renamed over
//! the old one ([`super::place`]). Right before that the old one is looked at again: what the guest changed since the
//! plan was made is kept. Those that come as objects of a pack are [`super::packed`]'s, a tree that is not there yet is
//! [`super::staging`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;

use banger_proto::guest::v1::{Blocks, BlocksOf, BlocksRequest, CopyRange, FileData, FileEnd, FileStart, WireEntry};

use super::error::ReceiverError;
use super::home::{Home, Known, TEMPORARY};
use super::packed::Workshop;
use super::place::{Placed, finish, is_obstruction, mode_of, rename_if_unchanged, write_small};
use super::plan::{Against, Plan, Slot, SlotState};
use super::staging::Staging;
use crate::blocks::{Cut, FILES_LIMIT};
use crate::diff::{ConflictReason, Decision, decide};
use crate::digest::{DigestBuilder, TreeDigest};
use crate::dir::{Stamp, Walker, is_absent, set_file_mtime};
use crate::entry::{Entry, EntryKind};
use crate::frames::CHUNK;
use crate::path::TreePath;
use crate::wire::{parse_entry, parse_kind};

/// What a run did.
#[derive(Debug)]
pub struct Applied {
    /// To be remembered.
    pub known: Vec<Known>,
    /// Over the host's paths, as they are in the guest.
    pub tree_digest: TreeDigest,
    /// Over the host's paths without conflicts.
    pub applied_digest: TreeDigest,
    /// Files and links written.
    pub files_written: u64,
    /// Files and links removed.
    pub files_removed: u64,
    /// Kept as the guest made them.
    pub conflicts: Vec<(TreePath, ConflictReason)>,
    /// What the host wants where there is a conflict.
    pub unplaced: Vec<Entry>,
}

struct Incoming {
    index: usize,
    kind: EntryKind,
    temporary: Vec<u8>,
    /// `None`: there is no place for it, the content is only read past.
    file: Option<File>,
    hasher: blake3::Hasher,
    size: u64,
    /// Parts of it are the old version's.
    copies: bool,
}

/// See the module.
pub struct Applier<'a> {
    home: &'a Home,
    plan: Plan,
    walker: Walker,
    incoming: Option<Incoming>,
    /// Old versions that new ones may copy from, by position, with the size they had when their blocks were told.
    bases: BTreeMap<usize, (File, u64)>,
    sending: Sending,
    /// While the whole tree is made aside.
    pub(super) staging: Option<Staging>,
    /// While files are made of objects.
    pub(super) workshop: Workshop,
    files_written: u64,
    files_removed: u64,
    temporaries: u64,
}

/// Which content comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// What was asked for.
    Needed,
    /// All of it, without asking: what has no place is read past.
    Everything,
}

impl<'a> Applier<'a> {
    /// Removes what is to be removed.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn start(home: &'a Home, plan: Plan, sending: Sending) -> Result<Self, ReceiverError> {
        let walker = home.walker()?;
        let mut applier = Self {
            home,
            plan,
            walker,
            incoming: None,
            bases: BTreeMap::new(),
            sending,
            staging: None,
            workshop: Workshop::default(),
            files_written: 0,
            files_removed: 0,
            temporaries: 0,
        };
        let removals = std::mem::take(&mut applier.plan.removals);
        let removals = applier.still_ours(removals)?;
        applier.remove(&removals)?;
        Ok(applier)
    }

    /// A small file in one piece.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn file(&mut self, file: FileData) -> Result<(), ReceiverError> {
        let index = self.slot_index(file.index)?;
        let entry = self.sent_entry(index, file.entry.as_ref())?;
        if entry.size != file.data.len() as u64 || entry.digest != blake3::hash(&file.data) {
            return Err(ReceiverError::Content { path: entry.path.to_string() });
        }
        if self.is_conflict(index) {
            self.plan.slots[index].entry = entry;
            return Ok(());
        }
        let (temporary, seen) = (self.temporary(), self.plan.slots[index].seen);
        let placed = write_small(&mut self.walker, &entry, &temporary, &file.data, seen)?;
        self.plan.slots[index].entry = entry;
        self.settle(index, placed)
    }

    /// A large file begins.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn start_file(&mut self, start: &FileStart) -> Result<(), ReceiverError> {
        let index = self.slot_index(start.index)?;
        match parse_kind(start.kind()) {
            Some(kind @ (EntryKind::File | EntryKind::Executable)) => self.begin(index, kind),
            _ => Err(ReceiverError::Unexpected { expected: "a file's kind" }),
        }
    }

    /// True between start and end of a large file.
    pub fn in_file(&self) -> bool {
        self.incoming.is_some()
    }

    /// Tells what there is at these positions that a new version can copy from, file by file: for all of them together
    /// it can be much. The files are kept open until the end.
    ///
    /// # Errors
    /// [`ReceiverError`], that of `tell` included.
    pub fn blocks(
        &mut self,
        request: &BlocksRequest,
        mut tell: impl FnMut(Blocks) -> Result<(), ReceiverError>,
    ) -> Result<(), ReceiverError> {
        let (slots, asked) = (&self.plan.slots, &request.files);
        let is_slot = |of: &BlocksOf| (of.index as usize) < slots.len() && Cut::parse(of.average_size).is_some();
        if self.incoming.is_some() || !self.bases.is_empty() || asked.len() > FILES_LIMIT || !asked.iter().all(is_slot)
        {
            return Err(ReceiverError::Unexpected { expected: "the blocks of files in the manifest, asked for once" });
        }
        asked.iter().try_for_each(|of| tell(self.describe(of).unwrap_or_default()))
    }

    /// `None`, for whatever reason: the whole file has to come.
    fn describe(&mut self, of: &BlocksOf) -> Option<Blocks> {
        let index = of.index as usize;
        let slot = &self.plan.slots[index];
        let seen = match slot.state {
            SlotState::Right(stamp) => stamp,
            SlotState::Needed => slot.seen?,
            SlotState::Conflict(..) | SlotState::Vanished => return None,
        };
        if !matches!(seen.kind(), Some(EntryKind::File | EntryKind::Executable)) {
            return None;
        }
        let (dir, name) = self.walker.parent(&slot.entry.path).ok()?;
        let file = dir.open_file(name).ok()?;
        let blocks = Cut::parse(of.average_size)?.describe((&file).take(seen.size)).ok()??;
        self.bases.insert(index, (file, seen.size));
        Some(blocks)
    }

    /// A part of a large file that is in the old one too.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn copy(&mut self, range: &CopyRange) -> Result<(), ReceiverError> {
        let Some(incoming) = &mut self.incoming else {
            return Err(ReceiverError::Unexpected { expected: "the start of a file" });
        };
        let base = self.bases.get(&incoming.index);
        let fits = |size: u64| range.offset.checked_add(range.size).is_some_and(|end| end <= size);
        let Some((base, _)) = base.filter(|(_, size)| fits(*size)) else {
            return Err(ReceiverError::Unexpected { expected: "a part of the file whose blocks were told" });
        };
        let path = &self.plan.slots[incoming.index].entry.path;
        let mut buffer = vec![0; CHUNK.min(usize::try_from(range.size).unwrap_or(CHUNK))];
        let mut offset = range.offset;
        let end = range.offset + range.size;
        incoming.copies = true;
        while offset < end {
            let wanted = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
            let count = base.read_at(&mut buffer[..wanted], offset).map_err(ReceiverError::at("read", path))?;
            if count == 0 {
                // The guest cut it off meanwhile; the end of the file will tell.
                break;
            }
            incoming.hasher.update(&buffer[..count]);
            incoming.size += count as u64;
            if let Some(file) = &mut incoming.file {
                file.write_all(&buffer[..count]).map_err(ReceiverError::at("write", path))?;
            }
            offset += count as u64;
        }
        Ok(())
    }

    /// A part of a large file.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn chunk(&mut self, data: &[u8]) -> Result<(), ReceiverError> {
        let Some(incoming) = &mut self.incoming else {
            return Err(ReceiverError::Unexpected { expected: "the start of a file" });
        };
        incoming.hasher.update(data);
        incoming.size += data.len() as u64;
        if let Some(file) = &mut incoming.file {
            let path = &self.plan.slots[incoming.index].entry.path;
            file.write_all(data).map_err(ReceiverError::at("write", path))?;
        }
        Ok(())
    }

    /// A large file ends.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn end_file(&mut self, end: &FileEnd) -> Result<(), ReceiverError> {
        let Some(incoming) = self.incoming.take() else {
            return Err(ReceiverError::Unexpected { expected: "the start of a file" });
        };
        if end.abandoned {
            return self.discard(&incoming);
        }
        let entry = self.sent_entry(incoming.index, end.entry.as_ref())?;
        if entry.size != incoming.size || entry.digest != incoming.hasher.finalize() || entry.kind != incoming.kind {
            self.discard(&incoming)?;
            let index = incoming.index;
            // Written in place while it was copied from: the guest's work.
            if incoming.copies && self.seen_now(index)? != self.plan.slots[index].seen {
                let content = self.content_now(&entry.path)?;
                let slot = &mut self.plan.slots[index];
                (slot.state, slot.entry) = (SlotState::Conflict(ConflictReason::ChangedInGuest, content), entry);
                return Ok(());
            }
            return Err(ReceiverError::Content { path: entry.path.to_string() });
        }
        if self.is_conflict(incoming.index) {
            self.plan.slots[incoming.index].entry = entry;
            return Ok(());
        }
        self.place(incoming, entry)
    }

    /// The host lost a file since it made the manifest.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn vanished(&mut self, index: u32) -> Result<(), ReceiverError> {
        let index = self.slot_index(index)?;
        let slot = &mut self.plan.slots[index];
        let path = slot.entry.path.clone();
        if let SlotState::Conflict(reason, _) = slot.state {
            self.plan.kept.push((path.clone(), reason));
        }
        slot.state = SlotState::Vanished;
        if self.plan.kept.last().is_some_and(|(kept, _)| *kept == path) {
            return Ok(());
        }
        // A needed path has nothing or our own old version; if that changed meanwhile it stays.
        if slot.seen.is_some() && self.seen_now(index)? == self.plan.slots[index].seen {
            self.remove(&[path])?;
        }
        Ok(())
    }

    /// Checks that everything came, and sums up.
    ///
    /// # Errors
    /// [`ReceiverError::Unexpected`] if something is missing.
    pub fn finish(self) -> Result<Applied, ReceiverError> {
        if self.incoming.is_some() || self.plan.slots.iter().any(|slot| slot.state == SlotState::Needed) {
            return Err(ReceiverError::Unexpected { expected: "the rest of the files" });
        }
        let mut tree = DigestBuilder::default();
        let mut applied = DigestBuilder::default();
        let mut known = Vec::with_capacity(self.plan.slots.len());
        let mut conflicts = Vec::new();
        let mut unplaced = Vec::new();
        let old = |path: &TreePath| self.home.known.get(path).cloned();
        for Slot { entry, state, .. } in self.plan.slots {
            match state {
                SlotState::Right(stamp) => {
                    tree.push(entry.path.as_bytes(), entry.content());
                    applied.push(entry.path.as_bytes(), entry.content());
                    known.push(Known { entry, stamp });
                }
                SlotState::Conflict(reason, content) => {
                    if let Some(content) = content {
                        tree.push(entry.path.as_bytes(), content);
                    }
                    known.extend(old(&entry.path));
                    conflicts.push((entry.path.clone(), reason));
                    unplaced.push(entry);
                }
                SlotState::Vanished | SlotState::Needed => {}
            }
        }
        for (path, reason) in self.plan.kept {
            known.extend(old(&path));
            conflicts.push((path, reason));
        }
        conflicts.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Applied {
            known,
            tree_digest: tree.finish(),
            applied_digest: applied.finish(),
            files_written: self.files_written,
            files_removed: self.files_removed,
            conflicts,
            unplaced,
        })
    }

    fn slot_index(&mut self, index: u32) -> Result<usize, ReceiverError> {
        let index = index as usize;
        let sending = self.sending;
        let wanted = self.plan.slots.get_mut(index).is_some_and(|slot| match (slot.state, sending) {
            (SlotState::Needed, _) | (SlotState::Conflict(..), Sending::Everything) => true,
            // It may have changed since it was announced.
            (SlotState::Right(stamp), Sending::Everything) => {
                (slot.state, slot.seen) = (SlotState::Needed, Some(stamp));
                true
            }
            _ => false,
        });
        if wanted && self.incoming.is_none() {
            Ok(index)
        } else {
            Err(ReceiverError::Unexpected { expected: "a file that was asked for" })
        }
    }

    fn is_conflict(&self, index: usize) -> bool {
        matches!(self.plan.slots[index].state, SlotState::Conflict(..))
    }

    fn sent_entry(&self, index: usize, wire: Option<&WireEntry>) -> Result<Entry, ReceiverError> {
        let Some(wire) = wire else { return Err(ReceiverError::Unexpected { expected: "a file with its metadata" }) };
        let entry = parse_entry(wire).map_err(|source| ReceiverError::Entry { source })?;
        if entry.path == self.plan.slots[index].entry.path {
            Ok(entry)
        } else {
            Err(ReceiverError::Unexpected { expected: "the file at this position of the manifest" })
        }
    }

    /// A name for what is on its way, unlike all others.
    pub(super) fn temporary(&mut self) -> Vec<u8> {
        self.temporaries += 1;
        [TEMPORARY, self.temporaries.to_string().as_bytes()].concat()
    }

    pub(super) fn home(&self) -> &'a Home {
        self.home
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.plan.slots
    }

    pub(super) fn walker(&mut self) -> &mut Walker {
        &mut self.walker
    }

    pub(super) fn sending(&self) -> Sending {
        self.sending
    }

    /// Opens a temporary beside the target of a large file.
    fn begin(&mut self, index: usize, kind: EntryKind) -> Result<(), ReceiverError> {
        let no_place = self.is_conflict(index);
        let temporary = self.temporary();
        let path = &self.plan.slots[index].entry.path;
        if no_place {
            let hasher = blake3::Hasher::new();
            self.incoming = Some(Incoming { index, kind, temporary, file: None, hasher, size: 0, copies: false });
            return Ok(());
        }
        let file = match self.walker.ensure_parent(path) {
            Ok((dir, _)) => Some(dir.create_file(&temporary, mode_of(kind)).map_err(ReceiverError::at("write", path))?),
            Err(error) if is_obstruction(&error) => None,
            Err(error) => return Err(ReceiverError::at("make the directory of", path)(error)),
        };
        let hasher = blake3::Hasher::new();
        self.incoming = Some(Incoming { index, kind, temporary, file, hasher, size: 0, copies: false });
        Ok(())
    }

    fn place(&mut self, incoming: Incoming, entry: Entry) -> Result<(), ReceiverError> {
        let Incoming { index, temporary, file, .. } = incoming;
        let seen = self.plan.slots[index].seen;
        let placed = match self.walker.ensure_parent(&entry.path) {
            Ok((dir, name)) => finish(dir, &temporary, || {
                match &file {
                    Some(file) => set_file_mtime(file, entry.mtime)?,
                    None => dir.set_mtime(&temporary, entry.mtime)?,
                }
                rename_if_unchanged(dir, &temporary, name, seen)
            })
            .map_err(ReceiverError::at("write", &entry.path))?,
            Err(error) if is_obstruction(&error) => Placed::Conflict(ConflictReason::Obstructed),
            Err(error) => return Err(ReceiverError::at("make the directory of", &entry.path)(error)),
        };
        self.plan.slots[index].entry = entry;
        self.settle(index, placed)
    }

    /// Notes what became of a file.
    pub(super) fn settle(&mut self, index: usize, placed: Placed) -> Result<(), ReceiverError> {
        self.plan.slots[index].state = match placed {
            Placed::Yes(stamp) => {
                self.files_written += 1;
                SlotState::Right(stamp)
            }
            Placed::Conflict(reason) => {
                let path = self.plan.slots[index].entry.path.clone();
                SlotState::Conflict(reason, self.content_now(&path)?)
            }
        };
        Ok(())
    }

    /// Notes that it became something else when the tree got its place.
    pub(super) fn settle_again(&mut self, index: usize, placed: Placed) -> Result<(), ReceiverError> {
        self.files_written -= 1;
        self.settle(index, placed)
    }

    fn content_now(&mut self, path: &TreePath) -> Result<Option<crate::entry::Content>, ReceiverError> {
        match super::plan::observe(&mut self.walker, path, None)?.0 {
            crate::diff::Observed::Present(content) => Ok(Some(content)),
            _ => Ok(None),
        }
    }

    fn seen_now(&mut self, index: usize) -> Result<Option<Stamp>, ReceiverError> {
        let path = &self.plan.slots[index].entry.path;
        match self.walker.parent(path) {
            Ok((dir, name)) => dir.stamp(name).map_err(ReceiverError::at("look at", path)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(ReceiverError::at("look at", path)(error)),
        }
    }

    fn discard(&mut self, incoming: &Incoming) -> Result<(), ReceiverError> {
        let path = &self.plan.slots[incoming.index].entry.path;
        match self.walker.parent(path) {
            Ok((dir, _)) => {
                dir.remove_file(&incoming.temporary).map_err(ReceiverError::at("clear the directory of", path))
            }
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(ReceiverError::at("clear the directory of", path)(error)),
        }
    }

    /// Looks again: while a large tree was looked at, the guest may have gone on with what is to be removed.
    fn still_ours(&mut self, paths: Vec<TreePath>) -> Result<Vec<TreePath>, ReceiverError> {
        if self.plan.against == Against::All {
            return Ok(paths);
        }
        let mut removals = Vec::with_capacity(paths.len());
        for path in paths {
            let (observed, _) = super::plan::observe(&mut self.walker, &path, self.home.known.get(&path))?;
            match decide(None, &self.home.bases(&path), observed) {
                Decision::Conflict(reason) => self.plan.kept.push((path, reason)),
                Decision::Remove => removals.push(path),
                Decision::Keep | Decision::Write => {}
            }
        }
        Ok(removals)
    }

    /// Takes files away, and the directories that are empty without them.
    fn remove(&mut self, paths: &[TreePath]) -> Result<(), ReceiverError> {
        let mut parents = BTreeSet::new();
        for path in paths {
            let (dir, name) = match self.walker.parent(path) {
                Ok(found) => found,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(ReceiverError::at("remove", path)(error)),
            };
            dir.remove_file(name).map_err(ReceiverError::at("remove", path))?;
            self.files_removed += 1;
            parents.insert(path.split().0.to_vec());
        }
        self.walker.forget();
        // Deepest first; a parent becomes a candidate once a child of it went.
        while let Some(parent) = parents.pop_last() {
            let Ok(parent) = TreePath::parse(&parent) else { continue };
            let removed = match self.walker.parent(&parent) {
                Ok((dir, name)) => dir.remove_empty_dir(name).map_err(ReceiverError::at("remove", &parent))?,
                Err(_) => false,
            };
            if removed {
                self.walker.forget();
                parents.insert(parent.split().0.to_vec());
            }
        }
        Ok(())
    }
}
