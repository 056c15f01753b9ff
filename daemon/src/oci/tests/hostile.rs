//! Layers that no honest tool writes are refused, within bounded memory and time.

use std::io::{Read, Write as _};

use super::support::{Layer, flatten, header, refused};
use crate::oci::flatten::{FlattenError, Limits};

#[track_caller]
fn assert_hostile(error: &FlattenError, reason: &str) {
    match error {
        FlattenError::Hostile { reason: given, .. } => assert!(given.contains(reason), "{given}"),
        other => panic!("{other:?} instead of {reason}"),
    }
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["../etc/passwd", "a/../../x", "a/.."] {
        let mut layer = Layer::new();
        layer.raw(&mut header(tar::EntryType::Regular, 0o644, 0), path, b"");
        assert_hostile(&refused(vec![layer]), "'..'");
    }
    let mut layer = Layer::new();
    layer.raw(&mut header(tar::EntryType::Regular, 0o644, 0), "/etc/passwd", b"");
    assert_hostile(&refused(vec![layer]), "slash");
    assert_hostile(&refused(vec![Layer::new().hard_link("x", "../../etc/shadow")]), "'..'");
    assert_hostile(&refused(vec![Layer::new().file("./", "root")]), "root");
}

#[test]
fn nothing_is_written_through_a_link_of_the_same_layer() {
    for target in ["/etc", "../../etc", "etc"] {
        let layer = Layer::new().directory("etc", 0o755).symlink("way", target).file("way/passwd", "x");
        assert_hostile(&refused(vec![layer]), "link of the same layer");
    }
}

#[test]
fn links_of_lower_layers_lead_only_within_the_image() {
    let lower = || Layer::new().symlink("out", "../../etc").symlink("a", "b").symlink("b", "a");
    assert_hostile(&refused(vec![lower(), Layer::new().file("out/passwd", "x")]), "past the root");
    assert_hostile(&refused(vec![lower(), Layer::new().file("a/x", "x")]), "too many links");
}

#[test]
fn whiteouts_of_impossible_names_are_refused() {
    for name in [".wh.", ".wh..", ".wh..."] {
        assert_hostile(
            &refused(vec![Layer::new().directory("d", 0o755).file(&format!("d/{name}"), "")]),
            "no possible",
        );
    }
}

#[test]
fn a_description_of_many_megabytes_does_not_reach_the_memory() {
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
        let mut long = header(kind, 0o644, 1 << 30);
        long.set_path("././@LongLink").unwrap();
        long.set_cksum();
        let stream = long.as_bytes().as_slice().chain(std::io::repeat(b'a').take(1 << 30));
        let error = flatten([stream], Limits::default()).err().unwrap();
        let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        assert!(chain.map(ToString::to_string).any(|text| text.contains("1 MiB")), "{error:?}");
    }
}

#[test]
fn bombs_are_refused_before_they_are_written() {
    let limits = Limits { entries: 100, content_bytes: 1 << 20 };
    // It claims 8 GiB; not a byte of it is needed to refuse it.
    let mut huge = header(tar::EntryType::Regular, 0o644, 8 << 30);
    huge.set_path("huge").unwrap();
    huge.set_cksum();
    let error = flatten([huge.as_bytes().as_slice()], limits).err().unwrap();
    assert!(matches!(error, FlattenError::TooLarge { .. }), "{error:?}");

    let mut many = Layer::new();
    for index in 0..200 {
        many = many.file(&format!("f{index}"), "");
    }
    let error = flatten([many.bytes().as_slice()], limits).err().unwrap();
    assert!(matches!(error, FlattenError::TooLarge { what: "entries", .. }), "{error:?}");
}

#[test]
fn a_compressed_bomb_ends_at_its_limit() {
    use crate::oci::digest::Digest;
    use crate::oci::layer::{LayerError, StoredLayer, with_layer};
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("layer");
    let mut out = flate2::write::GzEncoder::new(std::fs::File::create(&file).unwrap(), flate2::Compression::best());
    for _ in 0..64 {
        out.write_all(&[0u8; 1 << 20]).unwrap();
    }
    out.finish().unwrap();
    let length = std::fs::metadata(&file).unwrap().len();
    let layer = StoredLayer { file, offset: 0, length, diff_id: Digest::of_sha256(&[0; 32]) };
    let read = with_layer(&layer, 1 << 20, |bytes| {
        std::io::copy(bytes, &mut std::io::sink()).map_err(|source| LayerError::Drain { source })
    });
    let text = format!("{:?}", read.unwrap_err());
    assert!(text.contains("more than 1048576 bytes"), "{text}");
}
