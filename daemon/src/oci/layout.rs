//! An OCI image layout: a directory with `index.json` and blobs under their digests.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::Incoming;
use super::digest::Digest;
use super::layer::StoredLayer;
use super::manifest::{self, Document, MOST_BYTES, Platform};
use super::registry::PullError;

/// Opens the layout in `directory`; `described` is what it is called in messages and in the store.
///
/// # Errors
/// If it is none, or has no such image.
pub fn open(directory: &Path, tag: Option<&str>, platform: &Platform, described: &str) -> Result<Incoming, PullError> {
    let unusable = |source| PullError::Manifest { reference: described.to_owned(), source };
    let index = read(&directory.join("index.json"), "index.json")?;
    let mut digest = manifest::parse_layout_index(&index, tag, platform).map_err(unusable)?;
    let mut document = manifest::parse_document(&blob(directory, &digest)?, platform).map_err(unusable)?;
    if let Document::Index(inner) = document {
        document = manifest::parse_document(&blob(directory, &inner)?, platform).map_err(unusable)?;
        digest = inner;
    }
    let Document::Image { configuration, layers } = document else {
        return Err(PullError::NoImage { reason: "its index contains another index".to_owned() });
    };
    let bytes = blob(directory, &configuration.digest)?;
    let configuration = manifest::parse_configuration(&bytes, layers.len(), platform).map_err(unusable)?;
    let mut stored = Vec::new();
    for (layer, diff_id) in layers.iter().zip(&configuration.diff_ids) {
        let file = path(directory, &layer.digest);
        let found = std::fs::metadata(&file).map_err(files(&layer.digest.to_string()))?.len();
        if found != layer.size {
            return Err(PullError::Length { digest: layer.digest.clone(), wanted: layer.size, found });
        }
        stored.push(Ok(StoredLayer { file, offset: 0, length: layer.size, diff_id: diff_id.clone() }));
    }
    Ok(Incoming {
        source: format!("{described}@{digest}"),
        digest,
        configuration,
        layers: futures::stream::iter(stored).boxed(),
    })
}

fn path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

/// A small blob, compared with its digest.
fn blob(directory: &Path, wanted: &Digest) -> Result<Vec<u8>, PullError> {
    let bytes = read(&path(directory, wanted), &wanted.to_string())?;
    let found = Digest::of_sha256(&Sha256::digest(&bytes));
    if found == *wanted { Ok(bytes) } else { Err(PullError::Digest { what: "blob", wanted: wanted.clone(), found }) }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, PullError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(files(what))?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(files(what))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(PullError::NoImage { reason: format!("{what} has more than {MOST_BYTES} bytes") });
    }
    Ok(bytes)
}

fn files(what: &str) -> impl FnOnce(std::io::Error) -> PullError + use<> {
    let what = what.to_owned();
    move |source| PullError::Files { what, source }
}
