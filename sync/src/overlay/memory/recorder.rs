//! Collects what the next observation may know, and writes it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use gix::ObjectId;

use super::table::{self, PART_BYTES, Part};
use super::{Content, Cursor, FIXED, Known, Memory, identity_bytes};
use crate::overlay::read::Reading;
use crate::path::PATH_LIMIT;

/// See the module.
#[derive(Debug)]
pub struct Recorder {
    body: Vec<u8>,
    parts: Vec<Part>,
    began: SystemTime,
    /// Nothing was found that was not known, and nothing is gone.
    pub(super) is_as_before: bool,
}

impl Recorder {
    /// For an observation that began then.
    pub fn new(began: SystemTime) -> Self {
        Self { body: Vec::new(), parts: Vec::new(), began, is_as_before: false }
    }

    /// Takes all files of an observation that knew `before`, in path order; leaves out those written a moment ago.
    pub fn record<'r>(&mut self, before: &Memory, files: impl Iterator<Item = (&'r [u8], &'r Known)> + Clone) {
        let began = self.began;
        // What is remembered was in the past already.
        let settled = files.filter(|(_, known)| match known {
            Known::Remembered(_) => true,
            Known::Read(reading) => reading.identity.is_settled(began),
        });
        let (mut entries, mut read) = (0, 0);
        for (_, known) in settled.clone() {
            entries += 1;
            read += usize::from(matches!(known, Known::Read(_)));
        }
        // Most of the time: nothing to write, and nothing to copy for that.
        self.is_as_before = read == 0 && entries == before.len();
        if self.is_as_before {
            return;
        }
        self.body.reserve(before.bytes() + read * (FIXED + 64));
        let mut known_before = Cursor::new(before);
        for (path, known) in settled {
            match known {
                Known::Remembered(entry) => {
                    // One that is gone from the disk meanwhile is only read again next time.
                    if let Some(raw) = known_before.raw(*entry) {
                        self.begin_entry(path);
                        self.body.extend_from_slice(raw);
                    }
                }
                Known::Read(reading) => self.push(path, reading),
            }
        }
        self.close_part();
    }

    fn push(&mut self, path: &[u8], reading: &Reading) {
        const { assert!(PATH_LIMIT <= u16::MAX as usize) };
        self.begin_entry(path);
        let length = u16::try_from(path.len()).unwrap_or_default();
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(path);
        self.body.extend_from_slice(&identity_bytes(&reading.identity));
        self.body.extend_from_slice(reading.digest.as_bytes());
        self.body.push(u8::from(reading.blob.is_some()));
        let blob = reading.blob.unwrap_or(ObjectId::null(gix::hash::Kind::Sha1));
        self.body.extend_from_slice(blob.as_slice());
    }

    /// Counts the entry that is about to be appended, in a new part if the last one is full.
    fn begin_entry(&mut self, path: &[u8]) {
        let start = self.parts.last().map_or(0, |part| part.start);
        let (start, end) = (usize::try_from(start).unwrap_or_default(), self.body.len());
        if self.parts.is_empty() || end - start >= PART_BYTES {
            self.close_part();
            self.parts.push(Part {
                start: end as u64,
                length: 0,
                first_entry: self.parts.last().map_or(0, |part| part.first_entry + part.entries),
                entries: 0,
                digest: blake3::Hash::from_bytes([0; table::DIGEST]),
                first_path: path.to_vec(),
            });
        }
        if let Some(part) = self.parts.last_mut() {
            part.entries += 1;
        }
    }

    fn close_part(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            let bytes = &self.body[usize::try_from(part.start).unwrap_or_default()..];
            part.length = bytes.len();
            part.digest = blake3::hash(bytes);
        }
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
        let table = table::render(&self.parts).ok_or(std::io::ErrorKind::FileTooLarge)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&table)?;
        file.write_all(&self.body)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// What the next observation of the same process knows, if this one knew `before`.
    pub fn into_memory(self, before: Memory) -> Memory {
        if self.is_as_before { before } else { Memory { parts: self.parts, content: Content::Here(self.body) } }
    }
}
