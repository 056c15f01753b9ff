//! What can go wrong with kernels, one type per operation.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::KernelName;

use super::package::PackageError;
use crate::artifact::bootstrap::BootstrapError;
use crate::artifact::shelf::{LockError, ShelfError};
use crate::artifact::{caused_by_full_disk, disk_full_hint};

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the kernel store")]
pub struct KernelStoreError {
    /// The cause.
    pub source: ShelfError,
}

impl Classified for KernelStoreError {
    fn kind(&self) -> Kind {
        if caused_by_full_disk(self) { Kind::HostNotReady } else { Kind::Failed }
    }

    fn hints(&self) -> Vec<String> {
        disk_full_hint(self)
    }
}

/// A kernel could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KernelPullError {
    /// Not in the catalog.
    #[error("there is no kernel named {name}; available: {list}", list = available.join(", "))]
    Unknown {
        /// What was asked for.
        name: KernelName,
        /// The catalog.
        available: Vec<String>,
    },
    /// It never got its turn.
    #[error("the kernel was not made")]
    Lock(#[source] LockError),
    /// The package could not be fetched.
    #[error("cannot make the kernel {name}")]
    Bootstrap {
        /// The kernel.
        name: KernelName,
        /// The cause.
        source: BootstrapError,
    },
    /// The package could not be used.
    #[error("cannot use the package of the kernel {name}")]
    Convert {
        /// The kernel.
        name: KernelName,
        /// The cause.
        source: PackageError,
    },
    /// The store could not be written.
    #[error("cannot store the kernel {name}")]
    Store {
        /// The kernel.
        name: KernelName,
        /// The cause.
        source: ShelfError,
    },
    /// The user stopped it.
    #[error("making the kernel {name} was cancelled")]
    Cancelled {
        /// The kernel.
        name: KernelName,
    },
}

impl Classified for KernelPullError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NotFound,
            Self::Lock(LockError::Cancelled { .. }) | Self::Cancelled { .. } => Kind::Cancelled,
            Self::Bootstrap { source, .. } => source.kind(),
            Self::Lock(LockError::Shelf(_)) | Self::Convert { .. } | Self::Store { .. } => {
                if caused_by_full_disk(self) { Kind::HostNotReady } else { Kind::Failed }
            }
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { .. } => vec!["See what can be pulled with `banger kernel list --available`.".to_owned()],
            Self::Bootstrap { source, .. } => source.hints(),
            Self::Lock(_) | Self::Convert { .. } | Self::Store { .. } | Self::Cancelled { .. } => disk_full_hint(self),
        }
    }
}

/// A kernel could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum KernelDeleteError {
    /// Not in the store.
    #[error("there is no kernel named {name} in the store; it holds: {list}", list = if stored.is_empty() { "nothing".to_owned() } else { stored.join(", ") })]
    NotFound {
        /// What was asked for.
        name: KernelName,
        /// What there is.
        stored: Vec<String>,
    },
    /// A file stayed.
    #[error("cannot remove the kernel {name}")]
    Remove {
        /// The kernel.
        name: KernelName,
        /// The cause.
        source: ShelfError,
    },
}

impl Classified for KernelDeleteError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Remove { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => vec!["See what is there with `banger kernel list`.".to_owned()],
            Self::Remove { .. } => Vec::new(),
        }
    }
}
