//! Writes an ext4 file from a stream of entries: no root, no mount, no unpacked tree, one pass.
//!
//! Contents go to the file as they arrive; directories, inode table, bitmaps, journal and superblock
//! follow in [`Ext4Writer::finish`], when all sizes are known. Everything in memory is a few hundred
//! bytes per entry. It never reads an existing filesystem and never runs a tool.
//!
//! ```text
//! block 0 superblock │ 1..=64 group descriptors │ contents, directories │ inode tables │ bitmaps │ journal │ free
//! ```
//! Free space and unused inode table blocks are holes. There are no backup superblocks (`sparse_super2`
//! with none), so contents are contiguous; no group checksums, so nothing is initialised at first mount.
//! Layout reference: Documentation/filesystems/ext4 of the kernel. See docs/decisions/0002.

mod directory;
mod inode;
mod layout;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod read_back;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod tree;
mod xattr;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use inode::{Body, Extent, Inode};
pub use tree::Found;

/// Size of a filesystem block.
pub const BLOCK: u64 = 4096;
/// Blocks reserved for group descriptors: 128 groups of 128 MiB each, so 1 TiB.
const DESCRIPTOR_BLOCKS: u32 = 64;
const ROOT: u32 = 2;
const FIRST_INODE: u32 = 11;
const CHUNK: usize = 1 << 20;
/// Beyond, zeros are allocated: one level of extents has room for 1360.
const MOST_EXTENTS_OF_A_SPARSE_FILE: usize = 600;

/// What the finished filesystem should look like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Identity of the filesystem; derive it from the content to stay reproducible.
    pub uuid: [u8; 16],
    /// At most 16 bytes are kept.
    pub label: &'static str,
    /// Nominal size is at least this …
    pub minimum_bytes: u64,
    /// … and at least the content plus this.
    pub spare_bytes: u64,
    /// Whether the filesystem is ever written to.
    pub journal: Journal,
}

/// Whether there is a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// For a read-only filesystem.
    None,
    /// Internal, of the size mke2fs would choose.
    Internal,
}

/// Owner, permissions and attributes of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The low twelve bits of the mode.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by full name, values as the kernel's system calls show them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
pub enum Content<'a> {
    /// A directory; adding one that exists replaces its metadata.
    Directory,
    /// A regular file.
    File(&'a mut dyn Read),
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Nominal size of the filesystem and its file.
    pub size_bytes: u64,
    /// Entries, directories included.
    pub entries: u64,
}

/// Why an entry or a filesystem could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// Not `a/b/c` with plain names.
    #[error("the path {path:?} cannot be stored: every name must be 1 to 255 bytes and not '.' or '..'")]
    UnsafePath {
        /// As given.
        path: String,
    },
    /// A parent is something else.
    #[error("{path:?} lies below something that is not a directory")]
    NotADirectory {
        /// As given.
        path: String,
    },
    /// A link to nothing or to a directory.
    #[error("the hard link {path:?} points to {target:?}, which is no file written before it")]
    DanglingLink {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
    },
    /// Over a limit of the format or of this writer.
    #[error("{path:?} cannot be stored: {reason}")]
    Unsupported {
        /// The entry.
        path: String,
        /// Which limit.
        reason: &'static str,
    },
    /// Reading the entry's content failed.
    #[error("cannot read the content of {path:?}")]
    Read {
        /// The entry.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Writing the filesystem failed.
    #[error("cannot write the filesystem file")]
    Write {
        /// The cause.
        source: std::io::Error,
    },
}

