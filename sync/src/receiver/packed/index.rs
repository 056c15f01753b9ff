//! Where in a pack an object is: a version 2 index, gitformat-pack(5). Pure.
//!
//! It may be damaged, so nothing of it is relied on: whoever reads at a place it tells checks what comes out.
//! Not gix's index, as the guest's program is built without gix; a version 1 index, which git no longer writes, is none.

const SIGNATURE: &[u8] = b"\xfftOc\0\0\0\x02";
const FANOUT: usize = 256 * 4;
/// Of a name, SHA-1.
pub const NAME: usize = 20;
/// What ends a pack, and twice an index.
const CHECKSUM: usize = 20;

/// The whole file.
pub struct PackIndex {
    bytes: Vec<u8>,
    count: usize,
    /// Where entries start, and where the last one ends, in order.
    starts: Vec<u64>,
}

impl PackIndex {
    /// Of a pack of that many bytes; `None` if it is no such index.
    pub fn parse(bytes: Vec<u8>, pack_size: u64) -> Option<Self> {
        let names = SIGNATURE.len() + FANOUT;
        if !bytes.starts_with(SIGNATURE) || bytes.len() < names + 2 * CHECKSUM {
            return None;
        }
        let count = usize::try_from(number(&bytes, names - 4)?).ok()?;
        let least = count.checked_mul(NAME + 4 + 4)?.checked_add(names + 2 * CHECKSUM)?;
        if bytes.len() < least {
            return None;
        }
        let mut index = Self { bytes, count, starts: Vec::new() };
        index.starts = (0..count).filter_map(|at| index.start(at)).collect();
        index.starts.push(pack_size.checked_sub(CHECKSUM as u64)?);
        index.starts.sort_unstable();
        Some(index)
    }

    /// Where the entry of the object `id` starts, and its length in bytes.
    pub fn find(&self, id: &[u8]) -> Option<(u64, u32)> {
        let first = usize::from(*id.first()?);
        let fan = |at: usize| usize::try_from(number(&self.bytes, SIGNATURE.len() + 4 * at)?).ok();
        let (mut low, mut high) = (first.checked_sub(1).map_or(Some(0), fan)?, fan(first)?.min(self.count));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(id) {
                std::cmp::Ordering::Equal => {
                    let start = self.start(middle)?;
                    let next = self.starts.partition_point(|other| *other <= start);
                    let length = self.starts.get(next)?.checked_sub(start)?;
                    return Some((start, u32::try_from(length).ok()?));
                }
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn name(&self, at: usize) -> Option<&[u8]> {
        let from = SIGNATURE.len() + FANOUT + at * NAME;
        self.bytes.get(from..from + NAME)
    }

    fn start(&self, at: usize) -> Option<u64> {
        const IS_WIDE: u32 = 1 << 31;
        let narrow = SIGNATURE.len() + FANOUT + self.count * (NAME + 4);
        let start = number(&self.bytes, narrow + at * 4)?;
        if start & IS_WIDE == 0 {
            return Some(u64::from(start));
        }
        let wide = narrow + self.count * 4 + usize::try_from(start & !IS_WIDE).ok()? * 8;
        Some(u64::from(number(&self.bytes, wide)?) << 32 | u64::from(number(&self.bytes, wide + 4)?))
    }
}

/// Big-endian.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pack::{Indexed, render_index};

    fn indexed(id: u8, offset: u64) -> Indexed {
        let id = gix::ObjectId::from_bytes_or_panic(&[id; 20]);
        Indexed { id, crc32: 7, offset, length: 1, base: None }
    }

    fn rendered(objects: &[(u8, u64)]) -> Vec<u8> {
        let mut objects: Vec<_> = objects.iter().map(|(id, offset)| indexed(*id, *offset)).collect();
        render_index(&mut objects, &gix::ObjectId::null(gix::hash::Kind::Sha1)).unwrap()
    }

    #[test]
    fn finds_each_object_and_its_end() {
        let wide = (1 << 33) + 5;
        let bytes = rendered(&[(9, 12), (3, 700), (255, 300), (0, wide), (4, 1 << 31)]);
        let index = PackIndex::parse(bytes, wide + 1000).unwrap();
        let found: Vec<_> = [9, 3, 255, 0, 5].map(|id| index.find(&[id; 20])).to_vec();
        let length = (1_u64 << 31) - 700;
        let expected = [Some((12, 288)), Some((700, u32::try_from(length).unwrap())), Some((300, 400))];
        assert_eq!(found[..3], expected);
        assert_eq!(found[3..], [Some((wide, 980)), None]);
        // Longer than a length can be told.
        assert_eq!(index.find(&[4; 20]), None);
        assert_eq!(index.find(&[]), None);
    }

    #[test]
    fn what_is_no_index_is_none() {
        let bytes = rendered(&[(1, 12)]);
        for cut in [0, 8, 1031, 1032, bytes.len() - 1] {
            assert!(PackIndex::parse(bytes[..cut].to_vec(), 1000).is_none(), "{cut}");
        }
        let mut version = bytes.clone();
        version[7] = 1;
        assert!(PackIndex::parse(version, 1000).is_none());
        assert!(PackIndex::parse(bytes.clone(), 10).is_none());
        assert!(PackIndex::parse(bytes, 1000).is_some());
    }

    proptest! {
        #[test]
        fn a_damaged_index_finds_something_or_nothing(at in 8_usize..1400, to in any::<u8>(), id in any::<u8>()) {
            let mut bytes = rendered(&[(1, 12), (7, 99), (8, (1 << 32) + 1), (200, 50)]);
            let at = at % bytes.len();
            bytes[at] = to;
            if let Some(index) = PackIndex::parse(bytes, 1 << 33) {
                let _ = index.find(&[id; 20]);
            }
        }
    }
}
