//! Images that are finished already: bundles from a URL or a file, root filesystems that a user has made.
//!
//! A bundle's digest is compared before a byte of it is unpacked. A user's filesystem is believed to be what
//! the user says it is; the host only looks at its superblock.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::{ImageName, KernelName};
use banger_proto::v1::ProgressUnit;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::{
    BundleError, ContainerOptions, ContainerSource, ImageArtifacts, ImagePullError, ImageStore, InPlace, Manifest,
    ROOTFS, Refresh, artifacts, bundle, hex,
};
use crate::artifact::shelf::{BuildLock, LockError, ShelfError, Shelved, Staged};
use crate::artifact::stamp::{FileStamp, StampError};
use crate::artifact::{caused_by_full_disk, disk_full_hint};
use crate::catalog::ImageRecipe;
use crate::oci::manifest::Platform;
use crate::oci::reference;
use crate::reporter::Reporter;

/// Compressed.
const MOST_BUNDLE_BYTES: u64 = 16 << 30;
const REPORT_EVERY: u64 = 8 << 20;

/// A root filesystem as its maker describes it.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Name in the store.
    pub name: ImageName,
    /// The file.
    pub rootfs: RootfsFile,
    /// The kernel it boots with.
    pub kernel: KernelName,
    /// Program to run as PID 1, if it has one.
    pub init_path: Option<String>,
    /// It has an SSH server that its init starts.
    pub has_sshd: bool,
    /// What the user called the file.
    pub described: String,
    /// Whether an image of that name is superseded.
    pub refresh: Refresh,
}

/// What becomes of a user's root filesystem.
#[derive(Debug, Clone)]
pub enum RootfsFile {
    /// It moves into the store.
    Taken(PathBuf),
    /// It stays where it is, and the user's.
    InPlace(PathBuf),
}

/// Why a file did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// There is one of that name.
    #[error("there is an image named {name} already")]
    Exists {
        /// The name.
        name: ImageName,
    },
    /// It is no image.
    #[error("cannot use the file as the image {name}")]
    File {
        /// The name.
        name: ImageName,
        /// The cause.
        source: BundleError,
    },
    /// It was to stay where this daemon cannot boot from.
    #[error("the image {name} cannot be used in place: this daemon boots from its own directory only")]
    InPlace {
        /// The name.
        name: ImageName,
    },
    /// The file that was to stay where it is cannot be used there.
    #[error("cannot register the image {name}")]
    Stamp {
        /// The name.
        name: ImageName,
        /// The cause.
        source: StampError,
    },
    /// It never got its turn.
    #[error("the image was not stored")]
    Lock(#[source] LockError),
    /// The store could not be written.
    #[error("cannot store the image {name}")]
    Store {
        /// The name.
        name: ImageName,
        /// The cause.
        source: ShelfError,
    },
}

