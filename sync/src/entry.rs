//! One thing in the tree: what it is, what it contains, when it was written, why it is part of the overlay.

use crate::path::TreePath;

/// What git can track and we carry. Directories exist only through what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file, mode 0644.
    File,
    /// A regular file, mode 0755.
    Executable,
    /// A symbolic link; its content is the target.
    Symlink,
}

/// Why an entry is part of the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Tracked, and the stat data say it is what the index has.
    Tracked,
    /// Tracked, and it may differ from what the index has.
    Modified,
    /// In the index, not in `HEAD`'s tree (added, or intended to be).
    Added,
    /// Not tracked, not ignored, and asked for.
    Untracked,
}

/// A modification time, exact to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mtime {
    /// Seconds since the epoch; may be negative.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// What identifies an entry's content; equal contents are interchangeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Content {
    /// Kind, as a change of mode is a change.
    pub kind: EntryKind,
    /// blake3 of the bytes, or of the link's target.
    pub digest: blake3::Hash,
}

/// One entry of a [`crate::manifest::Manifest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: TreePath,
    /// What.
    pub kind: EntryKind,
    /// Length in bytes of the content or of the link's target.
    pub size: u64,
    /// blake3 of the content or of the link's target.
    pub digest: blake3::Hash,
    /// Why it is here. Not sent, not part of the digest.
    pub reason: Reason,
    /// When it was written. Sent, not part of the digest.
    pub mtime: Mtime,
}

impl Entry {
    /// Its comparable part.
    pub fn content(&self) -> Content {
        Content { kind: self.kind, digest: self.digest }
    }
}
