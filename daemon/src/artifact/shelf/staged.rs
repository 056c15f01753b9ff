//! A build that is not finished: a directory that disappears unless it is published.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{MANIFEST, ShelfError};

/// The directory. Dropping it removes everything in it.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    published: bool,
}

impl Staged {
    pub(super) fn create(staging: &Path, name: &str) -> Result<Self, ShelfError> {
        // Version 7 ids sort by time, which is how the newest build is found.
        let path = staging.join(format!("{name}@{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir(&path).map_err(ShelfError::on("create the directory", &path))?;
        Ok(Self { path, published: false })
    }

    /// Where to build.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn publish<M: Serialize>(mut self, root: &Path, manifest: &M) -> Result<PathBuf, ShelfError> {
        let file = self.path.join(MANIFEST);
        let bytes = serde_json::to_vec_pretty(manifest)
            .map_err(|error| ShelfError::on("write", &file)(std::io::Error::other(error)))?;
        let mut out = File::create(&file).map_err(ShelfError::on("create", &file))?;
        out.write_all(&bytes).and_then(|()| out.sync_all()).map_err(ShelfError::on("write", &file))?;
        let name = self.path.file_name().expect("made by create with a file name");
        let target = root.join(name);
        fs::rename(&self.path, &target).map_err(ShelfError::on("publish", &self.path))?;
        self.published = true;
        if let Ok(directory) = File::open(root) {
            // The rename is complete either way; this only makes it survive a power cut.
            let _ = directory.sync_all();
        }
        Ok(target)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an unfinished build");
        }
    }
}
