//! One build of a name at a time: a mutex in this process, a file lock between processes.
//!
//! The file lock (flock) vanishes with its process, so a killed daemon never blocks the next. Lock files
//! stay: removing one while another process opens it would give two owners.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::artifact::shelf::ShelfError;
use crate::reporter::Reporter;

/// How often a lock held by another process is tried again; flock cannot be waited for and cancelled.
const RETRY: Duration = Duration::from_millis(200);

/// Proof that nobody else builds this name.
#[derive(Debug)]
#[must_use]
pub struct BuildLock {
    name: String,
    _file: File,
    _gate: tokio::sync::OwnedMutexGuard<()>,
}

impl BuildLock {
    /// The name that is locked.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Why a build did not get its turn.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The user gave up waiting.
    #[error("cancelled while waiting for another build of {name}")]
    Cancelled {
        /// The artifact.
        name: String,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
}

pub(super) async fn acquire(
    gate: Arc<tokio::sync::Mutex<()>>,
    locks: &Path,
    name: &str,
    reporter: &Reporter,
) -> Result<BuildLock, LockError> {
    let cancelled = || LockError::Cancelled { name: name.to_owned() };
    let mut told = false;
    let mut tell = || {
        if !std::mem::replace(&mut told, true) {
            reporter.stage("waiting", format!("waiting for the build of {name} that is under way"));
        }
    };
    let guard = match Arc::clone(&gate).try_lock_owned() {
        Ok(guard) => guard,
        Err(_) => {
            tell();
            tokio::select! {
                guard = gate.lock_owned() => guard,
                () = reporter.cancellation().cancelled() => return Err(cancelled()),
            }
        }
    };
    loop {
        if let Some(file) = try_file(locks, name)? {
            return Ok(BuildLock { name: name.to_owned(), _file: file, _gate: guard });
        }
        tell();
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = reporter.cancellation().cancelled() => return Err(cancelled()),
        }
    }
}

/// The lock if no other process holds it.
pub(super) fn try_file(locks: &Path, name: &str) -> Result<Option<File>, ShelfError> {
    let path = locks.join(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(ShelfError::on("open the lock", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(ShelfError::on("lock", &path)(error)),
    }
}
