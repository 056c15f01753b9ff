//! One inode in memory and its 256 bytes on disk.

use super::{BLOCK, Metadata, xattr};

pub(super) const INODE_SIZE: usize = 256;
/// Link targets shorter than this live in the inode.
pub(super) const INLINE_TARGET: usize = 60;
const EXTRA_SIZE: u16 = 32;
const EXTENTS_FLAG: u32 = 0x8_0000;
const LONGEST_EXTENT: u32 = 32768;
const EXTENTS_IN_INODE: usize = 4;
const EXTENTS_IN_BLOCK: usize = (BLOCK as usize - 12) / 12;
const MOST_LINKS: u32 = 65000;

/// Blocks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub logical: u32,
    pub start: u32,
    pub count: u32,
}

/// What the inode is, with where its content lies.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Directory(Vec<Extent>),
    File { size: u64, extents: Vec<Extent>, index: Vec<u32> },
    Symlink { target: Vec<u8>, block: Option<u32> },
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub metadata: Metadata,
    pub body: Body,
    pub links: u32,
    pub attribute_block: Option<u32>,
}

/// Cuts a run of blocks into extents.
pub(super) fn extents(start: u32, count: u32) -> Vec<Extent> {
    (0..count)
        .step_by(LONGEST_EXTENT as usize)
        .map(|logical| Extent { logical, start: start + logical, count: LONGEST_EXTENT.min(count - logical) })
        .collect()
}

/// Adds a run to the end of a file, as part of the last extent where it continues that.
pub(super) fn append(extents: &mut Vec<Extent>, next: Extent) {
    if let Some(last) = extents.last_mut()
        && last.logical + last.count == next.logical
        && last.start + last.count == next.start
        && last.count + next.count <= LONGEST_EXTENT
    {
        last.count += next.count;
    } else {
        extents.push(next);
    }
}

/// The leaf blocks of the extent tree; none if the extents fit the inode.
pub(super) fn extent_leaves(extents: &[Extent]) -> Vec<Vec<u8>> {
    if extents.len() <= EXTENTS_IN_INODE {
        return Vec::new();
    }
    extents
        .chunks(EXTENTS_IN_BLOCK)
        .map(|chunk| {
            let mut block = vec![0u8; BLOCK as usize];
            put_extents(&mut block, chunk, EXTENTS_IN_BLOCK);
            block
        })
        .collect()
}

fn put_header(out: &mut [u8], entries: usize, most: usize, depth: u16) {
    out[0..2].copy_from_slice(&0xF30Au16.to_le_bytes());
    out[2..4].copy_from_slice(&u16::try_from(entries).expect("at most 340").to_le_bytes());
    out[4..6].copy_from_slice(&u16::try_from(most).expect("at most 340").to_le_bytes());
    out[6..8].copy_from_slice(&depth.to_le_bytes());
}

fn put_extents(out: &mut [u8], extents: &[Extent], most: usize) {
    put_header(out, extents.len(), most, 0);
    for (extent, slot) in extents.iter().zip(out[12..].chunks_exact_mut(12)) {
        slot[0..4].copy_from_slice(&extent.logical.to_le_bytes());
        slot[4..6].copy_from_slice(&u16::try_from(extent.count).expect("at most 32768").to_le_bytes());
        slot[8..12].copy_from_slice(&extent.start.to_le_bytes());
    }
}

impl Inode {
    pub fn new(metadata: Metadata, body: Body) -> Self {
        Self { metadata, body, links: 1, attribute_block: None }
    }

    /// File type bits and permissions.
    pub fn mode(&self) -> u16 {
        let kind = match self.body {
            Body::Directory(_) => 0o040_000,
            Body::File { .. } => 0o100_000,
            Body::Symlink { .. } => 0o120_000,
            Body::Character { .. } => 0o020_000,
            Body::Block { .. } => 0o060_000,
            Body::Fifo => 0o010_000,
        };
        kind | (self.metadata.permissions & 0o7777)
    }

    /// The type as directory entries name it.
    pub fn directory_type(&self) -> u8 {
        match self.body {
            Body::File { .. } => 1,
            Body::Directory(_) => 2,
            Body::Character { .. } => 3,
            Body::Block { .. } => 4,
            Body::Fifo => 5,
            Body::Symlink { .. } => 7,
        }
    }

    /// Every block that belongs to it, as (start, count).
    pub fn blocks(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = match &self.body {
            Body::Directory(extents) => extents.iter().map(|extent| (extent.start, extent.count)).collect(),
            Body::File { extents, index, .. } => extents
                .iter()
                .map(|extent| (extent.start, extent.count))
                .chain(index.iter().map(|block| (*block, 1)))
                .collect(),
            Body::Symlink { block, .. } => block.iter().map(|block| (*block, 1)).collect(),
            Body::Character { .. } | Body::Block { .. } | Body::Fifo => Vec::new(),
        };
        runs.extend(self.attribute_block.map(|block| (block, 1)));
        runs
    }

