//! A tar stream becomes a filesystem; an observer sees every entry on the way.
//!
//! Understands what GNU tar and mmdebstrap write: pax headers, long names, extended attributes, hard links,
//! device nodes. It never writes outside the one filesystem file.

use std::collections::BTreeMap;
use std::io::Read;

use tar::EntryType;

use super::ext4::{Content, Ext4Error, Ext4Writer, Metadata};

/// Small files up to this size are shown to the observer with their content.
const SHOWN: u64 = 64 << 10;
const XATTR_KEY: &str = "SCHILY.xattr.";

/// One entry as the observer sees it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Normalised: no leading `./` or `/`, no trailing `/`.
    pub path: &'a [u8],
    /// Link target, if it is a link.
    pub target: Option<&'a [u8]>,
    /// Content of a small regular file.
    pub content: Option<&'a [u8]>,
    /// Whether any execute bit is set.
    pub executable: bool,
}

/// Why a stream could not be turned into a filesystem.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// Malformed, or the reader failed.
    #[error("cannot read the tar stream")]
    Read {
        /// The cause.
        source: std::io::Error,
    },
    /// A type no root filesystem contains.
    #[error("the tar entry {path:?} has the unsupported type {kind:?}")]
    UnsupportedType {
        /// The entry.
        path: String,
        /// Its type byte.
        kind: EntryType,
    },
    /// The entry cannot be stored.
    #[error("cannot add {path:?} to the filesystem")]
    Store {
        /// The entry.
        path: String,
        /// The cause.
        source: Ext4Error,
    },
}

/// Adds every entry of `stream` to `writer`.
///
/// # Errors
/// See [`TarballError`].
pub fn write_tarball(
    stream: impl Read,
    writer: &mut Ext4Writer,
    observe: &mut dyn FnMut(&Seen<'_>),
) -> Result<(), TarballError> {
    let read = |source| TarballError::Read { source };
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(read)? {
        let mut entry = entry.map_err(read)?;
        let path = normalise(&entry.path_bytes());
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let metadata = metadata(&mut entry).map_err(read)?;
        let kind = entry.header().entry_type();
        let store = |source| TarballError::Store { path: String::from_utf8_lossy(&path).into_owned(), source };
        let unsupported = || TarballError::UnsupportedType { path: String::from_utf8_lossy(&path).into_owned(), kind };
        let executable = metadata.permissions & 0o111 != 0;
        let mut small = Vec::new();
        let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        if is_file && entry.size() <= SHOWN {
            entry.read_to_end(&mut small).map_err(read)?;
        }
        observe(&Seen {
            path: &path,
            target: target.as_deref(),
            content: (is_file && entry.size() <= SHOWN).then_some(&small),
            executable,
        });
        let content = match kind {
            EntryType::Directory => Content::Directory,
            EntryType::Symlink => Content::Symlink(target.as_deref().unwrap_or_default()),
            EntryType::Link => {
                let target = normalise(&target.unwrap_or_default());
                writer.hard_link(&path, &target).map_err(store)?;
                continue;
            }
            EntryType::Char | EntryType::Block => {
                let number = |field: std::io::Result<Option<u32>>| field.map_err(read).map(Option::unwrap_or_default);
                let major = number(entry.header().device_major())?;
                let minor = number(entry.header().device_minor())?;
                if kind == EntryType::Char {
                    Content::Character { major, minor }
                } else {
                    Content::Block { major, minor }
                }
            }
            EntryType::Fifo => Content::Fifo,
            _ if is_file && entry.size() <= SHOWN => {
                writer.add(&path, metadata, Content::File(&mut small.as_slice())).map_err(store)?;
                continue;
            }
            _ if is_file => Content::File(&mut entry),
            EntryType::XGlobalHeader => continue,
            _ => return Err(unsupported()),
        };
        writer.add(&path, metadata, content).map_err(store)?;
    }
    Ok(())
}

fn metadata<R: Read>(entry: &mut tar::Entry<'_, R>) -> std::io::Result<Metadata> {
    let mut xattrs = BTreeMap::new();
    let mut mtime = None;
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Ok(key) = extension.key() else { continue };
            if let Some(name) = key.strip_prefix(XATTR_KEY) {
                xattrs.insert(name.as_bytes().to_vec(), extension.value_bytes().to_vec());
            } else if key == "mtime" {
                mtime = extension.value().ok().and_then(|text| text.split('.').next()?.parse().ok());
            }
        }
    }
    let header = entry.header();
    let number = |value: u64| u32::try_from(value).map_err(|_| std::io::Error::other("an owner beyond 32 bits"));
    Ok(Metadata {
        permissions: u16::try_from(header.mode()? & 0o7777).expect("twelve bits"),
        uid: number(header.uid()?)?,
        gid: number(header.gid()?)?,
        mtime: mtime.unwrap_or_else(|| header.mtime().map_or(0, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX))),
        xattrs,
    })
}

/// `./usr//bin/` → `usr/bin`.
fn normalise(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    names.join(&b'/')
}
