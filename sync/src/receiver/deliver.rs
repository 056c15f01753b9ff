//! Files of the owner below the guest's home: each is there whole and with its permissions, or as it was before.
//!
//! ```text
//!            in the guest     nothing   ours, unchanged   the host's   something else
//!  used guest                 make      replace           keep         keep, a conflict
//!  fresh guest                make      replace           keep         replace
//! ```
//! A directory is made, never replaced, never emptied. Nothing is removed: what the host does not name any more stays.
//! No link of the guest is followed ([`crate::dir`]), so nothing outside the home is written whatever lies there.
//! [`memory`] tells ours from the guest's.

mod memory;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Need, Welcome};
use rustix::fs::{FileType, Mode};

use super::error::ReceiverError;
use super::place::{Placed, finish, is_obstruction, rename_if_unchanged};
use super::{Report, next, reply, report};
use crate::bitmap;
use crate::diff::{ConflictReason, Observed};
use crate::digest::DigestBuilder;
use crate::dir::{Dir, Stamp, Walker, is_absent};
use crate::frames::{FrameReader, FrameWriter, VERSION};
use crate::path::TreePath;
use crate::piece::{BYTES_LIMIT, INCOMING, PIECES_LIMIT, Piece, What};
use memory::Memory;

/// What becomes of one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// It is there.
    Keep,
    /// It is made, or takes the place of what is there.
    Make,
    /// The guest's own stays.
    Conflict(ConflictReason),
}

/// Who may have written what is in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// Its image and nobody else.
    Fresh,
    /// Anybody.
    Used,
}

struct Slot {
    piece: Piece,
    seen: Option<Stamp>,
    decision: Decision,
}