impl Classified for RegisterError {
    fn kind(&self) -> Kind {
        match self {
            Self::Exists { .. } => Kind::Conflict,
            Self::InPlace { .. } | Self::File { source: BundleError::Contents { .. }, .. } => Kind::Refused,
            Self::Stamp { source, .. } => source.kind(),
            Self::Lock(LockError::Cancelled { .. }) => Kind::Cancelled,
            Self::File { .. } | Self::Lock(_) | Self::Store { .. } if caused_by_full_disk(self) => Kind::HostNotReady,
            Self::File { .. } | Self::Lock(_) | Self::Store { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Exists { name } => {
                vec![format!("Choose another name with `--name`, or remove it with `banger image delete {name}`.")]
            }
            Self::InPlace { .. } => vec!["Leave out `--in-place`: the file is copied then.".to_owned()],
            Self::Stamp { source: StampError::Changed { .. }, .. } => vec!["Let nobody write to it.".to_owned()],
            Self::File { .. } | Self::Stamp { .. } | Self::Lock(_) | Self::Store { .. } => disk_full_hint(self),
        }
    }
}

impl ImageStore {
    /// Takes over a user's root filesystem.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(&self, registered: Registered, reporter: &Reporter) -> Result<ImageArtifacts, RegisterError> {
        let name = registered.name.clone();
        let store = |source| RegisterError::Store { name: name.clone(), source };
        let lock = self.shelf.lock(name.as_str(), reporter).await.map_err(RegisterError::Lock)?;
        if registered.refresh == Refresh::IfAbsent && self.get(&name).is_some() {
            return Err(RegisterError::Exists { name });
        }
        let staged = self.shelf.stage(&lock).map_err(store)?;
        let (rootfs, in_place) = match registered.rootfs {
            RootfsFile::Taken(path) => {
                let rootfs = staged.path().join(ROOTFS);
                std::fs::rename(&path, &rootfs).map_err(ShelfError::on("move", &path)).map_err(store)?;
                (rootfs, None)
            }
            RootfsFile::InPlace(_) if self.in_place == InPlace::Refused => {
                return Err(RegisterError::InPlace { name });
            }
            RootfsFile::InPlace(path) => {
                let stamp = FileStamp::observe(&path);
                let stamp = stamp.map_err(|source| RegisterError::Stamp { name: name.clone(), source })?;
                (stamp.path.clone(), Some(stamp))
            }
        };
        reporter.stage("image", format!("checking {}", registered.described));
        let checked = tokio::task::spawn_blocking(move || {
            bundle::superblock(&rootfs).and_then(|size| Ok((size, digest(&rootfs)?)))
        });
        let (size_bytes, digest) = checked
            .await
            .expect("checking a file does not panic")
            .map_err(|source| RegisterError::File { name: name.clone(), source })?;
        if let Some(stamp) = &in_place {
            stamp.verify().map_err(|source| RegisterError::Stamp { name: name.clone(), source })?;
        }
        let id = hex(&Sha256::digest(format!("registered\0{name}\0{digest}")));
        let manifest = Manifest {
            init: if registered.init_path.is_some() { "other" } else { "none" }.to_owned(),
            init_path: registered.init_path,
            has_sshd: registered.has_sshd,
            source: registered.described,
            size_bytes,
            in_place,
            ..Manifest::unconfigured(&name, id, format!("sha256:{digest}"), &registered.kernel)
        };
        let directory = self.shelf.publish(staged, &manifest).map_err(store)?;
        artifacts(Shelved { directory, manifest }).ok_or(RegisterError::Exists { name })
    }

