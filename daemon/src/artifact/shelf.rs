//! A directory of finished artifacts, and the way new ones get there.
//!
//! ```text
//! <root>/<name>@<build>/   finished, never changed afterwards; manifest.json is written last
//! <root>/.staging/<build>/ being built, moved by one rename; removed on drop and at the next start
//! <root>/.locks/<name>     held (flock) by the one process that builds <name>
//! ```
//! A rebuild makes a new directory and the newest wins, because running VMs keep using the files of the
//! old one; [`Shelf::superseded`] lists those. Builds of one name wait for each other, in this process
//! and across processes. It never looks inside an artifact and never removes a file it was not told about.

mod lock;
mod staged;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use lock::{BuildLock, LockError};
pub use staged::Staged;

/// The last file written into an artifact's directory.
pub const MANIFEST: &str = "manifest.json";
const STAGING: &str = ".staging";
const LOCKS: &str = ".locks";

/// What could not be done to a file of the shelf.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct ShelfError {
    /// "create", "read" …
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl ShelfError {
    /// For `map_err`.
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }

    /// True if the disk or a quota is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: PathBuf,
    builds: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// One finished artifact: its directory and what its manifest says.
#[derive(Debug, Clone)]
pub struct Shelved<M> {
    /// `<root>/<name>@<build>`.
    pub directory: PathBuf,
    /// The parsed manifest.
    pub manifest: M,
}

impl Shelf {
    /// Makes the directories and removes what interrupted builds left behind.
    ///
    /// # Errors
    /// If a directory cannot be made. Leftovers that cannot be removed are logged only.
    pub fn open(root: PathBuf) -> Result<Self, ShelfError> {
        for directory in [root.clone(), root.join(STAGING), root.join(LOCKS)] {
            fs::create_dir_all(&directory).map_err(ShelfError::on("create the directory", &directory))?;
        }
        let shelf = Self { root, builds: Arc::default() };
        shelf.sweep()?;
        Ok(shelf)
    }

    /// Where unfinished things lie; what is called `name@…` is removed at the next start.
    pub fn staging(&self) -> PathBuf {
        self.root.join(STAGING)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every artifact with a readable manifest, ordered by name and build, oldest first.
    ///
    /// # Errors
    /// If the directory cannot be listed; unreadable manifests are logged and skipped.
    pub fn all<M: DeserializeOwned>(&self) -> Result<Vec<Shelved<M>>, ShelfError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(ShelfError::on("list", &self.root))? {
            let directory = entry.map_err(ShelfError::on("list", &self.root))?.path();
            if name_of(&directory).is_none() {
                continue;
            }
            match fs::read(directory.join(MANIFEST)) {
                Ok(bytes) => match serde_json::from_slice(&bytes) {
                    Ok(manifest) => found.push(Shelved { directory, manifest }),
                    Err(error) => {
                        tracing::warn!(path = %directory.display(), %error, "skipping an artifact with a malformed manifest")
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ShelfError::on("read", &directory.join(MANIFEST))(error)),
            }
        }
        found.sort_by(|a, b| a.directory.cmp(&b.directory));
        Ok(found)
    }

    /// The newest build of every name.
    ///
    /// # Errors
    /// As [`Shelf::all`].
    pub fn newest<M: DeserializeOwned>(&self) -> Result<Vec<Shelved<M>>, ShelfError> {
        let mut all = self.all::<M>()?;
        // Build ids sort by time, so the last of equal names is the newest.
        all.reverse();
        all.dedup_by(|later, kept| name_of(&later.directory) == name_of(&kept.directory));
        all.reverse();
        Ok(all)
    }

    /// Builds that a newer one of the same name has replaced; VMs may still use their files.
    ///
    /// # Errors
    /// As [`Shelf::all`].
    pub fn superseded<M: DeserializeOwned>(&self) -> Result<Vec<Shelved<M>>, ShelfError> {
        let newest: Vec<PathBuf> = self.newest::<serde::de::IgnoredAny>()?.into_iter().map(|it| it.directory).collect();
        Ok(self.all::<M>()?.into_iter().filter(|it| !newest.contains(&it.directory)).collect())
    }

    /// The newest build of `name`.
    ///
    /// # Errors
    /// As [`Shelf::all`].
    pub fn find<M: DeserializeOwned>(&self, name: &str) -> Result<Option<Shelved<M>>, ShelfError> {
        Ok(self.newest::<M>()?.into_iter().find(|it| name_of(&it.directory) == Some(name)))
    }

    /// Every build of `name`, newest last.
    ///
    /// # Errors
    /// As [`Shelf::all`].
    pub fn builds_of<M: DeserializeOwned>(&self, name: &str) -> Result<Vec<Shelved<M>>, ShelfError> {
        Ok(self.all::<M>()?.into_iter().filter(|it| name_of(&it.directory) == Some(name)).collect())
    }

    /// A directory to build `name` in. The lock proves that nobody else builds it.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn stage(&self, lock: &BuildLock) -> Result<Staged, ShelfError> {
        Staged::create(&self.root.join(STAGING), lock.name())
    }

    /// Moves a staged build to its place; `manifest` is written last.
    ///
    /// # Errors
    /// If writing or moving fails; the staged directory is then removed.
    pub fn publish<M: Serialize>(&self, staged: Staged, manifest: &M) -> Result<PathBuf, ShelfError> {
        staged.publish(&self.root, manifest)
    }

    /// Removes a build: the manifest first, so that it is gone for readers, then the named files, then the
    /// directory. Anything else in it stays, and the directory with it.
    ///
    /// # Errors
    /// The first file that could not be removed; the others are tried all the same.
    pub fn remove(&self, directory: &Path, files: &[&str]) -> Result<(), ShelfError> {
        let mut first = None;
        for file in std::iter::once(&MANIFEST).chain(files) {
            let path = directory.join(file);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    first.get_or_insert(ShelfError::on("remove", &path)(error));
                }
                _ => {}
            }
        }
        if let Err(error) = fs::remove_dir(directory)
            && error.kind() != io::ErrorKind::NotFound
            && first.is_none()
        {
            tracing::warn!(path = %directory.display(), %error, "the directory holds files banger did not make and stays");
        }
        first.map_or(Ok(()), Err)
    }

    /// Waits until nobody else builds `name`. See [`lock`].
    ///
    /// # Errors
    /// If the wait is cancelled or the lock file cannot be used.
    pub async fn lock(&self, name: &str, reporter: &crate::reporter::Reporter) -> Result<BuildLock, LockError> {
        let gate = {
            let mut builds = self.builds.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(builds.entry(name.to_owned()).or_default())
        };
        lock::acquire(gate, &self.root.join(LOCKS), name, reporter).await
    }

    fn sweep(&self) -> Result<(), ShelfError> {
        let staging = self.root.join(STAGING);
        for entry in fs::read_dir(&staging).map_err(ShelfError::on("list", &staging))? {
            let path = entry.map_err(ShelfError::on("list", &staging))?.path();
            let Some(name) = name_of(&path) else { continue };
            let Some(_idle) = lock::try_file(&self.root.join(LOCKS), name)? else { continue };
            tracing::info!(path = %path.display(), "removing what an interrupted build left behind");
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a leftover");
            }
        }
        Ok(())
    }
}

/// `…/<name>@<build>` → name.
fn name_of(directory: &Path) -> Option<&str> {
    let (name, build) = directory.file_name()?.to_str()?.rsplit_once('@')?;
    (!name.is_empty() && !name.starts_with('.') && !build.is_empty()).then_some(name)
}
