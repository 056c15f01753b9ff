//! What the tests of this module share: layers written by hand, and their flattened filesystem.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::artifact::ext4::read_back::{Node, read_tree};
use crate::artifact::ext4::{Ext4Writer, Journal, Shape};
use crate::oci::digest::Digest;
use crate::oci::flatten::{FlattenError, Flattener, Limits};

pub const SHAPE: Shape =
    Shape { uuid: [7; 16], label: "test", minimum_bytes: 64 << 20, spare_bytes: 16 << 20, journal: Journal::Internal };

/// A tar stream, entry by entry.
#[derive(Default)]
pub struct Layer {
    tar: Option<tar::Builder<Vec<u8>>>,
}

/// What the entries of these layers have in common.
pub fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

impl Layer {
    pub fn new() -> Self {
        Self { tar: Some(tar::Builder::new(Vec::new())) }
    }

    pub fn tar(&mut self) -> &mut tar::Builder<Vec<u8>> {
        self.tar.as_mut().unwrap()
    }

    pub fn file(mut self, path: &str, content: &str) -> Self {
        let mut header = header(tar::EntryType::Regular, 0o644, content.len() as u64);
        self.raw(&mut header, path, content.as_bytes());
        self
    }

    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.raw(&mut header(tar::EntryType::Directory, mode, 0), path, b"");
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        self.tar().append_link(&mut header, path, target).unwrap();
        self
    }

    pub fn hard_link(mut self, path: &str, target: &str) -> Self {
        let mut header = header(tar::EntryType::Link, 0o644, 0);
        self.tar().append_link(&mut header, path, target).unwrap();
        self
    }

    /// Paths that the library refuses to write are put into the header as they are.
    pub fn raw(&mut self, header: &mut tar::Header, path: &str, content: &[u8]) {
        if header.set_path(path).is_ok() {
            header.set_cksum();
            self.tar().append(header, content).unwrap();
        } else if path.len() <= 100 {
            let name = &mut header.as_old_mut().name;
            name.fill(0);
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            self.tar().append(header, content).unwrap();
        } else {
            self.tar().append_data(header, path, content).unwrap();
        }
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.tar.take().unwrap().into_inner().unwrap()
    }
}

pub struct Made {
    _directory: tempfile::TempDir,
    pub path: PathBuf,
}

impl Made {
    pub fn tree(&self) -> BTreeMap<Vec<u8>, Node> {
        read_tree(&self.path)
    }

    pub fn paths(&self) -> Vec<String> {
        self.tree().into_keys().skip(1).map(|path| String::from_utf8(path).unwrap()).collect()
    }

    pub fn text(&self, path: &str) -> String {
        match &self.tree()[path.as_bytes()].content {
            crate::artifact::ext4::read_back::Content::File(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        if let Some((clean, text)) = tool("e2fsck", &["-fn", self.path.to_str().unwrap()]) {
            assert!(clean, "{text}");
        }
    }
}

/// Flattens layers in order.
pub fn flatten<R: Read>(layers: impl IntoIterator<Item = R>, limits: Limits) -> Result<Made, FlattenError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fs.ext4");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut writer = Ext4Writer::new(file, SHAPE.clone());
    let mut flattener = Flattener::new(&mut writer, limits);
    for layer in layers {
        flattener.apply(layer)?;
    }
    writer.finish().unwrap();
    Ok(Made { _directory: directory, path })
}

/// Flattens layers that must be fine.
#[track_caller]
pub fn flat(layers: Vec<Layer>) -> Made {
    let bytes: Vec<Vec<u8>> = layers.into_iter().map(Layer::bytes).collect();
    let made = flatten(bytes.iter().map(Vec::as_slice), Limits::default()).unwrap();
    made.assert_clean();
    made
}

/// Flattens layers that must be refused.
#[track_caller]
pub fn refused(layers: Vec<Layer>) -> FlattenError {
    let bytes: Vec<Vec<u8>> = layers.into_iter().map(Layer::bytes).collect();
    match flatten(bytes.iter().map(Vec::as_slice), Limits::default()) {
        Ok(made) => panic!("accepted: {:?}", made.paths()),
        Err(error) => error,
    }
}

/// Runs a program; none (and a word about it) if it is not installed.
#[allow(clippy::print_stderr)]
pub fn tool(name: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let search = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    match Command::new(name).args(arguments).env("PATH", search).output() {
        Ok(output) => {
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            Some((output.status.success(), text))
        }
        Err(error) => {
            eprintln!("skipped: cannot run {name}: {error}");
            None
        }
    }
}

/// Numerical Recipes' generator; the high bits are random enough to shape a tree.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// How layers are stored.
#[derive(Debug, Clone, Copy)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of_sha256(&Sha256::digest(bytes))
}

/// Writes an image of these layers as an OCI layout with the tag `test`.
pub fn write_layout(directory: &Path, layers: &[Vec<u8>], compression: Compression) -> Digest {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let store = |bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let mut descriptors = Vec::new();
    for layer in layers {
        let (stored, kind) = match compression {
            Compression::None => (layer.clone(), "tar"),
            Compression::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(layer).unwrap();
                (out.finish().unwrap(), "tar+gzip")
            }
            Compression::Zstd => (zstd::encode_all(layer.as_slice(), 1).unwrap(), "tar+zstd"),
        };
        let (digest, size) = store(&stored);
        let media_type = format!("application/vnd.oci.image.layer.v1.{kind}");
        descriptors.push(json!({ "mediaType": media_type, "digest": digest, "size": size }));
    }
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer).to_string()).collect();
    let configuration = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Env": ["PATH=/bin", "GREETING=hello"], "WorkingDir": "/srv", "User": "1000:1000" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let (config, size) = store(configuration.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size },
        "layers": descriptors,
    });
    let bytes = manifest.to_string();
    let (manifest, size) = store(bytes.as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size,
        "annotations": { "org.opencontainers.image.ref.name": "test" },
    }] });
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    std::fs::write(directory.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string()).unwrap();
    digest(bytes.as_bytes())
}
