//! The repository's own packs as places to copy compressed objects from.
//!
//! Entries are read with positioned reads, never through a mapping of the whole pack: a large history costs no
//! memory, and a pack that gets shorter is an error and no signal. Whoever asks for neighbours one after the other has
//! many of them with one read. What is copied is checked against the checksum its index has for it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix_pack::data::entry::Header;

use crate::dir::read_full_at;

/// How much is read at once.
const WINDOW: usize = 256 << 10;

/// Where one object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Which pack, by position.
    pub pack: usize,
    /// Where its entry starts.
    pub start: u64,
    /// Where the next one does.
    end: u64,
    crc32: Option<u32>,
}

/// One entry as it is stored.
pub struct Raw<'a> {
    /// What it is.
    pub header: Header,
    /// Length of the object, or of the delta.
    pub size: u64,
    /// Compressed, without the header.
    pub data: &'a [u8],
}

struct Pack {
    index: gix_pack::index::File<gix_pack::MMap>,
    file: File,
    /// Ascending, the end of the last entry included.
    offsets: Vec<u64>,
}

/// Every pack with a readable index, those of alternates included.
pub struct Packs {
    packs: Vec<Pack>,
    kind: gix::hash::Kind,
    window: Window,
}

/// What was read last.
#[derive(Default)]
struct Window {
    pack: usize,
    start: u64,
    /// Of `bytes`, as they may be fewer at the end of a pack.
    filled: usize,
    bytes: Vec<u8>,
}

impl Packs {
    /// Opens them. One that cannot be opened is left out: its objects are then read by the library, which says why.
    pub fn open(repository: &gix::Repository) -> Self {
        let kind = repository.object_hash();
        let store = repository.objects.store_ref();
        let mut places: Vec<PathBuf> = vec![store.path().to_owned()];
        places.extend(store.alternate_db_paths().unwrap_or_default());
        let packs = places.iter().flat_map(|place| indexes(place)).filter_map(|path| open(&path, kind).ok()).collect();
        Self { packs, kind, window: Window::default() }
    }

    /// Where `id` is, if it is packed.
    pub fn locate(&self, id: &ObjectId) -> Option<Location> {
        self.packs.iter().enumerate().find_map(|(number, pack)| {
            let at = pack.index.lookup(id)?;
            let start = pack.index.pack_offset_at_index(at);
            let position = pack.offsets.binary_search(&start).ok()?;
            let end = *pack.offsets.get(position + 1)?;
            Some(Location { pack: number, start, end, crc32: pack.index.crc32_at_index(at) })
        })
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// The file, or what is in it: then the checksum is wrong or it is no entry.
    pub fn read(&mut self, at: &Location) -> io::Result<Raw<'_>> {
        let stored = self.window.get(&self.packs[at.pack].file, at)?;
        if at.crc32.is_some_and(|expected| crc32fast::hash(stored) != expected) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry of a pack is damaged"));
        }
        let entry = gix_pack::data::Entry::from_bytes(stored, at.start, self.kind)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let skipped = usize::try_from(entry.data_offset - at.start).map_err(io::Error::other)?;
        Ok(Raw { header: entry.header, size: entry.decompressed_size, data: &stored[skipped..] })
    }
}

impl Window {
    /// The bytes of one entry.
    fn get(&mut self, file: &File, at: &Location) -> io::Result<&[u8]> {
        let length = usize::try_from(at.end - at.start).map_err(io::Error::other)?;
        let is_here = |this: &Self| {
            let end = this.start + this.filled as u64;
            this.pack == at.pack && this.start <= at.start && at.end <= end
        };
        if !is_here(self) {
            self.fill(file, at, length)?;
        }
        let from = usize::try_from(at.start - self.start).map_err(io::Error::other)?;
        Ok(&self.bytes[from..from + length])
    }

    fn fill(&mut self, file: &File, at: &Location, length: usize) -> io::Result<()> {
        self.filled = 0;
        let wanted = length.max(WINDOW);
        if self.bytes.len() < wanted || self.bytes.len() > 2 * wanted {
            self.bytes = vec![0; wanted];
        }
        (self.pack, self.start) = (at.pack, at.start);
        self.filled = read_full_at(file, &mut self.bytes, at.start)?;
        if self.filled < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

fn indexes(objects: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(objects.join("pack")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .collect();
    paths.sort();
    paths
}

fn open(path: &Path, kind: gix::hash::Kind) -> io::Result<Pack> {
    let index = gix_pack::index::File::at(path, kind).map_err(|error| io::Error::other(error.to_string()))?;
    let file = File::open(path.with_extension("pack"))?;
    let trailer = kind.len_in_bytes() as u64;
    let mut offsets = index.sorted_offsets();
    offsets.push(file.metadata()?.len().saturating_sub(trailer));
    Ok(Pack { index, file, offsets })
}
