//! Pinned host keys in a file of our own: one line per VM, `banger-<vm id> <key>`. Nothing of ~/.ssh is touched.
//! banger's own connections pin the key the daemon names; this file is for people who use `ssh` by hand
//! (`-o UserKnownHostsFile=… -o HostKeyAlias=banger-<vm id>`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};

/// Why the file could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot update the known hosts file {}", path.display())]
pub struct KnownHostsError {
    path: PathBuf,
    source: io::Error,
}

impl Classified for KnownHostsError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        vec![format!("Check `ls -l {}`.", self.path.display())]
    }
}

/// Makes the VM's line be exactly this key.
///
/// # Errors
/// [`KnownHostsError`].
pub fn record(path: &Path, vm_id: &str, host_key: &str) -> Result<(), KnownHostsError> {
    update(path, |text| with_line(text, vm_id, Some(host_key)))
}

/// Removes the VM's line.
///
/// # Errors
/// [`KnownHostsError`].
pub fn forget(path: &Path, vm_id: &str) -> Result<(), KnownHostsError> {
    if !path.exists() {
        return Ok(());
    }
    update(path, |text| with_line(text, vm_id, None))
}

/// The text with the VM's line set or removed.
fn with_line(text: &str, vm_id: &str, host_key: Option<&str>) -> String {
    let alias = format!("banger-{vm_id}");
    let mut changed: String =
        text.lines().filter(|line| line.split(' ').next() != Some(&alias)).map(|line| format!("{line}\n")).collect();
    if let Some(key) = host_key {
        // One line, whatever the daemon sent.
        let key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        changed += &format!("{alias} {key}\n");
    }
    changed
}

/// Rewrites the file atomically while holding a lock that every banger process takes.
fn update(path: &Path, change: impl FnOnce(&str) -> String) -> Result<(), KnownHostsError> {
    let run = || -> io::Result<()> {
        let lock_path = path.with_extension("lock");
        let lock: File = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path)?;
        lock.lock()?;
        let before = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let after = change(&before);
        if after == before {
            return Ok(());
        }
        let directory = path.parent().unwrap_or(Path::new("."));
        // Mode 0600 from the start: tempfile's default.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(after.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    run().map_err(|source| KnownHostsError { path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_has_one_line_that_goes_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("known_hosts");
        record(&path, "aa", "ssh-ed25519 OLD comment").unwrap();
        record(&path, "bb", "ssh-ed25519 B\nssh-ed25519 injected").unwrap();
        record(&path, "aa", "ssh-ed25519 A").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "banger-bb ssh-ed25519 B\nbanger-aa ssh-ed25519 A\n");
        forget(&path, "aa").unwrap();
        forget(&path, "unknown").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "banger-bb ssh-ed25519 B\n");
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("known_hosts");
        std::thread::scope(|scope| {
            for n in 0..16 {
                let path = &path;
                scope.spawn(move || record(path, &format!("{n:02}"), "ssh-ed25519 K").unwrap());
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 16);
    }
}
