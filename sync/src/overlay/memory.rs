//! Digests of files as earlier observations found them, so that a file that did not change is not read again.
//!
//! An entry counts only while inode, size, both times, mode and device are the same, and it is only remembered once
//! its times were well in the past: whoever writes later leaves another change time, which no program can set back.
//! That is what git's index relies on as well, only stricter. A damaged or foreign file is no memory.
//!
//! ```text
//! "banger-digests-1\n" | 32 bytes: blake3 of the rest | entries in path order:
//!   u16 length, path | u64 device, inode, size | i64 u32 mtime | i64 u32 ctime | u32 mode | digest | u8 has blob, blob name
//! ```

use std::cmp::Ordering;
use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;
use std::time::SystemTime;

use gix::ObjectId;

use super::read::Reading;
use crate::entry::Mtime;
use crate::path::PATH_LIMIT;

/// What the file begins with; then the BLAKE3 digest of the rest, then the rest.
pub const MAGIC: &[u8] = b"banger-digests-1\n";
const DIGEST: usize = 32;
const IDENTITY: usize = 8 * 3 + 12 * 2 + 4;
const FIXED: usize = IDENTITY + DIGEST + 1 + 20;
/// How much is read at a time.
const BLOCK: u64 = 256 << 10;
/// How long ago a file must have been written: far beyond the resolution of any file system's clock.
const SETTLED_SECONDS: i64 = 2;

/// What an lstat tells, as far as it says that a file is the same.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    mtime: Mtime,
    ctime: Mtime,
    mode: u32,
}

impl Identity {
    /// From the system's structure.
    pub fn from_stat(stat: &rustix::fs::Stat) -> Self {
        let nanos = |value| u32::try_from(value).unwrap_or(0);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: Mtime { seconds: stat.st_mtime, nanos: nanos(stat.st_mtime_nsec) },
            ctime: Mtime { seconds: stat.st_ctime, nanos: nanos(stat.st_ctime_nsec) },
            mode: stat.st_mode,
        }
    }

    /// False if a later write could leave the same times.
    pub fn is_settled(&self, began: SystemTime) -> bool {
        is_past(self.mtime, began) && is_past(self.ctime, began)
    }
}

/// True for a time that nothing written from `began` on can have.
pub fn is_past(time: Mtime, began: SystemTime) -> bool {
    let began = began.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    time.seconds < i64::try_from(began).unwrap_or(0) - SETTLED_SECONDS
}

/// What is known of one file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// blake3 of the content.
    pub digest: blake3::Hash,
    /// Its raw git blob name, if that was ever needed.
    pub blob: Option<ObjectId>,
    /// Number of the entry.
    pub entry: u32,
}

/// What the next observation may know of a file.
#[derive(Debug)]
pub enum Known {
    /// What this entry of the memory says; it still holds.
    Remembered(u32),
    /// What was read.
    Read(Box<Reading>),
}

