//! A container image becomes an image of ours: its layers flattened into one ext4 file as they arrive.
//!
//! The bytes follow from the image's digest and the chosen size alone. Its Env, WorkingDir and User are kept
//! for the sessions in its VMs; Cmd and Entrypoint are not, a VM is not a process.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use banger_proto::names::{ImageName, KernelName};
use banger_proto::v1::ProgressUnit;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inspect::Inspected;
use super::{ImageArtifacts, ImagePullError, ImageStore, Manifest, ROOTFS, Refresh, artifacts, hex};
use crate::artifact::ext4::{Ext4Error, Ext4Writer, Found, Journal, Shape};
use crate::artifact::shelf::{Shelved, Staged};
use crate::oci::flatten::{FlattenError, Flattener, Limits};
use crate::oci::layer::{LayerError, StoredLayer, with_layer};
use crate::oci::manifest::Platform;
use crate::oci::registry::{self, Credential, PullError};
use crate::oci::{Incoming, archive, layout};
use crate::reporter::Reporter;

/// Nominal size where none is asked for: at least this …
const MINIMUM_BYTES: u64 = 8 << 30;
/// … and at least the content plus this.
const SPARE_BYTES: u64 = 4 << 30;
/// Room beside the content in a filesystem of a chosen size.
const LEAST_SPARE_BYTES: u64 = 64 << 20;
/// Uncompressed bytes of one layer, headers and padding included.
const MOST_LAYER_BYTES: u64 = 80 << 30;

/// Where a container image comes from.
#[derive(Debug, Clone)]
pub enum ContainerSource {
    /// A registry.
    Registry {
        /// Which image.
        reference: Box<oci_client::Reference>,
        /// Who asks.
        credential: Option<Credential>,
    },
    /// A directory that is an OCI image layout.
    Layout(Files),
    /// A `docker save` archive.
    Archive(Files),
}

/// An image in files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The directory or file.
    pub path: PathBuf,
    /// Which of several images.
    pub tag: Option<String>,
    /// What the user called it.
    pub described: String,
}

/// What to make of it.
#[derive(Debug, Clone)]
pub struct ContainerOptions {
    /// Name in the store.
    pub name: ImageName,
    /// The kernel it will boot with unless asked otherwise.
    pub kernel: KernelName,
    /// Nominal size of the filesystem; 0 for the default.
    pub size_bytes: u64,
    /// For which machine.
    pub platform: Platform,
    /// Whether one that is there already is made again.
    pub refresh: Refresh,
}

/// Why the layers gave no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum FlattenImageError {
    /// The file could not be made.
    #[error("cannot create {path}", path = path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// One of them.
    #[error("cannot apply layer {number} of {count}")]
    Flatten {
        /// From 1.
        number: usize,
        /// How many there are.
        count: usize,
        /// The cause.
        source: FlattenError,
    },
    /// One of them as a file.
    #[error("cannot read layer {number} of {count}")]
    Layer {
        /// From 1.
        number: usize,
        /// How many there are.
        count: usize,
        /// The cause.
        source: LayerError,
    },
    /// The filesystem could not be completed.
    #[error("cannot complete the root filesystem")]
    Finish {
        /// The cause.
        source: Ext4Error,
    },
    /// The download ended before the last layer; its error says more.
    #[error("not all layers arrived")]
    Incomplete,
}

/// Between the layer's reader and its consumer.
enum Applied {
    Flatten(FlattenError),
    Layer(LayerError),
}

