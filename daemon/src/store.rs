//! The durable state: rows of VMs and write-ahead intents, in one SQLite file on one thread.
//!
//! Callers use the typed functions in [`vms`] and [`intents`]; SQL never leaves this module. A damaged or
//! newer file is refused by name and never repaired, renamed or deleted: it may be the only trace of
//! somebody's machines. [`migrate`] brings an older file up to date.

mod intents;
mod migrate;
mod open;
#[cfg(test)]
mod tests;
mod vms;

use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use intents::{Action, Intent, IntentChange};
pub use open::Origin;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Handle of the store's thread. The file is closed when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: std::sync::mpsc::Sender<Job>,
    path: PathBuf,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a database, or one whose pages do not fit together.
    #[error("the store {} is corrupted", path.display())]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Saying,
    },
    /// Written by a later version of banger.
    #[error("the store {} has schema version {found}, this bangerd knows only up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest version this build can read.
        known: u32,
    },
    /// SQLite refused.
    #[error("cannot {attempt} in the store {}", path.display())]
    Sqlite {
        /// "save the VM \"x\"" …
        attempt: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Saying,
    },
    /// A stored value is not what this build writes.
    #[error("the store {} holds an unreadable value: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Which value.
        what: String,
    },
    /// The thread is gone.
    #[error("the store {} is closed", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
}

/// SQLite's words. Its own error repeats them in its source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Saying(String);

impl Classified for StoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::Corrupted { .. } | Self::Newer { .. } => Kind::HostNotReady,
            Self::Sqlite { .. } => Kind::Failed,
            Self::Unreadable { .. } | Self::Closed { .. } => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Corrupted { path, .. } | Self::Unreadable { path, .. } => move_aside(path),
            Self::Newer { .. } => {
                vec!["Run the newer `bangerd` that wrote it; `bangerd --version` tells which one this is.".into()]
            }
            Self::Sqlite { path, .. } => {
                vec![format!("Check the free space and permissions with `df -h {0}` and `ls -l {0}`.", path.display())]
            }
            Self::Closed { .. } => Vec::new(),
        }
    }
}

/// Exactly what to type; the write-ahead log belongs to the file and must go with it.
fn move_aside(path: &Path) -> Vec<String> {
    let path = path.display();
    vec![format!(
        "Move it aside with `for f in {path} {path}-wal {path}-shm; do [ -e $f ] && mv $f $f.broken; done` and try \
         again; banger then starts with an empty list, and the directories of the VMs stay where they are."
    )]
}

impl Store {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file can still be read, for `doctor`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn check(&self) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.call("check the file", move |connection| Ok(open::quick_check(connection, &path))).await?
    }

    /// Runs `work` on the store's thread.
    async fn call<T: Send + 'static>(
        &self,
        attempt: impl Into<String>,
        work: impl FnOnce(&mut Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Closed { path: self.path.clone() };
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(Box::new(move |connection| {
                // Nobody waits any more: the work is done all the same.
                let _ = reply.send(work(connection));
            }))
            .map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?.map_err(|problem| match problem {
            Problem::Sqlite(source) => open::classify(source, &attempt.into(), &self.path),
            Problem::Unreadable(what) => StoreError::Unreadable { path: self.path.clone(), what },
        })
    }
}

/// What can go wrong inside a job, before the file is named.
#[derive(Debug)]
enum Problem {
    Sqlite(rusqlite::Error),
    Unreadable(String),
}

impl From<rusqlite::Error> for Problem {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite(source)
    }
}

impl Problem {
    fn unreadable(what: &str, detail: impl std::fmt::Display) -> Self {
        Self::Unreadable(format!("{what}: {detail}"))
    }
}
