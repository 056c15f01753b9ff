//! Files of a VM: made whole or not at all, undone together, removed without following a link.
//!
//! A file is made under another name and renamed, so one that exists is complete.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use banger_proto::failure::Kind;

use super::{PlatformError, error};

/// Makes a directory, private to its owner, and those above it.
///
/// # Errors
/// Naming it.
pub fn ensure_directory(path: &Path) -> Result<(), PlatformError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| error::on_path("cannot create the directory", path, source))
}

/// Removes a directory and all below it, following no link. One that is not there is fine. Blocks.
///
/// # Errors
/// Naming it.
pub fn remove_directory(path: &Path) -> Result<(), PlatformError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(error::on_path("cannot remove", path, source)
            .hint(format!("Look at what is left with `ls -la {}`.", path.display()))),
        _ => Ok(()),
    }
}

/// Every directory right below `root`; none if that is not there.
///
/// # Errors
/// If it cannot be listed.
pub fn subdirectories(root: &Path) -> Result<Vec<PathBuf>, PlatformError> {
    let failed = |source| error::on_path("cannot list", root, source);
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    entries
        .filter_map(|entry| match entry {
            Ok(entry) => entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| Ok(entry.path())),
            Err(source) => Some(Err(failed(source))),
        })
        .collect()
}

/// Runs file work that may take long where it delays nobody.
///
/// # Errors
/// What the work says.
pub async fn blocking(work: impl FnOnce() -> Result<(), PlatformError> + Send + 'static) -> Result<(), PlatformError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => Err(error::plain(Kind::Internal, "file work of a VM was interrupted").because(panicked)),
    }
}

/// Runs `fill` on a neighbour of `disk` and renames it. Does nothing if `disk` exists.
///
/// # Errors
/// What `fill` says, or that the file cannot be put in place.
pub async fn make(
    disk: &Path,
    fill: impl AsyncFnOnce(&Path) -> Result<(), PlatformError>,
) -> Result<Option<PathBuf>, PlatformError> {
    if disk.exists() {
        return Ok(None);
    }
    let mut name = disk.as_os_str().to_owned();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    if let Err(source) = std::fs::remove_file(&unfinished)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(error::on_path("cannot remove", &unfinished, source));
    }
    let mut made = Made(vec![unfinished.clone()]);
    fill(&unfinished).await?;
    std::fs::rename(&unfinished, disk).map_err(|source| error::on_path("cannot rename to", disk, source))?;
    made.keep();
    Ok(Some(disk.to_owned()))
}

/// What this call made so far; removed on drop, last first.
#[derive(Debug, Default)]
pub struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a directory, to be undone if it is new.
    ///
    /// # Errors
    /// Naming it.
    pub fn directory(&mut self, path: &Path) -> Result<(), PlatformError> {
        let existed = path.is_dir();
        ensure_directory(path)?;
        if !existed {
            self.0.push(path.to_owned());
        }
        Ok(())
    }

    /// To be undone as well.
    pub fn files(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        self.0.extend(files);
    }

    /// Nothing is undone any more.
    pub fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot undo");
            }
        }
    }
}