impl From<LayerError> for Applied {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

struct Flattened {
    inspected: Inspected,
    size_bytes: u64,
    dropped: Vec<String>,
}

impl ImageStore {
    /// The container image, fetched and flattened, unless it is in the store with the same content.
    ///
    /// # Errors
    /// See [`ImagePullError`].
    pub async fn pull_container(
        &self,
        source: ContainerSource,
        options: ContainerOptions,
        reporter: &Reporter,
    ) -> Result<ImageArtifacts, ImagePullError> {
        let name = options.name.clone();
        let fetch = |source| ImagePullError::Fetch { name: name.clone(), source };
        let lock = self.shelf.lock(name.as_str(), reporter).await.map_err(ImagePullError::Lock)?;
        let _in_use = self.blobs.enter().await;
        let incoming = self.open_source(source, &options, reporter).await.map_err(fetch)?;
        if let Some(found) = self.get(&name)
            && options.refresh == Refresh::IfAbsent
        {
            if origin(&found.source) != origin(&incoming.source) {
                return Err(ImagePullError::Taken { name, by: found.source });
            }
            let right_size = options.size_bytes == 0 || options.size_bytes == found.size_bytes;
            if found.digest == incoming.digest.to_string() && found.kernel == options.kernel && right_size {
                return Ok(found);
            }
        }
        let store = |source| ImagePullError::Store { name: name.clone(), source };
        let staged = self.shelf.stage(&lock).map_err(store)?;
        let content = content(&incoming, options.size_bytes);
        let id = identity(&[name.as_str(), incoming.digest.hex()], options.size_bytes);
        let described = Manifest {
            source: incoming.source.clone(),
            environment: incoming.configuration.environment.clone(),
            working_directory: incoming.configuration.working_directory.clone(),
            user: incoming.configuration.user.clone(),
            content: Some(content.clone()),
            ..Manifest::unconfigured(&name, id, incoming.digest.to_string(), &options.kernel)
        };
        let (staged, manifest) = match self.same_content(&content, options.refresh, &staged) {
            Some(same) => {
                reporter.stage("image", format!("the image {} has the same content: sharing its blocks", same.name));
                let manifest = Manifest {
                    init_path: same.init_path,
                    init: same.init,
                    has_sshd: same.has_sshd,
                    os_pretty_name: same.os_pretty_name,
                    size_bytes: same.size_bytes,
                    ..described
                };
                (staged, manifest)
            }
            None => {
                let shape = shape(&content, options.size_bytes);
                let (staged, flattened) = self
                    .flatten(incoming, shape, staged, reporter)
                    .await
                    .map_err(|failed| failed.of(&name, reporter))?;
                if !flattened.dropped.is_empty() {
                    let names = flattened.dropped.join(", ");
                    reporter.warning(format!("left out extended attributes that Linux does not store: {names}"));
                }
                let manifest = Manifest {
                    init_path: flattened.inspected.init_path,
                    init: flattened.inspected.init,
                    has_sshd: flattened.inspected.has_sshd,
                    os_pretty_name: flattened.inspected.os_pretty_name,
                    size_bytes: flattened.size_bytes,
                    ..described
                };
                (staged, manifest)
            }
        };
        let directory = self.shelf.publish(staged, &manifest).map_err(store)?;
        artifacts(Shelved { directory, manifest }).ok_or(ImagePullError::Cancelled { name })
    }

    /// An image of the same bytes, if there is one whose blocks the staged root filesystem now shares.
    fn same_content(&self, content: &str, refresh: Refresh, staged: &Staged) -> Option<Manifest> {
        if refresh == Refresh::Always {
            return None;
        }
        let all = self.shelf.all::<Manifest>().ok()?;
        let same = all.into_iter().find(|it| it.manifest.content.as_deref() == Some(content))?;
        let path = staged.path().join(ROOTFS);
        let from = File::open(same.directory.join(ROOTFS)).ok()?;
        let to = File::options().write(true).create_new(true).open(&path).ok()?;
        if crate::artifact::copy::reflink(&from, &to).is_ok_and(|shared| shared) {
            return Some(same.manifest);
        }
        // What is begun would be in the way of the writer.
        let _ = std::fs::remove_file(&path);
        None
    }

