//! The place where mmdebstrap unpacks: `/var/tmp/banger-build-<uid>-…`, removed afterwards.
//!
//! Not below the state directory, because the user namespace's root must be able to enter it and homes are
//! usually closed; not /tmp, because that is often memory. Files in it may belong to subordinate ids, which
//! only a process in such a namespace can remove. A directory of a killed daemon is removed by the next
//! build; a lock in it shows that it is in use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LOCK: &str = "banger.lock";

/// The directory. Dropping it removes it.
pub(super) struct Scratch {
    path: PathBuf,
    work: PathBuf,
    program: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a fresh one below `parent` and removes abandoned ones.
    pub(super) fn create(parent: &Path, program: &Path) -> io::Result<Self> {
        let prefix = format!("banger-build-{}-", rustix::process::geteuid().as_raw());
        sweep(parent, &prefix, program);
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?.keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
        let lock = File::create(directory.join(LOCK))?;
        lock.lock()?;
        let work = directory.join("work");
        fs::DirBuilder::new().mode(0o755).create(&work)?;
        fs::set_permissions(&work, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path: directory, work, program: program.to_owned(), _lock: lock })
    }

    pub(super) fn work(&self) -> &Path {
        &self.work
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path, &self.program);
    }
}

fn sweep(parent: &Path, prefix: &str, program: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
            && fs::symlink_metadata(&path)
                .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw());
        if !is_ours {
            continue;
        }
        // Without a lock file it is just being made.
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            tracing::info!(path = %path.display(), "removing the scratch space of an interrupted build");
            remove(&path, program);
        }
    }
}

fn remove(path: &Path, program: &Path) {
    if fs::remove_dir_all(path).is_ok() || rustix::process::geteuid().is_root() {
        return;
    }
    let status = Command::new(program)
        .args(["--unshare-helper", "rm", "-rf", "--one-file-system", "--"])
        .arg(path.join("work"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // "work" itself belongs to us; only what is in it does not.
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, ?status, "cannot remove the scratch space of a build");
    }
}
