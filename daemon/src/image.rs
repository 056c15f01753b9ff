//! Images: read-only root filesystems, exactly as their source made them.
//!
//! [`ImageStore::ensure`] is the whole pipeline: [`crate::catalog`] says what it is made of, [`debian`] makes
//! it, [`inspect`] learns what it can do. An image never changes once it is in the store; VMs write to
//! overlays. The host never mounts or opens a guest filesystem.

mod bundle;
mod container;
mod debian;
mod error;
mod import;
mod inspect;
mod promote;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_proto::names::{ImageId, ImageName, KernelName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::artifact::bootstrap::{BootstrapError, Mmdebstrap, RunError};
use crate::artifact::shelf::{BuildLock, MANIFEST, Shelf, Shelved};
use crate::artifact::stamp::FileStamp;
use crate::catalog::{Catalog, DebianRecipe, ImageRecipe, ImageSource};
use crate::oci::cache::BlobCache;
use crate::oci::settings::Settings;
use crate::reporter::Reporter;

pub use crate::artifact::Refresh;
pub use bundle::BundleError;
pub use container::{ContainerOptions, ContainerSource, Files, FlattenImageError};
pub(crate) use debian::FINISH;
pub use debian::WriteError;
#[cfg(test)]
pub(crate) use debian::bootstrap;
pub use error::{ImageDeleteError, ImagePullError, ImageStoreError};
pub use import::{RegisterError, Registered, RootfsFile};
pub use promote::PromoteError;

const ROOTFS: &str = "rootfs.ext4";

/// An image in the store. Its files never change; a rebuild makes new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageArtifacts {
    /// Name in the store.
    pub name: ImageName,
    /// Identity of its recipe and content.
    pub id: ImageId,
    /// The store's directory for this build.
    pub directory: PathBuf,
    /// Raw ext4, sparse; in `directory`, unless it is used in place.
    pub rootfs: PathBuf,
    /// The user's own file that is used where it is.
    pub in_place: Option<FileStamp>,
    /// Program to run as PID 1, if it has one.
    pub init_path: Option<String>,
    /// "systemd", "busybox", "openrc", "other" or "none".
    pub init: String,
    /// It has an SSH server.
    pub has_sshd: bool,
    /// The kernel it boots with unless asked otherwise.
    pub kernel: KernelName,
    /// Where it came from.
    pub source: String,
    /// SHA-256 of the content it was made from.
    pub digest: String,
    /// PRETTY_NAME of its os-release.
    pub os_pretty_name: String,
    /// Nominal size of the filesystem.
    pub size_bytes: u64,
    /// Bytes on disk.
    pub allocated_bytes: u64,
    /// When it was made.
    pub created_unix_ms: i64,
    /// `KEY=value` its source configured; empty for a distribution.
    pub environment: Vec<String>,
    /// The directory its source configured, or empty.
    pub working_directory: String,
    /// The user its source configured, or empty for root.
    pub user: String,
}

impl ImageArtifacts {
    /// Of the allocated bytes, what stays on disk when the image goes: blocks that other files share, or the
    /// user's own file.
    pub fn shared_bytes(&self) -> u64 {
        match &self.in_place {
            Some(_) => self.allocated_bytes,
            // An extent may be longer than what the file has of it.
            None => crate::artifact::extents::shared_bytes(&self.rootfs).min(self.allocated_bytes),
        }
    }
}

