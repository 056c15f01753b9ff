//! An archive as `docker save` and `skopeo copy … docker-archive:` write it: one tar file.
//!
//! Layers are read where they lie in the file; nothing is unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use futures::StreamExt as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Incoming;
use super::digest::Digest;
use super::layer::StoredLayer;
use super::manifest::{self, MOST_BYTES, Platform};
use super::registry::PullError;
use crate::artifact::tarball::{self, MemberKind, TarballError};

const MOST_MEMBERS: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

enum Place {
    Bytes { offset: u64, length: u64 },
    SameAs(String),
}

/// Opens the archive `file`; `described` is what it is called in messages and in the store.
///
/// # Errors
/// If it is none, or has no such image.
pub fn open(file: &Path, tag: Option<&str>, platform: &Platform, described: &str) -> Result<Incoming, PullError> {
    let unusable = |source| PullError::Manifest { reference: described.to_owned(), source };
    let members = index(file)?;
    let list: Vec<Entry> = serde_json::from_slice(&small(file, &members, "manifest.json")?)
        .map_err(|source| unusable(manifest::ManifestError::Malformed { what: "manifest.json", source }))?;
    let wanted = |entry: &&Entry| {
        tag.is_none_or(|tag| {
            entry.repo_tags.iter().flatten().any(|name| name == tag || name.ends_with(&format!(":{tag}")))
        })
    };
    let entry = list.iter().find(wanted).ok_or_else(|| PullError::NoImage {
        reason: format!("the archive has no image {:?}", tag.unwrap_or_default()),
    })?;
    let bytes = small(file, &members, &entry.config)?;
    let digest = Digest::of_sha256(&Sha256::digest(&bytes));
    let configuration = manifest::parse_configuration(&bytes, entry.layers.len(), platform).map_err(unusable)?;
    let mut stored = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(&configuration.diff_ids) {
        let (offset, length) = find(&members, name)?;
        stored.push(Ok(StoredLayer { file: file.to_owned(), offset, length, diff_id: diff_id.clone() }));
    }
    Ok(Incoming {
        source: format!("{described}@{digest}"),
        digest,
        configuration,
        layers: futures::stream::iter(stored).boxed(),
    })
}

fn index(file: &Path) -> Result<HashMap<String, Place>, PullError> {
    let mut members = HashMap::new();
    let opened = File::open(file).map_err(|source| PullError::Files { what: "the archive".to_owned(), source })?;
    tarball::each_member(opened, &mut |member, _| {
        let name = String::from_utf8_lossy(&member.path).into_owned();
        if members.len() >= MOST_MEMBERS {
            return Err(TarballError::Read { source: std::io::Error::other("the archive has too many members") });
        }
        match member.kind {
            MemberKind::File => {
                members.insert(name, Place::Bytes { offset: member.position, length: member.size });
            }
            // A layer that occurs twice is a link to the first: `../<id>/layer.tar`.
            MemberKind::Symlink(target) => {
                let target = String::from_utf8_lossy(&target).into_owned();
                members.insert(name, Place::SameAs(target.trim_start_matches("../").to_owned()));
            }
            MemberKind::HardLink(target) => {
                members.insert(name, Place::SameAs(String::from_utf8_lossy(&target).into_owned()));
            }
            _ => {}
        }
        Ok(())
    })
    .map_err(|error: TarballError| PullError::Files {
        what: "the archive".to_owned(),
        source: std::io::Error::other(error),
    })?;
    Ok(members)
}

fn find(members: &HashMap<String, Place>, name: &str) -> Result<(u64, u64), PullError> {
    let missing = || PullError::NoImage { reason: format!("the archive lacks {name:?}") };
    match members.get(name).ok_or_else(missing)? {
        Place::Bytes { offset, length } => Ok((*offset, *length)),
        Place::SameAs(target) => match members.get(target) {
            Some(Place::Bytes { offset, length }) => Ok((*offset, *length)),
            _ => Err(missing()),
        },
    }
}

fn small(file: &Path, members: &HashMap<String, Place>, name: &str) -> Result<Vec<u8>, PullError> {
    let (offset, length) = find(members, name)?;
    if length > MOST_BYTES {
        return Err(PullError::NoImage { reason: format!("{name:?} has more than {MOST_BYTES} bytes") });
    }
    let on = |source| PullError::Files { what: name.to_owned(), source };
    let mut opened = File::open(file).map_err(on)?;
    opened.seek(SeekFrom::Start(offset)).map_err(on)?;
    let mut bytes = Vec::new();
    opened.take(length).read_to_end(&mut bytes).map_err(on)?;
    Ok(bytes)
}
