//! Makes the guest's objects: one pack of the trees of a few commits, without their history, and its index.
//!
//! Compressed data and deltas are copied from the host's packs where they can be. The index is written from
//! what is known while writing, so nobody has to read the pack again.

mod idx;

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use banger_proto::failure::{Classified, Kind};
use gix::ObjectId;
use gix::parallel::InOrderIter;
use gix_pack::Find;
use gix_pack::data::output::count::objects::{ObjectExpansion, Options as CountOptions};
use gix_pack::data::output::{Count, Entry, count, entry};
use gix_pack::data::{Version, header};

use idx::{Indexed, render_index};

/// What goes into a pack.
#[derive(Debug, Clone, Default)]
pub struct PackPlan {
    /// A commit with its tree and everything in it, but not its parents.
    pub commit: Option<ObjectId>,
    /// Further objects; of commits the trees as well.
    pub objects: Vec<ObjectId>,
    /// Commits whose trees the receiver has already.
    pub known: Vec<ObjectId>,
}

/// A pack that was written.
#[derive(Debug, Clone)]
pub struct WrittenPack {
    /// Its checksum, which names its files.
    pub name: ObjectId,
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

/// Writes the pack to `out`; `None` if there is nothing to write.
///
/// # Errors
/// [`PackError`].
pub fn write_pack(
    repository: &gix::Repository,
    plan: &PackPlan,
    out: impl Write,
) -> Result<Option<WrittenPack>, PackError> {
    let read = |source| PackError::Read { source };
    let mut database = repository.objects.clone().into_inner();
    database.prevent_pack_unload();
    let wanted: Vec<ObjectId> = plan.commit.iter().chain(&plan.objects).copied().collect();
    if let Some(id) = wanted.iter().find(|id| !database.contains(id)) {
        return Err(PackError::Missing { id: *id });
    }
    let mut counts = expand(database.clone(), wanted)?;
    if !plan.known.is_empty() {
        let here = plan.known.iter().filter(|id| database.contains(id)).copied().collect();
        let known: HashSet<ObjectId> = expand(database.clone(), here)?.into_iter().map(|count| count.id).collect();
        counts.retain(|count| !known.contains(&count.id));
    }
    if counts.is_empty() {
        return Ok(None);
    }
    let number =
        u32::try_from(counts.len()).map_err(|_| PackError::Write { source: io::Error::other("too many objects") })?;
    let ids: Vec<ObjectId> = counts.iter().map(|count| count.id).collect();
    let options = entry::iter_from_counts::Options { chunk_size: 200, ..Default::default() };
    let chunks =
        entry::iter_from_counts(counts, database.clone(), Box::new(gix::progress::Discard), options).map_err(read)?;
    let mut writer = PackWriter::start(out, number, repository.object_hash())?;
    for chunk in InOrderIter::from(chunks) {
        for entry in chunk.map_err(read)? {
            if entry.is_invalid() {
                let missing = ids.iter().find(|id| !database.contains(id)).copied();
                return Err(PackError::Missing { id: missing.unwrap_or(entry.id) });
            }
            writer.push(&entry)?;
        }
    }
    writer.finish().map(Some)
}

fn expand<F: Find + Send + Clone>(database: F, ids: Vec<ObjectId>) -> Result<Vec<Count>, PackError> {
    let options = CountOptions {
        input_object_expansion: ObjectExpansion::TreeContents,
        chunk_size: 64,
        ..CountOptions::default()
    };
    let interrupt = AtomicBool::new(false);
    let (counts, _) =
        count::objects(database, Box::new(ids.into_iter().map(Ok)), &gix::progress::Discard, &interrupt, options)
            .map_err(|source| PackError::Read { source })?;
    Ok(counts)
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

    fn push(&mut self, entry: &Entry) -> Result<(), PackError> {
        let offset = self.written;
        let header = entry.to_entry_header(Version::V2, |base| offset - self.entries[base].offset);
        let mut head = Vec::with_capacity(32);
        header.write_to(entry.decompressed_size as u64, &mut head).map_err(|source| PackError::Write { source })?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(&entry.compressed_data);
        self.entries.push(Indexed { id: entry.id, crc32: crc.finalize(), offset });
        self.write(&head)?;
        self.write(&entry.compressed_data)
    }

    fn finish(mut self) -> Result<WrittenPack, PackError> {
        let failed = |error: io::Error| PackError::Write { source: error };
        let name = self.hasher.try_finalize().map_err(|error| failed(io::Error::other(error.to_string())))?;
        self.out.write_all(name.as_slice()).and_then(|()| self.out.flush()).map_err(failed)?;
        let objects = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let index = render_index(self.entries, &name, self.kind).map_err(failed)?;
        Ok(WrittenPack { name, objects, index })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|source| PackError::Write { source })
    }
}
