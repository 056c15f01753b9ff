//! Makes the guest's objects: one pack of the trees of a few commits, without their history or with it ([`history`]),
//! and its index.
//!
//! Compressed data and deltas are copied from the host's packs where they can be ([`source`]), so most objects are
//! never inflated; only trees are, to learn what is in them. The index is written from what is known while writing,
//! so nobody has to read the pack again.

mod history;
mod idx;
mod source;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;

use banger_proto::failure::{Classified, Kind};
use gix::ObjectId;
use gix::objs::Kind as ObjectKind;
use gix_pack::data::entry::Header;
use gix_pack::data::{Version, header};
use sha1::{Digest as _, Sha1};

pub use idx::{Indexed, render_index};
use source::{Location, Packs};

/// Fast: a guest's pack is read a few times and thrown away.
const COMPRESSION: u32 = 1;

/// How much is hashed and handed over at once.
const BLOCK: usize = 256 << 10;
/// Longest head of an entry: ten bytes of a 64-bit size, and of a distance as many or a name.
const HEADER_LIMIT: usize = 64;
/// How many blocks may wait for that.
const BLOCKS_AHEAD: usize = 4;

/// What goes into a pack.
#[derive(Debug, Clone, Default)]
pub struct PackPlan {
    /// A commit with its tree and everything in it, but not its parents.
    pub commit: Option<ObjectId>,
    /// Further commits and trees, each with everything in it but no parents.
    pub objects: Vec<ObjectId>,
    /// Further blobs.
    pub blobs: Vec<ObjectId>,
    /// Commits whose trees the receiver has already.
    pub known: Vec<ObjectId>,
    /// Commits and tags, each with its whole history and everything in it.
    pub history: Vec<ObjectId>,
    /// Of those, what the receiver has already.
    pub known_history: Vec<ObjectId>,
}

/// A pack that was written.
#[derive(Debug, Clone)]
pub struct WrittenPack {
    /// Its checksum.
    pub checksum: ObjectId,
    /// Its objects, sorted by name.
    pub objects: Vec<Indexed>,
    /// Content of its index file.
    pub index: Vec<u8>,
}

/// Why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The database failed.
    #[error("cannot read the objects of the repository")]
    Read {
        /// Why not.
        source: gix::Error,
    },
    /// Partial clone, or damage.
    #[error("the object {id} is missing from the repository")]
    Missing {
        /// Which.
        id: ObjectId,
    },
    /// The file failed.
    #[error("cannot write the pack")]
    Write {
        /// Why not.
        source: io::Error,
    },
}

impl Classified for PackError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } | Self::Missing { .. } => Kind::Failed,
            Self::Write { .. } => Kind::HostNotReady,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { .. } => vec![
                "If this is a partial clone, get what is missing with `git fetch --refetch --no-filter`.".into(),
                "See what else is missing with `git fsck --connectivity-only`.".into(),
            ],
            Self::Read { .. } => vec!["See whether the repository is sound with `git fsck`.".into()],
            Self::Write { .. } => vec!["See whether the disk is full with `df -h`.".into()],
        }
    }
}

/// Hands the pack to `out`, block by block; `None`, and nothing written, if there is nothing to write.
///
/// # Errors
/// [`PackError`].
pub fn write_pack(
    repository: &gix::Repository,
    plan: &PackPlan,
    out: impl FnMut(Vec<u8>) -> io::Result<()> + Send,
) -> Result<Option<WrittenPack>, PackError> {
    let mut repository = repository.clone();
    // The guest gets objects as they are, not what `git replace` shows in their place.
    repository.objects.ignore_replacements = true;
    let repository = &repository;
    let wanted = collect(repository, plan)?;
    if wanted.is_empty() {
        return Ok(None);
    }
    let number =
        u32::try_from(wanted.len()).map_err(|_| PackError::Write { source: io::Error::other("too many objects") })?;
    let (blocks, taken) = mpsc::sync_channel(BLOCKS_AHEAD);
    thread::scope(|scope| {
        let hashing = scope.spawn(|| hash_and_pass_on(taken, out));
        // When nobody takes blocks any more, the thread knows why.
        let written = PackWriter::start(blocks, number).and_then(|writer| write_objects(repository, wanted, writer));
        let hashed = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let checksum = hashed.map_err(|source| PackError::Write { source })?;
        let mut objects = written?;
        let index = render_index(&mut objects, &checksum).map_err(|source| PackError::Write { source })?;
        Ok(Some(WrittenPack { objects, index, checksum }))
    })
}

