//! Why a working tree cannot be observed, and what to do about it.

use std::io;
use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};

use crate::path::{InvalidPath, TreePath, render};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Nothing there.
    #[error("there is no directory {}", path.display())]
    Missing {
        /// What was given.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// No repository there or above.
    #[error("{} is not in a git repository", path.display())]
    NotARepository {
        /// What was given.
        path: PathBuf,
    },
    /// A repository without files.
    #[error("the repository {} is bare: it has no working tree", path.display())]
    Bare {
        /// Its git directory.
        path: PathBuf,
    },
    /// A storage format that cannot be read.
    #[error("the repository {} uses {format}, which cannot be read yet", path.display())]
    UnsupportedFormat {
        /// Its git directory.
        path: PathBuf,
        /// Which.
        format: String,
    },
    /// An overlay carries no submodules.
    #[error("the repository has the submodule {path}, and only a full copy carries submodules into a VM")]
    Submodule {
        /// Where.
        path: TreePath,
    },
    /// Only the working tree of a submodule is carried, never that of another commit.
    #[error("the commit has the submodule {path}, and a submodule is only carried as it is checked out")]
    SubmoduleOfCommit {
        /// Where.
        path: TreePath,
    },
    /// Its `.git` is about another directory.
    #[error("the repository of the submodule {path} has its working tree elsewhere")]
    SubmoduleElsewhere {
        /// Where.
        path: TreePath,
    },
    /// Deeper than anybody means it.
    #[error("{path} has too many submodules around it")]
    TooDeep {
        /// Where.
        path: TreePath,
    },
    /// `from` without `branch`, or a bad name.
    #[error("{name:?} is not a usable branch name")]
    InvalidBranch {
        /// What was given.
        name: String,
    },
    /// `from` needs a branch to be of use.
    #[error("a starting point was given without a branch that starts there")]
    FromWithoutBranch,
    /// No such revision.
    #[error("cannot find the commit {revision:?}")]
    UnknownRevision {
        /// What was given.
        revision: String,
        /// Why not.
        source: gix::Error,
    },
    /// The commit's file would have to go through a program.
    #[error("{path} goes through the filter {driver:?}, a program that is not run")]
    NeedsFilter {
        /// Which file.
        path: TreePath,
        /// The configured driver.
        driver: String,
    },
    /// git itself failed.
    #[error("cannot {action} of {}", path.display())]
    Git {
        /// What was tried.
        action: &'static str,
        /// Of which repository.
        path: PathBuf,
        /// Why not.
        source: gix::Error,
    },
    /// The index or a directory has a name we cannot carry.
    #[error("the repository has a path that cannot be carried")]
    Path {
        /// What is wrong with it.
        source: InvalidPath,
    },
    /// A file cannot be read.
    #[error("cannot {action} {}", render(path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what, relative to the root.
        path: Vec<u8>,
        /// Why not.
        source: io::Error,
    },
    /// A tracked path is a pipe, socket or device.
    #[error("the tracked path {path} is a {kind}, not a file")]
    SpecialFile {
        /// Which.
        path: TreePath,
        /// What it is.
        kind: &'static str,
    },
    /// It never held still.
    #[error("{path} keeps changing while it is read")]
    Changing {
        /// Which.
        path: TreePath,
    },
}

impl Classified for OverlayError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } | Self::UnknownRevision { .. } => Kind::NotFound,
            Self::NotADirectory { .. }
            | Self::NotARepository { .. }
            | Self::InvalidBranch { .. }
            | Self::FromWithoutBranch => Kind::Usage,
            Self::Bare { .. }
            | Self::UnsupportedFormat { .. }
            | Self::Submodule { .. }
            | Self::SubmoduleOfCommit { .. }
            | Self::SubmoduleElsewhere { .. }
            | Self::TooDeep { .. }
            | Self::NeedsFilter { .. }
            | Self::SpecialFile { .. }
            | Self::Path { .. } => Kind::Refused,
            Self::Git { .. } | Self::Io { .. } | Self::Changing { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { path } => {
                vec![format!("See what is there with `ls {}`.", path.parent().unwrap_or(path).display())]
            }
            Self::NotADirectory { path } => {
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let directory = directory.unwrap_or(std::path::Path::new("."));
                vec![format!("Name the directory it is in: `banger vm run {}`.", directory.display())]
            }
            Self::Path { .. } => vec!["See the paths git tracks with `git ls-files`.".into()],
            Self::NotARepository { path } => {
                vec![format!("Make it one with `git init {}`.", path.display())]
            }
            Self::Bare { path } => {
                vec![format!("Check it out with `git clone {} ./work` and use that.", path.display())]
            }
            Self::UnsupportedFormat { .. } => {
                vec!["Make a copy in git's default format with `git clone . ../copy` and use that.".into()]
            }
            Self::Submodule { path } => vec![
                "To carry the submodules as well, with the whole history, add `--mode full_copy`.".into(),
                format!("To work on the submodule alone, run `banger vm run ./{path}`."),
                "To work without it, use a copy of the repository in which `git rm --cached` removed it.".into(),
            ],
            Self::SubmoduleOfCommit { .. } => {
                vec!["Check the commit out with its submodules, and leave out `--from`.".into()]
            }
            Self::SubmoduleElsewhere { path } => {
                vec![format!("See where it is with `git -C {path} rev-parse --show-toplevel`.")]
            }
            Self::TooDeep { path } => vec![format!("Use the submodule alone: `banger vm run ./{path}`.")],
            Self::InvalidBranch { .. } => vec!["See what is allowed with `git help check-ref-format`.".into()],
            Self::FromWithoutBranch => vec!["Name the branch with `--branch NAME`.".into()],
            Self::UnknownRevision { .. } => vec!["List the branches with `git branch --all`.".into()],
            Self::NeedsFilter { .. } => vec![
                "Check the commit out yourself with `git worktree add ../copy COMMIT` and use that directory.".into(),
            ],
            Self::Git { .. } => vec!["See whether the repository is sound with `git fsck`.".into()],
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                vec![format!("Make it readable with `chmod u+r {}`.", render(path))]
            }
            Self::Io { .. } => Vec::new(),
            Self::SpecialFile { path, .. } => vec![format!("Stop tracking it with `git rm --cached {path}`.")],
            Self::Changing { path } => {
                vec![format!("Stop what writes to it; `fuser {path}` names the process.")]
            }
        }
    }
}
