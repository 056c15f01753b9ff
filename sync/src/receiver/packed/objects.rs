//! Reads blobs out of a pack, one after the other in the order they lie there: what others are made of is kept for a while.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::Arc;

use libdeflater::Decompressor;

use crate::dir::read_full_at;
use crate::frames::PACKED_SIZE;

use super::entry::{HEAD_LIMIT, Head, Stored, apply_delta, parse_head};

/// Largest object that another may be made of.
const BASE_SIZE: u64 = PACKED_SIZE;
/// Most deltas on the way from an object to one that is whole; git makes at most 4,095.
const CHAIN: usize = 4095;
/// Buffers up to this size are always kept for the next object.
const KEPT: usize = 1 << 20;

/// How much is read at once where one object follows the other.
const WINDOW: usize = 64 << 10;
/// The same where one is somewhere.
const GLANCE: usize = 16 << 10;

/// The objects of one pack.
pub struct Objects {
    /// How many bytes all buffers together may keep for the next object.
    kept: usize,
    decompressor: Decompressor,
    bases: Bases,
    /// What is made now, and what follows.
    near: Part,
    /// What is made of that, somewhere behind, or what that is made of, somewhere before.
    far: Part,
    whole: Buffer,
    /// Where in the pack the object in `whole` is, and its size: git writes what is made of an object right behind it.
    last: Option<(u64, usize)>,
    delta: Buffer,
    made: Vec<u8>,
    /// Where the object in `made` is: git writes what is made of that soon behind it.
    made_at: Option<u64>,
}

impl Objects {
    /// Holds at most `bases` bytes of objects that others are made of, and `kept` in buffers.
    pub fn holding(bases: usize, kept: usize) -> Self {
        Self {
            kept,
            decompressor: Decompressor::new(),
            bases: Bases::new(bases),
            near: Part::default(),
            far: Part::default(),
            whole: Buffer::default(),
            last: None,
            delta: Buffer::default(),
            made: Vec::new(),
            made_at: None,
        }
    }

    /// The blob whose entry is `length` bytes at `offset` of the pack, which is always the same, if it is one of `size` bytes;
    /// `None` also for whatever else is wrong with it, as it can be asked for.
    pub fn blob(&mut self, pack: &File, offset: u64, length: u32, size: u64) -> Option<&[u8]> {
        self.make_room();
        let (head, stream) = entry(read_on((&mut self.near, &mut self.far), pack, offset, length as usize)?)?;
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
        let mut made = std::mem::take(&mut self.made);
        let inflated = delta.inflate(&mut self.decompressor, head, stream);
        let applied = inflated.and_then(|delta| {
            let base = self.base(pack, base_at)?;
            apply_delta(base.bytes(&self.whole)?, delta, size, &mut made)
        });
        (self.delta, self.made) = (delta, made);
        self.made_at = applied.map(|()| offset);
        applied.filter(|()| self.made.len() as u64 == size).map(|()| &self.made[..])
    }

    /// The object whose entry starts at `offset`.
    fn base(&mut self, pack: &File, offset: u64) -> Option<Base> {
        let mut deltas: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut at = offset;
        let mut base = loop {
            if let Some((_, size)) = self.last.filter(|(last, _)| *last == at) {
                break Base::Last(size);
            }
            if let Some(base) = self.bases.get(at) {
                break Base::Kept(base);
            }
            let (head, stream) = self.far.entry_of_any_length(pack, at)?;
            let mut data = Buffer::default();
            data.inflate(&mut self.decompressor, head, stream)?;
            match head.stored {
                Stored::Blob => break Base::Kept(self.bases.keep(at, data.0)),
                Stored::Delta { base_distance } if deltas.len() < CHAIN => {
                    deltas.push((at, data.0));
                    at = earlier(at, base_distance)?;
                }
                Stored::Delta { .. } => return None,
            }
        };
        while let Some((at, delta)) = deltas.pop() {
            let mut made = Vec::new();
            apply_delta(base.bytes(&self.whole)?, &delta, BASE_SIZE, &mut made)?;
            base = Base::Kept(self.bases.keep(at, made));
        }
        Some(base)
    }