/// The second half of writing a pack, on a thread of its own: the checksum takes as long as all the rest.
fn hash_and_pass_on(
    blocks: mpsc::Receiver<Vec<u8>>,
    mut out: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> io::Result<ObjectId> {
    // Against accidents, so without the search for forged content that object names need and that takes twice as long.
    let mut hasher = Sha1::new();
    for block in blocks {
        hasher.update(&block);
        out(block)?;
    }
    let checksum = ObjectId::from_bytes_or_panic(&hasher.finalize());
    out(checksum.as_slice().to_vec())?;
    Ok(checksum)
}

/// Returns what was written.
fn write_objects(
    repository: &gix::Repository,
    wanted: Vec<ObjectId>,
    mut writer: PackWriter,
) -> Result<Vec<Indexed>, PackError> {
    let mut packs = Packs::open(repository);
    let mut packed: Vec<(Location, ObjectId)> = Vec::with_capacity(wanted.len());
    let mut loose: Vec<ObjectId> = Vec::new();
    for id in wanted {
        match packs.locate(&id) {
            Some(location) => packed.push((location, id)),
            None => loose.push(id),
        }
    }
    // As they lie: reads go forward, and a delta comes after its base.
    packed.sort_unstable();
    let mut copied: HashMap<(usize, u64), u64> = HashMap::with_capacity(packed.len());
    for (location, id) in packed {
        copied.insert((location.pack, location.start), writer.written);
        // What cannot be copied is read by the library, which also knows other packs that may have it.
        let Ok(raw) = packs.read(&location) else {
            writer.whole(repository, id)?;
            continue;
        };
        let header = match raw.header {
            Header::OfsDelta { base_distance } => {
                let base = location.start.checked_sub(base_distance).and_then(|at| copied.get(&(location.pack, at)));
                base.map(|base| Header::OfsDelta { base_distance: writer.written - base })
            }
            Header::RefDelta { .. } => None,
            whole => Some(whole),
        };
        match header {
            Some(header) => writer.push(id, header, raw.size, raw.data)?,
            None => writer.whole(repository, id)?,
        }
    }
    for id in loose {
        writer.whole(repository, id)?;
    }
    writer.finish()
}

/// Every object of the plan, without what the receiver has.
fn collect(repository: &gix::Repository, plan: &PackPlan) -> Result<Vec<ObjectId>, PackError> {
    let mut seen: HashSet<ObjectId> = HashSet::new();
    let mut known: Vec<ObjectId> = plan.known.iter().filter(|id| repository.has_object(*id)).copied().collect();
    let mut more = Vec::new();
    if !plan.history.is_empty() {
        let new = history::walk(repository, &plan.history, &plan.known_history)?;
        known.extend(new.boundary);
        if let Some(head) = plan.commit.filter(|head| new.commits.binary_search(head).is_err()) {
            known.push(head);
        }
        more = [new.commits, new.others].concat();
    }
    let mut ignored = Vec::new();
    expand(repository, known, &mut seen, &mut ignored)?;
    let mut wanted = Vec::new();
    expand(
        repository,
        plan.commit.iter().chain(&plan.objects).chain(&more).copied().collect(),
        &mut seen,
        &mut wanted,
    )?;
    wanted.extend(plan.blobs.iter().filter(|id| seen.insert(**id)));
    Ok(wanted)
}

/// Adds commits, trees and everything in them; what is in `seen` is neither added nor entered.
fn expand(
    repository: &gix::Repository,
    mut pending: Vec<ObjectId>,
    seen: &mut HashSet<ObjectId>,
    found: &mut Vec<ObjectId>,
) -> Result<(), PackError> {
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        found.push(id);
        let object = find(repository, id)?;
        match object.kind {
            ObjectKind::Commit => {
                let commit = object.into_commit();
                pending.push(commit.tree_id().map_err(|source| PackError::Read { source })?.detach());
            }
            ObjectKind::Tree => {
                for entry in gix::objs::TreeRefIter::from_bytes(&object.data, repository.object_hash()) {
                    let entry = entry.map_err(|source| PackError::Read { source })?;
                    if entry.mode.is_tree() {
                        pending.push(entry.oid.to_owned());
                    } else if !entry.mode.is_commit() && seen.insert(entry.oid.to_owned()) {
                        found.push(entry.oid.to_owned());
                    }
                }
            }
            ObjectKind::Blob | ObjectKind::Tag => {}
        }
    }
    Ok(())
}

