//! Looks up paths in a memory, and has one part of it at a time: each thread that looks at files brings those it is about
//! to look at, into pages it has touched already.

use gix::ObjectId;

use super::table::DIGEST;
use super::{FIXED, Identity, Memory, Remembered, identity_bytes};

/// See the module; cheap when paths come in order.
#[derive(Debug)]
pub struct Cursor<'a> {
    memory: &'a Memory,
    /// The part that was brought, and what is in it; nothing if that is not what the table says.
    part: Option<usize>,
    bytes: Vec<u8>,
    /// Where each of its entries starts.
    entries: Vec<usize>,
    next: usize,
}

impl<'a> Cursor<'a> {
    /// At the start.
    pub fn new(memory: &'a Memory) -> Self {
        Self { memory, part: None, bytes: Vec::new(), entries: Vec::new(), next: 0 }
    }

    /// What is known of `path` if it still is what it was.
    pub fn get(&mut self, path: &[u8], now: &Identity) -> Option<Remembered> {
        let is_next = self.entries.get(self.next).is_some_and(|&start| path_at(&self.bytes, start) == path);
        let at = if is_next { self.next } else { self.find(path)? };
        self.next = at + 1;
        let start = self.entries[at] + 2 + path.len();
        let rest = self.bytes[start..start + FIXED].strip_prefix(&identity_bytes(now))?;
        let digest = blake3::Hash::from_bytes(rest[..DIGEST].try_into().ok()?);
        let blob = (rest[DIGEST] == 1).then(|| ObjectId::try_from(&rest[DIGEST + 1..]).ok()).flatten();
        let first = self.memory.parts[self.part?].first_entry;
        Some(Remembered { digest, blob, entry: u32::try_from(first + at).ok()? })
    }

    /// The whole of an entry, its path included; `None` if it cannot be read any more.
    pub fn raw(&mut self, entry: u32) -> Option<&[u8]> {
        let entry = entry as usize;
        let number = self.memory.parts.partition_point(|part| part.first_entry <= entry).checked_sub(1)?;
        self.bring(number);
        let start = *self.entries.get(entry - self.memory.parts[number].first_entry)?;
        Some(&self.bytes[start..start + 2 + path_at(&self.bytes, start).len() + FIXED])
    }

    fn find(&mut self, path: &[u8]) -> Option<usize> {
        let number = self.memory.parts.partition_point(|part| *part.first_path <= *path).checked_sub(1)?;
        self.bring(number);
        self.entries.binary_search_by(|&start| path_at(&self.bytes, start).cmp(path)).ok()
    }

    fn bring(&mut self, number: usize) {
        if self.part == Some(number) {
            return;
        }
        self.part = Some(number);
        self.next = 0;
        self.entries.clear();
        let part = &self.memory.parts[number];
        if self.memory.read(part, &mut self.bytes) && blake3::hash(&self.bytes) == part.digest {
            let is_whole = list(&self.bytes, &mut self.entries) && self.entries.len() == part.entries;
            if !is_whole {
                self.entries.clear();
            }
        }
    }
}

/// Lists where each entry starts; false if the last one is not whole.
fn list(bytes: &[u8], entries: &mut Vec<usize>) -> bool {
    let mut next = 0;
    while let Some(length) = bytes.get(next..).and_then(<[u8]>::first_chunk::<2>) {
        entries.push(next);
        next += 2 + usize::from(u16::from_le_bytes(*length)) + FIXED;
    }
    next == bytes.len()
}

fn path_at(bytes: &[u8], start: usize) -> &[u8] {
    let length = usize::from(u16::from_le_bytes([bytes[start], bytes[start + 1]]));
    &bytes[start + 2..start + 2 + length]
}
