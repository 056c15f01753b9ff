//! The fuzz targets of `daemon/fuzz` with every compiler: the corpus as it is, then damaged from a fixed seed, so that
//! a failure repeats.
#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::path::PathBuf;

use bangerd::oci::layer::decompress;

#[path = "../fuzz/src/lib.rs"]
mod targets;

const ROUNDS: usize = 150;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % limit.max(1) as u64).unwrap()
    }
}

/// Names and plain contents, in order.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let plain = |path: &PathBuf| {
        let mut bytes = Vec::new();
        decompress(&std::fs::read(path).unwrap()[..]).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    files.iter().map(|path| (path.clone(), plain(path))).collect()
}

#[test]
fn the_corpus_is_accepted_as_it_is() {
    let corpus = corpus("layer");
    assert!(corpus.len() >= 4, "{corpus:?}");
    for (path, bytes) in corpus {
        assert!(targets::layer(&std::fs::read(&path).unwrap()), "{}", path.display());
        assert!(targets::layer(&bytes), "{}, not compressed", path.display());
    }
}

#[test]
fn a_damaged_corpus_is_an_error_or_a_filesystem() {
    let mut random = Random(5);
    let (mut accepted, mut refused) = (0, 0);
    for (path, bytes) in corpus("layer") {
        for _ in 0..ROUNDS {
            let mut bytes = bytes.clone();
            for _ in 0..=random.below(5) {
                let at = random.below(bytes.len());
                match random.below(5) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
                    2 => bytes.truncate(at + 1),
                    3 => {
                        // A block again, somewhere else.
                        let (from, to) = (at / 512 * 512, random.below(bytes.len()) / 512 * 512);
                        let block = bytes[from..bytes.len().min(from + 512)].to_vec();
                        bytes.splice(to..to, block);
                    }
                    _ => {
                        let start = at / 512 * 512;
                        bytes.drain(start..bytes.len().min(start + 512));
                    }
                }
                if bytes.is_empty() {
                    bytes.push(0);
                }
            }
            if targets::layer(&bytes) {
                accepted += 1;
            } else {
                refused += 1;
            }
        }
        assert!(accepted > 0 && refused > 0, "{}: {accepted} accepted, {refused} refused", path.display());
    }
}
