//! Why files of the owner's home cannot be taken along. Never says what is in them.

use std::io;
use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};

use super::{BYTES_LIMIT, DEPTH_LIMIT, PIECES_LIMIT};
use crate::path::TreePath;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The home itself.
    #[error("cannot open the home directory {}", path.display())]
    Home {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A link on the way leads out.
    #[error("[[file_sync]] entry {entry}: {shown} leads out of your home directory")]
    Leaves {
        /// Counted from 1.
        entry: usize,
        /// As configured.
        shown: String,
    },
    /// It is there and cannot be read.
    #[error("[[file_sync]] entry {entry}: cannot {action} {shown}")]
    Io {
        /// Counted from 1.
        entry: usize,
        /// What was tried.
        action: &'static str,
        /// Which file.
        shown: String,
        /// Why not.
        source: io::Error,
    },
    /// More than can be carried.
    #[error("[[file_sync]] entry {entry}: {shown} makes it more than {} MiB in all", BYTES_LIMIT >> 20)]
    TooLarge {
        /// Counted from 1.
        entry: usize,
        /// The file that was too much.
        shown: String,
    },
    /// The same, counted.
    #[error("[[file_sync]] entry {entry}: {shown} makes it more than {PIECES_LIMIT} files and directories in all")]
    TooMany {
        /// Counted from 1.
        entry: usize,
        /// Where it was too much.
        shown: String,
    },
    /// The same, downwards.
    #[error("[[file_sync]] entry {entry}: {shown} is more than {DEPTH_LIMIT} directories deep")]
    TooDeep {
        /// Counted from 1.
        entry: usize,
        /// Where it was too much.
        shown: String,
    },
    /// Two sources, one place.
    #[error("[[file_sync]] entry {entry}: /root/{path} is the place of another entry's file already")]
    Twice {
        /// Counted from 1.
        entry: usize,
        /// In the guest.
        path: TreePath,
    },
}

impl Classified for FilesError {
    fn kind(&self) -> Kind {
        match self {
            Self::Home { .. } | Self::Io { .. } => Kind::HostNotReady,
            // What is configured means something else than a file of the home.
            Self::Leaves { .. } | Self::Twice { .. } => Kind::Usage,
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::TooDeep { .. } => Kind::Refused,
        }
    }

    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::Home { .. } => "Set `HOME` to your home directory.".into(),
            Self::Leaves { shown, .. } => {
                format!("See the links on the way with `namei {shown}`: they must be relative and stay in your home.")
            }
            Self::Io { shown, .. } => {
                format!("Look at it with `ls -ld {shown}`, or remove the entry from ~/.config/banger/config.toml.")
            }
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::TooDeep { .. } => {
                "Name what is needed of it in ~/.config/banger/config.toml instead of the whole directory.".into()
            }
            Self::Twice { .. } => "Give each entry a `guest` of its own in ~/.config/banger/config.toml.".into(),
        }]
    }
}
