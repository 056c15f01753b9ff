//! Reads a filesystem file back into a tree, for tests: what the writer meant must be what is on the disk.
//!
//! An independent reading of the kernel's layout, as far as this writer uses it (e2fsck judges the rest).
//! Never part of the product: the host does not open guests' filesystems.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const BLOCK: usize = 4096;

/// One path of a tree. Hard links share a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub links: u32,
    pub content: Content,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub inode: u64,
    /// Blocks of 512 bytes.
    pub sectors: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Device { major: u32, minor: u32 },
    Other,
}

struct Image {
    file: File,
    table: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Every path but the root's own and lost+found, with the root as the empty path.
pub fn read_tree(path: &Path) -> BTreeMap<Vec<u8>, Node> {
    let file = File::open(path).unwrap();
    let mut descriptor = [0u8; 32];
    file.read_exact_at(&mut descriptor, BLOCK as u64).unwrap();
    let image = Image { file, table: u64::from(u32_at(&descriptor, 8)) * BLOCK as u64 };
    let mut tree = BTreeMap::new();
    let mut queue = vec![(Vec::new(), 2u32)];
    while let Some((path, number)) = queue.pop() {
        let node = image.node(number);
        if node.content == Content::Directory {
            for (name, child) in image.names(number) {
                let below = if path.is_empty() { name } else { [path.as_slice(), b"/", &name].concat() };
                if below != b"lost+found" {
                    queue.push((below, child));
                }
            }
        }
        tree.insert(path, node);
    }
    tree
}

impl Image {
    fn inode(&self, number: u32) -> [u8; 256] {
        let mut raw = [0u8; 256];
        self.file.read_exact_at(&mut raw, self.table + u64::from(number - 1) * 256).unwrap();
        raw
    }

    fn block(&self, number: u64) -> Vec<u8> {
        let mut block = vec![0u8; BLOCK];
        self.file.read_exact_at(&mut block, number * BLOCK as u64).unwrap();
        block
    }

    /// The content that the extent tree in `node` describes.
    fn extents(&self, node: &[u8], out: &mut [u8]) {
        assert_eq!(u16_at(node, 0), 0xF30A, "an extent header");
        for entry in node[12..].chunks_exact(12).take(u16_at(node, 2) as usize) {
            if u16_at(node, 6) > 0 {
                self.extents(&self.block(u64::from(u32_at(entry, 4))), out);
                continue;
            }
            let (at, count) = (u32_at(entry, 0) as usize * BLOCK, u16_at(entry, 4) as usize * BLOCK);
            let end = (at + count).min(out.len().next_multiple_of(BLOCK));
            let mut piece = vec![0u8; end - at];
            self.file.read_exact_at(&mut piece, u64::from(u32_at(entry, 8)) * BLOCK as u64).unwrap();
            let end = end.min(out.len());
            out[at..end].copy_from_slice(&piece[..end - at]);
        }
    }

    fn bytes(&self, raw: &[u8; 256]) -> Vec<u8> {
        let size = u64::from(u32_at(raw, 4)) | u64::from(u32_at(raw, 0x6C)) << 32;
        let mut out = vec![0u8; usize::try_from(size).unwrap()];
        self.extents(&raw[0x28..0x64], &mut out);
        out
    }

    fn names(&self, number: u32) -> Vec<(Vec<u8>, u32)> {
        let content = self.bytes(&self.inode(number));
        let (mut at, mut found) = (0, Vec::new());
        while at < content.len() {
            let (inode, length) = (u32_at(&content, at), u16_at(&content, at + 4) as usize);
            let name = &content[at + 8..at + 8 + usize::from(content[at + 6])];
            if inode != 0 && name != b"." && name != b".." {
                found.push((name.to_vec(), inode));
            }
            at += length;
        }
        found
    }

    fn node(&self, number: u32) -> Node {
        let raw = self.inode(number);
        let mode = u16_at(&raw, 0);
        let content = match mode & 0o170_000 {
            0o040_000 => Content::Directory,
            0o100_000 => Content::File(self.bytes(&raw)),
            0o120_000 if u32_at(&raw, 4) < 60 => Content::Symlink(raw[0x28..0x28 + u32_at(&raw, 4) as usize].to_vec()),
            0o120_000 => Content::Symlink(self.bytes(&raw)),
            0o020_000 | 0o060_000 => {
                let (old, new) = (u32_at(&raw, 0x28), u32_at(&raw, 0x2C));
                if new == 0 {
                    Content::Device { major: old >> 8, minor: old & 0xFF }
                } else {
                    Content::Device { major: (new >> 8) & 0xFFF, minor: (new & 0xFF) | ((new >> 12) & 0xF_FF00) }
                }
            }
            _ => Content::Other,
        };
        Node {
            mode,
            uid: u16_at(&raw, 2) | u16_at(&raw, 0x78) << 16,
            gid: u16_at(&raw, 0x18) | u16_at(&raw, 0x7A) << 16,
            mtime: i64::from(u32_at(&raw, 0x10).cast_signed()) + (i64::from(u32_at(&raw, 0x88) & 3) << 32),
            links: u16_at(&raw, 0x1A),
            content,
            xattrs: self.xattrs(&raw),
            inode: u64::from(number),
            sectors: u64::from(u32_at(&raw, 0x1C)),
        }
    }

    fn xattrs(&self, raw: &[u8; 256]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let block = u32_at(raw, 0x68);
        let (area, first, values) = if block != 0 {
            (self.block(u64::from(block)), 32, 0)
        } else if u32_at(raw, 160) == 0xEA02_0000 {
            (raw[160..].to_vec(), 4, 4)
        } else {
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        let mut at = first;
        while u32_at(&area, at) != 0 {
            let length = usize::from(area[at]);
            let (prefix, list): (&[u8], bool) = match area[at + 1] {
                1 => (b"user.", false),
                2 => (b"system.posix_acl_access", true),
                3 => (b"system.posix_acl_default", true),
                4 => (b"trusted.", false),
                6 => (b"security.", false),
                other => panic!("attribute index {other}"),
            };
            let start = values + u16_at(&area, at + 2) as usize;
            let value = area[start..start + u32_at(&area, at + 8) as usize].to_vec();
            let value = if list { access_list(&value) } else { value };
            found.insert([prefix, &area[at + 16..at + 16 + length]].concat(), value);
            at += (16 + length).next_multiple_of(4);
        }
        found
    }
}

/// The stored form of an ACL → the one the system calls show.
fn access_list(stored: &[u8]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    let mut at = 4;
    while at < stored.len() {
        out.extend_from_slice(&stored[at..at + 4]);
        if matches!(u16_at(stored, at), 2 | 8) {
            out.extend_from_slice(&stored[at + 4..at + 8]);
            at += 8;
        } else {
            out.extend_from_slice(&[0xFF; 4]);
            at += 4;
        }
    }
    out
}
