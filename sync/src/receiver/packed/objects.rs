//! Reads blobs out of a pack, one after the other in the order they lie there: what others are made of is kept for a while.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::rc::Rc;

use libdeflater::Decompressor;

use crate::dir::read_full_at;
use crate::frames::PACKED_SIZE;

use super::entry::{HEAD_LIMIT, Head, Stored, apply_delta, parse_head};

/// Largest object that another may be made of.
const BASE_SIZE: u64 = PACKED_SIZE;
/// Most deltas on the way from an object to one that is whole; git makes at most 4,095.
const CHAIN: usize = 4095;
/// Buffers up to this size are kept for the next object.
const KEPT: usize = 1 << 20;

/// How much is read at once where one object follows the other.
const WINDOW: usize = 256 << 10;
/// The same where one is somewhere.
const GLANCE: usize = 16 << 10;

/// The objects of a pack.
pub struct Objects<'a> {
    pack: &'a File,
    decompressor: Decompressor,
    bases: Bases,
    /// What is made now, and what follows.
    near: Part,
    /// What that is made of, somewhere before.
    far: Part,
    whole: Buffer,
    /// Where in the pack the object in `whole` is, and its size: git writes what is made of an object right behind it.
    last: Option<(u64, usize)>,
    base: Buffer,
    delta: Buffer,
    made: Vec<u8>,
}

impl<'a> Objects<'a> {
    /// Holds at most `bases` bytes of objects that others are made of.
    pub fn of(pack: &'a File, bases: usize) -> Self {
        Self {
            pack,
            decompressor: Decompressor::new(),
            bases: Bases::new(bases),
            near: Part::of(WINDOW),
            far: Part::of(GLANCE),
            whole: Buffer::default(),
            last: None,
            base: Buffer::default(),
            delta: Buffer::default(),
            made: Vec::new(),
        }
    }

    /// The blob whose entry is `length` bytes at `offset`, if it is one of `size` bytes; `None` also for whatever else is
    /// wrong with it, as it can be asked for.
    pub fn blob(&mut self, offset: u64, length: u32, size: u64) -> Option<&[u8]> {
        self.shrink();
        let (head, stream) = entry(self.near.read(self.pack, offset, length as usize)?)?;
        let Stored::Delta { base_distance } = head.stored else {
            let wanted = (head.size == size).then_some(head)?;
            self.last = None;
            let data = self.whole.inflate(&mut self.decompressor, wanted, stream)?;
            self.last = Some((offset, data.len()));
            return Some(data);
        };
        let base_at = earlier(offset, base_distance)?;
        // Not while the base is looked for, which is `self`'s too.
        let mut delta = std::mem::take(&mut self.delta);
        let inflated = delta.inflate(&mut self.decompressor, head, stream);
        let made = inflated.and_then(|delta| match self.last {
            Some((at, size_of_base)) if at == base_at => {
                apply_delta(self.whole.0.get(..size_of_base)?, delta, size, &mut self.made)
            }
            _ => apply_delta(&self.base(base_at)?, delta, size, &mut self.made),
        });
        self.delta = delta;
        made.filter(|()| self.made.len() as u64 == size).map(|()| &self.made[..])
    }

    /// The object whose entry starts at `offset`.
    fn base(&mut self, offset: u64) -> Option<Rc<Vec<u8>>> {
        let mut deltas: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut at = offset;
        let mut base = loop {
            if let Some(base) = self.bases.get(at) {
                break base;
            }
            let (head, stream) = self.far.entry_of_any_length(self.pack, at)?;
            let data = self.base.inflate(&mut self.decompressor, head, stream)?.to_vec();
            match head.stored {
                Stored::Blob => break self.bases.keep(at, data),
                Stored::Delta { base_distance } if deltas.len() < CHAIN => {
                    deltas.push((at, data));
                    at = earlier(at, base_distance)?;
                }
                Stored::Delta { .. } => return None,
            }
        };
        while let Some((at, delta)) = deltas.pop() {
            let mut made = Vec::new();
            apply_delta(&base, &delta, BASE_SIZE, &mut made)?;
            base = self.bases.keep(at, made);
        }
        Some(base)
    }

