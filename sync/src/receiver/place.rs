//! Gives a file its place in the tree: under a temporary name in its own directory first, with its time, and then by a
//! rename, unless the guest changed what is there.
//!
//! Knows nothing of plans; [`super::apply`] and [`super::packed`] do.

use std::io::{self, ErrorKind, Write as _};

use rustix::io::Errno;

use super::error::ReceiverError;
use crate::diff::ConflictReason;
use crate::dir::{Dir, Replace, Stamp, Walker, is_absent, set_file_mtime};
use crate::entry::{Entry, EntryKind};

/// Whether a file got its name.
pub(super) enum Placed {
    Yes(Stamp),
    Conflict(ConflictReason),
}

/// Permission bits of a new file.
pub(super) fn mode_of(kind: EntryKind) -> u32 {
    if kind == EntryKind::Executable { 0o755 } else { 0o644 }
}

/// A file or link whose content is at hand.
///
/// # Errors
/// [`ReceiverError::Io`].
pub(super) fn write_small(
    walker: &mut Walker,
    entry: &Entry,
    temporary: &[u8],
    content: &[u8],
    seen: Option<Stamp>,
) -> Result<Placed, ReceiverError> {
    let (dir, name) = match walker.ensure_parent(&entry.path) {
        Ok(found) => found,
        Err(error) if is_obstruction(&error) => return Ok(Placed::Conflict(ConflictReason::Obstructed)),
        Err(error) => return Err(ReceiverError::at("make the directory of", &entry.path)(error)),
    };
    let placed = finish(dir, temporary, || {
        if entry.kind == EntryKind::Symlink {
            dir.symlink(content, temporary)?;
            dir.set_mtime(temporary, entry.mtime)?;
        } else {
            let mut file = dir.create_file(temporary, mode_of(entry.kind))?;
            file.write_all(content)?;
            set_file_mtime(&file, entry.mtime)?;
        }
        rename_if_unchanged(dir, temporary, name, seen)
    });
    placed.map_err(ReceiverError::at("write", &entry.path))
}

/// A file where nobody looks yet.
///
/// # Errors
/// [`ReceiverError::Io`].
pub(super) fn write_staged(walker: &mut Walker, entry: &Entry, content: &[u8]) -> Result<Placed, ReceiverError> {
    let (dir, name) =
        walker.ensure_parent(&entry.path).map_err(ReceiverError::at("make the directory of", &entry.path))?;
    let written = finish(dir, name, || {
        let mut file = dir.create_file(name, mode_of(entry.kind))?;
        file.write_all(content)?;
        set_file_mtime(&file, entry.mtime)?;
        Ok(Placed::Yes(Stamp::of_file(&file)?))
    });
    written.map_err(ReceiverError::at("write", &entry.path))
}

/// The last steps of a file; leaves no temporary where it did not get its name.
pub(super) fn finish(dir: &Dir, temporary: &[u8], steps: impl FnOnce() -> io::Result<Placed>) -> io::Result<Placed> {
    match steps() {
        Ok(Placed::Yes(stamp)) => Ok(Placed::Yes(stamp)),
        // The first error counts; a temporary that cannot be removed either is found by the next run.
        other => dir.remove_file(temporary).and(other),
    }
}

/// Gives a finished temporary its name unless the guest changed what is there since it was `seen`.
pub(super) fn rename_if_unchanged(dir: &Dir, temporary: &[u8], name: &[u8], seen: Option<Stamp>) -> io::Result<Placed> {
    let is_dir = seen.is_some_and(|stamp| stamp.kind().is_none());
    if is_dir {
        dir.remove_empty_dir(name)?;
    }
    if let Some(stamp) = seen.filter(|_| !is_dir) {
        return match dir.stamp(name)? {
            Some(now) if now == stamp => exchange(dir, temporary, name, stamp),
            Some(_) => Ok(Placed::Conflict(ConflictReason::ChangedInGuest)),
            None => Ok(Placed::Conflict(ConflictReason::DeletedInGuest)),
        };
    }
    match rename_if_absent((dir, temporary), (dir, name))? {
        Placed::Conflict(ConflictReason::CreatedInGuest) if is_dir => Ok(Placed::Conflict(ConflictReason::Obstructed)),
        placed => Ok(placed),
    }
}

/// Gives a finished file its name if there is nothing.
pub(super) fn rename_if_absent((from, made): (&Dir, &[u8]), (dir, name): (&Dir, &[u8])) -> io::Result<Placed> {
    match from.rename_to(made, dir, name, Replace::No) {
        Ok(()) => match dir.stamp(name)? {
            Some(stamp) => Ok(Placed::Yes(stamp)),
            None => Ok(Placed::Conflict(ConflictReason::DeletedInGuest)),
        },
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Placed::Conflict(ConflictReason::CreatedInGuest)),
        Err(error) if is_obstruction(&error) => Ok(Placed::Conflict(ConflictReason::Obstructed)),
        Err(error) => Err(error),
    }
}

/// Puts the finished temporary in place of what is there, and back if that was not what was seen: a guest that saves
/// in the very moment between two looks keeps its version.
fn exchange(dir: &Dir, temporary: &[u8], name: &[u8], seen: Stamp) -> io::Result<Placed> {
    let placed = |dir: &Dir| {
        let there = dir.stamp(name)?;
        Ok(there.map_or(Placed::Conflict(ConflictReason::DeletedInGuest), Placed::Yes))
    };
    match dir.exchange(temporary, name) {
        Ok(true) => {}
        Ok(false) => {
            dir.rename(temporary, name, Replace::Yes)?;
            return placed(dir);
        }
        Err(error) if is_absent(&error) => return Ok(Placed::Conflict(ConflictReason::DeletedInGuest)),
        Err(error) => return Err(error),
    }
    let same = |now: Stamp| (now.inode, now.size, now.mtime) == (seen.inode, seen.size, seen.mtime);
    if dir.stamp(temporary)?.is_some_and(same) {
        dir.remove_file(temporary)?;
        return placed(dir);
    }
    dir.exchange(temporary, name)?;
    Ok(Placed::Conflict(ConflictReason::ChangedInGuest))
}

/// Something that is no directory stands where one is needed, or the reverse.
pub(super) fn is_obstruction(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NOTEMPTY | Errno::XDEV)
    )
}
