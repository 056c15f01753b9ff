//! Pulls from a real registry on loopback (the distribution's docker-registry, filled by skopeo), through a
//! proxy that counts, cuts and refuses. Where the programs are missing these tests say so and pass.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use banger_proto::failure::{Classified, Failure, Kind};

use super::support::{Compression, Layer, Random, tool, write_layout};
use crate::image::{ContainerOptions, ContainerSource, Files, ImageArtifacts, ImagePullError, ImageStore, Refresh};
use crate::oci::cache::Prune;
use crate::oci::digest::Digest;
use crate::oci::manifest::Platform;
use crate::oci::registry::Credential;
use crate::oci::settings::Settings;
use crate::reporter::Reporter;

const LAYER_BYTES: usize = 6 << 20;

pub(super) struct Registry {
    directory: tempfile::TempDir,
    process: Child,
    pub port: u16,
    /// Of the image's manifest.
    digest: Digest,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Content that does not compress, so that downloads have a size.
fn noise(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..LAYER_BYTES).map(|_| u8::try_from(random.below(256)).unwrap()).collect()
}

fn layers() -> Vec<Vec<u8>> {
    let mut lower = Layer::new().file("etc/os-release", "PRETTY_NAME=\"Test 2\"\n").file("old", "x");
    lower.raw(&mut super::support::header(tar::EntryType::Regular, 0o644, LAYER_BYTES as u64), "noise", &noise(1));
    vec![lower.bytes(), Layer::new().file(".wh.old", "").file("new", "y").bytes()]
}

impl Registry {
    /// None if the programs are missing. `password` protects it for the user `me`.
    pub fn start(password: Option<&str>) -> Option<Self> {
        Self::start_with(password, tempfile::tempdir().unwrap(), "")
    }

    /// `more` is what its section `http` says besides.
    #[allow(clippy::print_stderr)]
    pub fn start_with(password: Option<&str>, directory: tempfile::TempDir, more: &str) -> Option<Self> {
        let at = |name: &str| directory.path().join(name);
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"{more}}}\n",
            at("storage").display()
        );
        if let Some(password) = password {
            let (made, line) = tool("htpasswd", &["-nbB", "me", password])?;
            assert!(made, "{line}");
            std::fs::write(at("htpasswd"), line).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", at("htpasswd").display());
        }
        std::fs::write(at("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve", at("config.yml").to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match process {
            Ok(process) => process,
            Err(error) => {
                eprintln!("skipped: cannot run docker-registry: {error}");
                return None;
            }
        };
        let digest = write_layout(&at("layout"), &layers(), Compression::Gzip);
        let registry = Self { directory, process, port, digest };
        until("the registry listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let from = format!("oci:{}:test", registry.at("layout").display());
        let to = format!("docker://127.0.0.1:{port}/team/app:1");
        let login = format!("me:{}", password.unwrap_or_default());
        let mut arguments = vec!["copy", "--quiet", "--dest-tls-verify=false"];
        if password.is_some() {
            arguments.extend(["--dest-creds", &login]);
        }
        arguments.extend([from.as_str(), to.as_str()]);
        let (copied, text) = tool("skopeo", &arguments)?;
        assert!(copied, "{text}");
        Some(registry)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The file with the content of the largest blob.
    fn largest_blob(&self) -> PathBuf {
        let root = self.at("storage/docker/registry/v2/blobs/sha256");
        let mut all: Vec<(u64, PathBuf)> = Vec::new();
        for two in std::fs::read_dir(root).unwrap() {
            for blob in std::fs::read_dir(two.unwrap().path()).unwrap() {
                let path = blob.unwrap().path().join("data");
                all.push((std::fs::metadata(&path).unwrap().len(), path));
            }
        }
        all.into_iter().max().unwrap().1
    }
}

/// Between the store and the registry: counts what comes back, and can break it.
struct Proxy {
    port: u16,
    counted: Arc<AtomicU64>,
    /// Connections end after this many bytes of answers.
    cut_after: Arc<AtomicU64>,
    /// This many connections are cut, later ones are not.
    cuts_left: Arc<AtomicU64>,
}

impl Proxy {
    fn before(registry: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            counted: Arc::default(),
            cut_after: Arc::new(AtomicU64::new(u64::MAX)),
            cuts_left: Arc::default(),
        };
        let (counted, cut_after, cuts_left) = (proxy.counted.clone(), proxy.cut_after.clone(), proxy.cuts_left.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", registry)) else { continue };
                let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up_from, &mut up_to);
                    let _ = up_to.shutdown(Shutdown::Write);
                });
                let (counted, cut_after, cuts_left) = (counted.clone(), cut_after.clone(), cuts_left.clone());
                std::thread::spawn(move || answer(server, client, &counted, &cut_after, &cuts_left));
            }
        });
        proxy
    }

    fn cut(&self, times: u64, after: u64) {
        self.cut_after.store(after, Ordering::SeqCst);
        self.cuts_left.store(times, Ordering::SeqCst);
    }
}

