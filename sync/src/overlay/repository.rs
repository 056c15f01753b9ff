//! Finds and opens the repository a directory is in, or says why it cannot be used.
//!
//! The storage format is looked at before the library opens it, because its own messages about formats it
//! does not know are misleading.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use gix::ThreadSafeRepository;
use gix::config::Source;

use super::OverlayError;

/// A repository with a working tree.
pub struct Opened {
    /// The repository.
    pub repository: ThreadSafeRepository,
    /// Absolute path of its working tree.
    pub root: PathBuf,
}

/// Opens the repository `path` is in.
///
/// # Errors
/// [`OverlayError`] for everything that cannot be carried as a whole.
pub fn open(path: &Path) -> Result<Opened, OverlayError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(OverlayError::NotADirectory { path: path.to_owned() }),
        Err(_) => return Err(OverlayError::Missing { path: path.to_owned() }),
    }
    let start = path.canonicalize().map_err(|_| OverlayError::Missing { path: path.to_owned() })?;
    let Ok((found, _)) = gix::discover::upwards(&start) else {
        refuse_unreadable(&start)?;
        return Err(OverlayError::NotARepository { path: path.to_owned() });
    };
    let (git_dir, _) = found.into_repository_and_work_tree_directories();
    refuse_unknown_formats(&git_dir)?;
    let repository = ThreadSafeRepository::discover(&start).map_err(|source| OverlayError::Git {
        action: "open the repository",
        path: git_dir.clone(),
        source,
    })?;
    let Some(work_dir) = repository.work_dir() else { return Err(OverlayError::Bare { path: git_dir }) };
    let root = work_dir.canonicalize().map_err(|_| OverlayError::Missing { path: work_dir.to_owned() })?;
    Ok(Opened { repository, root })
}

/// A `.git` that may not be looked into is not the same as none.
fn refuse_unreadable(start: &Path) -> Result<(), OverlayError> {
    for git in start.ancestors().map(|directory| directory.join(".git")) {
        if let Err(source) = fs::metadata(git.join("HEAD"))
            && source.kind() == io::ErrorKind::PermissionDenied
        {
            return Err(OverlayError::Io { action: "read", path: git.into_os_string().into_vec(), source });
        }
    }
    Ok(())
}

fn refuse_unknown_formats(git_dir: &Path) -> Result<(), OverlayError> {
    let config_path = common_dir(git_dir).join("config");
    let Ok(config) = gix::config::File::from_path_no_includes(config_path, Source::Local) else { return Ok(()) };
    let refused = |format: String| Err(OverlayError::UnsupportedFormat { path: git_dir.to_owned(), format });
    if let Some(format) = config.string("extensions.objectFormat")
        && !format.eq_ignore_ascii_case(b"sha1")
    {
        return refused(format!("{format} object names"));
    }
    if let Some(format) = config.string("extensions.refStorage")
        && !format.eq_ignore_ascii_case(b"files")
    {
        return refused(format!("{format} reference storage"));
    }
    Ok(())
}

/// Of a linked working tree, the directory that holds what all of them share.
fn common_dir(git_dir: &Path) -> PathBuf {
    match fs::read_to_string(git_dir.join("commondir")) {
        Ok(relative) => git_dir.join(relative.trim_end()),
        Err(_) => git_dir.to_owned(),
    }
}