impl Known {
    /// Of a file that was looked at.
    pub fn of(reading: Reading) -> Self {
        match reading.remembered {
            Some(entry) => Self::Remembered(entry),
            None => Self::Read(Box::new(reading)),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    bytes: Vec<u8>,
    /// Where each entry starts.
    entries: Vec<usize>,
}

impl Memory {
    /// Reads it; what cannot be read is empty.
    pub fn load(path: &Path) -> Self {
        let opened = fs::File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        opened.ok().and_then(|(length, file)| Self::read(file, usize::try_from(length).ok()?)).unwrap_or_default()
    }

    /// Parses untrusted bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes, bytes.len())
    }

    /// Of about `length` bytes. What is read is hashed and looked through while a processor still has it at hand.
    fn read(mut from: impl Read, length: usize) -> Option<Self> {
        let body = MAGIC.len() + DIGEST;
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        // The length of a foreign file may be anything.
        bytes.try_reserve_exact(length).ok()?;
        entries.try_reserve(length / (FIXED + 32)).ok()?;
        let mut hasher = blake3::Hasher::new();
        let mut next = body;
        loop {
            let before = bytes.len();
            if from.by_ref().take(BLOCK).read_to_end(&mut bytes).ok()? == 0 {
                break;
            }
            if !bytes.starts_with(MAGIC) {
                return None;
            }
            hasher.update(bytes.get(before.max(body)..)?);
            while let Some(length) = bytes.get(next..next + 2) {
                entries.push(next);
                next += 2 + usize::from(u16::from_le_bytes(length.try_into().ok()?)) + FIXED;
            }
        }
        let is_intact = bytes.get(MAGIC.len()..body)? == hasher.finalize().as_bytes();
        (is_intact && next == bytes.len()).then_some(Self { bytes, entries })
    }

    /// What an observation found that knew `before`, for the next one of the same process.
    pub fn of(recorder: Recorder, before: Self) -> Self {
        if recorder.is_as_before {
            return before;
        }
        let bytes = recorder.body;
        let mut entries = Vec::with_capacity(recorder.entries);
        let mut at = 0;
        while at < bytes.len() {
            entries.push(at);
            at += 2 + usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])) + FIXED;
        }
        Self { bytes, entries }
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn path(&self, entry: usize) -> &[u8] {
        let at = self.entries[entry];
        let length = usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
        &self.bytes[at + 2..at + 2 + length]
    }

    /// The whole of an entry, its path included.
    fn raw(&self, entry: usize) -> &[u8] {
        let start = self.entries[entry];
        &self.bytes[start..start + 2 + self.path(entry).len() + FIXED]
    }

    fn fields(&self, entry: usize) -> &[u8] {
        let start = self.entries[entry] + 2 + self.path(entry).len();
        &self.bytes[start..start + FIXED]
    }
}

/// Looks up paths; cheap when they come in order.
#[derive(Debug)]
pub struct Cursor<'a> {
    memory: &'a Memory,
    next: usize,
}

impl<'a> Cursor<'a> {
    /// At the start.
    pub fn new(memory: &'a Memory) -> Self {
        Self { memory, next: 0 }
    }

    /// What is known of `path` if it still is what it was.
    pub fn get(&mut self, path: &[u8], now: &Identity) -> Option<Remembered> {
        let memory = self.memory;
        let is_next = self.next < memory.len() && memory.path(self.next) == path;
        let entry = if is_next { self.next } else { search(memory, path)? };
        self.next = entry + 1;
        let fields = memory.fields(entry);
        let rest = fields.strip_prefix(&identity_bytes(now))?;
        let digest = blake3::Hash::from_bytes(rest[..DIGEST].try_into().ok()?);
        let blob = (rest[DIGEST] == 1).then(|| ObjectId::try_from(&rest[DIGEST + 1..]).ok()).flatten();
        Some(Remembered { digest, blob, entry: u32::try_from(entry).ok()? })
    }
}