fn write_error(source: std::io::Error) -> Ext4Error {
    Ext4Error::Write { source }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The writer. Entries may come in any order; missing parents become root-owned directories, mode 0755.
pub struct Ext4Writer {
    file: File,
    shape: Shape,
    inodes: BTreeMap<u32, Inode>,
    children: BTreeMap<u32, BTreeMap<Vec<u8>, u32>>,
    next_inode: u32,
    next_block: u32,
    /// For contents on their way.
    chunk: Vec<u8>,
}

impl Ext4Writer {
    /// `file` must be empty and open for writing.
    pub fn new(file: File, shape: Shape) -> Self {
        let mut writer = Self {
            file,
            shape,
            inodes: BTreeMap::new(),
            children: BTreeMap::new(),
            next_inode: FIRST_INODE,
            next_block: 1 + DESCRIPTOR_BLOCKS,
            chunk: vec![0u8; CHUNK],
        };
        let directory =
            |permissions| Inode::new(Metadata { permissions, ..Metadata::default() }, Body::Directory(vec![]));
        writer.inodes.insert(ROOT, directory(0o755));
        writer.children.insert(ROOT, BTreeMap::new());
        writer.ensure_lost_and_found();
        writer
    }

    /// Adds an entry; whatever was at `path` before is replaced (a directory by a directory: updated).
    ///
    /// # Errors
    /// See [`Ext4Error`]; the writer must not be finished afterwards.
    pub fn add(&mut self, path: &[u8], metadata: Metadata, content: Content<'_>) -> Result<(), Ext4Error> {
        let names = split(path)?;
        let Some((name, parents)) = names.split_last() else {
            if matches!(content, Content::Directory) {
                return self.set_directory_metadata(path, ROOT, metadata);
            }
            return Err(Ext4Error::UnsafePath { path: text(path) });
        };
        let parent = self.ensure_parents(parents, path)?;
        let existing = self.children.get(&parent).and_then(|entries| entries.get(*name)).copied();
        if let (Content::Directory, Some(number)) = (&content, existing)
            && self.children.contains_key(&number)
        {
            return self.set_directory_metadata(path, number, metadata);
        }
        let body = match content {
            Content::Directory => Body::Directory(vec![]),
            Content::File(reader) => self.write_content(path, reader)?,
            Content::Symlink(target) => self.write_symlink(path, target)?,
            Content::Character { major, minor } => Body::Character { major, minor },
            Content::Block { major, minor } => Body::Block { major, minor },
            Content::Fifo => Body::Fifo,
        };
        let attribute_block = self.write_attributes(path, &metadata)?;
        let mut inode = Inode::new(metadata, body);
        inode.attribute_block = attribute_block;
        let number = self.insert_inode(inode);
        self.place(parent, name, number);
        Ok(())
    }

    /// Adds another name for a file.
    ///
    /// # Errors
    /// [`Ext4Error::DanglingLink`] unless `target` is a file added before.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Ext4Error> {
        let dangling = || Ext4Error::DanglingLink { path: text(path), target: text(target) };
        let number = self.lookup(target).ok_or_else(dangling)?;
        if matches!(self.inodes.get(&number).map(|inode| &inode.body), None | Some(Body::Directory(_))) {
            return Err(dangling());
        }
        let names = split(path)?;
        let (name, parents) = names.split_last().ok_or_else(dangling)?;
        let parent = self.ensure_parents(parents, path)?;
        // Placing first would drop the file if the link replaces its only name.
        self.inodes.entry(number).and_modify(|inode| inode.links += 1);
        self.place(parent, name, number);
        Ok(())
    }

    /// Removes an entry with everything below it; nothing happens if it does not exist.
    pub fn remove(&mut self, path: &[u8]) {
        let Ok(names) = split(path) else { return };
        let Some((name, parents)) = names.split_last() else { return };
        if let Some(parent) = self.lookup_names(parents) {
            self.detach(parent, name);
        }
    }

    /// What nothing refers to any more becomes a hole of the file again; the same entries give the same bytes.
    fn give_back(&self, start: u32, count: u32) {
        use rustix::fs::{FallocateFlags, fallocate};
        let (at, length) = (u64::from(start) * BLOCK, u64::from(count) * BLOCK);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(&self.file, flags, at, length).is_err() {
            // A file system without holes: write the zeros, so that the bytes stay a function of the content.
            let zeros = vec![0u8; CHUNK];
            for offset in (0..length).step_by(CHUNK) {
                let piece = usize::try_from((length - offset).min(CHUNK as u64)).expect("at most one chunk");
                if let Err(error) = self.file.write_all_at(&zeros[..piece], at + offset) {
                    tracing::warn!(%error, "removed content stays in the free blocks of a filesystem");
                }
            }
        }
    }

    fn insert_inode(&mut self, inode: Inode) -> u32 {
        let number = self.next_inode;
        self.next_inode += 1;
        if matches!(inode.body, Body::Directory(_)) {
            self.children.insert(number, BTreeMap::new());
        }
        self.inodes.insert(number, inode);
        number
    }

    fn set_directory_metadata(&mut self, path: &[u8], number: u32, metadata: Metadata) -> Result<(), Ext4Error> {
        let attribute_block = self.write_attributes(path, &metadata)?;
        let inode = self.inodes.get_mut(&number).expect("every number in `children` is an inode");
        let before = inode.attribute_block;
        inode.metadata = metadata;
        inode.attribute_block = attribute_block;
        if let Some(block) = before {
            self.give_back(block, 1);
        }
        Ok(())
    }

    /// Repair tools expect it; an entry of the content may have removed it.
    fn ensure_lost_and_found(&mut self) {
        let name = b"lost+found".to_vec();
        if self.children.get(&ROOT).is_some_and(|entries| !entries.contains_key(&name)) {
            let metadata = Metadata { permissions: 0o700, ..Metadata::default() };
            let number = self.insert_inode(Inode::new(metadata, Body::Directory(vec![])));
            self.children.entry(ROOT).or_default().insert(name, number);
        }
    }

    fn place(&mut self, parent: u32, name: &[u8], number: u32) {
        self.detach(parent, name);
        self.children.entry(parent).or_default().insert(name.to_vec(), number);
    }

    fn detach(&mut self, parent: u32, name: &[u8]) {
        let Some(number) = self.children.get_mut(&parent).and_then(|entries| entries.remove(name)) else { return };
        for child in
            self.children.get(&number).map(|entries| entries.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        {
            self.detach(number, &child);
        }
        self.children.remove(&number);
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.links = inode.links.saturating_sub(1);
            if inode.links == 0
                && let Some(inode) = self.inodes.remove(&number)
            {
                // The bitmap is made from the inodes that are left.
                for (start, count) in inode.blocks() {
                    self.give_back(start, count);
                }
            }
        }
    }

    fn lookup(&self, path: &[u8]) -> Option<u32> {
        self.lookup_names(&split(path).ok()?)
    }

    fn lookup_names(&self, names: &[&[u8]]) -> Option<u32> {
        names.iter().try_fold(ROOT, |at, name| self.children.get(&at)?.get(*name).copied())
    }

    fn ensure_parents(&mut self, parents: &[&[u8]], path: &[u8]) -> Result<u32, Ext4Error> {
        let mut at = ROOT;
        for name in parents {
            let next = self.children.get(&at).and_then(|entries| entries.get(*name)).copied();
            at = match next {
                Some(number) if self.children.contains_key(&number) => number,
                Some(_) => return Err(Ext4Error::NotADirectory { path: text(path) }),
                None => {
                    let metadata = Metadata { permissions: 0o755, ..Metadata::default() };
                    let number = self.insert_inode(Inode::new(metadata, Body::Directory(vec![])));
                    self.children.entry(at).or_default().insert(name.to_vec(), number);
                    number
                }
            };
        }
        Ok(at)
    }

    /// Reserves `count` blocks in a row.
    fn allocate(&mut self, count: u32) -> Result<u32, Ext4Error> {
        let start = self.next_block;
        self.next_block = start.checked_add(count).ok_or(Ext4Error::Unsupported {
            path: String::from("/"),
            reason: "the filesystem would have more than 2^32 blocks",
        })?;
        Ok(start)
    }

    fn write_content(&mut self, path: &[u8], reader: &mut dyn Read) -> Result<Body, Ext4Error> {
        let mut extents: Vec<Extent> = Vec::new();
        let (mut size, mut logical) = (0u64, 0u32);
        loop {
            let filled =
                fill(reader, &mut self.chunk).map_err(|source| Ext4Error::Read { path: text(path), source })?;
            if filled == 0 {
                break;
            }
            let blocks = (filled as u64).div_ceil(BLOCK);
            let padded = usize::try_from(blocks * BLOCK).expect("at most one chunk");
            self.chunk[filled..padded].fill(0);
            let count = u32::try_from(blocks).expect("at most one chunk");
            let zero = self.chunk[..padded].iter().all(|byte| *byte == 0);
            // A chunk of zeros is a hole of the file, unless that would make its extent tree too deep.
            if !zero || extents.len() >= MOST_EXTENTS_OF_A_SPARSE_FILE {
                let start = self.allocate(count)?;
                inode::append(&mut extents, Extent { logical, start, count });
                if !zero {
                    self.file.write_all_at(&self.chunk[..padded], u64::from(start) * BLOCK).map_err(write_error)?;
                }
            }
            logical = logical
                .checked_add(count)
                .ok_or_else(|| Ext4Error::Unsupported { path: text(path), reason: "files may have at most 16 TiB" })?;
            size += filled as u64;
            if filled < CHUNK {
                break;
            }
        }
        let index = self.write_extent_index(path, &extents)?;
        Ok(Body::File { size, extents, index })
    }

    /// Files beyond 512 MiB have more extents than fit the inode.
    fn write_extent_index(&mut self, path: &[u8], extents: &[Extent]) -> Result<Vec<u32>, Ext4Error> {
        let blocks = inode::extent_leaves(extents);
        if blocks.len() > 4 {
            return Err(Ext4Error::Unsupported { path: text(path), reason: "files may have at most 170 GiB" });
        }
        let mut index = Vec::with_capacity(blocks.len());
        for leaf in blocks {
            let at = self.allocate(1)?;
            self.write_block(at, &leaf)?;
            index.push(at);
        }
        Ok(index)
    }

    fn write_symlink(&mut self, path: &[u8], target: &[u8]) -> Result<Body, Ext4Error> {
        if target.is_empty() || target.len() as u64 >= BLOCK {
            return Err(Ext4Error::Unsupported { path: text(path), reason: "a link target must have 1 to 4095 bytes" });
        }
        let block = if target.len() < inode::INLINE_TARGET {
            None
        } else {
            let at = self.allocate(1)?;
            let mut content = vec![0u8; usize::try_from(BLOCK).expect("4096")];
            content[..target.len()].copy_from_slice(target);
            self.write_block(at, &content)?;
            Some(at)
        };
        Ok(Body::Symlink { target: target.to_vec(), block })
    }

    fn write_attributes(&mut self, path: &[u8], metadata: &Metadata) -> Result<Option<u32>, Ext4Error> {
        let unsupported = |reason| Ext4Error::Unsupported { path: text(path), reason };
        match xattr::encode(&metadata.xattrs).map_err(unsupported)? {
            xattr::Encoded::Block(block) => {
                let at = self.allocate(1)?;
                self.write_block(at, &block)?;
                Ok(Some(at))
            }
            xattr::Encoded::None | xattr::Encoded::Inline(_) => Ok(None),
        }
    }

    fn write_block(&self, block: u32, content: &[u8]) -> Result<(), Ext4Error> {
        self.file.write_all_at(content, u64::from(block) * BLOCK).map_err(write_error)
    }
}

/// Reads until `buffer` is full or the content ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// `./a//b/` → [a, b]; refuses names that could mean another place.
fn split(path: &[u8]) -> Result<Vec<&[u8]>, Ext4Error> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.iter().any(|name| *name == b".." || name.len() > 255 || name.contains(&0)) {
        return Err(Ext4Error::UnsafePath { path: text(path) });
    }
    Ok(names)
}
