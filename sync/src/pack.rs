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

use banger_proto::failure::{Classified, Kind};
use gix::ObjectId;
use gix::objs::Kind as ObjectKind;
use gix_pack::data::entry::Header;
use gix_pack::data::{Version, header};

use idx::{Indexed, render_index};
use source::{Location, Packs};

/// Fast: a guest's pack is read a few times and thrown away.
const COMPRESSION: u32 = 1;

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
    /// Number of objects.
    pub objects: u32,
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

/// Writes the pack to `out`; `None`, and nothing written, if there is nothing to write.
///
/// # Errors
/// [`PackError`].
pub fn write_pack(
    repository: &gix::Repository,
    plan: &PackPlan,
    out: impl Write,
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
    let mut writer = PackWriter::start(out, number, repository.object_hash())?;
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
    writer.finish().map(Some)
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

struct PackWriter<W> {
    out: W,
    hasher: gix::hash::Hasher,
    kind: gix::hash::Kind,
    written: u64,
    entries: Vec<Indexed>,
}

impl<W: Write> PackWriter<W> {
    fn start(out: W, number: u32, kind: gix::hash::Kind) -> Result<Self, PackError> {
        let entries = Vec::with_capacity(number as usize);
        let mut writer = Self { out, hasher: gix::hash::hasher(kind), kind, written: 0, entries };
        writer.write(&header::encode(Version::V2, number))?;
        Ok(writer)
    }

    fn push(&mut self, id: ObjectId, header: Header, size: u64, data: &[u8]) -> Result<(), PackError> {
        let offset = self.written;
        let mut head = Vec::with_capacity(32);
        header.write_to(size, &mut head).map_err(|source| PackError::Write { source })?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(data);
        self.entries.push(Indexed { id, crc32: crc.finalize(), offset });
        self.write(&head)?;
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

    fn finish(mut self) -> Result<WrittenPack, PackError> {
        let failed = |error: io::Error| PackError::Write { source: error };
        let checksum = self.hasher.try_finalize().map_err(|error| failed(io::Error::other(error.to_string())))?;
        self.out.write_all(checksum.as_slice()).and_then(|()| self.out.flush()).map_err(failed)?;
        let objects = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let index = render_index(self.entries, &checksum, self.kind).map_err(failed)?;
        Ok(WrittenPack { checksum, objects, index })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|source| PackError::Write { source })
    }
}