    /// Makes an image of a bundle in a file; its own name is used if none is given.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn import_bundle(
        &self,
        file: PathBuf,
        name: ImageName,
        refresh: Refresh,
        reporter: &Reporter,
    ) -> Result<ImageArtifacts, RegisterError> {
        let lock = self.shelf.lock(name.as_str(), reporter).await.map_err(RegisterError::Lock)?;
        if refresh == Refresh::IfAbsent && self.get(&name).is_some() {
            return Err(RegisterError::Exists { name });
        }
        let staged = self.shelf.stage(&lock).map_err(|source| RegisterError::Store { name: name.clone(), source })?;
        let read = read_bundle(file, staged).await;
        let (staged, manifest) = read.map_err(|source| RegisterError::File { name: name.clone(), source })?;
        self.publish_bundle(staged, manifest, &name, None)
            .map_err(|source| RegisterError::Store { name: name.clone(), source })?
            .ok_or(RegisterError::Exists { name })
    }

    /// Writes an image as a bundle.
    ///
    /// # Errors
    /// If its files cannot be read or `out` not written.
    pub fn export(image: &ImageArtifacts, out: impl std::io::Write) -> Result<(), BundleError> {
        bundle::write(&image.directory, &image.rootfs, out)
    }

    /// A catalog entry that is a container image.
    pub(super) async fn pull_recipe(
        &self,
        recipe: &ImageRecipe,
        reference: &str,
        refresh: Refresh,
        reporter: &Reporter,
    ) -> Result<ImageArtifacts, ImagePullError> {
        let fetch = |reason: String| ImagePullError::Download { url: reference.to_owned(), source: reason.into() };
        let parsed = reference::parse(reference).map_err(|error| fetch(error.to_string()))?;
        let options = ContainerOptions {
            name: recipe.name.clone(),
            kernel: recipe.kernel.clone(),
            size_bytes: 0,
            platform: Platform::default(),
            refresh,
        };
        let source = ContainerSource::Registry { reference: Box::new(parsed), credential: None };
        self.pull_container(source, options, reporter).await
    }

    /// A catalog entry that is a bundle.
    pub(super) async fn download_bundle(
        &self,
        recipe: &ImageRecipe,
        (url, wanted): (&str, &str),
        lock: &BuildLock,
        reporter: &Reporter,
    ) -> Result<ImageArtifacts, ImagePullError> {
        let name = recipe.name.clone();
        let store = |source| ImagePullError::Store { name: name.clone(), source };
        let staged = self.shelf.stage(lock).map_err(store)?;
        reporter.stage("image", format!("downloading {url}"));
        let file = staged.path().join("bundle");
        let fetched = tokio::select! {
            fetched = fetch(url, &file, reporter) => fetched,
            () = reporter.cancellation().cancelled() => return Err(ImagePullError::Cancelled { name }),
        };
        let found = fetched.map_err(|source| ImagePullError::Download { url: url.to_owned(), source })?;
        if found != wanted {
            return Err(ImagePullError::BundleDigest { url: url.to_owned(), wanted: wanted.to_owned(), found });
        }
        reporter.stage("write", format!("unpacking the image {name}"));
        let read = read_bundle(file.clone(), staged).await;
        let (staged, manifest) = read.map_err(|source| ImagePullError::Bundle { name: name.clone(), source })?;
        std::fs::remove_file(&file).map_err(ShelfError::on("remove", &file)).map_err(store)?;
        let made = self.publish_bundle(staged, manifest, &name, Some((url, &recipe.kernel))).map_err(store)?;
        made.ok_or(ImagePullError::Cancelled { name })
    }

    fn publish_bundle(
        &self,
        staged: Staged,
        mut manifest: Manifest,
        name: &ImageName,
        from: Option<(&str, &KernelName)>,
    ) -> Result<Option<ImageArtifacts>, ShelfError> {
        manifest.name = name.to_string();
        // Whoever made the bundle has no say about this host's files, nor about what other bytes equal its own.
        (manifest.in_place, manifest.content) = (None, None);
        manifest.created_unix_ms = crate::artifact::unix_ms();
        if let Some((url, kernel)) = from {
            manifest.source = url.to_owned();
            manifest.kernel = kernel.to_string();
        }
        let directory = self.shelf.publish(staged, &manifest)?;
        Ok(artifacts(Shelved { directory, manifest }))
    }
}

async fn read_bundle(file: PathBuf, staged: Staged) -> Result<(Staged, Manifest), BundleError> {
    let read =
        tokio::task::spawn_blocking(move || bundle::read(&file, staged.path()).map(|manifest| (staged, manifest)));
    read.await.expect("reading a bundle does not panic")
}

fn digest(path: &Path) -> Result<String, BundleError> {
    let failed = |source| BundleError::File { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0u8; 1 << 20];
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&piece[..count]);
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Downloads `url` to a new file; returns its SHA-256.
async fn fetch(url: &str, to: &Path, reporter: &Reporter) -> Result<String, Cause> {
    let mut file = File::options().write(true).create_new(true).open(to)?;
    let mut hash = Sha256::new();
    let (mut done, mut total) = (0u64, 0u64);
    let mut pieces = if let Some(path) = url.strip_prefix("file://") {
        let local = File::open(path)?;
        total = local.metadata()?.len();
        pieces_of(local).boxed()
    } else {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let response = reqwest::get(url).await?.error_for_status()?;
        total = response.content_length().unwrap_or(total);
        response.bytes_stream().map(|piece| piece.map_err(Cause::from)).boxed()
    };
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if done + piece.len() as u64 > MOST_BUNDLE_BYTES {
            return Err(format!("it has more than {MOST_BUNDLE_BYTES} bytes").into());
        }
        file.write_all(&piece)?;
        hash.update(&piece);
        let before = done;
        done += piece.len() as u64;
        if before / REPORT_EVERY != done / REPORT_EVERY {
            reporter.progress(done, total, ProgressUnit::Bytes, "downloading");
        }
    }
    Ok(hex(&hash.finalize()))
}

fn pieces_of(mut file: File) -> impl futures::Stream<Item = Result<bytes::Bytes, Cause>> + Send {
    futures::stream::iter(std::iter::from_fn(move || {
        let mut piece = vec![0u8; 1 << 20];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some(Ok(bytes::Bytes::from(piece)))
            }
            Err(error) => Some(Err(Cause::from(error))),
        }
    }))
}