fn answer(mut from: TcpStream, mut to: TcpStream, counted: &AtomicU64, cut_after: &AtomicU64, cuts_left: &AtomicU64) {
    let mut sent = 0;
    let mut piece = vec![0u8; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        sent += count as u64;
        let cut = sent > cut_after.load(Ordering::SeqCst)
            && cuts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if cut || to.write_all(&piece[..count]).is_err() {
            break;
        }
        counted.fetch_add(count as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

pub(super) struct Store {
    _directory: tempfile::TempDir,
    pub store: ImageStore,
}

pub(super) fn store() -> Store {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path().join("images"), directory.path().join("cache")).unwrap();
    Store { _directory: directory, store }
}

pub(super) fn options(name: &str) -> ContainerOptions {
    ContainerOptions {
        name: name.parse().unwrap(),
        kernel: "generic-6.12".parse().unwrap(),
        size_bytes: 256 << 20,
        platform: Platform::default(),
        refresh: Refresh::IfAbsent,
    }
}

pub(super) fn from_registry(reference: &str, password: Option<&str>) -> ContainerSource {
    ContainerSource::Registry {
        reference: Box::new(reference.parse().unwrap()),
        credential: password.map(|password| Credential {
            registry: reference.split('/').next().unwrap().to_owned(),
            user: "me".to_owned(),
            password: password.to_owned(),
        }),
    }
}

impl Store {
    async fn pull(&self, port: u16, what: &str) -> Result<ImageArtifacts, ImagePullError> {
        let source = from_registry(&format!("127.0.0.1:{port}/team/{what}"), None);
        self.store.pull_container(source, options("app"), &Reporter::silent("op")).await
    }
}

pub(super) fn assert_is_the_image(image: &ImageArtifacts, registry: &Registry) {
    assert_eq!(image.digest, registry.digest.to_string());
    assert_eq!((image.os_pretty_name.as_str(), image.init.as_str(), image.has_sshd), ("Test 2", "none", false));
    assert_eq!(image.environment, ["PATH=/bin", "GREETING=hello"]);
    assert_eq!((image.working_directory.as_str(), image.user.as_str()), ("/srv", "1000:1000"));
    let tree = crate::artifact::ext4::read_back::read_tree(&image.rootfs);
    let paths: Vec<String> = tree.keys().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
    assert_eq!(paths, ["", "etc", "etc/os-release", "new", "noise"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_pinned_to_its_digest_and_a_digest_pulls_the_same() {
    let Some(registry) = Registry::start(None) else { return };
    let (by_tag, by_digest) = (store(), store());
    let one = by_tag.pull(registry.port, "app:1").await.unwrap();
    assert_is_the_image(&one, &registry);
    assert_eq!(one.source, format!("127.0.0.1:{}/team/app:1@{}", registry.port, registry.digest));
    let two = by_digest.pull(registry.port, &format!("app@{}", registry.digest)).await.unwrap();
    assert_eq!(one.digest, two.digest);
    assert_eq!(std::fs::read(&one.rootfs).unwrap(), std::fs::read(&two.rootfs).unwrap(), "same digest, same bytes");
    // What is there is not made again.
    assert_eq!(by_tag.pull(registry.port, "app:1").await.unwrap(), one);
    let blobs = by_tag.store.blobs();
    let would = blobs.prune(Prune::DryRun).unwrap();
    assert_eq!((would.blobs, blobs.prune(Prune::Remove).unwrap()), (3, would));
    assert!(would.bytes > LAYER_BYTES as u64 && blobs.prune(Prune::DryRun).unwrap().blobs == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_to_be_missing() {
    let Some(registry) = Registry::start(None) else { return };
    let store = store();
    let nothing = Digest::of_sha256(&[0; 32]);
    for what in ["app:2".to_owned(), "other:1".to_owned(), format!("app@{nothing}")] {
        let error = store.pull(registry.port, &what).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{what}: {}", Failure::from_error(&error));
    }
    let error = store.pull(free_port(), "app:1").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(Failure::from_error(&error).to_string().contains("cannot reach the registry"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_needs_the_right_password() {
    let Some(registry) = Registry::start(Some("secret")) else { return };
    let store = store();
    let reference = format!("127.0.0.1:{}/team/app:1", registry.port);
    for password in [None, Some("wrong")] {
        let source = from_registry(&reference, password);
        let error = store.store.pull_container(source, options("app"), &Reporter::silent("op")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{}", Failure::from_error(&error));
        assert!(error.hints()[0].contains("docker login"), "{:?}", error.hints());
    }
    let source = from_registry(&reference, Some("secret"));
    let image = store.store.pull_container(source, options("app"), &Reporter::silent("op")).await.unwrap();
    assert_is_the_image(&image, &registry);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_refused_and_leaves_nothing() {
    for damage in [truncate as fn(&Path), flip] {
        let Some(registry) = Registry::start(None) else { return };
        damage(&registry.largest_blob());
        let store = store();
        let error = store.pull(registry.port, "app:1").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{}", Failure::from_error(&error));
        assert!(store.store.list().is_empty());
        let left = store.store.blobs().prune(Prune::DryRun).unwrap();
        assert!(left.bytes < 1 << 20, "the damaged blob must not stay: {left:?}");
    }
}

fn truncate(path: &Path) {
    let length = std::fs::metadata(path).unwrap().len();
    std::fs::File::options().write(true).open(path).unwrap().set_len(length / 2).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_goes_on_where_it_was() {
    let Some(registry) = Registry::start(None) else { return };
    let proxy = Proxy::before(registry.port);
    proxy.cut(3, 2 << 20);
    let store = store();
    let image = store.pull(proxy.port, "app:1").await.unwrap();
    assert_is_the_image(&image, &registry);
    let counted = proxy.counted.load(Ordering::SeqCst);
    assert!(counted < LAYER_BYTES as u64 + (1 << 20), "{counted} bytes: what was there was fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dies_in_the_middle_leaves_a_part_for_the_next_pull() {
    let Some(registry) = Registry::start(None) else { return };
    let proxy = Proxy::before(registry.port);
    proxy.cut(1, 3 << 20);
    let store = store();
    let cuts_left = proxy.cuts_left.clone();
    let cut_after = proxy.cut_after.clone();
    // From the first cut on nothing comes through any more.
    let watcher = std::thread::spawn(move || {
        until("the connection is cut", || cuts_left.load(Ordering::SeqCst) == 0);
        cut_after.store(0, Ordering::SeqCst);
        cuts_left.store(u64::MAX, Ordering::SeqCst);
    });
    let error = store.pull(proxy.port, "app:1").await.unwrap_err();
    watcher.join().unwrap();
    let failure = Failure::from_error(&error);
    assert!(failure.to_string().contains("broke off after"), "{failure}");
    assert!(failure.hints[0].contains("image pull"), "{failure:?}");
    let before = proxy.counted.swap(0, Ordering::SeqCst);
    proxy.cut(0, u64::MAX);
    let image = store.pull(proxy.port, "app:1").await.unwrap();
    assert_is_the_image(&image, &registry);
    let after = proxy.counted.load(Ordering::SeqCst);
    assert!(after < LAYER_BYTES as u64 - (2 << 20), "{before} bytes before and {after} after the death");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_share_the_download() {
    let Some(registry) = Registry::start(None) else { return };
    let proxy = Proxy::before(registry.port);
    let store = store();
    let reference = format!("127.0.0.1:{}/team/app:1", proxy.port);
    let reporter = Reporter::silent("op");
    let pull = |name: &str| store.store.pull_container(from_registry(&reference, None), options(name), &reporter);
    let (one, same, other) = tokio::join!(pull("app"), pull("app"), pull("second-name"));
    let (one, same, other) = (one.unwrap(), same.unwrap(), other.unwrap());
    assert_eq!(one.rootfs, same.rootfs, "one build serves both");
    assert_ne!(one.rootfs, other.rootfs);
    assert_eq!(one.digest, other.digest);
    let counted = proxy.counted.load(Ordering::SeqCst);
    assert!(counted < LAYER_BYTES as u64 + (1 << 20), "{counted} bytes for three pulls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pull_ends_at_once_and_leaves_no_image() {
    let Some(registry) = Registry::start(None) else { return };
    let store = store();
    let cancel = tokio_util::sync::CancellationToken::new();
    cancel.cancel();
    let reporter = Reporter::new("op".to_owned(), tokio::sync::mpsc::unbounded_channel().0, cancel);
    let source = from_registry(&format!("127.0.0.1:{}/team/app:1", registry.port), None);
    let error = store.store.pull_container(source, options("app"), &reporter).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    assert!(store.store.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_asked_first_and_the_registry_helps_out() {
    let Some(registry) = Registry::start(None) else { return };
    let proxy = Proxy::before(registry.port);
    let directory = tempfile::tempdir().unwrap();
    let reference = format!("127.0.0.1:{}/team/app:1", registry.port);
    for (mirror, through) in [(proxy.port, true), (free_port(), false)] {
        let text = format!("[registry.\"127.0.0.1:{}\"]\nmirrors = [\"127.0.0.1:{mirror}\"]\n", registry.port);
        std::fs::write(directory.path().join("registries.toml"), text).unwrap();
        let store = store();
        let settings = Settings::load(directory.path()).unwrap();
        proxy.counted.store(0, Ordering::SeqCst);
        let images = store.store.clone().with_settings(settings);
        let source = from_registry(&reference, None);
        let image = images.pull_container(source, options("app"), &Reporter::silent("op")).await.unwrap();
        assert_is_the_image(&image, &registry);
        assert_eq!(proxy.counted.load(Ordering::SeqCst) > LAYER_BYTES as u64, through);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_and_archives_of_every_compression_give_the_same_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut trees = Vec::new();
    for (index, compression) in [Compression::None, Compression::Gzip, Compression::Zstd].into_iter().enumerate() {
        let layout = directory.path().join(format!("layout{index}"));
        write_layout(&layout, &layers(), compression);
        let files = Files { path: layout, tag: Some("test".to_owned()), described: "layout:test".to_owned() };
        let store = store();
        let source = ContainerSource::Layout(files);
        let image = store.store.pull_container(source, options("app"), &Reporter::silent("op")).await.unwrap();
        trees.push(crate::artifact::ext4::read_back::read_tree(&image.rootfs));
    }
    let archive = directory.path().join("app.tar");
    let (from, to) = (
        format!("oci:{}:test", directory.path().join("layout1").display()),
        format!("docker-archive:{}:team/app:1", archive.display()),
    );
    if tool("skopeo", &["copy", "--quiet", &from, &to]).is_some_and(|(copied, _)| copied) {
        let files = Files { path: archive, tag: None, described: "app".to_owned() };
        let store = store();
        let source = ContainerSource::Archive(files);
        let image = store.store.pull_container(source, options("app"), &Reporter::silent("op")).await.unwrap();
        trees.push(crate::artifact::ext4::read_back::read_tree(&image.rootfs));
    }
    assert!(trees.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_use_is_not_taken_over_silently() {
    let directory = tempfile::tempdir().unwrap();
    write_layout(directory.path(), &layers(), Compression::None);
    let store = store();
    let pull = |described: &str, refresh| {
        let files = Files { path: directory.path().to_owned(), tag: None, described: described.to_owned() };
        let options = ContainerOptions { refresh, ..options("app") };
        let store = store.store.clone();
        async move { store.pull_container(ContainerSource::Layout(files), options, &Reporter::silent("op")).await }
    };
    pull("one", Refresh::IfAbsent).await.unwrap();
    let error = pull("other", Refresh::IfAbsent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(pull("other", Refresh::Always).await.unwrap().source.starts_with("other@"));
}
