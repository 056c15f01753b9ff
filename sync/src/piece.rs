//! One thing of the owner on its way below a guest's home: a file, a directory or a link, with its permissions. Pure.
//!
//! An [`crate::entry::Entry`] is what git can track; a piece is what a home directory has, so it knows directories and all
//! nine permission bits. Both sides check the same limits: the host to say it early, the guest because it believes nothing.

use banger_proto::guest::v1::{DeliverEntry, DeliverKind};

use crate::entry::{Content, EntryKind};
use crate::path::TreePath;
use crate::wire::{LINK_LIMIT, parse_digest};

/// Most pieces of one delivery.
pub const PIECES_LIMIT: usize = 10_000;
/// Most bytes of one delivery.
pub const BYTES_LIMIT: u64 = 64 << 20;
/// The receiver's memory, below the guest's home.
pub const MEMORY: &[u8] = b".banger";
/// A file on its way, beside the name it will get.
pub const INCOMING: &[u8] = b".banger-file-incoming";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Below the guest's home.
    pub path: TreePath,
    /// Permission bits; 0 for a link.
    pub mode: u32,
    /// What it is.
    pub what: What,
}

/// What a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File {
        /// Length.
        size: u64,
        /// blake3 of its content.
        digest: blake3::Hash,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        target: Vec<u8>,
    },
}

impl What {
    /// True if `content` is this. Whether a file is executable is not part of it.
    pub fn is(&self, content: Content) -> bool {
        match (self, content.kind) {
            (Self::File { digest, .. }, EntryKind::File | EntryKind::Executable) => *digest == content.digest,
            (Self::Symlink { target }, EntryKind::Symlink) => blake3::hash(target) == content.digest,
            (Self::File { .. } | Self::Symlink { .. } | Self::Directory, _) => false,
        }
    }

    /// Length of the content that has to be sent.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Directory | Self::Symlink { .. } => 0,
        }
    }
}

impl Piece {
    /// Checks a received one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(wire: &DeliverEntry) -> Result<Self, &'static str> {
        let path = TreePath::parse(&wire.path).map_err(|_| "a path is forbidden")?;
        if is_reserved(&path) {
            return Err("a path is the receiver's own");
        }
        if wire.mode > 0o777 {
            return Err("a mode is more than permissions");
        }
        let what = match wire.kind() {
            DeliverKind::Unspecified => return Err("an entry has no kind"),
            DeliverKind::Directory => What::Directory,
            DeliverKind::File if wire.size > BYTES_LIMIT => return Err("a file is too large"),
            DeliverKind::File => {
                What::File { size: wire.size, digest: parse_digest(&wire.digest).ok_or("a digest is none")? }
            }
            DeliverKind::Symlink => {
                let target = &wire.link_target;
                if target.is_empty() || target.contains(&0) || target.len() as u64 > LINK_LIMIT {
                    return Err("the target of a link is none");
                }
                What::Symlink { target: target.clone() }
            }
        };
        Ok(Self { path, mode: wire.mode, what })
    }
}

impl From<&Piece> for DeliverEntry {
    fn from(piece: &Piece) -> Self {
        let mut wire = Self { path: piece.path.as_bytes().to_vec(), mode: piece.mode, ..Self::default() };
        match &piece.what {
            What::File { size, digest } => {
                wire.set_kind(DeliverKind::File);
                wire.size = *size;
                wire.digest = digest.as_bytes().to_vec();
            }
            What::Directory => wire.set_kind(DeliverKind::Directory),
            What::Symlink { target } => {
                wire.set_kind(DeliverKind::Symlink);
                wire.link_target.clone_from(target);
            }
        }
        wire
    }
}

/// True for what the receiver needs for itself.
pub fn is_reserved(path: &TreePath) -> bool {
    path.components().next() == Some(MEMORY) || path.components().any(|name| name == INCOMING)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file() -> DeliverEntry {
        let mut wire = DeliverEntry { path: b".config/x".to_vec(), mode: 0o600, size: 3, ..DeliverEntry::default() };
        wire.digest = blake3::hash(b"abc").as_bytes().to_vec();
        wire.set_kind(DeliverKind::File);
        wire
    }

    #[test]
    fn a_piece_reads_back() {
        let piece = Piece::parse(&file()).unwrap();
        assert_eq!(Piece::parse(&DeliverEntry::from(&piece)).unwrap(), piece);
        let link = Piece { mode: 0, what: What::Symlink { target: b"../y".to_vec() }, ..piece.clone() };
        assert_eq!(Piece::parse(&DeliverEntry::from(&link)).unwrap(), link);
        let directory = Piece { mode: 0o700, what: What::Directory, ..piece };
        assert_eq!(Piece::parse(&DeliverEntry::from(&directory)).unwrap(), directory);
    }

    #[test]
    fn nothing_strange_is_a_piece() {
        type Change = fn(&mut DeliverEntry);
        let changes: [(&str, Change); 11] = [
            ("leaves", |wire| wire.path = b"../etc/passwd".to_vec()),
            ("absolute", |wire| wire.path = b"/etc/passwd".to_vec()),
            ("empty", |wire| wire.path.clear()),
            ("memory", |wire| wire.path = b".banger/files".to_vec()),
            ("temporary", |wire| wire.path = b"a/.banger-file-incoming".to_vec()),
            ("setuid", |wire| wire.mode = 0o4755),
            ("digest", |wire| wire.digest = vec![1; 31]),
            ("large", |wire| wire.size = BYTES_LIMIT + 1),
            ("kind", |wire| wire.set_kind(DeliverKind::Unspecified)),
            ("target", |wire| wire.set_kind(DeliverKind::Symlink)),
            ("target with NUL", |wire| {
                wire.set_kind(DeliverKind::Symlink);
                wire.link_target = b"a\0b".to_vec();
            }),
        ];
        for (what, change) in changes {
            let mut wire = file();
            change(&mut wire);
            assert!(Piece::parse(&wire).is_err(), "{what}");
        }
    }

    #[test]
    fn being_executable_is_not_content() {
        let what = Piece::parse(&file()).unwrap().what;
        let digest = blake3::hash(b"abc");
        for kind in [EntryKind::File, EntryKind::Executable] {
            assert!(what.is(Content { kind, digest }));
        }
        assert!(!what.is(Content { kind: EntryKind::Symlink, digest }));
        assert!(!What::Directory.is(Content { kind: EntryKind::File, digest }));
    }
}
