//! Kernels: fetched from a distribution, unpacked or compiled, converted, kept.
//!
//! [`KernelStore::ensure`] is the whole pipeline: [`crate::catalog`] says which package, mmdebstrap fetches it
//! with apt's signature check, [`compile`] makes a kernel of it if it is a source package, [`package`] makes `vmlinux`,
//! `modules.cpio` and `modules.ext4`. No privilege is needed and nothing is installed on the host.

mod bzimage;
pub(crate) mod compile;
pub mod cpio;
mod error;
mod import;
mod initrd;
mod modules;
mod package;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_proto::names::KernelName;
use serde::{Deserialize, Serialize};

use crate::artifact::bootstrap::{BootstrapError, Mmdebstrap, Mode, Output, Recipe, RunError};
use crate::artifact::shelf::{BuildLock, MANIFEST, Shelf, Shelved, Staged};
use crate::catalog::{Catalog, KernelConfig, KernelMaking, KernelRecipe};
use crate::reporter::Reporter;

pub use crate::artifact::Refresh;
pub use error::{KernelDeleteError, KernelPullError, KernelStoreError};
pub use import::{ImportedKernel, KernelImportError};

use package::PackageError;

const FILES: [&str; 3] = [package::VMLINUX, package::MODULES_CPIO, package::MODULES_EXT4];

/// A kernel in the store. Its files never change; a rebuild makes new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelArtifacts {
    /// Name in the store.
    pub name: KernelName,
    /// `uname -r` of it.
    pub release: String,
    /// Where it came from, with the package's version.
    pub source: String,
    /// For people.
    pub description: String,
    /// Where its files are.
    pub directory: PathBuf,
    /// Uncompressed kernel (ELF).
    pub vmlinux: PathBuf,
    /// newc archive with /modules/*.ko, /modules/order and /modules/order.firecracker.
    pub modules_cpio: PathBuf,
    /// Read-only ext4 with the content of /lib/modules/<release>.
    pub modules_ext4: PathBuf,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// When it was made.
    pub created_unix_ms: i64,
}

/// A kernel that could be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableKernel {
    /// Name in the catalog.
    pub name: KernelName,
    /// For people.
    pub description: String,
    /// Where it would come from.
    pub source: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    name: String,
    release: String,
    source: String,
    description: String,
    size_bytes: u64,
    created_unix_ms: i64,
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KernelStore {
    shelf: Shelf,
    catalog: Arc<Catalog>,
    mmdebstrap: Mmdebstrap,
}

