//! Blobs by digest, kept between pulls: what is here is never fetched again.
//!
//! ```text
//! <root>/<hex>        complete, compared with its digest when it arrived
//! <root>/<hex>.part   the beginning of one; the next download goes on from there
//! ```
//! Two downloads of one blob wait for each other. Pruning waits for nobody: while a pull uses the cache it is
//! refused. Losing the cache costs time only.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use banger_proto::failure::{Classified, Kind};
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, RwLock};

use super::digest::Digest;
use super::manifest::Blob;

/// The cache. Clones share it.
#[derive(Debug, Clone)]
pub struct BlobCache {
    root: PathBuf,
    turns: Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
    users: Arc<RwLock<()>>,
}

/// A file of the cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path} in the image cache", path = path.display())]
pub struct CacheError {
    /// "create", "remove" …
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl CacheError {
    /// For `map_err`.
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// Somebody needs what would be removed.
    #[error("the image cache is in use by a pull")]
    InUse,
    /// A file stayed.
    #[error("the image cache was not emptied")]
    Cache(#[from] CacheError),
}

impl Classified for PruneError {
    fn kind(&self) -> Kind {
        match self {
            Self::InUse => Kind::Conflict,
            Self::Cache(_) => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::InUse => vec!["Wait for it, or look at it with `banger operation list`.".to_owned()],
            Self::Cache(_) => Vec::new(),
        }
    }
}

/// What pruning removes, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prunable {
    /// Blobs, unfinished ones included.
    pub blobs: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Whether to remove or only to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Look.
    DryRun,
    /// Remove.
    Remove,
}

impl BlobCache {
    /// The cache at `root`, made when first used.
    pub fn at(root: PathBuf) -> Self {
        Self { root, turns: Arc::default(), users: Arc::default() }
    }

    /// Keeps pruning away as long as the guard lives.
    pub async fn enter(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.users).read_owned().await
    }

    /// The right to download a blob.
    pub async fn turn(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let gate = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, gate| Arc::strong_count(gate) > 1);
            Arc::clone(turns.entry(digest.clone()).or_default())
        };
        gate.lock_owned().await
    }

    /// A complete blob.
    pub fn find(&self, blob: &Blob) -> Option<PathBuf> {
        let path = self.complete(&blob.digest);
        fs::metadata(&path).is_ok_and(|found| found.len() == blob.size).then_some(path)
    }

    /// Where the beginning of a blob is or goes; makes the directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn part(&self, digest: &Digest) -> Result<PathBuf, CacheError> {
        fs::create_dir_all(&self.root).map_err(CacheError::on("create", &self.root))?;
        Ok(self.root.join(format!("{}.part", digest.hex())))
    }

    /// Turns the finished part into the blob; the caller has compared its digest.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn publish(&self, digest: &Digest) -> Result<PathBuf, CacheError> {
        let (part, complete) = (self.part(digest)?, self.complete(digest));
        fs::rename(&part, &complete).map_err(CacheError::on("publish", &part))?;
        Ok(complete)
    }

    /// Forgets a blob that turned out to be damaged.
    pub fn evict(&self, path: &Path) {
        if path.starts_with(&self.root)
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "a damaged blob stays in the image cache");
        }
    }

    /// Removes every blob, or says what that would free.
    ///
    /// # Errors
    /// See [`PruneError`]; the other blobs are removed all the same.
    pub fn prune(&self, prune: Prune) -> Result<Prunable, PruneError> {
        let _nobody = match prune {
            Prune::DryRun => None,
            Prune::Remove => Some(self.users.try_write().map_err(|_| PruneError::InUse)?),
        };
        let mut pruned = Prunable::default();
        let mut first = None;
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(pruned),
            Err(error) => return Err(CacheError::on("list", &self.root)(error).into()),
        };
        for entry in entries {
            let path = entry.map_err(CacheError::on("list", &self.root))?.path();
            let bytes = crate::artifact::allocated(&path);
            if prune == Prune::Remove
                && let Err(error) = fs::remove_file(&path)
            {
                first.get_or_insert(CacheError::on("remove", &path)(error));
                continue;
            }
            pruned.blobs += 1;
            pruned.bytes += bytes;
        }
        first.map_or(Ok(pruned), |error| Err(error.into()))
    }

    fn complete(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.hex())
    }
}
