//! Where the parts of a memory are, which paths are in them, and what each part must hash to. Pure: bytes to [`Part`]s
//! and back. [`super`] has the whole format.

use crate::path::PATH_LIMIT;

/// What the file begins with.
pub const MAGIC: &[u8; 17] = b"banger-digests-2\n";
/// Length of a BLAKE3 digest.
pub const DIGEST: usize = 32;
/// [`MAGIC`], the length of the table and its digest.
pub const HEAD: usize = MAGIC.len() + 4 + DIGEST;
/// A part is closed once it has as much: it stays in a processor's own memory, and one reading brings what the next
/// few hundred looks need.
pub const PART_BYTES: usize = 32 << 10;
/// None is longer: the last entry may be the longest there is.
const PART_LIMIT: usize = PART_BYTES + PATH_LIMIT + 1024;

/// Some entries that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it starts, counted from the end of the table.
    pub start: u64,
    /// In bytes.
    pub length: usize,
    /// Number of its first entry.
    pub first_entry: usize,
    /// How many it has.
    pub entries: usize,
    /// BLAKE3 of its bytes.
    pub digest: blake3::Hash,
    /// Path of its first entry.
    pub first_path: Vec<u8>,
}

/// Length and digest of the table, from the head of the file.
pub fn parse_head(head: &[u8; HEAD]) -> Option<(usize, blake3::Hash)> {
    let (length, digest) = head.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some((length, blake3::Hash::from_bytes(digest.try_into().ok()?)))
}

/// Parses an untrusted table, if it is what the head says.
pub fn parse(table: &[u8], digest: blake3::Hash) -> Option<Vec<Part>> {
    if blake3::hash(table) != digest {
        return None;
    }
    let (mut parts, mut rest) = (Vec::new(), table);
    let (mut start, mut first_entry) = (0_u64, 0_usize);
    while !rest.is_empty() {
        let length = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        let entries = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        let digest = blake3::Hash::from_bytes(take::<DIGEST>(&mut rest)?);
        let path_length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let (path, after) = rest.split_at_checked(path_length)?;
        rest = after;
        if length > PART_LIMIT || entries == 0 || entries > length {
            return None;
        }
        parts.push(Part { start, length, first_entry, entries, digest, first_path: path.to_vec() });
        start += length as u64;
        first_entry = first_entry.checked_add(entries)?;
    }
    Some(parts)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*bytes)
}

/// Head and table of a file that has these parts; `None` if they are too many for one.
pub fn render(parts: &[Part]) -> Option<Vec<u8>> {
    let mut table = Vec::new();
    for part in parts {
        for number in [part.length, part.entries] {
            table.extend_from_slice(&u32::try_from(number).ok()?.to_le_bytes());
        }
        table.extend_from_slice(part.digest.as_bytes());
        table.extend_from_slice(&u16::try_from(part.first_path.len()).ok()?.to_le_bytes());
        table.extend_from_slice(&part.first_path);
    }
    let length = u32::try_from(table.len()).ok()?;
    Some([&MAGIC[..], &length.to_le_bytes(), blake3::hash(&table).as_bytes(), &table].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn part(start: u64, length: usize, first_entry: usize, entries: usize, first_path: &[u8]) -> Part {
        let digest = blake3::hash(first_path);
        Part { start, length, first_entry, entries, digest, first_path: first_path.to_vec() }
    }

    fn parsed(file: &[u8]) -> Option<Vec<Part>> {
        let (head, table) = file.split_first_chunk::<HEAD>()?;
        let (length, digest) = parse_head(head)?;
        parse(table.get(..length)?, digest)
    }

    #[test]
    fn a_table_says_what_it_was_made_of_and_nothing_else() {
        let parts = [part(0, 300, 0, 2, b"a"), part(300, 200, 2, 1, b"b/c")];
        let mut file = render(&parts).unwrap();
        assert_eq!(parsed(&file).unwrap(), parts);
        assert_eq!(parsed(&render(&[]).unwrap()).unwrap(), []);
        for at in 0..file.len() {
            file[at] ^= 1;
            assert_eq!(parsed(&file), None, "byte {at}");
            file[at] ^= 1;
            assert_eq!(parsed(&file[..at]), None, "cut at {at}");
        }
        for wrong in [part(0, PART_LIMIT + 1, 0, 1, b"a"), part(0, 300, 0, 0, b"a"), part(0, 3, 0, 4, b"a")] {
            assert_eq!(parsed(&render(&[wrong]).unwrap()), None, "under a right digest");
        }
    }
}
