//! Directory blocks: records of inode number, length, name length, type, name.

use super::BLOCK;

const HEADER: usize = 8;

/// One name in a directory.
pub(super) struct Entry<'a> {
    pub inode: u32,
    pub kind: u8,
    pub name: &'a [u8],
}

/// The blocks of a directory. `entries` starts with "." and "..".
pub(super) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let block = usize::try_from(BLOCK).expect("4096");
    let mut out: Vec<u8> = Vec::new();
    let mut last = 0;
    for entry in entries {
        let length = (HEADER + entry.name.len()).next_multiple_of(4);
        let room = out.len().next_multiple_of(block) - out.len();
        if out.is_empty() || length > room {
            close(&mut out, last);
        }
        last = out.len();
        out.extend_from_slice(&entry.inode.to_le_bytes());
        out.extend_from_slice(&u16::try_from(length).expect("at most 264").to_le_bytes());
        out.push(u8::try_from(entry.name.len()).expect("checked to be at most 255"));
        out.push(entry.kind);
        out.extend_from_slice(entry.name);
        out.resize(last + length, 0);
    }
    close(&mut out, last);
    out
}

/// Stretches the last record to the end of its block.
fn close(out: &mut Vec<u8>, last: usize) {
    if out.is_empty() {
        return;
    }
    let end = out.len().next_multiple_of(usize::try_from(BLOCK).expect("4096"));
    out.resize(end, 0);
    let length = u16::try_from(end - last).expect("at most one block");
    out[last + 4..last + 6].copy_from_slice(&length.to_le_bytes());
}
