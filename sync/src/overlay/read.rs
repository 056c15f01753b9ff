//! Reads one file or link that somebody may be writing, until two looks around the reading agree.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use gix::hash::ObjectId;
use rustix::fs::FileType;

use super::OverlayError;
use super::memory::{Identity, Remembered};
use crate::dir::{Dir, Stamp, is_absent, read_full_at};
use crate::entry::{EntryKind, Mtime};
use crate::path::TreePath;

const ATTEMPTS: u32 = 6;
const BUFFER: usize = 128 << 10;

/// What a path was found to be.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or a directory took its place.
    Absent,
    /// A file or link.
    Content(Reading),
}

/// One consistent reading.
#[derive(Debug, Clone)]
pub struct Reading {
    /// What it is.
    pub kind: EntryKind,
    /// Its length.
    pub size: u64,
    /// blake3 of its content.
    pub digest: blake3::Hash,
    /// When it was written.
    pub mtime: Mtime,
    /// Its raw git blob name, if that was asked for.
    pub blob: Option<ObjectId>,
    /// The lstat it belongs to.
    pub stat: gix::index::entry::Stat,
    /// The same, exactly.
    pub identity: Identity,
    /// Not read this time: number of the entry of the memory that says so.
    pub remembered: Option<u32>,
}

/// Whether the git blob name is wanted as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobName {
    /// No: reading is faster without.
    Skip,
    /// Yes, without any conversion.
    Raw,
}

/// Reads the entry `name` of `dir` that a look a moment ago showed as `seen`. `path` is for messages, `buffer` whatever it
/// was used for before.
///
/// # Errors
/// [`OverlayError`].
pub fn read(
    (dir, name, seen): (&Dir, &[u8], rustix::fs::Stat),
    path: &TreePath,
    buffer: &mut Vec<u8>,
    blob: impl Fn(&gix::index::entry::Stat) -> BlobName,
) -> Result<Found, OverlayError> {
    buffer.resize(BUFFER, 0);
    let io = |action| move |source| OverlayError::Io { action, path: path.as_bytes().to_vec(), source };
    let mut seen = Some(seen);
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            // Whoever writes gets a little time to finish.
            std::thread::sleep(Duration::from_millis(10 << attempt));
            seen = dir.stat(name).map_err(io("look at"))?;
        }
        let Some(stat) = seen else { return Ok(Found::Absent) };
        let before = Stamp::from_stat(&stat);
        let index_stat = index_stat(&stat);
        let wanted = blob(&index_stat);
        let (read, after) = match before.file_type() {
            FileType::RegularFile => match dir.open_file(name) {
                Ok(file) => {
                    let read = read_file(&file, before.size, wanted, buffer).map_err(io("read"))?;
                    // Of the open file: it costs half of a look at its name, and one whose name went to another file has
                    // another change time.
                    (read, Some(Stamp::of_file(&file).map_err(io("look at"))?))
                }
                Err(error) if is_absent(&error) => continue,
                Err(source) => return Err(io("read")(source)),
            },
            FileType::Symlink => match dir.read_link(name) {
                Ok(target) => (Some(hash_whole(&target, wanted)), dir.stamp(name).map_err(io("look at"))?),
                Err(_) => continue,
            },
            FileType::Directory => return Ok(Found::Absent),
            other => return Err(OverlayError::SpecialFile { path: path.clone(), kind: describe(other) }),
        };
        if let (Some((size, digest, blob)), true) = (read, after == Some(before))
            && let Some(kind) = before.kind()
        {
            let identity = Identity::from_stat(&stat);
            let mtime = before.mtime;
            let reading = Reading { kind, size, digest, mtime, blob, stat: index_stat, identity, remembered: None };
            return Ok(Found::Content(reading));
        }
    }
    Err(OverlayError::Changing { path: path.clone() })
}

/// What the entry is according to an earlier reading; `None` if only reading it again can tell.
pub fn recall(
    stat: &rustix::fs::Stat,
    known: impl FnOnce(&Identity) -> Option<Remembered>,
    blob: impl Fn(&gix::index::entry::Stat) -> BlobName,
) -> Option<Reading> {
    let stamp = Stamp::from_stat(stat);
    let kind = stamp.kind()?;
    let identity = Identity::from_stat(stat);
    let known = known(&identity)?;
    let index_stat = index_stat(stat);
    if blob(&index_stat) == BlobName::Raw && known.blob.is_none() {
        return None;
    }
    Some(Reading {
        kind,
        size: stamp.size,
        digest: known.digest,
        mtime: stamp.mtime,
        blob: known.blob,
        stat: index_stat,
        identity,
        remembered: Some(known.entry),
    })
}

type Hashed = (u64, blake3::Hash, Option<ObjectId>);

/// `None` if it is shorter than announced. What was added meanwhile shows in the look afterwards.
fn read_file(mut file: &File, size: u64, wanted: BlobName, buffer: &mut [u8]) -> io::Result<Option<Hashed>> {
    // Most files fit into the buffer, and hashing all at once is faster.
    if size <= buffer.len() as u64 {
        let whole = &mut buffer[..usize::try_from(size).unwrap_or(0)];
        let is_whole = read_full_at(file, whole, 0)? == whole.len();
        return Ok(is_whole.then(|| hash_whole(whole, wanted)));
    }
    let mut digest = blake3::Hasher::new();
    let mut blob = (wanted == BlobName::Raw).then(|| blob_hasher(size));
    let mut total = 0;
    while total < size {
        let wanted = buffer.len().min(usize::try_from(size - total).unwrap_or(BUFFER));
        let count = match file.read(&mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..count]);
        if let Some(blob) = &mut blob {
            blob.update(&buffer[..count]);
        }
        total += count as u64;
    }
    let blob = blob.and_then(|hasher| hasher.try_finalize().ok());
    Ok((total == size).then(|| (total, digest.finalize(), blob)))
}

fn hash_whole(bytes: &[u8], wanted: BlobName) -> Hashed {
    let size = bytes.len() as u64;
    let blob = (wanted == BlobName::Raw)
        .then(|| {
            let mut hasher = blob_hasher(size);
            hasher.update(bytes);
            hasher.try_finalize().ok()
        })
        .flatten();
    (size, blake3::hash(bytes), blob)
}

fn blob_hasher(size: u64) -> gix::hash::Hasher {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(format!("blob {size}\0").as_bytes());
    hasher
}

/// The part of an lstat that an index keeps, cut to 32 bits as git does.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn index_stat(stat: &rustix::fs::Stat) -> gix::index::entry::Stat {
    use gix::index::entry::stat::Time;
    gix::index::entry::Stat {
        mtime: Time { secs: stat.st_mtime as u32, nsecs: stat.st_mtime_nsec as u32 },
        ctime: Time { secs: stat.st_ctime as u32, nsecs: stat.st_ctime_nsec as u32 },
        dev: stat.st_dev as u32,
        ino: stat.st_ino as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u32,
    }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "special file",
    }
}