    fn shrink(&mut self) {
        for buffer in [
            &mut self.near.bytes,
            &mut self.far.bytes,
            &mut self.whole.0,
            &mut self.base.0,
            &mut self.delta.0,
            &mut self.made,
        ] {
            if buffer.len() > KEPT {
                *buffer = Vec::new();
            }
        }
        self.last = self.last.filter(|(_, size)| *size <= self.whole.0.len());
        self.near.filled = self.near.filled.min(self.near.bytes.len());
        self.far.filled = self.far.filled.min(self.far.bytes.len());
    }
}

/// What an entry's bytes are, and its compressed data; `None` if that is too much.
fn entry(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let head = parse_head(bytes).filter(|head| head.size <= BASE_SIZE)?;
    Some((head, bytes.get(head.length..)?))
}

/// A part of the pack.
struct Part {
    /// How much to read at least.
    window: usize,
    start: u64,
    /// Of `bytes`, which may have held a larger part before.
    filled: usize,
    bytes: Vec<u8>,
}

impl Part {
    fn of(window: usize) -> Self {
        Self { window, start: 0, filled: 0, bytes: Vec::new() }
    }

    /// `length` bytes; fewer at the end of the file.
    fn read(&mut self, pack: &File, at: u64, length: usize) -> Option<&[u8]> {
        let length = length.min(usize::try_from(BASE_SIZE + BASE_SIZE / 4).ok()?);
        let skipped = at.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        let is_here = |skipped: &usize| skipped.checked_add(length).is_some_and(|end| end <= self.filled);
        let from = match skipped.filter(is_here) {
            Some(here) => here,
            None => {
                self.fill(pack, at, length.max(self.window))?;
                0
            }
        };
        self.bytes.get(from..self.filled.min(from + length))
    }

    /// An entry whose length nobody told: as much as its object can take at worst.
    fn entry_of_any_length(&mut self, pack: &File, at: u64) -> Option<(Head, &[u8])> {
        let (Head { size, .. }, _) = entry(self.read(pack, at, HEAD_LIMIT)?)?;
        // Nine bits a byte if all of them are rare, and what stands around them.
        entry(self.read(pack, at, HEAD_LIMIT + usize::try_from(size + size / 8).ok()? + 64)?)
    }

    fn fill(&mut self, pack: &File, at: u64, length: usize) -> Option<()> {
        grow(&mut self.bytes, length);
        (self.start, self.filled) = (at, 0);
        self.filled = read_full_at(pack, &mut self.bytes[..length], at).ok()?;
        Some(())
    }
}

/// For what was compressed; longer than what was inflated last.
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    fn inflate(&mut self, with: &mut Decompressor, head: Head, stream: &[u8]) -> Option<&[u8]> {
        let size = usize::try_from(head.size).ok()?;
        grow(&mut self.0, size);
        let data = self.0.get_mut(..size)?;
        let count = with.deflate_decompress(deflated(stream)?, data).ok()?;
        (count == size).then_some(data)
    }
}

/// What the head of a zlib stream (RFC 1950) is before. Its checksum is not looked at: what is made has a digest.
fn deflated(stream: &[u8]) -> Option<&[u8]> {
    let (&[method, flags], data) = stream.split_first_chunk()?;
    let has_dictionary = flags & 0x20 != 0;
    let is_head = method & 0xf == 8 && u16::from_be_bytes([method, flags]) % 31 == 0;
    (is_head && !has_dictionary).then_some(data)
}

/// Bases come before what is made of them.
fn earlier(at: u64, distance: u64) -> Option<u64> {
    at.checked_sub(distance).filter(|base| *base < at)
}

/// Zeroes only what was never used.
fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
}

/// Objects that others were made of, the last ones.
struct Bases {
    limit: usize,
    held: usize,
    objects: HashMap<u64, Rc<Vec<u8>>>,
    order: VecDeque<u64>,
}

impl Bases {
    fn new(limit: usize) -> Self {
        Self { limit, held: 0, objects: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&self, offset: u64) -> Option<Rc<Vec<u8>>> {
        self.objects.get(&offset).cloned()
    }

    fn keep(&mut self, offset: u64, object: Vec<u8>) -> Rc<Vec<u8>> {
        let object = Rc::new(object);
        if object.len() > self.limit {
            return object;
        }
        self.held += object.len();
        if let Some(before) = self.objects.insert(offset, Rc::clone(&object)) {
            self.held -= before.len();
        } else {
            self.order.push_back(offset);
        }
        while self.held > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            self.held -= self.objects.remove(&oldest).map_or(0, |object| object.len());
        }
        object
    }
}
