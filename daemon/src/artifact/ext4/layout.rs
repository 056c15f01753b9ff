//! The last step: directories, inode tables, bitmaps, journal, group descriptors, superblock.

use std::os::unix::fs::FileExt;

use super::directory::{self, Entry};
use super::inode::{self, Body, INODE_SIZE, Inode};
use super::{
    BLOCK, DESCRIPTOR_BLOCKS, Ext4Error, Ext4Writer, FIRST_INODE, Journal, Metadata, ROOT, Summary, write_error,
};

const BLOCKS_PER_GROUP: u32 = 32768;
const DESCRIPTOR: usize = 32;
/// One inode for 16 KiB, as mke2fs does.
const INODES_PER_GROUP: u32 = 8192;
const JOURNAL_INODE: u32 = 8;

/// How the filesystem is cut up; pure arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub blocks: u32,
    pub groups: u32,
    pub inodes_per_group: u32,
    pub inode_table: u32,
    pub block_bitmaps: u32,
    pub inode_bitmaps: u32,
    pub journal: u32,
    pub journal_blocks: u32,
    /// First block after everything that is written.
    pub end: u32,
}

impl Geometry {
    fn table_blocks_per_group(&self) -> u32 {
        self.inodes_per_group / (BLOCK as u32 / INODE_SIZE as u32)
    }
}

/// Finds the smallest number of groups that holds `content` blocks, `inodes`, the metadata and the spare room.
pub(super) fn plan(content_end: u32, inodes: u32, shape: &super::Shape) -> Option<Geometry> {
    let minimum = u32::try_from(shape.minimum_bytes.div_ceil(BLOCK)).ok()?;
    let spare = u32::try_from(shape.spare_bytes.div_ceil(BLOCK)).ok()?;
    let mut groups = minimum.max(content_end).div_ceil(BLOCKS_PER_GROUP).max(1);
    loop {
        if groups as usize * DESCRIPTOR > DESCRIPTOR_BLOCKS as usize * BLOCK as usize {
            return None;
        }
        // A quarter of the inodes in use stay free even in a filesystem full of tiny files.
        let wanted = (inodes + inodes / 4).div_ceil(groups).next_multiple_of(128);
        let inodes_per_group = INODES_PER_GROUP.max(wanted);
        let whole = groups.checked_mul(BLOCKS_PER_GROUP)?;
        let table = groups.checked_mul(inodes_per_group / (BLOCK as u32 / INODE_SIZE as u32))?;
        let journal_blocks = match shape.journal {
            Journal::None => 0,
            Journal::Internal => journal_size(whole),
        };
        let block_bitmaps = content_end.checked_add(table)?;
        let inode_bitmaps = block_bitmaps.checked_add(groups)?;
        let journal = inode_bitmaps.checked_add(groups)?;
        let end = journal.checked_add(journal_blocks)?;
        if inodes_per_group <= BLOCKS_PER_GROUP && end.checked_add(spare)? <= whole && minimum <= whole {
            return Some(Geometry {
                // Groups added for their inodes need blocks too, or they would not exist.
                blocks: minimum.max(end.checked_add(spare)?).max((groups - 1) * BLOCKS_PER_GROUP + 1),
                groups,
                inodes_per_group,
                inode_table: content_end,
                block_bitmaps,
                inode_bitmaps,
                journal,
                journal_blocks,
                end,
            });
        }
        groups += 1;
    }
}

/// The sizes mke2fs uses, in blocks of 4 KiB.
fn journal_size(blocks: u32) -> u32 {
    match blocks {
        0..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16384,
        _ => 32768,
    }
}

impl Ext4Writer {
    /// Writes all metadata and gives the file its nominal size.
    ///
    /// # Errors
    /// [`Ext4Error::Write`], or [`Ext4Error::Unsupported`] beyond 1 TiB.
    pub fn finish(mut self) -> Result<Summary, Ext4Error> {
        self.ensure_lost_and_found();
        self.write_directories()?;
        let geometry = plan(self.next_block, self.next_inode, &self.shape)
            .ok_or(Ext4Error::Unsupported { path: String::from("/"), reason: "the filesystem would be too large" })?;
        let entries = self.inodes.len() as u64;
        if geometry.journal_blocks > 0 {
            self.write_journal(&geometry)?;
        }
        self.file.set_len(u64::from(geometry.blocks) * BLOCK).map_err(write_error)?;
        self.write_inode_tables(&geometry)?;
        let usage = self.write_bitmaps(&geometry)?;
        self.write_descriptors(&geometry, &usage)?;
        self.write_superblock(&geometry, &usage)?;
        self.file.sync_data().map_err(write_error)?;
        Ok(Summary { size_bytes: u64::from(geometry.blocks) * BLOCK, entries })
    }

