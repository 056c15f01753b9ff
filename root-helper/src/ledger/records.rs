//! The ledger on disk: one JSON file per entry, replaced by rename after fsync, so that a crash leaves the old or the
//! new one. Only root can read the directory. Never repairs: what cannot be read stops the helper with its name.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Holdings, Ledger, NetworkHoldings};
use crate::kernel_names;

const NETWORK_FILE: &str = "network.json";

/// The directory.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
    /// Held as long as anybody has these records.
    lock: Option<Arc<File>>,
}

/// The ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// Reading, writing, renaming.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// "read" …
        attempt: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not what this program writes.
    #[error("{} is not an entry of the ledger", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A file that is no entry.
    #[error("{} does not belong into the ledger", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
}

impl Classified for RecordsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } => Kind::Failed,
            Self::Malformed { .. } | Self::Foreign { .. } => Kind::HostNotReady,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { .. } => Vec::new(),
            Self::Malformed { path, .. } | Self::Foreign { path } => {
                vec![format!("Look at it with `sudo cat {0}`; without it what it lists is nobody's.", path.display())]
            }
        }
    }
}

impl Records {
    /// The ledger in this directory, which exists.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), lock: None }
    }

    /// From now on nobody else can lock it, until this is dropped or the process ends. False if somebody else has.
    ///
    /// # Errors
    /// If the directory cannot be opened or locked.
    pub fn lock(&mut self) -> io::Result<bool> {
        let directory = File::open(&self.directory)?;
        match directory.try_lock() {
            Ok(()) => self.lock = Some(Arc::new(directory)),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(true)
    }

    /// Everything.
    ///
    /// # Errors
    /// [`RecordsError`] for the first file that is not as it was written.
    pub fn load(&self) -> Result<Ledger, RecordsError> {
        let mut ledger = Ledger::default();
        let io = |attempt, path: &Path| {
            let path = path.to_owned();
            move |source| RecordsError::Io { attempt, path, source }
        };
        for entry in fs::read_dir(&self.directory).map_err(io("list", &self.directory))? {
            let path = entry.map_err(io("list", &self.directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name == NETWORK_FILE {
                ledger.network = read(&path)?;
            } else if name.ends_with(".new") {
                // Left by a crash before the rename: what it replaces is still there.
                fs::remove_file(&path).map_err(io("remove", &path))?;
            } else {
                let vm = name.strip_suffix(".json").and_then(|id| id.parse().ok());
                let vm: VmId = vm.ok_or(RecordsError::Foreign { path: path.clone() })?;
                *ledger.entry(vm) = read(&path)?;
            }
        }
        Ok(ledger)
    }

    /// One VM's entry; `None` if there is none.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn load_vm(&self, vm: &VmId) -> Result<Option<Holdings>, RecordsError> {
        let path = self.directory.join(kernel_names::ledger_file(vm));
        if path.symlink_metadata().is_ok() { read(&path).map(Some) } else { Ok(None) }
    }

    /// Replaces one VM's entry.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn save_vm(&self, vm: &VmId, holdings: &Holdings) -> Result<(), RecordsError> {
        self.replace(&kernel_names::ledger_file(vm), holdings)
    }

    /// Removes one VM's entry.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn remove_vm(&self, vm: &VmId) -> Result<(), RecordsError> {
        let path = self.directory.join(kernel_names::ledger_file(vm));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RecordsError::Io { attempt: "remove", path, source })
            }
            _ => self.flush(),
        }
    }

    /// Replaces what is written about the network.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn save_network(&self, network: &NetworkHoldings) -> Result<(), RecordsError> {
        self.replace(NETWORK_FILE, network)
    }

    /// Forgets the network.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn remove_network(&self) -> Result<(), RecordsError> {
        let path = self.directory.join(NETWORK_FILE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RecordsError::Io { attempt: "remove", path, source })
            }
            _ => self.flush(),
        }
    }

    fn replace(&self, name: &str, value: &impl Serialize) -> Result<(), RecordsError> {
        let (path, staged) = (self.directory.join(name), self.directory.join(format!("{name}.new")));
        let text = serde_json::to_vec_pretty(value).expect("every field is text, a number or absent");
        let write = || {
            let mut options = File::options();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&staged, &path)
        };
        write().map_err(|source| RecordsError::Io { attempt: "write", path: path.clone(), source })?;
        self.flush()
    }

    /// Names are on disk too.
    fn flush(&self) -> Result<(), RecordsError> {
        let io = |source| RecordsError::Io { attempt: "flush", path: self.directory.clone(), source };
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(io)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, RecordsError> {
    let bytes = fs::read(path).map_err(|source| RecordsError::Io { attempt: "read", path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| RecordsError::Malformed { path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::full_holdings;
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let records = Records::at(scratch.path());
        let vm: VmId = "1".repeat(32).parse().unwrap();
        let network =
            NetworkHoldings { boot_id: "b".into(), bridge: true, resolver: true, forwarding_before: Some(false) };
        records.save_vm(&vm, &full_holdings()).unwrap();
        records.save_network(&network).unwrap();
        let ledger = records.load().unwrap();
        assert_eq!(ledger.holdings(&vm), Some(&full_holdings()));
        assert_eq!(ledger.network, network);
        assert_eq!(records.load_vm(&vm).unwrap(), Some(full_holdings()));
        records.remove_vm(&vm).unwrap();
        records.remove_network().unwrap();
        assert_eq!(records.load().unwrap(), Ledger::default());
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_entry() {
        let scratch = tempfile::tempdir().unwrap();
        let records = Records::at(scratch.path());
        let vm: VmId = "1".repeat(32).parse().unwrap();
        records.save_vm(&vm, &full_holdings()).unwrap();
        std::fs::write(scratch.path().join(format!("{vm}.json.new")), "{\"half").unwrap();
        assert_eq!(records.load().unwrap().holdings(&vm), Some(&full_holdings()));
        assert!(!scratch.path().join(format!("{vm}.json.new")).exists());
    }

    #[test]
    fn only_one_at_a_time_has_the_ledger() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (Records::at(scratch.path()), Records::at(scratch.path()));
        assert!(first.lock().unwrap());
        assert!(!second.lock().unwrap());
        drop(first);
        assert!(second.lock().unwrap());
    }

    #[test]
    fn what_nobody_wrote_stops_the_helper() {
        for (name, text) in [("passwd", "{}"), (&format!("{}.json", "1".repeat(32)), "{\"boot_id\": 3}")] {
            let scratch = tempfile::tempdir().unwrap();
            std::fs::write(scratch.path().join(name), text).unwrap();
            assert!(Records::at(scratch.path()).load().is_err(), "{name}");
        }
    }
}