/// An image that could be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableImage {
    /// Name in the catalog.
    pub name: ImageName,
    /// For people.
    pub description: String,
    /// The kernel it would boot with.
    pub kernel: KernelName,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    name: String,
    id: String,
    init_path: Option<String>,
    init: String,
    has_sshd: bool,
    kernel: String,
    source: String,
    digest: String,
    os_pretty_name: String,
    size_bytes: u64,
    created_unix_ms: i64,
    environment: Vec<String>,
    working_directory: String,
    user: String,
    /// The root filesystem is this file of the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_place: Option<FileStamp>,
    /// Equal ones have the same bytes; of container images only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl Manifest {
    /// Of a file that has no configuration of its own.
    fn unconfigured(name: &ImageName, id: String, digest: String, kernel: &KernelName) -> Self {
        Self {
            name: name.to_string(),
            id,
            init_path: None,
            init: "none".to_owned(),
            has_sshd: false,
            kernel: kernel.to_string(),
            source: String::new(),
            digest,
            os_pretty_name: String::new(),
            size_bytes: 0,
            created_unix_ms: crate::artifact::unix_ms(),
            environment: Vec::new(),
            working_directory: String::new(),
            user: String::new(),
            in_place: None,
            content: None,
        }
    }
}

/// Whether users' files may be used where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InPlace {
    /// The daemon sees what its user sees.
    Allowed,
    /// Only the store's own directory can be booted from.
    Refused,
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore {
    shelf: Shelf,
    catalog: Arc<Catalog>,
    mmdebstrap: Mmdebstrap,
    blobs: BlobCache,
    settings: Arc<Settings>,
    in_place: InPlace,
}

impl ImageStore {
    /// Opens the store at `root` with the embedded catalog and removes what interrupted builds left there.
    /// Layers of container images go below `cache`.
    ///
    /// # Errors
    /// If the directory cannot be made or listed.
    pub fn open(root: PathBuf, cache: PathBuf) -> Result<Self, ImageStoreError> {
        let shelf = Shelf::open(root).map_err(|source| ImageStoreError { source })?;
        Ok(Self {
            shelf,
            catalog: Arc::new(Catalog::embedded()),
            mmdebstrap: Mmdebstrap::default(),
            blobs: BlobCache::at(cache.join("blobs")),
            settings: Arc::default(),
            in_place: InPlace::Allowed,
        })
    }

    /// Whether users' files may be used where they are.
    #[must_use]
    pub fn with_in_place(mut self, in_place: InPlace) -> Self {
        self.in_place = in_place;
        self
    }

    /// Layers of container images, kept between pulls.
    pub fn blobs(&self) -> &BlobCache {
        &self.blobs
    }

    /// Where files may wait to become part of the store; swept at the next start.
    pub fn staging(&self) -> PathBuf {
        self.shelf.staging()
    }

