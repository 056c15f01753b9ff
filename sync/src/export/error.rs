//! Why the guest's work did not come back.

use std::io;
use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};

use crate::overlay::OverlayError;
use crate::path::TreePath;
use crate::prepare::PrepareError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The guest, or the way to it.
    #[error("cannot get the work out of the guest")]
    Transfer {
        /// Why not.
        source: Box<PrepareError>,
    },
    /// It cannot be kept here.
    #[error("cannot keep what the guest sends")]
    Keep {
        /// Why not.
        source: io::Error,
    },
    /// Far too much.
    #[error("the guest sends more than {} GiB", limit >> 30)]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The guest worked on meanwhile.
    #[error("files in the guest changed while they were exported")]
    Moved,
    /// The host's side cannot be read.
    #[error("cannot look at the repository {}", repository.display())]
    Host {
        /// Which.
        repository: PathBuf,
        /// Why not.
        source: Box<OverlayError>,
    },
    /// Somebody's work could get lost.
    #[error("the working tree {} is not clean: {what}", root.display())]
    NotClean {
        /// Its root.
        root: PathBuf,
        /// What is not.
        what: String,
    },
    /// Not what the guest started from.
    #[error("{path} is not what the guest's copy started from")]
    Moving {
        /// Which.
        path: TreePath,
    },
    /// A change that cannot be made.
    #[error("cannot {action} {path}")]
    Write {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: TreePath,
        /// Why not.
        source: io::Error,
    },
    /// A failure, and what was done before could not be taken back.
    #[error("the changes could neither be put in place nor all be taken back: {}", left.join("; "))]
    HalfWritten {
        /// What is not as it was, and why.
        left: Vec<String>,
        /// Why it failed at first.
        source: Box<Self>,
    },
    /// Everything is in place, and something else as well.
    #[error("every change is in place, but old versions could not be removed: {}", left.join("; "))]
    Leftovers {
        /// Which, and why.
        left: Vec<String>,
    },
    /// Not what was announced.
    #[error("the content of {path} does not match its digest")]
    Content {
        /// Which.
        path: TreePath,
    },
    /// There are no commits to make a branch of.
    #[error("the guest has no commits of its own")]
    NoCommits,
    /// The name cannot be a branch's.
    #[error("{name:?} is not a valid branch name")]
    InvalidBranch {
        /// As given.
        name: String,
    },
    /// The branch has commits the guest's does not.
    #[error("the branch {name} exists and the guest's commits do not continue it")]
    NotForward {
        /// Its short name.
        name: String,
    },
    /// A working tree is on it.
    #[error("the branch {name} is checked out")]
    CheckedOut {
        /// Its short name.
        name: String,
    },
    /// Objects that are damaged, incomplete or meant to do harm.
    #[error("the guest's objects are refused: {problem}")]
    Objects {
        /// What is wrong with which.
        problem: String,
    },
    /// The library.
    #[error("cannot {action} of {}", repository.display())]
    Git {
        /// What was tried.
        action: &'static str,
        /// Where.
        repository: PathBuf,
        /// Why not.
        source: gix::Error,
    },
}

impl From<PrepareError> for ExportError {
    fn from(source: PrepareError) -> Self {
        Self::Transfer { source: Box::new(source) }
    }
}

impl Classified for ExportError {
    fn kind(&self) -> Kind {
        match self {
            Self::Transfer { source } => source.kind(),
            Self::Host { source, .. } => source.kind(),
            Self::Keep { .. } => Kind::HostNotReady,
            Self::Moved
            | Self::Write { .. }
            | Self::HalfWritten { .. }
            | Self::Leftovers { .. }
            | Self::Content { .. }
            | Self::Git { .. } => Kind::Failed,
            Self::NotClean { .. } | Self::Moving { .. } | Self::NotForward { .. } | Self::CheckedOut { .. } => {
                Kind::Conflict
            }
            Self::NoCommits => Kind::NotFound,
            Self::InvalidBranch { .. } => Kind::Usage,
            Self::TooLarge { .. } | Self::Objects { .. } => Kind::Refused,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Transfer { source } => source.hints(),
            Self::Host { source, .. } => source.hints(),
            Self::Keep { .. } => vec!["See whether the disk is full with `df -h`.".into()],
            Self::Moved => vec!["Run the same command again when nothing writes in the guest.".into()],
            Self::NotClean { root, .. } => vec![
                format!("See what is not with `git -C {} status`.", root.display()),
                "Take the work as a file with `banger vm workspace export VM -o work.patch`.".into(),
            ],
            Self::Moving { .. } => vec![
                "Take the work as a file with `banger vm workspace export VM -o work.patch`, and apply it with `git apply -3`.".into(),
            ],
            Self::NotForward { .. } | Self::CheckedOut { .. } => {
                vec!["Choose a new name, as in `banger vm workspace export VM --branch guest-work`.".into()]
            }
            Self::NoCommits => {
                vec!["Uncommitted edits come as a patch: `banger vm workspace export VM -o work.patch`.".into()]
            }
            Self::InvalidBranch { .. } => vec!["See what is allowed with `git help check-ref-format`.".into()],
            Self::TooLarge { .. } => vec!["See what is so large with `banger vm exec VM -- du -sh .`.".into()],
            Self::Objects { .. } => {
                vec!["See what git in the guest thinks with `banger vm exec VM -- git fsck`.".into()]
            }
            Self::HalfWritten { .. } | Self::Leftovers { .. } => vec![
                "Every file was committed: see what differs with `git status`, and get it back with `git checkout`.".into(),
            ],
            Self::Write { .. } | Self::Content { .. } | Self::Git { .. } => Vec::new(),
        }
    }
}
