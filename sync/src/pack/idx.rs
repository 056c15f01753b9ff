//! A version 2 pack index from the list of what was written.

use std::io;

use gix::ObjectId;
use sha1::{Digest as _, Sha1};

const SIGNATURE: &[u8] = b"\xfftOc";
const VERSION: u32 = 2;
/// Offsets from here on go into the table of wide offsets.
const WIDE: u64 = 1 << 31;

/// One object of a pack.
#[derive(Debug, Clone)]
pub struct Indexed {
    /// Its name.
    pub id: ObjectId,
    /// crc32 of its entry, header included.
    pub crc32: u32,
    /// Where its entry starts.
    pub offset: u64,
    /// Length of its entry in bytes.
    pub length: u64,
    /// Where the entry is that it is a delta to.
    pub base: Option<u64>,
}

/// The whole file. Sorts `entries` by name.
///
/// # Errors
/// If there are more wide offsets than the format can name.
pub fn render_index(entries: &mut [Indexed], pack: &ObjectId) -> io::Result<Vec<u8>> {
    entries.sort_by_key(|entry| entry.id);
    let mut out = Vec::with_capacity(8 + 1024 + entries.len() * 28 + 40);
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut count: u32 = 0;
    let mut rest = entries.iter().peekable();
    for first_byte in 0..=u8::MAX {
        while rest.next_if(|entry| entry.id.as_slice()[0] == first_byte).is_some() {
            count += 1;
        }
        out.extend_from_slice(&count.to_be_bytes());
    }
    for entry in entries.iter() {
        out.extend_from_slice(entry.id.as_slice());
    }
    for entry in entries.iter() {
        out.extend_from_slice(&entry.crc32.to_be_bytes());
    }
    let mut wide = Vec::new();
    for entry in entries.iter() {
        let short = match u32::try_from(entry.offset) {
            Ok(offset) if entry.offset < WIDE => offset,
            _ => {
                let position = u32::try_from(wide.len()).map_err(io::Error::other)?;
                wide.push(entry.offset);
                position | 1 << 31
            }
        };
        out.extend_from_slice(&short.to_be_bytes());
    }
    for offset in wide {
        out.extend_from_slice(&offset.to_be_bytes());
    }
    out.extend_from_slice(pack.as_slice());
    let checksum = Sha1::digest(&out);
    out.extend_from_slice(&checksum);
    Ok(out)
}
