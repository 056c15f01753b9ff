//! Follows a working tree: every save is in the guest a moment later, for as long as the session lives.
//!
//! ```text
//!  inotify ──hints──▶ cycle (pure) ──look there──▶ overlay ──difference to the mirror──▶ receiver, one batch
//!   or polling           ▲   git at work? held        │                                      │
//!                        └── paused, halted, down ◀───┴──────── conflicts, digests ◀─────────┘
//! ```
//! Hints are never believed: a batch is made of what reading the tree shows, and a barrier reads all of it. After a lost
//! connection the whole tree is compared again. Nothing of the repository is executed, and the guest's own work stays
//! unless the session was started to replace it.
//!
//! [`cycle`], [`mirror`] and [`safety`] are pure; [`events`] and [`git`] look, [`session`] acts, [`status`] is what
//! others see, [`prefer`] settles a conflict.

pub mod cycle;
pub mod events;
pub mod git;
pub mod mirror;
mod prefer;
mod round;
pub mod safety;
mod session;
pub mod status;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::overlay::{CopyMode, ObserveOptions, OverlayError};
use crate::path::TreePath;
use crate::ssh::Connection;
use cycle::Tuning;
pub use prefer::PreferError;
pub use status::{Batch, BatchKind, Flushed, State, Status, Watching};

/// What happens to work done in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It is kept, and told as a conflict.
    #[default]
    OneWaySafe,
    /// The host's version replaces it.
    OneWayReplica,
}

/// Whose version of a conflict counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host's replaces the guest's.
    Host,
    /// The guest's replaces the host's.
    Guest,
}

/// What to follow, and where to.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Directory in a repository.
    pub path: PathBuf,
    /// What belongs to the tree.
    pub observe: ObserveOptions,
    /// Absolute path of the tree in the guest.
    pub guest_path: String,
    /// The command that starts the receiver there.
    pub command: String,
    /// What happens to work done in the guest.
    pub mode: Mode,
    /// How many directories may be watched; `None`: what the kernel allows.
    pub budget: Option<usize>,
    /// Digests of earlier observations, see [`crate::overlay::memory`].
    pub memory_file: Option<PathBuf>,
    /// Durations.
    pub tuning: Tuning,
    /// So many bytes of changed content, and the guest is asked first which of it git has there; usually
    /// [`crate::prepare::WORTH_ASKING`].
    pub worth_asking: u64,
}

/// Why there is no connection now. It will be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unreachable {
    /// In words.
    pub why: String,
}

/// A connection, or the reason there is none now.
pub type Reaching<'a> = Pin<Box<dyn Future<Output = Result<Connection, Unreachable>> + Send + 'a>>;

/// How the guest is reached, each time anew.
pub trait Reach: Send + Sync {
    /// Connects once.
    fn connect(&self) -> Reaching<'_>;
}

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The tree cannot be read.
    #[error("cannot follow {}", path.display())]
    Observe {
        /// What was given.
        path: PathBuf,
        /// Why not.
        source: OverlayError,
    },
    /// A commit does not change.
    #[error("a workspace made from a commit has no edits to follow")]
    FromCommit,
    /// Only the working tree is followed.
    #[error("a full copy is not followed: only the working tree of the repository itself can be kept in step")]
    FullCopy,
    /// The kernel tells nothing.
    #[error("cannot ask the kernel for changes in {}", path.display())]
    Events {
        /// The root.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Classified for WatchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Observe { source, .. } => source.kind(),
            Self::FromCommit | Self::FullCopy => Kind::Usage,
            Self::Events { .. } => Kind::HostNotReady,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Observe { source, .. } => source.hints(),
            Self::FromCommit => vec!["Leave out --from, or prepare once without --watch.".into()],
            Self::FullCopy => {
                vec!["Bring it up to date with `banger vm workspace prepare`, or begin with `--mode overlay`.".into()]
            }
            Self::Events { .. } => {
                vec!["Raise fs.inotify.max_user_instances with `sysctl`, or stop other sessions.".into()]
            }
        }
    }
}

/// Why both sides are not known to be equal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// Told to wait.
    #[error("the session is paused")]
    Paused,
    /// It stopped by itself.
    #[error("the session stopped: {why}")]
    Halted {
        /// Why.
        why: String,
        /// What to do.
        way_on: &'static str,
    },
    /// Nobody can tell when git is done.
    #[error("a lock of git has been in the repository for so long that nobody may hold it any more")]
    StaleLock,
    /// The tree cannot be read.
    #[error("the working tree cannot be read: {why}")]
    Unreadable {
        /// Why not.
        why: String,
    },
    /// Over.
    #[error("the session ended")]
    Ended,
}

