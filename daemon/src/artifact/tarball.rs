//! Reads tar streams member by member, whoever wrote them, and turns one into a filesystem.
//!
//! Understands what GNU tar, Go and mmdebstrap write: pax headers, long names, extended attributes, hard
//! links, device nodes, sparse files of every GNU form. What describes a member is bounded ([`budget`]), so
//! that a stream cannot fill the memory. It never writes outside the one filesystem file.

mod budget;
mod sparse;

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::EntryType;

use super::ext4::{Content, Ext4Error, Ext4Writer, Metadata};
use budget::Budget;

/// Small files up to this size are shown to the observer with their content.
pub(crate) const SHOWN: u64 = 64 << 10;
/// Longest path Linux can be asked for.
const LONGEST_PATH: usize = 4096;
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

/// One member of a stream; its content, if it is a file, comes beside it.
#[derive(Debug)]
pub struct Member {
    /// As written, but without `.`, empty names and slashes at the ends.
    pub path: Vec<u8>,
    /// It was written with a slash in front.
    pub absolute: bool,
    /// What it is.
    pub kind: MemberKind,
    /// Owner, permissions and attributes.
    pub metadata: Metadata,
    /// Bytes of content.
    pub size: u64,
    /// Where the content begins in the stream.
    pub position: u64,
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of the file at this path, normalised as [`Member::path`] is.
    HardLink(Vec<u8>),
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Why a stream could not be turned into a filesystem.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// Malformed, or the reader failed.
    #[error("cannot read the tar stream")]
    Read {
        /// The cause.
        source: io::Error,
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

/// Calls `visit` for every member; what it leaves of the content is skipped.
///
/// # Errors
/// [`TarballError::Read`], [`TarballError::UnsupportedType`], or what `visit` returned.
pub fn each_member<E: From<TarballError>>(
    stream: impl Read,
    visit: &mut dyn FnMut(Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let read = |source| E::from(TarballError::Read { source });
    let (budget, stream) = Budget::over(stream);
    let mut archive = tar::Archive::new(stream);
    let mut entries = archive.entries().map_err(read)?;
    loop {
        budget.headers();
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.map_err(read)?;
        budget.content();
        if entry.header().entry_type() != EntryType::XGlobalHeader {
            let extensions = Extensions::read(&mut entry).map_err(read)?;
            let member = member(&entry, extensions.metadata, extensions.sparse.as_ref())?;
            match extensions.sparse {
                Some(map) if member.kind == MemberKind::File => {
                    let mut content = map.reader(&mut entry).map_err(read)?;
                    visit(Member { size: content.size(), ..member }, &mut content)?;
                }
                _ => visit(member, &mut entry)?,
            }
        }
        // Skipping is not part of reading the next member's description.
        io::copy(&mut entry, &mut io::sink()).map_err(read)?;
    }
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
    each_member(stream, &mut |member, content| {
        let mut small = Vec::new();
        let shown = member.kind == MemberKind::File && member.size <= SHOWN;
        if shown {
            content.read_to_end(&mut small).map_err(|source| TarballError::Read { source })?;
        }
        observe(&Seen {
            path: &member.path,
            target: match &member.kind {
                MemberKind::Symlink(target) | MemberKind::HardLink(target) => Some(target),
                _ => None,
            },
            content: shown.then_some(&small),
            executable: member.metadata.permissions & 0o111 != 0,
        });
        let path = member.path.clone();
        let outcome = if shown { add(writer, member, &mut small.as_slice()) } else { add(writer, member, content) };
        outcome.map_err(|source| TarballError::Store { path: String::from_utf8_lossy(&path).into_owned(), source })
    })
}

/// Adds one member as it is.
pub(crate) fn add(writer: &mut Ext4Writer, member: Member, content: &mut dyn Read) -> Result<(), Ext4Error> {
    let Member { path, kind, metadata, .. } = member;
    let content = match &kind {
        MemberKind::Directory => Content::Directory,
        MemberKind::File => Content::File(content),
        MemberKind::Symlink(target) => Content::Symlink(target),
        MemberKind::HardLink(target) => return writer.hard_link(&path, target),
        MemberKind::Character(major, minor) => Content::Character { major: *major, minor: *minor },
        MemberKind::Block(major, minor) => Content::Block { major: *major, minor: *minor },
        MemberKind::Fifo => Content::Fifo,
    };
    writer.add(&path, metadata, content)
}

fn member<R: Read>(
    entry: &tar::Entry<'_, R>,
    metadata: Metadata,
    sparse: Option<&sparse::Map>,
) -> Result<Member, TarballError> {
    let read = |source| TarballError::Read { source };
    let kind = entry.header().entry_type();
    let written = sparse.and_then(sparse::Map::name).map_or_else(|| entry.path_bytes().into_owned(), <[u8]>::to_vec);
    let target = || entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    if written.len() > LONGEST_PATH {
        return Err(read(io::Error::other("a path has more than 4096 bytes")));
    }
    let number = |field: io::Result<Option<u32>>| field.map_err(read).map(Option::unwrap_or_default);
    let kind = match kind {
        // Before POSIX a directory was a file whose name ends in a slash.
        EntryType::Regular if written.ends_with(b"/") && entry.size() == 0 => MemberKind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => MemberKind::File,
        EntryType::Directory => MemberKind::Directory,
        EntryType::Symlink => MemberKind::Symlink(target()),
        EntryType::Link => MemberKind::HardLink(normalise(&target())),
        EntryType::Fifo => MemberKind::Fifo,
        EntryType::Char | EntryType::Block => {
            let major = number(entry.header().device_major())?;
            let minor = number(entry.header().device_minor())?;
            if kind == EntryType::Char { MemberKind::Character(major, minor) } else { MemberKind::Block(major, minor) }
        }
        kind => {
            return Err(TarballError::UnsupportedType { path: String::from_utf8_lossy(&written).into_owned(), kind });
        }
    };
    Ok(Member {
        path: normalise(&written),
        absolute: written.starts_with(b"/"),
        kind,
        metadata,
        size: entry.size(),
        position: entry.raw_file_position(),
    })
}

/// What a member's header and its pax records say.
struct Extensions {
    metadata: Metadata,
    sparse: Option<sparse::Map>,
}

impl Extensions {
    fn read<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Self> {
        let mut xattrs = BTreeMap::new();
        let mut mtime = None;
        let mut sparse = sparse::Records::default();
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                let Ok(key) = extension.key() else { continue };
                if let Some(name) = key.strip_prefix(XATTR_KEY) {
                    xattrs.insert(name.as_bytes().to_vec(), extension.value_bytes().to_vec());
                } else if key == "mtime" {
                    mtime = extension.value().ok().and_then(|text| text.split('.').next()?.parse().ok());
                } else {
                    sparse.take(key, extension.value_bytes());
                }
            }
        }
        let header = entry.header();
        let number = |value: u64| u32::try_from(value).map_err(|_| io::Error::other("an owner beyond 32 bits"));
        let seconds = || header.mtime().map_or(0, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let metadata = Metadata {
            permissions: u16::try_from(header.mode()? & 0o7777).expect("twelve bits"),
            uid: number(header.uid()?)?,
            gid: number(header.gid()?)?,
            mtime: mtime.unwrap_or_else(seconds),
            xattrs,
        };
        Ok(Self { metadata, sparse: sparse.conclude()? })
    }
}

/// `./usr//bin/` → `usr/bin`.
fn normalise(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    names.join(&b'/')
}