    /// Uses these mirrors and authorities.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = Arc::new(settings);
        self
    }

    /// Uses another catalog.
    #[must_use]
    pub fn with_catalog(mut self, catalog: Arc<Catalog>) -> Self {
        self.catalog = catalog;
        self
    }

    /// Uses another program in place of mmdebstrap.
    #[must_use]
    pub fn with_mmdebstrap(mut self, mmdebstrap: Mmdebstrap) -> Self {
        self.mmdebstrap = mmdebstrap;
        self
    }

    /// Every image in the store, by name. An unreadable store is logged and looks empty.
    pub fn list(&self) -> Vec<ImageArtifacts> {
        let shelved = self.shelf.newest::<Manifest>();
        crate::artifact::or_log(shelved, "images").into_iter().filter_map(artifacts).collect()
    }

    /// Every image of the catalog, in the store or not.
    pub fn available(&self) -> Vec<AvailableImage> {
        let describe = |recipe: &ImageRecipe| AvailableImage {
            name: recipe.name.clone(),
            description: recipe.description.clone(),
            kernel: recipe.kernel.clone(),
        };
        self.catalog.images.iter().map(describe).collect()
    }

    /// Whether the catalog has a recipe of that name.
    pub fn in_catalog(&self, name: &ImageName) -> bool {
        self.catalog.image(name).is_some()
    }

    /// An image in the store.
    pub fn get(&self, name: &ImageName) -> Option<ImageArtifacts> {
        self.list().into_iter().find(|image| image.name == *name)
    }

    /// Builds that a rebuild has replaced; overlays of VMs may still need them. Remove each with
    /// [`ImageStore::remove_superseded`] once unused.
    pub fn superseded(&self) -> Vec<ImageArtifacts> {
        let shelved = self.shelf.superseded::<Manifest>();
        crate::artifact::or_log(shelved, "images").into_iter().filter_map(artifacts).collect()
    }

    /// Removes one build returned by [`ImageStore::superseded`].
    ///
    /// # Errors
    /// The first file that could not be removed.
    pub fn remove_superseded(&self, image: &ImageArtifacts) -> Result<(), ImageDeleteError> {
        self.remove(&image.name, &image.directory)
    }

    /// The image, made now if it is absent (or anyway). A build of the same name under way is waited for
    /// and its result shared; if it fails or is cancelled, this call builds.
    ///
    /// # Errors
    /// See [`ImagePullError`].
    pub async fn ensure(
        &self,
        name: &ImageName,
        refresh: Refresh,
        reporter: &Reporter,
    ) -> Result<ImageArtifacts, ImagePullError> {
        let before = self.get(name);
        if let (Refresh::IfAbsent, Some(found)) = (refresh, &before) {
            return Ok(found.clone());
        }
        let recipe = self.catalog.image(name).ok_or_else(|| ImagePullError::Unknown {
            name: name.clone(),
            available: self.catalog.images.iter().map(|recipe| recipe.name.to_string()).collect(),
        })?;
        if let ImageSource::Oci { reference } = &recipe.source {
            return self.pull_recipe(recipe, reference, refresh, reporter).await;
        }
        let lock = self.shelf.lock(name.as_str(), reporter).await.map_err(ImagePullError::Lock)?;
        // Whoever held the lock may have made it meanwhile.
        if let Some(found) = self.get(name)
            && (refresh == Refresh::IfAbsent || before.is_none_or(|before| before.rootfs != found.rootfs))
        {
            return Ok(found);
        }
        self.build_now(recipe, &lock, reporter).await
    }

    /// What the recipe describes, made now under its name; an older build of that name is superseded.
    ///
    /// # Errors
    /// See [`ImagePullError`].
    pub async fn build(&self, recipe: &ImageRecipe, reporter: &Reporter) -> Result<ImageArtifacts, ImagePullError> {
        if let ImageSource::Oci { reference } = &recipe.source {
            return self.pull_recipe(recipe, reference, Refresh::Always, reporter).await;
        }
        let lock = self.shelf.lock(recipe.name.as_str(), reporter).await.map_err(ImagePullError::Lock)?;
        self.build_now(recipe, &lock, reporter).await
    }

    /// Removes an image with all its builds. Nothing checks here whether a VM uses it.
    ///
    /// # Errors
    /// [`ImageDeleteError::NotFound`], or the first file that could not be removed.
    pub async fn delete(&self, name: &ImageName) -> Result<ImageArtifacts, ImageDeleteError> {
        let found = self.get(name).ok_or_else(|| ImageDeleteError::NotFound {
            name: name.clone(),
            stored: self.list().iter().map(|image| image.name.to_string()).collect(),
        })?;
        let builds = self.shelf.builds_of::<serde::de::IgnoredAny>(name.as_str());
        let builds = builds.map_err(|source| ImageDeleteError::Remove { name: name.clone(), source })?;
        let mut outcome = Ok(());
        for build in builds {
            outcome = outcome.and(self.remove(name, &build.directory));
        }
        outcome.map(|()| found)
    }

    fn remove(&self, name: &ImageName, directory: &Path) -> Result<(), ImageDeleteError> {
        self.shelf
            .remove(directory, &[ROOTFS])
            .map_err(|source| ImageDeleteError::Remove { name: name.clone(), source })
    }

    async fn build_now(
        &self,
        recipe: &ImageRecipe,
        lock: &BuildLock,
        reporter: &Reporter,
    ) -> Result<ImageArtifacts, ImagePullError> {
        let name = || recipe.name.clone();
        let store = |source| ImagePullError::Store { name: name(), source };
        let debian = match &recipe.source {
            ImageSource::Debian(debian) => debian,
            ImageSource::Bundle { url, sha256 } => {
                return self.download_bundle(recipe, (url, sha256), lock, reporter).await;
            }
            // Those who call this have sent it elsewhere: it takes the lock itself.
            ImageSource::Oci { .. } => return Err(ImagePullError::Cancelled { name: name() }),
        };
        reporter.stage("image", format!("making the image {} from {}", recipe.name, recipe.source()));
        let staged = self.shelf.stage(lock).map_err(store)?;
        let rootfs = staged.path().join(ROOTFS);
        let consume = {
            let (rootfs, reporter) = (rootfs.clone(), reporter.clone());
            // The staged directory moves along, so that it is removed after the last write even if nobody waits.
            move |stream| debian::write_rootfs(stream, &rootfs, &reporter).map(|written| (staged, written))
        };
        let (staged, written) =
            match self.mmdebstrap.run(&debian::bootstrap(recipe.name.as_str(), debian), reporter, consume).await {
                Ok(done) => done,
                Err(RunError::Bootstrap(BootstrapError::Cancelled { .. })) => {
                    return Err(ImagePullError::Cancelled { name: name() });
                }
                Err(RunError::Bootstrap(source)) => return Err(ImagePullError::Bootstrap { name: name(), source }),
                Err(RunError::Consumer(source)) => return Err(ImagePullError::Write { name: name(), source }),
            };
        if reporter.cancellation().is_cancelled() {
            return Err(ImagePullError::Cancelled { name: name() });
        }
        let digest = format!("sha256:{}", written.digest);
        let id = identity(recipe.name.as_str(), debian, &written.digest);
        let manifest = Manifest {
            init_path: written.inspected.init_path,
            init: written.inspected.init,
            has_sshd: written.inspected.has_sshd,
            source: recipe.source(),
            os_pretty_name: written.inspected.os_pretty_name,
            size_bytes: written.size_bytes,
            ..Manifest::unconfigured(&recipe.name, id, digest, &recipe.kernel)
        };
        let directory = self.shelf.publish(staged, &manifest).map_err(store)?;
        artifacts(Shelved { directory, manifest }).ok_or(ImagePullError::Cancelled { name: name() })
    }
}

