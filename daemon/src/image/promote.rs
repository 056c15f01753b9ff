//! An image whose root filesystem is still the user's file becomes one of the store: a copy that nobody changes.
//!
//! The user's file stays as it is, and so do the VMs that boot from it.

use std::fs::File;
use std::io;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::ImageName;
use banger_proto::v1::ProgressUnit;

use super::{ImageArtifacts, ImageStore, Manifest, ROOTFS, artifacts};
use crate::artifact::shelf::{LockError, MANIFEST, ShelfError, Shelved};
use crate::artifact::stamp::{FileStamp, StampError};
use crate::artifact::{caused_by_full_disk, copy, disk_full_hint};
use crate::reporter::Reporter;

const REPORT_EVERY: u64 = 64 << 20;

/// Why an image was not made the store's own.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// Not in the store.
    #[error("there is no image named {name} in the store")]
    NotFound {
        /// What was asked for.
        name: ImageName,
    },
    /// The user's file is gone or another.
    #[error("cannot promote the image {name}")]
    File {
        /// The image.
        name: ImageName,
        /// The cause.
        source: StampError,
    },
    /// It could not be copied.
    #[error("cannot copy the root filesystem of the image {name}")]
    Copy {
        /// The image.
        name: ImageName,
        /// The cause.
        source: io::Error,
    },
    /// It never got its turn.
    #[error("the image was not promoted")]
    Lock(#[source] LockError),
    /// The store could not be written.
    #[error("cannot store the image {name}")]
    Store {
        /// The image.
        name: ImageName,
        /// The cause.
        source: ShelfError,
    },
    /// The user stopped it.
    #[error("promoting the image {name} was cancelled")]
    Cancelled {
        /// The image.
        name: ImageName,
    },
}

impl Classified for PromoteError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::File { source, .. } => source.kind(),
            Self::Cancelled { .. } | Self::Lock(LockError::Cancelled { .. }) => Kind::Cancelled,
            Self::Copy { .. } | Self::Lock(_) | Self::Store { .. } if caused_by_full_disk(self) => Kind::HostNotReady,
            Self::Copy { .. } | Self::Lock(_) | Self::Store { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => vec!["See what is there with `banger image list`.".to_owned()],
            Self::File { source, .. } => source.hints(),
            Self::Copy { .. } | Self::Lock(_) | Self::Store { .. } | Self::Cancelled { .. } => disk_full_hint(self),
        }
    }
}

impl ImageStore {
    /// Copies the root filesystem of an image that is used in place. One that is the store's own already is
    /// returned as it is.
    ///
    /// # Errors
    /// See [`PromoteError`].
    pub async fn promote(&self, name: &ImageName, reporter: &Reporter) -> Result<ImageArtifacts, PromoteError> {
        let store = |source| PromoteError::Store { name: name.clone(), source };
        let lock = self.shelf.lock(name.as_str(), reporter).await.map_err(PromoteError::Lock)?;
        let found = self.get(name).ok_or_else(|| PromoteError::NotFound { name: name.clone() })?;
        let Some(stamp) = found.in_place.clone() else { return Ok(found) };
        let path = found.directory.join(MANIFEST);
        let manifest = std::fs::read(&path).map_err(ShelfError::on("read", &path)).map_err(store)?;
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|error| ShelfError::on("read", &path)(error.into()))
            .map_err(store)?;
        reporter.stage("image", format!("copying {}", stamp.path.display()));
        let staged = self.shelf.stage(&lock).map_err(store)?;
        let (to, told) = (staged.path().join(ROOTFS), reporter.clone());
        // The staged directory moves along, so that it is removed after the last write even if nobody waits.
        let copying = tokio::task::spawn_blocking(move || (take(&stamp, &to, &told), staged));
        let (copied, staged) = copying.await.expect("copying a file does not panic");
        copied.map_err(|taken| match taken {
            Taken::File(source) => PromoteError::File { name: name.clone(), source },
            Taken::Copy(_) if reporter.cancellation().is_cancelled() => PromoteError::Cancelled { name: name.clone() },
            Taken::Copy(source) => PromoteError::Copy { name: name.clone(), source },
        })?;
        let manifest = Manifest { in_place: None, created_unix_ms: crate::artifact::unix_ms(), ..manifest };
        let directory = self.shelf.publish(staged, &manifest).map_err(store)?;
        artifacts(Shelved { directory, manifest }).ok_or_else(|| PromoteError::NotFound { name: name.clone() })
    }
}

enum Taken {
    File(StampError),
    Copy(io::Error),
}

impl From<StampError> for Taken {
    fn from(error: StampError) -> Self {
        Self::File(error)
    }
}

impl From<io::Error> for Taken {
    fn from(error: io::Error) -> Self {
        Self::Copy(error)
    }
}

/// The digest of the manifest stays true if the file is the registered one before and after.
fn take(stamp: &FileStamp, to: &std::path::Path, reporter: &Reporter) -> Result<(), Taken> {
    stamp.verify()?;
    let from = File::open(&stamp.path)?;
    let to = File::options().write(true).create_new(true).open(to)?;
    if !copy::reflink(&from, &to)? {
        let size = from.metadata()?.len();
        let mut reported = 0;
        copy::copy(&from, &to, |at| {
            if at / REPORT_EVERY != reported {
                reported = at / REPORT_EVERY;
                reporter.progress(at, size, ProgressUnit::Bytes, "copying");
            }
            if reporter.cancellation().is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
        })?;
    }
    to.sync_all()?;
    Ok(stamp.verify()?)
}
