//! What a large file is made of, so that only what is new of it has to travel. Pure but for the reader it is given.
//!
//! A file is cut where its content says so (FastCDC 2020, Xia et al.), so an insertion moves the cuts with it and changes
//! one block or two. The guest tells the blocks of the version it has, the host cuts its own the same way and names
//! those that are there already by their place. Digests are 16 bytes of blake3: enough to find a block, and the whole
//! file is checked against its full digest before it gets its name. [`crate::prepare`] asks, [`crate::receiver`] answers.

use std::collections::HashMap;
use std::io::{self, Read};

use banger_proto::guest::v1::Blocks;
use fastcdc::v2020::StreamCDC;

/// A file that is not larger travels whole.
pub const LEAST: u64 = 2 << 20;
/// Most files one request may name; each is kept open until the batch ends.
pub const FILES_LIMIT: usize = 64;
/// Most blocks of one file.
pub const BLOCKS_LIMIT: usize = 128 << 10;
/// Bytes of a digest.
const DIGEST: usize = 16;
const SMALLEST_AVERAGE: u32 = 16 << 10;
const LARGEST_AVERAGE: u32 = 1 << 20;
/// So many blocks are aimed at before they become larger.
const AIM: u64 = 32 << 10;

/// The first bytes of a block's blake3.
pub type BlockDigest = [u8; DIGEST];

/// How both sides cut; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    average_size: u32,
}

impl Cut {
    /// For a file of that many bytes.
    pub fn for_size(size: u64) -> Self {
        let wanted = u32::try_from(size / AIM).unwrap_or(LARGEST_AVERAGE).min(LARGEST_AVERAGE);
        Self { average_size: wanted.next_power_of_two().clamp(SMALLEST_AVERAGE, LARGEST_AVERAGE) }
    }

    /// Checks a received one.
    pub fn parse(average_size: u32) -> Option<Self> {
        let fits = average_size.is_power_of_two() && (SMALLEST_AVERAGE..=LARGEST_AVERAGE).contains(&average_size);
        fits.then_some(Self { average_size })
    }

    /// Bytes of a block on average.
    pub fn average_size(self) -> u32 {
        self.average_size
    }

    /// Hands over block after block, with its digest.
    ///
    /// # Errors
    /// What `reader` or `each` said.
    pub fn blocks<E: From<io::Error>>(
        self,
        reader: impl Read,
        mut each: impl FnMut(BlockDigest, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let average = self.average_size as usize;
        for block in StreamCDC::new(reader, average / 4, average, average * 4) {
            let data = block.map_err(io::Error::from)?.data;
            each(digest(&data), data)?;
        }
        Ok(())
    }

    /// What to tell of a file; `None` if it has too many blocks.
    ///
    /// # Errors
    /// What `reader` said.
    pub fn describe(self, reader: impl Read) -> io::Result<Option<Blocks>> {
        let mut told = Blocks::default();
        let mut too_many = false;
        let outcome = self.blocks(reader, |digest, data| {
            too_many = told.sizes.len() == BLOCKS_LIMIT;
            if too_many {
                return Err(io::Error::other("too many blocks"));
            }
            told.sizes.push(u32::try_from(data.len()).map_err(io::Error::other)?);
            told.digests.extend_from_slice(&digest);
            Ok(())
        });
        if too_many {
            return Ok(None);
        }
        outcome.map(|()| Some(told))
    }
}

/// Where which block is in the other side's version.
#[derive(Debug)]
pub struct Known {
    /// How it was cut.
    pub cut: Cut,
    places: HashMap<BlockDigest, (u64, u32)>,
}

impl Known {
    /// Checks what was told; `None` if there is nothing to copy from.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(cut: Cut, told: &Blocks) -> Result<Option<Self>, &'static str> {
        if told.sizes.len() > BLOCKS_LIMIT {
            return Err("fewer blocks");
        }
        if told.digests.len() != told.sizes.len() * DIGEST {
            return Err("one digest a block");
        }
        let mut places = HashMap::with_capacity(told.sizes.len());
        let mut offset = 0_u64;
        for (digest, &size) in told.digests.chunks_exact(DIGEST).zip(&told.sizes) {
            let mut key = BlockDigest::default();
            key.copy_from_slice(digest);
            places.entry(key).or_insert((offset, size));
            offset += u64::from(size);
        }
        Ok((!places.is_empty()).then_some(Self { cut, places }))
    }