fn find(repository: &gix::Repository, id: ObjectId) -> Result<gix::Object<'_>, PackError> {
    match repository.try_find_object(id) {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(PackError::Missing { id }),
        Err(source) => Err(PackError::Read { source }),
    }
}

/// Collects what is written into blocks.
struct PackWriter {
    blocks: mpsc::SyncSender<Vec<u8>>,
    block: Vec<u8>,
    written: u64,
    entries: Vec<Indexed>,
}

impl PackWriter {
    fn start(blocks: mpsc::SyncSender<Vec<u8>>, number: u32) -> Result<Self, PackError> {
        let entries = Vec::with_capacity(number as usize);
        let mut writer = Self { blocks, block: Vec::with_capacity(BLOCK), written: 0, entries };
        writer.write(&header::encode(Version::V2, number))?;
        Ok(writer)
    }

    fn push(&mut self, id: ObjectId, header: Header, size: u64, data: &[u8]) -> Result<(), PackError> {
        let offset = self.written;
        let mut head = [0; HEADER_LIMIT];
        let mut rest = &mut head[..];
        header.write_to(size, &mut rest).map_err(|source| PackError::Write { source })?;
        let left = rest.len();
        let head = &head[..HEADER_LIMIT - left];
        let mut crc = crc32fast::Hasher::new();
        crc.update(head);
        crc.update(data);
        let length = (head.len() + data.len()) as u64;
        let base = match header {
            Header::OfsDelta { base_distance } => offset.checked_sub(base_distance),
            _ => None,
        };
        self.entries.push(Indexed { id, crc32: crc.finalize(), offset, length, base });
        self.write(head)?;
        self.write(data)
    }

    /// Reads an object and compresses it anew.
    fn whole(&mut self, repository: &gix::Repository, id: ObjectId) -> Result<(), PackError> {
        let object = find(repository, id)?;
        let header = match object.kind {
            ObjectKind::Commit => Header::Commit,
            ObjectKind::Tree => Header::Tree,
            ObjectKind::Blob => Header::Blob,
            ObjectKind::Tag => Header::Tag,
        };
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(COMPRESSION));
        let data = encoder.write_all(&object.data).and_then(|()| encoder.finish());
        let data = data.map_err(|source| PackError::Write { source })?;
        self.push(id, header, object.data.len() as u64, &data)
    }

    fn finish(mut self) -> Result<Vec<Indexed>, PackError> {
        self.hand_over()?;
        Ok(self.entries)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.written += bytes.len() as u64;
        if self.block.len() + bytes.len() > BLOCK {
            self.hand_over()?;
        }
        self.block.extend_from_slice(bytes);
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), PackError> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let gone = |_| PackError::Write { source: io::ErrorKind::BrokenPipe.into() };
        self.blocks.send(block).map_err(gone)
    }
}
