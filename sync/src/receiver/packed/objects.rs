//! Reads blobs out of a pack, one after the other in the order they lie there: what others are made of is kept for a while.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use libdeflater::Decompressor;

use crate::frames::PACKED_SIZE;

use super::entry::{HEAD_LIMIT, Head, Stored, apply_delta, parse_head};

/// Largest object that another may be made of.
const BASE_SIZE: u64 = PACKED_SIZE;
/// Most deltas on the way from an object to one that is whole; git makes at most 4,095.
const CHAIN: usize = 4095;
/// Buffers up to this size are kept for the next object.
const KEPT: usize = 1 << 20;

/// The objects of a pack.
pub struct Objects<'a> {
    pack: &'a File,
    inflate: Decompressor,
    bases: Bases,
    /// As read; longer than what was read last.
    compressed: Vec<u8>,
    /// Length of that.
    filled: usize,
    /// As inflated; longer than what was inflated last.
    inflated: Vec<u8>,
    made: Vec<u8>,
}

impl<'a> Objects<'a> {
    /// Holds at most `bases` bytes of objects that others are made of.
    pub fn of(pack: &'a File, bases: usize) -> Self {
        Self {
            pack,
            inflate: Decompressor::new(),
            bases: Bases::new(bases),
            compressed: Vec::new(),
            filled: 0,
            inflated: Vec::new(),
            made: Vec::new(),
        }
    }

    /// The blob whose entry is `length` bytes at `offset`, if it is one of `size` bytes; `None` also for whatever else is
    /// wrong with it, as it can be asked for.
    pub fn blob(&mut self, offset: u64, length: u32, size: u64) -> Option<&[u8]> {
        self.shrink();
        let head = self.load(offset, Some(length))?;
        let Stored::Delta { base_distance } = head.stored else {
            return if head.size == size { self.inflate(head) } else { None };
        };
        let delta = self.inflate(head)?.to_vec();
        let base = self.base(earlier(offset, base_distance)?)?;
        self.made = apply_delta(&base, &delta, size)?;
        (self.made.len() as u64 == size).then_some(&self.made)
    }

    /// The object whose entry starts at `offset`.
    fn base(&mut self, offset: u64) -> Option<Rc<Vec<u8>>> {
        let mut deltas: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut at = offset;
        let mut base = loop {
            if let Some(base) = self.bases.get(at) {
                break base;
            }
            let head = self.load(at, None)?;
            let data = self.inflate(head)?.to_vec();
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
            let made = apply_delta(&base, &delta, BASE_SIZE)?;
            base = self.bases.keep(at, made);
        }
        Some(base)
    }

    /// Reads an entry; of one whose length nobody told, as much as its object can take at worst.
    fn load(&mut self, at: u64, length: Option<u32>) -> Option<Head> {
        let head = |this: &Self| parse_head(&this.compressed[..this.filled]).filter(|head| head.size <= BASE_SIZE);
        if let Some(length) = length {
            self.read(at, length as usize)?;
            return head(self);
        }
        self.read(at, HEAD_LIMIT)?;
        let size = head(self)?.size;
        // Nine bits a byte if all of them are rare, and what stands around them.
        self.read(at, HEAD_LIMIT + usize::try_from(size + size / 8).ok()? + 64)?;
        head(self)
    }

    /// Less at the end of the file.
    fn read(&mut self, at: u64, length: usize) -> Option<()> {
        let length = length.min(usize::try_from(BASE_SIZE + BASE_SIZE / 4).ok()?);
        grow(&mut self.compressed, length);
        self.filled = 0;
        while self.filled < length {
            match self.pack.read_at(&mut self.compressed[self.filled..length], at.checked_add(self.filled as u64)?) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// What was loaded.
    fn inflate(&mut self, head: Head) -> Option<&[u8]> {
        let size = usize::try_from(head.size).ok()?;
        grow(&mut self.inflated, size);
        let compressed = deflated(self.compressed.get(head.length..self.filled)?)?;
        let data = self.inflated.get_mut(..size)?;
        let count = self.inflate.deflate_decompress(compressed, data).ok()?;
        (count == size).then_some(data)
    }

    fn shrink(&mut self) {
        for buffer in [&mut self.compressed, &mut self.inflated, &mut self.made] {
            if buffer.len() > KEPT {
                *buffer = Vec::new();
            }
        }
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
