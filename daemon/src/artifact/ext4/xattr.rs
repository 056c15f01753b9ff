//! Extended attributes: in the inode where they fit, else in one block of their own.

use std::collections::BTreeMap;

use super::BLOCK;

const MAGIC: u32 = 0xEA02_0000;
/// Bytes left in a 256-byte inode behind 128 + 32.
const INLINE_ROOM: usize = 96;
const BLOCK_HEADER: usize = 32;
const ENTRY: usize = 16;

/// Where the attributes go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Encoded {
    None,
    Inline(Vec<u8>),
    Block(Vec<u8>),
}

struct Attribute<'a> {
    index: u8,
    name: &'a [u8],
    value: Vec<u8>,
}

/// Encodes attributes; the error names the limit or form that is broken.
pub(super) fn encode(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Encoded, &'static str> {
    let mut attributes = xattrs.iter().map(|(name, value)| attribute(name, value)).collect::<Result<Vec<_>, _>>()?;
    if attributes.is_empty() {
        return Ok(Encoded::None);
    }
    attributes.sort_by(|a, b| (a.index, a.name.len(), a.name).cmp(&(b.index, b.name.len(), b.name)));
    let need: usize =
        attributes.iter().map(|a| (ENTRY + a.name.len()).next_multiple_of(4) + a.value.len().next_multiple_of(4)).sum();
    // Four zero bytes end the list.
    if 4 + need + 4 <= INLINE_ROOM {
        let mut out = vec![0u8; INLINE_ROOM];
        out[..4].copy_from_slice(&MAGIC.to_le_bytes());
        put_entries(&mut out[4..], 0, &attributes);
        return Ok(Encoded::Inline(out));
    }
    let size = usize::try_from(BLOCK).expect("4096");
    if BLOCK_HEADER + need + 4 > size {
        return Err("its extended attributes exceed one block");
    }
    let mut out = vec![0u8; size];
    out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    out[4..8].copy_from_slice(&1u32.to_le_bytes());
    out[8..12].copy_from_slice(&1u32.to_le_bytes());
    put_entries(&mut out, BLOCK_HEADER, &attributes);
    let hash = attributes.iter().fold(0u32, |hash, a| hash.rotate_left(16) ^ entry_hash(a));
    out[12..16].copy_from_slice(&hash.to_le_bytes());
    Ok(Encoded::Block(out))
}

/// Entries from `at` upwards, values from the end downwards; value offsets count from the start of `area`.
fn put_entries(area: &mut [u8], mut at: usize, attributes: &[Attribute<'_>]) {
    let mut end = area.len();
    for attribute in attributes {
        let length = attribute.value.len();
        end -= length.next_multiple_of(4);
        area[end..end + length].copy_from_slice(&attribute.value);
        area[at] = u8::try_from(attribute.name.len()).expect("checked to be at most 255");
        area[at + 1] = attribute.index;
        area[at + 2..at + 4].copy_from_slice(&u16::try_from(end).expect("below 4096").to_le_bytes());
        area[at + 8..at + 12].copy_from_slice(&u32::try_from(length).expect("below 4096").to_le_bytes());
        area[at + 12..at + 16].copy_from_slice(&entry_hash(attribute).to_le_bytes());
        area[at + ENTRY..at + ENTRY + attribute.name.len()].copy_from_slice(attribute.name);
        at += (ENTRY + attribute.name.len()).next_multiple_of(4);
    }
}

fn entry_hash(attribute: &Attribute<'_>) -> u32 {
    let name = attribute.name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    attribute.value.chunks(4).fold(name, |hash, word| {
        let mut bytes = [0u8; 4];
        bytes[..word.len()].copy_from_slice(word);
        hash.rotate_left(16) ^ u32::from_le_bytes(bytes)
    })
}

fn attribute<'a>(name: &'a [u8], value: &[u8]) -> Result<Attribute<'a>, &'static str> {
    let plain = |index, prefix: &str| {
        let rest = &name[prefix.len()..];
        if rest.is_empty() || rest.len() > 255 {
            return Err("the name of an extended attribute must have 1 to 255 bytes after its prefix");
        }
        Ok(Attribute { index, name: rest, value: value.to_vec() })
    };
    match name {
        b"system.posix_acl_access" => Ok(Attribute { index: 2, name: b"", value: access_list(value)? }),
        b"system.posix_acl_default" => Ok(Attribute { index: 3, name: b"", value: access_list(value)? }),
        _ if name.starts_with(b"user.") => plain(1, "user."),
        _ if name.starts_with(b"trusted.") => plain(4, "trusted."),
        _ if name.starts_with(b"security.") => plain(6, "security."),
        _ => Err("it has an extended attribute outside user, trusted, security and system.posix_acl_*"),
    }
}

/// The kernel shows ACLs as version 2 with eight bytes an entry; ext4 stores version 1 and an id only
/// for named users and groups.
fn access_list(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    const USER: u16 = 2;
    const GROUP: u16 = 8;
    let malformed = "its access control list is malformed";
    let entries = value.strip_prefix(&2u32.to_le_bytes()).ok_or(malformed)?.chunks_exact(8);
    if !entries.remainder().is_empty() {
        return Err(malformed);
    }
    let mut out = 1u32.to_le_bytes().to_vec();
    for entry in entries {
        out.extend_from_slice(&entry[..4]);
        if matches!(u16::from_le_bytes([entry[0], entry[1]]), USER | GROUP) {
            out.extend_from_slice(&entry[4..]);
        }
    }
    Ok(out)
}