    /// The place of a block of that many bytes.
    pub fn find(&self, digest: &BlockDigest, size: usize) -> Option<u64> {
        self.places.get(digest).filter(|(_, known)| *known as usize == size).map(|(offset, _)| *offset)
    }
}

fn digest(data: &[u8]) -> BlockDigest {
    let mut short = BlockDigest::default();
    short.copy_from_slice(&blake3::hash(data).as_bytes()[..DIGEST]);
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Bytes that look random and are always the same.
    fn noise(size: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn known(data: &[u8]) -> Known {
        let cut = Cut::for_size(data.len() as u64);
        Known::parse(cut, &cut.describe(data).unwrap().unwrap()).unwrap().unwrap()
    }

    /// Bytes of `new` that are not in `old`, and the rest put together again from its places.
    fn missing(old: &[u8], new: &[u8]) -> usize {
        let known = known(old);
        let (mut sent, mut made) = (0, Vec::new());
        let each = |digest, data: Vec<u8>| {
            match known.find(&digest, data.len()) {
                Some(offset) => {
                    let offset = usize::try_from(offset).unwrap();
                    made.extend_from_slice(&old[offset..offset + data.len()]);
                }
                None => {
                    sent += data.len();
                    made.extend_from_slice(&data);
                }
            }
            io::Result::Ok(())
        };
        known.cut.blocks(new, each).unwrap();
        assert_eq!(made, new);
        sent
    }

    #[test]
    fn an_insertion_costs_a_few_blocks_wherever_it_is() {
        let old = noise(8 << 20, 1);
        for at in [0, 1, 4 << 20, (8 << 20) - 1, 8 << 20] {
            let mut new = old.clone();
            new.splice(at..at, noise(100, 2));
            assert!(missing(&old, &new) < 300 << 10, "at {at}");
        }
        assert_eq!(missing(&old, &old), 0);
        assert_eq!(missing(&old, &noise(1 << 20, 3)), 1 << 20);
    }

    #[test]
    fn what_repeats_is_found_too() {
        let old = noise(1 << 20, 4);
        assert_eq!(missing(&[&old[..], &old[..]].concat(), &[&old[..], &old[..]].concat()), 0);
        assert_eq!(missing(&vec![0; 4 << 20], &vec![0; 8 << 20]), 0);
    }

    #[test]
    fn blocks_grow_with_the_file_and_stay_within_a_frame() {
        assert_eq!(Cut::for_size(0).average_size(), SMALLEST_AVERAGE);
        assert_eq!(Cut::for_size(LEAST).average_size(), SMALLEST_AVERAGE);
        assert_eq!(Cut::for_size(2 << 30).average_size(), 64 << 10);
        assert_eq!(Cut::for_size(u64::MAX).average_size(), LARGEST_AVERAGE);
        assert_eq!(Cut::parse(Cut::for_size(1 << 30).average_size()), Some(Cut::for_size(1 << 30)));
        for wrong in [0, 1, 4 << 10, SMALLEST_AVERAGE + 1, 2 << 20, u32::MAX] {
            assert_eq!(Cut::parse(wrong), None, "{wrong}");
        }
        let most = BLOCKS_LIMIT * (DIGEST + 3);
        assert!(most < crate::frames::FRAME_LIMIT, "{most}");
    }

    #[test]
    fn what_is_told_is_not_believed() {
        let cut = Cut::for_size(0);
        let told = |sizes: Vec<u32>, digests: usize| Blocks { sizes, digests: vec![0; digests] };
        assert!(Known::parse(cut, &told(vec![], 0)).unwrap().is_none());
        assert!(Known::parse(cut, &told(vec![1], 15)).is_err());
        assert!(Known::parse(cut, &told(vec![], 16)).is_err());
        assert!(Known::parse(cut, &told(vec![u32::MAX; BLOCKS_LIMIT], BLOCKS_LIMIT * DIGEST)).unwrap().is_some());
        assert!(Known::parse(cut, &told(vec![0; BLOCKS_LIMIT + 1], (BLOCKS_LIMIT + 1) * DIGEST)).is_err());
    }
}