/// Serves one after its greeting.
pub(super) fn serve<R: Read, W: Write>(
    path: &Path,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(), ReceiverError> {
    let failed = |action| move |source| ReceiverError::Root { action, root: path.to_owned(), source };
    let root = Dir::open_root(path).map_err(failed("open the directory"))?;
    let mut memory = Memory::open(path, &root)?;
    reply(writer, Reply::Welcome(Welcome { version: VERSION, ..Welcome::default() }))?;
    let (pieces, guest) = receive(reader)?;
    let mut delivery = Delivery { walker: Walker::new(root), written: 0 };
    if memory.unfinished {
        delivery.clear_incoming(memory.known.keys())?;
    }
    let mut slots = delivery.plan(&memory, pieces, guest)?;
    reply(writer, Reply::Need(Need { bitmap: needed(&slots) }))?;
    let made: Vec<&Piece> =
        slots.iter().filter(|slot| slot.decision == Decision::Make).map(|slot| &slot.piece).collect();
    if !made.is_empty() {
        memory.begin(&made)?;
        memory.unfinished = true;
    }
    for slot in &mut slots {
        delivery.perform(slot, reader)?;
    }
    delivery.settle_directories(&slots, &memory)?;
    if delivery.written > 0 {
        // The record below says that they are there; after a crash it must be true.
        delivery.sync().map_err(failed("write to the disk of"))?;
    }
    let delivered: Vec<&Piece> = slots.iter().filter(|slot| is_ours(slot, &memory)).map(|slot| &slot.piece).collect();
    memory.end(&delivered)?;
    let conflicts: Vec<(TreePath, ConflictReason)> = slots
        .iter()
        .filter_map(|slot| match slot.decision {
            Decision::Conflict(reason) => Some((slot.piece.path.clone(), reason)),
            Decision::Keep | Decision::Make => None,
        })
        .collect();
    let nothing = DigestBuilder::default().finish();
    report(
        writer,
        &Report {
            tree_digest: nothing,
            applied_digest: nothing,
            files_written: delivery.written,
            files_removed: 0,
            conflicts: &conflicts,
            outdated: &[],
            git_kept: false,
        },
    )
}

/// What is remembered. A directory that was there before us is not ours, so its permissions never are.
fn is_ours(slot: &Slot, memory: &Memory) -> bool {
    match slot.decision {
        Decision::Make => true,
        Decision::Keep => slot.piece.what != What::Directory || !memory.of(&slot.piece.path).is_empty(),
        Decision::Conflict(_) => false,
    }
}

fn receive<R: Read>(reader: &mut FrameReader<R>) -> Result<(Vec<Piece>, Guest), ReceiverError> {
    let invalid = |problem| ReceiverError::Manifest { problem };
    let mut pieces: Vec<Piece> = Vec::new();
    let mut bytes = 0;
    loop {
        let Request::Deliver(part) = next(reader)? else {
            return Err(ReceiverError::Unexpected { expected: "what is delivered" });
        };
        for wire in &part.entries {
            let piece = Piece::parse(wire).map_err(invalid)?;
            if pieces.last().is_some_and(|last| last.path >= piece.path) {
                return Err(invalid("it is not sorted"));
            }
            bytes += piece.what.size();
            if pieces.len() == PIECES_LIMIT || bytes > BYTES_LIMIT {
                return Err(invalid("it is too large"));
            }
            pieces.push(piece);
        }
        if part.last {
            return Ok((pieces, if part.fresh_guest { Guest::Fresh } else { Guest::Used }));
        }
    }
}

/// Only files have content that must be sent.
fn needed(slots: &[Slot]) -> Vec<u8> {
    let is_needed = |slot: &Slot| slot.decision == Decision::Make && matches!(slot.piece.what, What::File { .. });
    bitmap::render(slots.iter().map(is_needed))
}

/// Pure.
fn decide(wanted: &What, known: &[Piece], observed: Observed, guest: Guest) -> Decision {
    match (wanted, observed) {
        // A file deleted in the guest comes back: every start overwrites, and nothing is lost by it.
        (_, Observed::Absent) => Decision::Make,
        (What::Directory, Observed::Directory) => Decision::Keep,
        (What::Directory, Observed::Present(_) | Observed::Special)
        | (What::File { .. } | What::Symlink { .. }, Observed::Directory | Observed::Special) => {
            Decision::Conflict(ConflictReason::Obstructed)
        }
        (_, Observed::Present(content)) if wanted.is(content) => Decision::Keep,
        (_, Observed::Present(_)) if guest == Guest::Fresh => Decision::Make,
        (_, Observed::Present(content)) if known.iter().any(|piece| piece.what.is(content)) => Decision::Make,
        (_, Observed::Present(_)) if known.is_empty() => Decision::Conflict(ConflictReason::CreatedInGuest),
        (_, Observed::Present(_)) => Decision::Conflict(ConflictReason::ChangedInGuest),
    }
}

struct Delivery {
    walker: Walker,
    written: u64,
}

impl Delivery {
    fn plan(&mut self, memory: &Memory, pieces: Vec<Piece>, guest: Guest) -> Result<Vec<Slot>, ReceiverError> {
        let mut slots = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (observed, seen) = super::plan::observe(&mut self.walker, &piece.path, None)?;
            let decision = decide(&piece.what, memory.of(&piece.path), observed, guest);
            slots.push(Slot { piece, seen, decision });
        }
        Ok(slots)
    }

    fn perform<R: Read>(&mut self, slot: &mut Slot, reader: &mut FrameReader<R>) -> Result<(), ReceiverError> {
        let path = slot.piece.path.clone();
        let placed = match (slot.decision, &slot.piece.what) {
            (Decision::Conflict(_), _) | (Decision::Keep, What::Directory | What::Symlink { .. }) => return Ok(()),
            (Decision::Keep, What::File { .. }) => return self.settle_file(&slot.piece),
            (Decision::Make, What::Directory) => self.make_directory(&path),
            (Decision::Make, What::Symlink { target }) => self.make_link(&path, target, slot.seen),
            (Decision::Make, What::File { size, digest }) => {
                let content = Expected { size: *size, digest: *digest, mode: slot.piece.mode };
                self.make_file(&path, &content, slot.seen, reader)?
            }
        };
        match placed {
            Ok(Placed::Yes(_)) => self.written += u64::from(slot.piece.what != What::Directory),
            Ok(Placed::Conflict(reason)) => slot.decision = Decision::Conflict(reason),
            Err(error) if is_obstruction(&error) => slot.decision = Decision::Conflict(ConflictReason::Obstructed),
            Err(source) => return Err(ReceiverError::at("write", &path)(source)),
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &TreePath) -> io::Result<Placed> {
        let (dir, name) = self.walker.ensure_parent(path)?;
        let made = dir.ensure_dir(name)?;
        // Nobody else may look until its own permissions are set, at the end.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o700))?;
        Ok(dir.stamp(name)?.map_or(Placed::Conflict(ConflictReason::DeletedInGuest), Placed::Yes))
    }

    fn make_link(&mut self, path: &TreePath, target: &[u8], seen: Option<Stamp>) -> io::Result<Placed> {
        let (dir, name) = self.walker.ensure_parent(path)?;
        dir.remove_file(INCOMING)?;
        dir.symlink(target, INCOMING)?;
        give_name(dir, name, seen)
    }

    /// The content is taken from the stream in any case; the outer error ends the transfer.
    fn make_file<R: Read>(
        &mut self,
        path: &TreePath,
        expected: &Expected,
        seen: Option<Stamp>,
        reader: &mut FrameReader<R>,
    ) -> Result<io::Result<Placed>, ReceiverError> {
        let opened = self.walker.ensure_parent(path).and_then(|(dir, _)| {
            dir.remove_file(INCOMING)?;
            dir.create_file(INCOMING, 0o600)
        });
        let mut file = match opened {
            Ok(file) => Some(file),
            Err(error) if is_obstruction(&error) => None,
            Err(error) => return Err(ReceiverError::at("write", path)(error)),
        };
        let taken = take_content(path, expected, file.as_mut(), reader);
        let Some(file) = file else { return taken.map(|()| Ok(Placed::Conflict(ConflictReason::Obstructed))) };
        let (dir, name) = self.walker.parent(path).map_err(ReceiverError::at("write", path))?;
        if let Err(error) = taken {
            // The first error counts; what is left is found by the next run.
            let _ = dir.remove_file(INCOMING);
            return Err(error);
        }
        let named = rustix::fs::fchmod(&file, Mode::from_raw_mode(expected.mode)).map_err(io::Error::from);
        Ok(named.and_then(|()| give_name(dir, name, seen)))
    }

    /// A file that has the right content already: permissions and owner as well.
    fn settle_file(&mut self, piece: &Piece) -> Result<(), ReceiverError> {
        let failed = || ReceiverError::at("set the permissions of", &piece.path);
        let (dir, name) = self.walker.parent(&piece.path).map_err(failed())?;
        let Some(stat) = dir.stat(name).map_err(failed())? else { return Ok(()) };
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let right = stat.st_mode & 0o7777 == piece.mode && stat.st_uid == uid.as_raw() && stat.st_gid == gid.as_raw();
        if right || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let file = dir.open_file(name).map_err(failed())?;
        rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(|error| failed()(error.into()))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(piece.mode)).map_err(|error| failed()(error.into()))
    }

    /// Last and deepest first, so that a directory nobody may write gets its content before.
    fn settle_directories(&mut self, slots: &[Slot], memory: &Memory) -> Result<(), ReceiverError> {
        for slot in slots.iter().rev().filter(|slot| slot.piece.what == What::Directory) {
            let piece = &slot.piece;
            let wanted = match slot.decision {
                Decision::Make => true,
                Decision::Keep => memory.of(&piece.path).iter().any(|known| known.mode != piece.mode),
                Decision::Conflict(_) => false,
            };
            if wanted {
                let failed = || ReceiverError::at("set the permissions of", &piece.path);
                let (dir, name) = self.walker.parent(&piece.path).map_err(failed())?;
                let directory = dir.open_dir(name).map_err(failed())?;
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(piece.mode))
                    .map_err(|error| failed()(error.into()))?;
            }
        }
        Ok(())
    }

    /// What a run that was cut off left beside the names it was about to give.
    fn clear_incoming<'p>(&mut self, paths: impl Iterator<Item = &'p TreePath>) -> Result<(), ReceiverError> {
        for path in paths {
            match self.walker.parent(path) {
                Ok((dir, _)) => dir.remove_file(INCOMING).map_err(ReceiverError::at("clear the directory of", path))?,
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(ReceiverError::at("clear the directory of", path)(error)),
            }
        }
        self.walker.forget();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.walker.root())?)
    }
}