impl KernelStore {
    /// Opens the store at `root` with the embedded catalog and removes what interrupted builds left there.
    /// Nothing is cached yet, so `cache` stays untouched.
    ///
    /// # Errors
    /// If the directory cannot be made or listed.
    pub fn open(root: PathBuf, cache: PathBuf) -> Result<Self, KernelStoreError> {
        let _ = cache;
        let shelf = Shelf::open(root).map_err(|source| KernelStoreError { source })?;
        Ok(Self { shelf, catalog: Arc::new(Catalog::embedded()), mmdebstrap: Mmdebstrap::default() })
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

    /// Every kernel in the store, by name. An unreadable store is logged and looks empty.
    pub fn list(&self) -> Vec<KernelArtifacts> {
        let shelved = self.shelf.newest::<Manifest>();
        crate::artifact::or_log(shelved, "kernels").into_iter().filter_map(artifacts).collect()
    }

    /// Every kernel of the catalog, in the store or not.
    pub fn available(&self) -> Vec<AvailableKernel> {
        let describe = |recipe: &KernelRecipe| AvailableKernel {
            name: recipe.name.clone(),
            description: recipe.description.clone(),
            source: recipe.source(),
        };
        self.catalog.kernels.iter().map(describe).collect()
    }

    /// Where files may wait to become part of the store; swept at the next start.
    pub fn staging(&self) -> PathBuf {
        self.shelf.staging()
    }

    /// A kernel in the store.
    pub fn get(&self, name: &KernelName) -> Option<KernelArtifacts> {
        self.list().into_iter().find(|kernel| kernel.name == *name)
    }

    /// Builds that a rebuild has replaced; remove each with [`KernelStore::remove_superseded`] once unused.
    pub fn superseded(&self) -> Vec<KernelArtifacts> {
        let shelved = self.shelf.superseded::<Manifest>();
        crate::artifact::or_log(shelved, "kernels").into_iter().filter_map(artifacts).collect()
    }

    /// Removes one build returned by [`KernelStore::superseded`].
    ///
    /// # Errors
    /// The first file that could not be removed.
    pub fn remove_superseded(&self, kernel: &KernelArtifacts) -> Result<(), KernelDeleteError> {
        self.remove(&kernel.name, &kernel.directory)
    }

    /// Takes back a build that was made a moment ago; an older one of its name is the newest again.
    ///
    /// # Errors
    /// The first file that could not be removed.
    pub fn discard(&self, kernel: &KernelArtifacts) -> Result<(), KernelDeleteError> {
        self.remove(&kernel.name, &kernel.directory)
    }

    /// Whether the catalog has a recipe of that name.
    pub fn in_catalog(&self, name: &KernelName) -> bool {
        self.catalog.kernel(name).is_some()
    }

    /// The kernel, made now if it is absent (or anyway). A build of the same name under way is waited for
    /// and its result shared; if it fails or is cancelled, this call builds.
    ///
    /// # Errors
    /// See [`KernelPullError`].
    pub async fn ensure(
        &self,
        name: &KernelName,
        refresh: Refresh,
        reporter: &Reporter,
    ) -> Result<KernelArtifacts, KernelPullError> {
        let before = self.get(name);
        if let (Refresh::IfAbsent, Some(found)) = (refresh, &before) {
            return Ok(found.clone());
        }
        let recipe = self.catalog.kernel(name).ok_or_else(|| KernelPullError::Unknown {
            name: name.clone(),
            available: self.catalog.kernels.iter().map(|recipe| recipe.name.to_string()).collect(),
        })?;
        let lock = self.shelf.lock(name.as_str(), reporter).await.map_err(KernelPullError::Lock)?;
        // Whoever held the lock may have made it meanwhile.
        if let Some(found) = self.get(name)
            && (refresh == Refresh::IfAbsent || before.is_none_or(|before| before.directory != found.directory))
        {
            return Ok(found);
        }
        self.build(recipe, &lock, reporter).await
    }

    /// Removes a kernel with all its builds.
    ///
    /// # Errors
    /// [`KernelDeleteError::NotFound`], or the first file that could not be removed.
    pub async fn delete(&self, name: &KernelName) -> Result<KernelArtifacts, KernelDeleteError> {
        let found = self.get(name).ok_or_else(|| KernelDeleteError::NotFound {
            name: name.clone(),
            stored: self.list().iter().map(|kernel| kernel.name.to_string()).collect(),
        })?;
        let builds = self.shelf.builds_of::<serde::de::IgnoredAny>(name.as_str());
        let builds = builds.map_err(|source| KernelDeleteError::Remove { name: name.clone(), source })?;
        let mut outcome = Ok(());
        for build in builds {
            outcome = outcome.and(self.remove(name, &build.directory));
        }
        outcome.map(|()| found)
    }

    fn remove(&self, name: &KernelName, directory: &Path) -> Result<(), KernelDeleteError> {
        self.shelf.remove(directory, &FILES).map_err(|source| KernelDeleteError::Remove { name: name.clone(), source })
    }

    async fn build(
        &self,
        recipe: &KernelRecipe,
        lock: &BuildLock,
        reporter: &Reporter,
    ) -> Result<KernelArtifacts, KernelPullError> {
        let shelf_error = |source| KernelPullError::Store { name: recipe.name.clone(), source };
        reporter.stage("kernel", format!("making the kernel {} from {}", recipe.name, recipe.source()));
        let staged = self.shelf.stage(lock).map_err(shelf_error)?;
        let tree = tree(&staged);
        std::fs::create_dir(&tree)
            .map_err(crate::artifact::shelf::ShelfError::on("create the directory", &tree))
            .map_err(shelf_error)?;
        let (staged, release, version) = match &recipe.making {
            KernelMaking::Unpack => self.unpack(recipe, staged, reporter).await?,
            KernelMaking::Compile(config) => self.compile(recipe, config, staged, reporter).await?,
        };
        if reporter.cancellation().is_cancelled() {
            return Err(KernelPullError::Cancelled { name: recipe.name.clone() });
        }
        let manifest = Manifest {
            name: recipe.name.to_string(),
            release,
            source: format!("{} {}", recipe.source(), version.trim()).trim_end().to_owned(),
            description: recipe.description.clone(),
            size_bytes: FILES.iter().map(|file| crate::artifact::allocated(&staged.path().join(file))).sum(),
            created_unix_ms: crate::artifact::unix_ms(),
        };
        let directory = self.shelf.publish(staged, &manifest).map_err(shelf_error)?;
        artifacts(Shelved { directory, manifest }).ok_or(KernelPullError::Cancelled { name: recipe.name.clone() })
    }

    /// Gives the staged files with the kernel's release and the package's version.
    async fn unpack(
        &self,
        recipe: &KernelRecipe,
        staged: Staged,
        reporter: &Reporter,
    ) -> Result<(Staged, String, String), KernelPullError> {
        let tree = tree(&staged);
        let drain = |mut output: std::fs::File| std::io::copy(&mut output, &mut std::io::sink());
        match self.mmdebstrap.run(&bootstrap(recipe, &tree), reporter, drain).await {
            Ok(_) | Err(RunError::Consumer(_)) => {}
            Err(RunError::Bootstrap(source)) => return Err(not_made(recipe, source)),
        }
        reporter.stage("convert", format!("extracting the kernel {} and its modules", recipe.name));
        convert(recipe, staged, |tree, out| {
            let release = package::convert(tree, out)?;
            Ok((release, std::fs::read_to_string(tree.join("version")).unwrap_or_default()))
        })
        .await
    }

    /// As [`KernelStore::unpack`].
    async fn compile(
        &self,
        recipe: &KernelRecipe,
        config: &KernelConfig,
        staged: Staged,
        reporter: &Reporter,
    ) -> Result<(Staged, String, String), KernelPullError> {
        let tree = tree(&staged);
        let into = tree.clone();
        let take = move |stream| compile::take(stream, &into);
        let compiled = match self.mmdebstrap.run(&compile::bootstrap(recipe, config), reporter, take).await {
            Ok(compiled) => compiled,
            Err(RunError::Bootstrap(source)) => return Err(not_made(recipe, source)),
            Err(RunError::Consumer(source)) => {
                let source = PackageError::File { action: "take what was compiled to", path: tree, source };
                return Err(KernelPullError::Convert { name: recipe.name.clone(), source });
            }
        };
        convert(recipe, staged, move |tree, out| {
            package::convert_files(tree, &compiled.release, out)?;
            Ok((compiled.release, compiled.version))
        })
        .await
    }
}

/// What comes out of the package waits here to be converted, and goes before the rest is published.
fn tree(staged: &Staged) -> PathBuf {
    staged.path().join("tree")
}

fn not_made(recipe: &KernelRecipe, source: BootstrapError) -> KernelPullError {
    let name = recipe.name.clone();
    match source {
        BootstrapError::Cancelled { .. } => KernelPullError::Cancelled { name },
        source => KernelPullError::Bootstrap { name, source },
    }
}

/// Makes the kernel's files of the tree, which goes then. The staged directory moves along, so that it is removed after the
/// last write even if nobody waits.
async fn convert(
    recipe: &KernelRecipe,
    staged: Staged,
    made: impl FnOnce(&Path, &Path) -> Result<(String, String), PackageError> + Send + 'static,
) -> Result<(Staged, String, String), KernelPullError> {
    let (staged, converted) = tokio::task::spawn_blocking(move || {
        let tree = tree(&staged);
        let converted = made(&tree, staged.path());
        let _ = std::fs::remove_dir_all(&tree);
        (staged, converted)
    })
    .await
    .expect("the conversion does not panic");
    let (release, version) =
        converted.map_err(|source| KernelPullError::Convert { name: recipe.name.clone(), source })?;
    Ok((staged, release, version))
}

fn bootstrap(recipe: &KernelRecipe, output: &Path) -> Recipe {
    Recipe {
        subject: format!("the kernel {}", recipe.name),
        suite: recipe.suite.clone(),
        variant: "extract",
        mode: Mode::Chrootless,
        packages: vec!["kmod".to_owned()],
        options: vec![OsString::from(format!("--extract-hook={}", package::FETCH))],
        environment: vec![
            ("BANGER_PACKAGE", OsString::from(&recipe.package)),
            ("BANGER_OUTPUT", output.as_os_str().to_owned()),
        ],
        output: Output::Nothing,
    }
}

fn artifacts(shelved: Shelved<Manifest>) -> Option<KernelArtifacts> {
    let Shelved { directory, manifest } = shelved;
    let name = match manifest.name.parse() {
        Ok(name) => name,
        Err(error) => {
            tracing::warn!(path = %directory.join(MANIFEST).display(), %error, "skipping a kernel");
            return None;
        }
    };
    Some(KernelArtifacts {
        name,
        release: manifest.release,
        source: manifest.source,
        description: manifest.description,
        vmlinux: directory.join(package::VMLINUX),
        modules_cpio: directory.join(package::MODULES_CPIO),
        modules_ext4: directory.join(package::MODULES_EXT4),
        directory,
        size_bytes: manifest.size_bytes,
        created_unix_ms: manifest.created_unix_ms,
    })
}
