//! Layers damaged in every place: never a panic, never a filesystem that is not clean.
//!
//! The corpus is made here, the damage follows from a fixed seed: a failure repeats. The same entrance is the
//! target of `daemon/fuzz`, for whoever has a nightly compiler and time.

use super::support::{Layer, Random, flatten, header};
use crate::oci::flatten::Limits;

fn corpus() -> Vec<Vec<u8>> {
    let mut rich =
        Layer::new().directory("d", 0o755).file("d/f", "content\n").hard_link("d/h", "d/f").symlink("l", "d");
    rich.tar().append_pax_extensions([("SCHILY.xattr.user.a", &b"1"[..]), ("mtime", b"1700000000.5")]).unwrap();
    rich = rich.file("with-attributes", "x").file(&format!("long/{}", "n".repeat(180)), "y");
    rich.raw(&mut header(tar::EntryType::Fifo, 0o600, 0), "pipe", b"");
    let mut device = header(tar::EntryType::Char, 0o666, 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    rich.raw(&mut device, "null", b"");
    let hiding = Layer::new().file("d/.wh.f", "").file("e/.wh..wh..opq", "").file("d/g", "new");
    let mut sparse = Layer::new();
    let map = b"2\n0\n5\n100000\n5\n";
    let mut content = map.to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"firstlast!");
    let records = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"200000"),
    ];
    sparse.tar().append_pax_extensions(records).unwrap();
    sparse.raw(&mut header(tar::EntryType::Regular, 0o644, content.len() as u64), "GNUSparseFile.0/sparse", &content);
    [rich, hiding, sparse].into_iter().map(Layer::bytes).collect()
}

#[test]
fn damaged_layers_are_errors_or_clean_filesystems() {
    let corpus = corpus();
    let limits = Limits { entries: 10_000, content_bytes: 64 << 20 };
    let mut random = Random(1);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..400 {
        let mut layers = corpus.clone();
        let victim = usize::try_from(random.below(3)).unwrap();
        let bytes = &mut layers[victim];
        for _ in 0..=random.below(6) {
            let length = bytes.len() as u64;
            let at = usize::try_from(random.below(length)).unwrap();
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
                2 => bytes.truncate(at + 1),
                _ => {
                    let end = (at + 512).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        mend_checksums(bytes, &mut random);
        match flatten(layers.iter().map(Vec::as_slice), limits) {
            Ok(made) => {
                accepted += 1;
                if round % 8 == 0 {
                    made.assert_clean();
                    made.tree();
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        accepted > 20 && refused > 20,
        "{accepted} accepted, {refused} refused: the damage is too small or too big"
    );
}

/// Most damage would end at the checksum; half of the headers get a right one.
fn mend_checksums(bytes: &mut [u8], random: &mut Random) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" && random.below(2) == 0 {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

#[test]
fn the_undamaged_corpus_is_accepted() {
    let made = flatten(corpus().iter().map(Vec::as_slice), Limits::default()).unwrap();
    made.assert_clean();
    let tree = made.tree();
    assert!(!tree.contains_key(&b"d/f"[..]) && tree.contains_key(&b"d/h"[..]));
    let sparse = made.text("sparse");
    assert_eq!((sparse.len(), &sparse[..5], &sparse[100_000..100_005]), (200_000, "first", "last!"));
}
