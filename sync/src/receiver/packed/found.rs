//! Makes files of objects that came earlier: after a checkout the guest's packs have most of what changed, or all of it.
//!
//! The host says which object each file is; the guest looks for it in its own packs. What has no place, is in no pack or
//! turns out to be something else is asked for, so a pack the guest removed or made anew costs nothing but work.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::Read as _;

use banger_proto::guest::v1::{Need, ObjectFiles};

use super::entry::{HEAD_LIMIT, Stored, parse_head};
use super::index::{NAME, PackIndex};
use super::{Applier, PACKED_FILES, ReceiverError, SlotState, Wanted};
use crate::bitmap;
use crate::dir::{Dir, read_full_at};

/// Largest index in bytes that is held in memory; the pack of a larger one is not looked into.
const INDEX_LIMIT: u64 = 64 << 20;

/// One pack.
struct Pack {
    name: String,
    file: File,
    index: PackIndex,
    /// Of each object that was looked at: where the whole one is that it is made of.
    roots: HashMap<u64, u64>,
}

/// One file to make, and where the object is.
struct Located {
    /// In the list.
    position: usize,
    root: u64,
    offset: u64,
    length: u32,
    /// It is made of what the one before it is made of, or of that.
    is_next: bool,
}

impl Applier<'_> {
    /// Makes what it can of objects in `packs`, and says what it cannot.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn objects(&mut self, packs: Option<Dir>, told: &ObjectFiles) -> Result<Need, ReceiverError> {
        let count = told.indexes.len();
        if told.ids.len() != count * NAME || count > PACKED_FILES || self.in_file() {
            return Err(ReceiverError::Unexpected { expected: "a list of files and their objects" });
        }
        let mut wanted = Vec::with_capacity(count);
        // No two threads may work on one file.
        let mut seen = HashSet::with_capacity(count);
        for (position, index) in told.indexes.iter().enumerate() {
            let Some(slot) = self.slots().get(*index as usize).filter(|_| seen.insert(*index)) else {
                return Err(ReceiverError::Unexpected { expected: "a list of files that were announced" });
            };
            if slot.state == SlotState::Needed {
                wanted.push(position);
            }
        }
        let mut made = vec![false; count];
        // One after the other: a guest that is followed for long has very many.
        let names = packs.as_ref().and_then(|packs| packs.names().ok()).unwrap_or_default();
        let stems = names.iter().filter_map(|(name, _)| std::str::from_utf8(name.strip_suffix(b".idx")?).ok());
        let opened = stems.filter_map(|stem| Pack::open(packs.as_ref()?, stem));
        for mut pack in opened {
            wanted.retain(|position| !made[*position]);
            if wanted.is_empty() {
                break;
            }
            let located = pack.locate(&wanted, told);
            if located.is_empty() {
                continue;
            }
            let list: Vec<Wanted> = located.iter().map(|located| self.wanted_at(located, told)).collect();
            let outcomes = self.make(&pack.name, &pack.file, &list)?;
            for (located, is_made) in located.iter().zip(outcomes) {
                made[located.position] = is_made;
            }
        }
        Ok(Need { bitmap: bitmap::render(made.into_iter().map(|made| !made)) })
    }

    fn wanted_at(&mut self, located: &Located, told: &ObjectFiles) -> Wanted {
        Wanted {
            index: told.indexes[located.position] as usize,
            offset: located.offset,
            length: located.length,
            is_next: located.is_next,
            temporary: self.temporary(),
        }
    }
}

impl Pack {
    /// `None` if it cannot be read.
    fn open(packs: &Dir, stem: &str) -> Option<Self> {
        let open = |suffix: &str| {
            let file = packs.open_file(format!("{stem}.{suffix}").as_bytes()).ok()?;
            let metadata = file.metadata().ok().filter(Metadata::is_file)?;
            Some((file, metadata.len()))
        };
        let (index, size) = open("idx").filter(|(_, size)| *size <= INDEX_LIMIT)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?);
        index.take(size).read_to_end(&mut bytes).ok()?;
        let (file, size) = open("pack")?;
        Some(Self { name: stem.to_owned(), file, index: PackIndex::parse(bytes, size)?, roots: HashMap::new() })
    }

    /// In the order in which they are made with least work.
    fn locate(&mut self, wanted: &[usize], told: &ObjectFiles) -> Vec<Located> {
        let mut located = Vec::with_capacity(wanted.len());
        for position in wanted {
            let id = &told.ids[position * NAME..][..NAME];
            if let Some((offset, length)) = self.index.find(id) {
                let root = self.root(offset);
                located.push(Located { position: *position, root, offset, length, is_next: false });
            }
        }
        // What is made of an object, which may be anywhere behind it, right after it, so that it need not be made twice.
        located.sort_unstable_by_key(|one| (one.root, one.offset));
        for at in 1..located.len() {
            located[at].is_next = located[at - 1].root == located[at].root;
        }
        located
    }

    /// Where the whole object is that the one at `offset` is made of, in one step or several; itself if nothing tells.
    fn root(&mut self, offset: u64) -> u64 {
        let mut passed = Vec::new();
        let mut at = offset;
        let root = loop {
            if let Some(root) = self.roots.get(&at) {
                break *root;
            }
            passed.push(at);
            match self.base(at) {
                Some(base) => at = base,
                None => break at,
            }
        };
        self.roots.extend(passed.into_iter().map(|at| (at, root)));
        root
    }

    /// Always before it, so that there is an end.
    fn base(&self, offset: u64) -> Option<u64> {
        let mut head = [0; HEAD_LIMIT];
        let count = read_full_at(&self.file, &mut head, offset).ok()?;
        match parse_head(&head[..count])?.stored {
            Stored::Blob => None,
            Stored::Delta { base_distance } => offset.checked_sub(base_distance).filter(|base| *base < offset),
        }
    }
}
