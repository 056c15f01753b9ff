//! What a session shows of itself.

use std::time::{Duration, SystemTime};

use crate::digest::TreeDigest;
use crate::path::TreePath;
use crate::prepare::Conflict;

/// What a session is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// There is no connection yet, or none any more.
    #[default]
    Connecting,
    /// Nothing is to be sent.
    InStep,
    /// Something is being looked at or sent.
    Sending,
    /// Git is at work in the repository.
    HeldByGit,
    /// A command runs on the guest's tree as it is.
    HeldByCommand,
    /// Told to wait.
    Paused,
    /// Stopped by itself.
    Halted {
        /// Why.
        why: String,
        /// What to do.
        way_on: &'static str,
    },
}

/// How changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watching {
    /// The kernel tells.
    Events {
        /// Watched directories.
        directories: usize,
    },
    /// By looking again and again, as there are more directories than may be watched.
    Polling {
        /// Directories to watch.
        needed: usize,
        /// How many may be.
        budget: usize,
    },
}

impl Default for Watching {
    fn default() -> Self {
        Self::Events { directories: 0 }
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// How it notices changes.
    pub watching: Watching,
    /// Batches so far.
    pub generation: u64,
    /// Files of the tree.
    pub files: usize,
    /// When the last batch was in the guest.
    pub last_sync: Option<SystemTime>,
    /// Paths to look at; `None` is all of them.
    pub pending: Option<usize>,
    /// Where the guest has something of its own.
    pub conflicts: Vec<Conflict>,
    /// Why it does not get on at the moment.
    pub problem: Option<String>,
    /// The guest has commits or a branch of its own: its git metadata is left alone.
    pub guest_history: bool,
    /// A lock of git is there, too old to be waited for.
    pub stale_lock: bool,
    /// How often the kernel could not keep up.
    pub overflows: u64,
    /// How often the connection was made.
    pub connections: u64,
    /// The host's commit as the guest has it.
    pub head_commit: Option<String>,
    /// Of the host's tree, as of the last whole batch, the last barrier, or the end.
    pub tree: Option<TreeDigest>,
}

/// Both sides are equal but for the conflicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// Of the guest's tree, as the guest computed it.
    pub guest: TreeDigest,
    /// Of the host's tree.
    pub host: TreeDigest,
    /// Where the guest has something of its own; none exactly if the digests are equal.
    pub conflicts: Vec<Conflict>,
    /// The batch after which it was so.
    pub generation: u64,
}

/// What a batch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// The whole tree was compared, after a connection was made.
    Whole,
    /// What changed since.
    Edits,
}

/// Something went over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its number.
    pub generation: u64,
    /// What it was.
    pub kind: BatchKind,
    /// Files sent.
    pub files: u64,
    /// Files removed in the guest.
    pub removed: u64,
    /// Bytes of content and git objects.
    pub bytes: u64,
    /// With the git metadata.
    pub git: bool,
    /// The first few paths.
    pub paths: Vec<TreePath>,
    /// Conflicts there are after it.
    pub conflicts: usize,
    /// From the look to the guest's answer.
    pub took: Duration,
}