/// SHA-256 over the recipe and the digest of the content, each field ended by a zero byte.
fn identity(name: &str, recipe: &DebianRecipe, digest: &str) -> String {
    let mut hash = Sha256::new();
    let lists = [&recipe.packages, &recipe.exclude, &recipe.include].map(|list| list.join("\n"));
    // Files and commands show in the content.
    let fields = [name, &recipe.suite, &lists[0], &lists[1], &lists[2], digest];
    for field in fields {
        hash.update(field.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn artifacts(shelved: Shelved<Manifest>) -> Option<ImageArtifacts> {
    let Shelved { directory, manifest } = shelved;
    let parsed = manifest.name.parse().and_then(|name| Ok((name, manifest.id.parse()?, manifest.kernel.parse()?)));
    let (name, id, kernel) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            tracing::warn!(path = %directory.join(MANIFEST).display(), %error, "skipping an image");
            return None;
        }
    };
    let rootfs = manifest.in_place.as_ref().map_or_else(|| directory.join(ROOTFS), |stamp| stamp.path.clone());
    Some(ImageArtifacts {
        name,
        id,
        allocated_bytes: crate::artifact::allocated(&rootfs),
        directory,
        rootfs,
        in_place: manifest.in_place,
        init_path: manifest.init_path,
        init: manifest.init,
        has_sshd: manifest.has_sshd,
        kernel,
        source: manifest.source,
        digest: manifest.digest,
        os_pretty_name: manifest.os_pretty_name,
        size_bytes: manifest.size_bytes,
        created_unix_ms: manifest.created_unix_ms,
        environment: manifest.environment,
        working_directory: manifest.working_directory,
        user: manifest.user,
    })
}
