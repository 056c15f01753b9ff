//! /etc/banger/installed.json: everything `system install` created, with what it looked like. What is not in it, or
//! does not look like that any more, is not ours to remove.
//!
//! Written before the first file is: a run that was cut off leaves a list that names too much, never too little.

use std::io;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::host::Host;

/// Where it lies.
pub const FILE: &str = "/etc/banger/installed.json";

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// In the order of creation.
    pub entries: Vec<Entry>,
}

/// Something that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
pub enum Entry {
    /// A directory.
    Directory {
        /// Absolute.
        path: PathBuf,
    },
    /// A file with this content.
    File {
        /// Absolute.
        path: PathBuf,
        /// Of its content, hexadecimal.
        sha256: String,
    },
}

/// How a file compares with what was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// As it was put.
    Intact,
    /// Something else lies there.
    Changed,
    /// Nothing is there.
    Missing,
}

/// The list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not a list of ours.
    #[error("{} is not what `banger system install` writes", path.display())]
    Malformed {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

impl Classified for ManifestError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Read { path, .. } => vec![format!("Check `ls -l {}`.", path.display())],
            Self::Malformed { path, .. } => {
                vec![format!("Look at it with `cat {}`; remove it to install anew.", path.display())]
            }
        }
    }
}

impl Entry {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory { path } | Self::File { path, .. } => path,
        }
    }
}

impl Manifest {
    /// The list of this host; an empty one if there is none.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn load(host: &Host) -> Result<Self, ManifestError> {
        let path = host.at(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| ManifestError::Malformed { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ManifestError::Read { path, source }),
        }
    }

    /// Its text.
    pub fn render(&self) -> String {
        serde_json::to_string_pretty(self).expect("paths come from our own constants") + "\n"
    }

    /// True if this was created by an installation.
    pub fn has(&self, path: &Path) -> bool {
        self.entries.iter().any(|entry| entry.path() == path)
    }

    /// Adds it, or says what it looks like now.
    pub fn note(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|known| known.path() == entry.path()) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
    }
}

/// How the file at `path` compares with the digest.
///
/// # Errors
/// It cannot be read.
pub fn compare(host: &Host, path: &Path, sha256: &str) -> io::Result<Found> {
    compare_with(host, path, |content| digest(content) == sha256)
}

/// How the file at `path` compares with the content it is to have.
///
/// # Errors
/// It cannot be read.
pub fn compare_content(host: &Host, path: &Path, wanted: &[u8]) -> io::Result<Found> {
    compare_with(host, path, |content| content == wanted)
}

fn compare_with(host: &Host, path: &Path, is_it: impl FnOnce(&[u8]) -> bool) -> io::Result<Found> {
    let path = host.at(path);
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(if is_it(&std::fs::read(&path)?) { Found::Intact } else { Found::Changed }),
        Ok(_) => Ok(Found::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) => Err(error),
    }
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let host = Host::below(scratch.path());
        assert_eq!(Manifest::load(&host).unwrap(), Manifest::default());
        let mut manifest = Manifest::default();
        manifest.note(Entry::Directory { path: "/etc/banger".into() });
        manifest.note(Entry::File { path: "/x".into(), sha256: digest(b"one") });
        manifest.note(Entry::File { path: "/x".into(), sha256: digest(b"two") });
        assert_eq!(manifest.entries.len(), 2);
        std::fs::create_dir_all(host.at("/etc/banger")).unwrap();
        std::fs::write(host.at(FILE), manifest.render()).unwrap();
        assert_eq!(Manifest::load(&host).unwrap(), manifest);
        std::fs::write(host.at("/x"), "two").unwrap();
        assert_eq!(compare(&host, Path::new("/x"), &digest(b"two")).unwrap(), Found::Intact);
        assert_eq!(compare(&host, Path::new("/x"), &digest(b"one")).unwrap(), Found::Changed);
        assert_eq!(compare(&host, Path::new("/etc"), &digest(b"one")).unwrap(), Found::Changed);
        assert_eq!(compare(&host, Path::new("/y"), "").unwrap(), Found::Missing);
        std::fs::write(host.at(FILE), "{}").unwrap();
        assert!(Manifest::load(&host).is_err());
    }
}