    async fn flatten(
        &self,
        incoming: Incoming,
        shape: Shape,
        staged: Staged,
        reporter: &Reporter,
    ) -> Result<(Staged, Flattened), Failed> {
        let rootfs = staged.path().join(ROOTFS);
        let blobs = self.blobs.clone();
        let damaged = move |layer: &StoredLayer| blobs.evict(&layer.file);
        let work = Work { rootfs, shape, count: incoming.configuration.diff_ids.len(), reporter: reporter.clone() };
        // The staged directory moves along, so that it is removed after the last write even if nobody waits.
        flatten(incoming, work, staged, damaged).await
    }

    async fn open_source(
        &self,
        source: ContainerSource,
        options: &ContainerOptions,
        reporter: &Reporter,
    ) -> Result<Incoming, PullError> {
        let platform = options.platform.clone();
        let files = |open: fn(&Path, Option<&str>, &Platform, &str) -> Result<Incoming, PullError>, files: Files| {
            let opened = tokio::task::spawn_blocking(move || {
                open(&files.path, files.tag.as_deref(), &platform, &files.described)
            });
            async { opened.await.expect("opening an image does not panic") }
        };
        match source {
            ContainerSource::Registry { reference, credential } => {
                let request = registry::Request {
                    reference: *reference,
                    platform: options.platform.clone(),
                    credential,
                    settings: &self.settings,
                    cache: &self.blobs,
                };
                registry::open(request, reporter).await
            }
            ContainerSource::Layout(layout) => files(layout::open, layout).await,
            ContainerSource::Archive(archive) => files(archive::open, archive).await,
        }
    }
}

/// The source without the digest: `registry/repository:tag`.
fn origin(source: &str) -> &str {
    source.split('@').next().unwrap_or(source)
}

fn identity(words: &[&str], size_bytes: u64) -> String {
    let mut hash = Sha256::new();
    for word in ["container"].iter().chain(words) {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    hash.update(size_bytes.to_le_bytes());
    hex(&hash.finalize())
}

/// Whatever the image is called here, the same content gives the same bytes.
fn content(incoming: &Incoming, size_bytes: u64) -> String {
    identity(&[incoming.digest.hex()], size_bytes)
}

fn shape(content: &str, size_bytes: u64) -> Shape {
    let mut uuid = [0u8; 16];
    uuid.copy_from_slice(&Sha256::digest(content.as_bytes())[..16]);
    let (minimum_bytes, spare_bytes) =
        if size_bytes == 0 { (MINIMUM_BYTES, SPARE_BYTES) } else { (size_bytes, LEAST_SPARE_BYTES) };
    Shape { uuid, label: "banger-root", minimum_bytes, spare_bytes, journal: Journal::Internal }
}

struct Work {
    rootfs: PathBuf,
    shape: Shape,
    count: usize,
    reporter: Reporter,
}

enum Failed {
    Fetch(PullError),
    Flatten(FlattenImageError),
}

impl Failed {
    fn of(self, name: &ImageName, reporter: &Reporter) -> ImagePullError {
        let name = name.clone();
        match self {
            Self::Fetch(PullError::Cancelled) => ImagePullError::Cancelled { name },
            Self::Fetch(source) => ImagePullError::Fetch { name, source },
            Self::Flatten(_) if reporter.cancellation().is_cancelled() => ImagePullError::Cancelled { name },
            Self::Flatten(source) => ImagePullError::Flatten { name, source },
        }
    }
}

/// Downloads and flattens at once; `keep` lives until the last write.
async fn flatten<K: Send + 'static>(
    incoming: Incoming,
    work: Work,
    keep: K,
    damaged: impl Fn(&StoredLayer) + Send + 'static,
) -> Result<(K, Flattened), Failed> {
    let (sender, receiver) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let writing = {
        let stop = stop.clone();
        tokio::task::spawn_blocking(move || (write(&work, receiver, &stop, &damaged), keep))
    };
    let mut layers = incoming.layers;
    let mut broken = None;
    while let Some(layer) = layers.next().await {
        match layer {
            Ok(layer) => {
                // If the writer ended early, its error is the one to tell.
                if sender.send(layer).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                stop.cancel();
                broken = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let (written, keep) = writing.await.expect("flattening does not panic");
    match (broken, written) {
        (Some(error), _) => Err(Failed::Fetch(error)),
        (None, Ok(flattened)) => Ok((keep, flattened)),
        (None, Err(error)) => Err(Failed::Flatten(error)),
    }
}

fn write(
    work: &Work,
    mut layers: mpsc::Receiver<StoredLayer>,
    stop: &CancellationToken,
    damaged: &dyn Fn(&StoredLayer),
) -> Result<Flattened, FlattenImageError> {
    let create = |source| FlattenImageError::Create { path: work.rootfs.clone(), source };
    let file = File::options().read(true).write(true).create_new(true).open(&work.rootfs).map_err(create)?;
    let mut writer = Ext4Writer::new(file, work.shape.clone());
    let mut flattener = Flattener::new(&mut writer, Limits::default());
    let count = work.count;
    let mut number = 0;
    while let Some(layer) = layers.blocking_recv() {
        number += 1;
        work.reporter.progress(number as u64, count as u64, ProgressUnit::Steps, "writing the filesystem");
        let outcome = with_layer(&layer, MOST_LAYER_BYTES, |bytes| {
            let bytes = Stoppable { bytes, stop, cancelled: work.reporter.cancellation() };
            flattener.apply(bytes).map_err(Applied::Flatten)
        });
        outcome.map_err(|error| {
            if !stop.is_cancelled() && !work.reporter.cancellation().is_cancelled() {
                damaged(&layer);
            }
            match error {
                Applied::Flatten(source) => FlattenImageError::Flatten { number, count, source },
                Applied::Layer(source) => FlattenImageError::Layer { number, count, source },
            }
        })?;
    }
    if number != count {
        return Err(FlattenImageError::Incomplete);
    }
    let inspected = inspect(&flattener);
    let dropped = flattener.dropped_attributes();
    let summary = writer.finish().map_err(|source| FlattenImageError::Finish { source })?;
    Ok(Flattened { inspected, size_bytes: summary.size_bytes, dropped })
}

/// Ends with an error when nobody wants the rest.
struct Stoppable<'a> {
    bytes: &'a mut dyn Read,
    stop: &'a CancellationToken,
    cancelled: &'a CancellationToken,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() || self.cancelled.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.bytes.read(buffer)
    }
}

/// What the finished tree can do. An init that would find nothing to start is none.
fn inspect(flattener: &Flattener<'_>) -> Inspected {
    let program = |path: &str| match flattener.resolve(path) {
        Some((names, Found::File { executable: true, empty: false, .. })) => names.last().cloned(),
        _ => None,
    };
    let candidates = ["/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"];
    let init = candidates.iter().find_map(|path| program(path).map(|name| (*path, name)));
    let kind = init.as_ref().map_or("none", |(_, name)| match name.as_slice() {
        b"systemd" => "systemd",
        b"busybox" => "busybox",
        b"openrc-init" => "openrc",
        _ => "other",
    });
    // Alpine's and BusyBox's images carry BusyBox's init without the scripts it runs.
    let useless = kind == "busybox" && program("/sbin/openrc").is_none() && program("/etc/init.d/rcS").is_none();
    let init_path = init.filter(|_| !useless).map(|(path, _)| path.to_owned());
    let release = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| flattener.os_release(path));
    let text = release.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Inspected {
        // Without an init nobody starts it.
        has_sshd: init_path.is_some() && program("/usr/sbin/sshd").is_some(),
        init: if useless { "none" } else { kind }.to_owned(),
        init_path,
        os_pretty_name: text.as_deref().and_then(super::inspect::pretty_name).unwrap_or_default(),
    }
}