struct Expected {
    size: u64,
    digest: blake3::Hash,
    mode: u32,
}

fn take_content<R: Read>(
    path: &TreePath,
    expected: &Expected,
    mut file: Option<&mut File>,
    reader: &mut FrameReader<R>,
) -> Result<(), ReceiverError> {
    let mut hasher = blake3::Hasher::new();
    let mut left = expected.size;
    while left > 0 {
        let Request::Chunk(chunk) = next(reader)? else {
            return Err(ReceiverError::Unexpected { expected: "content" });
        };
        left = match left.checked_sub(chunk.data.len() as u64) {
            Some(left) if !chunk.data.is_empty() => left,
            _ => return Err(ReceiverError::Unexpected { expected: "the content of one file" }),
        };
        hasher.update(&chunk.data);
        if let Some(file) = &mut file {
            file.write_all(&chunk.data).map_err(ReceiverError::at("write", path))?;
        }
    }
    if hasher.finalize() == expected.digest { Ok(()) } else { Err(ReceiverError::Content { path: path.to_string() }) }
}

/// Gives the finished file or link its name, unless the guest changed what has it since it was `seen`.
fn give_name(dir: &Dir, name: &[u8], seen: Option<Stamp>) -> io::Result<Placed> {
    finish(dir, INCOMING, || rename_if_unchanged(dir, INCOMING, name, seen))
}
