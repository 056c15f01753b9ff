//! Looking at what has been added so far: nothing here changes the tree or touches the file.

use super::inode::Body;
use super::{Ext4Writer, ROOT};

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// The same for every name of one file.
        inode: u32,
        /// Whether any execute bit is set.
        executable: bool,
        /// It has no content.
        empty: bool,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A device or a pipe.
    Special,
}

impl Ext4Writer {
    /// What lies at `names`, links not followed.
    pub fn look(&self, names: &[&[u8]]) -> Option<Found> {
        let number = names.iter().try_fold(ROOT, |at, name| self.children.get(&at)?.get(*name).copied())?;
        let inode = self.inodes.get(&number)?;
        Some(match &inode.body {
            Body::Directory(_) => Found::Directory,
            Body::File { size, .. } => {
                Found::File { inode: number, executable: inode.metadata.permissions & 0o111 != 0, empty: *size == 0 }
            }
            Body::Symlink { target, .. } => Found::Symlink(target.clone()),
            Body::Character { .. } | Body::Block { .. } | Body::Fifo => Found::Special,
        })
    }

    /// The names in a directory; none if there is no directory.
    pub fn names_in(&self, names: &[&[u8]]) -> Vec<Vec<u8>> {
        let number = names.iter().try_fold(ROOT, |at, name| self.children.get(&at)?.get(*name).copied());
        number
            .and_then(|number| self.children.get(&number))
            .map(|all| all.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Blocks handed out so far, in bytes: what the content takes, including what was removed again.
    pub fn allocated_bytes(&self) -> u64 {
        u64::from(self.next_block) * super::BLOCK
    }

    /// Inodes handed out so far, those of removed entries included.
    pub fn entries(&self) -> u64 {
        u64::from(self.next_inode)
    }
}
