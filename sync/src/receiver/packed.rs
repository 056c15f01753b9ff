//! Makes files of objects in a pack that has just arrived, on all cores: what git needs anyway is not sent twice.
//!
//! The host says which object is which file, and may be wrong about it: a filter, another line ending, a file that
//! changed. So every file is checked against the manifest's digest before it is written, and what does not fit is asked
//! for. [`found`] is the same for objects that came earlier, [`index`] and [`entry`] are the formats.

mod entry;
mod found;
mod index;
mod objects;

use std::collections::HashSet;
use std::fs::File;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use banger_proto::guest::v1::{Need, PackedFiles};

use super::apply::{Applier, Sending};
use super::error::ReceiverError;
use super::place::{Placed, write_small, write_staged};
use super::plan::{Slot, SlotState};
use super::staging::Staging;
use crate::bitmap;
use crate::dir::Walker;
use crate::entry::EntryKind;
use crate::frames::{PACKED_FILES, PACKED_SIZE};
use crate::parallel::{self, Weight};
use objects::Objects;

/// Files up to this size are made without asking whether there is room.
const SMALL: u64 = 256 << 10;
/// Bytes of larger files that may be in the making at once, whatever the number of cores.
const ROOM: u64 = 32 << 20;
/// Bytes of content that take as long as all else about a file.
const USUAL: u64 = 16 << 10;
/// Bytes of objects that are kept because others are made of them, for all cores together.
const BASES: usize = 32 << 20;
/// Bytes of buffers that are kept for the next object, for all cores together.
const BUFFERS: usize = 48 << 20;

/// One file to make.
struct Wanted {
    index: usize,
    offset: u64,
    length: u32,
    /// It is made of what the one before it is made of, or of that.
    is_next: bool,
    temporary: Vec<u8>,
}

/// What makes objects of one pack, kept from one list of files to the next with all that was read and made.
#[derive(Default)]
pub struct Workshop {
    pack: String,
    idle: Mutex<Vec<Objects>>,
}

impl Workshop {
    /// What is known of another pack is forgotten.
    fn of_pack(self, pack: &str) -> Self {
        if self.pack == pack { self } else { Self { pack: pack.to_owned(), ..Self::default() } }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Objects>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(&self) -> Lent<'_> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let objects = self.idle().pop().unwrap_or_else(|| Objects::holding(BASES / cores, BUFFERS / cores));
        Lent { workshop: self, objects: Some(objects) }
    }
}

/// One thread's part, which goes back.
struct Lent<'a> {
    workshop: &'a Workshop,
    objects: Option<Objects>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.workshop.idle().extend(self.objects.take());
    }
}

impl Applier<'_> {
    /// Makes what it can of objects in `pack`, and says what it cannot.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn packed(&mut self, pack: &File, told: &PackedFiles) -> Result<Need, ReceiverError> {
        let wanted = self.wanted(told)?;
        if self.staging.is_none() {
            self.staging = Staging::begin(self.home(), self.slots())?;
        }
        let made = self.make(&told.pack, pack, &wanted)?;
        Ok(Need { bitmap: bitmap::render(made.into_iter().map(|made| !made)) })
    }

    /// Says of each whether it is made.
    fn make(&mut self, name: &str, pack: &File, wanted: &[Wanted]) -> Result<Vec<bool>, ReceiverError> {
        let workshop = std::mem::take(&mut self.workshop).of_pack(name);
        let (home, slots, staging) = (self.home(), self.slots(), self.staging.as_ref());
        let room = Room::new(ROOM);
        let outcomes = parallel::map_weighted(
            wanted,
            |wanted| Weight { times: 1 + slots[wanted.index].entry.size / USUAL, is_next: wanted.is_next },
            || {
                let walker = staging.map_or_else(|| home.walker(), Staging::walker)?;
                Ok(Maker { walker, is_aside: staging.is_some(), pack, lent: workshop.lend(), room: &room })
            },
            |maker, wanted| maker.make(wanted, &slots[wanted.index]),
        )?;
        self.workshop = workshop;
        let made = outcomes.iter().map(Option::is_some).collect();
        for (wanted, placed) in wanted.iter().zip(outcomes) {
            if let Some(placed) = placed {
                self.settle(wanted.index, placed)?;
                if let Some(staging) = &mut self.staging {
                    staging.note(wanted.index);
                }
            }
        }
        Ok(made)
    }

    fn wanted(&mut self, told: &PackedFiles) -> Result<Vec<Wanted>, ReceiverError> {
        let count = told.indexes.len();
        // No two threads may work on one file.
        let mut seen = HashSet::with_capacity(count);
        let is_list = told.indexes.iter().all(|index| seen.insert(*index))
            && told.offsets.len() == count
            && told.lengths.len() == count
            && count <= PACKED_FILES;
        if !is_list || self.sending() != Sending::Needed || self.in_file() {
            return Err(ReceiverError::Unexpected { expected: "a list of files in a pack" });
        }
        let mut wanted = Vec::with_capacity(count);
        let mut is_next = bitmap::parse(&told.is_next, count).into_iter().flatten();
        for ((index, offset), length) in told.indexes.iter().zip(&told.offsets).zip(&told.lengths) {
            let index = *index as usize;
            if self.slots().get(index).is_none_or(|slot| slot.state != SlotState::Needed) {
                return Err(ReceiverError::Unexpected { expected: "a file that was asked for" });
            }
            let (is_next, temporary) = (is_next.next().unwrap_or(false), self.temporary());
            wanted.push(Wanted { index, offset: *offset, length: *length, is_next, temporary });
        }
        Ok(wanted)
    }
}

/// One thread's means.
struct Maker<'a> {
    walker: Walker,
    /// Not in the tree yet.
    is_aside: bool,
    pack: &'a File,
    lent: Lent<'a>,
    room: &'a Room,
}

impl Maker<'_> {
    /// `None`: the object is not what the manifest says.
    fn make(&mut self, wanted: &Wanted, slot: &Slot) -> Result<Option<Placed>, ReceiverError> {
        let entry = &slot.entry;
        if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) || entry.size > PACKED_SIZE {
            return Ok(None);
        }
        let _taken = (entry.size > SMALL).then(|| self.room.take(entry.size));
        let Some(objects) = &mut self.lent.objects else { return Ok(None) };
        match objects.blob(self.pack, wanted.offset, wanted.length, entry.size) {
            Some(data) if blake3::hash(data) == entry.digest => {
                if self.is_aside {
                    return write_staged(&mut self.walker, entry, data).map(Some);
                }
                write_small(&mut self.walker, entry, &wanted.temporary, data, slot.seen).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Bytes that all threads together may hold.
struct Room {
    free: Mutex<u64>,
    more: Condvar,
}

/// Gives its part back.
struct Taken<'a>(&'a Room, u64);

impl Room {
    fn new(bytes: u64) -> Self {
        Self { free: Mutex::new(bytes), more: Condvar::new() }
    }

    /// Waits until there are as many; no part is larger than the whole.
    fn take(&self, bytes: u64) -> Taken<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.more.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Taken(self, bytes)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += self.1;
        self.0.more.notify_all();
    }
}

const _: () = assert!(PACKED_SIZE <= ROOM, "a file alone must have room");
