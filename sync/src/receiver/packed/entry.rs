//! How a pack stores an object, as far as making a file of it needs: gitformat-pack(5). Pure.
//!
//! Lengths are the pack's own claims. Whoever reads one sets a limit, and checks the digest of what comes out.

/// What an entry's data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The blob itself.
    Blob,
    /// What to change in the object that starts so many bytes before.
    Delta {
        /// How many.
        base_distance: u64,
    },
}

/// What stands before an entry's compressed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What they are.
    pub stored: Stored,
    /// Their length in bytes, uncompressed.
    pub size: u64,
    /// Its own length in bytes.
    pub length: usize,
}

/// Longest head: ten bytes of a 64-bit size, ten of a distance.
pub const HEAD_LIMIT: usize = 20;

/// Parses what `bytes` begin with. `None` if it is the head of nothing a file can be made of: a commit, a tree, a tag, a
/// delta to an object by name.
pub fn parse_head(bytes: &[u8]) -> Option<Head> {
    const BLOB: u8 = 3;
    const DELTA_BY_OFFSET: u8 = 6;
    let mut rest = bytes.iter();
    let mut byte = *rest.next()?;
    let kind = (byte >> 4) & 7;
    let mut size = u64::from(byte & 15);
    let mut shift = 4;
    while byte & 0x80 != 0 {
        byte = *rest.next()?;
        size |= shifted(byte & 0x7f, shift)?;
        shift += 7;
    }
    let stored = match kind {
        BLOB => Stored::Blob,
        DELTA_BY_OFFSET => {
            byte = *rest.next()?;
            let mut base_distance = u64::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                byte = *rest.next()?;
                base_distance = base_distance.checked_add(1)?.checked_mul(128)? | u64::from(byte & 0x7f);
            }
            Stored::Delta { base_distance }
        }
        _ => return None,
    };
    Some(Head { stored, size, length: bytes.len() - rest.len() })
}

/// Has `made` be the object that `delta` makes of `base`. `None`, and `made` is anything, if it is no delta to it or makes
/// more than `limit` bytes.
pub fn apply_delta(base: &[u8], delta: &[u8], limit: u64, made: &mut Vec<u8>) -> Option<()> {
    let mut delta = delta;
    if read_size(&mut delta)? != base.len() as u64 {
        return None;
    }
    let size = read_size(&mut delta).filter(|size| *size <= limit)?;
    let size = usize::try_from(size).ok()?;
    made.clear();
    made.reserve_exact(size);
    while let Some(operation) = read_byte(&mut delta) {
        let part = if operation & 0x80 == 0 {
            // Zero is kept for what nobody has invented yet.
            let count = usize::from(operation).checked_sub(1)? + 1;
            let (inserted, rest) = delta.split_at_checked(count)?;
            delta = rest;
            inserted
        } else {
            let offset = read_sparse(&mut delta, operation & 0xf)?;
            let count = match read_sparse(&mut delta, (operation >> 4) & 7)? {
                0 => 0x1_0000,
                count => count,
            };
            base.get(offset..offset.checked_add(count)?)?
        };
        if part.len() > size - made.len() {
            return None;
        }
        made.extend_from_slice(part);
    }
    (made.len() == size).then_some(())
}

fn read_byte(from: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = from.split_first()?;
    *from = rest;
    Some(*byte)
}

/// Seven bits a byte, the lowest first.
fn read_size(from: &mut &[u8]) -> Option<u64> {
    let (mut size, mut shift) = (0, 0);
    loop {
        let byte = read_byte(from)?;
        size |= shifted(byte & 0x7f, shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(size);
        }
    }
}

/// Little-endian, without the bytes that are zero; `present` has a bit for each that is there.
fn read_sparse(from: &mut &[u8], present: u8) -> Option<usize> {
    let mut number = 0;
    for position in (0..4).filter(|position| present & (1 << position) != 0) {
        number |= usize::from(read_byte(from)?) << (8 * position);
    }
    Some(number)
}

/// `None` if bits would be lost.
fn shifted(bits: u8, by: u32) -> Option<u64> {
    let bits = u64::from(bits);
    let moved = bits.checked_shl(by)?;
    (moved >> by == bits).then_some(moved)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply_delta(base: &[u8], delta: &[u8], limit: u64) -> Option<Vec<u8>> {
        // What was made before is in the way.
        let mut made = vec![7; 3];
        super::apply_delta(base, delta, limit, &mut made).map(|()| made)
    }

    #[test]
    fn heads_are_those_of_the_format() {
        let blob = |bytes: &[u8]| parse_head(bytes).unwrap();
        assert_eq!(blob(&[0x35]), Head { stored: Stored::Blob, size: 5, length: 1 });
        assert_eq!(blob(&[0xb5, 0x01, 0xff]), Head { stored: Stored::Blob, size: 5 + 16, length: 2 });
        let delta = Head { stored: Stored::Delta { base_distance: 128 }, size: 1, length: 3 };
        assert_eq!(blob(&[0x61, 0x80, 0x00]), delta);
        // A commit, a tree, a tag, a delta by name; cut off; more than 64 bits.
        for bytes in [&[0x15][..], &[0x25], &[0x45], &[0x75], &[0xb5], &[0x61, 0x80], &[], &[0xff; 40]] {
            assert_eq!(parse_head(bytes), None, "{bytes:x?}");
        }
        let widest = [&[0xbf][..], &[0xff; 8], &[0x0f]].concat();
        assert_eq!(parse_head(&widest).unwrap().size, u64::MAX);
    }

    #[test]
    fn a_delta_copies_and_inserts() {
        let base = b"0123456789";
        // Sizes 10 and 7; copy 4 from 3; insert 3.
        assert_eq!(apply_delta(base, b"\x0a\x07\x91\x03\x04\x03abc", 100).unwrap(), b"3456abc");
        assert_eq!(apply_delta(base, b"\x0a\x00", 100).unwrap(), b"");
        let long = vec![7; 0x1_0000];
        // Without a size it is 64 KiB.
        assert_eq!(apply_delta(&long, b"\x80\x80\x04\x80\x80\x04\x80", 1 << 20).unwrap(), long);
        let refused: [&[u8]; 9] = [
            b"",
            b"\x0a",
            b"\x09\x07\x91\x03\x04\x03abc",
            b"\x0a\x08\x91\x03\x04\x03abc",
            b"\x0a\x06\x91\x03\x04\x03abc",
            b"\x0a\x07\x91\x03\x04\x04abc",
            b"\x0a\x07\x91\x09\x04\x03abc",
            b"\x0a\x03\x00abc",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ];
        for delta in refused {
            assert_eq!(apply_delta(base, delta, 100), None, "{delta:x?}");
        }
        assert_eq!(apply_delta(base, b"\x0a\x07\x91\x03\x04\x03abc", 6), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_grow(
            base in prop::collection::vec(any::<u8>(), 0..200),
            delta in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = parse_head(&delta);
            let size = u8::try_from(base.len()).ok().filter(|size| *size < 128);
            for delta in size.map(|size| [&[size, 100][..], &delta].concat()).into_iter().chain([delta]) {
                if let Some(made) = apply_delta(&base, &delta, 1000) {
                    prop_assert!(made.len() <= 1000);
                }
            }
        }
    }
}