fn search(memory: &Memory, path: &[u8]) -> Option<usize> {
    let (mut low, mut high) = (0, memory.len());
    while low < high {
        let middle = low.midpoint(high);
        match memory.path(middle).cmp(path) {
            Ordering::Equal => return Some(middle),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    None
}

fn identity_bytes(identity: &Identity) -> [u8; IDENTITY] {
    let mut bytes = [0; IDENTITY];
    let mut rest = &mut bytes[..];
    let mut put = |value: &[u8]| {
        let (place, after) = std::mem::take(&mut rest).split_at_mut(value.len());
        place.copy_from_slice(value);
        rest = after;
    };
    for value in [identity.device, identity.inode, identity.size] {
        put(&value.to_le_bytes());
    }
    for time in [identity.mtime, identity.ctime] {
        put(&time.seconds.to_le_bytes());
        put(&time.nanos.to_le_bytes());
    }
    put(&identity.mode.to_le_bytes());
    bytes
}

/// Collects what is to be remembered.
#[derive(Debug)]
pub struct Recorder {
    body: Vec<u8>,
    began: SystemTime,
    entries: usize,
    is_as_before: bool,
}

impl Recorder {
    /// For an observation that began then.
    pub fn new(began: SystemTime) -> Self {
        Self { body: Vec::new(), began, entries: 0, is_as_before: false }
    }

    /// Takes all files of an observation that knew `before`, in path order; leaves out those written a moment ago.
    pub fn record<'r>(&mut self, before: &Memory, files: impl Iterator<Item = (&'r [u8], &'r Known)> + Clone) {
        let began = self.began;
        // What is remembered was in the past already.
        let settled = files.filter(|(_, known)| match known {
            Known::Remembered(_) => true,
            Known::Read(reading) => reading.identity.is_settled(began),
        });
        let mut read = 0;
        for (_, known) in settled.clone() {
            self.entries += 1;
            read += usize::from(matches!(known, Known::Read(_)));
        }
        // Most of the time: nothing to write, and nothing to copy for that.
        self.is_as_before = read == 0 && self.entries == before.len();
        if self.is_as_before {
            return;
        }
        self.body.reserve(before.bytes.len() + read * (FIXED + 64));
        for (path, known) in settled {
            match known {
                Known::Remembered(entry) => self.body.extend_from_slice(before.raw(*entry as usize)),
                Known::Read(reading) => self.push(path, reading),
            }
        }
    }

    fn push(&mut self, path: &[u8], reading: &Reading) {
        const { assert!(PATH_LIMIT <= u16::MAX as usize) };
        let length = u16::try_from(path.len()).unwrap_or_default();
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(path);
        self.body.extend_from_slice(&identity_bytes(&reading.identity));
        self.body.extend_from_slice(reading.digest.as_bytes());
        self.body.push(u8::from(reading.blob.is_some()));
        let blob = reading.blob.unwrap_or(ObjectId::null(gix::hash::Kind::Sha1));
        self.body.extend_from_slice(blob.as_slice());
    }

    /// Replaces the file if anything in it would be different. A failure only costs time later.
    pub fn save(&self, path: &Path) {
        if self.is_as_before {
            return;
        }
        if let Err(error) = self.write(path) {
            tracing::debug!(%error, path = %path.display(), "the digests of this observation are not remembered");
        }
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(MAGIC)?;
        file.write_all(blake3::hash(&self.body).as_bytes())?;
        file.write_all(&self.body)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::entry::EntryKind;

    fn reading(inode: u64, seconds: i64) -> Reading {
        let time = Mtime { seconds, nanos: 5 };
        let identity = Identity { device: 1, inode, size: 3, mtime: time, ctime: time, mode: 0o100_644 };
        Reading {
            kind: EntryKind::File,
            size: 3,
            digest: blake3::hash(b"abc"),
            mtime: time,
            blob: None,
            stat: gix::index::entry::Stat::default(),
            identity,
            remembered: None,
        }
    }

    #[test]
    fn only_the_very_same_file_is_remembered() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("deep/memory");
        let read = |inode, seconds| Known::of(reading(inode, seconds));
        let record = |before: &Memory, files: &[Known]| {
            let mut recorder = Recorder::new(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
            recorder.record(before, [&b"a"[..], b"b", b"c"].into_iter().zip(files));
            recorder
        };
        record(&Memory::default(), &[read(1, 10), read(2, 98), read(3, 97)]).save(&path);
        let memory = Memory::load(&path);
        assert_eq!(memory.len(), 2, "the one written a moment ago is left out");
        let mut cursor = Cursor::new(&memory);
        assert_eq!(cursor.get(b"c", &reading(3, 97).identity).unwrap().digest, blake3::hash(b"abc"));
        assert_eq!(cursor.get(b"a", &reading(1, 10).identity).unwrap().blob, None);
        assert!(cursor.get(b"a", &reading(2, 10).identity).is_none());
        assert!(cursor.get(b"a", &reading(1, 11).identity).is_none());
        assert!(cursor.get(b"b", &reading(2, 98).identity).is_none());
        assert!(record(&memory, &[Known::Remembered(0), read(2, 98), Known::Remembered(1)]).is_as_before);
        assert!(!record(&memory, &[Known::Remembered(0), read(2, 98)]).is_as_before, "one is gone");
        let changed = record(&memory, &[Known::Remembered(0), read(2, 98), read(4, 97)]);
        assert!(!changed.is_as_before, "one was read");
        let changed = Memory::of(changed, memory);
        let mut cursor = Cursor::new(&changed);
        assert!(cursor.get(b"a", &reading(1, 10).identity).is_some());
        assert!(cursor.get(b"c", &reading(3, 97).identity).is_none());
        assert!(cursor.get(b"c", &reading(4, 97).identity).is_some());
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(Memory::parse(&bytes).is_none(), "byte {at}");
            bytes[at] ^= 1;
            assert!(Memory::parse(&bytes[..at]).is_none_or(|memory| memory.is_empty()), "cut at {at}");
        }
    }
}