    fn size(&self) -> u64 {
        match &self.body {
            Body::Directory(extents) => extents.iter().map(|extent| u64::from(extent.count) * BLOCK).sum(),
            Body::File { size, .. } => *size,
            Body::Symlink { target, .. } => target.len() as u64,
            Body::Character { .. } | Body::Block { .. } | Body::Fifo => 0,
        }
    }

    /// The on-disk form.
    pub fn encode(&self) -> [u8; INODE_SIZE] {
        let mut out = [0u8; INODE_SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let (uid, gid, size) =
            (self.metadata.uid.to_le_bytes(), self.metadata.gid.to_le_bytes(), self.size().to_le_bytes());
        let sectors: u64 = self.blocks().iter().map(|(_, count)| u64::from(*count) * (BLOCK / 512)).sum();
        // 1 means "more than can be counted" for directories (dir_nlink).
        let links = if self.links > MOST_LINKS { 1 } else { self.links };
        let (seconds, epoch) = timestamp(self.metadata.mtime);
        put(0x00, &self.mode().to_le_bytes());
        put(0x02, &uid[..2]);
        put(0x04, &size[..4]);
        put(0x18, &gid[..2]);
        put(0x1A, &u16::try_from(links).expect("at most 65000").to_le_bytes());
        put(0x1C, &sectors.to_le_bytes()[..4]);
        put(0x68, &self.attribute_block.unwrap_or(0).to_le_bytes());
        put(0x6C, &size[4..]);
        put(0x74, &sectors.to_le_bytes()[4..6]);
        put(0x78, &uid[2..]);
        put(0x7A, &gid[2..]);
        put(0x80, &EXTRA_SIZE.to_le_bytes());
        for (at, extra) in [(0x0C, 0x84), (0x10, 0x88), (0x08, 0x8C), (0x90, 0x94)] {
            put(at, &seconds);
            put(extra, &epoch);
        }
        let (flags, block) = self.encode_block_field();
        put(0x20, &flags.to_le_bytes());
        put(0x28, &block);
        if self.attribute_block.is_none()
            && let Ok(xattr::Encoded::Inline(bytes)) = xattr::encode(&self.metadata.xattrs)
        {
            put(128 + usize::from(EXTRA_SIZE), &bytes);
        }
        out
    }

    /// Flags, and the sixty bytes that hold an extent tree, a link target or a device number.
    pub fn encode_block_field(&self) -> (u32, [u8; 60]) {
        let mut field = [0u8; 60];
        let flags = match &self.body {
            Body::Directory(extents) => {
                put_extents(&mut field, extents, EXTENTS_IN_INODE);
                EXTENTS_FLAG
            }
            Body::File { extents, index, .. } if index.is_empty() => {
                put_extents(&mut field, extents, EXTENTS_IN_INODE);
                EXTENTS_FLAG
            }
            Body::File { extents, index, .. } => {
                put_header(&mut field, index.len(), EXTENTS_IN_INODE, 1);
                let firsts = extents.iter().step_by(EXTENTS_IN_BLOCK);
                for ((first, leaf), slot) in firsts.zip(index).zip(field[12..].chunks_exact_mut(12)) {
                    slot[0..4].copy_from_slice(&first.logical.to_le_bytes());
                    slot[4..8].copy_from_slice(&leaf.to_le_bytes());
                }
                EXTENTS_FLAG
            }
            Body::Symlink { target, block: None } => {
                field[..target.len()].copy_from_slice(target);
                0
            }
            Body::Symlink { block: Some(block), .. } => {
                put_extents(&mut field, &extents(*block, 1), EXTENTS_IN_INODE);
                EXTENTS_FLAG
            }
            Body::Character { major, minor } | Body::Block { major, minor } => {
                if *major < 256 && *minor < 256 {
                    field[0..4].copy_from_slice(&((major << 8) | minor).to_le_bytes());
                } else {
                    let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
                    field[4..8].copy_from_slice(&number.to_le_bytes());
                }
                0
            }
            Body::Fifo => 0,
        };
        (flags, field)
    }
}

/// Low 32 bits, and the two epoch bits that reach past 2038.
fn timestamp(seconds: i64) -> ([u8; 4], [u8; 4]) {
    let seconds = seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX) + (3 << 32));
    let low = seconds.to_le_bytes();
    let signed = i64::from(i32::from_le_bytes([low[0], low[1], low[2], low[3]]));
    let epoch = u32::try_from((seconds - signed) >> 32).expect("clamped to 0..=3");
    ([low[0], low[1], low[2], low[3]], epoch.to_le_bytes())
}
