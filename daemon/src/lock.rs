//! One daemon at a time: an advisory lock on a file in the state directory, held until the process ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};

/// Proof that this is the one daemon. The kernel releases the lock however the process ends.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

/// Why this cannot be the one daemon.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one is.
    #[error("another bangerd is already running ({})", pid.map_or_else(|| "its pid is unknown".to_owned(), |pid| format!("pid {pid}")))]
    Held {
        /// Its process, if the file tells.
        pid: Option<u32>,
    },
    /// The file cannot be used.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classified for LockError {
    fn kind(&self) -> Kind {
        match self {
            Self::Held { .. } => Kind::Conflict,
            Self::Io { .. } => Kind::HostNotReady,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Held { pid: Some(pid) } => {
                vec![format!("Use the one that runs, or end it first with `kill {pid}`; VMs survive that.")]
            }
            Self::Held { pid: None } => vec!["Find it with `pgrep -a bangerd`.".into()],
            Self::Io { path, .. } => vec![format!("Check its permissions with `ls -l {}`.", path.display())],
        }
    }
}

impl InstanceLock {
    /// Takes the lock and writes our pid into the file.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_daemon_is_told_the_pid_of_the_first() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let first = InstanceLock::acquire(&path).unwrap();
        let error = InstanceLock::acquire(&path).expect_err("held");
        assert_eq!(error.kind(), Kind::Conflict);
        let expected = format!("another bangerd is already running (pid {})", std::process::id());
        assert_eq!(error.to_string(), expected);
        drop(first);
        InstanceLock::acquire(&path).unwrap();
    }
}
