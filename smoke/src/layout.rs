//! Where things lie: the sources in the checkout, everything made under `target/smoke`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// The checkout and its target directory.
#[derive(Debug, Clone)]
pub struct Layout {
    workspace: PathBuf,
    target: PathBuf,
}

impl Layout {
    /// From `$BANGER_WORKSPACE`, else the checkout this program was built from. `$CARGO_TARGET_DIR` is respected.
    pub fn find() -> Result<Self> {
        let workspace = std::env::var_os("BANGER_WORKSPACE")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), PathBuf::from);
        let no_workspace = |_| Error::NoWorkspace { path: workspace.clone() };
        let workspace = fs::canonicalize(&workspace).map_err(no_workspace)?;
        if !workspace.join("smoke/scenarios").is_dir() {
            return Err(Error::NoWorkspace { path: workspace });
        }
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => workspace.join(directory),
            None => workspace.join("target"),
        };
        Ok(Self { workspace, target })
    }

    /// A file of the sources.
    pub fn source(&self, below: &str) -> PathBuf {
        self.workspace.join(below)
    }

    /// One of the product's programs, built or not.
    pub fn program(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// Kept between runs.
    pub fn cache(&self, below: &str) -> PathBuf {
        self.target.join("smoke").join(below)
    }

    /// Where the test suite keeps its stores, by user.
    pub fn test_artifacts(&self) -> PathBuf {
        self.target.join("test-artifacts")
    }

    /// Belongs to the run that goes on, removed by the next.
    pub fn run(&self, below: &str) -> PathBuf {
        self.cache("run").join(below)
    }

    /// Logs of the last run.
    pub fn logs(&self) -> PathBuf {
        self.cache("logs")
    }

    /// The only run on this target directory, with nothing left of the one before. Held until dropped.
    pub fn begin(&self) -> Result<File> {
        let base = self.cache("");
        fs::create_dir_all(&base).map_err(Error::file("make", &base))?;
        let path = self.cache("lock");
        let lock = File::create(&path).map_err(Error::file("make", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Busy { path: base })?;
        empty(&self.run(""))?;
        empty(&self.logs())?;
        Ok(lock)
    }
}

/// An empty directory, whatever was there before.
pub fn empty(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        fs::remove_dir_all(path).map_err(Error::file("remove", path))?;
    }
    fs::create_dir_all(path).map_err(Error::file("make", path))
}
