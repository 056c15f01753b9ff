//! What can go wrong with images, one type per operation.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::ImageName;

use super::bundle::BundleError;
use super::container::FlattenImageError;
use super::debian::WriteError;
use crate::artifact::bootstrap::BootstrapError;
use crate::artifact::shelf::{LockError, ShelfError};
use crate::artifact::{caused_by_full_disk, disk_full_hint};
use crate::oci::flatten::FlattenError;
use crate::oci::registry::PullError;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the image store")]
pub struct ImageStoreError {
    /// The cause.
    pub source: ShelfError,
}

impl Classified for ImageStoreError {
    fn kind(&self) -> Kind {
        if caused_by_full_disk(self) { Kind::HostNotReady } else { Kind::Failed }
    }

    fn hints(&self) -> Vec<String> {
        disk_full_hint(self)
    }
}

/// An image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImagePullError {
    /// Not in the catalog.
    #[error("there is no image named {name}; available: {list}", list = available.join(", "))]
    Unknown {
        /// What was asked for.
        name: ImageName,
        /// The catalog.
        available: Vec<String>,
    },
    /// It never got its turn.
    #[error("the image was not made")]
    Lock(#[source] LockError),
    /// The distribution could not be bootstrapped.
    #[error("cannot make the image {name}")]
    Bootstrap {
        /// The image.
        name: ImageName,
        /// The cause.
        source: BootstrapError,
    },
    /// Its filesystem could not be written.
    #[error("cannot write the image {name}")]
    Write {
        /// The image.
        name: ImageName,
        /// The cause.
        source: WriteError,
    },
    /// The store could not be written.
    #[error("cannot store the image {name}")]
    Store {
        /// The image.
        name: ImageName,
        /// The cause.
        source: ShelfError,
    },
    /// The container image did not arrive.
    #[error("cannot pull the image {name}")]
    Fetch {
        /// The image.
        name: ImageName,
        /// The cause.
        source: PullError,
    },
    /// Its layers make no filesystem.
    #[error("cannot make a root filesystem of the image {name}")]
    Flatten {
        /// The image.
        name: ImageName,
        /// The cause.
        source: FlattenImageError,
    },
    /// The bundle could not be had or read.
    #[error("cannot make the image {name} of a bundle")]
    Bundle {
        /// The image.
        name: ImageName,
        /// The cause.
        source: BundleError,
    },
    /// The bundle did not arrive.
    #[error("cannot download the bundle {url}")]
    Download {
        /// Where it should be.
        url: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is not the bundle that was meant.
    #[error("the bundle {url} has the SHA-256 {found} instead of {wanted}")]
    BundleDigest {
        /// Where it was.
        url: String,
        /// In the catalog.
        wanted: String,
        /// Of what came.
        found: String,
    },
    /// Another image has that name.
    #[error("the name {name} belongs to an image made from {by}")]
    Taken {
        /// The name.
        name: ImageName,
        /// What has it.
        by: String,
    },
    /// The user stopped it.
    #[error("making the image {name} was cancelled")]
    Cancelled {
        /// The image.
        name: ImageName,
    },
}

impl Classified for ImagePullError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NotFound,
            Self::Lock(LockError::Cancelled { .. }) | Self::Cancelled { .. } => Kind::Cancelled,
            Self::Bootstrap { source, .. } => source.kind(),
            Self::Fetch { source, .. } => source.kind(),
            Self::Taken { .. } => Kind::Conflict,
            Self::BundleDigest { .. } | Self::Bundle { source: BundleError::Contents { .. }, .. } => Kind::Refused,
            Self::Bundle { .. } | Self::Download { .. } if caused_by_full_disk(self) => Kind::HostNotReady,
            Self::Bundle { .. } | Self::Download { .. } => Kind::Failed,
            Self::Flatten {
                source:
                    FlattenImageError::Flatten {
                        source: FlattenError::Hostile { .. } | FlattenError::TooLarge { .. }, ..
                    },
                ..
            } => Kind::Refused,
            Self::Flatten { .. } if caused_by_full_disk(self) => Kind::HostNotReady,
            Self::Flatten { .. } => Kind::Failed,
            Self::Lock(LockError::Shelf(_)) | Self::Write { .. } | Self::Store { .. } => {
                if caused_by_full_disk(self) {
                    Kind::HostNotReady
                } else {
                    Kind::Failed
                }
            }
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { .. } => vec!["See what can be pulled with `banger image list --available`.".to_owned()],
            Self::Bootstrap { source, .. } => source.hints(),
            Self::Fetch { source, .. } => source.hints(),
            Self::Taken { name, .. } => vec![
                "Choose another name with `--name NAME`.".to_owned(),
                format!("Replace it with `banger image pull --refresh --name {name} …`."),
            ],
            Self::Flatten { .. } | Self::Bundle { .. } | Self::Download { .. } | Self::BundleDigest { .. } => {
                disk_full_hint(self)
            }
            Self::Lock(_) | Self::Write { .. } | Self::Store { .. } | Self::Cancelled { .. } => disk_full_hint(self),
        }
    }
}

/// An image could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageDeleteError {
    /// Not in the store.
    #[error("there is no image named {name} in the store; it holds: {list}", list = if stored.is_empty() { "nothing".to_owned() } else { stored.join(", ") })]
    NotFound {
        /// What was asked for.
        name: ImageName,
        /// What there is.
        stored: Vec<String>,
    },
    /// A file stayed.
    #[error("cannot remove the image {name}")]
    Remove {
        /// The image.
        name: ImageName,
        /// The cause.
        source: ShelfError,
    },
}

impl Classified for ImageDeleteError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Remove { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => vec!["See what is there with `banger image list`.".to_owned()],
            Self::Remove { .. } => Vec::new(),
        }
    }
}