    /// Keeps what was made last where it is found again, and gives back what buffers hold more than they may.
    ///
    /// Large files come in groups: a buffer for each of them, zeroed and given back, would take as long as its content.
    fn make_room(&mut self) {
        if let Some(offset) = self.made_at.take() {
            self.bases.keep(offset, std::mem::take(&mut self.made));
        }
        let buffers = [&mut self.near.bytes, &mut self.far.bytes, &mut self.whole.0, &mut self.delta.0];
        if buffers.iter().map(|buffer| buffer.len()).sum::<usize>() > self.kept {
            buffers.into_iter().filter(|buffer| buffer.len() > KEPT).for_each(|buffer| *buffer = Vec::new());
        }
        self.last = self.last.filter(|(_, size)| *size <= self.whole.0.len());
        self.near.filled = self.near.filled.min(self.near.bytes.len());
        self.far.filled = self.far.filled.min(self.far.bytes.len());
    }
}

/// What another object is made of.
enum Base {
    /// It is at the beginning of the buffer for whole ones, and has this size.
    Last(usize),
    Kept(Arc<Vec<u8>>),
}

impl Base {
    fn bytes<'b>(&'b self, whole: &'b Buffer) -> Option<&'b [u8]> {
        match self {
            Self::Last(size) => whole.0.get(..*size),
            Self::Kept(object) => Some(object),
        }
    }
}

/// What an entry's bytes are, and its compressed data; `None` if that is too much.
fn entry(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let head = parse_head(bytes).filter(|head| head.size <= BASE_SIZE)?;
    Some((head, bytes.get(head.length..)?))
}

/// Reads one of many entries. Most lie one behind the other, and some, made of one of those, somewhere behind: after a look
/// there it goes on where it was, but two such looks beside each other are where it goes on.
fn read_on<'p>((near, far): (&'p mut Part, &'p mut Part), pack: &File, at: u64, length: usize) -> Option<&'p [u8]> {
    if !near.leads_to(at, WINDOW) && far.leads_to(at, GLANCE) {
        std::mem::swap(near, far);
    }
    if near.leads_to(at, WINDOW) { near.read(pack, at, length, WINDOW) } else { far.read(pack, at, length, GLANCE) }
}

/// A part of the pack.
#[derive(Default)]
struct Part {
    start: u64,
    /// Of `bytes`, which may have held a larger part before.
    filled: usize,
    bytes: Vec<u8>,
}

impl Part {
    /// It has that, or has what is at most so many bytes before.
    fn leads_to(&self, at: u64, within: usize) -> bool {
        at.checked_sub(self.start).is_some_and(|skipped| skipped <= (self.filled + within) as u64)
    }

    /// `length` bytes, of at least `window` read at once; fewer at the end of the file.
    fn read(&mut self, pack: &File, at: u64, length: usize, window: usize) -> Option<&[u8]> {
        let length = length.min(usize::try_from(BASE_SIZE + BASE_SIZE / 4).ok()?);
        let skipped = at.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        let is_here = |skipped: &usize| skipped.checked_add(length).is_some_and(|end| end <= self.filled);
        let from = match skipped.filter(is_here) {
            Some(here) => here,
            None => {
                self.fill(pack, at, length.max(window))?;
                0
            }
        };
        self.bytes.get(from..self.filled.min(from + length))
    }

    /// An entry whose length nobody told: as much as its object can take at worst.
    fn entry_of_any_length(&mut self, pack: &File, at: u64) -> Option<(Head, &[u8])> {
        let (Head { size, .. }, _) = entry(self.read(pack, at, HEAD_LIMIT, GLANCE)?)?;
        // Nine bits a byte if all of them are rare, and what stands around them.
        let length = HEAD_LIMIT + usize::try_from(size + size / 8).ok()? + 64;
        entry(self.read(pack, at, length, GLANCE)?)
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

/// What it held is lost, but nothing is zeroed twice.
fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        // Returned first: both at once are not needed.
        *buffer = Vec::new();
        *buffer = vec![0; length];
    }
}

/// Objects that others were made of, the last ones.
struct Bases {
    limit: usize,
    held: usize,
    objects: HashMap<u64, Arc<Vec<u8>>>,
    order: VecDeque<u64>,
}

impl Bases {
    fn new(limit: usize) -> Self {
        Self { limit, held: 0, objects: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&self, offset: u64) -> Option<Arc<Vec<u8>>> {
        self.objects.get(&offset).cloned()
    }

    fn keep(&mut self, offset: u64, object: Vec<u8>) -> Arc<Vec<u8>> {
        let object = Arc::new(object);
        if object.len() > self.limit {
            return object;
        }
        self.held += object.len();
        if let Some(before) = self.objects.insert(offset, Arc::clone(&object)) {
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
