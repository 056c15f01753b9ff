//! Digests of files as earlier observations found them, so that a file that did not change is not read again.
//!
//! An entry counts only while inode, size, both times, mode and device are the same, and it is only remembered once
//! its times were well in the past: whoever writes later leaves another change time, which no program can set back.
//! That is what git's index relies on as well, only stricter. A damaged or foreign file is no memory, and a damaged part
//! of one is none.
//!
//! ```text
//! "banger-digests-2\n" | u32 length of the table | 32 bytes: blake3 of the table | table | parts
//! table, for each part:  u32 length | u32 number of entries | 32 bytes: blake3 of the part | u16 length, first path
//! part, in path order:   u16 length, path | u64 device, inode, size | i64 u32 mtime | i64 u32 ctime | u32 mode | digest
//!                        | u8 has blob, blob name
//! ```
//!
//! [`table`] parses the first line of that, [`Cursor`] brings a part when one of its paths is asked for, [`Recorder`]
//! collects and writes.

mod cursor;
mod recorder;
mod table;

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use gix::ObjectId;

pub use cursor::Cursor;
pub use recorder::Recorder;
pub use table::MAGIC;

use super::read::Reading;
use crate::dir::read_full_at;
use crate::entry::Mtime;
use table::{HEAD, Part};

const IDENTITY: usize = 8 * 3 + 12 * 2 + 4;
const FIXED: usize = IDENTITY + table::DIGEST + 1 + 20;
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
    parts: Vec<Part>,
    content: Content,
}

/// Where the parts are.
#[derive(Debug)]
enum Content {
    Here(Vec<u8>),
    /// In a file nobody writes to any more, from there on.
    File(File, u64),
}

impl Default for Content {
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

impl Memory {
    /// Opens it and reads its table; what cannot be read is empty.
    pub fn load(path: &Path) -> Self {
        File::open(path).ok().and_then(Self::open).unwrap_or_default()
    }

    fn open(file: File) -> Option<Self> {
        let mut head = [0; HEAD];
        (read_full_at(&file, &mut head, 0).ok()? == HEAD).then_some(())?;
        let (length, digest) = table::parse_head(&head)?;
        let start = (HEAD + length) as u64;
        // Says nothing about the content, but keeps a foreign length from being believed.
        (file.metadata().ok()?.len() >= start).then_some(())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).ok()?;
        bytes.resize(length, 0);
        (read_full_at(&file, &mut bytes, HEAD as u64).ok()? == length).then_some(())?;
        Some(Self { parts: table::parse(&bytes, digest)?, content: Content::File(file, start) })
    }

    /// Parses untrusted bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        let (length, digest) = table::parse_head(head)?;
        let (table, content) = rest.split_at_checked(length)?;
        Some(Self { parts: table::parse(table, digest)?, content: Content::Here(content.to_vec()) })
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.first_entry + part.entries)
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Of all parts.
    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.length).sum()
    }

    /// Reads a part; false if it is not there.
    fn read(&self, part: &Part, into: &mut Vec<u8>) -> bool {
        into.resize(part.length, 0);
        match &self.content {
            Content::Here(bytes) => {
                let found = usize::try_from(part.start).ok().and_then(|start| bytes.get(start..start + part.length));
                found.is_some_and(|found| {
                    into.copy_from_slice(found);
                    true
                })
            }
            Content::File(file, start) => {
                read_full_at(file, into, start + part.start).is_ok_and(|length| length == part.length)
            }
        }
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
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
        let changed = changed.into_memory(memory);
        let mut cursor = Cursor::new(&changed);
        assert!(cursor.get(b"a", &reading(1, 10).identity).is_some());
        assert!(cursor.get(b"c", &reading(3, 97).identity).is_none());
        assert!(cursor.get(b"c", &reading(4, 97).identity).is_some());
        let known = |memory: &Memory| {
            let mut cursor = Cursor::new(memory);
            [cursor.get(b"a", &reading(1, 10).identity), cursor.get(b"c", &reading(3, 97).identity)]
        };
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(Memory::parse(&bytes).is_none_or(|memory| known(&memory) == [None; 2]), "byte {at}");
            fs::write(&path, &bytes).unwrap();
            assert_eq!(known(&Memory::load(&path)), [None; 2], "byte {at}");
            bytes[at] ^= 1;
            assert!(Memory::parse(&bytes[..at]).is_none_or(|memory| known(&memory) == [None; 2]), "cut at {at}");
        }
    }

    #[test]
    fn a_damaged_part_is_none_and_the_others_count() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("memory");
        let names: Vec<String> = (0..2000).map(|number| format!("directory/{number:05}")).collect();
        let record = |before: &Memory, known: &[Known]| {
            let mut recorder = Recorder::new(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
            recorder.record(before, names.iter().map(String::as_bytes).zip(known));
            recorder
        };
        let all: Vec<Known> = (0..2000).map(|inode| Known::of(reading(inode, 10))).collect();
        record(&Memory::default(), &all).save(&path);
        let known = |memory: &Memory, step: usize| -> Vec<u32> {
            let mut cursor = Cursor::new(memory);
            let get = |number: usize| cursor.get(names[number].as_bytes(), &reading(number as u64, 10).identity);
            (0..2000).step_by(step).filter_map(get).map(|remembered| remembered.entry).collect()
        };
        let memory = Memory::load(&path);
        assert!(memory.parts.len() > 5, "{}", memory.parts.len());
        for step in [1, 7, 300] {
            let expected: Vec<u32> = (0..2000).step_by(step).collect();
            assert_eq!(known(&memory, step), expected);
        }
        assert!(Cursor::new(&memory).get(b"directory/", &Identity::default()).is_none(), "before the first");
        assert!(Cursor::new(&memory).get(b"directory/00001a", &Identity::default()).is_none(), "between two");
        assert!(Cursor::new(&memory).get(b"e", &Identity::default()).is_none(), "after the last");

        // As it was, but for one file in the middle.
        let mut now: Vec<Known> = (0..2000).map(Known::Remembered).collect();
        now[1000] = Known::of(reading(5000, 10));
        let changed = record(&memory, &now).into_memory(Memory::load(&path));
        let expected: Vec<u32> = (0..2000).filter(|number| *number != 1000).collect();
        assert_eq!(known(&changed, 1), expected);

        // Another file in the place of the one that is open is none of its business; one that is cut is.
        let damaged = memory.parts[2].clone();
        let mut bytes = fs::read(&path).unwrap();
        let Content::File(_, start) = memory.content else { panic!("it was loaded from a file") };
        bytes[usize::try_from(start + damaged.start).unwrap() + 9] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let lost = damaged.first_entry..damaged.first_entry + damaged.entries;
        let expected: Vec<u32> = (0..2000).filter(|number| !lost.contains(&(*number as usize))).collect();
        assert_eq!(known(&memory, 1), expected, "not believed though it was opened before");
        let repaired = record(&memory, &now).into_memory(Memory::default());
        assert_eq!(known(&repaired, 1).len(), expected.len() - 1, "what cannot be read any more is left out");
    }

    #[test]
    fn a_foreign_file_is_empty_whatever_its_length() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("memory");
        assert!(Memory::load(&path).is_empty(), "absent");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 42).unwrap();
        assert!(Memory::load(&path).is_empty(), "without the first words");
        let huge = [&MAGIC[..], &u32::MAX.to_le_bytes(), &[0; 32]].concat();
        fs::write(&path, &huge).unwrap();
        assert!(Memory::load(&path).is_empty(), "a table longer than the file");
    }
}
