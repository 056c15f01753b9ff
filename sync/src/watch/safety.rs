//! When to stop rather than follow: what looks like a command to delete everything is not taken for one.
//!
//! Pure. A halted session changes nothing in the guest until its owner says how to go on.

use std::fmt;

/// Fewer entries than this may all go at once.
const NON_TRIVIAL: usize = 3;

/// Which directory the root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootIdentity {
    /// Of the file system.
    pub device: u64,
    /// Of the directory.
    pub inode: u64,
}

/// Why a session stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The root is not there any more.
    RootVanished,
    /// Another directory is in its place.
    RootReplaced,
    /// Another file system is in its place.
    FileSystemChanged,
    /// Every file went at once.
    RootEmptied {
        /// How many there were.
        files: usize,
    },
    /// The root is no repository any more, or one that cannot be carried.
    NoRepository {
        /// In words.
        why: String,
    },
    /// No room in the guest.
    GuestDiskFull,
    /// The guest does not let us.
    GuestRefuses {
        /// In words.
        why: String,
    },
}

impl Halt {
    /// True for what another start of the guest may have ended: a file system that was read-only while it shut down, a
    /// disk that was full.
    pub fn is_of_the_guest(&self) -> bool {
        matches!(self, Self::GuestDiskFull | Self::GuestRefuses { .. })
    }

    /// What to do about it.
    pub fn way_on(&self) -> &'static str {
        match self {
            Self::RootVanished | Self::RootReplaced | Self::FileSystemChanged => {
                "put the directory back and resume, or stop the session"
            }
            Self::RootEmptied { .. } => {
                "put the files back and resume; or resume to have them deleted in the guest as well"
            }
            Self::NoRepository { .. } => "make it a repository again and resume, or stop the session",
            Self::GuestDiskFull => "make room in the guest and resume",
            Self::GuestRefuses { .. } => "remove the cause in the guest and resume",
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootVanished => f.write_str("the directory is gone"),
            Self::RootReplaced => f.write_str("another directory is in the place of the one that is followed"),
            Self::FileSystemChanged => f.write_str("the directory is on another file system than before"),
            Self::RootEmptied { files } => write!(f, "all {files} files went at once"),
            Self::NoRepository { why } | Self::GuestRefuses { why } => f.write_str(why),
            Self::GuestDiskFull => f.write_str("the guest's disk is full"),
        }
    }
}

/// Compares the root with the one the session began with.
pub fn check_root(before: RootIdentity, now: Option<RootIdentity>) -> Result<(), Halt> {
    match now {
        None => Err(Halt::RootVanished),
        Some(now) if now.device != before.device => Err(Halt::FileSystemChanged),
        Some(now) if now.inode != before.inode => Err(Halt::RootReplaced),
        Some(_) => Ok(()),
    }
}

/// Compares how many entries there were and will be.
pub fn check_emptied(before: usize, after: usize) -> Result<(), Halt> {
    if after == 0 && before >= NON_TRIVIAL { Err(Halt::RootEmptied { files: before }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_root_is_followed() {
        let root = RootIdentity { device: 1, inode: 2 };
        assert_eq!(check_root(root, Some(root)), Ok(()));
        assert_eq!(check_root(root, None), Err(Halt::RootVanished));
        assert_eq!(check_root(root, Some(RootIdentity { device: 1, inode: 3 })), Err(Halt::RootReplaced));
        assert_eq!(check_root(root, Some(RootIdentity { device: 9, inode: 2 })), Err(Halt::FileSystemChanged));
    }

    #[test]
    fn a_tree_does_not_empty_itself_unasked() {
        assert_eq!(check_emptied(0, 0), Ok(()));
        assert_eq!(check_emptied(2, 0), Ok(()));
        assert_eq!(check_emptied(500, 1), Ok(()));
        assert_eq!(check_emptied(3, 0), Err(Halt::RootEmptied { files: 3 }));
    }
}