    fn write_directories(&mut self) -> Result<(), Ext4Error> {
        let mut parents = std::collections::BTreeMap::from([(ROOT, ROOT)]);
        let mut queue = std::collections::VecDeque::from([ROOT]);
        while let Some(number) = queue.pop_front() {
            let Some(children) = self.children.get(&number) else { continue };
            let parent = parents.get(&number).copied().unwrap_or(ROOT);
            let mut entries =
                vec![Entry { inode: number, kind: 2, name: b"." }, Entry { inode: parent, kind: 2, name: b".." }];
            let mut links = 2;
            for (name, child) in children {
                let kind = self.inodes.get(child).map_or(0, Inode::directory_type);
                entries.push(Entry { inode: *child, kind, name });
                if self.children.contains_key(child) {
                    links += 1;
                    parents.insert(*child, number);
                    queue.push_back(*child);
                }
            }
            let content = directory::encode(&entries);
            let count = u32::try_from(content.len() as u64 / BLOCK).unwrap_or(u32::MAX);
            let start = self.allocate(count)?;
            self.write_block(start, &content)?;
            if let Some(inode) = self.inodes.get_mut(&number) {
                inode.links = links;
                inode.body = Body::Directory(inode::extents(start, count));
            }
        }
        Ok(())
    }

    /// An empty journal: its superblock; the rest are holes (jbd2, all fields big endian).
    fn write_journal(&mut self, geometry: &Geometry) -> Result<(), Ext4Error> {
        let mut block = vec![0u8; BLOCK as usize];
        let fields =
            [(0, 0xC03B_3998), (4, 4), (12, BLOCK as u32), (16, geometry.journal_blocks), (20, 1), (24, 1), (64, 1)];
        for (at, value) in fields {
            block[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
        }
        block[48..64].copy_from_slice(&self.shape.uuid);
        self.write_block(geometry.journal, &block)?;
        let body = Body::File {
            size: u64::from(geometry.journal_blocks) * BLOCK,
            extents: inode::extents(geometry.journal, geometry.journal_blocks),
            index: Vec::new(),
        };
        let metadata = Metadata { permissions: 0o600, ..Metadata::default() };
        self.inodes.insert(JOURNAL_INODE, Inode::new(metadata, body));
        Ok(())
    }

    fn write_inode_tables(&self, geometry: &Geometry) -> Result<(), Ext4Error> {
        // The tables of all groups lie in a row, so inode n is simply the n-th record.
        let records = (self.next_inode as usize - 1).next_multiple_of(BLOCK as usize / INODE_SIZE);
        let mut table = vec![0u8; records * INODE_SIZE];
        for (number, inode) in &self.inodes {
            let at = (*number as usize - 1) * INODE_SIZE;
            table[at..at + INODE_SIZE].copy_from_slice(&inode.encode());
        }
        self.write_block(geometry.inode_table, &table)
    }

    fn write_bitmaps(&self, geometry: &Geometry) -> Result<Vec<Usage>, Ext4Error> {
        let group_bytes = BLOCK as usize;
        let mut blocks = vec![0u8; geometry.groups as usize * group_bytes];
        let mut inodes = vec![0u8; geometry.groups as usize * group_bytes];
        let descriptors = (geometry.groups as usize * DESCRIPTOR).div_ceil(BLOCK as usize);
        mark(&mut blocks, 0, 1 + u32::try_from(descriptors).unwrap_or(DESCRIPTOR_BLOCKS));
        mark(&mut blocks, geometry.inode_table, geometry.journal - geometry.inode_table);
        for (start, count) in self.inodes.values().flat_map(Inode::blocks) {
            mark(&mut blocks, start, count);
        }
        // Bits behind the last block do not exist.
        mark(&mut blocks, geometry.blocks, geometry.groups * BLOCKS_PER_GROUP - geometry.blocks);
        let mut usage = vec![Usage::default(); geometry.groups as usize];
        for number in (1..FIRST_INODE).chain(self.inodes.keys().copied().filter(|number| *number >= FIRST_INODE)) {
            let (group, bit) = ((number - 1) / geometry.inodes_per_group, (number - 1) % geometry.inodes_per_group);
            mark(&mut inodes, group * BLOCKS_PER_GROUP + bit, 1);
            usage[group as usize].inodes += 1;
            if self.children.contains_key(&number) {
                usage[group as usize].directories += 1;
            }
        }
        for group in 0..geometry.groups {
            let bits = &blocks[group as usize * group_bytes..][..group_bytes];
            usage[group as usize].blocks = bits.iter().map(|byte| byte.count_ones()).sum();
            let rest = BLOCKS_PER_GROUP - geometry.inodes_per_group;
            mark(&mut inodes, group * BLOCKS_PER_GROUP + geometry.inodes_per_group, rest);
        }
        self.write_block(geometry.block_bitmaps, &blocks)?;
        self.write_block(geometry.inode_bitmaps, &inodes)?;
        Ok(usage)
    }

    fn write_descriptors(&self, geometry: &Geometry, usage: &[Usage]) -> Result<(), Ext4Error> {
        let mut out = Vec::with_capacity(usage.len() * DESCRIPTOR);
        for (group, used) in (0u32..).zip(usage) {
            let table = geometry.inode_table + group * geometry.table_blocks_per_group();
            for block in [geometry.block_bitmaps + group, geometry.inode_bitmaps + group, table] {
                out.extend_from_slice(&block.to_le_bytes());
            }
            let free_inodes = geometry.inodes_per_group - used.inodes;
            for count in [BLOCKS_PER_GROUP - used.blocks, free_inodes, used.directories] {
                out.extend_from_slice(&u16::try_from(count).expect("at most 32768").to_le_bytes());
            }
            out.resize((group as usize + 1) * DESCRIPTOR, 0);
        }
        self.write_block(1, &out)
    }

    fn write_superblock(&self, geometry: &Geometry, usage: &[Usage]) -> Result<(), Ext4Error> {
        const DIRECTORY_INDEX: u32 = 0x20;
        const EXTENDED_ATTRIBUTES: u32 = 0x8;
        const HAS_JOURNAL: u32 = 0x4;
        const SPARSE_SUPER2: u32 = 0x200;
        const FILETYPE_EXTENTS_FLEX_BG: u32 = 0x2 | 0x40 | 0x200;
        const LARGE_HUGE_DIRNLINK_EXTRAISIZE: u32 = 0x2 | 0x8 | 0x20 | 0x40;
        let journal = geometry.journal_blocks > 0;
        // The bits behind the last block count as used in the group but are no blocks.
        let free_blocks: u32 = usage.iter().map(|used| BLOCKS_PER_GROUP - used.blocks).sum();
        let free_inodes: u32 = usage.iter().map(|used| geometry.inodes_per_group - used.inodes).sum();
        let compatible = EXTENDED_ATTRIBUTES | DIRECTORY_INDEX | SPARSE_SUPER2 | if journal { HAS_JOURNAL } else { 0 };
        let mut block = vec![0u8; 1024];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        for (at, value) in [
            (0x00, geometry.groups * geometry.inodes_per_group),
            (0x04, geometry.blocks),
            (0x0C, free_blocks),
            (0x10, free_inodes),
            (0x18, 2),
            (0x1C, 2),
            (0x20, BLOCKS_PER_GROUP),
            (0x24, BLOCKS_PER_GROUP),
            (0x28, geometry.inodes_per_group),
            (0x4C, 1),
            (0x54, FIRST_INODE),
            (0x5C, compatible),
            (0x60, FILETYPE_EXTENTS_FLEX_BG),
            (0x64, LARGE_HUGE_DIRNLINK_EXTRAISIZE),
            (0x100, 0xC), // default mount options: user_xattr, acl
            (0x160, 1),   // directory hashes use signed characters, as everywhere on x86
        ] {
            put(at, &u32::to_le_bytes(value));
        }
        for (at, value) in [(0x36, 0xFFFF), (0x38, 0xEF53), (0x3A, 1), (0x3C, 1), (0x58, 256), (0x15C, 32), (0x15E, 32)]
        {
            put(at, &u16::to_le_bytes(value));
        }
        put(0x68, &self.shape.uuid);
        let label = self.shape.label.as_bytes();
        put(0x78, &label[..label.len().min(16)]);
        put(0xEC, &self.shape.uuid); // hash seed
        put(0xFC, &[1]); // half MD4
        put(0x174, &[4]); // sixteen groups a flex group
        if journal && let Some(inode) = self.inodes.get(&JOURNAL_INODE) {
            put(0xE0, &JOURNAL_INODE.to_le_bytes());
            // A copy of the journal inode's block field and size, for repair tools.
            put(0xFD, &[1]);
            put(0x10C, &inode.encode_block_field().1);
            put(0x10C + 64, &(geometry.journal_blocks * BLOCK as u32).to_le_bytes());
        }
        self.file.write_all_at(&block, 1024).map_err(write_error)
    }
}

/// What is taken in one group.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    blocks: u32,
    inodes: u32,
    directories: u32,
}

/// Sets `count` bits from `start`.
fn mark(bitmap: &mut [u8], start: u32, count: u32) {
    let (mut at, end) = (start as usize, start as usize + count as usize);
    while at < end {
        if at % 8 == 0 && end - at >= 8 {
            bitmap[at / 8] = 0xFF;
            at += 8;
        } else {
            bitmap[at / 8] |= 1 << (at % 8);
            at += 1;
        }
    }
}
