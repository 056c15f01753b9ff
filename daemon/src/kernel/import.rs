//! A kernel that a user has built becomes one of the store. Nothing is run and nothing is fetched.

use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::KernelName;

use super::initrd;
use super::package::{self, PackageError};
use super::{FILES, KernelArtifacts, KernelStore, Manifest, Refresh, artifacts};
use crate::artifact::shelf::{LockError, ShelfError, Shelved};
use crate::artifact::{caused_by_full_disk, disk_full_hint};
use crate::reporter::Reporter;

/// A kernel as its maker describes it.
#[derive(Debug, Clone)]
pub struct ImportedKernel {
    /// Name in the store.
    pub name: KernelName,
    /// `uname -r` of it; empty to take it from the initrd.
    pub release: String,
    /// Directory with `kernel` and perhaps `modules`, or `initrd` to take them from.
    pub files: PathBuf,
    /// What the user called the file.
    pub described: String,
    /// Whether a kernel of that name is superseded.
    pub refresh: Refresh,
}

/// Why files did not become a kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelImportError {
    /// There is one of that name.
    #[error("there is a kernel named {name} already")]
    Exists {
        /// The name.
        name: KernelName,
    },
    /// No release of a kernel.
    #[error("{release:?} is no release of a kernel")]
    Release {
        /// As given.
        release: String,
    },
    /// It never got its turn.
    #[error("the kernel was not stored")]
    Lock(#[source] LockError),
    /// The files are none.
    #[error("cannot make the kernel {name} of the files")]
    Convert {
        /// The name.
        name: KernelName,
        /// The cause.
        source: PackageError,
    },
    /// The store could not be written.
    #[error("cannot store the kernel {name}")]
    Store {
        /// The name.
        name: KernelName,
        /// The cause.
        source: ShelfError,
    },
}

impl Classified for KernelImportError {
    fn kind(&self) -> Kind {
        match self {
            Self::Exists { .. } => Kind::Conflict,
            Self::Release { .. } => Kind::Usage,
            Self::Lock(LockError::Cancelled { .. }) => Kind::Cancelled,
            Self::Lock(_) | Self::Convert { .. } | Self::Store { .. } if caused_by_full_disk(self) => {
                Kind::HostNotReady
            }
            Self::Lock(_) | Self::Convert { .. } | Self::Store { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Exists { name } => {
                vec![format!("Choose another name, or remove it with `banger kernel delete {name}`.")]
            }
            Self::Release { .. } => vec!["Give it as `uname -r` says it, with `--release`.".to_owned()],
            Self::Convert { source: PackageError::Modules { .. }, .. } => {
                vec![
                    "Give the modules of the kernel with `--modules DIR`, after `depmod`, or `--initrd FILE`."
                        .to_owned(),
                ]
            }
            Self::Lock(_) | Self::Convert { .. } | Self::Store { .. } => disk_full_hint(self),
        }
    }
}

/// What `uname -r` can say, which also is the name of a directory.
pub(super) fn is_release(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
    !text.is_empty() && text.len() <= 64 && !text.starts_with('.') && text.bytes().all(plain)
}

impl KernelStore {
    /// Takes over a user's kernel.
    ///
    /// # Errors
    /// See [`KernelImportError`].
    pub async fn import(
        &self,
        imported: ImportedKernel,
        reporter: &Reporter,
    ) -> Result<KernelArtifacts, KernelImportError> {
        let ImportedKernel { name, release, files, described, refresh } = imported;
        let from_initrd = !files.join(package::MODULES).is_dir() && files.join(initrd::FILE).is_file();
        let can_be_read = from_initrd && release.is_empty();
        if !can_be_read && !is_release(&release) {
            return Err(KernelImportError::Release { release });
        }
        let store = |source| KernelImportError::Store { name: name.clone(), source };
        let lock = self.shelf.lock(name.as_str(), reporter).await.map_err(KernelImportError::Lock)?;
        if refresh == Refresh::IfAbsent && self.get(&name).is_some() {
            return Err(KernelImportError::Exists { name });
        }
        let staged = self.shelf.stage(&lock).map_err(store)?;
        reporter.stage("convert", format!("preparing the kernel {name}"));
        let (staged, converted) = tokio::task::spawn_blocking(move || {
            let converted = if from_initrd { initrd::take_modules(&files, &release) } else { Ok(release) };
            let converted = converted.map_err(|source| PackageError::Initrd { source }).and_then(|release| {
                package::convert_files(&files, &release, staged.path())?;
                Ok(release)
            });
            (staged, converted)
        })
        .await
        .expect("the conversion does not panic");
        let release = converted.map_err(|source| KernelImportError::Convert { name: name.clone(), source })?;
        let manifest = Manifest {
            name: name.to_string(),
            release,
            source: described,
            description: "imported".to_owned(),
            size_bytes: FILES.iter().map(|file| crate::artifact::allocated(&staged.path().join(file))).sum(),
            created_unix_ms: crate::artifact::unix_ms(),
        };
        let directory = self.shelf.publish(staged, &manifest).map_err(store)?;
        artifacts(Shelved { directory, manifest }).ok_or(KernelImportError::Exists { name })
    }
}