impl Classified for FlushError {
    fn kind(&self) -> Kind {
        match self {
            Self::Paused | Self::Halted { .. } | Self::StaleLock => Kind::Conflict,
            Self::Unreadable { .. } | Self::Ended => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Paused => vec!["Let it go on with `banger vm workspace resume`.".into()],
            Self::Halted { way_on, .. } => vec![format!("To go on: {way_on}.")],
            Self::StaleLock => vec!["If no git runs, remove `.git/index.lock`.".into()],
            Self::Unreadable { .. } => vec!["See more with `banger vm workspace status`.".into()],
            Self::Ended => vec!["Begin another with `banger vm workspace sync --watch`.".into()],
        }
    }
}

enum Command {
    Flush { hold: bool, reply: oneshot::Sender<Result<(Flushed, Option<Held>), FlushError>> },
    Release,
    Pause,
    Resume,
    Show { shown: oneshot::Sender<()> },
    Prefer { side: Side, path: TreePath, reply: oneshot::Sender<Result<(), PreferError>> },
    Stop,
}

/// Keeps the guest's tree as it is until it is dropped.
#[derive(Debug)]
pub struct Held {
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A session that ended holds nothing.
        let _ = self.commands.send(Command::Release);
    }
}

/// A session that runs. Cheap to clone; it stops when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Watch {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Arc<Status>>,
}

impl Watch {
    /// How it is now.
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Waits for the next change of [`Watch::status`]; `None` once the session ended.
    pub async fn changed(&mut self) -> Option<Arc<Status>> {
        self.status.changed().await.ok()?;
        Some(self.status.borrow_and_update().clone())
    }

    /// Waits until what the host has now, or later, is in the guest, and both sides computed the same digest.
    ///
    /// # Errors
    /// [`FlushError`].
    pub async fn flush(&self) -> Result<Flushed, FlushError> {
        Ok(self.barrier(false).await?.0)
    }

    /// The same, and then the guest's tree stays as it is until [`Held`] is dropped.
    ///
    /// # Errors
    /// [`FlushError`].
    pub async fn hold(&self) -> Result<(Flushed, Held), FlushError> {
        let (flushed, held) = self.barrier(true).await?;
        held.map(|held| (flushed, held)).ok_or(FlushError::Ended)
    }

    async fn barrier(&self, hold: bool) -> Result<(Flushed, Option<Held>), FlushError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Flush { hold, reply }).map_err(|_| FlushError::Ended)?;
        answer.await.unwrap_or(Err(FlushError::Ended))
    }

    /// Sends nothing until [`Watch::resume`].
    pub fn pause(&self) {
        let _ = self.commands.send(Command::Pause);
    }

    /// Goes on, also after the session stopped by itself: whoever asks says that it is fine now.
    pub fn resume(&self) {
        let _ = self.commands.send(Command::Resume);
    }

    /// Waits until [`Watch::status`] shows what was asked for before, a dropped [`Held`] included; a session in the
    /// middle of something is not waited for longer than `limit`.
    pub async fn shown(&self, limit: Duration) {
        let (shown, answer) = oneshot::channel();
        if self.commands.send(Command::Show { shown }).is_ok() {
            let _ = tokio::time::timeout(limit, answer).await;
        }
    }

    /// Ends it.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    /// Settles a conflict.
    ///
    /// # Errors
    /// [`PreferError`].
    pub async fn prefer(&self, side: Side, path: TreePath) -> Result<(), PreferError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Prefer { side, path, reply }).map_err(|_| PreferError::Ended)?;
        answer.await.unwrap_or(Err(PreferError::Ended))
    }
}

/// Begins to follow. `batches` is told of everything that went over.
///
/// # Errors
/// [`WatchError`]; whether the guest answers is told by [`Watch::status`].
pub async fn start(
    options: WatchOptions,
    reach: Arc<dyn Reach>,
    batches: Option<mpsc::UnboundedSender<Batch>>,
) -> Result<(Watch, JoinHandle<()>), WatchError> {
    if options.observe.from.is_some() {
        return Err(WatchError::FromCommit);
    }
    if options.observe.mode == CopyMode::FullCopy {
        return Err(WatchError::FullCopy);
    }
    let (commands, inbox) = mpsc::unbounded_channel();
    let (publish, status) = watch::channel(Arc::new(Status::default()));
    let session = session::Session::begin(options, reach, session::Outlets { publish, batches }).await?;
    // Held by nobody but the callers, or the session would never end by itself.
    let release = commands.downgrade();
    let running = tokio::spawn(session.run(inbox, release));
    Ok((Watch { commands, status }, running))
}
